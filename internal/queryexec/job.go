package queryexec

import (
	"fmt"
	"math"
	"strings"
)

// Mode is what a job does (cohort.md 18.2).
type Mode string

const (
	ModeCount            Mode = "count"              // patients of the query
	ModeCountAll         Mode = "count_all"          // of the whole institution, with a blurred minimum and maximum
	ModeCountWithDetails Mode = "count_with_details" // of the whole institution, per organisation (feasibility)
	ModeCreate           Mode = "create"             // makes the list of patients or resources
)

func (m Mode) valid() bool {
	return m == ModeCount || m == ModeCountAll || m == ModeCountWithDetails || m == ModeCreate
}

// wholeInstitution tells that the population of the query is replaced by the root perimeter.
func (m Mode) wholeInstitution() bool { return m == ModeCountAll || m == ModeCountWithDetails }

// jobTitle is what every job is called: the name that a user gave is never sent (peers.md 2.4).
const jobTitle = "Created from C360 backend"

// Job is a request to QueryExecutor, ready to be sent and to be kept (schedules keep theirs: cohort.md 13.2).
type Job struct {
	Mode Mode
	Body string // JSON, or the older notation of jobs that the old system stored; QueryExecutor reads both
}

// StoredCount is a count job whose body was kept in request_refresh_schedule's translated query.
func StoredCount(body string) Job { return Job{Mode: ModeCount, Body: body} }

func (j Job) isJSON() bool { return strings.HasPrefix(strings.TrimSpace(j.Body), "{") }

// newJob wraps a definition. What is not known is left out: QueryExecutor has defaults for all but definition and mode.
// JSON is sent instead of the old text form, which an owner's name with "@" or "#" broke (cohort.md 18.2, peers.md 2.4).
func newJob(q Query, definition string) (Job, error) {
	if q.Sampling != nil && !(*q.Sampling > 0 && *q.Sampling <= 1) {
		return Job{}, &QueryError{Text: "The sampling ratio must be between 0 and 1."}
	}
	input := newObject()
	input.set("cohortDefinitionName", jobTitle)
	input.set("cohortDefinitionSyntax", definition)
	setText(input, "ownerEntityId", q.Owner)
	input.set("mode", string(q.Mode))
	setText(input, "cohortUuid", q.InstanceID)
	setText(input, "callbackPath", q.callbackPath())
	if q.Sampling != nil || q.StageDetails != "" {
		input.set("modeOptions", q.options())
	}
	if q.ExistingCohortID != nil {
		input.set("existingCohortId", *q.ExistingCohortID)
	}
	body := newObject()
	body.set("input", input)
	w := writer{ascii: true}
	w.object(body)
	return Job{Mode: q.Mode, Body: w.String()}, nil
}

func setText(o *object, key, value string) {
	if value != "" {
		o.set(key, value)
	}
}

// callbackPath is given, or the study's: QueryExecutor itself knows the paths of counts and cohorts only.
func (q Query) callbackPath() string {
	if q.CallbackPath == "" && q.Mode == ModeCountWithDetails && q.InstanceID != "" {
		return "/cohort/feasibility-studies/" + q.InstanceID + "/"
	}
	return q.CallbackPath
}

// options always has both keys; QueryExecutor ignores a null.
func (q Query) options() *object {
	o := newObject()
	o.set("sampling", nil)
	if q.Sampling != nil && !math.IsNaN(*q.Sampling) {
		o.set("sampling", *q.Sampling)
	}
	o.set("details", nil)
	if q.StageDetails != "" {
		o.set("details", q.StageDetails)
	}
	return o
}

// SubsetQuery is the document that is stored as the snapshot of a cohort's subset: the resources of one kind that match
// the filter, of the patients of the cohort whose group id is given (cohort.md 22.1).
func SubsetQuery(resource, groupID, filter string) string {
	w := writer{ascii: true}
	quote := func(s string) string {
		w.Reset()
		w.text(s)
		return w.String()
	}
	return fmt.Sprintf(`{"_type": "request", "resourceType": %[1]s, "sourcePopulation": {"caresiteCohortList": [%[2]s]}, `+
		`"request": {"_id": 0, "_type": "basicResource", "isInclusive": true, "filterFhir": %[3]s, "resourceType": %[1]s}}`,
		quote(resource), quote(groupID), quote(filter))
}

// SampleQuery is the document of a sample: all patients of the cohort; the ratio goes with the job (cohort.md 9.2, 22.2).
func SampleQuery(groupID string) string { return SubsetQuery("Patient", groupID, "") }

// VirtualCohortQuery is the document of a perimeter's virtual cohort: the patients with an encounter in the perimeter or
// below it (accesses.md 19, peers.md 2.10).
func VirtualCohortQuery(perimeterID string, descendants []string) string {
	criterion := newObject()
	criterion.set("_type", basicResource)
	criterion.set("_id", int64(1))
	criterion.set("isInclusive", true)
	criterion.set("resourceType", "Encounter")
	criterion.set("filterFhir", "service-provider="+strings.Join(append([]string{perimeterID}, descendants...), ","))
	group := newObject()
	group.set("_type", "andGroup")
	group.set("_id", int64(0))
	group.set("isInclusive", true)
	group.set("criteria", []any{criterion})
	query := newObject()
	query.set("_type", "request")
	query.set("sourcePopulation", newObject())
	query.set("request", group)
	w := writer{}
	w.object(query)
	return w.String()
}
