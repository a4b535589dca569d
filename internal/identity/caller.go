// Package identity answers who is asking: users, sign-in, tokens, application keys, impersonation. It owns the type
// Caller, which handlers take from the request and hand to services. It never decides what a caller may do with data:
// that is access's, asked through the small interfaces declared here.
package identity

import "github.com/gin-gonic/gin"

// Machine says that the caller authenticated by an application key, and which.
type Machine string

// The machines that call (system.md 3.8).
const (
	NoMachine     Machine = ""
	QueryExecutor Machine = "query_executor"
	SolrETL       Machine = "solr_etl"
	Rollout       Machine = "rollout"
)

// Caller is who a request runs as. The zero value is nobody.
type Caller struct {
	// Username is the effective user: the impersonated one while a full admin impersonates.
	Username string
	// RealUsername is the user whose token it is. Without a Username it is whoever was refused: nobody for every check, and
	// a name for the request log.
	RealUsername string
	// RefusedTarget is the user whom RealUsername asked to act as, and may not.
	RefusedTarget string
	// DisplayName is "First LAST (username)".
	DisplayName string
	// Applicative tells that Username is that of QueryExecutor or the ETL, however they authenticated: what matters for
	// privileges is the username, not the token (cohort.md 1.1).
	Applicative Machine
	// Key is set when an application key authenticated the request.
	Key Machine
	// Authorization and AuthorizationMethod are the headers as received, which background jobs pass on to FHIR. They are
	// secrets: seal them (engine secrets), never log them.
	Authorization, AuthorizationMethod string
	// TraceID is X-Trace-Id of the request, or one made for it: calls to FHIR that its jobs make carry it (system.md 14.4).
	TraceID string
}

// Authenticated tells whether there is somebody.
func (c Caller) Authenticated() bool { return c.Username != "" }

const callerKey = "identity.caller"

// Remember keeps the caller in the request.
func Remember(c *gin.Context, caller Caller) { c.Set(callerKey, caller) }

// CallerOf is the caller of the request; nobody if it has not authenticated.
func CallerOf(c *gin.Context) Caller {
	v, _ := c.Get(callerKey)
	caller, _ := v.(Caller)
	return caller
}
