// Package tasks lists every asynchronous task of the system: its name, queue, time limit, attempts, back-off and the
// typed payload it carries. The engine owes tasks and runs them by these values, capabilities register a handler for
// theirs. It is a leaf: it imports nothing of ours, decides nothing, and its payloads hold identifiers only, never
// personal data, tokens or query contents.
package tasks

import "time"

// Queue is a class of urgency. Workers empty a more urgent queue before they look at the next.
type Queue string

// The queues, most urgent first. Long is served by workers of its own, so that exports that run for hours never hold a
// count back, nor are starved by counts.
const (
	QueueCount   Queue = "count"
	QueueCreate  Queue = "create"
	QueueExport  Queue = "export"
	QueueMail    Queue = "mail"
	QueueDefault Queue = "default"
	QueueLong    Queue = "long"
)

// Queues are the queues served in strict order by the ordinary workers, most urgent first.
func Queues() []Queue {
	return []Queue{QueueCount, QueueCreate, QueueExport, QueueMail, QueueDefault}
}

// Backoff says how long a failed task rests before its next attempt: Base after the first failure, twice as long after
// each further one, never more than Cap; the engine adds jitter. Zero fields take the defaults (1 s, 5 min).
type Backoff struct {
	Base time.Duration
	Cap  time.Duration
}

// Delay is the rest after the given number of attempts (1 is the first), without jitter.
func (b Backoff) Delay(attempts int) time.Duration {
	base, limit := b.Base, b.Cap
	if base <= 0 {
		base = time.Second
	}
	if limit <= 0 {
		limit = 5 * time.Minute
	}
	for range attempts - 1 {
		if base >= limit {
			break
		}
		base *= 2
	}
	return min(base, limit)
}

// Spec describes one task. It is a plain value: two Specs of the same task are equal.
type Spec struct {
	// Name is unique, "<capability>.<verb>"; it is stored in the owed row and shown to operators.
	Name string
	// Queue is where its wake-ups wait (default "default").
	Queue Queue
	// Timeout ends the context of one attempt (default 1 minute).
	Timeout time.Duration
	// MaxAttempts is after how many failed attempts the task is set aside as dead (default 8).
	MaxAttempts int
	// Backoff is the rest between attempts.
	Backoff Backoff
}

// WithDefaults fills the zero fields.
func (s Spec) WithDefaults() Spec {
	if s.Queue == "" {
		s.Queue = QueueDefault
	}
	if s.Timeout <= 0 {
		s.Timeout = time.Minute
	}
	if s.MaxAttempts <= 0 {
		s.MaxAttempts = 8
	}
	return s
}
