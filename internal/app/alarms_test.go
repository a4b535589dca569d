package app

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAlarmsAreRateLimited(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	l := newAlarms()
	others, ok := l.worth("GET /a/", now)
	require.True(t, ok)
	require.Zero(t, others)
	_, ok = l.worth("GET /a/", now.Add(time.Minute))
	require.False(t, ok, "the same route again")
	others, ok = l.worth("GET /b/", now.Add(time.Minute))
	require.True(t, ok)
	require.Equal(t, 1, others, "the mail counts what was not mailed")
	for i := range 2 * alarmMost {
		_, ok = l.worth(fmt.Sprintf("GET /%d/", i), now.Add(2*time.Minute))
		require.Equal(t, i < alarmMost-2, ok, "so many an hour")
	}
	others, ok = l.worth("GET /a/", now.Add(alarmRest))
	require.True(t, ok, "after an hour")
	require.Equal(t, alarmMost+2, others)
}
