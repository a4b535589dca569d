package queryexec

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/httpclient"
)

type asked struct {
	method, uri, body string
	header            http.Header
}

// executor is a client and the QueryExecutor it speaks to.
type executor struct {
	client *Client
	server *httptest.Server
	mu     sync.Mutex
	asked  []asked
}

func setupExecutor(t *testing.T, cfg httpclient.Config, answer http.HandlerFunc) *executor {
	t.Helper()
	e := &executor{}
	e.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		e.asked = append(e.asked, asked{r.Method, r.RequestURI, string(body), r.Header})
		e.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(e.server.Close)
	client, err := NewClient(quiet(), newHTTP(t, cfg), e.server.URL+"/")
	require.NoError(t, err)
	e.client = client
	return e
}

func (e *executor) calls() []asked {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]asked(nil), e.asked...)
}

func reply(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

const trace = "java.util.NoSuchElementException: key not found: x\n\tat scala.collection.MapLike.default(MapLike.scala:235)\n"

func TestNewClientRefusesNonsense(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"qe:8090", "ftp://qe", "http://qe?x=1", "::"} {
		_, err := NewClient(quiet(), newHTTP(t, httpclient.Config{}), address)
		require.Error(t, err, address)
	}
	_, err := NewClient(nil, nil, "http://qe")
	require.Error(t, err)
}

func TestWithoutAddressNothingIsSent(t *testing.T) {
	t.Parallel()
	client, err := NewClient(quiet(), newHTTP(t, httpclient.Config{}), "")
	require.NoError(t, err)
	const unset = "QUERY_EXECUTOR_URL is not set"
	_, err = client.Submit(t.Context(), Job{ModeCount, `{}`})
	require.ErrorContains(t, err, unset)
	_, err = client.Cancel(t.Context(), "J1")
	require.ErrorContains(t, err, unset)
	_, err = client.Status(t.Context(), "J1")
	require.ErrorContains(t, err, unset)
}

func TestSubmitRequests(t *testing.T) {
	t.Parallel()
	e := setupExecutor(t, httpclient.Config{}, reply(200, `{"status":"RUNNING","jobId":"J1","context":"","startTime":"2026-01-31T09:00:00Z","duration":"","result":"","classPath":"x"}`))
	for _, job := range []Job{{ModeCount, `{"input":{}}`}, {ModeCountAll, `{}`}, {ModeCountWithDetails, `{}`}, {ModeCreate, `{}`}, StoredCount("input.mode = count,input.cohortUuid = D1")} {
		got, err := e.client.Submit(t.Context(), job)
		require.NoError(t, err)
		require.Equal(t, Accepted{JobID: "J1", Status: StatusStarted}, got)
	}
	const count = "/jobs?appName=omop-spark-job&classPath=fr.aphp.id.eds.requester.CountQuery&context=shared"
	const create = "/jobs?appName=omop-spark-job&classPath=fr.aphp.id.eds.requester.CreateQuery&context=shared&sync=false"
	for i, want := range []string{count, count, count, create, count} {
		call := e.calls()[i]
		require.Equal(t, "POST", call.method)
		require.Equal(t, want, call.uri)
		require.NotContains(t, call.header, "Authorization")
	}
	require.Equal(t, `{"input":{}}`, e.calls()[0].body)
	require.Equal(t, "application/json", e.calls()[0].header.Get("Content-Type"))
	require.Equal(t, "input.mode = count,input.cohortUuid = D1", e.calls()[4].body)
	require.NotContains(t, e.calls()[4].header, "Content-Type")
}

func TestSubmitAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    Accepted
		outcome Outcome
		text    string
	}{
		"started":              {handler: reply(200, `{"status":"STARTED","jobId":"some_job_id"}`), want: Accepted{"some_job_id", StatusStarted}},
		"another 2xx":          {handler: reply(202, `{"status":"running","jobId":7}`), want: Accepted{"7", StatusStarted}},
		"failed at once":       {handler: reply(200, `{"status":"ERROR","jobId":"J"}`), want: Accepted{"J", StatusFailed}},
		"no id":                {handler: reply(200, `{"status":"RUNNING"}`), want: Accepted{"", StatusStarted}},
		"refused by words":     {handler: reply(200, `{"status":"ERROR","success":false,"err_msg":"no more room"}`), outcome: OutcomeRejected, text: "no more room"},
		"refused without any":  {handler: reply(200, `{"success":false}`), outcome: OutcomeRejected, text: "QueryExecutor refused the job."},
		"unknown status":       {handler: reply(200, `{"status":"failed","jobId":"J"}`), outcome: OutcomeUnusable, text: "QueryExecutor gave an answer without a known job status."},
		"no status":            {handler: reply(200, `{"jobId":"J"}`), outcome: OutcomeUnusable, text: "QueryExecutor gave an answer without a known job status."},
		"a page":               {handler: reply(200, "<html>Bad gateway</html>"), outcome: OutcomeUnusable, text: "QueryExecutor gave an answer that cannot be read."},
		"half":                 {handler: reply(200, `{"status":"RUN`), outcome: OutcomeUnusable, text: "QueryExecutor gave an answer that cannot be read."},
		"nothing":              {handler: reply(200, ""), outcome: OutcomeUnusable, text: "QueryExecutor gave an answer that cannot be read."},
		"a list":               {handler: reply(200, "[]"), outcome: OutcomeUnusable, text: "QueryExecutor gave an answer that cannot be read."},
		"huge":                 {handler: reply(200, `{"status":"`+strings.Repeat("x", 2<<20)+`"}`), outcome: OutcomeUnusable, text: "QueryExecutor gave an answer that cannot be read."},
		"stack trace":          {handler: reply(500, trace), outcome: OutcomeRejected, text: "QueryExecutor refused the request (500 Internal Server Error)."},
		"400":                  {handler: reply(400, `{}`), outcome: OutcomeRejected, text: "QueryExecutor refused the request (400 Bad Request)."},
		"elsewhere":            {handler: reply(302, ""), outcome: OutcomeRejected, text: "QueryExecutor refused the request (302 Found)."},
		"gateway lost it":      {handler: reply(502, ""), outcome: OutcomeUnknown, text: "QueryExecutor is out of order (502 Bad Gateway)."},
		"gateway waited":       {handler: reply(504, ""), outcome: OutcomeUnknown, text: "QueryExecutor is out of order (504 Gateway Timeout)."},
		"gateway sent nothing": {handler: reply(503, ""), outcome: OutcomeNotAccepted, text: "QueryExecutor is out of order (503 Service Unavailable)."},
		"too many":             {handler: reply(429, ""), outcome: OutcomeNotAccepted, text: "QueryExecutor refused the request (429 Too Many Requests)."},
		"reset":                {handler: reset, outcome: OutcomeUnknown, text: "The connection to QueryExecutor broke before it answered."},
		"breaks off": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"status":"RUNNING"`)
		}, outcome: OutcomeUnknown, text: "The connection to QueryExecutor broke before it answered."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := setupExecutor(t, httpclient.Config{MaxBody: 1 << 20}, c.handler)
			got, err := e.client.Submit(t.Context(), Job{ModeCreate, `{"input":{"secret":1}}`})
			require.Len(t, e.calls(), 1, "never sent twice")
			if c.outcome == "" {
				require.NoError(t, err)
				require.Equal(t, c.want, got)
				return
			}
			var failed *CallError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, c.outcome, failed.Outcome)
			require.Equal(t, c.text, failed.Text)
		})
	}
}

func TestSubmitNobodyThere(t *testing.T) {
	t.Parallel()
	e := setupExecutor(t, httpclient.Config{}, reply(200, ""))
	e.server.Close()
	_, err := e.client.Submit(t.Context(), Job{ModeCreate, "{}"})
	var failed *CallError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, OutcomeNotAccepted, failed.Outcome)
	require.Equal(t, "QueryExecutor cannot be reached.", failed.Text)
}

func TestSubmitTooSlowAndGivenUp(t *testing.T) {
	t.Parallel()
	e := setupExecutor(t, httpclient.Config{Timeout: 50 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	_, err := e.client.Submit(t.Context(), Job{ModeCreate, "{}"})
	var failed *CallError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, OutcomeUnknown, failed.Outcome)
	require.Equal(t, "QueryExecutor did not answer in time.", failed.Text)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = e.client.Submit(ctx, Job{ModeCreate, "{}"})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorAs(t, err, &failed)
	require.Equal(t, OutcomeNotAccepted, failed.Outcome)
}

func TestSubmitRefusesNoJob(t *testing.T) {
	t.Parallel()
	e := setupExecutor(t, httpclient.Config{}, reply(200, ""))
	for _, job := range []Job{{}, {Mode: ModeCount}, {Mode: "x", Body: "{}"}} {
		_, err := e.client.Submit(t.Context(), job)
		require.Error(t, err)
	}
	require.Empty(t, e.calls())
}

// cohort.md 18.4.
func TestCancel(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    Status
		fault   string
	}{
		"killed":          {handler: reply(200, `{"status":"KILLED","jobId":"J/1","context":"","startTime":"","duration":"","result":null,"classPath":""}`), want: StatusCancelled},
		"finished":        {handler: reply(200, `{"status":"FINISHED"}`), want: StatusFinished},
		"already ended":   {handler: reply(403, `{"status":"ERROR"}`), want: StatusFinished},
		"403 no JSON":     {handler: reply(403, `forbidden`), fault: "Error with response content: it is not JSON (status 403)"},
		"unknown job":     {handler: reply(500, trace), fault: "Error with response content: it is not JSON (status 500)"},
		"other refusal":   {handler: reply(409, `{}`), fault: "Cancel request failed: 409"},
		"page":            {handler: reply(200, `<html>`), fault: "Error with response content: it is not the JSON of a job"},
		"nothing":         {handler: reply(200, ``), fault: "Error with response content: it is not the JSON of a job"},
		"no status":       {handler: reply(200, `{}`), fault: "`status` is missing in response"},
		"null status":     {handler: reply(200, `{"status":null}`), fault: "`status` is missing in response"},
		"still running":   {handler: reply(200, `{"status":"RUNNING"}`), fault: "Invalid job status RUNNING"},
		"our own word":    {handler: reply(200, `{"status":"cancelled"}`), fault: "Invalid job status cancelled"},
		"connection lost": {handler: reset, fault: "The connection to QueryExecutor broke before it answered."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := setupExecutor(t, httpclient.Config{}, c.handler)
			got, err := e.client.Cancel(t.Context(), "J/1")
			require.Equal(t, asked{"DELETE", "/jobs/J%2F1", "", e.calls()[0].header}, e.calls()[0])
			if c.fault == "" {
				require.NoError(t, err)
				require.Equal(t, c.want, got)
				return
			}
			require.EqualError(t, err, c.fault)
		})
	}
	e := setupExecutor(t, httpclient.Config{}, reply(200, ""))
	for _, id := range []string{".", "..", strings.Repeat("x", 300)} {
		_, err := e.client.Cancel(t.Context(), id)
		require.Error(t, err)
		_, err = e.client.Status(t.Context(), id)
		require.Error(t, err)
	}
	require.Empty(t, e.calls())
}

// peers.md 2.2, 2.5.
func TestStatusOfAJob(t *testing.T) {
	t.Parallel()
	job := func(status, result string) http.HandlerFunc {
		return reply(200, fmt.Sprintf(`{"status":%q,"jobId":"J","context":"","startTime":"x","duration":"","result":%s,"classPath":""}`, status, result))
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    JobState
		outcome Outcome
	}{
		"running":         {handler: job("RUNNING", "null"), want: JobState{Known: true, Status: StatusStarted}},
		"running, text":   {handler: job("RUNNING", `""`), want: JobState{Known: true, Status: StatusStarted}},
		"counted":         {handler: job("FINISHED", `[{"_type":"count","message":"FINISHED","group.id":"","count":12,"extra":{"criteria_count_1":"12"},"stack":"","source":""}]`), want: JobState{Known: true, Status: StatusFinished, Count: ptr(int64(12)), Extra: json.RawMessage(`{"criteria_count_1":"12"}`)}},
		"created":         {handler: job("FINISHED", `[{"_type":"create","message":"FINISHED","group.id":"88123","count":"7","extra":{}}]`), want: JobState{Known: true, Status: StatusFinished, GroupID: "88123", Count: ptr(int64(7)), Extra: json.RawMessage(`{}`)}},
		"large":           {handler: job("FINISHED", `[{"_type":"create","message":"LONG_PENDING","group.id":"9","count":31000,"extra":null}]`), want: JobState{Known: true, Status: StatusLongPending, GroupID: "9", Count: ptr(int64(31000))}},
		"no number":       {handler: job("FINISHED", `[{"message":"FINISHED","count":-1}]`), want: JobState{Known: true, Status: StatusFinished}},
		"no result":       {handler: job("FINISHED", `[]`), want: JobState{Known: true, Status: StatusFinished}},
		"failed":          {handler: job("ERROR", `[{"_type":"count","message":"key not found: Claim","count":-1}]`), want: JobState{Known: true, Status: StatusFailed, Message: "key not found: Claim"}},
		"failed silently": {handler: job("ERROR", `null`), want: JobState{Known: true, Status: StatusFailed}},
		"killed":          {handler: job("KILLED", `null`), want: JobState{Known: true, Status: StatusCancelled}},
		"forgotten":       {handler: reply(500, trace), want: JobState{}},
		"forgotten, mute": {handler: reply(500, ""), want: JobState{}},
		"404 JSON": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(404)
		}, want: JobState{}},
		"404 of a balancer": {handler: reply(404, "default backend - 404"), outcome: OutcomeRejected},
		"out of order":      {handler: reply(503, ""), outcome: OutcomeNotAccepted},
		"page":              {handler: reply(200, "<html>"), outcome: OutcomeUnusable},
		"no status":         {handler: reply(200, "{}"), outcome: OutcomeUnusable},
		"reset":             {handler: reset, outcome: OutcomeUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := setupExecutor(t, httpclient.Config{}, c.handler)
			got, err := e.client.Status(t.Context(), "J")
			require.Equal(t, "/jobs/J", e.calls()[0].uri)
			if c.outcome == "" {
				require.NoError(t, err)
				require.Equal(t, c.want, got)
				return
			}
			var failed *CallError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, c.outcome, failed.Outcome)
		})
	}
}

func TestLogsHoldNoBodies(t *testing.T) {
	t.Parallel()
	e := setupExecutor(t, httpclient.Config{}, reply(500, "secret answer"))
	var logs strings.Builder
	log := slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	web, err := httpclient.New(log, httpclient.Config{})
	require.NoError(t, err)
	client, err := NewClient(log, web, e.server.URL)
	require.NoError(t, err)
	_, err = client.Submit(t.Context(), Job{ModeCount, `{"secret":"question"}`})
	require.Error(t, err)
	require.Contains(t, logs.String(), "query_executor")
	require.NotContains(t, logs.String(), "secret")
}
