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

func TestHTTPServer(t *testing.T) {
	t.Parallel()
	setup := func(addr string) *telemetry.HTTPServer {
		return &telemetry.HTTPServer{Name: "API", Addr: addr, Setting: "ADDR", Log: slog.New(slog.DiscardHandler), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })}
	}
	first := setup("127.0.0.1:0")
	require.NoError(t, first.Start(t.Context()))
	answer, err := http.Get("http://" + first.Address())
	require.NoError(t, err)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, "hello", string(body))

	require.ErrorContains(t, setup(first.Address()).Start(t.Context()), "another address: ADDR")
	require.NoError(t, setup("127.0.0.1:0").Stop(t.Context()), "stopped without a start")
	require.NoError(t, first.Stop(t.Context()))
	require.NoError(t, setup(first.Address()).Start(t.Context()), "the address is free again")
}
