// Package app builds the object graph from the configuration and runs the processes: it is the one package that imports
// every capability, and joins what they declare they need of each other. The commands call it. It holds no rule of its
// own.
package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"cohortflow/internal/config"
	"cohortflow/internal/engine"
	"cohortflow/internal/platform/answercache"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/lifecycle"
	"cohortflow/internal/platform/queue"
	"cohortflow/internal/platform/realtime"
	"cohortflow/internal/platform/telemetry"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/schedule"
	"cohortflow/tasks"
)

// Version is what the OpenAPI document and the commands tell: the contract's level.
const Version = "3.29.0"

// Roles says which processes one App is.
type Roles struct{ API, Worker, Scheduler bool }

// Options are what a configuration cannot say.
type Options struct {
	Log   *slog.Logger
	Clock clock.Clock
	Roles Roles
	// Embedded is the Redis inside this process; nil: the one of the configuration.
	Embedded *queue.Embedded
	// Entered, if not nil, is called right before each handler of a task: for measurements.
	Entered func(claim engine.Claim)
}

// App is one process. Build it with New, then Start and Stop it, once each.
type App struct {
	cfg     config.Config
	opts    Options
	log     *slog.Logger
	db      *database.DB
	queue   *queue.Client
	metrics *telemetry.Metrics
	parts   *parts
	stack   lifecycle.Stack
	api     *telemetry.HTTPServer
	side    *telemetry.HTTPServer
	hub     *realtime.Hub
	// follower delivers the engine's events to this process's websockets.
	follower *realtime.Follower[engine.Entry]
	// stopping is set when Stop begins.
	stopping atomic.Bool
	// life is held by Start and Stop; started and stopped tell what was done.
	life             sync.Mutex
	started, stopped bool
	// alarms limits the mails about failed requests; nil: none are sent.
	alarms *alarms
	// answers keeps answers of lists; nil: none are kept.
	answers *answercache.Cache
	// outgoing holds at most one number of an event that other processes have not been told of.
	outgoing chan int64
}

// New opens the database and builds everything; it starts nothing. Close what was opened with Stop.
func New(ctx context.Context, cfg config.Config, opts Options) (*App, error) {
	if opts.Clock == nil {
		opts.Clock = clock.System{}
	}
	a := &App{cfg: cfg, opts: opts, log: opts.Log, metrics: telemetry.NewMetrics(), outgoing: make(chan int64, 1)}
	if err := a.open(ctx); err != nil {
		return nil, errors.Join(err, a.close())
	}
	var err error
	if a.parts, err = a.build(); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

// open connects to the database and prepares the connection to Redis, which may be down.
func (a *App) open(ctx context.Context) (err error) {
	a.db, err = database.Open(ctx, database.Config{URL: a.cfg.DatabaseURL(), MaxConns: a.cfg.Database.MaxConns, Log: a.log})
	if err != nil {
		return err
	}
	names := []string{string(tasks.QueueLong)}
	for _, q := range tasks.Queues() {
		names = append(names, string(q))
	}
	qc := queue.Config{Embedded: a.opts.Embedded, Queues: names, PoolSize: 2 * a.cfg.Database.Concurrency, Log: a.log}
	if a.opts.Embedded == nil {
		qc.URL = a.cfg.QueueURL()
	}
	a.queue, err = queue.Open(qc)
	return err
}

func (a *App) close() error {
	var errs []error
	if a.parts != nil && a.parts.careSites != nil {
		errs = append(errs, a.parts.careSites.Close())
	}
	if a.queue != nil {
		errs = append(errs, a.queue.Close())
	}
	if a.db != nil {
		errs = append(errs, a.db.Close())
	}
	return errors.Join(errs...)
}

// Inspect tells whether the database has the schema that this program needs.
func (a *App) Inspect(ctx context.Context) error {
	plan, err := database.Inspect(ctx, a.db)
	if err != nil {
		return err
	}
	if !plan.Ready() {
		return errors.New("the database is not ready for this program: run \"cohortflow migrate\" (add --dry-run to see what it would do)")
	}
	return nil
}

// Start runs the roles of this process. When a part fails, what was started is stopped again and everything is closed, as by
// Stop. A second Start, or one after Stop, is refused and changes nothing.
func (a *App) Start(ctx context.Context) error {
	a.life.Lock()
	defer a.life.Unlock()
	switch {
	case a.stopped:
		return errors.New("start: the process was stopped before")
	case a.started:
		return errors.New("start: the process is started already")
	}
	a.started = true
	err := a.Inspect(ctx)
	if err == nil {
		err = a.start(ctx)
	}
	if err != nil {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.Engine.ShutdownTimeout)
		defer cancel()
		return errors.Join(err, a.stop(stopping))
	}
	return nil
}

type service struct {
	name string
	lifecycle.Service
}

// start begins with what others lean on: the metrics listener tells an operator that the process lives; the API listens
// when all it needs is there, and is the first to stop.
func (a *App) start(ctx context.Context) error {
	var services []service
	if a.opts.Embedded != nil {
		services = append(services, service{"embedded redis", a.opts.Embedded})
	}
	if err := a.queue.Check(ctx); err != nil {
		a.log.WarnContext(ctx, "redis does not answer: work waits for the relay", "error", err)
	}
	a.side = &telemetry.HTTPServer{Name: "metrics listener", Addr: a.cfg.System.MetricsAddr, Setting: "METRICS_ADDR", Handler: a.sideHandler(), Log: a.log}
	services = append(services, service{"metrics", a.side})
	if a.opts.Roles.Worker {
		worker, err := a.worker()
		if err != nil {
			return err
		}
		services = append(services, service{"worker", worker},
			service{"relay", engine.NewRelay(a.parts.engine, a.queue, engine.RelayConfig{})},
			service{"watchdog", engine.NewWatchdog(a.parts.engine, engine.WatchdogConfig{})})
	}
	if a.opts.Roles.Scheduler {
		scheduler, err := a.scheduler()
		if err != nil {
			return err
		}
		services = append(services, service{"scheduler", scheduler})
	}
	if a.opts.Roles.API {
		if err := a.buildAPI(); err != nil {
			return err
		}
		services = append(services, service{"follower", a.follower}, service{"websockets", a.hub}, service{"api", a.api})
	}
	services = append(services, service{"nudges", a.nudges()})
	for _, s := range services {
		if err := a.stack.Start(ctx, s.name, s.Service); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends everything, last started first, and closes the connections: the API takes no request any more and answers those
// it has, then nothing new is scheduled, then workers end their tasks or give them back. Meanwhile the metrics listener, the
// last to go, says that the process is not ready. A second Stop, also one after a Start that failed, waits for the first and
// does nothing.
func (a *App) Stop(ctx context.Context) error {
	a.stopping.Store(true)
	a.life.Lock()
	defer a.life.Unlock()
	return a.stop(ctx)
}

// stop is Stop, for who holds life.
func (a *App) stop(ctx context.Context) error {
	if a.stopped {
		return nil
	}
	a.stopped = true
	return errors.Join(a.stack.Stop(ctx), a.close())
}

// Address is where the API listens.
func (a *App) Address() string { return a.api.Address() }

// MetricsAddress is where the metrics are.
func (a *App) MetricsAddress() string { return a.side.Address() }

// worker serves the ordinary queues in strict order, and long exports with a server of their own.
func (a *App) worker() (*engine.Worker, error) {
	var names []string
	for _, q := range tasks.Queues() {
		names = append(names, string(q))
	}
	ordinary, err := queue.NewServer(a.queue, queue.ServerConfig{Queues: names, Concurrency: a.cfg.Database.Concurrency})
	if err != nil {
		return nil, err
	}
	long, err := queue.NewServer(a.queue, queue.ServerConfig{Queues: []string{string(tasks.QueueLong)}, Concurrency: 4})
	if err != nil {
		return nil, err
	}
	grace := a.cfg.Engine.ShutdownTimeout / 4
	return engine.NewWorker(a.parts.engine, engine.WorkerConfig{Grace: grace, Entered: a.opts.Entered}, ordinary, long), nil
}

func (a *App) scheduler() (*schedule.Scheduler, error) {
	entries, err := a.entries()
	if err != nil {
		return nil, err
	}
	return schedule.New(schedule.Config{Log: a.log, Clock: a.opts.Clock, Ticks: a.parts.engine, Entries: entries, Dynamic: a.dynamic()}), nil
}

// newID makes ids of rows in the order of time, which keeps indexes small.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// RandomSecret is a fresh key, for installations that make their own.
func RandomSecret() (string, error) {
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("make a secret: %w", err)
	}
	return hex.EncodeToString(raw), nil
}

// Routes is the route table of the whole API: for the documentation and for the authorisation matrix.
func (a *App) Routes() web.Table { return a.tables() }
