package queryexec

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/fault"
)

func payload(t *testing.T, body string) Payload {
	t.Helper()
	p, err := ReadPayload([]byte(body))
	require.NoError(t, err)
	return p
}

// refusal is what a 400 shows: the text of a bare one, or the fields with their messages.
func refusal(t *testing.T, err error) string {
	t.Helper()
	var refused fault.Refused
	if errors.As(err, &refused) {
		require.Equal(t, 400, refused.Status)
		return fmt.Sprint(refused.Body)
	}
	var invalid *fault.Invalid
	require.ErrorAs(t, err, &invalid)
	return invalid.Error()
}

func TestReadPayload(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		``:                       "JSON parse error",
		`FINISHED`:               "JSON parse error",
		`{"request_job_status":`: "JSON parse error",
		`{} {}`:                  "JSON parse error",
		strings.Repeat("[", 1e6): "JSON parse error",
		`[]`:                     "Expected a dictionary",
		`"FINISHED"`:             "Expected a dictionary",
		`null`:                   "Expected a dictionary",
	} {
		_, err := ReadPayload([]byte(body))
		require.Contains(t, refusal(t, err), want)
	}
	p, err := PayloadOf(map[string]any{"request_job_status": "FINISHED", "count": json.Number("7"), "extra": nil})
	require.NoError(t, err)
	report, err := p.Count(false)
	require.NoError(t, err)
	require.Equal(t, CountReport{Status: StatusFinished, Count: ptr(int64(7))}, report)
	_, err = PayloadOf(map[string]any{"x": func() {}})
	require.Error(t, err)
}

func TestStatusWords(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]Status{"KILLED": StatusCancelled, "FINISHED": StatusFinished, "running": StatusStarted,
		"Started": StatusStarted, "ERROR": StatusFailed, "UNKNOWN": StatusUnknown, "PENDING": StatusPending, "long_pending": StatusLongPending} {
		got, ok := ParseStatus(word)
		require.True(t, ok, word)
		require.Equal(t, want, got)
	}
	for _, word := range []string{"", "failed", "cancelled", "new", "FINISHED ", "created"} {
		_, ok := ParseStatus(word)
		require.False(t, ok, word)
	}
}

// cohort.md 8.4, 9.4, 12.2: the same refusal for every kind.
func TestInvalidStatus(t *testing.T) {
	t.Parallel()
	for body, shown := range map[string]string{
		`{"request_job_status":"WRONG","count":"3"}`:               "WRONG",
		`{"request_job_status":"failed","message":"x"}`:            "failed",
		`{"request_job_status":""}`:                                "",
		`{"request_job_status":null}`:                              "None",
		`{"request_job_status":5}`:                                 "5",
		`{"request_job_status":["FINISHED"]}`:                      `["FINISHED"]`,
		`{"request_job_status":"` + strings.Repeat("é", 99) + `"}`: strings.Repeat("é", 50) + "…",
	} {
		p := payload(t, body)
		_, count := p.Count(false)
		_, cohort := p.Cohort()
		_, study := p.Study()
		for _, err := range []error{count, cohort, study} {
			var invalid *InvalidStatus
			require.ErrorAs(t, err, &invalid, body)
			require.Equal(t, "Bad Request: Invalid job status: "+shown, invalid.Text)
			require.Equal(t, invalid.Text, refusal(t, err))
		}
	}
	_, err := payload(t, `{"count":"3","extra":{}}`).Count(false)
	require.Equal(t, "Bad Request: Invalid job status: None", refusal(t, err))
	_, err = payload(t, `{}`).Study()
	require.Equal(t, "Bad Request: Invalid job status: None", refusal(t, err))
}

func TestCountReports(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body     string
		estimate bool
		want     CountReport
		fault    string
	}{
		"finished":              {body: `{"request_job_status":"FINISHED","count":"9999","extra":{}}`, want: CountReport{Status: StatusFinished, Count: ptr(int64(9999)), Extra: json.RawMessage(`{}`)}},
		"a number, no extra":    {body: `{"request_job_status":"finished","count":17}`, want: CountReport{Status: StatusFinished, Count: ptr(int64(17))}},
		"nobody":                {body: `{"request_job_status":"FINISHED","count":"0","extra":null}`, want: CountReport{Status: StatusFinished, Count: ptr(int64(0))}},
		"details":               {body: `{"request_job_status":"FINISHED","count":" 8.0 ","extra": {"criteria_ratio_-1":"NaN","a":"0.75"} }`, want: CountReport{Status: StatusFinished, Count: ptr(int64(8)), Extra: json.RawMessage(`{"criteria_ratio_-1":"NaN","a":"0.75"}`)}},
		"not an estimate":       {body: `{"request_job_status":"FINISHED","minimum":"x","maximum":"9","count":"5","extra":{},"group.id":"77"}`, want: CountReport{Status: StatusFinished, Count: ptr(int64(5)), Extra: json.RawMessage(`{}`)}},
		"estimate":              {body: `{"request_job_status":"FINISHED","minimum":"100","maximum":200,"count":"150"}`, estimate: true, want: CountReport{Status: StatusFinished, Count: ptr(int64(150)), Minimum: ptr(int64(100)), Maximum: ptr(int64(200))}},
		"estimate without":      {body: `{"request_job_status":"FINISHED","count":"150"}`, estimate: true, want: CountReport{Status: StatusFinished, Count: ptr(int64(150))}},
		"failed":                {body: `{"request_job_status":"ERROR","message":"key not found: Claim","count":"x"}`, want: CountReport{Status: StatusFailed, Message: "key not found: Claim"}},
		"failed without a word": {body: `{"request_job_status":"ERROR","message":""}`, want: CountReport{Status: StatusFailed}},
		"failed, no message":    {body: `{"request_job_status":"ERROR"}`, want: CountReport{Status: StatusFailed}},
		"failed, odd message":   {body: `{"request_job_status":"ERROR","message":{"a":1}}`, want: CountReport{Status: StatusFailed}},
		"killed":                {body: `{"request_job_status":"KILLED","message":"cancelled part of cancelled job group x"}`, want: CountReport{Status: StatusCancelled}},
		"running":               {body: `{"request_job_status":"RUNNING","count":"x"}`, want: CountReport{Status: StatusStarted}},
		"unknown":               {body: `{"request_job_status":"UNKNOWN"}`, want: CountReport{Status: StatusUnknown}},
		"no count":              {body: `{"request_job_status":"FINISHED","extra":{}}`, fault: "measure: [This field is required.]"},
		"null count":            {body: `{"request_job_status":"FINISHED","count":null}`, fault: "measure: [This field may not be null.]"},
		"garbage":               {body: `{"request_job_status":"FINISHED","count":"many"}`, fault: "measure: [A valid integer is required.]"},
		"half":                  {body: `{"request_job_status":"FINISHED","count":1.5}`, fault: "measure: [A valid integer is required.]"},
		"empty":                 {body: `{"request_job_status":"FINISHED","count":""}`, fault: "measure: [A valid integer is required.]"},
		"a list":                {body: `{"request_job_status":"FINISHED","count":[1]}`, fault: "measure: [A valid integer is required.]"},
		"true":                  {body: `{"request_job_status":"FINISHED","count":true}`, fault: "measure: [A valid integer is required.]"},
		"negative":              {body: `{"request_job_status":"FINISHED","count":"-1"}`, fault: "measure: [Ensure this value is greater than or equal to 0.]"},
		"far below":             {body: `{"request_job_status":"FINISHED","count":"-99999999999999999999"}`, fault: "measure: [Ensure this value is greater than or equal to 0.]"},
		"huge":                  {body: `{"request_job_status":"FINISHED","count":"99999999999999999999"}`, fault: "measure: [Ensure this value is less than or equal to 9223372036854775807.]"},
		"endless":               {body: `{"request_job_status":"FINISHED","count":"` + strings.Repeat("9", 1001) + `"}`, fault: "measure: [String value too large.]"},
		"all at once":           {body: `{"request_job_status":"FINISHED","count":"a","minimum":"b","maximum":"c","extra":[]}`, estimate: true, fault: "measure: [A valid integer is required.]; measure_min: [A valid integer is required.]; measure_max: [A valid integer is required.]; extra: [Value must be an object.]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := payload(t, c.body).Count(c.estimate)
			if c.fault != "" {
				require.Equal(t, "invalid input: "+c.fault, refusal(t, err))
				require.Zero(t, got)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestCohortReports(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body  string
		want  CohortReport
		fault string
	}{
		"finished":           {body: `{"request_job_status":"FINISHED","group.id":"12345","group.count":555}`, want: CohortReport{Status: StatusFinished, GroupID: "12345", Count: ptr(int64(555))}},
		"numbers":            {body: `{"request_job_status":"FINISHED","group.id":12345,"group.count":"0"}`, want: CohortReport{Status: StatusFinished, GroupID: "12345", Count: ptr(int64(0))}},
		"large":              {body: `{"request_job_status":"LONG_PENDING","group.id":"99001","group.count":"25000","extra":{}}`, want: CohortReport{Status: StatusLongPending, GroupID: "99001", Count: ptr(int64(25000))}},
		"indexed":            {body: `{"request_job_status":"FINISHED"}`, want: CohortReport{Status: StatusFinished}},
		"nulls":              {body: `{"request_job_status":"FINISHED","group.id":null,"group.count":null}`, want: CohortReport{Status: StatusFinished}},
		"failed":             {body: `{"request_job_status":"ERROR","message":"No space left on device","group.id":"-1"}`, want: CohortReport{Status: StatusFailed, Message: "No space left on device"}},
		"failed, no message": {body: `{"request_job_status":"ERROR"}`, want: CohortReport{Status: StatusFailed}},
		"killed":             {body: `{"request_job_status":"KILLED","message":"cancelled part"}`, want: CohortReport{Status: StatusCancelled}},
		"running":            {body: `{"request_job_status":"RUNNING"}`, want: CohortReport{Status: StatusStarted}},
		"stored nowhere":     {body: `{"request_job_status":"FINISHED","group.id":"-1","group.count":"12"}`, want: CohortReport{Status: StatusFailed, Message: NoGroup}},
		"large, nowhere":     {body: `{"request_job_status":"LONG_PENDING","group.id":-1,"group.count":"12"}`, want: CohortReport{Status: StatusFailed, Message: NoGroup}},
		"empty group":        {body: `{"request_job_status":"FINISHED","group.id":" ","group.count":"12"}`, want: CohortReport{Status: StatusFailed, Message: NoGroup}},
		"size alone":         {body: `{"group.count":"12"}`, fault: "request_job_status: [This field is required.]"},
		"garbage":            {body: `{"request_job_status":"FINISHED","group.id":"1/../2","group.count":"x"}`, fault: "group.id: [Not a valid string.]; group.count: [A valid integer is required.]"},
		"group a list":       {body: `{"request_job_status":"FINISHED","group.id":[1],"group.count":"-4"}`, fault: "group.id: [Not a valid string.]; group.count: [Ensure this value is greater than or equal to 0.]"},
		"group too long":     {body: `{"request_job_status":"FINISHED","group.id":"` + strings.Repeat("1", 65) + `"}`, fault: "group.id: [Not a valid string.]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := payload(t, c.body)
			require.True(t, p.ReportsCohort())
			got, err := p.Cohort()
			if c.fault != "" {
				require.Equal(t, "invalid input: "+c.fault, refusal(t, err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
	require.False(t, payload(t, `{"name":"x","favorite":true}`).ReportsCohort())
	require.True(t, payload(t, `{"request_job_status":null}`).ReportsCohort())
}

func TestStudyReports(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body  string
		want  StudyReport
		fault string
		quiet bool
	}{
		"finished":         {body: `{"request_job_status":"FINISHED","count":100,"extra":{"11":55,"12":"75"}}`, want: StudyReport{Status: StatusFinished, Count: 100, Sizes: map[string]int64{"11": 55, "12": 75}}},
		"nobody":           {body: `{"request_job_status":"FINISHED","count":"0","extra":{}}`, want: StudyReport{Status: StatusFinished, Sizes: map[string]int64{}}},
		"no extra":         {body: `{"request_job_status":"FINISHED"}`, want: StudyReport{Status: StatusFinished, Sizes: map[string]int64{}}},
		"failed":           {body: `{"request_job_status":"ERROR","message":"None.get"}`, want: StudyReport{Status: StatusFailed, Message: "None.get"}},
		"killed":           {body: `{"request_job_status":"KILLED","message":"x"}`, want: StudyReport{Status: StatusCancelled}},
		"garbage":          {body: `{"request_job_status":"FINISHED","count":"abc","extra":{"1":"1"}}`, fault: "invalid literal for int() with base 10: 'abc'"},
		"garbage in extra": {body: `{"request_job_status":"FINISHED","count":"1","extra":{"1":"x"}}`, fault: "Error saving feasibility report - a size in `extra` is no whole number", quiet: true},
		"extra a list":     {body: `{"request_job_status":"FINISHED","count":"1","extra":[1]}`, fault: "Error saving feasibility report - `extra` is no object", quiet: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := payload(t, c.body).Study()
			if c.fault != "" {
				require.Equal(t, c.fault, refusal(t, err))
				var report *StudyReportError
				require.Equal(t, c.quiet, errors.As(err, &report))
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestPerimeterReports(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body  string
		want  PerimeterReport
		fault string
	}{
		"ready":          {body: `{"request_job_status":"FINISHED","group.id":"88","group.count":"4321","extra":{}}`, want: PerimeterReport{Status: StatusFinished, Ready: true, GroupID: "88", Count: "4321"}},
		"numbers":        {body: `{"request_job_status":"FINISHED","group.id":77712345,"group.count":12}`, want: PerimeterReport{Status: StatusFinished, Ready: true, GroupID: "77712345", Count: "12"}},
		"other spelling": {body: `{"request_job_status":"LONG_PENDING","group_id":"88","group_count":"99"}`, want: PerimeterReport{Status: StatusLongPending, Ready: true, GroupID: "88", Count: "99"}},
		"without status": {body: `{"group.id":"88"}`, want: PerimeterReport{Ready: true, GroupID: "88"}},
		"failed":         {body: `{"request_job_status":"ERROR","message":"out of memory","group.id":"1"}`, want: PerimeterReport{Status: StatusFailed, Message: "out of memory"}},
		"running":        {body: `{"request_job_status":"RUNNING","group.id":"1"}`, want: PerimeterReport{Status: StatusStarted}},
		"no group":       {body: `{"request_job_status":"FINISHED","group.count":"3"}`, want: PerimeterReport{Status: StatusFinished}},
		"stored nowhere": {body: `{"request_job_status":"FINISHED","group.id":"-1","group.count":"3"}`, want: PerimeterReport{Status: StatusFinished}},
		"garbage":        {body: `{"request_job_status":"FINISHED","group.id":"a b","group.count":"x"}`, fault: "invalid input: group.id: [Not a valid string.]; group.count: [A valid integer is required.]"},
		"unknown status": {body: `{"request_job_status":"WAT","group.id":"1"}`, fault: "Bad Request: Invalid job status: WAT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := payload(t, c.body).Perimeter()
			if c.fault != "" {
				require.Equal(t, c.fault, refusal(t, err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

// decision 34.
func TestMessagesAreCleaned(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Job aborted":              "Job aborted",
		"  key not found: Claim\n": "key not found: Claim",
		"400 Client Error: Bad Request for url: http://fhir/fhir/Patient/$query?family=secret&x=1": "400 Client Error: Bad Request for url: http://fhir/fhir/Patient/$query",
		"see https://user:secret@host/a and http://b/c#secret.":                                    "see https://host/a and http://b/c",
		"cannot parse fq=identifier.value:(8001112223 8001112224)&fq=a":                            "cannot parse fq=identifier.value:…&fq=a",
		"identifier.value=8001112223,8001112224":                                                   "identifier.value=…",
		"boom\n\tat a.b.C(D.java:1)\n\tat secret":                                                  "boom",
		"a\x00b\x07c\nd": "abc\nd",
		"\xff":           "\uFFFD",
	} {
		require.Equal(t, want, cleanMessage(in), in)
	}
	long := cleanMessage(strings.Repeat("é", 1<<20))
	require.LessOrEqual(t, len(long), maxMessage+len("…"))
	require.True(t, strings.HasSuffix(long, "é…"))
}

// FuzzPayload: whatever comes is a report or a 400.
func FuzzPayload(f *testing.F) {
	for _, seed := range []string{``, `{}`, `[]`, `{"request_job_status":"FINISHED","count":"1","extra":{"1":"2"},"group.id":1,"group.count":"3.0","minimum":"-","maximum":1e9}`,
		`{"request_job_status":"ERROR","message":"http://a?b"}`, `{"request_job_status":[],"group_id":{}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := ReadPayload(body)
		if err != nil {
			refusal(t, err)
			return
		}
		for _, estimate := range []bool{false, true} {
			report, err := p.Count(estimate)
			if err != nil {
				refusal(t, err)
			} else if report.Status == StatusFinished {
				require.GreaterOrEqual(t, *report.Count, int64(0))
			}
		}
		if report, err := p.Cohort(); err != nil {
			refusal(t, err)
		} else if report.GroupID != "" {
			require.Regexp(t, groupID, report.GroupID)
		}
		if _, err := p.Study(); err != nil {
			refusal(t, err)
		}
		if report, err := p.Perimeter(); err != nil {
			refusal(t, err)
		} else {
			require.Equal(t, report.Ready, report.GroupID != "")
		}
	})
}
