package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"cohortflow/internal/access"
	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/mail"
	"cohortflow/tasks"
)

// The mails that no job owes. Their payloads hold ids and figures; names and addresses are read when they are sent.
var (
	mailExpiry = tasks.Spec{Name: "mail.access_expiry", Queue: tasks.QueueMail, Timeout: time.Minute, MaxAttempts: 10, Backoff: tasks.Backoff{Base: 5 * time.Second, Cap: 30 * time.Minute}}
	mailOrbis  = tasks.Spec{Name: "mail.orbis_report", Queue: tasks.QueueMail, Timeout: time.Minute, MaxAttempts: 10, Backoff: tasks.Backoff{Base: 5 * time.Second, Cap: 30 * time.Minute}}
)

// postman owes the mails of access.
type postman struct {
	app   *App
	parts *parts
}

// AccessesExpire implements access.Mailer.
func (p postman) AccessesExpire(ctx context.Context, tx *database.Tx, alert access.ExpiryAlert) error {
	_, err := p.parts.engine.Owe(ctx, tx, engine.Task{Spec: mailExpiry, Payload: alert})
	return err
}

// OrbisReport implements access.Mailer.
func (p postman) OrbisReport(ctx context.Context, tx *database.Tx, report access.OrbisReport) error {
	if len(p.app.admins()) == 0 {
		return nil
	}
	_, err := p.parts.engine.Owe(ctx, tx, engine.Task{Spec: mailOrbis, Payload: report})
	return err
}

// handle registers the handlers of these mails.
func (p postman) handle() {
	p.parts.engine.Handle(mailExpiry, p.sendExpiry)
	p.parts.engine.Handle(mailOrbis, p.sendOrbis)
	p.parts.engine.Handle(mailError, p.sendError)
}

func (p postman) sendExpiry(ctx context.Context, claim engine.Claim) error {
	payload, err := engine.Payload[access.ExpiryAlert](claim)
	if err != nil {
		return err
	}
	user, live, err := p.parts.store.Live(ctx, payload.Username)
	if err != nil {
		return err
	}
	if live && user.Email != nil {
		letter := mail.AccessExpiry{RecipientName: user.DisplayName(), ExpiryDays: payload.ExpiryDays, ManagersLink: p.app.cfg.Perimeters.ManagersLink}
		if err := p.app.send(ctx, claim.TaskID, *user.Email, letter); err != nil {
			return err
		}
	}
	return p.parts.engine.Done(ctx, claim)
}

func (p postman) sendOrbis(ctx context.Context, claim engine.Claim) error {
	report, err := engine.Payload[access.OrbisReport](claim)
	if err != nil {
		return err
	}
	return p.toAdmins(ctx, claim, mail.OrbisReport{SyncTime: report.At, Username: report.Username, SkippedRoles: report.SkippedRoles,
		MissingPerimeters: report.MissingPerimeters, OrbisAccesses: report.OrbisAccesses, NewAccesses: report.NewAccesses})
}

func (p postman) sendError(ctx context.Context, claim engine.Claim) error {
	e, err := engine.Payload[serverError](claim)
	if err != nil {
		return err
	}
	return p.toAdmins(ctx, claim, mail.ServerError{At: e.At, Method: e.Method, Route: e.Route, Others: e.Others})
}

// toAdmins sends a letter to each of ADMINS, and ends the task.
func (p postman) toAdmins(ctx context.Context, claim engine.Claim, letter mail.Letter) error {
	for i, admin := range p.app.admins() {
		if err := p.app.send(ctx, fmt.Sprintf("%s-%d", claim.TaskID, i), admin, letter); err != nil {
			return err
		}
	}
	return p.parts.engine.Done(ctx, claim)
}

// admins are the addresses of ADMINS ("name,mail;name,mail").
func (a *App) admins() []string {
	var addresses []string
	for _, entry := range strings.Split(a.cfg.System.Admins, ";") {
		if _, address, ok := strings.Cut(entry, ","); ok && strings.TrimSpace(address) != "" {
			addresses = append(addresses, strings.TrimSpace(address))
		}
	}
	return addresses
}
