package export

import (
	"fmt"
	"slices"
	"strings"
)

// table is how the built-in exporter reads one table from FHIR.
type table struct {
	name     string
	resource string
	// patient is the search parameter's-worth of the table: the accessor of the patient's id, "" for tables about nobody
	// (organisations, questionnaires). Those are read whole; all others only for the patients of the cohort.
	patient string
	// explode names the arrays whose elements are the rows, from the outside in; nil: a row is a resource. The elements of
	// "item" may hold further ones, and so may their answers, at any depth.
	explode []string
	// require leaves out resources without this member.
	require string
	columns []column
}

type column struct {
	name string
	accessor
}

// specification is the mapping as it is documented: a table, then its columns with their accessors.
type specification struct {
	names    []string // further names of the same table
	resource string
	patient  string
	explode  []string
	require  string
	columns  []string // name, accessor, name, accessor …
}

var specifications = map[string]specification{
	"person": {names: []string{"patient"}, resource: "Patient", patient: "id", columns: []string{
		"person_id", "id", "ipp", "identifier(type.coding.code=IPP).value", "ins", "identifier(type.coding.code~ins).value",
		"family", "name.family", "given", "name.given:all", "gender", "gender", "birth_date", "birthDate", "birth_datetime", "birthDate",
		"deceased", "deceasedBoolean", "death_datetime", "deceasedDateTime", "active", "active",
		"city", "address.city", "postal_code", "address.postalCode", "care_site_id", "managingOrganization.reference:id"}},
	"iris": {resource: "Patient", patient: "id", require: "address", columns: []string{
		"person_id", "id", "iris", "address.extension(url~iris).valueString|address.extension(url~iris).valueCode",
		"city", "address.city", "postal_code", "address.postalCode", "district", "address.district"}},
	"visit_occurrence": {resource: "Encounter", patient: "subject.reference:id", columns: visitColumns},
	"visit_detail":     {resource: "Encounter", patient: "subject.reference:id", require: "partOf", columns: visitColumns},
	"condition_occurrence": {names: []string{"condition"}, resource: "Condition", patient: "subject.reference:id", columns: event(
		"condition_occurrence_id", "encounter.reference:id", "onsetDateTime|onsetPeriod.start|recordedDate", "onsetPeriod.end|abatementDateTime",
		"recorded_date", "recordedDate", "status", "clinicalStatus.coding.code", "verification_status", "verificationStatus.coding.code",
		"category", "category.coding.code", "source", "meta.source")},
	"procedure_occurrence": {names: []string{"procedure"}, resource: "Procedure", patient: "subject.reference:id", columns: event(
		"procedure_occurrence_id", "encounter.reference:id", "performedDateTime|performedPeriod.start", "performedPeriod.end",
		"status", "status", "category", "category.coding.code", "source", "meta.source")},
	"measurement": {names: []string{"observation_laboratory", "observation"}, resource: "Observation", patient: "subject.reference:id", columns: event(
		"measurement_id", "encounter.reference:id", "effectiveDateTime|effectivePeriod.start|effectiveInstant", "effectivePeriod.end",
		"status", "status", "category", "category.coding.code",
		"value", "valueQuantity.value|valueInteger|valueBoolean|valueString|valueCodeableConcept.coding.code|valueDateTime",
		"unit", "valueQuantity.unit|valueQuantity.code", "comparator", "valueQuantity.comparator",
		"range_low", "referenceRange.low.value", "range_high", "referenceRange.high.value", "issued", "issued")},
	"note": {resource: "DocumentReference", patient: "subject.reference:id", columns: []string{
		"note_id", "id", "person_id", "subject.reference:id", "visit_occurrence_id", "context.encounter.reference:id",
		"note_datetime", "date", "note_class", "type.coding.code", "note_class_label", "type.coding.display|type.text",
		"status", "status", "doc_status", "docStatus", "title", "description", "care_site_id", "custodian.reference:id",
		"content_type", "content.attachment.contentType", "note_text", "content(attachment.contentType=text/plain).attachment.data:text",
		"attachment_url", "content.attachment.url"}},
	"drug_exposure_prescription": {resource: "MedicationRequest", patient: "subject.reference:id", columns: drug(
		"encounter.reference:id", "dispenseRequest.validityPeriod.start|authoredOn", "dispenseRequest.validityPeriod.end",
		"dosageInstruction.route.coding", "prescription_datetime", "authoredOn", "intent", "intent",
		"dose", "dosageInstruction.doseAndRate.doseQuantity.value", "dose_unit", "dosageInstruction.doseAndRate.doseQuantity.unit")},
	"drug_exposure_administration": {resource: "MedicationAdministration", patient: "subject.reference:id", columns: drug(
		"context.reference:id", "effectivePeriod.start|effectiveDateTime", "effectivePeriod.end",
		"dosage.route.coding", "prescription_id", "request.reference:id", "dose", "dosage.dose.value", "dose_unit", "dosage.dose.unit")},
	"cost": {names: []string{"claim"}, resource: "Claim", patient: "patient.reference:id", columns: []string{
		"cost_id", "id", "person_id", "patient.reference:id", "visit_occurrence_id", "item.encounter.reference:id", "cost_datetime", "created",
		"status", "status", "use", "use", "code", "diagnosis.diagnosisCodeableConcept.coding.code",
		"label", "diagnosis.diagnosisCodeableConcept.coding.display", "system", "diagnosis.diagnosisCodeableConcept.coding.system",
		"total", "total.value", "currency", "total.currency"}},
	"imaging_study": {resource: "ImagingStudy", patient: "subject.reference:id", columns: []string{
		"imaging_study_id", "id", "person_id", "subject.reference:id", "visit_occurrence_id", "encounter.reference:id",
		"study_datetime", "started", "status", "status", "modality", "modality.code:all", "description", "description",
		"number_of_series", "numberOfSeries", "number_of_instances", "numberOfInstances", "study_uid", "identifier.value"}},
	"imaging_series": {resource: "ImagingStudy", patient: "subject.reference:id", explode: []string{"series"}, columns: []string{
		"imaging_series_id", "uid", "imaging_study_id", "^id", "person_id", "^subject.reference:id", "number", "number",
		"modality", "modality.code", "description", "description", "body_site", "bodySite.code|bodySite.display",
		"number_of_instances", "numberOfInstances", "started", "started"}},
	"care_site": {resource: "Organization", columns: []string{
		"care_site_id", "id", "care_site_name", "name", "care_site_type", "type.coding.code|type.text", "active", "active",
		"parent_care_site_id", "partOf.reference:id", "source_value", "identifier.value"}},
	"fact_relationship": {resource: "Encounter", patient: "subject.reference:id", require: "partOf", columns: []string{
		"domain_1", "'visit'", "fact_id_1", "id", "domain_2", "'visit'", "fact_id_2", "partOf.reference:id", "relationship", "'part of'",
		"person_id", "subject.reference:id"}},
	"questionnaire": {resource: "Questionnaire", columns: []string{
		"questionnaire_id", "id", "name", "name", "title", "title", "status", "status", "version", "version", "date", "date"}},
	"questionnaire__item": {resource: "Questionnaire", explode: []string{"item"}, columns: []string{
		"questionnaire_id", "^id", "link_id", "linkId", "text", "text", "type", "type", "required", "required", "code", "code.code"}},
	"questionnaireresponse": {resource: "QuestionnaireResponse", patient: "subject.reference:id", columns: []string{
		"id", "id", "person_id", "subject.reference:id", "visit_occurrence_id", "encounter.reference:id", "questionnaire_id", "questionnaire:id",
		"status", "status", "authored", "authored"}},
	"questionnaireresponse__item": {resource: "QuestionnaireResponse", patient: "subject.reference:id", explode: []string{"item"}, columns: []string{
		"questionnaireresponse_id", "^id", "person_id", "^subject.reference:id", "link_id", "linkId", "text", "text", "value", answerValue("answer.")}},
	"questionnaireresponse__item__answer": {resource: "QuestionnaireResponse", patient: "subject.reference:id", explode: []string{"item", "answer"},
		columns: []string{"questionnaireresponse_id", "^^id", "person_id", "^^subject.reference:id", "link_id", "^linkId", "value", answerValue("")}},
}

var visitColumns = []string{
	"visit_occurrence_id", "id", "person_id", "subject.reference:id", "visit_number", "identifier(type.coding.code=VN).value|identifier.value",
	"status", "status", "class", "class.code", "class_label", "class.display", "start_datetime", "period.start", "end_datetime", "period.end",
	"length", "length.value", "length_unit", "length.unit|length.code", "admit_source", "hospitalization.admitSource.coding.code",
	"discharge_disposition", "hospitalization.dischargeDisposition.coding.code", "care_site_id", "serviceProvider.reference:id",
	"preceding_visit_id", "partOf.reference:id"}

// event are the columns that coded events have in common, and then their own.
func event(id, visit, start, end string, more ...string) []string {
	return append([]string{id, "id", "person_id", "subject.reference:id", "visit_occurrence_id", visit, "start_datetime", start, "end_datetime", end,
		"code", "code.coding.code", "label", "code.coding.display|code.text", "system", "code.coding.system"}, more...)
}

func drug(visit, start, end, route string, more ...string) []string {
	const concept = "medicationCodeableConcept."
	return append([]string{"drug_exposure_id", "id", "person_id", "subject.reference:id", "visit_occurrence_id", visit,
		"start_datetime", start, "end_datetime", end, "status", "status", "code", concept + "coding.code|medicationReference.reference",
		"label", concept + "coding.display|" + concept + "text|medicationReference.display", "system", concept + "coding.system",
		"category", "category.coding.code", "route", route + ".code", "route_label", route + ".display"}, more...)
}

func answerValue(prefix string) string {
	var paths []string
	for _, kind := range []string{"valueString", "valueInteger", "valueDecimal", "valueBoolean", "valueDate", "valueDateTime", "valueTime",
		"valueCoding.code", "valueQuantity.value", "valueUri", "valueReference.reference", "valueAttachment.url"} {
		paths = append(paths, prefix+kind)
	}
	return strings.Join(paths, "|")
}

// catalogue holds the tables of the built-in exporter under all their names, in lower case.
type catalogue map[string]*table

// newCatalogue compiles the mapping.
func newCatalogue() (catalogue, error) {
	c := catalogue{}
	for name, spec := range specifications {
		t := &table{name: name, resource: spec.resource, patient: spec.patient, explode: spec.explode, require: spec.require}
		for i := 0; i < len(spec.columns); i += 2 {
			a, err := compileAccessor(spec.columns[i+1])
			if err != nil {
				return nil, fmt.Errorf("table %s, column %s: %w", name, spec.columns[i], err)
			}
			if a.level > len(spec.explode) {
				return nil, fmt.Errorf("table %s, column %s: climbs too high", name, spec.columns[i])
			}
			t.columns = append(t.columns, column{spec.columns[i], a})
		}
		for _, n := range append(spec.names, name) {
			c[n] = t
		}
	}
	return c, nil
}

// names are all names that a client may use, sorted.
func (c catalogue) names() []string {
	names := make([]string, 0, len(c))
	for n := range c {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// find knows tables in any case: the portal writes Observation_Laboratory.
func (c catalogue) find(name string) (*table, error) {
	if t, ok := c[strings.ToLower(name)]; ok {
		return t, nil
	}
	return nil, fmt.Errorf("the table `%s` is not known; known tables are: %s", name, strings.Join(c.names(), ", "))
}

func (t *table) columnNames() []string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
	}
	return names
}

// pick is the columns asked for, in that order; all of them when none is. An unknown one is refused.
func (t *table) pick(names []string) ([]column, error) {
	if len(names) == 0 {
		return t.columns, nil
	}
	var picked []column
	for _, n := range names {
		i := slices.IndexFunc(t.columns, func(c column) bool { return c.name == n })
		if i < 0 {
			return nil, fmt.Errorf("the column `%s` of table `%s` is not known; known columns are: %s", n, t.name, strings.Join(t.columnNames(), ", "))
		}
		picked = append(picked, t.columns[i])
	}
	return picked, nil
}
