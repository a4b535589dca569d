package identity_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/clock"
)

func sign(t *testing.T, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, claims).SignedString(key)
	require.NoError(t, err)
	return token
}

func TestTokens(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	key := []byte(signingKey)
	claims := func(change map[string]any) jwt.MapClaims {
		c := jwt.MapClaims{"token_type": "access", "username": "alice", "jti": "x", "iat": noon.Unix(), "exp": noon.Add(time.Minute).Unix()}
		for name, v := range change {
			if v == nil {
				delete(c, name)
				continue
			}
			c[name] = v
		}
		return c
	}
	hs256 := func(change map[string]any) string { return sign(t, jwt.SigningMethodHS256, key, claims(change)) }
	tampered := func() string {
		parts := strings.Split(hs256(nil), ".")
		parts[1] = base64.RawURLEncoding.EncodeToString([]byte(`{"token_type":"access","username":"admin","exp":4102444800}`))
		return strings.Join(parts, ".")
	}
	for name, tt := range map[string]struct {
		token    string
		accepted bool
	}{
		"Ours":                      {hs256(nil), true},
		"WithoutType":               {hs256(map[string]any{"token_type": nil}), true},
		"WithoutIDAndIssueTime":     {hs256(map[string]any{"jti": nil, "iat": nil}), true},
		"RefreshToken":              {hs256(map[string]any{"token_type": "refresh"}), false},
		"TypeNull":                  {sign(t, jwt.SigningMethodHS256, key, jwt.MapClaims{"token_type": 7, "username": "alice", "exp": noon.Add(time.Minute).Unix()}), false},
		"Expired":                   {hs256(map[string]any{"exp": noon.Add(-time.Second).Unix()}), false},
		"ExpiresNow":                {hs256(map[string]any{"exp": noon.Unix()}), false},
		"WithoutEnd":                {hs256(map[string]any{"exp": nil}), false},
		"EndIsNoNumber":             {hs256(map[string]any{"exp": "tomorrow"}), false},
		"NotYet":                    {hs256(map[string]any{"nbf": noon.Add(time.Second).Unix()}), false},
		"MadeInTheFuture":           {hs256(map[string]any{"iat": noon.Add(time.Second).Unix()}), false},
		"ForAnAudience":             {hs256(map[string]any{"aud": "cohort360"}), false},
		"ForAnEmptyAudience":        {hs256(map[string]any{"aud": ""}), false},
		"WithoutUser":               {hs256(map[string]any{"username": nil}), false},
		"UserIsNoText":              {hs256(map[string]any{"username": 5}), false},
		"SubjectIsNoText":           {hs256(map[string]any{"sub": 5}), false},
		"IDIsNoText":                {hs256(map[string]any{"jti": 5}), false},
		"AnotherKey":                {sign(t, jwt.SigningMethodHS256, []byte("another"), claims(nil)), false},
		"AnotherHMAC":               {sign(t, jwt.SigningMethodHS384, key, claims(nil)), false},
		"RS256":                     {sign(t, jwt.SigningMethodRS256, rsaKey, claims(nil)), false},
		"AlgorithmNone":             {sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(nil)), false},
		"RS256NamedButSignedByHMAC": {confused(t, claims(nil)), false},
		"Tampered":                  {tampered(), false},
		"NoToken":                   {"null", false},
		"Garbage":                   {"a.b.c", false},
		"Huge":                      {strings.Repeat("a", 1<<20), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tokens := identity.NewTokens(signingKey, []string{"RS256", "HS256"}, clock.NewFake(noon))
			username, err := tokens.Access(tt.token)
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

// confused is a token whose header says RS256 and whose signature is the HMAC of our secret.
func confused(t *testing.T, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	token.Header["alg"] = "RS256"
	text, err := token.SigningString()
	require.NoError(t, err)
	signature, err := jwt.SigningMethodHS256.Sign(text, []byte(signingKey))
	require.NoError(t, err)
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func TestTokensNeedTheirAlgorithmAndAKey(t *testing.T) {
	t.Parallel()
	clk := clock.NewFake(noon)
	pair, err := identity.NewTokens(signingKey, []string{"HS256"}, clk).Issue("alice")
	require.NoError(t, err)
	_, err = identity.NewTokens(signingKey, []string{"RS256"}, clk).Access(pair.Access)
	require.ErrorIs(t, err, identity.ErrInvalidToken)
	_, err = identity.NewTokens("", []string{"HS256"}, clk).Access(sign(t, jwt.SigningMethodHS256, []byte{}, jwt.MapClaims{"username": "alice", "exp": noon.Add(time.Hour).Unix()}))
	require.ErrorIs(t, err, identity.ErrInvalidToken, "an empty key verifies nothing")
}

func TestPairs(t *testing.T) {
	t.Parallel()
	clk := clock.NewFake(noon)
	tokens := identity.NewTokens(signingKey, []string{"HS256"}, clk)
	first, err := tokens.Issue("alice")
	require.NoError(t, err)
	second, err := tokens.Issue("alice")
	require.NoError(t, err)
	require.NotEqual(t, first, second, "each token has an id of its own")
	_, err = tokens.Refresh(first.Access)
	require.ErrorIs(t, err, identity.ErrWrongType)
	_, err = tokens.Access(first.Refresh)
	require.ErrorIs(t, err, identity.ErrWrongType)
	clk.Advance(5*time.Minute - time.Second)
	_, err = tokens.Access(first.Access)
	require.NoError(t, err)
	clk.Advance(time.Second)
	_, err = tokens.Access(first.Access)
	require.ErrorIs(t, err, identity.ErrInvalidToken)
	clk.Advance(24*time.Hour - 5*time.Minute - time.Second)
	username, err := tokens.Refresh(first.Refresh)
	require.NoError(t, err)
	require.Equal(t, "alice", username)
	clk.Advance(time.Second)
	_, err = tokens.Refresh(first.Refresh)
	require.ErrorIs(t, err, identity.ErrInvalidToken)
}
