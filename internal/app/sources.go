package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strconv"
	"time"

	"cohortflow/internal/access"
	"cohortflow/internal/engine"
	"cohortflow/internal/fhir"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/queryexec"
	"cohortflow/tasks"
)

// fhirSource searches the FHIR server for access. Without a token it uses the client's own credential.
type fhirSource struct {
	client *fhir.Client
	token  func(ctx context.Context) (string, error)
}

// Authorization implements fhir.Credential.
func (f fhirSource) Authorization(ctx context.Context) (string, error) { return f.token(ctx) }

// Search implements access.FHIR.
func (f fhirSource) Search(ctx context.Context, resourceType string, params url.Values) iter.Seq2[json.RawMessage, error] {
	search := fhir.Search{Type: resourceType}
	for name, values := range params {
		for _, value := range values {
			search.Params = append(search.Params, fhir.Param{Name: name, Value: value})
		}
	}
	if f.token != nil {
		search.Credential = f
	}
	return f.client.Search(ctx, search)
}

// systemToken is what the directory is asked with: a short token of the system account (system.md 3.9).
func (p *parts) systemToken(ctx context.Context) (string, error) {
	if err := p.access.EnsureSystemUser(ctx); err != nil {
		return "", err
	}
	pair, err := p.tokens.Issue(access.SystemUser)
	return "Bearer " + pair.Access, err
}

// virtualCohort has QueryExecutor make the cohort of a perimeter; it calls back (accesses.md 14, 19). A creation is never
// sent twice unless the first was certainly not taken (decision 30): so an attempt after one that did not end is none.
var virtualCohort = tasks.Spec{Name: "perimeter.virtual_cohort", Queue: tasks.QueueDefault, Timeout: 2 * time.Minute, MaxAttempts: 5}

const (
	// virtualRest is the pause before QueryExecutor is tried again, virtualPatience how long it is tried.
	virtualRest     = 30 * time.Second
	virtualPatience = 24 * time.Hour
	// virtualOwner owns virtual cohorts at QueryExecutor (schema.md 9).
	virtualOwner = "admin"
)

type virtualPayload struct {
	access.VirtualCohort
	Until time.Time `json:"until"`
}

type virtualCohorts struct {
	app   *App
	parts *parts
}

// OweVirtualCohorts implements access.VirtualCohorts.
func (v virtualCohorts) OweVirtualCohorts(ctx context.Context, tx *database.Tx, cohorts []access.VirtualCohort) error {
	owed := make([]engine.Task, len(cohorts))
	for i, c := range cohorts {
		owed[i] = engine.Task{Spec: virtualCohort, Payload: virtualPayload{c, v.app.opts.Clock.Now().Add(virtualPatience)}}
	}
	_, err := v.parts.engine.Owe(ctx, tx, owed...)
	return err
}

func (v virtualCohorts) handle() { v.parts.engine.Handle(virtualCohort, v.launch) }

func (v virtualCohorts) launch(ctx context.Context, claim engine.Claim) error {
	c, err := engine.Payload[virtualPayload](claim)
	if err != nil {
		return err
	}
	e, log := v.parts.engine, v.app.log.With("perimeter", c.PerimeterID)
	if claim.Attempt > 1 {
		log.WarnContext(ctx, "a virtual cohort may have been sent before a crash: not sent again, the next synchronisation looks at it")
		return e.Done(ctx, claim)
	}
	q := queryexec.Query{Serialized: c.Query(), Mode: queryexec.ModeCreate, Owner: virtualOwner, CallbackPath: c.CallbackPath()}
	if id, err := strconv.ParseInt(c.ExistingCohortID, 10, 64); err == nil {
		q.ExistingCohortID = &id
	}
	if q.Auth.Authorization, err = fhir.StaticToken(v.app.cfg.Cohort.FHIRAccessToken.Reveal()).Authorization(ctx); err != nil {
		return err
	}
	translated, err := v.parts.translator.Translate(ctx, q)
	var hopeless *queryexec.QueryError
	if errors.As(err, &hopeless) {
		log.ErrorContext(ctx, "a virtual cohort cannot be made", "error", err)
		return e.Done(ctx, claim)
	}
	if err == nil {
		_, err = v.parts.executor.Submit(ctx, translated.Job)
	}
	if err == nil {
		return e.Done(ctx, claim)
	}
	now := v.app.opts.Clock.Now()
	var failed *queryexec.CallError
	unsent := !errors.As(err, &failed) || failed.Outcome == queryexec.OutcomeNotAccepted
	if unsent && now.Before(c.Until) {
		log.WarnContext(ctx, "a virtual cohort could not be sent yet", "error", err)
		return e.Postpone(ctx, claim, now.Add(virtualRest))
	}
	log.ErrorContext(ctx, "a virtual cohort was not made", "error", fmt.Errorf("perimeter %d: %w", c.PerimeterID, err))
	return e.Done(ctx, claim)
}
