// Package hadoopsim is a double of the Hadoop API: databases of Hive and owners of directories, in memory (contract:
// peers.md 6). Simulate serves it; the Hive exports of the product speak to it. It never touches a file.
package hadoopsim

import (
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/simulate/exportsim"
)

// Server is the double; it is an http.Handler.
type Server struct {
	token string
	tasks *exportsim.Tasks
	mux   *http.ServeMux

	mu        sync.Mutex
	databases map[string]string // name to location
	owners    map[string]string // location to owner
}

// New makes the server; token is what the header auth-token must hold (empty: anything), and creating a database takes
// the duration.
func New(clk clock.Clock, token string, duration time.Duration) *Server {
	s := &Server{token: token, tasks: exportsim.NewTasks(clk, duration), mux: http.NewServeMux(), databases: map[string]string{}, owners: map[string]string{}}
	s.mux.HandleFunc("POST /hadoop/hive/create_base_hive", s.create)
	s.mux.HandleFunc("POST /hadoop/hdfs/chown_directory", s.chown)
	s.mux.HandleFunc("GET /hadoop/task_status", s.tasks.ServeStatus)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !exportsim.Authorized(r, s.token) {
		exportsim.Answer(w, http.StatusUnauthorized, map[string]string{"detail": "invalid auth-token"})
		return
	}
	s.mux.ServeHTTP(w, r)
}

// Databases are the databases that exist, by name, with their location.
func (s *Server) Databases() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.databases)
}

// Owner is who a location was given to last; empty: nobody.
func (s *Server) Owner(location string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owners[location]
}

func (s *Server) create(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	name, location := query.Get("name"), query.Get("location")
	if name == "" || location == "" {
		exportsim.Answer(w, http.StatusUnprocessableEntity, map[string]string{"detail": "name and location are required"})
		return
	}
	id := s.tasks.Add(name, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.databases[name] = location
		return nil
	})
	exportsim.Answer(w, http.StatusOK, map[string]string{"task_id": id})
}

func (s *Server) chown(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	location, owner := query.Get("location"), query.Get("uid")
	s.mu.Lock()
	defer s.mu.Unlock()
	known := false
	for _, at := range s.databases {
		known = known || at == location || strings.HasPrefix(at, location+"/")
	}
	if !known || owner == "" {
		exportsim.Answer(w, http.StatusOK, map[string]any{"status": "error", "ret_code": 1, "err": "chown: no such directory: " + location})
		return
	}
	s.owners[location] = owner
	exportsim.Answer(w, http.StatusOK, map[string]any{"status": "success", "ret_code": 0, "out": "", "err": ""})
}
