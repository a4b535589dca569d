package hospital

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func setup(t *testing.T) *Hospital {
	t.Helper()
	h, err := New(Config{Seed: 3, Patients: 400, Perimeters: 60})
	require.NoError(t, err)
	return h
}

func TestTheSameSeedMakesTheSameHospital(t *testing.T) {
	t.Parallel()
	a, b := setup(t), setup(t)
	require.Equal(t, a.patients, b.patients)
	require.Equal(t, a.records, b.records)
	other, err := New(Config{Seed: 4, Patients: 400, Perimeters: 60})
	require.NoError(t, err)
	require.NotEqual(t, a.patients, other.patients)
}

func TestSizesOutsideOfReasonAreRefused(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{"NegativePatients": {Patients: -1}, "TooManyPatients": {Patients: 6_000_000},
		"TooFewPerimeters": {Perimeters: 3}, "TooManyPerimeters": {Perimeters: 200_000}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New(cfg)
			require.Error(t, err)
		})
	}
}

func TestPatientsArePlausible(t *testing.T) {
	t.Parallel()
	h := setup(t)
	for k := Encounters; k < kinds; k++ {
		require.NotZero(t, h.Count(k), k)
		for i := range h.Count(k) {
			row := h.Row(k, int32(i))
			require.GreaterOrEqual(t, row.R.Start, row.P.Birth)
			require.LessOrEqual(t, row.R.Start, today.Unix())
			require.Equal(t, row.P.Index, row.E.Patient)
			if row.P.Death != NoTime {
				require.LessOrEqual(t, row.R.Start, row.P.Death)
			}
			if k == Conditions && conditionCodes[row.R.Code].sex == 'f' {
				require.True(t, row.P.Female)
			}
		}
	}
}

func TestPerimetersAreWrittenForTheInitialLoad(t *testing.T) {
	t.Parallel()
	for _, n := range []int{4, 5, 17, 60, 321} {
		h, err := New(Config{Patients: 50, Perimeters: n})
		require.NoError(t, err)
		var out bytes.Buffer
		require.NoError(t, h.WritePerimeters(&out))
		in := csv.NewReader(&out)
		in.Comma = ';'
		rows, err := in.ReadAll()
		require.NoError(t, err)
		require.Len(t, rows, n+1)
		require.Equal(t, "id;name;short_name;type_source_value;source_value;local_id;cohort_id;parent_id;level;above_levels_ids;inferior_levels_ids;full_path;cohort_size",
			strings.Join(rows[0], ";"))
		seen, locals, children := map[string]bool{}, map[string]bool{}, map[string][]string{}
		for _, row := range rows[1:] {
			if row[7] == "" {
				require.Empty(t, seen, "one root, and it comes first")
			} else {
				require.True(t, seen[row[7]], "parents come first")
				children[row[7]] = append(children[row[7]], row[0])
			}
			require.False(t, locals[row[5]], "local ids are unique")
			seen[row[0]], locals[row[5]] = true, true
		}
		for _, row := range rows[1:] {
			require.Equal(t, strings.Join(children[row[0]], ","), row[10])
		}
	}
}

func TestPatientsOfAPerimeter(t *testing.T) {
	t.Parallel()
	h := setup(t)
	for i, p := range h.Perimeters() {
		want := NewSet(h.Size())
		for e := range h.Count(Encounters) {
			for at := h.records[Encounters][e].Perimeter; at >= 0; at = h.perimeters[at].Parent {
				if at == int32(i) {
					want.Add(h.records[Encounters][e].Patient)
				}
			}
		}
		require.Equal(t, want, h.PatientsOf(int32(i)), p.Name)
	}
	require.Equal(t, h.Size(), h.PatientsOf(0).Count(), "everybody was once in the hospital")
}

func TestSet(t *testing.T) {
	t.Parallel()
	s := NewSet(200)
	for _, i := range []int32{0, 1, 2, 63, 64, 130, 199} {
		s.Add(i)
	}
	require.Equal(t, 7, s.Count())
	require.Equal(t, [][2]int32{{0, 2}, {63, 64}, {130, 130}, {199, 199}}, s.Ranges())
	back, err := SetOf(200, s.Ranges())
	require.NoError(t, err)
	require.Equal(t, s, back)
	_, err = SetOf(199, s.Ranges())
	require.Error(t, err)
	require.Equal(t, [][2]int32{{1, 1}}, s.Clone().And(mustSet(t, 200, 1, 5)).Ranges())
	require.False(t, s.Clone().Minus(mustSet(t, 200, 1)).Has(1))
}

func mustSet(t *testing.T, size int, from int32, more ...int32) *Set {
	t.Helper()
	s := NewSet(size)
	s.Add(from)
	for _, i := range more {
		s.Add(i)
	}
	return s
}

// count is the number of rows that a search finds.
func (h *Hospital) count(t *testing.T, k Kind, e Expr) int {
	t.Helper()
	match, err := h.Compile(k, e)
	require.NoError(t, err)
	n := 0
	for i := range h.Count(k) {
		if match(h.Row(k, int32(i))) {
			n++
		}
	}
	return n
}

func TestTranslation(t *testing.T) {
	t.Parallel()
	h := setup(t)
	always := `&fq=-meta.security:"http://terminology.hl7.org/CodeSystem/v3-ActCode|NOLIST"`
	for name, tt := range map[string]struct {
		kind         Kind
		filter, want string
	}{
		"Gender":      {Patients, "gender=f&active=true", `fq=gender:f&fq=active:(true)`},
		"AgeAtVisit":  {Encounters, "subject.active=true&class=urg&start-age-visit=le6570", `fq=_ref.patient.active:(true)&fq=class:*\|urg\|*&fq=extension.startAgeVisit:[* TO 6570]`},
		"Codes":       {Conditions, "code=V,X60-X84&_source=ORBIS", `fq=code:*\|V\|* OR code:*\|X60\-X84\|*&fq=meta.source:ORBIS`},
		"System":      {Conditions, "code=https://x/|E11", `fq=code:*\|E11\|*`},
		"Not":         {DocumentReferences, "type:not=doc-impor", `fq=-type:*\|doc\-impor\|*`},
		"Interval":    {Patients, "birthdate=ge2020-01-01T00:00:00Z&birthdate=lt2021", `fq=birthdate:[2020-01-01T00:00:00Z TO *]&fq=birthdate:{* TO 2021}`},
		"EmptyPieces": {Patients, "&&gender=m&", `fq=gender:m`},
		"Unknown":     {Encounters, "stay=x y", `fq=stay:x\ y`},
		"Nothing":     {Patients, "", ""},
		"OrUnknown": {Encounters, `_filter=(period-end ge 2024-01-01) or not (period-end eq "*")`,
			`fq=period-end:[2024-01-01 TO *] OR -period-end:*`},
		"Text": {DocumentReferences, `_text=a "b" %26 c`, `fq=_text_:"a \"b\" \& c"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parsed, err := h.ParseFilter(tt.kind, tt.filter)
			require.NoError(t, err)
			solr := h.Solr(tt.kind, parsed)
			if tt.want == "" {
				tt.want = always[1:]
			} else {
				tt.want += always
			}
			require.Equal(t, tt.want, solr)
			back, err := h.ParseSolr(tt.kind, solr)
			require.NoError(t, err)
			if name != "Unknown" {
				require.Equal(t, h.count(t, tt.kind, parsed), h.count(t, tt.kind, back))
			}
			require.Equal(t, solr, h.Solr(tt.kind, back.(And)[:len(back.(And))-1]), "what was read back is written the same")
		})
	}
}

func TestSearches(t *testing.T) {
	t.Parallel()
	h := setup(t)
	records := func(k Kind, keep func(Row) bool) int {
		n := 0
		for i := range h.Count(k) {
			if keep(h.Row(k, int32(i))) {
				n++
			}
		}
		return n
	}
	since := int64(1609459200) // 2021-01-01
	for name, tt := range map[string]struct {
		kind   Kind
		filter string
		want   func(Row) bool
	}{
		"Category":    {Conditions, "code=E11", func(r Row) bool { return strings.HasPrefix(conditionCodes[r.R.Code].code, "E11") }},
		"Block":       {Conditions, "code=E10-E14", func(r Row) bool { return conditionCodes[r.R.Code].code[:2] == "E1" }},
		"ATCLevel":    {MedicationRequests, "code=A10", func(r Row) bool { return drugs[r.R.Code].code[:3] == "A10" }},
		"Value":       {Observations, "code=A0141&value-quantity=ge7.5", func(r Row) bool { return r.R.Code == 0 && r.R.Value >= 750 }},
		"ValueIs":     {Observations, "value-quantity=5.3", func(r Row) bool { return r.R.Value == 530 }},
		"AnyValue":    {Observations, "value-quantity=le0,ge0", func(Row) bool { return true }},
		"Since":       {Encounters, "period-start=ge2021", func(r Row) bool { return r.R.Start >= since }},
		"AfterYear":   {Encounters, "period-start=gt2020", func(r Row) bool { return r.R.Start >= since }},
		"InYear":      {Encounters, "period-start=2020", func(r Row) bool { return r.R.Start >= 1577836800 && r.R.Start < since }},
		"NotEnded":    {Encounters, "period-end:missing=true", func(r Row) bool { return r.R.End == NoTime }},
		"OfMen":       {Procedures, "subject.gender=male", func(r Row) bool { return !r.P.Female }},
		"InSubTree":   {Encounters, "service-provider=8312002244", func(Row) bool { return true }},
		"Elsewhere":   {Encounters, "encounter-care-site=1", func(Row) bool { return false }},
		"Joined":      {Conditions, "encounter.class=urg", func(r Row) bool { return r.E.Category == 1 }},
		"TwoPatients": {Patients, "identifier.value=8000000001,8000000002", func(r Row) bool { return r.P.Index == 1 || r.P.Index == 2 }},
		"Dead":        {Patients, "deceased=true", func(r Row) bool { return r.P.Death != NoTime }},
		"Documents":   {DocumentReferences, "_text=DIABÈTE", func(r Row) bool { return strings.Contains(h.DocumentText(r), "Diabète") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parsed, err := h.ParseFilter(tt.kind, tt.filter)
			require.NoError(t, err)
			want := records(tt.kind, tt.want)
			require.Equal(t, want, h.count(t, tt.kind, parsed))
			if name != "Elsewhere" {
				require.NotZero(t, want)
			}
		})
	}
}

func TestWhatCannotBeReadIsRefused(t *testing.T) {
	t.Parallel()
	h := setup(t)
	for name, parse := range map[string]func() (Expr, error){
		"NoEquals":        func() (Expr, error) { return h.ParseFilter(Patients, "gender") },
		"UnknownField":    func() (Expr, error) { return h.ParseFilter(Patients, "shoe-size=43") },
		"UnknownModifier": func() (Expr, error) { return h.ParseFilter(Conditions, "code:in=x") },
		"NotADate":        func() (Expr, error) { return h.ParseFilter(Patients, "birthdate=geyesterday") },
		"NotANumber":      func() (Expr, error) { return h.ParseFilter(Observations, "value-quantity=many") },
		"OpenParenthesis": func() (Expr, error) { return h.ParseFilter(Patients, "_filter=(gender eq f") },
		"NoComparison":    func() (Expr, error) { return h.ParseFilter(Patients, "_filter=gender likes f") },
		"EmptyFilter":     func() (Expr, error) { return h.ParseFilter(Patients, "_filter=") },
		"TooDeep":         func() (Expr, error) { return h.ParseFilter(Patients, "_filter="+strings.Repeat("(", 1e4)) },
		"SolrTooDeep":     func() (Expr, error) { return h.ParseSolr(Patients, "fq="+strings.Repeat("-", 1e4)) },
		"SolrNoFQ":        func() (Expr, error) { return h.ParseSolr(Patients, "gender:f") },
		"SolrNoField":     func() (Expr, error) { return h.ParseSolr(Patients, "fq=f") },
		"SolrOpenPhrase":  func() (Expr, error) { return h.ParseSolr(Patients, `fq=family:"a`) },
		"SolrOpenRange":   func() (Expr, error) { return h.ParseSolr(Patients, "fq=birthdate:[1 TO 2") },
		"SolrPattern":     func() (Expr, error) { return h.ParseSolr(Patients, "fq=family:a*") },
		"SolrUnknown":     func() (Expr, error) { return h.ParseSolr(Patients, "fq=shoe:43") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := parse()
			if err == nil {
				_, err = h.Compile(Patients, e)
				if name == "UnknownModifier" {
					_, err = h.Compile(Conditions, e)
				}
			}
			require.Error(t, err)
		})
	}
}

func FuzzParse(f *testing.F) {
	h, err := New(Config{Patients: 10, Perimeters: 4})
	require.NoError(f, err)
	for _, seed := range []string{`fq=a:(b c)&fq=-d:[1 TO *]`, `_filter=(a eq "b") or not (c gt 1)&x=1,2`, `fq=a:"\`, `a=%zz`, `class=&status=`, `class=urg,a b&status:not=finished&period-start=ge2020-01-01&_filter=(length gt 3 or start-age-visit le 9) and not (period-end eq "*")&patient.family=x "y"`} {
		f.Add(seed)
	}
	// Whatever can be searched in FHIR's notation can be translated, and then finds the same.
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = h.ParseSolr(Encounters, text) // must not panic
		e, err := h.ParseFilter(Encounters, text)
		if err != nil {
			return
		}
		match, err := h.Compile(Encounters, e)
		if err != nil {
			return
		}
		back, err := h.ParseSolr(Encounters, h.Solr(Encounters, e))
		require.NoError(t, err, h.Solr(Encounters, e))
		again, err := h.Compile(Encounters, back)
		require.NoError(t, err)
		for i := range h.Count(Encounters) {
			row := h.Row(Encounters, int32(i))
			require.Equal(t, match(row), again(row), h.Solr(Encounters, e))
		}
	})
}

func TestLists(t *testing.T) {
	t.Parallel()
	h := setup(t)
	dir := t.TempDir()
	lists, err := OpenLists(dir, h)
	require.NoError(t, err)
	id, err := lists.Put(List{Title: "a", Kind: Patients, Members: mustSet(t, h.Size(), 1, 5, 6)})
	require.NoError(t, err)
	documents, err := lists.Put(List{Title: "b", Kind: DocumentReferences, Members: mustSet(t, h.Count(DocumentReferences), 0)})
	require.NoError(t, err)
	require.Equal(t, id+1, documents)
	require.NoError(t, lists.MarkIndexed(id))

	again, err := OpenLists(dir, h)
	require.NoError(t, err)
	list, err := again.Get(id)
	require.NoError(t, err)
	require.True(t, list.Indexed)
	require.Equal(t, 3, list.Members.Count())
	patients, err := again.PatientsOf(documents)
	require.NoError(t, err)
	require.True(t, patients.Has(h.records[DocumentReferences][0].Patient))
	require.Equal(t, 1, patients.Count())
	both, err := again.Population([]int64{id, documents})
	require.NoError(t, err)
	require.Equal(t, patients.Clone().Or(list.Members), both)
	everybody, err := again.Population(nil)
	require.NoError(t, err)
	require.Equal(t, h.Size(), everybody.Count())
	_, err = again.Get(17)
	require.ErrorIs(t, err, ErrNoList)
	root, err := again.Get(firstCohortID)
	require.NoError(t, err)
	require.Equal(t, h.Size(), root.Members.Count())
}

func BenchmarkNew100000(b *testing.B) {
	for b.Loop() {
		if _, err := New(Config{Patients: 100_000}); err != nil {
			b.Fatal(err)
		}
	}
}
