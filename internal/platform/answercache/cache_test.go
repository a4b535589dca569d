package answercache_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/answercache"
	"cohortflow/internal/platform/platformtest"
	"cohortflow/internal/platform/web"
)

type bundle struct {
	t      *testing.T
	redis  *redis.Client
	cache  *answercache.Cache
	server *web.Server
	made   int // how often the list was made
	fail   bool
}

func setup(t *testing.T) *bundle {
	t.Helper()
	options, err := redis.ParseURL(platformtest.RedisURL(t))
	require.NoError(t, err)
	b := &bundle{t: t, redis: redis.NewClient(options)}
	t.Cleanup(func() { _ = b.redis.Close() })
	b.cache, err = answercache.New(answercache.Config{Redis: b.redis, Secret: "a secret of tests", Log: platformtest.Log(t),
		User: func(c *gin.Context) string { return c.GetHeader("X-User") }})
	require.NoError(t, err)
	list := func(c *gin.Context) error {
		if b.made++; b.fail {
			return errors.New("broken")
		}
		web.JSON(c, http.StatusOK, map[string]any{"user": c.GetHeader("X-User"), "made": b.made})
		return nil
	}
	none := func(c *gin.Context) error { web.Empty(c, http.StatusNoContent); return nil }
	b.server = web.New(web.Config{Log: platformtest.Log(t), Cache: b.cache.Around}, web.Table{
		{Method: "GET", Path: "/users/", For: web.AnyUser, Do: list},
		{Method: "PATCH", Path: "/users/", For: web.AnyUser, Do: none},
		{Method: "GET", Path: "/cohort/cohorts/", For: web.AnyUser, Do: list},
		{Method: "POST", Path: "/cohort/cohorts/", For: web.AnyUser, Do: func(c *gin.Context) error {
			web.JSON(c, http.StatusCreated, map[string]string{"big": strings.Repeat("x", 10_000)})
			return nil
		}},
		{Method: "GET", Path: "/other/", For: web.AnyUser, Do: list},
	}, web.CacheRoutes(b.cache))
	return b
}

func (b *bundle) ask(user, method, path string) string {
	b.t.Helper()
	req := httptest.NewRequest(method, path, nil)
	req.Header.Set("X-User", user)
	rec := httptest.NewRecorder()
	b.server.ServeHTTP(rec, req)
	return fmt.Sprintf("%d %s", rec.Code, rec.Body.String())
}

func TestKeepsAnswersByUserAndQuestion(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.ask("alice", "GET", "/users/?page=1&search=x")
	require.Equal(t, `200 {"made":1,"user":"alice"}`, first)
	require.Equal(t, first, b.ask("alice", "GET", "/users/?page=1&search=x"))
	require.Contains(t, b.ask("bob", "GET", "/users/?page=1&search=x"), `"made":2,"user":"bob"`)
	// One key in the contract's notation, two questions.
	require.Contains(t, b.ask("alice", "GET", "/users/?page=1.search=x"), `"made":3`)
	require.Contains(t, b.ask("", "GET", "/users/"), `"made":4`)
	require.Contains(t, b.ask("", "GET", "/users/"), `"made":5`, "nobody's answers are not kept")
	require.Contains(t, b.ask("alice", "GET", "/other/"), `"made":6`)
	require.Contains(t, b.ask("alice", "GET", "/other/"), `"made":7`)
	require.Equal(t, `200 ["alice.UserViewSet.list./users/.page=1.search=x","bob.UserViewSet.list./users/.page=1.search=x"]`, b.ask("admin", "GET", "/cache?keys_only=1"))
	require.Contains(t, b.ask("admin", "GET", "/cache?username=bob"), `"bob.UserViewSet.list./users/.page=1.search=x":["{\"made\":2,\"user\":\"bob\"}",200,{"Content-Length"`)
	require.Equal(t, "204 ", b.ask("admin", "DELETE", "/cache?username=bob"))
	require.Contains(t, b.ask("bob", "GET", "/users/?page=1&search=x"), `"made":8`)
	require.Equal(t, first, b.ask("alice", "GET", "/users/?page=1&search=x"), "the others stay")
}

func TestChangesAreSeenAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	users, cohorts := func() string { return b.ask("alice", "GET", "/users/") }, func() string { return b.ask("alice", "GET", "/cohort/cohorts/") }
	require.Contains(t, users(), `"made":1`)
	require.Contains(t, cohorts(), `"made":2`)
	require.Contains(t, b.ask("bob", "POST", "/cohort/cohorts/"), "201")
	require.Contains(t, users(), `"made":1`, "users do not depend on cohorts")
	require.Contains(t, cohorts(), `"made":3`)
	b.ask("bob", "PATCH", "/users/")
	require.Contains(t, users(), `"made":4`)
	require.Contains(t, cohorts(), `"made":5`, "cohorts depend on rights")
	b.cache.Changed(t.Context(), answercache.Cohorts)
	require.Contains(t, cohorts(), `"made":6`)
	require.NoError(t, b.redis.FlushDB(context.WithoutCancel(t.Context())).Err())
	require.Contains(t, cohorts(), `"made":7`)
}

func TestErrorsAreNotKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fail = true
	require.Contains(t, b.ask("alice", "GET", "/users/"), "500")
	b.fail = false
	require.Contains(t, b.ask("alice", "GET", "/users/"), `"made":2`)
}

func TestNothingInRedisCanBeRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ask("planted-user", "GET", "/users/?search=planted-search")
	keys, err := b.redis.Keys(t.Context(), "answers:*").Result()
	require.NoError(t, err)
	require.Len(t, keys, 2, "the generation and the answer")
	for _, key := range keys {
		value, err := b.redis.Get(t.Context(), key).Result()
		require.NoError(t, err)
		require.NotContains(t, key+value, "planted")
		require.NotContains(t, value, "made")
	}
}

func TestWithoutRedis(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.redis.Close())
	require.Contains(t, b.ask("alice", "GET", "/users/"), `"made":1`)
	require.Contains(t, b.ask("alice", "GET", "/users/"), `"made":2`)
	require.Equal(t, "204 ", b.ask("alice", "PATCH", "/users/"))
	require.Equal(t, "200 {}", b.ask("admin", "GET", "/cache"))
}
