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
	Do           func(c *gin.Context) error
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
	who := Anyone
	for _, r := range t {
		if r.Path == path && r.For != Anyone && r.For != NoAuth {
			who = r.For
		}
	}
	return func(c *gin.Context) {
		c.Header("Allow", strings.Join(allowed, ", "))
		if err := s.admit(c, who); err != nil {
			s.render(c, err)
			return
		}
		s.render(c, methodNotAllowed(c.Request.Method))
	}
}
