// Package web is the one way in which the house speaks HTTP: the route table, the order of checks, bodies and their
// validation, paging, filters, ordering, error bodies and value formats of the contract (system.md, section 2). Every
// capability returns a Table; app hands them all to New. It knows nothing of users, cohorts or databases: who is calling
// and what they may do is asked through the functions of Config.
package web

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/fault"
)

// Who names the callers that may use a route. What a name means is decided by Config.Authorize; the authorisation matrix
// walks the same names.
type Who string

// The callers that routes distinguish. A service may refuse more than this, never less.
const (
	NoAuth       Who = "no authentication" // credentials are not even looked at
	Anyone       Who = "anyone"            // not even authenticated
	AnyUser      Who = "any user"          // whoever is authenticated
	FullAdmin    Who = "full admin"        // holder of a valid access with right_full_admin
	Owner        Who = "owner"             // any user, on rows of their own
	OwnerOrJobs  Who = "owner or jobs"     // users on their own rows; applicative users GET and PATCH everybody's
	OwnerOrAdmin Who = "owner or admin"
	UserManager  Who = "user manager" // holder of right_manage_users; anybody authenticated for GET
	Maintainer   Who = "maintainer"   // full admin, rollout or applicative user; anyone for GET
)

// Param documents a query parameter of a route.
type Param struct {
	Name string
	// Type is "string", "integer", "number", "boolean", "date-time" or "uuid".
	Type string
	Doc  string
}

// Route is one method on one path. Routes are data: from them come the router, the OpenAPI document, the request log's
// names and the authorisation matrix; a route that is in no table does not exist.
type Route struct {
	Method  string
	Path    string // gin's notation, always with the final slash of the contract
	Summary string
	Tag     string // the capability, as grouped in the documentation
	Query   []Param
	Paged   Paging // documents the paging parameters
	Body    any    // zero value of the body's type, for the documentation; nil: no body
	Out     any    // zero value of the answer's type; nil: no body
	// Status is the answer of success (200 when zero).
	Status int
	// Produces is the media type of the answer (application/json when empty).
	Produces string
	For      Who
	// View and Action are the names stored in the request log (system.md 6.1); a route with an empty View is not logged.
	View, Action string
	// Knows lists the methods that the permission of this path knows; any other is forbidden to everybody, where a path
	// usually answers that it has no such method (system.md 5.2, 9.4). nil: all.
	Knows []string
	// First runs before all checks, for every method of the path: what the answer must carry even if it is a refusal.
	First func(c *gin.Context)
	Do    func(c *gin.Context) error
}

// Paging says which of the two paginations a list uses (system.md 2.5).
type Paging int

// The paginations.
const (
	NotPaged Paging = iota
	ByOffset        // limit, offset; a negative limit means "everything"
	ByPage          // page
)

// Table is what a capability offers.
type Table []Route

// allowed lists the methods of a path in the order in which the table declares them.
func (t Table) allowed(path string) []string {
	var methods []string
	for _, r := range t {
		if r.Path == path && !slices.Contains(methods, r.Method) {
			methods = append(methods, r.Method)
		}
	}
	return methods
}

// everyMethod is what a client may try on a known path.
var everyMethod = []string{
	http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions,
	http.MethodTrace,
}

// register puts the table on the router. A method that a known path does not have is refused after authentication and
// permission, as the contract orders it (system.md 2.2): 403 first, then 405.
func (s *Server) register(t Table) {
	seen := map[string]bool{}
	for _, r := range t {
		s.engine.Handle(r.Method, r.Path, s.handle(r))
		seen[r.Path] = true
	}
	for path := range seen {
		allowed := t.allowed(path)
		for _, method := range everyMethod {
			if !slices.Contains(allowed, method) {
				s.engine.Handle(method, path, s.refuseMethod(t, path, allowed))
			}
		}
	}
}

// refuseMethod answers a method that the path does not have, to whom the path's other routes would have let in: where
// they differ, the last one that is not for everybody decides (reads may be open while changes are not).
func (s *Server) refuseMethod(t Table, path string, allowed []string) gin.HandlerFunc {
	who, first, knows := NoAuth, []func(*gin.Context){}, []string(nil)
	for _, r := range t {
		if r.Path != path {
			continue
		}
		if r.For != NoAuth && (r.For != Anyone || who == NoAuth) {
			who = r.For
		}
		if r.First != nil {
			first = append(first, r.First)
		}
		if r.Knows != nil {
			knows = r.Knows
		}
	}
	return func(c *gin.Context) {
		for _, f := range first {
			f(c)
		}
		c.Header("Allow", strings.Join(allowed, ", "))
		err := acceptable(c)
		if err == nil {
			err = s.admit(c, who)
		}
		switch {
		case err != nil:
		case knows != nil && !slices.Contains(knows, c.Request.Method):
			err = fault.Forbidden{}
		default:
			err = methodNotAllowed(c.Request.Method)
		}
		s.render(c, err)
	}
}

// Root is the route that lists the resources below a prefix, for people who explore (system.md 2.1).
func Root(prefix, tag string, resources ...string) Route {
	return Route{Method: http.MethodGet, Path: prefix, Summary: "The resources below " + prefix, Tag: tag, Out: map[string]string{}, For: AnyUser,
		Do: func(c *gin.Context) error {
			list := links{prefix: Origin(c) + prefix, names: resources}
			JSON(c, http.StatusOK, list)
			return nil
		}}
}

// links renders names with their addresses, in order.
type links struct {
	prefix string
	names  []string
}

// MarshalJSON implements json.Marshaler.
func (l links) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, name := range l.names {
		if i > 0 {
			out = append(out, ',')
		}
		key, err := marshal(name)
		if err != nil {
			return nil, err
		}
		address, err := marshal(l.prefix + name + "/")
		if err != nil {
			return nil, err
		}
		out = append(append(append(out, key...), ':'), address...)
	}
	return append(out, '}'), nil
}
