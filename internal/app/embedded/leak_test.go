package embedded

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/app"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/platformtest"
	"cohortflow/internal/simulate/faultplan"
)

// What is planted, and must not come up where it does not belong.
const (
	patient    = "DUPONTPLANTED"
	ipp        = "80123456789012"
	mailWord   = "planted.word@hospital.example"
	wrongWord  = "planted-wrong-password"
	forged     = "planted-forged-token"
	peerText   = "planted-text-of-a-peer" // a peer's message is shown to the owner of the job, and to nobody else
	motivation = "planted-motivation"
)

// recorder keeps what is written, line by line.
type recorder struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// leaks is the whole product, with everything recorded that leaves the process or is kept.
type leaks struct {
	t     *testing.T
	in    *installation
	logs  *recorder
	redis *recorder
	base  string
	token string
	// tokens are all that were issued.
	tokens []string
}

// setupLeaks brings it up on the database of a URL; "": on its own SQLite file.
func setupLeaks(t *testing.T, databaseURL string) *leaks {
	t.Helper()
	dir, err := openDirectory(t.TempDir(), false)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dir.close()) })
	s, err := dir.secrets()
	require.NoError(t, err)
	l := &leaks{t: t, logs: &recorder{}, redis: &recorder{}}
	log := slog.New(slog.NewJSONHandler(l.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	redisURL := platformtest.RedisURL(t)
	monitor(t, redisURL, l.redis)
	l.in = &installation{dir: dir, secrets: s, log: log, out: io.Discard, environ: []string{"ADDR=127.0.0.1:0", "REDIS_URL=" + redisURL}}
	if databaseURL != "" {
		l.in.environ = append(l.in.environ, "DATABASE_URL="+databaseURL)
	}
	t.Cleanup(func() { require.NoError(t, l.in.stop()) })
	l.in.log = slog.New(slog.DiscardHandler) // of the simulators, which stand for other systems
	for _, step := range []func(context.Context) error{l.in.simulate, l.in.configure} {
		require.NoError(t, step(t.Context()))
	}
	l.in.log = log
	l.in.app, err = app.New(t.Context(), l.in.cfg, app.Options{Log: log, Clock: clock.System{}, Roles: app.Roles{API: true, Worker: true, Scheduler: true}})
	require.NoError(t, err)
	for _, step := range []func(context.Context) error{l.in.fill, l.in.serve} {
		require.NoError(t, step(context.WithoutCancel(t.Context())))
	}
	l.base = "http://" + l.in.app.Address()
	return l
}

// monitor records every command that Redis is sent, with its arguments.
func monitor(t *testing.T, address string, into io.Writer) {
	t.Helper()
	options, err := redis.ParseURL(address)
	require.NoError(t, err)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", options.Addr)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(platformtest.Patience)))
	_, err = fmt.Fprintf(conn, "AUTH %s\r\nMONITOR\r\n", options.Password)
	require.NoError(t, err)
	lines := bufio.NewReader(conn)
	for range 2 {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "+OK\r\n", line)
	}
	require.NoError(t, conn.SetDeadline(time.Time{}))
	ended := make(chan struct{})
	of := fmt.Sprintf("[%d ", options.DB) // other tests use other databases
	go func() {
		defer close(ended)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			if strings.Contains(line, of) {
				_, _ = io.WriteString(into, line)
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-ended })
}

// call sends a request; a body that is no text is sent as JSON.
func (l *leaks) call(method, path string, body any, header ...string) (status int, answer map[string]any) {
	l.t.Helper()
	var text string
	switch body := body.(type) {
	case nil:
	case string:
		text = body
	default:
		raw, err := json.Marshal(body)
		require.NoError(l.t, err)
		text = string(raw)
	}
	r, err := http.NewRequestWithContext(l.t.Context(), method, l.base+path, strings.NewReader(text))
	require.NoError(l.t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("AuthorizationMethod", "JWT")
	if l.token != "" {
		r.Header.Set("Authorization", "Bearer "+l.token)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	require.NoError(l.t, err)
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	require.NoError(l.t, err)
	assert.Less(l.t, response.StatusCode, 500, "%s %s: %s", method, path, raw)
	_ = json.Unmarshal(raw, &answer)
	return response.StatusCode, answer
}

// must is call, with the status that is due.
func (l *leaks) must(status int, method, path string, body any) map[string]any {
	l.t.Helper()
	got, answer := l.call(method, path, body)
	require.Equal(l.t, status, got, "%s %s: %v", method, path, answer)
	return answer
}

func (l *leaks) signIn() {
	l.t.Helper()
	answer := l.must(200, "POST", "/auth/login/", map[string]any{"username": researcher, "password": l.in.secrets.Researcher})
	l.token = answer["access_token"].(string)
	l.tokens = append(l.tokens, l.token, answer["refresh_token"].(string))
}

// query is a document that names a patient: in a criterion's name, or in its filter.
func (l *leaks) query(name, filter string) string {
	perimeter := l.in.suite.Hospital().Perimeters()[1].CohortID
	return fmt.Sprintf(`{"version":"v1.6.1","_type":"request","sourcePopulation":{"caresiteCohortList":["%d"]},"request":{"_type":"andGroup","_id":0,"isInclusive":true,
		"criteria":[{"_type":"basicResource","_id":1,"isInclusive":true,"resourceType":"Patient","name":%q,"filterFhir":%q}],"temporalConstraints":[]}}`, perimeter, name, filter)
}

// snapshot keeps a query in a request of its own.
func (l *leaks) snapshot(query string) (request, snapshot string) {
	l.t.Helper()
	folder := l.must(201, "POST", "/cohort/folders/", map[string]any{"name": patient})
	asked := l.must(201, "POST", "/cohort/requests/", map[string]any{"name": patient, "description": ipp, "parent_folder": folder["uuid"]})
	kept := l.must(201, "POST", "/cohort/request-query-snapshots/", map[string]any{"request_id": asked["uuid"], "serialized_query": query})
	return asked["uuid"].(string), kept["uuid"].(string)
}

// count has a snapshot counted and waits for the end.
func (l *leaks) count(snapshot string) (measure, status string) {
	l.t.Helper()
	m := l.must(201, "POST", "/cohort/dated-measures/", map[string]any{"request_query_snapshot_id": snapshot, "stageDetails": nil})
	id := m["uuid"].(string)
	return id, l.ended("/cohort/dated-measures/" + id + "/")
}

func (l *leaks) ended(path string) (status string) {
	l.t.Helper()
	require.Eventually(l.t, func() bool {
		status = fmt.Sprint(l.must(200, "GET", path, nil)["request_job_status"])
		return status == "finished" || status == "failed"
	}, platformtest.Patience, 30*time.Millisecond, "%s: %s", path, status)
	return status
}

// TestNothingLeaks runs the workflow, with as much as possible going wrong, and then looks for what it planted.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		nothingLeaks(t, setupLeaks(t, ""))
	})
	t.Run("Postgres", func(t *testing.T) {
		t.Parallel()
		nothingLeaks(t, setupLeaks(t, databasetest.PostgresURL(t)))
	})
}

func nothingLeaks(t *testing.T, l *leaks) {
	t.Helper()
	l.failedLogins()
	l.signIn()
	l.workflow()
	l.failures()
	l.malformed()
	l.must(200, "POST", "/auth/logout/", map[string]any{"refresh_token": l.tokens[1]})
	metrics := l.metrics()
	tables := l.tables()

	engine, all := &strings.Builder{}, &strings.Builder{}
	for name, content := range tables {
		all.WriteString(content)
		if strings.HasPrefix(name, "engine_") {
			engine.WriteString(name + "\n" + content)
		}
	}
	redisText := l.redis.String() + l.keys()
	// The recorders work: each holds what it must.
	for _, line := range []string{"query translated", "outside system failed", "mail was not sent"} {
		require.Contains(t, l.logs.String(), line)
	}
	require.Contains(t, redisText, "asynq:")
	require.Contains(t, engine.String(), "engine_job.kind=")
	require.Contains(t, all.String(), patient)
	require.Contains(t, metrics, "cohortflow_http_request_seconds")
	require.Contains(t, all.String(), peerText, "the peer's message was not used")
	require.NotEmpty(t, l.in.suite.Inbox().Mails(), "no mail was sent")

	secrets := append([]string{wrongWord, forged, l.in.secrets.Researcher, l.in.secrets.Admin, l.in.secrets.QueryExecutor, l.in.secrets.ETL, l.in.secrets.FHIR,
		l.in.secrets.Application, l.in.secrets.Signing}, l.tokens...)
	personal := []string{patient, ipp, mailWord, motivation, "demo@example.org", "Camille"}
	for _, word := range append(secrets, personal...) {
		for where, text := range map[string]string{"the logs": l.logs.String(), "Redis": redisText, "the engine's tables": engine.String(), "the metrics": metrics} {
			l.absent(where, text, word)
		}
	}
	for where, text := range map[string]string{"the logs": l.logs.String(), "Redis": redisText, "the metrics": metrics} {
		l.absent(where, text, peerText)
	}
	for _, word := range secrets {
		l.absent("the database", all.String(), word)
	}
}

// absent shows the lines that hold a word.
func (l *leaks) absent(where, text, word string) {
	l.t.Helper()
	for _, form := range []string{word, url.QueryEscape(word)} {
		for line := range strings.Lines(text) {
			if strings.Contains(line, form) {
				at := strings.Index(line, form)
				assert.Fail(l.t, "leak", "%s hold %q: …%s…", where, word, line[max(0, at-300):min(len(line), at+200)])
			}
		}
	}
}

func (l *leaks) failedLogins() {
	for _, body := range []string{
		`{"username":"demo","password":"` + wrongWord + `"}`,
		`{"username":"nobody","password":"` + wrongWord + `"}`,
		`{"username":"demo","password":["` + wrongWord + `"]}`,
		`{"username":"demo","password":"` + wrongWord, // broken off
		`"` + wrongWord + `"`,
		`{"auth_code":"` + forged + `","code_verifier":"` + forged + `","redirect_uri":"https://front/` + patient + `"}`,
	} {
		status, _ := l.call("POST", "/auth/login/", body)
		require.GreaterOrEqual(l.t, status, 400)
	}
	status, _ := l.call("POST", "/auth/login/", "username=demo&password="+wrongWord, "Content-Type", "application/x-www-form-urlencoded")
	require.GreaterOrEqual(l.t, status, 400)
	status, _ = l.call("POST", "/auth/refresh/", map[string]any{"refresh_token": forged})
	require.GreaterOrEqual(l.t, status, 400)
}

// workflow is a count, a cohort and an export that succeed.
func (l *leaks) workflow() {
	request, snapshot := l.snapshot(l.query("Patient "+patient+" "+ipp+" "+mailWord, "active=true&gender=f"))
	measure, status := l.count(snapshot)
	require.Equal(l.t, "finished", status)
	c := l.must(201, "POST", "/cohort/cohorts/", map[string]any{"dated_measure_id": measure, "request_query_snapshot_id": snapshot, "request_id": request,
		"name": patient + " " + mailWord, "description": ipp, "global_estimate": false})
	cohort := c["uuid"].(string)
	require.Equal(l.t, "finished", l.ended("/cohort/cohorts/"+cohort+"/"))
	filter := l.must(201, "POST", "/cohort/fhir-filters/", map[string]any{"fhir_resource": "Condition", "name": patient, "filter": "encounter.identifier=" + ipp, "fhir_version": "4", "query_version": "v1"})
	e := l.must(201, "POST", "/exports/", map[string]any{"motivation": motivation, "nominative": true, "shift_date": false, "output_format": "csv", "group_tables": false,
		"export_tables": []map[string]any{{"table_name": "person", "cohort_result_source": cohort}, {"table_name": "condition_occurrence", "cohort_result_source": cohort}}})
	require.Equal(l.t, "finished", l.ended("/exports/"+e["uuid"].(string)+"/"))
	l.call("GET", "/exports/"+e["uuid"].(string)+"/download/", nil)
	e = l.must(201, "POST", "/exports/", map[string]any{"motivation": motivation, "nominative": true, "output_format": "csv",
		"export_tables": []map[string]any{{"table_name": "person", "cohort_result_source": cohort}, {"table_name": "condition_occurrence", "cohort_result_source": cohort, "fhir_filter": filter["uuid"]}}})
	l.ended("/exports/" + e["uuid"].(string) + "/")
	l.must(201, "POST", "/cohort/request-query-snapshots/"+snapshot+"/share/", map[string]any{"name": patient, "recipients": "admin", "notify_by_email": true})
	s := l.must(201, "POST", "/cohort/feasibility-studies/", map[string]any{"request_query_snapshot_id": snapshot})
	l.call("GET", "/cohort/feasibility-studies/"+s["uuid"].(string)+"/download/", nil)
}

// failures are peers that refuse, break off and repeat what they were sent.
func (l *leaks) failures() {
	t := l.t
	set := func(rules ...faultplan.Rule) { require.NoError(t, l.in.suite.Faults().Set(rules...)) }
	_, unknown := l.snapshot(l.query("x", "family="+patient+"&identifier="+ipp+"&email="+mailWord))
	_, status := l.count(unknown)
	t.Log("a count with an unknown parameter:", status)

	_, snapshot := l.snapshot(l.query(patient, "active=true&identifier="+ipp))
	echo := `{"resourceType":"OperationOutcome","issue":[{"diagnostics":"family=` + patient + `&identifier=` + ipp + ` ` + mailWord + `"}]}`
	for _, rule := range []faultplan.Rule{
		{Peer: "fhir", Action: faultplan.Status, Code: 400, Body: echo},
		{Peer: "fhir", Action: faultplan.Body, Body: "<html>" + patient + " " + ipp},
		{Peer: "qe", Route: "POST /jobs", Action: faultplan.Status, Code: 400, Body: echo},
		{Peer: "qe", Route: "POST /jobs", Action: faultplan.Body, Body: "{" + patient},
		{Peer: "qe", Action: faultplan.JobError, Body: peerText},
	} {
		set(rule)
		_, status := l.count(snapshot)
		require.Equal(t, "failed", status, "%+v", rule)
	}
	for _, rule := range []faultplan.Rule{
		{Peer: "qe", Route: "POST /jobs", Action: faultplan.Reset, Times: 1},
		{Peer: "fhir", Action: faultplan.Reset, Times: 1},
	} {
		set(rule)
		l.count(snapshot)
	}
	set(faultplan.Rule{Peer: "smtp", Stage: "RCPT", Action: faultplan.Status, Code: 550, Body: "5.1.1 <demo@example.org> " + mailWord + " unknown"})
	_, shared := l.snapshot(l.query(patient, "active=true"))
	l.must(201, "POST", "/cohort/request-query-snapshots/"+shared+"/share/", map[string]any{"name": patient, "recipients": "admin", "notify_by_email": true})
	require.Eventually(t, func() bool { return strings.Contains(l.logs.String(), "mail was not sent") }, platformtest.Patience, 20*time.Millisecond)
	set()
	_, status = l.count(shared)
	require.Equal(t, "finished", status)
	l.callbacks(shared)
}

// callbacks are forged, and malformed with the right key.
func (l *leaks) callbacks(snapshot string) {
	measure, _ := l.count(snapshot)
	path := "/cohort/dated-measures/" + measure + "/"
	for _, token := range []string{forged, l.in.secrets.QueryExecutor, l.in.secrets.ETL, l.token} {
		for _, body := range []any{
			map[string]any{"request_job_status": "FINISHED", "count": patient, "message": ipp},
			map[string]any{"request_job_status": patient, "count": "1", "extra": map[string]any{patient: ipp}},
			map[string]any{patient: mailWord}, `{"request_job_status":"` + patient, `"` + ipp + `"`, `[` + ipp + `]`,
		} {
			for _, method := range []string{"", "JWT"} {
				l.call("PATCH", path, body, "Authorization", "Bearer "+token, "AuthorizationMethod", method)
			}
		}
	}
	for _, header := range []string{forged, "Bearer " + forged + " " + forged, "Basic " + forged} {
		l.call("PATCH", path, nil, "Authorization", header)
	}
}

// malformed are requests that cannot be served.
func (l *leaks) malformed() {
	for _, path := range []string{"/cohort/requests/?search=" + patient, "/cohort/requests/?parent_folder=" + patient, "/cohort/folders/" + patient + "/", "/nothing/" + ipp + "/?q=" + patient,
		"/users/?email=" + mailWord, "/users/" + mailWord + "/check/", "/users/" + mailWord + "/", "/jobs/" + patient + "/", "/exports/?ordering=" + patient, "/accesses/perimeters/?search=" + patient,
		"/cohort/cohorts/?group_id=" + ipp, "/cohort/cohorts/cohort-rights/?group_id=" + ipp, "/ws?token=" + forged} {
		l.call("GET", path, nil)
		l.call("GET", path, nil, "Authorization", "Bearer "+forged)
		l.call("GET", path, nil, "X-Impersonate", mailWord)
		l.call("PUT", path, `{"`+patient)
	}
	for _, path := range []string{"/cohort/folders/", "/cohort/requests/", "/cohort/request-query-snapshots/", "/cohort/fhir-filters/", "/exports/"} {
		for _, body := range []any{`{"name":"` + patient, map[string]any{"name": []string{patient}, "serialized_query": ipp, "filter": map[string]any{ipp: patient}}, "\x00" + patient} {
			l.call("POST", path, body)
		}
	}
}

func (l *leaks) metrics() string {
	l.t.Helper()
	r, err := http.NewRequestWithContext(l.t.Context(), "GET", "http://"+l.in.app.MetricsAddress()+"/metrics", nil)
	require.NoError(l.t, err)
	response, err := http.DefaultClient.Do(r)
	require.NoError(l.t, err)
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	require.NoError(l.t, err)
	return string(raw)
}

// tables are the rows of all tables, as text, by table.
func (l *leaks) tables() map[string]string {
	l.t.Helper()
	db, err := database.Open(l.t.Context(), database.Config{URL: l.in.cfg.DatabaseURL(), MaxConns: 2})
	require.NoError(l.t, err)
	defer func() { require.NoError(l.t, db.Close()) }()
	list := `SELECT name FROM sqlite_master WHERE type = 'table'`
	if db.Dialect() == database.Postgres {
		list = `SELECT tablename FROM pg_tables WHERE schemaname = current_schema()`
	}
	var names []string
	require.NoError(l.t, db.Read(l.t.Context()).Raw(list).Scan(&names).Error)
	content := map[string]string{}
	for _, name := range names {
		var rows []map[string]any
		require.NoError(l.t, db.Read(l.t.Context()).Raw(`SELECT * FROM "`+name+`"`).Scan(&rows).Error)
		var text strings.Builder
		for _, row := range rows {
			for column, value := range row {
				if raw, binary := value.([]byte); binary {
					value = string(raw)
				}
				fmt.Fprintf(&text, "%s.%s=%v ", name, column, value)
			}
			text.WriteByte('\n')
		}
		content[name] = text.String()
	}
	return content
}

// keys are the names and values that Redis still holds.
func (l *leaks) keys() string {
	l.t.Helper()
	options, err := redis.ParseURL(l.in.cfg.QueueURL())
	require.NoError(l.t, err)
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	var text strings.Builder
	for found := client.Scan(l.t.Context(), 0, "*", 1000).Iterator(); found.Next(l.t.Context()); {
		value, _ := client.Dump(l.t.Context(), found.Val()).Result()
		text.WriteString(found.Val() + " " + value + "\n")
	}
	return text.String()
}
