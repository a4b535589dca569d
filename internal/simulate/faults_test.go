package simulate

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/simulate/faultplan"
)

func large(c *Config) { c.CohortCreationLimit = 10 }

// ofETL waits for the next callback of the ETL, past those of QueryExecutor.
func (b *bundle) ofETL(t *testing.T) call {
	t.Helper()
	for {
		if c := b.backend.next(t); c.Token == "Bearer etl-token" {
			return c
		}
	}
}

func TestETL(t *testing.T) {
	t.Parallel()
	t.Run("Twice", func(t *testing.T) {
		t.Parallel()
		b := setup(t, large)
		require.NoError(t, b.Faults().Set(faultplan.Rule{Peer: "etl", Action: faultplan.CallbackDuplicate}))
		b.post(t, "create", "c1", fmt.Sprintf(women, "c1"), "")
		require.Equal(t, b.ofETL(t), b.ofETL(t))
	})
	t.Run("Fails", func(t *testing.T) {
		t.Parallel()
		b := setup(t, large)
		require.NoError(t, b.Faults().Set(faultplan.Rule{Peer: "etl", UUID: "c1", Action: faultplan.CallbackBody, Body: `{"request_job_status":"ERROR","message":"no"}`}))
		b.post(t, "create", "c1", fmt.Sprintf(women, "c1"), "")
		require.Equal(t, "ERROR", b.ofETL(t).Body["request_job_status"])
	})
	t.Run("GoesOnAfterARestart", func(t *testing.T) {
		t.Parallel()
		b := setup(t, large, func(c *Config) { c.IndexDelay = time.Hour })
		b.post(t, "create", "c1", fmt.Sprintf(women, "c1"), "")
		require.Equal(t, "LONG_PENDING", b.backend.next(t).Body["request_job_status"])
		require.NoError(t, b.Stop(t.Context()))
		b.cfg.IndexDelay = 0
		b.Suite = b.start(t)
		require.Equal(t, "PATCH /cohort/cohorts/c1/", b.ofETL(t).Path)
		require.Eventually(t, func() bool { return b.Lists().All()[0].Indexed }, 10*time.Second, time.Millisecond)
	})
	t.Run("OnDemand", func(t *testing.T) {
		t.Parallel()
		b := setup(t, large, func(c *Config) { c.IndexDelay = time.Hour })
		b.post(t, "create", "c1", fmt.Sprintf(women, "c1"), "")
		b.backend.next(t)
		finish := b.Addresses().Control + "/_simulate/etl/%s/finish"
		status, _ := b.call(t, http.MethodPost, fmt.Sprintf(finish, "nobody"), "", nil, "")
		require.Equal(t, http.StatusNotFound, status)
		status, _ = b.call(t, http.MethodPost, fmt.Sprintf(finish, "c1"), "", strings.NewReader(`{"request_job_status":"finished"}`), "")
		require.Equal(t, http.StatusNoContent, status)
		require.Equal(t, `{"request_job_status":"finished"}`, b.ofETL(t).Raw)
	})
}

func TestControl(t *testing.T) {
	t.Parallel()
	b := setup(t)
	base := b.Addresses().Control + "/_simulate"
	for _, bad := range []string{`{`, `[{"peer":"moon","action":"hang"}]`, `[{"peer":"qe","action":"hang","colour":"red"}]`} {
		status, _ := b.call(t, http.MethodPut, base+"/faults", "", strings.NewReader(bad), "")
		require.Equal(t, http.StatusBadRequest, status, bad)
	}
	status, _ := b.call(t, http.MethodPut, base+"/faults", "", strings.NewReader(`[{"peer":"qe","action":"status","code":500}]`), "")
	require.Equal(t, http.StatusNoContent, status)
	_, body := b.call(t, http.MethodGet, base+"/faults", "", nil, "")
	require.JSONEq(t, `[{"peer":"qe","action":"status","code":500}]`, string(body))
	status, _ = b.call(t, http.MethodGet, b.Addresses().QueryExecutor+"/jobs", "", nil, "")
	require.Equal(t, http.StatusInternalServerError, status)
	status, _ = b.call(t, http.MethodDelete, base+"/faults", "", nil, "")
	require.Equal(t, http.StatusNoContent, status)

	job := b.post(t, "count", "d1", fmt.Sprintf(women, "d1"), "")
	b.backend.next(t)
	status, _ = b.call(t, http.MethodPost, base+"/jobs/"+job["jobId"].(string)+"/callback", "", strings.NewReader(`{"request_job_status":"KILLED"}`), "")
	require.Equal(t, http.StatusNoContent, status)
	require.Equal(t, `{"request_job_status":"KILLED"}`, b.backend.next(t).Raw)
	status, _ = b.call(t, http.MethodPost, base+"/jobs/nobody/callback", "", strings.NewReader(`{}`), "")
	require.Equal(t, http.StatusNotFound, status)

	requests := b.Requests("qe")
	require.Len(t, requests, 2)
	require.Equal(t, http.StatusInternalServerError, requests[0].Status)
	require.Equal(t, "/jobs?appName=omop-spark-job", requests[1].URI)
	require.Contains(t, requests[1].Body, "input.cohortUuid = d1")
	require.Len(t, b.Requests(""), 2)

	_, body = b.call(t, http.MethodPost, base+"/evaluate", "", strings.NewReader(fmt.Sprintf(women, "d1")), "")
	want, err := b.Evaluate(fmt.Sprintf(women, "d1"))
	require.NoError(t, err)
	require.JSONEq(t, fmt.Sprintf(`{"count":%d}`, want), string(body))
	status, _ = b.call(t, http.MethodPost, base+"/evaluate", "", strings.NewReader("{"), "")
	require.Equal(t, http.StatusBadRequest, status)
	status, _ = b.call(t, http.MethodGet, base+"/mails/7", "", nil, "")
	require.Equal(t, http.StatusNotFound, status)
}

func TestCrash(t *testing.T) {
	t.Parallel()
	t.Run("ALineCutOffIsDropped", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.post(t, "count", "d1", fmt.Sprintf(women, "d1"), "")
		b.backend.next(t)
		require.NoError(t, b.Stop(t.Context()))
		path := filepath.Join(b.cfg.Dir, "queryexecutor", "jobs.jsonl")
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, append(data, `{"id":"half`...), 0o600))
		b.Suite = b.start(t)
		require.Equal(t, "FINISHED", b.status(t, 0))
		require.Empty(t, b.status(t, 1))
	})
	t.Run("ACreationIsNotStoredTwice", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.post(t, "create", "c1", fmt.Sprintf(women, "c1"), "")
		first := b.backend.next(t).Body["group.id"]
		require.NoError(t, b.Stop(t.Context()))
		// As if the process had died after the list was stored, and before that was noted.
		path := filepath.Join(b.cfg.Dir, "queryexecutor", "jobs.jsonl")
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		line, _, _ := strings.Cut(string(data), "\n")
		require.Contains(t, line, `"status":"RUNNING"`)
		require.NoError(t, os.WriteFile(path, []byte(line+"\n"), 0o600))
		b.Suite = b.start(t)
		require.Equal(t, first, b.backend.next(t).Body["group.id"])
		require.Len(t, b.Lists().All(), 1)
	})
	t.Run("ABackendThatIsDownLosesTheCallback", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.backend.Close()
		b.post(t, "count", "d1", fmt.Sprintf(women, "d1"), "")
		require.Eventually(t, func() bool { return b.status(t, 0) == "FINISHED" }, 10*time.Second, time.Millisecond)
	})
}
