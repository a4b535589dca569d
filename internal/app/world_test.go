package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/access"
	"cohortflow/internal/cohort"
	"cohortflow/internal/config"
	"cohortflow/internal/content"
	"cohortflow/internal/export"
	"cohortflow/internal/identity"
	"cohortflow/internal/maintenance"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/queue"
	"cohortflow/internal/releasenote"
	"cohortflow/internal/requestlog"
)

// The perimeters of the world: the root (virtual cohort 1001), a hospital below it (1002) and a unit below that (1003).
const root, hospital, unit = int64(1), int64(2), int64(3)

// caller is somebody who sends requests: a user with one access at most, or a machine.
type caller struct {
	name   string
	rights access.Rights
	place  int64 // of the access; 0: none
	// from and until are the days of the access, counted from today.
	from, until int
	// as is who is impersonated; with it, user is who impersonates.
	user, as string
	// key is the application key of a machine.
	key string
	// unknown is a caller who does not count as authenticated.
	unknown bool
	// broken is what keeps the access from counting; "": nothing.
	broken flaw
}

// flaw is what can be wrong around an access whose dates are right.
type flaw string

const (
	inactiveProfile flaw = "the profile is not active"
	deletedProfile  flaw = "the profile is deleted"
	deletedRole     flaw = "the role is deleted"
	deletedAccess   flaw = "the access is deleted"
	deletedUser     flaw = "the user is deleted"
)

const (
	queryExecutorKey = "key-of-the-query-executor"
	etlKey           = "key-of-the-etl"
	rolloutKey       = "key-of-the-rollout"
)

// callers are everybody whom the matrix tells apart.
var callers = []caller{
	{name: "nobody", unknown: true},
	{name: "badToken", unknown: true},
	{name: "noAccess"},
	{name: "expired", rights: access.AllRights, place: root, from: -20, until: -1},
	{name: "future", rights: access.AllRights, place: root, from: 1, until: 20},
	{name: "inactiveProfile", rights: access.AllRights, place: root, from: -1, until: 20, broken: inactiveProfile},
	{name: "deletedProfile", rights: access.AllRights, place: root, from: -1, until: 20, broken: deletedProfile},
	{name: "deletedRole", rights: access.AllRights, place: root, from: -1, until: 20, broken: deletedRole},
	{name: "deletedAccess", rights: access.AllRights, place: root, from: -1, until: 20, broken: deletedAccess},
	{name: "deletedUser", rights: access.AllRights, place: root, from: -1, until: 20, broken: deletedUser, unknown: true},
	{name: "nominative", rights: access.ReadNominative | access.SearchByIPP, place: hospital, from: -1, until: 20},
	{name: "pseudonymised", rights: access.ReadPseudonymized, place: hospital, from: -1, until: 20},
	{name: "dataSame", rights: access.ManageDataSameLevel, place: hospital, from: -1, until: 20},
	{name: "dataInferior", rights: access.ManageDataInferiorLevels, place: root, from: -1, until: 20},
	{name: "dataElsewhere", rights: access.ManageDataSameLevel | access.ManageDataInferiorLevels, place: unit, from: -1, until: 20},
	{name: "adminSame", rights: access.ManageAdminSameLevel, place: hospital, from: -1, until: 20},
	{name: "adminInferior", rights: access.ManageAdminInferiorLevels, place: root, from: -1, until: 20},
	{name: "userManager", rights: access.ManageUsers, place: root, from: -1, until: 20},
	{name: "datalabManager", rights: access.ManageDatalabs | access.ReadDatalabs, place: root, from: -1, until: 20},
	{name: "datalabReader", rights: access.ReadDatalabs, place: root, from: -1, until: 20},
	{name: "jupyterExporter", rights: access.ExportJupyterNominative | access.ExportJupyterPseudonymized, place: hospital, from: -1, until: 20},
	{name: "fileExporter", rights: access.ExportCSVXLSXNominative, place: hospital, from: -1, until: 20},
	{name: "owner", rights: access.ReadNominative | access.ExportCSVXLSXNominative, place: hospital, from: -1, until: 20},
	{name: "otherOwner", rights: access.ReadNominative | access.ExportCSVXLSXNominative, place: hospital, from: -1, until: 20},
	{name: "fullAdmin", rights: access.AllRights, place: root, from: -1, until: 20},
	{name: "queryExecutor", key: queryExecutorKey},
	{name: "etl", key: etlKey},
	{name: "rollout", key: rolloutKey},
	{name: "adminAsNoAccess", user: "fullAdmin", as: "noAccess"},
	{name: "adminAsOwner", user: "fullAdmin", as: "owner"},
	{name: "ownerAsAdmin", user: "owner", as: "fullAdmin"},
}

// accounts are the usernames of machines.
var machineAccounts = map[string]string{"queryExecutor": "SPARK_JOB_SERVER", "etl": "SOLR_ETL", "rollout": "ROLLOUT_PIPELINE"}

// world is a whole API with rows of two owners and one caller of each kind, on a database of its own. No worker runs.
type world struct {
	t     testing.TB
	app   *App
	http  http.Handler
	clock *clock.Fake
	log   *bytes.Buffer
	ids   map[string]string // "owner.folder" and the like
}

func newWorld(t testing.TB, url string, environ ...string) *world {
	t.Helper()
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/fhir+json")
		_, _ = io.WriteString(w, `{"resourceType":"Bundle","type":"searchset","total":0,"entry":[]}`)
	}))
	t.Cleanup(outside.Close)
	cfg, err := config.Load(append([]string{
		"DATABASE_URL=" + url, "DJANGO_SECRET_KEY=a key of tests", "JWT_SIGNING_KEY=another key of tests", "FHIR_URL=" + outside.URL,
		"QUERY_EXECUTOR_URL=" + outside.URL, "PERIMETER_TYPES=root,hospital,unit", "STORAGE_PROVIDERS=file://" + files(t),
		"QUERY_EXECUTOR_TOKEN=" + queryExecutorKey, "SOLR_ETL_TOKEN=" + etlKey, "ROLLOUT_TOKEN=" + rolloutKey,
		"INCLUDED_APPS=accesses,content_management,cohort_job_server,cohort,exports,accesses_fhir_perimeters",
		"EXPORT_API_URL=" + outside.URL, "DB_MAX_CONNECTIONS=20",
	}, environ...))
	require.NoError(t, err)
	w := &world{t: t, clock: clock.NewFake(time.Now()), log: &bytes.Buffer{}, ids: map[string]string{}}
	embedded := queue.NewEmbedded()
	w.app, err = New(t.Context(), cfg, Options{Log: slog.New(slog.DiscardHandler), Clock: w.clock, Roles: Roles{API: true}, Embedded: embedded})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		require.NoError(t, w.app.close())
		require.NoError(t, embedded.Stop(ctx))
	})
	require.NoError(t, w.app.buildAPI())
	w.http = w.app.api.Handler
	return w
}

// files is a store that holds the files of both owners' exports.
func files(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "exports", "csv"), 0o700))
	for _, name := range []string{"owner", "otherOwner"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "exports", "csv", mark(name)+".zip"), []byte("the files of "+mark(name)), 0o600))
	}
	return dir
}

// onSQLite is the URL of a fresh migrated SQLite database.
func onSQLite(t testing.TB) string {
	t.Helper()
	url := "sqlite:" + filepath.Join(t.TempDir(), "world.db")
	db, err := database.Open(t.Context(), database.Config{URL: url, MaxConns: 2})
	require.NoError(t, err)
	_, err = database.Migrate(t.Context(), db, database.MigrateOptions{})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	return url
}

// bothDialects are fresh databases, by name.
var bothDialects = map[string]func(testing.TB) string{"SQLite": onSQLite, "Postgres": databasetest.PostgresURL}

// eachWorld runs a test on a world of its own, filled, of each dialect.
func eachWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for dialect, fresh := range bothDialects {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fresh(t))
			w.reset()
			test(t, w)
		})
	}
}

// emptied are the tables that reset fills, in an order in which rows may be deleted.
var emptied = []string{
	"export_result_stat", "export_table", "export", "datalab", "infrastructure_provider", "cohort_requestrefreshschedule", "cohort_feasibilitystudy",
	"cohort_cohortresult", "cohort_datedmeasure", "cohort_requestquerysnapshotpatch", "cohort_requestquerysnapshot", "cohort_request", "cohort_folder",
	"cohort_filterfhirpatch", "cohort_fhirfilter", "engine_task", "engine_event", "engine_secret", "engine_notification", "engine_job",
	"engine_login_failure", "accesses_access", "accesses_profile", "accesses_role", "accesses_perimeter", "admin_cohort_maintenancephase",
	"content_management_contentmetadata", "content_management_content", "release_note", "rest_framework_tracking_apirequestlog", `"user"`,
}

// reset gives the world its first rows again.
func (w *world) reset() {
	w.t.Helper()
	err := w.app.db.Update(context.WithoutCancel(w.t.Context()), func(tx *database.Tx) error {
		for _, table := range emptied {
			if err := tx.Exec("DELETE FROM " + table).Error; err != nil {
				return err
			}
		}
		w.people(tx)
		w.portal(tx)
		for i, name := range []string{"owner", "otherOwner"} {
			w.research(tx, i+1, name)
		}
		return tx.Exec(`INSERT INTO engine_version (name, version) VALUES ('perimeters', 1) ON CONFLICT (name) DO UPDATE SET version = engine_version.version + 1`).Error
	})
	require.NoError(w.t, err)
}

func (w *world) make(tx *database.Tx, row any) {
	w.t.Helper()
	require.NoError(w.t, tx.Create(row).Error)
}

// people are the perimeters, and all callers with their accesses: each holds its own role.
func (w *world) people(tx *database.Tx) {
	now := w.clock.Now()
	stamps := access.Stamps{InsertDatetime: &now, UpdateDatetime: &now}
	types := []string{"root", "hospital", "unit"}
	for i := range int64(3) {
		p := access.Perimeter{Stamps: stamps, ID: i + 1, LocalID: fmt.Sprint(i + 1), Name: new(types[i]), SourceValue: new(types[i]), ShortName: new(types[i]), TypeSourceValue: new(types[i]),
			CohortID: new(fmt.Sprint(1001 + i)), FullPath: new(strings.Join(types[:i+1], "/")), Level: new(int(i + 1)), AboveLevelsIDs: new(""), InferiorLevelsIDs: new("")}
		if i > 0 {
			p.ParentID = &i
		}
		w.make(tx, &p)
	}
	for i, c := range callers {
		if c.unknown && c.broken == "" || c.as != "" {
			continue
		}
		name := c.account()
		unless := func(wrong flaw) access.Stamps { // stamps of a row that is deleted if that is what is wrong
			if c.broken != wrong {
				return stamps
			}
			return access.Stamps{InsertDatetime: &now, UpdateDatetime: &now, DeleteDatetime: &now}
		}
		w.make(tx, &identity.User{Username: name, Firstname: new("First-" + name), Lastname: new("LAST-" + name), Email: new(name + "@mail.example.org"), InsertDatetime: &now, DeleteDatetime: unless(deletedUser).DeleteDatetime})
		id := int64(i + 100)
		w.make(tx, &access.Profile{Stamps: unless(deletedProfile), ID: id, Source: new(access.SourceManual), IsActive: new(c.broken != inactiveProfile), UserID: &name})
		w.make(tx, &access.Role{Stamps: unless(deletedRole), ID: id, Name: new("role of " + name), Flags: access.FlagsOf(c.rights)})
		w.ids[c.name+".profile"], w.ids[c.name+".role"], w.ids[c.name+".access"] = fmt.Sprint(id), fmt.Sprint(id), fmt.Sprint(id)
		if c.place == 0 {
			continue
		}
		w.make(tx, &access.Access{Stamps: unless(deletedAccess), ID: id, Source: new(access.SourceManual), PerimeterID: &c.place, ProfileID: &id, RoleID: &id,
			StartDatetime: new(now.AddDate(0, 0, c.from)), EndDatetime: new(now.AddDate(0, 0, c.until))})
	}
	for _, id := range []int64{90, 92} { // nobody holds the second
		w.make(tx, &access.Role{Stamps: stamps, ID: id, Name: new(fmt.Sprint("reader ", id)), Flags: access.FlagsOf(access.ReadPseudonymized)})
	}
	// An access of owner that has not begun can be deleted.
	w.make(tx, &access.Access{Stamps: stamps, ID: 91, Source: new(access.SourceManual), PerimeterID: new(hospital), ProfileID: new(mustInt(w.ids["owner.profile"])), RoleID: new(int64(90)),
		StartDatetime: new(now.AddDate(0, 0, 2)), EndDatetime: new(now.AddDate(0, 0, 9))})
}

func mustInt(text string) (n int64) {
	if _, err := fmt.Sscan(text, &n); err != nil {
		panic(err)
	}
	return n
}

// portal are the rows that belong to nobody.
func (w *world) portal(tx *database.Tx) {
	now := w.clock.Now()
	w.make(tx, &maintenance.Phase{ID: 1, Subject: "planned", Type: "partial", StartDatetime: now.AddDate(0, 0, 2), EndDatetime: now.AddDate(0, 0, 3), InsertDatetime: &now})
	w.make(tx, &content.Content{ID: 1, Title: "title", Content: "text", Page: "HOME", ContentType: "BANNER_INFO", CreatedAt: now, ModifiedAt: now})
	w.make(tx, &releasenote.Note{ID: 1, Title: "note", Message: []string{"text"}, InsertDatetime: &now})
	w.make(tx, &requestlog.Row{ID: 1, RequestedAt: now, Path: "/x/", Host: "h", Method: "POST", RemoteAddr: new("127.0.0.1"), StatusCode: new(200)})
	w.laboratory(tx, 9)
}

// laboratory is a datalab and its provider.
func (w *world) laboratory(tx *database.Tx, n int) {
	now := w.clock.Now()
	base := export.Base{UUID: numbered(n, 1), CreatedAt: now, ModifiedAt: now}
	w.make(tx, &export.Provider{Base: base, Name: fmt.Sprint("provider ", n)})
	lab := export.Datalab{Base: base, InfrastructureProviderID: base.UUID, Name: fmt.Sprint("lab ", n)}
	lab.UUID = numbered(n, 2)
	require.NoError(w.t, tx.Omit("Provider").Create(&lab).Error)
}

// numbered is the id of the k-th row of an owner.
func numbered(owner, k int) uuid.UUID {
	return uuid.MustParse(fmt.Sprintf("%02[1]d%02[1]d%02[1]d%02[1]d-aaaa-4000-8000-0000000000%02[2]d", owner, k))
}

// mark is in every text of an owner's rows.
func mark(name string) string { return "SECRET-OF-" + name }

// research is one row of each kind that belongs to somebody.
func (w *world) research(tx *database.Tx, n int, name string) {
	now, k := w.clock.Now(), 0
	text := mark(name)
	id := func(kind string) uuid.UUID {
		k++
		w.ids[name+"."+kind] = numbered(n, k).String()
		return numbered(n, k)
	}
	base := func(kind string) cohort.Base { return cohort.Base{UUID: id(kind), CreatedAt: now, ModifiedAt: now} }
	folder := cohort.Folder{Base: base("folder"), OwnerID: name, Name: text, Description: &text}
	w.make(tx, &folder)
	request := cohort.Request{Base: base("request"), OwnerID: name, Name: text, Description: text, ParentFolderID: folder.UUID}
	w.make(tx, &request)
	query := fmt.Sprintf(`{"sourcePopulation":{"caresiteCohortList":["1002"]},"_type":"request","comment":%q,"resourceType":"Patient"}`, text)
	snapshot := cohort.Snapshot{Base: base("snapshot"), OwnerID: name, RequestID: request.UUID, SerializedQuery: query, PerimetersIDs: []string{"1002"}, Version: 1, Name: &text}
	w.make(tx, &snapshot)
	next := cohort.Snapshot{Base: base("next"), OwnerID: name, RequestID: request.UUID, SerializedQuery: query, PreviousSnapshotID: &snapshot.UUID, PerimetersIDs: []string{"1002"}, Version: 2, Name: &text}
	w.make(tx, &next)
	ended := cohort.Work{JobStatus: "finished", JobID: text}
	measure := cohort.Measure{Base: base("measure"), Work: ended, OwnerID: name, RequestQuerySnapshotID: snapshot.UUID, FhirDatetime: &now, Measure: new(int64(4711 + n)), Mode: new("Snapshot")}
	w.make(tx, &measure)
	group := fmt.Sprint(7000 + n)
	w.ids[name+".group"] = group
	result := cohort.Cohort{Base: base("cohort"), Work: ended, OwnerID: name, Name: &text, Description: &text, RequestQuerySnapshotID: &snapshot.UUID, GroupID: group, DatedMeasureID: &measure.UUID}
	w.make(tx, &result)
	w.make(tx, &cohort.FhirFilter{Base: base("filter"), OwnerID: name, FhirResource: "Patient", FhirVersion: "4", QueryVersion: "v1", Name: text + " " + group, Filter: "gender=" + text})
	w.make(tx, &cohort.Study{Base: base("study"), Work: ended, OwnerID: name, RequestQuerySnapshotID: snapshot.UUID, TotalCount: new(int32(5)), ReportFile: []byte(text), ReportJSONContent: []byte("{}")})
	w.make(tx, &cohort.Schedule{Base: base("schedule"), OwnerID: name, RequestSnapshotID: next.UUID, RefreshTime: 9_000_000_000, RefreshFrequency: "daily"})
	w.exports(tx, name, id, result.UUID)
	job := id("job")
	require.NoError(w.t, tx.Table("engine_job").Create(map[string]any{"id": job.String(), "kind": cohort.KindCount, "subject": measure.UUID.String(), "owner": name, "state": "finished",
		"external_id": text, "heard_at": now, "created_at": now, "updated_at": now, "ended_at": now, "version": 3, "reason": text}).Error)
	require.NoError(w.t, tx.Table("engine_event").Create(map[string]any{"job_id": job.String(), "kind": cohort.KindCount, "subject": measure.UUID.String(), "owner": name, "at": now,
		"actor": name, "event": "created", "from_state": "", "to_state": "created", "attempt": 0, "applied": true, "detail": text}).Error)
}

func (w *world) exports(tx *database.Tx, name string, id func(string) uuid.UUID, source uuid.UUID) {
	now, text := w.clock.Now(), mark(name)
	for _, status := range []string{"failed", "finished"} {
		base := export.Base{UUID: id("export_" + status), CreatedAt: now, ModifiedAt: now}
		e := export.Export{Base: base, OwnerID: name, OutputFormat: "csv", Nominative: true, Motivation: &text, TargetName: &text, TargetLocation: new("/exports/csv"), JobStatus: status, JobID: text}
		require.NoError(w.t, tx.Omit("Tables").Create(&e).Error)
		table := export.Table{Base: export.Base{UUID: id("table_" + status), CreatedAt: now, ModifiedAt: now}, ExportID: e.UUID, Name: "person", CohortResultSourceID: &source}
		w.make(tx, &table)
	}
	stat := export.Stat{Base: export.Base{UUID: id("stat"), CreatedAt: now, ModifiedAt: now}, ExportID: uuid.MustParse(w.ids[name+".export_failed"]), Name: "rows", Type: "Text", Value: text}
	w.make(tx, &stat)
}

// account is the username behind a caller.
func (c caller) account() string {
	if name, machine := machineAccounts[c.name]; machine {
		return name
	}
	return c.name
}

// as finds a caller by name.
func as(name string) caller {
	for _, c := range callers {
		if c.name == name {
			return c
		}
	}
	panic("no caller is called " + name)
}

// answer is what came back.
type answer struct {
	status int
	body   string
}

// send makes a request as somebody; body is JSON text, "" for none.
func (w *world) send(c caller, method, path, body string) answer {
	w.t.Helper()
	recorder := httptest.NewRecorder()
	w.http.ServeHTTP(recorder, w.request(c, method, path, body))
	return answer{recorder.Code, recorder.Body.String()}
}

// request is one of somebody, not sent yet.
func (w *world) request(c caller, method, path, body string) *http.Request {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	switch {
	case c.name == "nobody":
	case c.name == "badToken":
		r.Header.Set("Authorization", "Bearer no.such.token")
		r.Header.Set("AuthorizationMethod", "JWT")
	case c.key != "":
		r.Header.Set("Authorization", "Bearer "+c.key)
	default:
		user := c.name
		if c.user != "" {
			user = c.user
			r.Header.Set("X-Impersonate", c.as)
		}
		pair, err := w.app.parts.tokens.Issue(user)
		require.NoError(w.t, err)
		r.Header.Set("Authorization", "Bearer "+pair.Access)
		r.Header.Set("AuthorizationMethod", "JWT")
	}
	return r
}

// pretty is for messages.
func (a answer) String() string {
	var compact bytes.Buffer
	if json.Compact(&compact, []byte(a.body)) != nil || compact.Len() > 400 {
		return fmt.Sprintf("%d %.400q", a.status, a.body)
	}
	return fmt.Sprintf("%d %s", a.status, compact.String())
}
