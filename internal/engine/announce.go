package engine

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"cohortflow/internal/platform/database"
)

// Announce writes a line to the timeline that belongs to no job and to no owner, for followers in all processes: what
// everybody connected is to hear about (a maintenance). Detail holds no personal data.
func (e *Engine) Announce(ctx context.Context, kind, subject string, event EventName, detail string) error {
	var id int64
	err := e.cfg.DB.Update(ctx, func(tx *database.Tx) error {
		return tx.Raw(`INSERT INTO engine_event (job_id, kind, subject, owner, at, actor, event, from_state, to_state, attempt, applied, detail)
			VALUES (?, ?, ?, '', ?, '', ?, '', '', 0, ?, ?) RETURNING id`,
			uuid.Nil, kind, subject, e.cfg.Clock.Now(), string(event), true, detail).Row().Scan(&id)
	})
	if err != nil {
		return fmt.Errorf("announce %s of %s %s: %w", event, kind, subject, err)
	}
	if e.cfg.Published != nil {
		e.cfg.Published(ctx, id)
	}
	return nil
}
