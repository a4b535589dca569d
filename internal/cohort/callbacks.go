package cohort

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"gorm.io/gorm"

	"cohortflow/internal/engine"
	"cohortflow/internal/identity"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/queryexec"
)

// report applies what was reported to the job of a row. A row that the old system left has none yet: it gets one, in the
// state that the row shows, and from then on the report is like any other.
func (s *Service) report(ctx context.Context, event engine.Event, adopted engine.NewJob) (engine.Result, error) {
	event.Kind, event.Subject = adopted.Kind, adopted.Subject
	result, err := s.engine.Apply(ctx, event)
	if !errors.Is(err, engine.ErrNoJob) {
		return result, err
	}
	adopted.Actor, adopted.Detail = "adoption", "found without a job"
	if _, err := s.engine.OpenWith(ctx, adopted, nil); err != nil && !errors.Is(err, gorm.ErrDuplicatedKey) {
		return result, fmt.Errorf("adopt %s %s: %w", adopted.Kind, adopted.Subject, err)
	}
	return s.engine.Apply(ctx, event)
}

// adoptedJob is the job of a row of the old system: in the state that its status means, known outside by its job id.
func adoptedJob(kind string, id uuid.UUID, owner string, w Work, initial engine.State) engine.NewJob {
	state := map[string]engine.State{
		statusStarted: engine.Started, statusFinished: engine.Finished, statusFailed: engine.Failed,
		statusCancelled: engine.Cancelled, statusUnknown: stateUnknown,
	}[w.JobStatus]
	switch {
	case state == "" && w.JobStatus == statusLongPending && kind == KindCreate:
		state = stateLarge
	case state == "":
		state = initial
	}
	return engine.NewJob{Kind: kind, Subject: id.String(), Owner: owner, State: state, Reason: w.JobFailMsg, ExternalID: w.JobID}
}

// machine names a reporter in timelines.
func machine(caller identity.Caller) string {
	if caller.Applicative == identity.SolrETL {
		return "solr-etl"
	}
	return actor
}

// reportMeasure takes what a machine reports about a count (cohort.md 8.4, 19.2).
func (a *api) reportMeasure(c *gin.Context) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	ctx, caller := c.Request.Context(), identity.CallerOf(c)
	m, err := a.measure(ctx, caller, id)
	if err != nil {
		return err
	}
	if !reports(caller) { // owners could forge results
		return fault.Forbidden{}
	}
	body, err := web.Body(c)
	if err != nil {
		return err
	}
	payload, err := queryexec.PayloadOf(body)
	if err != nil {
		return err
	}
	if err := a.reportCount(ctx, machine(caller), m, payload); err != nil {
		return err
	}
	if m, err = a.measure(ctx, caller, id); err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, a.measureView(m))
	return nil
}

// reportCount applies a report to a count. An error after which the job goes on, or has failed, is the answer's.
func (s *Service) reportCount(ctx context.Context, reporter string, m Measure, payload queryexec.Payload) error {
	job := adoptedJob(KindCount, m.UUID, m.OwnerID, m.Work, engine.Created)
	report, err := payload.Count(m.global())
	if err != nil {
		return s.refuseReport(ctx, reporter, job, err)
	}
	event := engine.Event{Name: countEvents[report.Status], Actor: reporter, Detail: string(report.Status)}
	switch report.Status {
	case queryexec.StatusFinished:
		event.Data = report
	case queryexec.StatusFailed:
		event.Reason = report.Message
	case queryexec.StatusPending:
		event.Data = queued{}
	}
	if _, err := s.report(ctx, event, job); err != nil {
		return fmt.Errorf("report count %s: %w", m.UUID, err)
	}
	return nil
}

// countEvents are what the words of reports mean to a count: one that is said to wait or run is known outside.
var countEvents = map[queryexec.Status]engine.EventName{
	queryexec.StatusFinished: evDone, queryexec.StatusFailed: evBroken, queryexec.StatusCancelled: evKilled,
	queryexec.StatusUnknown: evLost, queryexec.StatusStarted: evAccepted, queryexec.StatusPending: evAccepted,
	queryexec.StatusLongPending: evAccepted,
}

// refuseReport notes a report that cannot be used. One without a known status fails the job (cohort.md 8.4); after any other
// the job goes on, and a correct report is still taken (decision 21).
func (s *Service) refuseReport(ctx context.Context, reporter string, job engine.NewJob, cause error) error {
	event := engine.Event{Name: evRejected, Actor: reporter, Detail: "unusable"}
	var nonsense *queryexec.InvalidStatus
	if errors.As(cause, &nonsense) {
		event.Name, event.Reason = evNonsense, nonsense.Text
	}
	if _, err := s.report(ctx, event, job); err != nil {
		return fmt.Errorf("note an unusable report of %s %s: %w", job.Kind, job.Subject, err)
	}
	return cause
}

// reportCohort applies a report to a cohort (cohort.md 9.4, 19.3).
func (s *Service) reportCohort(ctx context.Context, caller identity.Caller, row Cohort, payload queryexec.Payload) error {
	job := adoptedJob(KindCreate, row.UUID, row.OwnerID, row.Work, engine.Pending)
	report, err := payload.Cohort()
	if err != nil {
		return s.refuseReport(ctx, machine(caller), job, err)
	}
	event := engine.Event{Name: cohortEvent(caller, row, report), Actor: machine(caller), Detail: string(report.Status),
		Reason: report.Message}
	switch {
	case event.Name == evTooEarly: // QueryExecutor's report is late, and will bring the list
	case report.Status == queryexec.StatusFinished && report.GroupID == "" && row.GroupID == "":
		event.Name, event.Reason = evBroken, queryexec.NoGroup // nobody could open it
	case report.Status == queryexec.StatusFinished, report.Status == queryexec.StatusLongPending:
		event.Data = cohortReport{report, row.IsSubset}
	case report.Status == queryexec.StatusPending:
		event.Data = queued{}
	}
	if _, err := s.report(ctx, event, job); err != nil {
		return fmt.Errorf("report cohort %s: %w", row.UUID, err)
	}
	return nil
}

// cohortEvent is what a word means to a cohort; finished means more from the indexer, who ends large ones.
func cohortEvent(caller identity.Caller, row Cohort, report queryexec.CohortReport) engine.EventName {
	switch report.Status {
	case queryexec.StatusFinished:
		switch {
		case caller.Applicative != identity.SolrETL:
			return evDone
		case report.GroupID == "" && row.GroupID == "":
			return evTooEarly
		}
		return evIndexed
	case queryexec.StatusLongPending:
		return evLong
	case queryexec.StatusFailed:
		return evBroken
	case queryexec.StatusCancelled:
		return evKilled
	case queryexec.StatusUnknown:
		return evLost
	}
	if row.JobStatus == statusLongPending {
		return evTakenLarge
	}
	return evAccepted
}
