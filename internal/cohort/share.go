package cohort

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"gorm.io/gorm"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/mail"
	"cohortflow/internal/platform/web"
	"cohortflow/tasks"
)

// receivedFolder is where shared requests arrive (cohort.md 1.2).
const receivedFolder = "Mes requêtes reçues"

// shareBody documents the body of a share.
type shareBody struct {
	Name          string `json:"name"`
	Recipients    string `json:"recipients"`
	NotifyByEmail bool   `json:"notify_by_email"`
}

// share copies a snapshot, with its request, to other users (cohort.md 7.4).
func (a *api) share(c *gin.Context) error {
	snap, err := a.ownSnapshot(c)
	if err != nil {
		return err
	}
	f, err := fieldsOf(c, true, nil)
	if err != nil {
		return err
	}
	name := f.String("name", web.Nullable, web.Blank, web.MaxLen(255))
	notify := f.Bool("notify_by_email", web.Nullable)
	text, isText := f.Raw("recipients").(string)
	switch {
	case f.Raw("recipients") == nil, isText && text == "":
		return fault.Text("No 'recipients' provided")
	case !isText:
		f.Add("recipients", "Not a valid string.")
	}
	if err := f.Err(); err != nil {
		return err
	}
	if err := a.Share(c.Request.Context(), snap, strings.Split(text, ","), name.Or(""), notify.Value); err != nil {
		return err
	}
	web.Empty(c, http.StatusCreated)
	return nil
}

// Share gives each recipient a copy of a snapshot in a request of their own; to all of them, or to nobody. Mails are owed, and
// sent after the answer.
func (s *Service) Share(ctx context.Context, snap Snapshot, recipients []string, name string, notify bool) error {
	slices.Sort(recipients)
	recipients = slices.Compact(recipients)
	return s.db.Update(ctx, func(tx *database.Tx) error {
		if err := checkRecipients(tx.DB, recipients); err != nil {
			return err
		}
		var of Request
		if err := tx.Where("uuid = ?", snap.RequestID).Take(&of).Error; err != nil {
			return fmt.Errorf("share snapshot %s: %w", snap.UUID, err)
		}
		folders, err := s.receivedFolders(tx.DB, recipients)
		if err != nil {
			return err
		}
		var requests []Request
		var snapshots []Snapshot
		var mails []engine.Task
		for _, r := range recipients {
			request := of
			request.Base, request.OwnerID, request.Favorite, request.SharedByID, request.ParentFolderID = s.base(), r, false, &snap.OwnerID, folders[r]
			if name != "" {
				request.Name = name
			}
			copied := snap
			copied.Base, copied.OwnerID, copied.RequestID, copied.PreviousSnapshotID = s.base(), r, request.UUID, nil
			copied.Version, copied.SharedByID = 1, &snap.OwnerID
			requests, snapshots = append(requests, request), append(snapshots, copied)
			mails = append(mails, engine.Task{Spec: tasks.ShareMail, Payload: tasks.Row{ID: request.UUID.String()}})
		}
		if err := tx.Create(&requests).Error; err != nil {
			return fmt.Errorf("share snapshot %s: copy its request: %w", snap.UUID, err)
		}
		if err := tx.Create(&snapshots).Error; err != nil {
			return fmt.Errorf("share snapshot %s: %w", snap.UUID, err)
		}
		if !notify {
			return nil
		}
		_, err = s.engine.Owe(ctx, tx, mails...)
		return err
	})
}

// checkRecipients refuses unless all of them are live users.
func checkRecipients(g *gorm.DB, recipients []string) error {
	var known []string
	err := g.Table("user").Where("username IN ? AND delete_datetime IS NULL", recipients).Pluck("username", &known).Error
	if err != nil {
		return fmt.Errorf("find recipients: %w", err)
	}
	unknown := slices.DeleteFunc(slices.Clone(recipients), func(r string) bool { return slices.Contains(known, r) })
	if len(unknown) > 0 {
		return fault.Text("No users found with the following IDs: " + strings.Join(unknown, ","))
	}
	return nil
}

// receivedFolders finds or makes the folder of each recipient.
func (s *Service) receivedFolders(g *gorm.DB, recipients []string) (map[string]uuid.UUID, error) {
	var found []Folder
	err := live[Folder](g).Where("owner_id IN ? AND name = ?", recipients, receivedFolder).Order("created_at DESC").Find(&found).Error
	if err != nil {
		return nil, fmt.Errorf("find folders of received requests: %w", err)
	}
	by := map[string]uuid.UUID{}
	for _, f := range found {
		by[f.OwnerID] = f.UUID // the oldest one, if there are several
	}
	var missing []Folder
	for _, r := range recipients {
		if _, ok := by[r]; !ok {
			f := Folder{Base: s.base(), OwnerID: r, Name: receivedFolder}
			by[r] = f.UUID
			missing = append(missing, f)
		}
	}
	if len(missing) > 0 {
		if err := g.Create(&missing).Error; err != nil {
			return nil, fmt.Errorf("create folders of received requests: %w", err)
		}
	}
	return by, nil
}

// Mailer sends a letter to a user, whose address it looks up; app does. id makes the mail's Message-ID, so that one that is
// sent twice is one to its reader. Nobody there, or no address, is no error.
type Mailer interface {
	Mail(ctx context.Context, id, username string, letter mail.Letter) error
}

// RegisterMail makes the handlers known that send mails about no job: call it once, in processes that run workers.
func (j *Jobs) RegisterMail(mailer Mailer) {
	j.engine.Handle(tasks.ShareMail, func(ctx context.Context, claim engine.Claim) error {
		return j.mail(ctx, claim, mailer, j.service.shareLetter)
	})
	j.engine.Handle(tasks.RefreshMail, func(ctx context.Context, claim engine.Claim) error {
		return j.mail(ctx, claim, mailer, j.service.refreshLetter)
	})
}

// mail sends the letter about a row, if the row is still there.
func (j *Jobs) mail(ctx context.Context, claim engine.Claim, mailer Mailer, compose func(ctx context.Context, id string) (string, mail.Letter, error)) error {
	row, err := engine.Payload[tasks.Row](claim)
	if err != nil {
		return err
	}
	to, letter, err := compose(ctx, row.ID)
	if errors.As(err, &fault.NotFound{}) {
		return j.engine.Done(ctx, claim)
	}
	if err != nil {
		return err
	}
	if err := mailer.Mail(ctx, claim.TaskID, to, letter); err != nil {
		return err
	}
	return j.engine.Done(ctx, claim)
}

// shareLetter tells the owner of a shared request who sent it.
func (s *Service) shareLetter(ctx context.Context, requestID string) (to string, letter mail.Letter, err error) {
	var row struct {
		Request
		Recipient string
		Sender    string
	}
	res := s.db.Read(ctx).Table("cohort_request").Joins(`JOIN "user" u ON u.username = cohort_request.owner_id`).
		Joins(`JOIN "user" f ON f.username = cohort_request.shared_by_id`).
		Where("cohort_request.uuid = ? AND cohort_request.deleted IS NULL", requestID).
		Select("cohort_request.*, " + displayName("u") + " AS recipient, COALESCE(f.firstname, '') || ' ' || COALESCE(f.lastname, '') AS sender").
		Limit(1).Find(&row)
	if res.Error != nil {
		return "", nil, fmt.Errorf("read shared request %s: %w", requestID, res.Error)
	}
	if res.RowsAffected == 0 {
		return "", nil, fault.NotFound{Model: "Request"}
	}
	return row.OwnerID, mail.SharedRequest{RecipientName: row.Recipient, OwnerName: strings.TrimSpace(row.Sender), RequestName: row.Name}, nil
}
