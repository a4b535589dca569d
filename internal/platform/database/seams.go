package database

import (
	"fmt"

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

// AdvanceSequence lets the ids that a table gives by itself follow those that its rows were given, for programs that leave
// the id to the table; it never goes back. SQLite does so by itself. Where the database's user may not move the sequence it
// stays as it is: nothing of ours needs it. table is a table's name, never a user's text; its key is the column id.
func AdvanceSequence(g *gorm.DB, table string) error {
	if DialectOf(g) == SQLite {
		return nil
	}
	// CASE: the last value may be asked only by who may read it
	var moved []int64
	err := g.Raw(`SELECT setval(s.seq, r.last)
		FROM (SELECT pg_get_serial_sequence(?, 'id')::regclass AS seq) s, (SELECT MAX(id) AS last FROM `+table+`) r
		WHERE CASE WHEN has_sequence_privilege(s.seq, 'UPDATE') AND has_sequence_privilege(s.seq, 'SELECT')
			THEN r.last > COALESCE(pg_sequence_last_value(s.seq), 0) ELSE false END`, table).Scan(&moved).Error
	if err != nil {
		return fmt.Errorf("advance the sequence of %s: %w", table, err)
	}
	return nil
}

// DialectOf tells what is behind a gorm handle.
func DialectOf(g *gorm.DB) Dialect {
	if g.Name() == "sqlite" {
		return SQLite
	}
	return Postgres
}
