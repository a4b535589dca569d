package app

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/engine"
	"cohortflow/internal/identity"
	"cohortflow/internal/platform/telemetry"
	"cohortflow/internal/platform/web"
)

// tables are the routes of all capabilities.
func (a *App) tables() web.Table {
	p := a.parts
	var all web.Table
	for _, t := range []web.Table{p.identity.Table(), p.users.Table(), p.access.Table(), p.cohort.Table(), p.export.Table(), p.jobs.Table(),
		p.maintenance.Table(), p.content.Table(), p.notes.Table(), p.requestlog.Table(logUsers{p.store}), a.cacheRoutes()} {
		all = append(all, t...)
	}
	return all
}

// buildAPI makes the HTTP server, with everything that is not in the route table: health, documentation, websocket.
func (a *App) buildAPI() error {
	p := a.parts
	if a.cfg.System.NotifyAdmins && len(a.admins()) > 0 {
		a.alarms = newAlarms()
	}
	server := web.New(web.Config{
		Log: a.log, Origins: append([]string{"https://" + a.cfg.System.BackendHost}, a.cfg.System.FrontendURLs...),
		Gate: p.maintenance.Gate, Authenticate: a.authenticate, Authorize: a.authorize,
		Later: engine.WithLater, Record: p.requestlog.Record, Observe: a.metrics.Observe, Failed: a.failed, Cache: a.cache(),
	}, a.tables())
	server.Documentation(Version)
	a.buildRealtime()
	server.Mount(http.MethodGet, "/healthz", func(c *gin.Context) { web.JSON(c, http.StatusOK, gin.H{"status": "ok"}) })
	server.Mount(http.MethodGet, "/readyz", a.readyz)
	for _, path := range []string{"/ws", "/ws/"} {
		server.Mount(http.MethodGet, path, gin.WrapH(a.hub))
	}
	a.api = &telemetry.HTTPServer{Name: "API", Addr: a.cfg.System.Addr, Setting: "ADDR", Handler: server, Log: a.log}
	return nil
}

// authenticate finds out who is asking, and has what is logged from here on say for which request it is.
func (a *App) authenticate(c *gin.Context) error {
	err := a.parts.auth.Authenticate(c)
	who := telemetry.Request{TraceID: identity.TraceID(c)}
	switch caller := identity.CallerOf(c); {
	case !caller.Authenticated():
	case caller.RealUsername != caller.Username:
		who.User, who.Impersonating = caller.RealUsername, caller.Username
	default:
		who.User = caller.Username
	}
	c.Request = c.Request.WithContext(telemetry.WithRequest(c.Request.Context(), who))
	return err
}

// authorize decides whether a caller may use a route; the services decide about rows.
func (a *App) authorize(c *gin.Context, who web.Who) error {
	ctx, caller, method := c.Request.Context(), identity.CallerOf(c), c.Request.Method
	switch who {
	case web.UserManager:
		if method == http.MethodGet {
			who = web.AnyUser
		}
	case web.Maintainer:
		if caller.Authenticated() && (caller.Applicative != identity.NoMachine || caller.Username == a.cfg.Auth.RolloutUsername) {
			return nil
		}
		who = web.FullAdmin
	}
	return a.parts.access.Authorize(ctx, caller, who, method)
}
