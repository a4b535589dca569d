package export

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
	"cohortflow/internal/engine/enginetest"
	"fmt"
)

func TestLifeOfAnExport(t *testing.T) {
	t.Parallel()
	for _, builtIn := range []bool{true, false} {
		kind := Kind(KindConfig{BuiltIn: builtIn})
		kind.Initial = stateWaiting
		enginetest.Walk(t, kind, sentOnce, toldOnceATry)
	}
}

// sentOnce: a launch is followed by another only when it was known not to have been sent, or by a retry.
func sentOnce(walk []enginetest.Visit) error {
	sent := false
	for _, v := range walk {
		switch v.Event {
		case eventSending:
			if sent {
				return fmt.Errorf("sent twice")
			}
			sent = true
		case eventUnsent, engine.RetryAsked, eventRetrySubsets:
			sent = false
		}
	}
	return nil
}

func toldOnceATry(walk []enginetest.Visit) error {
	told := map[engine.Outcome]bool{}
	for _, v := range walk {
		if v.Event == engine.RetryAsked || v.Event == eventRetrySubsets {
			clear(told)
		}
		if out := v.Move.Tell; out != "" {
			if told[out] {
				return fmt.Errorf("%s is told twice", out)
			}
			told[out] = true
		}
	}
	return nil
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{0: "0:00:00", 200*time.Second + 123456*time.Microsecond: "0:03:20.123456",
		24*time.Hour + time.Second: "1 day, 0:00:01", 50 * time.Hour: "2 days, 2:00:00", -time.Second: "0:00:00"} {
		require.Equal(t, want, duration(d))
	}
}
