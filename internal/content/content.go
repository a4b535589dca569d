// Package content serves the banners and release notes that the fronts show (contract: system.md, section 11). Anyone
// may read them, even before signing in. It writes nothing yet: rows are made by the system being replaced or by an
// operator.
package content

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
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

var labels = map[string]string{"BANNER_WARNING": "Bannière d'avertissement", "BANNER_INFO": "Bannière d'information",
	"BANNER_ERROR": "Bannière d'erreur", "RELEASE_NOTE": "Note de version"}

// Service reads contents.
type Service struct{ db *database.DB }

// New reads from db.
func New(db *database.DB) *Service { return &Service{db: db} }

// Table is the reading half of the web content API.
func (s *Service) Table() web.Table {
	return web.Table{
		{Method: "GET", Path: "/webcontent/contents/", Summary: "List banners and release notes", Tag: "web content", Paged: web.ByPage, Out: web.PageOf[View]{}, For: web.Anyone, Do: s.list, Query: []web.Param{
			{Name: "content_type", Type: "string", Doc: "comma list"}, {Name: "page_source", Type: "string", Doc: "comma list"},
			{Name: "search", Type: "string"}, {Name: "ordering", Type: "string", Doc: "created_at, modified_at, title"}}},
		{Method: "GET", Path: "/webcontent/contents/content_types/", Summary: "The content types", Tag: "web content", Out: TypesView{}, For: web.Anyone, Do: s.types},
		{Method: "GET", Path: "/webcontent/contents/:id/", Summary: "One content", Tag: "web content", Out: View{}, For: web.Anyone, Do: s.retrieve},
	}
}

func (s *Service) types(c *gin.Context) error {
	t := func(name string) TypeView { return TypeView{Label: labels[name], Description: labels[name]} }
	web.JSON(c, http.StatusOK, TypesView{t("BANNER_WARNING"), t("BANNER_INFO"), t("BANNER_ERROR"), t("RELEASE_NOTE")})
	return nil
}

type filter struct {
	types, pages []string
	search       []string
	order        []web.Order
}

func (f filter) apply(q *gorm.DB) *gorm.DB {
	q = q.Model(&Content{}).Where("deleted_at IS NULL")
	if f.types != nil {
		known := slices.DeleteFunc(slices.Clone(f.types), func(name string) bool { return labels[name] == "" })
		q = q.Where("content_type IN ?", append(known, "")) // none known: nothing matches
	}
	if f.pages != nil {
		q = q.Where("page IN ?", f.pages)
	}
	for _, term := range f.search {
		q = q.Where(clause.Or(database.Contains("title", term), database.Contains("content", term)))
	}
	return q
}

func (s *Service) list(c *gin.Context) error {
	page, err := web.NumberedPage(c)
	if err != nil {
		return err
	}
	q := web.QueryOf(c)
	f := filter{types: q.List("content_type"), pages: q.List("page_source"), search: q.Search(), order: q.Ordering("created_at", "modified_at", "title")}
	if err := q.Err(); err != nil {
		return err
	}
	contents, total, page, err := s.page(c.Request.Context(), f, page)
	if err != nil {
		return err
	}
	views := make([]View, len(contents))
	for i, content := range contents {
		views[i] = viewOf(content)
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, page, total, views))
	return nil
}

// page is three queries: the count, the page, its metadata.
func (s *Service) page(ctx context.Context, f filter, p web.Page) (contents []Content, total int64, fitted web.Page, err error) {
	if err := f.apply(s.db.Read(ctx)).Count(&total).Error; err != nil {
		return nil, 0, p, fmt.Errorf("count contents: %w", err)
	}
	if p, err = p.Fit(total); err != nil || p.Past(total) {
		return nil, total, p, err
	}
	q := f.apply(s.db.Read(ctx)).Preload("Metadata")
	for _, o := range f.order {
		q = q.Order(database.OrderBy(o.Name, o.Desc))
	}
	err = q.Order("created_at DESC, id DESC").Limit(p.Limit).Offset(p.Offset).Find(&contents).Error
	if err != nil {
		return nil, 0, p, fmt.Errorf("list contents: %w", err)
	}
	return contents, total, p, nil
}

func (s *Service) retrieve(c *gin.Context) error {
	id, err := strconv.ParseInt(c.Param("id"), 10, 32)
	if err != nil {
		return fault.NotFound{}
	}
	var content Content
	err = s.db.Read(c.Request.Context()).Preload("Metadata").Where("deleted_at IS NULL").Take(&content, id).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return fault.NotFound{Model: "Content"}
	}
	if err != nil {
		return fmt.Errorf("find content: %w", err)
	}
	web.JSON(c, http.StatusOK, viewOf(content))
	return nil
}

func viewOf(c Content) View {
	v := View{ID: c.ID, Title: c.Title, Content: c.Content, Page: c.Page, ContentType: c.ContentType, ContentTypeDisplay: labels[c.ContentType],
		CreatedAt: web.Datetime(c.CreatedAt), ModifiedAt: web.Datetime(c.ModifiedAt), DeletedAt: web.DatetimeOf(c.DeletedAt), Metadata: map[string]string{}}
	for _, m := range c.Metadata {
		v.Metadata[m.Name] = m.Value
	}
	return v
}
