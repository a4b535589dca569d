package engine

import (
	"errors"
	"time"

	"cohortflow/internal/platform/database"
)

// What callers may meet, besides errors of the database.
var (
	// ErrLeaseLost says that a claim is somebody else's by now, or that its task is gone: nothing was changed.
	ErrLeaseLost = errors.New("the lease is lost")
	// ErrNoJob says that no job has this id, or this kind and subject.
	ErrNoJob = errors.New("no such job")
	// ErrVersion says that the job changed since the version that Event.RequireVersion names: nothing was changed.
	ErrVersion = errors.New("the job has changed meanwhile")
	// ErrNoSecret says that a job has no secret (any more).
	ErrNoSecret = errors.New("the job has no secret")
)

// Job is a row of engine_job.
type Job struct {
	ID      string
	Kind    string
	Subject string // id of the row that the job is about, unique with Kind
	Owner   string // username, "" for jobs of the system
	State   State
	// ExternalID is the name that the outside system gave the job, "" as long as there is none.
	ExternalID string
	// Deadline is nil in ended states.
	Deadline  *time.Time
	HeardAt   time.Time
	Reason    string // why it failed, for people
	Version   int64  // counts the applied events
	CreatedAt time.Time
	UpdatedAt time.Time
	EndedAt   *time.Time
}

// NewJob describes a job to open.
type NewJob struct {
	// ID is made by Config.NewID when empty.
	ID      string
	Kind    string
	Subject string
	Owner   string
	// State is the kind's initial state when empty; a job may be opened ended.
	State  State
	Reason string
	// ExternalID is set for jobs that the outside system already knows.
	ExternalID string
	// Owed are the first steps.
	Owed []Owe
	// Secret is sealed and kept until the job ends; empty: none.
	Secret []byte
	// Actor and Detail go to the timeline. Actor is the owner when empty; Detail holds no personal data.
	Actor  string
	Detail string
}

// Event is something that happened to a job.
type Event struct {
	// JobID names the job; or Kind and Subject do, when it is empty.
	JobID   string
	Kind    string
	Subject string

	Name EventName
	// Actor is who or what caused it: a username, "query-executor", "watchdog". Detail is a line for the timeline. Both
	// without personal data, tokens or query contents.
	Actor  string
	Detail string
	// Reason, if not empty, becomes the job's reason: a sentence for people.
	Reason string
	// ExternalID, if not empty, becomes the job's external id.
	ExternalID string
	// Secret, if not empty, replaces the job's secret (a retry brings its caller's token anew).
	Secret []byte
	// Data travels to Kind.Project and to subscribers, nowhere else.
	Data any
	// RequireVersion, if not 0, refuses the event with ErrVersion unless the job still has this version.
	RequireVersion int64
}

// Change is one applied event: the job before and after it.
type Change struct {
	Before Job
	After  Job
	Event  Event
	Move   Move
}

// Result tells what an event did. Applied is false when the table does not allow the event in the job's state: the timeline
// has it, nothing else changed, From and To are both the current state.
type Result struct {
	Applied bool
	From    State
	To      State
	Job     Job // as it is after the event
}

// effects are what must happen after the commit.
type effects struct {
	wake  []wakeUp
	event int64 // number of the last event written, 0: none
}

func (f *effects) add(g effects) {
	f.wake = append(f.wake, g.wake...)
	f.event = max(f.event, g.event)
}

// dialect is the kind of database behind a transaction.
func dialect(tx *database.Tx) database.Dialect { return database.Dialect(tx.Name()) }
