package identity_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/httpclient"
)

// provider is an identity provider in the test's process, with the paths of Keycloak.
type provider struct {
	*httptest.Server
	mu      sync.Mutex
	keys    map[string]*rsa.PrivateKey
	other   []map[string]string // keys of other kinds in the key set
	raw     string              // answered instead of the key set
	down    bool
	fetches int
	forms   []url.Values
	auth    []string
	status  int    // of token and logout, 200 and 204 when zero
	answer  string // of the token endpoint, instead of a pair
	publish map[string]string
}

// The keys of all tests: making one takes long.
var testKeys = sync.OnceValue(func() (keys []*rsa.PrivateKey) {
	for range 2 {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys = append(keys, k)
	}
	return keys
})

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{keys: map[string]*rsa.PrivateKey{"one": testKeys()[0]}}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *provider) fetched() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetches
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		panic(http.ErrAbortHandler)
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		if p.publish == nil {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(p.publish)
	case "/protocol/openid-connect/certs", "/jwks":
		p.fetches++
		p.writeKeys(w)
	case "/protocol/openid-connect/token", "/token":
		_ = r.ParseForm()
		p.forms = append(p.forms, r.PostForm)
		p.writeTokens(w, r)
	case "/protocol/openid-connect/logout":
		_ = r.ParseForm()
		p.forms, p.auth = append(p.forms, r.PostForm), append(p.auth, r.Header.Get("Authorization"))
		w.WriteHeader(max(p.status, 204))
	default:
		http.NotFound(w, r)
	}
}

func (p *provider) writeKeys(w http.ResponseWriter) {
	if p.raw != "" {
		_, _ = w.Write([]byte(p.raw))
		return
	}
	list := p.other
	for kid, k := range p.keys {
		list = append(list, map[string]string{"kid": kid, "kty": "RSA", "use": "sig", "alg": "RS256",
			"n": base64.RawURLEncoding.EncodeToString(k.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(k.E)).Bytes())})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"keys": list})
}

func (p *provider) writeTokens(w http.ResponseWriter, r *http.Request) {
	if p.status != 0 {
		http.Error(w, `{"error":"invalid_grant"}`, p.status)
		return
	}
	if p.answer != "" {
		_, _ = w.Write([]byte(p.answer))
		return
	}
	username := "alice"
	if r.PostForm.Get("code") == "of-nobody" {
		username = "nobody"
	}
	access := mint(p, p.keys["one"], "one", map[string]any{"preferred_username": username})
	_, _ = fmt.Fprintf(w, `{"access_token":%q,"refresh_token":"refresh"}`, access)
}

// mint signs a token of this provider; a nil value leaves a claim out.
func mint(p *provider, key *rsa.PrivateKey, kid string, change map[string]any) string {
	claims := jwt.MapClaims{"iss": p.URL, "aud": []string{"account", "cohort"}, "typ": "Bearer", "preferred_username": "alice", "azp": "client-1",
		"iat": noon.Unix(), "exp": noon.Add(time.Hour * 24 * 30).Unix()}
	for name, v := range change {
		if v == nil {
			delete(claims, name)
			continue
		}
		claims[name] = v
	}
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	token.Header["kid"] = kid
	text, err := token.SignedString(key)
	if err != nil {
		panic(err)
	}
	return text
}

type oidcBundle struct {
	*identity.OIDC
	provider, extra *provider
	clock           *clock.Fake
}

func oidcSetup(t *testing.T, change func(*identity.OIDCConfig)) oidcBundle {
	t.Helper()
	b := oidcBundle{provider: newProvider(t), extra: newProvider(t), clock: clock.NewFake(noon)}
	cfg := identity.OIDCConfig{Audience: []string{"other", "cohort"}, Algorithms: []string{"RS256", "HS256"}, ExtraIssuers: []string{b.extra.URL}, Servers: []identity.OIDCServer{
		{Issuer: b.provider.URL, ClientID: "client-1", ClientSecret: "secret-1", RedirectURI: "https://front/1"},
		{Issuer: b.provider.URL, ClientID: "client-1", ClientSecret: "secret-1", RedirectURI: "https://front/2"},
		{Issuer: b.provider.URL, ClientID: "client-3", ClientSecret: "secret-3", RedirectURI: "https://front/3"},
	}}
	if change != nil {
		change(&cfg)
	}
	log := slog.New(slog.DiscardHandler)
	client, err := httpclient.New(log, httpclient.Config{})
	require.NoError(t, err)
	t.Cleanup(client.CloseIdle)
	b.OIDC = identity.NewOIDC(cfg, log, client, b.clock)
	return b
}

func TestForeignTokens(t *testing.T) {
	t.Parallel()
	b := oidcSetup(t, nil)
	b.provider.set(func() {
		b.provider.other = []map[string]string{{"kid": "ec", "kty": "EC", "crv": "P-256"}, {"kid": "enc", "kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"},
			{"kid": "broken", "kty": "RSA", "n": "%", "e": "AQAB"}, {"kid": "even", "kty": "RSA", "n": "AQAB", "e": "AQ"}, {"kid": "hmac", "kty": "oct", "k": "c2VjcmV0"}}
	})
	one, two := testKeys()[0], testKeys()[1]
	ours := func(change map[string]any) string { return mint(b.provider, one, "one", change) }
	public, err := json.Marshal(one.PublicKey)
	require.NoError(t, err)
	hmacOfPublicKey := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": b.provider.URL, "aud": "cohort", "preferred_username": "alice", "exp": noon.Add(time.Hour).Unix()})
	hmacOfPublicKey.Header["kid"] = "one"
	confused, err := hmacOfPublicKey.SignedString(public)
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		token    string
		accepted bool
	}{
		"Theirs":              {ours(nil), true},
		"OneAudienceAsAText":  {ours(map[string]any{"aud": "cohort"}), true},
		"AnotherIssuer":       {mint(b.extra, one, "one", nil), true},
		"UnknownIssuer":       {ours(map[string]any{"iss": b.provider.URL + "/evil"}), false},
		"WithoutIssuer":       {ours(map[string]any{"iss": nil}), false},
		"IssuerIsNoText":      {ours(map[string]any{"iss": 5}), false},
		"Expired":             {ours(map[string]any{"exp": noon.Unix()}), false},
		"WithoutEnd":          {ours(map[string]any{"exp": nil}), false},
		"NotYet":              {ours(map[string]any{"nbf": noon.Add(time.Minute).Unix()}), false},
		"MadeInTheFuture":     {ours(map[string]any{"iat": noon.Add(time.Minute).Unix()}), false},
		"ForSomebodyElse":     {ours(map[string]any{"aud": []string{"account"}}), false},
		"ForNobody":           {ours(map[string]any{"aud": nil}), false},
		"AudienceOfNonsense":  {ours(map[string]any{"aud": 7}), false},
		"WithoutUser":         {ours(map[string]any{"preferred_username": nil}), false},
		"IdentityToken":       {ours(map[string]any{"typ": "ID"}), false},
		"RefreshToken":        {ours(map[string]any{"typ": "Refresh"}), false},
		"OfflineToken":        {ours(map[string]any{"typ": "Offline"}), false},
		"UnknownKey":          {mint(b.provider, one, "zero", nil), false},
		"KeyOfAnotherKind":    {mint(b.provider, one, "ec", nil), false},
		"KeyForEncryption":    {mint(b.provider, one, "enc", nil), false},
		"KeyThatIsBroken":     {mint(b.provider, one, "broken", nil), false},
		"AnotherKeysID":       {mint(b.provider, two, "one", nil), false},
		"HMACOfThePublicKey":  {confused, false},
		"AnotherRSAAlgorithm": {sign(t, jwt.SigningMethodRS512, one, jwt.MapClaims{"iss": b.provider.URL, "aud": "cohort", "preferred_username": "alice", "exp": noon.Add(time.Hour).Unix()}), false},
		"Garbage":             {"a.b.c", false},
		"Null":                {"null", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			username, err := b.Username(t.Context(), tt.token)
			if tt.accepted {
				require.NoError(t, err)
				require.Equal(t, "alice", username)
				return
			}
			require.Error(t, err)
			require.Empty(t, username)
		})
	}
}

func TestForeignTokensNeedAnAudienceAndTheirAlgorithm(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*identity.OIDCConfig){
		"NoAudience": func(c *identity.OIDCConfig) { c.Audience = nil }, "NoRS256": func(c *identity.OIDCConfig) { c.Algorithms = []string{"HS256"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := oidcSetup(t, change)
			_, err := b.Username(t.Context(), mint(b.provider, testKeys()[0], "one", nil))
			require.Error(t, err)
		})
	}
}

func TestKeysRotate(t *testing.T) {
	t.Parallel()
	b := oidcSetup(t, nil)
	accepted := func(kid string, key *rsa.PrivateKey) bool {
		_, err := b.Username(t.Context(), mint(b.provider, key, kid, nil))
		return err == nil
	}
	one, two := testKeys()[0], testKeys()[1]
	atOnce(8, func(int) { require.True(t, accepted("one", one)) })
	require.Equal(t, 1, b.provider.fetched(), "many at once wait for one answer")

	b.provider.set(func() { b.provider.keys = map[string]*rsa.PrivateKey{"two": two} })
	for i := range 20 {
		require.False(t, accepted(fmt.Sprint("invented-", i), one))
	}
	require.Equal(t, 1, b.provider.fetched(), "not again so soon")
	b.clock.Advance(31 * time.Second)
	require.True(t, accepted("two", two), "without a restart")
	require.False(t, accepted("one", one), "the old key has gone")
	require.Equal(t, 2, b.provider.fetched())

	b.provider.set(func() { b.provider.down = true })
	b.clock.Advance(2 * time.Hour)
	require.True(t, accepted("two", two), "an outage takes no key away")
	for _, nonsense := range []string{`<html>`, `{"keys": 5}`} {
		b.provider.set(func() { b.provider.down, b.provider.raw = false, nonsense })
		b.clock.Advance(time.Minute)
		require.True(t, accepted("two", two), "nor does nonsense")
	}
	b.provider.set(func() { b.provider.raw, b.provider.keys = "", map[string]*rsa.PrivateKey{"one": one} })
	b.clock.Advance(time.Minute)
	require.False(t, accepted("two", two), "a key that was withdrawn is accepted for an hour at most")
}

func TestAnIssuerThatIsDown(t *testing.T) {
	t.Parallel()
	judge := func(b oidcBundle, kid string, key *rsa.PrivateKey) error {
		_, err := b.Username(t.Context(), mint(b.provider, key, kid, nil))
		return err
	}
	one, two := testKeys()[0], testKeys()[1]
	for name, broken := range map[string]func(*provider){
		"NoAnswer": func(p *provider) { p.down = true }, "Nonsense": func(p *provider) { p.raw = "<html>" }, "NoKeySet": func(p *provider) { p.raw = `{"keys": 5}` },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := oidcSetup(t, nil)
			b.provider.set(func() { broken(b.provider) })
			for range 2 { // the second time it is not even asked
				require.ErrorAs(t, judge(b, "one", one), &fault.Undecided{}, "nothing was ever heard of it")
			}
			b.provider.set(func() { b.provider.down, b.provider.raw = false, "" })
			b.clock.Advance(31 * time.Second)
			require.NoError(t, judge(b, "one", one))
			b.provider.set(func() { broken(b.provider) })
			b.clock.Advance(31 * time.Second)
			requireRefused(t, judge(b, "two", two), "a fresh set decides")
			requireRefused(t, judge(b, "one", two), "a wrong signature is wrong")
			b.clock.Advance(2 * time.Hour)
			require.NoError(t, judge(b, "one", one), "an outage takes no key away")
			requireRefused(t, judge(b, "one", two), "nor does it let anybody in")
			require.ErrorAs(t, judge(b, "two", two), &fault.Undecided{}, "it may have new keys by now")
		})
	}
}

func requireRefused(t *testing.T, err error, why string) {
	t.Helper()
	require.Error(t, err, why)
	require.False(t, errors.As(err, &fault.Undecided{}), why)
}

func TestRequestsWhileAnIssuerIsDown(t *testing.T) {
	t.Parallel()
	o := oidcSetup(t, nil)
	o.provider.set(func() { o.provider.down = true })
	b := sqlite(t, func(c *config) { c.service.Provider, c.auth.OIDC = o.OIDC, o.OIDC })
	alice := b.bearer(mint(o.provider, testKeys()[0], "one", nil), "OIDC")
	a := alice.GET("/me/").Status(503).Is(`{"detail":"The identity provider cannot be reached: try again in a moment."}`)
	require.Equal(t, "30", a.Header.Get("Retry-After"))
	alice.POST("/me/", nil).Status(503)
	require.Empty(t, alice.GET("/open/").Status(200).Object()["user"], "what is open to anybody stays open, and she is nobody there")
	b.bearer("no token", "OIDC").GET("/me/").Status(403)
	b.bearer(mint(o.provider, testKeys()[0], "one", map[string]any{"iss": "https://evil"}), "OIDC").GET("/me/").Status(403).Is(nobody)
	b.by(t, "alice").GET("/me/").Status(200)
}

func TestExchange(t *testing.T) {
	t.Parallel()
	b := oidcSetup(t, nil)
	pair, username, err := b.Exchange(t.Context(), "a code", "https://front/3", "")
	require.NoError(t, err)
	require.Equal(t, "alice", username)
	require.Equal(t, "refresh", pair.Refresh)
	_, _, err = b.Exchange(t.Context(), "a code", "", "a verifier")
	require.NoError(t, err)
	require.Equal(t, []url.Values{
		{"grant_type": {"authorization_code"}, "code": {"a code"}, "client_id": {"client-3"}, "client_secret": {"secret-3"}, "redirect_uri": {"https://front/3"}},
		{"grant_type": {"authorization_code"}, "code": {"a code"}, "client_id": {"client-1"}, "client_secret": {"secret-1"}, "redirect_uri": {"https://front/1"}, "code_verifier": {"a verifier"}},
	}, b.provider.forms)

	_, _, err = b.Exchange(t.Context(), "x", "https://evil", "")
	requireRefusal(t, err, 401, "Unknown redirect_uri")
	require.Len(t, b.provider.forms, 2, "nobody was asked")
	for name, tt := range map[string]struct {
		change func(*provider)
		want   string
	}{
		"Refused":     {func(p *provider) { p.status = 400 }, "Invalid username or password"},
		"OutOfOrder":  {func(p *provider) { p.status = 500 }, "Error issuing tokens: the identity provider answered something else"},
		"Down":        {func(p *provider) { p.down = true }, "Error issuing tokens: the identity provider could not be reached"},
		"NoJSON":      {func(p *provider) { p.answer = "<html>" }, "Error issuing tokens: the identity provider answered something else"},
		"NoToken":     {func(p *provider) { p.answer = "{}" }, "Error issuing tokens: the identity provider answered something else"},
		"OpaqueToken": {func(p *provider) { p.answer = `{"access_token":"opaque"}` }, "Error issuing tokens: the identity provider answered something else"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := oidcSetup(t, nil)
			tt.change(b.provider)
			_, _, err := b.Exchange(t.Context(), "x", "", "")
			requireRefusal(t, err, 401, tt.want)
		})
	}
}

func requireRefusal(t *testing.T, err error, status int, text string) {
	t.Helper()
	var refusal fault.Refused
	require.True(t, errors.As(err, &refusal), "%v", err)
	require.Equal(t, status, refusal.Status)
	require.Equal(t, map[string]string{"error": text}, refusal.Body)
}

func TestEndpointsAreDiscovered(t *testing.T) {
	t.Parallel()
	b := oidcSetup(t, nil)
	b.provider.set(func() {
		b.provider.publish = map[string]string{"issuer": b.provider.URL, "token_endpoint": b.provider.URL + "/token", "jwks_uri": b.provider.URL + "/jwks"}
	})
	_, _, err := b.Exchange(t.Context(), "x", "", "")
	require.NoError(t, err)
	b.provider.set(func() {
		b.provider.publish = map[string]string{"issuer": "https://evil", "token_endpoint": "https://evil/token"}
	})
	b.clock.Advance(time.Hour)
	_, _, err = b.Exchange(t.Context(), "x", "", "")
	require.NoError(t, err, "another issuer's endpoints are not taken")
	_, err = b.Username(t.Context(), mint(b.provider, testKeys()[0], "one", nil))
	require.NoError(t, err)
}

func TestForeignRefreshAndLogout(t *testing.T) {
	t.Parallel()
	b := oidcSetup(t, nil)
	token := func(claims jwt.MapClaims) string { return sign(t, jwt.SigningMethodHS256, []byte("theirs"), claims) }
	mine := token(jwt.MapClaims{"azp": "client-3"})
	pair, err := b.Refresh(t.Context(), mine)
	require.NoError(t, err)
	require.NotEmpty(t, pair.Access)
	require.NoError(t, b.Logout(t.Context(), "the access token", mine))
	require.Equal(t, []url.Values{
		{"grant_type": {"refresh_token"}, "refresh_token": {mine}, "client_id": {"client-3"}, "client_secret": {"secret-3"}},
		{"refresh_token": {mine}, "client_id": {"client-3"}, "client_secret": {"secret-3"}},
	}, b.provider.forms)
	require.Equal(t, []string{"Bearer the access token"}, b.provider.auth)

	for text, wrong := range map[string]string{"The refresh token could not be read": "opaque", "The refresh token is that of an unknown client": token(jwt.MapClaims{"azp": "nobody"}),
		"Token missing azp (client_id)": token(jwt.MapClaims{"azp": 5})} {
		_, err := b.Refresh(t.Context(), wrong)
		requireRefusal(t, err, 400, text)
		requireRefusal(t, b.Logout(t.Context(), "x", wrong), 400, text)
	}
	requireRefusal(t, b.Logout(t.Context(), "x", ""), 400, "Logout request missing `refresh_token`")
	b.provider.set(func() { b.provider.status = 400 })
	_, err = b.Refresh(t.Context(), mine)
	requireRefusal(t, err, 400, "Error refreshing token: the identity provider refuses it")
	requireRefusal(t, b.Logout(t.Context(), "x", mine), 502, "The identity provider could not end the session")
	b.provider.set(func() { b.provider.down = true })
	_, err = b.Refresh(t.Context(), mine)
	requireRefusal(t, err, 400, "Error refreshing token: the identity provider could not be reached")
}

func TestSignInThroughAProvider(t *testing.T) {
	t.Parallel()
	o := oidcSetup(t, nil)
	var logged identity.Caller
	b := sqlite(t, func(c *config) {
		c.service.Provider, c.auth.OIDC = o.OIDC, o.OIDC
		c.logged = func(who identity.Caller) { logged = who }
	})
	anybody := b.With("AuthorizationMethod", "OIDC")
	body := anybody.POST("/auth/login/", map[string]any{"auth_code": "x", "redirect_uri": nil}).Status(200).Object()
	require.Equal(t, "alice", body["user"].(map[string]any)["username"])
	access := body["access_token"].(string)
	require.Equal(t, "alice", b.bearer(access, "OIDC").GET("/me/").Status(200).Object()["user"])
	b.bearer(access, "JWT").GET("/me/").Status(403) // not checked with our secret
	ours, err := b.tokens.Issue("alice")
	require.NoError(t, err)
	b.bearer(ours.Access, "OIDC").GET("/me/").Status(403)
	anybody.POST("/auth/login/", map[string]any{"redirect_uri": ""}).Status(401).Is("{\"error\":\"Missing `'auth_code'`\"}")
	anybody.POST("/auth/login/", map[string]any{"auth_code": "x"}).Status(401).Is("{\"error\":\"Missing `'redirect_uri'`\"}")
	anybody.POST("/auth/login/", map[string]any{"auth_code": "of-nobody", "redirect_uri": ""}).Status(401).Is(`{"error":"User matching query does not exist."}`)
	require.Equal(t, identity.Caller{RealUsername: "nobody"}, logged, "who was refused is known to the request log, and is nobody otherwise")
	b.bearer(access, "OIDC").POST("/auth/logout/", map[string]any{"refresh_token": 5}).Status(400)
}

func TestDirectoryHooks(t *testing.T) {
	t.Parallel()
	var status int
	var answer string
	var got []url.Values
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		got = append(got, r.PostForm)
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		if r.Header.Get("Key-auth") != "key" {
			w.WriteHeader(418)
			return
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(server.Close)
	logged := &lockedBuffer{}
	log := slog.New(slog.NewTextHandler(logged, nil))
	client, err := httpclient.New(log, httpclient.Config{})
	require.NoError(t, err)
	cfg := identity.DirectoryConfig{Log: log, Client: client, URL: server.URL + "/", Token: "key"}
	require.Nil(t, identity.NewDirectory(nil, cfg))
	require.Nil(t, identity.NewDirectory([]string{""}, cfg))
	require.Nil(t, identity.NewPeople(nil, cfg))
	d := identity.NewDirectory([]string{identity.HookAuthenticate}, cfg)
	for code, want := range map[int]string{200: "true <nil>", 401: "false <nil>", 403: "false <nil>", 204: "false <nil>", 500: "false no directory of people could be asked", 0: "false no directory of people could be asked"} {
		status = code
		ok, err := d.Authenticate(context.Background(), "alice", "typed")
		require.Equal(t, want, fmt.Sprint(ok, " ", err), code)
	}
	require.Equal(t, url.Values{"username": {"alice"}, "password": {"typed"}}, got[0])
	require.NotContains(t, logged.String(), "typed")

	unknown := identity.NewDirectory([]string{"my.hook"}, cfg)
	require.Contains(t, logged.String(), "hook improperly configured")
	ok, err := unknown.Authenticate(context.Background(), "alice", "typed")
	require.False(t, ok)
	require.Error(t, err, "nobody gets in, and local passwords do not count")

	people := identity.NewPeople([]string{"other.hook", identity.HookIdentity}, cfg)
	whole := `{"data":{"attributes":{"givenName":"J","sn":"D","cn":"7","mail":"j@x.fr"}}}`
	for body, tt := range map[string]struct {
		code  int
		found bool
	}{whole: {200, true}, whole + " ": {404, false}, whole + "\n": {500, false}, whole + "\t": {0, false}, "<html>": {200, false}, "{}": {200, false},
		`{"data":{"attributes":{"givenName":"J","sn":"D","cn":"7"}}}`: {200, false}, `{"data":{"attributes":{"givenName":"J","sn":"D","cn":"7","mail":5}}}`: {200, false}} {
		status, answer = tt.code, body
		p, found, err := people.Find(context.Background(), "7")
		require.NoError(t, err)
		require.Equal(t, tt.found, found, body)
		if found {
			require.Equal(t, identity.Person{Username: "7", Firstname: "J", Lastname: "D", Email: "j@x.fr"}, p)
		}
	}
}
