// Package database opens PostgreSQL (production) or SQLite (the embedded default), runs transactions by intent, migrates,
// and holds the closed list of seams in which the two differ: claiming rows, batches of rows, time, JSON and arrays, text
// matching. Every store uses it; app opens it. It knows no table but the migrations, and never auto-migrates.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gorm.io/gorm"
)

// Dialect names the kind of database behind a DB.
type Dialect string

const (
	Postgres Dialect = "postgres"
	SQLite   Dialect = "sqlite"
)

// Config is read once, by Open.
type Config struct {
	// URL is postgres://user:password@host:port/name?options, or sqlite:///absolute/path (sqlite:relative/path).
	URL string
	// MaxConns bounds the PostgreSQL pool (default 20). SQLite has one connection for writing and MaxReaders for reading.
	MaxConns int
	// MaxReaders is the number of SQLite's read-only connections (default 4).
	MaxReaders int
	// SlowQuery is the duration from which a statement is logged, without its values (default 500 ms; negative: never).
	SlowQuery time.Duration
	Log       *slog.Logger
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	dialect Dialect
	write   *gorm.DB
	read    *gorm.DB

	statements *observers
}

// Dialect tells what is behind.
func (db *DB) Dialect() Dialect { return db.dialect }

// Read is a handle for single queries outside of a transaction. On SQLite it refuses to write.
func (db *DB) Read(ctx context.Context) *gorm.DB { return db.read.WithContext(ctx) }

// Tx is a transaction under way, and what is to happen once it is committed.
type Tx struct {
	*gorm.DB
	after []func(context.Context)
}

// AfterCommit runs f once the transaction has been committed, in the order of the calls; never when it is rolled back.
func (tx *Tx) AfterCommit(f func(context.Context)) { tx.after = append(tx.after, f) }

// errRollback ends View's transaction: a write hidden in a read must not survive it.
var errRollback = errors.New("rolled back on purpose")

// View runs f in a transaction that only reads: all its queries see one state, writes are refused, and it is always rolled
// back. Locking rows counts as a write.
func (db *DB) View(ctx context.Context, f func(tx *Tx) error) error {
	var opts []*sql.TxOptions
	if db.dialect == Postgres {
		opts = append(opts, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	}
	err := db.read.WithContext(ctx).Transaction(func(g *gorm.DB) error {
		if err := f(&Tx{DB: g}); err != nil {
			return err
		}
		return errRollback
	}, opts...)
	if errors.Is(err, errRollback) {
		return nil
	}
	return err
}

// Update runs f in a transaction that writes (BEGIN IMMEDIATE on SQLite, READ COMMITTED on PostgreSQL; lock what you read
// and then change with ForUpdate). It commits when f returns nil, then runs what AfterCommit noted. No network inside f.
func (db *DB) Update(ctx context.Context, f func(tx *Tx) error) error {
	tx := &Tx{}
	if err := db.write.WithContext(ctx).Transaction(func(g *gorm.DB) error {
		tx.DB = g
		return f(tx)
	}); err != nil {
		return err
	}
	for _, after := range tx.after {
		after(ctx)
	}
	return nil
}

// Ping tells whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	raw, err := db.write.DB()
	if err != nil {
		return fmt.Errorf("ping database: %w", err)
	}
	if err := raw.PingContext(ctx); err != nil {
		return fmt.Errorf("ping database: %w", err)
	}
	return nil
}

// Close ends all connections.
func (db *DB) Close() error {
	var errs []error
	for _, g := range []*gorm.DB{db.write, db.read} {
		raw, err := g.DB()
		if err == nil {
			err = raw.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
