package telemetry_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/telemetry"
)

// A client must not be able to grow the metrics by words that it makes up.
func TestLabelsAreNotTheClients(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics()
	m.Observe("GET", "/things/:id/", 200, time.Millisecond)
	m.Observe("MADEUP1", "", 404, time.Millisecond)
	m.Observe("MADEUP2", "", 404, time.Millisecond)
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	require.Contains(t, rec.Body.String(), `cohortflow_http_request_seconds_count{method="GET",route="/things/:id/",status="200"} 1`)
	require.Contains(t, rec.Body.String(), `cohortflow_http_request_seconds_count{method="other",route="none",status="404"} 2`)
	require.NotContains(t, rec.Body.String(), "MADEUP")
}
