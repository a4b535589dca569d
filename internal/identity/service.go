package identity

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/fault"
)

// Directory checks passwords outside (system.md 3.4). With one configured, local passwords are not looked at.
type Directory interface {
	Authenticate(ctx context.Context, username, password string) (bool, error)
}

// Provider is an identity provider seen by sign-in: exchange of a code, refresh, logout (system.md 3.5).
type Provider interface {
	// Exchange gives the pair and the username in it; verifier is PKCE's, "" for none.
	Exchange(ctx context.Context, code, redirectURI, verifier string) (Pair, string, error)
	Refresh(ctx context.Context, refreshToken string) (Pair, error)
	Logout(ctx context.Context, accessToken, refreshToken string) error
}

// Config is what Service is built from; Directory and Provider may be nil.
type Config struct {
	Log         *slog.Logger
	Store       *Store
	Clock       clock.Clock
	Tokens      *Tokens
	Passwords   Passwords
	Directory   Directory
	Provider    Provider
	MaxFailures int
	LockFor     time.Duration
}

// Service signs users in and out.
type Service struct {
	cfg    Config
	places chan struct{} // see hashing
}

// checkedAtOnce bounds the passwords that are checked at the same time.
const checkedAtOnce = 8

// NewService keeps cfg.
func NewService(cfg Config) *Service {
	return &Service{cfg: cfg, places: make(chan struct{}, checkedAtOnce)}
}

// Login is what a successful sign-in answers.
type Login struct {
	User      User
	CreatedBy *string // display names
	UpdatedBy *string
	At        time.Time
	Pair      Pair
}

// refusedLogin is the one answer to a wrong name and to a wrong password: it tells nothing about names (system.md 3.6).
func refusedLogin() error { return unauthorized("Invalid username or password!") }

func unauthorized(text string) error {
	return fault.Refused{Status: 401, Body: map[string]string{"error": text}}
}

// ByPassword signs in with a name and a password. After MaxFailures refusals within LockFor the name is locked for that
// long, for the right password and for names that nobody has as well (decision 32).
func (s *Service) ByPassword(ctx context.Context, username, password string) (Login, error) {
	now, name := s.cfg.Clock.Now(), cut(username, 150)
	locked, newest, err := s.cfg.Store.Attempt(ctx, name, now, now.Add(-s.cfg.LockFor), s.cfg.MaxFailures)
	if err != nil {
		return Login{}, err
	}
	if locked {
		return Login{}, s.lockedOut(newest, now)
	}
	user, better, ok, err := s.verify(ctx, username, password)
	if err != nil { // nobody was judged: neither the user's fault nor a guess
		if err := s.cfg.Store.Withdraw(context.WithoutCancel(ctx), name, now); err != nil {
			return Login{}, err
		}
		return Login{}, err
	}
	if !ok {
		s.cfg.Log.InfoContext(ctx, "login refused")
		return Login{}, refusedLogin()
	}
	pair, err := s.cfg.Tokens.Issue(user.Username)
	if err != nil {
		return Login{}, err
	}
	return s.signedIn(ctx, user, name, pair, now, better)
}

func (s *Service) lockedOut(newest, now time.Time) error {
	wait := newest.Add(s.cfg.LockFor).Sub(now)
	return fault.Refused{Status: 429, RetryAfter: max(1, int(math.Ceil(wait.Seconds()))),
		Body: map[string]string{"error": "Too many failed attempts: this account is locked for a while."}}
}

// verify checks the password where it is kept. better is set when a password stored in the old form must be replaced.
func (s *Service) verify(ctx context.Context, username, password string) (user User, better rehash, ok bool, err error) {
	user, live, err := s.cfg.Store.Live(ctx, username)
	if err != nil {
		return User{}, rehash{}, false, err
	}
	if live && s.cfg.Directory != nil {
		ok, err := s.cfg.Directory.Authenticate(ctx, username, password)
		if err != nil { // the cause may quote what was sent
			s.cfg.Log.WarnContext(ctx, "the directory could not check a login")
			return User{}, rehash{}, false, refusedLogin()
		}
		return user, rehash{}, ok, nil
	}
	release, err := s.hashing(ctx)
	if err != nil {
		return User{}, rehash{}, false, err
	}
	defer release()
	if !live || user.Password == nil {
		s.cfg.Passwords.Waste(password)
		return User{}, rehash{}, false, nil
	}
	ok, outdated := s.cfg.Passwords.Check(password, *user.Password)
	if ok && outdated {
		hash, err := s.cfg.Passwords.Hash(password)
		if err != nil {
			return User{}, rehash{}, false, err
		}
		better = rehash{old: *user.Password, new: hash}
	}
	return user, better, ok, nil
}

// hashing waits for one of a few places: each check takes 19 MiB, and a flood of logins must not take all memory.
func (s *Service) hashing(ctx context.Context) (release func(), err error) {
	select {
	case s.places <- struct{}{}:
		return func() { <-s.places }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to check a password: %w", ctx.Err())
	}
}

func (s *Service) signedIn(ctx context.Context, user User, attempted string, pair Pair, now time.Time, better rehash) (Login, error) {
	if err := s.cfg.Store.SignedIn(ctx, user.Username, attempted, now, better); err != nil {
		return Login{}, err
	}
	login := Login{User: user, At: now, Pair: pair}
	names, err := s.cfg.Store.Names(ctx, present(user.CreatedBy, user.UpdatedBy))
	if err != nil {
		return Login{}, err
	}
	login.CreatedBy, login.UpdatedBy = nameIn(names, user.CreatedBy), nameIn(names, user.UpdatedBy)
	return login, nil
}

// ByCode signs in with the code that an identity provider gave to the browser. Somebody whom the provider knows and we do
// not is refused, and named in the answer to the caller of this function.
func (s *Service) ByCode(ctx context.Context, code, redirectURI, verifier string) (Login, error) {
	if s.cfg.Provider == nil {
		return Login{}, fault.Refused{Status: 400, Body: map[string]string{"error": "OIDC authentication is not enabled"}}
	}
	pair, username, err := s.cfg.Provider.Exchange(ctx, code, redirectURI, verifier)
	if err != nil {
		return Login{}, err
	}
	user, live, err := s.cfg.Store.Live(ctx, username)
	if err != nil {
		return Login{}, err
	}
	if !live {
		return Login{User: User{Username: username}}, unauthorized("User matching query does not exist.")
	}
	return s.signedIn(ctx, user, user.Username, pair, s.cfg.Clock.Now(), rehash{})
}

// Refresh exchanges a refresh token for a new pair; the pair is that of the token's user, whoever asks (system.md 3.7).
func (s *Service) Refresh(ctx context.Context, method, refreshToken string) (Pair, error) {
	switch {
	case method == "JWT":
		username, err := s.cfg.Tokens.Refresh(refreshToken)
		if err != nil {
			return Pair{}, badRequest(err.Error())
		}
		if _, live, err := s.cfg.Store.Live(ctx, username); err != nil {
			return Pair{}, err
		} else if !live {
			return Pair{}, badRequest("The user of this token does not exist any more")
		}
		return s.cfg.Tokens.Issue(username)
	case method == "OIDC" && s.cfg.Provider != nil:
		return s.cfg.Provider.Refresh(ctx, refreshToken)
	}
	return Pair{}, unknownMethod(method)
}

// Logout ends the session at the identity provider; our own tokens simply expire.
func (s *Service) Logout(ctx context.Context, method, accessToken, refreshToken string) error {
	switch {
	case method == "JWT":
		return nil
	case method == "OIDC" && s.cfg.Provider != nil:
		return s.cfg.Provider.Logout(ctx, accessToken, refreshToken)
	}
	return unknownMethod(method)
}

func badRequest(text string) error {
	return fault.Refused{Status: 400, Body: map[string]string{"error": text}}
}

func unknownMethod(method string) error {
	if method == "" {
		return badRequest("The header AuthorizationMethod is missing: JWT or OIDC")
	}
	return badRequest(fmt.Sprintf("Unknown authentication method %q: JWT or OIDC", cut(method, 20)))
}

func cut(text string, n int) string {
	if r := []rune(text); len(r) > n {
		return string(r[:n])
	}
	return text
}

func present(names ...*string) (list []string) {
	for _, n := range names {
		if n != nil {
			list = append(list, *n)
		}
	}
	return list
}

func nameIn(names map[string]string, username *string) *string {
	if username == nil {
		return nil
	}
	if name, ok := names[*username]; ok {
		return &name
	}
	return nil
}
