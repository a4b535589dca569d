package qesim

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"cohortflow/internal/simulate/faultplan"
)

// ErrUnknownJob is the answer to a question about a job that was never submitted.
var ErrUnknownJob = errors.New("no such job")

// callbackPath is where a job calls back, or what of it the backend's URL is put before (contract: peers.md 2.7); empty:
// nowhere.
func (in Input) callbackPath() string {
	switch {
	case in.CallbackURL != "":
		return in.CallbackURL
	case in.CallbackPath != "":
		return in.CallbackPath
	case in.UUID == "":
		return ""
	case creates(in.Mode):
		return "/cohort/cohorts/" + in.UUID + "/"
	}
	return "/cohort/dated-measures/" + in.UUID + "/"
}

// payload is the body of the callback: numbers are texts, extra is an object of texts.
func (j *job) payload() map[string]any {
	switch {
	case j.Result == nil && j.Status == Killed:
		return map[string]any{"request_job_status": Killed, "message": j.Message}
	case j.Result == nil:
		return map[string]any{"request_job_status": Failed, "message": j.Message}
	}
	extra := j.Result.Extra
	if extra == nil {
		extra = map[string]string{}
	}
	body := map[string]any{"request_job_status": j.Result.Status, "extra": extra}
	count := strconv.Itoa(j.Result.Count)
	if creates(j.Input.Mode) {
		body["group.id"], body["group.count"] = strconv.FormatInt(j.Result.GroupID, 10), count
		return body
	}
	body["count"] = count
	if j.Input.Mode == CountAll {
		body["minimum"], body["maximum"] = strconv.Itoa(j.Result.Minimum), strconv.Itoa(j.Result.Maximum)
	}
	return body
}

// delivery is one callback on its way.
type delivery struct {
	url, token string
	body       []byte
	copies     int
}

// callBack tells the backend how a job ended: once, whatever comes of it, as the real one does. A stop before it was
// tried leaves it owed, and the next start tries it.
func (s *Server) callBack(ctx context.Context, j *job) {
	s.mu.Lock()
	payload, in := j.payload(), j.Input
	s.mu.Unlock()
	d := delivery{url: in.callbackPath(), token: s.cfg.Token, copies: 1}
	if d.url == "" {
		s.called(j)
		return
	}
	if in.CallbackURL == "" {
		base, err := s.cfg.Backend(ctx)
		if err != nil {
			s.owe(j)
			return
		}
		d.url = base + d.url
	}
	var err error
	if d.body, err = json.Marshal(payload); err != nil {
		s.cfg.Log.Error("simulated QueryExecutor: callback", "job", j.ID, "error", err)
		s.called(j)
		return
	}
	send := func(ctx context.Context) {
		if !s.deliver(ctx, j.ID, d) {
			s.owe(j)
			return
		}
		s.called(j)
	}
	for _, rule := range s.cfg.Plan.Decide(s.event(j), faultplan.CallbackLost, faultplan.CallbackDuplicate, faultplan.CallbackSwap,
		faultplan.CallbackDelay, faultplan.CallbackBody, faultplan.CallbackToken) {
		switch rule.Action {
		case faultplan.CallbackLost:
			s.called(j)
			return
		case faultplan.CallbackDuplicate:
			d.copies += cmp.Or(rule.Count, 1)
		case faultplan.CallbackBody:
			d.body = []byte(rule.Body)
		case faultplan.CallbackToken:
			d.token = rule.Body
		case faultplan.CallbackDelay:
			if !faultplan.Pause(ctx, time.Duration(rule.For)) {
				s.owe(j)
				return
			}
		case faultplan.CallbackSwap:
			s.hold(send)
			if rule.For > 0 && faultplan.Pause(ctx, time.Duration(rule.For)) {
				s.release(ctx)
			}
			return
		}
	}
	send(ctx)
	s.release(ctx)
}

// owe queues a callback that a stop broke off: it is tried after the next start.
func (s *Server) owe(j *job) { s.pool.add(func(ctx context.Context) { s.callBack(ctx, j) }) }

// hold keeps a callback back until another one has gone; release lets all go that were held.
func (s *Server) hold(send func(ctx context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, send)
}

func (s *Server) release(ctx context.Context) {
	s.mu.Lock()
	held := s.held
	s.held = nil
	s.mu.Unlock()
	for i := len(held) - 1; i >= 0; i-- {
		held[i](ctx)
	}
}

func (s *Server) called(j *job) {
	s.update(j, func(j *job) {
		if !j.Called {
			j.Called = true
			close(j.done)
		}
	})
}

// deliver sends the copies at once, and tells whether they were tried: false when a stop broke one off, so that it may
// come twice.
func (s *Server) deliver(ctx context.Context, id string, d delivery) bool {
	errs := make([]error, d.copies)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = s.patch(ctx, d) })
	}
	all.Wait()
	err := errors.Join(errs...)
	if err == nil {
		return true
	}
	if ctx.Err() == nil {
		s.cfg.Log.Warn("simulated QueryExecutor: callback failed, it is not tried again", "job", id, "error", err)
	}
	return ctx.Err() == nil
}

func (s *Server) patch(ctx context.Context, d delivery) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPatch, d.url, bytes.NewReader(d.body))
	if err != nil {
		return errors.New("the URL of the callback is not one")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "Apache-HttpClient/4.5.13 (Java/11.0.16)")
	if d.token != "" {
		request.Header.Set("Authorization", "Bearer "+d.token)
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

// Callback sends any body for a job, now, with the token of the double (contract: peers.md 15.1, control API).
func (s *Server) Callback(ctx context.Context, id string, body []byte) error {
	s.mu.Lock()
	j, ok := s.jobs[id]
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("job %s: %w", id, ErrUnknownJob)
	}
	d := delivery{url: j.Input.callbackPath(), token: s.cfg.Token, body: body, copies: 1}
	if j.Input.CallbackURL == "" {
		base, err := s.cfg.Backend(ctx)
		if err != nil {
			return err
		}
		d.url = base + d.url
	}
	return s.patch(ctx, d)
}

// Evaluate answers a query as a count does, without a job: the document, and the option details.
func (s *Server) Evaluate(ctx context.Context, definition, details string) (count int, extra map[string]string, err error) {
	j := &job{Input: Input{Definition: definition, Mode: Count, Options: map[string]string{"details": details}}}
	result, err := s.work(ctx, j)
	return result.Count, result.Extra, err
}
