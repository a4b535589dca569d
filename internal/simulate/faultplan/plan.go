// Package faultplan says how the doubles of the outside systems misbehave: a list of rules that tests, demos and the
// control endpoint change at any moment (contract: peers.md 15). Each double asks it at each request, callback or SMTP
// step; without rules everything behaves. It never touches the product's own faults (platform/fault).
package faultplan

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// Action is one way to misbehave.
type Action string

// What can happen to a request (any double that speaks HTTP). With Rule.After the request is handled first and only its
// answer suffers: the outside system has accepted what the caller believes lost.
const (
	Delay    Action = "delay"    // answers after For
	Status   Action = "status"   // answers Code with Body
	Body     Action = "body"     // answers 200 with Body: malformed JSON, HTML, nothing
	Truncate Action = "truncate" // breaks the connection in the middle of the true answer
	Reset    Action = "reset"    // closes the connection without an answer
	Hang     Action = "hang"     // never answers: holds the connection until the caller gives up
)

// What can happen to a callback of QueryExecutor or of the ETL.
const (
	CallbackLost      Action = "callback_lost"      // never sent
	CallbackDuplicate Action = "callback_duplicate" // sent 1 + Count times, at once
	CallbackEarly     Action = "callback_early"     // sent before the job's POST is answered
	CallbackSwap      Action = "callback_swap"      // held until the next callback has gone (at most For, if set): out of order
	CallbackDelay     Action = "callback_delay"     // sent after For
	CallbackBody      Action = "callback_body"      // Body is sent instead
	CallbackToken     Action = "callback_token"     // sent with the token Body; an empty one: without
)

// What can happen to a job of QueryExecutor, and in a conversation with the SMTP double (Stage says where: CONNECT, EHLO,
// MAIL, RCPT, DATA, or BODY for the end of the message; delay, status, hang and reset work there).
const (
	JobError Action = "job_error" // ends ERROR with the message Body
	JobStuck Action = "job_stuck" // runs for ever, no callback
)

var actions = []Action{Delay, Status, Body, Truncate, Reset, Hang, CallbackLost, CallbackDuplicate, CallbackEarly, CallbackSwap,
	CallbackDelay, CallbackBody, CallbackToken, JobError, JobStuck}

// Peers are the names of the doubles in rules.
var peers = []string{"qe", "fhir", "etl", "export", "hadoop", "webhdfs", "smtp", "oidc"}

// Rule is one fault. The zero values of the conditions match everything.
type Rule struct {
	Peer        string   `json:"peer"`
	Route       string   `json:"route,omitempty"`       // "METHOD /path" or a piece of it
	Mode        string   `json:"mode,omitempty"`        // of a job: count, create…
	Owner       string   `json:"owner,omitempty"`       // of a job
	UUID        string   `json:"uuid,omitempty"`        // of a job
	Stage       string   `json:"stage,omitempty"`       // of an SMTP conversation
	Nth         int      `json:"nth,omitempty"`         // only every n-th of what matches
	Probability float64  `json:"probability,omitempty"` // only with this chance (0: always)
	Times       int      `json:"times,omitempty"`       // at most so often (0: always)
	Action      Action   `json:"action"`
	After       bool     `json:"after,omitempty"` // the request is handled first
	For         Duration `json:"for,omitzero"`
	Code        int      `json:"code,omitempty"`
	Body        string   `json:"body,omitempty"`
	Count       int      `json:"count,omitempty"` // further copies of a callback (1)
}

// Duration is a time.Duration that is written as Go writes it ("1m30s").
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// Event is something that may go wrong.
type Event struct{ Peer, Route, Mode, Owner, UUID, Stage string }

// Plan holds the rules. Its zero value is not usable: see New. All its methods may be called at once.
type Plan struct {
	mu    sync.Mutex
	rnd   *rand.Rand
	rules []*counted
}

type counted struct {
	Rule
	seen, used int
}

// New returns a plan without rules. The seed decides what happens with probabilities.
func New(seed int64) *Plan { return &Plan{rnd: rand.New(rand.NewPCG(uint64(seed), 0x5eed))} }

// Set replaces all rules and begins to count anew. It refuses rules that could never work, and then changes nothing.
func (p *Plan) Set(rules ...Rule) error {
	var errs []error
	fresh := make([]*counted, len(rules))
	for i, r := range rules {
		if err := r.validate(); err != nil {
			errs = append(errs, fmt.Errorf("rule %d: %w", i, err))
		}
		fresh[i] = &counted{Rule: r}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = fresh
	return nil
}

func (r Rule) validate() error {
	var errs []error
	known := func(what, value string, among []string) {
		for _, a := range among {
			if a == value {
				return
			}
		}
		errs = append(errs, fmt.Errorf("unknown %s %q: one of %s", what, value, strings.Join(among, ", ")))
	}
	names := make([]string, len(actions))
	for i, a := range actions {
		names[i] = string(a)
	}
	known("peer", r.Peer, peers)
	known("action", string(r.Action), names)
	if r.Probability < 0 || r.Probability > 1 {
		errs = append(errs, errors.New("probability is not between 0 and 1"))
	}
	if r.Nth < 0 || r.Times < 0 || r.Count < 0 || r.For < 0 {
		errs = append(errs, errors.New("nth, times, count and for are never negative"))
	}
	if r.Action == Status && (r.Code < 200 || r.Code > 599) {
		errs = append(errs, errors.New("code is not between 200 and 599"))
	}
	return errors.Join(errs...)
}

// Rules returns the rules as they were set.
func (p *Plan) Rules() []Rule {
	p.mu.Lock()
	defer p.mu.Unlock()
	rules := make([]Rule, len(p.rules))
	for i, r := range p.rules {
		rules[i] = r.Rule
	}
	return rules
}

// Decide counts the event against the rules for the given actions, and returns those that strike, in order.
func (p *Plan) Decide(e Event, among ...Action) []Rule {
	p.mu.Lock()
	defer p.mu.Unlock()
	var struck []Rule
	for _, r := range p.rules {
		if r.matches(e, among) && r.strikes(p.rnd) {
			struck = append(struck, r.Rule)
		}
	}
	return struck
}

func (r *counted) matches(e Event, among []Action) bool {
	wanted := false
	for _, a := range among {
		wanted = wanted || a == r.Action
	}
	return wanted && r.Peer == e.Peer && strings.Contains(e.Route, r.Route) && (r.Mode == "" || r.Mode == e.Mode) &&
		(r.Owner == "" || r.Owner == e.Owner) && (r.UUID == "" || r.UUID == e.UUID) && (r.Stage == "" || r.Stage == e.Stage)
}

func (r *counted) strikes(rnd *rand.Rand) bool {
	r.seen++
	if r.Times > 0 && r.used >= r.Times || r.Nth > 0 && r.seen%r.Nth != 0 {
		return false
	}
	if r.Probability > 0 && rnd.Float64() >= r.Probability {
		return false
	}
	r.used++
	return true
}
