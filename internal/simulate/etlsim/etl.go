// Package etlsim is a double of the Solr ETL: it indexes the large cohorts that QueryExecutor's double left, some time
// later, and then tells the backend with its own token (contract: peers.md 4). Simulate starts it. It learns a cohort's
// uuid where the real one must: from the instance_id of the query stored with the list. Lists that were not indexed when
// it stopped are indexed after the next start.
package etlsim

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"cohortflow/internal/platform/lifecycle"
	"cohortflow/internal/simulate/faultplan"
	"cohortflow/internal/simulate/hospital"
)

// Config is what the double needs.
type Config struct {
	Log     *slog.Logger
	Lists   *hospital.Lists
	Plan    *faultplan.Plan
	Token   string
	Backend func(ctx context.Context) (string, error) // waits until the URL is known
	Delay   time.Duration                             // between the list and the end of its indexing
}

// Server is the double.
type Server struct {
	lifecycle.Base
	cfg    Config
	client *http.Client

	mu      sync.Mutex
	waiting []int64
	wake    chan struct{}
}

// New finds the lists that a former run left.
func New(cfg Config) *Server {
	s := &Server{Base: lifecycle.Base{Log: cfg.Log, Name: "simulated ETL"}, cfg: cfg, client: &http.Client{Timeout: time.Minute},
		wake: make(chan struct{}, 1)}
	for _, list := range cfg.Lists.All() {
		if !list.Indexed {
			s.waiting = append(s.waiting, list.ID)
		}
	}
	return s
}

// Index is told of a list that QueryExecutor did not index.
func (s *Server) Index(list int64) {
	s.mu.Lock()
	s.waiting = append(s.waiting, list)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Start begins to index.
func (s *Server) Start(ctx context.Context) error {
	return s.Go(ctx, func(ctx context.Context) {
		var all sync.WaitGroup
		defer all.Wait()
		for {
			s.mu.Lock()
			waiting := s.waiting
			s.waiting = nil
			s.mu.Unlock()
			for _, id := range waiting {
				all.Go(func() { s.index(ctx, id) })
			}
			select {
			case <-s.wake:
			case <-ctx.Done():
				return
			}
		}
	})
}

// index waits, and tells the backend; the list counts as indexed once that was tried.
func (s *Server) index(ctx context.Context, id int64) {
	if !faultplan.Pause(ctx, s.cfg.Delay) {
		return
	}
	list, err := s.cfg.Lists.Get(id)
	if err == nil {
		err = s.tell(ctx, list, nil)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.cfg.Log.Warn("simulated ETL: callback failed, it is not tried again", "list", id, "error", err)
	}
	if err := s.cfg.Lists.MarkIndexed(id); err != nil {
		s.cfg.Log.Error("simulated ETL", "list", id, "error", err)
	}
}

// Finish sends a callback for the cohort with that uuid, now: body, or success (contract: peers.md 15.1, control API).
func (s *Server) Finish(ctx context.Context, uuid string, body []byte) error {
	for _, list := range s.cfg.Lists.All() {
		if cohortOf(list) == uuid && uuid != "" {
			return errors.Join(s.tell(ctx, list, body), s.cfg.Lists.MarkIndexed(list.ID))
		}
	}
	return fmt.Errorf("cohort %s: %w", uuid, hospital.ErrNoList)
}

func cohortOf(list hospital.List) string {
	var definition struct {
		UUID string `json:"instance_id"`
	}
	if json.Unmarshal([]byte(list.Definition), &definition) != nil {
		return ""
	}
	return definition.UUID
}

func (s *Server) tell(ctx context.Context, list hospital.List, body []byte) error {
	uuid := cohortOf(list)
	if uuid == "" {
		return errors.New("the stored query names no cohort (instance_id)")
	}
	base, err := s.cfg.Backend(ctx)
	if err != nil {
		return err
	}
	token, copies := s.cfg.Token, 1
	if body == nil {
		if body, err = json.Marshal(map[string]string{"request_job_status": "FINISHED", "group.id": strconv.FormatInt(list.ID, 10),
			"group.count": strconv.Itoa(list.Members.Count())}); err != nil {
			return err
		}
	}
	for _, rule := range s.cfg.Plan.Decide(faultplan.Event{Peer: "etl", Owner: list.Owner, UUID: uuid}, faultplan.CallbackLost,
		faultplan.CallbackDuplicate, faultplan.CallbackDelay, faultplan.CallbackBody, faultplan.CallbackToken) {
		switch rule.Action {
		case faultplan.CallbackLost:
			return nil
		case faultplan.CallbackDuplicate:
			copies += cmp.Or(rule.Count, 1)
		case faultplan.CallbackBody:
			body = []byte(rule.Body)
		case faultplan.CallbackToken:
			token = rule.Body
		case faultplan.CallbackDelay:
			if !faultplan.Pause(ctx, time.Duration(rule.For)) {
				return ctx.Err()
			}
		}
	}
	errs := make([]error, copies)
	var all sync.WaitGroup
	for i := range copies {
		all.Go(func() { errs[i] = s.patch(ctx, base+"/cohort/cohorts/"+uuid+"/", token, body) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (s *Server) patch(ctx context.Context, url, token string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPatch, url, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL of the callback is not one")
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20)) // only so that the connection can be used again
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("the backend answered %d", response.StatusCode)
	}
	return nil
}
