package faultplan

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"
)

// Wrap lets requests to a double suffer as the plan says. What the handler has written is kept back only when a rule for
// the answer strikes.
func (p *Plan) Wrap(peer string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		event := Event{Peer: peer, Route: r.Method + " " + r.URL.Path}
		var answer []Rule
		for _, rule := range p.Decide(event, Delay, Status, Body, Truncate, Reset, Hang) {
			if rule.After || rule.Action == Truncate {
				answer = append(answer, rule)
				continue
			}
			if !strike(w, r, rule, nil) {
				return
			}
		}
		if len(answer) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		kept := &answerKept{header: http.Header{}, Code: http.StatusOK}
		next.ServeHTTP(kept, r)
		for _, rule := range answer {
			if !strike(w, r, rule, kept) {
				return
			}
		}
		maps.Copy(w.Header(), kept.Header())
		w.WriteHeader(kept.Code)
		_, _ = w.Write(kept.Body.Bytes()) // the caller may be gone: that is its business
	})
}

// answerKept holds an answer back. It is an http.ResponseWriter.
type answerKept struct {
	header http.Header
	Code   int
	Body   bytes.Buffer
}

func (a *answerKept) Header() http.Header            { return a.header }
func (a *answerKept) WriteHeader(code int)           { a.Code = code }
func (a *answerKept) Write(data []byte) (int, error) { return a.Body.Write(data) }

// strike carries out one rule. It returns false when the request has had its answer.
func strike(w http.ResponseWriter, r *http.Request, rule Rule, kept *answerKept) bool {
	switch rule.Action {
	case Delay:
		return Pause(r.Context(), time.Duration(rule.For))
	case Status:
		w.Header().Set("Content-Type", "text/plain;charset=utf-8")
		w.WriteHeader(rule.Code)
		_, _ = w.Write([]byte(rule.Body))
	case Body:
		w.Header().Set("Content-Type", "application/json;charset=utf-8")
		_, _ = w.Write([]byte(rule.Body))
	case Truncate:
		half := bytes.Clone(kept.Body.Bytes()[:kept.Body.Len()/2])
		w.Header().Set("Content-Type", kept.Header().Get("Content-Type"))
		w.Header().Set("Content-Length", strconv.Itoa(kept.Body.Len()+1))
		w.WriteHeader(kept.Code)
		_, _ = w.Write(half)
		_ = http.NewResponseController(w).Flush() // so that the half arrives
		panic(http.ErrAbortHandler)               // the server's way to break a connection
	case Reset:
		panic(http.ErrAbortHandler)
	case Hang:
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the caller went away
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
	return false
}

// Pause waits, and returns false when ctx ended first.
func Pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
