package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/fault"
)

// Config says what web must ask others. Nil functions are left out.
type Config struct {
	Log *slog.Logger
	// Origins are the CORS origins (system.md 2.11).
	Origins []string
	// BodyWithin is how long a request's body may take to arrive (DefaultBodyWithin when zero).
	BodyWithin time.Duration
	// Gate refuses requests during a maintenance (system.md 7.5), before anything else looks at them.
	Gate func(c *gin.Context) error
	// Authenticate finds out who is asking and keeps it in the context; it fails only for headers that are malformed, an
	// impersonation that is refused, and while nobody can tell (fault.Undecided). An unknown caller is not an error here.
	Authenticate func(c *gin.Context) error
	// Authorize decides whether the caller may use a route for Who with the request's method.
	Authorize func(c *gin.Context, who Who) error
	// Later returns a context that collects what must wait until the answer has been sent, and the function that then
	// starts it: so that a job's result never overtakes the answer that names the job.
	Later func(ctx context.Context) (context.Context, func())
	// Record is told of every answered request of a route that has a View (system.md 6.1).
	Record func(c *gin.Context, r Route, started time.Time)
	// Failed is told of every request that ended in an error of ours (500), before it is answered; route is the pattern.
	Failed func(ctx context.Context, method, route string)
	// Cache may answer a request instead of do, which is the route's function, and learns of changes; it comes after
	// authentication and permission.
	Cache func(c *gin.Context, r Route, do func(c *gin.Context) error) error
	// Observe is told of every answered request, for metrics; route is the pattern, never the path.
	Observe func(method, route string, status int, took time.Duration)
}

// Server is the HTTP handler of the API. Build it with New.
type Server struct {
	cfg    Config
	engine *gin.Engine
	table  Table
}

// New builds the router from the tables of all capabilities. It panics on two routes with one path and method, as gin
// does: a defect of the tables, which any test shows.
func New(cfg Config, tables ...Table) *Server {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.RedirectTrailingSlash, e.RedirectFixedPath = false, false
	e.UseRawPath, e.UnescapePathValues = true, true
	if cfg.BodyWithin == 0 {
		cfg.BodyWithin = DefaultBodyWithin
	}
	s := &Server{cfg: cfg, engine: e}
	e.Use(s.observe, s.recoverPanic, s.hurry, headers, s.cors, s.gate)
	for _, t := range tables {
		s.table = append(s.table, t...)
	}
	s.register(s.table)
	e.NoRoute(notFound)
	return s
}

// notFound answers what no route has; the root has an answer of its own (system.md 2.1).
func notFound(c *gin.Context) {
	if c.Request.URL.Path == "/" {
		JSON(c, http.StatusNotFound, map[string]string{"error": "Page Not Found"})
		return
	}
	JSON(c, http.StatusNotFound, detail("Not found."))
}

// Routes is the whole table.
func (s *Server) Routes() Table { return s.table }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.engine.ServeHTTP(w, r) }

// Mount serves what is not part of the API under a path of its own: the websocket, health, documentation.
func (s *Server) Mount(method, path string, h gin.HandlerFunc) { s.engine.Handle(method, path, h) }

// handle wraps a route's function in the order of checks of system.md 2.2.
func (s *Server) handle(r Route) gin.HandlerFunc {
	return func(c *gin.Context) {
		record := s.recorder(c, r)
		defer record() // a download that breaks off ends in a panic
		flush := func() {}
		if s.cfg.Later != nil {
			var ctx context.Context
			ctx, flush = s.cfg.Later(c.Request.Context())
			c.Request = c.Request.WithContext(ctx)
		}
		if r.First != nil {
			r.First(c)
		}
		c.Header("Allow", strings.Join(s.table.allowed(r.Path), ", "))
		if err := s.run(c, r); err != nil {
			s.render(c, err)
		}
		if !c.Writer.Written() {
			c.Writer.WriteHeaderNow()
		}
		record()
		c.Writer.Flush()
		flush()
	}
}

// recorder tells Record of an answered request, once. What is not answered yet is a defect, which recoverPanic answers and
// logs.
func (s *Server) recorder(c *gin.Context, r Route) func() {
	started, told := time.Now(), s.cfg.Record == nil || r.View == ""
	return func() {
		if !told && c.Writer.Written() {
			told = true
			s.cfg.Record(c, r, started)
		}
	}
}

func (s *Server) run(c *gin.Context, r Route) error {
	if err := acceptable(c); err != nil {
		return err
	}
	if err := s.admit(c, r.For); err != nil {
		return err
	}
	if s.cfg.Cache != nil {
		return s.cfg.Cache(c, r, r.Do)
	}
	return r.Do(c)
}

// admit authenticates and asks for permission.
func (s *Server) admit(c *gin.Context, who Who) error {
	if who == NoAuth {
		return nil
	}
	if s.cfg.Authenticate != nil {
		err := s.cfg.Authenticate(c)
		if who == Anyone && errors.As(err, &fault.Undecided{}) {
			return nil // whoever it is may
		}
		if err != nil {
			return err
		}
	}
	if who == Anyone || s.cfg.Authorize == nil {
		return nil
	}
	return s.cfg.Authorize(c, who)
}

func (s *Server) gate(c *gin.Context) {
	if s.cfg.Gate == nil {
		return
	}
	if err := s.cfg.Gate(c); err != nil {
		s.render(c, err)
	}
}

func (s *Server) observe(c *gin.Context) {
	started := time.Now()
	c.Next()
	if s.cfg.Observe != nil {
		s.cfg.Observe(c.Request.Method, c.FullPath(), c.Writer.Status(), time.Since(started))
	}
}

func (s *Server) recoverPanic(c *gin.Context) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		if cause == http.ErrAbortHandler { // a download that must be seen to have broken off
			panic(cause)
		}
		s.cfg.Log.ErrorContext(c.Request.Context(), "request panicked", "route", c.FullPath(), "stack", string(debug.Stack()))
		s.render(c, fmt.Errorf("panic: %v", cause))
	}()
	c.Next()
}
