package access

import (
	"context"
	"slices"
	"strings"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// PerimeterFilter restricts and orders a list of perimeters (accesses.md 13.3); zero fields restrict nothing.
type PerimeterFilter struct {
	Name, SourceValue          string // contained, whatever the case
	Types, CohortIDs, LocalIDs []string
	Parents                    []int64
	Search                     []string
	Order                      []web.Order
}

// matcher prepares the filter. Whoever knows a perimeter by its id finds it by local_id, too: clients send ids.
func (f PerimeterFilter) matcher() func(*node) bool {
	name, source := strings.ToLower(f.Name), strings.ToLower(f.SourceValue)
	types, cohorts, locals := setOf(f.Types), setOf(f.CohortIDs), setOf(f.LocalIDs)
	parents := setOf(f.Parents)
	terms := make([]string, len(f.Search))
	for i, term := range f.Search {
		terms[i] = strings.ToLower(term)
	}
	return func(n *node) bool {
		if types != nil && !oneOf(types, n.TypeSourceValue) || cohorts != nil && !oneOf(cohorts, n.CohortID) {
			return false
		}
		if locals != nil && !locals[n.LocalID] && !locals[joinIDs([]int64{n.ID})] {
			return false
		}
		if parents != nil && !oneOf(parents, n.ParentID) {
			return false
		}
		if name != "" && !strings.Contains(strings.ToLower(deref(n.Name)), name) ||
			source != "" && !strings.Contains(strings.ToLower(deref(n.SourceValue)), source) {
			return false
		}
		return !slices.ContainsFunc(terms, func(term string) bool { return !strings.Contains(n.searched, term) })
	}
}

// oneOf tells whether a nullable value is in the set; null is not the empty text.
func oneOf[T comparable](set map[T]bool, value *T) bool { return value != nil && set[*value] }

// setOf is nil for an empty list: no filter.
func setOf[T comparable](list []T) map[T]bool {
	if len(list) == 0 {
		return nil
	}
	set := make(map[T]bool, len(list))
	for _, item := range list {
		set[item] = true
	}
	return set
}

// perimeterKeys are the names by which perimeters are ordered.
var perimeterKeys = map[string]func(*Perimeter) *string{
	"care_site_name":              func(p *Perimeter) *string { return p.Name },
	"care_site_type_source_value": func(p *Perimeter) *string { return p.TypeSourceValue },
	"care_site_source_value":      func(p *Perimeter) *string { return p.SourceValue },
}

func (f PerimeterFilter) sort(list []*Perimeter) {
	slices.SortFunc(list, func(a, b *Perimeter) int {
		for _, o := range f.Order {
			key := perimeterKeys[o.Name]
			if c := ordered(key(a), key(b), o.Desc); c != 0 {
				return c
			}
		}
		return compare(a.ID, b.ID)
	})
}

// ListPerimeters is a page of live perimeters. The tree is in memory: one query.
func (s *Service) ListPerimeters(ctx context.Context, f PerimeterFilter, page web.Page) ([]*Perimeter, int64, error) {
	t, err := s.store.tree(ctx)
	if err != nil {
		return nil, 0, err
	}
	var list []*Perimeter
	matches := f.matcher()
	for i := range t.nodes {
		if n := &t.nodes[i]; n.Live() && matches(n) {
			list = append(list, &n.Perimeter)
		}
	}
	f.sort(list)
	return cut(list, page), int64(len(list)), nil
}

// GetPerimeter is one live perimeter. One query.
func (s *Service) GetPerimeter(ctx context.Context, id int64) (*Perimeter, error) {
	t, err := s.store.tree(ctx)
	if err != nil {
		return nil, err
	}
	if p := t.Live(id); p != nil {
		return p, nil
	}
	return nil, fault.NotFound{Model: "Perimeter"}
}

// Manageable are the perimeters at which the caller's administration begins, or with a filter those that it accepts among
// them and all below (accesses.md 13.4). Two queries.
func (s *Service) Manageable(ctx context.Context, caller identity.Caller, f *PerimeterFilter) ([]*Perimeter, error) {
	h, err := s.of(ctx, caller.Username)
	if err != nil {
		return nil, err
	}
	tops := TopManageable(h.tree, h.grants)
	if f == nil {
		return tops, nil
	}
	set := map[int64]bool{}
	for _, p := range tops {
		set[p.ID] = true
	}
	matches := f.matcher()
	var list []*Perimeter
	h.tree.under(set, func(n *node) {
		if n.Live() && matches(n) {
			list = append(list, &n.Perimeter)
		}
	})
	f.sort(list)
	return list, nil
}

// PatientDataRights are the perimeters that a user reads, and how (accesses.md 13.5).
type PatientDataRights struct {
	Rights []ReadRight
	// The two searches hold on all of them.
	SearchByIPP, SearchOpposed bool
}

// ReadablePerimeters is a page of the perimeters that the caller reads: the topmost ones, or with a filter those that it
// accepts, wherever they are. Two queries.
func (s *Service) ReadablePerimeters(ctx context.Context, caller identity.Caller, f *PerimeterFilter, page web.Page) (PatientDataRights, int64, error) {
	h, err := s.of(ctx, caller.Username)
	if err != nil {
		return PatientDataRights{}, 0, err
	}
	var wanted func(*node) bool
	if f != nil {
		wanted = f.matcher()
	}
	rights := ReadRights(h.tree, h.grants, wanted)
	return PatientDataRights{
		Rights: cut(rights, page), SearchByIPP: h.grants.Has(SearchByIPP), SearchOpposed: h.grants.Has(SearchOpposed),
	}, int64(len(rights)), nil
}
