// Package jobs shows jobs of every kind, with their timelines, to their owners and to full admins, and cancels them
// (routes of our own; the front-ends do not know them). It reads the engine's rows and decides nothing about a job: a
// cancellation is an event like any other.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/engine"
	"cohortflow/internal/identity"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// View is a job as the API shows it. The external id is that of the outside system.
type View struct {
	ID         string        `json:"id"`
	Kind       string        `json:"kind"`
	Subject    string        `json:"subject"`
	Owner      string        `json:"owner"`
	State      string        `json:"state"`
	Reason     string        `json:"reason"`
	ExternalID string        `json:"external_id"`
	Deadline   *web.Datetime `json:"deadline"`
	HeardAt    web.Datetime  `json:"heard_at"`
	CreatedAt  web.Datetime  `json:"created_at"`
	UpdatedAt  web.Datetime  `json:"updated_at"`
	EndedAt    *web.Datetime `json:"ended_at"`
}

// EventView is one line of a job's timeline. Applied is false for what came late, twice or out of order.
type EventView struct {
	ID      int64        `json:"id"`
	At      web.Datetime `json:"at"`
	Actor   string       `json:"actor"`
	Event   string       `json:"event"`
	From    string       `json:"from"`
	To      string       `json:"to"`
	Attempt int          `json:"attempt"`
	Applied bool         `json:"applied"`
	Detail  string       `json:"detail"`
}

// Admins answers who may see everybody's jobs.
type Admins interface {
	IsFullAdmin(ctx context.Context, username string) (bool, error)
}

// Service shows and cancels jobs.
type Service struct {
	engine *engine.Engine
	admins Admins
}

// New keeps what it is given.
func New(e *engine.Engine, admins Admins) *Service { return &Service{engine: e, admins: admins} }

// Table is the jobs API.
func (s *Service) Table() web.Table {
	return web.Table{
		{Method: "GET", Path: "/jobs/", Summary: "List one's own jobs; a full admin lists all", Tag: "jobs", Paged: web.ByOffset, Out: web.PageOf[View]{}, For: web.OwnerOrAdmin, Do: s.list, Query: []web.Param{
			{Name: "kind", Type: "string"}, {Name: "state", Type: "string", Doc: "comma list"}, {Name: "running", Type: "boolean"}, {Name: "owner", Type: "string", Doc: "for full admins"}}},
		{Method: "GET", Path: "/jobs/:id/", Summary: "One job", Tag: "jobs", Out: View{}, For: web.OwnerOrAdmin, Do: s.retrieve},
		{Method: "GET", Path: "/jobs/:id/events/", Summary: "A job's timeline, oldest first", Tag: "jobs", Out: []EventView{}, For: web.OwnerOrAdmin, Do: s.events},
		{Method: "POST", Path: "/jobs/:id/cancel/", Summary: "Cancel a job", Tag: "jobs", Out: View{}, For: web.OwnerOrAdmin, Do: s.cancel},
	}
}

func (s *Service) list(c *gin.Context) error {
	caller := identity.CallerOf(c)
	admin, err := s.admins.IsFullAdmin(c.Request.Context(), caller.Username)
	if err != nil {
		return err
	}
	q := web.QueryOf(c)
	f := engine.Filter{Owner: caller.Username, Kind: q.Text("kind")}
	if admin {
		f.Owner = q.Text("owner")
	}
	if running := q.Bool("running"); running != nil {
		f.Running = *running
	}
	for _, state := range q.List("state") {
		f.States = append(f.States, engine.State(state))
	}
	if err := q.Err(); err != nil {
		return err
	}
	page := web.OffsetPage(c)
	jobs, total, err := s.engine.Jobs(c.Request.Context(), f, page.Limit, page.Offset)
	if err != nil {
		return err
	}
	views := make([]View, len(jobs))
	for i, j := range jobs {
		views[i] = viewOf(j)
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, page, total, views))
	return nil
}

// job is the job of the path, if the caller may see it; somebody else's is not there.
func (s *Service) job(c *gin.Context) (engine.Job, error) {
	id, err := web.UUID(c, "id")
	if err != nil {
		return engine.Job{}, err
	}
	ctx, caller := c.Request.Context(), identity.CallerOf(c)
	job, err := s.engine.Job(ctx, id.String())
	if errors.Is(err, engine.ErrNoJob) {
		return engine.Job{}, fault.NotFound{Model: "Job"}
	}
	if err != nil {
		return engine.Job{}, err
	}
	if job.Owner == caller.Username {
		return job, nil
	}
	admin, err := s.admins.IsFullAdmin(ctx, caller.Username)
	if err != nil {
		return engine.Job{}, err
	}
	if !admin {
		return engine.Job{}, fault.NotFound{Model: "Job"}
	}
	return job, nil
}

func (s *Service) retrieve(c *gin.Context) error {
	job, err := s.job(c)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, viewOf(job))
	return nil
}

func (s *Service) events(c *gin.Context) error {
	job, err := s.job(c)
	if err != nil {
		return err
	}
	lines, err := s.engine.Events(c.Request.Context(), job.ID)
	if err != nil {
		return err
	}
	views := make([]EventView, len(lines))
	for i, l := range lines {
		views[i] = EventView{ID: l.ID, At: web.Datetime(l.At), Actor: l.Actor, Event: string(l.Event), From: string(l.From), To: string(l.To), Attempt: l.Attempt, Applied: l.Applied, Detail: l.Detail}
	}
	web.JSON(c, http.StatusOK, views)
	return nil
}

func (s *Service) cancel(c *gin.Context) error {
	job, err := s.job(c)
	if err != nil {
		return err
	}
	result, err := s.engine.Cancel(c.Request.Context(), job.ID, identity.CallerOf(c).Username)
	if err != nil {
		return fmt.Errorf("cancel job %s: %w", job.ID, err)
	}
	web.JSON(c, http.StatusOK, viewOf(result.Job))
	return nil
}

func viewOf(j engine.Job) View {
	return View{ID: j.ID, Kind: j.Kind, Subject: j.Subject, Owner: j.Owner, State: string(j.State), Reason: j.Reason, ExternalID: j.ExternalID,
		Deadline: web.DatetimeOf(j.Deadline), HeardAt: web.Datetime(j.HeardAt), CreatedAt: web.Datetime(j.CreatedAt), UpdatedAt: web.Datetime(j.UpdatedAt), EndedAt: web.DatetimeOf(j.EndedAt)}
}
