package identity

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"cohortflow/internal/platform/clock"
)

// Lifetimes of our own tokens (system.md 3.3).
const (
	AccessLifetime  = 5 * time.Minute
	RefreshLifetime = 24 * time.Hour
)

// Tokens issues and checks our own HS256 tokens (system.md 3.3).
type Tokens struct {
	key     []byte
	enabled bool
	clock   clock.Clock
}

// NewTokens takes the signing key and the accepted algorithms; without HS256 among them no token of ours is accepted.
func NewTokens(key string, algorithms []string, clk clock.Clock) *Tokens {
	return &Tokens{key: []byte(key), enabled: slices.Contains(algorithms, "HS256"), clock: clk}
}

// Pair is what a login or a refresh gives.
type Pair struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// Issue makes a new pair for a user.
func (t *Tokens) Issue(username string) (Pair, error) {
	access, err := t.sign("access", username, AccessLifetime)
	if err != nil {
		return Pair{}, err
	}
	refresh, err := t.sign("refresh", username, RefreshLifetime)
	return Pair{Access: access, Refresh: refresh}, err
}

func (t *Tokens) sign(kind, username string, life time.Duration) (string, error) {
	id, now := uuid.New(), t.clock.Now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"token_type": kind, "username": username, "jti": hex.EncodeToString(id[:]), "iat": now.Unix(), "exp": now.Add(life).Unix(),
	}).SignedString(t.key)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return token, nil
}

// RefusedToken says why a token is not accepted, in the sentence that a refresh shows (system.md 3.7).
type RefusedToken string

func (e RefusedToken) Error() string { return string(e) }

// The reasons for which a token is not accepted.
const (
	ErrInvalidToken RefusedToken = "Token is invalid or expired"
	ErrWrongType    RefusedToken = "Token has wrong type"
)

// Access is the username of a token that opens the API: its token_type is access, or absent (minted elsewhere with the
// shared key).
func (t *Tokens) Access(token string) (username string, err error) {
	claims, err := t.parse(token)
	if err != nil {
		return "", err
	}
	if kind, there := claims["token_type"]; there && kind != "access" {
		return "", ErrWrongType
	}
	return usernameOf(claims, "username")
}

// Refresh is the username of a token that may be exchanged for a new pair.
func (t *Tokens) Refresh(token string) (username string, err error) {
	claims, err := t.parse(token)
	if err != nil {
		return "", err
	}
	if claims["token_type"] != "refresh" {
		return "", ErrWrongType
	}
	return usernameOf(claims, "username")
}

// parse verifies signature, exp (required), nbf and iat without leeway; a token with an audience is not ours.
func (t *Tokens) parse(token string) (jwt.MapClaims, error) {
	if !t.enabled || len(t.key) == 0 {
		return nil, ErrInvalidToken
	}
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return t.key, nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithTimeFunc(t.clock.Now))
	if err != nil {
		return nil, ErrInvalidToken
	}
	if _, there := claims["aud"]; there {
		return nil, ErrInvalidToken
	}
	for _, name := range []string{"sub", "jti"} {
		if v, there := claims[name]; there && v != nil {
			if _, isText := v.(string); !isText {
				return nil, ErrInvalidToken
			}
		}
	}
	return claims, nil
}

func usernameOf(claims jwt.MapClaims, claim string) (string, error) {
	username, _ := claims[claim].(string)
	if username == "" {
		return "", ErrInvalidToken
	}
	return username, nil
}
