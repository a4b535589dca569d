package demo

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"github.com/xuri/excelize/v2"
)

const (
	sizeLimit    = 1000
	narrowCount  = 3
	broadCount   = 1980
	mailbox      = "ada@hospital.example"
	tokenPrefix  = "secret-token-of-"
	hospitalID   = "20002"
	institutions = "20001"
)

// system is a small double of the whole product: it answers in the contract's shapes, and each test bends one thing.
type system struct {
	t      *testing.T
	server *httptest.Server
	// bent answers some requests in another way: by "METHOD /path", with the uuids of the path as {}.
	bent map[string]http.HandlerFunc
	// count is what a query finds, finish what a count or a cohort ends as.
	count  func(query string) int
	finish string
	// told changes messages before they are sent; nil: they are not sent.
	told func(m map[string]any) []map[string]any
	// archive is the content of an export.
	archive func(format string) []byte
	// endedBy is who ends the large cohort.
	endedBy string
	// size is the size of cohorts that are made.
	size func(counted int) int

	mu      sync.Mutex
	last    int
	rows    map[string]map[string]any
	queries map[string]string // by snapshot
	owners  map[string]string // of folders
	reads   map[string]int
	jobs    []map[string]any
	events  map[string][]map[string]any
	mails   []Mail
	sockets []*websocket.Conn
}

func setup(t *testing.T) (*system, Config, *bytes.Buffer) {
	t.Helper()
	s := &system{t: t, bent: map[string]http.HandlerFunc{}, finish: "finished", endedBy: "solr-etl", rows: map[string]map[string]any{},
		queries: map[string]string{}, owners: map[string]string{}, reads: map[string]int{}, events: map[string][]map[string]any{}}
	s.count = func(query string) int {
		if strings.Contains(query, `"`+institutions+`"`) {
			return broadCount
		}
		return narrowCount
	}
	s.size = func(counted int) int { return counted }
	s.told = func(m map[string]any) []map[string]any { return []map[string]any{m} }
	s.archive = func(format string) []byte { return archive(t, format, tables()) }
	s.mails = []Mail{{Subject: "Votre cohorte est prête", Text: "Demo large of another day"}}
	s.server = httptest.NewServer(s.handler())
	t.Cleanup(s.server.Close)
	var out bytes.Buffer
	return s, Config{BaseURL: s.server.URL, Out: &out, Researcher: Login{"ada", "a"}, Admin: Login{"root", "r"},
		CaresiteCohortID: hospitalID, RootCohortID: institutions, SizeLimit: sizeLimit, Timeout: 20 * time.Second,
		Evaluate: func(_ context.Context, query string) (int, error) {
			if strings.Contains(query, `"`+institutions+`"`) {
				return broadCount, nil
			}
			return narrowCount, nil
		},
		Mails: func(to string) []Mail {
			s.mu.Lock()
			defer s.mu.Unlock()
			if to != mailbox {
				return nil
			}
			return append([]Mail{}, s.mails...)
		},
		Stored: func(path string) (int64, error) { return int64(len(s.archive(strings.Split(path, "/")[2]))), nil },
	}, &out
}

func (s *system) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h func(w http.ResponseWriter, r *http.Request, body map[string]any)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if bent := s.bent[strings.ReplaceAll(pattern, "{id}", "{}")]; bent != nil {
				bent(w, r)
				return
			}
			var body map[string]any
			if r.Header.Get("Content-Type") == "application/json" {
				if json.NewDecoder(r.Body).Decode(&body) != nil {
					w.WriteHeader(http.StatusBadRequest)
					return
				}
			}
			h(w, r, body)
		})
	}
	handle("POST /auth/login/", s.login)
	handle("GET /ws/", s.greet)
	handle("GET /accesses/perimeters/patient-data/rights/", func(w http.ResponseWriter, r *http.Request, _ map[string]any) {
		answer(w, 200, map[string]any{"count": 1, "results": []any{map[string]any{"right_read_patient_nominative": true,
			"perimeter": map[string]any{"name": "Hôpital Alisier", "cohort_id": r.URL.Query().Get("cohort_id")}}}})
	})
	handle("POST /cohort/folders/", s.create)
	handle("POST /cohort/requests/", s.create)
	handle("POST /cohort/request-query-snapshots/", s.snapshot)
	handle("POST /cohort/dated-measures/", s.measure)
	handle("POST /cohort/cohorts/", s.cohort)
	handle("POST /exports/", s.export)
	for _, path := range []string{"/cohort/folders/{id}/", "/cohort/dated-measures/{id}/", "/cohort/cohorts/{id}/", "/exports/{id}/"} {
		handle("GET "+path, s.read)
	}
	handle("PATCH /cohort/dated-measures/{id}/", func(w http.ResponseWriter, _ *http.Request, _ map[string]any) {
		answer(w, 403, map[string]any{"detail": "Authentication credentials were not provided."})
	})
	handle("DELETE /cohort/folders/{id}/", func(w http.ResponseWriter, _ *http.Request, _ map[string]any) { w.WriteHeader(204) })
	handle("GET /exports/{id}/download/", s.download)
	handle("GET /jobs/", func(w http.ResponseWriter, _ *http.Request, _ map[string]any) {
		s.mu.Lock()
		defer s.mu.Unlock()
		answer(w, 200, map[string]any{"count": len(s.jobs), "results": s.jobs})
	})
	handle("GET /jobs/{id}/events/", func(w http.ResponseWriter, r *http.Request, _ map[string]any) {
		s.mu.Lock()
		defer s.mu.Unlock()
		answer(w, 200, s.events[r.PathValue("id")])
	})
	return mux
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
	w.(http.Flusher).Flush()
}

func user(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "+tokenPrefix)
}

func (s *system) login(w http.ResponseWriter, r *http.Request, _ map[string]any) {
	name := r.FormValue("username")
	if r.FormValue("password") != name[:1] || r.Header.Get("authorizationMethod") != "JWT" {
		answer(w, 401, map[string]any{"error": "Invalid username or password!"})
		return
	}
	answer(w, 200, map[string]any{"access_token": tokenPrefix + name, "refresh_token": "r", "user": map[string]any{
		"username": name, "display_name": "Ada MARTIN (" + name + ")", "email": mailbox}})
}

func (s *system) greet(w http.ResponseWriter, r *http.Request, _ map[string]any) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	_, raw, err := conn.Read(r.Context())
	if err != nil {
		return
	}
	status := "accepted"
	if string(raw) != `{"auth_method":"JWT","token":"`+tokenPrefix+`ada"}` {
		status = "forbidden"
	}
	s.mu.Lock() // nothing is pushed before the answer, and all after it
	_ = conn.Write(r.Context(), websocket.MessageText, []byte(`{"type":"handshake","status":"`+status+`","details":""}`))
	s.sockets = append(s.sockets, conn)
	s.mu.Unlock()
	_, _, _ = conn.Read(context.WithoutCancel(r.Context())) // until the client goes
	_ = conn.CloseNow()
}

func (s *system) id() string {
	s.last++
	return fmt.Sprintf("%08d-0000-4000-8000-000000000000", s.last)
}

// add keeps a row and opens its job, if it has one.
func (s *system) add(kind string, row map[string]any) string {
	id := s.id()
	row["uuid"] = id
	s.rows[id] = row
	if kind != "" {
		s.jobs = append(s.jobs, map[string]any{"id": "job-" + id, "kind": kind, "subject": id, "owner": "ada", "state": "pending"})
		s.event(id, "opened", "ada", "", "pending", true)
	}
	return id
}

func (s *system) event(subject, name, actor, from, to string, applied bool) {
	s.events["job-"+subject] = append(s.events["job-"+subject], map[string]any{"at": time.Now().UTC().Format(time.RFC3339Nano),
		"actor": actor, "event": name, "from": from, "to": to, "applied": applied})
	for _, j := range s.jobs {
		if j["subject"] == subject {
			j["state"] = to
		}
	}
}

func (s *system) create(w http.ResponseWriter, r *http.Request, body map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.add("", body)
	s.owners[id] = user(r)
	answer(w, 201, body)
}

func (s *system) snapshot(w http.ResponseWriter, _ *http.Request, body map[string]any) {
	query, _ := body["serialized_query"].(string)
	if !json.Valid([]byte(query)) {
		answer(w, 400, "Error extracting perimeters ids from JSON query - unexpected end")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queries[s.add("", body)] = query
	answer(w, 201, body)
}

func (s *system) measure(w http.ResponseWriter, _ *http.Request, body map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.count(s.queries[body["request_query_snapshot_id"].(string)])
	row := map[string]any{"request_job_status": "new", "measure": nil, "cohort_limit": sizeLimit}
	id := s.add("count", row)
	answer(w, 201, row)
	if s.finish == "never" {
		return
	}
	row["request_job_status"], row["measure"], row["request_job_fail_msg"] = s.finish, n, "the reason"
	s.event(id, "done", "query-executor", "pending", s.finish, true)
	s.event(id, "done", "query-executor", s.finish, s.finish, false)
	s.push(map[string]any{"type": "job_status", "status": s.finish, "uuid": id, "job_name": "count", "extra_info": map[string]any{"measure": n}})
}

func (s *system) push(m map[string]any) {
	if s.told == nil {
		return
	}
	for _, one := range s.told(m) {
		raw, err := json.Marshal(one)
		if err != nil {
			panic(err)
		}
		for _, conn := range s.sockets {
			_ = conn.Write(context.Background(), websocket.MessageText, raw)
		}
	}
}

func (s *system) cohort(w http.ResponseWriter, _ *http.Request, body map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counted := s.rows[body["dated_measure_id"].(string)]["measure"].(int)
	row := map[string]any{"name": body["name"], "request_job_status": "new", "group_id": "", "counted": counted}
	s.add("create", row)
	answer(w, 201, row)
	row["request_job_status"] = "pending"
	if counted >= sizeLimit {
		row["request_job_status"] = "long_pending"
	}
}

// export needs the body of the real front-end.
func (s *system) export(w http.ResponseWriter, _ *http.Request, body map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tables := body["export_tables"].([]any)
	source := tables[0].(map[string]any)["cohort_result_source"].(string)
	cohort := s.rows[source]
	if cohort == nil || body["nominative"] != true || len(tables) != 3 {
		answer(w, 400, []string{"Invalid export data: no"})
		return
	}
	format := body["output_format"].(string)
	row := map[string]any{"request_job_status": "new", "target_name": "ada_20260630", "target_location": "/exports/" + format, "format": format,
		"group": cohort["group_id"], "cohort": cohort["name"]}
	s.add("export", row)
	answer(w, 201, row)
	s.mails = append(s.mails, Mail{Subject: fmt.Sprintf("[Cohorte %s] Demande d'export `%s` reçue", row["group"], row["cohort"])})
}

// read shows a row, and lets what it is about go on once it has been shown.
func (s *system) read(w http.ResponseWriter, r *http.Request, _ map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.PathValue("id")
	row := s.rows[id]
	if owner, folder := s.owners[id]; row == nil || folder && owner != user(r) {
		answer(w, 404, map[string]any{"detail": "No Folder matches the given query."})
		return
	}
	answer(w, 200, row)
	if s.reads[id]++; s.reads[id] > 1 {
		return
	}
	switch {
	case row["counted"] != nil:
		s.endCohort(id, row)
	case row["format"] != nil:
		row["request_job_status"] = "finished"
		s.event(id, "done", "worker", "started", "finished", true)
		s.mails = append(s.mails, Mail{Subject: fmt.Sprintf("[Cohorte %s] Export `%s` terminé", row["group"], row["cohort"])})
	}
}

func (s *system) endCohort(id string, row map[string]any) {
	counted, by := row["counted"].(int), "query-executor"
	message := func() map[string]any {
		return map[string]any{"type": "job_status", "status": row["request_job_status"], "uuid": id, "job_name": "create",
			"extra_info": map[string]any{"group_id": row["group_id"], "result_size": row["result_size"]}}
	}
	row["group_id"], row["result_size"] = "88"+strconv.Itoa(counted), s.size(counted)
	if counted >= sizeLimit {
		s.push(message())
		by = s.endedBy
		s.mails = append(s.mails, Mail{Subject: "Votre cohorte est prête", Text: "La création de votre cohorte « " + row["name"].(string) + " » est terminée"})
	}
	row["request_job_status"] = "finished"
	s.event(id, "done", by, "started", "finished", true)
	s.push(message())
}

func (s *system) download(w http.ResponseWriter, r *http.Request, _ map[string]any) {
	s.mu.Lock()
	row := s.rows[r.PathValue("id")]
	s.mu.Unlock()
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=export_%s.zip", row["group"]))
	_, _ = w.Write(s.archive(row["format"].(string)))
}

// sheet is a table of an export with its header.
type sheet struct {
	name string
	rows [][]string
}

// tables are those of a cohort of three patients.
func tables() []sheet {
	return []sheet{
		{"person", [][]string{{"person_id", "family"}, {"1", "Iris"}, {"2", "Sauge, \"dite\"\nSauge"}, {"3", ""}}},
		{"visit_occurrence", [][]string{{"visit_occurrence_id", "person_id"}, {"10", "1"}, {"11", "1"}, {"12", "3"}}},
		{"condition_occurrence", [][]string{{"condition_occurrence_id", "person_id", "end_datetime"}, {"20", "2", ""}}},
	}
}

// archive is an export as the contract describes it: a zip of CSV files, or of one workbook.
func archive(t *testing.T, format string, sheets []sheet) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	if format == "xlsx" {
		f, err := z.Create("ada_20260630.xlsx")
		require.NoError(t, err)
		workbook(t, f, sheets)
	} else {
		for _, s := range sheets {
			f, err := z.Create(s.name + ".csv")
			require.NoError(t, err)
			require.NoError(t, csv.NewWriter(f).WriteAll(s.rows))
		}
	}
	require.NoError(t, z.Close())
	return out.Bytes()
}

func workbook(t *testing.T, w io.Writer, sheets []sheet) {
	t.Helper()
	book := excelize.NewFile()
	for i, s := range sheets {
		if i == 0 {
			require.NoError(t, book.SetSheetName("Sheet1", s.name))
		} else {
			_, err := book.NewSheet(s.name)
			require.NoError(t, err)
		}
		for r, row := range s.rows {
			require.NoError(t, book.SetSheetRow(s.name, "A"+strconv.Itoa(r+1), &row))
		}
	}
	require.NoError(t, book.Write(w))
	require.NoError(t, book.Close())
}
