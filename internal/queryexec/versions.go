package queryexec

import (
	"net/url"
	"slices"
	"strings"
)

// CurrentVersion is the version of the query document that the front-end writes.
const CurrentVersion = "v1.6.1"

// step brings a document of one of the versions that it accepts to the next one (cohort.md 25). Its rules are by resource.
type step struct {
	to     string
	from   []string
	params map[string]paramRules
	// dates moves the date ranges of criteria into their filters.
	dates bool
}

// paramRules are what a step does to the parameters of one resource's filter, in this order.
type paramRules struct {
	rename  map[string]string              // old name → new name
	value   map[string]func(string) string // by the old name
	missing []param                        // appended where there is none of that name
}

// param is one parameter of a stored filter as it is written there, nothing decoded.
type param struct{ name, value string }

// steps is the chain, oldest first. It begins where documents need nothing but themselves: what leads to v1.4.4 translates
// the codes of one hospital by its concept database.
var steps = []step{
	{to: "v1.4.5", from: []string{"v1.4.4"}, params: map[string]paramRules{
		"Observation": {missing: []param{{"value-quantity", "ge0,le0"}}}}},
	{to: "v1.5.0", from: []string{"v1.4.5"}, dates: true},
	{to: "v1.5.1", from: []string{"v1.5.0"}, params: map[string]paramRules{
		"Encounter": {value: map[string]func(string) string{"_filter": withoutEncounter}}}},
	{to: "v1.6.0", from: []string{"v1.5.0", "v1.5.1"}, params: map[string]paramRules{
		"Encounter": {rename: map[string]string{"end-age-visit": "start-age-visit"}}}},
	{to: CurrentVersion, from: []string{"v1.6.0"}, params: map[string]paramRules{
		"MedicationRequest":        {rename: map[string]string{"medication": "code"}},
		"MedicationAdministration": {rename: map[string]string{"medication": "code"}}}},
}

// Versions are those that a stored query can be brought to, oldest first.
func Versions() []string {
	list := make([]string, len(steps))
	for i, s := range steps {
		list[i] = s.to
	}
	return list
}

// way are the steps from one version to another; ErrNoWay if they do not lead there.
func way(from, to string) ([]step, error) {
	last := slices.IndexFunc(steps, func(s step) bool { return s.to == to })
	var list []step
	for _, s := range steps[:last+1] {
		if slices.Contains(s.from, from) {
			list, from = append(list, s), s.to
		}
	}
	if from != to {
		return nil, ErrNoWay
	}
	return list, nil
}

// withoutEncounter: an encounter's own dates are not those of its encounter.
func withoutEncounter(value string) string { return strings.ReplaceAll(value, "encounter.", "") }

// resourceDates are the parameters of the date that a range without further name means.
var resourceDates = map[string]string{
	"Condition": "recorded-date", "Procedure": "date", "Claim": "created", "DocumentReference": "date",
	"MedicationRequest": "validity-period-start", "MedicationAdministration": "effective-time", "ImagingStudy": "started",
	"Observation": "date", "QuestionnaireResponse": "authored", "Encounter": "period-start",
}

// encounterDate is the parameter of the beginning of the encounter to which a resource belongs; "" where there is none.
func encounterDate(resource string) string {
	switch {
	case resource == "MedicationAdministration":
		return "context.period-start"
	case resourceDates[resource] != "":
		return "encounter.period-start"
	}
	return ""
}

// dateFilter is a date range as the piece of a filter, "" for a range without bounds. One that undated resources belong to is an
// expression, percent-encoded since it holds signs of its own.
func dateFilter(param, from, until string, undatedToo bool) string {
	var bounds []string
	for _, bound := range []struct{ sign, date string }{{"gt", from}, {"lt", until}} {
		switch {
		case bound.date == "":
		case undatedToo:
			bounds = append(bounds, param+" "+bound.sign+" "+bound.date)
		default:
			bounds = append(bounds, param+"="+bound.sign+bound.date)
		}
	}
	if undatedToo && len(bounds) > 0 {
		return "_filter=" + escapeValue("("+strings.Join(bounds, " and ")+") or not ("+param+` eq "*")`)
	}
	return strings.Join(bounds, "&")
}

// escapeValue escapes all but letters, digits and - _ . ~ /, a space as %20.
func escapeValue(s string) string {
	return strings.NewReplacer("+", "%20", "%2F", "/").Replace(url.QueryEscape(s))
}
