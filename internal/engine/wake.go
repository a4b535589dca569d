package engine

import (
	"context"
	"strconv"
	"sync"
	"time"

	"cohortflow/internal/platform/queue"
)

// Waker carries wake-ups to workers; *queue.Client is one.
type Waker interface {
	// Enqueue sends a wake-up. fresh is false when one with this id is there already, which is as good.
	Enqueue(ctx context.Context, w queue.WakeUp) (fresh bool, err error)
	// Nudge tells idle workers, in all processes, to look at once.
	Nudge()
}

// wakeUp is a due task that a worker shall claim.
type wakeUp struct {
	Task    string
	Name    string
	Queue   string
	Attempt int
	K       int    // counts up while the task stays due and unheld: the id before may belong to an orphan in Redis
	ID      string // overrides the id made of the above
}

// id is unique by task and attempt: a second wake-up for the same attempt meets the first one and is dropped by Redis.
func (w wakeUp) id() string {
	switch {
	case w.ID != "":
		return w.ID
	case w.K > 0:
		return w.Task + ":" + strconv.Itoa(w.Attempt) + ":" + strconv.Itoa(w.K)
	default:
		return w.Task + ":" + strconv.Itoa(w.Attempt)
	}
}

const (
	enqueuers    = 8               // wake-ups sent at once
	wakeTimeout  = time.Second     // for all wake-ups of one commit
	restAfterErr = time.Second     // Redis failed: leave it alone for that long, the relay comes back to it
	remembered   = 5 * time.Second // a wake-up that was sent is not sent again by this process for that long
	// maxRemembered bounds the memory of wake-ups. Forgetting one costs a call that Redis answers with a conflict.
	maxRemembered = 50_000
)

// waker sends wake-ups. That one fails is not an error of anybody: the task is a row, the relay finds it.
type waker struct {
	engine *Engine
	mu     sync.Mutex
	sent   map[string]time.Time // by wake-up id
	down   time.Time            // no attempt before
}

func newWaker(e *Engine) *waker { return &waker{engine: e, sent: map[string]time.Time{}} }

// wake sends the wake-ups and nudges the workers. It returns the first error, for the relay's log.
func (k *waker) wake(ctx context.Context, all []wakeUp) error {
	q := k.engine.cfg.Queue
	if q == nil || len(all) == 0 || k.resting() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wakeTimeout)
	defer cancel()
	if len(all) == 1 {
		err := k.send(ctx, q, all[0])
		if err == nil {
			q.Nudge()
		}
		return err
	}
	var wg sync.WaitGroup
	var failed error
	work := make(chan wakeUp)
	for range min(enqueuers, len(all)) {
		wg.Go(func() {
			for w := range work {
				if err := k.send(ctx, q, w); err != nil {
					k.mu.Lock()
					failed = err
					k.mu.Unlock()
				}
			}
		})
	}
	for _, w := range all {
		if k.resting() {
			break
		}
		work <- w
	}
	close(work)
	wg.Wait()
	q.Nudge()
	return failed
}

func (k *waker) send(ctx context.Context, q Waker, w wakeUp) error {
	id := w.id()
	_, err := q.Enqueue(ctx, queue.WakeUp{ID: id, Name: w.Name, Queue: w.Queue, Task: w.Task})
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.down = time.Now().Add(restAfterErr)
		return err
	}
	if len(k.sent) >= maxRemembered { // a process without a relay never asks for them
		clear(k.sent)
	}
	k.sent[id] = time.Now()
	return nil
}

// resting tells whether Redis failed a moment ago. It is about real time: how long a socket is left alone is no decision
// that a test wants to move.
func (k *waker) resting() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Now().Before(k.down)
}

// fresh drops the wake-ups that this process sent a moment ago.
func (k *waker) fresh(all []wakeUp) []wakeUp {
	k.mu.Lock()
	defer k.mu.Unlock()
	kept := all[:0]
	for _, w := range all {
		if at, ok := k.sent[w.id()]; !ok || time.Since(at) > remembered {
			kept = append(kept, w)
		}
	}
	return kept
}

// forget drops what is remembered: all of it when Redis was emptied, else what is old.
func (k *waker) forget(all bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, at := range k.sent {
		if all || time.Since(at) > remembered {
			delete(k.sent, id)
		}
	}
}

// forgetOne makes a wake-up sendable again at once: its run could not reach the database.
func (k *waker) forgetOne(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.sent, id)
}

type laterKey struct{}

// later holds wake-ups back until it is flushed.
type later struct {
	mu      sync.Mutex
	held    []func()
	flushed bool
}

// WithLater returns a context in which wake-ups are held back until flush is called: after an HTTP answer was sent, so that
// a result never overtakes the 201 that names the job. Without it they go out right after the commit. A flush that is never
// called delays them until the relay's next pass, no more.
func WithLater(ctx context.Context) (context.Context, func()) {
	l := &later{}
	return context.WithValue(ctx, laterKey{}, l), l.flush
}

func (l *later) flush() {
	l.mu.Lock()
	held := l.held
	l.held, l.flushed = nil, true
	l.mu.Unlock()
	for _, f := range held {
		f()
	}
}

func (l *later) hold(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.flushed {
		return false
	}
	l.held = append(l.held, f)
	return true
}

// wakeAfter wakes workers for what was just committed, or leaves it to the holder of the context.
func (e *Engine) wakeAfter(ctx context.Context, all []wakeUp) {
	if len(all) == 0 {
		return
	}
	send := func() {
		if err := e.waker.wake(ctx, all); err != nil {
			e.log.Warn("wake-ups not sent, the relay will", "tasks", len(all), "error", err)
		}
	}
	if l, ok := ctx.Value(laterKey{}).(*later); ok && l.hold(send) {
		return
	}
	send()
}
