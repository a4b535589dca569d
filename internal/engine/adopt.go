package engine

import (
	"context"
	"fmt"

	"cohortflow/internal/platform/database"
)

// Fate is what became of a job that the old system left without an end (contract decision 27).
type Fate string

// The fates.
const (
	Followed Fate = "followed"  // it is worked on outside: a job of ours looks after it from now on
	Recorded Fate = "recorded"  // it has ended outside: the end was taken as if it had been reported
	Lost     Fate = "failed"    // nobody knows it: failed, and nobody is told
	Unasked  Fate = "not asked" // the outside system did not tell: left alone, to be asked again
	Depends  Fate = "depends"   // it ends with another one, which was left alone or is followed
)

// Fates are all fates, in the order in which they are reported.
func Fates() []Fate { return []Fate{Followed, Recorded, Lost, Depends, Unasked} }

// Tally counts the fates of jobs by the table of their rows.
type Tally map[string]map[Fate]int

// Add counts one more.
func (t Tally) Add(table string, fate Fate) {
	if t[table] == nil {
		t[table] = map[Fate]int{}
	}
	t[table][fate]++
}

// Record opens a job in a state that is an end, and has its kind write that into the columns of its subject, in one
// transaction: for what another system left behind. Nobody is told, and no subscriber is called. data is what Project reads
// from Event.Data. gorm.ErrDuplicatedKey: the subject has a job of this kind already.
func (e *Engine) Record(ctx context.Context, job NewJob, data any) error {
	return e.cfg.DB.Update(ctx, func(tx *database.Tx) error {
		after, err := e.Open(ctx, tx, job)
		if err != nil {
			return err
		}
		if after.EndedAt == nil {
			return fmt.Errorf("record %s %s: state %q is no end", job.Kind, job.Subject, after.State)
		}
		before := after
		before.State, before.EndedAt = "", nil
		project := e.kinds[job.Kind].Project
		if project == nil {
			return nil
		}
		change := Change{Before: before, After: after, Event: Event{JobID: after.ID, Name: Opened, Data: data}}
		if err := project(ctx, tx, []Change{change}); err != nil {
			return fmt.Errorf("project %s %s: %w", job.Kind, job.Subject, err)
		}
		return nil
	})
}
