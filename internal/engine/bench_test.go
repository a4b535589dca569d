package engine_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/platformtest"
	"cohortflow/internal/platform/queue"
)

const (
	benchClients = 32
	benchWorkers = 32
)

// BenchmarkFullCycle measures whole jobs: 32 clients create job, event and owed task in one transaction each (shared with
// whoever commits at the same time), wake a worker, and one of 32 workers claims the task and settles it through the one
// transition function; nobody is notified. x-bare-asynq is the ratio to bare Asynq, enqueue and process of the same payload
// with as many clients and workers, measured in the same run.
func BenchmarkFullCycle(b *testing.B) {
	b.Run("PostgresAndRedis", func(b *testing.B) {
		db, err := database.Open(b.Context(), database.Config{URL: databasetest.PostgresURL(b)})
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, db.Close()) })
		benchmarkCycle(b, db, queue.Config{URL: platformtest.RedisURL(b)})
	})
	b.Run("Embedded", func(b *testing.B) {
		embedded := queue.NewEmbedded()
		require.NoError(b, embedded.Start(b.Context()))
		b.Cleanup(func() { require.NoError(b, embedded.Stop(background())) })
		benchmarkCycle(b, databasetest.SQLite(b), queue.Config{Embedded: embedded})
	})
}

func benchmarkCycle(b *testing.B, db *database.DB, cfg queue.Config) {
	s := setupStack(b, db, cfg, platformtest.Patience, nil)
	bare := bareAsynq(b, s.queue.Redis(), max(b.N, 2000))
	startStack(b, s)
	ended := s.await(b.N)
	b.ResetTimer()
	each(b.N, func() error {
		_, err := s.OpenWith(background(), engine.NewJob{Kind: "test", Subject: newID(), Owed: engine.Owes(launchTask)}, nil)
		return err
	}, b)
	platformtest.Receive(b, ended, "all jobs end")
	elapsed := b.Elapsed()
	b.StopTimer()
	rate := float64(b.N) / elapsed.Seconds()
	b.ReportMetric(rate, "jobs/s")
	b.ReportMetric(bare, "bare/s")
	b.ReportMetric(rate/bare, "x-bare-asynq")
	b.ReportMetric(0, "ns/op")
}

// each runs f n times from as many clients as there are.
func each(n int, f func() error, tb testing.TB) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range benchClients {
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				if err := f(); err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// bareAsynq is the rate at which Asynq alone enqueues and processes n tasks, in tasks per second.
func bareAsynq(b *testing.B, rdb redis.UniversalClient, n int) float64 {
	var done atomic.Int64
	all := make(chan struct{})
	server := asynq.NewServerFromRedisClient(rdb, asynq.Config{Concurrency: benchWorkers, Queues: map[string]int{"bare": 1},
		TaskCheckInterval: time.Millisecond, LogLevel: asynq.FatalLevel})
	require.NoError(b, server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		if done.Add(1) == int64(n) {
			close(all)
		}
		return nil
	})))
	client := asynq.NewClientFromRedisClient(rdb)
	begun := time.Now()
	each(n, func() error {
		id := newID()
		_, err := client.Enqueue(asynq.NewTask("bare", []byte(id)), asynq.TaskID(id), asynq.Queue("bare"))
		return err
	}, b)
	platformtest.Receive(b, all, "bare Asynq processes its tasks")
	rate := float64(n) / time.Since(begun).Seconds()
	server.Shutdown()
	return rate
}

// BenchmarkIdleLatency measures an idle system: from the moment at which a job is to be opened until its handler is entered.
func BenchmarkIdleLatency(b *testing.B) {
	entered := make(chan time.Time, 1)
	db, err := database.Open(b.Context(), database.Config{URL: databasetest.PostgresURL(b)})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	s := setupStack(b, db, queue.Config{URL: platformtest.RedisURL(b)}, platformtest.Patience, func(s *stack) engine.Handler {
		return func(ctx context.Context, c engine.Claim) error {
			entered <- time.Now()
			_, err := s.Settle(ctx, c, engine.Event{Name: done})
			return err
		}
	})
	startStack(b, s)
	var waits []time.Duration
	for b.Loop() {
		begun := time.Now()
		_, err := s.OpenWith(b.Context(), engine.NewJob{Kind: "test", Subject: newID(), Owed: engine.Owes(launchTask)}, nil)
		require.NoError(b, err)
		waits = append(waits, platformtest.Receive(b, entered, "the handler is entered").Sub(begun))
		idle := time.NewTimer(20 * time.Millisecond) // until the gate has closed
		<-idle.C
	}
	median, p95 := quantiles(waits)
	b.ReportMetric(float64(median.Microseconds())/1000, "ms-median")
	b.ReportMetric(float64(p95.Microseconds())/1000, "ms-p95")
}

func quantiles(all []time.Duration) (median, p95 time.Duration) {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2], sorted[len(sorted)*95/100]
}
