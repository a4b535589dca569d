package cohort

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"gorm.io/gorm"

	"cohortflow/internal/engine"
	"cohortflow/internal/fhir"
	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/mail"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/queryexec"
	"cohortflow/tasks"
)

// Schedule is a row of cohort_requestrefreshschedule: a snapshot is counted again, regularly.
type Schedule struct {
	Base
	OwnerID              string
	RequestSnapshotID    uuid.UUID
	RefreshTime          database.TimeOfDay
	RefreshFrequency     string
	LastRefresh          *time.Time
	LastRefreshSucceeded *bool
	LastRefreshCount     *int32
	LastRefreshErrorMsg  *string
	NotifyOwner          bool
}

func (Schedule) TableName() string { return "cohort_requestrefreshschedule" }

// scheduleView is a schedule as clients see it (cohort.md 13.1).
type scheduleView struct {
	UUID                 uuid.UUID          `json:"uuid"`
	Deleted              *web.Datetime      `json:"deleted"`
	DeletedByCascade     bool               `json:"deleted_by_cascade"`
	CreatedAt            web.Datetime       `json:"created_at"`
	ModifiedAt           web.Datetime       `json:"modified_at"`
	RefreshTime          database.TimeOfDay `json:"refresh_time"`
	RefreshFrequency     string             `json:"refresh_frequency"`
	LastRefresh          *web.Datetime      `json:"last_refresh"`
	LastRefreshSucceeded *bool              `json:"last_refresh_succeeded"`
	LastRefreshCount     *int32             `json:"last_refresh_count"`
	LastRefreshErrorMsg  *string            `json:"last_refresh_error_msg"`
	NotifyOwner          bool               `json:"notify_owner"`
	RequestSnapshot      uuid.UUID          `json:"request_snapshot"`
	Owner                string             `json:"owner"`
}

// scheduleBody documents what may be written.
type scheduleBody struct {
	RefreshTime      string    `json:"refresh_time"`
	RefreshFrequency string    `json:"refresh_frequency"`
	NotifyOwner      bool      `json:"notify_owner"`
	RequestSnapshot  uuid.UUID `json:"request_snapshot"`
}

func (r Schedule) view() scheduleView {
	return scheduleView{UUID: r.UUID, Deleted: web.DatetimeOf(r.Deleted), DeletedByCascade: r.DeletedByCascade,
		CreatedAt: web.Datetime(r.CreatedAt), ModifiedAt: web.Datetime(r.ModifiedAt), RefreshTime: r.RefreshTime,
		RefreshFrequency: r.RefreshFrequency, LastRefresh: web.DatetimeOf(r.LastRefresh), LastRefreshSucceeded: r.LastRefreshSucceeded,
		LastRefreshCount: r.LastRefreshCount, LastRefreshErrorMsg: r.LastRefreshErrorMsg, NotifyOwner: r.NotifyOwner,
		RequestSnapshot: r.RequestSnapshotID, Owner: r.OwnerID}
}

const weekly = "weekly"

// refreshDays are the days of the month on which schedules run, by frequency (schema.md 6.3).
var refreshDays = map[string]string{"daily": "*", "every_other_day": "*/2", weekly: "*/7"}

var refreshFrequencies = []string{"daily", "every_other_day", weekly}

func (a *api) listSchedules(c *gin.Context) error {
	q := web.QueryOf(c)
	g := a.db.Read(c.Request.Context())
	snapshotID, at, frequency := q.UUID("request_snapshot_id"), q.Text("refresh_time"), q.Choice("refresh_frequency", refreshFrequencies...)
	orders := q.Ordering("created_at", "modified_at")
	db := owned[Schedule](g, identity.CallerOf(c).Username)
	if at != "" {
		t, err := database.ParseTimeOfDay(at)
		if err != nil {
			q.Refuse("refresh_time", "Enter a valid time.")
		}
		db = db.Where("refresh_time = ?", t)
	}
	if err := q.Err(); err != nil {
		return err
	}
	if snapshotID != nil {
		db = db.Where("request_snapshot_id = ?", *snapshotID)
	}
	if frequency != "" {
		db = db.Where("refresh_frequency = ?", frequency)
	}
	p := web.OffsetPage(c)
	rows, total, err := page[Schedule](db, ordering(orders, map[string]string{"created_at": "created_at", "modified_at": "modified_at"}), p)
	if err != nil {
		return err
	}
	views := make([]scheduleView, len(rows))
	for i, r := range rows {
		views[i] = r.view()
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, p, total, views))
	return nil
}

func (a *api) getSchedule(c *gin.Context) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	row, err := own[Schedule](a.db.Read(c.Request.Context()), identity.CallerOf(c).Username, id)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, row.view())
	return nil
}

// scheduleFields reads what may be written.
func (a *api) scheduleFields(c *gin.Context, partial bool) (map[string]any, *Snapshot, error) {
	f, err := fieldsOf(c, partial, nil, "owner", "request_snapshot")
	if err != nil {
		return nil, nil, err
	}
	caller, set := identity.CallerOf(c), map[string]any{}
	if v := f.String("refresh_time", web.Required); v.Set {
		t, err := database.ParseTimeOfDay(v.Value)
		if err != nil || t.Hour() > 23 {
			f.Add("refresh_time", "Time has wrong format. Use one of these formats instead: hh:mm[:ss[.uuuuuu]].")
		}
		set["refresh_time"] = t
	}
	if v := f.Choice("refresh_frequency", refreshFrequencies); v.Set {
		set["refresh_frequency"] = v.Value
	}
	if v := f.Bool("notify_owner"); v.Set {
		set["notify_owner"] = v.Value
	}
	snap, err := refer[Snapshot](a.db.Read(c.Request.Context()), f, "request_snapshot", caller.Username, f.Ref("request_snapshot", web.Required))
	if err != nil {
		return nil, nil, err
	}
	if snap != nil {
		set["request_snapshot_id"] = snap.UUID
	}
	checkOwner(f, caller)
	return set, snap, f.Err()
}

func (a *api) createSchedule(c *gin.Context) error {
	set, snap, err := a.scheduleFields(c, false)
	if err != nil {
		return err
	}
	ctx, caller := c.Request.Context(), identity.CallerOf(c)
	row := Schedule{Base: a.base(), OwnerID: caller.Username, RequestSnapshotID: snap.UUID, RefreshFrequency: weekly}
	row.RefreshTime = set["refresh_time"].(database.TimeOfDay)
	if v, ok := set["refresh_frequency"].(string); ok {
		row.RefreshFrequency = v
	}
	row.NotifyOwner, _ = set["notify_owner"].(bool)
	if err := a.freeForSchedule(ctx, snap.UUID, uuid.Nil); err != nil {
		return err
	}
	translated, err := a.translateForSchedule(c, *snap)
	if err != nil {
		return err
	}
	err = a.db.Update(ctx, func(tx *database.Tx) error {
		if err := tx.Create(&row).Error; err != nil {
			return scheduleTaken(err)
		}
		return tx.Model(&Snapshot{}).Where("uuid = ?", snap.UUID).Updates(map[string]any{"translated_query": translated}).Error
	})
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusCreated, row.view())
	return nil
}

var errScheduleTaken = fault.Field("request_snapshot", "This snapshot has a refresh schedule already.")

// freeForSchedule refuses a second schedule of a snapshot before anybody is asked anything.
func (s *Service) freeForSchedule(ctx context.Context, snapshotID, except uuid.UUID) error {
	var n int64
	err := live[Schedule](s.db.Read(ctx)).Where("request_snapshot_id = ? AND uuid <> ?", snapshotID, except).Count(&n).Error
	if err != nil {
		return fmt.Errorf("look for a schedule: %w", err)
	}
	if n > 0 {
		return errScheduleTaken
	}
	return nil
}

func scheduleTaken(err error) error {
	if _, ok := database.UniqueViolation(err); ok {
		return errScheduleTaken
	}
	return fmt.Errorf("save refresh schedule: %w", err)
}

// translateForSchedule translates the query now, while the caller's token is at hand (cohort.md 13.2); the runs have none. The
// snapshot's own id stands for the count's, which each run replaces.
func (a *api) translateForSchedule(c *gin.Context, snap Snapshot) (string, error) {
	caller := identity.CallerOf(c)
	translated, err := a.translator.Translate(c.Request.Context(), queryexec.Query{Serialized: snap.SerializedQuery, Mode: queryexec.ModeCount,
		InstanceID: snap.UUID.String(), Owner: snap.OwnerID,
		Auth: fhir.Auth{Authorization: caller.Authorization, Method: caller.AuthorizationMethod, TraceID: caller.TraceID}})
	var hopeless *queryexec.QueryError
	if errors.As(err, &hopeless) {
		return "", fault.Field("request_snapshot", hopeless.Text)
	}
	if err != nil {
		return "", fmt.Errorf("translate snapshot %s for a schedule: %w", snap.UUID, err)
	}
	return translated.Job.Body, nil
}

func (a *api) changeSchedule(c *gin.Context) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	ctx, owner := c.Request.Context(), identity.CallerOf(c).Username
	row, err := own[Schedule](a.db.Read(ctx), owner, id)
	if err != nil {
		return err
	}
	set, snap, err := a.scheduleFields(c, true)
	if err != nil {
		return err
	}
	translated := ""
	if snap == nil {
		if of, err := take[Snapshot](a.db.Read(ctx).Where("uuid = ?", row.RequestSnapshotID)); err == nil && of.TranslatedQuery == nil {
			snap = &of // its query was changed since
		}
	} else if err := a.freeForSchedule(ctx, snap.UUID, id); err != nil {
		return err
	}
	if snap != nil {
		if translated, err = a.translateForSchedule(c, *snap); err != nil {
			return err
		}
	}
	err = a.db.Update(ctx, func(tx *database.Tx) error {
		if err := change[Schedule](tx.DB, owner, id, a.stamped(set)); err != nil {
			if _, violated := database.UniqueViolation(err); violated {
				return errScheduleTaken
			}
			return err
		}
		if snap != nil {
			if err := tx.Model(&Snapshot{}).Where("uuid = ?", snap.UUID).Updates(map[string]any{"translated_query": translated}).Error; err != nil {
				return err
			}
		}
		row, err = own[Schedule](tx.DB, owner, id)
		return err
	})
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, row.view())
	return nil
}

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
			err = s.openCountAs(ctx, tx, m, secret{Job: forCount(*snap.TranslatedQuery, m.UUID.String())}, refresher)
		}
		if err != nil {
			return err
		}
		return j.engine.DoneTx(ctx, tx, claim)
	})
}

var instanceID = regexp.MustCompile(`cohortUuid\\?"?\s*[:=]\s*\\?"?([0-9a-fA-F-]{36})`)

// forCount puts a count's id in the place of the one for which a job was translated, in either notation (schema.md 7.5).
func forCount(body, id string) string {
	if m := instanceID.FindStringSubmatch(body); m != nil {
		return strings.ReplaceAll(body, m[1], id)
	}
	return body
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
