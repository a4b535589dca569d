package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"time"

	"github.com/google/uuid"

	"cohortflow/internal/engine"
	"cohortflow/internal/identity"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/mail"
	"cohortflow/internal/platform/storage"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/queryexec"
	"cohortflow/tasks"
)

// Need says which rights an export asks for (exports.md 6.1).
type Need struct {
	Jupyter    bool // Hive; otherwise CSV or XLSX
	Nominative bool
}

// Missing says which right a user lacks for an export, and on which perimeters (their primary keys).
type Missing struct {
	Right      string // right_read_patient_nominative …
	Perimeters []int64
}

// Rights answers what a user may do; access does.
type Rights interface {
	// MissingForExport tells what the user lacks to export data of the perimeters with these cohort ids; nil: nothing. No
	// perimeter, or an unknown one, is never enough.
	MissingForExport(ctx context.Context, username string, need Need, perimeterCohortIDs []string) (*Missing, error)
	IsFullAdmin(ctx context.Context, username string) (bool, error)
	ReadsDatalabs(ctx context.Context, username string) (bool, error)
	ManagesDatalabs(ctx context.Context, username string) (bool, error)
	// SeesEverybodysLists is decision 22.
	SeesEverybodysLists(ctx context.Context, username string) (bool, error)
}

// Subset describes a subset cohort that an export's table needs (exports.md 7.1, cohort.md 22.1).
type Subset struct {
	Caller identity.Caller // whose headers the creation is sent with
	Owner  string
	Table  string
	Source uuid.UUID
	Filter uuid.UUID
}

// NewFilter describes a FHIR filter that an export makes for itself (exports.md 7).
type NewFilter struct {
	Owner, Resource, Name, Filter string
}

// Cohorts makes what exports need of the cohort capability; cohort does. Both run in the caller's transaction: with the
// export, or not at all.
type Cohorts interface {
	CreateSubset(ctx context.Context, tx *database.Tx, s Subset) (cohortID uuid.UUID, err error)
	// AddAutomaticFilter writes a filter that is marked as generated.
	AddAutomaticFilter(ctx context.Context, tx *database.Tx, f NewFilter) (filterID uuid.UUID, err error)
}

// Files is where the files are; *storage.Storage.
type Files interface {
	Stat(ctx context.Context, name string) (storage.Info, error)
	Open(ctx context.Context, name string) (io.ReadCloser, int64, error)
	Create(ctx context.Context, name string) (storage.Writer, error)
	Remove(ctx context.Context, name string) error
}

// Mailer sends letters; *mail.Sender.
type Mailer interface {
	Send(ctx context.Context, m mail.Message) error
}

// Config is read once, by New.
type Config struct {
	Store   *Store
	DB      *database.DB
	Engine  *engine.Engine
	Clock   clock.Clock
	Log     *slog.Logger
	NewID   func() uuid.UUID
	Rights  Rights
	Cohorts Cohorts
	Files   Files
	Mailer  Mailer
	Links   mail.Links
	// API is the third-party export API; nil: our own exporter reads Source.
	API    *API
	Hadoop *Hadoop
	Source Source
	// CSVPath, XLSXPath and HivePath are directories; HiveUser owns a database while it is filled.
	CSVPath, XLSXPath, HivePath, HiveUser string
	DisableTranslation                    bool
	EmailRegex                            string
	DaysToKeep                            int
	// Admins are told of failures; empty: nobody is.
	Admins []string
	// HeardEvery is how often a running export of our own says that it goes on (30 s).
	HeardEvery time.Duration
}

// Service holds the rules of exports.
type Service struct {
	cfg    Config
	store  *Store
	tables catalogue
	email  *regexp.Regexp
}

// New checks the configuration. It does no I/O.
func New(cfg Config) (*Service, error) {
	tables, err := newCatalogue()
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	email, err := regexp.Compile("^(?:" + cfg.EmailRegex + ")") // as the old system matched: from the beginning on
	if err != nil {
		return nil, fmt.Errorf("export: EMAIL_REGEX: %w", err)
	}
	if cfg.Store == nil || cfg.DB == nil || cfg.Engine == nil || cfg.Clock == nil || cfg.NewID == nil || cfg.Rights == nil || cfg.Cohorts == nil || cfg.Files == nil {
		return nil, errors.New("export: store, database, engine, clock, ids, rights, cohorts and files are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.HeardEvery <= 0 {
		cfg.HeardEvery = 30 * time.Second
	}
	return &Service{cfg: cfg, store: cfg.Store, tables: tables, email: email}, nil
}

// builtIn tells whether files are written by our own exporter.
func (s *Service) builtIn() bool { return s.cfg.API == nil }

// perimetersOf are the cohort ids of the perimeters of a cohort: its snapshot's, or those of the snapshot's query (decision 7).
func perimetersOf(c cohort) []string {
	if len(c.PerimetersIDs) > 0 || c.SerializedQuery == nil {
		return c.PerimetersIDs
	}
	return queryexec.Population(*c.SerializedQuery)
}

// Create checks a new export, writes it with its tables and whatever these need, and lets it begin. Refusals are
// fault.Refused and fault.Invalid (exports.md 5.2).
func (s *Service) Create(ctx context.Context, caller identity.Caller, body web.Object) (Export, error) {
	r, err := s.check(ctx, caller.Username, body)
	if err != nil {
		return Export{}, err
	}
	return s.write(ctx, caller, caller.Username, r)
}

// write stores a checked export of the owner.
func (s *Service) write(ctx context.Context, caller identity.Caller, owner string, r request) (Export, error) {
	e := s.newExport(owner, r)
	err := s.cfg.DB.Update(ctx, func(tx *database.Tx) error {
		if err := tx.Omit("Tables").Create(&e).Error; err != nil {
			return fmt.Errorf("write export: %w", err)
		}
		waits := false
		var note *uuid.UUID // one filter for all unfiltered notes
		for i, t := range r.tables {
			row := s.newTable(e, i, t)
			if t.wantsSubset() {
				if t.filter == nil {
					if note == nil {
						id, err := s.cfg.Cohorts.AddAutomaticFilter(ctx, tx, noteFilter(e))
						if err != nil {
							return fmt.Errorf("write the filter of table %s: %w", t.name, err)
						}
						note = &id
					}
					row.FhirFilterID = note
				}
				id, err := s.cfg.Cohorts.CreateSubset(ctx, tx, Subset{Caller: caller, Owner: owner, Table: t.name, Source: *t.source, Filter: *row.FhirFilterID})
				if err != nil {
					return fmt.Errorf("create the subset of table %s: %w", t.name, err)
				}
				row.CohortResultSubsetID, waits = &id, true
			}
			e.Tables = append(e.Tables, row)
		}
		if len(e.Tables) > 0 {
			if err := tx.Create(&e.Tables).Error; err != nil {
				return fmt.Errorf("write the tables of export: %w", err)
			}
		}
		job := engine.NewJob{Kind: KindName, Subject: e.UUID.String(), Owner: owner, Actor: caller.Username}
		if job.State = stateWaiting; !waits {
			job.State, job.Owed = engine.Created, s.firstStep()
		}
		_, err := s.cfg.Engine.Open(ctx, tx, job)
		return err
	})
	return e, err
}

func (s *Service) firstStep() []engine.Owe {
	if s.builtIn() {
		return engine.Owes(tasks.ExportRun)
	}
	return engine.Owes(tasks.ExportLaunch)
}

func (s *Service) newExport(owner string, r request) Export {
	now := s.cfg.Clock.Now()
	name, location := owner, s.cfg.CSVPath
	switch r.format {
	case formatXLSX:
		location = s.cfg.XLSXPath
	case formatHive:
		name, location = r.datalab.Name, s.cfg.HivePath
	}
	name = targetName(name, now)
	e := Export{Base: Base{UUID: s.cfg.NewID(), CreatedAt: now, ModifiedAt: now}, OwnerID: owner, OutputFormat: r.format, Motivation: &r.motivation,
		Nominative: r.nominative, ShiftDates: r.shiftDates, GroupTables: r.groupTables, TargetName: &name, JobStatus: statusNew}
	if location != "" {
		e.TargetLocation = &location
	}
	if r.datalab != nil {
		e.DatalabID = &r.datalab.UUID
	}
	return e
}

// targetName is what an export's file or database is called (exports.md 5.4).
func targetName(whose string, now time.Time) string {
	return fmt.Sprintf("%s_%s%06d", whose, now.Format("20060102_150405"), now.Nanosecond()/1000)
}

// newTable is the row of a table. Their times differ by a microsecond each: that is how their order is kept.
func (s *Service) newTable(e Export, i int, t tableRequest) Table {
	at := e.CreatedAt.Add(time.Duration(i) * time.Microsecond)
	return Table{Base: Base{UUID: s.cfg.NewID(), CreatedAt: at, ModifiedAt: at}, ExportID: e.UUID, Name: t.name, RespectTableRelationships: true,
		FhirFilterID: t.filter, CohortResultSourceID: t.source, Columns: t.columns, PivotMerge: t.pivot, PivotMergeColumns: t.pivotColumns, PivotMergeIDs: t.pivotIDs}
}

const noteName = "note"

// noteFilter is the filter of notes for which none was chosen: texts, but no imported documents.
func noteFilter(e Export) NewFilter {
	return NewFilter{Owner: e.OwnerID, Resource: "DocumentReference", Name: e.UUID.String()[:8] + "_note_(auto generated)",
		Filter: "type:not=https%3A%2F%2Fterminology.eds.aphp.fr%2Faphp-orbis-document-textuel-hospitalier%7Cdoc-impor&contenttype=text%2Fplain"}
}

// List is one page of the exports that the caller may see: their own, or everybody's for full admins (decision 3).
func (s *Service) List(ctx context.Context, caller identity.Caller, f Filter, p web.Page) (listed[Item], error) {
	only, err := s.ownExports(ctx, caller)
	if err != nil {
		return listed[Item]{}, err
	}
	f.OnlyOwner = only
	return s.store.List(ctx, f, p)
}

// Get is one export, for its owner or a full admin; for others there is none (clients.md 37: a 403 would log them out).
func (s *Service) Get(ctx context.Context, caller identity.Caller, id uuid.UUID) (Export, error) {
	e, err := s.store.Get(ctx, id)
	if err != nil || e.OwnerID == caller.Username {
		return e, err
	}
	admin, err := s.cfg.Rights.IsFullAdmin(ctx, caller.Username)
	if err != nil {
		return Export{}, err
	}
	if !admin {
		return Export{}, fault.NotFound{Model: "Export"}
	}
	return e, nil
}

// Retry tries a failed export again, under its own name (decision 5). Its failed subsets are made anew first.
// fault.Conflict: it has not failed.
func (s *Service) Retry(ctx context.Context, caller identity.Caller, id uuid.UUID) error {
	e, err := s.Get(ctx, caller, id)
	if err != nil {
		return err
	}
	return s.cfg.DB.Update(ctx, func(tx *database.Tx) error {
		if err := s.ensureJob(ctx, tx, e); err != nil {
			return err
		}
		event := engine.Event{Kind: KindName, Subject: id.String(), Name: engine.RetryAsked, Actor: caller.Username}
		state, err := subsetsOf(tx.DB, id)
		if err != nil {
			return err
		}
		if len(state.failed)+len(state.waiting) > 0 {
			event.Name = eventRetrySubsets
		}
		results, err := s.cfg.Engine.ApplyTx(ctx, tx, event)
		if err != nil {
			return fmt.Errorf("retry export %s: %w", id, err)
		}
		if !results[0].Applied {
			return fault.Conflict{Detail: "Only an export that has failed can be tried again."}
		}
		return s.renewSubsets(ctx, tx, caller, e, state.failed)
	})
}

// ensureJob gives exports that were adopted from the old system a job, so that they can be tried again.
func (s *Service) ensureJob(ctx context.Context, tx *database.Tx, e Export) error {
	var n int64
	if err := tx.Table("engine_job").Where("kind = ? AND subject = ?", KindName, e.UUID.String()).Count(&n).Error; err != nil || n > 0 {
		return err
	}
	state := engine.Finished
	if e.JobStatus == statusFailed || e.JobStatus == statusCancelled || e.JobStatus == statusUnknown {
		state = engine.Failed
	}
	_, err := s.cfg.Engine.Open(ctx, tx, engine.NewJob{Kind: KindName, Subject: e.UUID.String(), Owner: e.OwnerID, State: state, Reason: e.JobFailMsg,
		Detail: "adopted"})
	return err
}

// renewSubsets has the subsets of these tables made once more.
func (s *Service) renewSubsets(ctx context.Context, tx *database.Tx, caller identity.Caller, e Export, failed []uuid.UUID) error {
	byID := map[uuid.UUID]Table{}
	for _, t := range e.Tables {
		byID[t.UUID] = t
	}
	for _, id := range failed {
		t := byID[id]
		if t.CohortResultSourceID == nil || t.FhirFilterID == nil {
			return fault.Conflict{Detail: "The cohort or the filter of a table is gone: please ask for a new export."}
		}
		subset, err := s.cfg.Cohorts.CreateSubset(ctx, tx, Subset{Caller: caller, Owner: e.OwnerID, Table: t.Name, Source: *t.CohortResultSourceID, Filter: *t.FhirFilterID})
		if err != nil {
			return fmt.Errorf("create the subset of table %s: %w", t.Name, err)
		}
		if err := tx.Model(&Table{}).Where("uuid = ?", id).Update("cohort_result_subset_id", subset).Error; err != nil {
			return fmt.Errorf("replace the subset of table %s: %w", t.Name, err)
		}
	}
	return nil
}

// Relaunch makes a new export like another one, for the same owner, whose rights are checked anew; full admins only.
func (s *Service) Relaunch(ctx context.Context, caller identity.Caller, id uuid.UUID) (Export, error) {
	if err := s.mustAdminister(ctx, caller); err != nil {
		return Export{}, err
	}
	old, err := s.store.Get(ctx, id)
	if err != nil {
		return Export{}, err
	}
	r := request{format: old.OutputFormat, nominative: old.Nominative, shiftDates: old.ShiftDates, groupTables: old.GroupTables}
	if old.Motivation != nil {
		r.motivation = *old.Motivation
	}
	if old.DatalabID != nil {
		lab, err := s.store.datalab(ctx, *old.DatalabID)
		if err != nil {
			return Export{}, err
		}
		r.datalab = &lab
	}
	for _, t := range old.Tables {
		r.tables = append(r.tables, tableRequest{name: t.Name, source: t.CohortResultSourceID, filter: t.FhirFilterID, columns: t.Columns,
			pivot: t.PivotMerge, pivotColumns: t.PivotMergeColumns, pivotIDs: t.PivotMergeIDs})
	}
	if !s.exports(r.format) {
		return Export{}, invalid("Missing exporter configuration for type `%s`", r.format)
	}
	sources, err := s.checkSources(ctx, old.OwnerID, r)
	if err == nil {
		err = s.checkRights(ctx, old.OwnerID, r, sources)
	}
	if err == nil {
		err = s.checkTables(ctx, old.OwnerID, r, sources)
	}
	if err != nil {
		return Export{}, err
	}
	return s.write(ctx, caller, old.OwnerID, r)
}

func (s *Service) mustAdminister(ctx context.Context, caller identity.Caller) error {
	admin, err := s.cfg.Rights.IsFullAdmin(ctx, caller.Username)
	if err == nil && !admin {
		err = fault.Forbidden{}
	}
	return err
}

// SubsetEnded says that a cohort has ended, well or not: the exports one of whose tables it is a subset for go on, or end. app
// subscribes it to the cohorts' events; it runs in the transaction of the change, after its projection.
func (s *Service) SubsetEnded(_ context.Context, tx *database.Tx, cohortID uuid.UUID, ok bool) ([]engine.Event, error) {
	exports, err := exportsOfSubset(tx, cohortID)
	if err != nil {
		return nil, err
	}
	var events []engine.Event
	for _, id := range exports {
		state, err := subsetsOf(tx.DB, id)
		if err != nil {
			return nil, err
		}
		event := engine.Event{Kind: KindName, Subject: id.String(), Actor: "cohort", Detail: "subset " + cohortID.String()}
		switch {
		case !ok || len(state.failed) > 0:
			event.Name, event.Reason = eventSubsetFailed, reasonSubset
		case len(state.waiting) > 0:
			continue
		default:
			event.Name = eventSubsetsReady
		}
		events = append(events, event)
	}
	return events, nil
}
