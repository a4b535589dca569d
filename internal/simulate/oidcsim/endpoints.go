package oidcsim

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"html/template"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

func (s *Server) discovery(w http.ResponseWriter, _ *http.Request, issuer string) {
	protocol := issuer + "/protocol/openid-connect"
	answer(w, http.StatusOK, map[string]any{"issuer": issuer, "authorization_endpoint": protocol + "/auth", "token_endpoint": protocol + "/token",
		"jwks_uri": protocol + "/certs", "userinfo_endpoint": protocol + "/userinfo", "end_session_endpoint": protocol + "/logout",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256"}, "code_challenge_methods_supported": []string{"S256"},
		"grant_types_supported":                 []string{"authorization_code", "refresh_token", "password", "client_credentials"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "client_secret_basic"}})
}

func (s *Server) certs(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	newest, err := s.signing()
	shown := s.keys
	if s.retired {
		shown = []signingKey{newest}
	}
	s.mu.Unlock()
	if err != nil {
		refuse(w, http.StatusInternalServerError, "server_error", "no key could be made")
		return
	}
	keys := []map[string]string{}
	for _, k := range shown {
		keys = append(keys, map[string]string{"kid": k.id, "kty": "RSA", "alg": "RS256", "use": "sig",
			"n": base64.RawURLEncoding.EncodeToString(k.key.N.Bytes()),
			"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(k.key.E)).Bytes())})
	}
	answer(w, http.StatusOK, map[string]any{"keys": keys})
}

var loginPage = template.Must(template.New("login").Parse(`<!DOCTYPE html><html lang="fr"><meta charset="utf-8"><title>Connexion</title>
<form method="post"><p><label>Utilisateur <input name="username" list="users" autofocus required></label>
<datalist id="users">{{range .}}<option value="{{.Username}}">{{.FirstName}} {{.LastName}}</option>{{end}}</datalist>
<button>Se connecter</button></p></form></html>
`))

// authorize sends the browser back with a code, at once or after a form that asks for the name.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request, issuer string) {
	query := r.URL.Query()
	client, ok := s.client(query.Get("client_id"))
	redirect := query.Get("redirect_uri")
	if !ok || !client.allows(redirect) || query.Get("response_type") != "code" {
		http.Error(w, "Invalid parameter: client_id, redirect_uri or response_type", http.StatusBadRequest)
		return
	}
	name := s.cfg.AutoLogin
	if r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
		name = r.PostFormValue("username")
	}
	user, ok := s.user(name)
	if !ok {
		w.Header().Set("Content-Type", "text/html;charset=utf-8")
		_ = loginPage.Execute(w, s.cfg.Users) // the browser may be gone
		return
	}
	g := grant{user: user, client: client.ID, redirect: redirect, nonce: query.Get("nonce"), realm: issuer, sid: uuid.NewString(),
		challenge: query.Get("code_challenge"), until: s.cfg.Clock.Now().Add(s.cfg.CodeLifetime)}
	code := uuid.NewString()
	s.mu.Lock()
	s.codes[code] = g
	s.mu.Unlock()
	target, err := url.Parse(redirect)
	if err != nil {
		http.Error(w, "Invalid parameter: redirect_uri", http.StatusBadRequest)
		return
	}
	back := target.Query()
	for key, value := range map[string]string{"state": query.Get("state"), "session_state": g.sid, "iss": issuer, "code": code} {
		if value != "" {
			back.Set(key, value)
		}
	}
	target.RawQuery = back.Encode()
	http.Redirect(w, r, target.String(), http.StatusFound)
}

func (c Client) allows(redirect string) bool {
	return redirect != "" && (len(c.RedirectURIs) == 0 || slices.ContainsFunc(c.RedirectURIs, func(allowed string) bool {
		prefix, wild := strings.CutSuffix(allowed, "*")
		return allowed == redirect || wild && strings.HasPrefix(redirect, prefix)
	}))
}

// token answers the grants of the token endpoint.
func (s *Server) token(w http.ResponseWriter, r *http.Request, issuer string) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
	client, ok := s.authenticate(r)
	if !ok {
		refuse(w, http.StatusUnauthorized, "invalid_client", "Invalid client or Invalid client credentials")
		return
	}
	var g grant
	var why string
	switch r.PostFormValue("grant_type") {
	case "authorization_code":
		g, ok = s.redeem(r, client, issuer)
		why = "Code not valid"
	case "refresh_token":
		g, ok = s.renew(r.PostFormValue("refresh_token"), client, issuer)
		why = "Invalid refresh token"
	case "password":
		g.user, ok = s.user(r.PostFormValue("username"))
		why = "Invalid user credentials"
	case "client_credentials":
		g.user = User{Username: "service-account-" + client.ID}
	default:
		refuse(w, http.StatusBadRequest, "unsupported_grant_type", "Unsupported grant_type")
		return
	}
	if !ok {
		refuse(w, http.StatusBadRequest, "invalid_grant", why)
		return
	}
	g.client = client.ID
	if g.sid == "" {
		g.sid = uuid.NewString()
	}
	tokens, err := s.tokens(issuer, g)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "server_error", "the token could not be signed")
		return
	}
	answer(w, http.StatusOK, tokens)
}

func (s *Server) authenticate(r *http.Request) (Client, bool) {
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	client, ok := s.client(id)
	return client, ok && subtle.ConstantTimeCompare([]byte(client.Secret), []byte(secret)) == 1
}

// redeem takes a code, once: also one that does not fit is spent.
func (s *Server) redeem(r *http.Request, client Client, issuer string) (grant, bool) {
	s.mu.Lock()
	g, ok := s.codes[r.PostFormValue("code")]
	delete(s.codes, r.PostFormValue("code"))
	s.mu.Unlock()
	if !ok || g.client != client.ID || g.redirect != r.PostFormValue("redirect_uri") || s.cfg.Clock.Now().After(g.until) {
		return g, false
	}
	if g.challenge != "" {
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		return g, base64.RawURLEncoding.EncodeToString(sum[:]) == g.challenge
	}
	return g, strings.HasSuffix(g.realm, issuer[strings.LastIndexByte(issuer, '/'):])
}

func (s *Server) renew(refresh string, client Client, issuer string) (grant, bool) {
	claims, err := s.readRefresh(refresh)
	if err != nil || claims["azp"] != client.ID || claims["iss"] != issuer {
		return grant{}, false
	}
	sid, _ := claims["sid"].(string)
	name, _ := claims["sub"].(string)
	s.mu.Lock()
	ended := s.ended[sid]
	s.mu.Unlock()
	user, ok := s.user(name)
	return grant{user: user, sid: sid}, ok && !ended
}

func (s *Server) readRefresh(refresh string) (jwt.MapClaims, error) {
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(refresh, claims, func(*jwt.Token) (any, error) { return s.secret, nil },
		jwt.WithValidMethods([]string{"HS512"}), jwt.WithTimeFunc(s.cfg.Clock.Now), jwt.WithLeeway(max(s.cfg.Skew, -s.cfg.Skew)))
	return claims, err
}

// logout ends the session of a refresh token.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
	if _, ok := s.authenticate(r); !ok {
		refuse(w, http.StatusUnauthorized, "invalid_client", "Invalid client or Invalid client credentials")
		return
	}
	claims, err := s.readRefresh(r.PostFormValue("refresh_token"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "invalid_grant", "Invalid refresh token")
		return
	}
	if sid, ok := claims["sid"].(string); ok {
		s.mu.Lock()
		s.ended[sid] = true
		s.mu.Unlock()
	}
	w.WriteHeader(http.StatusNoContent)
}

// endSession is the browser's logout: there is no session of the browser to end.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request) {
	target := r.URL.Query().Get("post_logout_redirect_uri")
	allowed := slices.ContainsFunc(s.cfg.Clients, func(c Client) bool { return c.allows(target) })
	if target == "" || !allowed {
		answer(w, http.StatusOK, map[string]string{"message": "You are logged out"})
		return
	}
	http.Redirect(w, r, target, http.StatusFound)
}

func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, k := range s.keys {
			if k.id == t.Header["kid"] {
				return &k.key.PublicKey, nil
			}
		}
		return nil, errors.New("unknown key")
	}, jwt.WithValidMethods([]string{"RS256"}), jwt.WithTimeFunc(s.cfg.Clock.Now))
	if err != nil {
		refuse(w, http.StatusUnauthorized, "invalid_token", "Token verification failed")
		return
	}
	shown := map[string]any{}
	for _, key := range []string{"sub", "preferred_username", "given_name", "family_name", "name", "email", "email_verified"} {
		shown[key] = claims[key]
	}
	answer(w, http.StatusOK, shown)
}

func refuse(w http.ResponseWriter, status int, code, description string) {
	answer(w, status, map[string]string{"error": code, "error_description": description})
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the caller may be gone
}
