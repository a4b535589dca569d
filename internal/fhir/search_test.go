package fhir

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/httpclient"
	"cohortflow/internal/platform/jsonscan"
)

// collect runs the search to its end.
func collect(ctx context.Context, c *Client, s Search) (got []string, err error) {
	for resource, fault := range c.Search(ctx, s) {
		if fault != nil {
			return got, fault
		}
		got = append(got, string(resource))
	}
	return got, nil
}

func TestSearchFollowsItsPages(t *testing.T) {
	t.Parallel()
	var b *bundle
	b = setup(t, Config{Credential: StaticToken("service")}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("page") {
		case "":
			_, _ = fmt.Fprintf(w, `{"resourceType":"Bundle","total":3,"link":[{"relation":"self","url":"x"},{"relation":"next","url":"%s/fhir?page=2"}],"entry":[{"fullUrl":"u","resource":{"id":"1"},"search":{"mode":"match"}},{"resource":{"id":"o"},"search":{"mode":"outcome"}},{"fullUrl":"no resource"}]}`, b.server.URL)
		case "2": // keys in another order, a relative link, no entries
			_, _ = io.WriteString(w, `{"entry":[],"link":[{"relation":"next","url":"?page=3"}],"meta":{"x":[1]},"resourceType":"Bundle"}`)
		case "3":
			_, _ = io.WriteString(w, `{"entry":[{"resource":{"id":"2"}},{"resource":{"id":"3"}}],"resourceType":"Bundle"}`+"\r\n ")
		}
	})
	got, err := collect(t.Context(), b.client, Search{Type: "Condition", Group: "88123", Filter: "code=a|b&x=1", Params: []Param{{"_elements", "id"}}, PageSize: 2})
	require.NoError(t, err)
	require.Equal(t, []string{`{"id":"1"}`, `{"id":"2"}`, `{"id":"3"}`}, got)
	require.Equal(t, []string{"/fhir/Condition?code=a%7Cb&x=1&_elements=id&_list=88123&_count=2", "/fhir?page=2", "/fhir?page=3"}, b.uris())
	for i := range 3 {
		require.Equal(t, "Bearer service", b.headers(i).Get("Authorization"))
		require.Equal(t, "application/fhir+json", b.headers(i).Get("Accept"))
	}
}

func TestSearchOfNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, text(`{"resourceType":"Bundle","total":0}`))
	got, err := collect(t.Context(), b.client, Search{Type: "Patient", Credential: StaticToken("other")})
	require.NoError(t, err)
	require.Empty(t, got)
	require.Equal(t, []string{"/fhir/Patient"}, b.uris())
	require.Equal(t, "Bearer other", b.headers(0).Get("Authorization"))
}

func TestSearchStopsWhenTheConsumerDoes(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, text(`{"resourceType":"Bundle","entry":[{"resource":{"id":"1"}},{"resource":{"id":"2"}}],"link":[{"relation":"next","url":"?page=2"}]}`))
	for range b.client.Search(t.Context(), Search{Type: "Patient"}) {
		break
	}
	require.Len(t, b.uris(), 1)
}

func TestSearchFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		got     int
		want    string
	}{
		"refused":         {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, 0, "did not accept the credentials"},
		"out of order":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 0, "out of order"},
		"reset":           {reset, 0, "broke"},
		"no JSON":         {text(`<html>`), 0, "cannot be read"},
		"nothing":         {text(``), 0, "before its time"},
		"no object":       {text(`[]`), 0, "cannot be read"},
		"no bundle":       {text(`{"resourceType":"OperationOutcome","issue":[]}`), 0, "not a Bundle"},
		"nameless":        {text(`{"entry":[{"resource":{"id":"1"}}]}`), 1, "not a Bundle"},
		"half":            {text(`{"resourceType":"Bundle","entry":[{"resource":{"id":"1"}},{"resour`), 1, "before its time"},
		"two bundles":     {text(`{"resourceType":"Bundle","entry":[{"resource":{"id":"1"}}]} {"resourceType":"Bundle"}`), 1, "goes on after its end"},
		"next to nowhere": {text(`{"resourceType":"Bundle","link":[{"relation":"next"}]}`), 0, "next page is empty"},
		"entries no list": {text(`{"resourceType":"Bundle","entry":{}}`), 0, "cannot be read"},
		"resource a text": {text(`{"resourceType":"Bundle","entry":[{"resource":"x"}]}`), 0, "no object"},
		"breaks off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"resourceType":"Bundle","entry":[{"resource":{"id":"1"}},`)
		}, 1, "broke"},
		"elsewhere":    {text(`{"resourceType":"Bundle","link":[{"relation":"next","url":"http://evil.example/fhir?page=2"}]}`), 0, "another server"},
		"other scheme": {text(`{"resourceType":"Bundle","link":[{"relation":"next","url":"file:///etc/passwd"}]}`), 0, "another server"},
		"same host, other scheme": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintf(w, `{"resourceType":"Bundle","link":[{"relation":"next","url":"https://%s/fhir?page=2"}]}`, r.Host)
		}, 0, "another server"},
		"other port":    {text(`{"resourceType":"Bundle","link":[{"relation":"next","url":"//127.0.0.1:1/fhir"}]}`), 0, "another server"},
		"no link":       {text(`{"resourceType":"Bundle","link":[{"relation":"next","url":"http://[::1"}]}`), 0, "cannot be read"},
		"circle of one": {text(`{"resourceType":"Bundle","entry":[{"resource":{"id":"1"}}],"link":[{"relation":"next","url":"/fhir/Patient"}]}`), 1, "circle"},
		"second page": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery != "" {
				w.WriteHeader(500)
				return
			}
			_, _ = io.WriteString(w, `{"resourceType":"Bundle","entry":[{"resource":{"id":"1"}}],"link":[{"relation":"next","url":"?page=2"}]}`)
		}, 1, "out of order"},
		"a huge resource": {text(`{"resourceType":"Bundle","entry":[{"resource":{"id":"` + strings.Repeat("x", 2<<20) + `"}}]}`), 0, "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, Config{MaxEntry: 1 << 20}, c.handler)
			got, err := collect(t.Context(), b.client, Search{Type: "Patient"})
			require.Equal(t, c.got, len(got))
			var told *Error
			require.ErrorAs(t, err, &told)
			require.Contains(t, told.Text, c.want)
		})
	}
}

func TestSearchNoticesLongCircles(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	b := setup(t, Config{}, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"resourceType":"Bundle","link":[{"relation":"next","url":"?page=%d"}]}`, calls.Add(1)%7)
	})
	_, err := collect(t.Context(), b.client, Search{Type: "Patient"})
	require.ErrorContains(t, err, "circle")
	require.Less(t, calls.Load(), int32(40))
}

func TestSearchCancelledBetweenPages(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, text(`{"resourceType":"Bundle","entry":[{"resource":{"id":"1"}}],"link":[{"relation":"next","url":"?page=2"}]}`))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var fault error
	for _, err := range b.client.Search(ctx, Search{Type: "Patient"}) {
		fault = err
		cancel()
	}
	require.ErrorIs(t, fault, context.Canceled)
}

// fussy is a scanner that wants its calls in order.
type fussy struct {
	t     *testing.T
	scan  string // what it read last
	whole bool
	kept  []string
	limit int
}

func (f *fussy) Scan(b []byte) (end int, err error) {
	end, err = jsonscan.Value(b, 0)
	f.scan, f.whole = string(b[:end]), err == nil
	return end, err
}

func (f *fussy) Keep() bool {
	require.True(f.t, f.whole, "only what was read to its end is kept")
	f.kept, f.whole = append(f.kept, f.scan), false
	return len(f.kept) != f.limit
}

// dribble gives a text away in small pieces.
type dribble struct {
	text string
	size int
}

func (d *dribble) Read(p []byte) (int, error) {
	if d.text == "" {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), d.size)], d.text)
	d.text = d.text[n:]
	return n, nil
}

func TestScanKeepsWholeResources(t *testing.T) {
	t.Parallel()
	const page = `{"resourceType":"Bundle","entry":[{"resource":{"id":"1","x":[1,{"y":"z\""}]},"search":{"mode":"match"}},{"search":{"mode":"outcome"},"resource":{"id":"o"}},
		{"resource":{"id":"o"},"search":{"mode":"outcome"}}, {} ,{"fullUrl":"u"},{"resource":{"id":"first"},"resource":{"id":"2"}} , { "resource" : { } } ]}`
	for size := 1; size < len(page); size++ {
		f := &fussy{t: t}
		more, err := newBundleReader(&dribble{page, size}, 1<<20).read(f)
		require.NoError(t, err)
		require.True(t, more)
		require.Equal(t, []string{`{"id":"1","x":[1,{"y":"z\""}]}`, `{"id":"2"}`, `{ }`}, f.kept)
	}
	for size := 1; size < len(page); size += 7 { // wherever it breaks off, nothing half is kept
		_, err := newBundleReader(&dribble{page[:size], 11}, 1<<20).read(&fussy{t: t})
		require.Error(t, err)
	}
	f := &fussy{t: t, limit: 2}
	more, err := newBundleReader(strings.NewReader(page), 1<<20).read(f)
	require.NoError(t, err)
	require.False(t, more)
	require.Len(t, f.kept, 2)
}

// counted is how often a scanner looks at a resource.
type counted struct{ scans int }

func (c *counted) Scan(b []byte) (int, error) { c.scans++; return jsonscan.Value(b, 0) }
func (c *counted) Keep() bool                 { return true }

func TestLargeResourcesAreNotReadForEachPacket(t *testing.T) {
	t.Parallel()
	c := &counted{}
	page := `{"resourceType":"Bundle","entry":[{"resource":{"id":"` + strings.Repeat("x", 8<<20) + `"}}]}`
	_, err := newBundleReader(&dribble{page, 1400}, 16<<20).read(c)
	require.NoError(t, err)
	require.Less(t, c.scans, 40)
}

// A page must not be held: what is in memory is one entry and the decoder's buffer.
func TestSearchHoldsOneEntry(t *testing.T) {
	const entries, size = 40, 1 << 20
	entry := `{"resource":{"id":"` + strings.Repeat("x", size) + `"}}`
	b := setup(t, Config{}, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"resourceType":"Bundle","entry":[`+entry)
		for range entries - 1 {
			_, _ = io.WriteString(w, ","+entry)
		}
		_, _ = io.WriteString(w, `]}`)
	})
	var seen int
	var peak uint64
	for _, err := range b.client.Search(t.Context(), Search{Type: "Patient"}) {
		require.NoError(t, err)
		if seen++; seen%10 == 0 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
	}
	require.Equal(t, entries, seen)
	require.Less(t, peak, uint64(entries*size/2))
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	var fetched atomic.Int32
	expires := 3600
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		if r.FormValue("grant_type") != "client_credentials" || id != "us" || secret != "s3cret" {
			w.WriteHeader(401)
			_, _ = io.WriteString(w, `{"error":"invalid_client","error_description":"s3cret"}`)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprint("t", fetched.Add(1)), "token_type": "bearer", "expires_in": expires})
	}))
	t.Cleanup(tokens.Close)
	standard := newHTTP(t, httpclient.Config{}).Standard()

	good, err := NewClientCredentials(standard, tokens.URL, "us", "s3cret")
	require.NoError(t, err)
	b := setup(t, Config{Credential: good}, text(`{"resourceType":"Bundle"}`))
	for range 3 {
		_, err = collect(t.Context(), b.client, Search{Type: "Patient"})
		require.NoError(t, err)
	}
	require.Equal(t, "Bearer t1", b.headers(2).Get("Authorization"))
	require.EqualValues(t, 1, fetched.Load(), "kept while it is valid")

	expires = 1 // ends within the library's margin: never good enough to be kept
	brief, err := NewClientCredentials(standard, tokens.URL, "us", "s3cret")
	require.NoError(t, err)
	for _, want := range []string{"Bearer t2", "Bearer t3"} {
		got, err := brief.Authorization(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, got)
	}

	wrong, err := NewClientCredentials(standard, tokens.URL, "us", "wrong")
	require.NoError(t, err)
	_, err = collect(t.Context(), b.client, Search{Type: "Patient", Credential: wrong})
	require.EqualError(t, err, "The token endpoint of the FHIR server refused (401 Unauthorized).")

	tokens.Close()
	_, err = brief.Authorization(t.Context())
	require.EqualError(t, err, "The token endpoint of the FHIR server gave no usable token.")
	_, err = NewClientCredentials(standard, "", "us", "x")
	require.Error(t, err)
}

// What the reader takes for a page is JSON to its end, and so is each resource that it hands over.
func FuzzPagesAreJSON(f *testing.F) {
	for _, page := range []string{`{"resourceType":"Bundle","entry":[{"resource":{"id":"1"},"search":{"mode":"match"}},{"fullUrl":"u"}],"link":[{"relation":"next","url":"?2"}]}`,
		`{"entry":[{"search":{"mode":"outcome"},"resource":{"a":[1,{"b":null}]}}],"resourceType":"Bundle"} `, `{"resourceType":"Bundle","entry":[{"resource":{}},]}`,
		`{"resourceType":"Bundle","ent\u0072y":[{"re\u0073ource":{"x":1e5}}]}`, `{"resourceType":"Bundle","entry":null}`, `{"resourceType":"Bundle"}x`} {
		f.Add(page, 7)
	}
	f.Fuzz(func(t *testing.T, page string, size int) {
		scanner := &fussy{t: t}
		_, err := newBundleReader(&dribble{page, 1 + size&63}, 1<<16).read(scanner)
		require.True(t, err != nil || json.Valid([]byte(page)), "%q", page)
		for _, resource := range scanner.kept {
			require.True(t, json.Valid([]byte(resource)), "%q", resource)
		}
	})
}
