package cohort

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/queryexec"
)

// What is stored with the jobs of the old system that are failed for good.
const (
	reasonNameless = "The job had not been handed to QueryExecutor when the system was replaced."
	reasonUnasked  = "QueryExecutor could not be asked about this job when the system was replaced."
)

// maxDeaf is after how many failed questions in a row the rest is not asked any more: each may take as long as a time-out.
const maxDeaf = 3

// settling is one pass over what the old system left (decision 27).
type settling struct {
	jobs    *Jobs
	adopted time.Time
	giveUp  bool
	deaf    int
	tally   engine.Tally
}

// SettleLeft asks QueryExecutor about the counts, cohorts and studies that the old system left without an end: those that run
// get a job in the right state, those that have ended are recorded, those that it does not know are failed, without telling
// anyone. What it does not answer is left alone, or failed with giveUp. adopted is when the database was taken over. A second
// call finds only what the first has left alone.
func (j *Jobs) SettleLeft(ctx context.Context, adopted time.Time, giveUp bool) (engine.Tally, error) {
	s := &settling{jobs: j, adopted: adopted, giveUp: giveUp, tally: engine.Tally{}}
	// Counts come after cohorts: that of a sample or a subset ends with its cohort.
	for _, part := range []func(context.Context) error{s.cohorts, s.counts, s.studies} {
		if err := part(ctx); err != nil {
			return s.tally, err
		}
	}
	return s.tally, nil
}

// left reads the rows of a table that are to be settled, the oldest first.
func left[T tabler](ctx context.Context, s *settling, columns string) (rows []T, err error) {
	var row T
	table := row.TableName()
	err = database.Left(s.jobs.service.db.Read(ctx), table, s.adopted).Select(columns).Order(table + ".created_at, " + table + ".uuid").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read what was left in %s: %w", table, err)
	}
	return rows, nil
}

func (s *settling) cohorts(ctx context.Context) error {
	rows, err := left[Cohort](ctx, s, "cohort_cohortresult.*")
	if err != nil {
		return err
	}
	for _, row := range rows {
		job := adoptedJob(KindCreate, row.UUID, row.OwnerID, row.Work, engine.Started)
		end := func(state queryexec.JobState) (*engine.Event, error) { return cohortEnd(state), nil }
		forgotten := func(engine.NewJob) (engine.Fate, bool, error) { return "", false, nil }
		if row.JobStatus == statusLongPending && row.GroupID != "" {
			// The list is there, and the indexer, whom nobody can ask, may still report: its deadline decides.
			forgotten = func(job engine.NewJob) (engine.Fate, bool, error) {
				job.State = stateIndexing
				return engine.Followed, true, s.open(ctx, job)
			}
		}
		if err := s.settle(ctx, row.TableName(), job, end, forgotten); err != nil {
			return err
		}
	}
	return nil
}

// leftCount is a count with what decides about it besides its own row.
type leftCount struct {
	Measure
	// Cohort tells that a cohort which has not ended was made of it.
	Cohort bool
}

func (s *settling) counts(ctx context.Context) error {
	rows, err := left[leftCount](ctx, s, `cohort_datedmeasure.*, EXISTS (SELECT 1 FROM cohort_cohortresult c WHERE c.dated_measure_id = cohort_datedmeasure.uuid
		AND c.deleted IS NULL AND c.request_job_status IN ('new', 'pending', 'long_pending', 'started')) AS cohort`)
	if err != nil {
		return err
	}
	for _, row := range rows {
		job := adoptedJob(KindCount, row.UUID, row.OwnerID, row.Work, engine.Started)
		switch {
		case row.Measure.Measure != nil: // it has its number; the status was copied from the large cohort that was made of it
			job.State, job.Reason = engine.Finished, ""
			err = s.record(ctx, row.TableName(), job, engine.Recorded)
		case row.JobID == "" && row.Cohort:
			s.tally.Add(row.TableName(), engine.Depends)
		default:
			err = s.settle(ctx, row.TableName(), job, func(state queryexec.JobState) (*engine.Event, error) { return countEnd(state), nil }, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *settling) studies(ctx context.Context) error {
	rows, err := left[Study](ctx, s, "uuid, owner_id, request_job_id, request_job_status, request_job_fail_msg")
	if err != nil {
		return err
	}
	for _, row := range rows {
		job := adoptedJob(KindStudy, row.UUID, row.OwnerID, row.Work, engine.Started)
		err := s.settle(ctx, row.TableName(), job, func(state queryexec.JobState) (*engine.Event, error) {
			return s.jobs.service.studyEnd(ctx, job.Subject, state)
		}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// settle decides about one row. job is what it is if QueryExecutor has it; end is what an answer means; forgotten, if not nil,
// may save a job that QueryExecutor does not know.
func (s *settling) settle(ctx context.Context, table string, job engine.NewJob, end func(queryexec.JobState) (*engine.Event, error),
	forgotten func(engine.NewJob) (engine.Fate, bool, error)) error {
	job.Reason, job.Actor, job.Detail = "", "adoption", "left by the old system"
	if job.ExternalID == "" {
		return s.lose(ctx, table, job, reasonNameless)
	}
	state, asked := s.ask(ctx, job)
	switch {
	case !asked && s.giveUp:
		return s.lose(ctx, table, job, reasonUnasked)
	case !asked:
		s.tally.Add(table, engine.Unasked)
		return ctx.Err()
	case !state.Known:
		if forgotten != nil {
			if fate, saved, err := forgotten(job); saved {
				s.tally.Add(table, fate)
				return err
			}
		}
		return s.lose(ctx, table, job, reasonGone)
	}
	event, err := end(state)
	if bad, over := badEnd(state); over {
		event = &bad
	}
	if err != nil {
		return err
	}
	if err := s.open(ctx, job); err != nil {
		return err
	}
	if event == nil {
		s.tally.Add(table, engine.Followed)
		return nil
	}
	event.Kind, event.Subject, event.Actor, event.Detail = job.Kind, job.Subject, actor, "asked at adoption"
	result, err := s.jobs.engine.Apply(ctx, *event)
	if err != nil {
		return fmt.Errorf("settle %s %s: %w", job.Kind, job.Subject, err)
	}
	fate := engine.Recorded
	if result.Job.Deadline != nil { // made, and being indexed
		fate = engine.Followed
	}
	s.tally.Add(table, fate)
	return nil
}

// ask asks about one job, unless QueryExecutor has not answered the last ones.
func (s *settling) ask(ctx context.Context, job engine.NewJob) (queryexec.JobState, bool) {
	if s.deaf >= maxDeaf {
		return queryexec.JobState{}, false
	}
	state, err := s.jobs.executor.Status(ctx, job.ExternalID)
	if err != nil {
		s.deaf++
		s.jobs.service.log.WarnContext(ctx, "QueryExecutor did not tell about a job", "kind", job.Kind, "uuid", job.Subject, "error", err)
		return state, false
	}
	s.deaf = 0
	return state, true
}

// open gives a row its job. A report that came meanwhile may have given it one: as good.
func (s *settling) open(ctx context.Context, job engine.NewJob) error {
	if _, err := s.jobs.engine.OpenWith(ctx, job, nil); err != nil && !errors.Is(err, gorm.ErrDuplicatedKey) {
		return fmt.Errorf("adopt %s %s: %w", job.Kind, job.Subject, err)
	}
	return nil
}

// lose fails what nobody knows. We gave up, so a success that is reported after all still counts.
func (s *settling) lose(ctx context.Context, table string, job engine.NewJob, reason string) error {
	job.State, job.Reason = engine.GaveUp, reason
	return s.record(ctx, table, job, engine.Lost)
}

func (s *settling) record(ctx context.Context, table string, job engine.NewJob, fate engine.Fate) error {
	job.Actor, job.Detail = "adoption", "left by the old system"
	err := s.jobs.engine.Record(ctx, job, nil)
	if errors.Is(err, gorm.ErrDuplicatedKey) { // a report came meanwhile
		s.tally.Add(table, engine.Followed)
		return nil
	}
	if err != nil {
		return fmt.Errorf("settle %s %s: %w", job.Kind, job.Subject, err)
	}
	s.tally.Add(table, fate)
	return nil
}
