package app

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/google/uuid"

	"cohortflow/internal/access"
	"cohortflow/internal/cohort"
	"cohortflow/internal/content"
	"cohortflow/internal/engine"
	"cohortflow/internal/export"
	"cohortflow/internal/fhir"
	"cohortflow/internal/identity"
	"cohortflow/internal/jobs"
	"cohortflow/internal/maintenance"
	"cohortflow/internal/platform/answercache"
	"cohortflow/internal/platform/httpclient"
	"cohortflow/internal/platform/mail"
	"cohortflow/internal/queryexec"
	"cohortflow/internal/releasenote"
	"cohortflow/internal/requestlog"
	"cohortflow/templates"
)

// parts are the services of all capabilities, joined.
type parts struct {
	http        *httpclient.Client
	engine      *engine.Engine
	store       *identity.Store
	tokens      *identity.Tokens
	identity    *identity.Service
	users       *identity.Users
	auth        *identity.Authenticator
	access      *access.Service
	careSites   *access.OMOP // nil unless configured
	translator  *queryexec.Translator
	executor    *queryexec.Client
	cohort      *cohort.Service
	cohortJobs  *cohort.Jobs
	export      *export.Service
	jobs        *jobs.Service
	maintenance *maintenance.Service
	content     *content.Service
	notes       *releasenote.Service
	requestlog  *requestlog.Log
	mail        *mail.Sender
	links       mail.Links
}

func (a *App) build() (*parts, error) {
	p := &parts{links: mail.Links{Frontend: a.cfg.System.FrontendURL, BackendHost: a.cfg.System.BackendHost}}
	steps := []func(*parts) error{a.buildAnswers, a.buildMail, a.buildEngine, a.buildIdentity, a.buildAccess, a.buildCohort, a.buildExport, a.buildRest, a.handleTasks}
	for _, step := range steps {
		if err := step(p); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (a *App) buildMail(p *parts) error {
	port := 0
	if a.cfg.Mail.Port != "" {
		n, err := strconv.Atoi(a.cfg.Mail.Port)
		if err != nil {
			return fmt.Errorf("EMAIL_PORT: %q is not a port", a.cfg.Mail.Port)
		}
		port = n
	}
	var mounted fs.FS
	if dir := a.cfg.Mail.TemplatesDir; dir != "" {
		m, err := mail.Mounted(dir)
		if err != nil {
			return err
		}
		mounted = m
	}
	m := a.cfg.Mail
	sender, err := mail.NewSender(mail.Config{Host: m.Host, Port: port, StartTLS: bool(m.UseTLS), User: m.User, Password: m.Password.Reveal(), From: m.From,
		SupportContact: m.SupportContact, Templates: templates.Files(), Mounted: mounted}, a.opts.Clock, a.log)
	p.mail = sender
	return err
}

func (a *App) buildEngine(p *parts) (err error) {
	if p.http, err = httpclient.New(a.log, httpclient.Config{Timeout: a.cfg.Engine.OutboundTimeout}); err != nil {
		return err
	}
	e := a.cfg.Engine
	var older []string
	for _, s := range a.cfg.System.SecretFallbacks {
		older = append(older, s.Reveal())
	}
	p.engine, err = engine.New(engine.Config{
		DB: a.db, Clock: a.opts.Clock, Log: a.log, NewID: newID, Queue: a.queue,
		Deadlines: map[engine.DeadlineName]time.Duration{
			engine.DeadlineLaunch: e.DeadlineLaunch, engine.DeadlineCount: e.DeadlineCount, engine.DeadlineCohort: e.DeadlineCohort,
			engine.DeadlineLargeCohort: e.DeadlineLargeCohort, engine.DeadlineFeasibility: e.DeadlineFeasibility, engine.DeadlineExport: e.DeadlineExport},
		EnquireAfter: e.EnquireAfter, Lease: e.Lease, Renew: e.Lease * 3 / 10,
		Keys: engine.Keys{Current: a.cfg.System.SecretKey.Reveal(), Fallbacks: older},
		Published: func(ctx context.Context, event int64) {
			a.changed(ctx, answercache.Cohorts, answercache.Exports)
			a.announce(event)
		},
	}, a.kinds()...)
	return err
}

// kinds are the kinds of jobs that exist.
func (a *App) kinds() []engine.Kind {
	return append(cohort.Kinds(), export.Kind(export.KindConfig{BuiltIn: a.cfg.Exports.APIURL == "", TellAdmins: len(a.admins()) > 0}))
}

func (a *App) buildCohort(p *parts) error {
	c := a.cfg.Cohort
	var filters queryexec.Filters
	if c.FHIRURL != "" {
		client, err := fhir.New(p.http, fhir.Config{URL: c.FHIRURL, TestQueries: bool(a.cfg.Cohort.TestFHIRQueries)})
		if err != nil {
			return err
		}
		filters = client
	}
	var err error
	if p.translator, err = queryexec.NewTranslator(a.log, queryexec.TranslatorConfig{UseSolr: bool(a.cfg.Cohort.UseSolr)}, filters, perimeters{p.access}); err != nil {
		return err
	}
	if p.executor, err = queryexec.NewClient(a.log, p.http, c.QueryExecutorURL); err != nil {
		return err
	}
	p.cohort, err = cohort.New(cohort.Config{SizeLimit: c.SizeLimit, CountValidity: time.Duration(c.LastCountValidity) * time.Hour, ReportingTypes: c.ReportingTypes, Links: p.links},
		cohort.Deps{DB: a.db, Clock: a.opts.Clock, Log: a.log, Engine: p.engine, Rights: cohortRights{p.access}, Translator: p.translator, Renderer: p.mail.Renderer(), NewID: uuid.New})
	if err != nil {
		return err
	}
	p.cohortJobs = cohort.NewJobs(p.cohort, p.translator, p.executor)
	p.cohortJobs.Register()
	p.cohortJobs.RegisterMail(letterBox{a})
	return nil
}

func (a *App) buildRest(p *parts) error {
	p.jobs = jobs.New(p.engine, p.access)
	p.content = content.New(a.db, a.opts.Clock)
	p.notes = releasenote.New(a.db, a.opts.Clock)
	p.requestlog = requestlog.New(a.db, a.opts.Clock, a.log)
	p.maintenance = maintenance.NewService(maintenance.Config{Store: maintenance.NewStore(a.db), Clock: a.opts.Clock, OpensGate: p.auth.OpensGate,
		Authenticate: p.auth.Authenticate, IsFullAdmin: p.access.IsFullAdmin, Broadcast: a.broadcastMaintenance})
	return nil
}
