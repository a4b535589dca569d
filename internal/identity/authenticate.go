package identity

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"cohortflow/internal/platform/fault"
)

// Key maps an application key to the machine and the account it stands for (system.md 3.8).
type Key struct {
	Token    string // an empty token matches nothing
	Username string
	Machine  Machine
}

// Admins answers the one question that impersonation asks (system.md 4).
type Admins interface {
	IsFullAdmin(ctx context.Context, username string) (bool, error)
}

// ForeignTokens checks access tokens of identity providers; nil when OIDC is off.
type ForeignTokens interface {
	// Username is that of the token's user. A token that is not accepted is an error; one that cannot be judged for the
	// moment is a fault.Undecided.
	Username(ctx context.Context, token string) (string, error)
}

// Authenticator finds out who sends a request or opens a websocket (system.md 3.1, 4).
type Authenticator struct {
	Log    *slog.Logger
	Store  *Store
	Tokens *Tokens
	OIDC   ForeignTokens
	Admins Admins
	// Keys are looked through in order; the last one that matches wins.
	Keys []Key
	// QueryExecutor and SolrETL are the usernames that may call back, however they authenticated.
	QueryExecutor, SolrETL string
}

const outcomeKey = "identity.outcome"

// Authenticate is web.Config.Authenticate: it remembers the caller in the request. Nobody is not an error; a malformed
// header, a refused impersonation and an issuer that cannot be asked are. Asked again about a request, it says the same.
func (a *Authenticator) Authenticate(c *gin.Context) error {
	if outcome, tried := c.Get(outcomeKey); tried {
		err, _ := outcome.(error)
		return err
	}
	err := a.authenticate(c)
	c.Set(outcomeKey, err)
	return err
}

func (a *Authenticator) authenticate(c *gin.Context) error {
	header := c.GetHeader("Authorization")
	if header == "" {
		return nil
	}
	parts := strings.Fields(header)
	if len(parts) != 2 {
		return fault.Unauthenticated{Detail: "Authorization header must contain two space-delimited values"}
	}
	if parts[0] != "Bearer" {
		return nil
	}
	method := Method(c)
	caller, err := a.Identify(c.Request.Context(), parts[1], method, c.GetHeader("X-Impersonate"))
	if err != nil {
		Remember(c, caller) // the request log tells who was refused
		return err
	}
	caller.TraceID = TraceID(c)
	if caller.Authenticated() && caller.Key == NoMachine {
		caller.Authorization, caller.AuthorizationMethod = header, method
	}
	Remember(c, caller)
	return nil
}

// Method is the AuthorizationMethod of a request; the documentation's "try it out" sends none and means JWT.
func Method(c *gin.Context) string {
	if strings.HasSuffix(c.GetHeader("Referer"), "/docs") {
		return "JWT"
	}
	return c.GetHeader("AuthorizationMethod")
}

// Identify is the caller that a token stands for, nobody if it is not accepted. With a refusal comes who was refused.
func (a *Authenticator) Identify(ctx context.Context, token, method, impersonate string) (Caller, error) {
	if key, ok := a.keyOf(token); ok {
		user, live, err := a.Store.Live(ctx, key.Username)
		if err != nil {
			return Caller{}, err
		}
		if !live {
			a.Log.WarnContext(ctx, "an application key has no account", "machine", key.Machine)
			return Caller{}, nil
		}
		return a.callerOf(user, user.Username, key.Machine), nil
	}
	username, err := a.usernameOf(ctx, token, method)
	if undecided := (fault.Undecided{}); errors.As(err, &undecided) {
		return Caller{}, undecided
	}
	if err != nil || username == "" {
		return Caller{}, nil //nolint:nilerr // a token that is not accepted is nobody's
	}
	user, live, err := a.Store.Live(ctx, username)
	if err != nil || !live {
		return Caller{}, err
	}
	if impersonate == "" {
		return a.callerOf(user, username, NoMachine), nil
	}
	return a.impersonate(ctx, user, impersonate)
}

func (a *Authenticator) usernameOf(ctx context.Context, token, method string) (string, error) {
	switch {
	case method == "JWT":
		return a.Tokens.Access(token)
	case method == "OIDC" && a.OIDC != nil:
		return a.OIDC.Username(ctx, token)
	}
	return "", nil
}

func (a *Authenticator) impersonate(ctx context.Context, real User, target string) (Caller, error) {
	admin, err := a.Admins.IsFullAdmin(ctx, real.Username)
	if err != nil {
		return Caller{}, err
	}
	if !admin {
		return Caller{RealUsername: real.Username, RefusedTarget: cut(target, 150)}, fault.Forbidden{Detail: "Vous n'avez pas le droit d'impersonnifier un autre utilisateur"}
	}
	user, live, err := a.Store.Live(ctx, target)
	if err != nil {
		return Caller{}, err
	}
	if !live {
		a.Log.WarnContext(ctx, "the user to impersonate does not exist", "real", real.Username)
		return a.callerOf(real, real.Username, NoMachine), nil
	}
	return a.callerOf(user, real.Username, NoMachine), nil
}

func (a *Authenticator) callerOf(u User, real string, key Machine) Caller {
	c := Caller{Username: u.Username, RealUsername: real, DisplayName: u.DisplayName(), Key: key}
	switch u.Username {
	case a.QueryExecutor:
		c.Applicative = QueryExecutor
	case a.SolrETL:
		c.Applicative = SolrETL
	}
	return c
}

// keyOf compares in constant time; an unset key matches nothing, not even nothing.
func (a *Authenticator) keyOf(token string) (found Key, ok bool) {
	for _, k := range a.Keys {
		if k.Token != "" && subtle.ConstantTimeCompare([]byte(k.Token), []byte(token)) == 1 {
			found, ok = k, true
		}
	}
	return found, ok
}

// OpensGate tells whether a request carries the key of a machine that works on during a maintenance (system.md 7.5).
func (a *Authenticator) OpensGate(c *gin.Context) bool {
	parts := strings.Fields(c.GetHeader("Authorization"))
	if len(parts) != 2 || parts[0] != "Bearer" {
		return false
	}
	key, ok := a.keyOf(parts[1])
	return ok && (key.Machine == QueryExecutor || key.Machine == SolrETL)
}

const traceKey = "identity.trace"

// TraceID is the correlation id of a request (system.md 14.3), the same whoever asks.
func TraceID(c *gin.Context) string {
	id := c.GetString(traceKey)
	if id == "" {
		id = traceID(c.GetHeader("X-Trace-Id"))
		c.Set(traceKey, id)
	}
	return id
}

// traceID takes a client's id if it is fit for a header and a log, else it makes one.
func traceID(given string) string {
	fits := given != "" && len(given) <= 128 && !strings.ContainsFunc(given, func(r rune) bool { return r <= ' ' || r > '~' })
	if !fits {
		return uuid.NewString()
	}
	return given
}
