package platformtest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// recorder is a test whose end and failure can be looked at.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	cleanups []func()
	failure  string
	lines    []string
}

func (r *recorder) Helper()           {}
func (r *recorder) Cleanup(do func()) { r.cleanups = append(r.cleanups, do) }

func (r *recorder) Log(args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprint(args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

// run gives do a goroutine of its own, which a failure may end.
func (r *recorder) run(do func(t testing.TB)) {
	done := make(chan struct{})
	go func() { defer close(done); do(r) }()
	<-done
}

func (r *recorder) end() {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
	r.cleanups = nil
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// databases counts those whose name matches the pattern.
func databases(t *testing.T, pattern string) (n int) {
	t.Helper()
	base := connect(t, PostgresURL(t))
	require.NoError(t, base.QueryRow(t.Context(), "SELECT count(*) FROM pg_database WHERE datname LIKE $1", pattern).Scan(&n))
	return n
}

func TestServer(t *testing.T) {
	t.Parallel()
	t.Run("FailsWithoutOneAndSaysHowToGetIt", func(t *testing.T) {
		t.Parallel()
		r := &recorder{TB: t}
		r.run(func(t testing.TB) { server(t, func(string) (string, bool) { return "", false }, "TEST_REDIS_URL") })
		require.Contains(t, r.failure, "TEST_REDIS_URL")
		require.Contains(t, r.failure, "make test")
	})
	t.Run("MistakesDoNotTellThePassword", func(t *testing.T) {
		t.Parallel()
		for _, use := range []func(t testing.TB){
			func(t testing.TB) { leaseRedis(t, "nonsense://:secret@host/%zz") },
			func(t testing.TB) { newDatabase(t, "postgres://u:secret@ho%zzst", "template1") },
		} {
			r := &recorder{TB: t}
			r.run(use)
			require.NotEmpty(t, r.failure)
			require.NotContains(t, r.failure, "secret")
		}
	})
}

func TestPostgresURL(t *testing.T) {
	t.Parallel()
	t.Run("IsEmptyAndOnesOwn", func(t *testing.T) {
		t.Parallel()
		for range 2 {
			_, err := connect(t, PostgresURL(t)).Exec(t.Context(), "CREATE TABLE folder (id int)")
			require.NoError(t, err)
		}
	})
	t.Run("IsDroppedAtTheEndWhateverIsStillConnected", func(t *testing.T) {
		t.Parallel()
		r := &recorder{TB: t}
		var url string
		r.run(func(t testing.TB) { url = PostgresURL(t) })
		conn := connect(t, url)
		r.end()
		require.Error(t, conn.Ping(t.Context()))
		_, err := pgx.Connect(t.Context(), url)
		require.ErrorContains(t, err, "does not exist")
	})
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T, hash string) (Template, *atomic.Int32) {
		t.Helper()
		builds := &atomic.Int32{}
		// A name of its own: the server may be used by several test processes, and again.
		unique := nameFor("")[len("test__"):]
		return Template{Name: unique, Hash: hash, Build: func(ctx context.Context, url string) error {
			builds.Add(1)
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				return err
			}
			defer conn.Close(ctx)
			_, err = conn.Exec(ctx, "CREATE TABLE folder (id int); INSERT INTO folder VALUES (7)")
			return err
		}}, builds
	}
	forget := func(t *testing.T, tmpl Template) {
		name, err := tmpl.database()
		require.NoError(t, err)
		base := PostgresURL(t)
		t.Cleanup(func() { // runs before the one of base
			err := onServer(context.Background(), base, func(c *pgx.Conn) error { return drop(context.Background(), c, name) })
			if err != nil {
				t.Errorf("drop the template: %v", err)
			}
		})
	}
	t.Run("IsBuiltOnceForAllAndCopied", func(t *testing.T) {
		t.Parallel()
		tmpl, builds := setup(t, "A1")
		forget(t, tmpl)
		var copies sync.WaitGroup
		urls := make([]string, 8)
		for i := range urls {
			copies.Go(func() { urls[i] = tmpl.PostgresURL(t) })
		}
		copies.Wait()
		require.EqualValues(t, 1, builds.Load())
		for _, url := range urls {
			require.NotEmpty(t, url)
			changed, err := connect(t, url).Exec(t.Context(), "DELETE FROM folder WHERE id = 7")
			require.NoError(t, err)
			require.EqualValues(t, 1, changed.RowsAffected(), "every copy has its own row")
		}
	})
	t.Run("OfAnotherHashIsAnother", func(t *testing.T) {
		t.Parallel()
		tmpl, builds := setup(t, "1")
		forget(t, tmpl)
		tmpl.PostgresURL(t)
		tmpl.Hash = "2"
		forget(t, tmpl)
		tmpl.PostgresURL(t)
		require.EqualValues(t, 2, builds.Load())
	})
	t.Run("ThatCannotBeBuiltFailsAndIsTriedAgain", func(t *testing.T) {
		t.Parallel()
		tmpl, builds := setup(t, "1")
		forget(t, tmpl)
		broken := tmpl
		broken.Build = func(context.Context, string) error { return errors.New("no such column") }
		r := &recorder{TB: t}
		r.run(func(t testing.TB) { broken.PostgresURL(t) })
		require.Contains(t, r.failure, "no such column")
		require.Zero(t, databases(t, "template_"+tmpl.Name+"%"))
		tmpl.PostgresURL(t)
		require.EqualValues(t, 1, builds.Load())
	})
	t.Run("RefusesWhatCannotBeKept", func(t *testing.T) {
		t.Parallel()
		whole, _ := setup(t, "1")
		for name, spoil := range map[string]func(*Template){
			"no name":   func(tmpl *Template) { tmpl.Name = "" },
			"long name": func(tmpl *Template) { tmpl.Name = strings.Repeat("n", 60) },
			"no hash":   func(tmpl *Template) { tmpl.Hash = "" },
			"no build":  func(tmpl *Template) { tmpl.Build = nil },
		} {
			spoiled := whole
			spoil(&spoiled)
			_, err := spoiled.database()
			require.Error(t, err, name)
		}
	})
}

func TestRedisURL(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T, url string) *redis.Client {
		t.Helper()
		options, err := redis.ParseURL(url)
		require.NoError(t, err)
		client := redis.NewClient(options)
		t.Cleanup(func() { _ = client.Close() })
		return client
	}
	t.Run("IsEmptyAndOnesOwn", func(t *testing.T) {
		t.Parallel()
		seen := map[string]bool{}
		for range 20 {
			url := RedisURL(t)
			require.False(t, seen[url], "%d databases later", len(seen))
			seen[url] = true
			client := open(t, url)
			require.Zero(t, client.DBSize(t.Context()).Val())
			require.NoError(t, client.Set(t.Context(), "key", "value", 0).Err())
		}
	})
	t.Run("IsEmptiedAndGivenBackAtTheEnd", func(t *testing.T) {
		t.Parallel()
		r := &recorder{TB: t}
		var url string
		r.run(func(t testing.TB) { url = RedisURL(t) })
		client := open(t, url)
		require.NotZero(t, client.Options().DB, "the leases are in database 0")
		require.NoError(t, client.Set(t.Context(), "key", "value", 0).Err())
		leases := open(t, withNumber(url, 0))
		key := leaseKey(client.Options().DB)
		require.EqualValues(t, 1, leases.Exists(t.Context(), key).Val())
		r.end()
		require.Zero(t, client.DBSize(t.Context()).Val())
		require.Zero(t, leases.Exists(t.Context(), key).Val())
	})
	t.Run("OnlyTheOwnerGivesBack", func(t *testing.T) {
		t.Parallel()
		client := open(t, RedisURL(t)) // leases of a world of its own
		number, err := lease(t.Context(), client, "first")
		require.NoError(t, err)
		require.NoError(t, giveBack(t.Context(), client, "second", number))
		require.EqualValues(t, 1, client.Exists(t.Context(), leaseKey(number)).Val())
		require.NoError(t, giveBack(t.Context(), client, "first", number))
		require.Zero(t, client.Exists(t.Context(), leaseKey(number)).Val())
	})
	t.Run("SaysWhenAllAreTaken", func(t *testing.T) {
		t.Parallel()
		client := open(t, RedisURL(t))
		for number := 1; number < 512; number++ {
			require.NoError(t, client.Set(t.Context(), leaseKey(number), "another", 0).Err())
		}
		ctx, cancel := context.WithCancel(t.Context())
		var attempts atomic.Int32
		client.AddHook(cancelAfter{1000, &attempts, cancel})
		_, err := lease(ctx, client, "late")
		require.ErrorIs(t, err, context.Canceled)
	})
}

// cancelAfter ends a context after so many commands.
type cancelAfter struct {
	limit    int32
	commands *atomic.Int32
	cancel   context.CancelFunc
}

func (h cancelAfter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h cancelAfter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h cancelAfter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.commands.Add(1) == h.limit {
			h.cancel()
		}
		return next(ctx, cmd)
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	log := Log(r)
	log.Debug("claimed", "task", 7)
	r.end()
	log.Error("late")
	require.Len(t, r.lines, 1)
	require.Contains(t, r.lines[0], "claimed task=7")
}

func TestReceive(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fill    func(c chan string)
		want    string
		failure string
	}{
		"WhatIsThere": {fill: func(c chan string) { c <- "x" }, want: "x"},
		"Closed":      {fill: func(c chan string) { close(c) }},
		"Nothing":     {fill: func(chan string) {}, failure: "waited in vain: for this"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, r, got := make(chan string, 1), &recorder{TB: t}, ""
			tt.fill(from)
			r.run(func(t testing.TB) { got = receive(t, from, "for this", time.Millisecond) })
			require.Equal(t, tt.want, got)
			require.Equal(t, tt.failure, r.failure)
		})
	}
	require.Equal(t, 1, Receive(t, filled(1), "for this"))
}

// filled is a channel with one value in it.
func filled[T any](v T) <-chan T {
	c := make(chan T, 1)
	c <- v
	return c
}
