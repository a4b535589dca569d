package database

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"cohortflow/internal/platform/clock"
)

// versionTable notes the steps taken. It is no step itself: it is made with the first one.
const versionTable = "engine_schema_version"

// migrateLock is the key of the advisory lock that lets one Migrate at a time through. The value only has to be ours.
const migrateLock = 0x636f686f7274

// MigrateOptions say how to migrate.
type MigrateOptions struct {
	// DryRun only tells what would be done.
	DryRun bool
}

// Report tells what Migrate did, or with DryRun would do.
type Report struct {
	// Plan is what was found before. Its Steps are those that were taken.
	Plan
	DryRun bool
	// PausedSchedules are the refresh schedules older than the adoption: they run only when the operator says so (decision 12).
	PausedSchedules int64
	// Unfinished are jobs that the old system left without a result (decision 27), by table and status.
	Unfinished []Unfinished
}

// Unfinished counts the live rows of a table that the old system left in a status, and that no job of ours looks after.
type Unfinished struct {
	Table  string
	Status string
	Count  int64
	// Nameless are those of them to which no outside system has given an id: there is nobody to be asked about them.
	Nameless int64
}

// Migrate brings the database to the schema of this release in one transaction: it creates everything in an Empty one, adds
// our tables to an Upstream one, takes the steps that one of ours lacks, and refuses all others with the differences
// (Plan.Err). It never changes a table or row of the old system. Concurrent calls wait for each other; a second call
// changes nothing. It needs the right to create tables; nothing else here does.
func Migrate(ctx context.Context, db *DB, opts MigrateOptions) (Report, error) {
	report := Report{DryRun: opts.DryRun}
	run := db.Update
	if opts.DryRun {
		run = db.View
	}
	err := run(ctx, func(tx *Tx) error {
		if db.dialect == Postgres && !opts.DryRun {
			if err := tx.Exec("SELECT pg_advisory_xact_lock(?)", migrateLock).Error; err != nil {
				return fmt.Errorf("wait for other migrations: %w", err)
			}
		}
		var err error
		if report.Plan, err = inspect(tx.DB); err != nil {
			return err
		}
		if err := report.Err(); err != nil {
			return err
		}
		if err := report.count(tx.DB); err != nil {
			return err
		}
		if opts.DryRun {
			return nil
		}
		return take(ctx, tx.DB, report.Plan)
	})
	if err != nil {
		return report, fmt.Errorf("migrate database: %w", err)
	}
	return report, nil
}

// take takes the steps of a plan.
func take(ctx context.Context, g *gorm.DB, plan Plan) error {
	if plan.Ready() {
		return nil
	}
	now := clock.System{}.Now() // not a decision: when it was done
	if err := g.Exec(versionTableSQL(DialectOf(g))).Error; err != nil {
		return fmt.Errorf("create table %s: %w", versionTable, err)
	}
	if plan.State == Upstream {
		if err := note(g, steps[0], true, now); err != nil {
			return err
		}
	}
	for _, s := range steps {
		if !slices.Contains(plan.Steps, s.name) {
			continue
		}
		text, err := s.sql(DialectOf(g))
		if err != nil {
			return err
		}
		// Past gorm, which would look for parameters in the text. Without arguments both drivers take many statements.
		if _, err := g.Statement.ConnPool.ExecContext(ctx, text); err != nil {
			return fmt.Errorf("take step %s: %w", s.name, err)
		}
		if s == steps[0] {
			if err := seed(g, now); err != nil {
				return err
			}
		}
		if err := note(g, s, false, now); err != nil {
			return err
		}
	}
	return nil
}

func versionTableSQL(d Dialect) string {
	at := "timestamptz"
	if d == SQLite {
		at = "datetime"
	}
	return "CREATE TABLE IF NOT EXISTS " + versionTable +
		" (version bigint NOT NULL PRIMARY KEY, name text NOT NULL, adopted boolean NOT NULL, applied_at " + at + " NOT NULL)"
}

// note writes down that a step was taken, or for the first one of an adopted database found done.
func note(g *gorm.DB, s step, adopted bool, now time.Time) error {
	if err := g.Exec("INSERT INTO "+versionTable+" (version, name, adopted, applied_at) VALUES (?, ?, ?, ?)",
		s.version, s.name, adopted, now).Error; err != nil {
		return fmt.Errorf("note step %s: %w", s.name, err)
	}
	return nil
}

// jobTables are those whose rows are jobs of the old system (contract: schema.md 3.4).
var jobTables = []string{"cohort_cohortresult", "cohort_datedmeasure", "cohort_feasibilitystudy", "export"}

// count finds what an adoption leaves to the operator. Nothing is left in a database that was never the old system's.
func (r *Report) count(g *gorm.DB) error {
	var before any
	switch r.State {
	case Upstream:
		before = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) // all there are
	case Adopted:
		before = r.AdoptedAt
	default:
		return nil
	}
	if err := g.Raw("SELECT count(*) FROM cohort_requestrefreshschedule WHERE deleted IS NULL AND created_at < ?", before).
		Scan(&r.PausedSchedules).Error; err != nil {
		return fmt.Errorf("count refresh schedules: %w", err)
	}
	for _, table := range jobTables {
		var rows []Unfinished
		left := unfinished(g, table)
		if r.State == Adopted {
			left = Left(g, table, r.AdoptedAt)
		}
		if err := left.Select("? AS \"table\", request_job_status AS status, count(*) AS count, sum(CASE WHEN request_job_id = '' THEN 1 ELSE 0 END) AS nameless", table).
			Group("request_job_status").Order("request_job_status").Scan(&rows).Error; err != nil {
			return fmt.Errorf("count unfinished jobs of %s: %w", table, err)
		}
		r.Unfinished = append(r.Unfinished, rows...)
	}
	return nil
}

func unfinished(g *gorm.DB, table string) *gorm.DB {
	return g.Table(table).Where(table + ".deleted IS NULL AND " + table + ".request_job_status IN ('new', 'pending', 'long_pending', 'started')")
}

// Left are the live rows of a table of jobs (schema.md 3.4) that the old system left without an end: no job of ours looks
// after them. Those that it wrote after the adoption, because it was still running, are among them. A count without a name
// outside may be ours then: that of a sample or a subset, which ends with its cohort.
func Left(g *gorm.DB, table string, adopted time.Time) *gorm.DB {
	left := unfinished(g, table).Where("NOT EXISTS (SELECT 1 FROM engine_job j WHERE j.subject = CAST(" + table + ".uuid AS text))")
	if table == "cohort_datedmeasure" {
		left = left.Where("("+table+".request_job_id <> '' OR "+table+".created_at < ?)", adopted)
	}
	return left
}

// AdoptedAt is when the database was taken over from the old system; false for one that never was its own.
func AdoptedAt(ctx context.Context, db *DB) (time.Time, bool, error) {
	var at []time.Time
	if err := db.Read(ctx).Raw("SELECT applied_at FROM " + versionTable + " WHERE adopted").Scan(&at).Error; err != nil {
		return time.Time{}, false, fmt.Errorf("read the time of adoption: %w", err)
	}
	if len(at) == 0 {
		return time.Time{}, false, nil
	}
	return at[0], true, nil
}

// String is the report for the operator, one fact a line.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "The database is %s.\n", map[State]string{
		Empty: "empty", Created: "one of ours", Adopted: "an adopted one", Upstream: "the old system's, at release 3.29",
		Older: "the old system's, older than release 3.29", Newer: "newer than this release", Foreign: "not one of ours",
	}[r.State])
	for _, d := range append(r.Differences, r.Notes...) {
		fmt.Fprintf(&b, "- %s\n", d)
	}
	if r.Err() != nil {
		b.WriteString("Nothing was changed.\n")
		return b.String()
	}
	done := "Done"
	if r.DryRun {
		done = "Would be done"
	}
	if r.State == Upstream {
		fmt.Fprintf(&b, "%s: adopt its tables as they are.\n", done)
	}
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "%s: create the tables of step %q.\n", done, s)
	}
	if r.Ready() {
		b.WriteString("Nothing is to be done.\n")
	}
	if r.PausedSchedules > 0 {
		fmt.Fprintf(&b, "Refresh schedules older than the adoption, paused until ADOPTED_REFRESH_SCHEDULES=run: %d.\n", r.PausedSchedules)
	}
	for _, u := range r.Unfinished {
		fmt.Fprintf(&b, "Left by the old system in %s as %s (settled by: cohortflow adopt --settle): %d.\n", u.Table, u.Status, u.Count)
	}
	return b.String()
}
