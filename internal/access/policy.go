package access

import (
	"slices"
	"strings"
)

// Grant is what one valid access gives (accesses.md 6.1): the store leaves out those that have ended or not begun, of
// inactive or deleted profiles, and with a deleted role or perimeter.
type Grant struct {
	AccessID    int64
	PerimeterID *int64
	Rights      Rights
}

// Grants are all valid accesses of one user, by access id. Whoever has none may nothing.
type Grants []Grant

// Has tells whether some access, on whatever perimeter, gives one of the rights (accesses.md 6.3).
func (g Grants) Has(rights Rights) bool {
	return slices.ContainsFunc(g, func(a Grant) bool { return a.Rights.Has(rights) })
}

// FullAdmin tells whether the user administers everything (accesses.md 6.2).
func (g Grants) FullAdmin() bool { return g.Has(FullAdmin) }

// ManagesAccesses tells whether the user may read and write accesses at all (accesses.md 6.3).
func (g Grants) ManagesAccesses() bool { return g.Has(FullAdmin | managingRights) }

// on are the perimeters on which some access gives one of the rights.
func (g Grants) on(rights Rights) map[int64]bool {
	set := map[int64]bool{}
	for _, a := range g {
		if a.PerimeterID != nil && a.Rights.Has(rights) {
			set[*a.PerimeterID] = true
		}
	}
	return set
}

// all is the union of the rights of all accesses.
func (g Grants) all() (union Rights) {
	for _, a := range g {
		union |= a.Rights
	}
	return union
}

// The classes of roles (accesses.md 5.1): what the manager of an access with such a role needs. All classes of a role
// apply; one without any right is managed as those for reading data are (decision 6).
const (
	classFull  = FullAdmin | SearchUnlimited | ManageAdminSameLevel | ManageAdminInferiorLevels
	classAdmin = ManageUsers | ManageDataSameLevel | ManageDataInferiorLevels | ManageDatalabs | ReadDatalabs
	classData  = AllRights &^ (classFull | classAdmin)
)

// scope is what a user may manage on one perimeter.
type scope struct{ full, admin, data bool }

// scopeOn adds up the managing accesses on the perimeter and above it (accesses.md 6.4). "Same level" says nothing about
// the levels below, nor the reverse.
func (g Grants) scopeOn(t *Tree, perimeter *int64) (s scope) {
	s.full = g.FullAdmin()
	if perimeter == nil || t.Get(*perimeter) == nil {
		return s
	}
	for _, a := range g {
		if a.PerimeterID == nil {
			continue
		}
		switch {
		case *a.PerimeterID == *perimeter:
			s.admin = s.admin || a.Rights.Has(ManageAdminSameLevel)
			s.data = s.data || a.Rights.Has(ManageDataSameLevel)
		case t.Covers(*a.PerimeterID, *perimeter):
			s.admin = s.admin || a.Rights.Has(ManageAdminInferiorLevels)
			s.data = s.data || a.Rights.Has(ManageDataInferiorLevels)
		}
	}
	s.data = s.data || s.admin
	return s
}

// manages tells whether accesses with the role may be given, changed and closed. role is nil for an access without one.
func (s scope) manages(role *Rights) bool {
	switch {
	case s.full:
		return true
	case role == nil, role.Has(classFull):
		return false
	case role.Has(classAdmin) && !s.admin:
		return false
	case role.Has(classData) || *role == 0:
		return s.data
	}
	return true
}

// CanManage tells whether the user may manage an access with the role on the perimeter; either may be missing (6.4).
func CanManage(t *Tree, g Grants, role *Rights, perimeter *int64) bool {
	return g.scopeOn(t, perimeter).manages(role)
}

// TopManageable are the perimeters at which the user's administration begins (accesses.md 6.5): an aid to navigation, not
// a permission.
func TopManageable(t *Tree, g Grants) []*Perimeter {
	if len(g) == 0 {
		return nil
	}
	wide := func(a Grant) bool { return a.Rights.Has(wideRights) && !a.Rights.Has(managingRights) }
	if g.FullAdmin() || !slices.ContainsFunc(g, func(a Grant) bool { return !wide(a) }) {
		return t.Roots()
	}
	same, inferior, either := g.on(sameLevelRights), g.on(inferiorRights), g.on(managingRights)
	tops := map[int64]*Perimeter{}
	for id := range either {
		p := t.Live(id)
		switch {
		case p == nil || t.below(id, either):
		case same[id]:
			tops[id] = p
		case inferior[id]:
			for _, child := range t.Children(id) {
				tops[child.ID] = child
			}
		}
	}
	return sortedByID(tops)
}

func sortedByID(set map[int64]*Perimeter) []*Perimeter {
	list := make([]*Perimeter, 0, len(set))
	for _, p := range set {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *Perimeter) int { return compare(a.ID, b.ID) })
	return list
}

// DataRight says what a user may do with the patients' data of one perimeter (accesses.md 8.11). Reading comes down the
// tree; searches and exports hold everywhere once they are held somewhere.
type DataRight struct {
	UserID                     string `json:"user_id"`
	PerimeterID                *int64 `json:"perimeter_id"`
	ReadNominative             bool   `json:"right_read_patient_nominative"`
	ReadPseudonymized          bool   `json:"right_read_patient_pseudonymized"`
	SearchByIPP                bool   `json:"right_search_patients_by_ipp"`
	SearchOpposed              bool   `json:"right_search_opposed_patients"`
	ExportCSVXLSXNominative    bool   `json:"right_export_csv_xlsx_nominative"`
	ExportJupyterNominative    bool   `json:"right_export_jupyter_nominative"`
	ExportJupyterPseudonymized bool   `json:"right_export_jupyter_pseudonymized"`
}

// DataRights are the user's rights on the targets, or without targets on each perimeter with a reading access (accesses.md
// 6.6). Perimeters without any reading right, and targets that do not exist, are left out.
func DataRights(t *Tree, g Grants, username string, targets []int64) []DataRight {
	nominative, pseudonymized := g.on(ReadNominative), g.on(ReadPseudonymized)
	union := g.all()
	rights := []DataRight{}
	seen := map[int64]bool{}
	add := func(perimeter *int64, nomi, pseudo bool) {
		if !nomi && !pseudo {
			return
		}
		rights = append(rights, DataRight{
			UserID: username, PerimeterID: perimeter, ReadNominative: nomi, ReadPseudonymized: pseudo,
			SearchByIPP: union.Has(SearchByIPP), SearchOpposed: union.Has(SearchOpposed),
			ExportCSVXLSXNominative: union.Has(ExportCSVXLSXNominative),
			ExportJupyterNominative: union.Has(ExportJupyterNominative), ExportJupyterPseudonymized: union.Has(ExportJupyterPseudonymized),
		})
	}
	addOnce := func(id int64) {
		if !seen[id] && t.Live(id) != nil {
			seen[id] = true
			add(&id, t.CoveredBy(id, nominative), t.CoveredBy(id, pseudonymized))
		}
	}
	var nowhere Rights // reading accesses without a perimeter: one record, in the unrestricted list only
	for _, a := range g {
		switch {
		case !a.Rights.Has(readingRights):
		case a.PerimeterID == nil:
			nowhere |= a.Rights
		case len(targets) == 0 || slices.Contains(targets, *a.PerimeterID):
			addOnce(*a.PerimeterID)
		}
	}
	if len(targets) == 0 {
		add(nil, nowhere.Has(ReadNominative), nowhere.Has(ReadPseudonymized))
	}
	for _, id := range targets {
		addOnce(id)
	}
	return rights
}

// The reading modes of accesses.md 6.7.
const (
	readsNominative    = "READ_PATIENT_NOMINATIVE"
	readsPseudonymized = "READ_PATIENT_PSEUDO_ANONYMIZE"
)

// ReadRight is a perimeter with the way in which the user reads its patients.
type ReadRight struct {
	Perimeter  *Perimeter
	Nominative bool // otherwise pseudonymised
}

// ReadRights are the perimeters that the user may read (accesses.md 6.7), by path: the topmost ones, or with wanted all
// those that it accepts, wherever they are below an access.
func ReadRights(t *Tree, g Grants, wanted func(*node) bool) []ReadRight {
	nominative, readable := g.on(ReadNominative), g.on(readingRights)
	var rights []ReadRight
	add := func(p *Perimeter) { rights = append(rights, ReadRight{p, t.CoveredBy(p.ID, nominative)}) }
	if wanted == nil {
		for id := range readable {
			// what is read in a better way than above it is a top of its own
			top := !t.below(id, readable) || nominative[id] && !t.below(id, nominative)
			if p := t.Live(id); p != nil && top {
				add(p)
			}
		}
	} else {
		t.under(readable, func(n *node) {
			if n.Live() && wanted(n) {
				add(&n.Perimeter)
			}
		})
	}
	slices.SortFunc(rights, func(a, b ReadRight) int {
		if c := strings.Compare(deref(a.Perimeter.FullPath), deref(b.Perimeter.FullPath)); c != 0 {
			return c
		}
		return compare(a.Perimeter.ID, b.Perimeter.ID)
	})
	return rights
}

// under visits the perimeters of the set and everything below them, each once.
func (t *Tree) under(set map[int64]bool, visit func(*node)) {
	var tops []int
	for id := range set {
		if at, found := t.place[id]; found {
			tops = append(tops, at)
		}
	}
	slices.Sort(tops)
	next := 0
	for _, top := range tops {
		for next = max(next, top); next < t.nodes[top].end; next++ {
			visit(&t.nodes[next])
		}
	}
}

// readable tells how the user reads a set of perimeters: in the mode min all must be covered, in max one is enough; and
// whether nominatively (accesses.md 6.8).
func readable(t *Tree, g Grants, targets []*Perimeter, all bool) (reads, nominative bool) {
	if len(targets) == 0 {
		return false, false
	}
	covered := func(set map[int64]bool) bool {
		for _, p := range targets {
			if t.CoveredBy(p.ID, set) != all {
				return !all
			}
		}
		return all
	}
	return covered(g.on(readingRights)), covered(g.on(ReadNominative))
}

// CohortRights is what a user may do with a cohort (accesses.md 6.9). Here exports are held where they are granted, and
// below.
type CohortRights struct {
	ReadNominative             bool `json:"read_patient_nomi"`
	ReadPseudonymized          bool `json:"read_patient_pseudo"`
	ExportCSVXLSXNominative    bool `json:"export_csv_xlsx_nomi"`
	ExportJupyterNominative    bool `json:"export_jupyter_nomi"`
	ExportJupyterPseudonymized bool `json:"export_jupyter_pseudo"`
}

// cohortRights holds on every one of the perimeters; without perimeters there are none (decision 7).
func cohortRights(t *Tree, g Grants, perimeters []*Perimeter) CohortRights {
	everywhere := func(rights Rights) bool {
		set := g.on(rights)
		return len(perimeters) > 0 && !slices.ContainsFunc(perimeters, func(p *Perimeter) bool { return !t.CoveredBy(p.ID, set) })
	}
	return CohortRights{
		ReadNominative:             everywhere(ReadNominative),
		ReadPseudonymized:          everywhere(readingRights),
		ExportCSVXLSXNominative:    everywhere(ExportCSVXLSXNominative),
		ExportJupyterNominative:    everywhere(ExportJupyterNominative),
		ExportJupyterPseudonymized: everywhere(ExportJupyterNominative | ExportJupyterPseudonymized),
	}
}
