package export

import (
	"context"
	"fmt"
	"time"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
)

// accepted travels with eventAccepted: only then is the job's external id one of the export API.
type accepted struct{ jobID string }

// project writes the contract's columns of changed jobs.
func project(_ context.Context, tx *database.Tx, changes []engine.Change) error {
	for _, c := range changes {
		set := map[string]any{"request_job_status": projected(c.After.State), "modified_at": c.After.UpdatedAt, "request_job_fail_msg": ""}
		if projected(c.After.State) == statusFailed {
			set["request_job_fail_msg"] = c.After.Reason
		}
		if a, ok := c.Event.Data.(accepted); ok {
			set["request_job_id"] = a.jobID
		}
		switch c.Event.Name {
		case engine.RetryAsked, eventRetrySubsets:
			set["retried"], set["is_user_notified"], set["clean_datetime"], set["request_job_duration"] = true, false, nil, ""
		}
		if c.After.State == engine.Finished {
			begun, err := beginning(tx, c.After)
			if err != nil {
				return err
			}
			set["request_job_duration"] = duration(c.After.UpdatedAt.Sub(begun))
		}
		if err := tx.Table("export").Where("uuid = ?", c.After.Subject).Updates(set).Error; err != nil {
			return fmt.Errorf("write the status of export %s: %w", c.After.Subject, err)
		}
	}
	return nil
}

// beginning is when the last try was sent, or began to be written.
func beginning(tx *database.Tx, job engine.Job) (time.Time, error) {
	var at []time.Time
	err := tx.Table("engine_event").Where("job_id = ? AND event IN ? AND applied", job.ID, []string{string(eventSending), string(eventWriting)}).
		Order("id DESC").Limit(1).Pluck("at", &at).Error
	if err != nil {
		return time.Time{}, fmt.Errorf("find when export %s began: %w", job.Subject, err)
	}
	if len(at) == 0 { // the old system sent it: all we know is when it was asked for
		err := tx.Table("export").Where("uuid = ?", job.Subject).Pluck("created_at", &at).Error
		if err != nil || len(at) == 0 {
			return job.CreatedAt, err
		}
	}
	return at[0], nil
}

// duration is written as the existing rows have it: 0:03:20.123456, 1 day, 0:00:01.
func duration(d time.Duration) string {
	d = max(d, 0).Truncate(time.Microsecond)
	text := fmt.Sprintf("%d:%02d:%02d", int(d.Hours())%24, int(d.Minutes())%60, int(d.Seconds())%60)
	if micros := d.Microseconds() % 1_000_000; micros != 0 {
		text += fmt.Sprintf(".%06d", micros)
	}
	switch days := int(d.Hours()) / 24; days {
	case 0:
		return text
	case 1:
		return "1 day, " + text
	default:
		return fmt.Sprintf("%d days, %s", days, text)
	}
}
