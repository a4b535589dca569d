// Package lifecycle is the one start/stop contract of everything that runs in the background: Start returns at once, Stop
// waits until all has ended; both survive being called twice, and Stop without Start does nothing. The engine's loops and
// the servers embed Base or are put on a Stack by app. It never decides what runs.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Service is something that runs until it is stopped.
type Service interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// Base runs goroutines for the service that embeds it. Its fields are set by the constructor of that service.
type Base struct {
	Log  *slog.Logger
	Name string

	mu      sync.Mutex
	current *run // nil: nothing runs
}

// run is what one Go started.
type run struct {
	cancel context.CancelFunc
	ended  chan struct{} // closed when all loops have returned
}

// Go starts the loops, each with a context that ends at Stop, and only then: the end of ctx, often the signal that stops the
// process, must not overtake the order in which services are stopped. A second Go before Stop does nothing.
func (b *Base) Go(ctx context.Context, loops ...func(ctx context.Context)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	started := &run{cancel: cancel, ended: make(chan struct{})}
	b.current = started
	var all sync.WaitGroup
	for _, loop := range loops {
		all.Go(func() { loop(ctx) })
	}
	go func() { all.Wait(); close(started.ended) }()
	return nil
}

// Every runs pass at once and then with the given pause between the end of one pass and the start of the next, or
// earlier when one of the nudges receives. A pass that fails is logged, never fatal: the next one tries again.
func (b *Base) Every(ctx context.Context, pause time.Duration, nudge <-chan struct{}, pass func(ctx context.Context) error) error {
	return b.Go(ctx, func(ctx context.Context) {
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			case <-nudge:
			}
			if err := pass(ctx); err != nil && ctx.Err() == nil {
				b.Log.Error(b.Name+": pass failed", "error", err)
			}
			timer.Reset(pause)
		}
	})
}

// Stop ends the loops and waits for them, or for ctx. Loops that have not ended by then are still there for the next Stop.
func (b *Base) Stop(ctx context.Context) error {
	b.mu.Lock()
	stopped := b.current
	b.mu.Unlock()
	if stopped == nil {
		return nil
	}
	stopped.cancel()
	select {
	case <-stopped.ended:
	case <-ctx.Done():
		return fmt.Errorf("%s: still running when the time to stop was up: %w", b.Name, ctx.Err())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current == stopped { // another Stop may have been quicker, and the service started again
		b.current = nil
	}
	return nil
}

// Stack starts services in order and stops them in reverse. What was started is stopped when a later one fails to start.
type Stack struct {
	mu      sync.Mutex
	running []named
}

type named struct {
	name string
	Service
}

// Start starts s and remembers it for Stop.
func (s *Stack) Start(ctx context.Context, name string, svc Service) error {
	if err := svc.Start(ctx); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = append(s.running, named{name, svc})
	return nil
}

// Stop stops everything, last started first, all of it whatever fails, and joins the errors.
func (s *Stack) Stop(ctx context.Context) error {
	s.mu.Lock()
	running := s.running
	s.running = nil
	s.mu.Unlock()
	var errs []error
	for i := len(running) - 1; i >= 0; i-- {
		if err := running[i].Stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", running[i].name, err))
		}
	}
	return errors.Join(errs...)
}
