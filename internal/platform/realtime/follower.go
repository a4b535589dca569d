package realtime

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"cohortflow/internal/platform/lifecycle"
)

// Source is a timeline whose entries are numbered: what one process missed can be read again by number.
type Source interface {
	// Last is the number of the newest entry, 0 for none.
	Last(ctx context.Context) (int64, error)
	// After hands the entries beyond a number to each, in order, and returns the number from which to go on.
	After(ctx context.Context, after int64, each func(ctx context.Context, entry any) error) (int64, error)
}

// Follower reads a timeline as it grows and delivers each entry once to this process. Nudges (a message from whoever
// wrote) make it look at once; the pause between two looks bounds what a lost nudge delays. A dead Redis therefore
// delays, but never loses.
type Follower struct {
	lifecycle.Base
	source  Source
	deliver func(ctx context.Context, entry any) error
	nudge   chan struct{}
	pause   time.Duration
	after   int64
}

// NewFollower delivers the entries that are written from its start on. A pause of zero means one second.
func NewFollower(log *slog.Logger, source Source, pause time.Duration, deliver func(ctx context.Context, entry any) error) *Follower {
	if pause == 0 {
		pause = time.Second
	}
	return &Follower{Base: lifecycle.Base{Log: log, Name: "follower"}, source: source, deliver: deliver, nudge: make(chan struct{}, 1), pause: pause}
}

// Start implements lifecycle.Service.
func (f *Follower) Start(ctx context.Context) error {
	last, err := f.source.Last(ctx)
	if err != nil {
		return fmt.Errorf("follow the timeline: %w", err)
	}
	f.after = last
	return f.Every(ctx, f.pause, f.nudge, f.pass)
}

// Nudge has it look at once; it never blocks.
func (f *Follower) Nudge() {
	select {
	case f.nudge <- struct{}{}:
	default:
	}
}

// pass delivers what is new. An entry that cannot be delivered is logged and passed over: its user asks again or is told
// at the next connection.
func (f *Follower) pass(ctx context.Context) error {
	next, err := f.source.After(ctx, f.after, func(ctx context.Context, entry any) error {
		if err := f.deliver(ctx, entry); err != nil {
			f.Log.WarnContext(ctx, "follower: an entry could not be delivered", "error", err)
		}
		return ctx.Err()
	})
	f.after = max(f.after, next)
	if err != nil {
		return fmt.Errorf("read the timeline: %w", err)
	}
	return nil
}
