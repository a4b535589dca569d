package app

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bodyOf is a body that is well-formed, and does no harm where it is accepted.
func bodyOf(method string) string {
	if method == http.MethodGet || method == http.MethodDelete {
		return ""
	}
	return "{}"
}

// params are what the parameters of paths mean, by the beginning of the path: the kinds of rows of world.ids, or "=" and a
// literal.
var params = []struct{ prefix, id, second string }{
	{"/cohort/folders/", "folder", "request"},
	{"/cohort/requests/", "request", "snapshot"},
	{"/cohort/request-query-snapshots/", "snapshot", "next"},
	{"/cohort/dated-measures/", "measure", ""},
	{"/cohort/cohorts/", "cohort", ""},
	{"/cohort/fhir-filters/", "filter", ""},
	{"/cohort/feasibility-studies/", "study", ""},
	{"/cohort/refresh-schedules/", "schedule", ""},
	{"/exports/cohorts/", "cohort", ""},
	{"/exports/fhir-filters/", "filter", ""},
	{"/exports/export-stats/", "stat", ""},
	{"/exports/datalabs/", "=09090909-aaaa-4000-8000-000000000002", ""},
	{"/exports/infrastructure-providers/", "=09090909-aaaa-4000-8000-000000000001", ""},
	{"/exports/", "export_failed", ""},
	{"/jobs/", "job", ""},
	{"/users/", "=owner", ""},
	{"/accesses/accesses/", "access", ""},
	{"/accesses/profiles/", "profile", ""},
	{"/accesses/roles/", "role", ""},
	{"/accesses/rights/", "=1", ""},
	{"/accesses/perimeters/", "=2", "=3"},
	{"/fhir-perimeters/", "=2", ""},
	{"/", "=1", ""},
}

// special are paths about other rows than those of params, or with parameters that the route cannot do without.
var special = map[string]string{
	"DELETE /accesses/accesses/:id/":              "/accesses/accesses/91/",
	"DELETE /accesses/roles/:id/":                 "/accesses/roles/92/",
	"GET /exports/:uuid/download/":                "/exports/{export_finished}/download/",
	"GET /accesses/roles/assignable/":             "/accesses/roles/assignable/?perimeter_id=2",
	"GET /accesses/perimeters/patient-data/read/": "/accesses/perimeters/patient-data/read/?mode=min&cohort_ids=1002",
	"GET /cohort/cohorts/cohort-rights/":          "/cohort/cohorts/cohort-rights/?group_id={group}",

	"GET /accesses/perimeters/:id/children/patient-data/read/": "/accesses/perimeters/:id/children/patient-data/read/?mode=min&cohort_ids=1002",
}

// fill makes a path of a route's pattern, about the rows of an owner.
func (w *world) fill(route, owner string) string {
	_, path, _ := strings.Cut(route, " ")
	if given, found := special[route]; found {
		path = given
	}
	for _, p := range params {
		if !strings.HasPrefix(path, p.prefix) {
			continue
		}
		value := func(kind string) string {
			if text, literal := strings.CutPrefix(kind, "="); literal {
				return text
			}
			return w.ids[owner+"."+kind]
		}
		return strings.NewReplacer(":uuid", value(p.id), ":id", value(p.id), ":username", value(p.id), ":nested", value(p.second), ":child", value(p.second),
			"{export_finished}", w.ids[owner+".export_finished"], "{group}", w.ids[owner+".group"]).Replace(path)
	}
	return path
}

// class is what the matrix tells apart of an answer.
type class string

const (
	ok        class = "ok" // done; or the caller may, and the request is refused for what it says (400, 409) or by the peer it reaches (502)
	forbidden class = "403"
	missing   class = "404"
	noMethod  class = "405"
)

func classOf(status int) class {
	switch {
	case status < 300, status == http.StatusBadRequest, status == http.StatusConflict, status == http.StatusBadGateway:
		return ok
	}
	return class(fmt.Sprint(status))
}

// rule says who may use a route on rows of "owner". Callers who are not authenticated, and whoever impersonates without the
// right to, are forbidden, except where public or unchecked says otherwise.
type rule struct {
	allowed   string // names of callers
	forbidden string
	rest      class // of all others
	public    bool  // also for callers who are not authenticated
	unchecked bool  // credentials are not looked at
}

const (
	managers     = "dataSame dataInferior dataElsewhere adminSame adminInferior fullAdmin"
	managersHere = "dataSame dataInferior adminSame adminInferior fullAdmin" // of the accesses of readers in the hospital
	theOwner     = "owner adminAsOwner"
	machines     = "queryExecutor etl"
)

// The rules that several routes share.
var (
	anybody     = rule{rest: ok, public: true}
	anyUser     = rule{rest: ok}
	admin       = rule{allowed: "fullAdmin", rest: forbidden}
	ownRow      = rule{allowed: theOwner, rest: missing}
	ownRowJobs  = rule{allowed: theOwner + " " + machines, rest: missing}
	ownRowAdmin = rule{allowed: theOwner + " fullAdmin", rest: missing}
	noMachine   = rule{forbidden: machines, rest: ok}
	callback    = rule{allowed: machines, forbidden: theOwner, rest: missing}
	reader      = rule{allowed: "nominative pseudonymised otherOwner fullAdmin " + theOwner, rest: missing}
	manager     = rule{allowed: managers, rest: forbidden}
	managerHere = rule{allowed: managersHere, rest: forbidden}
	userManager = rule{allowed: "userManager fullAdmin", rest: forbidden}
	labReader   = rule{allowed: "datalabReader datalabManager fullAdmin", rest: forbidden}
	labManager  = rule{allowed: "datalabManager fullAdmin", rest: forbidden}
	maintainer  = rule{allowed: "fullAdmin rollout " + machines, rest: forbidden}
	adminOrJobs = rule{allowed: "fullAdmin " + machines, rest: forbidden}
)

// matrix is who may do what: one row for each route of the product.
var matrix = map[string]rule{
	"POST /auth/login/":   {rest: ok, unchecked: true},
	"POST /auth/refresh/": {rest: ok, unchecked: true},
	"POST /auth/logout/":  anyUser,

	"GET /users/":                 anyUser,
	"POST /users/":                userManager,
	"GET /users/:username/":       anyUser,
	"PATCH /users/:username/":     userManager,
	"GET /users/:username/check/": anyUser,

	"GET /accesses/":                                anyUser,
	"GET /accesses/rights/":                         anyUser,
	"GET /accesses/rights/:id/":                     anyUser,
	"GET /accesses/profiles/":                       anyUser,
	"GET /accesses/profiles/:id/":                   anyUser,
	"GET /accesses/roles/":                          anyUser,
	"POST /accesses/roles/":                         admin,
	"GET /accesses/roles/assignable/":               anyUser,
	"GET /accesses/roles/:id/":                      anyUser,
	"PATCH /accesses/roles/:id/":                    admin,
	"DELETE /accesses/roles/:id/":                   admin,
	"GET /accesses/roles/:id/users/":                anyUser,
	"GET /accesses/accesses/":                       manager,
	"POST /accesses/accesses/":                      manager,
	"GET /accesses/accesses/my-accesses/":           anyUser,
	"GET /accesses/accesses/my-data-rights/":        anyUser,
	"GET /accesses/accesses/:id/":                   managerHere,
	"PATCH /accesses/accesses/:id/":                 managerHere,
	"DELETE /accesses/accesses/:id/":                managerHere,
	"PATCH /accesses/accesses/:id/close/":           managerHere,
	"GET /accesses/perimeters/":                     anyUser,
	"GET /accesses/perimeters/manageable/":          anyUser,
	"GET /accesses/perimeters/patient-data/rights/": anyUser,
	"GET /accesses/perimeters/patient-data/read/":   reader,
	"GET /accesses/perimeters/:id/":                 anyUser,
	"GET /accesses/perimeters/:id/children/":        anyUser,
	"GET /accesses/perimeters/:id/children/:child/": anyUser,
	"PUT /fhir-perimeters/_sync/":                   adminOrJobs,
	"PATCH /fhir-perimeters/:id/":                   adminOrJobs,

	"GET /accesses/perimeters/:id/children/manageable/":          anyUser,
	"GET /accesses/perimeters/:id/children/patient-data/rights/": anyUser,
	"GET /accesses/perimeters/:id/children/patient-data/read/":   reader,

	"GET /cohort/":                   anyUser,
	"GET /cohort/folders/":           anyUser,
	"POST /cohort/folders/":          anyUser,
	"GET /cohort/folders/:uuid/":     ownRow,
	"PATCH /cohort/folders/:uuid/":   ownRow,
	"DELETE /cohort/folders/:uuid/":  ownRow,
	"GET /cohort/requests/":          anyUser,
	"POST /cohort/requests/":         anyUser,
	"GET /cohort/requests/:uuid/":    ownRow,
	"PATCH /cohort/requests/:uuid/":  ownRow,
	"DELETE /cohort/requests/:uuid/": ownRow,
	// Lists below somebody else's row are empty, and what is created there is refused for what it says: see ownership.
	"GET /cohort/folders/:uuid/requests/":                                      anyUser,
	"POST /cohort/folders/:uuid/requests/":                                     anyUser,
	"GET /cohort/folders/:uuid/requests/:nested/":                              ownRow,
	"PATCH /cohort/folders/:uuid/requests/:nested/":                            ownRow,
	"DELETE /cohort/folders/:uuid/requests/:nested/":                           ownRow,
	"GET /cohort/request-query-snapshots/":                                     anyUser,
	"POST /cohort/request-query-snapshots/":                                    anyUser,
	"GET /cohort/request-query-snapshots/:uuid/":                               ownRow,
	"PATCH /cohort/request-query-snapshots/:uuid/":                             ownRow,
	"GET /cohort/requests/:uuid/query-snapshots/":                              anyUser,
	"POST /cohort/requests/:uuid/query-snapshots/":                             anyUser,
	"GET /cohort/requests/:uuid/query-snapshots/:nested/":                      ownRow,
	"PATCH /cohort/requests/:uuid/query-snapshots/:nested/":                    ownRow,
	"GET /cohort/request-query-snapshots/:uuid/next-snapshots/":                anyUser,
	"POST /cohort/request-query-snapshots/:uuid/next-snapshots/":               anyUser,
	"GET /cohort/request-query-snapshots/:uuid/next-snapshots/:nested/":        ownRow,
	"PATCH /cohort/request-query-snapshots/:uuid/next-snapshots/:nested/":      ownRow,
	"POST /cohort/request-query-snapshots/:uuid/share/":                        ownRow,
	"POST /cohort/requests/:uuid/query-snapshots/:nested/share/":               ownRow,
	"POST /cohort/request-query-snapshots/:uuid/next-snapshots/:nested/share/": ownRow,
	"GET /cohort/dated-measures/":                                              anyUser,
	"POST /cohort/dated-measures/":                                             noMachine,
	"GET /cohort/dated-measures/:uuid/":                                        ownRowJobs,
	"PATCH /cohort/dated-measures/:uuid/":                                      callback,
	"GET /cohort/cohorts/":                                                     anyUser,
	"POST /cohort/cohorts/":                                                    noMachine,
	"GET /cohort/cohorts/:uuid/":                                               ownRowJobs,
	"PATCH /cohort/cohorts/:uuid/":                                             ownRowJobs,
	"DELETE /cohort/cohorts/:uuid/":                                            {allowed: theOwner, forbidden: machines, rest: missing},
	"GET /cohort/cohorts/jobs/active/":                                         anybody,
	"GET /cohort/cohorts/cohort-rights/":                                       anyUser, // what is not the caller's is left out: see ownership
	"GET /cohort/fhir-filters/":                                                anyUser,
	"POST /cohort/fhir-filters/":                                               anyUser,
	"GET /cohort/fhir-filters/:uuid/":                                          ownRow,
	"PATCH /cohort/fhir-filters/:uuid/":                                        ownRow,
	"DELETE /cohort/fhir-filters/:uuid/":                                       ownRow,
	"DELETE /cohort/fhir-filters/delete_multiple/":                             anyUser,
	"GET /cohort/feasibility-studies/":                                         anyUser,
	"POST /cohort/feasibility-studies/":                                        noMachine,
	"GET /cohort/feasibility-studies/:uuid/":                                   ownRowJobs,
	"PATCH /cohort/feasibility-studies/:uuid/":                                 callback,
	"GET /cohort/feasibility-studies/:uuid/download/":                          ownRowJobs,
	"GET /cohort/refresh-schedules/":                                           anyUser,
	"POST /cohort/refresh-schedules/":                                          anyUser,
	"GET /cohort/refresh-schedules/:uuid/":                                     ownRow,
	"PATCH /cohort/refresh-schedules/:uuid/":                                   ownRow,
	"DELETE /cohort/refresh-schedules/:uuid/":                                  ownRow,

	"GET /exports/":                                   anyUser,
	"POST /exports/":                                  anyUser, // rights to export are refused with 400 (contract decision 1)
	"GET /exports/:uuid/":                             ownRowAdmin,
	"GET /exports/:uuid/download/":                    ownRow,
	"POST /exports/:uuid/retry/":                      ownRowAdmin,
	"POST /exports/:uuid/relaunch/":                   admin,
	"GET /exports/:uuid/logs/":                        admin,
	"GET /exports/cohorts/":                           anyUser,
	"GET /exports/cohorts/:uuid/":                     ownRow,
	"GET /exports/fhir-filters/":                      anyUser,
	"GET /exports/fhir-filters/:uuid/":                ownRow,
	"GET /exports/export-stats/":                      anyUser,
	"POST /exports/export-stats/":                     anyUser,
	"GET /exports/export-stats/:uuid/":                ownRowAdmin,
	"PATCH /exports/export-stats/:uuid/":              ownRowAdmin,
	"GET /exports/datalabs/":                          labReader,
	"POST /exports/datalabs/":                         labManager,
	"GET /exports/datalabs/:uuid/":                    labReader,
	"PATCH /exports/datalabs/:uuid/":                  labManager,
	"GET /exports/infrastructure-providers/":          labReader,
	"POST /exports/infrastructure-providers/":         labManager,
	"GET /exports/infrastructure-providers/:uuid/":    labReader,
	"PATCH /exports/infrastructure-providers/:uuid/":  labManager,
	"DELETE /exports/infrastructure-providers/:uuid/": labManager,

	"GET /jobs/":             anyUser,
	"GET /jobs/:id/":         ownRowAdmin,
	"GET /jobs/:id/events/":  ownRowAdmin,
	"POST /jobs/:id/cancel/": ownRowAdmin,

	"GET /maintenances/":        anybody,
	"POST /maintenances/":       maintainer,
	"GET /maintenances/next/":   anybody,
	"GET /maintenances/:id/":    anybody,
	"PATCH /maintenances/:id/":  maintainer,
	"DELETE /maintenances/:id/": maintainer,

	"GET /webcontent/":                        anyUser,
	"GET /webcontent/contents/":               anybody,
	"POST /webcontent/contents/":              admin,
	"GET /webcontent/contents/content_types/": anybody,
	"GET /webcontent/contents/:id/":           anybody,
	"PATCH /webcontent/contents/:id/":         admin,
	"DELETE /webcontent/contents/:id/":        admin,
	"GET /release-notes/":                     anyUser,
	"POST /release-notes/":                    admin,
	"GET /release-notes/:id/":                 anyUser,
	"PATCH /release-notes/:id/":               admin,
	"GET /logs/":                              admin,
	"GET /logs/:id/":                          admin,
	"GET /cache":                              admin,
	"DELETE /cache":                           admin,
	"GET /cache/":                             admin,
	"DELETE /cache/":                          admin,
}

// expect is the class of a cell.
func (r rule) expect(c caller) class {
	among := func(names string) bool { return slices.Contains(strings.Fields(names), c.name) }
	switch {
	case r.unchecked:
		return r.rest
	case c.name == "ownerAsAdmin", c.unknown && !r.public:
		return forbidden
	case among(r.allowed):
		return ok
	case among(r.forbidden):
		return forbidden
	}
	return r.rest
}

// TestMatrix asks every route as everybody, about the rows of one owner.
func TestMatrix(t *testing.T) {
	t.Parallel()
	eachWorld(t, func(t *testing.T, w *world) {
		known := map[string]bool{}
		for _, r := range w.app.Routes() {
			route := r.Method + " " + r.Path
			known[route] = true
			rule, found := matrix[route]
			if !assert.True(t, found, "%s has no row in the authorisation matrix", route) {
				continue
			}
			path := w.fill(route, "owner")
			for _, c := range callers {
				a := w.send(c, r.Method, path, bodyOf(r.Method))
				assert.Equal(t, rule.expect(c), classOf(a.status), "%s as %s: %s", route, c.name, a)
				if r.Method != http.MethodGet && a.status < 300 {
					w.reset()
				}
			}
		}
		for route := range matrix {
			assert.True(t, known[route], "the authorisation matrix has a row for %s, which is no route", route)
		}
	})
}

// TestMethodsThatDoNotExist asks every path for every method that no route has: nobody is served.
func TestMethodsThatDoNotExist(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onSQLite(t))
	w.reset()
	methods := map[string][]string{}
	for _, r := range w.app.Routes() {
		methods[r.Path] = append(methods[r.Path], r.Method)
	}
	for path, allowed := range methods {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"} {
			if slices.Contains(allowed, method) {
				continue
			}
			for _, c := range callers {
				if c.broken != "" {
					continue // what they hold is nothing, and the matrix has asked as them
				}
				a := w.send(c, method, w.fill(method+" "+path, "owner"), bodyOf(method))
				assert.Contains(t, []class{forbidden, noMethod}, classOf(a.status), "%s %s as %s: %s", method, path, c.name, a)
			}
		}
	}
}

// TestTheMatrixIsAlive shows that the matrix can fail: the world has rows of the owner, and a caller of each kind.
func TestTheMatrixIsAlive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onSQLite(t))
	w.reset()
	require.Equal(t, 200, w.send(as("owner"), "GET", w.fill("GET /cohort/folders/:uuid/", "owner"), "").status)
	require.Equal(t, 200, w.send(as("otherOwner"), "GET", w.fill("GET /cohort/folders/:uuid/", "otherOwner"), "").status)
	require.NotEqual(t, w.ids["owner.folder"], w.ids["otherOwner.folder"])
}
