package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"cohortflow/tasks"
)

// State is where a job stands. Kinds name their own; those below are common.
type State string

// Common states.
const (
	Created   State = "new"       // accepted, not yet known to the outside system
	Pending   State = "pending"   // known to the outside system
	Started   State = "started"   // worked on
	Finished  State = "finished"  // ended well
	Failed    State = "failed"    // ended badly
	Cancelled State = "cancelled" // ended because somebody asked
	GaveUp    State = "gave_up"   // we gave up (deadline, unknown launch): failed for clients, but a first success still counts
)

// EventName is what happened to a job. Kinds name their own; those below come from the engine or are common.
type EventName string

// Common events.
const (
	Opened      EventName = "opened"       // the first line of every timeline; never in a table
	Overdue     EventName = "overdue"      // the deadline of the state has passed (watchdog)
	TaskDead    EventName = "task_dead"    // a task of the job failed for the last time (worker)
	CancelAsked EventName = "cancel_asked" // its owner or an operator wants it to end (Engine.Cancel)
	RetryAsked  EventName = "retry_asked"  // its owner or an operator wants another try (Engine.Retry)
	Deleted     EventName = "deleted"      // its subject was deleted
)

// DeadlineName names a configured length of time (contract decision 29).
type DeadlineName string

// The deadlines of the contract.
const (
	DeadlineLaunch      DeadlineName = "DEADLINE_LAUNCH"
	DeadlineCount       DeadlineName = "DEADLINE_COUNT"
	DeadlineCohort      DeadlineName = "DEADLINE_COHORT"
	DeadlineLargeCohort DeadlineName = "DEADLINE_LARGE_COHORT"
	DeadlineFeasibility DeadlineName = "DEADLINE_FEASIBILITY"
	DeadlineExport      DeadlineName = "DEADLINE_EXPORT"
)

// DefaultDeadlines are the lengths of the contract (decision 29).
func DefaultDeadlines() map[DeadlineName]time.Duration {
	return map[DeadlineName]time.Duration{
		DeadlineLaunch: 10 * time.Minute, DeadlineCount: 2 * time.Hour, DeadlineCohort: 24 * time.Hour,
		DeadlineLargeCohort: 30 * time.Hour, DeadlineFeasibility: 6 * time.Hour, DeadlineExport: 24 * time.Hour,
	}
}

// Outcome is what people are told about, once each. Kinds may name further ones.
type Outcome string

// Common outcomes.
const (
	Success Outcome = "success"
	Failure Outcome = "failure"
)

// Owe is a step that a move makes owed.
type Owe struct {
	Task tasks.Spec
	// After is how long the step rests, given its round: how many times in a row this job has done it, 0 at first. The
	// round counts up when a task settles with an event that owes the same task again: a poll. Nil: at once.
	After func(round int) time.Duration
}

// Owes is a step owed at once.
func Owes(specs ...tasks.Spec) []Owe {
	owed := make([]Owe, len(specs))
	for i, s := range specs {
		owed[i] = Owe{Task: s}
	}
	return owed
}

// OwesAfter is a step owed after a rest that depends on its round.
func OwesAfter(spec tasks.Spec, after func(round int) time.Duration) []Owe {
	return []Owe{{Task: spec, After: after}}
}

// Growing is a rest for polls: base at first, half as long again each round, never more than limit.
func Growing(base, limit time.Duration) func(round int) time.Duration {
	return func(round int) time.Duration {
		rest := base
		for range round {
			if rest >= limit {
				break
			}
			rest += rest / 2
		}
		return min(rest, limit)
	}
}

// Move is what one event does to a job.
type Move struct {
	// To is the next state; the same state keeps its deadline, unless Restart.
	To State
	// Owed are the steps that follow. A step that the job already owes and nobody holds is replaced.
	Owed []Owe
	// Tell is the outcome that people are told, "" for nobody. Each outcome is told at most once per job.
	Tell Outcome
	// Reason is stored when the event brings none: a sentence for people. An event without one clears it on leaving a state.
	Reason string
	// KeepSecret keeps the job's secret although the move ends it.
	KeepSecret bool
	// Restart gives the deadline of the state anew although the state does not change.
	Restart bool
}

// On lists the events that a state allows.
type On map[EventName]Move

// Rule is what holds in one state. A state with a Deadline is a job under way, and its On has a move for Overdue. One
// without is ended; if it has an On, something may still revive it.
type Rule struct {
	Deadline DeadlineName
	// EnquireAfter has the outside system asked when the job has been silent for Config.EnquireAfter.
	EnquireAfter bool
	On           On
}

// Ended tells whether a job in such a state has ended: nothing watches it any more.
func (r Rule) Ended() bool { return r.Deadline == "" }

// Table is the life of a kind of job. An event that the current state does not list came late, twice or out of order: it is
// written in the timeline and changes nothing.
type Table map[State]Rule

// Next is the move that an event makes in a state, if it makes one.
func (t Table) Next(from State, event EventName) (Move, bool) {
	m, ok := t[from].On[event]
	return m, ok
}

// Events are all events that the table mentions, sorted.
func (t Table) Events() []EventName {
	var all []EventName
	for _, r := range t {
		for e := range r.On {
			all = append(all, e)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Check reports everything that would let a job wait for ever or that cannot be meant: an unknown state, one that cannot be
// reached from the initial one, a deadline without a move for Overdue or the reverse, an enquiry in an ended state, a
// state from which no end can be reached, a move that tells an outcome without ending or owes a task without a name.
func (t Table) Check(initial State) error {
	var errs []error
	fault := func(s State, format string, args ...any) {
		errs = append(errs, fmt.Errorf("state %s: "+format, append([]any{s}, args...)...))
	}
	if _, known := t[initial]; !known {
		fault(initial, "the initial state is not in the table")
	}
	for _, s := range t.states() {
		rule := t[s]
		_, overdue := rule.On[Overdue]
		switch {
		case rule.Deadline != "" && !overdue:
			fault(s, "has deadline %s but no move for %s", rule.Deadline, Overdue)
		case rule.Deadline == "" && overdue:
			fault(s, "has a move for %s but no deadline", Overdue)
		}
		if rule.EnquireAfter && rule.Ended() {
			fault(s, "is ended, nobody enquires about it")
		}
		if m, ok := rule.On[Overdue]; ok && m.To == s && !m.Restart {
			fault(s, "%s leads back to it with the same deadline", Overdue)
		}
		for _, event := range sortedKeys(rule.On) {
			m := rule.On[event]
			if event == Opened {
				fault(s, "%s cannot be in a table", event)
			}
			if _, known := t[m.To]; !known {
				fault(s, "%s leads to %s, which is not in the table", event, m.To)
			}
			for _, o := range m.Owed {
				if o.Task.Name == "" {
					fault(s, "%s owes a task without a name", event)
				}
			}
		}
		if _, known := t[initial]; known && !t.reaches(initial, func(at State) bool { return at == s }) {
			fault(s, "cannot be reached from %s", initial)
		}
		if !rule.Ended() && !t.overdueEnds(s) {
			fault(s, "deadlines alone lead to no end from it: they go round in a circle")
		}
		if !t.reaches(s, func(at State) bool { r, known := t[at]; return known && r.Ended() }) {
			fault(s, "no end can be reached from it")
		}
	}
	return errors.Join(errs...)
}

func (t Table) states() []State { return sortedKeys(t) }

// overdueEnds tells whether deadlines alone bring a job from a state to an end.
func (t Table) overdueEnds(at State) bool {
	for range len(t) + 1 {
		rule, known := t[at]
		if !known || rule.Ended() {
			return true // an unknown state is reported by itself
		}
		move, ok := rule.On[Overdue]
		if !ok {
			return true // so is a missing move
		}
		at = move.To
	}
	return false
}

// reaches tells whether some chain of moves leads from a state to one that is wanted.
func (t Table) reaches(from State, wanted func(State) bool) bool {
	seen, todo := map[State]bool{from: true}, []State{from}
	for len(todo) > 0 {
		at := todo[0]
		todo = todo[1:]
		if wanted(at) {
			return true
		}
		for _, m := range t[at].On {
			if !seen[m.To] {
				seen[m.To] = true
				todo = append(todo, m.To)
			}
		}
	}
	return false
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
