package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"cohortflow/internal/platform/fault"
)

// HasRight tells whether some valid access of the user, on whatever perimeter, gives one of the rights (accesses.md 6.3).
// One query.
func (s *Service) HasRight(ctx context.Context, username string, rights Rights) (bool, error) {
	grants, err := s.store.grants(ctx, username, s.clock.Now())
	return grants.Has(rights), err
}

// IsFullAdmin tells whether the user administers everything. One query.
func (s *Service) IsFullAdmin(ctx context.Context, username string) (bool, error) {
	return s.HasRight(ctx, username, FullAdmin)
}

// ManagesUsers tells whether the user may create and change users. One query.
func (s *Service) ManagesUsers(ctx context.Context, username string) (bool, error) {
	return s.HasRight(ctx, username, ManageUsers)
}

// ReadsDatalabs tells whether the user may see datalabs. One query.
func (s *Service) ReadsDatalabs(ctx context.Context, username string) (bool, error) {
	return s.HasRight(ctx, username, ReadDatalabs)
}

// ManagesDatalabs tells whether the user may change datalabs, which needs both datalab rights. One query.
func (s *Service) ManagesDatalabs(ctx context.Context, username string) (bool, error) {
	grants, err := s.store.grants(ctx, username, s.clock.Now())
	return grants.Has(ReadDatalabs) && grants.Has(ManageDatalabs), err
}

// ExportsToJupyter tells whether the user holds one of the two Jupyter export rights. One query.
func (s *Service) ExportsToJupyter(ctx context.Context, username string) (bool, error) {
	return s.HasRight(ctx, username, ExportJupyterNominative|ExportJupyterPseudonymized)
}

// SeesEverybodysLists tells whether the portal's lists show everybody's rows to the user (decision 22): full admins and
// holders of a datalab or Jupyter export right. One query.
func (s *Service) SeesEverybodysLists(ctx context.Context, username string) (bool, error) {
	return s.HasRight(ctx, username, FullAdmin|ReadDatalabs|ManageDatalabs|ExportJupyterNominative|ExportJupyterPseudonymized)
}

// CohortRights are the user's rights on cohorts, in the order given: each cohort is the list of the cohort ids of its
// perimeters, as its snapshot has them (accesses.md 6.9). Two queries.
func (s *Service) CohortRights(ctx context.Context, username string, cohorts [][]string) (rights []CohortRights, err error) {
	h, err := s.of(ctx, username)
	if err != nil {
		return nil, err
	}
	for _, perimeterCohortIDs := range cohorts {
		rights = append(rights, cohortRights(h.tree, h.grants, h.tree.OfCohorts(perimeterCohortIDs)))
	}
	return rights, nil
}

// ExportKind says what an export needs: its format and whether it is nominative.
type ExportKind struct {
	Jupyter    bool // a Hive export to a datalab; otherwise CSV or XLSX
	Nominative bool
}

// needs are the reading and the export right that an export asks for (exports.md 6.1). CSV and XLSX have one export right.
func (k ExportKind) needs() (reading, export Rights) {
	reading, export = ReadPseudonymized, ExportCSVXLSXNominative
	if k.Nominative {
		reading = ReadNominative
	}
	switch {
	case k.Jupyter && k.Nominative:
		export = ExportJupyterNominative
	case k.Jupyter:
		export = ExportJupyterPseudonymized
	}
	return reading, export
}

// MissingRight says which right an export lacks, and on which perimeters (ids of perimeters, in the order of the request;
// none when the cohorts have no known perimeter at all).
type MissingRight struct {
	Right      string // right_read_patient_nominative …
	Perimeters []int64
}

// CheckExport tells what the user lacks to export the data of these perimeters; nil when nothing (accesses.md 6.10;
// exports.md 6). perimeterCohortIDs are those of all source cohorts' snapshots. Every perimeter must be known and readable
// in the mode asked for; nominative reading does not include pseudonymised reading. Export rights hold everywhere. Two
// queries.
func (s *Service) CheckExport(ctx context.Context, username string, kind ExportKind, perimeterCohortIDs []string) (*MissingRight, error) {
	h, err := s.of(ctx, username)
	if err != nil {
		return nil, err
	}
	reading, export := kind.needs()
	targets := h.tree.OfCohorts(perimeterCohortIDs)
	set := h.grants.on(reading)
	missing := &MissingRight{Right: reading.Name()}
	for _, p := range targets {
		if !h.tree.CoveredBy(p.ID, set) {
			missing.Perimeters = append(missing.Perimeters, p.ID)
		}
	}
	unknown := slices.ContainsFunc(perimeterCohortIDs, func(id string) bool { return len(h.tree.OfCohort(id)) == 0 })
	if len(targets) == 0 || unknown || len(missing.Perimeters) > 0 {
		return missing, nil
	}
	if h.grants.Has(export) {
		return nil, nil
	}
	missing = &MissingRight{Right: export.Name()}
	for _, p := range targets {
		missing.Perimeters = append(missing.Perimeters, p.ID)
	}
	return missing, nil
}

// HasNominativeRead tells whether the user reads at least one of the perimeters nominatively (accesses.md 6.11): a job is
// pseudonymised unless. cohortIDs are the source population of its query. Two queries.
func (s *Service) HasNominativeRead(ctx context.Context, username string, cohortIDs []int64) (bool, error) {
	h, err := s.of(ctx, username)
	if err != nil {
		return false, err
	}
	_, nominative := readable(h.tree, h.grants, h.tree.OfCohorts(texts(cohortIDs)), false)
	return nominative, nil
}

func texts(ids []int64) []string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = strconv.FormatInt(id, 10)
	}
	return list
}

// ErrNoRoot says that the tree has no single root with a virtual cohort.
var ErrNoRoot = errors.New("the perimeters have no single root")

// RootCohortID is the virtual cohort of the one perimeter of level 1 without parent; ErrNoRoot if there is none, several,
// or if it has no cohort. One query.
func (s *Service) RootCohortID(ctx context.Context) (string, error) {
	t, err := s.store.tree(ctx)
	if err != nil {
		return "", err
	}
	var roots []*Perimeter
	for _, p := range t.Roots() {
		if p.Level != nil && *p.Level == 1 {
			roots = append(roots, p)
		}
	}
	if len(roots) != 1 || deref(roots[0].CohortID) == "" {
		return "", fmt.Errorf("find the root among %d perimeters of level 1: %w", len(roots), ErrNoRoot)
	}
	return *roots[0].CohortID, nil
}

// Snapshot is the tree as it is now, for reports over all of it. One query.
func (s *Service) Snapshot(ctx context.Context) (*Tree, error) { return s.store.tree(ctx) }

// ByCohortIDs are the live perimeters of these virtual cohorts; ids that are none are left out. One query.
func (s *Service) ByCohortIDs(ctx context.Context, cohortIDs []string) ([]*Perimeter, error) {
	t, err := s.store.tree(ctx)
	if err != nil {
		return nil, err
	}
	return t.OfCohorts(cohortIDs), nil
}

// UnknownCohortIDs are those of the ids that are the virtual cohort of no live perimeter. One query.
func (s *Service) UnknownCohortIDs(ctx context.Context, cohortIDs []string) (unknown []string, err error) {
	t, err := s.store.tree(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range cohortIDs {
		if len(t.OfCohort(id)) == 0 {
			unknown = append(unknown, id)
		}
	}
	return unknown, nil
}

// ReadingMode is the answer to the FHIR server's question (accesses.md 13.6).
type ReadingMode struct {
	Nominative       bool `json:"allow_read_patient_data_nomi"`
	LookUpOpposed    bool `json:"allow_lookup_opposed_patients"`
	WithoutLimit     bool `json:"allow_read_patient_without_perimeter_limit"`
	ReadPractitioner bool `json:"allow_read_practitioner"`
}

// PatientData tells how the user reads the patients of perimeters and cohorts; all asks that every one of them can be
// read (mode min), otherwise one is enough. ids are cohort ids of perimeters or groups of users' cohorts. Three queries.
func (s *Service) PatientData(ctx context.Context, username string, ids []string, all bool) (ReadingMode, error) {
	h, err := s.of(ctx, username)
	if err != nil {
		return ReadingMode{}, err
	}
	if h.grants.Has(SearchUnlimited) {
		return ReadingMode{Nominative: true, LookUpOpposed: true, WithoutLimit: true}, nil
	}
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == "" })
	ofCohorts, err := s.store.perimetersOfCohorts(ctx, ids)
	if err != nil {
		return ReadingMode{}, err
	}
	targets := h.tree.OfCohorts(append(ids, ofCohorts...))
	if len(targets) == 0 {
		return ReadingMode{}, notFoundError("None of the target perimeters was found")
	}
	reads, nominative := readable(h.tree, h.grants, targets, all)
	if !reads {
		return ReadingMode{}, notFoundError("User has no data reading accesses")
	}
	return ReadingMode{
		Nominative: nominative, LookUpOpposed: h.grants.Has(SearchOpposed), ReadPractitioner: h.grants.Has(ManageUsers),
	}, nil
}

func notFoundError(text string) error {
	return fault.Refused{Status: 404, Body: map[string]string{"error": text}}
}

func badRequest(text string) error {
	return fault.Refused{Status: 400, Body: map[string]string{"error": text}}
}
