package identity_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/fault"
)

func sqlite(t *testing.T, change func(*config)) bundle {
	t.Helper()
	return setup(t, databasetest.SQLite(t), change)
}

func statusOf(err error) int {
	var refusal fault.Refused
	if errors.As(err, &refusal) {
		return refusal.Status
	}
	return 0
}

const nobody = `{"detail":"Authentication credentials were not provided."}`

func TestWhoIsAsking(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, b bundle) {
		pair, err := b.tokens.Issue("alice")
		require.NoError(t, err)
		for name, tt := range map[string]struct {
			authorization, method, referer string
			want                           string // "" for nobody
		}{
			"Ours":               {"Bearer " + pair.Access, "JWT", "", "alice"},
			"SeveralBlanks":      {"Bearer   " + pair.Access, "JWT", "", "alice"},
			"WithoutMethod":      {"Bearer " + pair.Access, "", "", ""},
			"FromTheDocs":        {"Bearer " + pair.Access, "", "http://back.example.org/docs", "alice"},
			"FromElsewhere":      {"Bearer " + pair.Access, "", "http://back.example.org/docs/", ""},
			"MethodInLowerCase":  {"Bearer " + pair.Access, "jwt", "", ""},
			"UnknownMethod":      {"Bearer " + pair.Access, "SAML", "", ""},
			"OIDCThatIsOff":      {"Bearer " + pair.Access, "OIDC", "", ""},
			"RefreshToken":       {"Bearer " + pair.Refresh, "JWT", "", ""},
			"NullOfTheFronts":    {"Bearer null", "JWT", "", ""},
			"AnotherScheme":      {"Basic " + pair.Access, "JWT", "", ""},
			"SchemeInLowerCase":  {"bearer " + pair.Access, "JWT", "", ""},
			"Key":                {"Bearer executor-key", "", "", "query_executor"},
			"KeyAndMethod":       {"Bearer executor-key", "JWT", "", "query_executor"},
			"KeyInUpperCase":     {"Bearer EXECUTOR-KEY", "", "", ""},
			"KeyAndMore":         {"Bearer executor-keyx", "", "", ""},
			"KeyWithoutAccount":  {"Bearer etl-key", "", "", ""},
			"NothingAtAll":       {"", "JWT", "", ""},
			"KeyOfAnotherScheme": {"Basic executor-key", "", "", ""},
		} {
			t.Run(name, func(t *testing.T) {
				c := b.With("Authorization", tt.authorization).With("AuthorizationMethod", tt.method).With("Referer", tt.referer).For(t)
				require.Equal(t, tt.want, c.GET("/open/").Status(200).Object()["user"], "open routes stay open")
				if tt.want == "" {
					c.GET("/me/").Status(403).Is(nobody)
					return
				}
				c.GET("/me/").Status(200)
			})
		}
		for _, malformed := range []string{"Bearer", "Bearer one two", "x"} {
			for _, path := range []string{"/open/", "/me/"} {
				b.With("Authorization", malformed).For(t).GET(path).Status(403).Is(`{"detail":"Authorization header must contain two space-delimited values"}`)
			}
		}
		b.by(t, "gone").GET("/me/").Status(403)
		b.by(t, "nobody").GET("/me/").Status(403)
		b.by(t, "nora").GET("/me/").Status(200)
	})
}

func TestCallers(t *testing.T) {
	t.Parallel()
	b := sqlite(t, nil)
	pair, err := b.tokens.Issue("alice")
	require.NoError(t, err)
	b.bearer(pair.Access, "JWT").GET("/me/").Is(`{"user":"alice","real":"alice","key":"","applicative":"","sealed":"JWTBearer ` + pair.Access + `"}`)
	b.bearer("executor-key", "JWT").GET("/me/").Is(`{"user":"query_executor","real":"query_executor","key":"query_executor","applicative":"query_executor","sealed":""}`)
	own := b.by(t, "query_executor").GET("/me/").Object()
	require.Equal(t, "query_executor", own["applicative"], "the name counts, however it authenticated")
	require.Empty(t, own["key"])
}

func TestTheLastKeyThatMatchesWins(t *testing.T) {
	t.Parallel()
	b := sqlite(t, func(c *config) {
		c.auth.Keys = []identity.Key{{Token: "same", Username: "nora", Machine: identity.Rollout}, {Token: "same", Username: "query_executor", Machine: identity.QueryExecutor}}
	})
	require.Equal(t, "query_executor", b.bearer("same", "").GET("/me/").Object()["user"])
}

func TestImpersonation(t *testing.T) {
	t.Parallel()
	const sentence = `{"detail":"Vous n'avez pas le droit d'impersonnifier un autre utilisateur"}`
	var mu sync.Mutex
	logged := map[identity.Caller]bool{}
	listen := func(c *config) {
		c.logged = func(who identity.Caller) {
			mu.Lock()
			defer mu.Unlock()
			logged[who] = true
		}
	}
	each(t, listen, func(t *testing.T, b bundle) {
		me := b.by(t, "admin").With("X-Impersonate", "alice").GET("/me/").Status(200).Object()
		require.Equal(t, "alice", me["user"])
		require.Equal(t, "admin", me["real"])
		for _, nobody := range []string{"nobody", "gone", "admin"} {
			require.Equal(t, "admin", b.by(t, "admin").With("X-Impersonate", nobody).GET("/me/").Status(200).Object()["user"])
		}
		for _, target := range []string{"admin", "nobody", "alice"} {
			for _, path := range []string{"/open/", "/me/"} {
				b.by(t, "alice").With("X-Impersonate", target).GET(path).Status(403).Is(sentence)
			}
		}
		mu.Lock()
		for _, target := range []string{"admin", "nobody", "alice"} {
			require.True(t, logged[identity.Caller{RealUsername: "alice", RefusedTarget: target}], "the request log is told who was refused")
		}
		mu.Unlock()
		b.With("X-Impersonate", "admin").For(t).GET("/me/").Status(403).Is(nobody)
		require.Empty(t, b.With("X-Impersonate", "admin").For(t).GET("/open/").Status(200).Object()["user"])
		require.Equal(t, "query_executor", b.bearer("executor-key", "").With("X-Impersonate", "admin").For(t).GET("/me/").Object()["user"], "machines impersonate nobody")
	})
}
