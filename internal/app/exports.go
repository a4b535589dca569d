package app

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"cohortflow/internal/access"
	"cohortflow/internal/cohort"
	"cohortflow/internal/engine"
	"cohortflow/internal/export"
	"cohortflow/internal/fhir"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/storage"
)

// buildExport makes exports: by the third-party API where one is configured, else by our own exporter.
func (a *App) buildExport(p *parts) error {
	c := a.cfg.Exports
	files, err := storage.New(storage.Config{Providers: c.StorageProviders, User: c.KerberosUser}, a.log)
	if err != nil {
		return err
	}
	cfg := export.Config{Store: export.NewStore(a.db), DB: a.db, Engine: p.engine, Clock: a.opts.Clock, Log: a.log, NewID: uuid.New,
		Rights: exportRights{p.access}, Cohorts: subsets{p.cohort}, Files: files, Mailer: postbox{p.mail, a.log}, Links: p.links,
		CSVPath: c.CSVPath, XLSXPath: c.XLSXPath, HivePath: c.HiveDBPath, HiveUser: c.HiveUser, DisableTranslation: bool(c.DisableTranslation),
		EmailRegex: a.cfg.Auth.EmailRegex, DaysToKeep: c.DaysToKeep, Admins: a.admins()}
	if c.APIURL != "" {
		cfg.API = export.NewAPI(p.http, c.APIURL, c.APIToken.Reveal())
	}
	if c.HadoopURL != "" {
		cfg.Hadoop = export.NewHadoop(p.http, c.HadoopURL, c.HadoopToken.Reveal())
	}
	if cfg.Source, err = a.exportSource(p); err != nil {
		return err
	}
	if p.export, err = export.New(cfg); err != nil {
		return err
	}
	p.export.Register()
	p.engine.Subscribe(cohort.KindCreate, p.subsetEnded)
	return nil
}

// exportSource reads the FHIR server with a credential of the service, never a user's token (decision 33).
func (a *App) exportSource(p *parts) (export.Source, error) {
	c := a.cfg.Cohort
	if c.FHIRURL == "" {
		return nil, nil
	}
	var credential fhir.Credential = fhir.StaticToken(c.FHIRAccessToken.Reveal())
	if c.FHIRTokenURL != "" {
		granted, err := fhir.NewClientCredentials(p.http.Standard(), c.FHIRTokenURL, c.FHIRClientID, c.FHIRClientSecret.Reveal())
		if err != nil {
			return nil, err
		}
		credential = granted
	}
	return fhir.New(p.http, fhir.Config{URL: c.FHIRURL, Credential: credential})
}

// subsetEnded lets the exports that wait for a subset go on.
func (p *parts) subsetEnded(ctx context.Context, tx *database.Tx, change engine.Change) ([]engine.Event, error) {
	if change.After.EndedAt == nil || change.Before.State == change.After.State {
		return nil, nil
	}
	id, err := uuid.Parse(change.After.Subject)
	if err != nil {
		return nil, fmt.Errorf("subject of job %s: %w", change.After.ID, err)
	}
	return p.export.SubsetEnded(ctx, tx, id, change.After.State == engine.Finished)
}

// exportRights answers what a caller may export.
type exportRights struct{ *access.Service }

// MissingForExport implements export.Rights.
func (r exportRights) MissingForExport(ctx context.Context, username string, need export.Need, perimeterCohortIDs []string) (*export.Missing, error) {
	missing, err := r.CheckExport(ctx, username, access.ExportKind(need), perimeterCohortIDs)
	if err != nil || missing == nil {
		return nil, err
	}
	return (*export.Missing)(missing), nil
}

// subsets makes what exports need of cohorts.
type subsets struct{ cohort *cohort.Service }

// CreateSubset implements export.Cohorts.
func (s subsets) CreateSubset(ctx context.Context, tx *database.Tx, want export.Subset) (uuid.UUID, error) {
	return s.cohort.CreateSubset(ctx, tx, cohort.Subset{Owner: want.Owner, Table: want.Table, Source: want.Source, Filter: want.Filter,
		Authorization: want.Caller.Authorization, Method: want.Caller.AuthorizationMethod})
}

// AddAutomaticFilter implements export.Cohorts.
func (s subsets) AddAutomaticFilter(ctx context.Context, tx *database.Tx, f export.NewFilter) (uuid.UUID, error) {
	return s.cohort.AddAutomaticFilter(ctx, tx, f.Owner, f.Resource, f.Name, f.Filter)
}
