package engine

import (
	"context"
	"slices"
	"time"
)

// gapPatience is for how long a number that was skipped is looked for: longer than any transaction that writes to the
// timeline lasts (commitTimeout). After that it belongs to one that was rolled back.
const gapPatience = 2 * commitTimeout

// Follower reads the timeline of all jobs by number and misses nothing: numbers are given when a line is written but
// become visible when its transaction commits, so a lower one may appear after a higher. The follower remembers the numbers
// it has not seen below the highest it has, and looks for them again. It belongs to one goroutine.
type Follower struct {
	engine *Engine
	high   int64
	gaps   map[int64]time.Time // missing number → when it was missed first
}

// Follow returns a follower that begins after the given number: LastEvent for "from now on", or the last one handled.
func (e *Engine) Follow(after int64) *Follower {
	return &Follower{engine: e, high: after, gaps: map[int64]time.Time{}}
}

// Next reads what was committed since the last call: at most limit new lines, besides late ones; ordered by number. Empty: all
// is read.
func (f *Follower) Next(ctx context.Context, limit int) ([]Entry, error) {
	now := f.engine.cfg.Clock.Now()
	var missing []int64
	for id, since := range f.gaps {
		if now.Sub(since) > gapPatience {
			delete(f.gaps, id)
		} else {
			missing = append(missing, id)
		}
	}
	late := []Entry{}
	if len(missing) > 0 {
		var err error
		if late, err = f.engine.entries(ctx, `WHERE id IN ? ORDER BY id`, missing); err != nil {
			return nil, err
		}
	}
	next, err := f.engine.entries(ctx, `WHERE id > ? ORDER BY id LIMIT ?`, f.high, limit)
	if err != nil {
		return nil, err
	}
	for _, l := range late {
		delete(f.gaps, l.ID)
	}
	for _, l := range next {
		for id := max(f.high+1, l.ID-maxGaps); id < l.ID; id++ {
			f.gaps[id] = now
		}
		f.high = l.ID
	}
	return slices.Concat(late, next), nil
}

// maxGaps bounds how many missing numbers before one line are looked for: more are not a transaction under way.
const maxGaps = 1000
