// Package cohort is the researcher's work place (contract: cohort.md): folders, requests and their snapshots, counts,
// cohorts and samples, saved filters, feasibility studies, refresh schedules; the callbacks in which QueryExecutor and the
// indexer report; the websocket messages about all of that. app registers its routes, kinds of jobs and task handlers;
// export asks it for subsets.
//
// Every row belongs to one user, and nobody else reads, changes or refers to it through any route: each query that serves
// a request is scoped to the caller. It never translates a query nor speaks to QueryExecutor itself (queryexec does), and
// never decides about rights: it asks for them through the interfaces below.
package cohort

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/mail"
)

// Config is read once, by New. A zero field takes its default.
type Config struct {
	// SizeLimit is the size from which a cohort is large, and above which it is not exportable (COHORT_SIZE_LIMIT, 20000).
	SizeLimit int64
	// CountValidity is the age from which a count is outdated (LAST_COUNT_VALIDITY, 24 h).
	CountValidity time.Duration
	// ReportingTypes are the types of perimeters that feasibility reports show below the root (REPORTING_PERIMETER_TYPES).
	ReportingTypes []string
	// Links makes the addresses in mails and reports.
	Links mail.Links
}

// Rights answers what a user may do with the patients of cohorts; access does.
type Rights interface {
	// CohortRights are the user's rights on cohorts, in the order given: each cohort is the list of the virtual cohorts of its
	// perimeters.
	CohortRights(ctx context.Context, username string, cohorts [][]string) ([]GroupRights, error)
}

// GroupRights is what a user may do with the patients of one cohort (cohort.md 10.1).
type GroupRights struct {
	ReadNominative             bool `json:"read_patient_nomi"`
	ReadPseudonymized          bool `json:"read_patient_pseudo"`
	ExportCSVXLSXNominative    bool `json:"export_csv_xlsx_nomi"`
	ExportJupyterNominative    bool `json:"export_jupyter_nomi"`
	ExportJupyterPseudonymized bool `json:"export_jupyter_pseudo"`
}

// Renderer renders the feasibility report's template; *mail.Renderer does.
type Renderer interface {
	File(name string, data map[string]any) (string, error)
}

// Service holds the rules. Build it with New; it is safe for concurrent use.
type Service struct {
	cfg    Config
	db     *database.DB
	clock  clock.Clock
	log    *slog.Logger
	engine *engine.Engine
	rights Rights
	newID  func() uuid.UUID

	translator Translator
	renderer   Renderer
}

// Deps are what the service works with.
type Deps struct {
	DB    *database.DB
	Clock clock.Clock
	Log   *slog.Logger
	// Engine knows the kinds of jobs that Kinds describes.
	Engine *engine.Engine
	Rights Rights
	// Translator translates the queries of refresh schedules while they are created.
	Translator Translator
	Renderer   Renderer
	// NewID makes the keys of rows (version 4, schema.md 2.5); uuid.New when nil.
	NewID func() uuid.UUID
}

// New checks what it is given, and subscribes to the engine's changes of cohorts and counts. It does no I/O.
func New(cfg Config, deps Deps) (*Service, error) {
	if cfg.SizeLimit == 0 {
		cfg.SizeLimit = 20000
	}
	if cfg.CountValidity == 0 {
		cfg.CountValidity = 24 * time.Hour
	}
	var errs []error
	if deps.DB == nil || deps.Clock == nil || deps.Log == nil || deps.Engine == nil || deps.Rights == nil ||
		deps.Translator == nil || deps.Renderer == nil {
		errs = append(errs, errors.New("a database, a clock, a logger, an engine, rights, a translator and a renderer are needed"))
	}
	if cfg.SizeLimit < 0 || cfg.CountValidity < 0 {
		errs = append(errs, errors.New("limits must be positive"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("cohort: %w", err)
	}
	if deps.NewID == nil {
		deps.NewID = uuid.New
	}
	s := &Service{cfg: cfg, db: deps.DB, clock: deps.Clock, log: deps.Log, engine: deps.Engine, rights: deps.Rights, newID: deps.NewID,
		translator: deps.Translator, renderer: deps.Renderer}
	s.engine.Subscribe(KindCreate, s.sizeMeasure)
	s.engine.Subscribe(KindCount, s.followRefresh)
	return s, nil
}

// base is the shared part of a new row.
func (s *Service) base() Base {
	now := s.clock.Now()
	return Base{UUID: s.newID(), CreatedAt: now, ModifiedAt: now}
}
