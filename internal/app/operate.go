package app

import (
	"context"
	"fmt"
	"io"

	"cohortflow/internal/access"
	"cohortflow/internal/cohort"
	"cohortflow/internal/engine"
	"cohortflow/internal/platform/answercache"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/queryexec"
)

// Access is the service of perimeters and rights, for commands.
func (a *App) Access() *access.Service { return a.parts.access }

// Engine is the engine, for commands.
func (a *App) Engine() *engine.Engine { return a.parts.engine }

// Migrate creates or adopts the database.
func (a *App) Migrate(ctx context.Context, opts database.MigrateOptions) (database.Report, error) {
	return database.Migrate(ctx, a.db, opts)
}

// LoadInitialData fills an empty installation from the configuration and a file of perimeters; lines are for the terminal.
func (a *App) LoadInitialData(ctx context.Context, perimeters io.Reader) (lines []string, err error) {
	admin, c := a.cfg.Admin, a.cfg.Cohort
	report, err := a.parts.access.Load(ctx, perimeters, access.InitialData{
		Admin:         access.NewUser{Username: admin.Username, Firstname: admin.Firstname, Lastname: admin.Lastname, Email: admin.Email, Password: admin.Password.Reveal()},
		QueryExecutor: access.NewUser{Username: c.QueryExecutorUser, Firstname: "Query", Lastname: "EXECUTOR", Email: "query_executor@example.org", Password: c.QueryExecutorPassword.Reveal()},
		ETL:           access.NewUser{Username: c.SolrETLUser, Firstname: "Solr", Lastname: "ETL", Email: "solr_etl@example.org"},
	})
	lines = report.Lines
	if err == nil && (admin.Password == "admin" || c.QueryExecutorPassword == "1234") {
		lines = append(lines, "Warning: default passwords are in use; set ADMIN_PASSWORD and QUERY_EXECUTOR_PASSWORD.")
	}
	return lines, err
}

// Synchronise takes perimeters or accesses from a source now (fhir, omop, orbis); dry changes nothing and tells what would
// be done.
func (a *App) Synchronise(ctx context.Context, source string, dry bool) (fmt.Stringer, error) {
	service := a.parts.access
	if dry {
		service = service.Dry()
	} else {
		defer a.changed(ctx, answercache.Rights) // also after an error: who can tell whether the commit failed
	}
	switch source {
	case "fhir":
		return service.SyncFromFHIR(ctx)
	case "omop":
		return service.SyncFromCareSites(ctx)
	case "orbis":
		return service.SyncOrbis(ctx, "")
	}
	return nil, fmt.Errorf("no source is named %q", source)
}

// What commands say of, and learn from, an upgrade of stored queries.
type (
	UpgradeOptions = cohort.UpgradeOptions
	UpgradeCount   = cohort.UpgradeCount
	UpgradedRow    = cohort.UpgradedRow
)

// QueryVersions are those that stored queries can be brought to, oldest first; the last one is the front-end's.
func QueryVersions() []string { return queryexec.Versions() }

// UpgradeQueries brings stored queries and filters to another version: see cohort.Service.UpgradeQueries.
func (a *App) UpgradeQueries(ctx context.Context, opts UpgradeOptions) ([]UpgradeCount, error) {
	counts, err := a.parts.cohort.UpgradeQueries(ctx, opts)
	if opts.Apply {
		a.changed(ctx, answercache.Cohorts)
	}
	return counts, err
}
