// Package databasetest gives tests a migrated database of their own, on SQLite and on PostgreSQL, and counts their queries.
// Store tests of all capabilities use it. It is for tests only, and shares nothing between them but what is only copied.
package databasetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/platformtest"
)

// Each runs test twice, as parallel subtests: on SQLite and on PostgreSQL, each time with a fresh migrated database.
func Each(t *testing.T, test func(t *testing.T, db *database.DB)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, SQLite(t))
	})
	t.Run("Postgres", func(t *testing.T) {
		t.Parallel()
		test(t, Postgres(t))
	})
}

// SQLite returns a fresh migrated database in a file that lives as long as the test.
func SQLite(t testing.TB) *database.DB {
	t.Helper()
	template, err := sqliteTemplate()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "test.db")
	require.NoError(t, os.WriteFile(path, template, 0o600))
	return open(t, "sqlite:"+path)
}

// Postgres returns a fresh migrated database that lives as long as the test.
func Postgres(t testing.TB) *database.DB {
	t.Helper()
	return open(t, PostgresURL(t))
}

// PostgresURL is the URL of a fresh migrated PostgreSQL database that lives as long as the test, for tests that start
// processes.
func PostgresURL(t testing.TB) string {
	t.Helper()
	hash, err := database.SchemaHash()
	require.NoError(t, err)
	return platformtest.Template{Name: "migrated", Hash: hash, Build: migrate}.PostgresURL(t)
}

// open opens any database for as long as the test lives.
func open(t testing.TB, url string) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), database.Config{URL: url, MaxConns: 10})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// sqliteTemplate is the content of a migrated database file, made once.
var sqliteTemplate = sync.OnceValues(func() (content []byte, err error) {
	dir, err := os.MkdirTemp("", "databasetest")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "template.db")
	if err := migrate(context.Background(), "sqlite:"+path); err != nil {
		return nil, err
	}
	return os.ReadFile(path) // closing the last connection has moved the write-ahead log into the file
})

func migrate(ctx context.Context, url string) error {
	db, err := database.Open(ctx, database.Config{URL: url})
	if err != nil {
		return err
	}
	if _, err := database.Migrate(ctx, db, database.MigrateOptions{}); err != nil {
		_ = db.Close()
		return err
	}
	if err := db.Close(); err != nil {
		return fmt.Errorf("close the template: %w", err)
	}
	return nil
}

// Count returns the number of statements that f runs on db (BEGIN and COMMIT are none). Nothing else may use db meanwhile.
func Count(t testing.TB, db *database.DB, f func()) int {
	t.Helper()
	var n atomic.Int64
	stop := db.OnStatement(func(string) { n.Add(1) })
	defer stop()
	f()
	return int(n.Load())
}
