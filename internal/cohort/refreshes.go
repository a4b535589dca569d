package cohort

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/mail"
	"cohortflow/tasks"
)

// Refresh is a live schedule, for the scheduler: at each time of Cron (five fields, UTC), tasks.RefreshRun is owed with Payload.
type Refresh struct {
	Name    string // unique and stable: for ticks
	Cron    string
	Payload tasks.Row
}

// Refreshes are the schedules to run. Those created before since stay paused (decision 12): the moment of an adoption, or
// zero for none.
func (s *Service) Refreshes(ctx context.Context, since time.Time) ([]Refresh, error) {
	q := live[Schedule](s.db.Read(ctx))
	if !since.IsZero() {
		q = q.Where("created_at >= ?", since)
	}
	var rows []Schedule
	if err := q.Order("created_at, uuid").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list refresh schedules: %w", err)
	}
	list := make([]Refresh, 0, len(rows))
	for _, r := range rows {
		days, known := refreshDays[r.RefreshFrequency]
		if !known {
			continue // a word of another release: it ran never, and does not now
		}
		// The time is part of the name: a changed schedule begins anew, and does not make up for times it did not have.
		list = append(list, Refresh{Name: fmt.Sprintf("refresh %s %s %s", r.UUID, r.RefreshTime, r.RefreshFrequency),
			Cron: fmt.Sprintf("%d %d %s * *", r.RefreshTime.Minute(), r.RefreshTime.Hour(), days), Payload: tasks.Row{ID: r.UUID.String()}})
	}
	return list, nil
}

// refresher marks the jobs of schedules in their timeline.
const refresher = "refresh-schedule"

// refresh makes a new count for a schedule (decision 12), launched with the translation that was kept.
func (j *Jobs) refresh(ctx context.Context, claim engine.Claim) error {
	payload, err := engine.Payload[tasks.Row](claim)
	if err != nil {
		return err
	}
	s := j.service
	return s.db.Update(ctx, func(tx *database.Tx) error {
		row, err := take[Schedule](live[Schedule](tx.DB).Where("uuid = ?", payload.ID))
		if errors.As(err, &fault.NotFound{}) {
			return j.engine.DoneTx(ctx, tx, claim)
		}
		if err != nil {
			return err
		}
		snap, err := take[Snapshot](tx.Where("uuid = ?", row.RequestSnapshotID))
		if err != nil {
			return err
		}
		if snap.TranslatedQuery == nil {
			err = s.noteRefresh(tx, snap.UUID, false, nil, "The query was changed since it was scheduled: save the schedule again.")
		} else {
			m := s.newMeasure(snap.OwnerID, snap.UUID, modeSnapshot)
			err = s.openCountAs(ctx, tx, m, secret{Job: forCount(*snap.TranslatedQuery, m.UUID.String(), snap.OwnerID)}, refresher)
		}
		if err != nil {
			return err
		}
		return j.engine.DoneTx(ctx, tx, claim)
	})
}

var instanceID = regexp.MustCompile(`cohortUuid\\?"?\s*[:=]\s*\\?"?([0-9a-fA-F-]{36})`)

// nobody is what the old system wrote for the owner of every translation that it kept.
const nobody = "input.ownerEntityId = None"

// forCount puts a count's id in the place of the one for which a job was translated, in either notation (schema.md 7.5), and its
// owner where the old system named nobody (schema.md Q26).
func forCount(body, id, owner string) string {
	if m := instanceID.FindStringSubmatch(body); m != nil {
		body = strings.ReplaceAll(body, m[1], id)
	}
	before, after, named := cutLast(body, nobody)
	if named && (before == "" || strings.HasSuffix(before, ",")) && (after == "" || after[0] == ',') {
		quoted, _ := json.Marshal(owner) // a string always marshals
		return before + "input.ownerEntityId = " + string(quoted) + after
	}
	return body
}

// cutLast is strings.Cut at the last place: what a query says stands before the owner.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// noteRefresh writes what became of a count into the schedule of its snapshot.
func (s *Service) noteRefresh(tx *database.Tx, snapshotID uuid.UUID, succeeded bool, count *int64, message string) error {
	if count != nil && *count > 1<<31-1 {
		count = nil // the column is no wider
	}
	err := live[Schedule](tx.DB).Where("request_snapshot_id = ?", snapshotID).UpdateColumns(map[string]any{"last_refresh": s.clock.Now(),
		"last_refresh_succeeded": succeeded, "last_refresh_count": count, "last_refresh_error_msg": message}).Error
	if err != nil {
		return fmt.Errorf("note a refresh of snapshot %s: %w", snapshotID, err)
	}
	return nil
}

// followRefresh writes the end of a count into the schedule of its snapshot (cohort.md 13.4), and owes its owner a mail when it
// was the schedule's own and ended well. A count that was superseded, cancelled or deleted is no news.
func (s *Service) followRefresh(ctx context.Context, tx *database.Tx, c engine.Change) ([]engine.Event, error) {
	switch {
	case c.After.EndedAt == nil, c.After.State == c.Before.State, c.Event.Name == evSuperseded, c.Event.Name == evSized,
		c.Event.Name == engine.CancelAsked, c.Event.Name == engine.Deleted:
		return nil, nil
	}
	var row struct {
		SnapshotID  uuid.UUID
		Measure     *int64
		NotifyOwner bool
	}
	res := tx.Table("cohort_requestrefreshschedule r").
		Joins("JOIN cohort_datedmeasure m ON m.request_query_snapshot_id = r.request_snapshot_id").
		Where("m.uuid = ? AND r.deleted IS NULL", c.After.Subject).
		Select("r.request_snapshot_id AS snapshot_id, m.measure, r.notify_owner").Limit(1).Find(&row)
	if res.Error != nil || res.RowsAffected == 0 {
		return nil, res.Error
	}
	succeeded := c.After.State == engine.Finished
	if err := s.noteRefresh(tx, row.SnapshotID, succeeded, row.Measure, c.After.Reason); err != nil {
		return nil, err
	}
	if !succeeded || !row.NotifyOwner {
		return nil, nil
	}
	var own int64
	err := tx.Table("engine_event").Where("job_id = ? AND event = ? AND actor = ?", c.After.ID, engine.Opened, refresher).Count(&own).Error
	if err != nil || own == 0 {
		return nil, err
	}
	_, err = s.engine.Owe(ctx, tx, engine.Task{Spec: tasks.RefreshMail, Payload: tasks.Row{ID: c.After.Subject}})
	return nil, err
}

// refreshLetter tells the owner of a schedule that a request was counted again.
func (s *Service) refreshLetter(ctx context.Context, measureID string) (to string, letter mail.Letter, err error) {
	var row struct {
		OwnerID   string
		Recipient string
		Name      string
		Version   int
	}
	res := s.requestOf(s.db.Read(ctx).Table("cohort_datedmeasure m"), "m").
		Where("m.uuid = ? AND m.deleted IS NULL", measureID).Limit(1).Find(&row)
	if res.Error != nil {
		return "", nil, fmt.Errorf("read refreshed count %s: %w", measureID, res.Error)
	}
	if res.RowsAffected == 0 {
		return "", nil, fault.NotFound{Model: "DatedMeasure"}
	}
	return row.OwnerID, mail.CountRefreshed{RecipientName: row.Recipient, RequestName: row.Name, Version: row.Version}, nil
}

// requestOf joins owner, snapshot and request to rows that have an owner_id and a request_query_snapshot_id.
func (s *Service) requestOf(q *gorm.DB, alias string) *gorm.DB {
	return q.Joins("JOIN cohort_requestquerysnapshot s ON s.uuid = " + alias + ".request_query_snapshot_id").
		Joins("JOIN cohort_request r ON r.uuid = s.request_id").
		Joins(`JOIN "user" u ON u.username = ` + alias + ".owner_id").
		Select(alias + ".owner_id, " + displayName("u") + " AS recipient, r.name, s.version")
}
