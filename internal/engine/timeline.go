package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"cohortflow/internal/platform/database"
)

// Entry is a row of engine_event: one line of a timeline. Applied is false for events that came late, twice or out of
// order.
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

const entryColumns = `id, job_id, kind, subject, owner, at, actor, event, from_state, to_state, attempt, applied, detail`

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
	q := e.cfg.DB.Read(ctx).Table("engine_job")
	if f.Owner != "" {
		q = q.Where("owner = ?", f.Owner)
	}
	if f.Kind != "" {
		q = q.Where("kind = ?", f.Kind)
	}
	if f.Subjects != nil {
		q = q.Where("subject IN ?", f.Subjects)
	}
	if f.States != nil {
		q = q.Where("state IN ?", f.States)
	}
	if f.Running {
		q = q.Where("deadline IS NOT NULL")
	}
	if f.Overdue {
		q = q.Where("deadline <= ?", e.cfg.Clock.Now())
	}
	q = q.Session(&gorm.Session{})
	var total int64
	if err := q.Count(&total).Error; err != nil {
		return nil, 0, fmt.Errorf("count jobs: %w", err)
	}
	jobs := []Job{}
	if err := q.Select(jobColumns).Order("created_at DESC, id").Limit(limit).Offset(offset).Scan(&jobs).Error; err != nil {
		return nil, 0, fmt.Errorf("list jobs: %w", err)
	}
	return jobs, total, nil
}

// Job reads one job. ErrNoJob.
func (e *Engine) Job(ctx context.Context, id string) (Job, error) {
	return e.oneJob(ctx, "id = ?", id)
}

// JobOf reads the job of a subject. ErrNoJob.
func (e *Engine) JobOf(ctx context.Context, kind, subject string) (Job, error) {
	return e.oneJob(ctx, "kind = ? AND subject = ?", kind, subject)
}

func (e *Engine) oneJob(ctx context.Context, where string, args ...any) (Job, error) {
	var j Job
	err := scanJob(e.cfg.DB.Read(ctx).Raw(`SELECT `+jobColumns+` FROM engine_job WHERE `+where, args...).Row().Scan, &j)
	if errors.Is(err, sql.ErrNoRows) {
		return j, fmt.Errorf("read job %v: %w", args, ErrNoJob)
	}
	if err != nil {
		return j, fmt.Errorf("read job %v: %w", args, err)
	}
	return j, nil
}

// Heard notes that the outside system gave a sign of life of the job that changes nothing: it is not asked about again for
// Config.EnquireAfter. The timeline does not mention it.
func (e *Engine) Heard(ctx context.Context, jobID string) error {
	if err := e.cfg.DB.Write(ctx).Exec(`UPDATE engine_job SET heard_at = ? WHERE id = ?`, e.cfg.Clock.Now(), jobID).Error; err != nil {
		return fmt.Errorf("note that job %s was heard of: %w", jobID, err)
	}
	return nil
}

// Events is the timeline of a job, oldest first.
func (e *Engine) Events(ctx context.Context, jobID string) ([]Entry, error) {
	return e.entries(ctx, `WHERE job_id = ? ORDER BY id`, jobID)
}

// EndedSince are the lines since a time by which jobs of the owner reached an ended state, oldest first: what a new
// websocket connection is told. ended states are those of each job's own kind.
func (e *Engine) EndedSince(ctx context.Context, owner string, since time.Time, limit int) ([]Entry, error) {
	all, err := e.entries(ctx, `WHERE owner = ? AND at >= ? AND applied AND from_state <> to_state ORDER BY id DESC LIMIT ?`, owner, since, limit)
	if err != nil {
		return nil, err
	}
	ended := []Entry{}
	for i := len(all) - 1; i >= 0; i-- {
		if k, ok := e.kinds[all[i].Kind]; ok && k.Table[all[i].To].Ended() {
			ended = append(ended, all[i])
		}
	}
	return ended, nil
}

// LastEvent is the highest number committed so far, 0 when there is none.
func (e *Engine) LastEvent(ctx context.Context) (int64, error) {
	var last int64
	if err := e.cfg.DB.Read(ctx).Raw(`SELECT COALESCE(MAX(id), 0) FROM engine_event`).Row().Scan(&last); err != nil {
		return 0, fmt.Errorf("read the last event's number: %w", err)
	}
	return last, nil
}

func (e *Engine) entries(ctx context.Context, where string, args ...any) ([]Entry, error) {
	entries := []Entry{}
	err := each(&database.Tx{DB: e.cfg.DB.Read(ctx)}, `SELECT `+entryColumns+` FROM engine_event `+where, func(scan func(...any) error) error {
		var l Entry
		if err := scan(&l.ID, &l.JobID, &l.Kind, &l.Subject, &l.Owner, &l.At, &l.Actor, &l.Event, &l.From, &l.To, &l.Attempt, &l.Applied, &l.Detail); err != nil {
			return err
		}
		entries = append(entries, l)
		return nil
	}, args...)
	if err != nil {
		return nil, fmt.Errorf("read the timeline: %w", err)
	}
	return entries, nil
}

// prefixed puts a table's alias before each column.
func prefixed(alias, columns string) string {
	return alias + "." + strings.ReplaceAll(columns, ", ", ", "+alias+".")
}
