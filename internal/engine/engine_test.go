package engine_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/platformtest"
	"cohortflow/tasks"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(childWorker())
	}
	// go-redis's subscriptions end on their own, a while after they are closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"),
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9.(*channel).initMsgChan.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9.(*channel).initHealthCheck.func1"))
}

// noon is where fake clocks start.
var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// The tasks and events of the test kind: a job that is launched, worked on outside, and polled. Their time limit is that of
// the tests: no handler is to reach it.
var (
	launchTask  = tasks.Spec{Name: "test.launch", Queue: tasks.QueueCount, Timeout: platformtest.Patience, MaxAttempts: 5, Backoff: tasks.Backoff{Base: 10 * time.Millisecond, Cap: 50 * time.Millisecond}}
	pollTask    = tasks.Spec{Name: "test.poll", Queue: tasks.QueueExport, Timeout: platformtest.Patience, MaxAttempts: 5, Backoff: tasks.Backoff{Base: 10 * time.Millisecond, Cap: 50 * time.Millisecond}}
	enquireTask = tasks.Spec{Name: "test.enquire"}
)

const (
	accepted engine.EventName = "accepted"
	running  engine.EventName = "running"
	done     engine.EventName = "done"
	broken   engine.EventName = "broken"
)

func testTable() engine.Table {
	return engine.Table{
		engine.Created: {Deadline: engine.DeadlineLaunch, On: engine.On{
			accepted:           {To: engine.Pending, Owed: engine.OwesAfter(pollTask, engine.Growing(10*time.Second, time.Minute))},
			done:               {To: engine.Finished, Tell: engine.Success}, // its callback overtook the answer
			broken:             {To: engine.Failed, Tell: engine.Failure},
			engine.TaskDead:    {To: engine.Failed, Tell: engine.Failure, Reason: "The launch failed."},
			engine.CancelAsked: {To: engine.Cancelled},
			engine.Overdue:     {To: engine.GaveUp, Tell: engine.Failure, Reason: "Nobody answered."},
		}},
		engine.Pending: {Deadline: engine.DeadlineCount, EnquireAfter: true, On: engine.On{
			running:            {To: engine.Pending, Owed: engine.OwesAfter(pollTask, engine.Growing(10*time.Second, time.Minute))},
			done:               {To: engine.Finished, Tell: engine.Success},
			broken:             {To: engine.Failed, Tell: engine.Failure},
			engine.CancelAsked: {To: engine.Cancelled},
			engine.Overdue:     {To: engine.GaveUp, Tell: engine.Failure, Reason: "Nobody answered."},
		}},
		engine.GaveUp: {On: engine.On{
			done:              {To: engine.Finished, Tell: engine.Success},
			engine.RetryAsked: {To: engine.Created, Owed: engine.Owes(launchTask)},
		}},
		engine.Failed:    {On: engine.On{engine.RetryAsked: {To: engine.Created, Owed: engine.Owes(launchTask)}}},
		engine.Cancelled: {},
		engine.Finished:  {},
	}
}

func testKind() engine.Kind {
	return engine.Kind{Name: "test", Table: testTable(), Enquire: enquireTask}
}

// fixture is an engine over a database of the test's own, without a queue.
type fixture struct {
	*engine.Engine
	db    *database.DB
	clock *clock.Fake
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// newFixture builds an engine; change may adjust its configuration and kind.
func newFixture(t *testing.T, db *database.DB, change func(*engine.Config, *engine.Kind)) *fixture {
	t.Helper()
	clk := clock.NewFake(noon)
	kind := testKind()
	cfg := engine.Config{DB: db, Clock: clk, NewID: newID, Deadlines: engine.DefaultDeadlines(),
		Keys: engine.Keys{Current: "a secret of the application"}}
	if change != nil {
		change(&cfg, &kind)
	}
	e, err := engine.New(cfg, kind)
	require.NoError(t, err)
	return &fixture{Engine: e, db: db, clock: clk}
}

// open opens a job in a transaction of its own.
func (f *fixture) open(t *testing.T, change func(*engine.NewJob)) engine.Job {
	t.Helper()
	n := engine.NewJob{Kind: "test", Subject: newID(), Owner: "ada", Owed: engine.Owes(launchTask)}
	if change != nil {
		change(&n)
	}
	var job engine.Job
	require.NoError(t, f.db.Update(t.Context(), func(tx *database.Tx) (err error) {
		job, err = f.Open(t.Context(), tx, n)
		return err
	}))
	return job
}

func (f *fixture) apply(t *testing.T, job engine.Job, name engine.EventName) engine.Result {
	t.Helper()
	result, err := f.Apply(t.Context(), engine.Event{JobID: job.ID, Name: name, Actor: "tester"})
	require.NoError(t, err)
	return result
}

// owed are the tasks that exist, by name, in the order in which they are due.
func (f *fixture) owed(t *testing.T) []owedRow {
	t.Helper()
	var rows []owedRow
	require.NoError(t, f.db.Read(t.Context()).Raw(`SELECT id, name, job_id, payload, due_at, attempt, last_error, lease_owner FROM engine_task
		WHERE dead_at IS NULL ORDER BY due_at, name, id`).Scan(&rows).Error)
	return rows
}

type owedRow struct {
	ID         string
	Name       string
	JobID      *string
	Payload    string
	DueAt      time.Time
	Attempt    int
	LastError  string
	LeaseOwner string
}

func names(rows []owedRow) []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = r.Name
	}
	return out
}

// timeline is "event:applied" of each line.
func (f *fixture) timeline(t *testing.T, job engine.Job) []string {
	t.Helper()
	entries, err := f.Events(t.Context(), job.ID)
	require.NoError(t, err)
	lines := make([]string, len(entries))
	for i, l := range entries {
		lines[i] = fmt.Sprintf("%s %s>%s %t", l.Event, l.From, l.To, l.Applied)
	}
	return lines
}

// claim takes the only task of a name.
func (f *fixture) claim(t *testing.T, name string) engine.Claim {
	t.Helper()
	for _, row := range f.owed(t) {
		if row.Name == name {
			claim, got, err := f.Claim(t.Context(), row.ID)
			require.NoError(t, err)
			require.True(t, got, "task %s is not to be had", name)
			return claim
		}
	}
	require.Fail(t, "no task "+name+" is owed")
	return engine.Claim{}
}

func background() context.Context { return context.Background() }
