package app

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/web"
)

// strangers have no business with the owner's rows.
var strangers = []string{"otherOwner", "noAccess", "nominative", "dataInferior", "adminInferior", "userManager", "fileExporter", "rollout", "adminAsNoAccess"}

// seesAll tells whether a list shows a caller everybody's rows by contract (decision 22), or rows that are nobody's own.
func seesAll(c string, path string) bool {
	switch {
	case strings.HasPrefix(path, "/accesses/"), strings.HasPrefix(path, "/users/"): // people and accesses belong to nobody
		return true
	case path == "/exports/cohorts/", path == "/exports/fhir-filters/":
		return slices.Contains([]string{"datalabManager", "datalabReader", "jupyterExporter", "fullAdmin"}, c)
	}
	return false
}

// leak fails if an answer holds anything of the owner but what the request itself said.
func (w *world) leak(t *testing.T, request string, a answer) {
	t.Helper()
	body := a.body
	if a.status >= 300 && strings.Contains(request, mark("owner")) {
		return // an error may repeat what the request said
	}
	assert.NotContains(t, body, mark("owner"), "%s: %s", request, a)
	for kind, id := range w.ids {
		if strings.HasPrefix(kind, "owner.") && len(id) == 36 && !strings.Contains(request, id) {
			assert.NotContains(t, body, id, "%s shows %s: %s", request, kind, a)
		}
	}
	for _, secret := range []string{`:4712`, `"4712"`} { // the size of the owner's cohort
		assert.NotContains(t, body, secret, "%s: %s", request, a)
	}
}

// probes are the values of the owner that a filter might find something by.
func (w *world) probes(param web.Param) []string {
	kinds := []string{"folder", "request", "snapshot", "next", "measure", "cohort", "filter", "study", "schedule", "export_failed", "job"}
	var ids []string
	for _, kind := range kinds {
		ids = append(ids, w.ids["owner."+kind])
	}
	switch param.Type {
	case "uuid":
		return ids
	case "boolean":
		return []string{"true", "false"}
	case "integer", "number":
		return []string{"0", "1", "2", "7001", "4712"}
	case "date-time":
		return []string{"2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z"}
	}
	own, mine := w.ids["owner.group"], w.ids["otherOwner.group"]
	return append(ids, "owner", mark("owner"), "SECRET", "%", "_", "", own, mine+","+own, strings.Join(ids, ","), "finished,failed", "-created_at", "owner,otherOwner", "csv", "daily", "min", "max")
}

// TestListsOfOthers tries each filter of each list with what finds the owner's rows.
func TestListsOfOthers(t *testing.T) {
	t.Parallel()
	eachWorld(t, func(t *testing.T, w *world) {
		tried := 0
		for _, r := range w.app.Routes() {
			if r.Method != http.MethodGet {
				continue
			}
			who := strangers
			if w.app.db.Dialect() == database.Postgres {
				who = strangers[:1] // who is who does not depend on the database, what a filter finds does
			}
			for _, stranger := range who {
				if seesAll(stranger, r.Path) || r.For == web.FullAdmin {
					continue
				}
				paths := []string{w.fill("GET "+r.Path, "owner"), w.fill("GET "+r.Path, "otherOwner")}
				for _, path := range slices.Compact(paths) {
					for _, query := range w.queries(r) {
						full := path + query
						if strings.Contains(path, "?") {
							full = path + strings.Replace(query, "?", "&", 1)
						}
						a := w.send(as(stranger), "GET", full, "")
						w.leak(t, "GET "+full+" as "+stranger, a)
						assert.Less(t, a.status, 500, "GET %s as %s: %s", full, stranger, a)
						tried++
					}
				}
			}
		}
		require.Greater(t, tried, 1000)
		for _, list := range []string{"/cohort/folders/?search=SECRET", "/exports/?owner=owner", "/exports/cohorts/?owner=owner", "/jobs/?owner=owner"} { // the owner does find them
			assert.Contains(t, w.send(as("owner"), "GET", list, "").body, mark("owner"), list)
		}
	})
}

// queries are one for each parameter that the route documents and each value, the parameters that lists of Django know
// besides, and none at all.
func (w *world) queries(r web.Route) []string {
	list := []string{"", "?owner=owner", "?owner_id=owner", "?owner__username=owner", "?user=owner", "?limit=-1", "?limit=1000&offset=0", "?page=1&page_size=1000"}
	for _, p := range r.Query {
		for _, value := range w.probes(p) {
			list = append(list, "?"+url.Values{p.Name: {value}}.Encode())
		}
	}
	return list
}

// attempt is a request of otherOwner that names rows of owner ({o.kind}) or of its own ({m.kind}), and must be refused.
type attempt struct{ method, path, body string }

var attempts = []attempt{
	{"PATCH", "/cohort/folders/{o.folder}/", `{"name":"taken"}`},
	{"POST", "/cohort/requests/", `{"name":"n","parent_folder":"{o.folder}"}`},
	{"PATCH", "/cohort/requests/{m.request}/", `{"parent_folder":"{o.folder}"}`},
	{"PATCH", "/cohort/requests/{o.request}/", `{"parent_folder":"{m.folder}"}`},
	{"POST", "/cohort/folders/{o.folder}/requests/", `{"name":"n"}`},
	{"GET", "/cohort/folders/{m.folder}/requests/{o.request}/", ``},
	{"GET", "/cohort/folders/{o.folder}/requests/{m.request}/", ``},
	{"PATCH", "/cohort/folders/{m.folder}/requests/{o.request}/", `{"name":"taken"}`},
	{"DELETE", "/cohort/folders/{m.folder}/requests/{o.request}/", ``},
	{"POST", "/cohort/request-query-snapshots/", `{"request":"{o.request}","serialized_query":"{}"}`},
	{"POST", "/cohort/request-query-snapshots/", `{"previous_snapshot":"{o.next}","serialized_query":"{}"}`},
	{"POST", "/cohort/request-query-snapshots/", `{"request":"{m.request}","previous_snapshot":"{o.next}","serialized_query":"{}"}`},
	{"POST", "/cohort/requests/{o.request}/query-snapshots/", `{"serialized_query":"{}"}`},
	{"POST", "/cohort/request-query-snapshots/{o.next}/next-snapshots/", `{"serialized_query":"{}"}`},
	{"GET", "/cohort/requests/{m.request}/query-snapshots/{o.snapshot}/", ``},
	{"GET", "/cohort/request-query-snapshots/{m.snapshot}/next-snapshots/{o.next}/", ``},
	{"PATCH", "/cohort/request-query-snapshots/{o.snapshot}/", `{"name":"taken"}`},
	{"POST", "/cohort/request-query-snapshots/{o.snapshot}/share/", `{"name":"n","recipients":"otherOwner"}`},
	{"POST", "/cohort/requests/{m.request}/query-snapshots/{o.snapshot}/share/", `{"name":"n","recipients":"otherOwner"}`},
	{"POST", "/cohort/request-query-snapshots/{m.snapshot}/next-snapshots/{o.next}/share/", `{"name":"n","recipients":"otherOwner"}`},
	{"POST", "/cohort/dated-measures/", `{"request_query_snapshot":"{o.snapshot}"}`},
	{"PATCH", "/cohort/dated-measures/{o.measure}/", `{"request_job_status":"FINISHED","count":"1"}`},
	{"PATCH", "/cohort/dated-measures/{m.measure}/", `{"request_job_status":"FINISHED","count":"1"}`},
	{"POST", "/cohort/cohorts/", `{"name":"n","request_query_snapshot":"{o.snapshot}","dated_measure":"{o.measure}"}`},
	{"POST", "/cohort/cohorts/", `{"name":"n","request_query_snapshot":"{m.snapshot}","dated_measure":"{o.measure}"}`},
	{"POST", "/cohort/cohorts/", `{"name":"n","request_query_snapshot":"{o.snapshot}","dated_measure":"{m.measure}"}`},
	{"POST", "/cohort/cohorts/", `{"name":"n","parent_cohort":"{o.cohort}","sampling_ratio":0.5}`},
	{"POST", "/cohort/cohorts/", `{"name":"n","parent_cohort":"{o.cohort}","sampling_ratio":0.5,"request_query_snapshot":"{m.snapshot}","dated_measure":"{m.measure}"}`},
	{"PATCH", "/cohort/cohorts/{o.cohort}/", `{"name":"taken"}`},
	{"PATCH", "/cohort/cohorts/{o.cohort}/", `{"request_job_status":"FINISHED","group.id":"1","group.count":"1"}`},
	{"PATCH", "/cohort/fhir-filters/{o.filter}/", `{"name":"taken"}`},
	{"POST", "/cohort/feasibility-studies/", `{"request_query_snapshot":"{o.snapshot}"}`},
	{"PATCH", "/cohort/feasibility-studies/{m.study}/", `{"request_job_status":"FINISHED","count":"1"}`},
	{"POST", "/cohort/refresh-schedules/", `{"request_snapshot":"{o.snapshot}","refresh_time":"02:00","refresh_frequency":"daily"}`},
	{"PATCH", "/cohort/refresh-schedules/{m.schedule}/", `{"request_snapshot":"{o.snapshot}"}`},
	{"POST", "/exports/", `{"output_format":"csv","nominative":true,"export_tables":[{"table_name":"person","cohort_result_source":"{o.cohort}"}]}`},
	{"POST", "/exports/", `{"output_format":"csv","nominative":true,"export_tables":[{"table_name":"person","cohort_result_source":"{m.cohort}"},{"table_name":"condition_occurrence","cohort_result_source":"{o.cohort}"}]}`},
	{"POST", "/exports/", `{"output_format":"csv","nominative":true,"export_tables":[{"table_name":"person","cohort_result_source":"{m.cohort}","fhir_filter":"{o.filter}"}]}`},
	{"POST", "/exports/{o.export_failed}/retry/", `{}`},
	{"POST", "/exports/{m.export_failed}/relaunch/", `{}`},
	{"GET", "/exports/{o.export_finished}/download/", ``},
	{"GET", "/exports/{m.export_failed}/logs/", ``},
	{"POST", "/exports/export-stats/", `{"name":"n","type":"Text","value":"v","export":"{o.export_failed}"}`},
	{"PATCH", "/exports/export-stats/{m.stat}/", `{"export":"{o.export_failed}"}`},
	{"PATCH", "/exports/export-stats/{o.stat}/", `{"value":"v"}`},
	{"POST", "/jobs/{o.job}/cancel/", `{}`},
}

// replaced puts ids where an attempt names rows; none stands for a row that does not exist.
func (w *world) replaced(text string, none bool) string {
	for name, id := range w.ids {
		if kind, found := strings.CutPrefix(name, "owner."); found {
			if none && len(id) == 36 {
				id = uuid.NewSHA1(uuid.Nil, []byte(name)).String()
			}
			text = strings.ReplaceAll(text, "{o."+kind+"}", id)
		}
		if kind, found := strings.CutPrefix(name, "otherOwner."); found {
			text = strings.ReplaceAll(text, "{m."+kind+"}", id)
		}
	}
	return text
}

// TestRowsOfOthers tries to read, change, delete and build upon the owner's rows; the answer is the same as for rows that do
// not exist, so that not even their existence can be found out.
func TestRowsOfOthers(t *testing.T) {
	t.Parallel()
	eachWorld(t, func(t *testing.T, w *world) {
		for _, try := range attempts {
			path, body := w.replaced(try.path, false), w.replaced(try.body, false)
			require.NotContains(t, path+body, "{o.")
			require.NotContains(t, path+body, "{m.")
			name := fmt.Sprintf("%s %s %s", try.method, try.path, try.body)
			a := w.send(as("otherOwner"), try.method, path, body)
			assert.GreaterOrEqual(t, a.status, 400, "%s: %s", name, a)
			assert.Less(t, a.status, 500, "%s: %s", name, a)
			w.leak(t, try.method+" "+path+" "+body, a)
			other := w.send(as("otherOwner"), try.method, w.replaced(try.path, true), w.replaced(try.body, true))
			assert.Equal(t, other.status, a.status, "%s tells that the row exists: %s, for one that does not: %s", name, a, other)
			if a.status < 300 {
				w.reset()
			}
		}
		w.unharmed(t)
	})
}

// unharmed checks that the owner still has all rows, as they were.
func (w *world) unharmed(t *testing.T) {
	t.Helper()
	for _, route := range []string{"/cohort/folders/:uuid/", "/cohort/requests/:uuid/", "/cohort/request-query-snapshots/:uuid/", "/cohort/cohorts/:uuid/", "/cohort/fhir-filters/:uuid/",
		"/cohort/refresh-schedules/:uuid/", "/exports/:uuid/", "/cohort/dated-measures/:uuid/"} {
		a := w.send(as("owner"), "GET", w.fill("GET "+route, "owner"), "")
		assert.Equal(t, 200, a.status, "%s: %s", route, a)
		assert.NotContains(t, a.body, "taken", route)
	}
}

// TestCommaListsOfOthers deletes lists of ids, some of them somebody else's: these stay.
func TestCommaListsOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onSQLite(t))
	for _, list := range []struct{ path, kind string }{{"/cohort/folders/", "folder"}, {"/cohort/requests/", "request"}, {"/cohort/cohorts/", "cohort"},
		{"/cohort/fhir-filters/", "filter"}, {"/cohort/refresh-schedules/", "schedule"}, {"/cohort/folders/{m.folder}/requests/", "request"}} {
		for _, order := range []string{"{m.%[1]s},{o.%[1]s}", "{o.%[1]s},{m.%[1]s}", "{o.%[1]s}", "{o.%[1]s},{o.%[1]s}", ",{o.%[1]s},"} {
			w.reset()
			path := w.replaced(list.path+fmt.Sprintf(order, list.kind)+"/", false)
			a := w.send(as("otherOwner"), "DELETE", path, "")
			w.leak(t, path, a)
			assert.Less(t, a.status, 500, "%s: %s", path, a)
			w.unharmed(t)
		}
	}
	w.reset()
	a := w.send(as("otherOwner"), "DELETE", "/cohort/fhir-filters/delete_multiple/", w.replaced(`{"uuids":["{m.filter}","{o.filter}"]}`, false))
	assert.Equal(t, 204, a.status, a)
	w.unharmed(t)
	assert.Equal(t, 404, w.send(as("otherOwner"), "GET", w.fill("GET /cohort/fhir-filters/:uuid/", "otherOwner"), "").status, "one's own is deleted")
}

// TestEscalation tries to gain rights through the routes of accesses and users.
func TestEscalation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onSQLite(t))
	w.reset()
	give := func(profile, role string, perimeter int64) string {
		return fmt.Sprintf(`{"profile_id":%s,"role_id":%s,"perimeter_id":%d}`, w.ids[profile+".profile"], role, perimeter)
	}
	cases := []struct {
		who, method, path, body string
		status                  int
	}{
		{"dataSame", "POST", "/accesses/accesses/", give("dataSame", w.ids["fullAdmin.role"], hospital), 403},
		{"dataSame", "POST", "/accesses/accesses/", give("dataSame", w.ids["dataSame.role"], hospital), 403},
		{"dataSame", "POST", "/accesses/accesses/", give("dataSame", "90", root), 403},
		{"dataSame", "POST", "/accesses/accesses/", give("dataSame", "90", unit), 403},
		{"dataSame", "POST", "/accesses/accesses/", give("noAccess", "90", hospital), 201},
		{"dataInferior", "POST", "/accesses/accesses/", give("noAccess", "90", root), 403},
		{"dataInferior", "POST", "/accesses/accesses/", give("noAccess", "90", unit), 201},
		{"adminSame", "POST", "/accesses/accesses/", give("adminSame", w.ids["adminSame.role"], hospital), 403},
		{"adminSame", "POST", "/accesses/accesses/", give("noAccess", w.ids["dataSame.role"], hospital), 201},
		{"adminInferior", "POST", "/accesses/accesses/", give("noAccess", w.ids["fullAdmin.role"], unit), 403},
		{"userManager", "POST", "/accesses/accesses/", give("userManager", "90", hospital), 403},
		{"dataSame", "PATCH", "/accesses/accesses/" + w.ids["fullAdmin.access"] + "/close/", "{}", 403},
		{"adminSame", "PATCH", "/accesses/accesses/" + w.ids["adminSame.access"] + "/", `{"end_datetime":"2099-01-01T00:00:00Z"}`, 403},
		{"expired", "PATCH", "/accesses/accesses/" + w.ids["expired.access"] + "/", `{"end_datetime":"2099-01-01T00:00:00Z"}`, 403},
		{"expired", "POST", "/accesses/roles/", `{"name":"mine","right_full_admin":true}`, 403},
		{"dataSame", "PATCH", "/accesses/roles/" + w.ids["dataSame.role"] + "/", `{"right_full_admin":true}`, 403},
		{"noAccess", "PATCH", "/users/noAccess/", `{"password":"new password"}`, 403},
		{"queryExecutor", "POST", "/cohort/cohorts/", `{"name":"n"}`, 403},
	}
	for _, c := range cases {
		w.reset()
		a := w.send(as(c.who), c.method, c.path, c.body)
		assert.Equal(t, c.status, a.status, "%s %s %s as %s: %s", c.method, c.path, c.body, c.who, a)
	}
}
