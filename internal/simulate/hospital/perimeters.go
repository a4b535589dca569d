package hospital

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
)

// RootPerimeterID is the id of the root perimeter: the one that existing development set-ups use
// (contract: system.md 16.2).
const RootPerimeterID = 8312002244

const (
	firstPerimeterID = 8312100000
	firstCohortID    = 20001
)

// PerimeterTypes are the types of the perimeters, top first: a value for PERIMETER_TYPES.
func PerimeterTypes() []string { return []string{"CHU", "Hôpital", "Pôle", "Unité"} }

// Perimeter is a place of care. Perimeters are kept parents first, each followed by all those below it, so that a
// sub-tree is an interval.
type Perimeter struct {
	ID          int64
	CohortID    int64 // id of its virtual cohort: what sourcePopulation lists (fits 32 bits)
	Name        string
	ShortName   string
	Type        string
	SourceValue string
	LocalID     string
	Level       int   // 1: the root
	Parent      int32 // index; -1: the root
	Children    []int32
	last        int32    // index of the last perimeter of its sub-tree
	lineage     []string // ids of the perimeter and of those above it: what a search by care site compares with
}

var towns = []string{"Alisier", "Bouleau", "Charme", "Douglas", "Érable", "Frêne", "Genévrier", "Houx", "If", "Jasmin", "Kerria",
	"Laurier", "Mélèze", "Noisetier", "Orme", "Peuplier", "Robinier", "Saule", "Tilleul", "Verveine"}

var departments = []string{"Cardiologie", "Neurologie", "Pédiatrie", "Oncologie", "Urgences", "Chirurgie", "Gériatrie", "Pneumologie",
	"Néphrologie", "Maternité"}

var wards = []string{"Hospitalisation", "Consultation", "Hôpital de jour", "Soins intensifs", "Explorations"}

// plantPerimeters makes the tree: root, hospitals of about fifty perimeters, departments, and units for the rest.
func (h *Hospital) plantPerimeters() {
	rest := h.cfg.Perimeters - 1
	hospitals := max(1, rest/50)
	h.plant(-1, "CHU de Démonstration", "CHU", "DEMO")
	for i := range hospitals {
		share := rest/hospitals - 1
		if i < rest%hospitals {
			share++
		}
		h.plantHospital(i, share)
	}
	h.byCohort, h.byID = map[int64]int32{}, map[int64]int32{}
	for i := range h.perimeters {
		p := &h.perimeters[i]
		h.byCohort[p.CohortID], h.byID[p.ID] = int32(i), int32(i)
		if len(p.Children) == 0 {
			h.units = append(h.units, int32(i))
		}
	}
	for _, hospital := range h.perimeters[0].Children {
		last := h.perimeters[hospital].last
		from := sort.Search(len(h.units), func(i int) bool { return h.units[i] >= hospital })
		to := sort.Search(len(h.units), func(i int) bool { return h.units[i] > last })
		h.unitsOf = append(h.unitsOf, [2]int32{int32(from), int32(to)})
	}
}

// plantHospital plants one hospital with share perimeters below it.
func (h *Hospital) plantHospital(i, share int) {
	town := towns[i%len(towns)]
	if round := i / len(towns); round > 0 {
		town += " " + strconv.Itoa(round+1)
	}
	hospital := h.plant(0, "Hôpital "+town, town, fmt.Sprintf("H%03d", i+1))
	count := min(len(departments), max(1, share/6))
	for d := range count {
		if share == 0 {
			return
		}
		units := share/count - 1
		if d < share%count {
			units++
		}
		code := fmt.Sprintf("H%03dD%02d", i+1, d+1)
		name := departments[d] + " " + town
		department := h.plant(hospital, name, departments[d], code)
		for u := range units {
			ward := wards[u%len(wards)]
			if round := u / len(wards); round > 0 {
				ward += " " + strconv.Itoa(round+1)
			}
			h.plant(department, ward+" "+name, ward, fmt.Sprintf("%sU%02d", code, u+1))
		}
	}
}

// plant adds one perimeter below parent and returns its index.
func (h *Hospital) plant(parent int32, name, short, source string) int32 {
	i := int32(len(h.perimeters))
	p := Perimeter{ID: firstPerimeterID + int64(i), CohortID: firstCohortID + int64(i), Name: name, ShortName: short,
		SourceValue: source, LocalID: "DEMO_" + source, Level: 1, Parent: parent, last: i}
	if parent < 0 {
		p.ID = RootPerimeterID
	} else {
		above := &h.perimeters[parent]
		p.Level = above.Level + 1
		above.Children = append(above.Children, i)
		p.lineage = append(p.lineage, above.lineage...)
		for a := parent; a >= 0; a = h.perimeters[a].Parent {
			h.perimeters[a].last = i
		}
	}
	types := PerimeterTypes()
	p.Type = types[min(p.Level, len(types))-1]
	p.lineage = append(p.lineage, strconv.FormatInt(p.ID, 10))
	h.perimeters = append(h.perimeters, p)
	return i
}

// Perimeters lists the perimeters, parents first.
func (h *Hospital) Perimeters() []Perimeter { return h.perimeters }

// PerimeterByCohort finds a perimeter by the id of its virtual cohort.
func (h *Hospital) PerimeterByCohort(cohortID int64) (index int32, ok bool) {
	index, ok = h.byCohort[cohortID]
	return index, ok
}

// PerimeterByID finds a perimeter by its id.
func (h *Hospital) PerimeterByID(id int64) (index int32, ok bool) {
	index, ok = h.byID[id]
	return index, ok
}

// PatientsOf is the set of the patients that have an encounter in the perimeter or below it.
func (h *Hospital) PatientsOf(perimeter int32) *Set {
	s := NewSet(len(h.patients))
	for i := perimeter; i <= h.perimeters[perimeter].last; i++ {
		for _, p := range h.seen[i] {
			s.Add(p)
		}
	}
	return s
}

// WritePerimeters writes the perimeters as the CSV file that load_initial_data reads (contract: peers.md 9.3,
// system.md 16.1): parents first, lists of ids inside the field.
func (h *Hospital) WritePerimeters(w io.Writer) error {
	buffered := bufio.NewWriter(w)
	out := csv.NewWriter(buffered)
	out.Comma = ';'
	rows := [][]string{{"id", "name", "short_name", "type_source_value", "source_value", "local_id", "cohort_id", "parent_id", "level",
		"above_levels_ids", "inferior_levels_ids", "full_path", "cohort_size"}}
	paths := make([]string, len(h.perimeters))
	for i := range h.perimeters {
		p := &h.perimeters[i]
		parent := ""
		paths[i] = p.SourceValue + "-" + p.Name
		if p.Parent >= 0 {
			parent = strconv.FormatInt(h.perimeters[p.Parent].ID, 10)
			paths[i] = paths[p.Parent] + "/" + paths[i]
		}
		below := make([]string, len(p.Children))
		for c, child := range p.Children {
			below[c] = strconv.FormatInt(h.perimeters[child].ID, 10)
		}
		rows = append(rows, []string{strconv.FormatInt(p.ID, 10), p.Name, p.ShortName, p.Type, p.SourceValue, p.LocalID,
			strconv.FormatInt(p.CohortID, 10), parent, strconv.Itoa(p.Level), strings.Join(p.lineage[:len(p.lineage)-1], ","),
			strings.Join(below, ","), paths[i], strconv.Itoa(h.PatientsOf(int32(i)).Count())})
	}
	if err := out.WriteAll(rows); err != nil {
		return fmt.Errorf("write perimeters: %w", err)
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("write perimeters: %w", err)
	}
	return nil
}
