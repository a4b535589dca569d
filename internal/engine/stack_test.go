package engine_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/platformtest"
	"cohortflow/internal/platform/queue"
	"cohortflow/tasks"
)

// childVariable tells a re-executed test binary that it is a worker: "database URL|Redis URL".
const childVariable = "COHORTFLOW_ENGINE_TEST_CHILD"

// shortLease is for tests in which workers die: what they held is free again soon. On a busy machine it may run out under a
// worker that lives, which such tests allow.
const shortLease = 2 * time.Second

// stack is a whole process: engine, queue, worker, relay and watchdog, on the real clock.
type stack struct {
	*engine.Engine
	db       *database.DB
	queue    *queue.Client
	worker   *engine.Worker
	relay    *engine.Relay
	watchdog *engine.Watchdog

	mu    sync.Mutex
	ended map[string]int // how often each job ended
	all   chan struct{}  // closed when as many as awaited have ended
	want  int
}

// newStack connects to its servers and starts nothing. launch is the handler of the test kind's first task; nil: it ends the
// job at once.
func newStack(db *database.DB, cfg queue.Config, lease time.Duration, launch func(s *stack) engine.Handler) (*stack, error) {
	names := []string{}
	for _, q := range tasks.Queues() {
		names = append(names, string(q))
	}
	cfg.Queues = names
	client, err := queue.Open(cfg)
	if err != nil {
		return nil, err
	}
	s := &stack{db: db, queue: client, ended: map[string]int{}}
	s.Engine, err = engine.New(engine.Config{DB: db, Clock: clock.System{}, NewID: newID, Queue: client,
		Deadlines: engine.DefaultDeadlines(), Keys: engine.Keys{Current: "secret"}, Lease: lease, Renew: lease / 4}, testKind())
	if err != nil {
		return nil, err
	}
	if launch == nil {
		launch = func(s *stack) engine.Handler { return s.finish }
	}
	s.Handle(launchTask, launch(s))
	s.Handle(tasks.Notify, s.notify)
	server, err := queue.NewServer(client, queue.ServerConfig{Queues: names, Concurrency: 32})
	if err != nil {
		return nil, err
	}
	s.worker = engine.NewWorker(s.Engine, engine.WorkerConfig{Grace: 100 * time.Millisecond}, server)
	s.relay = engine.NewRelay(s.Engine, client, engine.RelayConfig{})
	s.watchdog = engine.NewWatchdog(s.Engine, engine.WatchdogConfig{})
	return s, nil
}

func (s *stack) start(ctx context.Context) error {
	for _, service := range []interface{ Start(context.Context) error }{s.worker, s.relay, s.watchdog} {
		if err := service.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *stack) stop(ctx context.Context) error {
	for _, service := range []interface{ Stop(context.Context) error }{s.watchdog, s.relay, s.worker} {
		if err := service.Stop(ctx); err != nil {
			return err
		}
	}
	return nil
}

// startStack starts a stack that lives as long as the test.
func startStack(t testing.TB, s *stack) {
	t.Helper()
	require.NoError(t, s.start(t.Context()))
	t.Cleanup(func() { require.NoError(t, s.stop(background())) })
}

// setupStack makes a stack and closes its queue at the end.
func setupStack(t testing.TB, db *database.DB, cfg queue.Config, lease time.Duration, launch func(s *stack) engine.Handler) *stack {
	t.Helper()
	s, err := newStack(db, cfg, lease, launch)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.queue.Close()) })
	return s
}

// finish ends the job.
func (s *stack) finish(ctx context.Context, c engine.Claim) error {
	result, err := s.Settle(ctx, c, engine.Event{Name: done})
	if err != nil {
		return err
	}
	if result.Applied {
		s.note(c.Step.JobID)
	}
	return nil
}

func (s *stack) notify(ctx context.Context, c engine.Claim) error {
	n, err := engine.Payload[tasks.Notification](c)
	if err != nil {
		return err
	}
	return s.NotificationSent(ctx, c, n.ID)
}

// note counts an ended job.
func (s *stack) note(jobID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended[jobID]++
	if s.all != nil && len(s.ended) == s.want {
		close(s.all)
		s.all = nil
	}
}

// await returns a channel that is closed when n jobs have ended.
func (s *stack) await(n int) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want, s.all = n, make(chan struct{})
	c := s.all
	if len(s.ended) >= n {
		close(c)
		s.all = nil
	}
	return c
}

func (s *stack) openJobs(t testing.TB, n int) {
	t.Helper()
	jobs := make([]engine.NewJob, n)
	for i := range jobs {
		jobs[i] = engine.NewJob{Kind: "test", Subject: newID(), Owner: "ada", Owed: engine.Owes(launchTask)}
	}
	require.NoError(t, s.db.Update(background(), func(tx *database.Tx) error {
		_, err := s.OpenAll(background(), tx, jobs)
		return err
	}))
}

// requireEachEndedOnce reads the promise from the database: n jobs, each ended by exactly one transition, each told once, and
// nothing owed any more.
func requireEachEndedOnce(t testing.TB, db *database.DB, n int) {
	t.Helper()
	count := func(sql string) (found int) {
		require.NoError(t, db.Read(background()).Raw(sql).Row().Scan(&found))
		return found
	}
	require.Eventually(t, func() bool { return count(`SELECT count(*) FROM engine_task`) == 0 }, platformtest.Patience, 20*time.Millisecond, "something is still owed")
	require.Equal(t, n, count(`SELECT count(*) FROM engine_job WHERE state = 'finished' AND ended_at IS NOT NULL`))
	require.Equal(t, n, count(`SELECT count(*) FROM engine_event WHERE applied AND to_state = 'finished'`), "final transitions")
	require.Equal(t, n, count(`SELECT count(DISTINCT job_id) FROM engine_event WHERE applied AND to_state = 'finished'`))
	require.Equal(t, n, count(`SELECT count(*) FROM engine_notification WHERE sent_at IS NOT NULL`), "messages")
}

// flush empties the stack's Redis.
func flush(t testing.TB, client redis.UniversalClient) {
	t.Helper()
	require.NoError(t, client.FlushDB(background()).Err())
}

// childWorker is the main function of a worker process that is going to be killed: its handler says which task it holds and
// never returns.
func childWorker() int {
	var databaseURL, redisURL string
	if _, err := fmt.Sscan(os.Getenv(childVariable), &databaseURL, &redisURL); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 2
	}
	ctx := context.Background()
	db, err := database.Open(ctx, database.Config{URL: databaseURL})
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 2
	}
	s, err := newStack(db, queue.Config{URL: redisURL}, shortLease, func(*stack) engine.Handler {
		return func(_ context.Context, c engine.Claim) error {
			fmt.Println("holds", c.TaskID)
			select {}
		}
	})
	if err == nil {
		err = s.start(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 2
	}
	select {}
}
