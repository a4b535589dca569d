package identity_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const refused = `{"error":"Invalid username or password!"}`

func TestLogin(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, b bundle) {
		b.clock.Advance(123 * time.Millisecond)
		a := b.login(t, " alice ", "alice\n").Status(200)
		body := a.Object()
		require.Equal(t, "2026-11-24T12:00:00.123Z", body["last_login"])
		require.Equal(t, map[string]any{"username": "alice", "firstname": "Alice", "lastname": "MARTIN", "email": "alice@example.org",
			"display_name": "Alice MARTIN (alice)", "created_by": "Ada ADMIN (admin)", "updated_by": nil}, body["user"])
		username, err := b.tokens.Access(body["access_token"].(string))
		require.NoError(t, err)
		require.Equal(t, "alice", username)

		stored := b.password(t, "alice")
		require.Regexp(t, `^\$argon2id\$`, stored, "hashed anew at the first login")
		b.login(t, "alice", "alice").Status(200)
		require.Equal(t, stored, b.password(t, "alice"), "and only then")
		u, _, err := b.store.Live(t.Context(), "alice")
		require.NoError(t, err)
		require.Equal(t, b.clock.Now(), u.LastLogin.UTC())

		for name, password := range map[string]string{"alice": "Alice", "ALICE": "alice", "nora": "None", "gone": "alice", "nobody": "x", "o'brien\" --": "x"} {
			require.Empty(t, b.login(t, name, password).Status(401).Is(refused).Header.Get("WWW-Authenticate"))
		}
		require.NotContains(t, b.logged.String(), "alice", "names stay out of the log")
	})
}

func TestLoginAsAFormOrWithoutMeaning(t *testing.T) {
	t.Parallel()
	b := sqlite(t, nil)
	jwt := b.With("AuthorizationMethod", "JWT")
	jwt.Text("POST", "/auth/login/", "application/x-www-form-urlencoded", "username=alice&password=alice").Status(200)
	jwt.Text("POST", "/auth/login/", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\nalice\r\n--x\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\nalice\r\n--x--\r\n").Status(200)
	jwt.Text("POST", "/auth/login/", "application/x-www-form-urlencoded", "username=a%FF&password=x").Status(401)
	jwt.POST("/auth/login/", map[string]any{"username": "a\x00", "password": "x"}).Status(400)
	jwt.POST("/auth/login/", map[string]any{}).Status(400).Is(`{"username":["This field is required."],"password":["This field is required."]}`)
	jwt.POST("/auth/login/", map[string]any{"username": " ", "password": nil}).Status(400).Is(`{"username":["This field may not be blank."],"password":["This field may not be null."]}`)
	b.POST("/auth/login/", map[string]any{"username": "alice", "password": "alice"}).Status(400)
	b.With("AuthorizationMethod", "SAML").POST("/auth/login/", map[string]any{"username": "alice", "password": "alice"}).Status(400)
	b.With("AuthorizationMethod", "OIDC").POST("/auth/login/", map[string]any{"auth_code": "x", "redirect_uri": ""}).Status(400)
	b.bearer("not-a-token", "JWT").POST("/auth/login/", map[string]any{"username": "alice", "password": "alice"}).Status(200)
	jwt.With("Authorization", "a b c").POST("/auth/login/", map[string]any{"username": "alice", "password": "alice"}).Status(200)
	b.PATCH("/auth/login/", nil).Status(405)
}

func TestLegacyHashingKeepsTheOldForm(t *testing.T) {
	t.Parallel()
	b := sqlite(t, func(c *config) { c.service.Passwords.Legacy = true })
	before := b.password(t, "alice")
	b.login(t, "alice", "alice").Status(200)
	require.Equal(t, before, b.password(t, "alice"))
}

func TestFirstLoginsAtOnceLeaveAPasswordThatWorks(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, b bundle) {
		atOnce(4, func(int) { b.login(t, "alice", "alice") })
		require.Regexp(t, `^\$argon2id\$`, b.password(t, "alice"))
		b.clock.Advance(time.Hour)
		b.login(t, "alice", "alice").Status(200)
	})
}

func TestLockOut(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, b bundle) {
		for _, name := range []string{"alice", "nobody"} {
			for range 5 {
				b.login(t, name, "guess").Status(401).Is(refused)
			}
			for _, password := range []string{"guess", "alice"} {
				a := b.login(t, name, password).Status(429)
				require.Equal(t, "900", a.Header.Get("Retry-After"))
			}
		}
		b.login(t, "nora", "x").Status(401)
		b.clock.Advance(15*time.Minute - time.Second)
		require.Equal(t, "1", b.login(t, "alice", "alice").Status(429).Header.Get("Retry-After"), "a refused attempt does not prolong the lock")
		b.clock.Advance(time.Second)
		b.login(t, "alice", "alice").Status(200)

		for range 3 { // a success forgets
			for range 4 {
				b.login(t, "alice", "guess").Status(401)
			}
			b.login(t, "alice", "alice").Status(200)
		}
		b.clock.Advance(time.Hour)
		n, err := b.store.ForgetFailures(t.Context(), b.clock.Now().Add(-15*time.Minute))
		require.NoError(t, err)
		require.Positive(t, n)
	})
}

func TestManyGuessesAtOnceAreNoMoreThanOneAfterAnother(t *testing.T) {
	t.Parallel()
	each(t, func(c *config) { c.service.Passwords.Legacy = true }, func(t *testing.T, b bundle) {
		var mu sync.Mutex
		codes := map[int]int{}
		atOnce(20, func(i int) {
			_, err := b.service.ByPassword(context.Background(), "nora", "guess"+strconv.Itoa(i))
			mu.Lock()
			defer mu.Unlock()
			codes[statusOf(err)]++
		})
		require.Equal(t, map[int]int{401: 5, 429: 15}, codes)
	})
}

func atOnce(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// directory is a service of the hospital that knows alice by another password.
type directory struct{ err error }

func (d directory) Authenticate(_ context.Context, username, password string) (bool, error) {
	return username == "alice" && password == "typed", d.err
}

func TestADirectoryReplacesLocalPasswords(t *testing.T) {
	t.Parallel()
	b := sqlite(t, func(c *config) { c.service.Directory = directory{} })
	before := b.password(t, "alice")
	b.login(t, "alice", "typed").Status(200)
	b.login(t, "alice", "alice").Status(401).Is(refused)
	b.login(t, "gone", "typed").Status(401).Is(refused)
	require.Equal(t, before, b.password(t, "alice"))
}

func TestADirectoryThatIsDownLocksNobodyOut(t *testing.T) {
	t.Parallel()
	b := sqlite(t, func(c *config) { c.service.Directory = directory{err: errors.New("password typed is down")} })
	for range 7 {
		b.login(t, "alice", "typed").Status(401).Is(refused)
	}
	require.NotContains(t, b.logged.String(), "typed")
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	b := sqlite(t, nil)
	pair, err := b.tokens.Issue("alice")
	require.NoError(t, err)
	refresh := func(token any) map[string]any { return map[string]any{"refresh_token": token} }
	jwt := b.With("AuthorizationMethod", "JWT")
	fresh := jwt.POST("/auth/refresh/", refresh(pair.Refresh)).Status(200).Object()
	require.NotEqual(t, pair.Access, fresh["access_token"])
	b.bearer(fresh["access_token"].(string), "JWT").GET("/me/").Status(200)
	jwt.POST("/auth/refresh/", refresh(pair.Refresh)).Status(200) // the old one ends at its own time
	b.bearer("null", "JWT").POST("/auth/refresh/", refresh(pair.Refresh)).Status(200)

	for _, wrong := range []any{nil, 12, "", []string{"x"}} {
		jwt.POST("/auth/refresh/", refresh(wrong)).Status(400)
	}
	jwt.POST("/auth/refresh/", nil).Status(400)
	jwt.POST("/auth/refresh/", refresh("garbage")).Status(400).Is(`{"error":"Token is invalid or expired"}`)
	jwt.POST("/auth/refresh/", refresh(pair.Access)).Status(400).Is(`{"error":"Token has wrong type"}`)
	for _, method := range []string{"", "SAML", "OIDC"} {
		b.With("AuthorizationMethod", method).POST("/auth/refresh/", refresh(pair.Refresh)).Status(400)
	}
	gone, err := b.tokens.Issue("gone")
	require.NoError(t, err)
	jwt.POST("/auth/refresh/", refresh(gone.Refresh)).Status(400)
	b.by(t, "alice").GET("/auth/refresh/").Status(405)
}

func TestLogout(t *testing.T) {
	t.Parallel()
	b := sqlite(t, nil)
	for _, a := range []interface{ Cookies() []string }{
		cookies(b.by(t, "alice").POST("/auth/logout/", map[string]string{"refresh_token": "whatever"}).Status(200).Is(`{}`).Header),
		cookies(b.by(t, "alice").POST("/auth/logout/", nil).Status(200).Header),
		cookies(b.POST("/auth/logout/", nil).Status(403).Header),
		cookies(b.by(t, "alice").GET("/auth/logout/").Status(405).Header),
	} {
		require.Len(t, a.Cookies(), 2)
		for _, text := range a.Cookies() {
			require.Regexp(t, `^(csrftoken|sessionid)=; .*Max-Age=0`, text)
		}
	}
	require.Empty(t, b.by(t, "alice").GET("/me/").Header.Values("Set-Cookie"))
}

type cookies map[string][]string

func (c cookies) Cookies() []string { return c["Set-Cookie"] }
