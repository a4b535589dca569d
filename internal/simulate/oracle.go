package simulate

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cohortflow/internal/simulate/hospital"
)

// Evaluate is the true count of a query document (as the front-ends store it, or as QueryExecutor gets it): a straight
// loop over the patients that shares no step with QueryExecutor's double but the reading of a filter. A demo checks with
// it that a number on the screen is right. It takes filterFhir where there is one, so that it checks translations, too.
func (s *Suite) Evaluate(document string) (int, error) {
	var q struct {
		Source *struct {
			List []any `json:"caresiteCohortList"`
		} `json:"sourcePopulation"`
		Request *criterion `json:"request"`
	}
	if err := json.Unmarshal([]byte(document), &q); err != nil {
		return 0, fmt.Errorf("evaluate: %w", err)
	}
	if q.Source == nil || q.Request == nil {
		return 0, errors.New("evaluate: sourcePopulation or request is missing")
	}
	ids := []int64{}
	for _, value := range q.Source.List { // texts from the front-ends, numbers from the back-end
		ids = append(ids, int64(number(value)))
	}
	population, err := s.lists.Population(ids)
	if err != nil {
		return 0, fmt.Errorf("evaluate: %w", err)
	}
	o := &oracle{h: s.hospital}
	if err := o.read(q.Request, nil); err != nil {
		return 0, fmt.Errorf("evaluate: %w", err)
	}
	count := 0
	for i := range s.hospital.Size() {
		p := int32(i)
		if population.Has(p) && o.counts(q.Request, s.hospital.Patient(p)) {
			count++
		}
	}
	return count, o.err
}

func number(value any) float64 {
	switch v := value.(type) {
	case float64:
		return v
	case string:
		if n, err := strconv.ParseFloat(v, 64); err == nil {
			return n
		}
	}
	return -1
}

// criterion is a group or a criterion of the document.
type criterion struct {
	Type         string      `json:"_type"`
	ID           json.Number `json:"_id"`
	Inclusive    bool        `json:"isInclusive"`
	Members      []criterion `json:"criteria"`
	Constraints  []rule      `json:"temporalConstraints"`
	Among        *times      `json:"nAmongMOptions"`
	Occurrence   *times      `json:"occurrence"`
	ResourceType string      `json:"resourceType"`
	FHIR         *string     `json:"filterFhir"`
	Solr         *string     `json:"filterSolr"`
	Age          *struct {
		Min string `json:"minAge"`
		Max string `json:"maxAge"`
	} `json:"patientAge"`

	kind   hospital.Kind
	search hospital.Expr
}

type times struct {
	N             int    `json:"n"`
	Operator      string `json:"operator"`
	SameEncounter bool   `json:"sameEncounter"`
	SameDay       bool   `json:"sameDay"`
}

type rule struct {
	IDs  any    `json:"idList"`
	Type string `json:"constraintType"`
}

type oracle struct {
	h   *hospital.Hospital
	err error
}

// read prepares the searches, and refuses what the loop does not understand rather than to count wrongly.
func (o *oracle) read(c *criterion, inherited []rule) error {
	for _, constraint := range c.Constraints {
		if constraint.Type != "sameEncounter" || c.Type != "andGroup" {
			return fmt.Errorf("the constraint %q is not checked by this loop", constraint.Type)
		}
	}
	if inherited = slices.Concat(inherited, c.Constraints); c.Type == "andGroup" {
		c.Constraints = inherited
	}
	for i := range c.Members {
		if err := o.read(&c.Members[i], inherited); err != nil {
			return err
		}
	}
	if c.Type != "basicResource" {
		return nil
	}
	name := c.ResourceType
	if name == "IPPList" {
		name = "Patient"
	}
	kind, ok := hospital.KindOf(name)
	if !ok {
		return fmt.Errorf("the hospital holds no %s", c.ResourceType)
	}
	c.kind = kind
	var err error
	switch {
	case c.FHIR != nil:
		c.search, err = o.h.ParseFilter(kind, *c.FHIR)
	case c.Solr != nil:
		c.search, err = o.h.ParseSolr(kind, *c.Solr)
	default:
		err = fmt.Errorf("criterion %s has no filter", c.ID)
	}
	return err
}

// counts tells whether a patient belongs to the answer.
func (o *oracle) counts(c *criterion, p *hospital.Patient) bool {
	if c.Inclusive {
		return o.finds(c, p)
	}
	return p.Active && !o.finds(c, p)
}

// finds tells whether the criterion or group finds the patient, whether it then includes or excludes.
func (o *oracle) finds(c *criterion, p *hospital.Patient) bool {
	members := slices.DeleteFunc(slices.Clone(c.Members), func(m criterion) bool { return m.Type != "basicResource" && len(m.Members) == 0 })
	holds, including := 0, 0
	for i := range members {
		if members[i].Inclusive {
			including++
		}
		if o.counts(&members[i], p) {
			holds++
		}
	}
	switch c.Type {
	case "basicResource":
		return o.enough(c, o.rows(c, p))
	case "orGroup":
		return holds > 0 || (len(members) == 0 && p.Active)
	case "nAmongM":
		return (p.Active || holds > 0) && c.Among != nil && o.compare(holds, *c.Among)
	}
	for i := range members { // an andGroup: nobody excluded may be found, active or not
		if members[i].Inclusive != o.finds(&members[i], p) {
			return false
		}
	}
	if including == 0 && !p.Active {
		return false
	}
	for _, constraint := range c.Constraints {
		if !o.together(constraint, members, p) {
			return false
		}
	}
	return true
}

func (o *oracle) rows(c *criterion, p *hospital.Patient) []hospital.Row {
	var rows []hospital.Row
	from, to := o.h.Span(c.kind, p.Index)
	for i := from; i < to; i++ {
		if row := o.h.Row(c.kind, i); o.matches(c.kind, c.search, row) && o.ofAge(c, row) {
			rows = append(rows, row)
		}
	}
	return rows
}

func (o *oracle) ofAge(c *criterion, row hospital.Row) bool {
	if c.Age == nil || c.Age.Min == "" && c.Age.Max == "" {
		return true
	}
	if row.R == nil {
		o.err = errors.New("evaluate: a patient has no date to tell the age at")
		return false
	}
	days := func(text string) float64 {
		var y, m, d float64
		if _, err := fmt.Sscanf(text, "%f-%f-%f", &y, &m, &d); err != nil {
			o.err = fmt.Errorf("evaluate: the age %q is not readable", text)
		}
		return y*365.25 + m*30 + d
	}
	age := float64((row.R.Start - row.P.Birth) / 86400)
	return (c.Age.Min == "" || age >= days(c.Age.Min)) && (c.Age.Max == "" || age <= days(c.Age.Max))
}

func (o *oracle) enough(c *criterion, rows []hospital.Row) bool {
	if c.Occurrence == nil {
		return len(rows) > 0
	}
	groups := map[string]int{}
	for _, row := range rows {
		key := ""
		if c.Occurrence.SameEncounter && row.R != nil {
			key += fmt.Sprint(row.R.Encounter)
		}
		if c.Occurrence.SameDay && row.R != nil {
			key += fmt.Sprint("/", row.R.Start/86400)
		}
		groups[key]++
	}
	for _, count := range groups {
		if o.compare(count, *c.Occurrence) {
			return true
		}
	}
	return false
}

func (o *oracle) compare(have int, t times) bool {
	switch t.Operator {
	case "<":
		return have < t.N
	case "<=":
		return have <= t.N
	case "=":
		return have == t.N
	case ">=":
		return have >= t.N
	case ">":
		return have > t.N
	}
	o.err = fmt.Errorf("evaluate: the operator %q is not readable", t.Operator)
	return false
}

// together tells whether one encounter has a matching record of every criterion that the constraint is about.
func (o *oracle) together(constraint rule, members []criterion, p *hospital.Patient) bool {
	listed, isList := constraint.IDs.([]any)
	all := !isList || len(listed) == 1 && fmt.Sprint(listed[0]) == "All"
	var about []*criterion
	for i := range members {
		m := &members[i]
		in := all || slices.ContainsFunc(listed, func(id any) bool { return fmt.Sprint(id) == m.ID.String() })
		if in && m.Type == "basicResource" && m.Inclusive && m.kind != hospital.Patients {
			about = append(about, m)
		}
	}
	if len(about) < 2 || !all && len(about) != len(listed) {
		return true
	}
	from, to := o.h.Span(hospital.Encounters, p.Index)
	for e := from; e < to; e++ {
		inAll := true
		for _, m := range about {
			inAll = inAll && slices.ContainsFunc(o.rows(m, p), func(row hospital.Row) bool { return row.R.Encounter == e })
		}
		if inAll {
			return true
		}
	}
	return false
}

// matches reads a search value by value, as text.
func (o *oracle) matches(k hospital.Kind, e hospital.Expr, row hospital.Row) bool {
	switch e := e.(type) {
	case hospital.And:
		return !slices.ContainsFunc(e, func(part hospital.Expr) bool { return !o.matches(k, part, row) })
	case hospital.Or:
		return slices.ContainsFunc(e, func(part hospital.Expr) bool { return o.matches(k, part, row) })
	case hospital.Not:
		return !o.matches(k, e.Expr, row)
	case hospital.Test:
		f := o.h.Field(k, e.Field)
		if f == nil {
			o.err = fmt.Errorf("evaluate: %w", &hospital.Unsupported{Type: k.String(), Field: e.Field})
			return false
		}
		return o.test(f, e, f.Values(row))
	}
	return false
}

func (o *oracle) test(f *hospital.Field, t hospital.Test, values []string) bool {
	switch {
	case t.Op == hospital.Exists:
		return len(values) > 0
	case f.Kind == hospital.Token:
		return slices.Contains(values, t.Value) == (t.Op == hospital.Eq)
	case f.Kind == hospital.Text:
		return strings.Contains(strings.ToLower(values[0]), strings.ToLower(t.Value))
	case len(values) == 0:
		return false
	}
	low, high := number(t.Value), number(t.Value)
	if f.Kind == hospital.Date {
		from, to, err := hospital.ParseDate(t.Value)
		if err != nil {
			o.err = fmt.Errorf("evaluate: %w", err)
		}
		low, high = float64(from), float64(to-1)
	}
	have := number(values[0])
	return map[hospital.Op]bool{hospital.Eq: have >= low && have <= high, hospital.Ne: have < low || have > high, hospital.Lt: have < low,
		hospital.Le: have <= high, hospital.Gt: have > high, hospital.Ge: have >= low}[t.Op]
}
