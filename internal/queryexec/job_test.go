package queryexec

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// The worked examples of cohort.md 26, with its definitions byte by byte.
const (
	q1 = `{"version":"v1.6.1","_type":"request","sourcePopulation":{"caresiteCohortList":["4012"]},"request":{"_id":0,"isInclusive":true,"criteria":[{"_type":"basicResource","_id":1,"name":"Femmes","isInclusive":true,"resourceType":"Patient","filterFhir":"active=true&gender=f&age-day=ge0&age-day=le130"}],"temporalConstraints":[],"_type":"andGroup"}}`
	d1 = `{"instance_id":"%s","sourcePopulation":{"caresiteCohortList":[%d]},"_type":"request","request":{"_type":"andGroup","_id":0,"isInclusive":true,"criteria":[{"_type":"basicResource","_id":1,"isInclusive":true,"resourceType":"Patient","filterSolr":"fq=gender:f&fq=active:true","filterFhir":"active=true&gender=f&age-day=ge0&age-day=le130","criteria":[],"dateRangeList":[],"temporalConstraints":[]}],"dateRangeList":[],"temporalConstraints":[]},"temporalConstraints":[]}`

	q3 = `{"version":"v1.6.1","_type":"request","sourcePopulation":{"caresiteCohortList":["4012","4015"]},"request":{"_id":0,"isInclusive":true,"criteria":[
 {"_type":"basicResource","_id":1,"name":"Liste d’IPP","isInclusive":true,"resourceType":"IPPList","filterFhir":"identifier.value=8001112223,8001112224"},
 {"_type":"basicResource","_id":2,"name":"Diabète","isInclusive":true,"resourceType":"Condition","filterFhir":"subject.active=true&code=https://smt.esante.gouv.fr/terminologie-cim-10/|E11&onset-date=ge2022-01-01T00:00:00Z&onset-date=le2022-12-31T00:00:00Z","patientAge":{"minAge":"18-0-0"},"occurrence":{"n":2,"operator":">="}},
 {"_type":"nAmongM","_id":-1,"isInclusive":true,"criteria":[
  {"_type":"basicResource","_id":3,"name":"Fiche","isInclusive":true,"resourceType":"QuestionnaireResponse","filterFhir":"questionnaire.name=MAT&status=in-progress,completed&_filter=item.linkId eq F_1 and (item.answer.valueCoding eq \"A B\")","occurrence":{"n":1,"operator":">="}},
  {"_type":"basicResource","_id":4,"name":"Bio","isInclusive":false,"resourceType":"Observation","filterFhir":"status=Valid%C3%A9&value-quantity=ge5,le9","occurrence":{"n":1,"operator":"="}}],
  "nAmongMOptions":{"n":1,"operator":">="}}],
 "temporalConstraints":[{"idList":["All"],"constraintType":"sameEncounter"},{"id":7,"idList":[2,3],"constraintType":"directChronologicalOrdering","timeRelationMinDuration":{"days":1},"timeRelationMaxDuration":{"months":6}}],"_type":"andGroup"}}`
	d3 = `"{\"instance_id\":\"D2\",\"sourcePopulation\":{\"caresiteCohortList\":[4012,4015]},\"_type\":\"request\",\"request\":{\"_type\":\"andGroup\",\"_id\":0,\"isInclusive\":true,\"criteria\":[{\"_type\":\"basicResource\",\"_id\":1,\"isInclusive\":true,\"resourceType\":\"IPPList\",\"filterSolr\":\"fq=active:true&fq=identifier.value:(8001112223 8001112224)\",\"filterFhir\":\"identifier.value=8001112223,8001112224\",\"criteria\":[],\"dateRangeList\":[],\"temporalConstraints\":[]},{\"_type\":\"basicResource\",\"_id\":2,\"isInclusive\":true,\"resourceType\":\"Condition\",\"filterSolr\":\"fq=code:E11&fq=onset:[2022-01-01 TO 2022-12-31]\",\"filterFhir\":\"subject.active=true&code=https://smt.esante.gouv.fr/terminologie-cim-10/|E11&onset-date=ge2022-01-01T00:00:00Z&onset-date=le2022-12-31T00:00:00Z\",\"patientAge\":{\"minAge\":\"18-0-0\"},\"criteria\":[],\"occurrence\":{\"n\":2,\"operator\":\">=\"},\"dateRangeList\":[],\"temporalConstraints\":[]},{\"_type\":\"nAmongM\",\"_id\":-1,\"isInclusive\":true,\"criteria\":[{\"_type\":\"basicResource\",\"_id\":3,\"isInclusive\":true,\"resourceType\":\"QuestionnaireResponse\",\"filterSolr\":\"fq=_filter:1\",\"filterFhir\":\"questionnaire.name=MAT&status=in-progress,completed&_filter=item.linkId eq F_1 and (item.answer.valueCoding eq \\\"A B\\\")\",\"criteria\":[],\"occurrence\":{\"n\":1,\"operator\":\">=\"},\"dateRangeList\":[],\"temporalConstraints\":[]},{\"_type\":\"basicResource\",\"_id\":4,\"isInclusive\":false,\"resourceType\":\"Observation\",\"filterSolr\":\"fq=status:Val\",\"filterFhir\":\"status=Valid%C3%A9&value-quantity=ge5,le9\",\"criteria\":[],\"occurrence\":{\"n\":1,\"operator\":\"=\"},\"dateRangeList\":[],\"temporalConstraints\":[]}],\"dateRangeList\":[],\"temporalConstraints\":[],\"nAmongMOptions\":{\"n\":1,\"operator\":\">=\"}}],\"dateRangeList\":[],\"temporalConstraints\":[{\"idList\":\"all\",\"constraintType\":\"sameEncounter\"},{\"idList\":[2,3],\"constraintType\":\"directChronologicalOrdering\",\"timeRelationMinDuration\":{\"days\":1},\"timeRelationMaxDuration\":{\"months\":6}}]},\"temporalConstraints\":[]}"`
	d5 = `{"instance_id":"C10","sourcePopulation":{"caresiteCohortList":[88123]},"resourceType":"Patient","_type":"request","request":{"_type":"basicResource","_id":0,"isInclusive":true,"resourceType":"Patient","filterSolr":"fq=active:true","filterFhir":"","criteria":[],"dateRangeList":[],"temporalConstraints":[]},"temporalConstraints":[]}`
)

func ptr[T any](v T) *T { return &v }

// body is the JSON form of cohort.md 18.2 around a definition.
func body(t *testing.T, definition, rest string) string {
	t.Helper()
	literal, err := json.Marshal(definition)
	require.NoError(t, err)
	return fmt.Sprintf(`{"input":{"cohortDefinitionName":"Created from C360 backend","cohortDefinitionSyntax":%s,%s}}`, literal, rest)
}

func TestWorkedExamples(t *testing.T) {
	t.Parallel()
	var definition3 string
	require.NoError(t, json.Unmarshal([]byte(d3), &definition3))
	for name, c := range map[string]struct {
		query      Query
		fqs        []string
		definition string
		rest       string
		asked      []string
	}{
		"26.1 count with details": {
			Query{Serialized: q1, Mode: ModeCount, InstanceID: "D1", Owner: "1234567", StageDetails: "all"},
			[]string{"fq=gender:f&fq=active:true"}, fmt.Sprintf(d1, "D1", 4012),
			`"ownerEntityId":"1234567","mode":"count","cohortUuid":"D1","modeOptions":{"sampling":null,"details":"all"}`,
			[]string{"/fhir/Patient/$query?active=true&gender=f&age-day=ge0&age-day=le130"}},
		"26.2 global estimate": {
			Query{Serialized: q1, Mode: ModeCountAll, InstanceID: "DG", Owner: "1234567"},
			[]string{"fq=gender:f&fq=active:true"}, fmt.Sprintf(d1, "DG", 100),
			`"ownerEntityId":"1234567","mode":"count_all","cohortUuid":"DG"`, nil},
		"26.2 creation": {
			Query{Serialized: q1, Mode: ModeCreate, InstanceID: "C1", Owner: "1234567"},
			[]string{"fq=gender:f&fq=active:true"}, fmt.Sprintf(d1, "C1", 4012),
			`"ownerEntityId":"1234567","mode":"create","cohortUuid":"C1"`, nil},
		"26.3 complex": {
			Query{Serialized: q3, Mode: ModeCount, InstanceID: "D2", Owner: "1234567", StageDetails: "ratio"},
			[]string{"fq=active:true", "fq=code:E11&fq=onset:[2022-01-01 TO 2022-12-31]", "fq=_filter:1", "fq=status:Val"}, definition3,
			`"ownerEntityId":"1234567","mode":"count","cohortUuid":"D2","modeOptions":{"sampling":null,"details":"ratio"}`,
			[]string{"/fhir/Patient/$query",
				"/fhir/Condition/$query?subject.active=true&code=https%3A%2F%2Fsmt.esante.gouv.fr%2Fterminologie-cim-10%2F%7CE11&onset-date=ge2022-01-01T00%3A00%3A00Z&onset-date=le2022-12-31T00%3A00%3A00Z",
				"/fhir/QuestionnaireResponse/$query?questionnaire.name=MAT&status=in-progress%2Ccompleted&_filter=item.linkId+eq+F_1+and+%28item.answer.valueCoding+eq+%22A+B%22%29",
				"/fhir/Observation/$query?status=Valid%C3%A9&value-quantity=ge5%2Cle9"}},
		"26.4 study": {
			Query{Serialized: q1, Mode: ModeCountWithDetails, InstanceID: "F1", Owner: "1234567"},
			[]string{"fq=gender:f&fq=active:true"}, fmt.Sprintf(d1, "F1", 100),
			`"ownerEntityId":"1234567","mode":"count_with_details","cohortUuid":"F1","callbackPath":"/cohort/feasibility-studies/F1/"`, nil},
		"26.5 sample": {
			Query{Serialized: SampleQuery("88123"), Mode: ModeCreate, InstanceID: "C10", Owner: "1234567", Sampling: ptr(0.3)},
			[]string{"fq=active:true"}, d5,
			`"ownerEntityId":"1234567","mode":"create","cohortUuid":"C10","modeOptions":{"sampling":0.3,"details":null}`,
			[]string{"/fhir/Patient/$query"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, TranslatorConfig{UseSolr: true})
			b.fqs = c.fqs
			got, err := b.translator.Translate(t.Context(), c.query)
			require.NoError(t, err)
			require.Equal(t, c.definition, got.Definition)
			require.JSONEq(t, body(t, c.definition, c.rest), got.Job.Body)
			require.Equal(t, c.query.Mode, got.Job.Mode)
			if c.asked != nil {
				require.Equal(t, c.asked, b.uris())
			}
		})
	}
}

func TestVirtualCohortJob(t *testing.T) {
	t.Parallel()
	b := setup(t, TranslatorConfig{UseSolr: true})
	got, err := b.translator.Translate(t.Context(), Query{Serialized: VirtualCohortQuery("12", []string{"13", "14"}), Mode: ModeCreate, Owner: "admin",
		CallbackPath: "/fhir-perimeters/12/", ExistingCohortID: ptr(int64(88))})
	require.NoError(t, err)
	definition := `{"sourcePopulation":{"caresiteCohortList":[]},"_type":"request","request":{"_type":"andGroup","_id":0,"isInclusive":true,"criteria":[{"_type":"basicResource","_id":1,"isInclusive":true,"resourceType":"Encounter","filterSolr":"fq=x","filterFhir":"service-provider=12,13,14",` + tail + `}],"dateRangeList":[],"temporalConstraints":[]},"temporalConstraints":[]}`
	require.Equal(t, definition, got.Definition)
	require.JSONEq(t, body(t, definition, `"ownerEntityId":"admin","mode":"create","callbackPath":"/fhir-perimeters/12/","existingCohortId":88`), got.Job.Body)
	require.Equal(t, []string{"/fhir/Encounter/$query?service-provider=12%2C13%2C14"}, b.uris())
	require.NotContains(t, b.asked[0].Header, "Authorization")
}

func TestBodyIsOneLineOfASCII(t *testing.T) {
	t.Parallel()
	b := setup(t, TranslatorConfig{})
	got, err := b.translator.Translate(t.Context(), Query{Serialized: `{"cohortName":"é😀\n\u007f","sourcePopulation":{}}`, Mode: ModeCount, Owner: `o"wn@er#1`, InstanceID: "D1"})
	require.NoError(t, err)
	require.Equal(t, `{"input":{"cohortDefinitionName":"Created from C360 backend","cohortDefinitionSyntax":"{\"instance_id\":\"D1\",\"cohortName\":\"\u00e9\ud83d\ude00\\n\\u007f\",\"sourcePopulation\":{\"caresiteCohortList\":[]},\"temporalConstraints\":[]}","ownerEntityId":"o\"wn@er#1","mode":"count","cohortUuid":"D1"}}`, got.Job.Body)
}

func TestSamplingOutOfRange(t *testing.T) {
	t.Parallel()
	b := setup(t, TranslatorConfig{})
	for _, ratio := range []float64{0, -1, 1.5, math.NaN(), math.Inf(1)} {
		_, err := b.translator.Translate(t.Context(), Query{Serialized: SampleQuery("1"), Mode: ModeCreate, Sampling: &ratio})
		require.EqualError(t, err, "The sampling ratio must be between 0 and 1.")
	}
	for ratio, want := range map[float64]string{0.0001: "0.0001", 0.9999: "0.9999", 1: "1", 1e-9: "0.000000001"} {
		got, err := b.translator.Translate(t.Context(), Query{Serialized: SampleQuery("1"), Mode: ModeCreate, Sampling: &ratio})
		require.NoError(t, err)
		require.Contains(t, got.Job.Body, `"sampling":`+want+`,`)
	}
}

// cohort.md 22.1: stored with the spacing that existing rows have.
func TestSubsetQuery(t *testing.T) {
	t.Parallel()
	require.Equal(t, `{"_type": "request", "resourceType": "DocumentReference", "sourcePopulation": {"caresiteCohortList": ["88123"]}, "request": {"_id": 0, "_type": "basicResource", "isInclusive": true, "filterFhir": "a=\"\u00e9\"&b=1", "resourceType": "DocumentReference"}}`,
		SubsetQuery("DocumentReference", "88123", `a="é"&b=1`))
	require.JSONEq(t, `{"_type":"request","resourceType":"Patient","sourcePopulation":{"caresiteCohortList":["7"]},"request":{"_id":0,"_type":"basicResource","isInclusive":true,"filterFhir":"","resourceType":"Patient"}}`, SampleQuery("7"))
}
