package app

import (
	"context"
	"slices"
	"time"

	"cohortflow/internal/access"
	"cohortflow/internal/config"
	"cohortflow/internal/fhir"
	"cohortflow/internal/identity"
)

// buildIdentity makes sign-in, users and the recognition of callers.
func (a *App) buildIdentity(p *parts) (err error) {
	c := a.cfg.Auth
	passwords := identity.Passwords{Legacy: c.PasswordHashing == "legacy"}
	p.store = identity.NewStore(a.db)
	p.tokens = identity.NewTokens(c.JWTKey.Reveal(), c.JWTAlgorithms, a.opts.Clock)
	directory := identity.DirectoryConfig{Log: a.log, Client: p.http, URL: c.IdentityURL, Token: c.IdentityToken.Reveal()}
	p.users, err = identity.NewUsers(identity.UsersConfig{DB: a.db, Store: p.store, Clock: a.opts.Clock, Passwords: passwords,
		Profiles: profiles{p}, Created: a.userCreated(p), People: identity.NewPeople(c.IdentityHooks, directory), UsernameRegex: c.UsernameRegex, EmailRegex: c.EmailRegex})
	if err != nil {
		return err
	}
	p.auth = &identity.Authenticator{Log: a.log, Store: p.store, Tokens: p.tokens, Admins: admins{p}, Keys: keysOf(a.cfg),
		QueryExecutor: a.cfg.Cohort.QueryExecutorUser, SolrETL: a.cfg.Cohort.SolrETLUser}
	service := identity.Config{Log: a.log, Store: p.store, Clock: a.opts.Clock, Tokens: p.tokens, Passwords: passwords,
		Directory: identity.NewDirectory(c.AuthenticationHooks, directory), MaxFailures: c.LoginMaxFailures, LockFor: time.Duration(c.LoginLockMinutes) * time.Minute}
	if c.EnableOIDC {
		oidc := identity.OIDCConfig{ExtraIssuers: c.OIDCExtraServers, Audience: c.OIDCAudience, Algorithms: c.JWTAlgorithms}
		for _, s := range c.OIDCServers {
			oidc.Servers = append(oidc.Servers, identity.OIDCServer{Issuer: s.Issuer, ClientID: s.ClientID, ClientSecret: s.ClientSecret.Reveal(), RedirectURI: s.RedirectURI})
		}
		provider := identity.NewOIDC(oidc, a.log, p.http, a.opts.Clock)
		service.Provider, p.auth.OIDC = provider, provider
	}
	p.identity = identity.NewService(service)
	return nil
}

// keysOf are the application keys (system.md 3.8).
func keysOf(cfg config.Config) []identity.Key {
	keys := []identity.Key{{Token: cfg.Auth.RolloutToken.Reveal(), Username: cfg.Auth.RolloutUsername, Machine: identity.Rollout}}
	if !included(cfg, "cohort_job_server") {
		return keys
	}
	return append(keys,
		identity.Key{Token: cfg.Cohort.QueryExecutorToken.Reveal(), Username: cfg.Cohort.QueryExecutorUser, Machine: identity.QueryExecutor},
		identity.Key{Token: cfg.Cohort.SolrETLToken.Reveal(), Username: cfg.Cohort.SolrETLUser, Machine: identity.SolrETL})
}

// included tells whether INCLUDED_APPS names an application (system.md 18).
func included(cfg config.Config, name string) bool {
	return slices.Contains(cfg.System.IncludedApps, name)
}

// buildAccess makes perimeters, roles and rights, with the sources they are synchronised from.
func (a *App) buildAccess(p *parts) error {
	per := a.cfg.Perimeters
	peers := access.Peers{Users: accounts{p.users}, Mailer: postman{a, p}}
	if a.cfg.Cohort.FHIRURL != "" {
		client, err := fhir.New(p.http, fhir.Config{URL: a.cfg.Cohort.FHIRURL, Credential: fhir.StaticToken(a.cfg.Cohort.FHIRAccessToken.Reveal())})
		if err != nil {
			return err
		}
		peers.Organizations, peers.VirtualCohorts = fhirSource{client: client}, virtualCohorts{a, p}
		if per.OrbisEnabled {
			peers.Directory = fhirSource{client, p.systemToken}
		}
	}
	if included(a.cfg, "accesses_perimeters") {
		source, err := access.NewOMOP(access.OMOPConfig{URL: a.cfg.SourceURL(), Schemas: per.SourceSchemas, RootID: per.RootID, Types: per.Types})
		if err != nil {
			return err
		}
		p.careSites, peers.CareSites = source, source
	}
	service, err := access.NewService(access.Config{ValidityDays: per.DefaultValidityDays, FirstAlertDays: per.FirstAlertDays, SecondAlertDays: per.SecondAlertDays,
		Alerts: bool(per.EnableAlerts), PerimeterTypes: per.Types, RootPerimeterID: per.RootID}, a.db, a.opts.Clock, a.log, peers)
	p.access = service
	return err
}

// userCreated gives a new user the accesses that the directory knows of, where a site wants that (SYNC_USER_ACCESSES). The
// user is there whatever becomes of it: the nightly synchronisation comes by.
func (a *App) userCreated(p *parts) func(ctx context.Context, username string) {
	if !a.cfg.Perimeters.SyncAccesses {
		return nil
	}
	return func(ctx context.Context, username string) {
		if _, err := p.access.SyncOrbis(ctx, username); err != nil {
			a.log.WarnContext(ctx, "the accesses of a new user could not be synchronised", "user", username, "error", err)
		}
	}
}
