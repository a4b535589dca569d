package content

import (
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

type body struct {
	Title       string            `json:"title"`
	Content     string            `json:"content"`
	Page        string            `json:"page"`
	ContentType string            `json:"content_type" enum:"BANNER_WARNING,BANNER_INFO,BANNER_ERROR,RELEASE_NOTE"`
	DeletedAt   *web.Datetime     `json:"deleted_at,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
}

const tag = "web content"

// Table is the web content API (contract: system.md 11).
func (s *Service) Table() web.Table {
	return web.Table{
		web.Root("/webcontent/", tag, "contents"),
		{Method: "GET", Path: "/webcontent/contents/", Summary: "List banners and release notes", Tag: tag, Paged: web.ByPage, Out: web.PageOf[View]{}, For: web.Anyone, Do: s.list, Query: []web.Param{
			{Name: "content_type", Type: "string", Doc: "comma list"}, {Name: "page_source", Type: "string", Doc: "comma list"},
			{Name: "search", Type: "string"}, {Name: "ordering", Type: "string", Doc: "created_at, modified_at, title"}}},
		{Method: "POST", Path: "/webcontent/contents/", Summary: "Write a content", Tag: tag, Body: body{}, Out: View{}, Status: 201, For: web.FullAdmin, Do: s.post},
		{Method: "GET", Path: "/webcontent/contents/content_types/", Summary: "The content types", Tag: tag, Out: TypesView{}, For: web.Anyone, Do: s.types},
		{Method: "GET", Path: "/webcontent/contents/:id/", Summary: "One content", Tag: tag, Out: View{}, For: web.Anyone, Do: s.retrieve},
		{Method: "PATCH", Path: "/webcontent/contents/:id/", Summary: "Change a content", Tag: tag, Body: body{}, Out: View{}, For: web.FullAdmin, Do: s.patch},
		{Method: "DELETE", Path: "/webcontent/contents/:id/", Summary: "Delete a content", Tag: tag, Status: 204, For: web.FullAdmin, Do: s.remove},
	}
}

func (s *Service) types(c *gin.Context) error {
	t := func(name string) TypeView { return TypeView{Label: labels[name], Description: labels[name]} }
	web.JSON(c, http.StatusOK, TypesView{t("BANNER_WARNING"), t("BANNER_INFO"), t("BANNER_ERROR"), t("RELEASE_NOTE")})
	return nil
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

func idOf(c *gin.Context) (int64, error) {
	id, err := strconv.ParseInt(c.Param("id"), 10, 32)
	if err != nil {
		return 0, fault.NotFound{}
	}
	return id, nil
}

func (s *Service) retrieve(c *gin.Context) error {
	id, err := idOf(c)
	if err != nil {
		return err
	}
	content, err := get(s.db.Read(c.Request.Context()), id)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, viewOf(content))
	return nil
}

func (s *Service) post(c *gin.Context) error {
	object, err := web.Body(c)
	if err != nil {
		return err
	}
	content, err := s.Create(c.Request.Context(), object)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusCreated, viewOf(content))
	return nil
}

func (s *Service) patch(c *gin.Context) error {
	id, err := idOf(c)
	if err != nil {
		return err
	}
	object, err := web.Body(c)
	if err != nil {
		return err
	}
	content, err := s.Change(c.Request.Context(), id, object)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, viewOf(content))
	return nil
}

func (s *Service) remove(c *gin.Context) error {
	id, err := idOf(c)
	if err != nil {
		return err
	}
	if err := s.Delete(c.Request.Context(), id); err != nil {
		return err
	}
	web.Empty(c, http.StatusNoContent)
	return nil
}
