package content

import (
	"time"

	"cohortflow/internal/platform/web"
)

// Content is a row of content_management_content (schema.md 5.5).
type Content struct {
	ID          int64 `gorm:"primaryKey"`
	Title       string
	Content     string
	Page        string
	ContentType string
	CreatedAt   time.Time
	ModifiedAt  time.Time
	DeletedAt   *time.Time
	Metadata    []Metadata `gorm:"foreignKey:ContentID"`
}

// TableName implements gorm's Tabler.
func (Content) TableName() string { return "content_management_content" }

// Metadata is a named text beside a content.
type Metadata struct {
	ID        int64 `gorm:"primaryKey"`
	ContentID int64
	Name      string
	Value     string
}

// TableName implements gorm's Tabler.
func (Metadata) TableName() string { return "content_management_contentmetadata" }

// View is a content as the API shows it.
type View struct {
	ID                 int64             `json:"id"`
	Title              string            `json:"title"`
	Content            string            `json:"content"`
	Page               string            `json:"page"`
	ContentType        string            `json:"content_type"`
	ContentTypeDisplay string            `json:"content_type_display"`
	CreatedAt          web.Datetime      `json:"created_at"`
	ModifiedAt         web.Datetime      `json:"modified_at"`
	DeletedAt          *web.Datetime     `json:"deleted_at"`
	Metadata           map[string]string `json:"metadata"`
}

// TypeView explains a content type.
type TypeView struct {
	Label       string `json:"label"`
	Description string `json:"description"`
}

// TypesView are the content types, in the contract's order.
type TypesView struct {
	Warning TypeView `json:"BANNER_WARNING"`
	Info    TypeView `json:"BANNER_INFO"`
	Error   TypeView `json:"BANNER_ERROR"`
	Release TypeView `json:"RELEASE_NOTE"`
}

// types are the content types, in the contract's order.
var types = []string{"BANNER_WARNING", "BANNER_INFO", "BANNER_ERROR", "RELEASE_NOTE"}

// names are those that metadata may have.
var names = []string{"order", "style", "tags"}

var labels = map[string]string{"BANNER_WARNING": "Bannière d'avertissement", "BANNER_INFO": "Bannière d'information",
	"BANNER_ERROR": "Bannière d'erreur", "RELEASE_NOTE": "Note de version"}

func viewOf(c Content) View {
	v := View{ID: c.ID, Title: c.Title, Content: c.Content, Page: c.Page, ContentType: c.ContentType, ContentTypeDisplay: labels[c.ContentType],
		CreatedAt: web.Datetime(c.CreatedAt), ModifiedAt: web.Datetime(c.ModifiedAt), DeletedAt: web.DatetimeOf(c.DeletedAt), Metadata: map[string]string{}}
	for _, m := range c.Metadata {
		v.Metadata[m.Name] = m.Value
	}
	return v
}
