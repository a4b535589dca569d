package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/telemetry"
	"cohortflow/internal/requestlog"
)

// logged is a row as the portal's list shows it.
type logged struct {
	Method, Path, Data string
	QueryParams        string `json:"query_params"`
	StatusCode         int    `json:"status_code"`
	ViewMethod         string `json:"view_method"`
	UsernamePersistent string `json:"username_persistent"`
	User, Errors       *string
	UserDetails        *requestlog.User   `json:"user_details"`
	RelatedNames       *map[string]string `json:"related_names"`
}

// forgetLogged makes room for the rows of a test: the first one has an id that PostgreSQL would give again.
func (w *world) forgetLogged(t *testing.T) {
	t.Helper()
	require.NoError(t, w.app.db.Write(t.Context()).Exec("DELETE FROM rest_framework_tracking_apirequestlog").Error)
}

// lastLogged is the newest row.
func (w *world) lastLogged(t *testing.T) logged {
	t.Helper()
	var page struct{ Results []logged }
	a := w.send(as("fullAdmin"), "GET", "/logs/?page=last", "")
	require.NoError(t, json.Unmarshal([]byte(a.body), &page), a.body)
	require.NotEmpty(t, page.Results)
	return page.Results[len(page.Results)-1]
}

// TestWhatASecurityOfficerFinds: each of these leaves a row that says who, under which other name, what, and how it ended.
func TestWhatASecurityOfficerFinds(t *testing.T) {
	t.Parallel()
	for name, database := range bothDialects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, database(t), "LOGIN_MAX_FAILURES=1")
			w.reset()
			w.forgetLogged(t)
			const login = `{"username":"alice","password":"planted"}`
			give := `{"profile_id":` + w.ids["noAccess.profile"] + `,"role_id":90,"perimeter_id":2}`
			begun, later := "/accesses/accesses/"+w.ids["dataSame.access"]+"/", "/accesses/accesses/91/"
			files, report := "/exports/"+w.ids["owner.export_finished"]+"/download/", "/cohort/feasibility-studies/"+w.ids["owner.study"]+"/download/"
			behind := func(name string) *map[string]string { return &map[string]string{"impersonator_username": name} }
			for _, tt := range []struct {
				name               string
				as                 string
				method, path, body string
				status             int
				action             string
				user               string // "" for nobody
				others             *map[string]string
			}{
				{"a refused login", "badToken", "POST", "/auth/login/", login, 401, "post", "", nil},
				{"a locked login", "badToken", "POST", "/auth/login/", login, 429, "post", "", nil},
				{"a login without a password", "badToken", "POST", "/auth/login/", `{"username":"alice"}`, 400, "post", "", nil},
				{"a login that cannot be read", "badToken", "POST", "/auth/login/", `{"password":"planted`, 400, "post", "", nil},
				{"a change without a token", "nobody", "POST", "/accesses/roles/", `{"name":"r"}`, 403, "create", "", nil},
				{"a refused impersonation", "ownerAsAdmin", "POST", "/cohort/folders/", `{"name":"f"}`, 403, "create", "owner", &map[string]string{"refused_target_username": "fullAdmin"}},
				{"a refused impersonation of a download", "ownerAsAdmin", "GET", files, "", 403, "download", "owner", &map[string]string{"refused_target_username": "fullAdmin"}},
				{"an impersonated change", "adminAsOwner", "POST", "/cohort/folders/", `{"name":"f"}`, 201, "create", "owner", behind("fullAdmin")},
				{"an impersonated change that is refused", "adminAsNoAccess", "PATCH", "/accesses/roles/90/", `{"name":"r"}`, 403, "partial_update", "noAccess", behind("fullAdmin")},
				{"an impersonated download", "adminAsOwner", "GET", files, "", 200, "download", "owner", behind("fullAdmin")},
				{"a refused change of a role", "userManager", "PATCH", "/accesses/roles/90/", `{"right_full_admin":true}`, 403, "partial_update", "userManager", nil},
				{"a role", "fullAdmin", "POST", "/accesses/roles/", `{"name":"fresh","right_read_patient_nominative":true}`, 201, "create", "fullAdmin", nil},
				{"a change of a role", "fullAdmin", "PATCH", "/accesses/roles/90/", `{"right_search_opposed_patients":true}`, 200, "partial_update", "fullAdmin", nil},
				{"the end of a role", "fullAdmin", "DELETE", "/accesses/roles/92/", "", 204, "destroy", "fullAdmin", nil},
				{"a refused access", "owner", "POST", "/accesses/accesses/", give, 403, "create", "owner", nil},
				{"an access", "fullAdmin", "POST", "/accesses/accesses/", give, 201, "create", "fullAdmin", nil},
				{"a refused end of an access", "owner", "PATCH", begun + "close/", "", 403, "close", "owner", nil},
				{"the end of an access", "fullAdmin", "PATCH", begun + "close/", "", 200, "close", "fullAdmin", nil},
				{"the end of an access that has not begun", "fullAdmin", "DELETE", later, "", 204, "destroy", "fullAdmin", nil},
				{"a user", "fullAdmin", "POST", "/users/", `{"username":"u","firstname":"A","lastname":"B","email":"u@example.org","password":"planted"}`, 201, "create", "fullAdmin", nil},
				{"a change of a password", "fullAdmin", "PATCH", "/users/u/", `{"password":"planted"}`, 200, "partial_update", "fullAdmin", nil},
				{"a refused user", "owner", "POST", "/users/", `{"username":"u","password":"planted"}`, 403, "create", "owner", nil},
				{"a download", "owner", "GET", files, "", 200, "download", "owner", nil},
				{"a download of another's files", "otherOwner", "GET", files, "", 404, "download", "otherOwner", nil},
				{"a download by a full admin", "fullAdmin", "GET", files, "", 404, "download", "fullAdmin", nil},
				{"a download without a token", "nobody", "GET", files, "", 403, "download", "", nil},
				{"a download of a report", "owner", "GET", report, "", 200, "download", "owner", nil},
				{"a download of another's report", "otherOwner", "GET", report, "", 404, "download", "otherOwner", nil},
			} {
				a := w.send(as(tt.as), tt.method, tt.path, tt.body)
				require.Equal(t, tt.status, a.status, "%s: %s", tt.name, a)
				row := w.lastLogged(t)
				require.Equal(t, []any{tt.method, tt.path, tt.status, tt.action}, []any{row.Method, row.Path, row.StatusCode, row.ViewMethod}, tt.name)
				require.NotContains(t, row.Data+row.QueryParams, "planted", tt.name)
				require.Equal(t, tt.others, row.RelatedNames, tt.name)
				require.Nil(t, row.Errors, tt.name)
				if tt.user == "" {
					require.Equal(t, []any{(*string)(nil), "Anonymous"}, []any{row.User, row.UsernamePersistent}, tt.name)
					continue
				}
				require.Equal(t, []any{tt.user, tt.user, tt.user}, []any{*row.User, row.UsernamePersistent, row.UserDetails.Username}, tt.name)
			}
			require.Contains(t, w.send(as("fullAdmin"), "GET", `/logs/?response="impersonator_username":"fullAdmin"&method=GET`, "").body, `"count":1,`)
		})
	}
}

// brokenLine is a connection that takes a few bytes.
type brokenLine struct{ *httptest.ResponseRecorder }

func (brokenLine) Write([]byte) (int, error) { return 4, errors.New("the client has gone") }

var _ io.Writer = brokenLine{}

func TestADownloadThatBreaksOffIsLogged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onSQLite(t))
	w.reset()
	w.forgetLogged(t)
	r := w.request(as("owner"), "GET", "/exports/"+w.ids["owner.export_finished"]+"/download/", "")
	require.PanicsWithError(t, http.ErrAbortHandler.Error(), func() { w.http.ServeHTTP(brokenLine{httptest.NewRecorder()}, r) })
	row := w.lastLogged(t)
	require.Equal(t, []any{"owner", "download", 200, "The answer broke off after 4 of 28 bytes."}, []any{*row.User, row.ViewMethod, row.StatusCode, *row.Errors})
}

func TestLogLinesTellWhoseRequestTheyAreAbout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onSQLite(t))
	w.reset()
	for name, want := range map[string]string{
		"nobody": `"x_traceId":"trace"}`, "owner": `"x_traceId":"trace","x_userId":"owner"}`, "ownerAsAdmin": `"x_traceId":"trace"}`,
		"adminAsOwner": `"x_traceId":"trace","x_userId":"fullAdmin","x_impersonating":"owner"}`,
	} {
		var out bytes.Buffer
		log, err := telemetry.Logger(&out, "info", "api")
		require.NoError(t, err)
		c, _ := gin.CreateTestContext(httptest.NewRecorder())
		c.Request = w.request(as(name), "GET", "/users/", "")
		c.Request.Header.Set("X-Trace-Id", "trace")
		_ = w.app.authenticate(c)
		log.InfoContext(c.Request.Context(), "this")
		require.Contains(t, out.String(), want, name)
	}
}
