package releasenote

import (
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/fault"
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
	return web.Table{
		{Method: "GET", Path: "/release-notes/", Summary: "List release notes, newest first", Tag: tag, Query: []web.Param{{Name: "search", Type: "string", Doc: "terms in the title or the message"}},
			Paged: web.ByPage, Out: web.PageOf[View]{}, For: web.AnyUser, Do: s.list},
		{Method: "POST", Path: "/release-notes/", Summary: "Write a release note", Tag: tag, Body: body{}, Out: View{}, Status: 201, For: web.FullAdmin, Do: s.post},
		{Method: "GET", Path: "/release-notes/:id/", Summary: "One release note", Tag: tag, Out: View{}, For: web.AnyUser, Do: s.retrieve},
		{Method: "PATCH", Path: "/release-notes/:id/", Summary: "Change a release note", Tag: tag, Body: body{}, Out: View{}, For: web.FullAdmin, Do: s.patch},
	}
}

func (s *Service) list(c *gin.Context) error {
	page, err := web.NumberedPage(c)
	if err != nil {
		return err
	}
	q := web.QueryOf(c)
	search := q.Search()
	if err := q.Err(); err != nil {
		return err
	}
	notes, total, page, err := s.page(c.Request.Context(), search, page)
	if err != nil {
		return err
	}
	views := make([]View, len(notes))
	for i, n := range notes {
		views[i] = viewOf(n)
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
	n, err := get(s.db.Read(c.Request.Context()), id)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, viewOf(n))
	return nil
}

func (s *Service) post(c *gin.Context) error {
	object, err := web.Body(c)
	if err != nil {
		return err
	}
	n, err := s.Create(c.Request.Context(), object)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusCreated, viewOf(n))
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
	n, err := s.Change(c.Request.Context(), id, object)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, viewOf(n))
	return nil
}
