package demo

import "encoding/json"

// The documents that the front-end's request builder writes (contract: cohort.md 16.1, clients.md 11).
type document struct {
	Version    string     `json:"version"`
	Type       string     `json:"_type"`
	Population population `json:"sourcePopulation"`
	Request    criterion  `json:"request"`
}

type population struct {
	Cohorts []string `json:"caresiteCohortList"`
}

// criterion is a group of criteria or one of them.
type criterion struct {
	Type        string       `json:"_type"`
	ID          int          `json:"_id"`
	Name        string       `json:"name,omitempty"`
	Inclusive   bool         `json:"isInclusive"`
	Resource    string       `json:"resourceType,omitempty"`
	Filter      *string      `json:"filterFhir,omitempty"`
	Occurrence  *occurrence  `json:"occurrence,omitempty"`
	Criteria    []criterion  `json:"criteria,omitempty"`
	Constraints *[]criterion `json:"temporalConstraints,omitempty"`
}

type occurrence struct {
	N        int    `json:"n"`
	Operator string `json:"operator"`
}

const icd10 = "https://smt.esante.gouv.fr/terminologie-cim-10/"

// basic is a criterion about one kind of resource.
func basic(id int, inclusive bool, name, resource, filter string) criterion {
	c := criterion{Type: "basicResource", ID: id, Name: name, Inclusive: inclusive, Resource: resource, Filter: &filter}
	if resource != "Patient" {
		c.Occurrence = &occurrence{N: 1, Operator: ">="}
	}
	return c
}

func serialize(cohortID string, criteria ...criterion) (string, error) {
	raw, err := json.Marshal(document{Version: "v1.6.1", Type: "request", Population: population{[]string{cohortID}},
		Request: criterion{Type: "andGroup", Inclusive: true, Criteria: criteria, Constraints: &[]criterion{}}})
	return string(raw), err
}

// narrowWords and narrowQuery are the question of the demo: few enough patients for an ordinary cohort.
const narrowWords = "women born before 1980, living, with hypertension or diabetes found since 2020, seen since 2019"

func narrowQuery(cohortID string) (string, error) {
	return serialize(cohortID,
		basic(1, true, "Femmes nées avant 1980", "Patient", "active=true&gender=f&birthdate=le1979-12-31T00:00:00Z"),
		basic(2, true, "Hypertension ou diabète", "Condition", "subject.active=true&code="+icd10+"|I10,"+icd10+"|E10-E14&onset-date=ge2020-01-01T00:00:00Z"),
		basic(3, true, "Passage depuis 2019", "Encounter", "subject.active=true&period-start=ge2019-01-01T00:00:00Z"),
		basic(4, false, "Décès", "Patient", "active=true&deceased=true"))
}

// broadWords and broadQuery are about more patients than the size limit.
const broadWords = "everybody in the whole institution"

func broadQuery(cohortID string) (string, error) {
	return serialize(cohortID, basic(1, true, "Tous les patients", "Patient", "active=true"))
}
