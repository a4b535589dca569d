package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"cohortflow/internal/platform/database"
)

// writes gathers what a round writes, so that each table is written by one statement.
type writes struct {
	engine  *Engine
	now     time.Time
	changes []applied
	opened  []Job
	opening bool
	events  []eventRow
	owners  []*step // of events, by index
	tasks   []taskRow
	waking  []waking // of tasks, by index
	replace []replaceRow
	notices []noticeRow
	telling map[string]*step // by notification id
	secrets []secretRow
	forget  []idRow // jobs whose secret goes
}

// applied is a change and the step that made it.
type applied struct {
	Change
	step *step
}

// waking remembers for whom a task is woken.
type waking struct {
	step *step
	wake wakeUp
}

type jobRow struct {
	ID         string `json:"id"`
	Kind       string `json:"kind"`
	Subject    string `json:"subject"`
	Owner      string `json:"owner"`
	State      State  `json:"state"`
	ExternalID string `json:"external_id"`
	Deadline   *stamp `json:"deadline"`
	HeardAt    stamp  `json:"heard_at"`
	Reason     string `json:"reason"`
	Version    int64  `json:"version"`
	CreatedAt  stamp  `json:"created_at"`
	UpdatedAt  stamp  `json:"updated_at"`
	EndedAt    *stamp `json:"ended_at"`
}

const jobTypes = `id uuid, kind text, subject text, owner text, state text, external_id text, deadline timestamptz, heard_at timestamptz, ` +
	`reason text, version bigint, created_at timestamptz, updated_at timestamptz, ended_at timestamptz`

func rowOf(j Job) jobRow {
	return jobRow{ID: j.ID, Kind: j.Kind, Subject: j.Subject, Owner: j.Owner, State: j.State, ExternalID: j.ExternalID,
		Deadline: stampPtr(j.Deadline), HeardAt: stamp(j.HeardAt), Reason: j.Reason, Version: j.Version,
		CreatedAt: stamp(j.CreatedAt), UpdatedAt: stamp(j.UpdatedAt), EndedAt: stampPtr(j.EndedAt)}
}

type eventRow struct {
	JobID   string    `json:"job_id"`
	Kind    string    `json:"kind"`
	Subject string    `json:"subject"`
	Owner   string    `json:"owner"`
	At      stamp     `json:"at"`
	Actor   string    `json:"actor"`
	Event   EventName `json:"event"`
	From    State     `json:"from_state"`
	To      State     `json:"to_state"`
	Attempt int       `json:"attempt"`
	Applied bool      `json:"applied"`
	Detail  string    `json:"detail"`
}

const eventTypes = `job_id uuid, kind text, subject text, owner text, at timestamptz, actor text, event text, from_state text, ` +
	`to_state text, attempt int, applied boolean, detail text`

type taskRow struct {
	ID        string  `json:"id"`
	Name      string  `json:"name"`
	JobID     *string `json:"job_id"`
	Payload   string  `json:"payload"`
	Queue     string  `json:"queue"`
	DueAt     stamp   `json:"due_at"`
	CreatedAt stamp   `json:"created_at"`
}

const taskTypes = `id uuid, name text, job_id uuid, payload text, queue text, due_at timestamptz, created_at timestamptz`

// replaceRow names the owed tasks of a job that go: those of one name, or all when Name is empty.
type replaceRow struct {
	JobID string `json:"job_id"`
	Name  string `json:"name"`
}

type noticeRow struct {
	ID        string  `json:"id"`
	JobID     string  `json:"job_id"`
	Outcome   Outcome `json:"outcome"`
	Channel   string  `json:"channel"`
	Recipient string  `json:"recipient"`
	CreatedAt stamp   `json:"created_at"`
}

const noticeTypes = `id uuid, job_id uuid, outcome text, channel text, recipient text, created_at timestamptz`

// change notes an applied move. A job that ends drops what it still owes and nobody holds; a secret goes with the end.
func (w *writes) change(s *step, c Change) {
	w.changes = append(w.changes, applied{c, s})
	ended := c.After.EndedAt != nil
	if ended && c.Before.EndedAt == nil {
		w.replace = append(w.replace, replaceRow{JobID: c.After.ID})
	}
	switch {
	case len(c.Event.Secret) > 0 && !ended:
		w.seal(c.After.ID, c.Event.Secret)
	case ended && !c.Move.KeepSecret:
		w.forget = append(w.forget, idRow{c.After.ID})
	}
}

// note adds a line to the timeline.
func (w *writes) note(s *step, job Job, to State, attempt int, applied bool) {
	w.events = append(w.events, eventRow{JobID: job.ID, Kind: job.Kind, Subject: job.Subject, Owner: job.Owner, At: stamp(w.now),
		Actor: bounded(s.event.Actor, 100), Event: s.event.Name, From: job.State, To: to, Attempt: attempt, Applied: applied,
		Detail: bounded(s.event.Detail, 500)})
	w.owners = append(w.owners, s)
}

// owe adds a step of a job.
func (w *writes) owe(s *step, job Job, owe Owe, round int) error {
	payload, err := stepPayload(job, round)
	if err != nil {
		return err
	}
	due := w.now
	if owe.After != nil {
		due = due.Add(owe.After(round))
	}
	if !w.opening { // a job just opened owes nothing yet
		w.replace = append(w.replace, replaceRow{job.ID, owe.Task.Name})
	}
	w.task(s, taskRow{Name: owe.Task.Name, JobID: &job.ID, Payload: payload, Queue: string(owe.Task.WithDefaults().Queue)}, due)
	return nil
}

// task adds an owed task, and its wake-up if it is due.
func (w *writes) task(s *step, row taskRow, due time.Time) string {
	row.ID, row.CreatedAt, row.DueAt = w.engine.cfg.NewID(), stamp(w.now), stamp(due)
	w.tasks = append(w.tasks, row)
	wake := waking{}
	if !due.After(w.now) {
		wake = waking{s.root(), wakeUp{Task: row.ID, Name: row.Name, Queue: row.Queue}}
	}
	w.waking = append(w.waking, wake)
	return row.ID
}

// flush writes everything that was noted: on PostgreSQL in one statement (round trips are what a transition costs), besides
// the rare notifications and secrets; on SQLite, where a round trip costs nothing, part by part.
func (w *writes) flush(ctx context.Context, tx *database.Tx) error {
	if err := w.flushNotices(tx); err != nil { // they owe tasks
		return fmt.Errorf("write notifications: %w", err)
	}
	var together parts
	for _, part := range []func(*parts, database.Dialect) error{w.openedPart, w.jobsPart, w.replacedPart, w.tasksPart, w.forgetPart} {
		if err := part(&together, dialect(tx)); err != nil {
			return err
		}
	}
	if err := w.flushEvents(tx, together); err != nil {
		return fmt.Errorf("write jobs, tasks and timeline: %w", err)
	}
	for _, k := range w.waking {
		if k.step != nil {
			k.step.effects.wake = append(k.step.effects.wake, k.wake)
		}
	}
	if err := w.flushSecrets(tx); err != nil {
		return fmt.Errorf("keep secrets: %w", err)
	}
	return nil
}

// flushEvents writes the timeline, and with it the other parts.
func (w *writes) flushEvents(tx *database.Tx, others parts) error {
	if len(w.events) == 0 {
		return others.exec(tx)
	}
	const columns = `job_id, kind, subject, owner, at, actor, event, from_state, to_state, attempt, applied, detail`
	if err := add(&others, dialect(tx), `INSERT INTO engine_event (`+columns+`) SELECT `+columns+` FROM {rows} RETURNING id`, eventTypes, w.events); err != nil {
		return err
	}
	last := int64(0)
	err := others.query(tx, func(scan func(...any) error) error {
		var id int64
		if err := scan(&id); err != nil {
			return err
		}
		last = max(last, id)
		return nil
	})
	for _, s := range w.owners {
		s.root().effects.event = max(s.root().effects.event, last)
	}
	return err
}

func (w *writes) openedPart(p *parts, d database.Dialect) error {
	rows := make([]jobRow, len(w.opened))
	for i, j := range w.opened {
		rows[i] = rowOf(j)
	}
	return add(p, d, `INSERT INTO engine_job (`+jobColumns+`) SELECT `+jobColumns+` FROM {rows}`, jobTypes, rows)
}

func (w *writes) jobsPart(p *parts, d database.Dialect) error {
	type row struct {
		ID         string `json:"id"`
		State      State  `json:"state"`
		ExternalID string `json:"external_id"`
		Deadline   *stamp `json:"deadline"`
		HeardAt    stamp  `json:"heard_at"`
		Reason     string `json:"reason"`
		Version    int64  `json:"version"`
		EndedAt    *stamp `json:"ended_at"`
	}
	rows := make([]row, len(w.changes))
	for i, c := range w.changes {
		j := c.After
		rows[i] = row{j.ID, j.State, j.ExternalID, stampPtr(j.Deadline), stamp(j.HeardAt), j.Reason, j.Version, stampPtr(j.EndedAt)}
	}
	return add(p, d, `UPDATE engine_job SET state = r.state, external_id = r.external_id, deadline = r.deadline, heard_at = r.heard_at,
		reason = r.reason, version = r.version, updated_at = r.heard_at, ended_at = r.ended_at FROM {rows} WHERE engine_job.id = r.id`,
		`id uuid, state text, external_id text, deadline timestamptz, heard_at timestamptz, reason text, version bigint, ended_at timestamptz`, rows)
}

// replacedPart deletes owed tasks that nobody holds. A task that is running is left to its worker: it is settled soon, and
// its event meets the table like any late one.
func (w *writes) replacedPart(p *parts, d database.Dialect) error {
	return add(p, d, `DELETE FROM engine_task WHERE id IN (SELECT t.id FROM {rows} JOIN engine_task t ON t.job_id = r.job_id
			AND ((r.name = '' AND t.dead_at IS NULL) OR t.name = r.name)
		WHERE t.lease_until IS NULL OR t.lease_until <= ?)`, "job_id uuid, name text", w.replace, w.now)
}

func (w *writes) tasksPart(p *parts, d database.Dialect) error {
	const columns = `id, name, job_id, payload, queue, due_at, created_at`
	return add(p, d, `INSERT INTO engine_task (`+columns+`, attempt, lease_owner, last_error) SELECT `+columns+`, 0, '', '' FROM {rows}`,
		taskTypes, w.tasks)
}

// forgetPart deletes secrets: those of ended jobs, and those that new ones replace.
func (w *writes) forgetPart(p *parts, d database.Dialect) error {
	forget := w.forget
	for _, s := range w.secrets {
		forget = append(forget, idRow{s.JobID})
	}
	return add(p, d, `DELETE FROM engine_secret WHERE job_id IN (SELECT r.id FROM {rows})`, "id uuid", forget)
}

// encodePayload is the payload of a task of no job.
func encodePayload(name string, payload any) (string, error) {
	if payload == nil {
		return "{}", nil
	}
	b, err := json.Marshal(payload)
	if err != nil {
		return "", fmt.Errorf("encode payload of %s: %w", name, err)
	}
	return string(b), nil
}

// bounded cuts a text to n characters, and drops NUL, which no text column can hold: one bad message from outside must not
// fail a batch.
func bounded(text string, n int) string {
	text = strings.ReplaceAll(text, "\x00", "")
	if len(text) <= n {
		return text
	}
	runes := []rune(text)
	if len(runes) <= n {
		return text
	}
	return string(runes[:n-1]) + "…"
}
