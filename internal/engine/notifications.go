package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/tasks"
)

// ChannelMail is the default channel.
const ChannelMail = "mail"

// Notice is one message: by which channel, to whom (a username, or what the channel's handler understands). A job tells an
// outcome at most once by each channel.
type Notice struct {
	Channel   string
	Recipient string
}

// Notification is a row of engine_notification.
type Notification struct {
	ID        string
	JobID     string
	Outcome   Outcome
	Channel   string
	Recipient string
	CreatedAt time.Time
	SentAt    *time.Time
}

// tell notes the messages of a move.
func (w *writes) tell(s *step, kind *Kind, c Change) {
	var notices []Notice
	switch {
	case kind.Notices != nil:
		notices = kind.Notices(c, c.Move.Tell)
	case c.After.Owner != "":
		notices = []Notice{{ChannelMail, c.After.Owner}}
	}
	for _, n := range notices {
		id := w.engine.cfg.NewID()
		w.notices = append(w.notices, noticeRow{id, c.After.ID, c.Move.Tell, n.Channel, n.Recipient, stamp(w.now)})
		if w.telling == nil {
			w.telling = map[string]*step{}
		}
		w.telling[id] = s
	}
}

// flushNotices writes the messages that were not owed before, and owes a task for each of those. The task belongs to no job:
// it outlives the end of it, and its failure is none of the job's.
func (w *writes) flushNotices(tx *database.Tx) error {
	const columns = `id, job_id, outcome, channel, recipient, created_at`
	return query(tx, `INSERT INTO engine_notification (`+columns+`) SELECT `+columns+` FROM {rows} WHERE true
		ON CONFLICT (job_id, outcome, channel) DO NOTHING RETURNING id`, noticeTypes, w.notices, func(scan func(...any) error) error {
		var id string
		if err := scan(&id); err != nil {
			return err
		}
		payload, err := encodePayload(tasks.Notify.Name, tasks.Notification{ID: id})
		if err != nil {
			return err
		}
		w.task(w.telling[id], taskRow{Name: tasks.Notify.Name, Payload: payload, Queue: string(tasks.Notify.Queue)}, w.now)
		return nil
	})
}

// Notification reads a notification and its job. fault.NotFound: there is none.
func (e *Engine) Notification(ctx context.Context, id string) (Notification, Job, error) {
	var n Notification
	var j Job
	row := e.cfg.DB.Read(ctx).Raw(`SELECT `+prefixed("j", jobColumns)+`, n.id, n.job_id, n.outcome, n.channel, n.recipient, n.created_at, n.sent_at
		FROM engine_notification n JOIN engine_job j ON j.id = n.job_id WHERE n.id = ?`, id).Row()
	err := scanJob(row.Scan, &j, &n.ID, &n.JobID, &n.Outcome, &n.Channel, &n.Recipient, &n.CreatedAt, &n.SentAt)
	if errors.Is(err, sql.ErrNoRows) {
		return n, j, fault.NotFound{Model: "Notification"}
	}
	if err != nil {
		return n, j, fmt.Errorf("read notification %s: %w", id, err)
	}
	return n, j, nil
}

// NotificationSent marks the notification as sent and ends the claimed task, in one transaction.
func (e *Engine) NotificationSent(ctx context.Context, claim Claim, id string) error {
	return e.cfg.DB.Update(ctx, func(tx *database.Tx) error {
		if err := e.DoneTx(ctx, tx, claim); err != nil {
			return err
		}
		if err := tx.Exec(`UPDATE engine_notification SET sent_at = ? WHERE id = ?`, e.cfg.Clock.Now(), id).Error; err != nil {
			return fmt.Errorf("mark notification %s as sent: %w", id, err)
		}
		return nil
	})
}
