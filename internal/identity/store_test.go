package identity

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
)

func TestALoginNeverUndoesAPasswordThatWasSetMeanwhile(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		store := NewStore(db)
		require.NoError(t, db.Write(t.Context()).Create(&User{Username: "alice", Password: new("set meanwhile")}).Error)
		now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
		require.NoError(t, store.SignedIn(t.Context(), "alice", "alice", now, rehash{old: "as it was checked", new: "its hash"}))
		u, _, err := store.Live(t.Context(), "alice")
		require.NoError(t, err)
		require.Equal(t, "set meanwhile", *u.Password)
		require.True(t, now.Equal(*u.LastLogin))
		require.NoError(t, store.SignedIn(t.Context(), "alice", "alice", now, rehash{old: "set meanwhile", new: "its hash"}))
		u, _, err = store.Live(t.Context(), "alice")
		require.NoError(t, err)
		require.Equal(t, "its hash", *u.Password)
	})
}
