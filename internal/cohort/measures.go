package cohort

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/web"
)

// measureView is a count as clients see it (cohort.md 8.1).
type measureView struct {
	UUID                 uuid.UUID     `json:"uuid"`
	Owner                string        `json:"owner"`
	RequestQuerySnapshot uuid.UUID     `json:"request_query_snapshot"`
	CountOutdated        bool          `json:"count_outdated"`
	CohortLimit          int64         `json:"cohort_limit"`
	Deleted              *web.Datetime `json:"deleted"`
	DeletedByCascade     bool          `json:"deleted_by_cascade"`
	RequestJobID         string        `json:"request_job_id"`
	RequestJobStatus     string        `json:"request_job_status"`
	RequestJobFailMsg    string        `json:"request_job_fail_msg"`
	RequestJobDuration   string        `json:"request_job_duration"`
	CreatedAt            web.Datetime  `json:"created_at"`
	ModifiedAt           web.Datetime  `json:"modified_at"`
	FhirDatetime         *web.Datetime `json:"fhir_datetime"`
	Measure              *int64        `json:"measure"`
	MeasureMin           *int64        `json:"measure_min"`
	MeasureMax           *int64        `json:"measure_max"`
	Extra                database.JSON `json:"extra"`
	CountTaskID          string        `json:"count_task_id"`
	Mode                 *string       `json:"mode"`
}

func (s *Service) measureView(m Measure) measureView {
	return measureView{
		UUID: m.UUID, Owner: m.OwnerID, RequestQuerySnapshot: m.RequestQuerySnapshotID,
		CountOutdated: s.clock.Now().Sub(m.CreatedAt) > s.cfg.CountValidity, CohortLimit: s.cfg.SizeLimit,
		Deleted: web.DatetimeOf(m.Deleted), DeletedByCascade: m.DeletedByCascade,
		RequestJobID: m.JobID, RequestJobStatus: m.JobStatus, RequestJobFailMsg: m.JobFailMsg, RequestJobDuration: m.JobDuration,
		CreatedAt: web.Datetime(m.CreatedAt), ModifiedAt: web.Datetime(m.ModifiedAt), FhirDatetime: web.DatetimeOf(m.FhirDatetime),
		Measure: m.Measure, MeasureMin: m.MeasureMin, MeasureMax: m.MeasureMax, Extra: m.Extra, CountTaskID: m.CountTaskID, Mode: m.Mode,
	}
}

// measuresOf reads the counts that are shown with snapshots, the newest first, by snapshot.
func (s *Service) measuresOf(ctx context.Context, snapshotIDs []uuid.UUID) (map[uuid.UUID][]measureView, error) {
	if len(snapshotIDs) == 0 {
		return nil, nil
	}
	g := s.db.Read(ctx)
	var rows []Measure
	err := live[Measure](g).Where(within(g, "cohort_datedmeasure.request_query_snapshot_id", snapshotIDs)).Where(shownMeasure).
		Order("cohort_datedmeasure.created_at DESC, cohort_datedmeasure.uuid DESC").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list counts of snapshots: %w", err)
	}
	by := map[uuid.UUID][]measureView{}
	for _, m := range rows {
		by[m.RequestQuerySnapshotID] = append(by[m.RequestQuerySnapshotID], s.measureView(m))
	}
	return by, nil
}
