package queryexec

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The shapes of cohort.md 16.1. Reading a value checks and tightens it ("5" becomes 5 where a number belongs), and puts
// keys into the order of 16.4. Three kinds of keys are told apart:
//   - known ones are checked;
//   - dropped ones are known to mean nothing to QueryExecutor (16.1: version, name, …) and stay here;
//   - all others travel on unchanged, behind the known ones (decision 25).

// resourceTypes in their canonical spelling.
var resourceTypes = []string{"Patient", "Condition", "Composition", "Claim", "Procedure", "Specimen", "Observation",
	"Encounter", "MedicationRequest", "MedicationAdministration", "DocumentReference", "ImagingStudy",
	"QuestionnaireResponse", ippList}

const (
	ippList       = "IPPList"
	basicResource = "basicResource"
)

var nodeTypes = []string{"request", basicResource, "andGroup", "orGroup", "nAmongM"}

// problem says what is wrong where; it never repeats the value.
type problem struct {
	path string
	text string
}

func (p *problem) Error() string {
	if p.path == "" {
		return p.text
	}
	return p.path + ": " + p.text
}

func wrong(text string) error { return &problem{text: text} }

// within puts a step before the path of a problem.
func within(step string, err error) error {
	p, ok := err.(*problem)
	if !ok {
		return err
	}
	if p.path != "" && !strings.HasPrefix(p.path, "[") {
		step += "."
	}
	p.path = step + p.path
	return p
}

// kind checks a value and gives back what is sent.
type kind func(v any) (any, error)

type field struct {
	key      string
	kind     kind
	nullable bool // null is as good as absent
	required bool
	list     bool // an empty list when absent
	slot     bool // keeps its place when absent, for what the translation puts there
}

type shape struct {
	fields  []field
	dropped []string
}

func (s *shape) read(v any) (any, error) {
	in, ok := v.(*object)
	if !ok {
		return nil, wrong("must be an object")
	}
	out := newObject()
	for _, f := range s.fields {
		value, there := in.values[f.key]
		if there && value == nil && f.nullable {
			there = false
		}
		switch {
		case !there && f.required:
			return nil, within(f.key, wrong("is required"))
		case !there && f.list:
			out.set(f.key, []any{})
		case !there && f.slot:
			out.set(f.key, absent{})
		case !there:
		case value == nil:
			return nil, within(f.key, wrong("may not be null"))
		default:
			checked, err := f.kind(value)
			if err != nil {
				return nil, within(f.key, err)
			}
			out.set(f.key, checked)
		}
	}
	for _, key := range in.keys {
		if !s.knows(key) {
			out.set(key, in.values[key])
		}
	}
	return out, nil
}

func (s *shape) knows(key string) bool {
	return slices.Contains(s.dropped, key) || slices.ContainsFunc(s.fields, func(f field) bool { return f.key == key })
}

// newSchema is the shape of the whole document.
func newSchema() *shape {
	criterion, constraints := &shape{}, listOf(newConstraint().read)
	criteria := listOf(func(v any) (any, error) { return criterion.read(v) }) // it holds itself
	dates := &shape{fields: []field{{key: "minDate", kind: text, nullable: true}, {key: "maxDate", kind: text, nullable: true},
		{key: "datePreference", kind: listOf(text), nullable: true}, {key: "dateIsNotNull", kind: boolean, nullable: true}}}
	*criterion = shape{dropped: []string{"name"}, fields: []field{
		{key: "_type", kind: oneOf("type", nodeTypes)}, {key: "_id", kind: integer}, {key: "isInclusive", kind: boolean},
		{key: "resourceType", kind: resourceType}, {key: "filterSolr", kind: text, slot: true}, {key: "filterFhir", kind: text},
		{key: "patientAge", kind: (&shape{fields: []field{{key: "minAge", kind: text, nullable: true},
			{key: "maxAge", kind: text, nullable: true}, {key: "dateIsNotNull", kind: boolean, nullable: true},
			{key: "datePreference", kind: listOf(text), nullable: true}}}).read},
		{key: "criteria", kind: criteria, list: true},
		{key: "occurrence", kind: (&shape{fields: []field{{key: "n", kind: integer, required: true},
			{key: "operator", kind: text, required: true}, {key: "timeDelayMin", kind: text}, {key: "timeDelayMax", kind: text},
			{key: "sameEncounter", kind: boolean}, {key: "sameDay", kind: boolean}}}).read},
		{key: "dateRange", kind: dates.read}, {key: "dateRangeList", kind: listOf(dates.read), list: true},
		{key: "encounterDateRange", kind: dates.read}, {key: "temporalConstraints", kind: constraints, list: true},
		{key: "nAmongMOptions", kind: (&shape{dropped: []string{"timeDelayMin", "timeDelayMax"}, fields: []field{
			{key: "n", kind: integer, required: true}, {key: "operator", kind: text, required: true}}}).read},
	}}
	population := &shape{dropped: []string{"providerCohortList"},
		fields: []field{{key: "caresiteCohortList", kind: listOf(integer), list: true}}}
	return &shape{dropped: []string{"version"}, fields: []field{
		{key: "instance_id", kind: forbidden, slot: true}, {key: "cohortName", kind: text},
		{key: "sourcePopulation", kind: population.read, slot: true},
		{key: "resourceType", kind: resourceType}, {key: "_type", kind: oneOf("type", nodeTypes)},
		{key: "request", kind: criterion.read}, {key: "temporalConstraints", kind: constraints, list: true}}}
}

func newConstraint() *shape {
	duration := &shape{}
	for _, unit := range []string{"years", "months", "days", "hours", "minutes", "seconds"} {
		duration.fields = append(duration.fields, field{key: unit, kind: integer, nullable: true})
	}
	return &shape{dropped: []string{"id"}, fields: []field{
		{key: "idList", kind: allOr}, {key: "constraintType", kind: text}, {key: "datePreferenceList", kind: list},
		{key: "timeRelationMinDuration", kind: duration.read}, {key: "timeRelationMaxDuration", kind: duration.read},
		{key: "occurrenceChoiceList", kind: list}, {key: "dateIsNotNullList", kind: flagOr},
		{key: "filteredCriteriaIdList", kind: allOr}}}
}

func listOf(item kind) kind {
	return func(v any) (any, error) {
		in, err := list(v)
		if err != nil {
			return nil, err
		}
		out := make([]any, len(in.([]any)))
		for i, one := range in.([]any) {
			if out[i], err = item(one); err != nil {
				return nil, within(fmt.Sprintf("[%d]", i), err)
			}
		}
		return out, nil
	}
}

// list is a list of anything, which is passed on as it is.
func list(v any) (any, error) {
	if l, ok := v.([]any); ok {
		return l, nil
	}
	return nil, wrong("must be a list")
}

// allOr writes ["All"] as "all", which is how QueryExecutor wants it (16.4).
func allOr(v any) (any, error) {
	l, err := list(v)
	if err == nil && len(l.([]any)) == 1 && l.([]any)[0] == "All" {
		return "all", nil
	}
	return l, err
}

// flagOr writes [true] as true and [false] as false (16.4).
func flagOr(v any) (any, error) {
	l, err := list(v)
	if err == nil && len(l.([]any)) == 1 {
		if flag, ok := l.([]any)[0].(bool); ok {
			return flag, nil
		}
	}
	return l, err
}

func text(v any) (any, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	return nil, wrong("must be a text")
}

// integer takes whole numbers, 7.0, true and false, and texts of whole numbers: so did the old validation.
func integer(v any) (any, error) {
	switch v := v.(type) {
	case json.Number:
		return wholeNumber(v.String())
	case string:
		return wholeNumber(strings.TrimSpace(v))
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	}
	return nil, wrong("must be a whole number")
}

func wholeNumber(s string) (any, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	// 7.0 or 7e0, as far as a float64 is exact.
	if f, err := strconv.ParseFloat(s, 64); err == nil && strings.Trim(s, "0123456789+-.eE") == "" &&
		f == math.Trunc(f) && math.Abs(f) <= 1<<53 {
		return int64(f), nil
	}
	return nil, wrong("must be a whole number")
}

func boolean(v any) (any, error) {
	switch v := v.(type) {
	case bool:
		return v, nil
	case json.Number:
		switch n, err := wholeNumber(v.String()); {
		case err == nil && n == int64(1):
			return true, nil
		case err == nil && n == int64(0):
			return false, nil
		}
	case string:
		switch strings.ToLower(v) {
		case "true", "t", "1", "on", "yes", "y":
			return true, nil
		case "false", "f", "0", "off", "no", "n":
			return false, nil
		}
	}
	return nil, wrong("must be true or false")
}

func forbidden(any) (any, error) { return nil, wrong("may not be given") }

func oneOf(what string, words []string) kind {
	refusal := "is not a known " + what + " (" + strings.Join(words, ", ") + ")"
	return func(v any) (any, error) {
		if s, ok := v.(string); ok && slices.Contains(words, s) {
			return s, nil
		}
		return nil, wrong(refusal)
	}
}

// resourceType is found in any case, and written in the canonical one.
func resourceType(v any) (any, error) {
	if s, ok := v.(string); ok {
		for _, known := range resourceTypes {
			if strings.EqualFold(known, s) {
				return known, nil
			}
		}
	}
	return nil, wrong("is not a known resource (" + strings.Join(resourceTypes, ", ") + ")")
}
