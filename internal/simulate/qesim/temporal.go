package qesim

import (
	"encoding/json"
	"errors"
	"slices"
	"sort"
	"strings"

	"cohortflow/internal/simulate/hospital"
)

var (
	errConstraintType  = errors.New("required temporal constraints are not implemented")
	errConstraintGroup = message("Cannot use temporal constraints within orGroup and nAmongM groups")
)

// refuseConstraints refuses constraints on an orGroup or nAmongM: its own, or an inherited list of its own children.
func refuseConstraints(n *node, inherited []*constraint) error {
	if len(n.Constraints) > 0 {
		return errConstraintGroup
	}
	for _, c := range inherited {
		if !c.IDs.All && len(c.eligible(n)) > 1 {
			return errConstraintGroup
		}
	}
	return nil
}

// eligible picks the direct children of a group that a constraint is about: all its inclusive criteria with dates and
// encounters, or exactly those listed. A list that is not wholly in the group is not about it.
func (c *constraint) eligible(n *node) []*node {
	var picked []*node
	for _, member := range n.Criteria {
		dated := member.basic() && member.kind != hospital.Patients && *member.Inclusive
		if dated && (c.IDs.All || slices.Contains(c.IDs.IDs, *member.ID)) {
			picked = append(picked, member)
		}
	}
	if !c.IDs.All && len(picked) != len(c.IDs.IDs) {
		return nil
	}
	if !c.IDs.All { // chronological order is that of the list
		sort.SliceStable(picked, func(a, b int) bool {
			return slices.Index(c.IDs.IDs, *picked[a].ID) < slices.Index(c.IDs.IDs, *picked[b].ID)
		})
	}
	return picked
}

// constrain takes the patients out of found that do not fulfil the constraints of the group.
func (e *evaluation) constrain(n *node, constraints []*constraint, found *hospital.Set) error {
	var together [][]*node // groups of criteria that must share an encounter
	var ordered []func(p int32) bool
	for _, c := range constraints {
		criteria := c.eligible(n)
		switch {
		case c.Type == "sameEncounter":
			if len(criteria) > 1 {
				together = merge(together, criteria)
			}
		case c.Type == "directChronologicalOrdering":
			if len(criteria) > 1 {
				test, err := e.inOrder(c, criteria)
				if err != nil {
					return err
				}
				ordered = append(ordered, test)
			}
		case c.Type == "sameEpisodeOfCare": // only QuestionnaireResponse carries an episode, and the hospital holds none
		default:
			return errConstraintType
		}
	}
	if len(together) == 0 && len(ordered) == 0 {
		return nil
	}
	for _, p := range members(found) {
		if !e.fulfils(p, together, ordered) {
			found.Remove(p)
		}
	}
	return nil
}

func members(s *hospital.Set) []int32 {
	all := make([]int32, 0, s.Count())
	s.Each(func(i int32) bool {
		all = append(all, i)
		return true
	})
	return all
}

func (e *evaluation) fulfils(p int32, together [][]*node, ordered []func(int32) bool) bool {
	for _, criteria := range together {
		if !e.shareEncounter(p, criteria) {
			return false
		}
	}
	for _, test := range ordered {
		if !test(p) {
			return false
		}
	}
	return true
}

// merge joins criteria that must share an encounter with those that already must with one of them.
func merge(together [][]*node, criteria []*node) [][]*node {
	merged, rest := slices.Clone(criteria), [][]*node{}
	for _, other := range together {
		if !slices.ContainsFunc(other, func(n *node) bool { return slices.Contains(criteria, n) }) {
			rest = append(rest, other)
			continue
		}
		for _, n := range other {
			if !slices.Contains(merged, n) {
				merged = append(merged, n)
			}
		}
	}
	return append(rest, merged)
}

// shareEncounter tells whether one encounter holds a matching record of each criterion.
func (e *evaluation) shareEncounter(p int32, criteria []*node) bool {
	var shared map[int32]bool
	for _, n := range criteria {
		here := map[int32]bool{}
		for _, row := range e.rows(n, p, nil) {
			if shared == nil || shared[row.R.Encounter] {
				here[row.R.Encounter] = true
			}
		}
		if shared = here; len(shared) == 0 {
			return false
		}
	}
	return true
}

// inOrder makes the test that records of the criteria follow one another, each within the delay after the one before.
// A record without the preferred date fits anywhere, unless dates are required.
func (e *evaluation) inOrder(c *constraint, criteria []*node) (func(p int32) bool, error) {
	for _, choice := range c.Choices {
		if choice.Choice != "" && choice.Choice != "any" {
			return nil, errors.New("an implementation is missing: occurrenceChoice " + choice.Choice)
		}
	}
	preferences := map[int][]string{}
	for _, p := range c.Preferences {
		preferences[p.ID] = p.Preference
	}
	required, err := c.datesRequired()
	if err != nil {
		return nil, err
	}
	least, most := c.Min.seconds(), int64(1)<<40
	if c.Max != nil {
		most = c.Max.seconds()
	}
	return func(p int32) bool {
		before := []int64{}
		for i, n := range criteria {
			reached := []int64{}
			for _, row := range e.rows(n, p, nil) {
				at := dateOf(row, preferences[*n.ID])
				if at == hospital.NoTime && required(*n.ID) {
					continue
				}
				if i == 0 || follows(before, at, least, most) {
					reached = append(reached, at)
				}
			}
			if before = reached; len(before) == 0 {
				return false
			}
		}
		return true
	}, nil
}

func follows(before []int64, at, least, most int64) bool {
	for _, b := range before {
		if b == hospital.NoTime || at == hospital.NoTime || (at-b >= least && at-b <= most) {
			return true
		}
	}
	return false
}

// datesRequired reads dateIsNotNullList: a bool for all criteria, or one for each.
func (c *constraint) datesRequired() (func(id int) bool, error) {
	all := false
	each := map[int]bool{}
	if text := strings.TrimSpace(string(c.NotNull)); text != "" && text != "null" {
		var list []struct {
			ID      int  `json:"_id"`
			NotNull bool `json:"dateIsNotNull"`
		}
		if json.Unmarshal(c.NotNull, &all) != nil {
			if err := json.Unmarshal(c.NotNull, &list); err != nil {
				return nil, message("JsError.get: dateIsNotNullList is neither a boolean nor a list")
			}
		}
		for _, one := range list {
			each[one.ID] = one.NotNull
		}
	}
	return func(id int) bool { return all || each[id] }, nil
}
