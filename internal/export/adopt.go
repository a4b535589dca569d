package export

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
	"cohortflow/tasks"
)

// What is stored with the exports of the old system that are failed for good.
const (
	reasonNameless  = terminated + "it had not been handed to the export API when the system was replaced"
	reasonForgotten = terminated + "the export API does not know it any more"
	reasonUnasked   = terminated + "the export API could not be asked about it when the system was replaced"
)

// maxDeaf is after how many failed questions in a row the rest is not asked any more.
const maxDeaf = 3

// settling is one pass over the exports that the old system left (decision 27).
type settling struct {
	*Service
	giveUp bool
	deaf   int
	tally  engine.Tally
}

// SettleLeft asks the export API about the exports that the old system left without an end: see cohort.Jobs.SettleLeft,
// which comes first: an export may wait for subsets.
func (s *Service) SettleLeft(ctx context.Context, adopted time.Time, giveUp bool) (engine.Tally, error) {
	pass := &settling{Service: s, giveUp: giveUp, tally: engine.Tally{}}
	var rows []Export
	err := database.Left(s.cfg.DB.Read(ctx), "export", adopted).Select("export.*").Order("export.created_at, export.uuid").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read what was left in export: %w", err)
	}
	for _, row := range rows {
		job := engine.NewJob{Kind: KindName, Subject: row.UUID.String(), Owner: row.OwnerID, ExternalID: row.JobID, Actor: "adoption", Detail: "left by the old system"}
		fate, err := pass.settle(ctx, row, job)
		switch {
		case errors.Is(err, gorm.ErrDuplicatedKey): // its owner has tried it again meanwhile
			fate = engine.Followed
		case err != nil:
			return pass.tally, fmt.Errorf("settle export %s: %w", row.UUID, err)
		}
		pass.tally.Add("export", fate)
	}
	return pass.tally, nil
}

func (s *settling) settle(ctx context.Context, row Export, job engine.NewJob) (engine.Fate, error) {
	if row.JobID == "" {
		return s.unsent(ctx, row, job)
	}
	word, asked := s.ask(ctx, row)
	known := statuses[word]
	switch {
	case !asked && s.giveUp:
		return s.lose(ctx, job, reasonUnasked)
	case !asked:
		return engine.Unasked, ctx.Err()
	case word == "NotFound":
		return s.lose(ctx, job, reasonForgotten)
	case known.event == eventBroken:
		job.State = engine.Pending
		return s.end(ctx, job, engine.Event{Name: eventBroken, Reason: terminated + ended(row.JobID, known.name).Error()})
	case known.event == eventDone && row.OutputFormat != formatHive:
		job.State = engine.Pending
		return s.end(ctx, job, engine.Event{Name: eventDone})
	}
	// It is worked on; or a transfer is there, and has to be given to its datalab, which is the polls' to do.
	job.State = map[engine.EventName]engine.State{eventReceived: stateReceived, eventRunning: engine.Started}[known.event]
	if job.State == "" {
		job.State = engine.Pending
	}
	job.Owed = engine.Owes(tasks.ExportPoll)
	_, err := s.cfg.Engine.OpenWith(ctx, job, nil)
	return engine.Followed, err
}

// unsent decides about an export of which no export API has told an id. It may have been sent and the answer lost, so it is
// not sent again; unless it certainly still waited for its subsets.
func (s *settling) unsent(ctx context.Context, row Export, job engine.NewJob) (engine.Fate, error) {
	state, err := subsetsOf(s.cfg.DB.Read(ctx), row.UUID)
	switch {
	case err != nil:
		return "", err
	case len(state.failed) > 0:
		return s.lose(ctx, job, reasonSubset)
	case len(state.waiting) == 0:
		return s.lose(ctx, job, reasonNameless)
	}
	left, err := s.orphans(ctx, row.UUID)
	if err != nil || left > 0 {
		return engine.Depends, err
	}
	job.State = stateWaiting
	if _, err := s.cfg.Engine.OpenWith(ctx, job, nil); err != nil {
		return "", err
	}
	return engine.Followed, s.subsetsMayHaveEnded(ctx, row.UUID)
}

// orphans counts the subsets of an export that have neither ended nor a job that would tell of their end.
func (s *settling) orphans(ctx context.Context, id uuid.UUID) (n int64, err error) {
	err = s.cfg.DB.Read(ctx).Table("export_table t").Joins("JOIN cohort_cohortresult c ON c.uuid = t.cohort_result_subset_id").
		Where("t.export_id = ? AND t.deleted IS NULL AND c.request_job_status IN ?", id, []string{statusNew, statusPending, "long_pending", statusStarted}).
		Where("NOT EXISTS (SELECT 1 FROM engine_job j WHERE j.subject = CAST(c.uuid AS text))").Count(&n).Error
	return n, err
}

// subsetsMayHaveEnded tells a job that has just been opened what its subsets told before it was there.
func (s *settling) subsetsMayHaveEnded(ctx context.Context, id uuid.UUID) error {
	state, err := subsetsOf(s.cfg.DB.Read(ctx), id)
	if err != nil || len(state.waiting) > 0 {
		return err
	}
	event := engine.Event{Kind: KindName, Subject: id.String(), Name: eventSubsetsReady, Actor: "adoption"}
	if len(state.failed) > 0 {
		event.Name, event.Reason = eventSubsetFailed, reasonSubset
	}
	_, err = s.cfg.Engine.Apply(ctx, event)
	return err
}

// ask asks for the word of the export API about an export; asked is false when there is none that says something.
func (s *settling) ask(ctx context.Context, row Export) (word string, asked bool) {
	if s.cfg.API == nil || s.deaf >= maxDeaf {
		return "", false
	}
	answer, err := s.cfg.API.Logs(ctx, row.JobID)
	if err != nil {
		s.deaf++
		s.cfg.Log.WarnContext(ctx, "the export API did not tell about an export", "export", row.UUID, "error", err)
		return "", false
	}
	s.deaf = 0
	word = statusWord(answer)
	_, known := statuses[word]
	return word, known && word != "flowerNotAccessible" // its own view of the tasks is out of order
}

// lose fails an export that nobody knows; its owner may try it again.
func (s *settling) lose(ctx context.Context, job engine.NewJob, reason string) (engine.Fate, error) {
	job.State, job.Reason = engine.Failed, reason
	return engine.Lost, s.cfg.Engine.Record(ctx, job, nil)
}

// end opens the job and ends it by what the export API said, as if it had said so to us.
func (s *settling) end(ctx context.Context, job engine.NewJob, event engine.Event) (engine.Fate, error) {
	if _, err := s.cfg.Engine.OpenWith(ctx, job, nil); err != nil {
		return "", err
	}
	event.Kind, event.Subject, event.Actor, event.Detail = KindName, job.Subject, "export-api", "asked at adoption"
	_, err := s.cfg.Engine.Apply(ctx, event)
	return engine.Recorded, err
}
