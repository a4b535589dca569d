package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/app"
	"cohortflow/internal/platform/web"
)

const (
	badInputSeed = 29
	// badInputRounds is how often each operation is tried.
	badInputRounds = 25
	// badInputWithin is far beyond what any refusal takes, also on a busy machine.
	badInputWithin = time.Minute
)

// TestBadInput sends to every operation of the OpenAPI document what no client of good will sends: whatever comes, the
// server does not fail, refuses in the contract's shape, and a refused change leaves nothing behind.
func TestBadInput(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, s *served) {
		f := newForger(t, s)
		for _, op := range f.operations {
			for range badInputRounds {
				f.try(op)
			}
		}
		require.False(t, t.Failed())
	})
}

// operation is one of the document's.
type operation struct {
	method, path string
	*openapi3.Operation
}

// forger makes bad requests.
type forger struct {
	*served
	t          *testing.T
	random     *rand.Rand
	operations []operation
	// refs are ids of rows: of the caller, of another user, of nobody.
	refs []string
}

func newForger(t *testing.T, s *served) *forger {
	t.Helper()
	raw, err := web.OpenAPI(s.app.Routes(), app.Version)
	require.NoError(t, err)
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	require.NoError(t, err)
	f := &forger{served: s, t: t, random: rand.New(rand.NewPCG(badInputSeed, 1))}
	for _, path := range slices.Sorted(maps.Keys(doc.Paths.Map())) {
		item := doc.Paths.Find(path).Operations()
		for _, method := range slices.Sorted(maps.Keys(item)) {
			f.operations = append(f.operations, operation{method, path, item[method]})
		}
	}
	f.refs = append(slices.Clone(s.refs), "0190a0a0-0000-7000-8000-000000000000", "1", "2")
	return f
}

// try sends one request and looks at what it did.
func (f *forger) try(op operation) {
	f.t.Helper()
	req, what := f.request(op)
	before := f.rows(f.t)
	started := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Errorf("%s: %v", what, err)
		return
	}
	body, err := io.ReadAll(resp.Body)
	took := time.Since(started)
	_ = resp.Body.Close()
	switch {
	case err != nil:
		f.t.Errorf("%s: the answer broke off: %v", what, err)
	case resp.StatusCode == http.StatusBadGateway && strings.Contains(op.path, "fhir-perimeters"): // the FHIR server is not there
	case resp.StatusCode >= 500:
		f.t.Errorf("%s: %d %s\n%s", what, resp.StatusCode, body, f.failures())
	case took > badInputWithin:
		f.t.Errorf("%s took %s", what, took)
	case resp.StatusCode < 400:
		return
	}
	if problem := refusalShape(resp, body); problem != "" {
		f.t.Errorf("%s: %d %s: %s", what, resp.StatusCode, body, problem)
	}
	// A machine's report without a known status fails the job, which its owner is told (cohort.md 8.4, 9.4, 12.2).
	key := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	owing := op.method == http.MethodGet || op.method == http.MethodPatch && (key == executorKey || key == indexerKey)
	if after := f.rows(f.t); !owing && !maps.Equal(before, after) {
		maps.DeleteFunc(after, func(table string, n int64) bool { return before[table] == n })
		f.t.Errorf("%s: refused with %d, and yet rows changed: now there are %v", what, resp.StatusCode, after)
	}
}

// refusalShape says what is wrong with a refusal: its body is a sentence, a list of them, or an object (system.md 2.8).
func refusalShape(resp *http.Response, body []byte) string {
	if kind := resp.Header.Get("Content-Type"); kind != "application/json" {
		return "content type " + kind
	}
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return "no JSON"
	}
	switch v := v.(type) {
	case string:
		return ""
	case []any:
		if len(v) > 0 {
			return ""
		}
	case map[string]any:
		if len(v) > 0 {
			return ""
		}
	}
	return "says nothing"
}

// request forges one request; what describes it in a failure.
func (f *forger) request(op operation) (req *http.Request, what string) {
	path := op.path
	for _, p := range op.Parameters {
		if p.Value.In == "path" {
			path = strings.Replace(path, "{"+p.Value.Name+"}", url.PathEscape(f.pathValue(p.Value.Name)), 1)
		}
	}
	if query := f.query(op); query != "" {
		path += "?" + query
	}
	body, contentType := f.body(op)
	req, err := http.NewRequestWithContext(f.t.Context(), op.method, f.url+path, strings.NewReader(body))
	require.NoError(f.t, err)
	if f.random.IntN(8) == 0 {
		req.ContentLength, req.Body = -1, io.NopCloser(strings.NewReader(body)) // chunked
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	caller := pick(f.random, f.callers)
	for name, value := range caller.header {
		req.Header.Set(name, value)
	}
	if f.random.IntN(10) == 0 {
		req.Header.Set(pick(f.random, []string{"X-Impersonate", "X-Trace-Id", "Referer", "AuthorizationMethod", "Accept", "X-Forwarded-For", "User-Agent", "Cookie", "Origin", "Host"}),
			pick(f.random, []string{"\xff\xfe", "é", "bob", strings.Repeat("x", 5000), "a, b;c=\"", "../..", "application/json;q=oops"}))
	}
	return req, fmt.Sprintf("%s as %s: %s %s %v %s", f.t.Name(), caller.name, op.method, clip(path), req.Header, clip(body))
}

func (f *forger) pathValue(name string) string {
	switch f.random.IntN(3) {
	case 0:
		return pick(f.random, f.texts())
	case 1:
		if name == "username" {
			return pick(f.random, []string{"alice", "bob", "nobody"})
		}
	}
	return pick(f.random, f.refs)
}

// query gives some parameters bad values; most are left out.
func (f *forger) query(op operation) string {
	values := url.Values{}
	for _, p := range op.Parameters {
		if p.Value.In != "query" || f.random.IntN(4) > 0 {
			continue
		}
		for range 1 + f.random.IntN(2) { // sometimes repeated
			values.Add(p.Value.Name, f.queryValue())
		}
	}
	if f.random.IntN(20) == 0 {
		values.Set(pick(f.random, []string{"format", "unknown", "\x00", "\xff", "limit", "offset", "page", "ordering"}), f.queryValue())
	}
	query := values.Encode()
	if f.random.IntN(20) == 0 {
		query += "&%zz=%&;&=&" // not even encoded
	}
	return query
}

func (f *forger) queryValue() string {
	switch f.random.IntN(6) {
	case 0:
		return pick(f.random, f.refs)
	case 1:
		list := make([]string, 1+f.random.IntN(5))
		for i := range list {
			list[i] = pick(f.random, append(f.texts(), f.refs...))
		}
		return strings.Join(list, ",")
	case 2:
		if f.random.IntN(10) == 0 { // as long as a request line may be
			return strings.TrimSuffix(strings.Repeat(pick(f.random, []string{"7,", "0190a0a0-0000-7000-8000-000000000000,", "a,"}), 10_000), ",")
		}
	}
	return pick(f.random, f.texts())
}

// body is a plausible body with something wrong in it, or one that is none.
func (f *forger) body(op operation) (text, contentType string) {
	if op.RequestBody == nil {
		if f.random.IntN(4) > 0 {
			return "", ""
		}
		return pick(f.random, f.literals()), "application/json"
	}
	switch f.random.IntN(12) {
	case 0:
		return pick(f.random, []string{"{", "[", "nul", "{\"a\":}", "{}{}", "\xef\xbb\xbf{}", "\"\xff\"", "{\"name\":\"\xff\xfe\"}", strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 300) + "1" + strings.Repeat("}", 300)}), "application/json"
	case 1:
		return pick(f.random, f.literals()), "application/json"
	case 2:
		return "name=%00&request=%ff&username=%zz", "application/x-www-form-urlencoded"
	case 3:
		return "name=a&serialized_query=%7B%7D&username=a", pick(f.random, []string{"application/x-www-form-urlencoded", "text/plain", "multipart/form-data", "multipart/form-data; boundary=x", "a/b/c", "application/json; charset=utf-16", "\xff"})
	}
	fields := map[string]string{}
	for name, schema := range op.RequestBody.Value.Content.Get("application/json").Schema.Value.Properties {
		if f.random.IntN(8) > 0 {
			fields[name] = f.plausible(name, schema.Value)
		}
	}
	for range 1 + f.random.IntN(2) {
		if names := slices.Sorted(maps.Keys(fields)); len(names) > 0 && f.random.IntN(10) > 0 {
			fields[pick(f.random, names)] = pick(f.random, f.literals())
		}
	}
	if f.random.IntN(20) == 0 {
		fields[pick(f.random, []string{"owner", "owner_id", "uuid", "id", "request_job_status", "group.id", "group.count", "", "a\\u0000b", "created_at"})] = pick(f.random, f.literals())
	}
	parts := make([]string, 0, len(fields))
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		parts = append(parts, `"`+name+`":`+fields[name])
	}
	return "{" + strings.Join(parts, ",") + "}", "application/json"
}

func pick[T any](random *rand.Rand, from []T) T { return from[random.IntN(len(from))] }

// clip keeps a failure readable.
func clip(text string) string {
	if len(text) > 400 {
		text = text[:400] + "…"
	}
	return fmt.Sprintf("%q", text)
}
