package cohort

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/queryexec"
)

// launching is the data of events that begin a launch: the task that does it, whose id clients may see (schema.md 7.7).
type launching struct{ taskID string }

// queued is the data of reports that say that QueryExecutor has a job, but has not begun it.
type queued struct{}

// Kinds describes the jobs of this capability to the engine. They need no service: register them before it is built.
func Kinds() []engine.Kind {
	return []engine.Kind{
		{Name: KindCount, Table: countMoves(), Project: projectCounts},
		{Name: KindCreate, Initial: engine.Pending, Table: createMoves(), Project: projectCohorts, Notices: tellOwner},
		{Name: KindStudy, Table: studyMoves(), Project: projectStudies},
	}
}

// tellOwner mails the owner of a large cohort that it is ready; the subsets of exports are nobody's to open.
func tellOwner(c engine.Change, _ engine.Outcome) []engine.Notice {
	if report, ok := c.Event.Data.(cohortReport); ok && report.subset {
		return nil
	}
	return []engine.Notice{{Channel: engine.ChannelMail, Recipient: c.After.Owner}}
}

// clientStatus is the word that clients see for a state; "" leaves what they see.
func clientStatus(state engine.State) string {
	switch state {
	case engine.Started:
		return statusStarted
	case stateLarge, stateIndexing, stateIndexed:
		return statusLongPending
	case engine.Finished:
		return statusFinished
	case engine.Failed, engine.GaveUp:
		return statusFailed
	case engine.Cancelled:
		return statusCancelled
	case stateUnknown:
		return statusUnknown
	}
	return ""
}

// projected are the job columns that follow from a change of any kind.
func projected(c engine.Change, createdAt time.Time) map[string]any {
	set := map[string]any{"modified_at": c.After.UpdatedAt, "request_job_fail_msg": c.After.Reason}
	if status := clientStatus(c.After.State); status != "" {
		set["request_job_status"] = status
	}
	if _, ok := c.Event.Data.(queued); ok && c.After.State == engine.Started {
		set["request_job_status"] = statusPending
	}
	if c.After.ExternalID != c.Before.ExternalID {
		set["request_job_id"] = c.After.ExternalID
	}
	if c.After.EndedAt != nil && c.After.State != c.Before.State {
		set["request_job_duration"] = duration(c.After.UpdatedAt.Sub(createdAt))
	}
	return set
}

// duration writes a span as the contract does (schema.md 7.2): "0:00:34.540079", "1 day, 2:03:04".
func duration(d time.Duration) string {
	d = max(d, 0).Truncate(time.Microsecond)
	days := ""
	if n := int64(d / (24 * time.Hour)); n == 1 {
		days = "1 day, "
	} else if n > 1 {
		days = fmt.Sprintf("%d days, ", n)
	}
	d %= 24 * time.Hour
	text := fmt.Sprintf("%s%d:%02d:%02d", days, int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
	if fraction := d % time.Second; fraction != 0 {
		text += fmt.Sprintf(".%06d", fraction.Microseconds())
	}
	return text
}

// createdAt reads when the subjects of changes were created.
func createdAt[T tabler](tx *database.Tx, changes []engine.Change) (map[string]time.Time, error) {
	var row T
	ids := make([]uuid.UUID, 0, len(changes))
	for _, c := range changes {
		id, err := uuid.Parse(c.After.Subject)
		if err != nil {
			return nil, fmt.Errorf("job %s: subject: %w", c.After.ID, err)
		}
		ids = append(ids, id)
	}
	var rows []Base
	err := tx.Table(row.TableName()).Select("uuid, created_at").Where(within(tx.DB, "uuid", ids)).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read subjects of %d jobs: %w", len(changes), err)
	}
	at := make(map[string]time.Time, len(rows))
	for _, r := range rows {
		at[r.UUID.String()] = r.CreatedAt
	}
	return at, nil
}

// projectCounts writes what became of counts into their rows, deleted ones included (nobody sees those).
func projectCounts(_ context.Context, tx *database.Tx, changes []engine.Change) error {
	at, err := createdAt[Measure](tx, changes)
	if err != nil {
		return err
	}
	for _, c := range changes {
		set := projected(c, at[c.After.Subject])
		switch data := c.Event.Data.(type) {
		case launching:
			set["count_task_id"], set["request_job_status"] = data.taskID, statusPending
		case sized:
			set["measure"] = data.patients
		case queryexec.CountReport:
			set["measure"], set["extra"] = data.Count, database.JSON(data.Extra)
			if data.Minimum != nil || data.Maximum != nil {
				set["measure_min"], set["measure_max"] = data.Minimum, data.Maximum
			}
		}
		if err := tx.Table("cohort_datedmeasure").Where("uuid = ?", c.After.Subject).Updates(set).Error; err != nil {
			return fmt.Errorf("project count %s: %w", c.After.Subject, err)
		}
	}
	return nil
}

// cohortReport is the data of a cohort's events.
type cohortReport struct {
	queryexec.CohortReport
	subset bool
}

// reported is the report that an event brings, in either form.
func reported(data any) (queryexec.CohortReport, bool) {
	switch data := data.(type) {
	case cohortReport:
		return data.CohortReport, true
	case queryexec.CohortReport:
		return data, true
	}
	return queryexec.CohortReport{}, false
}

// projectCohorts writes what became of creations into their rows.
func projectCohorts(_ context.Context, tx *database.Tx, changes []engine.Change) error {
	at, err := createdAt[Cohort](tx, changes)
	if err != nil {
		return err
	}
	for _, c := range changes {
		set := projected(c, at[c.After.Subject])
		if data, ok := c.Event.Data.(launching); ok {
			set["create_task_id"] = data.taskID
		}
		if report, ok := reported(c.Event.Data); ok && report.GroupID != "" {
			set["group_id"] = report.GroupID
		}
		if err := tx.Table("cohort_cohortresult").Where("uuid = ?", c.After.Subject).Updates(set).Error; err != nil {
			return fmt.Errorf("project cohort %s: %w", c.After.Subject, err)
		}
	}
	return nil
}

// sized is the data of a count's event: the size of the cohort that was made of it.
type sized struct{ patients int64 }

// sizeMeasure follows the size that a report tells of a cohort to its measure (decision 20): the value is set, a count that
// still runs is finished by it, and a finished one keeps its status. The measures of samples and subsets have no job of their
// own.
func (s *Service) sizeMeasure(ctx context.Context, tx *database.Tx, c engine.Change) ([]engine.Event, error) {
	report, ok := reported(c.Event.Data)
	if !ok || report.Count == nil {
		return nil, nil
	}
	var row struct {
		Measure
		Job string
	}
	err := tx.Table("cohort_datedmeasure").Joins("LEFT JOIN engine_job j ON j.kind = ? AND j.subject = CAST(cohort_datedmeasure.uuid AS text)", KindCount).
		Where("cohort_datedmeasure.uuid = (SELECT dated_measure_id FROM cohort_cohortresult WHERE uuid = ?)", c.After.Subject).
		Select("cohort_datedmeasure.*, COALESCE(CAST(j.id AS text), '') AS job").Limit(1).Find(&row).Error
	switch {
	case err != nil:
		return nil, fmt.Errorf("find the measure of cohort %s: %w", c.After.Subject, err)
	case row.UUID == uuid.Nil:
		return nil, nil
	case row.Job != "":
		return []engine.Event{{JobID: row.Job, Name: evSized, Actor: actor, Detail: "by its cohort", Data: sized{*report.Count}}}, nil
	}
	set := map[string]any{"measure": *report.Count, "modified_at": c.After.UpdatedAt}
	switch row.JobStatus {
	case statusNew, statusPending, statusStarted, statusLongPending:
		set["request_job_status"], set["request_job_duration"] = statusFinished, duration(c.After.UpdatedAt.Sub(row.CreatedAt))
	}
	if err := tx.Table("cohort_datedmeasure").Where("uuid = ?", row.UUID).Updates(set).Error; err != nil {
		return nil, fmt.Errorf("size measure %s: %w", row.UUID, err)
	}
	return nil, nil
}

// jobIDs finds the jobs under way of some rows.
func jobIDs(tx *database.Tx, kind string, subjects []uuid.UUID) ([]string, error) {
	if len(subjects) == 0 {
		return nil, nil
	}
	names := make([]string, len(subjects))
	for i, id := range subjects {
		names[i] = id.String()
	}
	var ids []string
	err := tx.Table("engine_job").Where("kind = ? AND deadline IS NOT NULL", kind).Where(among(tx.DB, "subject", names)).
		Order("id").Pluck("id", &ids).Error
	if err != nil {
		return nil, fmt.Errorf("find running jobs of %d rows: %w", len(subjects), err)
	}
	return ids, nil
}
