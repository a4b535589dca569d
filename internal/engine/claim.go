package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"sync/atomic"
	"time"

	"cohortflow/internal/platform/database"
	"cohortflow/tasks"
)

// dueTolerance is how early a task may be claimed: the clocks of processes differ, and a wake-up is only sent for a task
// that somebody's clock calls due.
const dueTolerance = time.Second

// Handler runs one attempt of a task. It returns nil after it settled the claim, or when nothing is left to do (the task is
// then done); an error makes the engine try again later, by the task's back-off, or set it aside as dead after its last
// attempt. It must be able to run again after a crash at any point. Its context ends with the task's time limit, when the
// lease is lost, and when the worker shuts down; a claim whose handler returns an error then is given back at once.
type Handler func(ctx context.Context, claim Claim) error

// Claim is a task under the lease of this worker.
type Claim struct {
	TaskID  string
	Name    string
	Payload json.RawMessage
	// Step is the payload of tasks that a job owes; zero for others. JobState and ExternalID are the job's at the moment of
	// the claim, "" if it is gone.
	Step       tasks.Step
	JobState   State
	ExternalID string
	// Attempt is 1 at first, Attempts the number after which the task is dead.
	Attempt  int
	Attempts int
	DueAt    time.Time

	lease string
	queue string
	job   bool
	ended *atomic.Bool // shared by the copies of a claim: it was settled, postponed or given back
}

// Last tells whether this is the last attempt: if it fails, the task is dead.
func (c Claim) Last() bool { return c.Attempt >= c.Attempts }

// Payload decodes a claim's payload.
func Payload[T any](c Claim) (T, error) {
	var p T
	if err := json.Unmarshal(c.Payload, &p); err != nil {
		return p, fmt.Errorf("task %s %s: payload: %w", c.Name, c.TaskID, err)
	}
	return p, nil
}

// claimItem is one wake-up that wants its task.
type claimItem struct {
	ctx   context.Context
	id    string
	lease string
	claim Claim
	got   bool
	err   error
	done  chan struct{}
}

// Claim takes the lease of a task that is due, not dead, and held by nobody; a lease that ran out is nobody's. Of two
// claims at once, one gets it. False: there is nothing to claim.
func (e *Engine) Claim(ctx context.Context, taskID string) (Claim, bool, error) {
	item := &claimItem{ctx: ctx, id: taskID, lease: e.cfg.NewID(), done: make(chan struct{})}
	e.claims.submit(item)
	<-item.done
	return item.claim, item.got, item.err
}

func (e *Engine) claimBatch(items []*claimItem) {
	if len(items) > 1 && e.claimTogether(items) == nil {
		for _, item := range items {
			close(item.done)
		}
		return
	}
	for _, item := range items {
		for try := 1; ; try++ {
			item.err = e.claimTogether([]*claimItem{item})
			if item.err == nil || try == commitTries || !brokenOff(item.err) {
				break
			}
		}
		close(item.done)
	}
}

// claimTogether claims by key. Its condition on due_at is a CASE so that no planner takes the index on it, which is short
// until there is a backlog, and then all of it would be read for each claim.
func (e *Engine) claimTogether(items []*claimItem) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(items[0].ctx), commitTimeout)
	defer cancel()
	type row struct {
		ID    string `json:"id"`
		Lease string `json:"lease"`
	}
	rows := make([]row, len(items))
	byLease := make(map[string]*claimItem, len(items))
	for i, item := range items {
		item.got = false
		rows[i] = row{item.id, item.lease}
		byLease[item.lease] = item
	}
	now := e.cfg.Clock.Now()
	err := query(e.write(ctx), `UPDATE engine_task SET lease_owner = r.lease, attempt = engine_task.attempt + 1, lease_until = ?
		FROM `+e.leased()+` AND engine_task.id = r.id AND CASE WHEN engine_task.dead_at IS NULL THEN engine_task.due_at END <= ?
			AND (engine_task.lease_until IS NULL OR engine_task.lease_until <= ?)
		RETURNING engine_task.lease_owner, engine_task.id, engine_task.name, engine_task.payload, engine_task.queue,
			engine_task.attempt, engine_task.due_at, engine_task.job_id IS NOT NULL,
			(SELECT j.state FROM engine_job j WHERE j.id = engine_task.job_id),
			(SELECT j.external_id FROM engine_job j WHERE j.id = engine_task.job_id)`,
		"id uuid, lease text", rows, func(scan func(...any) error) error {
			return scanClaim(scan, byLease)
		}, before(now.Add(e.cfg.Lease)), now.Add(dueTolerance), now)
	if err != nil {
		return fmt.Errorf("claim %d tasks: %w", len(items), err)
	}
	for _, item := range items {
		if item.got {
			e.limits(&item.claim)
		}
	}
	return nil
}

func scanClaim(scan func(...any) error, byLease map[string]*claimItem) error {
	c := Claim{ended: &atomic.Bool{}}
	var payload string
	var state, external *string
	if err := scan(&c.lease, &c.TaskID, &c.Name, &payload, &c.queue, &c.Attempt, &c.DueAt, &c.job, &state, &external); err != nil {
		return err
	}
	c.Payload = json.RawMessage(payload)
	if c.job {
		if err := json.Unmarshal(c.Payload, &c.Step); err != nil {
			return fmt.Errorf("task %s: payload: %w", c.TaskID, err)
		}
	}
	if state != nil && external != nil {
		c.JobState, c.ExternalID = State(*state), *external
	}
	item := byLease[c.lease]
	item.claim, item.got = c, true
	return nil
}

// limits sets the number of attempts, which the handler's registration knows.
func (e *Engine) limits(c *Claim) {
	c.Attempts = tasks.Spec{}.WithDefaults().MaxAttempts
	if r, ok := e.handlerFor(c.Name, c.Step.Kind); ok {
		c.Attempts = r.spec.MaxAttempts
	}
}

// Settle applies the event and ends the claimed task, in one transaction that concurrent callers share. The event's job is
// the claim's when it names none. ErrLeaseLost: the task is no longer ours and nothing was changed.
func (e *Engine) Settle(ctx context.Context, claim Claim, event Event) (Result, error) {
	return e.settle(ctx, claim, &step{event: claim.about(event), claim: &claim})
}

// Checkpoint applies the event while the lease is held, and goes on holding it: what must be known before an outside call
// that may not be repeated. ErrLeaseLost as with Settle.
func (e *Engine) Checkpoint(ctx context.Context, claim Claim, event Event) (Result, error) {
	return e.settle(ctx, claim, &step{event: claim.about(event), claim: &claim, keep: true})
}

// Done ends the claimed task without an event. ErrLeaseLost as with Settle.
func (e *Engine) Done(ctx context.Context, claim Claim) error {
	_, err := e.settle(ctx, claim, &step{claim: &claim})
	return err
}

// settle commits even if ctx has ended meanwhile, by a shutdown or the time limit: the work is done, and the row knows whether
// the lease is still ours.
func (e *Engine) settle(ctx context.Context, claim Claim, s *step) (Result, error) {
	err := e.commit(&commitItem{ctx: context.WithoutCancel(ctx), step: s})
	if err == nil && !s.keep {
		claim.ended.Store(true)
	}
	if err != nil {
		return Result{}, fmt.Errorf("settle %s %s: %w", claim.Name, claim.TaskID, err)
	}
	return s.result, nil
}

// SettleTx is Settle in a transaction of the caller, who returns its error.
func (e *Engine) SettleTx(ctx context.Context, tx *database.Tx, claim Claim, event Event) (Result, error) {
	results, err := e.endTx(ctx, tx, &step{event: claim.about(event), claim: &claim})
	if err != nil {
		return Result{}, err
	}
	return results[0], nil
}

// DoneTx is Done in a transaction of the caller, who returns its error.
func (e *Engine) DoneTx(ctx context.Context, tx *database.Tx, claim Claim) error {
	_, err := e.endTx(ctx, tx, &step{claim: &claim})
	return err
}

func (e *Engine) endTx(ctx context.Context, tx *database.Tx, s *step) ([]Result, error) {
	results, err := e.stepsTx(ctx, tx, []*step{s})
	if err != nil {
		return nil, fmt.Errorf("settle %s %s: %w", s.claim.Name, s.claim.TaskID, err)
	}
	tx.AfterCommit(func(context.Context) { s.claim.ended.Store(true) })
	return results, nil
}

func (c Claim) about(event Event) *Event {
	if event.JobID == "" && event.Subject == "" {
		event.JobID = c.Step.JobID
	}
	return &event
}

// Postpone gives the claimed task back; it is due again at the given time. The attempt does not count. ErrLeaseLost.
func (e *Engine) Postpone(ctx context.Context, claim Claim, at time.Time) error {
	return e.giveBack(ctx, claim, `due_at = ?, attempt = attempt - 1`, at)
}

// release gives back what a worker that shuts down could not finish, and wakes another one at once. The wake-up has an id
// of its own, since the one that brought the task here is still active in Redis until the handler has returned.
func (e *Engine) release(ctx context.Context, claim Claim) error {
	if err := e.giveBack(ctx, claim, `due_at = ?, attempt = attempt - 1`, e.cfg.Clock.Now()); err != nil {
		return err
	}
	e.waker.wake(ctx, []wakeUp{{Task: claim.TaskID, Name: claim.Name, Queue: claim.queue, ID: claim.TaskID + ":" + claim.lease}})
	return nil
}

// leave gives up a lease that could not be renewed in time, and may yet be ours: then another worker need not wait for its
// end. ErrLeaseLost if it is not, as it mostly is.
func (e *Engine) leave(ctx context.Context, claim Claim) error {
	return e.giveBack(ctx, claim, `due_at = ?`, e.cfg.Clock.Now())
}

// retry gives back a task whose attempt failed; it is due again after the rest.
func (e *Engine) retry(ctx context.Context, claim Claim, cause error, rest time.Duration) error {
	return e.giveBack(ctx, claim, `due_at = ?, last_error = ?`, e.cfg.Clock.Now().Add(rest), sentence(cause))
}

func (e *Engine) giveBack(ctx context.Context, claim Claim, set string, args ...any) error {
	res := e.write(ctx).Exec(`UPDATE engine_task SET lease_owner = '', lease_until = NULL, `+set+` WHERE id = ? AND lease_owner = ?`,
		append(args, claim.TaskID, claim.lease)...)
	if res.Error != nil {
		return fmt.Errorf("give back %s %s: %w", claim.Name, claim.TaskID, res.Error)
	}
	if res.RowsAffected == 0 {
		return fmt.Errorf("give back %s %s: %w", claim.Name, claim.TaskID, ErrLeaseLost)
	}
	claim.ended.Store(true)
	return nil
}

// bury sets the task aside as dead, and tells its job.
func (e *Engine) bury(ctx context.Context, claim Claim, cause error) error {
	s := &step{claim: &claim, dead: sentence(cause)}
	if claim.job {
		s.event = &Event{JobID: claim.Step.JobID, Name: TaskDead, Actor: "worker", Detail: claim.Name + ": " + sentence(cause)}
	}
	_, err := e.settle(ctx, claim, s)
	return err
}

// renew lengthens the leases of running claims and answers those that are still ours.
func (e *Engine) renew(ctx context.Context, claims []Claim) (map[string]bool, error) {
	type row struct {
		ID    string `json:"id"`
		Lease string `json:"lease"`
	}
	rows := make([]row, len(claims))
	for i, c := range claims {
		rows[i] = row{c.TaskID, c.lease}
	}
	ours := make(map[string]bool, len(claims))
	err := query(e.write(ctx), `UPDATE engine_task SET lease_until = ? FROM `+e.leased()+` AND engine_task.id = r.id AND engine_task.lease_owner = r.lease RETURNING engine_task.lease_owner`,
		"id uuid, lease text", rows, func(scan func(...any) error) error {
			var lease string
			if err := scan(&lease); err != nil {
				return err
			}
			ours[lease] = true
			return nil
		}, before(e.cfg.Clock.Now().Add(e.cfg.Lease)))
	if err != nil {
		return nil, fmt.Errorf("renew %d leases: %w", len(claims), err)
	}
	return ours, nil
}

// leased begins the condition of a statement that only moves leases. PostgreSQL need not wait for the disk to commit it: a
// lease that a crash of the database takes back is one that ran out early, which its holder finds out at its next statement;
// and whatever a handler commits later, not waiting less, is on the disk only together with the lease before it. On a busy
// disk that wait was most of the time between a wake-up and its handler. The setting ends with the statement.
func (e *Engine) leased() string {
	if e.cfg.DB.Dialect() == database.Postgres {
		return `{rows}, (SELECT set_config('synchronous_commit', 'off', true) AS synchronous) AS c WHERE c.synchronous = 'off'`
	}
	return `{rows} WHERE true`
}

// write is a handle for single statements that write, outside of a transaction.
func (e *Engine) write(ctx context.Context) *database.Tx {
	return &database.Tx{DB: e.cfg.DB.Write(ctx)}
}

var urlQuery = regexp.MustCompile(`(https?://[^\s?"']+)\?[^\s"']*`)

// sentence is an error as it may be stored: bounded, and without the queries of URLs, which are questions about patients.
func sentence(err error) string {
	if err == nil {
		return ""
	}
	return bounded(urlQuery.ReplaceAllString(err.Error(), "$1"), 300)
}
