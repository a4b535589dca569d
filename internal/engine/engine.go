// Package engine keeps every job of the system moving until it ends: counts, cohorts, exports, refreshes. Capabilities
// describe a kind of job by a Table of states and moves; the engine opens jobs, applies events to them, owes and runs the
// tasks that follow, watches deadlines and silence, and keeps the timeline. It never speaks to an outside system, knows
// nothing of HTTP, and holds no rule of a capability.
//
// The database is the truth. A change of state, its projection on the contract's own tables, its line in the timeline, the
// tasks and the notifications it owes are one transaction, always made by one function (transition.go). Asynq only wakes
// workers up: a wake-up holds the id of an owed row, and one that finds nothing to claim does nothing. So an emptied Redis,
// a lost or repeated wake-up, a dead worker and a delay are all the same case, and the relay (relay.go) is the one
// mechanism that brings them back.
//
//	table.go          states and moves as values, and what a sound table is
//	job.go            jobs, events, changes, results
//	engine.go         configuration, kinds, handlers, subscriptions
//	open.go           new jobs, and tasks of no job
//	transition.go     the one function that changes a job
//	writes.go         what a transition writes, table by table
//	recordset.go      a batch of rows as one parameter
//	committer.go      concurrent callers share a commit
//	claim.go          the lease of an owed task: claim, renew, settle, postpone, give back
//	worker.go         runs handlers under a lease
//	wake.go           wake-ups, at once or after the HTTP answer
//	relay.go          wakes workers for what is due and held by nobody
//	watchdog.go       deadlines and silence
//	secrets.go        what a job needs of its caller, sealed
//	notifications.go  one message per job, outcome and channel
//	ticks.go          one run per tick of a schedule, however many schedulers
//	timeline.go       listing jobs and their timeline; follow.go reads it by number
//	operators.go      cancel, retry, revive, figures, cleaning
//
// Locks are always taken in one order: jobs by id, then their tasks. Leases are compared with the clocks of the processes,
// which therefore must agree to within a second or so (NTP).
package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/tasks"
)

// Kind is one kind of job: its life and what the engine has to do for it besides.
type Kind struct {
	// Name is stored in the job's row and shown to operators: "count", "cohort", "export".
	Name string
	// Initial is the state in which a job is opened (default Created).
	Initial State
	// Table is the life of the job.
	Table Table
	// Project writes the contract's own columns (request_job_status, …) for the changes of one batch, all of this kind and
	// at most one per job, in the transaction of the change. An error undoes the whole transaction; refusals belong before
	// the event. Nil: the kind has no projection. Not called for openings: who opens a job writes its row.
	Project func(ctx context.Context, tx *database.Tx, changes []Change) error
	// Enquire is the task owed when a job has been silent for too long in a state with EnquireAfter (default:
	// tasks.JobEnquire, with a handler registered by HandleKind).
	Enquire tasks.Spec
	// Notices says who is told about an outcome (Move.Tell), and by which channel. Nil: the job's owner by ChannelMail.
	Notices func(Change, Outcome) []Notice
}

// Config is read once, by New.
type Config struct {
	DB    *database.DB
	Clock clock.Clock
	Log   *slog.Logger
	// NewID makes the ids of jobs, tasks and notifications: UUIDs in text form. Ordered ones (version 7) keep indexes small.
	NewID func() string
	// Queue carries wake-ups; nil for commands that only write (the relay of a worker finds what they owe).
	Queue Waker
	// Deadlines gives each DeadlineName of the tables its length (contract decision 29); New refuses a missing one.
	Deadlines map[DeadlineName]time.Duration
	// EnquireAfter is the silence after which an outside system is asked (2 minutes).
	EnquireAfter time.Duration
	// Keys seal and open secrets; needed only where secrets are used.
	Keys Keys
	// Lease is how long a claim lasts unless renewed (10 s), Renew the pause between renewals (3 s).
	Lease time.Duration
	Renew time.Duration
	// Published is told, after each commit, the number of the last event written: the cue for followers of the timeline.
	// It must not block.
	Published func(ctx context.Context, lastEventID int64)
}

// Subscriber is called in the transaction of a change; the events it returns are applied in that same transaction.
type Subscriber func(ctx context.Context, tx *database.Tx, change Change) ([]Event, error)

// Engine applies events to jobs. It is safe for concurrent use. Kinds, handlers and subscriptions are registered before
// anything runs.
type Engine struct {
	cfg         Config
	log         *slog.Logger
	kinds       map[string]*Kind
	subscribers map[string][]Subscriber
	handlers    map[string]registered // by task name, or task name + "/" + kind
	keys        *keyring
	commits     *batcher[*commitItem]
	claims      *batcher[*claimItem]
	waker       *waker
	mu          sync.RWMutex
}

type registered struct {
	spec   tasks.Spec
	handle Handler
}

// New checks the configuration and the tables of all kinds, and reports every mistake at once. It does no I/O.
func New(cfg Config, kinds ...Kind) (*Engine, error) {
	cfg.Lease, cfg.Renew = cmp.Or(cfg.Lease, 10*time.Second), cmp.Or(cfg.Renew, 3*time.Second)
	cfg.EnquireAfter = cmp.Or(cfg.EnquireAfter, 2*time.Minute)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if cfg.DB == nil || cfg.Clock == nil || cfg.NewID == nil {
		errs = append(errs, errors.New("a database, a clock and a maker of ids are needed"))
	}
	if cfg.Renew*2 > cfg.Lease {
		errs = append(errs, fmt.Errorf("a lease of %s renewed every %s does not survive one lost renewal", cfg.Lease, cfg.Renew))
	}
	keys, err := newKeyring(cfg.Keys)
	errs = append(errs, err)
	e := &Engine{cfg: cfg, log: cfg.Log, kinds: map[string]*Kind{}, subscribers: map[string][]Subscriber{},
		handlers: map[string]registered{}, keys: keys}
	for _, k := range kinds {
		errs = append(errs, e.register(k))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	writers := 2
	if cfg.DB.Dialect() == database.SQLite {
		writers = 1 // it has one connection for writing
	}
	e.commits = newBatcher(writers, batchSize, e.commitBatch)
	e.claims = newBatcher(1, batchSize, e.claimBatch)
	e.waker = newWaker(e)
	return e, nil
}

func (e *Engine) register(k Kind) error {
	k.Initial = cmp.Or(k.Initial, Created)
	if k.Enquire.Name == "" {
		k.Enquire = tasks.JobEnquire
	}
	if k.Name == "" {
		return errors.New("a kind has no name")
	}
	if _, twice := e.kinds[k.Name]; twice {
		return fmt.Errorf("kind %s is registered twice", k.Name)
	}
	errs := []error{}
	if err := k.Table.Check(k.Initial); err != nil {
		errs = append(errs, fmt.Errorf("kind %s: %w", k.Name, err))
	}
	for state, rule := range k.Table {
		if rule.Deadline != "" && e.cfg.Deadlines[rule.Deadline] <= 0 {
			errs = append(errs, fmt.Errorf("kind %s: state %s: no length is configured for deadline %s", k.Name, state, rule.Deadline))
		}
	}
	e.kinds[k.Name] = &k
	return errors.Join(errs...)
}

// Kinds are the names of the registered kinds, in no order.
func (e *Engine) Kinds() []string {
	names := make([]string, 0, len(e.kinds))
	for name := range e.kinds {
		names = append(names, name)
	}
	return names
}

// Subscribe has f called for every change of jobs of the kind (not for openings), in the transaction of the change. It is
// how something that must follow elsewhere (a subset cohort ended: its export goes on) is wired by app.
func (e *Engine) Subscribe(kind string, f Subscriber) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.subscribers[kind] = append(e.subscribers[kind], f)
}

// Handle registers what runs a task. Registering a name twice is a mistake of the programmer and panics.
func (e *Engine) Handle(spec tasks.Spec, h Handler) { e.handle(spec.Name, spec, h) }

// HandleKind registers what runs a task for jobs of one kind only; it wins over Handle. For tasks.JobEnquire.
func (e *Engine) HandleKind(kind string, spec tasks.Spec, h Handler) {
	e.handle(spec.Name+"/"+kind, spec, h)
}

func (e *Engine) handle(key string, spec tasks.Spec, h Handler) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, twice := e.handlers[key]; twice {
		panic("engine: two handlers for task " + key)
	}
	e.handlers[key] = registered{spec: spec.WithDefaults(), handle: h}
}

func (e *Engine) handlerFor(name, kind string) (registered, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if r, ok := e.handlers[name+"/"+kind]; ok && kind != "" {
		return r, true
	}
	r, ok := e.handlers[name]
	return r, ok
}
