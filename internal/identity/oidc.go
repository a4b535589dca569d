package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/httpclient"
)

// OIDCServer is one client of an identity provider; several may differ by their redirect URI alone.
type OIDCServer struct{ Issuer, ClientID, ClientSecret, RedirectURI string }

// OIDCConfig says whose tokens are accepted (system.md 3.5).
type OIDCConfig struct {
	Servers      []OIDCServer
	ExtraIssuers []string // whose tokens are accepted as well, without signing in there
	Audience     []string // one of these must be among a token's; none configured: no token is accepted
	Algorithms   []string // of JWT_ALGORITHMS; without RS256 no token is accepted
}

// OIDC speaks to identity providers: it is Provider and ForeignTokens. Tokens are RS256 only, their keys are fetched from
// the issuer and follow its rotation.
type OIDC struct {
	cfg     OIDCConfig
	log     *slog.Logger
	http    *httpclient.Client
	clock   clock.Clock
	issuers map[string]*issuer
}

// NewOIDC opens nothing: providers are asked when somebody signs in.
func NewOIDC(cfg OIDCConfig, log *slog.Logger, client *httpclient.Client, clk clock.Clock) *OIDC {
	o := &OIDC{cfg: cfg, log: log, http: client, clock: clk, issuers: map[string]*issuer{}}
	urls := slices.Clone(cfg.ExtraIssuers)
	for _, s := range cfg.Servers {
		urls = append(urls, s.Issuer)
	}
	for _, u := range urls {
		o.issuers[u] = newIssuer(u, client, clk)
	}
	return o
}

var _ interface {
	Provider
	ForeignTokens
} = (*OIDC)(nil)

var errForeignToken = errors.New("the token is not accepted")

// notForTheAPI are the values of Keycloak's claim typ for tokens that are no access tokens.
var notForTheAPI = []string{"ID", "Refresh", "Offline", "Logout"}

// Username implements ForeignTokens.
func (o *OIDC) Username(ctx context.Context, token string) (string, error) {
	claims, header, err := unverified(token)
	if err != nil || !slices.Contains(o.cfg.Algorithms, "RS256") {
		return "", errForeignToken
	}
	iss, _ := claims["iss"].(string)
	from, known := o.issuers[iss]
	if !known {
		return "", errForeignToken
	}
	kid, _ := header["kid"].(string)
	verified := jwt.MapClaims{}
	_, err = jwt.ParseWithClaims(token, verified, func(*jwt.Token) (any, error) { return from.key(ctx, kid) },
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer(iss), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithTimeFunc(o.clock.Now))
	if err != nil {
		return "", fmt.Errorf("verify a token: %w", err)
	}
	if kind, _ := verified["typ"].(string); slices.Contains(notForTheAPI, kind) {
		return "", errForeignToken
	}
	audience, err := verified.GetAudience()
	if err != nil || !slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(o.cfg.Audience, a) }) {
		return "", errForeignToken
	}
	return usernameOf(verified, "preferred_username")
}

// unverified reads a token without checking anything.
func unverified(token string) (jwt.MapClaims, map[string]any, error) {
	claims := jwt.MapClaims{}
	parsed, _, err := jwt.NewParser().ParseUnverified(token, claims)
	if err != nil {
		return nil, nil, errForeignToken
	}
	return claims, parsed.Header, nil
}

// Exchange implements Provider: the client is the one whose redirect URI the browser came back to, the first for none.
// verifier is passed on if there is one (PKCE). The username is read without verification: the token came straight from
// its issuer.
func (o *OIDC) Exchange(ctx context.Context, code, redirectURI, verifier string) (Pair, string, error) {
	server, ok := o.serverByRedirect(redirectURI)
	if !ok {
		return Pair{}, "", unauthorized("Unknown redirect_uri")
	}
	form := url.Values{"client_id": {server.ClientID}, "client_secret": {server.ClientSecret}, "redirect_uri": {server.RedirectURI},
		"grant_type": {"authorization_code"}, "code": {code}}
	if verifier != "" {
		form.Set("code_verifier", verifier)
	}
	pair, err := o.tokens(ctx, server, form)
	switch {
	case refusedByProvider(err):
		return Pair{}, "", unauthorized("Invalid username or password")
	case err != nil:
		return Pair{}, "", unauthorized("Error issuing tokens: " + outage(err))
	}
	claims, _, err := unverified(pair.Access)
	if err != nil {
		return Pair{}, "", unauthorized("Error issuing tokens: the identity provider answered something else")
	}
	username, _ := claims["preferred_username"].(string)
	return pair, username, nil
}

// Refresh implements Provider: the client is the one that the refresh token was made for.
func (o *OIDC) Refresh(ctx context.Context, refreshToken string) (Pair, error) {
	server, err := o.serverOf(refreshToken)
	if err != nil {
		return Pair{}, err
	}
	pair, err := o.tokens(ctx, server, url.Values{"client_id": {server.ClientID}, "client_secret": {server.ClientSecret},
		"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}})
	switch {
	case refusedByProvider(err):
		return Pair{}, badRequest("Error refreshing token: the identity provider refuses it")
	case err != nil:
		return Pair{}, badRequest("Error refreshing token: " + outage(err))
	}
	return pair, nil
}

// Logout implements Provider.
func (o *OIDC) Logout(ctx context.Context, accessToken, refreshToken string) error {
	if refreshToken == "" {
		return badRequest("Logout request missing `refresh_token`")
	}
	server, err := o.serverOf(refreshToken)
	if err != nil {
		return err
	}
	where := o.issuers[server.Issuer].endpoints(ctx)
	form := url.Values{"client_id": {server.ClientID}, "client_secret": {server.ClientSecret}, "refresh_token": {refreshToken}}
	req := formRequest("oidc", where.Logout, form)
	req.Header.Set("Authorization", "Bearer "+accessToken)
	if _, err := o.http.Do(ctx, req); err != nil {
		return fault.Refused{Status: http.StatusBadGateway, Body: map[string]string{"error": "The identity provider could not end the session"}}
	}
	return nil
}

func (o *OIDC) serverByRedirect(uri string) (OIDCServer, bool) {
	for _, s := range o.cfg.Servers {
		if uri == "" || s.RedirectURI == uri {
			return s, true
		}
	}
	return OIDCServer{}, false
}

// serverOf is the first client with the id that the token names as its authorized party.
func (o *OIDC) serverOf(refreshToken string) (OIDCServer, error) {
	claims, _, err := unverified(refreshToken)
	if err != nil {
		return OIDCServer{}, badRequest("The refresh token could not be read")
	}
	client, _ := claims["azp"].(string)
	if client == "" {
		return OIDCServer{}, badRequest("Token missing azp (client_id)")
	}
	for _, s := range o.cfg.Servers {
		if s.ClientID == client {
			return s, nil
		}
	}
	return OIDCServer{}, badRequest("The refresh token is that of an unknown client")
}

// tokens asks the token endpoint once.
func (o *OIDC) tokens(ctx context.Context, server OIDCServer, form url.Values) (Pair, error) {
	where := o.issuers[server.Issuer].endpoints(ctx)
	var pair Pair
	if err := o.http.JSON(ctx, formRequest("oidc", where.Token, form), &pair); err != nil {
		return Pair{}, err
	}
	if pair.Access == "" {
		return Pair{}, &httpclient.Error{Reason: httpclient.ReasonMalformed}
	}
	return pair, nil
}

// refusedByProvider tells that the provider answered, and that the answer was no.
func refusedByProvider(err error) bool {
	var e *httpclient.Error
	return errors.As(err, &e) && e.Reason == httpclient.ReasonStatus && e.Status < 500
}

// outage is what users read: never an address or what was sent.
func outage(err error) string {
	var e *httpclient.Error
	if errors.As(err, &e) && (e.Reason == httpclient.ReasonMalformed || e.Reason == httpclient.ReasonStatus) {
		return "the identity provider answered something else"
	}
	return "the identity provider could not be reached"
}

func formRequest(peer, address string, form url.Values) httpclient.Request {
	return httpclient.Request{Peer: peer, Method: http.MethodPost, URL: address, Body: []byte(form.Encode()),
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}
}

// endpoints are where a provider is asked.
type endpoints struct {
	Issuer string `json:"issuer"`
	Token  string `json:"token_endpoint"`
	Logout string `json:"end_session_endpoint"`
	Keys   string `json:"jwks_uri"`
}

// keycloak is where providers are asked that publish nothing else: the paths of Keycloak.
func keycloak(issuer string) endpoints {
	base := strings.TrimSuffix(issuer, "/") + "/protocol/openid-connect/"
	return endpoints{Issuer: issuer, Token: base + "token", Logout: base + "logout", Keys: base + "certs"}
}

// or fills what was not published.
func (e endpoints) or(fallback endpoints) endpoints {
	for _, f := range []struct{ is, otherwise *string }{{&e.Token, &fallback.Token}, {&e.Logout, &fallback.Logout}, {&e.Keys, &fallback.Keys}} {
		if *f.is == "" {
			*f.is = *f.otherwise
		}
	}
	return e
}

// discover asks a provider where it wants to be asked. One that tells nothing sensible is asked at Keycloak's paths: ok is
// false.
func discover(ctx context.Context, client *httpclient.Client, issuer string) (found endpoints, ok bool) {
	resp, err := client.Do(ctx, httpclient.Request{Peer: "oidc", URL: strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration",
		Header: http.Header{"Accept": {"application/json"}}, Timeout: 5 * time.Second, MaxBody: 1 << 20})
	if err != nil || json.Unmarshal(resp.Body, &found) != nil || found.Issuer != issuer {
		return keycloak(issuer), false
	}
	return found.or(keycloak(issuer)), true
}
