package engine

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"cohortflow/internal/platform/database"
	"cohortflow/tasks"
)

// Open opens a job in the caller's transaction, with the row that it is about. Neither Project nor subscribers are called:
// the caller writes the first values of its own columns. Its owed tasks are woken after the commit. gorm.ErrDuplicatedKey:
// the subject has a job of this kind already.
func (e *Engine) Open(ctx context.Context, tx *database.Tx, job NewJob) (Job, error) {
	jobs, err := e.OpenAll(ctx, tx, []NewJob{job})
	if err != nil {
		return Job{}, err
	}
	return jobs[0], nil
}

// OpenAll is Open for many jobs, with a constant number of statements.
func (e *Engine) OpenAll(ctx context.Context, tx *database.Tx, jobs []NewJob) ([]Job, error) {
	steps := make([]*step, len(jobs))
	for i := range jobs {
		steps[i] = &step{event: &Event{}}
	}
	opened, err := e.open(ctx, tx, jobs, steps)
	if err != nil {
		return nil, err
	}
	e.afterCommit(tx, steps)
	return opened, nil
}

// OpenWith opens a job and runs with (the insertion of its row), which may be nil, in one transaction that concurrent
// callers share. with may run a second time, in another transaction, when the first is rolled back for a reason of others.
func (e *Engine) OpenWith(ctx context.Context, job NewJob, with func(ctx context.Context, tx *database.Tx) error) (Job, error) {
	job.ID = cmp.Or(job.ID, e.cfg.NewID())
	item := &commitItem{ctx: ctx, opening: &job, with: with, step: &step{event: &Event{}}}
	if err := e.commit(item); err != nil {
		return Job{}, err
	}
	return item.job, nil
}

// open writes new jobs, their first line in the timeline, their first tasks and secrets.
func (e *Engine) open(ctx context.Context, tx *database.Tx, jobs []NewJob, steps []*step) ([]Job, error) {
	tx = &database.Tx{DB: tx.WithContext(ctx)}
	w := &writes{now: e.cfg.Clock.Now(), engine: e, opening: true}
	opened := make([]Job, len(jobs))
	for i, n := range jobs {
		kind, ok := e.kinds[n.Kind]
		if !ok {
			return nil, fmt.Errorf("open a job: kind %q is not registered", n.Kind)
		}
		state := cmp.Or(n.State, kind.Initial)
		rule, ok := kind.Table[state]
		if !ok {
			return nil, fmt.Errorf("open a job of kind %s: state %q is not in its table", n.Kind, state)
		}
		job := Job{ID: cmp.Or(n.ID, e.cfg.NewID()), Kind: n.Kind, Subject: n.Subject, Owner: n.Owner, State: state,
			ExternalID: bounded(n.ExternalID, 200), Deadline: e.deadline(rule, w.now), HeardAt: w.now, Reason: bounded(n.Reason, 2000), Version: 1,
			CreatedAt: w.now, UpdatedAt: w.now}
		if rule.Ended() {
			job.EndedAt = &w.now
		}
		steps[i].event = &Event{Name: Opened, Actor: cmp.Or(n.Actor, n.Owner), Detail: n.Detail}
		opened[i] = job
		w.opened = append(w.opened, job)
		w.note(steps[i], Job{ID: job.ID, Kind: job.Kind, Subject: job.Subject, Owner: job.Owner}, state, 0, true)
		for _, owe := range n.Owed {
			if err := w.owe(steps[i], job, owe, 0); err != nil {
				return nil, err
			}
		}
		if len(n.Secret) > 0 {
			w.seal(job.ID, n.Secret)
		}
	}
	if err := w.flush(ctx, tx); err != nil {
		return nil, fmt.Errorf("open %d jobs: %w", len(jobs), err)
	}
	return opened, nil
}

// Task is an owed task that belongs to no job.
type Task struct {
	Spec    tasks.Spec
	Payload any // encoded as JSON: ids only
	// Due is when it is to run; in the past or zero: at once.
	Due time.Time
}

// Owe makes tasks owed in the caller's transaction, and returns their ids. Those that are due are woken after the commit.
func (e *Engine) Owe(ctx context.Context, tx *database.Tx, owed ...Task) ([]string, error) {
	s := &step{}
	ids, err := e.owe(ctx, tx, s, owed)
	if err != nil {
		return nil, err
	}
	e.afterCommit(tx, []*step{s})
	return ids, nil
}

func (e *Engine) owe(ctx context.Context, tx *database.Tx, s *step, owed []Task) ([]string, error) {
	w := &writes{now: e.cfg.Clock.Now(), engine: e}
	ids := make([]string, len(owed))
	for i, t := range owed {
		payload, err := encodePayload(t.Spec.Name, t.Payload)
		if err != nil {
			return nil, err
		}
		due := t.Due
		if due.Before(w.now) {
			due = w.now
		}
		ids[i] = w.task(s, taskRow{Name: t.Spec.Name, Payload: payload, Queue: string(t.Spec.WithDefaults().Queue)}, due)
	}
	if err := w.flush(ctx, &database.Tx{DB: tx.WithContext(ctx)}); err != nil {
		return nil, fmt.Errorf("owe %d tasks: %w", len(owed), err)
	}
	return ids, nil
}
