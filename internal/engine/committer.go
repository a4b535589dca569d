package engine

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"cohortflow/internal/platform/database"
)

const (
	// batchSize bounds how many items share a transaction.
	batchSize = 64
	// commitTimeout bounds one transaction of the committer: a database that hangs fails its callers instead of holding them.
	commitTimeout = 30 * time.Second
	// commitTries is how often an item alone is tried when the database breaks it off (deadlock, lost connection).
	commitTries = 3
)

// batcher hands items to run in batches: as many as have gathered while the previous ones were under way, never waiting for
// more. Its goroutines exist only while there is work.
type batcher[T any] struct {
	run     func([]T)
	size    int
	max     int // batches under way at once
	mu      sync.Mutex
	waiting []T
	running int
}

func newBatcher[T any](maxRunning, size int, run func([]T)) *batcher[T] {
	return &batcher[T]{run: run, size: size, max: maxRunning}
}

func (b *batcher[T]) submit(item T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, item)
	if b.running < b.max {
		b.running++
		go b.drain()
	}
}

func (b *batcher[T]) drain() {
	for {
		batch := b.take()
		if len(batch) == 0 {
			return
		}
		b.run(batch)
	}
}

func (b *batcher[T]) take() []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.waiting), b.size)
	if n == 0 {
		b.running--
		b.waiting = nil
		return nil
	}
	batch := append([]T(nil), b.waiting[:n]...)
	rest := copy(b.waiting, b.waiting[n:])
	clear(b.waiting[rest:])
	b.waiting = b.waiting[:rest]
	return batch
}

// commitItem is what one caller wants committed: a step, or a job to open.
type commitItem struct {
	ctx     context.Context
	step    *step
	opening *NewJob
	with    func(ctx context.Context, tx *database.Tx) error
	job     Job
	err     error
	done    chan struct{}
}

func (i *commitItem) reset() {
	i.err, i.step.err, i.step.result, i.step.effects = nil, nil, Result{}, effects{}
}

// Apply applies an event in a transaction that concurrent callers share, and returns after its commit. ErrNoJob, ErrVersion:
// nothing was changed.
func (e *Engine) Apply(ctx context.Context, event Event) (Result, error) {
	item := &commitItem{ctx: ctx, step: &step{event: &event}}
	err := e.commit(item)
	return item.step.result, err
}

// ApplyTx applies events in a transaction of the caller, in their order. Their owed tasks are woken after the commit. The
// first event that names no job (ErrNoJob) or the wrong version (ErrVersion) fails them all: return the error.
func (e *Engine) ApplyTx(ctx context.Context, tx *database.Tx, events ...Event) ([]Result, error) {
	steps := make([]*step, len(events))
	for i := range events {
		steps[i] = &step{event: &events[i]}
	}
	return e.stepsTx(ctx, tx, steps)
}

func (e *Engine) stepsTx(ctx context.Context, tx *database.Tx, steps []*step) ([]Result, error) {
	if err := e.transition(ctx, tx, steps); err != nil {
		return nil, err
	}
	results := make([]Result, len(steps))
	for i, s := range steps {
		if s.err != nil {
			return nil, s.err
		}
		results[i] = s.result
	}
	e.afterCommit(tx, steps)
	return results, nil
}

// commit has the item committed and then wakes what it owes, in the caller's goroutine: the committer goes on with others.
func (e *Engine) commit(item *commitItem) error {
	if err := item.ctx.Err(); err != nil {
		return err
	}
	item.done = make(chan struct{})
	e.commits.submit(item)
	<-item.done // bounded by commitTimeout: what was begun has an answer
	if item.err == nil {
		e.wakeAfter(item.ctx, item.step.effects.wake)
	}
	return item.err
}

// commitBatch commits all items in one transaction; when that fails, each in one of its own, so that only those fail that
// are to blame.
func (e *Engine) commitBatch(items []*commitItem) {
	if len(items) > 1 {
		if err := e.commitTogether(items); err == nil {
			for _, item := range items {
				close(item.done)
			}
			return
		}
	}
	for _, item := range items {
		item.err = e.commitAlone(item)
		close(item.done)
	}
}

func (e *Engine) commitAlone(item *commitItem) error {
	for try := 1; ; try++ {
		if err := item.ctx.Err(); err != nil {
			return err
		}
		err := e.commitTogether([]*commitItem{item})
		if err == nil {
			return item.err
		}
		if try == commitTries || !brokenOff(err) {
			return err
		}
		rest := time.NewTimer(time.Duration(try*try) * 20 * time.Millisecond)
		select {
		case <-rest.C:
		case <-item.ctx.Done():
			rest.Stop()
		}
	}
}

func (e *Engine) commitTogether(items []*commitItem) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(items[0].ctx), commitTimeout)
	defer cancel()
	err := e.cfg.DB.Update(ctx, func(tx *database.Tx) error { return e.writeItems(ctx, tx, items) })
	if err != nil {
		return err
	}
	last := int64(0)
	for _, item := range items {
		item.err = item.step.err
		last = max(last, item.step.effects.event)
	}
	e.publish(ctx, last)
	return nil
}

// writeItems is the transaction of the items. What kinds and callers do in it runs in a goroutine of the committer, in which
// a panic would end the process: here it is an error like others, of the transaction that it broke.
func (e *Engine) writeItems(ctx context.Context, tx *database.Tx, items []*commitItem) (err error) {
	defer func() {
		if p := recover(); p != nil {
			e.log.Error("a transaction panicked", "items", len(items), "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = errors.New("a transaction of the engine panicked")
		}
	}()
	var openings []*commitItem
	var steps []*step
	for _, item := range items {
		item.reset()
		if item.opening == nil {
			steps = append(steps, item.step)
			continue
		}
		openings = append(openings, item)
		if item.with != nil {
			if err := item.with(ctx, tx); err != nil {
				return err
			}
		}
	}
	if err := e.openItems(ctx, tx, openings); err != nil {
		return err
	}
	return e.transition(ctx, tx, steps)
}

func (e *Engine) openItems(ctx context.Context, tx *database.Tx, items []*commitItem) error {
	if len(items) == 0 {
		return nil
	}
	jobs, steps := make([]NewJob, len(items)), make([]*step, len(items))
	for i, item := range items {
		jobs[i], steps[i] = *item.opening, item.step
	}
	opened, err := e.open(ctx, tx, jobs, steps)
	if err != nil {
		return err
	}
	for i, item := range items {
		item.job = opened[i]
	}
	return nil
}

func (e *Engine) publish(ctx context.Context, lastEventID int64) {
	if lastEventID > 0 && e.cfg.Published != nil {
		e.cfg.Published(ctx, lastEventID)
	}
}

// afterCommit does what follows the caller's transaction.
func (e *Engine) afterCommit(tx *database.Tx, steps []*step) {
	var all effects
	for _, s := range steps {
		all.add(s.effects)
	}
	if all.event == 0 && len(all.wake) == 0 {
		return
	}
	tx.AfterCommit(func(ctx context.Context) {
		e.publish(ctx, all.event)
		e.wakeAfter(ctx, all.wake)
	})
}

// brokenOff tells whether the database broke a transaction off for a reason that may be gone at the next try.
func brokenOff(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "40001" || pg.Code == "40P01" || strings.HasPrefix(pg.Code, "57P") || strings.HasPrefix(pg.Code, "08")
	}
	var network net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, net.ErrClosed) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		strings.Contains(fmt.Sprint(err), "conn closed")
}
