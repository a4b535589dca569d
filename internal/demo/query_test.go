package demo

import (
	"encoding/json"
	"log/slog"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/simulate"
)

// TestQueriesFitTheHospital: in the generated hospital the demo's first question has some answers, and fewer than everybody.
func TestQueriesFitTheHospital(t *testing.T) {
	t.Parallel()
	suite, err := simulate.New(simulate.Config{Log: slog.New(slog.DiscardHandler), Clock: clock.System{}, Dir: t.TempDir()})
	require.NoError(t, err)
	perimeters := suite.Hospital().Perimeters()
	root := strconv.FormatInt(perimeters[0].CohortID, 10)
	for _, i := range perimeters[0].Children {
		narrow, err := narrowQuery(strconv.FormatInt(perimeters[i].CohortID, 10))
		require.NoError(t, err)
		require.True(t, json.Valid([]byte(narrow)))
		n, err := suite.Evaluate(narrow)
		require.NoError(t, err)
		t.Log(perimeters[i].Name, n)
		require.Greater(t, n, 5)
		require.Less(t, n, 500)
	}
	broad, err := broadQuery(root)
	require.NoError(t, err)
	n, err := suite.Evaluate(broad)
	require.NoError(t, err)
	require.Greater(t, n, 1000)
}
