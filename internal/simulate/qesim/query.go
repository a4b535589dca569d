package qesim

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"cohortflow/internal/simulate/hospital"
)

// query is the document of a job (contract: peers.md 2.9).
type query struct {
	Source       *source `json:"sourcePopulation"`
	Request      *node   `json:"request"`
	ResourceType string  `json:"resourceType"`
}

type source struct {
	List *[]json.Number `json:"caresiteCohortList"`
}

// node is a group or a criterion.
type node struct {
	Type         string        `json:"_type"`
	ID           *int          `json:"_id"`
	Inclusive    *bool         `json:"isInclusive"`
	Criteria     []*node       `json:"criteria"`
	Constraints  []*constraint `json:"temporalConstraints"`
	AmongOptions *comparison   `json:"nAmongMOptions"`
	ResourceType string        `json:"resourceType"`
	FilterFHIR   *string       `json:"filterFhir"`
	FilterSolr   *string       `json:"filterSolr"`
	Occurrence   *occurrence   `json:"occurrence"`
	Age          *age          `json:"patientAge"`
	Unique       []*comparison `json:"uniqueFields"`
	kind         hospital.Kind // of a criterion
	match        hospital.Matcher
}

type comparison struct {
	N        *int   `json:"n"`
	Operator string `json:"operator"`
}

type occurrence struct {
	comparison
	SameEncounter bool `json:"sameEncounter"`
	SameDay       bool `json:"sameDay"`
}

type age struct {
	Min         *string  `json:"minAge"`
	Max         *string  `json:"maxAge"`
	Preference  []string `json:"datePreference"`
	DateNotNull *bool    `json:"dateIsNotNull"`
}

type constraint struct {
	IDs         idList    `json:"idList"`
	Type        string    `json:"constraintType"`
	Min         duration  `json:"timeRelationMinDuration"`
	Max         *duration `json:"timeRelationMaxDuration"`
	Preferences []struct {
		ID         int      `json:"_id"`
		Preference []string `json:"datePreference"`
	} `json:"datePreferenceList"`
	NotNull json.RawMessage `json:"dateIsNotNullList"`
	Choices []struct {
		Choice string `json:"occurrenceChoice"`
	} `json:"occurrenceChoiceList"`
}

// duration is the delay between two criteria; years have 365 days and months 30.
type duration struct{ Years, Months, Days, Hours, Minutes, Seconds int64 }

func (d duration) seconds() int64 {
	return (d.Years*365+d.Months*30+d.Days)*86400 + d.Hours*3600 + d.Minutes*60 + d.Seconds
}

// idList is "all", or the ids of criteria.
type idList struct {
	All bool
	IDs []int
}

// UnmarshalJSON reads a text (any) as all, else an array.
func (l *idList) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		l.All = true
		return nil
	}
	return json.Unmarshal(data, &l.IDs)
}

// parseQuery reads the document. Its errors begin with the words of the real one, which tell nothing, and go on.
func parseQuery(definition string) (*query, error) {
	var q query
	if err := json.Unmarshal([]byte(definition), &q); err != nil {
		return nil, messagef("JsError.get: %v", err)
	}
	if q.Source == nil {
		return nil, message("None.get: sourcePopulation is missing")
	}
	if q.ResourceType == "" {
		q.ResourceType = "Patient"
	}
	if q.Request == nil {
		return &q, nil
	}
	if err := q.Request.check(); err != nil {
		return nil, err
	}
	if !*q.Request.Inclusive {
		yes, wrapper := true, math.MinInt
		q.Request = &node{Type: "andGroup", ID: &wrapper, Inclusive: &yes, Criteria: []*node{q.Request}}
	}
	return &q, nil
}

// population reads the ids of the source population: numbers of 32 bits.
func (q *query) population() ([]int64, bool, error) {
	if q.Source.List == nil {
		return nil, false, nil
	}
	ids := make([]int64, len(*q.Source.List))
	for i, n := range *q.Source.List {
		id, err := strconv.ParseInt(n.String(), 10, 32)
		if err != nil {
			return nil, false, message("JsError.get: caresiteCohortList holds something that is no 32-bit number")
		}
		ids[i] = id
	}
	return ids, true, nil
}

func (n *node) basic() bool { return n.Type == "basicResource" }

// check refuses what the real parser refuses, and drops the members that it drops without a word: of unknown types, and
// groups without criteria.
func (n *node) check() error {
	if n.ID == nil || n.Inclusive == nil {
		return messagef("JsError.get: a %s has no _id or no isInclusive", n.Type)
	}
	if *n.ID < math.MinInt16 || *n.ID > math.MaxInt16 {
		return messagef("JsError.get: the _id %d does not fit 16 bits", *n.ID)
	}
	switch n.Type {
	case "basicResource":
		return n.checkBasic()
	case "nAmongM":
		if n.AmongOptions == nil || n.AmongOptions.N == nil {
			return messagef("None.get: group %d has no nAmongMOptions", *n.ID)
		}
		if _, err := n.AmongOptions.holds(0); err != nil {
			return err
		}
	case "andGroup", "orGroup":
	default:
		return messagef("MatchError: unknown group type %q", n.Type)
	}
	kept := n.Criteria[:0]
	for _, member := range n.Criteria {
		switch member.Type {
		case "basicResource", "andGroup", "orGroup", "nAmongM":
		default:
			continue
		}
		if err := member.check(); err != nil {
			return err
		}
		if member.basic() || len(member.Criteria) > 0 {
			kept = append(kept, member)
		}
	}
	n.Criteria = kept
	return nil
}

func (n *node) checkBasic() error {
	if n.ResourceType == "" {
		return messagef("JsError.get: criterion %d has no resourceType", *n.ID)
	}
	if n.FilterFHIR == nil && n.FilterSolr == nil {
		return messagef("None.get: criterion %d has no filter", *n.ID)
	}
	name := n.ResourceType
	if short, ok := strings.CutSuffix(name, "Aphp"); ok && short != "" {
		name = strings.ToUpper(short[:1]) + short[1:]
	}
	switch name {
	case "IPPList":
		name = "Patient"
	case "Claim", "Specimen":
		return fmt.Errorf("key not found: %s", name)
	}
	kind, ok := hospital.KindOf(name)
	if !ok {
		return fmt.Errorf("criterion %d: the demo hospital holds no %s", *n.ID, n.ResourceType)
	}
	n.kind = kind
	return nil
}

// each visits the node and all below it.
func (n *node) each(visit func(*node)) {
	visit(n)
	for _, member := range n.Criteria {
		member.each(visit)
	}
}

// holds compares a number of things with the n of the comparison; the operators are those of SQL.
func (c comparison) holds(have int) (bool, error) {
	switch c.Operator {
	case "<":
		return have < *c.N, nil
	case "<=":
		return have <= *c.N, nil
	case "=", "==":
		return have == *c.N, nil
	case ">=":
		return have >= *c.N, nil
	case ">":
		return have > *c.N, nil
	case "!=", "<>":
		return have != *c.N, nil
	}
	return false, fmt.Errorf("syntax error at or near '%s'", c.Operator)
}

// parseAge reads years-months-days as days: 365.25 a year, 30 a month.
func parseAge(text string) (float64, error) {
	parts := strings.Split(text, "-")
	if len(parts) != 3 {
		return 0, fmt.Errorf("the age %q is not written years-months-days", text)
	}
	days := 0.0
	for i, unit := range []float64{365.25, 30, 1} {
		n, err := strconv.Atoi(parts[i])
		if err != nil {
			return 0, fmt.Errorf("the age %q is not written years-months-days", text)
		}
		days += float64(n) * unit
	}
	return days, nil
}
