package cohort

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
	"cohortflow/internal/engine/enginetest"
)

// oneResult: whatever happens, at most one event brings a result that is recorded.
func oneResult(walk []enginetest.Visit) error {
	results := 0
	for _, v := range walk {
		if v.To == engine.Finished && v.From != engine.Finished {
			results++
		}
	}
	if results > 1 {
		return errors.New("two results are recorded")
	}
	return nil
}

// sentOnce: a creation leaves once, unless it is certain that it did not arrive, or did not leave.
func sentOnce(walk []enginetest.Visit) error {
	inFlight := false
	for _, v := range walk {
		switch v.Event {
		case evSending:
			if inFlight {
				return errors.New("a creation is sent twice")
			}
			inFlight = true
		case evNotSent:
			inFlight = false
		}
	}
	return nil
}

func TestMoves(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds() {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			invariants := []enginetest.Invariant{oneResult}
			if kind.Name == KindCreate {
				invariants = append(invariants, sentOnce)
			}
			enginetest.Walk(t, kind, invariants...)
		})
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]time.Duration{
		"0:00:34.540079":        34540079 * time.Microsecond,
		"0:00:05":               5 * time.Second,
		"12:34:56":              12*time.Hour + 34*time.Minute + 56*time.Second,
		"1 day, 2:03:04.000005": 26*time.Hour + 3*time.Minute + 4*time.Second + 5*time.Microsecond,
		"3 days, 0:00:00":       72 * time.Hour,
		"0:00:00":               -time.Second,
	} {
		require.Equal(t, want, duration(d))
	}
}
