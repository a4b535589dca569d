package database_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/database"
)

func TestSQLite(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T) *database.DB {
		t.Helper()
		db, err := database.Open(t.Context(), database.Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "t.db")})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		require.NoError(t, db.Update(t.Context(), func(tx *database.Tx) error {
			return tx.Exec("CREATE TABLE t (n integer NOT NULL)").Error
		}))
		return db
	}
	count := func(t *testing.T, db *database.DB) (n int64) {
		t.Helper()
		require.NoError(t, db.Read(t.Context()).Table("t").Count(&n).Error)
		return n
	}
	t.Run("CommitsThenRunsWhatFollows", func(t *testing.T) {
		t.Parallel()
		db := setup(t)
		var seen int64 = -1
		require.NoError(t, db.Update(t.Context(), func(tx *database.Tx) error {
			tx.AfterCommit(func(context.Context) { seen = count(t, db) })
			return tx.Exec("INSERT INTO t VALUES (1)").Error
		}))
		require.EqualValues(t, 1, seen)
	})
	t.Run("RollsBackAndRunsNothing", func(t *testing.T) {
		t.Parallel()
		db := setup(t)
		boom := errors.New("boom")
		require.ErrorIs(t, db.Update(t.Context(), func(tx *database.Tx) error {
			tx.AfterCommit(func(context.Context) { t.Error("ran after a rollback") })
			require.NoError(t, tx.Exec("INSERT INTO t VALUES (1)").Error)
			return boom
		}), boom)
		require.Zero(t, count(t, db))
	})
	t.Run("ViewCannotWrite", func(t *testing.T) {
		t.Parallel()
		db := setup(t)
		require.Error(t, db.View(t.Context(), func(tx *database.Tx) error {
			return tx.Exec("INSERT INTO t VALUES (1)").Error
		}))
		require.Zero(t, count(t, db))
	})
}
