package database_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/platformtest"
)

func TestCurrent(t *testing.T) {
	t.Parallel()
	_, err := database.Current(t.Context(), open(t, platformtest.PostgresURL(t)))
	require.Error(t, err, "an empty database")
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		current, err := database.Current(t.Context(), db)
		require.NoError(t, err)
		require.True(t, current)
		for _, sql := range []string{"INSERT INTO engine_schema_version (version, name, adopted, applied_at) VALUES (999, 'later', false, '2026-01-01 00:00:00')",
			"DELETE FROM engine_schema_version WHERE version <> 1"} {
			require.NoError(t, db.Update(t.Context(), func(tx *database.Tx) error { return tx.Exec(sql).Error }))
			current, err = database.Current(t.Context(), db)
			require.NoError(t, err)
			require.False(t, current, sql)
		}
	})
}
