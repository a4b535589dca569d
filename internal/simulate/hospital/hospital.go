// Package hospital is the demo hospital behind the doubles of the outside systems: perimeters, patients and what was
// recorded about them, all invented from a seed, and the questions one can put to them (searches in FHIR's notation or
// in Solr's). The doubles of FHIR, QueryExecutor and the export API read it. The same seed always makes the same
// hospital, and it stands still on Today: ages and counts are the same tomorrow. It never changes once it is made; only
// the lists of patients (Lists), which QueryExecutor adds to, grow.
package hospital

import (
	"fmt"
	"time"
)

// today: nothing was recorded later, and current ages are of this day. Patients and cohorts would change overnight else.
var today = time.Date(2026, 6, 30, 0, 0, 0, 0, time.UTC)

// Today is the day on which the hospital stands still.
func Today() time.Time { return today }

// Kind is a type of FHIR resource that the hospital holds.
type Kind uint8

// The kinds of resources, in the order of their names in FHIR.
const (
	Patients Kind = iota
	Encounters
	Conditions
	Procedures
	Claims
	Observations
	MedicationRequests
	MedicationAdministrations
	DocumentReferences
	ImagingStudies
	kinds
)

var kindNames = [kinds]string{"Patient", "Encounter", "Condition", "Procedure", "Claim", "Observation", "MedicationRequest",
	"MedicationAdministration", "DocumentReference", "ImagingStudy"}

// String is the name of the resource type in FHIR.
func (k Kind) String() string { return kindNames[k] }

// KindOf finds a kind by the name of its resource type in FHIR.
func KindOf(name string) (Kind, bool) {
	for k, n := range kindNames {
		if n == name {
			return Kind(k), true
		}
	}
	return 0, false
}

// Kinds lists all kinds.
func Kinds() []Kind {
	all := make([]Kind, kinds)
	for k := range all {
		all[k] = Kind(k)
	}
	return all
}

// NoTime marks a moment that is not known, or has not come.
const NoTime = int64(-1 << 62)

// Patient is one invented person. Times are Unix seconds.
type Patient struct {
	Index         int32
	Female        bool
	Active        bool // false: the record was merged into another one; such patients are in no default population
	Birth         int64
	Death         int64 // NoTime while alive
	family, given uint8
	home          int32 // index of the hospital that the patient usually goes to
}

// Record is one thing that was recorded about a patient: an encounter, a diagnosis, a result. It is kept small: a
// hospital of 100,000 patients has millions. What a field means depends on the kind (fields.go).
type Record struct {
	Patient   int32
	Encounter int32 // index of the encounter (its own index for an encounter)
	Perimeter int32 // index of the perimeter where it happened
	Value     int32 // a number in hundredths: result of a lab, number of series
	Start     int64 // Unix seconds
	End       int64 // NoTime: not ended, or a moment
	Code      uint16
	Status    uint8
	Category  uint8
	Source    uint8
}

// Row is a record with what it belongs to: what a search looks at.
type Row struct {
	P *Patient
	E *Record // the encounter; nil for a patient
	R *Record // nil for a patient
}

// Config says which hospital to make. A zero field takes its default.
type Config struct {
	Seed       int64
	Patients   int // 2,000
	Perimeters int // 320, the root included
}

// Hospital is the demo hospital. All its methods may be called at once from many goroutines.
type Hospital struct {
	cfg        Config
	perimeters []Perimeter
	byCohort   map[int64]int32
	byID       map[int64]int32
	units      []int32    // perimeters without children: where things happen
	unitsOf    [][2]int32 // per hospital, its interval in units
	patients   []Patient
	records    [kinds][]Record
	first      [kinds][]int32 // first[k][p]: index of the first record of kind k of patient p; one more entry at the end
	seen       [][]int32      // per perimeter, the patients that have an encounter in it itself (not below), sorted
	fields     [kinds]map[string]*Field
	solrFields [kinds]map[string]*Field
}

// New makes the hospital. It takes about a second for 100,000 patients.
func New(cfg Config) (*Hospital, error) {
	if cfg.Patients == 0 {
		cfg.Patients = 2000
	}
	if cfg.Perimeters == 0 {
		cfg.Perimeters = 320
	}
	if cfg.Patients < 0 || cfg.Patients > 5_000_000 {
		return nil, fmt.Errorf("hospital: %d patients: want 1 to 5,000,000", cfg.Patients)
	}
	if cfg.Perimeters < 4 || cfg.Perimeters > 100_000 {
		return nil, fmt.Errorf("hospital: %d perimeters: want 4 to 100,000", cfg.Perimeters)
	}
	h := &Hospital{cfg: cfg}
	h.plantPerimeters()
	h.admitPatients()
	h.registerFields()
	return h, nil
}

// Config is what the hospital was made from, defaults filled in.
func (h *Hospital) Config() Config { return h.cfg }

// Size is the number of patients, active or not.
func (h *Hospital) Size() int { return len(h.patients) }

// Patient returns the patient with that index.
func (h *Hospital) Patient(i int32) *Patient { return &h.patients[i] }

// Count is the number of records of a kind.
func (h *Hospital) Count(k Kind) int {
	if k == Patients {
		return len(h.patients)
	}
	return len(h.records[k])
}

// Row returns the record with that index and what it belongs to.
func (h *Hospital) Row(k Kind, i int32) Row {
	if k == Patients {
		return Row{P: &h.patients[i]}
	}
	r := &h.records[k][i]
	return Row{P: &h.patients[r.Patient], E: &h.records[Encounters][r.Encounter], R: r}
}

// Span is the interval [from, to) of the indexes of the records of that kind of one patient.
func (h *Hospital) Span(k Kind, patient int32) (from, to int32) {
	if k == Patients {
		return patient, patient + 1
	}
	return h.first[k][patient], h.first[k][patient+1]
}

// Everybody is the set of all patients.
func (h *Hospital) Everybody() *Set {
	s := NewSet(len(h.patients))
	for i := range h.patients {
		s.Add(int32(i))
	}
	return s
}

// Active is the set of the active patients: QueryExecutor's default population.
func (h *Hospital) Active() *Set {
	s := NewSet(len(h.patients))
	for i := range h.patients {
		if h.patients[i].Active {
			s.Add(int32(i))
		}
	}
	return s
}
