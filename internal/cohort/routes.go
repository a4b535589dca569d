package cohort

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/web"
)

// api turns requests into calls of the service, and what it returns into answers.
type api struct{ *Service }

// Table is what this capability offers (cohort.md 1.3). It serves gin's rule that a position in a path has one name: uuid
// is the first id of a path, nested the second.
func (s *Service) Table() web.Table {
	a := &api{s}
	t := web.Table{web.Root("/cohort/", "cohort", "folders", "requests", "request-query-snapshots", "dated-measures", "cohorts", "fhir-filters",
		"feasibility-studies", "refresh-schedules")}
	for _, part := range []web.Table{a.folderRoutes(), a.requestRoutes(), a.snapshotRoutes(),
		a.measureRoutes(), a.cohortRoutes(), a.filterRoutes(), a.studyRoutes(), a.scheduleRoutes()} {
		t = append(t, part...)
	}
	return t
}

// Query parameters that several lists share.
var (
	searchParam   = web.Param{Name: "search", Type: "string", Doc: "terms, each of which must occur; literally, in any case"}
	createdParams = []web.Param{{Name: "min_created_at", Type: "date-time", Doc: "created then or later"},
		{Name: "max_created_at", Type: "date-time", Doc: "created then or earlier"}}
)

func orderingParam(names ...string) web.Param {
	return web.Param{Name: "ordering", Type: "string", Doc: "comma list, descending with -: " + strings.Join(names, ", ")}
}

// crud are the five routes that most resources have, described once. A route whose function is nil does not exist.
type crud struct {
	path, one string // of the list and of one row
	tag, view string
	who       web.Who
	query     []web.Param
	body, out any
	page      any
	list, get func(*gin.Context) error
	create    func(*gin.Context) error
	change    func(*gin.Context) error
	del       func(*gin.Context) error
}

func (r crud) table() web.Table {
	var t web.Table
	add := func(route web.Route) {
		if route.Do != nil {
			route.Tag, route.For = r.tag, r.who
			t = append(t, route)
		}
	}
	add(web.Route{Method: http.MethodGet, Path: r.path, Summary: "List " + r.tag, Query: r.query, Paged: web.ByOffset, Out: r.page, Do: r.list})
	add(web.Route{Method: http.MethodPost, Path: r.path, Summary: "Create one of the " + r.tag, Body: r.body, Out: r.out,
		Status: http.StatusCreated, View: r.view, Action: "create", Do: r.create})
	add(web.Route{Method: http.MethodGet, Path: r.one, Summary: "Read one of the " + r.tag, Out: r.out, Do: r.get})
	add(web.Route{Method: http.MethodPatch, Path: r.one, Summary: "Change one of the " + r.tag, Body: r.body, Out: r.out,
		View: r.view, Action: "partial_update", Do: r.change})
	add(web.Route{Method: http.MethodDelete, Path: r.one, Summary: "Delete one or, separated by commas, several of the " + r.tag,
		Status: http.StatusNoContent, View: r.view, Action: "destroy", Do: r.del})
	return t
}

func (a *api) folderRoutes() web.Table {
	return crud{path: "/cohort/folders/", one: "/cohort/folders/:uuid/", tag: "folders", view: "cohort.views.folder.FolderViewSet",
		who: web.Owner, body: folderBody{}, out: folderView{}, page: web.PageOf[folderView]{},
		query: append([]web.Param{{Name: "name", Type: "string", Doc: "exact name"}, searchParam,
			orderingParam("name", "created_at", "modified_at")}, createdParams...),
		list: a.listFolders, get: a.getFolder, create: a.createFolder, change: a.changeFolder, del: deleter[Folder](a, "uuid")}.table()
}

func (a *api) requestRoutes() web.Table {
	r := crud{path: "/cohort/requests/", one: "/cohort/requests/:uuid/", tag: "requests", view: "cohort.views.request.RequestViewSet",
		who: web.Owner, body: requestBody{}, out: requestView{}, page: web.PageOf[requestView]{},
		query: []web.Param{{Name: "favorite", Type: "boolean"}, {Name: "shared_by", Type: "string", Doc: "username of the sender"},
			{Name: "parent_folder", Type: "uuid"}, {Name: "min_updated_at", Type: "date-time"}, {Name: "max_updated_at", Type: "date-time"},
			searchParam, orderingParam("name", "updated_at", "parent_folder")},
		list: a.listRequests, get: a.getRequest, create: a.createRequest, change: a.changeRequest, del: deleter[Request](a, "uuid")}
	t := r.table()
	r.path, r.one = "/cohort/folders/:uuid/requests/", "/cohort/folders/:uuid/requests/:nested/"
	r.view, r.del = "cohort.views.request.NestedRequestViewSet", deleter[Request](a, "nested")
	return append(t, r.table()...)
}

func (a *api) snapshotRoutes() web.Table {
	const module = "cohort.views.request_query_snapshot."
	r := crud{path: "/cohort/request-query-snapshots/", one: "/cohort/request-query-snapshots/:uuid/", tag: "snapshots",
		view: module + "RequestQuerySnapshotViewSet", who: web.Owner, body: snapshotBody{}, out: snapshotView{},
		page: web.PageOf[snapshotView]{}, query: []web.Param{{Name: "request", Type: "uuid"}, {Name: "name", Type: "string", Doc: "exact name"},
			{Name: "shared_by", Type: "string", Doc: "username of the sender"}, {Name: "previous_snapshot", Type: "uuid"},
			{Name: "request__parent_folder", Type: "uuid"}},
		list: a.listSnapshots, get: a.getSnapshot, create: a.createSnapshot, change: a.changeSnapshot}
	t := r.table()
	for _, parent := range []string{"/cohort/requests/:uuid/query-snapshots/", "/cohort/request-query-snapshots/:uuid/next-snapshots/"} {
		r.path, r.one, r.view = parent, parent+":nested/", module+"NestedRqsViewSet"
		t = append(t, r.table()...)
	}
	for _, one := range []string{"/cohort/request-query-snapshots/:uuid/", "/cohort/requests/:uuid/query-snapshots/:nested/",
		"/cohort/request-query-snapshots/:uuid/next-snapshots/:nested/"} {
		t = append(t, web.Route{Method: http.MethodPost, Path: one + "share/", Summary: "Give a copy to other users", Tag: "snapshots",
			Body: shareBody{}, Status: http.StatusCreated, For: web.Owner, View: module + "RequestQuerySnapshotViewSet", Action: "share", Do: a.share})
	}
	return t
}

func (a *api) measureRoutes() web.Table {
	t := crud{path: "/cohort/dated-measures/", one: "/cohort/dated-measures/:uuid/", tag: "counts",
		view: "cohort.views.dated_measure.DatedMeasureViewSet", who: web.OwnerOrJobs, body: countBody{}, out: measureView{},
		page: web.PageOf[measureView]{}, list: a.listMeasures, get: a.getMeasure, create: a.createMeasure, change: a.reportMeasure}.table()
	for i := range t {
		if t[i].Method == http.MethodPatch {
			t[i].Summary, t[i].Body = "Report a count (QueryExecutor)", reportBody{}
		}
	}
	return t
}

func (a *api) cohortRoutes() web.Table {
	t := crud{path: "/cohort/cohorts/", one: "/cohort/cohorts/:uuid/", tag: "cohorts", view: "cohort.views.cohort_result.CohortResultViewSet",
		who: web.OwnerOrJobs, body: cohortBody{}, out: cohortView{}, page: web.PageOf[cohortView]{},
		query: append([]web.Param{{Name: "name", Type: "string", Doc: "part of the name, in any case"},
			{Name: "min_result_size", Type: "number"}, {Name: "max_result_size", Type: "number"}, {Name: "request_id", Type: "uuid"},
			{Name: "favorite", Type: "boolean"}, {Name: "group_id", Type: "string", Doc: "comma list"},
			{Name: "status", Type: "string", Doc: "comma list"}, {Name: "parent_cohort", Type: "uuid"},
			{Name: "is_sample", Type: "boolean"}, {Name: "exportable", Type: "boolean"}, searchParam,
			orderingParam("created_at", "modified_at", "name", "result_size", "favorite", "request")}, createdParams...),
		list: a.listCohorts, get: a.getCohort, create: a.createCohort, change: a.changeCohort, del: deleter[Cohort](a, "uuid")}.table()
	return append(t,
		web.Route{Method: http.MethodGet, Path: "/cohort/cohorts/jobs/active/", Summary: "Number of creations under way, of all users",
			Tag: "cohorts", Out: jobsCount{}, For: web.Anyone, Do: a.activeJobs},
		web.Route{Method: http.MethodGet, Path: "/cohort/cohorts/cohort-rights/", Summary: "What the caller may do with the patients of cohorts",
			Tag: "cohorts", Query: []web.Param{{Name: "group_id", Type: "string", Doc: "comma list"}}, Out: []cohortRight{}, For: web.AnyUser,
			Do: a.cohortRights})
}

func (a *api) filterRoutes() web.Table {
	const view = "cohort.views.fhir_filter.FhirFilterViewSet"
	t := crud{path: "/cohort/fhir-filters/", one: "/cohort/fhir-filters/:uuid/", tag: "filters", view: view, who: web.Owner,
		body: filterBody{}, out: filterView{}, page: web.PageOf[filterView]{},
		query: []web.Param{{Name: "name", Type: "string", Doc: "part of the name"}, {Name: "fhir_resource", Type: "string", Doc: "part of the type"},
			{Name: "fhir_filter", Type: "string", Doc: "part of the filter"}, {Name: "owner", Type: "string"},
			{Name: "query_version", Type: "string"}, {Name: "identifying", Type: "boolean"}, orderingParam("-created_at", "modified_at")},
		list: a.listFilters, get: a.getFilter, create: a.createFilter, change: a.changeFilter, del: deleter[FhirFilter](a, "uuid")}.table()
	return append(t, web.Route{Method: http.MethodDelete, Path: "/cohort/fhir-filters/delete_multiple/", Summary: "Delete several filters",
		Tag: "filters", Body: uuidList{}, Status: http.StatusNoContent, For: web.Owner, View: view, Action: "delete_multiple", Do: a.deleteFilters})
}

func (a *api) studyRoutes() web.Table {
	const view = "cohort.views.feasibility_study.FeasibilityStudyViewSet"
	t := crud{path: "/cohort/feasibility-studies/", one: "/cohort/feasibility-studies/:uuid/", tag: "feasibility studies",
		view: view, who: web.OwnerOrJobs, body: studyBody{}, out: studyView{},
		page: web.PageOf[studyView]{}, list: a.listStudies, get: a.getStudy, create: a.createStudy, change: a.reportStudy}.table()
	return append(t, web.Route{Method: http.MethodGet, Path: "/cohort/feasibility-studies/:uuid/download/", Summary: "Download the report of a study",
		Tag: "feasibility studies", Produces: "application/zip", For: web.OwnerOrJobs, View: view, Action: "download", Do: a.downloadStudy})
}

func (a *api) scheduleRoutes() web.Table {
	return crud{path: "/cohort/refresh-schedules/", one: "/cohort/refresh-schedules/:uuid/", tag: "refresh schedules",
		view: "cohort.views.request_refresh_schedule.RequestRefreshScheduleViewSet", who: web.Owner, body: scheduleBody{}, out: scheduleView{},
		page: web.PageOf[scheduleView]{}, query: []web.Param{{Name: "request_snapshot_id", Type: "uuid"}, {Name: "refresh_time", Type: "string"},
			{Name: "refresh_frequency", Type: "string"}, orderingParam("created_at", "modified_at")},
		list: a.listSchedules, get: a.getSchedule, create: a.createSchedule, change: a.changeSchedule, del: deleter[Schedule](a, "uuid")}.table()
}
