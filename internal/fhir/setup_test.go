package fhir

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/httpclient"
)

// bundle is a client, the server it speaks to, and what that server was asked.
type bundle struct {
	client *Client
	server *httptest.Server
	mu     sync.Mutex
	asked  []*http.Request
}

func setup(t *testing.T, cfg Config, answer http.HandlerFunc) *bundle {
	t.Helper()
	b := &bundle{}
	b.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.asked = append(b.asked, r.Clone(r.Context()))
		b.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(b.server.Close)
	cfg.URL = b.server.URL + "/fhir"
	cfg.NewTraceID = func() string { return "trace" }
	client, err := New(newHTTP(t, httpclient.Config{MaxBody: 1 << 20}), cfg)
	require.NoError(t, err)
	b.client = client
	return b
}

func newHTTP(t *testing.T, cfg httpclient.Config) *httpclient.Client {
	t.Helper()
	c, err := httpclient.New(slog.New(slog.NewTextHandler(io.Discard, nil)), cfg)
	require.NoError(t, err)
	t.Cleanup(c.CloseIdle)
	return c
}

func (b *bundle) uris() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, r := range b.asked {
		out = append(out, r.RequestURI)
	}
	return out
}

func (b *bundle) headers(i int) http.Header {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked[i].Header
}

func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
}

// reset breaks the connection instead of answering.
func reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

const short = 50 * time.Millisecond
