package cohort

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"cohortflow/internal/engine"
	"cohortflow/internal/fhir"
	"cohortflow/internal/identity"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/queryexec"
	"cohortflow/tasks"
)

// Translator makes a job of a query; *queryexec.Translator does.
type Translator interface {
	Translate(ctx context.Context, q queryexec.Query) (queryexec.Translated, error)
}

// Executor is QueryExecutor; *queryexec.Client does.
type Executor interface {
	Submit(ctx context.Context, job queryexec.Job) (queryexec.Accepted, error)
	Cancel(ctx context.Context, jobID string) (queryexec.Status, error)
	Status(ctx context.Context, jobID string) (queryexec.JobState, error)
}

// secret is what a launch needs of its caller's request: sealed while the job runs, gone when it ends (decision 9).
type secret struct {
	Authorization string `json:"authorization,omitempty"`
	Method        string `json:"method,omitempty"`
	Trace         string `json:"trace,omitempty"`
	// Stage says which criteria are counted one by one (cohort.md 8.2).
	Stage string `json:"stage,omitempty"`
	// Group is the list of patients of which a sample is drawn.
	Group string `json:"group,omitempty"`
	// Job is the translation that a schedule kept: there is no token to make another one.
	Job string `json:"job,omitempty"`
}

func secretOf(caller identity.Caller) secret {
	return secret{Authorization: caller.Authorization, Method: caller.AuthorizationMethod, Trace: caller.TraceID}
}

func (s secret) auth() fhir.Auth {
	return fhir.Auth{Authorization: s.Authorization, Method: s.Method, TraceID: s.Trace}
}

func (s secret) seal() []byte {
	raw, err := json.Marshal(s)
	if err != nil { // strings always marshal
		panic(err)
	}
	return raw
}

// Jobs runs the tasks of this capability: every handler may be called again after a crash at any point.
type Jobs struct {
	service    *Service
	engine     *engine.Engine
	translator Translator
	executor   Executor
}

// NewJobs returns the handlers; Register makes them known to the engine.
func NewJobs(s *Service, translator Translator, executor Executor) *Jobs {
	return &Jobs{service: s, engine: s.engine, translator: translator, executor: executor}
}

// Register makes the handlers known to the engine: call it once, in processes that run workers.
func (j *Jobs) Register() {
	j.engine.Handle(tasks.CountLaunch, j.launchCount)
	j.engine.Handle(tasks.CountCancel, j.cancel)
	j.engine.Handle(tasks.CohortLaunch, j.launchCohort)
	j.engine.Handle(tasks.CohortCancel, j.cancel)
	j.engine.Handle(tasks.StudyLaunch, j.launchStudy)
	j.engine.Handle(tasks.StudyCancel, j.cancel)
	j.engine.Handle(tasks.RefreshRun, j.refresh)
	j.engine.HandleKind(KindStudy, tasks.JobEnquire, j.enquireStudy)
	j.engine.HandleKind(KindCount, tasks.JobEnquire, j.enquireCount)
	j.engine.HandleKind(KindCreate, tasks.JobEnquire, j.enquireCohort)
}

const actor = "query-executor"

// secret opens what the launch needs. ok is false when the job has been failed for the lack of it.
func (j *Jobs) secret(ctx context.Context, claim engine.Claim) (s secret, ok bool, err error) {
	raw, err := j.engine.Secret(ctx, claim.Step.JobID)
	if errors.Is(err, engine.ErrNoSecret) {
		return s, false, j.refuse(ctx, claim, "What the job needs of its request is not there any more; ask for it again.")
	}
	if err != nil {
		return s, false, err
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, false, fmt.Errorf("secret of job %s: %w", claim.Step.JobID, err)
	}
	return s, true, nil
}

// refuse ends a launch that can never succeed.
func (j *Jobs) refuse(ctx context.Context, claim engine.Claim, reason string) error {
	_, err := j.engine.Settle(ctx, claim, engine.Event{Name: evRefused, Actor: "worker", Reason: reason})
	return err
}

// translate makes the job of a query. ok is false when the launch was refused because the query, or the FHIR server, does
// not allow it.
func (j *Jobs) translate(ctx context.Context, claim engine.Claim, q queryexec.Query) (job queryexec.Job, ok bool, err error) {
	translated, err := j.translator.Translate(ctx, q)
	var hopeless *queryexec.QueryError
	switch {
	case errors.As(err, &hopeless) && ctx.Err() == nil:
		return job, false, j.refuse(ctx, claim, hopeless.Text)
	case err != nil:
		return job, false, fmt.Errorf("translate the query of %s %s: %w", claim.Step.Kind, claim.Step.Subject, err)
	}
	return translated.Job, true, nil
}

// launchCount sends a count to QueryExecutor. A count may be sent again: an answer that got lost is a further attempt.
func (j *Jobs) launchCount(ctx context.Context, claim engine.Claim) error {
	if claim.JobState != engine.Created && claim.JobState != engine.Pending {
		return j.engine.Done(ctx, claim) // reported, superseded or deleted meanwhile
	}
	m, text, err := j.service.countToLaunch(ctx, claim.Step.Subject)
	if errors.As(err, &fault.NotFound{}) {
		return j.refuse(ctx, claim, reasonDeleted)
	}
	if err != nil {
		return err
	}
	sec, ok, err := j.secret(ctx, claim)
	if !ok {
		return err
	}
	res, err := j.engine.Checkpoint(ctx, claim, engine.Event{Name: evLaunching, Actor: "worker", Data: launching{claim.TaskID}})
	if err != nil {
		return err
	}
	if !res.Applied {
		return j.engine.Done(ctx, claim)
	}
	q := queryexec.Query{Serialized: text, Mode: queryexec.ModeCount, InstanceID: claim.Step.Subject, Owner: m.OwnerID,
		StageDetails: sec.Stage, Auth: sec.auth()}
	if m.global() {
		q.Mode, q.StageDetails = queryexec.ModeCountAll, ""
	}
	job := queryexec.StoredCount(sec.Job)
	if sec.Job == "" {
		if job, ok, err = j.translate(ctx, claim, q); !ok {
			return err
		}
	}
	return j.submitCount(ctx, claim, job)
}

// submitCount sends what may be sent again.
func (j *Jobs) submitCount(ctx context.Context, claim engine.Claim, job queryexec.Job) error {
	accepted, err := j.executor.Submit(ctx, job)
	if err != nil {
		return j.countNotTaken(ctx, claim, err)
	}
	return j.settleAnswer(ctx, claim, accepted, evAccepted)
}

// countNotTaken decides what follows a count's failed submission.
func (j *Jobs) countNotTaken(ctx context.Context, claim engine.Claim, err error) error {
	var call *queryexec.CallError
	if !errors.As(err, &call) || ctx.Err() != nil {
		return err
	}
	switch {
	case call.Outcome == queryexec.OutcomeRejected:
		return j.refuse(ctx, claim, call.Text)
	case call.Outcome == queryexec.OutcomeUnusable, claim.Last():
		_, err := j.engine.Settle(ctx, claim, engine.Event{Name: evUnusable, Actor: "worker", Reason: call.Text})
		return err
	}
	return err // sent again after a rest
}

// settleAnswer ends a launch by QueryExecutor's answer, which may already tell the end.
func (j *Jobs) settleAnswer(ctx context.Context, claim engine.Claim, accepted queryexec.Accepted, taken engine.EventName) error {
	event := engine.Event{Name: taken, Actor: actor, ExternalID: accepted.JobID}
	switch accepted.Status {
	case queryexec.StatusFailed:
		event.Name, event.Reason = evBroken, "QueryExecutor could not run the job."
	case queryexec.StatusCancelled:
		event.Name = evKilled
	}
	_, err := j.engine.Settle(ctx, claim, event)
	if errors.Is(err, engine.ErrLeaseLost) { // somebody else has the task by now, but the answer is true all the same
		event.JobID = claim.Step.JobID
		_, err = j.engine.Apply(ctx, event)
	}
	return err
}

// launchCohort sends a creation to QueryExecutor, once. The job is marked as sending before the request leaves: whoever finds
// it so (the worker died, the answer got lost) must not send it again, and waits for the report.
func (j *Jobs) launchCohort(ctx context.Context, claim engine.Claim) error {
	if claim.JobState != engine.Pending {
		return j.engine.Done(ctx, claim)
	}
	row, text, err := j.service.cohortToLaunch(ctx, claim.Step.Subject)
	if errors.As(err, &fault.NotFound{}) {
		return j.refuse(ctx, claim, reasonDeleted)
	}
	if err != nil {
		return err
	}
	sec, ok, err := j.secret(ctx, claim)
	if !ok {
		return err
	}
	q := queryexec.Query{Serialized: text, Mode: queryexec.ModeCreate, InstanceID: claim.Step.Subject, Owner: row.OwnerID, Auth: sec.auth()}
	if sec.Group != "" {
		q.Serialized, q.Sampling = queryexec.SampleQuery(sec.Group), row.SamplingRatio
	}
	job, ok, err := j.translate(ctx, claim, q)
	if !ok {
		return err
	}
	res, err := j.engine.Checkpoint(ctx, claim, engine.Event{Name: evSending, Actor: "worker", Data: launching{claim.TaskID}})
	if err != nil {
		return err
	}
	if !res.Applied {
		return j.engine.Done(ctx, claim)
	}
	// The request must not be cut off by our own shutdown: that would leave its outcome unknown.
	sending := context.WithoutCancel(ctx)
	accepted, err := j.executor.Submit(sending, job)
	if err != nil {
		return j.cohortNotTaken(sending, claim, err)
	}
	taken := evAccepted
	if row.JobStatus == statusLongPending {
		taken = evTakenLarge
	}
	return j.settleAnswer(sending, claim, accepted, taken)
}

// cohortNotTaken decides what follows a creation's failed submission (decision 30).
func (j *Jobs) cohortNotTaken(ctx context.Context, claim engine.Claim, err error) error {
	outcome, text := queryexec.OutcomeUnknown, "QueryExecutor could not be asked."
	var call *queryexec.CallError
	if errors.As(err, &call) {
		outcome, text = call.Outcome, call.Text
	}
	switch {
	case outcome == queryexec.OutcomeRejected, outcome == queryexec.OutcomeNotAccepted && claim.Last():
		return j.refuse(ctx, claim, text)
	case outcome == queryexec.OutcomeNotAccepted:
		if _, err := j.engine.Checkpoint(ctx, claim, engine.Event{Name: evNotSent, Actor: "worker", Detail: text}); err != nil {
			return err
		}
		return err
	case outcome == queryexec.OutcomeUnusable:
		_, err := j.engine.Settle(ctx, claim, engine.Event{Name: evUnusable, Actor: "worker", Reason: text})
		return err
	}
	// Nobody knows: in no table, so it is only written down, and the job waits for a report or its deadline.
	_, err = j.engine.Settle(ctx, claim, engine.Event{Name: "outcome_unknown", Actor: "worker", Detail: text})
	return err
}

// cancel asks QueryExecutor to stop what ended here. Only what may pass is tried again: a job that it does not know, or that
// is over, needs no stopping.
func (j *Jobs) cancel(ctx context.Context, claim engine.Claim) error {
	if claim.ExternalID == "" {
		return j.engine.Done(ctx, claim)
	}
	_, err := j.executor.Cancel(ctx, claim.ExternalID)
	var call *queryexec.CallError
	if errors.As(err, &call) && (call.Outcome == queryexec.OutcomeRejected || call.Outcome == queryexec.OutcomeUnusable) {
		j.service.log.InfoContext(ctx, "QueryExecutor did not stop a job", "kind", claim.Step.Kind, "uuid", claim.Step.Subject, "reason", call.Text)
		err = nil
	}
	if err != nil {
		return fmt.Errorf("stop %s %s: %w", claim.Step.Kind, claim.Step.Subject, err)
	}
	return j.engine.Done(ctx, claim)
}

// ask enquires about a silent job (decision 29). known is false when there is nothing more to be done: nobody can be asked,
// or the job has been ended.
func (j *Jobs) ask(ctx context.Context, claim engine.Claim) (state queryexec.JobState, known bool, err error) {
	if claim.ExternalID == "" {
		return state, false, j.engine.Done(ctx, claim)
	}
	state, err = j.executor.Status(ctx, claim.ExternalID)
	if err != nil {
		return state, false, fmt.Errorf("ask about %s %s: %w", claim.Step.Kind, claim.Step.Subject, err)
	}
	if !state.Known {
		return state, false, j.settle(ctx, claim, engine.Event{Name: evGone})
	}
	if event, over := badEnd(state); over {
		return state, false, j.settle(ctx, claim, event)
	}
	return state, true, nil
}

// badEnd is what an answer about a job that failed or was stopped means. QueryExecutor's own retries run under other ids, and only
// the last one reports (peers.md 2.6): so a failure that we were not told but found stays open to a success.
func badEnd(state queryexec.JobState) (event engine.Event, over bool) {
	switch state.Status {
	case queryexec.StatusFailed:
		event = engine.Event{Name: evFailedYet, Reason: state.Message}
		if event.Reason == "" {
			event.Reason = "QueryExecutor says that the job failed."
		}
		return event, true
	case queryexec.StatusCancelled:
		return engine.Event{Name: evKilled}, true
	}
	return event, false
}

func (j *Jobs) settle(ctx context.Context, claim engine.Claim, event engine.Event) error {
	event.Actor, event.Detail = actor, "asked"
	_, err := j.engine.Settle(ctx, claim, event)
	return err
}

// enquireCount asks about a silent count; a result whose report got lost is taken.
func (j *Jobs) enquireCount(ctx context.Context, claim engine.Claim) error {
	state, known, err := j.ask(ctx, claim)
	if !known {
		return err
	}
	return j.settleAsked(ctx, claim, countEnd(state))
}

// settleAsked settles an enquiry with what the answer means; nil: it runs, and the deadline decides.
func (j *Jobs) settleAsked(ctx context.Context, claim engine.Claim, event *engine.Event) error {
	if event == nil {
		return j.engine.Done(ctx, claim)
	}
	return j.settle(ctx, claim, *event)
}

// countEnd is what an answer about a known count means; nil: nothing yet.
func countEnd(state queryexec.JobState) *engine.Event {
	if state.Status != queryexec.StatusFinished || state.Count == nil {
		return nil
	}
	return &engine.Event{Name: evDone, Data: queryexec.CountReport{Status: state.Status, Count: state.Count, Extra: state.Extra}}
}

// enquireCohort asks about a silent creation.
func (j *Jobs) enquireCohort(ctx context.Context, claim engine.Claim) error {
	state, known, err := j.ask(ctx, claim)
	if !known {
		return err
	}
	return j.settleAsked(ctx, claim, cohortEnd(state))
}

// cohortEnd is what an answer about a known creation means; nil: nothing yet.
func cohortEnd(state queryexec.JobState) *engine.Event {
	report := queryexec.CohortReport{Status: state.Status, GroupID: state.GroupID, Count: state.Count}
	switch {
	case state.Status != queryexec.StatusFinished && state.Status != queryexec.StatusLongPending:
		return nil
	case state.GroupID == "" || state.GroupID == "-1":
		return &engine.Event{Name: evBroken, Reason: queryexec.NoGroup}
	case state.Status == queryexec.StatusLongPending:
		return &engine.Event{Name: evLong, Data: report}
	}
	return &engine.Event{Name: evDone, Data: report}
}

// countToLaunch reads a count and the text of its query.
func (s *Service) countToLaunch(ctx context.Context, id string) (Measure, string, error) {
	g := s.db.Read(ctx)
	m, err := take[Measure](live[Measure](g).Where("cohort_datedmeasure.uuid = ?", id))
	if err != nil {
		return m, "", err
	}
	text, err := s.queryText(ctx, m.RequestQuerySnapshotID)
	return m, text, err
}

// cohortToLaunch reads a cohort, which may be a subset, and the text of its query.
func (s *Service) cohortToLaunch(ctx context.Context, id string) (Cohort, string, error) {
	row, err := take[Cohort](s.db.Read(ctx).Where("uuid = ? AND deleted IS NULL", id))
	if err != nil {
		return row, "", err
	}
	if row.RequestQuerySnapshotID == nil {
		return row, "", fault.NotFound{Model: "RequestQuerySnapshot"}
	}
	text, err := s.queryText(ctx, *row.RequestQuerySnapshotID)
	return row, text, err
}

func (s *Service) queryText(ctx context.Context, snapshotID uuid.UUID) (string, error) {
	row, err := take[Snapshot](s.db.Read(ctx).Where("uuid = ? AND deleted IS NULL", snapshotID))
	return row.SerializedQuery, err
}
