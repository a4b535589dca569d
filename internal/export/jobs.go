package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/fault"
	"cohortflow/tasks"
)

// Register gives the engine the handlers of this capability's tasks.
func (s *Service) Register() {
	s.cfg.Engine.Handle(tasks.ExportLaunch, s.Launch)
	s.cfg.Engine.Handle(tasks.ExportPoll, s.Poll)
	s.cfg.Engine.Handle(tasks.ExportRun, s.Run)
	s.cfg.Engine.Handle(TaskCleaned, s.TellCleaned)
}

// The beginnings of the reasons (exports.md 18.3).
const (
	terminated = "Export terminated with an error: "
	preparing  = "Error while preparing DB for export: "
	concluding = "Could not conclude export: "
)

// broken ends the export with a reason.
func (s *Service) broken(ctx context.Context, claim engine.Claim, prefix string, cause error) error {
	text := cause.Error()
	var told *failure
	if errors.As(cause, &told) {
		text = told.text
	}
	return s.settle(ctx, claim, engine.Event{Name: eventBroken, Actor: "export", Reason: prefix + text})
}

func (s *Service) settle(ctx context.Context, claim engine.Claim, event engine.Event) error {
	if event.Actor == "" {
		event.Actor = "export"
	}
	_, err := s.cfg.Engine.Settle(ctx, claim, event)
	return err
}

// contentsOf reads what a run needs. An export that is gone, or whose cohorts are not there any more, is an error for people.
func (s *Service) contentsOf(ctx context.Context, subject string) (contents, error) {
	id, err := uuid.Parse(subject)
	if err != nil {
		return contents{}, fmt.Errorf("export %q: %w", subject, err)
	}
	e, err := s.store.Get(ctx, id)
	if err != nil {
		return contents{}, err
	}
	c := contents{Export: e, groups: map[uuid.UUID]string{}}
	var cohortIDs, filterIDs []uuid.UUID
	for _, t := range e.Tables {
		for _, ref := range []*uuid.UUID{t.CohortResultSourceID, t.CohortResultSubsetID} {
			if ref != nil {
				cohortIDs = append(cohortIDs, *ref)
			}
		}
		if t.FhirFilterID != nil {
			filterIDs = append(filterIDs, *t.FhirFilterID)
		}
	}
	found, err := s.store.Cohorts(ctx, cohortIDs)
	if err != nil {
		return c, err
	}
	for id, cohort := range found {
		c.groups[id] = cohort.GroupID
	}
	if c.filters, err = s.store.Filters(ctx, filterIDs); err != nil {
		return c, err
	}
	if e.DatalabID != nil {
		lab, err := s.store.datalab(ctx, *e.DatalabID)
		if err != nil && !errors.Is(err, fault.NotFound{Model: "Datalab"}) {
			return c, err
		}
		c.datalab = lab.Name
	}
	return c, nil
}

// ready reads the export and makes sure that its subsets are there. done is true when the claim has been settled.
func (s *Service) ready(ctx context.Context, claim engine.Claim) (c contents, done bool, err error) {
	c, err = s.contentsOf(ctx, claim.Step.Subject)
	if errors.Is(err, fault.NotFound{Model: "Export"}) {
		return c, true, s.settle(ctx, claim, engine.Event{Name: engine.CancelAsked, Detail: "the export is gone"})
	}
	if err != nil {
		return c, false, err
	}
	state, err := subsetsOf(s.cfg.DB.Read(ctx), c.UUID)
	if err != nil {
		return c, false, err
	}
	if len(state.failed)+len(state.waiting) > 0 {
		return c, true, s.settle(ctx, claim, engine.Event{Name: eventBroken, Reason: reasonSubset})
	}
	return c, false, nil
}

// Launch hands an export to the export API; a transfer has its database made first. It is the handler of export.launch.
func (s *Service) Launch(ctx context.Context, claim engine.Claim) error {
	if s.cfg.API == nil {
		return s.broken(ctx, claim, terminated, errors.New("no export API is configured"))
	}
	if claim.JobState == stateLaunching { // the worker that asked died: whether the API has the job, nobody can tell
		return s.broken(ctx, claim, terminated, errors.New("it is not known whether the export API accepted it"))
	}
	c, done, err := s.ready(ctx, claim)
	if done || err != nil {
		return err
	}
	document, err := c.document(s.cfg.DisableTranslation)
	if err != nil {
		return s.broken(ctx, claim, terminated, err)
	}
	if c.OutputFormat == formatHive && claim.JobState == engine.Created {
		return s.prepare(ctx, claim, c)
	}
	if result, err := s.cfg.Engine.Checkpoint(ctx, claim, engine.Event{Name: eventSending, Actor: "export"}); err != nil || !result.Applied {
		return err
	}
	return s.send(ctx, claim, document)
}

// maxUnsent bounds how often an API that cannot be reached is asked: about ten minutes.
const maxUnsent = 16

func (s *Service) send(ctx context.Context, claim engine.Claim, document []byte) error {
	jobID, err := s.cfg.API.Launch(ctx, document)
	// The answer is kept also when the worker is told to stop right now: nobody else will ever learn it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	var told *failure
	switch {
	case err == nil:
		return s.settle(ctx, claim, engine.Event{Name: eventAccepted, ExternalID: jobID, Data: accepted{jobID}})
	case errors.As(err, &told) && told.notSent && claim.Step.Round < maxUnsent:
		s.cfg.Log.WarnContext(ctx, "export API cannot be reached", "export", claim.Step.Subject, "round", claim.Step.Round)
		return s.settle(ctx, claim, engine.Event{Name: eventUnsent})
	}
	return s.broken(ctx, claim, terminated, err)
}

func location(c contents) string { return c.path() + ".db" }

// prepare has the database of a transfer made.
func (s *Service) prepare(ctx context.Context, claim engine.Claim, c contents) error {
	if s.cfg.Hadoop == nil {
		return s.broken(ctx, claim, preparing, errors.New("no Hadoop API is configured"))
	}
	taskID, err := s.cfg.Hadoop.CreateDatabase(ctx, c.target(), location(c))
	if err != nil {
		if retryable(err) && !claim.Last() {
			return fmt.Errorf("create the database of export %s: %w", c.UUID, err)
		}
		return s.broken(ctx, claim, preparing, err)
	}
	return s.settle(ctx, claim, engine.Event{Name: eventPreparing, ExternalID: taskID})
}

// retryable tells whether a call that may be repeated is worth repeating: there was no answer.
func retryable(err error) bool {
	var told *failure
	return errors.As(err, &told) && (told.notSent || told.unknown)
}

// maxPollErrors is after how many failed questions in a row an export is given up (exports.md 19.3).
const maxPollErrors = 5

// Poll asks once how far a job is; the table owes the next question. It is the handler of export.poll.
func (s *Service) Poll(ctx context.Context, claim engine.Claim) error {
	if claim.JobState == statePreparing {
		return s.pollDatabase(ctx, claim)
	}
	if s.cfg.API == nil {
		return s.broken(ctx, claim, terminated, errors.New("no export API is configured"))
	}
	seen, err := s.cfg.API.Status(ctx, claim.ExternalID)
	switch {
	case err != nil && claim.Attempt < maxPollErrors:
		return fmt.Errorf("poll export %s: status of job %s: %w", claim.Step.Subject, claim.ExternalID, err)
	case err != nil:
		return s.broken(ctx, claim, terminated, ended(claim.ExternalID, projected(claim.JobState)))
	case seen.event == eventBroken:
		return s.broken(ctx, claim, terminated, ended(claim.ExternalID, seen.name))
	case seen.event == eventDone:
		return s.conclude(ctx, claim)
	}
	return s.settle(ctx, claim, engine.Event{Name: seen.event})
}

func ended(jobID, status string) error {
	return &failure{text: fmt.Sprintf("Job `%s` ended with status `%s`", jobID, status)}
}

// conclude gives the database of a transfer to its datalab, and only then tells of success.
func (s *Service) conclude(ctx context.Context, claim engine.Claim) error {
	c, err := s.contentsOf(ctx, claim.Step.Subject)
	if errors.Is(err, fault.NotFound{Model: "Export"}) {
		return s.settle(ctx, claim, engine.Event{Name: engine.CancelAsked, Detail: "the export is gone"})
	}
	if err != nil {
		return err
	}
	if c.OutputFormat == formatHive {
		if settled, err := s.grant(ctx, claim, c, c.datalab, concluding); settled || err != nil {
			return err
		}
	}
	return s.settle(ctx, claim, engine.Event{Name: eventDone})
}

func (s *Service) pollDatabase(ctx context.Context, claim engine.Claim) error {
	if s.cfg.Hadoop == nil {
		return s.broken(ctx, claim, preparing, errors.New("no Hadoop API is configured"))
	}
	seen, err := s.cfg.Hadoop.Status(ctx, claim.ExternalID)
	switch {
	case err != nil && claim.Attempt < maxPollErrors:
		return fmt.Errorf("poll the database of export %s: %w", claim.Step.Subject, err)
	case err != nil:
		return s.broken(ctx, claim, preparing, ended(claim.ExternalID, projected(claim.JobState)))
	case seen.event == eventBroken:
		return s.broken(ctx, claim, preparing, ended(claim.ExternalID, seen.name))
	case seen.event != eventDone:
		return s.settle(ctx, claim, engine.Event{Name: eventRunning})
	}
	c, err := s.contentsOf(ctx, claim.Step.Subject)
	if err != nil {
		return err
	}
	if settled, err := s.grant(ctx, claim, c, s.cfg.HiveUser, preparing); settled || err != nil {
		return err
	}
	return s.settle(ctx, claim, engine.Event{Name: eventPrepared})
}

// grant gives the database to a user. settled is true when that failed for good.
func (s *Service) grant(ctx context.Context, claim engine.Claim, c contents, user, prefix string) (settled bool, err error) {
	err = s.cfg.Hadoop.Grant(ctx, location(c), user)
	switch {
	case err == nil:
		return false, nil
	case retryable(err) && claim.Attempt < maxPollErrors:
		return false, fmt.Errorf("grant the database of export %s: %w", c.UUID, err)
	}
	return true, s.broken(ctx, claim, fmt.Sprintf("%sError granting `%s` rights on DB `%s` - ", prefix, user, c.target()), err)
}

// Run writes the files of an export by ourselves. It may run again after a crash: the file gets its name only when it is
// whole. It is the handler of export.run.
func (s *Service) Run(ctx context.Context, claim engine.Claim) error {
	if s.cfg.Source == nil {
		return s.broken(ctx, claim, terminated, errors.New("no FHIR server is configured"))
	}
	c, done, err := s.ready(ctx, claim)
	if done || err != nil {
		return err
	}
	p, err := s.plan(ctx, c)
	if err != nil {
		var told *refusal
		if errors.As(err, &told) || claim.Last() {
			return s.broken(ctx, claim, terminated, err)
		}
		return err
	}
	if claim.JobState != stateWriting {
		if result, err := s.cfg.Engine.Checkpoint(ctx, claim, engine.Event{Name: eventWriting, Actor: "export"}); err != nil || !result.Applied {
			return err
		}
	}
	rows, err := s.writeFile(ctx, claim, c, p)
	if err != nil {
		if ctx.Err() != nil || !claim.Last() {
			return fmt.Errorf("write export %s: %w", c.UUID, err)
		}
		return s.broken(ctx, claim, terminated, sentenceOf(err))
	}
	s.cfg.Log.InfoContext(ctx, "export written", slog.String("export", c.UUID.String()), slog.Int64("rows", rows))
	return s.settle(ctx, claim, engine.Event{Name: eventDone, Detail: fmt.Sprintf("%d rows", rows)})
}

func (s *Service) writeFile(ctx context.Context, claim engine.Claim, c contents, p plan) (rows int64, err error) {
	file, err := s.cfg.Files.Create(ctx, c.path()+".zip")
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Abort() }() // after Commit it does nothing
	last := time.Now()
	x := builtin{source: s.cfg.Source, heard: func(ctx context.Context) {
		if time.Since(last) < s.cfg.HeardEvery {
			return
		}
		last = time.Now()
		if err := s.cfg.Engine.Heard(ctx, claim.Step.JobID); err != nil {
			s.cfg.Log.WarnContext(ctx, "progress not noted", "export", claim.Step.Subject, "error", err)
		}
	}}
	if rows, err = x.write(ctx, p, file, s.cfg.Clock.Now()); err != nil {
		return rows, err
	}
	return rows, file.Commit()
}
