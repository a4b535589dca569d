package fhirsim

import (
	"strconv"
	"time"

	"cohortflow/internal/simulate/hospital"
)

type object = map[string]any

// render writes one record as a FHIR R4 resource.
func (s *Server) render(k hospital.Kind, i int32) object {
	row := s.h.Row(k, i)
	id := hospital.RecordID(k, i)
	if k == hospital.Patients {
		return renderPatient(id, row.P)
	}
	r := object{"resourceType": k.String(), "id": id}
	subject := "subject"
	if k == hospital.Claims {
		subject = "patient"
	}
	r[subject] = reference("Patient", hospital.PatientID(row.P.Index))
	if k != hospital.Encounters {
		encounter := reference("Encounter", hospital.RecordID(hospital.Encounters, row.R.Encounter))
		switch k {
		case hospital.MedicationAdministrations:
			r["context"] = encounter
		case hospital.DocumentReferences:
			r["context"] = object{"encounter": []object{encounter}}
		case hospital.Claims:
			r["item"] = []object{{"sequence": 1, "encounter": []object{encounter}}}
		default:
			r["encounter"] = encounter
		}
	}
	s.fill(k, r, row)
	return r
}

// fill adds what only this kind of resource has.
func (s *Server) fill(k hospital.Kind, r object, row hospital.Row) {
	start := moment(row.R.Start)
	d := s.h.Describe(k, row)
	switch k {
	case hospital.Encounters:
		s.fillEncounter(r, row, d)
	case hospital.Conditions:
		r["code"], r["recordedDate"], r["onsetDateTime"] = concept(hospital.SystemICD10, d.Code, d.Display), start, start
		r["category"] = []object{concept("", d.Category, d.CategoryDisplay)}
		r["meta"] = object{"source": d.Source}
	case hospital.Procedures:
		r["status"], r["code"], r["performedDateTime"] = "completed", concept(hospital.SystemCCAM, d.Code, d.Display), start
		r["meta"] = object{"source": d.Source}
	case hospital.Claims:
		r["status"], r["use"], r["created"] = "active", "claim", start
		r["diagnosis"] = []object{{"sequence": 1, "diagnosisCodeableConcept": concept(hospital.SystemGHM, d.Code, d.Display)}}
	case hospital.Observations:
		r["status"], r["code"], r["effectiveDateTime"] = d.Status, concept(hospital.SystemANABI, d.Code, d.Display), start
		r["valueQuantity"] = object{"value": float64(row.R.Value) / 100, "unit": d.Unit}
	case hospital.MedicationRequests:
		r["status"], r["intent"], r["authoredOn"] = "active", "order", start
		r["medicationCodeableConcept"] = concept(hospital.SystemATC, d.Code, d.Display)
		r["category"] = []object{concept("", d.Category, d.CategoryDisplay)}
		r["dispenseRequest"] = object{"validityPeriod": period(row.R)}
		r["dosageInstruction"] = []object{{"route": concept("", d.Route, d.RouteDisplay)}}
	case hospital.MedicationAdministrations:
		r["status"], r["effectivePeriod"] = "completed", object{"start": start}
		r["medicationCodeableConcept"] = concept(hospital.SystemATC, d.Code, d.Display)
		r["dosage"] = object{"route": concept("", d.Route, d.RouteDisplay)}
	case hospital.DocumentReferences:
		text := s.h.DocumentText(row)
		r["status"], r["docStatus"], r["date"], r["description"] = "current", d.Status, start, d.Display
		r["type"] = concept("", d.Code, d.Display)
		r["content"] = []object{{"attachment": object{"contentType": "text/plain", "data": []byte(text), "size": len(text)}}}
		r["custodian"] = reference("Organization", perimeterID(s.h, row))
	case hospital.ImagingStudies:
		r["status"], r["started"], r["numberOfSeries"] = "available", start, row.R.Value/100
		r["modality"] = []object{{"code": d.Code, "display": d.Display}}
	}
}

func (s *Server) fillEncounter(r object, row hospital.Row, d hospital.Description) {
	r["status"] = d.Status
	r["class"] = object{"code": d.Category, "display": d.CategoryDisplay}
	r["identifier"] = []object{{"type": concept("", "VN", "Visit number"), "value": hospital.NDA(row.R.Encounter)}}
	r["period"] = period(row.R)
	r["serviceProvider"] = reference("Organization", perimeterID(s.h, row))
	stay := object{"admitSource": concept("", d.Code, d.Display)}
	if row.R.End != hospital.NoTime {
		r["length"] = object{"value": (row.R.End - row.R.Start) / 86400, "unit": "d"}
		stay["dischargeDisposition"] = concept("", d.Route, d.RouteDisplay)
	}
	r["hospitalization"] = stay
}

func renderPatient(id string, p *hospital.Patient) object {
	gender := "male"
	if p.Female {
		gender = "female"
	}
	r := object{"resourceType": "Patient", "id": id, "active": p.Active, "gender": gender,
		"identifier": []object{{"use": "usual", "type": concept("", "IPP", "Identifiant permanent du patient"), "value": hospital.IPP(p.Index)}},
		"name":       []object{{"family": p.Family(), "given": []string{p.Given()}}},
		"birthDate":  time.Unix(p.Birth, 0).UTC().Format("2006-01-02")}
	if p.Death == hospital.NoTime {
		r["deceasedBoolean"] = false
	} else {
		r["deceasedDateTime"] = moment(p.Death)
	}
	return r
}

func perimeterID(h *hospital.Hospital, row hospital.Row) string {
	return strconv.FormatInt(h.Perimeters()[row.R.Perimeter].ID, 10)
}

func moment(at int64) string { return time.Unix(at, 0).UTC().Format(time.RFC3339) }

func period(r *hospital.Record) object {
	p := object{"start": moment(r.Start)}
	if r.End != hospital.NoTime {
		p["end"] = moment(r.End)
	}
	return p
}

func reference(kind, id string) object { return object{"reference": kind + "/" + id} }

func concept(system, code, display string) object {
	coding := object{"code": code}
	if system != "" {
		coding["system"] = system
	}
	if display != "" {
		coding["display"] = display
	}
	return object{"coding": []object{coding}}
}
