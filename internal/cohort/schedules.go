package cohort

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"cohortflow/internal/fhir"
	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/queryexec"
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
