package engine

import (
	"context"
	"time"

	"cohortflow/internal/platform/database"
	"cohortflow/tasks"
)

type wakeUp struct{}
type keyring struct{}
type commitItem struct{}
type claimItem struct{}
type batcher[T any] struct{}
type waker struct{}
type settled struct{}

const batchSize = 64

func newKeyring(Keys) (*keyring, error)                      { return nil, nil }
func newBatcher[T any](n, size int, f func([]T)) *batcher[T] { return nil }
func newWaker(*Engine) *waker                                { return nil }
func (e *Engine) commitBatch([]*commitItem)                  {}
func (e *Engine) claimBatch([]*claimItem)                    {}

// Waker carries wake-ups; *queue.Client is one.
type Waker interface{}

// Keys are the secrets from which the keys that seal are derived (contract decision 31).
type Keys struct {
	// Current seals and opens, Fallbacks only open what older keys sealed.
	Current   string
	Fallbacks []string
}

// Notice is one message: by which channel, to whom (a username, or what the channel's handler understands).
type Notice struct {
	Channel   string
	Recipient string
}

// ChannelMail is the default channel.
const ChannelMail = "mail"

// Open opens a job in the caller's transaction, with the row that it is about. Neither Project nor subscribers are called:
// the caller writes the first values of its own columns. Its owed tasks are woken after the commit.
func (e *Engine) Open(ctx context.Context, tx *database.Tx, job NewJob) (Job, error) {
	panic("not yet")
}

// OpenAll is Open for many jobs, with a constant number of statements.
func (e *Engine) OpenAll(ctx context.Context, tx *database.Tx, jobs []NewJob) ([]Job, error) {
	panic("not yet")
}

// OpenWith opens a job and runs with (the insertion of its row), which may be nil, in one transaction that concurrent
// callers share.
func (e *Engine) OpenWith(ctx context.Context, job NewJob, with func(ctx context.Context, tx *database.Tx) error) (Job, error) {
	panic("not yet")
}

// Apply applies an event in a transaction that concurrent callers share, and returns after its commit.
func (e *Engine) Apply(ctx context.Context, event Event) (Result, error) { panic("not yet") }

// ApplyTx applies events in a transaction of the caller. Their owed tasks are woken after the commit.
func (e *Engine) ApplyTx(ctx context.Context, tx *database.Tx, events ...Event) ([]Result, error) {
	panic("not yet")
}

// Heard notes that the outside system gave a sign of life of the job that changes nothing.
func (e *Engine) Heard(ctx context.Context, jobID string) error { panic("not yet") }

// Task is an owed task that belongs to no job.
type Task struct {
	Spec    tasks.Spec
	Payload any       // encoded as JSON: ids only
	Due     time.Time // zero: at once
}

// Owe makes tasks owed in the caller's transaction, and returns their ids.
func (e *Engine) Owe(ctx context.Context, tx *database.Tx, owed ...Task) ([]string, error) {
	panic("not yet")
}

// WithLater returns a context in which wake-ups are held back until flush is called: after an HTTP answer was sent, so that
// a result never overtakes the 201 that names the job. Without it they go out right after the commit.
func WithLater(ctx context.Context) (context.Context, func()) { panic("not yet") }

// Secret opens what was sealed for the job. ErrNoSecret: there is none (any more).
func (e *Engine) Secret(ctx context.Context, jobID string) ([]byte, error) { panic("not yet") }

// Tick runs a tick of a schedule: it owes the tasks, unless this tick (name, at) has been run already, by anybody.
func (e *Engine) Tick(ctx context.Context, name string, at time.Time, owed ...Task) (first bool, err error) {
	panic("not yet")
}

// LastTick is the last tick run of the schedule; false: none.
func (e *Engine) LastTick(ctx context.Context, name string) (time.Time, bool, error) {
	panic("not yet")
}

// Notification is a row of engine_notification.
type Notification struct {
	ID        string
	JobID     string
	Outcome   Outcome
	Channel   string
	Recipient string
	CreatedAt time.Time
	SentAt    *time.Time
}

// Notification reads a notification, with its job.
func (e *Engine) Notification(ctx context.Context, id string) (Notification, Job, error) {
	panic("not yet")
}

// NotificationSent marks the notification as sent and ends the claimed task, in one transaction.
func (e *Engine) NotificationSent(ctx context.Context, claim Claim, id string) error {
	panic("not yet")
}

// Filter selects jobs; empty fields select all.
type Filter struct {
	Owner    string
	Kind     string
	Subjects []string
	States   []State
	// Running selects jobs that have not ended, Overdue those whose deadline has passed.
	Running bool
	Overdue bool
}

// Jobs lists jobs, the youngest first, with the number of all that match.
func (e *Engine) Jobs(ctx context.Context, f Filter, limit, offset int) ([]Job, int64, error) {
	panic("not yet")
}

// Job reads one job; ErrNoJob.
func (e *Engine) Job(ctx context.Context, id string) (Job, error) { panic("not yet") }

// JobOf reads the job of a subject; ErrNoJob.
func (e *Engine) JobOf(ctx context.Context, kind, subject string) (Job, error) { panic("not yet") }

// Entry is a row of engine_event: one line of a timeline.
type Entry struct {
	ID      int64
	JobID   string
	Kind    string
	Subject string
	Owner   string
	At      time.Time
	Actor   string
	Event   EventName
	From    State
	To      State
	Attempt int
	Applied bool
	Detail  string
}

// Events is the timeline of a job, oldest first.
func (e *Engine) Events(ctx context.Context, jobID string) ([]Entry, error) { panic("not yet") }

// Follower reads the timeline of all jobs by number and misses nothing, although numbers are committed out of order.
type Follower struct{}

// Follow returns a follower that begins after the given number (LastEvent for "from now on").
func (e *Engine) Follow(after int64) *Follower { panic("not yet") }

// Next reads what was committed since the last call, at most limit lines, by number except for late ones.
func (f *Follower) Next(ctx context.Context, limit int) ([]Entry, error) { panic("not yet") }

// LastEvent is the highest number committed so far.
func (e *Engine) LastEvent(ctx context.Context) (int64, error) { panic("not yet") }

// OwnEvents are the applied events of the owner's jobs since a time that reached an ended state, oldest first: what a new
// websocket connection is told.
func (e *Engine) OwnEvents(ctx context.Context, owner string, since time.Time, limit int) ([]Entry, error) {
	panic("not yet")
}

// Cancel asks the job to end. fault.Conflict: its state does not allow that. ErrNoJob.
func (e *Engine) Cancel(ctx context.Context, jobID, actor string) (Result, error) { panic("not yet") }

// Retry asks for another try of an ended job. fault.Conflict: its state does not allow that. ErrNoJob.
func (e *Engine) Retry(ctx context.Context, jobID, actor string) (Result, error) { panic("not yet") }

// DeadTask is a task set aside after its last attempt.
type DeadTask struct {
	ID        string
	Name      string
	JobID     string
	Attempt   int
	LastError string
	DeadAt    time.Time
}

// DeadTasks lists dead tasks, the latest first, with the number of all.
func (e *Engine) DeadTasks(ctx context.Context, limit, offset int) ([]DeadTask, int64, error) {
	panic("not yet")
}

// Revive makes a dead task due at once, with all its attempts. fault.NotFound: it is not dead.
func (e *Engine) Revive(ctx context.Context, taskID string) error { panic("not yet") }

// Stats are the figures of the metrics.
type Stats struct {
	Jobs      map[string]map[State]int64 // by kind and state
	Owed      map[string]int64           // by task name: waiting or running
	Due       int64                      // due and held by nobody
	OldestDue *time.Time                 // of those
	Dead      int64
}

// Stats counts.
func (e *Engine) Stats(ctx context.Context) (Stats, error) { panic("not yet") }

// Clean deletes dead tasks and ticks older than before, in batches; it returns how many rows went.
func (e *Engine) Clean(ctx context.Context, before time.Time) (int64, error) { panic("not yet") }

// WorkerConfig is read once, by NewWorker. A zero field takes its default.
type WorkerConfig struct {
	// Concurrency is the number of tasks run at once (32), Long that of the queue of hours-long tasks (2).
	Concurrency int
	Long        int
	// Grace is how long Stop waits for running tasks before it gives them back (15 s).
	Grace time.Duration
}
