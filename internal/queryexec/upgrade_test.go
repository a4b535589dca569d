package queryexec

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The pinned cases of the rules, on a step of the test's own (schema.md 11, 1 to 5).
func TestStepRewritesQueries(t *testing.T) {
	t.Parallel()
	s := step{to: "2", from: []string{"1"}, params: map[string]paramRules{
		"A": {rename: map[string]string{"SomeFilterA": "SomeFilterB"}, value: map[string]func(string) string{
			"SomeFilterV": func(string) string { return "new" }}},
		"B": {missing: []param{{"x", "1"}, {"y", "2"}}},
	}}
	for name, tt := range map[string]struct {
		in, want string
		changed  bool
		err      error
	}{
		"RenamesAndLeavesDoubleSignsAlone": {changed: true,
			in:   `{"_type":"request","request":{"_type":"basicResource","resourceType":"A","filterFhir":"SomeFilterA=some query && true&SomeFilterC=SomeValueC"}}`,
			want: `{"_type": "request", "request": {"_type": "basicResource", "resourceType": "A", "filterFhir": "SomeFilterB=some query && true&SomeFilterC=SomeValueC"}}`},
		"LeavesSingleSignsAlone": {changed: true,
			in:   `{"_type":"resource","resourceType":"A","fhirFilter":"SomeFilterA=a & b & c&&z=1"}`,
			want: `{"_type": "resource", "resourceType": "A", "fhirFilter": "SomeFilterB=a & b & c&z=1"}`},
		"SplitsAtTheFirstSign": {changed: true,
			in:   `{"_type":"resource","resourceType":"A","fhirFilter":"SomeFilterA=http://x?a=b|c"}`,
			want: `{"_type": "resource", "resourceType": "A", "fhirFilter": "SomeFilterB=http://x?a=b|c"}`},
		"MapsValuesByTheOldName": {changed: true,
			in:   `{"_type":"resource","resourceType":"A","fhirFilter":"SomeFilterV=old"}`,
			want: `{"_type": "resource", "resourceType": "A", "fhirFilter": "SomeFilterV=new"}`},
		"AppendsOnlyWhatIsMissing": {changed: true,
			in:   `{"_type":"resource","resourceType":"B","fhirFilter":"y=5"}`,
			want: `{"_type": "resource", "resourceType": "B", "fhirFilter": "y=5&x=1"}`},
		"FillsAnEmptyFilter": {changed: true,
			in:   `{"_type":"request","request":{"_type":"basicResource","resourceType":"B"}}`,
			want: `{"_type": "request", "request": {"_type": "basicResource", "resourceType": "B", "filterFhir": "x=1&y=2"}}`},
		"ChangesEveryChildOfAJoin": {changed: true,
			in: `{"_type":"InnerJoin","child":[{"resourceType":"A","fhirFilter":"SomeFilterA=1"},{"_type":"InnerJoin","child":[{"resourceType":"A","fhirFilter":"SomeFilterA=2"}]},
				{"resourceType":"A","fhirFilter":"SomeFilterA=3"}]}`,
			want: `{"_type": "InnerJoin", "child": [{"resourceType": "A", "fhirFilter": "SomeFilterB=1"}, {"_type": "InnerJoin", "child": [{"resourceType": "A", "fhirFilter": "SomeFilterB=2"}]}, {"resourceType": "A", "fhirFilter": "SomeFilterB=3"}]}`},
		"WalksGroups": {changed: true,
			in:   `{"_type":"request","request":{"_type":"andGroup","criteria":[{"_type":"orGroup","criteria":[{"_type":"basicResource","resourceType":"A","filterFhir":"SomeFilterA=1","criteria":[]}]}]}}`,
			want: `{"_type": "request", "request": {"_type": "andGroup", "criteria": [{"_type": "orGroup", "criteria": [{"_type": "basicResource", "resourceType": "A", "filterFhir": "SomeFilterB=1", "criteria": []}]}]}}`},
		"LeavesOtherResources": {
			in:   `{"_type":"request","request":{"_type":"basicResource","resourceType":"C","filterFhir":"no sign at all"}}`,
			want: `{"_type": "request", "request": {"_type": "basicResource", "resourceType": "C", "filterFhir": "no sign at all"}}`},
		"TakesAPopulationAlone":      {in: `{"_type":"request"}`, want: `{"_type": "request"}`},
		"RefusesAParameterWithout=":  {in: `{"_type":"resource","resourceType":"A","fhirFilter":"a&b=1"}`, err: errNoValue},
		"RefusesAnUnknownType":       {in: `{"_type":"else"}`, err: errNoQuery},
		"RefusesNoType":              {in: `{}`, err: errNoQuery},
		"RefusesAJoinOfNothing":      {in: `{"_type":"InnerJoin"}`, err: errNoQuery},
		"RefusesWhatIsNoCriterion":   {in: `{"_type":"request","request":{"_type":"andGroup","criteria":[5]}}`, err: errNoQuery},
		"RefusesACriterionOfNothing": {in: `{"_type":"request","request":{"_type":"basicResource"}}`, err: errNoFilter},
		"RefusesAFilterThatIsNoText": {in: `{"_type":"resource","resourceType":"A","fhirFilter":["a=1"]}`, err: errNoFilter},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			document, err := parseDocument(tt.in)
			require.NoError(t, err)
			changed, err := s.query(document.(*object))
			require.ErrorIs(t, err, tt.err)
			require.Equal(t, tt.changed, changed)
			if tt.err == nil {
				w := writer{ascii: true, spaced: true}
				w.value(document)
				require.Equal(t, tt.want, w.String())
			}
		})
	}
}

func TestUpgradeQuery(t *testing.T) {
	t.Parallel()
	// criterion is a document of a version with one criterion, whose keys behind the resource are given.
	criterion := func(version, resource, rest string) string {
		return `{"version": "` + version + `", "_type": "request", "request": {"_type": "basicResource", "resourceType": "` + resource + `"` + rest + `}}`
	}
	const either = `%28recorded-date%20gt%202020-01-01%20and%20recorded-date%20lt%202020-01-02%29%20or%20not%20%28recorded-date%20eq%20%22%2A%22%29`
	const visit = `%28encounter.period-start%20gt%202020-01-01%20and%20encounter.period-start%20lt%202020-01-02%29%20or%20not%20%28encounter.period-start%20eq%20%22%2A%22%29`
	const days = `"minDate":"2020-01-01","maxDate":"2020-01-02"`
	for name, tt := range map[string]struct {
		in, to, want string
		same         bool // nothing but the version
		err          error
	}{
		"AddsAValueToObservations": {to: "v1.4.5", in: criterion("v1.4.4", "Observation", `, "filterFhir": "code=a"`),
			want: criterion("v1.4.5", "Observation", `, "filterFhir": "code=a&value-quantity=ge0,le0"`)},
		"KeepsAValueOfObservations": {to: "v1.4.5", same: true, in: criterion("v1.4.4", "Observation", `, "filterFhir": "value-quantity=ge3"`),
			want: criterion("v1.4.5", "Observation", `, "filterFhir": "value-quantity=ge3"`)},
		"DatesThatMayBeUnknown": {to: "v1.5.0", in: criterion("v1.4.5", "Condition", `,"dateRangeList":[{`+days+`,"dateIsNotNull":true}]`),
			want: criterion("v1.5.0", "Condition", `, "filterFhir": "_filter=`+either+`"`)},
		"DatesAreAddedToTheFilter": {to: "v1.5.0", in: criterion("v1.4.5", "Condition", `,"dateRangeList":[{`+days+`}],"filterFhir":"SomeFilterA=x"`),
			want: criterion("v1.5.0", "Condition", `, "filterFhir": "SomeFilterA=x&_filter=`+either+`"`)},
		"NoDates": {to: "v1.5.0", same: true, in: criterion("v1.4.5", "Condition", `,"filterFhir":"SomeFilterA=x","dateRangeList":[]`),
			want: criterion("v1.5.0", "Condition", `, "filterFhir": "SomeFilterA=x", "dateRangeList": []`)},
		"OneBound": {to: "v1.5.0", in: criterion("v1.4.5", "Condition", `,"filterFhir":"a=b","dateRangeList":[{"minDate":"2020-01-01","maxDate":null,"dateIsNotNull":true}]`),
			want: criterion("v1.5.0", "Condition", `, "filterFhir": "a=b&_filter=%28recorded-date%20gt%202020-01-01%29%20or%20not%20%28recorded-date%20eq%20%22%2A%22%29"`)},
		"KnownDatesAndThoseOfTheEncounter": {to: "v1.5.0",
			in:   criterion("v1.4.5", "Condition", `,"filterFhir":"a=b","dateRangeList":[{`+days+`,"dateIsNotNull":false}],"encounterDateRange":{`+days+`}`),
			want: criterion("v1.5.0", "Condition", `, "filterFhir": "a=b&recorded-date=gt2020-01-01&recorded-date=lt2020-01-02&_filter=`+visit+`"`)},
		"AnAdministrationHasAContext": {to: "v1.5.0", in: criterion("v1.4.5", "MedicationAdministration", `,"encounterDateRange":{"minDate":"2020-01-01","dateIsNotNull":false}`),
			want: criterion("v1.5.0", "MedicationAdministration", `, "filterFhir": "context.period-start=gt2020-01-01"`)},
		"PatientsHaveNoDate": {to: "v1.5.0", same: true, in: criterion("v1.4.5", "Patient", `,"dateRangeList":[{`+days+`}]`),
			want: criterion("v1.5.0", "Patient", `, "dateRangeList": [{"minDate": "2020-01-01", "maxDate": "2020-01-02"}]`)},
		"UnreadableDates": {to: "v1.5.0", in: criterion("v1.4.5", "Condition", `,"dateRangeList":[{"minDate":5}]`), err: errNoDates},
		"NoRange":         {to: "v1.5.0", in: criterion("v1.4.5", "Condition", `,"dateRangeList":["2020-01-01"]`), err: errNoDates},
		"EncountersOwnDates": {to: "v1.5.1", in: criterion("v1.5.0", "Encounter", `,"filterFhir":"_filter=(encounter.period-start gt 2020)&encounter.x=1"`),
			want: criterion("v1.5.1", "Encounter", `, "filterFhir": "_filter=(period-start gt 2020)&encounter.x=1"`)},
		"AgeAtTheBeginningOfAVisit": {to: "v1.6.0", in: criterion("v1.5.0", "Encounter", `,"filterFhir":"end-age-visit=ge428"`),
			want: criterion("v1.6.0", "Encounter", `, "filterFhir": "start-age-visit=ge428"`)},
		"MedicationsHaveCodes": {to: "v1.6.1", in: criterion("v1.6.0", "MedicationRequest", `,"filterFhir":"medication=a|b,c"`),
			want: criterion("v1.6.1", "MedicationRequest", `, "filterFhir": "code=a|b,c"`)},
		"TheWholeWay": {to: "v1.6.1",
			in:   criterion("v1.4.4", "MedicationAdministration", `,"filterFhir":"medication=é","dateRangeList":[{"maxDate":"2020-01-02","dateIsNotNull":false}]`),
			want: criterion("v1.6.1", "MedicationAdministration", `, "filterFhir": "code=\u00e9&effective-time=lt2020-01-02"`)},
		"ThereAlready":  {to: "v1.6.1", same: true, in: criterion("v1.6.1", "X", `,"a":1`), want: criterion("v1.6.1", "X", `,"a":1`)},
		"TooNew":        {to: "v1.5.0", in: criterion("v1.6.1", "X", ``), err: ErrNoWay},
		"TooOld":        {to: "v1.6.1", in: criterion("v1.4.0", "X", ``), err: ErrNoWay},
		"NoVersion":     {to: "v1.6.1", in: `{"_type":"request"}`, err: ErrNoWay},
		"NotJSON":       {to: "v1.6.1", in: `{`, err: errNoJSON},
		"NotAnObject":   {to: "v1.6.1", in: `[]`, err: errNoObject},
		"NotAQuery":     {to: "v1.6.1", in: `{"version":"v1.6.0"}`, err: errNoQuery},
		"NoSuchVersion": {to: "v9", in: criterion("v1.6.0", "X", ``), err: ErrNoWay},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, err := UpgradeQuery(tt.in, tt.to)
			require.ErrorIs(t, err, tt.err)
			if tt.err == nil {
				require.Equal(t, tt.want, u.Text)
				require.Equal(t, !tt.same, u.Rewritten)
			}
		})
	}
}

func TestUpgradeFilter(t *testing.T) {
	t.Parallel()
	u, err := UpgradeFilter("Encounter", "end-age-visit=ge1&_filter=(encounter.period-end gt 2020)", "v1.4.4", "v1.6.1")
	require.NoError(t, err)
	require.Equal(t, Upgrade{From: "v1.4.4", To: "v1.6.1", Text: "start-age-visit=ge1&_filter=(period-end gt 2020)", Rewritten: true}, u)
	u, err = UpgradeFilter("Patient", "active=true", "v1.4.4", "v1.6.1")
	require.NoError(t, err)
	require.False(t, u.Rewritten)
	_, err = UpgradeFilter("Encounter", "nothing", "v1.4.4", "v1.6.1")
	require.ErrorIs(t, err, errNoValue)
	_, err = UpgradeFilter("Encounter", "a=b", "v2", "v1.6.1")
	require.ErrorIs(t, err, ErrNoWay)
}

func TestPopulation(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		`{"sourcePopulation":{"caresiteCohortList":["4012","7"]}}`: {"4012", "7"},
		`{"sourcePopulation":{"caresiteCohortList":[4012]}}`:       {"4012"},
		`{"sourcePopulation":{"caresiteCohortList":["x"]}}`:        nil,
		`{"sourcePopulation":{"caresiteCohortList":[]}}`:           nil,
		`{"sourcePopulation":{}}`:                                  nil,
		`{"sourcePopulation":[]}`:                                  nil,
		`{}`:                                                       nil,
		`[]`:                                                       nil,
		`{`:                                                        nil,
	} {
		require.Equal(t, want, Population(text), text)
	}
}
