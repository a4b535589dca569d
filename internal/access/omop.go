package access

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"gorm.io/gorm"

	"cohortflow/internal/platform/database"
)

// CareSite is a care site of the OMOP database with its parent and its virtual cohort (accesses.md 18.2). The same site
// comes several times when it has several parents or several cohorts.
type CareSite struct {
	ID                                 int64
	Name, ShortName, Type, SourceValue *string
	ParentID                           *int64 // nil for the root
	CohortID, CohortSize               string
}

// CareSites is the OMOP database as the source of perimeters.
type CareSites interface {
	// CareSites are the selection of accesses.md 18.2, in any order.
	CareSites(ctx context.Context) ([]CareSite, error)
}

// ErrNoRootSite says that the source does not have the root perimeter: nothing is changed.
var ErrNoRootSite = errors.New("the source of perimeters does not have the root perimeter")

// ErrOnlyRootSite says that the source has nothing under the root, while the tree has: relations that are missing, or types
// that PERIMETER_TYPES names otherwise. Nothing is changed.
var ErrOnlyRootSite = errors.New("the source of perimeters has nothing under the root perimeter: look at PERIMETER_TYPES and at the relations")

// SyncFromCareSites makes the perimeters those of the OMOP database, and follows changed virtual cohorts in stored queries
// (accesses.md 18). One transaction.
func (s *Service) SyncFromCareSites(ctx context.Context) (report SyncReport, err error) {
	if s.peers.CareSites == nil {
		return SyncReport{}, errors.New("there is no OMOP database to take perimeters from: add accesses_perimeters to INCLUDED_APPS and set PERIMETERS_SOURCE_DB_*")
	}
	sites, err := s.peers.CareSites.CareSites(ctx)
	if err != nil {
		return report, fmt.Errorf("read the source of perimeters: %w", err)
	}
	root, selected, warnings := s.growSites(sites)
	for _, warning := range warnings {
		s.log.WarnContext(ctx, "care sites of the source", "problem", warning)
	}
	if root == nil {
		return report, ErrNoRootSite
	}
	rows := flatten(root, nil)
	err = s.write(ctx, func(tx *database.Tx) error {
		report = SyncReport{Warnings: warnings}
		if len(selected) == 1 {
			if err := onlyRoot(tx, root.row.ID); err != nil {
				return err
			}
		}
		now, before, err := s.reconcile(tx, rows, source{cohorts: true, alsoNames: selected}, &report)
		if err != nil {
			return err
		}
		return s.followCohorts(tx, now, before)
	})
	return report, err
}

// onlyRoot refuses to empty a tree that has more than its root (decision 18).
func onlyRoot(tx *database.Tx, root int64) error {
	var others int64
	if err := tx.Model(&Perimeter{}).Where("delete_datetime IS NULL AND id <> ?", root).Count(&others).Error; err != nil {
		return fmt.Errorf("count perimeters: %w", err)
	}
	if others > 0 {
		return ErrOnlyRootSite
	}
	return nil
}

// growSites joins care sites to a tree, from the root; nil without it. Of several parents that are under the root the
// smallest id counts, then the smallest cohort id, so that every run chooses the same; children are in the order of their
// ids. What cannot be reached, cycles included, is not in the tree, but in selected: the ids of all sites.
func (s *Service) growSites(list []CareSite) (root *site, selected map[int64]bool, warnings []string) {
	list = slices.Clone(list)
	slices.SortStableFunc(list, byParentAndCohort)
	under := s.underRoot(list)
	selected = map[int64]bool{}
	chosen := map[int64]bool{}
	children := map[int64][]CareSite{}
	for _, c := range list {
		selected[c.ID] = true
		switch {
		case c.ID != s.cfg.RootPerimeterID && (c.ParentID == nil || !under[*c.ParentID]):
			continue
		case chosen[c.ID]:
			warnings = append(warnings, fmt.Sprintf("care site %d has several parents or virtual cohorts", c.ID))
			continue
		case c.ID == s.cfg.RootPerimeterID:
			root = siteOf(c)
		default:
			children[*c.ParentID] = append(children[*c.ParentID], c)
		}
		chosen[c.ID] = true
	}
	if root == nil {
		return nil, selected, warnings
	}
	reached := []*site{root}
	placed := map[int64]bool{root.row.ID: true}
	for i := 0; i < len(reached); i++ {
		for _, c := range children[reached[i].row.ID] {
			child := siteOf(c)
			placed[c.ID] = true
			reached[i].children = append(reached[i].children, child)
			reached = append(reached, child)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(selected)) {
		if !placed[id] {
			warnings = append(warnings, fmt.Sprintf("care site %d is not under the root: it is passed over", id))
		}
	}
	return root, selected, warnings
}

// byParentAndCohort orders the rows of each site by what is preferred; cohort ids are numbers, the shorter text the smaller.
func byParentAndCohort(a, b CareSite) int {
	parent := func(c CareSite) int64 {
		if c.ParentID == nil {
			return math.MinInt64
		}
		return *c.ParentID
	}
	return cmp.Or(compare(a.ID, b.ID), compare(parent(a), parent(b)), cmp.Compare(len(a.CohortID), len(b.CohortID)),
		strings.Compare(a.CohortID, b.CohortID))
}

// underRoot are the ids of the root and of all that some chain of relations connects with it.
func (s *Service) underRoot(list []CareSite) map[int64]bool {
	children := map[int64][]int64{}
	for _, c := range list {
		if c.ParentID != nil {
			children[*c.ParentID] = append(children[*c.ParentID], c.ID)
		}
	}
	under := map[int64]bool{s.cfg.RootPerimeterID: true}
	for next := []int64{s.cfg.RootPerimeterID}; len(next) > 0; next = next[1:] {
		for _, id := range children[next[0]] {
			if !under[id] {
				under[id] = true
				next = append(next, id)
			}
		}
	}
	return under
}

func siteOf(c CareSite) *site {
	return &site{
		row: Perimeter{
			ID: c.ID, Name: c.Name, ShortName: c.ShortName, TypeSourceValue: c.Type, SourceValue: c.SourceValue, CohortID: &c.CohortID,
			CohortSize: &c.CohortSize,
		},
		label: deref(c.SourceValue) + "-" + deref(c.Name),
	}
}

// storedSnapshot is what is rewritten of a request's snapshot when virtual cohorts change.
type storedSnapshot struct {
	UUID            string `gorm:"column:uuid"`
	SerializedQuery string
	PerimetersIDs   database.StringArray `gorm:"column:perimeters_ids"`
}

// followCohorts replaces changed cohort ids in the snapshots that name them, but for those of subset cohorts (18.5).
func (s *Service) followCohorts(tx *database.Tx, now, before map[int64]Perimeter) error {
	changed := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(before)) { // in the same order every time, should two have had one cohort
		p := before[id]
		if next, stays := now[id]; stays && deref(p.CohortID) != "" && deref(p.CohortID) != deref(next.CohortID) {
			changed[*p.CohortID] = deref(next.CohortID)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	old := slices.Sorted(maps.Keys(changed))
	var snapshots []storedSnapshot
	err := tx.Table("cohort_requestquerysnapshot s").Where(database.ArrayContainsAny("s.perimeters_ids", old)).
		Where("NOT EXISTS (SELECT 1 FROM cohort_cohortresult c WHERE c.is_subset AND c.request_query_snapshot_id = s.uuid)").
		Select("s.uuid, s.serialized_query, s.perimeters_ids").Scan(&snapshots).Error
	if err != nil {
		return fmt.Errorf("read the snapshots of changed virtual cohorts: %w", err)
	}
	for _, snapshot := range snapshots {
		if err := s.rewrite(tx.DB, snapshot, changed); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) rewrite(g *gorm.DB, snapshot storedSnapshot, changed map[string]string) error {
	ids := replaced(snapshot.PerimetersIDs, changed)
	query, ok := rewriteQuery(snapshot.SerializedQuery, changed)
	if !ok {
		s.log.ErrorContext(g.Statement.Context, "the query of a snapshot names no perimeters and stays as it is, although a virtual cohort has changed",
			"snapshot", snapshot.UUID)
		query = snapshot.SerializedQuery
	}
	err := g.Exec("UPDATE cohort_requestquerysnapshot SET perimeters_ids = ?, serialized_query = ? WHERE uuid = ?",
		database.StringArray(ids), query, snapshot.UUID).Error
	if err != nil {
		return fmt.Errorf("rewrite snapshot %s: %w", snapshot.UUID, err)
	}
	return nil
}

// replaced are the ids with the changed ones replaced, each once, in the order of their texts.
func replaced(ids []string, changed map[string]string) []string {
	list := make([]string, 0, len(ids))
	for _, id := range ids {
		if next, found := changed[id]; found {
			id = next
		}
		if id != "" {
			list = append(list, id)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// rewriteQuery replaces the ids of a stored query's population; ok is false when it has none. The document is written in
// the notation that the existing rows have: ", " and ": " between members.
func rewriteQuery(text string, changed map[string]string) (rewritten string, ok bool) {
	document, ok := parseOrdered(text)
	if !ok {
		return "", false
	}
	population, ok := document.member("sourcePopulation")
	if !ok {
		return "", false
	}
	list, ok := population.member("caresiteCohortList")
	if !ok || list.items == nil {
		return "", false
	}
	var ids []string
	for _, item := range list.items {
		var id string
		if json.Unmarshal([]byte(item.literal), &id) != nil {
			id = item.literal // a number
		}
		ids = append(ids, id)
	}
	list.items = []*jsonTree{}
	for _, id := range replaced(ids, changed) {
		literal, err := marshalText(id)
		if err != nil {
			return "", false
		}
		list.items = append(list.items, &jsonTree{literal: string(literal)})
	}
	var b strings.Builder
	document.write(&b)
	return b.String(), true
}
