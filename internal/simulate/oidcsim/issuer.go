// Package oidcsim is a double of the identity provider, in the manner of Keycloak: realms with discovery, keys that can be
// rotated, codes, tokens and logout (contract: peers.md 8). Simulate serves it; browsers and the product's login speak to
// it. It knows its users by name only and asks for no password: it must never be reachable from outside of the machine.
package oidcsim

import (
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"cohortflow/internal/platform/clock"
)

// User is somebody who can log in.
type User struct{ Username, FirstName, LastName, Email string }

// Client is an application that sends its users here.
type Client struct {
	ID, Secret   string
	RedirectURIs []string // allowed ones, exact or ending in *; none: all
}

// Config is what the double needs. A zero field of the second part takes its default.
type Config struct {
	Clock   clock.Clock
	Users   []User
	Clients []Client

	Realms          []string      // "cohort"
	Audience        []string      // "cohort360", "account"
	AutoLogin       string        // this user is logged in without a question; empty: a form asks who
	AccessLifetime  time.Duration // 5m
	RefreshLifetime time.Duration // 30m
	CodeLifetime    time.Duration // 1m
	Skew            time.Duration // added to the times in tokens: a provider whose clock is wrong
}

// Server is the double; it is an http.Handler.
type Server struct {
	cfg Config
	mux *http.ServeMux

	mu      sync.Mutex
	keys    []signingKey // the newest last; it signs
	secret  []byte       // of refresh tokens
	codes   map[string]grant
	ended   map[string]bool // sessions that were logged out
	retired bool            // only the newest key is shown
}

type signingKey struct {
	id  string
	key *rsa.PrivateKey
}

// grant is what a code stands for.
type grant struct {
	user                    User
	client, redirect, nonce string
	challenge, realm, sid   string
	until                   time.Time
}

// New makes the server. Its first key is made when it is needed: that takes a moment.
func New(cfg Config) (*Server, error) {
	if len(cfg.Realms) == 0 {
		cfg.Realms = []string{"cohort"}
	}
	if len(cfg.Audience) == 0 {
		cfg.Audience = []string{"cohort360", "account"}
	}
	cfg.AccessLifetime = cmp.Or(cfg.AccessLifetime, 5*time.Minute)
	cfg.RefreshLifetime = cmp.Or(cfg.RefreshLifetime, 30*time.Minute)
	cfg.CodeLifetime = cmp.Or(cfg.CodeLifetime, time.Minute)
	s := &Server{cfg: cfg, mux: http.NewServeMux(), codes: map[string]grant{}, ended: map[string]bool{}, secret: make([]byte, 64)}
	if _, err := rand.Read(s.secret); err != nil {
		return nil, fmt.Errorf("simulated OIDC: %w", err)
	}
	for _, realm := range cfg.Realms {
		base := "/realms/" + realm
		protocol := base + "/protocol/openid-connect"
		s.mux.HandleFunc("GET "+base+"/.well-known/openid-configuration", s.in(realm, s.discovery))
		s.mux.HandleFunc("GET "+protocol+"/certs", s.certs)
		s.mux.HandleFunc("GET "+protocol+"/auth", s.in(realm, s.authorize))
		s.mux.HandleFunc("POST "+protocol+"/auth", s.in(realm, s.authorize))
		s.mux.HandleFunc("POST "+protocol+"/token", s.in(realm, s.token))
		s.mux.HandleFunc("GET "+protocol+"/userinfo", s.userinfo)
		s.mux.HandleFunc("POST "+protocol+"/logout", s.logout)
		s.mux.HandleFunc("GET "+protocol+"/logout", s.endSession)
	}
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// RotateKeys makes a new key and signs with it from now on. The old ones are still shown, unless they are retired.
func (s *Server) RotateKeys(retire bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.signing(); err != nil { // else the first use would make the old key after the new one
		return err
	}
	s.retired = retire
	return s.addKey()
}

// signing is the key that signs. The caller holds mu.
func (s *Server) signing() (signingKey, error) {
	if len(s.keys) == 0 {
		if err := s.addKey(); err != nil {
			return signingKey{}, err
		}
	}
	return s.keys[len(s.keys)-1], nil
}

func (s *Server) addKey() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("simulated OIDC: make a key: %w", err)
	}
	s.keys = append(s.keys, signingKey{uuid.NewString(), key})
	return nil
}

// in hands the issuer of the realm, as the caller addresses it, to a handler.
func (s *Server) in(realm string, next func(w http.ResponseWriter, r *http.Request, issuer string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { next(w, r, "http://"+r.Host+"/realms/"+realm) }
}

func (s *Server) client(id string) (Client, bool) {
	for _, c := range s.cfg.Clients {
		if c.ID == id {
			return c, true
		}
	}
	return Client{}, false
}

func (s *Server) user(name string) (User, bool) {
	for _, u := range s.cfg.Users {
		if u.Username == name {
			return u, true
		}
	}
	return User{}, false
}

// tokens answers an access and a refresh token for a session.
func (s *Server) tokens(issuer string, g grant) (map[string]any, error) {
	access, err := s.Mint(issuer, g.client, g.sid, g.user, g.nonce)
	if err != nil {
		return nil, err
	}
	now := s.cfg.Clock.Now().Add(s.cfg.Skew)
	refresh, err := jwt.NewWithClaims(jwt.SigningMethodHS512, jwt.MapClaims{"typ": "Refresh", "azp": g.client, "aud": issuer, "iss": issuer,
		"sub": g.user.Username, "sid": g.sid, "jti": uuid.NewString(), "iat": now.Unix(), "exp": now.Add(s.cfg.RefreshLifetime).Unix()}).SignedString(s.secret)
	if err != nil {
		return nil, fmt.Errorf("simulated OIDC: sign: %w", err)
	}
	return map[string]any{"access_token": access, "refresh_token": refresh, "id_token": access, "token_type": "Bearer", "scope": "openid profile email",
		"expires_in": int(s.cfg.AccessLifetime.Seconds()), "refresh_expires_in": int(s.cfg.RefreshLifetime.Seconds()), "session_state": g.sid}, nil
}

// Mint signs an access token with the newest key (contract: peers.md 8.3).
func (s *Server) Mint(issuer, client, session string, u User, nonce string) (string, error) {
	now := s.cfg.Clock.Now().Add(s.cfg.Skew)
	claims := jwt.MapClaims{"iss": issuer, "aud": append([]string{client}, s.cfg.Audience...), "sub": uuid.NewSHA1(uuid.NameSpaceURL, []byte(u.Username)).String(),
		"typ": "Bearer", "azp": client, "sid": session, "session_state": session, "jti": uuid.NewString(), "acr": "1", "scope": "openid profile email",
		"iat": now.Unix(), "auth_time": now.Unix(), "exp": now.Add(s.cfg.AccessLifetime).Unix(), "email_verified": true,
		"preferred_username": u.Username, "given_name": u.FirstName, "family_name": u.LastName, "name": u.FirstName + " " + u.LastName, "email": u.Email}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	s.mu.Lock()
	key, err := s.signing()
	s.mu.Unlock()
	if err != nil {
		return "", err
	}
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	token.Header["kid"] = key.id
	signed, err := token.SignedString(key.key)
	if err != nil {
		return "", fmt.Errorf("simulated OIDC: sign: %w", err)
	}
	return signed, nil
}
