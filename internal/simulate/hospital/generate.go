package hospital

import (
	"math/rand/v2"
	"slices"
)

const (
	day  = 86400
	year = 36525 * day / 100
)

// admission makes up one patient after the other, each from a source of chance of its own: patient 17 is the same in a
// small and in a large hospital with the same perimeters.
type admission struct {
	h   *Hospital
	rnd *rand.Rand
	now int64
}

func (h *Hospital) admitPatients() {
	h.patients = make([]Patient, h.cfg.Patients)
	for k := range h.first {
		h.first[k] = make([]int32, h.cfg.Patients+1)
	}
	for i := range h.patients {
		a := admission{h: h, rnd: rand.New(rand.NewPCG(uint64(h.cfg.Seed), uint64(i)+1)), now: today.Unix()}
		for k := range h.first {
			h.first[k][i] = int32(len(h.records[k]))
		}
		a.admit(int32(i))
	}
	for k := range h.first {
		h.first[k][h.cfg.Patients] = int32(len(h.records[k]))
	}
	h.seen = make([][]int32, len(h.perimeters))
	for i := range h.records[Encounters] {
		r := &h.records[Encounters][i]
		if l := h.seen[r.Perimeter]; len(l) == 0 || l[len(l)-1] != r.Patient { // patients come in order
			h.seen[r.Perimeter] = append(l, r.Patient)
		}
	}
}

// admit makes up the patient and all that was recorded about them.
func (a *admission) admit(i int32) {
	p := &a.h.patients[i]
	*p = Patient{Index: i, Female: a.rnd.IntN(100) < 52, Active: a.rnd.IntN(100) > 0, Death: NoTime,
		family: uint8(a.rnd.IntN(len(families))), given: uint8(a.rnd.IntN(len(givenFemale))), home: int32(a.rnd.IntN(len(a.h.unitsOf)))}
	age := a.rnd.IntN(35) + a.rnd.IntN(35) + a.rnd.IntN(30) // most are neither very young nor very old
	if a.rnd.IntN(12) == 0 {
		age = a.rnd.IntN(3)
	}
	p.Birth = (a.now-int64(age)*year-int64(a.rnd.IntN(365))*day)/day*day - 40*day
	if a.rnd.IntN(1000) < 4+age {
		p.Death = a.now - int64(a.rnd.IntN(700))*day - int64(a.rnd.IntN(day))
		p.Death = max(p.Death, p.Birth+day)
	}
	chronic := a.chronic(p, age)
	visits := 1 + a.rnd.IntN(3) + len(chronic)/2
	starts := a.visitDates(p, visits)
	for _, start := range starts {
		a.visit(p, start, chronic)
	}
}

// chronic picks the lasting diseases of a patient.
func (a *admission) chronic(p *Patient, age int) []int {
	var picked []int
	for range a.rnd.IntN(1 + min(4, age/18)) {
		if c := a.pick(p, chronicCodes, age); c >= 0 && !slices.Contains(picked, c) {
			picked = append(picked, c)
		}
	}
	return picked
}

// pick draws one of the diagnoses that fit the patient, by weight; -1: none fits.
func (a *admission) pick(p *Patient, from []int, age int) int {
	total := 0
	fits := func(c *code) bool {
		return age >= c.from && age <= c.to && (c.sex == 0 || (c.sex == 'f') == p.Female)
	}
	for _, i := range from {
		if fits(&conditionCodes[i]) {
			total += conditionCodes[i].weight
		}
	}
	if total == 0 {
		return -1
	}
	draw := a.rnd.IntN(total)
	for _, i := range from {
		if c := &conditionCodes[i]; fits(c) {
			if draw -= c.weight; draw < 0 {
				return i
			}
		}
	}
	return -1
}

// visitDates draws the beginnings of the visits, in order: within eight years, between birth and death.
func (a *admission) visitDates(p *Patient, n int) []int64 {
	until := a.now
	if p.Death != NoTime {
		until = p.Death
	}
	since := max(p.Birth, a.now-8*year)
	span := max(until-since-2*day, 3600)
	dates := make([]int64, n)
	for i := range dates {
		dates[i] = since + a.rnd.Int64N(span)
	}
	slices.Sort(dates)
	return dates
}

// visit records one encounter and what was found, done and prescribed in it.
func (a *admission) visit(p *Patient, start int64, chronic []int) {
	unit := a.unit(p)
	class := uint8(a.rnd.IntN(len(encounterClasses)))
	length := int64(1+a.rnd.IntN(6)) * 3600
	if class == 0 {
		length = int64(1+a.rnd.IntN(14)) * day
	}
	e := Record{Patient: p.Index, Encounter: int32(len(a.h.records[Encounters])), Perimeter: unit, Start: start, End: start + length,
		Category: class, Code: uint16(a.rnd.IntN(len(admissionModes))), Source: uint8(a.rnd.IntN(2))}
	limit := a.now
	if p.Death != NoTime {
		limit = p.Death
	}
	switch {
	case e.End >= limit && p.Death != NoTime:
		e.End, e.Source = p.Death, 2 // died here
	case e.End >= limit, a.rnd.IntN(100) < 2:
		e.End, e.Status = NoTime, 1
	case a.rnd.IntN(100) < 3:
		e.Status = 2
	}
	a.h.records[Encounters] = append(a.h.records[Encounters], e)
	if e.Status == 2 {
		return // cancelled: nothing happened
	}
	end := e.End
	if end == NoTime {
		end = min(start+length, a.now)
	}
	found := a.diagnose(p, &e, end, chronic)
	a.treat(&e, end, found)
	a.examine(&e, end, found)
}

// unit draws where the patient goes: four times of five somewhere in the usual hospital.
func (a *admission) unit(p *Patient) int32 {
	if a.rnd.IntN(5) == 0 {
		return a.h.units[a.rnd.IntN(len(a.h.units))]
	}
	span := a.h.unitsOf[p.home]
	return a.h.units[span[0]+a.rnd.Int32N(span[1]-span[0])]
}

// add records something at a moment within the encounter.
func (a *admission) add(k Kind, e *Record, end int64, r Record) {
	r.Patient, r.Encounter, r.Perimeter = e.Patient, e.Encounter, e.Perimeter
	r.Start = e.Start + a.rnd.Int64N(max(end-e.Start, 1))
	if r.End == 0 {
		r.End = NoTime
	} else {
		r.End += r.Start
	}
	a.h.records[k] = append(a.h.records[k], r)
}

func (a *admission) diagnose(p *Patient, e *Record, end int64, chronic []int) (found []int) {
	age := int((e.Start - p.Birth) / year)
	if c := a.pick(p, acuteCodes, age); c >= 0 {
		found = append(found, c)
	}
	for _, c := range chronic {
		if a.rnd.IntN(2) == 0 {
			found = append(found, c)
		}
	}
	for i, c := range found {
		a.add(Conditions, e, end, Record{Code: uint16(c), Category: uint8(min(i, 1)), Source: uint8(a.rnd.IntN(2))})
	}
	a.add(Claims, e, end, Record{Code: uint16(a.rnd.IntN(len(claimCodes)))})
	return found
}

func (a *admission) treat(e *Record, end int64, found []int) {
	for range a.rnd.IntN(3) {
		a.add(Procedures, e, end, Record{Code: uint16(a.rnd.IntN(len(procedureCodes))), Source: uint8(a.rnd.IntN(2))})
	}
	for _, c := range found {
		drug := conditionCodes[c].drug
		if drug < 0 {
			continue
		}
		route := uint8(a.rnd.IntN(len(routes)))
		a.add(MedicationRequests, e, end, Record{Code: uint16(drug), Category: uint8(a.rnd.IntN(2)), Source: route, End: int64(1+a.rnd.IntN(90)) * day})
		for range a.rnd.IntN(3) {
			a.add(MedicationAdministrations, e, end, Record{Code: uint16(drug), Source: route})
		}
	}
}

func (a *admission) examine(e *Record, end int64, found []int) {
	diabetic := false
	for _, c := range found {
		diabetic = diabetic || conditionCodes[c].code[:2] == "E1"
	}
	for range a.rnd.IntN(6) {
		i := a.rnd.IntN(len(labs))
		mean := labs[i].mean
		if diabetic && i < 2 {
			mean = mean * 3 / 2
		}
		value := max(int(float64(mean)+a.rnd.NormFloat64()*float64(labs[i].spread)), labs[i].mean/10)
		state := uint8(0)
		if a.rnd.IntN(20) == 0 {
			state = 1
		}
		a.add(Observations, e, end, Record{Code: uint16(i), Status: state, Value: int32(value)})
	}
	for range 1 + a.rnd.IntN(2) {
		about := uint8(255)
		if len(found) > 0 {
			about = uint8(found[a.rnd.IntN(len(found))])
		}
		a.add(DocumentReferences, e, end, Record{Code: uint16(a.rnd.IntN(len(documentTypes))), Status: uint8(a.rnd.IntN(10) / 9), Category: about})
	}
	if a.rnd.IntN(4) == 0 {
		a.add(ImagingStudies, e, end, Record{Code: uint16(a.rnd.IntN(len(modalities))), Value: int32(1+a.rnd.IntN(8)) * 100})
	}
}
