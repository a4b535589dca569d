package engine

import (
	"cmp"
	"context"
	"fmt"
	"math/bits"
	"time"

	"cohortflow/internal/platform/lifecycle"
)

// orphanAfter is how long a task stays due and unheld before its wake-up is taken for lost inside Redis (an "active" task of
// a dead worker, an archived one: both hold their id for ever) and gets a new id; then again after twice that, and so on,
// so that duplicates are logarithmic in time.
const orphanAfter = 10 * time.Second

// grace is for how long a task that was woken right after its commit is left to that wake-up.
const grace = 500 * time.Millisecond

// Redis is what the relay needs of the accelerator, besides wake-ups; *queue.Client is one.
type Redis interface {
	// Fresh tells whether Redis lost everything since the last Prime, or never was primed.
	Fresh(ctx context.Context) (bool, error)
	// Register makes the queues' names known to it again.
	Register(ctx context.Context) error
	// Prime notes that everything owed has been sent to it.
	Prime(ctx context.Context) error
}

// RelayConfig is read once, by NewRelay. A zero field takes its default.
type RelayConfig struct {
	Batch int           // tasks read by one query (100)
	Pause time.Duration // between passes (1 s): waking right after the commit is the path, the relay the net under it
}

// Relay wakes workers for the tasks that are due and held by nobody: so delays, back-off, polls, lost wake-ups, dead workers
// and an emptied Redis all come back. A wake-up too many is harmless: who finds nothing to claim does nothing. Any number
// of relays may run.
type Relay struct {
	lifecycle.Base
	engine *Engine
	redis  Redis
	cfg    RelayConfig
}

// NewRelay returns a relay; redis may be nil, then an emptied Redis is found out by the age of what is due.
func NewRelay(e *Engine, redis Redis, cfg RelayConfig) *Relay {
	cfg.Batch, cfg.Pause = cmp.Or(cfg.Batch, 100), cmp.Or(cfg.Pause, time.Second)
	return &Relay{Base: lifecycle.Base{Log: e.log, Name: "relay"}, engine: e, redis: redis, cfg: cfg}
}

// Start begins the passes.
func (r *Relay) Start(ctx context.Context) error {
	return r.Every(ctx, r.cfg.Pause, nil, func(ctx context.Context) error {
		_, err := r.Pass(ctx)
		return err
	})
}

// Pass makes one pass and returns how many wake-ups it sent.
func (r *Relay) Pass(ctx context.Context) (woken int, err error) {
	emptied, err := r.emptied(ctx)
	if err != nil {
		return 0, fmt.Errorf("relay: %w", err)
	}
	r.engine.waker.forget(emptied)
	now := r.engine.cfg.Clock.Now()
	at, after := time.Time{}, ""
	for {
		page, err := r.engine.unheld(ctx, now, at, after, r.cfg.Batch)
		if err != nil {
			return woken, fmt.Errorf("relay: %w", err)
		}
		wakes := r.engine.waker.fresh(r.pick(page, now, emptied))
		if err := r.engine.waker.wake(ctx, wakes); err != nil {
			return woken, fmt.Errorf("relay: wake %d tasks: %w", len(wakes), err)
		}
		woken += len(wakes)
		if len(page) < r.cfg.Batch || ctx.Err() != nil {
			break
		}
		last := page[len(page)-1] // waking changes no row: without the key a full page would hide the rest for ever
		at, after = last.due, last.id
	}
	if emptied && ctx.Err() == nil {
		r.Log.Info("relay: Redis was empty, everything due was sent again", "tasks", woken)
		if err := r.redis.Prime(ctx); err != nil {
			return woken, fmt.Errorf("relay: %w", err)
		}
	}
	return woken, nil
}

func (r *Relay) emptied(ctx context.Context) (bool, error) {
	if r.redis == nil {
		return false, nil
	}
	fresh, err := r.redis.Fresh(ctx)
	if err != nil || !fresh {
		return false, err
	}
	return true, r.redis.Register(ctx)
}

// owedTask is a due row as the relay sees it.
type owedTask struct {
	id, name, queue string
	attempt         int
	due, created    time.Time
	leased          *time.Time // a lease that ran out
}

// unheld reads a page of due tasks that nobody holds, by key.
func (e *Engine) unheld(ctx context.Context, now, at time.Time, after string, limit int) ([]owedTask, error) {
	sql, args := `SELECT id, name, queue, attempt, due_at, created_at, lease_until FROM engine_task
		WHERE dead_at IS NULL AND due_at <= ? AND (lease_until IS NULL OR lease_until <= ?)`, []any{now, now}
	if after != "" {
		sql, args = sql+` AND (due_at, id) > (?, ?)`, append(args, at, after)
	}
	var page []owedTask
	answer, err := e.cfg.DB.Read(ctx).Raw(sql+` ORDER BY due_at, id LIMIT ?`, append(args, limit)...).Rows()
	if err != nil {
		return nil, fmt.Errorf("read due tasks: %w", err)
	}
	defer func() { _ = answer.Close() }()
	for answer.Next() {
		var t owedTask
		if err := answer.Scan(&t.id, &t.name, &t.queue, &t.attempt, &t.due, &t.created, &t.leased); err != nil {
			return nil, fmt.Errorf("read due tasks: %w", err)
		}
		page = append(page, t)
	}
	return page, answer.Err()
}

// pick makes wake-ups of due tasks. One that was woken by its own commit a moment ago is left to that.
func (r *Relay) pick(page []owedTask, now time.Time, emptied bool) []wakeUp {
	wakes := make([]wakeUp, 0, len(page))
	for _, t := range page {
		since := t.due
		if t.leased != nil && t.leased.After(since) {
			since = *t.leased
		}
		age := now.Sub(since)
		if !emptied && age < grace && t.attempt == 0 && t.due.Equal(t.created) {
			continue
		}
		wakes = append(wakes, wakeUp{Task: t.id, Name: t.name, Queue: t.queue, Attempt: t.attempt, K: orphanGeneration(age)})
	}
	return wakes
}

// orphanGeneration is 0 for the first 10 s, 1 until 20 s, 2 until 40 s, and so on.
func orphanGeneration(overdue time.Duration) int {
	return bits.Len64(uint64(max(overdue, 0) / orphanAfter))
}
