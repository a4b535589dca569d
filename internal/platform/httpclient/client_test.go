package httpclient

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type bundle struct {
	client *Client
	logs   *safeBuffer
	mu     sync.Mutex
	seen   []Exchange
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (b *bundle) exchanges() []Exchange {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Exchange(nil), b.seen...)
}

func setup(t *testing.T, cfg Config) *bundle {
	t.Helper()
	b := &bundle{logs: &safeBuffer{}}
	cfg.Observe = func(e Exchange) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.seen = append(b.seen, e)
	}
	client, err := New(slog.New(slog.NewTextHandler(b.logs, nil)), cfg)
	require.NoError(t, err)
	b.client = client
	t.Cleanup(client.CloseIdle)
	return b
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// closedAddress is an address at which nobody listens.
func closedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return "http://" + l.Addr().String()
}

// reset breaks the connection after the request was read.
func reset(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

func failure(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	return e
}

func TestNewRefusesNonsense(t *testing.T) {
	t.Parallel()
	_, err := New(nil, Config{})
	require.Error(t, err)
	_, err = New(slog.Default(), Config{Timeout: -1})
	require.Error(t, err)
	_, err = New(slog.Default(), Config{MaxBody: -1})
	require.Error(t, err)
}

func TestJSONThereAndBack(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		require.Equal(t, "application/json", r.Header.Get("Content-Type"))
		require.Equal(t, "application/json", r.Header.Get("Accept"))
		require.Equal(t, "cohortflow", r.Header.Get("User-Agent"))
		_, _ = w.Write(body)
	})
	var out struct{ A int }
	require.NoError(t, b.client.JSON(t.Context(), Request{Peer: "p", Method: "POST", URL: s.URL, JSON: map[string]int{"A": 7}}, &out))
	require.Equal(t, 7, out.A)
	require.Len(t, b.exchanges(), 1)
	seen := b.exchanges()[0]
	require.Equal(t, "p", seen.Peer)
	require.Equal(t, 200, seen.Status)
	require.Empty(t, seen.Reason)
}

func TestRawBodyAndHeadersAsTheyAre(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		require.Equal(t, "a = b", string(body))
		require.Empty(t, r.Header.Values("Content-Type"))
		require.Equal(t, "JWT", r.Header.Get("AUTHORIZATIONMETHOD"))
	})
	resp, err := b.client.Do(t.Context(), Request{Method: "POST", URL: s.URL, Body: []byte("a = b"),
		Header: http.Header{"AUTHORIZATIONMETHOD": {"JWT"}}})
	require.NoError(t, err)
	require.Equal(t, 200, resp.Status)
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	_, err := b.client.Do(t.Context(), Request{Method: "POST", URL: closedAddress(t), Body: []byte("x")})
	e := failure(t, err)
	require.Equal(t, ReasonRefused, e.Reason)
	require.True(t, e.NotSent())
	require.False(t, e.OutcomeUnknown())
}

func TestNeverSent(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for name, req := range map[string]Request{
		"no address":       {URL: ""},
		"a bad address":    {URL: "http://user:secret@host:port/?q=1"},
		"no such scheme":   {URL: "gopher://x/"},
		"a bad method":     {URL: "http://127.0.0.1/", Method: "B A D"},
		"a body of no use": {URL: "http://127.0.0.1/", JSON: func() {}},
		"a bad header":     {URL: "http://127.0.0.1/", Header: http.Header{"Authorization": {"se\ncret"}}},
	} {
		_, err := b.client.Do(t.Context(), req)
		e := failure(t, err)
		require.Equal(t, ReasonRefused, e.Reason, name)
		require.True(t, e.NotSent(), name)
		require.NotContains(t, err.Error(), "secret", name)
	}
	require.NotContains(t, b.logs.String(), "secret")
}

func TestResetAfterSending(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var calls atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { calls.Add(1); reset(w, r) })
	_, err := b.client.Do(t.Context(), Request{Method: "POST", URL: s.URL + "/jobs?secret=1", Body: []byte("x")})
	e := failure(t, err)
	require.Equal(t, ReasonBroken, e.Reason)
	require.True(t, e.OutcomeUnknown())
	require.False(t, e.NotSent())
	require.NotContains(t, err.Error(), "secret")
	require.EqualValues(t, 1, calls.Load(), "never sent twice")
}

// A kept connection that breaks after the next request was written must not count as never sent, nor be tried again.
func TestResetOfAKeptConnection(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var calls atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) > 1 {
			reset(w, r)
		}
	})
	_, err := b.client.Do(t.Context(), Request{Method: "POST", URL: s.URL, Body: []byte("x")})
	require.NoError(t, err)
	_, err = b.client.Do(t.Context(), Request{Method: "POST", URL: s.URL, Body: []byte("x")})
	require.True(t, failure(t, err).OutcomeUnknown())
	require.EqualValues(t, 2, calls.Load())
}

// deaf is a connection that takes no more bytes once it is told so.
type deaf struct {
	net.Conn
	now *atomic.Bool
}

func (d deaf) Write(p []byte) (int, error) {
	if d.now.Load() {
		return 0, errors.New("broken pipe")
	}
	return d.Conn.Write(p)
}

// A kept connection that takes not a byte is replaced by the transport; when that fails, nothing was sent.
func TestADeadConnectionAndNoOther(t *testing.T) {
	t.Parallel()
	var dead atomic.Bool
	var dialer net.Dialer
	b := setup(t, Config{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if dead.Load() {
			return nil, errors.New("connection refused")
		}
		conn, err := dialer.DialContext(ctx, network, address)
		return deaf{conn, &dead}, err
	}}})
	var calls atomic.Int32
	s := serve(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	_, err := b.client.Do(t.Context(), Request{Method: "POST", URL: s.URL, Body: []byte("x")})
	require.NoError(t, err)
	dead.Store(true)
	_, err = b.client.Do(t.Context(), Request{Method: "POST", URL: s.URL, Body: []byte("x")})
	e := failure(t, err)
	require.Equal(t, ReasonRefused, e.Reason)
	require.True(t, e.NotSent())
	require.EqualValues(t, 1, calls.Load())
}

func TestTimeoutAfterSending(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Timeout: 50 * time.Millisecond})
	release := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	_, err := b.client.Do(t.Context(), Request{Method: "POST", URL: s.URL, Body: []byte("x")})
	e := failure(t, err)
	require.Equal(t, ReasonTimeout, e.Reason)
	require.True(t, e.OutcomeUnknown())
}

func TestTimeoutBeforeSending(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Timeout: 50 * time.Millisecond, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }}})
	_, err := b.client.Do(t.Context(), Request{Method: "POST", URL: "http://example.invalid/"})
	e := failure(t, err)
	require.Equal(t, ReasonTimeout, e.Reason)
	require.True(t, e.NotSent())
	require.False(t, e.OutcomeUnknown())
}

func TestTheCallerGivesUp(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	arrived, release := make(chan struct{}), make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { close(arrived); <-release })
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	_, err := b.client.Do(ctx, Request{Method: "POST", URL: s.URL})
	require.ErrorIs(t, err, context.Canceled)
	e := failure(t, err)
	require.Equal(t, ReasonCancelled, e.Reason)
	require.True(t, e.OutcomeUnknown())
}

func TestRefusalKeepsItsBodyToItself(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(500)
		_, _ = io.WriteString(w, "stack trace of "+strings.Repeat("x", 100<<10))
	})
	_, err := b.client.Do(t.Context(), Request{URL: s.URL + "/a?b=secret"})
	e := failure(t, err)
	require.Equal(t, ReasonStatus, e.Reason)
	require.Equal(t, 500, e.Status)
	require.Equal(t, "text/plain", e.ContentType)
	require.Len(t, e.Body, keptBody)
	require.False(t, e.NotSent())
	require.False(t, e.OutcomeUnknown())
	require.NotContains(t, err.Error(), "stack")
	require.NotContains(t, b.logs.String(), "stack")
	require.NotContains(t, b.logs.String(), "secret")
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	var calls atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	_, err := b.client.Do(t.Context(), Request{Method: "POST", URL: s.URL, Body: []byte("x")})
	require.Equal(t, 307, failure(t, err).Status)
	require.EqualValues(t, 1, calls.Load())
}

func TestAnswersOfNoUse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer string
		cfg    Config
	}{
		"no JSON":     {answer: "<html>"},
		"half JSON":   {answer: `{"a":`},
		"other JSON":  {answer: `[1]`},
		"nothing":     {answer: ""},
		"far too big": {answer: `{"a":"` + strings.Repeat("x", 2000) + `"}`, cfg: Config{MaxBody: 1000}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, c.cfg)
			s := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, c.answer) })
			var out map[string]any
			e := failure(t, b.client.JSON(t.Context(), Request{URL: s.URL}, &out))
			require.Equal(t, ReasonMalformed, e.Reason)
			require.False(t, e.OutcomeUnknown())
			require.False(t, e.NotSent())
			require.Len(t, b.exchanges(), 1)
			require.Equal(t, ReasonMalformed, b.exchanges()[0].Reason)
		})
	}
}

func TestAnswerThatBreaksOff(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, `{"a":1}`)
	})
	_, err := b.client.Do(t.Context(), Request{URL: s.URL})
	e := failure(t, err)
	require.Equal(t, ReasonBroken, e.Reason)
	require.Equal(t, 200, e.Status)
	require.True(t, e.OutcomeUnknown())
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestStream(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{MaxBody: 10}) // which does not bind streams
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 1<<20)) })
	body, _, err := b.client.Stream(t.Context(), Request{URL: s.URL})
	require.NoError(t, err)
	n, err := io.Copy(io.Discard, body)
	require.NoError(t, err)
	require.EqualValues(t, 1<<20, n)
	require.NoError(t, body.Close())
	require.Len(t, b.exchanges(), 1)
}

func TestStreamThatFails(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		max     int64
		want    Reason
	}{
		"falls silent": {handler: func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}, want: ReasonTimeout},
		"breaks off": {handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "x")
		}, want: ReasonBroken},
		"is too large": {handler: func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("x", 5000))
		}, max: 100, want: ReasonMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, Config{Timeout: 300 * time.Millisecond})
			s := serve(t, c.handler)
			body, _, err := b.client.Stream(t.Context(), Request{URL: s.URL, MaxBody: c.max})
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, body)
			require.Equal(t, c.want, failure(t, err).Reason)
			require.NoError(t, body.Close())
			require.Len(t, b.exchanges(), 1)
			require.Equal(t, c.want, b.exchanges()[0].Reason)
		})
	}
}

func TestStreamIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) })
	_, _, err := b.client.Stream(t.Context(), Request{URL: s.URL})
	require.Equal(t, 404, failure(t, err).Status)
	_, _, err = b.client.Stream(t.Context(), Request{URL: closedAddress(t)})
	require.True(t, failure(t, err).NotSent())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = b.client.Stream(ctx, Request{URL: s.URL})
	require.True(t, errors.Is(err, context.Canceled))
}

func TestCleanURL(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"http://u:p@h:1/a/$query?x=1#f": "http://h:1/a/$query",
		"http://h/a%2Fb?x":              "http://h/a%2Fb",
		"::":                            "(invalid address)",
		"":                              "",
	} {
		require.Equal(t, want, CleanURL(in), in)
	}
}
