package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/access"
	"cohortflow/internal/app"
	"cohortflow/internal/config"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/queue"
)

// The keys of the machines in these tests.
const (
	executorKey = "executor-key-of-the-tests"
	indexerKey  = "indexer-key-of-the-tests"
	rolloutKey  = "rollout-key-of-the-tests"
)

// perimeters is a hospital with a department and a unit.
const perimeters = `id;name;short_name;type_source_value;source_value;local_id;cohort_id;parent_id;level;above_levels_ids;inferior_levels_ids;full_path;cohort_size
1;Hospital;Hospital;CHU;H1;1;1;;1;;2;H1-Hospital;100
2;Department;Department;Pôle;D1;2;2;1;2;1;3;H1-Hospital/D1-Department;50
3;Unit;Unit;Unité;U1;3;3;2;3;1,2;;H1-Hospital/D1-Department/U1-Unit;10
`

// served is a whole API process without workers: nothing changes unless a request changes it.
type served struct {
	app     *app.App
	url     string
	db      *database.DB // beside the process's own
	log     *failureLog
	callers []caller
	refs    []string // ids of rows of alice and of bob
}

// caller is somebody who sends requests.
type caller struct {
	name   string
	header map[string]string
}

// eachServer runs test on both databases.
func eachServer(t *testing.T, test func(t *testing.T, s *served)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, serve(t, "sqlite:"+filepath.Join(t.TempDir(), "test.db")))
	})
	t.Run("Postgres", func(t *testing.T) {
		t.Parallel()
		test(t, serve(t, databasetest.PostgresURL(t)))
	})
}

// serve starts a process on a database, with two researchers, an administrator and the machines.
func serve(t *testing.T, databaseURL string) *served {
	t.Helper()
	s := &served{log: &failureLog{}}
	s.app = newApp(t, databaseURL, s.log)
	require.NoError(t, s.app.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, s.app.Stop(ctx))
	})
	s.url = "http://" + s.app.Address()
	db, err := database.Open(t.Context(), database.Config{URL: databaseURL, MaxConns: 2})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	s.db = db
	for _, name := range []string{"alice", "bob"} {
		require.NoError(t, s.app.Access().EnsureHolder(t.Context(), access.NewUser{Username: name, Firstname: "A", Lastname: "B", Email: name + "@example.org", Password: "correct"}, access.DemoRoles()[1], 1))
	}
	s.callers = []caller{{"nobody", nil}, s.signIn(t, "admin", "correct"), s.signIn(t, "alice", "correct"), s.signIn(t, "bob", "correct"), {"a wrong key", bearer("wrong", "")},
		{"executor", bearer(executorKey, "")}, {"indexer", bearer(indexerKey, "")}, {"rollout", bearer(rolloutKey, "")}}
	for _, c := range s.callers[1:4] {
		s.plant(t, c)
	}
	return s
}

// newApp builds a process that has its tables, three perimeters and the first accounts.
func newApp(t *testing.T, databaseURL string, log *failureLog, environ ...string) *app.App {
	t.Helper()
	cfg, err := config.Load(append([]string{"DATABASE_URL=" + databaseURL, "ADDR=127.0.0.1:0", "METRICS_ADDR=127.0.0.1:0", "DJANGO_SECRET_KEY=secret", "JWT_SIGNING_KEY=signing", "ADMIN_PASSWORD=correct", "ADMIN_USERNAME=admin",
		"FHIR_URL=http://127.0.0.1:9", "QUERY_EXECUTOR_URL=http://127.0.0.1:9", "QUERY_EXECUTOR_TOKEN=" + executorKey, "SOLR_ETL_TOKEN=" + indexerKey, "ROLLOUT_TOKEN=" + rolloutKey,
		"PERIMETER_TYPES=CHU,Pôle,Unité", "ROOT_PERIMETER_ID=1", "STORAGE_PROVIDERS=file://" + t.TempDir(), "COHORT_SIZE_LIMIT=1000", "LOGIN_MAX_FAILURES=1000000"}, environ...))
	require.NoError(t, err)
	a, err := app.New(t.Context(), cfg, app.Options{Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})), Roles: app.Roles{API: true}, Embedded: queue.NewEmbedded()})
	require.NoError(t, err)
	_, err = a.Migrate(t.Context(), database.MigrateOptions{})
	require.NoError(t, err)
	_, err = a.LoadInitialData(t.Context(), strings.NewReader(perimeters))
	require.NoError(t, err)
	return a
}

func bearer(token, method string) map[string]string {
	header := map[string]string{"Authorization": "Bearer " + token}
	if method != "" {
		header["AuthorizationMethod"] = method
	}
	return header
}

func (s *served) signIn(t *testing.T, username, password string) caller {
	t.Helper()
	status, answer := s.send(t, caller{header: map[string]string{"AuthorizationMethod": "JWT"}}, http.MethodPost, "/auth/login/", map[string]any{"username": username, "password": password})
	require.Equal(t, http.StatusOK, status, "%v", answer)
	token, _ := answer["access_token"].(string)
	return caller{username, bearer(token, "JWT")}
}

// plant makes one of each row that a researcher can have.
func (s *served) plant(t *testing.T, c caller) {
	t.Helper()
	create := func(path string, body map[string]any) string {
		status, answer := s.send(t, c, http.MethodPost, path, body)
		require.Equal(t, http.StatusCreated, status, "%s: %v", path, answer)
		id, _ := answer["uuid"].(string)
		s.refs = append(s.refs, id)
		return id
	}
	folder := create("/cohort/folders/", map[string]any{"name": "folder"})
	request := create("/cohort/requests/", map[string]any{"name": "request", "parent_folder": folder})
	snapshot := create("/cohort/request-query-snapshots/", map[string]any{"request": request, "serialized_query": queries()[0]})
	measure := create("/cohort/dated-measures/", map[string]any{"request_query_snapshot": snapshot})
	create("/cohort/cohorts/", map[string]any{"name": "cohort", "request_query_snapshot": snapshot, "dated_measure": measure})
	create("/cohort/feasibility-studies/", map[string]any{"request_query_snapshot": snapshot})
	create("/cohort/fhir-filters/", map[string]any{"name": "filter " + c.name, "fhir_resource": "Patient", "fhir_version": "4", "filter": "active=true"})
}

// send sends JSON and reads an object.
func (s *served) send(t *testing.T, c caller, method, path string, body any) (status int, answer map[string]any) {
	t.Helper()
	raw, err := json.Marshal(body)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, bytes.NewReader(raw))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	for name, value := range c.header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	_ = json.Unmarshal(text, &answer)
	return resp.StatusCode, answer
}

// rows counts the rows of every table that a request of a user changes on purpose.
func (s *served) rows(t *testing.T) map[string]int64 {
	t.Helper()
	var parts []string
	for _, table := range counted {
		parts = append(parts, fmt.Sprintf(`SELECT '%s' AS name, count(*) AS n FROM "%s"`, table, table))
	}
	var found []struct {
		Name string
		N    int64
	}
	require.NoError(t, s.db.Read(t.Context()).Raw(strings.Join(parts, " UNION ALL ")).Scan(&found).Error)
	counts := map[string]int64{}
	for _, r := range found {
		counts[r.Name] = r.N
	}
	return counts
}

// counted leaves out what a refusal writes: the request log, failed sign-ins, the timeline.
var counted = []string{"user", "accesses_access", "accesses_profile", "accesses_role", "admin_cohort_maintenancephase", "release_note", "cohort_folder", "cohort_request", "cohort_requestquerysnapshot", "cohort_datedmeasure",
	"cohort_cohortresult", "cohort_feasibilitystudy", "cohort_requestrefreshschedule", "cohort_fhirfilter", "infrastructure_provider", "datalab", "export", "export_table", "export_result_stat",
	"content_management_content", "content_management_contentmetadata", "engine_job", "engine_task", "engine_secret", "engine_notification"}

// failures are the last lines of the log.
func (s *served) failures() string { return s.log.last() }

// failureLog keeps the last lines.
type failureLog struct {
	mu    sync.Mutex
	lines [][]byte
}

// Write implements io.Writer.
func (l *failureLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, bytes.Clone(line))
	if len(l.lines) > 4 {
		l.lines = l.lines[1:]
	}
	return len(line), nil
}

func (l *failureLog) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(bytes.Join(l.lines, nil))
}
