package hospital

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// FieldKind says how the values of a field compare.
type FieldKind uint8

// Tokens are equal or not, texts contain, numbers and dates are ordered.
const (
	Token FieldKind = iota
	Text
	Number
	Date
)

// Field is one search parameter of a resource type.
type Field struct {
	Name   string // in FHIR
	Solr   string // in Solr
	Kind   FieldKind
	Path   bool // a token whose values in Solr are paths of codes: written *\|code\|*
	tokens func(Row) []string
	text   func(Row) string
	number func(Row) (float64, bool)
	date   func(Row) int64
}

// Values gives the values of the field in a row as text, as another way to check a search than Compile: tokens as they
// are, numbers with all their digits, dates in Unix seconds. Nothing: the row has none.
func (f *Field) Values(row Row) []string {
	switch f.Kind {
	case Token:
		return f.tokens(row)
	case Text:
		return []string{f.text(row)}
	case Number:
		if n, ok := f.number(row); ok {
			return []string{strconv.FormatFloat(n, 'g', -1, 64)}
		}
	case Date:
		if d := f.date(row); d != NoTime {
			return []string{strconv.FormatInt(d, 10)}
		}
	}
	return nil
}

func (f *Field) exists(row Row) bool { return len(f.Values(row)) > 0 }

// Field finds a search parameter; nil: the hospital does not know it.
func (h *Hospital) Field(k Kind, name string) *Field { return h.fields[k][name] }

func (h *Hospital) fieldInSolr(k Kind, name string) *Field { return h.solrFields[k][name] }

var (
	yes = []string{"true"}
	no  = []string{"false"}
)

func flag(b bool) []string {
	if b {
		return yes
	}
	return no
}

// noList marks what is on no list: the FHIR server excludes it in every translation.
const noList = "http://terminology.hl7.org/CodeSystem/v3-ActCode|NOLIST"

func token(name string, tokens func(Row) []string) *Field {
	return &Field{Name: name, Kind: Token, tokens: tokens}
}

func path(name string, tokens func(Row) []string) *Field {
	return &Field{Name: name, Kind: Token, Path: true, tokens: tokens}
}

func text(name string, value func(Row) string) *Field {
	return &Field{Name: name, Kind: Text, text: value}
}

func number(name string, value func(Row) (float64, bool)) *Field {
	return &Field{Name: name, Kind: Number, number: value}
}

func date(name string, value func(Row) int64) *Field {
	return &Field{Name: name, Kind: Date, date: value}
}

func start(name string) *Field { return date(name, func(row Row) int64 { return row.R.Start }) }

func end(name string) *Field { return date(name, func(row Row) int64 { return row.R.End }) }

// solrNames are the fields whose name in Solr is not the one in FHIR (contract: peers.md 3.1).
var solrNames = map[string]string{"start-age-visit": "extension.startAgeVisit", "start-age-visit-month": "extension.startAgeVisitMonth",
	"_source": "meta.source", "_security": "meta.security", "_id": "id", "_text": "_text_"}

// registerFields writes the table of all search parameters: what clients.md 11 lists, as far as the hospital holds it.
func (h *Hospital) registerFields() {
	patient := h.patientFields()
	encounter := h.encounterFields()
	h.register(Patients, "", patient)
	h.register(Encounters, "", encounter)
	for k, own := range map[Kind][]*Field{
		Conditions: {codeField(conditionCodes), start("onset-date"), start("recorded-date"), source(),
			token("diagnosisType", func(row Row) []string { return diagnosisTypes[row.R.Category].tokens })},
		Procedures:   {codeField(procedureCodes), start("date"), source()},
		Claims:       {path("diagnosis", func(row Row) []string { return claimCodes[row.R.Code].tokens }), start("created")},
		Observations: h.observationFields(),
		MedicationRequests: {codeField(drugs), start("validity-period-start"), end("validity-period-end"), start("authoredon"),
			token("category", func(row Row) []string { return prescriptionTypes[row.R.Category].tokens }),
			path("dosage-instruction-route", func(row Row) []string { return routes[row.R.Source].tokens })},
		MedicationAdministrations: {codeField(drugs), start("effective-time"), start("date"),
			path("dosage-route", func(row Row) []string { return routes[row.R.Source].tokens })},
		DocumentReferences: h.documentFields(),
		ImagingStudies: {path("modality", func(row Row) []string { return modalities[row.R.Code].tokens }), start("started"),
			number("numberOfSeries", func(row Row) (float64, bool) { return float64(row.R.Value) / 100, true })},
	} {
		h.register(k, "", own)
	}
	for k := Encounters; k < kinds; k++ {
		h.register(k, "", h.commonFields(k))
		h.register(k, "subject.", patient)
		h.register(k, "patient.", patient)
	}
	for k := Conditions; k < kinds; k++ {
		h.register(k, "encounter.", encounter)
		h.register(k, "context.", encounter)
	}
}

// register adds fields to a kind, also under the prefix of a joined resource. Two names of one field in Solr (subject.
// and patient.) mean the same.
func (h *Hospital) register(k Kind, prefix string, fields []*Field) {
	if h.fields[k] == nil {
		h.fields[k], h.solrFields[k] = map[string]*Field{}, map[string]*Field{}
	}
	joined := map[string]string{"subject.": "_ref.patient.", "patient.": "_ref.patient.", "encounter.": "_ref.encounter.", "context.": "_ref.encounter."}[prefix]
	for _, f := range fields {
		own := *f
		own.Name = prefix + f.Name
		own.Solr = f.Name
		if name, ok := solrNames[f.Name]; ok {
			own.Solr = name
		}
		own.Solr = joined + own.Solr
		h.fields[k][own.Name] = &own
		h.solrFields[k][own.Solr] = &own
	}
}

func (h *Hospital) patientFields() []*Field {
	female, male := []string{"f", "female"}, []string{"m", "male"}
	age := func(unit float64) func(Row) (float64, bool) {
		return func(row Row) (float64, bool) { return float64(int64(float64(today.Unix()-row.P.Birth) / unit)), true }
	}
	return []*Field{
		token("gender", func(row Row) []string {
			if row.P.Female {
				return female
			}
			return male
		}),
		token("active", func(row Row) []string { return flag(row.P.Active) }),
		token("deceased", func(row Row) []string { return flag(row.P.Death != NoTime) }),
		token("_security", func(Row) []string { return nil }),
		token("_id", func(row Row) []string { return []string{PatientID(row.P.Index)} }),
		token("identifier", func(row Row) []string { return []string{IPP(row.P.Index)} }),
		token("identifier.value", func(row Row) []string { return []string{IPP(row.P.Index)} }),
		text("family", func(row Row) string { return row.P.Family() }),
		text("given", func(row Row) string { return row.P.Given() }),
		text("name", func(row Row) string { return row.P.Given() + " " + row.P.Family() }),
		date("birthdate", func(row Row) int64 { return row.P.Birth }),
		date("death-date", func(row Row) int64 { return row.P.Death }),
		number("age-day", age(day)),
		number("age-month", age(float64(year)/12)),
	}
}

func (h *Hospital) encounterFields() []*Field {
	site := func(row Row) []string { return h.perimeters[row.E.Perimeter].lineage }
	atStart := func(unit float64) func(Row) (float64, bool) {
		return func(row Row) (float64, bool) { return float64(int64(float64(row.E.Start-row.P.Birth) / unit)), true }
	}
	return []*Field{
		token("status", func(row Row) []string { return encounterStatuses[row.E.Status].tokens }),
		path("class", func(row Row) []string { return encounterClasses[row.E.Category].tokens }),
		path("admission-mode", func(row Row) []string { return admissionModes[row.E.Code].tokens }),
		path("discharge-disposition-mode", func(row Row) []string {
			if row.E.End == NoTime {
				return nil
			}
			return dischargeModes[row.E.Source].tokens
		}),
		token("service-provider", site),
		token("encounter-care-site", site),
		token("identifier", func(row Row) []string { return []string{NDA(row.E.Encounter)} }),
		token("identifier.value", func(row Row) []string { return []string{NDA(row.E.Encounter)} }),
		date("period-start", func(row Row) int64 { return row.E.Start }),
		date("period-end", func(row Row) int64 { return row.E.End }),
		date("date", func(row Row) int64 { return row.E.Start }),
		number("start-age-visit", atStart(day)),
		number("start-age-visit-month", atStart(float64(year)/12)),
		number("length", func(row Row) (float64, bool) {
			return float64((row.E.End - row.E.Start) / day), row.E.End != NoTime
		}),
	}
}

func (h *Hospital) observationFields() []*Field {
	return []*Field{codeField(labs), start("date"),
		token("status", func(row Row) []string { return observationStates[row.R.Status].tokens }),
		number("value-quantity", func(row Row) (float64, bool) { return float64(row.R.Value) / 100, true })}
}

func (h *Hospital) documentFields() []*Field {
	plain := []string{"text/plain"}
	return []*Field{start("date"),
		path("type", func(row Row) []string { return documentTypes[row.R.Code].tokens }),
		token("docstatus", func(row Row) []string { return documentStates[row.R.Status].tokens }),
		token("contenttype", func(Row) []string { return plain }),
		token("author", func(row Row) []string { return h.perimeters[row.R.Perimeter].lineage }),
		text("_text", func(row Row) string { return h.DocumentText(row) }),
		text("description", func(row Row) string { return documentTypes[row.R.Code].display })}
}

// commonFields are those of everything that was recorded about a patient.
func (h *Hospital) commonFields(k Kind) []*Field {
	subject := func(row Row) []string { return []string{PatientID(row.P.Index)} }
	fields := []*Field{token("subject", subject), token("patient", subject), token("_security", func(Row) []string { return nil })}
	if k == Encounters {
		return append(fields, token("_id", func(row Row) []string { return []string{RecordID(Encounters, row.E.Encounter)} }))
	}
	encounter := func(row Row) []string { return []string{RecordID(Encounters, row.R.Encounter)} }
	return append(fields, token("encounter", encounter), token("context", encounter))
}

func codeField(catalogue []code) *Field {
	return path("code", func(row Row) []string { return catalogue[row.R.Code].tokens })
}

func source() *Field {
	return token("_source", func(row Row) []string { return sources[row.R.Source].tokens })
}

// Family and Given are the invented names of a patient.
func (p *Patient) Family() string { return families[p.family] }

// Given is the invented first name.
func (p *Patient) Given() string {
	if p.Female {
		return givenFemale[p.given]
	}
	return givenMale[p.given]
}

// PatientID is the id of a patient's resource: digits, as existing front-ends expect.
func PatientID(i int32) string { return strconv.Itoa(1_000_000 + int(i)) }

// IPP is the hospital's identifier of a patient.
func IPP(i int32) string { return fmt.Sprintf("8%09d", i) }

// NDA is the administrative identifier of an encounter.
func NDA(i int32) string { return fmt.Sprintf("60%08d", i) }

// RecordID is the id of the resource of a record.
func RecordID(k Kind, i int32) string {
	if k == Patients {
		return PatientID(i)
	}
	return strconv.Itoa(int(k)*100_000_000 + int(i))
}

// IndexOf is the reverse of RecordID.
func (h *Hospital) IndexOf(k Kind, id string) (int32, bool) {
	n, err := strconv.Atoi(id)
	if err != nil || strings.HasPrefix(id, "+") {
		return 0, false
	}
	if k == Patients {
		n -= 1_000_000
	} else {
		n -= int(k) * 100_000_000
	}
	return int32(n), n >= 0 && n < h.Count(k)
}

// DocumentText is the text of a document: invented, and made from what it is about.
func (h *Hospital) DocumentText(row Row) string {
	about := "Aucun élément pathologique."
	if int(row.R.Category) < len(conditionCodes) {
		about = "Diagnostic évoqué : " + conditionCodes[row.R.Category].display + "."
	}
	return documentTypes[row.R.Code].display + ". " + about + " Unité : " + h.perimeters[row.R.Perimeter].Name + "."
}

// FieldNames lists the search parameters of a kind, sorted.
func (h *Hospital) FieldNames(k Kind) []string {
	return slices.Sorted(maps.Keys(h.fields[k]))
}
