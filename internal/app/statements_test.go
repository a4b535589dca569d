package app

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/web"
)

// TestListsAskAConstantNumberOfTimes walks all paged lists: with eight times the rows, a page takes as many statements.
func TestListsAskAConstantNumberOfTimes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onSQLite(t))
	w.reset()
	count := func() map[string]int64 {
		counts := map[string]int64{}
		for _, r := range w.app.Routes() {
			if r.Method != http.MethodGet || r.Paged == web.NotPaged {
				continue
			}
			for _, who := range []string{"owner", "fullAdmin"} {
				path := w.fill("GET "+r.Path, "owner")
				w.send(as(who), "GET", path, "") // loads what is kept in memory
				var statements atomic.Int64
				stop := w.app.db.OnStatement(func(string) { statements.Add(1) })
				w.send(as(who), "GET", path, "")
				stop()
				counts[r.Path+" as "+who] = statements.Load()
			}
		}
		return counts
	}
	first := w.ids
	few := count()
	require.NoError(t, w.app.db.Update(t.Context(), func(tx *database.Tx) error {
		w.ids = map[string]string{} // the paths stay those of the first rows
		for n := 3; n <= 9; n++ {
			w.research(tx, n, "owner")
		}
		return nil
	}))
	w.ids = first
	many := count()
	require.Greater(t, len(few), 30)
	for list, statements := range few {
		assert.Equal(t, statements, many[list], list)
	}
}
