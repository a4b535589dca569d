package cohort

import (
	"context"
	"fmt"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/mail"
)

// Title is the name of a cohort and its list of patients, for those who tell of it. fault.NotFound: it was deleted.
func (s *Service) Title(ctx context.Context, id string) (name, group string, err error) {
	row, err := take[Cohort](live[Cohort](s.db.Read(ctx)).Where("cohort_cohortresult.uuid = ?", id))
	return text(row.Name), row.GroupID, err
}

// Letter is what an owed notification about one of this capability's jobs tells its recipient (cohort.md 21).
// fault.NotFound: the row was deleted meanwhile, there is nothing to tell.
func (s *Service) Letter(ctx context.Context, n engine.Notification, job engine.Job) (mail.Letter, error) {
	switch job.Kind {
	case KindCreate:
		name, group, err := s.Title(ctx, job.Subject)
		if err != nil {
			return nil, err
		}
		recipient, err := s.displayNameOf(ctx, n.Recipient)
		return mail.LargeCohortReady{RecipientName: recipient, CohortName: name, CohortURL: s.cfg.Links.Cohort(group)}, err
	case KindStudy:
		return s.studyLetter(ctx, n, job)
	}
	return nil, fmt.Errorf("notification %s: nothing is known to be told about a %s", n.ID, job.Kind)
}

func (s *Service) studyLetter(ctx context.Context, n engine.Notification, job engine.Job) (mail.Letter, error) {
	var row struct {
		OwnerID   string
		Recipient string
		Name      string
		Version   int
	}
	res := s.requestOf(s.db.Read(ctx).Table("cohort_feasibilitystudy f"), "f").
		Where("f.uuid = ? AND f.deleted IS NULL", job.Subject).Limit(1).Find(&row)
	if res.Error != nil {
		return nil, fmt.Errorf("read study %s: %w", job.Subject, res.Error)
	}
	if res.RowsAffected == 0 {
		return nil, fault.NotFound{Model: "FeasibilityStudy"}
	}
	switch n.Outcome {
	case outcomeRequested:
		return mail.FeasibilityRequested{RecipientName: row.Recipient, RequestName: row.Name}, nil
	case engine.Success:
		return mail.FeasibilityReady{RecipientName: row.Recipient, RequestName: row.Name, DownloadURL: s.cfg.Links.Study(job.Subject)}, nil
	}
	return mail.FeasibilityError{RecipientName: row.Recipient, RequestName: row.Name}, nil
}

func (s *Service) displayNameOf(ctx context.Context, username string) (string, error) {
	var name string
	err := s.db.Read(ctx).Table(`"user" u`).Where("u.username = ?", username).Select(displayName("u")).Scan(&name).Error
	if err != nil {
		return "", fmt.Errorf("read the name of a recipient: %w", err)
	}
	return name, nil
}
