package cohort

import (
	"context"
	"encoding/json"
	"errors"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
)

// jobStatus is a websocket message about a job (cohort.md 20, system.md 10.4).
type jobStatus struct {
	Type      string `json:"type"`
	Status    string `json:"status"`
	UUID      string `json:"uuid"`
	JobName   string `json:"job_name"`
	ExtraInfo any    `json:"extra_info"`
}

type countInfo struct {
	Status     string        `json:"request_job_status"`
	FailMsg    string        `json:"request_job_fail_msg"`
	Measure    *int64        `json:"measure"`
	SnapshotID string        `json:"snapshot_id"`
	Extra      database.JSON `json:"extra"`
}

type createInfo struct {
	Status     string      `json:"request_job_status"`
	GroupID    string      `json:"group_id"`
	ResultSize *int64      `json:"result_size"`
	FailMsg    string      `json:"request_job_fail_msg"`
	Global     *globalInfo `json:"global,omitempty"`
}

type globalInfo struct {
	MeasureMin *int64 `json:"measure_min"`
	MeasureMax *int64 `json:"measure_max"`
}

// Message is what the owner's pages are told of a line of the timeline; nil: nothing, which is the case for lines that
// changed nothing (except signs of life: each accepted report is told), for states that pages do not show, for estimates over
// the whole institution and for deleted rows. The row is read now, so that a message never tells less than what the page could read itself.
func (s *Service) Message(ctx context.Context, e engine.Entry) (json.RawMessage, error) {
	var message *jobStatus
	var err error
	switch {
	case e.Event == engine.Opened: // also of rows that had ended in the old system
	case e.Kind == KindCount && e.Applied && (e.From != e.To && ended(e.To) || alive(e)):
		message, err = s.countMessage(ctx, e.Subject)
	case e.Kind == KindCreate && e.Event == evEdited,
		e.Kind == KindCreate && e.Applied && (e.From != e.To && (ended(e.To) || e.To == stateIndexing) || alive(e)):
		message, err = s.createMessage(ctx, e.Subject)
	}
	if errors.As(err, &fault.NotFound{}) || err == nil && message == nil {
		return nil, nil // deleted meanwhile: silently
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(message)
}

// alive: a job that QueryExecutor has is reported to be still there.
func alive(e engine.Entry) bool {
	return e.From == e.To && !ended(e.To) && (e.Event == evAccepted || e.Event == evTakenLarge)
}

func ended(state engine.State) bool {
	switch state {
	case engine.Finished, engine.Failed, engine.GaveUp, engine.Cancelled, stateUnknown:
		return true
	}
	return false
}

func (s *Service) countMessage(ctx context.Context, id string) (*jobStatus, error) {
	m, err := take[Measure](live[Measure](s.db.Read(ctx)).Where("cohort_datedmeasure.uuid = ?", id))
	if err != nil || m.global() {
		return nil, err
	}
	return &jobStatus{"job_status", m.JobStatus, id, KindCount,
		countInfo{m.JobStatus, m.JobFailMsg, m.Measure, m.RequestQuerySnapshotID.String(), m.Extra}}, nil
}

func (s *Service) createMessage(ctx context.Context, id string) (*jobStatus, error) {
	row, err := take[shownCohort](joined(s.db.Read(ctx)).Where("cohort_cohortresult.uuid = ? AND cohort_cohortresult.deleted IS NULL", id))
	if err != nil {
		return nil, err
	}
	info := createInfo{row.JobStatus, row.GroupID, row.ResultSize, row.JobFailMsg, nil}
	if row.DatedMeasureGlobalID != nil {
		info.Global = &globalInfo{row.GlobalMin, row.GlobalMax}
	}
	return &jobStatus{"job_status", row.JobStatus, id, KindCreate, info}, nil
}
