package identity_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/platform/web/webtest"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const signingKey = "a-signing-key-for-tests"

// bundle is identity as app builds it: users alice (legacy password "alice"), nora (no password), ulla (manages users),
// admin (full admin), query_executor and gone (deleted).
type bundle struct {
	db      *database.DB
	clock   *clock.Fake
	store   *identity.Store
	tokens  *identity.Tokens
	service *identity.Service
	users   *identity.Users
	auth    *identity.Authenticator
	logged  *lockedBuffer
	*webtest.Client
}

type config struct {
	service identity.Config
	users   identity.UsersConfig
	auth    identity.Authenticator
	// logged is told what the request log would be: who asked, after the answer; nil: nobody listens.
	logged func(identity.Caller)
}

func setup(t *testing.T, db *database.DB, change func(*config)) bundle {
	t.Helper()
	b := bundle{db: db, clock: clock.NewFake(noon), store: identity.NewStore(db), logged: &lockedBuffer{}}
	log := slog.New(slog.NewTextHandler(b.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b.tokens = identity.NewTokens(signingKey, []string{"RS256", "HS256"}, b.clock)
	cfg := config{
		service: identity.Config{Log: log, Store: b.store, Clock: b.clock, Tokens: b.tokens, MaxFailures: 5, LockFor: 15 * time.Minute},
		users:   identity.UsersConfig{DB: db, Store: b.store, Clock: b.clock, Profiles: profiles{}, UsernameRegex: `[a-z0-9]`, EmailRegex: `^[\w.+-]+@[\w-]+\.[\w]+$`},
		auth: identity.Authenticator{Log: log, Store: b.store, Tokens: b.tokens, Admins: admins{}, QueryExecutor: "query_executor", SolrETL: "solr_etl", Keys: []identity.Key{
			{Token: "", Username: "admin", Machine: identity.Rollout},
			{Token: "executor-key", Username: "query_executor", Machine: identity.QueryExecutor},
			{Token: "etl-key", Username: "solr_etl", Machine: identity.SolrETL},
		}},
	}
	if change != nil {
		change(&cfg)
	}
	b.auth = &cfg.auth
	b.service = identity.NewService(cfg.service)
	var err error
	b.users, err = identity.NewUsers(cfg.users)
	require.NoError(t, err)
	b.addUsers(t)
	record := func(c *gin.Context, _ web.Route, _ time.Time) {
		if cfg.logged != nil {
			cfg.logged(identity.CallerOf(c))
		}
	}
	server := web.New(web.Config{Log: log, Authenticate: b.auth.Authenticate, Authorize: authorize, Record: record}, b.service.Table(), b.users.Table(), web.Table{
		{Method: "GET", Path: "/open/", Out: map[string]string{}, For: web.Anyone, Do: whoAmI},
		{Method: "GET", Path: "/me/", Out: map[string]string{}, For: web.AnyUser, View: "views.Me", Do: whoAmI},
	})
	b.Client = webtest.Of(t, server)
	return b
}

func whoAmI(c *gin.Context) error {
	caller := identity.CallerOf(c)
	web.JSON(c, 200, map[string]string{"user": caller.Username, "real": caller.RealUsername, "key": string(caller.Key),
		"applicative": string(caller.Applicative), "sealed": caller.AuthorizationMethod + caller.Authorization})
	return nil
}

// authorize knows admin and ulla, who may manage users.
func authorize(c *gin.Context, who web.Who) error {
	switch caller := identity.CallerOf(c); {
	case !caller.Authenticated():
		return fault.Unauthenticated{}
	case who == web.UserManager && c.Request.Method != "GET" && caller.Username != "admin" && caller.Username != "ulla":
		return fault.Forbidden{}
	}
	return nil
}

type admins struct{}

func (admins) IsFullAdmin(_ context.Context, username string) (bool, error) {
	return username == "admin", nil
}

type profiles struct{}

func (profiles) AddManualProfile(_ context.Context, tx *database.Tx, username string) error {
	return tx.Exec("INSERT INTO accesses_profile (source, is_active, user_id) VALUES ('Manual', true, ?)", username).Error
}

func (b bundle) addUsers(t *testing.T) {
	t.Helper()
	legacy, err := identity.Passwords{Legacy: true}.Hash("alice")
	require.NoError(t, err)
	deleted := noon.Add(-time.Hour)
	require.NoError(t, b.db.Update(t.Context(), func(tx *database.Tx) error {
		for _, u := range []identity.User{
			{Username: "admin", Firstname: new("Ada"), Lastname: new("ADMIN")},
			{Username: "alice", Firstname: new("Alice"), Lastname: new("MARTIN"), Email: new("alice@example.org"), Password: &legacy, CreatedBy: new("admin")},
			{Username: "nora", Firstname: new("Nora")}, {Username: "ulla", Firstname: new("Ulla"), Lastname: new("ROUX")},
			{Username: "query_executor"}, {Username: "gone", Email: new("gone@example.org"), Password: &legacy, DeleteDatetime: &deleted},
		} {
			if err := tx.Create(&u).Error; err != nil {
				return err
			}
		}
		return nil
	}))
}

// by sends with a token of ours of that user.
func (b bundle) by(t *testing.T, username string) *webtest.Client {
	t.Helper()
	pair, err := b.tokens.Issue(username)
	require.NoError(t, err)
	return b.bearer(pair.Access, "JWT").For(t)
}

func (b bundle) bearer(token, method string) *webtest.Client {
	return b.With("Authorization", "Bearer "+token).With("AuthorizationMethod", method)
}

func (b bundle) login(t *testing.T, username, password string) *webtest.Answer {
	t.Helper()
	return b.With("AuthorizationMethod", "JWT").For(t).POST("/auth/login/", map[string]string{"username": username, "password": password})
}

func (b bundle) password(t *testing.T, username string) string {
	t.Helper()
	u, ok, err := b.store.Live(t.Context(), username)
	require.NoError(t, err)
	require.True(t, ok)
	if u.Password == nil {
		return ""
	}
	return *u.Password
}

// each runs a test on both databases with a bundle of its own.
func each(t *testing.T, change func(*config), test func(t *testing.T, b bundle)) {
	t.Helper()
	databasetest.Each(t, func(t *testing.T, db *database.DB) { test(t, setup(t, db, change)) })
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
