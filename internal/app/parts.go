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
	"cohortflow/internal/config"
	"cohortflow/internal/content"
	"cohortflow/internal/engine"
	"cohortflow/internal/fhir"
	"cohortflow/internal/identity"
	"cohortflow/internal/jobs"
	"cohortflow/internal/maintenance"
	"cohortflow/internal/platform/httpclient"
	"cohortflow/internal/platform/mail"
	"cohortflow/internal/queryexec"
	"cohortflow/internal/requestlog"
	"cohortflow/templates"
)

// parts are the services of all capabilities, joined.
type parts struct {
	engine      *engine.Engine
	store       *identity.Store
	identity    *identity.Service
	users       *identity.Users
	auth        *identity.Authenticator
	access      *access.Service
	cohort      *cohort.Service
	jobs        *jobs.Service
	maintenance *maintenance.Service
	content     *content.Service
	requestlog  *requestlog.Log
	mail        *mail.Sender
	links       mail.Links
}

func (a *App) build() (*parts, error) {
	p := &parts{links: mail.Links{Frontend: a.cfg.System.FrontendURL, BackendHost: a.cfg.System.BackendHost}}
	for _, step := range []func(*parts) error{a.buildMail, a.buildEngine, a.buildIdentity, a.buildCohort, a.buildRest, a.handleTasks} {
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
		Keys:      engine.Keys{Current: a.cfg.System.SecretKey.Reveal(), Fallbacks: older},
		Published: a.published,
	}, a.kinds()...)
	return err
}

func (a *App) buildIdentity(p *parts) (err error) {
	c := a.cfg.Auth
	passwords := identity.Passwords{Legacy: c.PasswordHashing == "legacy"}
	p.store = identity.NewStore(a.db)
	tokens := identity.NewTokens(c.JWTKey.Reveal(), c.JWTAlgorithms, a.opts.Clock)
	p.users, err = identity.NewUsers(identity.UsersConfig{DB: a.db, Store: p.store, Clock: a.opts.Clock, Passwords: passwords,
		Profiles: profiles{p}, UsernameRegex: c.UsernameRegex, EmailRegex: c.EmailRegex})
	if err != nil {
		return err
	}
	per := a.cfg.Perimeters
	p.access, err = access.NewService(access.Config{ValidityDays: per.DefaultValidityDays, FirstAlertDays: per.FirstAlertDays, SecondAlertDays: per.SecondAlertDays,
		Alerts: bool(per.EnableAlerts), PerimeterTypes: per.Types, RootPerimeterID: per.RootID}, a.db, a.opts.Clock, a.log,
		access.Peers{Users: accounts{p.users}, Mailer: postman{a, p}})
	if err != nil {
		return err
	}
	p.identity = identity.NewService(identity.Config{Log: a.log, Store: p.store, Clock: a.opts.Clock, Tokens: tokens, Passwords: passwords,
		MaxFailures: c.LoginMaxFailures, LockFor: time.Duration(c.LoginLockMinutes) * time.Minute})
	p.auth = &identity.Authenticator{Log: a.log, Store: p.store, Tokens: tokens, Admins: p.access, Keys: keysOf(a.cfg),
		QueryExecutor: a.cfg.Cohort.QueryExecutorUser, SolrETL: a.cfg.Cohort.SolrETLUser}
	return nil
}

func keysOf(cfg config.Config) []identity.Key {
	return []identity.Key{
		{Token: cfg.Auth.RolloutToken.Reveal(), Username: cfg.Auth.RolloutUsername, Machine: identity.Rollout},
		{Token: cfg.Cohort.QueryExecutorToken.Reveal(), Username: cfg.Cohort.QueryExecutorUser, Machine: identity.QueryExecutor},
		{Token: cfg.Cohort.SolrETLToken.Reveal(), Username: cfg.Cohort.SolrETLUser, Machine: identity.SolrETL},
	}
}

func (a *App) buildCohort(p *parts) error {
	c := a.cfg.Cohort
	client, err := httpclient.New(a.log, httpclient.Config{Timeout: a.cfg.Engine.OutboundTimeout})
	if err != nil {
		return err
	}
	var filters queryexec.Filters
	if c.FHIRURL != "" {
		if filters, err = fhir.New(client, fhir.Config{URL: c.FHIRURL, TestQueries: a.cfg.TestFHIRQueries()}); err != nil {
			return err
		}
	}
	translator, err := queryexec.NewTranslator(a.log, queryexec.TranslatorConfig{UseSolr: a.cfg.UseSolr()}, filters, perimeters{p.access})
	if err != nil {
		return err
	}
	executor, err := queryexec.NewClient(a.log, client, c.QueryExecutorURL)
	if err != nil {
		return err
	}
	p.cohort, err = cohort.New(cohort.Config{SizeLimit: c.SizeLimit, CountValidity: time.Duration(c.LastCountValidity) * time.Hour, ReportingTypes: c.ReportingTypes, Links: p.links},
		cohort.Deps{DB: a.db, Clock: a.opts.Clock, Log: a.log, Engine: p.engine, Rights: cohortRights{p.access}, Translator: translator, Renderer: p.mail.Renderer(), NewID: uuid.New})
	if err != nil {
		return err
	}
	work := cohort.NewJobs(p.cohort, translator, executor)
	work.Register()
	work.RegisterMail(letterBox{a})
	return nil
}

func (a *App) buildRest(p *parts) error {
	p.jobs = jobs.New(p.engine, p.access)
	p.content = content.New(a.db)
	p.requestlog = requestlog.New(a.db, a.opts.Clock, a.log)
	p.maintenance = maintenance.NewService(maintenance.Config{Store: maintenance.NewStore(a.db), Clock: a.opts.Clock, OpensGate: p.auth.OpensGate,
		Authenticate: p.auth.Authenticate, IsFullAdmin: p.access.IsFullAdmin, Broadcast: a.broadcastMaintenance})
	return nil
}

// kinds are the kinds of jobs that exist.
func (a *App) kinds() []engine.Kind { return cohort.Kinds() }

// published nudges the followers of all api processes; it never blocks.
func (a *App) published(_ context.Context, event int64) { a.announce(event) }
