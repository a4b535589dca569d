package export

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"cohortflow/internal/engine"
	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/mail"
)

// Notify sends one notification about an export (exports.md 22); app calls it for notifications of jobs of this kind. The
// engine tries again what fails. An owner who was told of the end is marked as notified: only then are the files ever cleaned.
func (s *Service) Notify(ctx context.Context, n engine.Notification, job engine.Job) error {
	id, err := uuid.Parse(job.Subject)
	if err != nil {
		return fmt.Errorf("notify about export %q: %w", job.Subject, err)
	}
	e, err := s.store.Get(ctx, id)
	if errors.Is(err, fault.NotFound{Model: "Export"}) {
		return nil // decision 23: nobody is told of what was deleted
	}
	if err != nil {
		return err
	}
	if s.cfg.Mailer == nil {
		return nil
	}
	if strings.HasPrefix(n.Channel, channelAdmins) {
		return s.tellAdmins(ctx, n, e, job)
	}
	if err := s.tellOwner(ctx, n, e, job); err != nil {
		return err
	}
	if n.Outcome == outcomeReceived {
		return nil
	}
	return s.update(ctx, id, map[string]any{"is_user_notified": true})
}

// update changes columns of an export, outside of its job's life. modified_at stays: it tells when the last try ended.
func (s *Service) update(ctx context.Context, id uuid.UUID, set map[string]any) error {
	err := s.cfg.DB.Update(ctx, func(tx *database.Tx) error {
		return tx.Table("export").Where("uuid = ?", id).UpdateColumns(set).Error
	})
	if err != nil {
		return fmt.Errorf("change export %s: %w", id, err)
	}
	return nil
}

// named is the cohort that the mails of an export name.
func (s *Service) named(ctx context.Context, e Export) (mail.SourceCohort, error) {
	c, err := s.namesake(ctx, e)
	if err != nil || c == nil {
		return mail.SourceCohort{}, err
	}
	named := mail.SourceCohort{GroupID: c.GroupID}
	if c.Name != nil {
		named.Name = *c.Name
	}
	return named, nil
}

func (s *Service) tellOwner(ctx context.Context, n engine.Notification, e Export, job engine.Job) error {
	owner, named, err := s.addressee(ctx, e)
	if err != nil || owner == nil {
		return err
	}
	name := identity.DisplayName(owner.Username, owner.Firstname, owner.Lastname, false)
	var tables []string
	for _, t := range e.Tables {
		tables = append(tables, t.Name)
	}
	hive := e.OutputFormat == formatHive
	var letter mail.Letter
	switch n.Outcome {
	case outcomeReceived:
		letter = mail.ExportReceived{RecipientName: name, Cohort: named, Hive: hive, Retried: e.Retried, SelectedTables: tables}
	case engine.Success:
		letter = mail.ExportSucceeded{RecipientName: name, Cohort: named, Hive: hive, SelectedTables: tables, DownloadURL: s.cfg.Links.Export(e.UUID.String()),
			DatabaseName: e.target(), DeleteDate: s.keptUntilFrom(n.CreatedAt)}
	default:
		letter = mail.ExportFailed{RecipientName: name, Cohort: named, ErrorMessage: e.JobFailMsg}
	}
	return s.post(ctx, n.ID, []string{*owner.Email}, letter)
}

func (s *Service) keptUntilFrom(t time.Time) time.Time {
	return t.UTC().AddDate(0, 0, s.cfg.DaysToKeep)
}

// addressee is the owner, nil if there is no way to reach them.
func (s *Service) addressee(ctx context.Context, e Export) (*user, mail.SourceCohort, error) {
	owner, err := s.store.User(ctx, e.OwnerID)
	if err != nil {
		return nil, mail.SourceCohort{}, err
	}
	if owner.Email == nil || *owner.Email == "" || owner.DeleteDatetime != nil {
		return nil, mail.SourceCohort{}, nil
	}
	named, err := s.named(ctx, e)
	return &owner, named, err
}

func (s *Service) tellAdmins(ctx context.Context, n engine.Notification, e Export, job engine.Job) error {
	if len(s.cfg.Admins) == 0 {
		return nil
	}
	named, err := s.named(ctx, e)
	if err != nil {
		return err
	}
	return s.post(ctx, n.ID, s.cfg.Admins, mail.ExportFailedAdmins{Cohort: named, ExportID: e.UUID.String(), ExportDate: e.CreatedAt,
		Host: s.cfg.Links.Host(), ErrorMessage: job.Reason, JobID: e.JobID, JobDuration: e.JobDuration})
}

// post sends one letter; id makes it recognisable when it is sent again.
func (s *Service) post(ctx context.Context, id string, to []string, letter mail.Letter) error {
	m, err := mail.Compose(to, letter)
	if err != nil {
		return err
	}
	m.ID = id
	return s.cfg.Mailer.Send(ctx, m)
}
