package export

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/xuri/excelize/v2"

	"cohortflow/internal/platform/jsonscan"
)

var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

const (
	ada   = `{"resourceType":"Patient","id":"p1","name":[{"family":"Martin, dit \"le Grand\"","given":["Ada","Zoé"]}],"gender":"female","birthDate":"1950-01-02","active":true}`
	bob   = `{"resourceType":"Patient","id":"p2","name":[{"family":"=HYPERLINK(\"http://evil\")","given":["Bob\nB."]}],"gender":"male","deceasedDateTime":"2020-01-01"}`
	hb    = `{"resourceType":"Observation","id":"o1","subject":{"reference":"Patient/p1"},"code":{"coding":[{"code":"718-7","display":"Hémoglobine"}]},"valueQuantity":{"value":-12.50,"unit":"g/dL"}}`
	crp   = `{"resourceType":"Observation","id":"o2","subject":{"reference":"Patient/p2"},"code":{"text":"CRP"},"valueString":"-1+1"}`
	other = `{"resourceType":"Observation","id":"o3","subject":{"reference":"Patient/p9"}}`
)

func twoPatients() *source {
	return &source{resources: map[string][]string{"Patient": {ada, bob}, "Observation": {hb, crp, other}}}
}

// written carries a plan out and unpacks the archive.
func written(t *testing.T, s Source, p plan) (files map[string][]byte, rows int64) {
	t.Helper()
	var out bytes.Buffer
	rows, err := builtin{source: s}.write(t.Context(), p, &out, noon)
	require.NoError(t, err)
	return unzip(t, out.Bytes()), rows
}

func unzip(t testing.TB, content []byte) map[string][]byte {
	t.Helper()
	archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	require.NoError(t, err)
	files := map[string][]byte{}
	for _, f := range archive.File {
		r, err := f.Open()
		require.NoError(t, err)
		files[f.Name], err = io.ReadAll(r)
		require.NoError(t, err)
	}
	return files
}

func TestCSVHoldsWhatFHIRSays(t *testing.T) {
	t.Parallel()
	files, rows := written(t, twoPatients(), plan{format: "csv", person: tableOf(t, "person", "person_id", "family", "given", "active", "death_datetime"),
		others: []planned{tableOf(t, "measurement", "measurement_id", "person_id", "code", "label", "value"), tableOf(t, "care_site", "care_site_id")}})
	require.EqualValues(t, 5, rows)
	require.Len(t, files, 3)
	require.Equal(t, "person_id,family,given,active,death_datetime\n"+
		"p1,\"Martin, dit \"\"le Grand\"\"\",Ada Zoé,true,\n"+
		"p2,\"'=HYPERLINK(\"\"http://evil\"\")\",\"Bob\nB.\",,2020-01-01\n", string(files["person.csv"]))
	require.Equal(t, "measurement_id,person_id,code,label,value\n"+
		"o1,p1,718-7,Hémoglobine,-12.50\no2,p2,,CRP,'-1+1\no3,p9,,,\n", string(files["measurement.csv"]))
	require.Equal(t, "care_site_id\n", string(files["care_site.csv"]), "an empty table has its header")
}

func TestCSVAgreesWithTheStandardLibrary(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "a", "é", `"`, `a"b"`, "a,b", " a", "\ta", "a ", "a\nb", "a\r\nb", ",", "'", "Ω≈ç", "-5", "+3.2", "1e5"} {
		records, err := csv.NewReader(bytes.NewReader(append(appendCSV(nil, []byte(text), false), ",x\n"...))).ReadAll()
		require.NoError(t, err, "%q", text)
		want := strings.ReplaceAll(text, "\r\n", "\n") // what the reader makes of them
		if text != "" && formula([]byte(text)) {
			want = "'" + want
		}
		require.Equal(t, [][]string{{want, "x"}}, records, "%q", text)
	}
	for text, want := range map[string]string{"=1+1": "'=1+1", "@x": "'@x", "-1+1": "'-1+1", "+cmd|'/c calc'!A0": "'+cmd|'/c calc'!A0", "a\xffb": "a\uFFFDb", "\t=1": "\"'\t=1\""} {
		require.Equal(t, want, string(appendCSV(nil, []byte(text), false)))
	}
	require.Equal(t, "-1", string(appendCSV(nil, []byte("-1"), true)))
}

// A byte that matters is seen wherever it is among the eight that are looked at together.
func TestCSVSeesEveryByte(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		for _, length := range []int{1, 7, 8, 9, 16, 19} {
			for at := range length {
				text := bytes.Repeat([]byte("-"), length)
				text[at] = byte(c)
				require.Equal(t, !special[c], plain(text), "%q", text)
			}
		}
	}
}

// The reader checks resources in the place of the client: it must take and refuse the same, and end where they end.
func FuzzReaderIsStrict(f *testing.F) {
	for _, s := range []string{ada, hb, response, `{"id":01}`, `{"a":tru}`, `{"subject":{"reference":[[["x/1"]]]}}`, `{"id":"x"`, `{"item":[1,[{}],null]}`,
		`{"x":"\x"}`, `{ "id" : "a" , }`, `{"id":"a"}{`, `{"id":[1,]}`, `{"id":` + strings.Repeat("[", 999) + "1" + strings.Repeat("]", 999) + `}`,
		`{"id":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`} {
		f.Add(s)
	}
	tables := knownTables(f)
	f.Fuzz(func(t *testing.T, s string) {
		b := []byte("{" + strings.TrimPrefix(s, "{"))
		want, fault := jsonscan.Value(b, 0)
		for _, name := range []string{"measurement", "questionnaireresponse__item", "note"} {
			known, err := tables.find(name)
			require.NoError(t, err)
			r, out := newReader(planned{table: known, columns: known.columns}, true), &batch{}
			out.reset(len(known.columns))
			for range 2 { // the second time it knows the members
				end, err := r.rows(b, out)
				require.ErrorIs(t, err, fault)
				if fault == nil {
					require.Equal(t, want, end)
				}
			}
		}
	})
}

func TestXLSXReopened(t *testing.T) {
	t.Parallel()
	long := `{"resourceType":"Observation","id":"long","valueString":"` + strings.Repeat("é", 40_000) + `"}`
	s := twoPatients()
	s.resources["Observation"] = append(s.resources["Observation"], long)
	files, _ := written(t, s, plan{format: "xlsx", name: "ada_20260314", person: tableOf(t, "person", "person_id", "family", "given", "active"),
		others: []planned{tableOf(t, "measurement", "measurement_id", "label", "value"), tableOf(t, "questionnaireresponse__item__answer")}})
	require.Len(t, files, 1)
	book, err := excelize.OpenReader(bytes.NewReader(files["ada_20260314.xlsx"]))
	require.NoError(t, err)
	defer book.Close()
	require.Equal(t, []string{"person", "measurement", "questionnaireresponse__item__ans"[:31]}, book.GetSheetList())
	persons, err := book.GetRows("person")
	require.NoError(t, err)
	require.Equal(t, [][]string{{"person_id", "family", "given", "active"}, {"p1", `Martin, dit "le Grand"`, "Ada Zoé", "true"},
		{"p2", `=HYPERLINK("http://evil")`, "Bob\nB."}}, persons)
	formula, err := book.GetCellFormula("person", "B3")
	require.NoError(t, err)
	require.Empty(t, formula, "a text, which no spreadsheet evaluates")
	kind, err := book.GetCellType("measurement", "C2")
	require.NoError(t, err)
	require.NotEqual(t, excelize.CellTypeInlineString, kind, "numbers are numbers")
	values, err := book.GetRows("measurement", excelize.Options{RawCellValue: true})
	require.NoError(t, err)
	require.Equal(t, []string{"o1", "Hémoglobine", "-12.5"}, values[1])
	require.Equal(t, []string{"o2", "CRP", "-1+1"}, values[2])
	require.Equal(t, maxCellLength, units(values[4][2]))
	require.True(t, strings.HasSuffix(values[4][2], cutMark))
}

func TestXLSXGoesOnInTheNextSheet(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	out := newXLSX(&file, "book", noon)
	defer out.abandon()
	out.maxRows = 3
	require.NoError(t, out.begin("t", []string{"n"}))
	b := &batch{}
	b.reset(1)
	for i := range 5 {
		b.add(fmt.Append(nil, i), true)
		b.rows++
	}
	require.NoError(t, out.write(b))
	require.NoError(t, out.close())
	book, err := excelize.OpenReader(bytes.NewReader(unzip(t, file.Bytes())["book.xlsx"]))
	require.NoError(t, err)
	defer book.Close()
	require.Equal(t, []string{"t", "t (2)", "t (3)"}, book.GetSheetList())
	for sheet, want := range map[string][][]string{"t": {{"n"}, {"0"}, {"1"}}, "t (2)": {{"n"}, {"2"}, {"3"}}, "t (3)": {{"n"}, {"4"}}} {
		rows, err := book.GetRows(sheet)
		require.NoError(t, err)
		require.Equal(t, want, rows)
	}
}

func TestTitles(t *testing.T) {
	t.Parallel()
	names := newTitles(12)
	for _, c := range [][2]string{{"note", "note"}, {"Note", "Note (2)"}, {"a/b:c", "a_b_c"}, {"", "table"}, {"..", "table (2)"},
		{"a long title", "a long title"}, {"a long title", "a long t (2)"}, {"éééééééééééééé", "éééééééééééé"}} {
		require.Equal(t, c[1], names.unique(c[0]))
	}
}

func TestGroupedTablesAreJoinedWithPersons(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"csv", "xlsx"} {
		s := twoPatients()
		files, rows := written(t, s, plan{format: format, name: "all", grouped: true, person: tableOf(t, "person", "person_id", "gender"),
			others: []planned{tableOf(t, "measurement", "measurement_id"), tableOf(t, "care_site", "care_site_id")}})
		require.EqualValues(t, 4, rows)
		if format == "csv" {
			require.Equal(t, "person_id,gender,measurement.measurement_id,care_site.care_site_id\np1,female,,\np2,male,,\np1,female,o1,\np2,male,o2,\n", string(files["all.csv"]))
		}
		require.Equal(t, "p1,p2,p9", s.asked[2].Params[0].Value, "the persons of many rows are asked for at once")
		require.Equal(t, "88", s.asked[2].Group)
	}
}

func TestTablesOfASubsetKeepToThePersons(t *testing.T) {
	t.Parallel()
	measurement := tableOf(t, "measurement", "measurement_id")
	measurement.relate = "only-p2"
	files, rows := written(t, twoPatients(), plan{format: "csv", person: tableOf(t, "person", "person_id"), others: []planned{measurement}})
	require.EqualValues(t, 3, rows)
	require.Equal(t, "measurement_id\no2\n", string(files["measurement.csv"]))
}

const response = `{"resourceType":"QuestionnaireResponse","id":"r1","questionnaire":"https://x/Questionnaire/21","subject":{"reference":"Patient/p1"},
 "item":[{"linkId":"1","text":"Group","item":[{"linkId":"1.1","answer":[{"valueDecimal":70.5}]},{"linkId":"1.2","answer":[{"valueCoding":{"code":"a"}},{"valueCoding":{"code":"b"}}]}]},{"linkId":"2","answer":[{"valueBoolean":true,"item":[{"linkId":"2.1","answer":[{"valueString":"since 2020"}]}]}]}]}`

func TestElementsBecomeRows(t *testing.T) {
	t.Parallel()
	s := &source{resources: map[string][]string{"QuestionnaireResponse": {response, `{"id":"r2","item":[]}`, `{"id":"r3"}`},
		"ImagingStudy": {`{"id":"s1","subject":{"reference":"Patient/p1"},"series":[{"uid":"u1","number":1},{"uid":"u2","modality":{"code":"CT"}}]}`}}}
	files, _ := written(t, s, plan{format: "csv", person: tableOf(t, "questionnaireresponse__item"), others: []planned{
		tableOf(t, "questionnaireresponse__item__answer", "questionnaireresponse_id", "link_id", "value"),
		tableOf(t, "imaging_series", "imaging_study_id", "imaging_series_id", "modality", "number")}})
	require.Equal(t, "questionnaireresponse_id,person_id,link_id,text,value\nr1,p1,1,Group,\nr1,p1,1.1,,70.5\nr1,p1,1.2,,a\nr1,p1,2,,true\nr1,p1,2.1,,since 2020\n", string(files["questionnaireresponse__item.csv"]))
	require.Equal(t, "questionnaireresponse_id,link_id,value\nr1,1.1,70.5\nr1,1.2,a\nr1,1.2,b\nr1,2,true\nr1,2.1,since 2020\n", string(files["questionnaireresponse__item__answer.csv"]))
	require.Equal(t, "imaging_study_id,imaging_series_id,modality,number\ns1,u1,,1\ns1,u2,CT,\n", string(files["imaging_series.csv"]))
}

func TestAccessors(t *testing.T) {
	t.Parallel()
	resource := `{"id":"x","a":{"b":[{"c":"first"},{"c":"second"}]},"n":null,"empty":"","num":1.50,"t":true,"ref":"http://h/Patient/12","old":"Patient/12/_history/3",
		"form":"http://h/Questionnaire/21|1.0","part":"#p1","slash":[{"type":"text\/plain","v":"y"}],"k\u0065y":"k","esc":"a\u00e9\n",
		"identifier":[{"type":{"coding":[{"code":"X"}]},"value":"1"},{"type":{"coding":[{"code":"Y"},{"code":"IPP"}]},"value":"2"}],"data":"w6l0w6k=","o":{"p":{}}}`
	for text, want := range map[string]string{
		"id": "x", "a.b.c": "first", "a.b.c:all": "first second", "n": "", "empty": "", "empty|num": "1.50", "n|t": "true", "ref:id": "12", "old:id": "12", "form:id": "21", "part:id": "#p1",
		"slash(type=text/plain).v": "y", "key": "k", "esc": "aé\n",
		"identifier(type.coding.code=IPP).value": "2", "identifier(type.coding.code~ipp).value": "2", "identifier(type.coding.code~p).value": "2",
		"data:text": "été", "id:text": "x", "a": "", "a.b": "", "o.p.q": "", "missing.x": "", "'word'": "word", "num.x": "",
	} {
		a, err := compileAccessor(text)
		require.NoError(t, err, text)
		r := newReader(planned{table: &table{}, columns: []column{{"c", a}}}, false)
		b := &batch{}
		b.reset(1)
		end, err := r.rows([]byte(resource), b)
		require.NoError(t, err, text)
		require.Equal(t, len(resource), end)
		got, number := b.cell(0, 0)
		require.Equal(t, want, string(got), text)
		require.Equal(t, want == "1.50", number, text)
	}
	for _, text := range []string{"", "a..b", "a(b", "a(b)c", "a(=b)", ".a", "a|"} {
		_, err := compileAccessor(text)
		require.Error(t, err, text)
	}
}

func TestCatalogueKnowsTheClientsTables(t *testing.T) {
	t.Parallel()
	tables := knownTables(t)
	for _, name := range []string{"person", "patient", "iris", "visit_occurrence", "visit_detail", "condition", "procedure", "note", "Observation_Laboratory",
		"drug_exposure_prescription", "drug_exposure_administration", "care_site", "fact_relationship", "imaging_study", "imaging_series",
		"questionnaire__item", "questionnaireresponse__item", "questionnaireresponse__item__answer", "questionnaireresponse", "measurement", "condition_occurrence"} {
		known, err := tables.find(name)
		require.NoError(t, err)
		require.NotEmpty(t, known.columns)
	}
	_, err := tables.find("concept")
	require.ErrorContains(t, err, "the table `concept` is not known; known tables are: care_site, claim, condition,")
	person, err := tables.find("person")
	require.NoError(t, err)
	_, err = person.pick([]string{"gender", "x"})
	require.ErrorContains(t, err, "the column `x` of table `person` is not known; known columns are: person_id, ipp,")
}

var errBroken = errors.New("broken")

// brokenWriter takes some bytes.
type brokenWriter struct{ left int }

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

func TestNothingIsWholeAfterAFailure(t *testing.T) {
	t.Parallel()
	many := make([]string, 20_000)
	for i := range many {
		many[i] = fmt.Sprintf(`{"id":"o%d","subject":{"reference":"Patient/p1"},"code":{"text":"%x"}}`, i, i*i*7919)
	}
	p := plan{person: tableOf(t, "person"), others: []planned{tableOf(t, "measurement")}}
	for _, format := range []string{"csv", "xlsx"} {
		for name, c := range map[string]struct {
			resources []string
			fail      error
			w         io.Writer
			want      string
		}{
			"the server fails in the middle": {many, errBroken, io.Discard, "table measurement: broken"},
			"the storage fails":              {many, nil, &brokenWriter{left: 20_000}, "broken"},
			"a resource is malformed":        {append(many[:700:700], `{"id":"x","subject":{]`), nil, io.Discard, "cannot be read"},
		} {
			t.Run(format+": "+name, func(t *testing.T) {
				t.Parallel()
				s := &source{resources: map[string][]string{"Patient": {ada}, "Observation": c.resources}, fail: map[string]error{"Observation": c.fail}}
				p := p
				p.format = format
				_, err := builtin{source: s}.write(t.Context(), p, c.w, noon)
				require.ErrorContains(t, err, c.want)
			})
		}
	}
}

func TestWritingStopsWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	many := make([]string, 50_000)
	for i := range many {
		many[i] = ada
	}
	heard := 0
	x := builtin{source: &source{resources: map[string][]string{"Patient": many}}, heard: func(context.Context) {
		if heard++; heard == 3 {
			cancel()
		}
	}}
	_, err := x.write(ctx, plan{format: "csv", person: tableOf(t, "person")}, io.Discard, noon)
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, heard, 20)
}

// The reader bets on the order of members; a resource with another one is read all the same.
func TestMembersComeInAnyOrder(t *testing.T) {
	t.Parallel()
	s := &source{resources: map[string][]string{"Patient": {
		`{"id":"1","gender":"f","birthDate":"b"}`, `{"id":"2","gender":"f","birthDate":"b"}`, `{"gender":"m","id":"3"}`, `{ "birthDate" : "x" , "id" : "4" }`,
		`{"id":"5"}`, `{"i":"6","genders":"no","id":"6"}`, `{}`, `{"id":"7","gender":null,"birthDate":["y","z"]}`, `{"id":"8","gender":"f","birthDate":"b"}`}}}
	files, _ := written(t, s, plan{format: "csv", person: tableOf(t, "person", "person_id", "gender", "birth_date")})
	require.Equal(t, "person_id,gender,birth_date\n1,f,b\n2,f,b\n3,m,\n4,,x\n5,,\n6,,\n,,\n7,,y\n8,f,b\n", string(files["person.csv"]))
}
