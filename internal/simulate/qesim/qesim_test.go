package qesim

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/simulate/faultplan"
	"cohortflow/internal/simulate/hospital"
)

func TestParseBody(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		body string
		want Input
		fail bool
	}{
		"Least": {body: `input.cohortDefinitionSyntax = "{}",input.ownerEntityId = me,input.mode = count,`,
			want: Input{Definition: "{}", Mode: "count", Owner: "me", Name: "Unnamed Cohort", Options: map[string]string{}}},
		"All": {body: "input.cohortDefinitionName = Created from C360 backend,input.cohortDefinitionSyntax = \"{\\\"a\\\":\\\"\\u00e9, b\\\"}\"\n" +
			"input.ownerEntityId = 4212345,input.mode = create,input.cohortUuid = 0d9f-1,input.callbackPath = /fhir-perimeters/12/,input.existingCohortId = 77,input.modeOptions = {\"sampling\":0.3,\"details\":null}",
			want: Input{Definition: `{"a":"é, b"}`, Mode: "create", Owner: "4212345", Name: "Created from C360 backend", UUID: "0d9f-1",
				CallbackPath: "/fhir-perimeters/12/", ExistingID: 77, Options: map[string]string{"sampling": "0.3"}}},
		"JSON": {body: `{"input":{"cohortDefinitionSyntax":"{}","mode":"count_all","ownerEntityId":12,"cohortUuid":null,"x":[1]}}`,
			want: Input{Definition: "{}", Mode: "count_all", Owner: "12", Name: "Unnamed Cohort", Options: map[string]string{}}},
		"NoMode":        {body: `input.cohortDefinitionSyntax = "{}"`, fail: true},
		"UnknownMode":   {body: `input.cohortDefinitionSyntax = "{}",input.mode = purge_cache`, fail: true},
		"NoDefinition":  {body: `input.mode = count`, fail: true},
		"Unquoted":      {body: `input.cohortDefinitionSyntax = "{}",input.mode = count,input.ownerEntityId = me@example.org`, fail: true},
		"WrongType":     {body: `{"input":{"cohortDefinitionSyntax":"{}","mode":"create","existingCohortId":"x"}}`, fail: true},
		"NoInput":       {body: `{"mode":"count"}`, fail: true},
		"TruncatedJSON": {body: `{"input":{"mode":`, fail: true},
		"Empty":         {body: "", fail: true},
		"NoPairs":       {body: "hello", fail: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, err := ParseBody([]byte(tt.body))
			if tt.fail {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, in)
		})
	}
}

func TestCallbackPaths(t *testing.T) {
	t.Parallel()
	for want, in := range map[string]Input{
		"/url":                       {Mode: Count, UUID: "id", CallbackPath: "/url"},
		"/cohort/dated-measures/id/": {Mode: CountAll, UUID: "id"},
		"/cohort/cohorts/id/":        {Mode: Create, UUID: "id"},
		"http://elsewhere/x":         {Mode: Create, UUID: "id", CallbackPath: "/url", CallbackURL: "http://elsewhere/x"},
		"":                           {Mode: Count},
	} {
		require.Equal(t, want, in.callbackPath())
	}
}

func TestJavaDoubles(t *testing.T) {
	t.Parallel()
	zero := 0.0
	for want, v := range map[string]float64{"0.5": 0.5, "1.0": 1, "0.0": 0, "NaN": zero / zero, "1.0E-4": 0.0001, "2.5E-4": 0.00025, "0.75": 0.75} {
		require.Equal(t, want, javaDouble(v))
	}
}

type bundle struct {
	*Server
	h *hospital.Hospital
}

func setup(t *testing.T) *bundle {
	t.Helper()
	h, err := hospital.New(hospital.Config{Seed: 5, Patients: 800, Perimeters: 60})
	require.NoError(t, err)
	lists, err := hospital.OpenLists(t.TempDir(), h)
	require.NoError(t, err)
	s, err := New(Config{Log: slog.New(slog.DiscardHandler), Clock: clock.System{}, Hospital: h, Lists: lists, Plan: faultplan.New(1), Dir: t.TempDir(),
		Backend: func(context.Context) (string, error) { return "", context.Canceled }})
	require.NoError(t, err)
	return &bundle{s, h}
}

// ask runs a job without the queue.
func (b *bundle) ask(mode, definition string, options map[string]string) (outcome, error) {
	return b.work(context.Background(), &job{ID: "job", Input: Input{Mode: mode, Definition: definition, Options: options}})
}

const root = 20001

func document(population int64, request string) string {
	return fmt.Sprintf(`{"_type":"request","sourcePopulation":{"caresiteCohortList":[%d]},"request":%s}`, population, request)
}

func basic(id int, kind, filter, more string) string {
	return fmt.Sprintf(`{"_type":"basicResource","_id":%d,"isInclusive":true,"resourceType":%q,"filterFhir":%q%s}`, id, kind, filter, more)
}

func exclusive(node string) string {
	return strings.Replace(node, `"isInclusive":true`, `"isInclusive":false`, 1)
}

func group(kind string, id int, more string, members ...string) string {
	return fmt.Sprintf(`{"_type":%q,"_id":%d,"isInclusive":true,"criteria":[%s]%s}`, kind, id, strings.Join(members, ","), more)
}

// patients counts those that fit, in a straight loop.
func (b *bundle) patients(fits func(p *hospital.Patient) bool) int {
	n := 0
	for i := range b.h.Size() {
		if fits(b.h.Patient(int32(i))) {
			n++
		}
	}
	return n
}

func (b *bundle) records(k hospital.Kind, p *hospital.Patient, fits func(hospital.Row, hospital.Description) bool) []hospital.Row {
	var rows []hospital.Row
	from, to := b.h.Span(k, p.Index)
	for i := from; i < to; i++ {
		if row := b.h.Row(k, i); fits(row, b.h.Describe(k, row)) {
			rows = append(rows, row)
		}
	}
	return rows
}

func code(prefix string) func(hospital.Row, hospital.Description) bool {
	return func(_ hospital.Row, d hospital.Description) bool { return strings.HasPrefix(d.Code, prefix) }
}

func TestEvaluation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	has := func(p *hospital.Patient, k hospital.Kind, prefix string) bool {
		return len(b.records(k, p, code(prefix))) > 0
	}
	hypertension := basic(1, "Condition", "code=I10", "")
	women := basic(2, "Patient", "gender=f", "")
	metformin := basic(3, "MedicationRequest", "code=A10BA02", "")
	diabetes := basic(4, "Condition", "code=E10-E14", "")
	isDiabetic := func(p *hospital.Patient) bool { return has(p, hospital.Conditions, "E1") }
	for name, tt := range map[string]struct {
		request string
		fits    func(p *hospital.Patient) bool
	}{
		"One":          {hypertension, func(p *hospital.Patient) bool { return has(p, hospital.Conditions, "I10") }},
		"And":          {group("andGroup", 0, "", hypertension, women), func(p *hospital.Patient) bool { return p.Female && has(p, hospital.Conditions, "I10") }},
		"AndNot":       {group("andGroup", 0, "", women, exclusive(hypertension)), func(p *hospital.Patient) bool { return p.Female && !has(p, hospital.Conditions, "I10") }},
		"OnlyNot":      {group("andGroup", 0, "", exclusive(hypertension)), func(p *hospital.Patient) bool { return p.Active && !has(p, hospital.Conditions, "I10") }},
		"NotAtTheRoot": {exclusive(group("andGroup", 0, "", hypertension)), func(p *hospital.Patient) bool { return p.Active && !has(p, hospital.Conditions, "I10") }},
		"Or":           {group("orGroup", 0, "", hypertension, diabetes), func(p *hospital.Patient) bool { return has(p, hospital.Conditions, "I10") || isDiabetic(p) }},
		"OrNot": {group("orGroup", 0, "", exclusive(hypertension), diabetes), func(p *hospital.Patient) bool {
			return p.Active && !has(p, hospital.Conditions, "I10") || isDiabetic(p)
		}},
		"TwoAmongThree": {group("nAmongM", 0, `,"nAmongMOptions":{"n":2,"operator":"="}`, hypertension, women, diabetes), func(p *hospital.Patient) bool {
			n := 0
			for _, holds := range []bool{has(p, hospital.Conditions, "I10"), p.Female, isDiabetic(p)} {
				if holds {
					n++
				}
			}
			return n == 2
		}},
		"Nested": {group("andGroup", 0, "", women, group("orGroup", -1, "", hypertension, metformin), group("andGroup", -2, "")), func(p *hospital.Patient) bool {
			return p.Female && (has(p, hospital.Conditions, "I10") || has(p, hospital.MedicationRequests, "A10BA02"))
		}},
		"Empty":       {group("andGroup", 0, ""), func(p *hospital.Patient) bool { return p.Active }},
		"UnknownType": {group("andGroup", 0, "", women, `{"_type":"futureGroup"}`), func(p *hospital.Patient) bool { return p.Female }},
		"Twice": {basic(1, "Condition", "code=I10", `,"occurrence":{"n":2,"operator":">="}`), func(p *hospital.Patient) bool {
			return len(b.records(hospital.Conditions, p, code("I10"))) >= 2
		}},
		"AtMostOnceButOnce": {basic(1, "Condition", "code=I10", `,"occurrence":{"n":2,"operator":"<"}`), func(p *hospital.Patient) bool {
			return len(b.records(hospital.Conditions, p, code("I10"))) == 1
		}},
		"TwiceInOneEncounter": {basic(1, "Observation", "", `,"occurrence":{"n":4,"operator":">=","sameEncounter":true}`), func(p *hospital.Patient) bool {
			counts := map[int32]int{}
			for _, row := range b.records(hospital.Observations, p, code("")) {
				counts[row.R.Encounter]++
			}
			for _, n := range counts {
				if n >= 4 {
					return true
				}
			}
			return false
		}},
		"AgeAtTheTime": {basic(1, "Condition", "code=J", ``) /* replaced below */, nil},
		"SameCodeTwice": {basic(1, "Observation", "", `,"uniqueFields":[{"n":2,"operator":">="}]`), func(p *hospital.Patient) bool {
			counts := map[uint16]int{}
			for _, row := range b.records(hospital.Observations, p, code("")) {
				counts[row.R.Code]++
			}
			for _, n := range counts {
				if n >= 2 {
					return true
				}
			}
			return false
		}},
		"SameEncounter": {group("andGroup", 0, `,"temporalConstraints":[{"idList":"all","constraintType":"sameEncounter"}]`, diabetes, metformin), func(p *hospital.Patient) bool {
			for _, c := range b.records(hospital.Conditions, p, code("E1")) {
				for _, m := range b.records(hospital.MedicationRequests, p, code("A10BA02")) {
					if c.R.Encounter == m.R.Encounter {
						return true
					}
				}
			}
			return false
		}},
		"InOrder": {group("andGroup", 0, `,"temporalConstraints":[{"idList":[3,4],"constraintType":"directChronologicalOrdering","timeRelationMinDuration":{"days":2},"timeRelationMaxDuration":{"years":2}}]`, diabetes, metformin),
			func(p *hospital.Patient) bool {
				for _, m := range b.records(hospital.MedicationRequests, p, code("A10BA02")) {
					for _, c := range b.records(hospital.Conditions, p, code("E1")) {
						if delay := c.R.Start - m.R.Start; delay >= 2*86400 && delay <= 730*86400 {
							return true
						}
					}
				}
				return false
			}},
		"OneOfTwoConstrained": {group("andGroup", 0, `,"temporalConstraints":[{"idList":[1,99],"constraintType":"sameEncounter"}]`, hypertension, women), func(p *hospital.Patient) bool {
			return p.Female && has(p, hospital.Conditions, "I10")
		}},
	} {
		if name == "AgeAtTheTime" {
			tt.request = basic(1, "Condition", "", `,"patientAge":{"minAge":"18-0-0","maxAge":"40-6-2"}`)
			tt.fits = func(p *hospital.Patient) bool {
				return len(b.records(hospital.Conditions, p, func(row hospital.Row, _ hospital.Description) bool {
					days := float64((row.R.Start - p.Birth) / 86400)
					return days >= 18*365.25 && days <= 40*365.25+6*30+2
				})) > 0
			}
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := b.patients(tt.fits)
			require.NotZero(t, want)
			got, err := b.ask(Count, document(root, tt.request), nil)
			require.NoError(t, err)
			require.Equal(t, want, got.Count)
		})
	}
}

func TestPopulationIsASubTree(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, i := range []int32{1, 2, 3} {
		in := b.h.PatientsOf(i)
		want := b.patients(func(p *hospital.Patient) bool { return p.Active && in.Has(p.Index) })
		got, err := b.ask(Count, document(b.h.Perimeters()[i].CohortID, group("andGroup", 0, "")), nil)
		require.NoError(t, err)
		require.Equal(t, want, got.Count)
	}
}

func TestWhatCannotBeEvaluatedIsAnError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, tt := range map[string]struct{ mode, definition, want string }{
		"NotJSON":          {Count, "{", "JsError.get"},
		"NoPopulation":     {Count, `{"request":{}}`, "None.get"},
		"NoList":           {Count, `{"sourcePopulation":{},"request":` + group("andGroup", 0, "") + `}`, "INPUT JSON cannot be processed"},
		"TextInList":       {Count, `{"sourcePopulation":{"caresiteCohortList":["x"]}}`, "JsError.get"},
		"HugeInList":       {Count, document(1<<40, group("andGroup", 0, "")), "32-bit"},
		"UnknownList":      {Count, document(17, group("andGroup", 0, "")), "no such list"},
		"NoRequest":        {Count, `{"sourcePopulation":{"caresiteCohortList":[20001]}}`, "None.get"},
		"Claim":            {Count, document(root, basic(1, "Claim", "", "")), "key not found: Claim"},
		"Questionnaire":    {Count, document(root, basic(1, "QuestionnaireResponse", "", "")), "holds no QuestionnaireResponse"},
		"UnknownParameter": {Count, document(root, basic(1, "Patient", "shoe-size=43", "")), "unknown parameter"},
		"HugeID":           {Count, document(root, basic(70000, "Patient", "", "")), "16 bits"},
		"NoID":             {Count, document(root, `{"_type":"andGroup","isInclusive":true}`), "JsError.get"},
		"UnknownRoot":      {Count, document(root, `{"_type":"x","_id":0,"isInclusive":true}`), "unknown group type"},
		"BadOperator":      {Count, document(root, basic(1, "Condition", "", `,"occurrence":{"n":1,"operator":"≤x≥"}`)), "syntax error"},
		"BadAmong":         {Count, document(root, group("nAmongM", 0, `,"nAmongMOptions":{"n":1,"operator":"?"}`, basic(1, "Patient", "", ""))), "syntax error"},
		"NoAmong":          {Count, document(root, group("nAmongM", 0, "")), "nAmongMOptions"},
		"AgeOfPatient":     {Count, document(root, basic(1, "Patient", "", `,"patientAge":{"minAge":"1-0-0"}`)), "impossible to build a datetime column"},
		"BadAge":           {Count, document(root, basic(1, "Condition", "", `,"patientAge":{"minAge":"old"}`)), "years-months-days"},
		"DifferentEncounter": {Count, document(root, group("andGroup", 0, `,"temporalConstraints":[{"idList":"all","constraintType":"differentEncounter"}]`,
			basic(1, "Condition", "", ""), basic(2, "Condition", "", ""))), "not implemented"},
		"ConstraintOnOr": {Count, document(root, group("orGroup", 0, `,"temporalConstraints":[{"idList":"all","constraintType":"sameEncounter"}]`,
			basic(1, "Condition", "", ""))), "Cannot use temporal constraints"},
		"DetailsAmong": {CountDetails, document(root, group("nAmongM", 0, `,"nAmongMOptions":{"n":1,"operator":"="}`, basic(1, "Patient", "", ""))), "None.get"},
		"CreateType":   {Create, strings.Replace(document(root, basic(1, "Patient", "", "")), `"_type":"request"`, `"resourceType":"foo"`, 1), "Resource type not supported"},
		"CreateEmpty":  {Create, `{"sourcePopulation":{"caresiteCohortList":[20001]},"resourceType":"DocumentReference"}`, "Request is empty"},
		"CreateGroup": {Create, strings.Replace(document(root, group("andGroup", 0, "")), `"_type":"request"`, `"resourceType":"DocumentReference"`, 1),
			"Non-patient resource filter request should be a basic resource"},
		"Diff": {CreateDiff, document(root, group("andGroup", 0, "")), "baseCohortId is required"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := b.ask(tt.mode, tt.definition, nil)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestDetails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	request := group("andGroup", 0, "", basic(1, "Patient", "gender=f", ""), exclusive(basic(2, "Condition", "code=I10", "")), group("andGroup", -1, ""))
	active := b.patients(func(p *hospital.Patient) bool { return p.Active })
	sick := b.patients(func(p *hospital.Patient) bool {
		return p.Active && len(b.records(hospital.Conditions, p, code("I10"))) > 0
	})
	women := b.patients(func(p *hospital.Patient) bool { return p.Female })
	all, err := b.ask(Count, document(root, request), map[string]string{"details": "all"})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"criteria_count_0": strconv.Itoa(all.Count), "criteria_count_1": strconv.Itoa(women),
		"criteria_count_2": strconv.Itoa(active - sick)}, all.Extra)
	some, err := b.ask(Count, document(root, request), map[string]string{"details": "1, 2"})
	require.NoError(t, err)
	require.Len(t, some.Extra, 2)
	ratio, err := b.ask(Count, document(root, request), map[string]string{"details": "ratio"})
	require.NoError(t, err)
	require.Equal(t, "1.0", ratio.Extra["criteria_ratio_1"])
	_, err = b.ask(Count, document(root, request), map[string]string{"details": "x"})
	require.Error(t, err)
}

func TestGlobalCountsHaveBounds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got, err := b.ask(CountAll, document(root, group("andGroup", 0, "")), nil)
	require.NoError(t, err)
	require.True(t, got.Maximum >= got.Count+25 && got.Maximum < got.Count+50)
	require.True(t, got.Minimum >= got.Count-50 && got.Minimum < got.Count-25)
	none, err := b.ask(CountAll, document(root, basic(1, "Patient", "birthdate=gt2100", "")), nil)
	require.NoError(t, err)
	require.Zero(t, none.Count)
	require.Zero(t, none.Minimum)
}

func TestDetailsPerPerimeter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got, err := b.ask(CountDetails, document(root, basic(1, "Patient", "gender=f", "")), nil)
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(got.Count), got.Extra["20001"])
	for i, p := range b.h.Perimeters() {
		in := b.h.PatientsOf(int32(i))
		want := b.patients(func(p *hospital.Patient) bool { return p.Female && in.Has(p.Index) })
		if want > 0 {
			require.Equal(t, strconv.Itoa(want), got.Extra[strconv.FormatInt(p.CohortID, 10)])
		}
	}
}

func TestCreations(t *testing.T) {
	t.Parallel()
	t.Run("SampleOfACohort", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		whole, err := b.ask(Create, document(root, group("andGroup", 0, "")), nil)
		require.NoError(t, err)
		part, err := b.ask(Create, document(whole.GroupID, basic(0, "Patient", "", "")), map[string]string{"sampling": "0.3"})
		require.NoError(t, err)
		require.Equal(t, int(float64(whole.Count)*0.3+0.5), part.Count)
		for _, ratio := range []string{"0", "1.1", "x"} {
			_, err = b.ask(Create, document(root, group("andGroup", 0, "")), map[string]string{"sampling": ratio})
			require.ErrorContains(t, err, "between 0 and 1")
		}
	})
	t.Run("OfDocuments", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		definition := strings.Replace(document(root, basic(0, "DocumentReference", "type:not=doc-impor&contenttype=text%2Fplain", "")),
			`"_type":"request"`, `"_type":"request","resourceType":"DocumentReference"`, 1)
		got, err := b.ask(Create, definition, nil)
		require.NoError(t, err)
		want := 0
		for i := range b.h.Size() {
			want += len(b.records(hospital.DocumentReferences, b.h.Patient(int32(i)), func(_ hospital.Row, d hospital.Description) bool { return d.Code != "doc-impor" }))
		}
		require.Equal(t, want, got.Count)
	})
	t.Run("AnExistingIDIsUsedAgain", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		got, err := b.work(t.Context(), &job{ID: "x", Input: Input{Mode: Create, ExistingID: 20002, Definition: `{"sourcePopulation":{"caresiteCohortList":[]},` +
			`"request":` + group("andGroup", 0, "", basic(1, "Encounter", fmt.Sprintf("service-provider=%d", b.h.Perimeters()[1].ID), "")) + `}`}})
		require.NoError(t, err)
		require.EqualValues(t, 20002, got.GroupID)
		require.Equal(t, b.h.PatientsOf(1).Count(), got.Count)
	})
}

func TestTheAPI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cfg.Latency = time.Hour
	require.NoError(t, b.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, b.Stop(context.WithoutCancel(t.Context()))) })
	do := func(method, path, body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		b.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		return w
	}
	require.Equal(t, "OK", do("GET", "/", "").Body.String())
	for _, path := range []string{"/jobs/unknown", "/jobs/unknown"} {
		w := do("DELETE", path, "")
		require.Equal(t, http.StatusInternalServerError, w.Code)
		require.Contains(t, w.Header().Get("Content-Type"), "text/plain")
		require.Contains(t, w.Body.String(), "key not found: unknown")
	}
	require.Equal(t, http.StatusInternalServerError, do("POST", "/jobs", "nonsense").Code)
	require.Equal(t, http.StatusMethodNotAllowed, do("PUT", "/jobs", "").Code)
	w := do("POST", "/jobs/", `{"input":{"mode":"count","cohortDefinitionSyntax":"{}"}}`)
	var v view
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
	require.Equal(t, Running, v.Status)
	require.Empty(t, v.Result)
	id := v.JobID
	require.Contains(t, do("GET", "/jobs", "").Body.String(), id)
	require.Eventually(t, func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.jobs[id].kill != nil }, 5*time.Second, time.Millisecond)
	require.JSONEq(t, `{"status":"KILLED","jobId":"`+id+`","context":"","startTime":"","duration":"","result":null,"classPath":""}`,
		do("DELETE", "/jobs/"+id, "").Body.String())
	b.mu.Lock()
	j := b.jobs[id]
	b.mu.Unlock()
	<-j.done
	require.Contains(t, j.payload()["message"], "cancelled part of cancelled job group "+id)
}

func TestAFailedJobIsTriedAgainUnderAnotherID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cfg.Retries = 1
	require.NoError(t, b.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, b.Stop(context.WithoutCancel(t.Context()))) })
	first := b.submit(Input{Mode: Count, Definition: "{"}, 0)
	<-first.done
	var second *job
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.order) == 2 {
			second = b.order[1]
		}
		return second != nil
	}, 5*time.Second, time.Millisecond)
	<-second.done
	require.NotEqual(t, first.ID, second.ID)
	require.Equal(t, Failed, second.payload()["request_job_status"])
}

func BenchmarkCount(b *testing.B) {
	for _, size := range []int{2000, 100_000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			h, err := hospital.New(hospital.Config{Patients: size})
			require.NoError(b, err)
			lists, err := hospital.OpenLists(b.TempDir(), h)
			require.NoError(b, err)
			s := &Server{cfg: Config{Hospital: h, Lists: lists}}
			definition := document(root, group("andGroup", 0, "", basic(1, "Condition", "code=E10-E14,I10", `,"occurrence":{"n":2,"operator":">="}`),
				basic(2, "Observation", "value-quantity=ge5", ""), exclusive(basic(3, "Patient", "gender=m", ""))))
			for b.Loop() {
				if _, err := s.work(b.Context(), &job{ID: "x", Input: Input{Mode: Count, Definition: definition}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
