package cohort

import (
	"context"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"gorm.io/gorm"

	"cohortflow/internal/engine"
	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/queryexec"
)

// cohortView is a cohort as clients see it (cohort.md 9.1). The old system left four keys out of some answers; clients take
// them as optional, so they are always there.
type cohortView struct {
	UUID                 uuid.UUID    `json:"uuid"`
	Name                 *string      `json:"name"`
	Owner                string       `json:"owner"`
	RequestQuerySnapshot *uuid.UUID   `json:"request_query_snapshot"`
	ParentCohort         *parentView  `json:"parent_cohort"`
	SamplingRatio        *float64     `json:"sampling_ratio"`
	SampleCohorts        []sampleView `json:"sample_cohorts"`
	ResultSize           *int64       `json:"result_size"`
	MeasureMin           *int64       `json:"measure_min"`
	MeasureMax           *int64       `json:"measure_max"`
	GroupID              string       `json:"group_id"`
	RequestJobStatus     string       `json:"request_job_status"`
	RequestJobFailMsg    string       `json:"request_job_fail_msg"`
	RequestJobDuration   string       `json:"request_job_duration"`
	Exportable           bool         `json:"exportable"`
	CreatedAt            web.Datetime `json:"created_at"`
	ModifiedAt           web.Datetime `json:"modified_at"`
	Description          *string      `json:"description"`
	Favorite             bool         `json:"favorite"`
	Request              *reference   `json:"request"`
}

type parentView struct {
	UUID uuid.UUID `json:"uuid"`
	Name *string   `json:"name"`
}

type sampleView struct {
	UUID          uuid.UUID `json:"uuid"`
	Name          *string   `json:"name"`
	SamplingRatio *float64  `json:"sampling_ratio"`
}

// shownCohort is a cohort with what is joined to it.
type shownCohort struct {
	Cohort
	ResultSize         *int64     `gorm:"->"`
	GlobalMin          *int64     `gorm:"->"`
	GlobalMax          *int64     `gorm:"->"`
	ParentName         *string    `gorm:"->"`
	RequestID          *uuid.UUID `gorm:"->"`
	RequestName        string     `gorm:"->"`
	RequestDescription *string    `gorm:"->"`
}

const cohortColumns = `cohort_cohortresult.*, m.measure AS result_size, g.measure_min AS global_min, g.measure_max AS global_max,
	p.name AS parent_name, r.uuid AS request_id, COALESCE(r.name, '') AS request_name, r.description AS request_description`

// joined adds what is shown with cohorts: their measures, parent and request.
func joined(q *gorm.DB) *gorm.DB {
	return q.Select(cohortColumns).
		Joins("LEFT JOIN cohort_datedmeasure m ON m.uuid = cohort_cohortresult.dated_measure_id").
		Joins("LEFT JOIN cohort_datedmeasure g ON g.uuid = cohort_cohortresult.dated_measure_global_id").
		Joins("LEFT JOIN cohort_cohortresult p ON p.uuid = cohort_cohortresult.parent_cohort_id").
		Joins("LEFT JOIN cohort_requestquerysnapshot s ON s.uuid = cohort_cohortresult.request_query_snapshot_id").
		Joins("LEFT JOIN cohort_request r ON r.uuid = s.request_id")
}

// cohortViews completes cohorts with their samples: one query.
func (s *Service) cohortViews(g *gorm.DB, rows []shownCohort) ([]cohortView, error) {
	samples := map[uuid.UUID][]sampleView{}
	if len(rows) > 0 {
		var list []Cohort
		err := live[Cohort](g).Where(within(g, "cohort_cohortresult.parent_cohort_id",
			uuids(rows, func(r shownCohort) uuid.UUID { return r.UUID }))).Order("created_at, uuid").Find(&list).Error
		if err != nil {
			return nil, fmt.Errorf("list samples: %w", err)
		}
		for _, r := range list {
			samples[*r.ParentCohortID] = append(samples[*r.ParentCohortID], sampleView{r.UUID, r.Name, r.SamplingRatio})
		}
	}
	views := make([]cohortView, len(rows))
	for i, r := range rows {
		views[i] = s.cohortView(r, samples[r.UUID])
	}
	return views, nil
}

func (s *Service) cohortView(r shownCohort, samples []sampleView) cohortView {
	v := cohortView{
		UUID: r.UUID, Name: r.Name, Owner: r.OwnerID, RequestQuerySnapshot: r.RequestQuerySnapshotID, SamplingRatio: r.SamplingRatio,
		SampleCohorts: orEmpty(samples), ResultSize: r.ResultSize, MeasureMin: r.GlobalMin, MeasureMax: r.GlobalMax,
		GroupID: r.GroupID, RequestJobStatus: r.JobStatus, RequestJobFailMsg: r.JobFailMsg, RequestJobDuration: r.JobDuration,
		Exportable: r.ResultSize != nil && *r.ResultSize <= s.cfg.SizeLimit, CreatedAt: web.Datetime(r.CreatedAt),
		ModifiedAt: web.Datetime(r.ModifiedAt), Description: r.Description, Favorite: r.Favorite,
	}
	if r.ParentCohortID != nil {
		v.ParentCohort = &parentView{*r.ParentCohortID, r.ParentName}
	}
	if r.RequestID != nil {
		v.Request = &reference{*r.RequestID, r.RequestName, r.RequestDescription}
	}
	return v
}

// cohortsOf reads the cohorts of snapshots, samples included, by snapshot.
func (s *Service) cohortsOf(ctx context.Context, snapshotIDs []uuid.UUID) (map[uuid.UUID][]cohortView, error) {
	if len(snapshotIDs) == 0 {
		return nil, nil
	}
	g := s.db.Read(ctx)
	var rows []shownCohort
	err := joined(live[Cohort](g)).Where(within(g, "cohort_cohortresult.request_query_snapshot_id", snapshotIDs)).
		Order("cohort_cohortresult.created_at, cohort_cohortresult.uuid").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list cohorts of snapshots: %w", err)
	}
	views, err := s.cohortViews(g, rows)
	if err != nil {
		return nil, err
	}
	by := map[uuid.UUID][]cohortView{}
	for _, v := range views {
		by[*v.RequestQuerySnapshot] = append(by[*v.RequestQuerySnapshot], v)
	}
	return by, nil
}

func (a *api) listCohorts(c *gin.Context) error {
	q := web.QueryOf(c)
	ctx, caller := c.Request.Context(), identity.CallerOf(c)
	name, minSize, maxSize := q.Text("name"), q.Number("min_result_size"), q.Number("max_result_size")
	from, to := q.Time("min_created_at"), q.Time("max_created_at")
	requestID, parent := q.UUID("request_id"), q.UUID("parent_cohort")
	groups, statuses := q.List("group_id"), q.List("status")
	favorite, sample, exportable := q.Bool("favorite"), q.Bool("is_sample"), q.Bool("exportable")
	terms := q.Search()
	orders := q.Ordering("created_at", "modified_at", "name", "result_size", "favorite", "request")
	if err := exists[Cohort](a.db.Read(ctx), q, "parent_cohort", parent); err != nil {
		return err
	}
	if err := q.Err(); err != nil {
		return err
	}
	db := joined(visible[Cohort](a.db.Read(ctx), caller))
	if name != "" {
		db = db.Where(database.Contains("cohort_cohortresult.name", name))
	}
	if minSize != nil {
		db = db.Where("m.measure >= ?", *minSize)
	}
	if maxSize != nil {
		db = db.Where("m.measure <= ?", *maxSize)
	}
	db = between(db, "cohort_cohortresult.created_at", from, to)
	if requestID != nil {
		db = db.Where("r.uuid = ?", *requestID)
	}
	if parent != nil {
		db = db.Where("cohort_cohortresult.parent_cohort_id = ?", *parent)
	}
	if groups != nil {
		db = db.Where(among(db, "cohort_cohortresult.group_id", groups))
	}
	if statuses != nil {
		db = db.Where(among(db, "cohort_cohortresult.request_job_status", statuses))
	}
	db = either(db, favorite, "cohort_cohortresult.favorite")
	db = either(db, sample, "cohort_cohortresult.parent_cohort_id IS NOT NULL")
	db = either(db, exportable, "(m.measure IS NOT NULL AND m.measure <= ?)", a.cfg.SizeLimit)
	db = search(db, terms, "cohort_cohortresult.name", "cohort_cohortresult.description")
	p := web.OffsetPage(c)
	rows, total, err := page[shownCohort](db, ordering(orders, map[string]string{
		"created_at": "cohort_cohortresult.created_at", "modified_at": "cohort_cohortresult.modified_at",
		"name": "cohort_cohortresult.name", "favorite": "cohort_cohortresult.favorite", "result_size": "m.measure", "request": "r.name"}), p)
	if err != nil {
		return err
	}
	views, err := a.cohortViews(a.db.Read(ctx), rows)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, p, total, views))
	return nil
}

// either narrows a query by a condition or by its opposite; nil: not at all.
func either(q *gorm.DB, want *bool, condition string, args ...any) *gorm.DB {
	switch {
	case want == nil:
		return q
	case *want:
		return q.Where(condition, args...)
	}
	return q.Where("NOT ("+condition+")", args...)
}

// cohort reads one cohort that the caller sees.
func (s *Service) cohort(ctx context.Context, caller identity.Caller, id uuid.UUID) (shownCohort, error) {
	return take[shownCohort](joined(visible[shownCohort](s.db.Read(ctx), caller)).Where("cohort_cohortresult.uuid = ?", id))
}

func (a *api) getCohort(c *gin.Context) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	return a.showCohort(c, id)
}

func (a *api) showCohort(c *gin.Context, id uuid.UUID) error {
	ctx := c.Request.Context()
	row, err := a.cohort(ctx, identity.CallerOf(c), id)
	if err != nil {
		return err
	}
	views, err := a.cohortViews(a.db.Read(ctx), []shownCohort{row})
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, views[0])
	return nil
}

// fixedFields are what nobody may change about a cohort (cohort.md 9.4).
var fixedFields = []string{"owner", "owner_id", "request_query_snapshot", "request_query_snapshot_id", "dated_measure", "dated_measure_id"}

// changeCohort serves two uses of one route: owners edit, machines report.
func (a *api) changeCohort(c *gin.Context) error {
	body, err := web.Body(c)
	if err != nil {
		return err
	}
	for _, name := range fixedFields {
		if _, there := body[name]; there {
			return fault.Text("The payload contains non-updatable fields `" + web.Display(map[string]any(body)) + "`")
		}
	}
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	ctx, caller := c.Request.Context(), identity.CallerOf(c)
	row, err := a.cohort(ctx, caller, id)
	if err != nil {
		return err
	}
	if reports(caller) {
		payload, err := queryexec.PayloadOf(body)
		if err == nil && payload.ReportsCohort() {
			err = a.reportCohort(ctx, caller, row.Cohort, payload)
		}
		if err != nil {
			return err
		}
		return a.showCohort(c, id)
	}
	if err := a.editCohort(c, caller, row.Cohort); err != nil {
		return err
	}
	return a.showCohort(c, id)
}

// editCohort writes what owners may change. The timeline takes a line, which is what tells the owner's pages.
func (a *api) editCohort(c *gin.Context, caller identity.Caller, row Cohort) error {
	f, err := fieldsOf(c, true, nil)
	if err != nil {
		return err
	}
	ctx, set := c.Request.Context(), map[string]any{}
	if name := f.String("name", web.MaxLen(255)); name.Set {
		set["name"] = name.Value
	}
	if d := f.String("description", web.Nullable, web.Blank); d.Set {
		set["description"] = d.Ptr()
	}
	if b := f.Bool("favorite"); b.Set {
		set["favorite"] = b.Value
	}
	if err := f.Err(); err != nil {
		return err
	}
	err = a.db.Update(ctx, func(tx *database.Tx) error { return change[Cohort](tx.DB, caller.Username, row.UUID, a.stamped(set)) })
	if err != nil {
		return err
	}
	_, err = a.report(ctx, engine.Event{Name: evEdited, Actor: caller.Username}, adoptedJob(KindCreate, row.UUID, row.OwnerID, row.Work, engine.Pending))
	if err != nil {
		return fmt.Errorf("tell of the change of cohort %s: %w", row.UUID, err)
	}
	return nil
}

func (a *api) activeJobs(c *gin.Context) error {
	var n int64
	err := a.db.Read(c.Request.Context()).Model(&Cohort{}).
		Where("deleted IS NULL AND request_job_status IN ?", []string{statusNew, "validated", statusStarted, statusPending}).Count(&n).Error
	if err != nil {
		return fmt.Errorf("count active jobs: %w", err)
	}
	web.JSON(c, http.StatusOK, jobsCount{n})
	return nil
}

// jobsCount is the answer of jobs/active.
type jobsCount struct {
	JobsCount int64 `json:"jobs_count"`
}
