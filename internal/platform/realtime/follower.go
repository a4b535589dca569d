package realtime

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"cohortflow/internal/platform/lifecycle"
)

// Follower reads a timeline as it grows and delivers each entry once to this process. Nudges (a message from whoever
// wrote) make it look at once; the pause between two looks bounds what a lost nudge delays. A dead Redis therefore
// delays, but never loses.
type Follower[T any] struct {
	lifecycle.Base
	cfg   FollowerConfig[T]
	nudge chan struct{}
	next  func(ctx context.Context) ([]T, error)
}

// FollowerConfig is read once, by NewFollower.
type FollowerConfig[T any] struct {
	Log *slog.Logger
	// Begin returns what reads the entries written from now on: some at a time, none when all are read.
	Begin func(ctx context.Context) (next func(ctx context.Context) ([]T, error), err error)
	// Deliver hands an entry to whom it concerns in this process. An entry that cannot be delivered is logged and passed
	// over: its user is told again at the next connection.
	Deliver func(ctx context.Context, entry T) error
	// Pause is the time between two looks without a nudge (1 s).
	Pause time.Duration
}

// NewFollower does no I/O.
func NewFollower[T any](cfg FollowerConfig[T]) *Follower[T] {
	if cfg.Pause == 0 {
		cfg.Pause = time.Second
	}
	return &Follower[T]{Base: lifecycle.Base{Log: cfg.Log, Name: "follower"}, cfg: cfg, nudge: make(chan struct{}, 1)}
}

// Start implements lifecycle.Service.
func (f *Follower[T]) Start(ctx context.Context) error {
	next, err := f.cfg.Begin(ctx)
	if err != nil {
		return fmt.Errorf("follow the timeline: %w", err)
	}
	f.next = next
	return f.Every(ctx, f.cfg.Pause, f.nudge, f.pass)
}

// Nudge has it look at once; it never blocks.
func (f *Follower[T]) Nudge() {
	select {
	case f.nudge <- struct{}{}:
	default:
	}
}

func (f *Follower[T]) pass(ctx context.Context) error {
	for {
		entries, err := f.next(ctx)
		if err != nil {
			return fmt.Errorf("read the timeline: %w", err)
		}
		if len(entries) == 0 {
			return nil
		}
		for _, entry := range entries {
			if err := f.cfg.Deliver(ctx, entry); err != nil {
				f.Log.WarnContext(ctx, "follower: an entry could not be delivered", "error", err)
			}
		}
	}
}
