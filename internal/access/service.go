// Package access answers what a user may do: the tree of perimeters, roles and their rights, the accesses that give a role
// on a perimeter for a time, and the rules that resolve them (contract: accesses.md). Its routes are those of /accesses/;
// the other capabilities ask it the questions of questions.go through interfaces of their own, and web asks Authorize.
// Accesses are read from the database for every question, so that rights change at once; only the tree of perimeters is
// kept in memory, and compared with its version for every question. It never decides who somebody is, and never reads
// patients' data.
package access

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"net/url"
	"time"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
)

// Config is read once, by NewService. A zero number takes its default.
type Config struct {
	// ValidityDays is how long an access lasts whose end nobody gave (DEFAULT_ACCESS_VALIDITY_IN_DAYS, 365).
	ValidityDays int
	// FirstAlertDays and SecondAlertDays before its end, the holder of an access is told (30 and 2).
	FirstAlertDays, SecondAlertDays int
	// Alerts switches those mails on (decision 16).
	Alerts bool
	// PerimeterTypes are the names of the levels, the root's first (PERIMETER_TYPES).
	PerimeterTypes []string
	// RootPerimeterID is that of the system account's access (ROOT_PERIMETER_ID).
	RootPerimeterID int64
}

// NewUser is an account that this capability needs: of the initial administrator, of a machine, of a demonstration.
type NewUser struct {
	Username, Firstname, Lastname, Email string
	// Password is in the clear; empty: nobody can log in with one.
	Password string
}

// Users creates accounts; identity does.
type Users interface {
	// EnsureUser creates the account in the transaction unless one of that name exists, which it then leaves as it is,
	// soft-deleted or not.
	EnsureUser(ctx context.Context, tx *database.Tx, u NewUser) (created bool, err error)
}

// Peers are the others that this capability needs.
type Peers struct {
	Users Users
	// Mailer owes mails; nil: nobody is told.
	Mailer Mailer
	// Organizations is the FHIR server as the source of perimeters (accesses.md 19); nil: there is no such source, and the
	// routes of /fhir-perimeters/ do not exist.
	Organizations FHIR
	// VirtualCohorts makes the cohorts of perimeters from that source; needed with Organizations.
	VirtualCohorts VirtualCohorts
	// Directory is the FHIR server as the source of ORBIS accesses, asked with the system account's token (accesses.md 20);
	// nil: no such accesses.
	Directory FHIR
	// CareSites is the OMOP database as the source of perimeters (accesses.md 18); nil: there is no such source.
	CareSites CareSites
}

// FHIR searches a FHIR server.
type FHIR interface {
	// Search yields the resources of a search, over all its pages, those included by _revinclude as well.
	Search(ctx context.Context, resourceType string, params url.Values) iter.Seq2[json.RawMessage, error]
}

// Service holds the rules. It is safe for concurrent use.
type Service struct {
	cfg   Config
	db    *database.DB
	store *store
	clock clock.Clock
	log   *slog.Logger
	peers Peers
	dry   bool
}

// Dry returns the service with synchronisations that change nothing: they do all their work in a transaction that is rolled
// back, so that their reports tell what they would do.
func (s *Service) Dry() *Service {
	dry := *s
	dry.dry = true
	return &dry
}

var errDry = errors.New("rolled back on purpose")

// write is the transaction of a synchronisation.
func (s *Service) write(ctx context.Context, f func(tx *database.Tx) error) error {
	err := s.db.Update(ctx, func(tx *database.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		if s.dry {
			return errDry
		}
		return nil
	})
	if errors.Is(err, errDry) {
		return nil
	}
	return err
}

// NewService needs all it is given, but for what Peers says.
func NewService(cfg Config, db *database.DB, clk clock.Clock, log *slog.Logger, peers Peers) (*Service, error) {
	cfg.ValidityDays = cmp.Or(cfg.ValidityDays, 365)
	cfg.FirstAlertDays, cfg.SecondAlertDays = cmp.Or(cfg.FirstAlertDays, 30), cmp.Or(cfg.SecondAlertDays, 2)
	var errs []error
	if cfg.ValidityDays < 1 || cfg.FirstAlertDays < 1 || cfg.SecondAlertDays < 1 {
		errs = append(errs, errors.New("access: the validity of accesses and the days of alerts must be positive"))
	}
	if peers.Users == nil {
		errs = append(errs, errors.New("access: needs users"))
	}
	if cfg.Alerts && peers.Mailer == nil {
		errs = append(errs, errors.New("access: alerts need a mailer"))
	}
	if peers.Organizations != nil && (peers.VirtualCohorts == nil || len(cfg.PerimeterTypes) == 0) {
		errs = append(errs, errors.New("access: perimeters from FHIR need their virtual cohorts and the types of levels"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Service{cfg: cfg, db: db, store: newStore(db, log), clock: clk, log: log, peers: peers}, nil
}

// held is what a decision about somebody starts from.
type held struct {
	now    time.Time
	tree   *Tree
	grants Grants
}

// of loads the user's valid accesses and the tree: two queries while the tree is unchanged.
func (s *Service) of(ctx context.Context, username string) (h held, err error) {
	h.now = s.clock.Now()
	if h.tree, err = s.store.tree(ctx); err != nil {
		return held{}, err
	}
	h.grants, err = s.store.grants(ctx, username, h.now)
	return h, err
}
