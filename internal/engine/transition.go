package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"cohortflow/internal/platform/database"
	"cohortflow/tasks"
)

// maxRounds bounds how often subscribers may answer a change with further events in one transaction.
const maxRounds = 16

// step is one item of a batch: an event, the end of a claim, or both.
type step struct {
	event   *Event // nil: only the claim ends
	claim   *Claim // nil: nobody's claim
	keep    bool   // the claim is only checked, not ended
	dead    string // the claim's task is set aside as dead, with this error
	result  Result
	err     error // fails this step alone: ErrNoJob, ErrVersion, ErrLeaseLost
	effects effects
	origin  *step // the step whose change made a subscriber add this one
}

// root is the step of the caller who will do what follows the commit.
func (s *step) root() *step {
	for s.origin != nil {
		s = s.origin
	}
	return s
}

// transition is the one function that changes jobs. It locks the jobs of all steps in the order of their ids, then ends the
// claims, looks each event up in its kind's table, and writes jobs, projections, events, owed tasks and notifications: a
// constant number of statements however many steps there are. Steps about the same job, and the events of subscribers, take
// another round in the same transaction. What one step did wrong is in its err; an error returned undoes them all.
func (e *Engine) transition(ctx context.Context, tx *database.Tx, steps []*step) error {
	tx = &database.Tx{DB: tx.WithContext(ctx)}
	claimed := false
	for round := 0; len(steps) > 0; round++ {
		if round == maxRounds {
			return fmt.Errorf("the subscribers' events do not come to an end within %d rounds", maxRounds)
		}
		if err := e.resolve(tx, steps); err != nil {
			return err
		}
		jobs, err := e.lockJobs(tx, steps)
		if err != nil {
			return err
		}
		if !claimed { // after the jobs, as everywhere: one order of locks
			if err := e.endClaims(tx, steps); err != nil {
				return err
			}
			claimed = true
		}
		now, later := thisRound(steps)
		more, err := e.applyRound(ctx, tx, jobs, now)
		if err != nil {
			return err
		}
		steps = append(later, more...)
	}
	return nil
}

// thisRound takes the first step of each job; the others wait for the next round, where they find what it did.
func thisRound(steps []*step) (now, later []*step) {
	seen := make(map[string]bool, len(steps))
	for _, s := range steps {
		switch {
		case s.err != nil || s.event == nil:
		case seen[s.event.JobID]:
			later = append(later, s)
		default:
			seen[s.event.JobID] = true
			now = append(now, s)
		}
	}
	return now, later
}

// resolve finds the jobs of events that name them by kind and subject.
func (e *Engine) resolve(tx *database.Tx, steps []*step) error {
	type key struct {
		Kind    string `json:"kind"`
		Subject string `json:"subject"`
	}
	byKey := map[key][]*step{}
	var keys []key
	for _, s := range steps {
		if s.event == nil || s.event.JobID != "" {
			continue
		}
		k := key{s.event.Kind, s.event.Subject}
		if byKey[k] == nil {
			keys = append(keys, k)
		}
		byKey[k] = append(byKey[k], s)
	}
	err := query(tx, `SELECT j.id, j.kind, j.subject FROM {rows} JOIN engine_job j ON j.kind = r.kind AND j.subject = r.subject`,
		"kind text, subject text", keys, func(scan func(...any) error) error {
			var id string
			var k key
			if err := scan(&id, &k.Kind, &k.Subject); err != nil {
				return err
			}
			for _, s := range byKey[k] {
				s.event.JobID = id
			}
			return nil
		})
	if err != nil {
		return fmt.Errorf("find jobs by subject: %w", err)
	}
	for _, waiting := range byKey {
		for _, s := range waiting {
			if s.event.JobID == "" {
				s.err = fmt.Errorf("%s of %s %s: %w", s.event.Name, s.event.Kind, s.event.Subject, ErrNoJob)
			}
		}
	}
	return nil
}

const jobColumns = `id, kind, subject, owner, state, external_id, deadline, heard_at, reason, version, created_at, updated_at, ended_at`

func scanJob(scan func(...any) error, j *Job, more ...any) error {
	return scan(append([]any{&j.ID, &j.Kind, &j.Subject, &j.Owner, &j.State, &j.ExternalID, &j.Deadline, &j.HeardAt, &j.Reason,
		&j.Version, &j.CreatedAt, &j.UpdatedAt, &j.EndedAt}, more...)...)
}

// idRow is a row of a recordset that names one thing.
type idRow struct {
	ID string `json:"id"`
}

func (e *Engine) lockJobs(tx *database.Tx, steps []*step) (map[string]*Job, error) {
	jobs := make(map[string]*Job, len(steps))
	var ids []idRow
	for _, s := range steps {
		if s.err != nil || s.event == nil {
			continue
		}
		if _, twice := jobs[s.event.JobID]; !twice {
			jobs[s.event.JobID] = nil
			ids = append(ids, idRow{s.event.JobID})
		}
	}
	sql := `SELECT ` + jobColumns + ` FROM engine_job WHERE id IN (SELECT r.id FROM {rows}) ORDER BY id`
	if dialect(tx) == database.Postgres {
		sql += ` FOR UPDATE`
	}
	err := query(tx, sql, "id uuid", ids, func(scan func(...any) error) error {
		j := &Job{}
		if err := scanJob(scan, j); err != nil {
			return err
		}
		jobs[j.ID] = j
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("lock %d jobs: %w", len(ids), err)
	}
	return jobs, nil
}

// endClaims deletes the tasks of settled claims and locks those of kept ones; a step whose lease is not its own any more
// fails alone.
func (e *Engine) endClaims(tx *database.Tx, steps []*step) error {
	type row struct {
		ID    string `json:"id"`
		Lease string `json:"lease"`
	}
	byLease := map[string]*step{}
	var ended, kept []row
	for _, s := range steps {
		if s.claim == nil || s.err != nil {
			continue
		}
		s.err = ErrLeaseLost // until the row says otherwise
		byLease[s.claim.lease] = s
		switch {
		case s.keep:
			kept = append(kept, row{s.claim.TaskID, s.claim.lease})
		case s.dead != "":
			if err := e.endDead(tx, s); err != nil {
				return err
			}
		default:
			ended = append(ended, row{s.claim.TaskID, s.claim.lease})
		}
	}
	ours := func(scan func(...any) error) error {
		var lease string
		if err := scan(&lease); err != nil {
			return err
		}
		byLease[lease].err = nil
		return nil
	}
	const columns = "id uuid, lease text"
	deletion := `DELETE FROM engine_task USING {rows} WHERE engine_task.id = r.id AND engine_task.lease_owner = r.lease RETURNING lease_owner`
	locked := `SELECT t.lease_owner FROM engine_task t JOIN {rows} ON t.id = r.id AND t.lease_owner = r.lease FOR UPDATE OF t`
	if dialect(tx) == database.SQLite {
		deletion = `DELETE FROM engine_task WHERE (id, lease_owner) IN (SELECT r.id, r.lease FROM {rows}) RETURNING lease_owner`
		locked = `SELECT t.lease_owner FROM {rows} JOIN engine_task t ON t.id = r.id AND t.lease_owner = r.lease`
	}
	if err := query(tx, deletion, columns, ended, ours); err != nil {
		return fmt.Errorf("end %d claims: %w", len(ended), err)
	}
	if err := query(tx, locked, columns, kept, ours); err != nil {
		return fmt.Errorf("check %d claims: %w", len(kept), err)
	}
	return nil
}

// endDead sets a task aside. It is rare enough to be a statement of its own.
func (e *Engine) endDead(tx *database.Tx, s *step) error {
	res := tx.Exec(`UPDATE engine_task SET dead_at = ?, last_error = ?, lease_owner = '', lease_until = NULL WHERE id = ? AND lease_owner = ?`,
		e.cfg.Clock.Now(), s.dead, s.claim.TaskID, s.claim.lease)
	if res.Error != nil {
		return fmt.Errorf("set task %s aside: %w", s.claim.TaskID, res.Error)
	}
	if res.RowsAffected == 1 {
		s.err = nil
	}
	return nil
}

// applyRound decides and writes at most one event per job. It returns the events that subscribers add.
func (e *Engine) applyRound(ctx context.Context, tx *database.Tx, jobs map[string]*Job, steps []*step) ([]*step, error) {
	w := &writes{now: e.cfg.Clock.Now(), engine: e}
	for _, s := range steps {
		job := jobs[s.event.JobID]
		switch {
		case job == nil:
			s.err = fmt.Errorf("%s of job %s: %w", s.event.Name, s.event.JobID, ErrNoJob)
		case s.event.RequireVersion != 0 && s.event.RequireVersion != job.Version:
			s.err = fmt.Errorf("%s of job %s: %w", s.event.Name, s.event.JobID, ErrVersion)
		default:
			s.err = e.decide(w, *job, s)
		}
	}
	if err := w.flush(ctx, tx); err != nil {
		return nil, err
	}
	if err := e.project(ctx, tx, w.changes); err != nil {
		return nil, err
	}
	return e.ask(ctx, tx, w.changes)
}

// decide looks one event up and notes what is to be written.
func (e *Engine) decide(w *writes, job Job, s *step) error {
	kind, ok := e.kinds[job.Kind]
	if !ok {
		return fmt.Errorf("job %s: kind %q is not registered in this process", job.ID, job.Kind)
	}
	attempt, round := 0, 0
	if s.claim != nil {
		attempt = s.claim.Attempt
	}
	s.result = Result{From: job.State, To: job.State, Job: job}
	move, allowed := kind.Table.Next(job.State, s.event.Name)
	if !allowed {
		w.note(s, job, job.State, attempt, false)
		return nil
	}
	after := e.moved(kind, job, move, *s.event, w.now)
	s.result = Result{Applied: true, From: job.State, To: after.State, Job: after}
	w.change(s, Change{Before: job, After: after, Event: *s.event, Move: move})
	w.note(s, job, after.State, attempt, true)
	for _, owe := range move.Owed {
		round = 0
		if s.claim != nil && s.claim.Name == owe.Task.Name {
			round = s.claim.Step.Round + 1
		}
		if err := w.owe(s, after, owe, round); err != nil {
			return err
		}
	}
	if move.Tell != "" {
		w.tell(s, kind, Change{Before: job, After: after, Event: *s.event, Move: move})
	}
	return nil
}

// moved is the job after a move.
func (e *Engine) moved(kind *Kind, job Job, move Move, event Event, now time.Time) Job {
	rule := kind.Table[move.To]
	after := job
	after.State, after.HeardAt, after.UpdatedAt, after.Version = move.To, now, now, job.Version+1
	if event.ExternalID != "" {
		after.ExternalID = bounded(event.ExternalID, 200)
	}
	switch {
	case event.Reason != "":
		after.Reason = bounded(event.Reason, 2000)
	case move.Reason != "":
		after.Reason = move.Reason
	case move.To != job.State:
		after.Reason = ""
	}
	if move.To != job.State || move.Restart {
		after.Deadline = e.deadline(rule, now)
	}
	switch {
	case !rule.Ended():
		after.EndedAt = nil
	case job.EndedAt == nil:
		after.EndedAt = &now
	}
	return after
}

func (e *Engine) deadline(rule Rule, now time.Time) *time.Time {
	if rule.Ended() {
		return nil
	}
	at := now.Add(e.cfg.Deadlines[rule.Deadline])
	return &at
}

// project hands the changes to their kinds.
func (e *Engine) project(ctx context.Context, tx *database.Tx, changes []applied) error {
	byKind := map[string][]Change{}
	for _, c := range changes {
		byKind[c.After.Kind] = append(byKind[c.After.Kind], c.Change)
	}
	for _, name := range sortedKeys(byKind) {
		if f := e.kinds[name].Project; f != nil {
			if err := f(ctx, tx, byKind[name]); err != nil {
				return fmt.Errorf("project %d changes of kind %s: %w", len(byKind[name]), name, err)
			}
		}
	}
	return nil
}

// ask collects what the subscribers want to happen besides.
func (e *Engine) ask(ctx context.Context, tx *database.Tx, changes []applied) ([]*step, error) {
	var more []*step
	for _, c := range changes {
		e.mu.RLock()
		subscribers := slices.Clone(e.subscribers[c.After.Kind])
		e.mu.RUnlock()
		for _, f := range subscribers {
			events, err := f(ctx, tx, c.Change)
			if err != nil {
				return nil, fmt.Errorf("subscriber of %s, job %s, %s: %w", c.After.Kind, c.After.ID, c.Event.Name, err)
			}
			for _, event := range events {
				more = append(more, &step{event: &event, origin: c.step})
			}
		}
	}
	return more, nil
}

// stepPayload is the payload of a job's task.
func stepPayload(job Job, round int) (string, error) {
	b, err := json.Marshal(tasks.Step{JobID: job.ID, Kind: job.Kind, Subject: job.Subject, Round: round})
	if err != nil {
		return "", fmt.Errorf("encode payload for job %s: %w", job.ID, err)
	}
	return string(b), nil
}
