package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/answercache"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/schedule"
	"cohortflow/tasks"
)

// periodic is a task without arguments: schedulable by its name (SCHEDULED_TASKS), runnable by an operator, or built in.
type periodic struct {
	// name is the one that existing configurations use (system.md 17.2).
	name string
	spec tasks.Spec
	run  func(ctx context.Context) error
	// every is the cron line of a built-in schedule; empty: only on demand.
	every string
}

// keepTimeline is how long dead tasks and ticks are kept.
const keepTimeline = 30 * 24 * time.Hour

// periodics are all tasks that can be scheduled.
func (a *App) periodics(p *parts) []periodic {
	all := []periodic{
		{name: "admin_cohort.tasks.maintenance_notifier_checker", spec: tasks.Default("maintenance_notifier", time.Minute), every: "* * * * *",
			run: func(ctx context.Context) error { return a.tellMaintenances(ctx, p) }},
		{name: "accesses.tasks.check_expiring_accesses", spec: tasks.Default("check_expiring_accesses", 30*time.Minute),
			run: func(ctx context.Context) error { _, err := p.access.AlertExpiring(ctx); return err }},
		{name: "accesses.tasks.count_users_on_perimeters", spec: tasks.Default("count_users_on_perimeters", 30*time.Minute),
			run: func(ctx context.Context) error { _, err := p.access.CountUsers(ctx); return err }},
		{name: "cohortflow.tasks.clean", spec: tasks.Default("clean", 10*time.Minute), every: "30 3 * * *",
			run: func(ctx context.Context) error {
				now := a.opts.Clock.Now()
				if _, err := p.engine.Clean(ctx, now.Add(-keepTimeline)); err != nil {
					return err
				}
				_, err := p.store.ForgetFailures(ctx, now.Add(-time.Duration(a.cfg.Auth.LoginLockMinutes)*time.Minute))
				return err
			}},
		{name: "exports.tasks.delete_exported_files", spec: tasks.Default("delete_exported_files", 2*time.Hour), run: p.export.DeleteExportedFiles},
		{name: "accesses.tasks.sync_orbis_accesses", spec: tasks.Default("sync_orbis_accesses", 30*time.Minute), run: func(ctx context.Context) error {
			if !a.cfg.Perimeters.OrbisEnabled {
				return nil
			}
			_, err := p.access.SyncOrbis(ctx, "")
			return err
		}},
	}
	if included(a.cfg, "accesses_fhir_perimeters") {
		all = append(all, periodic{name: "accesses_fhir_perimeters.tasks.perimeters_daily_update", spec: tasks.Default("sync_fhir_perimeters", 30*time.Minute),
			run: func(ctx context.Context) error { _, err := p.access.SyncFromFHIR(ctx); return err }})
	}
	if p.careSites != nil {
		all = append(all, periodic{name: "accesses_perimeters.tasks.perimeters_daily_update", spec: tasks.Default("sync_omop_perimeters", 30*time.Minute),
			run: func(ctx context.Context) error { _, err := p.access.SyncFromCareSites(ctx); return err }})
	}
	return all
}

// maintenanceTurn tells of a phase at the very moment at which it begins or ends.
var maintenanceTurn = tasks.Default("maintenance_turn", time.Minute)

// tellMaintenances is the check of every minute; what begins or ends before the next one is told in its time.
func (a *App) tellMaintenances(ctx context.Context, p *parts) error {
	if err := p.maintenance.Notify(ctx); err != nil {
		return err
	}
	moments, err := p.maintenance.Ahead(ctx)
	if err != nil || len(moments) == 0 {
		return err
	}
	owed := make([]engine.Task, len(moments))
	for i, at := range moments {
		owed[i] = engine.Task{Spec: maintenanceTurn, Due: at}
	}
	return a.db.Update(ctx, func(tx *database.Tx) error {
		_, err := p.engine.Owe(ctx, tx, owed...)
		return err
	})
}

// handleTasks registers the handlers of the tasks that belong to no capability alone.
func (a *App) handleTasks(p *parts) error {
	p.engine.Handle(tasks.Notify, a.notify)
	postman{a, p}.handle()
	virtualCohorts{a, p}.handle()
	p.engine.Handle(maintenanceTurn, func(ctx context.Context, claim engine.Claim) error {
		if err := p.maintenance.Notify(ctx); err != nil {
			return err
		}
		return p.engine.Done(ctx, claim)
	})
	for _, task := range a.periodics(p) {
		p.engine.Handle(task.spec, func(ctx context.Context, claim engine.Claim) error {
			err := task.run(ctx)
			a.changed(ctx, answercache.Rights) // what may have been synchronised, also in part; every group depends on it
			if err != nil {
				return fmt.Errorf("%s: %w", task.name, err)
			}
			return p.engine.Done(ctx, claim)
		})
	}
	return nil
}

// entries are the built-in schedules and those of SCHEDULED_TASKS; an entry of a built-in's name replaces it.
func (a *App) entries() ([]schedule.Entry, error) {
	all := a.periodics(a.parts)
	configured, err := schedule.ParseTasks(a.cfg.System.ScheduledTasks, func(name string) (tasks.Spec, bool) {
		i := slices.IndexFunc(all, func(p periodic) bool { return p.name == name })
		if i < 0 {
			return tasks.Spec{}, false
		}
		return all[i].spec, true
	})
	errs := []error{err}
	for _, p := range all {
		if p.every == "" || slices.ContainsFunc(configured, func(e schedule.Entry) bool { return e.Task.Name == p.spec.Name }) {
			continue
		}
		when, err := schedule.ParseCron(p.every)
		errs = append(errs, err)
		configured = append(configured, schedule.Entry{Name: p.name, Task: p.spec, When: when})
	}
	return configured, errors.Join(errs...)
}

// dynamic are the schedules that users make. On an adopted database those made before the adoption stay paused until
// ADOPTED_REFRESH_SCHEDULES=run says otherwise (decision 12).
func (a *App) dynamic() func(ctx context.Context) ([]schedule.Entry, error) {
	return func(ctx context.Context) ([]schedule.Entry, error) {
		var since time.Time
		if a.cfg.Perimeters.AdoptedRefresh != "run" {
			at, adopted, err := database.AdoptedAt(ctx, a.db)
			if err != nil {
				return nil, err
			}
			if adopted {
				since = at
			}
		}
		refreshes, err := a.parts.cohort.Refreshes(ctx, since)
		if err != nil {
			return nil, err
		}
		entries := make([]schedule.Entry, 0, len(refreshes))
		for _, r := range refreshes {
			when, err := schedule.ParseCron(r.Cron)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.Name, err)
			}
			entries = append(entries, schedule.Entry{Name: r.Name, Task: tasks.RefreshRun, Payload: r.Payload, When: when})
		}
		return entries, nil
	}
}

// RunTask runs a periodic task at once, in this process, and returns when it is done: for operators.
func (a *App) RunTask(ctx context.Context, name string) error {
	for _, p := range a.periodics(a.parts) {
		if p.name == name {
			return p.run(ctx)
		}
	}
	return fmt.Errorf("no task is named %q; there are: %v", name, a.TaskNames())
}

// TaskNames are the names that RunTask and SCHEDULED_TASKS know.
func (a *App) TaskNames() []string {
	var names []string
	for _, p := range a.periodics(a.parts) {
		names = append(names, p.name)
	}
	return names
}

// figures are the metrics about jobs and tasks.
func (a *App) figures() {
	stat := func(read func(engine.Stats) map[string]float64) func(context.Context) (map[string]float64, error) {
		return func(ctx context.Context) (map[string]float64, error) {
			s, err := a.parts.engine.Stats(ctx)
			if err != nil {
				return nil, err
			}
			return read(s), nil
		}
	}
	a.metrics.Gauges("cohortflow_jobs", "Jobs by kind and state.", "kind_state", stat(func(s engine.Stats) map[string]float64 {
		values := map[string]float64{}
		for kind, states := range s.Jobs {
			for state, n := range states {
				values[kind+"/"+string(state)] = float64(n)
			}
		}
		return values
	}))
	a.metrics.Gauges("cohortflow_owed_tasks", "Owed tasks: due and held by nobody, held by a worker, dead.", "state", stat(func(s engine.Stats) map[string]float64 {
		return map[string]float64{"due": float64(s.Due), "held": float64(s.Held), "dead": float64(s.Dead)}
	}))
	a.metrics.Gauges("cohortflow_oldest_due_seconds", "For how long the oldest due task has been held by nobody; 0 for none.", "queue", stat(func(s engine.Stats) map[string]float64 {
		age := 0.0
		if s.OldestDue != nil {
			age = max(0, a.opts.Clock.Now().Sub(*s.OldestDue).Seconds())
		}
		return map[string]float64{"all": age}
	}))
	a.metrics.Gauges("cohortflow_owed_tasks_by_name", "Owed tasks that are not dead, by name.", "task", stat(func(s engine.Stats) map[string]float64 {
		values := map[string]float64{}
		for name, n := range s.Owed {
			values[name] = float64(n)
		}
		return values
	}))
	if a.opts.Roles.API {
		a.metrics.Gauges("cohortflow_websockets", "Open websocket connections of this process.", "process", func(context.Context) (map[string]float64, error) {
			if a.hub == nil {
				return nil, nil
			}
			return map[string]float64{"api": float64(a.hub.Sockets())}, nil
		})
	}
}
