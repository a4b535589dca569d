package access

import (
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// The names under which changes are noted in the request log (system.md 6.1).
const (
	accessLog = "accesses.views.access.AccessViewSet"
	roleLog   = "accesses.views.role.RoleViewSet"
)

const tag = "accesses"

// routes speaks HTTP for the service.
type routes struct{ service *Service }

// Table are the routes of /accesses/, and with perimeters from FHIR those of /fhir-perimeters/ (accesses.md 1).
func (s *Service) Table() web.Table {
	r := routes{s}
	table := web.Table{
		web.Root("/accesses/", tag, "rights", "accesses", "roles", "profiles", "perimeters"),
		{Method: http.MethodGet, Path: "/accesses/rights/", Summary: "Rights by category", Tag: tag, Out: []categoryView{},
			For: web.AnyUser, Do: r.categories},
		{Method: http.MethodGet, Path: "/accesses/rights/:id/", Summary: "One right", Tag: tag, Out: rightView{}, For: web.AnyUser, Do: r.right},
		{Method: http.MethodGet, Path: "/accesses/profiles/", Summary: "Profiles", Tag: tag, Query: profileParams, Paged: web.ByPage,
			Out: web.PageOf[profileView]{}, For: web.AnyUser, Do: r.profiles},
		{Method: http.MethodGet, Path: "/accesses/profiles/:id/", Summary: "One profile", Tag: tag, Out: profileView{}, For: web.AnyUser,
			Do: r.profile},
	}
	table = append(append(append(table, r.ofRoles()...), r.ofAccesses()...), r.ofPerimeters()...)
	if s.peers.Organizations != nil {
		table = append(table, r.fhirTable()...)
	}
	return table
}

func (r routes) ofRoles() web.Table {
	const list, one = "/accesses/roles/", "/accesses/roles/:id/"
	return web.Table{
		{Method: http.MethodGet, Path: list, Summary: "Roles", Tag: tag, Query: roleParams(), Paged: web.ByOffset,
			Out: web.PageOf[roleView]{}, For: web.AnyUser, Do: r.roles},
		{Method: http.MethodPost, Path: list, Summary: "Make a role", Tag: tag, Body: roleBody{}, Out: roleView{}, Status: http.StatusCreated,
			For: web.FullAdmin, View: roleLog, Action: "create", Do: r.createRole},
		{Method: http.MethodGet, Path: "/accesses/roles/assignable/", Summary: "Roles that the caller may give on a perimeter", Tag: tag,
			Query: []web.Param{{Name: "perimeter_id", Type: "integer", Doc: "required"}}, Out: []roleView{}, For: web.AnyUser, Do: r.assignable},
		{Method: http.MethodGet, Path: one, Summary: "One role", Tag: tag, Out: roleView{}, For: web.AnyUser, Do: r.role},
		{Method: http.MethodPatch, Path: one, Summary: "Change a role", Tag: tag, Body: roleBody{}, Out: roleView{}, For: web.FullAdmin,
			View: roleLog, Action: "partial_update", Do: r.patchRole},
		{Method: http.MethodDelete, Path: one, Summary: "Delete a role that no access has", Tag: tag, Status: http.StatusNoContent,
			For: web.FullAdmin, View: roleLog, Action: "destroy", Do: r.deleteRole},
		{Method: http.MethodGet, Path: one + "users/", Summary: "Who holds a role now", Tag: tag, Query: roleUserParams, Paged: web.ByOffset,
			Out: web.PageOf[roleUserView]{}, For: web.AnyUser, Do: r.roleUsers},
	}
}

func (r routes) ofAccesses() web.Table {
	const list, one = "/accesses/accesses/", "/accesses/accesses/:id/"
	return web.Table{
		{Method: http.MethodGet, Path: list, Summary: "Accesses", Tag: tag, Query: accessParams, Paged: web.ByPage,
			Out: web.PageOf[accessView]{}, For: AccessManager, Do: r.accesses},
		{Method: http.MethodPost, Path: list, Summary: "Give an access", Tag: tag, Body: accessBody{}, Out: accessView{},
			Status: http.StatusCreated, For: AccessManager, View: accessLog, Action: "create", Do: r.createAccess},
		{Method: http.MethodGet, Path: list + "my-accesses/", Summary: "The caller's valid accesses", Tag: tag,
			Query: []web.Param{{Name: "expiring", Type: "boolean", Doc: "only those that end soon, in a shorter form"}},
			Out:   []accessView{}, For: web.AnyUser, Do: r.myAccesses},
		{Method: http.MethodGet, Path: list + "my-data-rights/", Summary: "The caller's rights on patients' data", Tag: tag,
			Query: []web.Param{{Name: "perimeters_ids", Type: "string", Doc: "comma list of ids"}},
			Out:   []DataRight{}, For: web.AnyUser, Do: r.myDataRights},
		{Method: http.MethodGet, Path: one, Summary: "One access that the caller manages", Tag: tag, Out: accessView{}, For: AccessManager,
			Do: r.access},
		{Method: http.MethodPatch, Path: one, Summary: "Change the dates of an access", Tag: tag, Body: datesBody{}, Out: accessView{},
			For: AccessManager, View: accessLog, Action: "partial_update", Do: r.patchAccess},
		{Method: http.MethodDelete, Path: one, Summary: "Delete an access that has not begun", Tag: tag, Status: http.StatusNoContent,
			For: AccessManager, View: accessLog, Action: "destroy", Do: r.deleteAccess},
		{Method: http.MethodPatch, Path: one + "close/", Summary: "End an access now", Tag: tag, Out: accessView{}, For: AccessManager,
			View: accessLog, Action: "close", Do: r.closeAccess},
	}
}

func (r routes) ofPerimeters() web.Table {
	const list, one, children = "/accesses/perimeters/", "/accesses/perimeters/:id/", "/accesses/perimeters/:id/children/"
	table := append(r.ofCallersPerimeters(list), r.ofCallersPerimeters(children)...)
	return append(table, web.Table{
		{Method: http.MethodGet, Path: list, Summary: "Perimeters", Tag: tag, Query: perimeterParams, Paged: web.ByOffset,
			Out: web.PageOf[perimeterView]{}, For: web.AnyUser, Do: r.perimeters},
		{Method: http.MethodGet, Path: one, Summary: "One perimeter", Tag: tag, Out: perimeterView{}, For: web.AnyUser, Do: r.perimeter},
		{Method: http.MethodGet, Path: children, Summary: "Direct children", Tag: tag, Query: perimeterParams, Paged: web.ByOffset,
			Out: web.PageOf[perimeterView]{}, For: web.AnyUser, Do: r.children},
		{Method: http.MethodGet, Path: children + ":child/", Summary: "One direct child", Tag: tag, Out: perimeterView{},
			For: web.AnyUser, Do: r.child},
	}...)
}

// ofCallersPerimeters are the questions about the caller. The contract has them under the perimeters and once more under the
// children of any perimeter, which then has no effect, even if it does not exist (accesses.md 1).
func (r routes) ofCallersPerimeters(under string) web.Table {
	return web.Table{
		{Method: http.MethodGet, Path: under + "manageable/", Summary: "Where the caller's administration begins, or a search in it",
			Tag: tag, Query: perimeterParams, Out: []perimeterLite{}, For: web.AnyUser, Do: r.manageable},
		{Method: http.MethodGet, Path: under + "patient-data/rights/", Summary: "Perimeters whose patients the caller reads", Tag: tag,
			Query: perimeterParams, Paged: web.ByOffset, Out: web.PageOf[readRightView]{}, For: web.AnyUser, Do: r.readRights},
		{Method: http.MethodGet, Path: under + "patient-data/read/", Summary: "How the caller reads the patients of cohorts", Tag: tag,
			Query: []web.Param{{Name: "cohort_ids", Type: "string", Doc: "comma list, required"}, {Name: "mode", Type: "string", Doc: "min or max"}},
			Out:   ReadingMode{}, For: web.AnyUser, Do: r.patientData},
	}
}

// The sizes of keys, in bits: perimeters keep the numbers of their source, all other rows those of a sequence.
const (
	perimeterKey = 64
	rowKey       = 32
)

// pathID reads a numeric path parameter; anything else, and what is larger than a key can be, is a bare 404.
func pathID(c *gin.Context, name string, bits int) (int64, error) {
	id, err := strconv.ParseInt(c.Param(name), 10, bits)
	if err != nil {
		return 0, fault.NotFound{}
	}
	return id, nil
}

func (r routes) categories(c *gin.Context) error {
	list, err := r.service.categories(c.Request.Context())
	return answer(c, list, err)
}

func (r routes) right(c *gin.Context) error {
	id, err := pathID(c, "id", rowKey)
	if err != nil {
		return err
	}
	view, err := r.service.right(c.Request.Context(), id)
	return answer(c, view, err)
}

// answer renders what a service returned.
func answer[T any](c *gin.Context, v T, err error) error {
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, v)
	return nil
}

// rowParam reads a filter by a numeric foreign key; what is no number is no row (accesses.md 2.3).
func rowParam(q *web.Query, name string, bits int) *int64 {
	text := q.Text(name)
	if text == "" {
		return nil
	}
	id, err := strconv.ParseInt(text, 10, bits)
	if err != nil {
		q.Refuse(name, web.NoSuchChoice)
		return nil
	}
	return &id
}

// knownRow refuses a filter that names a row that does not exist.
func (r routes) knownRow(c *gin.Context, q *web.Query, name, table, key string, value any) error {
	known, err := r.service.store.exists(c.Request.Context(), table, key, value)
	if err == nil && !known {
		q.Refuse(name, web.NoSuchChoice)
	}
	return err
}

var profileParams = []web.Param{{Name: "user_id", Type: "string", Doc: "user name"}, {Name: "search", Type: "string", Doc: "in the user's names"}}

func (r routes) profiles(c *gin.Context) error {
	q := web.QueryOf(c)
	username, terms := q.Text("user_id"), q.Search()
	if username != "" {
		if err := r.knownRow(c, q, "user_id", "user", "username", username); err != nil {
			return err
		}
	}
	if err := q.Err(); err != nil {
		return err
	}
	page, err := web.NumberedPage(c)
	if err != nil {
		return err
	}
	rows, total, page, err := r.service.listProfiles(c.Request.Context(), username, terms, page)
	if err != nil {
		return err
	}
	views := make([]profileView, len(rows))
	for i := range rows {
		views[i] = viewProfile(&rows[i])
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, page, total, views))
	return nil
}

func (r routes) profile(c *gin.Context) error {
	id, err := pathID(c, "id", rowKey)
	if err != nil {
		return err
	}
	row, err := r.service.getProfile(c.Request.Context(), id)
	return answer(c, viewProfile(&row), err)
}

func callerOf(c *gin.Context) identity.Caller { return identity.CallerOf(c) }
