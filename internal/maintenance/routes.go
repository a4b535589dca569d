package maintenance

import (
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"
	"github.com/swaggest/jsonschema-go"

	"cohortflow/internal/platform/fault"
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

type routes struct{ service *Service }

// Table is the maintenances API (contract: system.md 7.2).
func (s *Service) Table() web.Table {
	r := routes{s}
	return web.Table{
		{Method: "GET", Path: "/maintenances/", Summary: "List maintenance phases", Tag: "maintenance", Paged: web.ByPage, Out: web.PageOf[View]{}, For: web.Anyone, Do: r.list, Query: []web.Param{
			{Name: "subject", Type: "string"}, {Name: "start_datetime", Type: "date-time"}, {Name: "end_datetime", Type: "date-time"},
			{Name: "min_start_datetime", Type: "date-time"}, {Name: "max_end_datetime", Type: "date-time"}, {Name: "search", Type: "string"},
			{Name: "ordering", Type: "string", Doc: "start_datetime, end_datetime"}}},
		{Method: "POST", Path: "/maintenances/", Summary: "Plan a maintenance", Tag: "maintenance", Body: body{}, Out: View{}, Status: 201, For: web.Maintainer, Do: r.create},
		{Method: "GET", Path: "/maintenances/next/", Summary: "The current phase, or the next one; {} for none", Tag: "maintenance", Out: nextView{}, For: web.Anyone, Do: r.next},
		{Method: "GET", Path: "/maintenances/:id/", Summary: "One phase", Tag: "maintenance", Out: View{}, For: web.Anyone, Do: r.retrieve},
		{Method: "PATCH", Path: "/maintenances/:id/", Summary: "Change a phase", Tag: "maintenance", Body: body{}, Out: View{}, For: web.Maintainer, Do: r.change},
		{Method: "DELETE", Path: "/maintenances/:id/", Summary: "Delete a phase", Tag: "maintenance", Status: 204, For: web.Maintainer, Do: r.delete},
	}
}

func (r routes) list(c *gin.Context) error {
	page, err := web.NumberedPage(c)
	if err != nil {
		return err
	}
	q := web.QueryOf(c)
	f := Filter{Subject: q.Text("subject"), Start: q.Time("start_datetime"), End: q.Time("end_datetime"), MinStart: q.Time("min_start_datetime"),
		MaxEnd: q.Time("max_end_datetime"), Search: q.Search(), Order: q.Ordering("start_datetime", "end_datetime")}
	if err := q.Err(); err != nil {
		return err
	}
	phases, total, page, err := r.service.cfg.Store.List(c.Request.Context(), f, page)
	if err != nil {
		return err
	}
	views := make([]View, len(phases))
	for i, p := range phases {
		views[i] = viewOf(p, r.service.cfg.Clock.Now())
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, page, total, views))
	return nil
}

func (r routes) next(c *gin.Context) error {
	p, err := r.service.Next(c.Request.Context())
	if err != nil {
		return err
	}
	if p == nil {
		web.JSON(c, http.StatusOK, struct{}{})
		return nil
	}
	return r.answer(c, http.StatusOK, *p)
}

func (r routes) answer(c *gin.Context, status int, p Phase) error {
	web.JSON(c, status, viewOf(p, r.service.cfg.Clock.Now()))
	return nil
}

func phaseID(c *gin.Context) (int64, error) {
	id, err := strconv.ParseInt(c.Param("id"), 10, 32)
	if err != nil {
		return 0, fault.NotFound{}
	}
	return id, nil
}

func (r routes) retrieve(c *gin.Context) error {
	id, err := phaseID(c)
	if err != nil {
		return err
	}
	p, err := r.service.cfg.Store.Get(c.Request.Context(), id)
	if err != nil {
		return err
	}
	return r.answer(c, http.StatusOK, p)
}

func (r routes) create(c *gin.Context) error {
	object, err := web.Body(c)
	if err != nil {
		return err
	}
	p, err := r.service.Create(c.Request.Context(), object)
	if err != nil {
		return err
	}
	return r.answer(c, http.StatusCreated, p)
}

func (r routes) change(c *gin.Context) error {
	id, err := phaseID(c)
	if err != nil {
		return err
	}
	object, err := web.Body(c)
	if err != nil {
		return err
	}
	p, err := r.service.Change(c.Request.Context(), id, object)
	if err != nil {
		return err
	}
	return r.answer(c, http.StatusOK, p)
}

func (r routes) delete(c *gin.Context) error {
	id, err := phaseID(c)
	if err != nil {
		return err
	}
	if err := r.service.Delete(c.Request.Context(), id); err != nil {
		return err
	}
	web.Empty(c, http.StatusNoContent)
	return nil
}
