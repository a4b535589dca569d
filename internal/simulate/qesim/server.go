// Package qesim is a double of QueryExecutor: it accepts jobs, answers them over the demo hospital, truly, and calls back
// (contract: peers.md 2). Simulate starts it; the product's client and its tests speak to it over HTTP. It knows nothing
// of the product but the paths of its callbacks. Other than the real one, it remembers its jobs over a restart, and then
// goes on with those that had not called back.
package qesim

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/lifecycle"
	"cohortflow/internal/simulate/faultplan"
	"cohortflow/internal/simulate/hospital"
)

// Config is what the double needs. A zero field of the second part takes its default.
type Config struct {
	Log      *slog.Logger
	Clock    clock.Clock
	Hospital *hospital.Hospital
	Lists    *hospital.Lists
	Plan     *faultplan.Plan
	Dir      string                                    // the jobs are kept here
	Token    string                                    // bearer of the callbacks; empty: no Authorization header
	Backend  func(ctx context.Context) (string, error) // base URL of callbacks; waits until it is known
	Large    func(list int64)                          // told of every list that the ETL has to index; may be nil

	Threads int           // 20
	Latency time.Duration // how long a job runs (0)
	Limit   int           // above it a cohort of patients ends LONG_PENDING (20,000)
	Retries int           // further attempts after a failure (0), each as a new job
}

// Server is the double. It serves HTTP (ServeHTTP) whether started or not; jobs run between Start and Stop.
type Server struct {
	lifecycle.Base
	cfg     Config
	pool    *pool
	client  *http.Client
	mux     *http.ServeMux
	journal *journal

	mu    sync.Mutex
	jobs  map[string]*job
	order []*job
	held  []func(ctx context.Context) // callbacks kept back until another one has gone
}

// New reads what is left of the last run.
func New(cfg Config) (*Server, error) {
	cfg.Threads, cfg.Limit = cmp.Or(cfg.Threads, 20), cmp.Or(cfg.Limit, 20000)
	log, jobs, err := openJournal(filepath.Join(cfg.Dir, "jobs.jsonl"))
	if err != nil {
		return nil, fmt.Errorf("simulated QueryExecutor: jobs: %w", err)
	}
	s := &Server{Base: lifecycle.Base{Log: cfg.Log, Name: "simulated QueryExecutor"}, cfg: cfg, pool: newPool(), journal: log,
		jobs: map[string]*job{}, order: jobs,
		client: &http.Client{Transport: &http.Transport{MaxConnsPerHost: 2}, // no time-out, two connections: as the real one
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	for _, j := range jobs {
		j.done, j.resumed = make(chan struct{}), true
		s.jobs[j.ID] = j
		switch {
		case j.Called:
			close(j.done)
		case j.Ended.IsZero():
			s.pool.add(func(ctx context.Context) { s.run(ctx, j) })
		default:
			s.pool.add(func(ctx context.Context) { s.callBack(ctx, j) })
		}
	}
	s.routes()
	return s, nil
}

// Start begins to run jobs, first those that a former run left.
func (s *Server) Start(ctx context.Context) error {
	loops := make([]func(context.Context), s.cfg.Threads)
	for i := range loops {
		loops[i] = s.pool.loop
	}
	return s.Go(ctx, loops...)
}

func (s *Server) routes() {
	s.mux = http.NewServeMux()
	s.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain;charset=utf-8")
		_, _ = io.WriteString(w, "OK")
	})
	for _, path := range []string{"/jobs", "/jobs/{$}"} {
		s.mux.HandleFunc("POST "+path, s.post)
		s.mux.HandleFunc("GET "+path, s.list)
	}
	s.mux.HandleFunc("GET /jobs/{id}", s.get)
	s.mux.HandleFunc("DELETE /jobs/{id}", s.remove)
	s.mux.HandleFunc("GET /api-docs/swagger.json", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"swagger": "2.0", "info": map[string]string{"title": "QueryExecutor", "version": "2.12.0"}, "paths": map[string]any{}})
	})
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// post accepts a job. Only what cannot be read is refused here: a wrong query is told by the callback.
func (s *Server) post(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<20))
	if err == nil && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		err = message("No configuration setting found for key 'input'") // the container has consumed the body
	}
	var in Input
	if err == nil {
		in, err = ParseBody(body)
	}
	if err != nil {
		stackTrace(w, "com.typesafe.config.ConfigException", err)
		return
	}
	j := s.submit(in, 0)
	s.mu.Lock()
	v := j.view()
	s.mu.Unlock()
	if len(s.cfg.Plan.Decide(s.event(j), faultplan.CallbackEarly)) > 0 {
		select {
		case <-j.done:
		case <-r.Context().Done():
		}
	}
	v.Status, v.Duration, v.Result = Running, "", ""
	answer(w, v)
}

// submit registers a job and queues it.
func (s *Server) submit(in Input, attempt int) *job {
	j := &job{ID: uuid.NewString(), Input: in, Status: Running, Started: s.cfg.Clock.Now(), Attempt: attempt, done: make(chan struct{})}
	s.mu.Lock()
	s.jobs[j.ID] = j
	s.order = append(s.order, j)
	s.mu.Unlock()
	s.update(j, func(*job) {})
	s.pool.add(func(ctx context.Context) { s.run(ctx, j) })
	return j
}

func (s *Server) event(j *job) faultplan.Event {
	return faultplan.Event{Peer: "qe", Route: "POST /jobs", Mode: j.Input.Mode, Owner: j.Input.Owner, UUID: j.Input.UUID}
}

// run carries a job out, and queues its callback.
func (s *Server) run(ctx context.Context, j *job) {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	j.kill = cancel
	s.mu.Unlock()
	faults := s.cfg.Plan.Decide(s.event(j), faultplan.JobError, faultplan.JobStuck)
	for _, rule := range faults {
		if rule.Action == faultplan.JobStuck {
			return
		}
	}
	early := !faultplan.Pause(running, s.cfg.Latency)
	if ctx.Err() != nil { // stopped: it is run again after the next start
		s.pool.add(func(ctx context.Context) { s.run(ctx, j) })
		return
	}
	var result outcome
	var err error
	switch {
	case early:
		err = messagef("Job 0 cancelled part of cancelled job group %s", j.ID)
	case len(faults) > 0:
		err = errors.New(cmp.Or(faults[0].Body, "Job aborted"))
	default:
		result, err = s.work(running, j)
	}
	s.settle(j, result, err, early)
}

func (s *Server) settle(j *job, result outcome, err error, killed bool) {
	retry := err != nil && !killed && j.Attempt < s.cfg.Retries
	s.update(j, func(j *job) {
		j.kill, j.Ended = nil, s.cfg.Clock.Now()
		switch {
		case killed:
			j.Status, j.Message = Killed, err.Error()
		case err != nil:
			j.Status, j.Message = Failed, printable(err.Error())
		default:
			j.Status, j.Result = Finished, &result
		}
		j.Called = retry
	})
	if err == nil && result.Status == LongPending && s.cfg.Large != nil {
		s.cfg.Large(result.GroupID)
	}
	if retry { // only the last attempt calls back, under an id that nobody outside knows
		close(j.done)
		s.submit(j.Input, j.Attempt+1)
		return
	}
	s.pool.add(func(ctx context.Context) { s.callBack(ctx, j) })
}

func (s *Server) list(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	views := make([]view, len(s.order))
	for i, j := range s.order {
		views[i] = j.view()
	}
	s.mu.Unlock()
	answer(w, views)
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	j, ok := s.jobs[r.PathValue("id")]
	var v view
	if ok {
		v = j.view()
	}
	s.mu.Unlock()
	if !ok {
		unknownJob(w, r)
		return
	}
	answer(w, v)
}

// remove kills a job. One that waits in the queue goes on all the same, and one that has ended is shown as killed.
func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	j, ok := s.jobs[r.PathValue("id")]
	s.mu.Unlock()
	if !ok {
		unknownJob(w, r)
		return
	}
	s.update(j, func(j *job) {
		j.Status = Killed
		if j.kill != nil {
			j.kill()
		}
	})
	answer(w, view{Status: Killed, JobID: j.ID})
}

func unknownJob(w http.ResponseWriter, r *http.Request) {
	stackTrace(w, "java.util.NoSuchElementException", fmt.Errorf("key not found: %s", r.PathValue("id")))
}

// stackTrace is how every error looks: never JSON (contract: peers.md 2.2).
func stackTrace(w http.ResponseWriter, class string, err error) {
	w.Header().Set("Content-Type", "text/plain;charset=utf-8")
	w.WriteHeader(http.StatusInternalServerError)
	_, _ = fmt.Fprintf(w, "%s: %s\n\tat fr.aphp.id.eds.requester.server.OmopServlet.$anonfun$new$1(OmopServlet.scala:42)\n"+
		"\tat org.scalatra.ScalatraBase.org$scalatra$ScalatraBase$$liftAction(ScalatraBase.scala:282)\n", class, err)
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value) // the caller may be gone
}

// printable strips what the real one strips of messages: all outside of printable ASCII.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return -1
		}
		return r
	}, text)
}
