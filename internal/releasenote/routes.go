package releasenote

import (
	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/web"
)

type body struct {
	Title   string   `json:"title"`
	Message []string `json:"message,omitempty"`
	Author  *string  `json:"author,omitempty"`
}

const tag = "release notes"

// Table is the release notes API (contract: system.md 8).
func (s *Service) Table() web.Table {
	rows := web.Rows[Note]{Page: s.list, Get: s.Get, Create: s.Create, Change: s.Change, View: func(n Note) any { return viewOf(n) }}
	return web.Table{
		{Method: "GET", Path: "/release-notes/", Summary: "List release notes, newest first", Tag: tag, Query: []web.Param{{Name: "search", Type: "string", Doc: "terms in the title or the message"}},
			Paged: web.ByPage, Out: web.PageOf[View]{}, For: web.AnyUser, Do: rows.DoList},
		{Method: "POST", Path: "/release-notes/", Summary: "Write a release note", Tag: tag, Body: body{}, Out: View{}, Status: 201, For: web.FullAdmin, Do: rows.DoCreate},
		{Method: "GET", Path: "/release-notes/:id/", Summary: "One release note", Tag: tag, Out: View{}, For: web.AnyUser, Do: rows.DoGet},
		{Method: "PATCH", Path: "/release-notes/:id/", Summary: "Change a release note", Tag: tag, Body: body{}, Out: View{}, For: web.FullAdmin, Do: rows.DoChange},
	}
}

func (s *Service) list(c *gin.Context, page web.Page) ([]Note, int64, web.Page, error) {
	q := web.QueryOf(c)
	search := q.Search()
	if err := q.Err(); err != nil {
		return nil, 0, page, err
	}
	return s.page(c.Request.Context(), search, page)
}
