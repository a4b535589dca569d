package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/platformtest"
	"cohortflow/internal/platform/telemetry"
)

func TestLogger(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := telemetry.Logger(&out, "warn", "api")
	require.NoError(t, err)
	log.Info("not this")
	log.Warn("this", "job", "1")
	require.NotContains(t, out.String(), "not this")
	require.Contains(t, out.String(), `"process":"api","job":"1"`)
	_, err = telemetry.Logger(&out, "loud", "api")
	require.ErrorContains(t, err, "LOG_LEVEL")
}

func TestLinesTellTheirRequest(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		ctx  context.Context
		want string
	}{
		"OutsideARequest": {context.Background(), `"msg":"this","process":"api"`},
		"Nobody":          {telemetry.WithRequest(context.Background(), telemetry.Request{TraceID: "t"}), `"msg":"this","process":"api","x_traceId":"t"`},
		"Somebody": {telemetry.WithRequest(context.Background(), telemetry.Request{TraceID: "t", User: "alice"}),
			`"msg":"this","process":"api","x_traceId":"t","x_userId":"alice"`},
		"SomebodyElse": {telemetry.WithRequest(context.Background(), telemetry.Request{TraceID: "t", User: "admin", Impersonating: "alice"}),
			`"msg":"this","process":"api","x_traceId":"t","x_userId":"admin","x_impersonating":"alice"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			log, err := telemetry.Logger(&out, "info", "api")
			require.NoError(t, err)
			log.InfoContext(tt.ctx, "this")
			require.Contains(t, out.String(), tt.want+"}\n")
		})
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics()
	m.Observe("GET", "/cohort/folders/:uuid/", 200, time.Millisecond)
	m.Observe("GET", "", 404, time.Millisecond)
	m.Gauges("jobs", "Jobs.", "state", func(context.Context) (map[string]float64, error) { return map[string]float64{"new": 2}, nil })
	m.Gauges("broken", "Broken.", "x", func(context.Context) (map[string]float64, error) { return nil, errors.New("away") })
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, 200, answer.Code, "one figure that cannot be had must not hide the others")
	require.Contains(t, answer.Body.String(), `jobs{state="new"} 2`)
	require.Contains(t, answer.Body.String(), `route="/cohort/folders/:uuid/",status="200"`)
	require.Contains(t, answer.Body.String(), `route="none",status="404"`)
}

// greeter is a server that says hello.
func greeter(addr string) *telemetry.HTTPServer {
	return &telemetry.HTTPServer{Name: "API", Addr: addr, Setting: "ADDR", Log: slog.New(slog.DiscardHandler), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })}
}

// ask is what is answered at an address, "" when nobody is there. It does not keep the connection.
func ask(t *testing.T, address string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address, nil)
	require.NoError(t, err)
	r.Close = true
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return ""
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return string(body)
}

func TestHTTPServer(t *testing.T) {
	t.Parallel()
	s := greeter("127.0.0.1:0")
	require.Empty(t, s.Address())
	require.NoError(t, s.Stop(t.Context()), "stopped without a start")
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	require.Equal(t, "hello", ask(t, s.Address()))
	require.ErrorContains(t, greeter(s.Address()).Start(t.Context()), "another address: ADDR")

	first := s.Address()
	require.NoError(t, s.Start(t.Context()), "a second start does nothing")
	require.Equal(t, first, s.Address())
	require.Equal(t, "hello", ask(t, s.Address()))
	require.NoError(t, s.Stop(t.Context()))
	require.NoError(t, s.Stop(t.Context()), "a second stop does nothing")
	require.Equal(t, first, s.Address(), "it can still be told")
	require.NotEqual(t, "hello", ask(t, first), "it does not serve any more")
	require.NoError(t, s.Start(t.Context()), "it can be started again")
	require.Equal(t, "hello", ask(t, s.Address()))
}

func TestHTTPServerBreaksOffWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	s, begun := greeter("127.0.0.1:0"), make(chan struct{})
	s.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { close(begun); <-r.Context().Done() })
	require.NoError(t, s.Start(t.Context()))
	answered := make(chan error, 1)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Address(), nil)
	require.NoError(t, err)
	go func() {
		answer, err := http.DefaultClient.Do(r)
		if err == nil {
			err = answer.Body.Close()
		}
		answered <- err
	}()
	platformtest.Receive(t, begun, "the request is served")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, s.Stop(over), "stop API")
	require.Error(t, platformtest.Receive(t, answered, "the client is told"))
	require.NoError(t, s.Stop(t.Context()))
}
