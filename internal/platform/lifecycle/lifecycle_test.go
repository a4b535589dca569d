package lifecycle_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"cohortflow/internal/platform/lifecycle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait: it only costs time when a test fails.
const patience = time.Minute

func wait(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		require.FailNow(t, "waited in vain: "+what)
	}
}

func newBase() *lifecycle.Base {
	return &lifecycle.Base{Name: "tested", Log: slog.New(slog.DiscardHandler)}
}

func TestStopWaitsForTheLoops(t *testing.T) {
	t.Parallel()
	b := newBase()
	var ended atomic.Int32
	loop := func(ctx context.Context) { <-ctx.Done(); ended.Add(1) }
	require.NoError(t, b.Go(t.Context(), loop, loop))
	require.NoError(t, b.Stop(t.Context()))
	require.Equal(t, int32(2), ended.Load())
}

func TestTwiceIsOnce(t *testing.T) {
	t.Parallel()
	b := newBase()
	require.NoError(t, b.Stop(t.Context()), "without a start")
	var running, most atomic.Int32
	loop := func(ctx context.Context) {
		most.Store(max(most.Load(), running.Add(1)))
		<-ctx.Done()
		running.Add(-1)
	}
	for range 3 { // it may be started again after each stop
		require.NoError(t, b.Go(t.Context(), loop))
		require.NoError(t, b.Go(t.Context(), loop))
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				if err := b.Stop(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		require.Zero(t, running.Load())
	}
	require.Equal(t, int32(1), most.Load())
}

// TestStartsAndStopsAtOnce hammers a service from all sides: at the end of it nothing may run that no Stop can reach.
func TestStartsAndStopsAtOnce(t *testing.T) {
	t.Parallel()
	b := newBase()
	var running atomic.Int32
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 200 {
				if i%2 == 0 {
					_ = b.Go(context.Background(), func(ctx context.Context) { running.Add(1); <-ctx.Done(); running.Add(-1) })
				} else {
					_ = b.Stop(context.Background())
				}
			}
		})
	}
	all.Wait()
	require.NoError(t, b.Stop(t.Context()))
	require.Zero(t, running.Load())
}

func TestTheStartersContextEndsNothing(t *testing.T) {
	t.Parallel()
	b := newBase()
	starting, cancel := context.WithCancel(t.Context())
	look, seen := make(chan struct{}), make(chan error, 1)
	require.NoError(t, b.Go(starting, func(ctx context.Context) { <-look; seen <- ctx.Err(); <-ctx.Done() }))
	cancel()
	close(look)
	select {
	case err := <-seen:
		require.NoError(t, err, "it goes on until Stop")
	case <-time.After(patience):
		require.FailNow(t, "the loop does not run")
	}
	require.NoError(t, b.Stop(t.Context()))
}

func TestStopGivesUpInTime(t *testing.T) {
	t.Parallel()
	b := newBase()
	release := make(chan struct{})
	require.NoError(t, b.Go(t.Context(), func(context.Context) { <-release }))
	over, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, b.Stop(over), "tested: still running")
	close(release)
	require.NoError(t, b.Stop(t.Context()), "the next one waits for what the first left")
}

func TestEvery(t *testing.T) {
	t.Parallel()
	b := newBase()
	nudge, passed := make(chan struct{}), make(chan struct{}, 1)
	require.NoError(t, b.Every(t.Context(), time.Hour, nudge, func(context.Context) error {
		passed <- struct{}{}
		return errors.New("a pass that fails is not the last one")
	}))
	wait(t, passed, "the first pass comes at once")
	for range 2 {
		select {
		case nudge <- struct{}{}:
		case <-time.After(patience):
			require.FailNow(t, "nobody waits for a nudge")
		}
		wait(t, passed, "a nudge makes a pass")
	}
	require.NoError(t, b.Stop(t.Context()))
}

// service notes what is done with it.
type service struct {
	name        string
	log         *[]string
	start, stop error
}

func (s *service) Start(context.Context) error { *s.log = append(*s.log, "+"+s.name); return s.start }
func (s *service) Stop(context.Context) error  { *s.log = append(*s.log, "-"+s.name); return s.stop }

func TestStack(t *testing.T) {
	t.Parallel()
	var log []string
	var stack lifecycle.Stack
	bad, worse := errors.New("bad"), errors.New("worse")
	require.NoError(t, stack.Start(t.Context(), "a", &service{name: "a", log: &log, stop: bad}))
	require.NoError(t, stack.Start(t.Context(), "b", &service{name: "b", log: &log, stop: worse}))
	require.ErrorContains(t, stack.Start(t.Context(), "c", &service{name: "c", log: &log, start: bad}), "start c: bad")
	err := stack.Stop(t.Context())
	require.ErrorIs(t, err, bad)
	require.ErrorIs(t, err, worse, "all are stopped, whatever fails")
	require.Equal(t, []string{"+a", "+b", "+c", "-b", "-a"}, log)
	require.NoError(t, stack.Stop(t.Context()), "twice is once")
	require.Len(t, log, 5)
}
