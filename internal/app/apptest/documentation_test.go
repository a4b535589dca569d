package apptest_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/app/apptest"
)

// TestTheWholeIsDocumented: the documents are written when they are first asked for, so that a table that cannot be
// described would not be noticed at the start.
func TestTheWholeIsDocumented(t *testing.T) {
	t.Parallel()
	api := apptest.New(t, apptest.Config{}).Start("api")
	for path, part := range map[string]string{"/schema": "/cohort/dated-measures/", "/schema?format=json": `"/cohort/cohorts/"`, "/redoc/": "/accesses/perimeters/", "/docs": "swagger"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, api.URL()+path, nil)
		require.NoError(t, err)
		answer, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusOK, answer.StatusCode, path)
		require.Contains(t, string(body), part, path)
	}
}
