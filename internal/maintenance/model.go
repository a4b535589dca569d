package maintenance

import (
	"time"

	"cohortflow/internal/platform/web"
)

// Phase is a row of admin_cohort_maintenancephase (schema.md 5.1).
type Phase struct {
	ID             int64 `gorm:"primaryKey"`
	Subject        string
	Message        *string
	Type           string
	StartDatetime  time.Time
	EndDatetime    time.Time
	InsertDatetime *time.Time
	UpdateDatetime *time.Time
	DeleteDatetime *time.Time
}

// TableName implements gorm's Tabler.
func (Phase) TableName() string { return "admin_cohort_maintenancephase" }

// Active tells whether the phase is on: strictly between its bounds.
func (p Phase) Active(now time.Time) bool {
	return p.StartDatetime.Before(now) && now.Before(p.EndDatetime)
}

// View is a phase as the API shows it (system.md 7.1).
type View struct {
	ID               int64         `json:"id"`
	InsertDatetime   *web.Datetime `json:"insert_datetime"`
	UpdateDatetime   *web.Datetime `json:"update_datetime"`
	DeleteDatetime   *web.Datetime `json:"delete_datetime"`
	MaintenanceStart web.Datetime  `json:"maintenance_start"`
	MaintenanceEnd   web.Datetime  `json:"maintenance_end"`
	Active           bool          `json:"active"`
	Subject          string        `json:"subject"`
	Message          *string       `json:"message"`
	Type             string        `json:"type"`
	StartDatetime    web.Datetime  `json:"start_datetime"`
	EndDatetime      web.Datetime  `json:"end_datetime"`
}

func viewOf(p Phase, now time.Time) View {
	return View{ID: p.ID, InsertDatetime: web.DatetimeOf(p.InsertDatetime), UpdateDatetime: web.DatetimeOf(p.UpdateDatetime), DeleteDatetime: web.DatetimeOf(p.DeleteDatetime),
		MaintenanceStart: web.Datetime(p.StartDatetime), MaintenanceEnd: web.Datetime(p.EndDatetime), Active: p.Active(now),
		Subject: p.Subject, Message: p.Message, Type: p.Type, StartDatetime: web.Datetime(p.StartDatetime), EndDatetime: web.Datetime(p.EndDatetime)}
}

// Notice is the websocket message about a phase, to everybody (system.md 10.4).
type Notice struct {
	Type string `json:"type"`
	Info Info   `json:"info"`
}

// Info is what a notice says; its moments have numeric offsets.
type Info struct {
	ID               int64   `json:"id"`
	Subject          string  `json:"subject"`
	MaintenanceStart string  `json:"maintenance_start"`
	MaintenanceEnd   string  `json:"maintenance_end"`
	Active           bool    `json:"active"`
	Type             string  `json:"type"`
	Message          *string `json:"message"`
}

// NoticeOf is the message about a phase.
func NoticeOf(p Phase, active bool) Notice {
	return Notice{Type: "maintenance", Info: Info{ID: p.ID, Subject: p.Subject, MaintenanceStart: offsetTime(p.StartDatetime),
		MaintenanceEnd: offsetTime(p.EndDatetime), Active: active, Type: p.Type, Message: p.Message}}
}

// offsetTime writes 2026-11-21T07:30:06+00:00, with six digits of a second where there are any (system.md 2.4).
func offsetTime(t time.Time) string {
	t = t.UTC()
	if t.Nanosecond()/1000 == 0 {
		return t.Format("2006-01-02T15:04:05-07:00")
	}
	return t.Format("2006-01-02T15:04:05.000000-07:00")
}
