package database

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	gosqlite "github.com/glebarez/go-sqlite"
	"github.com/jackc/pgx/v5/pgconn"
)

// UniqueViolation names the unique index or constraint that refused a row (contract: schema.md 3.5), if that is what err says.
// On SQLite, which tells only columns, an index that no migration made has the name "".
func UniqueViolation(err error) (index string, ok bool) {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.ConstraintName, pg.Code == "23505"
	}
	var lite *gosqlite.Error
	if errors.As(err, &lite) && (lite.Code() == 2067 || lite.Code() == 1555) { // unique index, primary key
		_, columns, _ := strings.Cut(lite.Error(), "UNIQUE constraint failed: ")
		columns, _, _ = strings.Cut(columns, " (")
		return sqliteUnique()[columns], true
	}
	return "", false
}

var (
	uniqueIndex      = regexp.MustCompile(`(?m)^CREATE UNIQUE INDEX (\w+) ON "?(\w+)"? \(([^)]*)\)`)
	uniqueConstraint = regexp.MustCompile(`(?m)^    CONSTRAINT (\w+) (?:UNIQUE|PRIMARY KEY) \(([^)]*)\)`)
	primaryColumn    = regexp.MustCompile(`(?m)^    (\w+) .*PRIMARY KEY`)
)

// sqliteUnique maps columns, as SQLite's message lists them, to the name of their index in PostgreSQL.
var sqliteUnique = sync.OnceValue(func() map[string]string {
	names := map[string]string{}
	add := func(table, columns, name string) {
		list := strings.Split(columns, ", ")
		for i, c := range list {
			list[i] = table + "." + c
		}
		names[strings.Join(list, ", ")] = name
	}
	for _, s := range steps {
		text, err := s.sql(SQLite)
		if err != nil { // the files are part of the program
			panic(fmt.Errorf("unique indexes: %w", err))
		}
		for _, m := range uniqueIndex.FindAllStringSubmatch(text, -1) {
			add(m[2], m[3], m[1])
		}
		for _, t := range declaredTable.FindAllStringSubmatch(text, -1) {
			table, body := t[1], t[2]
			for _, m := range primaryColumn.FindAllStringSubmatch(body, -1) {
				add(table, m[1], table+"_pkey")
			}
			for _, m := range uniqueConstraint.FindAllStringSubmatch(body, -1) {
				add(table, m[2], m[1])
			}
		}
	}
	return names
})

// Deadlock tells whether PostgreSQL broke a transaction off because it and another one waited for each other, or could not be
// put in an order: trying it again is the cure.
func Deadlock(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40P01" || pg.Code == "40001")
}
