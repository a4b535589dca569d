// Package schedule turns the clock into owed tasks: built-in periodic tasks, SCHEDULED_TASKS and users' refresh schedules
// (contract: system.md 17.3, 17.4; decision 13). cmd/scheduler and "up" run it. Several may run at once: a tick is a
// unique row, so each is run once. It runs no task itself.
package schedule

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/robfig/cron/v3"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/lifecycle"
	"cohortflow/tasks"
)

// Ticks is the engine, as seen from here.
type Ticks interface {
	Tick(ctx context.Context, name string, at time.Time, owed ...engine.Task) (first bool, err error)
	LastTick(ctx context.Context, name string) (time.Time, bool, error)
}

// Config is read once, by New.
type Config struct {
	Log   *slog.Logger
	Clock clock.Clock
	Ticks Ticks
	// Entries are the schedules that never change while the process runs.
	Entries []Entry
	// Dynamic reads the schedules that users make; nil for none.
	Dynamic func(ctx context.Context) ([]Entry, error)
	// Pause is the time between two looks at the clock (1 s).
	Pause time.Duration
}

// Scheduler owes the task of each schedule at each of its times.
type Scheduler struct {
	lifecycle.Base
	cfg  Config
	done map[string]time.Time // schedule → up to which moment it is settled
}

// New does no I/O.
func New(cfg Config) *Scheduler {
	if cfg.Pause == 0 {
		cfg.Pause = time.Second
	}
	return &Scheduler{Base: lifecycle.Base{Log: cfg.Log, Name: "scheduler"}, cfg: cfg, done: map[string]time.Time{}}
}

// Start implements lifecycle.Service.
func (s *Scheduler) Start(ctx context.Context) error {
	return s.Every(ctx, s.cfg.Pause, nil, s.pass)
}

// pass looks at every schedule. One that fails does not keep the others from their times.
func (s *Scheduler) pass(ctx context.Context) error {
	entries := s.cfg.Entries
	if s.cfg.Dynamic != nil {
		more, err := s.cfg.Dynamic(ctx)
		if err != nil {
			s.Log.ErrorContext(ctx, "scheduler: users' schedules could not be read", "error", err)
		}
		entries = append(entries[:len(entries):len(entries)], more...)
	}
	now := s.cfg.Clock.Now()
	for _, entry := range entries {
		if err := s.look(ctx, entry, now); err != nil {
			s.Log.ErrorContext(ctx, "scheduler: a schedule could not be run", "name", entry.Name, "error", err)
		}
	}
	return ctx.Err()
}

// look runs the newest time of the schedule that has come and is not settled. Those missed before it (the process was
// down) are not made up one by one: one run stands for all.
func (s *Scheduler) look(ctx context.Context, entry Entry, now time.Time) error {
	since, known := s.done[entry.Name]
	if !known {
		last, ran, err := s.cfg.Ticks.LastTick(ctx, entry.Name)
		if err != nil {
			return err
		}
		since = now // a new schedule begins now
		if ran {
			since = last
		}
	}
	due := latest(entry.When, since, now)
	if due.IsZero() {
		s.done[entry.Name] = since
		return nil
	}
	payload := entry.Payload
	if payload == nil {
		payload = tasks.Tick{Name: entry.Name, At: due}
	}
	first, err := s.cfg.Ticks.Tick(ctx, entry.Name, due, engine.Task{Spec: entry.Task, Payload: payload, Due: now})
	if err != nil {
		return fmt.Errorf("tick of %s: %w", due.Format(time.RFC3339), err)
	}
	s.done[entry.Name] = due
	if first {
		s.Log.InfoContext(ctx, "scheduler: ran a schedule", "name", entry.Name, "at", due)
	}
	return nil
}

// latest is the newest time of a schedule after since that has come, zero for none. A year is as far back as it looks.
func latest(when cron.Schedule, since, now time.Time) (due time.Time) {
	if oldest := now.AddDate(-1, 0, 0); since.Before(oldest) {
		since = oldest
	}
	for next := when.Next(since); !next.IsZero() && !next.After(now); next = when.Next(next) {
		due = next
	}
	return due
}
