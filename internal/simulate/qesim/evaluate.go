package qesim

import (
	"errors"
	"fmt"
	"strings"

	"cohortflow/internal/simulate/hospital"
)

// evaluation answers one query. Sets of patients are combined group by group; the records of one patient lie side by
// side, so that a criterion is one pass over those of the population.
type evaluation struct {
	h          *hospital.Hospital
	solr       bool
	population *hospital.Set // where the query looks
	standard   *hospital.Set // what "everybody" means: its active patients
	nodes      map[int]*hospital.Set
}

func newEvaluation(h *hospital.Hospital, population *hospital.Set, solr bool) *evaluation {
	return &evaluation{h: h, solr: solr, population: population, standard: population.Clone().And(h.Active()),
		nodes: map[int]*hospital.Set{}}
}

// set answers a node as if it were inclusive; whether it excludes is its parent's business.
func (e *evaluation) set(n *node, inherited []*constraint) (*hospital.Set, error) {
	var found *hospital.Set
	var err error
	switch n.Type {
	case "basicResource":
		found, err = e.criterion(n)
	case "andGroup":
		found, err = e.all(n, append(inherited[:len(inherited):len(inherited)], n.Constraints...))
	default:
		if err := refuseConstraints(n, inherited); err != nil {
			return nil, err
		}
		found, err = e.among(n, inherited)
	}
	if err != nil {
		return nil, err
	}
	e.nodes[*n.ID] = found
	return found, nil
}

// all answers an andGroup.
func (e *evaluation) all(n *node, constraints []*constraint) (*hospital.Set, error) {
	var found *hospital.Set
	excluded := hospital.NewSet(e.h.Size())
	for _, member := range n.Criteria {
		s, err := e.set(member, constraints)
		if err != nil {
			return nil, err
		}
		switch {
		case !*member.Inclusive:
			excluded.Or(s)
		case found == nil:
			found = s.Clone()
		default:
			found.And(s)
		}
	}
	if found == nil {
		found = e.standard.Clone()
	}
	found.Minus(excluded)
	return found, e.constrain(n, constraints, found)
}

// among answers an orGroup and nAmongM: how many members hold. A member that excludes holds for whom it does not find.
func (e *evaluation) among(n *node, inherited []*constraint) (*hospital.Set, error) {
	sets := make([]*hospital.Set, len(n.Criteria))
	for i, member := range n.Criteria {
		s, err := e.set(member, inherited)
		if err != nil {
			return nil, err
		}
		if sets[i] = s; !*member.Inclusive {
			sets[i] = e.standard.Clone().Minus(s)
		}
	}
	found := hospital.NewSet(e.h.Size())
	if n.Type == "orGroup" {
		if len(sets) == 0 {
			return e.standard.Clone(), nil
		}
		for _, s := range sets {
			found.Or(s)
		}
		return found, nil
	}
	var failed error
	everybody := e.standard.Clone()
	for _, s := range sets {
		everybody.Or(s)
	}
	everybody.Each(func(p int32) bool {
		count := 0
		for _, s := range sets {
			if s.Has(p) {
				count++
			}
		}
		ok, err := n.AmongOptions.holds(count)
		if failed = err; ok {
			found.Add(p)
		}
		return err == nil
	})
	return found, failed
}

// prepare compiles the filter and the age of a criterion.
func (e *evaluation) prepare(n *node) error {
	var search hospital.Expr
	var err error
	if e.solr && n.FilterSolr != nil {
		search, err = e.h.ParseSolr(n.kind, *n.FilterSolr)
	} else if n.FilterFHIR != nil {
		search, err = e.h.ParseFilter(n.kind, *n.FilterFHIR)
	} else {
		err = message("JsError.get: filterFhir is missing")
	}
	if err == nil {
		n.match, err = e.h.Compile(n.kind, search)
	}
	if err == nil && n.Age != nil {
		err = n.restrictAge()
	}
	if err != nil {
		return fmt.Errorf("criterion %d: %w", *n.ID, err)
	}
	return nil
}

// restrictAge adds the age of the patient at the date of the resource to the search.
func (n *node) restrictAge() error {
	if n.Age.Min == nil && n.Age.Max == nil {
		return nil
	}
	if n.kind == hospital.Patients {
		return errors.New("impossible to build a datetime column for resource Patient")
	}
	least, most := 0.0, 1e9
	var err error
	if n.Age.Min != nil {
		least, err = parseAge(*n.Age.Min)
	}
	if n.Age.Max != nil && err == nil {
		most, err = parseAge(*n.Age.Max)
	}
	inner, undated := n.match, n.Age.DateNotNull != nil && !*n.Age.DateNotNull
	n.match = func(row hospital.Row) bool {
		if !inner(row) {
			return false
		}
		at := dateOf(row, n.Age.Preference)
		if at == hospital.NoTime {
			return undated
		}
		days := float64((at - row.P.Birth) / 86400)
		return days >= least && days <= most
	}
	return err
}

// dateOf is the first known date of a record, by preference.
func dateOf(row hospital.Row, preference []string) int64 {
	if len(preference) == 0 {
		return row.R.Start
	}
	for _, name := range preference {
		at := hospital.NoTime
		switch name {
		case "event_date":
			at = row.R.Start
		case "encounter_start_date":
			at = row.E.Start
		case "encounter_end_date":
			at = row.E.End
		}
		if at != hospital.NoTime {
			return at
		}
	}
	return hospital.NoTime
}

// criterion answers a basicResource: the patients of the population with enough matching records.
func (e *evaluation) criterion(n *node) (*hospital.Set, error) {
	if err := e.prepare(n); err != nil {
		return nil, err
	}
	enough, err := n.enough()
	if err != nil {
		return nil, fmt.Errorf("criterion %d: %w", *n.ID, err)
	}
	found := hospital.NewSet(e.h.Size())
	var rows []hospital.Row
	e.population.Each(func(p int32) bool {
		rows = e.rows(n, p, rows[:0])
		if len(rows) > 0 && enough(rows) {
			found.Add(p)
		}
		return true
	})
	return found, nil
}

// rows gathers the matching records of one patient.
func (e *evaluation) rows(n *node, patient int32, rows []hospital.Row) []hospital.Row {
	from, to := e.h.Span(n.kind, patient)
	for i := from; i < to; i++ {
		if row := e.h.Row(n.kind, i); n.match(row) {
			rows = append(rows, row)
		}
	}
	return rows
}

// enough makes the test of occurrence and uniqueFields. Only what occurs is grouped and counted, as a GROUP BY does: a
// patient without any matching record is never found, whatever the operator.
func (n *node) enough() (func([]hospital.Row) bool, error) {
	tests := []func([]hospital.Row) bool{}
	if o := n.Occurrence; o != nil {
		if o.N == nil {
			return nil, message("JsError.get: occurrence has no n")
		}
		if _, err := o.holds(0); err != nil {
			return nil, err
		}
		if o.SameDay && n.kind == hospital.Patients {
			return nil, errors.New("impossible to build a datetime column for resource Patient")
		}
		tests = append(tests, func(rows []hospital.Row) bool { return anyGroup(rows, o.comparison, o.key) })
	}
	for _, u := range n.Unique {
		if u.N == nil {
			return nil, message("JsError.get: uniqueFields has no n")
		}
		if _, err := u.holds(0); err != nil {
			return nil, err
		}
		if *u.N == 1 && u.Operator == ">=" {
			continue
		}
		switch n.kind {
		case hospital.MedicationRequests, hospital.MedicationAdministrations, hospital.Observations, hospital.Conditions, hospital.Procedures:
		default:
			return nil, fmt.Errorf("%s has no code column", n.ResourceType)
		}
		tests = append(tests, func(rows []hospital.Row) bool {
			return anyGroup(rows, *u, func(row hospital.Row) [2]int64 { return [2]int64{int64(row.R.Code)} })
		})
	}
	return func(rows []hospital.Row) bool {
		for _, test := range tests {
			if !test(rows) {
				return false
			}
		}
		return true
	}, nil
}

// key is the group of a record: its patient, and its encounter and day where that is asked for.
func (o *occurrence) key(row hospital.Row) [2]int64 {
	var key [2]int64
	if o.SameEncounter && row.R != nil {
		key[0] = int64(row.R.Encounter)
	}
	if o.SameDay && row.R != nil {
		key[1] = row.R.Start / 86400
	}
	return key
}

func anyGroup(rows []hospital.Row, c comparison, key func(hospital.Row) [2]int64) bool {
	counts := map[[2]int64]int{}
	for _, row := range rows {
		counts[key(row)]++
	}
	for _, count := range counts {
		if ok, _ := c.holds(count); ok { // the operator was checked before
			return true
		}
	}
	return false
}

// details answers modeOptions.details of a count (contract: peers.md 2.8.1).
func (e *evaluation) details(root *node, option string, result *hospital.Set) (map[string]string, error) {
	extra := map[string]string{}
	matching := func(n *node) (*hospital.Set, bool) {
		s, ok := e.nodes[*n.ID]
		if ok && !*n.Inclusive {
			return e.standard.Clone().Minus(s), true
		}
		return s, ok
	}
	switch {
	case option == "":
	case strings.Contains(option, "ratio"):
		total := result.Count()
		root.each(func(n *node) {
			if s, ok := matching(n); ok {
				extra[fmt.Sprintf("criteria_ratio_%d", *n.ID)] = javaDouble(float64(s.Clone().And(result).Count()) / float64(total))
			}
		})
	default:
		wanted, err := wantedIDs(option)
		if err != nil {
			return nil, err
		}
		root.each(func(n *node) {
			if wanted != nil && !wanted[*n.ID] {
				return
			}
			count := -1
			if s, ok := matching(n); ok {
				count = s.Count()
			}
			extra[fmt.Sprintf("criteria_count_%d", *n.ID)] = fmt.Sprint(count)
		})
	}
	return extra, nil
}
