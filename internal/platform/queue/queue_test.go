package queue_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"cohortflow/internal/platform/platformtest"
	"cohortflow/internal/platform/queue"
)

func TestMain(m *testing.M) {
	// go-redis's subscriptions end on their own, a while after they are closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9.(*channel).initMsgChan.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9.(*channel).initHealthCheck.func1"))
}

// each runs a test on a real Redis and on the embedded one.
func each(t *testing.T, test func(t *testing.T, open func() *queue.Client)) {
	t.Helper()
	t.Run("Redis", func(t *testing.T) {
		t.Parallel()
		url := platformtest.RedisURL(t)
		test(t, func() *queue.Client { return client(t, queue.Config{URL: url}) })
	})
	t.Run("Embedded", func(t *testing.T) {
		t.Parallel()
		embedded := queue.NewEmbedded()
		require.NoError(t, embedded.Start(t.Context()))
		t.Cleanup(func() { require.NoError(t, embedded.Stop(context.Background())) })
		test(t, func() *queue.Client { return client(t, queue.Config{Embedded: embedded}) })
	})
}

func client(t *testing.T, cfg queue.Config) *queue.Client {
	t.Helper()
	cfg.Queues, cfg.Log = []string{"high", "low"}, platformtest.Log(t)
	c, err := queue.Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func serve(t *testing.T, c *queue.Client, run func(ctx context.Context, task, wake string)) *queue.Server {
	t.Helper()
	s, err := queue.NewServer(c, queue.ServerConfig{Queues: []string{"high", "low"}, Concurrency: 4})
	require.NoError(t, err)
	require.NoError(t, s.Serve(run))
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	return s
}

func TestWakeUpsArriveOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, open func() *queue.Client) {
		c := open()
		w := queue.WakeUp{ID: "task:0", Name: "count.launch", Queue: "low", Task: "task"}
		fresh, err := c.Enqueue(t.Context(), w)
		require.NoError(t, err)
		require.True(t, fresh)
		fresh, err = c.Enqueue(t.Context(), w)
		require.NoError(t, err, "one that waits already is as good")
		require.False(t, fresh)
		got := make(chan [2]string, 10)
		serve(t, c, func(_ context.Context, task, wake string) { got <- [2]string{task, wake} })
		require.Equal(t, [2]string{"task", "task:0"}, platformtest.Receive(t, got, "the wake-up arrives"))
		require.Eventually(t, func() bool {
			fresh, err = c.Enqueue(t.Context(), w)
			return err == nil && fresh
		}, platformtest.Patience, 5*time.Millisecond, "after its run the id is free")
		c.Nudge()
		require.Equal(t, [2]string{"task", "task:0"}, platformtest.Receive(t, got, "the wake-up arrives"))
	})
}

func TestAPanickingRunIsNotRetried(t *testing.T) {
	t.Parallel()
	c := client(t, queue.Config{URL: platformtest.RedisURL(t)})
	var runs atomic.Int32
	got := make(chan string, 10)
	serve(t, c, func(_ context.Context, task, _ string) {
		runs.Add(1)
		got <- task
		panic("a mistake")
	})
	for _, id := range []string{"a", "b", "c"} {
		_, err := c.Enqueue(t.Context(), queue.WakeUp{ID: id, Name: "n", Queue: "high", Task: id})
		require.NoError(t, err)
		c.Nudge()
		require.Equal(t, id, platformtest.Receive(t, got, "the wake-up arrives"))
	}
	require.Eventually(t, func() bool { // one that is to be run again keeps its id meanwhile
		fresh, err := c.Enqueue(t.Context(), queue.WakeUp{ID: "a", Name: "n", Queue: "high", Task: "again"})
		return err == nil && fresh
	}, platformtest.Patience, 5*time.Millisecond, "it is over")
	c.Nudge()
	require.Equal(t, "again", platformtest.Receive(t, got, "the wake-up arrives"))
	require.Equal(t, int32(4), runs.Load())
}

func TestANudgeOfAnotherProcessArrives(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, open func() *queue.Client) {
		api, worker := open(), open() // two clients share nothing but Redis
		got := make(chan string, 100)
		serve(t, worker, func(_ context.Context, task, _ string) { got <- task })
		for i := range 20 {
			id := string(rune('a' + i))
			_, err := api.Enqueue(t.Context(), queue.WakeUp{ID: id, Name: "n", Queue: "high", Task: id})
			require.NoError(t, err)
			api.Nudge()
			require.Equal(t, id, platformtest.Receive(t, got, "the wake-up arrives"))
		}
	})
}

func TestQuietTakesNothingMore(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, open func() *queue.Client) {
		c := open()
		release, begun := make(chan struct{}), make(chan string, 10)
		var once sync.Once
		s := serve(t, c, func(_ context.Context, task, _ string) {
			begun <- task
			<-release
		})
		t.Cleanup(func() { once.Do(func() { close(release) }) })
		_, err := c.Enqueue(t.Context(), queue.WakeUp{ID: "a", Name: "n", Queue: "high", Task: "a"})
		require.NoError(t, err)
		c.Nudge()
		require.Equal(t, "a", platformtest.Receive(t, begun, "the wake-up arrives"))
		s.Quiet()
		_, err = c.Enqueue(t.Context(), queue.WakeUp{ID: "b", Name: "n", Queue: "high", Task: "b"})
		require.NoError(t, err)
		c.Nudge()
		once.Do(func() { close(release) })
		require.NoError(t, s.Stop(t.Context()))
		require.NoError(t, s.Stop(t.Context()), "twice is once")
		require.Empty(t, begun)
	})
}

func TestStopWithoutServe(t *testing.T) {
	t.Parallel()
	c := client(t, queue.Config{URL: "redis://127.0.0.1:1"})
	s, err := queue.NewServer(c, queue.ServerConfig{Queues: []string{"high"}})
	require.NoError(t, err)
	s.Quiet()
	require.NoError(t, s.Stop(t.Context()))
	_, err = queue.NewServer(c, queue.ServerConfig{})
	require.Error(t, err)
}

func TestAnEmptiedRedisIsFresh(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, open func() *queue.Client) {
		c := open()
		fresh := func() bool {
			f, err := c.Fresh(t.Context())
			require.NoError(t, err)
			return f
		}
		require.NoError(t, c.Check(t.Context()))
		require.True(t, fresh())
		require.NoError(t, c.Prime(t.Context()))
		require.False(t, fresh())
		require.NoError(t, c.Redis().FlushDB(t.Context()).Err())
		require.True(t, fresh())
		require.NoError(t, c.Register(t.Context()))
		names, err := c.Redis().SMembers(t.Context(), "asynq:queues").Result()
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"high", "low"}, names)
	})
}

func TestTimePassesInTheEmbeddedRedis(t *testing.T) {
	t.Parallel()
	embedded := queue.NewEmbedded()
	require.NoError(t, embedded.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, embedded.Stop(context.Background())) })
	c := client(t, queue.Config{Embedded: embedded})
	require.NoError(t, c.Redis().Set(t.Context(), "k", "v", time.Second).Err())
	require.Eventually(t, func() bool { return c.Redis().Get(t.Context(), "k").Err() == redis.Nil }, platformtest.Patience, 10*time.Millisecond)
}

func TestRedisDownFailsQuickly(t *testing.T) {
	t.Parallel()
	c := client(t, queue.Config{URL: "redis://127.0.0.1:1"})
	_, err := c.Enqueue(t.Context(), queue.WakeUp{ID: "a", Name: "n", Queue: "high", Task: "a"})
	require.ErrorContains(t, err, "enqueue wake-up of n in high")
	c.Nudge()
	_, err = c.Fresh(t.Context())
	require.Error(t, err)
	require.Error(t, c.Register(t.Context()))
	require.Error(t, c.Prime(t.Context()))
	require.Error(t, c.Check(t.Context()))
}
