package queryexec

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/fhir"
)

// wrap makes a document of criteria, as the UI does.
func wrap(criteria string) string {
	return `{"_type":"request","sourcePopulation":{"caresiteCohortList":["4012"]},"request":{"_id":0,"isInclusive":true,"_type":"andGroup","criteria":[` + criteria + `]}}`
}

// wrapped is what becomes of wrap's document around translated criteria.
func wrapped(criteria string) string {
	return `{"instance_id":"D1","sourcePopulation":{"caresiteCohortList":[4012]},"_type":"request","request":{"_type":"andGroup","_id":0,"isInclusive":true,"criteria":[` + criteria + `],"dateRangeList":[],"temporalConstraints":[]},"temporalConstraints":[]}`
}

const tail = `"criteria":[],"dateRangeList":[],"temporalConstraints":[]`

// One criterion, in and out (cases/cohort/query/criteria.yaml and groups.yaml; cohort.md 16).
func TestTranslateCriteria(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, out string }{
		"empty group":          {``, ``},
		"nothing but brackets": {`{}`, `{` + tail + `}`},
		"everything": {
			`{"isInclusive":true,"_id":1,"_type":"basicResource","resourceType":"Condition","encounterDateRange":{"maxDate":"2019-12-31T00:00:00Z","minDate":"2019-01-01T00:00:00Z"},"dateRangeList":[{"minDate":"2021-01-01"},{"maxDate":"2022-01-01","datePreference":["event_date"]}],"dateRange":{"minDate":"2020-01-01","maxDate":null,"dateIsNotNull":false},"occurrence":{"sameDay":false,"timeDelayMax":"2d","n":2,"operator":">=","sameEncounter":true,"timeDelayMin":"1d"},"patientAge":{"datePreference":["event_date","encounter_start_date"],"minAge":"18-0-0","maxAge":"65-11-30","dateIsNotNull":true},"filterFhir":"code=1","name":"gone"}`,
			`{"_type":"basicResource","_id":1,"isInclusive":true,"resourceType":"Condition","filterSolr":"fq=x","filterFhir":"code=1","patientAge":{"minAge":"18-0-0","maxAge":"65-11-30","dateIsNotNull":true,"datePreference":["event_date","encounter_start_date"]},"criteria":[],"occurrence":{"n":2,"operator":">=","timeDelayMin":"1d","timeDelayMax":"2d","sameEncounter":true,"sameDay":false},"dateRange":{"minDate":"2020-01-01","dateIsNotNull":false},"dateRangeList":[{"minDate":"2021-01-01"},{"maxDate":"2022-01-01","datePreference":["event_date"]}],"encounterDateRange":{"minDate":"2019-01-01T00:00:00Z","maxDate":"2019-12-31T00:00:00Z"},"temporalConstraints":[]}`,
		},
		"loose types": {
			`{"_type":"basicResource","_id":" 5 ","isInclusive":"Yes","resourceType":"condition","filterFhir":"","occurrence":{"n":"03","operator":"=","sameDay":0,"sameEncounter":1.0},"filterSolr":"fq=old"}`,
			`{"_type":"basicResource","_id":5,"isInclusive":true,"resourceType":"Condition","filterSolr":"fq=x","filterFhir":"","criteria":[],"occurrence":{"n":3,"operator":"=","sameEncounter":true,"sameDay":false},"dateRangeList":[],"temporalConstraints":[]}`,
		},
		"whole floats":      {`{"_id":7.0}`, `{"_id":7,` + tail + `}`},
		"no filter":         {`{"_type":"basicResource","resourceType":"PATIENT"}`, `{"_type":"basicResource","resourceType":"Patient","filterSolr":"fq=x",` + tail + `}`},
		"repeated keys":     {`{"_id":1,"_id":2}`, `{"_id":2,` + tail + `}`},
		"text is no syntax": {`{"_type":"basicResource","resourceType":"Patient","filterFhir":"a=[true]&b=[\"All\"]"}`, `{"_type":"basicResource","resourceType":"Patient","filterSolr":"fq=x","filterFhir":"a=[true]&b=[\"All\"]",` + tail + `}`},
		"all kinds of text": {`{"_type":"basicResource","resourceType":"Patient","filterFhir":"é<&>\u2028\ud83d\ude00\u0001\"\\\n\t"}`, `{"_type":"basicResource","resourceType":"Patient","filterSolr":"fq=x","filterFhir":"é<&>` + "\u2028😀" + `\u0001\"\\\n\t",` + tail + `}`},
		"unknown keys travel": {
			`{"_type":"basicResource","_id":1,"resourceType":"Observation","uniqueFields":[{"name":"x","operator":">=","n":2}],"filterFhir":"","nullAvailableFieldList":null,"big":1e400,"deep":{"b":[1.50,null],"a":{}}}`,
			`{"_type":"basicResource","_id":1,"resourceType":"Observation","filterSolr":"fq=x","filterFhir":"",` + tail + `,"uniqueFields":[{"name":"x","operator":">=","n":2}],"nullAvailableFieldList":null,"big":1e400,"deep":{"b":[1.50,null],"a":{}}}`,
		},
		"n among m": {
			`{"_type":"nAmongM","_id":-1,"isInclusive":true,"nAmongMOptions":{"operator":">=","n":1,"timeDelayMin":"1d","timeDelayMax":null},"criteria":[{"_type":"orGroup","_id":-2,"isInclusive":false},{"_type":"andGroup","_id":-3,"isInclusive":true,"criteria":[{"_type":"basicResource","_id":9,"isInclusive":false,"resourceType":"Claim"}]}]}`,
			`{"_type":"nAmongM","_id":-1,"isInclusive":true,"criteria":[{"_type":"orGroup","_id":-2,"isInclusive":false,` + tail + `},{"_type":"andGroup","_id":-3,"isInclusive":true,"criteria":[{"_type":"basicResource","_id":9,"isInclusive":false,"resourceType":"Claim","filterSolr":"fq=x",` + tail + `}],"dateRangeList":[],"temporalConstraints":[]}],"dateRangeList":[],"temporalConstraints":[],"nAmongMOptions":{"n":1,"operator":">="}}`,
		},
		"constraints": {
			`{"temporalConstraints":[{"idList":["All"],"constraintType":"sameEncounter","id":3},{"timeRelationMaxDuration":{"years":1,"months":"6","days":0,"hours":1,"minutes":2,"seconds":3},"idList":[1,2],"timeRelationMinDuration":{"days":1,"hours":null}},{"dateIsNotNullList":[true],"filteredCriteriaIdList":["All"]},{"dateIsNotNullList":[false],"filteredCriteriaIdList":[1]},{"idList":["All",1],"dateIsNotNullList":[{"_id":1,"dateIsNotNull":true}],"occurrenceChoiceList":[null],"datePreferenceList":[true]}]}`,
			`{"criteria":[],"dateRangeList":[],"temporalConstraints":[{"idList":"all","constraintType":"sameEncounter"},{"idList":[1,2],"timeRelationMinDuration":{"days":1},"timeRelationMaxDuration":{"years":1,"months":6,"days":0,"hours":1,"minutes":2,"seconds":3}},{"dateIsNotNullList":true,"filteredCriteriaIdList":"all"},{"dateIsNotNullList":false,"filteredCriteriaIdList":[1]},{"idList":["All",1],"datePreferenceList":[true],"occurrenceChoiceList":[null],"dateIsNotNullList":[{"_id":1,"dateIsNotNull":true}]}]}`,
		},
		"filters that nobody checked stay here": {`{"_type":"andGroup","filterSolr":"fq=*:*&shards=evil"}`, `{"_type":"andGroup",` + tail + `}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, TranslatorConfig{UseSolr: true})
			got, err := b.translate(t, wrap(c.in))
			require.NoError(t, err)
			require.Equal(t, wrapped(c.out), got.Definition)
		})
	}
}

func TestTranslateEveryResource(t *testing.T) {
	t.Parallel()
	for _, resource := range resourceTypes {
		b := setup(t, TranslatorConfig{UseSolr: true})
		got, err := b.translate(t, wrap(`{"_type":"basicResource","_id":1,"isInclusive":false,"resourceType":"`+strings.ToUpper(resource)+`","filterFhir":"x=1"}`))
		require.NoError(t, err)
		require.Contains(t, got.Definition, `"resourceType":"`+resource+`","filterSolr":"fq=x","filterFhir":"x=1"`)
		require.Equal(t, []string{"/fhir/" + resource + "/$query?x=1"}, b.uris())
	}
}

func TestTranslateTopLevel(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, out string }{
		"no request at all":  {`{"_type":"request","cohortName":"N","sourcePopulation":{"caresiteCohortList":["020010",7.0]}}`, `{"instance_id":"D1","cohortName":"N","sourcePopulation":{"caresiteCohortList":[20010,7]},"_type":"request","temporalConstraints":[]}`},
		"empty population":   {`{"sourcePopulation":{"providerCohortList":[1]}}`, `{"instance_id":"D1","sourcePopulation":{"caresiteCohortList":[]},"temporalConstraints":[]}`},
		"a single criterion": {`{"request":{"filterFhir":"type:not=a","resourceType":"DocumentReference","_type":"basicResource","isInclusive":true,"_id":0},"version":null,"resourceType":"documentreference","sourcePopulation":{"caresiteCohortList":[1]},"more":"x"}`, `{"instance_id":"D1","sourcePopulation":{"caresiteCohortList":[1]},"resourceType":"DocumentReference","request":{"_type":"basicResource","_id":0,"isInclusive":true,"resourceType":"DocumentReference","filterSolr":"fq=x","filterFhir":"type:not=a",` + tail + `},"temporalConstraints":[],"more":"x"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, TranslatorConfig{UseSolr: true})
			got, err := b.translate(t, c.in)
			require.NoError(t, err)
			require.Equal(t, c.out, got.Definition)
		})
	}
}

func TestTranslateWithoutSolr(t *testing.T) {
	t.Parallel()
	b := setup(t, TranslatorConfig{})
	got, err := b.translate(t, wrap(`{"_type":"basicResource","_id":1,"resourceType":"IPPList","filterFhir":"identifier.value=1,2","filterSolr":"fq=old"}`))
	require.NoError(t, err)
	require.Equal(t, wrapped(`{"_type":"basicResource","_id":1,"resourceType":"IPPList","filterFhir":"identifier.value=1,2",`+tail+`}`), got.Definition)
	require.Empty(t, b.uris())
	_, err = b.translate(t, wrap(`{"_type":"basicResource","_id":1}`))
	require.EqualError(t, err, "Criterion 1 has no resourceType.")
}

func TestTranslateListsOfPatients(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ filter, fq, solr, uri string }{
		"alone":               {"identifier.value=8001112223,8001112224", "fq=active:true", "fq=active:true&fq=identifier.value:(8001112223 8001112224)", "/fhir/Patient/$query"},
		"beside others":       {"a=1&identifier.value=x,y&family=z", "fq=f", "fq=f&fq=identifier.value:(x y)", "/fhir/Patient/$query?a=1&family=z"},
		"twice, with gaps":    {"identifier.value=1,, 2 &identifier.value=3", "fq=f", "fq=f&fq=identifier.value:(1 2 3)", "/fhir/Patient/$query"},
		"no fq":               {"identifier.value=1", "", "fq=identifier.value:(1)", "/fhir/Patient/$query"},
		"without identifiers": {"active=true", "fq=f", "fq=f", "/fhir/IPPList/$query?active=true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, TranslatorConfig{UseSolr: true})
			b.fqs = []string{c.fq}
			got, err := b.translate(t, wrap(`{"_type":"basicResource","resourceType":"IPPList","filterFhir":"`+c.filter+`"}`))
			require.NoError(t, err)
			require.Contains(t, got.Definition, `"resourceType":"IPPList","filterSolr":"`+c.solr+`","filterFhir":"`+c.filter+`"`)
			require.Equal(t, []string{c.uri}, b.uris())
		})
	}
	b := setup(t, TranslatorConfig{UseSolr: true})
	for _, filter := range []string{"identifier.value=", "identifier.value=1,*", "identifier.value=1) OR (2", "identifier.value=-1", "identifier.value=1%26x", "identifier.value=a|b"} {
		_, err := b.translate(t, wrap(`{"_type":"basicResource","_id":4,"resourceType":"IPPList","filterFhir":"`+filter+`"}`))
		var told *QueryError
		require.ErrorAs(t, err, &told, filter)
		require.Contains(t, told.Text, "Criterion 4", filter)
	}
	_, err := b.translate(t, wrap(`{"_type":"basicResource","_id":4,"resourceType":"IPPList"}`))
	require.ErrorContains(t, err, "without a list")
	require.Empty(t, b.uris())
}

func TestTranslateWithoutFq(t *testing.T) {
	t.Parallel()
	b := setup(t, TranslatorConfig{UseSolr: true})
	b.fqs = []string{""}
	got, err := b.translate(t, wrap(`{"_type":"basicResource","resourceType":"Patient","filterFhir":"a=1","filterSolr":"fq=old"}`))
	require.NoError(t, err)
	require.Equal(t, wrapped(`{"_type":"basicResource","resourceType":"Patient","filterFhir":"a=1",`+tail+`}`), got.Definition)
}

func TestTranslateRefuses(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"criteria":[`, 150) + strings.Repeat(`]}`, 150)
	for name, c := range map[string]struct{ in, want string }{
		"nothing":            {``, "not valid JSON"},
		"no JSON":            {`{"_type":`, "not valid JSON"},
		"two documents":      {`{} {}`, "not valid JSON"},
		"a list":             {`[]`, "must be an object"},
		"null":               {`null`, "must be an object"},
		"an instance":        {`{"instance_id":"x","sourcePopulation":{}}`, "instance_id: may not be given"},
		"no population":      {`{"_type":"request"}`, "sourcePopulation: is required"},
		"null population":    {`{"sourcePopulation":null}`, "sourcePopulation: may not be null"},
		"null care sites":    {`{"sourcePopulation":{"caresiteCohortList":null}}`, "sourcePopulation.caresiteCohortList: may not be null"},
		"odd care site":      {`{"sourcePopulation":{"caresiteCohortList":[1,"NORD"]}}`, "sourcePopulation.caresiteCohortList[1]: must be a whole number"},
		"null request":       {`{"sourcePopulation":{},"request":null}`, "request: may not be null"},
		"null constraints":   {`{"sourcePopulation":{},"temporalConstraints":null}`, "temporalConstraints: may not be null"},
		"other type":         {`{"sourcePopulation":{},"_type":"Request"}`, "_type: is not a known type (request, basicResource,"},
		"name no text":       {`{"sourcePopulation":{},"cohortName":5}`, "cohortName: must be a text"},
		"too deep":           {wrap(deep), "nested too deeply"},
		"far too deep":       {strings.Repeat("[", 1<<20), "nested too deeply"},
		"deep unknown":       {`{"sourcePopulation":{},"x":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}`, "nested too deeply"},
		"too long":           {`{"x":"` + strings.Repeat("x", maxDocument) + `"}`, "too large"},
		"too much":           {`{"x":[` + strings.Repeat("0,", maxValues) + `0]}`, "too large"},
		"criteria no list":   {wrap(`{"criteria":{}}`), "request.criteria[0].criteria: must be a list"},
		"criterion a number": {wrap(`5`), "request.criteria[0]: must be an object"},
		"null occurrence":    {wrap(`{"occurrence":null}`), "request.criteria[0].occurrence: may not be null"},
		"null n":             {wrap(`{"occurrence":{"n":null,"operator":">="}}`), "request.criteria[0].occurrence.n: may not be null"},
		"no n":               {wrap(`{"occurrence":{"operator":">="}}`), "occurrence.n: is required"},
		"no operator":        {wrap(`{"nAmongMOptions":{"n":1}}`), "nAmongMOptions.operator: is required"},
		"null filter":        {wrap(`{"filterFhir":null}`), "filterFhir: may not be null"},
		"null age":           {wrap(`{"patientAge":null}`), "patientAge: may not be null"},
		"age a number":       {wrap(`{"patientAge":{"minAge":18}}`), "patientAge.minAge: must be a text"},
		"dates no texts":     {wrap(`{"dateRangeList":[{"datePreference":["a",1]}]}`), "dateRangeList[0].datePreference[1]: must be a text"},
		"other resource":     {wrap(`{"resourceType":"Foo"}`), "resourceType: is not a known resource (Patient, Condition,"},
		"half an id":         {wrap(`{"_id":7.5}`), "_id: must be a whole number"},
		"a huge id":          {wrap(`{"_id":1e300}`), "_id: must be a whole number"},
		"an id of letters":   {wrap(`{"_id":"0x10"}`), "_id: must be a whole number"},
		"other group":        {wrap(`{"_type":"someGroup"}`), "_type: is not a known type"},
		"inclusive perhaps":  {wrap(`{"isInclusive":"perhaps"}`), "isInclusive: must be true or false"},
		"ids a text":         {wrap(`{"temporalConstraints":[{"idList":"All"}]}`), "temporalConstraints[0].idList: must be a list"},
		"no duration":        {wrap(`{"temporalConstraints":[{"timeRelationMinDuration":null}]}`), "timeRelationMinDuration: may not be null"},
		"no resource":        {wrap(`{"_type":"basicResource","_id":3,"filterFhir":"a=1"}`), "Criterion 3 has no resourceType."},
		"no resource, no id": {wrap(`{"_type":"basicResource"}`), "Criterion without _id has no resourceType."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, TranslatorConfig{UseSolr: true})
			_, err := b.translate(t, c.in)
			var told *QueryError
			require.ErrorAs(t, err, &told)
			require.Contains(t, told.Text, c.want)
			require.Empty(t, b.uris(), "a query that cannot be used asks nobody")
		})
	}
}

func TestTranslateTooManyCriteria(t *testing.T) {
	t.Parallel()
	b := setup(t, TranslatorConfig{UseSolr: true, MaxCriteria: 3})
	const one = `{"_type":"basicResource","resourceType":"Patient"}`
	_, err := b.translate(t, wrap(one+","+one+","+one))
	require.EqualError(t, err, "The query cannot be used: it has more than 3 criteria.")
	require.Empty(t, b.uris())
	_, err = b.translate(t, wrap(one+","+one))
	require.NoError(t, err)
	require.Len(t, b.uris(), 2)
}

func TestTranslateWholeInstitution(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{ModeCountAll, ModeCountWithDetails} {
		b := setup(t, TranslatorConfig{})
		ask := func(document string) (Translated, error) {
			return b.translator.Translate(t.Context(), Query{Serialized: document, Mode: mode})
		}
		for _, document := range []string{`{"sourcePopulation":{"caresiteCohortList":[7],"more":1}}`, `{}`} {
			got, err := ask(document)
			require.NoError(t, err)
			require.Equal(t, `{"sourcePopulation":{"caresiteCohortList":[100]},"temporalConstraints":[]}`, got.Definition)
			require.Equal(t, []int64{100}, got.Population)
		}
		for _, roots := range [][]string{nil, {"1", "2"}, {""}, {"x"}} {
			b.house.roots = roots
			_, err := ask(`{}`)
			var told *QueryError
			require.ErrorAs(t, err, &told)
		}
		b.house.err = errors.New("database down")
		_, err := ask(`{}`)
		require.ErrorIs(t, err, b.house.err)
		var told *QueryError
		require.NotErrorAs(t, err, &told, "our own trouble is nothing to tell a user")
	}
}

// 16.5: the flag changes nothing that is sent.
func TestTranslatePseudonymised(t *testing.T) {
	t.Parallel()
	b := setup(t, TranslatorConfig{UseSolr: true})
	b.house.nominates = map[string][]string{"alice": {"4012"}}
	document := wrap(`{"_type":"basicResource","resourceType":"DocumentReference","filterFhir":"a=1"}`)
	var definitions []string
	for owner, want := range map[string]bool{"alice": false, "dave": true, "": true} {
		got, err := b.translator.Translate(t.Context(), Query{Serialized: document, Mode: ModeCount, Owner: owner})
		require.NoError(t, err)
		require.Equal(t, want, got.Pseudonymised, owner)
		definitions = append(definitions, got.Definition)
	}
	require.Equal(t, definitions[0], definitions[1])
	require.Equal(t, definitions[1], definitions[2])
	got, err := b.translator.Translate(t.Context(), Query{Serialized: `{"sourcePopulation":{}}`, Mode: ModeCount, Owner: "alice"})
	require.NoError(t, err)
	require.True(t, got.Pseudonymised, "nobody's population")
}

func TestTranslatePassesTheUsersHeaders(t *testing.T) {
	t.Parallel()
	b := setup(t, TranslatorConfig{UseSolr: true})
	_, err := b.translator.Translate(t.Context(), Query{Serialized: wrap(`{"_type":"basicResource","resourceType":"Patient"}`), Mode: ModeCount,
		Auth: fhir.Auth{Authorization: "Bearer tok", Method: "OIDC"}})
	require.NoError(t, err)
	require.Equal(t, "Bearer tok", b.asked[0].Header.Get("Authorization"))
	require.Equal(t, "OIDC", b.asked[0].Header.Get("AuthorizationMethod"))
	require.Len(t, b.asked[0].Header.Get("X-Trace-Id"), 36)
}

func TestTranslateWhenTheServerFails(t *testing.T) {
	t.Parallel()
	document := wrap(`{"_type":"basicResource","_id":1,"resourceType":"Patient","filterFhir":"family=secret"},{"_type":"basicResource","_id":2,"resourceType":"IPPList","filterFhir":"identifier.value=secret"}`)
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"400":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) }, "Criterion 1 (Patient): The FHIR server refused the request (400 Bad Request)."},
		"401":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, "Criterion 1 (Patient): The FHIR server did not accept the credentials (401 Unauthorized)."},
		"no JSON": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "Criterion 1 (Patient): The FHIR server gave an answer that cannot be read."},
		"reset":   {reset, "Criterion 1 (Patient): The connection to the FHIR server broke."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, TranslatorConfig{UseSolr: true})
			b.handler = c.handler
			_, err := b.translate(t, document)
			require.EqualError(t, err, c.want)
			var reason *fhir.Error
			require.ErrorAs(t, err, &reason)
			require.Len(t, b.uris(), 1, "the first failure ends it")
		})
	}
}

func TestTranslateIsBoundedAsAWhole(t *testing.T) {
	t.Parallel()
	b := setup(t, TranslatorConfig{UseSolr: true, Timeout: 50 * time.Millisecond})
	b.handler = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	_, err := b.translate(t, wrap(`{"_type":"basicResource","resourceType":"Patient"}`))
	require.EqualError(t, err, "The FHIR server took too long to translate all criteria of the query.")
}

func TestTranslateCancelled(t *testing.T) {
	t.Parallel()
	b := setup(t, TranslatorConfig{UseSolr: true})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.translator.Translate(ctx, Query{Serialized: wrap(`{"_type":"basicResource","resourceType":"Patient"}`), Mode: ModeCount})
	require.ErrorIs(t, err, context.Canceled)
	var told *QueryError
	require.NotErrorAs(t, err, &told)
}

func TestNewTranslatorRefusesNonsense(t *testing.T) {
	t.Parallel()
	for _, build := range []func() (*Translator, error){
		func() (*Translator, error) { return NewTranslator(nil, TranslatorConfig{}, nil, &house{}) },
		func() (*Translator, error) { return NewTranslator(quiet(), TranslatorConfig{}, nil, nil) },
		func() (*Translator, error) {
			return NewTranslator(quiet(), TranslatorConfig{UseSolr: true}, nil, &house{})
		},
		func() (*Translator, error) {
			return NewTranslator(quiet(), TranslatorConfig{MaxCriteria: -1}, nil, &house{})
		},
	} {
		_, err := build()
		require.Error(t, err)
	}
	b := setup(t, TranslatorConfig{})
	_, err := b.translator.Translate(t.Context(), Query{Serialized: `{}`, Mode: "create_diff"})
	require.Error(t, err)
}

// FuzzTranslate: no text makes it panic, and what comes out is one JSON object that says the same when it goes in again.
func FuzzTranslate(f *testing.F) {
	for _, seed := range []string{``, `{}`, `null`, `[[[`, wrap(``), wrap(`{"_type":"basicResource","_id":"1","resourceType":"ipplist","filterFhir":"identifier.value=1,2&a=%zz"}`),
		q1, q3, SampleQuery("7"), SubsetQuery("DocumentReference", "7", `a="é"`), VirtualCohortQuery("3", []string{"4"}),
		wrap(`{"temporalConstraints":[{"idList":["All"],"dateIsNotNullList":[true]}],"uniqueFields":[1.0,null,"\u0000\ud800"]}`),
		`{"sourcePopulation":{"caresiteCohortList":[1e3,"007",true]},"request":{"occurrence":{"n":1e-400,"operator":""}}}`,
	} {
		f.Add(seed, uint8(0))
		f.Add(seed, uint8(3))
	}
	modes := []Mode{ModeCount, ModeCountAll, ModeCountWithDetails, ModeCreate}
	translator, err := NewTranslator(quiet(), TranslatorConfig{UseSolr: true}, echo{}, &house{roots: []string{"1"}})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, document string, mode uint8) {
		query := Query{Serialized: document, Mode: modes[int(mode)%len(modes)], Owner: document, StageDetails: document}
		got, err := translator.Translate(t.Context(), query)
		if err != nil {
			var told *QueryError
			require.ErrorAs(t, err, &told)
			return
		}
		var body struct {
			Input struct{ CohortDefinitionSyntax string }
		}
		require.NoError(t, json.Unmarshal([]byte(got.Job.Body), &body))
		require.Equal(t, got.Definition, body.Input.CohortDefinitionSyntax)
		require.True(t, json.Valid([]byte(got.Definition)))
		for i := range len(got.Job.Body) {
			require.True(t, got.Job.Body[i] >= ' ' && got.Job.Body[i] < 0x7f, "one line of ASCII")
		}
		if strings.Contains(got.Definition, `"all"`) || strings.Contains(got.Definition, `NotNullList":`) {
			return // these two are written in a form that is not read
		}
		query.Serialized = got.Definition
		again, err := translator.Translate(t.Context(), query)
		require.NoError(t, err)
		require.Equal(t, got.Definition, again.Definition)
	})
}

// echo translates a filter to itself: fuzzing needs no network.
type echo struct{}

func (echo) Translate(_ context.Context, resource, filter string, _ fhir.Auth) (fhir.Translation, error) {
	return fhir.Translation{Filters: []string{resource + "?" + fhir.EncodeFilter(filter)}}, nil
}
