package content

import (
	"net/http"

	"github.com/gin-gonic/gin"

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
	rows := web.Rows[Content]{Page: s.list, Get: s.Get, Create: s.Create, Change: s.Change, Delete: s.Delete, View: func(c Content) any { return viewOf(c) }}
	return web.Table{
		web.Root("/webcontent/", tag, "contents"),
		{Method: "GET", Path: "/webcontent/contents/", Summary: "List banners and release notes", Tag: tag, Paged: web.ByPage, Out: web.PageOf[View]{}, For: web.Anyone, Do: rows.DoList, Query: []web.Param{
			{Name: "content_type", Type: "string", Doc: "comma list"}, {Name: "page_source", Type: "string", Doc: "comma list"},
			{Name: "search", Type: "string"}, {Name: "ordering", Type: "string", Doc: "created_at, modified_at, title"}}},
		{Method: "POST", Path: "/webcontent/contents/", Summary: "Write a content", Tag: tag, Body: body{}, Out: View{}, Status: 201, For: web.FullAdmin, Do: rows.DoCreate},
		{Method: "GET", Path: "/webcontent/contents/content_types/", Summary: "The content types", Tag: tag, Out: TypesView{}, For: web.Anyone, Do: s.types},
		{Method: "GET", Path: "/webcontent/contents/:id/", Summary: "One content", Tag: tag, Out: View{}, For: web.Anyone, Do: rows.DoGet},
		{Method: "PATCH", Path: "/webcontent/contents/:id/", Summary: "Change a content", Tag: tag, Body: body{}, Out: View{}, For: web.FullAdmin, Do: rows.DoChange},
		{Method: "DELETE", Path: "/webcontent/contents/:id/", Summary: "Delete a content", Tag: tag, Status: 204, For: web.FullAdmin, Do: rows.DoDelete},
	}
}

func (s *Service) types(c *gin.Context) error {
	t := func(name string) TypeView { return TypeView{Label: labels[name], Description: labels[name]} }
	web.JSON(c, http.StatusOK, TypesView{t("BANNER_WARNING"), t("BANNER_INFO"), t("BANNER_ERROR"), t("RELEASE_NOTE")})
	return nil
}

func (s *Service) list(c *gin.Context, page web.Page) ([]Content, int64, web.Page, error) {
	q := web.QueryOf(c)
	f := filter{types: q.List("content_type"), pages: q.List("page_source"), search: q.Search(), order: q.Ordering("created_at", "modified_at", "title")}
	if err := q.Err(); err != nil {
		return nil, 0, page, err
	}
	return s.page(c.Request.Context(), f, page)
}
