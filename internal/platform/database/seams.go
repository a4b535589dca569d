package database

import (
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// ForUpdate locks the rows that a query reads until the transaction ends. On SQLite the transaction already holds the one
// write lock.
func ForUpdate(g *gorm.DB) *gorm.DB {
	if DialectOf(g) == SQLite {
		return g
	}
	return g.Clauses(clause.Locking{Strength: "UPDATE"})
}

// DialectOf tells what is behind a gorm handle.
func DialectOf(g *gorm.DB) Dialect {
	if g.Name() == "sqlite" {
		return SQLite
	}
	return Postgres
}
