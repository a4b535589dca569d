package hospital

import (
	"cmp"
	"strings"
)

// Description holds the codes and words of a record, whatever its kind; what a kind does not have is empty. For an
// encounter Code is how the patient came and Route where to they left.
type Description struct {
	Code, Display, Status, Category, CategoryDisplay, Source, Route, RouteDisplay, Unit string
}

// Describe looks the codes of a record up in the catalogues.
func (h *Hospital) Describe(k Kind, row Row) Description {
	r := row.R
	var d Description
	of := func(c code) { d.Code, d.Display, d.Unit = c.code, c.display, c.unit }
	category := func(c code) { d.Category, d.CategoryDisplay = c.code, c.display }
	route := func(c code) { d.Route, d.RouteDisplay = c.code, c.display }
	switch k {
	case Encounters:
		of(admissionModes[r.Code])
		category(encounterClasses[r.Category])
		route(dischargeModes[r.Source])
		d.Status = encounterStatuses[r.Status].code
	case Conditions:
		of(conditionCodes[r.Code])
		category(diagnosisTypes[r.Category])
		d.Source = sources[r.Source].code
	case Procedures:
		of(procedureCodes[r.Code])
		d.Source = sources[r.Source].code
	case Claims:
		of(claimCodes[r.Code])
	case Observations:
		of(labs[r.Code])
		d.Status = observationStates[r.Status].code
	case MedicationRequests:
		of(drugs[r.Code])
		category(prescriptionTypes[r.Category])
		route(routes[r.Source])
	case MedicationAdministrations:
		of(drugs[r.Code])
		route(routes[r.Source])
	case DocumentReferences:
		of(documentTypes[r.Code])
		d.Status = documentStates[r.Status].code
	case ImagingStudies:
		of(modalities[r.Code])
	}
	return d
}

// Compare orders two rows by the field: what has no value comes last.
func (f *Field) Compare(a, b Row) int {
	switch f.Kind {
	case Number:
		x, hasX := f.number(a)
		y, hasY := f.number(b)
		if hasX != hasY {
			return order(hasX)
		}
		return cmp.Compare(x, y)
	case Date:
		x, y := f.date(a), f.date(b)
		if (x == NoTime) != (y == NoTime) {
			return order(x != NoTime)
		}
		return cmp.Compare(x, y)
	}
	return strings.Compare(strings.Join(f.Values(a), ","), strings.Join(f.Values(b), ","))
}

func order(first bool) int {
	if first {
		return -1
	}
	return 1
}
