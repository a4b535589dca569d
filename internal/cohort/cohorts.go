package cohort

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"cohortflow/internal/platform/web"
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
