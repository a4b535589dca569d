package databasetest_test

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
)

func TestEachGivesFreshMigratedDatabases(t *testing.T) {
	t.Parallel()
	var runs [2]atomic.Int32
	t.Run("Twice", func(t *testing.T) {
		for range 2 {
			databasetest.Each(t, func(t *testing.T, db *database.DB) {
				if db.Dialect() == database.Postgres {
					runs[0].Add(1)
				} else {
					runs[1].Add(1)
				}
				plan, err := database.Inspect(t.Context(), db)
				require.NoError(t, err)
				require.True(t, plan.Ready())
				var n int64
				require.NoError(t, db.Read(t.Context()).Table("engine_version").Count(&n).Error)
				require.Zero(t, n, "another test's row")
				require.NoError(t, db.Update(t.Context(), func(tx *database.Tx) error {
					return tx.Exec("INSERT INTO engine_version (name, version) VALUES ('x', 1)").Error
				}))
			})
		}
	})
	require.EqualValues(t, 2, runs[0].Load())
	require.EqualValues(t, 2, runs[1].Load())
}

func TestCount(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		query := func() {
			var n int64
			require.NoError(t, db.Read(t.Context()).Table("export").Count(&n).Error)
		}
		require.Equal(t, 0, databasetest.Count(t, db, func() {}))
		require.Equal(t, 1, databasetest.Count(t, db, query))
		require.Equal(t, 3, databasetest.Count(t, db, func() {
			query()
			require.NoError(t, db.View(t.Context(), func(tx *database.Tx) error {
				return tx.Exec("SELECT 1").Error
			}))
			query()
		}))
	})
}
