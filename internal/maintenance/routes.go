package maintenance

import (
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/swaggest/jsonschema-go"

	"cohortflow/internal/platform/web"
)

type body struct {
	Subject       string        `json:"subject"`
	Message       *string       `json:"message,omitempty"`
	Type          string        `json:"type,omitempty" enum:"partial,full"`
	StartDatetime *web.Datetime `json:"start_datetime"`
	EndDatetime   *web.Datetime `json:"end_datetime"`
}

// nextView is a phase, or nothing at all.
type nextView struct{ View }

// PrepareJSONSchema implements jsonschema.Preparer.
func (nextView) PrepareJSONSchema(s *jsonschema.Schema) error {
	s.Required = nil
	return nil
}

// Table is the maintenances API (contract: system.md 7.2).
func (s *Service) Table() web.Table {
	rows := web.Rows[Phase]{Page: s.list, Get: s.cfg.Store.Get, Create: s.Create, Change: s.Change, Delete: s.Delete, View: s.view}
	return web.Table{
		{Method: "GET", Path: "/maintenances/", Summary: "List maintenance phases", Tag: "maintenance", Paged: web.ByPage, Out: web.PageOf[View]{}, For: web.Anyone, Do: rows.DoList, Query: []web.Param{
			{Name: "subject", Type: "string"}, {Name: "start_datetime", Type: "date-time"}, {Name: "end_datetime", Type: "date-time"},
			{Name: "min_start_datetime", Type: "date-time"}, {Name: "max_end_datetime", Type: "date-time"}, {Name: "search", Type: "string"},
			{Name: "ordering", Type: "string", Doc: "start_datetime, end_datetime"}}},
		{Method: "POST", Path: "/maintenances/", Summary: "Plan a maintenance", Tag: "maintenance", Body: body{}, Out: View{}, Status: 201, For: web.Maintainer, Do: rows.DoCreate},
		{Method: "GET", Path: "/maintenances/next/", Summary: "The current phase, or the next one; {} for none", Tag: "maintenance", Out: nextView{}, For: web.Anyone, Do: s.next},
		{Method: "GET", Path: "/maintenances/:id/", Summary: "One phase", Tag: "maintenance", Out: View{}, For: web.Anyone, Do: rows.DoGet},
		{Method: "PATCH", Path: "/maintenances/:id/", Summary: "Change a phase", Tag: "maintenance", Body: body{}, Out: View{}, For: web.Maintainer, Do: rows.DoChange},
		{Method: "DELETE", Path: "/maintenances/:id/", Summary: "Delete a phase", Tag: "maintenance", Status: 204, For: web.Maintainer, Do: rows.DoDelete},
	}
}

func (s *Service) list(c *gin.Context, page web.Page) ([]Phase, int64, web.Page, error) {
	q := web.QueryOf(c)
	f := Filter{Subject: q.Text("subject"), Start: q.Time("start_datetime"), End: q.Time("end_datetime"), MinStart: q.Time("min_start_datetime"),
		MaxEnd: q.Time("max_end_datetime"), Search: q.Search(), Order: q.Ordering("start_datetime", "end_datetime")}
	if err := q.Err(); err != nil {
		return nil, 0, page, err
	}
	return s.cfg.Store.List(c.Request.Context(), f, page)
}

func (s *Service) next(c *gin.Context) error {
	p, err := s.Next(c.Request.Context())
	switch {
	case err != nil:
		return err
	case p == nil:
		web.JSON(c, http.StatusOK, struct{}{})
	default:
		web.JSON(c, http.StatusOK, s.view(*p))
	}
	return nil
}

// view is a phase as the API shows it now.
func (s *Service) view(p Phase) any { return viewOf(p, s.cfg.Clock.Now()) }
