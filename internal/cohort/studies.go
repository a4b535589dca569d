package cohort

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"cohortflow/internal/engine"
	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/queryexec"
	"cohortflow/tasks"
)

// Study is a row of cohort_feasibilitystudy: how many patients each place has.
type Study struct {
	Base
	Work
	OwnerID                string
	RequestQuerySnapshotID uuid.UUID
	TotalCount             *int32
	// The ten switches of a report that no client sets; the columns take no NULL.
	DisplayEligibilityCriteria, DisplayTotalCount, DisplayDemographicInfo, DisplayVisitDates bool
	DisplayRepartitionGraphs, DisplayVisitGraph, DisplayDemographicGraph                     bool
	DisplayCountByGHU                                                                        bool `gorm:"column:display_count_by_ghu"`
	DisplayCountByHospital                                                                   bool
	DisplayCountByUF                                                                         bool   `gorm:"column:display_count_by_uf"`
	ReportJSONContent                                                                        []byte `gorm:"column:report_json_content"`
	ReportFile                                                                               []byte
}

func (Study) TableName() string { return "cohort_feasibilitystudy" }

// studyView is a study as clients see it (cohort.md 12.1).
type studyView struct {
	UUID                 uuid.UUID    `json:"uuid"`
	Owner                string       `json:"owner"`
	CreatedAt            web.Datetime `json:"created_at"`
	RequestJobStatus     string       `json:"request_job_status"`
	TotalCount           *int32       `json:"total_count"`
	RequestQuerySnapshot uuid.UUID    `json:"request_query_snapshot"`
}

// studyBody documents what may be written.
type studyBody struct {
	RequestQuerySnapshot uuid.UUID `json:"request_query_snapshot"`
}

func (r Study) view() studyView {
	return studyView{r.UUID, r.OwnerID, web.Datetime(r.CreatedAt), r.JobStatus, r.TotalCount, r.RequestQuerySnapshotID}
}

// studyColumns leaves the reports out of lists.
const studyColumns = `uuid, deleted, deleted_by_cascade, created_at, modified_at, request_job_id, request_job_status,
	request_job_fail_msg, request_job_duration, owner_id, request_query_snapshot_id, total_count`

func (a *api) listStudies(c *gin.Context) error {
	p := web.OffsetPage(c)
	rows, total, err := page[Study](visible[Study](a.db.Read(c.Request.Context()), identity.CallerOf(c)).Select(studyColumns), nil, p)
	if err != nil {
		return err
	}
	views := make([]studyView, len(rows))
	for i, r := range rows {
		views[i] = r.view()
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, p, total, views))
	return nil
}

// study reads a study that the caller sees.
func (s *Service) study(ctx context.Context, caller identity.Caller, id uuid.UUID) (Study, error) {
	return take[Study](visible[Study](s.db.Read(ctx), caller).Select(studyColumns).Where("uuid = ?", id))
}

func (a *api) getStudy(c *gin.Context) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	row, err := a.study(c.Request.Context(), identity.CallerOf(c), id)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, row.view())
	return nil
}

func (a *api) createStudy(c *gin.Context) error {
	f, err := fieldsOf(c, false, nil, "owner", "request_query_snapshot")
	if err != nil {
		return err
	}
	ctx, caller := c.Request.Context(), identity.CallerOf(c)
	checkOwner(f, caller)
	snap, err := refer[Snapshot](a.db.Read(ctx), f, "request_query_snapshot", caller.Username, f.Ref("request_query_snapshot", web.Required))
	if err != nil {
		return err
	}
	if err := f.Err(); err != nil {
		return err
	}
	row := Study{Base: a.base(), Work: Work{JobStatus: statusNew}, OwnerID: caller.Username, RequestQuerySnapshotID: snap.UUID}
	err = a.db.Update(ctx, func(tx *database.Tx) error {
		if err := tx.Create(&row).Error; err != nil {
			return err
		}
		_, err := a.engine.Open(ctx, tx, engine.NewJob{Kind: KindStudy, Subject: row.UUID.String(), Owner: row.OwnerID,
			Owed: engine.Owes(tasks.StudyLaunch), Secret: secretOf(caller).seal()})
		return err
	})
	if err != nil {
		return fmt.Errorf("create feasibility study: %w", err)
	}
	web.JSON(c, http.StatusCreated, row.view())
	return nil
}

// reportStudy takes what a machine reports about a study (cohort.md 12.2).
func (a *api) reportStudy(c *gin.Context) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	ctx, caller := c.Request.Context(), identity.CallerOf(c)
	row, err := a.study(ctx, caller, id)
	if err != nil {
		return err
	}
	if !reports(caller) {
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
	if err := a.applyStudy(ctx, machine(caller), row, payload); err != nil {
		return err
	}
	if row, err = a.study(ctx, caller, id); err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, row.view())
	return nil
}

// studyEvents are what the words of reports mean to a study.
var studyEvents = map[queryexec.Status]engine.EventName{
	queryexec.StatusFinished: evDone, queryexec.StatusFailed: evBroken, queryexec.StatusCancelled: evKilled,
	queryexec.StatusUnknown: evLost, queryexec.StatusStarted: evAccepted, queryexec.StatusPending: evAccepted,
	queryexec.StatusLongPending: evAccepted,
}

// applyStudy applies a report to a study. One that cannot be used is told to the owner as a failure, except one of which only
// no document can be made, and changes nothing (12.2).
func (s *Service) applyStudy(ctx context.Context, reporter string, row Study, payload queryexec.Payload) error {
	job := adoptedJob(KindStudy, row.UUID, row.OwnerID, row.Work, engine.Created)
	report, err := payload.Study()
	event := engine.Event{Name: evNonsense, Actor: reporter, Detail: "unusable"}
	var documentless *queryexec.StudyReportError
	switch {
	case errors.As(err, &documentless):
		event.Name = evRejected
	case err == nil:
		event.Name, event.Detail, event.Reason = studyEvents[report.Status], string(report.Status), report.Message
		switch report.Status {
		case queryexec.StatusFinished:
			data, failed := s.studyResult(ctx, row.UUID, report)
			if failed != nil {
				return failed
			}
			event.Data = data
		case queryexec.StatusPending:
			event.Data = queued{}
		}
	}
	if _, failed := s.report(ctx, event, job); failed != nil {
		return fmt.Errorf("report study %s: %w", row.UUID, failed)
	}
	return err
}

// studyResult is the data of a study's success: its number and both documents.
type studyResult struct {
	total      int32
	json, html []byte
}

func (s *Service) studyResult(ctx context.Context, id uuid.UUID, report queryexec.StudyReport) (studyResult, error) {
	if report.Count > 1<<31-1 {
		return studyResult{}, fault.Text("The count is larger than a number of patients can be.")
	}
	asJSON, asHTML, err := s.buildReport(ctx, id, report.Sizes)
	if err != nil {
		return studyResult{}, fmt.Errorf("report of study %s: %w", id, err)
	}
	return studyResult{int32(report.Count), asJSON, asHTML}, nil
}

// projectStudies writes what became of studies into their rows. They show no duration (schema.md 5.3).
func projectStudies(_ context.Context, tx *database.Tx, changes []engine.Change) error {
	for _, c := range changes {
		set := projected(c, c.After.CreatedAt)
		delete(set, "request_job_duration")
		if c.After.State == c.Before.State {
			delete(set, "request_job_fail_msg") // a report that makes no sense changes nothing
		}
		if result, ok := c.Event.Data.(studyResult); ok {
			set["total_count"], set["report_json_content"], set["report_file"] = result.total, result.json, result.html
		}
		if err := tx.Table("cohort_feasibilitystudy").Where("uuid = ?", c.After.Subject).Updates(set).Error; err != nil {
			return fmt.Errorf("project study %s: %w", c.After.Subject, err)
		}
	}
	return nil
}

// launchStudy sends a study to QueryExecutor; like a count, it may be sent again.
func (j *Jobs) launchStudy(ctx context.Context, claim engine.Claim) error {
	if claim.JobState != engine.Created {
		return j.engine.Done(ctx, claim)
	}
	row, err := take[Study](j.service.db.Read(ctx).Select(studyColumns).Where("uuid = ? AND deleted IS NULL", claim.Step.Subject))
	text := ""
	if err == nil {
		text, err = j.service.queryText(ctx, row.RequestQuerySnapshotID)
	}
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
	job, ok, err := j.translate(ctx, claim, queryexec.Query{Serialized: text, Mode: queryexec.ModeCountWithDetails,
		InstanceID: claim.Step.Subject, Owner: row.OwnerID, Auth: sec.auth()})
	if !ok {
		return err
	}
	return j.submitCount(ctx, claim, job)
}

// enquireStudy asks about a silent study; a result whose report got lost is taken.
func (j *Jobs) enquireStudy(ctx context.Context, claim engine.Claim) error {
	state, known, err := j.ask(ctx, claim)
	if !known {
		return err
	}
	event, err := j.service.studyEnd(ctx, claim.Step.Subject, state)
	if err != nil {
		return err
	}
	return j.settleAsked(ctx, claim, event)
}

// studyEnd is what an answer about a known study means; nil: nothing yet, or nothing of use.
func (s *Service) studyEnd(ctx context.Context, subject string, state queryexec.JobState) (*engine.Event, error) {
	if state.Status != queryexec.StatusFinished || state.Count == nil {
		return nil, nil
	}
	report, err := queryexec.Payload{"request_job_status": []byte(`"FINISHED"`), "extra": state.Extra}.Study()
	if err != nil {
		return nil, nil // the deadline decides
	}
	report.Count = *state.Count
	id, err := uuid.Parse(subject)
	if err != nil {
		return nil, fmt.Errorf("study %q: %w", subject, err)
	}
	result, err := s.studyResult(ctx, id, report)
	if err != nil {
		return nil, err
	}
	return &engine.Event{Name: evDone, Data: result}, nil
}

func (a *api) downloadStudy(c *gin.Context) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	row, err := take[Study](visible[Study](a.db.Read(ctx), identity.CallerOf(c)).Where("cohort_feasibilitystudy.uuid = ?", id))
	if err != nil {
		return err
	}
	if len(row.ReportFile) == 0 {
		return fault.Refused{Status: http.StatusNotFound, Body: "Report not found"}
	}
	about, err := a.aboutStudy(ctx, id)
	if err != nil {
		return err
	}
	c.Header("Content-Disposition", attachment(about.fileName()+".zip"))
	c.Data(http.StatusOK, "application/zip", row.ReportFile)
	return nil
}

// attachment names a file for clients that know ASCII only, in the simple quoted form that the front-end reads, and then for
// all others (cohort.md 12.3).
func attachment(name string) string {
	ascii := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '_'
		}
		return r
	}, name)
	header := `attachment; filename="` + ascii + `"`
	if ascii != name {
		header += "; filename*=UTF-8''" + strings.ReplaceAll(url.QueryEscape(name), "+", "%20")
	}
	if _, _, err := mime.ParseMediaType(header); err != nil {
		return `attachment; filename="Rapport.zip"`
	}
	return header
}
