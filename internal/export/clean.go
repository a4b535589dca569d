package export

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"cohortflow/internal/engine"
	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/mail"
	"cohortflow/tasks"
)

// TaskCleaned tells the owner of an export that its files are gone. Payload: cleaned.
var TaskCleaned = tasks.Spec{Name: "export.cleaned", Queue: tasks.QueueMail, Timeout: time.Minute, MaxAttempts: 10,
	Backoff: tasks.Backoff{Base: 5 * time.Second, Cap: 30 * time.Minute}}

type cleaned struct {
	ExportID string `json:"export_id"`
}

// cleanBatch is how many exports one query of the cleaning takes.
const cleanBatch = 100

// DeleteExportedFiles removes the files of finished exports whose time is over and whose owner was told of the result
// (exports.md 23; exports.tasks.delete_exported_files of SCHEDULED_TASKS). One that fails is left for the next run, and does
// not hold the others back; the error names how many there were.
func (s *Service) DeleteExportedFiles(ctx context.Context) error {
	failed, after := 0, uuid.UUID{}
	for {
		batch, err := s.store.toClean(ctx, s.cfg.Clock.Now().AddDate(0, 0, -s.cfg.DaysToKeep), after)
		if err != nil {
			return err
		}
		for _, e := range batch {
			after = e.UUID
			if err := s.clean(ctx, e); err != nil {
				failed++
				s.cfg.Log.ErrorContext(ctx, "files of an export not removed", "export", e.UUID, "error", err)
			}
		}
		if len(batch) < cleanBatch {
			break
		}
	}
	if failed > 0 {
		return fmt.Errorf("remove the files of exports: %d failed", failed)
	}
	return nil
}

// toClean are exports whose files have to go, by their ids. The age of one that was tried again counts from its end.
func (s *Store) toClean(ctx context.Context, until time.Time, after uuid.UUID) ([]Export, error) {
	var list []Export
	err := s.db.Read(ctx).Where(`deleted IS NULL AND request_job_status = ? AND output_format IN ? AND is_user_notified AND clean_datetime IS NULL
		AND CASE WHEN retried THEN modified_at ELSE created_at END <= ? AND uuid > ?`, statusFinished, []string{formatCSV, formatXLSX}, until, after).
		Order("uuid").Limit(cleanBatch).Find(&list).Error
	if err != nil {
		return nil, fmt.Errorf("find exports to clean: %w", err)
	}
	return list, nil
}

// clean removes the file, and then notes it and owes the mail in one transaction.
func (s *Service) clean(ctx context.Context, e Export) error {
	if e.path() != "" {
		if err := s.cfg.Files.Remove(ctx, e.path()+".zip"); err != nil {
			return err
		}
	}
	return s.cfg.DB.Update(ctx, func(tx *database.Tx) error {
		res := tx.Table("export").Where("uuid = ? AND clean_datetime IS NULL", e.UUID).UpdateColumn("clean_datetime", s.cfg.Clock.Now())
		if res.Error != nil || res.RowsAffected == 0 { // another run was faster
			return res.Error
		}
		_, err := s.cfg.Engine.Owe(ctx, tx, engine.Task{Spec: TaskCleaned, Payload: cleaned{e.UUID.String()}})
		return err
	})
}

// TellCleaned is the handler of export.cleaned.
func (s *Service) TellCleaned(ctx context.Context, claim engine.Claim) error {
	p, err := engine.Payload[cleaned](claim)
	if err != nil {
		return err
	}
	id, err := uuid.Parse(p.ExportID)
	if err != nil {
		return fmt.Errorf("export %q: %w", p.ExportID, err)
	}
	e, err := s.store.Get(ctx, id)
	if errors.Is(err, fault.NotFound{Model: "Export"}) || s.cfg.Mailer == nil {
		return nil
	}
	if err != nil {
		return err
	}
	owner, named, err := s.addressee(ctx, e)
	if err != nil || owner == nil {
		return err
	}
	return s.post(ctx, claim.TaskID, []string{*owner.Email}, mail.ExportFilesDeleted{
		RecipientName: identity.DisplayName(owner.Username, owner.Firstname, owner.Lastname, false), Cohort: named})
}
