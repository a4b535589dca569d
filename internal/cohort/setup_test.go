package cohort

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 123456000, time.UTC)

// bundle is a service behind its routes, with a database of its own and the users alice, bob and carol.
type bundle struct {
	t       *testing.T
	db      *database.DB
	clock   *clock.Fake
	service *Service
	server  *web.Server
}

// each runs a test on both dialects, with a bundle of its own.
func each(t *testing.T, test func(t *testing.T, b *bundle)) {
	t.Helper()
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) { test(t, setup(t, db)) })
}

func setup(t *testing.T, db *database.DB) *bundle {
	t.Helper()
	b := &bundle{t: t, db: db, clock: clock.NewFake(noon)}
	var err error
	b.service, err = New(Config{}, Deps{DB: db, Clock: b.clock, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	b.server = web.New(web.Config{Log: slog.New(slog.DiscardHandler), Authenticate: authenticate, Authorize: authorize}, b.service.Table())
	for _, name := range []string{"alice", "bob", "carol"} {
		title := strings.ToUpper(name[:1]) + name[1:]
		b.exec(`INSERT INTO "user" (username, firstname, lastname, email) VALUES (?, ?, ?, ?)`, name, title, "MARTIN", name+"@example.org")
	}
	return b
}

// authenticate believes the header X-User, or the bearer tokens qe and etl of the machines.
func authenticate(c *gin.Context) error {
	caller := identity.Caller{Username: c.GetHeader("X-User"), Authorization: "Bearer tok", AuthorizationMethod: "JWT"}
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

const query = `{"version":"v1.6.1","_type":"request","sourcePopulation":{"caresiteCohortList":["4012"]},"request":{"_id":0,"_type":"andGroup","isInclusive":true,"criteria":[],"temporalConstraints":[]}}`

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
