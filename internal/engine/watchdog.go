package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/lifecycle"
)

// WatchdogConfig is read once, by NewWatchdog. A zero field takes its default.
type WatchdogConfig struct {
	Batch int           // jobs read by one query (100)
	Pause time.Duration // between passes (1 s)
}

// Watchdog acts on the jobs whose deadline has passed (event Overdue) and has the outside system asked about those that have
// been silent for too long. Any number of watchdogs may run: an event that comes twice changes nothing, and an enquiry is
// owed once per period.
type Watchdog struct {
	lifecycle.Base
	engine *Engine
	cfg    WatchdogConfig
}

// NewWatchdog returns a watchdog over the jobs of the engine's kinds.
func NewWatchdog(e *Engine, cfg WatchdogConfig) *Watchdog {
	cfg.Batch, cfg.Pause = cmp.Or(cfg.Batch, 100), cmp.Or(cfg.Pause, time.Second)
	return &Watchdog{Base: lifecycle.Base{Log: e.log, Name: "watchdog"}, engine: e, cfg: cfg}
}

// Start begins the passes.
func (w *Watchdog) Start(ctx context.Context) error {
	return w.Every(ctx, w.cfg.Pause, nil, func(ctx context.Context) error {
		_, _, err := w.Pass(ctx)
		return err
	})
}

// Pass makes one pass and returns how many jobs it ended or moved for their deadline, and about how many it has asked.
func (w *Watchdog) Pass(ctx context.Context) (overdue, asked int, err error) {
	overdue, first := w.overdue(ctx)
	asked, second := w.silent(ctx)
	if err := errors.Join(first, second); err != nil {
		return overdue, asked, fmt.Errorf("watchdog: %w", err)
	}
	return overdue, asked, nil
}

// overdue sends Overdue to every job whose deadline has passed, with the version that was read: a job that moved meanwhile
// has a new deadline.
func (w *Watchdog) overdue(ctx context.Context) (int, error) {
	type found struct {
		id      string
		version int64
		at      time.Time
	}
	moved, now := 0, w.engine.cfg.Clock.Now()
	at, after := time.Time{}, ""
	for {
		var page []found
		sql, args := `SELECT id, version, deadline FROM engine_job WHERE deadline IS NOT NULL AND deadline <= ?`, []any{now}
		if after != "" {
			sql, args = sql+` AND (deadline, id) > (?, ?)`, append(args, at, after)
		}
		err := each(&database.Tx{DB: w.engine.cfg.DB.Read(ctx)}, sql+` ORDER BY deadline, id LIMIT ?`, func(scan func(...any) error) error {
			var f found
			if err := scan(&f.id, &f.version, &f.at); err != nil {
				return err
			}
			page = append(page, f)
			return nil
		}, append(args, w.cfg.Batch)...)
		if err != nil {
			return moved, fmt.Errorf("read overdue jobs: %w", err)
		}
		for _, f := range page {
			result, err := w.engine.Apply(ctx, Event{JobID: f.id, Name: Overdue, Actor: "watchdog", RequireVersion: f.version})
			switch {
			case errors.Is(err, ErrVersion), errors.Is(err, ErrNoJob):
			case err != nil: // one job of which nobody here knows the kind must not hide the others
				w.Log.Error("watchdog: job not ended", "job", f.id, "error", sentence(err))
			case result.Applied:
				moved++
			}
		}
		if len(page) < w.cfg.Batch || ctx.Err() != nil {
			return moved, nil
		}
		last := page[len(page)-1]
		at, after = last.at, last.id
	}
}

// silent owes the enquiry of each job that has been silent for longer than EnquireAfter in a state with EnquireAfter. That
// heard_at is moved in the same transaction makes it once per period, whoever looks. An idle system pays one read.
func (w *Watchdog) silent(ctx context.Context) (int, error) {
	asked := 0
	kinds, err := w.silentKinds(ctx)
	if err != nil {
		return 0, fmt.Errorf("look for silent jobs: %w", err)
	}
	for _, name := range kinds {
		kind := w.engine.kinds[name]
		for {
			n, err := w.enquire(ctx, kind, kind.enquiring())
			if err != nil {
				return asked, fmt.Errorf("enquire about %s jobs: %w", kind.Name, err)
			}
			asked += n
			if n < w.cfg.Batch || ctx.Err() != nil {
				break
			}
		}
	}
	return asked, nil
}

// enquiring are the states of the kind in which silence is asked about.
func (k *Kind) enquiring() (states []State) {
	for state, rule := range k.Table {
		if rule.EnquireAfter {
			states = append(states, state)
		}
	}
	return states
}

// silentKinds names the kinds of which at least one job has been silent for too long.
func (w *Watchdog) silentKinds(ctx context.Context) (names []string, err error) {
	e := w.engine
	var queries []string
	var args []any
	for _, kind := range e.kinds {
		if states := kind.enquiring(); len(states) > 0 {
			queries = append(queries, `SELECT kind FROM (SELECT kind FROM engine_job WHERE kind = ? AND state IN ? AND heard_at <= ? LIMIT 1) j`)
			args = append(args, kind.Name, states, e.cfg.Clock.Now().Add(-e.cfg.EnquireAfter))
		}
	}
	if len(queries) == 0 {
		return nil, nil
	}
	err = each(&database.Tx{DB: e.cfg.DB.Read(ctx)}, strings.Join(queries, " UNION ALL "), func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		names = append(names, name)
		return err
	}, args...)
	return names, err
}

func (w *Watchdog) enquire(ctx context.Context, kind *Kind, states []State) (asked int, err error) {
	e := w.engine
	err = e.cfg.DB.Update(ctx, func(tx *database.Tx) error {
		now := e.cfg.Clock.Now()
		sql := `SELECT ` + jobColumns + ` FROM engine_job WHERE kind = ? AND state IN ? AND heard_at <= ? ORDER BY heard_at, id LIMIT ?`
		if dialect(tx) == database.Postgres {
			sql += ` FOR UPDATE SKIP LOCKED`
		}
		var jobs []Job
		if err := each(tx, sql, func(scan func(...any) error) error {
			var j Job
			if err := scanJob(scan, &j); err != nil {
				return err
			}
			jobs = append(jobs, j)
			return nil
		}, kind.Name, states, now.Add(-e.cfg.EnquireAfter), w.cfg.Batch); err != nil {
			return err
		}
		if len(jobs) == 0 {
			return nil
		}
		s, out := &step{}, &writes{now: now, engine: e}
		ids := make([]string, len(jobs))
		for i, j := range jobs {
			ids[i] = j.ID
			if err := out.owe(s, j, Owe{Task: kind.Enquire}, 0); err != nil {
				return err
			}
		}
		if err := tx.Exec(`UPDATE engine_job SET heard_at = ? WHERE id IN ?`, now, ids).Error; err != nil {
			return err
		}
		if err := out.flush(ctx, tx); err != nil {
			return err
		}
		asked = len(jobs)
		e.afterCommit(tx, []*step{s})
		return nil
	})
	return asked, err
}
