package engine

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
)

// Cancel asks the job to end. fault.Conflict: its state does not allow that. ErrNoJob.
func (e *Engine) Cancel(ctx context.Context, jobID, actor string) (Result, error) {
	return e.request(ctx, Event{JobID: jobID, Name: CancelAsked, Actor: actor}, "cancelled")
}

// Retry asks for another try of an ended job. fault.Conflict: its state does not allow that. ErrNoJob.
func (e *Engine) Retry(ctx context.Context, jobID, actor string) (Result, error) {
	return e.request(ctx, Event{JobID: jobID, Name: RetryAsked, Actor: actor}, "retried")
}

func (e *Engine) request(ctx context.Context, event Event, done string) (Result, error) {
	result, err := e.Apply(ctx, event)
	if err != nil {
		return result, err
	}
	if !result.Applied {
		return result, fault.Conflict{Detail: fmt.Sprintf("A job that is %s cannot be %s.", result.From, done)}
	}
	return result, nil
}

// DeadTask is a task set aside after its last attempt.
type DeadTask struct {
	ID        string
	Name      string
	JobID     string // "" for tasks of no job
	Attempt   int
	LastError string
	DeadAt    time.Time
}

// DeadTasks lists dead tasks, the latest first, with the number of all.
func (e *Engine) DeadTasks(ctx context.Context, limit, offset int) ([]DeadTask, int64, error) {
	q := e.cfg.DB.Read(ctx).Table("engine_task").Where("dead_at IS NOT NULL").Session(&gorm.Session{})
	var total int64
	if err := q.Count(&total).Error; err != nil {
		return nil, 0, fmt.Errorf("count dead tasks: %w", err)
	}
	dead := []DeadTask{}
	err := each(&database.Tx{DB: e.cfg.DB.Read(ctx)}, `SELECT id, name, job_id, attempt, last_error, dead_at FROM engine_task
		WHERE dead_at IS NOT NULL ORDER BY dead_at DESC, id LIMIT ? OFFSET ?`, func(scan func(...any) error) error {
		var d DeadTask
		var job *string
		if err := scan(&d.ID, &d.Name, &job, &d.Attempt, &d.LastError, &d.DeadAt); err != nil {
			return err
		}
		if job != nil {
			d.JobID = *job
		}
		dead = append(dead, d)
		return nil
	}, limit, offset)
	if err != nil {
		return nil, 0, fmt.Errorf("list dead tasks: %w", err)
	}
	return dead, total, nil
}

// Revive makes a dead task due at once, with all its attempts. fault.NotFound: it is not dead. The relay wakes it.
func (e *Engine) Revive(ctx context.Context, taskID string) error {
	res := e.cfg.DB.Write(ctx).Exec(`UPDATE engine_task SET dead_at = NULL, attempt = 0, due_at = ? WHERE id = ? AND dead_at IS NOT NULL`,
		e.cfg.Clock.Now(), taskID)
	if res.Error != nil {
		return fmt.Errorf("revive task %s: %w", taskID, res.Error)
	}
	if res.RowsAffected == 0 {
		return fault.NotFound{Model: "DeadTask"}
	}
	return nil
}

// Stats are the figures of the metrics.
type Stats struct {
	Jobs      map[string]map[State]int64 // by kind and state
	Owed      map[string]int64           // by task name: waiting or running, not dead
	Due       int64                      // due and held by nobody
	OldestDue *time.Time                 // of those, when it became due
	Held      int64                      // under a lease
	Dead      int64
}

// Stats counts jobs and tasks, in three queries.
func (e *Engine) Stats(ctx context.Context) (Stats, error) {
	s := Stats{Jobs: map[string]map[State]int64{}, Owed: map[string]int64{}}
	now := e.cfg.Clock.Now()
	err := e.cfg.DB.View(ctx, func(tx *database.Tx) error {
		if err := each(tx, `SELECT kind, state, count(*) FROM engine_job GROUP BY kind, state`, func(scan func(...any) error) error {
			var kind string
			var state State
			var n int64
			if err := scan(&kind, &state, &n); err != nil {
				return err
			}
			if s.Jobs[kind] == nil {
				s.Jobs[kind] = map[State]int64{}
			}
			s.Jobs[kind][state] = n
			return nil
		}); err != nil {
			return err
		}
		if err := each(tx, `SELECT name, sum(CASE WHEN dead_at IS NULL THEN 1 ELSE 0 END), sum(CASE WHEN dead_at IS NULL THEN 0 ELSE 1 END),
			sum(CASE WHEN dead_at IS NULL AND due_at <= ? AND (lease_until IS NULL OR lease_until <= ?) THEN 1 ELSE 0 END),
			sum(CASE WHEN dead_at IS NULL AND lease_until > ? THEN 1 ELSE 0 END) FROM engine_task GROUP BY name`, func(scan func(...any) error) error {
			var name string
			var owed, dead, due, held int64
			if err := scan(&name, &owed, &dead, &due, &held); err != nil {
				return err
			}
			s.Owed[name], s.Dead, s.Due, s.Held = owed, s.Dead+dead, s.Due+due, s.Held+held
			return nil
		}, now, now, now); err != nil {
			return err
		}
		return each(tx, `SELECT due_at FROM engine_task WHERE dead_at IS NULL AND due_at <= ? AND (lease_until IS NULL OR lease_until <= ?)
			ORDER BY due_at LIMIT 1`, func(scan func(...any) error) error {
			var at time.Time
			if err := scan(&at); err != nil {
				return err
			}
			at = at.UTC()
			s.OldestDue = &at
			return nil
		}, now, now)
	})
	if err != nil {
		return Stats{}, fmt.Errorf("count jobs and tasks: %w", err)
	}
	return s, nil
}

// Clean deletes dead tasks and ticks older than before, and returns how many rows went. The last tick of
// each schedule stays: it tells what has been missed.
func (e *Engine) Clean(ctx context.Context, before time.Time) (int64, error) {
	gone := int64(0)
	for _, sql := range []string{
		`DELETE FROM engine_task WHERE dead_at < ?`,
		`DELETE FROM engine_tick WHERE at < ? AND at < (SELECT max(t.at) FROM engine_tick t WHERE t.name = engine_tick.name)`,
	} {
		res := e.cfg.DB.Write(ctx).Exec(sql, before)
		if res.Error != nil {
			return gone, fmt.Errorf("clean the engine's tables: %w", res.Error)
		}
		gone += res.RowsAffected
	}
	return gone, nil
}
