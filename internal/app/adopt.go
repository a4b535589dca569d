package app

import (
	"context"
	"errors"
	"maps"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
)

// Adoption tells what the old system left, and changes nothing.
func (a *App) Adoption(ctx context.Context) (database.Report, error) {
	return a.Migrate(ctx, database.MigrateOptions{DryRun: true})
}

// ErrNeverAdopted says that the database was made by this program: there is nothing of an old system in it.
var ErrNeverAdopted = errors.New("the database was never the old system's")

// Settle asks the outside systems about what the old system left without an end (decision 27): see cohort.Jobs.SettleLeft.
func (a *App) Settle(ctx context.Context, giveUp bool) (engine.Tally, error) {
	at, adopted, err := database.AdoptedAt(ctx, a.db)
	if err != nil {
		return nil, err
	}
	if !adopted {
		return nil, ErrNeverAdopted
	}
	tally := engine.Tally{}
	for _, settle := range []func() (engine.Tally, error){
		func() (engine.Tally, error) { return a.parts.cohortJobs.SettleLeft(ctx, at, giveUp) }, // exports wait for cohorts
		func() (engine.Tally, error) { return a.parts.export.SettleLeft(ctx, at, giveUp) },
	} {
		part, err := settle()
		maps.Copy(tally, part)
		if err != nil {
			return tally, err
		}
	}
	return tally, nil
}
