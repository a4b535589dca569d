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
	Exchange(ctx context.Context, code, redirectURI string) (Pair, string, error)
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
type Service struct{ cfg Config }

// NewService keeps cfg.
func NewService(cfg Config) *Service { return &Service{cfg: cfg} }

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
	now := s.cfg.Clock.Now()
	if err := s.checkLock(ctx, username, now); err != nil {
		return Login{}, err
	}
	user, newHash, ok, err := s.verify(ctx, username, password)
	if err != nil {
		return Login{}, err
	}
	if !ok {
		s.cfg.Log.InfoContext(ctx, "login refused")
		if err := s.cfg.Store.AddFailure(ctx, cut(username, 150), now, now.Add(-s.cfg.LockFor)); err != nil {
			return Login{}, err
		}
		return Login{}, refusedLogin()
	}
	pair, err := s.cfg.Tokens.Issue(user.Username)
	if err != nil {
		return Login{}, err
	}
	return s.signedIn(ctx, user, pair, now, newHash)
}

func (s *Service) checkLock(ctx context.Context, username string, now time.Time) error {
	n, newest, err := s.cfg.Store.Failures(ctx, cut(username, 150), now.Add(-s.cfg.LockFor))
	if err != nil {
		return err
	}
	if n < s.cfg.MaxFailures {
		return nil
	}
	wait := newest.Add(s.cfg.LockFor).Sub(now)
	return fault.Refused{Status: 429, RetryAfter: max(1, int(math.Ceil(wait.Seconds()))),
		Body: map[string]string{"error": "Too many failed attempts: this account is locked for a while."}}
}

// verify checks the password where it is kept. newHash is set when a password stored in the old form must be replaced.
func (s *Service) verify(ctx context.Context, username, password string) (user User, newHash string, ok bool, err error) {
	user, live, err := s.cfg.Store.Live(ctx, username)
	if err != nil {
		return User{}, "", false, err
	}
	if !live {
		s.cfg.Passwords.Waste(password)
		return User{}, "", false, nil
	}
	if s.cfg.Directory != nil {
		ok, err := s.cfg.Directory.Authenticate(ctx, username, password)
		return user, "", ok, err
	}
	if user.Password == nil {
		s.cfg.Passwords.Waste(password)
		return user, "", false, nil
	}
	ok, outdated := s.cfg.Passwords.Check(password, *user.Password)
	if ok && outdated {
		if newHash, err = s.cfg.Passwords.Hash(password); err != nil {
			return User{}, "", false, err
		}
	}
	return user, newHash, ok, nil
}

func (s *Service) signedIn(ctx context.Context, user User, pair Pair, now time.Time, newHash string) (Login, error) {
	if err := s.cfg.Store.SignedIn(ctx, user.Username, now, newHash); err != nil {
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

// ByCode signs in with the code that an identity provider gave to the browser.
func (s *Service) ByCode(ctx context.Context, code, redirectURI string) (Login, error) {
	if s.cfg.Provider == nil {
		return Login{}, fault.Refused{Status: 400, Body: map[string]string{"error": "OIDC authentication is not enabled"}}
	}
	pair, username, err := s.cfg.Provider.Exchange(ctx, code, redirectURI)
	if err != nil {
		return Login{}, err
	}
	user, live, err := s.cfg.Store.Live(ctx, username)
	if err != nil {
		return Login{}, err
	}
	if !live {
		return Login{}, unauthorized("User matching query does not exist.")
	}
	return s.signedIn(ctx, user, pair, s.cfg.Clock.Now(), "")
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
