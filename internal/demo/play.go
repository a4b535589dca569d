// Package demo plays one researcher's complete workflow through the public HTTP API and websocket of a running Cohortflow,
// as the web front-end would, and prints each step with its result: count, cohorts, exports, mails, timelines, refusals.
// "cohortflow up --demo" calls Play; so does a test of the whole system. It checks what it is shown, so that any deviation
// is an error which names the step.
//
// It never reaches behind the API: what only the simulators know (the true count, the mails that arrived, the files that
// were stored) it asks through functions of its Config. It never prints a token or a mail address.
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"cohortflow/internal/platform/clock"
)

// Login is a name and a password.
type Login struct{ Username, Password string }

// Mail is a message that arrived in a mailbox.
type Mail struct{ Subject, Text string }

// Config says where the system is and what only its surroundings know. All fields are needed, except where it says so.
type Config struct {
	// BaseURL is where the API listens, without a slash at the end.
	BaseURL string
	Out     io.Writer
	// Researcher plays; Admin is somebody else, whose rows the researcher must not see.
	Researcher, Admin Login
	// CaresiteCohortID is the virtual cohort of a hospital on which the researcher may read and export nominative data;
	// RootCohortID that of the root perimeter.
	CaresiteCohortID, RootCohortID string
	// Evaluate is the true count of a query document, straight from the generated patients.
	Evaluate func(ctx context.Context, serializedQuery string) (int, error)
	// Mails are the messages that arrived at an address, oldest first.
	Mails func(to string) []Mail
	// Stored is the size of a stored file in bytes; nil: downloads are not compared with what is stored.
	Stored func(path string) (size int64, err error)
	// SizeLimit is COHORT_SIZE_LIMIT: more patients than the hospital's cohort has, fewer than the whole institution.
	// QueryExecutor has to leave cohorts of that size to the indexer, too.
	SizeLimit int
	// Timeout bounds the whole play (1 minute).
	Timeout time.Duration
	// Clock names what the demo creates and measures how long things took (the system's when nil).
	Clock clock.Clock
	// HTTP is the client to use (one of its own when nil).
	HTTP *http.Client
}

// validate reports every mistake at once.
func (c Config) validate() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New(what+" is needed"))
		}
	}
	need(strings.HasPrefix(c.BaseURL, "http"), "the URL of the API")
	need(c.Out != nil, "where to write to")
	need(c.Researcher.Username != "" && c.Admin.Username != "", "the login of a researcher and of an admin")
	need(c.CaresiteCohortID != "" && c.RootCohortID != "", "the virtual cohort of a hospital and of the root")
	need(c.Evaluate != nil && c.Mails != nil, "how to evaluate a query and read the mails")
	need(c.SizeLimit > 0, "the size from which cohorts are large")
	if c.Timeout < 0 {
		errs = append(errs, errors.New("the time limit is negative"))
	}
	return errors.Join(errs...)
}

// patience is how the demo waits: it asks every poll, and where the websocket should tell, only after quiet.
type patience struct{ poll, quiet time.Duration }

// player is one play: what a step learns, later steps use.
type player struct {
	cfg    Config
	wait   patience
	api    *client // the researcher's
	me     account
	socket *socket
	out    *transcript
	stamp  string // makes names unique

	request, snapshot string // uuids
	query             string // of the snapshot
	small, large      cohort
	exports           []*exportFile
	jobs              []job
	mailsBefore       int // in the researcher's mailbox
}

// Play plays the workflow once. Its error names the step that deviated.
func Play(ctx context.Context, cfg Config) error {
	return play(ctx, cfg, patience{poll: 75 * time.Millisecond, quiet: time.Second})
}

func play(ctx context.Context, cfg Config, wait patience) (err error) {
	if err := cfg.validate(); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{}
		defer cfg.HTTP.CloseIdleConnections()
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(cfg.Timeout, time.Minute))
	defer cancel()
	p := &player{cfg: cfg, wait: wait, out: &transcript{w: cfg.Out}, stamp: cfg.Clock.Now().Format("2006-01-02 15:04:05.000")}
	defer func() {
		if p.socket != nil {
			p.socket.close()
		}
	}()
	return p.run(ctx)
}

type step struct {
	name string
	do   func(ctx context.Context) error
}

func (p *player) steps() []step {
	return []step{
		{"sign in and write a query", p.signIn},
		{"count", p.count},
		{"create cohorts", p.createCohorts},
		{"export", p.export},
		{"mails, messages, timelines", p.tell},
		{"what is refused", p.refusals},
	}
}

func (p *player) run(ctx context.Context) error {
	started := p.cfg.Clock.Now()
	p.out.print("One researcher's workflow, through the public API at %s\n", p.cfg.BaseURL)
	steps := p.steps()
	for i, s := range steps {
		p.out.step(i+1, len(steps), s.name)
		if err := s.do(ctx); err != nil {
			p.out.line("FAILED", "%v", err)
			return errors.Join(fmt.Errorf("demo: step %d (%s): %w", i+1, s.name, err), p.out.err)
		}
	}
	p.out.print("\nAll %d steps went as they should, in %s.\n", len(steps), p.since(started))
	if p.out.err != nil {
		return fmt.Errorf("demo: write the transcript: %w", p.out.err)
	}
	return nil
}

// since is how long ago something was, in whole milliseconds.
func (p *player) since(t time.Time) time.Duration {
	return p.cfg.Clock.Now().Sub(t).Round(time.Millisecond)
}
