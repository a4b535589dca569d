package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"cohortflow/internal/platform/lifecycle"
	"cohortflow/tasks"
)

// finishTimeout bounds the statements that end a claim after its handler returned.
const finishTimeout = 10 * time.Second

// errShutdown is the cause of a handler's ended context when the worker stops.
var errShutdown = errors.New("the worker is shutting down")

// WorkerConfig is read once, by NewWorker. A zero field takes its default.
type WorkerConfig struct {
	// Grace is how long Stop lets running handlers finish before it ends their contexts (5 s); it must leave time, within
	// the context given to Stop, for them to return.
	Grace time.Duration
	// Entered, if not nil, is called right before each handler: for measurements.
	Entered func(claim Claim)
}

// Server brings wake-ups; *queue.Server is one.
type Server interface {
	// Serve begins to take wake-ups and calls run for each.
	Serve(run func(ctx context.Context, task, wake string)) error
	// Quiet stops taking wake-ups; those under way go on.
	Quiet()
	// Stop waits for those under way, at most until ctx ends.
	Stop(ctx context.Context) error
}

// Worker runs handlers for the wake-ups that its servers bring.
type Worker struct {
	lifecycle.Base
	engine  *Engine
	cfg     WorkerConfig
	servers []Server
	mu      sync.Mutex
	running map[string]*run // by lease
	closing bool
	idle    chan struct{} // closed when the last run ended, while closing
}

// run is a claim whose handler is at work.
type run struct {
	claim  Claim
	until  time.Time // when the lease ends unless renewed
	cancel context.CancelCauseFunc
}

// NewWorker returns a worker that runs the handlers registered with the engine.
func NewWorker(e *Engine, cfg WorkerConfig, servers ...Server) *Worker {
	cfg.Grace = cmp.Or(cfg.Grace, 5*time.Second)
	return &Worker{Base: lifecycle.Base{Log: e.log, Name: "worker"}, engine: e, cfg: cfg, servers: servers, running: map[string]*run{}}
}

// Start begins to renew leases and to take wake-ups.
func (w *Worker) Start(ctx context.Context) error {
	w.mu.Lock()
	w.closing, w.idle = false, nil
	w.mu.Unlock()
	if err := w.Go(ctx, w.renewals); err != nil {
		return err
	}
	for _, s := range w.servers {
		if err := s.Serve(w.Run); err != nil {
			return errors.Join(fmt.Errorf("worker: %w", err), w.Stop(ctx))
		}
	}
	return nil
}

// Stop takes no more wake-ups and lets running handlers finish for the grace, then ends their contexts; what they leave
// unfinished is given back, so that another worker takes it at once. It stops renewing only when all have returned, or ctx
// ends.
func (w *Worker) Stop(ctx context.Context) error {
	for _, s := range w.servers {
		s.Quiet()
	}
	idle := w.close()
	grace := time.NewTimer(w.cfg.Grace)
	defer grace.Stop()
	select {
	case <-idle:
	case <-ctx.Done():
	case <-grace.C:
	}
	w.cancelAll(errShutdown)
	var errs []error
	select {
	case <-idle:
	case <-ctx.Done():
		errs = append(errs, fmt.Errorf("worker: handlers still running: %w", ctx.Err()))
	}
	for _, s := range w.servers {
		errs = append(errs, s.Stop(ctx))
	}
	return errors.Join(append(errs, w.Base.Stop(context.WithoutCancel(ctx)))...)
}

// close refuses further runs and returns a channel that is closed when none is under way.
func (w *Worker) close() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closing = true
	if w.idle == nil {
		w.idle = make(chan struct{})
		if len(w.running) == 0 {
			close(w.idle)
		}
	}
	return w.idle
}

// Run claims the task of a wake-up and runs its handler. It returns when the attempt is over; a wake-up that finds nothing to
// claim does nothing. Errors are the row's and the log's business: nothing is retried by the queue.
func (w *Worker) Run(ctx context.Context, taskID, wakeID string) {
	claim, got, err := w.engine.Claim(ctx, taskID)
	if err != nil {
		w.engine.waker.forgetOne(wakeID) // the relay sends it again at its next pass
		w.Log.Error("claim failed", "task", taskID, "error", err)
		return
	}
	if got {
		w.attempt(ctx, claim)
	}
}

// attempt runs the handler of a claim and ends the claim by what the handler returned.
func (w *Worker) attempt(ctx context.Context, claim Claim) {
	reg, known := w.engine.handlerFor(claim.Name, claim.Step.Kind)
	spec := reg.spec.WithDefaults()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !w.begin(claim, cancel) {
		w.finish(ctx, claim, spec, errShutdown)
		return
	}
	defer w.end(claim)
	var err error
	switch {
	case !known:
		err = fmt.Errorf("this worker has no handler for task %s", claim.Name)
	case claim.Attempt > claim.Attempts:
		err = errors.New("its workers died with it")
	default:
		limited, stop := context.WithTimeout(ctx, spec.Timeout)
		err = w.call(limited, reg.handle, claim)
		stop()
	}
	w.finish(ctx, claim, spec, err)
}

// call runs the handler; a panic is an error like others.
func (w *Worker) call(ctx context.Context, handle Handler, claim Claim) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.Log.Error("handler panicked", "task", claim.TaskID, "name", claim.Name, "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = fmt.Errorf("the handler of %s panicked", claim.Name)
		}
	}()
	if w.cfg.Entered != nil {
		w.cfg.Entered(claim)
	}
	return handle(ctx, claim)
}

// finish ends the claim, unless the handler did.
func (w *Worker) finish(ctx context.Context, claim Claim, spec tasks.Spec, err error) {
	if claim.ended.Load() {
		if err != nil && !errors.Is(err, ErrLeaseLost) {
			w.Log.Warn("handler failed after it settled", "task", claim.TaskID, "name", claim.Name, "error", sentence(err))
		}
		return
	}
	cause := context.Cause(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	var ending error
	switch {
	case errors.Is(cause, ErrLeaseLost), errors.Is(err, ErrLeaseLost):
		w.Log.Warn("lease lost", "task", claim.TaskID, "name", claim.Name, "attempt", claim.Attempt)
		ending = w.engine.leave(ctx, claim)
	case err == nil:
		ending = w.engine.Done(ctx, claim)
	case errors.Is(cause, errShutdown) || errors.Is(err, errShutdown):
		ending = w.engine.release(ctx, claim)
	case claim.Last():
		w.Log.Error("task is dead", "task", claim.TaskID, "name", claim.Name, "job", claim.Step.JobID, "attempt", claim.Attempt, "error", sentence(err))
		ending = w.engine.bury(ctx, claim, err)
	default:
		rest := jittered(spec.Backoff.Delay(claim.Attempt))
		w.Log.Warn("task failed", "task", claim.TaskID, "name", claim.Name, "job", claim.Step.JobID, "attempt", claim.Attempt,
			"rest", rest, "error", sentence(err))
		ending = w.engine.retry(ctx, claim, err, rest)
	}
	if ending != nil && !errors.Is(ending, ErrLeaseLost) {
		// Its lease runs out and the relay brings it back.
		w.Log.Error("claim not ended", "task", claim.TaskID, "name", claim.Name, "error", sentence(ending))
	}
}

// jittered spreads tasks that failed together over half the rest.
func jittered(rest time.Duration) time.Duration {
	return rest/2 + time.Duration(rand.Int64N(int64(rest/2)+1)) //nolint:gosec // no secret
}

// begin notes a run; false: the worker is closing.
func (w *Worker) begin(claim Claim, cancel context.CancelCauseFunc) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing {
		return false
	}
	w.running[claim.lease] = &run{claim: claim, until: time.Now().Add(w.engine.cfg.Lease), cancel: cancel}
	return true
}

func (w *Worker) end(claim Claim) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.running, claim.lease)
	if w.closing && w.idle != nil && len(w.running) == 0 {
		close(w.idle)
	}
}

func (w *Worker) cancelAll(cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.running {
		r.cancel(cause)
	}
}

// renewals lengthens the leases of running claims, one statement for all. It waits in real time: it races the database's
// other readers, not a clock.
func (w *Worker) renewals(ctx context.Context) {
	tick := time.NewTicker(w.engine.cfg.Renew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.renewAll(ctx)
		}
	}
}

func (w *Worker) renewAll(ctx context.Context) {
	claims := w.current()
	if len(claims) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, w.engine.cfg.Lease/2)
	defer cancel()
	begun := time.Now()
	ours, err := w.engine.renew(ctx, claims)
	if err != nil {
		w.Log.Error("leases not renewed", "claims", len(claims), "error", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range claims {
		r, running := w.running[c.lease]
		switch {
		case !running || c.ended.Load():
		case err == nil && ours[c.lease]:
			r.until = begun.Add(w.engine.cfg.Lease)
		case err == nil, time.Now().After(r.until): // somebody else's, or nobody's any more
			r.cancel(ErrLeaseLost)
		}
	}
}

func (w *Worker) current() []Claim {
	w.mu.Lock()
	defer w.mu.Unlock()
	claims := make([]Claim, 0, len(w.running))
	for _, r := range w.running {
		if !r.claim.ended.Load() {
			claims = append(claims, r.claim)
		}
	}
	return claims
}
