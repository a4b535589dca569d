// Package maintenance plans maintenance phases, refuses requests while one is on, and has everybody told (contract:
// system.md, section 7; decision 11). The API, the periodic notifier and the fronts call it. It stops no job: what runs
// goes on, and callbacks come through.
package maintenance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// Config is what Service is built from.
type Config struct {
	Store *Store
	Clock clock.Clock
	// OpensGate tells whether a request carries the key of a machine that works on.
	OpensGate func(c *gin.Context) bool
	// Authenticate finds the caller; IsFullAdmin tells whether they are one. Asked only during a full maintenance.
	Authenticate func(c *gin.Context) error
	IsFullAdmin  func(ctx context.Context, username string) (bool, error)
	// Broadcast tells everybody connected, in all processes, about a phase.
	Broadcast func(ctx context.Context, phaseID int64, active bool) error
}

// Service holds the rules of maintenance phases.
type Service struct{ cfg Config }

// NewService keeps cfg.
func NewService(cfg Config) *Service { return &Service{cfg: cfg} }

var types = []string{"partial", "full"}

// Create plans a phase.
func (s *Service) Create(ctx context.Context, body web.Object) (Phase, error) {
	p := Phase{Type: "partial"}
	if err := read(web.FieldsOf(body, false), &p); err != nil {
		return Phase{}, err
	}
	now := s.cfg.Clock.Now()
	p.InsertDatetime, p.UpdateDatetime = &now, &now
	return p, s.cfg.Store.Create(ctx, &p)
}

// read takes the fields of a body; a partial one is judged together with what is stored.
func read(f *web.Fields, p *Phase) error {
	p.Subject = f.String("subject", web.Required).Or(p.Subject)
	if m := f.String("message", web.Nullable); m.Set {
		p.Message = m.Ptr()
	}
	p.Type = f.Choice("type", types).Or(p.Type)
	p.StartDatetime = f.Time("start_datetime", web.Required).Or(p.StartDatetime)
	p.EndDatetime = f.Time("end_datetime", web.Required).Or(p.EndDatetime)
	if err := f.Err(); err != nil {
		return err
	}
	if p.StartDatetime.After(p.EndDatetime) {
		return fault.Field(fault.NonField, "end_datetime is lower than start_datetime")
	}
	return nil
}

// Change edits a phase.
func (s *Service) Change(ctx context.Context, id int64, body web.Object) (Phase, error) {
	return s.cfg.Store.Change(ctx, id, func(p *Phase) error {
		now := s.cfg.Clock.Now()
		p.UpdateDatetime = &now
		return read(web.FieldsOf(body, true), p)
	})
}

// Delete removes a phase, and tells everybody that it is over if it was on.
func (s *Service) Delete(ctx context.Context, id int64) error {
	now := s.cfg.Clock.Now()
	p, err := s.cfg.Store.Change(ctx, id, func(p *Phase) error {
		p.DeleteDatetime = &now
		return nil
	})
	if err != nil {
		return err
	}
	if p.StartDatetime.After(now) || p.EndDatetime.Before(now) {
		return nil
	}
	return s.tell(ctx, p, false)
}

// Notify is the periodic check, every minute: who is connected hears of a phase at its start, at its end, and every
// minute while it is on (system.md 7.6).
func (s *Service) Notify(ctx context.Context) error {
	now := s.cfg.Clock.Now()
	// Two minutes, so that a check that runs late misses no end; hearing of one twice does no harm.
	phases, err := s.cfg.Store.Touching(ctx, now.Add(-2*time.Minute), now)
	if err != nil {
		return err
	}
	next, err := s.cfg.Store.Next(ctx, now)
	if err != nil {
		return err
	}
	if next != nil && next.Active(now) {
		if err := s.tell(ctx, *next, true); err != nil {
			return err
		}
	}
	for _, p := range phases {
		if !p.Active(now) && !p.EndDatetime.After(now) {
			if err := s.tell(ctx, p, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// Ahead are the moments of the coming minute, before the next check, at which a phase begins or ends: Notify is due then,
// too, so that nobody hears of it a minute late.
func (s *Service) Ahead(ctx context.Context) ([]time.Time, error) {
	now := s.cfg.Clock.Now()
	until := now.Add(time.Minute)
	phases, err := s.cfg.Store.Touching(ctx, now, until)
	if err != nil {
		return nil, err
	}
	var moments []time.Time
	for _, p := range phases {
		for _, at := range []time.Time{p.StartDatetime, p.EndDatetime} {
			if at.After(now) && !at.After(until) {
				moments = append(moments, at)
			}
		}
	}
	return moments, nil
}

func (s *Service) tell(ctx context.Context, p Phase, active bool) error {
	if err := s.cfg.Broadcast(ctx, p.ID, active); err != nil {
		return fmt.Errorf("tell everybody about a maintenance: %w", err)
	}
	return nil
}

// Message is what everybody connected is told about a phase that is on, or over; nil: nothing, because it is over while another
// one is on, which an end must not hide from the fronts. It is asked when the message is delivered, not when it is announced:
// another phase may have begun in between.
func (s *Service) Message(ctx context.Context, id int64, active bool) (*Notice, error) {
	if !active {
		now := s.cfg.Clock.Now()
		next, err := s.cfg.Store.Next(ctx, now)
		if err != nil {
			return nil, err
		}
		if next != nil && next.ID != id && next.Active(now) {
			return nil, nil
		}
	}
	p, err := s.cfg.Store.Any(ctx, id)
	if err != nil {
		return nil, err
	}
	return new(NoticeOf(p, active)), nil
}

// closed is the body of a refusal during a maintenance.
type closed struct {
	Message          string     `json:"message"`
	MaintenanceStart web.Millis `json:"maintenance_start"`
	MaintenanceEnd   web.Millis `json:"maintenance_end"`
	Active           bool       `json:"active"`
}

// Gate is web.Config.Gate. A partial maintenance refuses changes; a full one refuses everything but signing in,
// maintenances, machines, and what full admins read (decision 11).
func (s *Service) Gate(c *gin.Context) error {
	path := c.Request.URL.Path
	if path == "/healthz" || path == "/readyz" || path == "/ws" || path == "/ws/" || strings.HasPrefix(path, "/auth/") || strings.HasPrefix(path, "/maintenances/") {
		return nil
	}
	ctx := c.Request.Context()
	now := s.cfg.Clock.Now()
	p, err := s.cfg.Store.Next(ctx, now)
	if err != nil || p == nil || !p.Active(now) {
		return err
	}
	reads := c.Request.Method == "GET" || c.Request.Method == "HEAD" || c.Request.Method == "OPTIONS"
	if reads && p.Type != "full" || s.cfg.OpensGate(c) {
		return nil
	}
	if reads {
		if admin, err := s.isAdmin(c); err != nil || admin {
			return err
		}
	}
	reason := "None"
	if p.Message != nil {
		reason = *p.Message
	}
	return fault.Refused{Status: 503, Body: closed{
		Message:          fmt.Sprintf("The server is unavailable for maintenance up to %s for the following reason: %s", p.EndDatetime.UTC().Format("02/01/2006, 15:04:05"), reason),
		MaintenanceStart: web.Millis(p.StartDatetime), MaintenanceEnd: web.Millis(p.EndDatetime), Active: true,
	}}
}

func (s *Service) isAdmin(c *gin.Context) (bool, error) {
	err := s.cfg.Authenticate(c)
	if errors.As(err, &fault.Unauthenticated{}) || errors.As(err, &fault.Forbidden{}) || errors.As(err, &fault.Undecided{}) {
		return false, nil // a malformed header, a refused impersonation, or nobody can tell: no administrator's
	}
	if err != nil {
		return false, err
	}
	caller := identity.CallerOf(c)
	if !caller.Authenticated() {
		return false, nil
	}
	return s.cfg.IsFullAdmin(c.Request.Context(), caller.Username)
}

// Next is the phase that the fronts should know of; nil for none.
func (s *Service) Next(ctx context.Context) (*Phase, error) {
	return s.cfg.Store.Next(ctx, s.cfg.Clock.Now())
}
