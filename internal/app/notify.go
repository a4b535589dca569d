package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"cohortflow/internal/engine"
	"cohortflow/internal/export"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/mail"
	"cohortflow/tasks"
)

// notify sends one owed message. Its id is the mail's Message-ID, so that a mail sent twice (the worker died between the
// server's yes and the commit) is one to the reader's program.
func (a *App) notify(ctx context.Context, claim engine.Claim) error {
	payload, err := engine.Payload[tasks.Notification](claim)
	if err != nil {
		return err
	}
	n, job, err := a.parts.engine.Notification(ctx, payload.ID)
	if errors.As(err, &fault.NotFound{}) {
		return a.parts.engine.Done(ctx, claim)
	}
	if err != nil {
		return err
	}
	if n.SentAt == nil {
		if err := a.tell(ctx, n, job); err != nil {
			return err
		}
	}
	return a.parts.engine.NotificationSent(ctx, claim, n.ID)
}

// tell sends what an outcome of a job has to tell. Nothing to tell any more (the row was deleted, the user has no
// address) is no error; a mail that the server refuses for good is logged and not tried again.
func (a *App) tell(ctx context.Context, n engine.Notification, job engine.Job) error {
	if job.Kind == export.KindName {
		return a.parts.export.Notify(ctx, n, job)
	}
	user, live, err := a.parts.store.Live(ctx, n.Recipient)
	if err != nil {
		return err
	}
	if !live || user.Email == nil {
		return nil
	}
	letter, err := a.letter(ctx, n, job)
	if err != nil || letter == nil {
		return err
	}
	return a.send(ctx, n.ID, *user.Email, letter)
}

// send writes to one address; id makes the mail's Message-ID.
func (a *App) send(ctx context.Context, id, to string, letter mail.Letter) error {
	message, err := mail.Compose([]string{to}, letter)
	if err != nil {
		return err
	}
	message.ID = id
	return postbox{a.parts.mail, a.log}.Send(ctx, message)
}

// postbox sends mails. One that is refused for good, or for which no server is configured, is logged and counts as sent:
// trying again is of no use, and the files of an export are to be cleaned though its owner could not be told.
type postbox struct {
	sender *mail.Sender
	log    *slog.Logger
}

// Send implements export.Mailer.
func (p postbox) Send(ctx context.Context, m mail.Message) error {
	err := p.sender.Send(ctx, m)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mail.ErrNotConfigured):
		p.log.WarnContext(ctx, "a mail was not sent: EMAIL_HOST is not set", "notification", m.ID)
		return nil
	case mail.IsPermanent(err):
		p.log.WarnContext(ctx, "a mail was refused for good", "notification", m.ID, "error", err)
		return nil
	}
	return fmt.Errorf("notification %s: %w", m.ID, err)
}

// letter is what a job's outcome tells; nil: nothing.
func (a *App) letter(ctx context.Context, n engine.Notification, job engine.Job) (mail.Letter, error) {
	letter, err := a.parts.cohort.Letter(ctx, n, job)
	if errors.As(err, &fault.NotFound{}) {
		return nil, nil
	}
	return letter, err
}

// letterBox sends the mails that capabilities compose themselves.
type letterBox struct{ app *App }

// Mail sends a letter to a user; id is that of the task, so that a mail sent twice is one to the reader's program.
func (b letterBox) Mail(ctx context.Context, id, username string, letter mail.Letter) error {
	user, live, err := b.app.parts.store.Live(ctx, username)
	if err != nil || !live || user.Email == nil {
		return err
	}
	return b.app.send(ctx, id, *user.Email, letter)
}
