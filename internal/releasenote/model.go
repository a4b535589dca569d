package releasenote

import (
	"time"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/web"
)

// Note is a row of release_note (schema.md 5).
type Note struct {
	ID             int64 `gorm:"primaryKey"`
	Title          string
	Message        database.StringArray
	Author         *string
	InsertDatetime *time.Time
	UpdateDatetime *time.Time
	DeleteDatetime *time.Time
}

// TableName implements gorm's Tabler.
func (Note) TableName() string { return "release_note" }

// View is a note as the API shows it (system.md 8).
type View struct {
	ID             int64         `json:"id"`
	InsertDatetime *web.Datetime `json:"insert_datetime"`
	UpdateDatetime *web.Datetime `json:"update_datetime"`
	Title          string        `json:"title"`
	Message        []string      `json:"message"`
	Author         *string       `json:"author"`
}

func viewOf(n Note) View {
	v := View{ID: n.ID, InsertDatetime: web.DatetimeOf(n.InsertDatetime), UpdateDatetime: web.DatetimeOf(n.UpdateDatetime), Title: n.Title, Message: n.Message, Author: n.Author}
	if v.Message == nil {
		v.Message = []string{}
	}
	return v
}
