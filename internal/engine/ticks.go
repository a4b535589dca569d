package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
)

// Tick runs a tick of a schedule: it owes the tasks, unless this tick (name, at) has been run already, by anybody. So any
// number of schedulers may run, and a flushed Redis repeats nothing.
func (e *Engine) Tick(ctx context.Context, name string, at time.Time, owed ...Task) (first bool, err error) {
	err = e.cfg.DB.Update(ctx, func(tx *database.Tx) error {
		res := tx.Exec(`INSERT INTO engine_tick (name, at, created_at) VALUES (?, ?, ?) ON CONFLICT (name, at) DO NOTHING`,
			name, clock.Normalize(at), e.cfg.Clock.Now())
		if res.Error != nil || res.RowsAffected == 0 {
			return res.Error
		}
		first = true
		_, err := e.Owe(ctx, tx, owed...)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("tick %s of %s: %w", at.UTC().Format(time.RFC3339), name, err)
	}
	return first, nil
}

// LastTick is the last tick of the schedule that was run; false: none was.
func (e *Engine) LastTick(ctx context.Context, name string) (time.Time, bool, error) {
	var at time.Time
	err := e.cfg.DB.Read(ctx).Raw(`SELECT at FROM engine_tick WHERE name = ? ORDER BY at DESC LIMIT 1`, name).Row().Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return at, false, nil
	}
	if err != nil {
		return at, false, fmt.Errorf("read the last tick of %s: %w", name, err)
	}
	return at.UTC(), true, nil
}
