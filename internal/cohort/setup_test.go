package cohort

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
	"cohortflow/internal/fhir"
	"cohortflow/internal/identity"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/httpclient"
	"cohortflow/internal/platform/mail"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/queryexec"
	"cohortflow/tasks"
	"cohortflow/templates"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 123456000, time.UTC)

// bundle is a service behind its routes, with a database of its own and the users alice, bob and carol.
type bundle struct {
	t       *testing.T
	db      *database.DB
	clock   *clock.Fake
	engine  *engine.Engine
	worker  *engine.Worker
	rights  *rightsDouble
	qe      *executorDouble
	fhir    *fhirDouble
	mails   *mailerDouble
	service *Service
	jobs    *Jobs
	server  *web.Server
}

// rightsDouble gives everybody these rights on every cohort that has a population, and remembers what it was asked.
type rightsDouble struct {
	asked [][]string
}

func (r *rightsDouble) CohortRights(_ context.Context, _ string, cohorts [][]string) ([]GroupRights, error) {
	r.asked = cohorts
	rights := make([]GroupRights, len(cohorts))
	for i, population := range cohorts {
		rights[i] = GroupRights{ReadPseudonymized: len(population) > 0}
	}
	return rights, nil
}

// perimetersDouble is a tree with one root, of which nobody may read names.
type perimetersDouble struct{ root string }

func (p perimetersDouble) RootCohortIDs(context.Context) ([]string, error) {
	return []string{p.root}, nil
}

func (perimetersDouble) MayReadNominative(context.Context, string, []string) (bool, error) {
	return false, nil
}

// executorDouble is QueryExecutor: it takes every job, unless a test says otherwise.
type executorDouble struct {
	mu     sync.Mutex
	calls  []string                                                       // "POST count <uuid>", "DELETE J1", "GET J1"
	bodies []o                                                            // of the jobs
	answer func(w http.ResponseWriter, r *http.Request, uuid string) bool // true: it answered
	jobs   int
}

func (q *executorDouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := strings.TrimPrefix(r.URL.Path, "/jobs/")
	call := r.Method + " " + id
	if r.Method == http.MethodPost {
		var body o
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		input, _ := body["input"].(o)
		id, _ = input["cohortUuid"].(string)
		call = fmt.Sprintf("POST %v %s", input["mode"], id)
		q.mu.Lock()
		q.bodies = append(q.bodies, input)
		q.mu.Unlock()
	}
	q.mu.Lock()
	q.calls = append(q.calls, call)
	q.jobs++
	n, answer := q.jobs, q.answer
	q.mu.Unlock()
	if answer != nil && answer(w, r, id) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch r.Method {
	case http.MethodPost:
		fmt.Fprintf(w, `{"status":"RUNNING","jobId":"J%d","context":"","startTime":"","duration":"","result":"","classPath":""}`, n)
	case http.MethodDelete:
		fmt.Fprintf(w, `{"status":"KILLED","jobId":%q}`, id)
	default:
		fmt.Fprintf(w, `{"status":"RUNNING","jobId":%q,"result":""}`, id)
	}
}

// seen are the calls so far whose beginning is the given one.
func (q *executorDouble) seen(prefix string) []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var calls []string
	for _, c := range q.calls {
		if strings.HasPrefix(c, prefix) {
			calls = append(calls, c)
		}
	}
	return calls
}

// will has every call answered by f from now on; f returns false for calls that it leaves to the usual answer.
func (q *executorDouble) will(f func(w http.ResponseWriter, r *http.Request, uuid string) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.answer = f
}

// says answers every launch so.
func (q *executorDouble) says(status int, body string) {
	q.will(func(w http.ResponseWriter, r *http.Request, _ string) bool {
		if r.Method != http.MethodPost {
			return false
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	})
}

// drops breaks every launch off without an answer.
func (q *executorDouble) drops() {
	q.will(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
		if r.Method == http.MethodPost {
			panic(http.ErrAbortHandler)
		}
		return false
	})
}

// fhirDouble translates every filter into fq=*:*, or answers with a status.
type fhirDouble struct {
	mu     sync.Mutex
	status int
	auth   []string
}

func (f *fhirDouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.auth = append(f.auth, r.Header.Get("Authorization")+" "+r.Header.Get("AuthorizationMethod"))
	if f.status != 0 {
		w.WriteHeader(f.status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"resourceType":"Parameters","parameter":[{"name":"fq","valueString":"fq=*:*"}]}`)
}

// mailerDouble keeps letters.
type mailerDouble struct{ sent []string }

func (m *mailerDouble) Mail(_ context.Context, id, username string, letter mail.Letter) error {
	message, err := mail.Compose([]string{username}, letter)
	m.sent = append(m.sent, fmt.Sprintf("%s: %s: %v", username, message.Subject, message.Data["request_name"]))
	return err
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(s.Close)
	return s.URL
}

// each runs a test on both dialects, with a bundle of its own.
func each(t *testing.T, test func(t *testing.T, b *bundle)) {
	t.Helper()
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) { test(t, setup(t, db)) })
}

// run is a subtest on rows of its own in the bundle's database: cases that need no more than that share one.
func (b *bundle) run(t *testing.T, name string, test func()) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		outer := b.t
		b.t = t
		defer func() { b.t = outer }()
		test()
	})
}

func setup(t *testing.T, db *database.DB) *bundle {
	t.Helper()
	return setupWith(t, db, outside{root: "100"})
}

// outside is where FHIR and QueryExecutor are, if not doubles of the bundle's own, and the virtual cohort of the root.
type outside struct{ fhir, qe, root string }

func setupWith(t *testing.T, db *database.DB, out outside) *bundle {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	b := &bundle{t: t, db: db, clock: clock.NewFake(noon), rights: &rightsDouble{}, qe: &executorDouble{}, fhir: &fhirDouble{}}
	var err error
	b.engine, err = engine.New(engine.Config{DB: db, Clock: b.clock, NewID: uuid.NewString, Deadlines: engine.DefaultDeadlines(),
		Keys: engine.Keys{Current: "a key of tests"}}, Kinds()...)
	require.NoError(t, err)
	client, err := httpclient.New(quiet, httpclient.Config{Timeout: 5 * time.Second})
	require.NoError(t, err)
	t.Cleanup(client.CloseIdle)
	filters, err := fhir.New(client, fhir.Config{URL: cmp.Or(out.fhir, serve(t, b.fhir))})
	require.NoError(t, err)
	translator, err := queryexec.NewTranslator(quiet, queryexec.TranslatorConfig{UseSolr: true}, filters, perimetersDouble{out.root})
	require.NoError(t, err)
	renderer, err := mail.NewRenderer(templates.Files(), nil, "", quiet)
	require.NoError(t, err)
	b.service, err = New(Config{ReportingTypes: []string{"HOSPITAL", "WARD"}, Links: mail.Links{Frontend: "https://front"}}, Deps{DB: db,
		Clock: b.clock, Log: quiet, Engine: b.engine, Rights: b.rights, Translator: translator, Renderer: renderer})
	require.NoError(t, err)
	executor, err := queryexec.NewClient(quiet, client, cmp.Or(out.qe, serve(t, b.qe)))
	require.NoError(t, err)
	b.jobs = NewJobs(b.service, translator, executor)
	b.jobs.Register()
	b.mails = &mailerDouble{}
	b.jobs.RegisterMail(b.mails)
	b.worker = engine.NewWorker(b.engine, engine.WorkerConfig{})
	b.server = web.New(web.Config{Log: slog.New(slog.DiscardHandler), Authenticate: authenticate, Authorize: authorize}, b.service.Table())
	for _, name := range []string{"alice", "bob", "carol"} {
		title := strings.ToUpper(name[:1]) + name[1:]
		b.exec(`INSERT INTO "user" (username, firstname, lastname, email) VALUES (?, ?, ?, ?)`, name, title, "MARTIN", name+"@example.org")
	}
	return b
}

// authenticate believes the header X-User, or the tokens of the machines.
func authenticate(c *gin.Context) error {
	caller := identity.Caller{Username: c.GetHeader("X-User"), Authorization: "Bearer tok", AuthorizationMethod: "JWT"}
	switch c.GetHeader("Authorization") {
	case "Bearer qe-token":
		caller.Username = "SPARK_JOB_SERVER"
	case "Bearer etl-token":
		caller.Username = "SOLR_ETL"
	}
	switch caller.Username {
	case "SPARK_JOB_SERVER":
		caller.Applicative, caller.Key = identity.QueryExecutor, identity.QueryExecutor
	case "SOLR_ETL":
		caller.Applicative, caller.Key = identity.SolrETL, identity.SolrETL
	}
	caller.RealUsername, caller.DisplayName = caller.Username, caller.Username
	identity.Remember(c, caller)
	return nil
}

// authorize lets in whoever is somebody; machines only read and report on the routes of jobs.
func authorize(c *gin.Context, who web.Who) error {
	caller := identity.CallerOf(c)
	if !caller.Authenticated() {
		return fault.Unauthenticated{}
	}
	if who == web.OwnerOrJobs && caller.Applicative != "" && c.Request.Method != http.MethodGet && c.Request.Method != http.MethodPatch {
		return fault.Forbidden{}
	}
	return nil
}

// work runs all tasks that are due, and those that they make due, as workers would.
func (b *bundle) work() {
	b.t.Helper()
	for range 50 {
		var due []string
		require.NoError(b.t, b.db.Read(b.t.Context()).Table("engine_task").Where("dead_at IS NULL AND due_at <= ?", b.clock.Now()).
			Where("lease_until IS NULL OR lease_until <= ?", b.clock.Now()).
			Where("name <> ?", tasks.Notify.Name).Order("due_at, id").Pluck("id", &due).Error)
		if len(due) == 0 {
			return
		}
		for _, id := range due {
			b.worker.Run(b.t.Context(), id, id)
		}
	}
	require.Fail(b.t, "the tasks do not come to an end")
}

// wait moves the clock and lets the watchdog look, then works.
func (b *bundle) wait(d time.Duration) {
	b.t.Helper()
	b.clock.Advance(d)
	_, _, err := engine.NewWatchdog(b.engine, engine.WatchdogConfig{}).Pass(b.t.Context())
	require.NoError(b.t, err)
	b.work()
}

// told are the mails owed so far, as "outcome recipient".
func (b *bundle) told() []string {
	b.t.Helper()
	var rows []struct{ Outcome, Recipient string }
	require.NoError(b.t, b.db.Read(b.t.Context()).Table("engine_notification").Order("created_at").Find(&rows).Error)
	list := []string{}
	for _, r := range rows {
		list = append(list, r.Outcome+" "+r.Recipient)
	}
	return list
}

// pushed are the websocket messages of the timeline so far about a row.
func (b *bundle) pushed(id string) []string {
	b.t.Helper()
	list := []string{}
	entries, err := b.engine.Follow(0).Next(b.t.Context(), 1000)
	require.NoError(b.t, err)
	for _, e := range entries {
		message, err := b.service.Message(b.t.Context(), e)
		require.NoError(b.t, err)
		if message != nil && e.Subject == id {
			list = append(list, string(message))
		}
	}
	return list
}

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	require.NoError(b.t, b.db.Update(b.t.Context(), func(tx *database.Tx) error { return tx.Exec(sql, args...).Error }))
}

// answer is what a request got.
type answer struct {
	t      *testing.T
	Status int
	Text   string
	Header http.Header
}

// o is a JSON object in a test.
type o = map[string]any

// do sends a request as a user ("" for nobody). body is nil, a text that is sent as it is, or marshalled.
func (b *bundle) do(user, method, path string, body any) answer {
	b.t.Helper()
	var r io.Reader
	switch v := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(v)
	default:
		raw, err := json.Marshal(v)
		require.NoError(b.t, err)
		r = bytes.NewReader(raw)
	}
	req := httptest.NewRequest(method, path, r)
	req.Header.Set("X-User", user)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	b.server.ServeHTTP(w, req)
	return answer{t: b.t, Status: w.Code, Text: w.Body.String(), Header: w.Header()}
}

// is checks the status, and returns the answer.
func (a answer) is(status int) answer {
	a.t.Helper()
	require.Equal(a.t, status, a.Status, a.Text)
	return a
}

// json checks the body, as a whole.
func (a answer) json(want string) answer {
	a.t.Helper()
	require.JSONEq(a.t, want, a.Text)
	return a
}

// object is the body as an object.
func (a answer) object() o {
	a.t.Helper()
	var v o
	require.NoError(a.t, json.Unmarshal([]byte(a.Text), &v), a.Text)
	return v
}

// at follows keys and indexes into the body: "results.0.name".
func (a answer) at(path string) any {
	a.t.Helper()
	var v any
	require.NoError(a.t, json.Unmarshal([]byte(a.Text), &v), a.Text)
	for _, step := range strings.Split(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[step]
		case []any:
			var i int
			_, err := fmt.Sscan(step, &i)
			require.NoError(a.t, err)
			require.Less(a.t, i, len(at), a.Text)
			v = at[i]
		default:
			require.Fail(a.t, "nothing at "+path, a.Text)
		}
	}
	return v
}

// has checks some of the body's members.
func (a answer) has(want o) answer {
	a.t.Helper()
	got := a.object()
	for k, v := range want {
		w, err := json.Marshal(v)
		require.NoError(a.t, err)
		g, err := json.Marshal(got[k])
		require.NoError(a.t, err)
		require.JSONEq(a.t, string(w), string(g), k)
	}
	return a
}

// keys are the names of the body's members in the order in which they were written.
func (a answer) keys() []string {
	a.t.Helper()
	dec := json.NewDecoder(strings.NewReader(a.Text))
	var keys []string
	depth, isKey := 0, false
	for {
		token, err := dec.Token()
		if err == io.EOF {
			return keys
		}
		require.NoError(a.t, err)
		switch v := token.(type) {
		case json.Delim:
			if v == '{' || v == '[' {
				depth++
			} else {
				depth--
			}
			isKey = depth == 1
		default:
			if depth == 1 {
				if isKey {
					keys = append(keys, v.(string))
				}
				isKey = !isKey
			}
		}
	}
}

const query = `{"version":"v1.6.1","_type":"request","sourcePopulation":{"caresiteCohortList":["4012"]},"request":{"_id":0,"_type":"andGroup","isInclusive":true,` +
	`"criteria":[{"_type":"basicResource","_id":1,"isInclusive":true,"resourceType":"Patient","filterFhir":"gender=f"}],"temporalConstraints":[]}}`

func (b *bundle) folder(user, name string) string {
	b.t.Helper()
	return b.do(user, "POST", "/cohort/folders/", o{"name": name}).is(201).at("uuid").(string)
}

func (b *bundle) request(user string) string {
	b.t.Helper()
	return b.do(user, "POST", "/cohort/requests/", o{"name": "Request", "parent_folder": b.folder(user, "Folder")}).is(201).at("uuid").(string)
}

func (b *bundle) snapshot(user, request string) string {
	b.t.Helper()
	return b.do(user, "POST", "/cohort/request-query-snapshots/", o{"request_id": request, "serialized_query": query}).is(201).at("uuid").(string)
}

// counting asks for a count of a snapshot and lets it be launched.
func (b *bundle) counting(user, snapshot string) string {
	b.t.Helper()
	id := b.do(user, "POST", "/cohort/dated-measures/", o{"request_query_snapshot_id": snapshot}).is(201).at("uuid").(string)
	b.work()
	b.measure(user, id).has(o{"request_job_status": "started"})
	return id
}

// counted is a finished count.
func (b *bundle) counted(user, snapshot string, n int) string {
	b.t.Helper()
	id := b.counting(user, snapshot)
	b.callback("dated-measures", id, o{"request_job_status": "FINISHED", "count": fmt.Sprint(n), "extra": o{}}).is(200)
	return id
}

// creating asks for a cohort and lets it be launched.
func (b *bundle) creating(user, snapshot, measure string, more o) string {
	b.t.Helper()
	body := o{"name": "Cohort", "description": "", "request_query_snapshot_id": snapshot, "dated_measure_id": measure}
	for k, v := range more {
		body[k] = v
	}
	id := b.do(user, "POST", "/cohort/cohorts/", body).is(201).has(o{"request_job_status": "new", "group_id": ""}).at("uuid").(string)
	b.work()
	return id
}

// finished is a cohort that is made, of a snapshot and a count of its own.
func (b *bundle) finished(user, group string, n int) (cohort, snapshot, measure string) {
	b.t.Helper()
	snapshot = b.snapshot(user, b.request(user))
	measure = b.counted(user, snapshot, n)
	cohort = b.creating(user, snapshot, measure, nil)
	b.callback("cohorts", cohort, o{"request_job_status": "FINISHED", "group.id": group, "group.count": fmt.Sprint(n), "extra": o{}}).
		is(200).has(o{"request_job_status": "finished"})
	return cohort, snapshot, measure
}

func (b *bundle) measure(user, id string) answer {
	b.t.Helper()
	return b.do(user, "GET", "/cohort/dated-measures/"+id+"/", nil).is(200)
}

func (b *bundle) cohort(user, id string) answer {
	b.t.Helper()
	return b.do(user, "GET", "/cohort/cohorts/"+id+"/", nil).is(200)
}

// callback reports as QueryExecutor.
func (b *bundle) callback(resource, id string, body any) answer {
	b.t.Helper()
	return b.do("SPARK_JOB_SERVER", "PATCH", "/cohort/"+resource+"/"+id+"/", body)
}

// indexed reports as the ETL.
func (b *bundle) indexed(id string, body o) answer {
	b.t.Helper()
	return b.do("SOLR_ETL", "PATCH", "/cohort/cohorts/"+id+"/", body)
}
