package export

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
	"cohortflow/internal/identity"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/httpclient"
	"cohortflow/internal/platform/mail"
	"cohortflow/internal/platform/platformtest"
	"cohortflow/internal/platform/storage"
	"cohortflow/internal/platform/web"
	"cohortflow/tasks"
)

// world is a service over a database of its own, with doubles around it.
type world struct {
	t       *testing.T
	db      *database.DB
	clock   *clock.Fake
	engine  *engine.Engine
	worker  *engine.Worker
	service *Service
	server  *web.Server
	rights  *rights
	cohorts *cohortsDouble
	mails   *mailbox
	dir     string // of the storage
	api     *outside
}

// outside is a scripted export or Hadoop API; both are served by one.
type outside struct {
	*httptest.Server
	mu      sync.Mutex
	calls   []string // method, path and query
	bodies  []string
	answers map[string][]reply // by path; the last one stays
}

type reply struct {
	status int
	body   string
	drop   bool
}

func (o *outside) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	o.mu.Lock()
	call := r.Method + " " + r.URL.Path
	if r.URL.RawQuery != "" {
		call += "?" + r.URL.RawQuery
	}
	o.calls, o.bodies = append(o.calls, call+" "+r.Header.Get("auth-token")), append(o.bodies, string(body))
	list := o.answers[r.URL.Path]
	var a reply
	if len(list) > 0 {
		if a = list[0]; len(list) > 1 {
			o.answers[r.URL.Path] = list[1:]
		}
	}
	o.mu.Unlock()
	if a.drop {
		conn, _, _ := http.NewResponseController(w).Hijack()
		_ = conn.Close()
		return
	}
	if a.status == 0 {
		a.status = 200
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

func (o *outside) answer(path string, replies ...reply) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answers[path] = replies
}

func (o *outside) count(prefix string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.calls {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

func says(status string) reply { return reply{body: `{"task_status":"` + status + `"}`} }

// rights are given by username: what is missing, and roles.
type rights struct {
	missing map[string]*Missing
	roles   map[string][]string
	asked   []string // perimeters of the last question
	need    Need
}

func (r *rights) MissingForExport(_ context.Context, username string, need Need, perimeters []string) (*Missing, error) {
	r.asked, r.need = perimeters, need
	if len(perimeters) == 0 {
		return &Missing{Right: "right_read_patient_nominative"}, nil
	}
	return r.missing[username], nil
}

func (r *rights) has(username, role string) (bool, error) {
	return slices.Contains(r.roles[username], role), nil
}
func (r *rights) IsFullAdmin(_ context.Context, u string) (bool, error) {
	return r.has(u, "admin")
}
func (r *rights) ReadsDatalabs(_ context.Context, u string) (bool, error) { return r.has(u, "reads") }
func (r *rights) ManagesDatalabs(_ context.Context, u string) (bool, error) {
	return r.has(u, "manages")
}
func (r *rights) SeesEverybodysLists(_ context.Context, u string) (bool, error) {
	return r.has(u, "sees")
}

// cohortsDouble writes subsets and filters as the cohort capability would.
type cohortsDouble struct {
	w       *world
	subsets []Subset
	ids     []uuid.UUID
	fail    error
}

func (c *cohortsDouble) CreateSubset(_ context.Context, tx *database.Tx, s Subset) (uuid.UUID, error) {
	if c.fail != nil {
		return uuid.UUID{}, c.fail
	}
	id := uuid.New()
	c.subsets, c.ids = append(c.subsets, s), append(c.ids, id)
	return id, c.w.insertCohort(tx, id, s.Owner, statusPending, "", true)
}

func (c *cohortsDouble) AddAutomaticFilter(_ context.Context, tx *database.Tx, f NewFilter) (uuid.UUID, error) {
	id := uuid.New()
	return id, c.w.insertFilter(tx, id, f, true)
}

type mailbox struct {
	mu   sync.Mutex
	sent []mail.Message
	fail error
}

func (m *mailbox) Send(_ context.Context, msg mail.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.sent = append(m.sent, msg)
	return nil
}

func (m *mailbox) templates() (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, msg := range m.sent {
		names = append(names, msg.Template)
	}
	return names
}

// newWorld builds it; builtIn has exports written by ourselves, from the hospital.
func newWorld(t *testing.T, db *database.DB, builtIn bool, change func(*Config)) *world {
	t.Helper()
	w := &world{t: t, db: db, clock: clock.NewFake(noon), rights: &rights{missing: map[string]*Missing{}, roles: map[string][]string{
		"root": {"admin", "sees"}, "rita": {"reads", "sees"}, "dana": {"reads", "manages", "sees"}}}, mails: &mailbox{}, dir: t.TempDir()}
	w.cohorts = &cohortsDouble{w: w}
	w.api = &outside{answers: map[string][]reply{}}
	w.api.Server = httptest.NewServer(w.api)
	t.Cleanup(w.api.Close)
	var err error
	w.engine, err = engine.New(engine.Config{DB: db, Clock: w.clock, NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
		Deadlines: engine.DefaultDeadlines(), Log: platformtest.Log(t)}, Kind(KindConfig{BuiltIn: builtIn, TellAdmins: true}))
	require.NoError(t, err)
	files, err := storage.New(storage.Config{Providers: []string{"file://" + w.dir}}, platformtest.Log(t))
	require.NoError(t, err)
	client, err := httpclient.New(platformtest.Log(t), httpclient.Config{})
	require.NoError(t, err)
	t.Cleanup(client.CloseIdle)
	cfg := Config{Store: NewStore(db), DB: db, Engine: w.engine, Clock: w.clock, NewID: uuid.New, Rights: w.rights, Cohorts: w.cohorts, Files: files, Mailer: w.mails,
		Links: mail.Links{Frontend: "https://front", BackendHost: "back"}, Log: platformtest.Log(t), CSVPath: "/csv", XLSXPath: "/xlsx", HivePath: "/hive", HiveUser: "hive_exporter",
		EmailRegex: `^[\w.+-]+@[\w-]+\.[\w]+$`, DaysToKeep: 7, Admins: []string{"admin@example.org"}}
	if builtIn {
		cfg.Source = twoPatients()
	} else {
		cfg.API, cfg.Hadoop = NewAPI(client, w.api.URL+"/", "t0ken"), NewHadoop(client, w.api.URL, "h4doop")
	}
	if change != nil {
		change(&cfg)
	}
	w.service, err = New(cfg)
	require.NoError(t, err)
	w.service.Register()
	w.engine.Handle(tasks.Notify, w.notify)
	w.worker = engine.NewWorker(w.engine, engine.WorkerConfig{})
	w.server = web.New(web.Config{Log: platformtest.Log(t), Authenticate: func(c *gin.Context) error {
		identity.Remember(c, identity.Caller{Username: c.GetHeader("X-User")})
		return nil
	}, Authorize: func(c *gin.Context, who web.Who) error {
		caller := identity.CallerOf(c)
		if !caller.Authenticated() {
			return fault.Unauthenticated{}
		}
		if admin, _ := w.rights.has(caller.Username, "admin"); who == web.FullAdmin && !admin {
			return fault.Forbidden{}
		}
		return nil
	}}, w.service.Table())
	w.seed()
	return w
}

func (w *world) notify(ctx context.Context, claim engine.Claim) error {
	p, err := engine.Payload[tasks.Notification](claim)
	if err != nil {
		return err
	}
	n, job, err := w.engine.Notification(ctx, p.ID)
	if err != nil {
		return err
	}
	if err := w.service.Notify(ctx, n, job); err != nil {
		return err
	}
	return w.engine.NotificationSent(ctx, claim, n.ID)
}

func (w *world) update(f func(tx *database.Tx) error) {
	w.t.Helper()
	require.NoError(w.t, w.db.Update(w.t.Context(), f))
}

// seed makes users, a request with a snapshot and a measure.
var (
	snapshotID = uuid.MustParse("00000000-0000-4000-8000-0000000000a1")
	measureID  = uuid.MustParse("00000000-0000-4000-8000-0000000000a2")
	providerID = uuid.MustParse("00000000-0000-4000-8000-0000000000b1")
	labID      = uuid.MustParse("00000000-0000-4000-8000-0000000000b2")
)

func (w *world) seed() {
	w.t.Helper()
	w.update(func(tx *database.Tx) error {
		for _, u := range []string{"alice", "bob", "root", "rita", "dana", "mute", "odd"} {
			email := u + "@example.org"
			if u == "odd" {
				email = "odd@example.co.uk"
			}
			row := map[string]any{"username": u, "firstname": strings.ToUpper(u[:1]) + u[1:], "lastname": "Test", "email": email}
			if u == "mute" {
				row["email"] = nil
			}
			if err := tx.Table("user").Create(row).Error; err != nil {
				return err
			}
		}
		folder, request := uuid.New(), uuid.New()
		own := func(id uuid.UUID, more map[string]any) map[string]any {
			row := map[string]any{"uuid": id, "deleted_by_cascade": false, "created_at": noon, "modified_at": noon, "owner_id": "alice"}
			for k, v := range more {
				row[k] = v
			}
			return row
		}
		job := map[string]any{"request_job_id": "", "request_job_status": statusFinished, "request_job_fail_msg": "", "request_job_duration": ""}
		for _, one := range []struct {
			table string
			row   map[string]any
		}{
			{"cohort_folder", own(folder, map[string]any{"name": "f"})},
			{"cohort_request", own(request, map[string]any{"name": "r", "description": "", "favorite": false, "parent_folder_id": folder})},
			{"cohort_requestquerysnapshot", own(snapshotID, map[string]any{"serialized_query": `{"sourcePopulation":{"caresiteCohortList":["7",8]}}`, "request_id": request, "version": 1,
				"perimeters_ids": database.StringArray{"1", "2"}})},
			{"cohort_datedmeasure", own(measureID, merge(job, map[string]any{"measure": 412, "count_task_id": "", "request_query_snapshot_id": snapshotID}))},
			{"infrastructure_provider", map[string]any{"uuid": providerID, "deleted_by_cascade": false, "created_at": noon, "modified_at": noon, "name": "Infra"}},
			{"datalab", map[string]any{"uuid": labID, "deleted_by_cascade": false, "created_at": noon, "modified_at": noon, "name": "lab", "infrastructure_provider_id": providerID}},
		} {
			if err := tx.Table(one.table).Create(one.row).Error; err != nil {
				return fmt.Errorf("%s: %w", one.table, err)
			}
		}
		return nil
	})
}

func merge(maps ...map[string]any) map[string]any {
	all := map[string]any{}
	for _, m := range maps {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

func (w *world) insertCohort(tx *database.Tx, id uuid.UUID, owner, status, group string, subset bool) error {
	return tx.Table("cohort_cohortresult").Create(map[string]any{"uuid": id, "deleted_by_cascade": false, "created_at": noon, "modified_at": noon, "owner_id": owner,
		"request_job_id": "", "request_job_status": status, "request_job_fail_msg": "", "request_job_duration": "", "name": "Cohort " + group, "favorite": false, "group_id": group,
		"create_task_id": "", "dated_measure_id": measureID, "request_query_snapshot_id": snapshotID, "is_subset": subset}).Error
}

func (w *world) insertFilter(tx *database.Tx, id uuid.UUID, f NewFilter, auto bool) error {
	return tx.Table("cohort_fhirfilter").Create(map[string]any{"uuid": id, "deleted_by_cascade": false, "created_at": noon, "modified_at": noon, "owner_id": f.Owner,
		"fhir_resource": f.Resource, "fhir_version": "", "name": f.Name, "filter": f.Filter, "query_version": "v1.4.4", "auto_generated": auto, "identifying": false}).Error
}

// cohort makes a finished cohort of the owner.
func (w *world) cohort(owner, group string) uuid.UUID {
	w.t.Helper()
	id := uuid.New()
	w.update(func(tx *database.Tx) error { return w.insertCohort(tx, id, owner, statusFinished, group, false) })
	return id
}

func (w *world) filter(owner, resource, text string) uuid.UUID {
	w.t.Helper()
	id := uuid.New()
	w.update(func(tx *database.Tx) error {
		return w.insertFilter(tx, id, NewFilter{Owner: owner, Resource: resource, Name: "F " + id.String()[:8], Filter: text}, false)
	})
	return id
}

// ask sends a request and answers its status and body.
func (w *world) ask(user, method, path string, body any) (int, string) {
	w.t.Helper()
	rec := w.record(user, method, path, body)
	return rec.Code, rec.Body.String()
}

func (w *world) record(user, method, path string, body any) *httptest.ResponseRecorder {
	w.t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		require.NoError(w.t, err)
		reader = strings.NewReader(string(raw))
	}
	req := httptest.NewRequest(method, path, reader)
	req.Header.Set("X-User", user)
	req.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	w.server.ServeHTTP(rec, req)
	return rec
}

type object = map[string]any

// create asks for an export that is accepted.
func (w *world) create(user string, body object) View {
	w.t.Helper()
	status, text := w.ask(user, "POST", "/exports/", body)
	require.Equal(w.t, 201, status, text)
	var v View
	require.NoError(w.t, json.Unmarshal([]byte(text), &v))
	return v
}

// csvOf is the body of a CSV export of one cohort.
func csvOf(cohort uuid.UUID, tables ...object) object {
	if tables == nil {
		tables = []object{{"table_name": "person", "cohort_result_source": cohort}}
	}
	return object{"output_format": "csv", "nominative": true, "motivation": "étude\nA", "export_tables": tables}
}

// work runs whatever is due, until nothing is; later moves the clock to what is owed next, at most so many times.
func (w *world) work(later int) {
	w.t.Helper()
	for {
		var due []string
		now := w.clock.Now()
		require.NoError(w.t, w.db.Read(w.t.Context()).Table("engine_task").Where("dead_at IS NULL AND due_at <= ? AND (lease_until IS NULL OR lease_until <= ?)", now, now).
			Order("due_at, id").Pluck("id", &due).Error)
		for _, id := range due {
			w.worker.Run(w.t.Context(), id, id)
		}
		if len(due) > 0 {
			continue
		}
		var next []time.Time
		require.NoError(w.t, w.db.Read(w.t.Context()).Table("engine_task").Where("dead_at IS NULL").Order("due_at").Limit(1).Pluck("due_at", &next).Error)
		if later == 0 || len(next) == 0 {
			return
		}
		later--
		w.clock.Advance(next[0].Sub(w.clock.Now()) + time.Microsecond) // times may be finer than the clock
	}
}

// subsetEnds ends a subset cohort as the cohort capability would, and applies what the exports make of it.
func (w *world) subsetEnds(id uuid.UUID, status, group string) {
	w.t.Helper()
	w.update(func(tx *database.Tx) error {
		if err := tx.Table("cohort_cohortresult").Where("uuid = ?", id).Updates(map[string]any{"request_job_status": status, "group_id": group}).Error; err != nil {
			return err
		}
		if status == "long_pending" { // no end
			return nil
		}
		events, err := w.service.SubsetEnded(w.t.Context(), tx, id, status == statusFinished)
		if err != nil {
			return err
		}
		_, err = w.engine.ApplyTx(w.t.Context(), tx, events...)
		return err
	})
}

func (w *world) get(id uuid.UUID) Export {
	w.t.Helper()
	e, err := w.service.store.Get(w.t.Context(), id)
	require.NoError(w.t, err)
	return e
}
