package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"cohortflow/internal/platform/database"
	"cohortflow/tasks"
)

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
	Attempt int
	DueAt   time.Time

	lease string
	spec  tasks.Spec
	done  *settled // shared by the copies of a claim
}

// Last tells whether this is the last attempt: if it fails, the task is dead.
func (c Claim) Last() bool { return c.Attempt >= c.spec.MaxAttempts }

// Payload decodes a claim's payload.
func Payload[T any](c Claim) (T, error) {
	var p T
	if err := json.Unmarshal(c.Payload, &p); err != nil {
		return p, fmt.Errorf("task %s %s: payload: %w", c.Name, c.TaskID, err)
	}
	return p, nil
}

// Settle applies the event and ends the claimed task, in one transaction. The event's job is the claim's when it names
// none. ErrLeaseLost: the task is no longer ours, nothing changed; return it.
func (e *Engine) Settle(ctx context.Context, claim Claim, event Event) (Result, error) {
	panic("not yet")
}

// Checkpoint applies the event while the lease is held, and goes on holding it: what must be known before an outside call
// that may not be repeated. ErrLeaseLost as with Settle.
func (e *Engine) Checkpoint(ctx context.Context, claim Claim, event Event) (Result, error) {
	panic("not yet")
}

// SettleTx is Settle in a transaction of the caller, who returns its error.
func (e *Engine) SettleTx(ctx context.Context, tx *database.Tx, claim Claim, event Event) (Result, error) {
	panic("not yet")
}

// Done ends the claimed task without an event.
func (e *Engine) Done(ctx context.Context, claim Claim) error { panic("not yet") }

// DoneTx is Done in a transaction of the caller, who returns its error.
func (e *Engine) DoneTx(ctx context.Context, tx *database.Tx, claim Claim) error { panic("not yet") }

// Postpone gives the claimed task back; it is due again at the given time. The attempt does not count as failed.
func (e *Engine) Postpone(ctx context.Context, claim Claim, at time.Time) error { panic("not yet") }
