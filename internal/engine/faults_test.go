package engine_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/platformtest"
	"cohortflow/internal/platform/queue"
)

func TestJobsRunFromEndToEnd(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) (*database.DB, queue.Config){
		"PostgresAndRedis": func(t *testing.T) (*database.DB, queue.Config) {
			return databasetest.Postgres(t), queue.Config{URL: platformtest.RedisURL(t)}
		},
		"Embedded": func(t *testing.T) (*database.DB, queue.Config) {
			embedded := queue.NewEmbedded()
			require.NoError(t, embedded.Start(t.Context()))
			t.Cleanup(func() { require.NoError(t, embedded.Stop(background())) })
			return databasetest.SQLite(t), queue.Config{Embedded: embedded}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, cfg := open(t)
			s := setupStack(t, db, cfg, platformtest.Patience, nil)
			startStack(t, s)
			ended := s.await(300)
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					for range 30 {
						_, err := s.OpenWith(background(), engine.NewJob{Kind: "test", Subject: newID(), Owner: "ada", Owed: engine.Owes(launchTask)}, nil)
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			platformtest.Receive(t, ended, "all jobs end")
			requireEachEndedOnce(t, db, 300)
		})
	}
}

func TestAnEmptiedRedisLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	db, cfg := databasetest.Postgres(t), queue.Config{URL: platformtest.RedisURL(t)}
	s := setupStack(t, db, cfg, platformtest.Patience, nil)
	_, err := s.relay.Pass(t.Context()) // primes Redis
	require.NoError(t, err)
	s.openJobs(t, 200) // all woken, and no worker runs
	flush(t, s.queue.Redis())
	ended := s.await(200)
	begun := time.Now()
	startStack(t, s)
	platformtest.Receive(t, ended, "all jobs end")
	t.Logf("200 jobs ended %s after the workers started on an emptied Redis", time.Since(begun).Round(time.Millisecond))
	requireEachEndedOnce(t, db, 200)
	members, err := s.queue.Redis().SMembers(t.Context(), "asynq:queues").Result()
	require.NoError(t, err)
	require.Contains(t, members, "export", "inspectors know the queues again")
}

func TestRedisEmptiedAgainAndAgainWhileWorking(t *testing.T) {
	t.Parallel()
	db, cfg := databasetest.Postgres(t), queue.Config{URL: platformtest.RedisURL(t)}
	s := setupStack(t, db, cfg, platformtest.Patience, nil)
	startStack(t, s)
	ended := s.await(300)
	for range 6 {
		s.openJobs(t, 50)
		flush(t, s.queue.Redis())
	}
	platformtest.Receive(t, ended, "all jobs end")
	requireEachEndedOnce(t, db, 300)
}

func TestAKilledWorkersTasksComeBack(t *testing.T) {
	t.Parallel()
	databaseURL, redisURL := databasetest.PostgresURL(t), platformtest.RedisURL(t)
	db, err := database.Open(t.Context(), database.Config{URL: databaseURL})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	s := setupStack(t, db, queue.Config{URL: redisURL}, shortLease, nil)
	s.openJobs(t, 40)

	alive, kill := context.WithTimeout(t.Context(), platformtest.Patience)
	defer kill()
	child := exec.CommandContext(alive, os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), childVariable+"="+databaseURL+" "+redisURL)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	held := 0
	for lines := bufio.NewScanner(out); held < 20 && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "holds ") {
			held++
		}
	}
	kill()
	require.Error(t, child.Wait())
	require.Equal(t, 20, held, "the child held tasks when it was killed")

	ended := s.await(40)
	begun := time.Now()
	startStack(t, s)
	platformtest.Receive(t, ended, "the killed worker's tasks end elsewhere")
	t.Logf("back %s after the kill, with leases of 2 s", time.Since(begun).Round(time.Millisecond))
	requireEachEndedOnce(t, db, 40)
}

func TestRedisDownDelaysAndBreaksNothing(t *testing.T) {
	t.Parallel()
	db := databasetest.Postgres(t)
	down := setupStack(t, db, queue.Config{URL: "redis://127.0.0.1:1"}, platformtest.Patience, nil)
	for range 5 {
		_, err := down.OpenWith(t.Context(), engine.NewJob{Kind: "test", Subject: newID(), Owner: "ada", Owed: engine.Owes(launchTask)}, nil)
		require.NoError(t, err, "that Redis is down is nobody's error")
	}
	_, err := down.relay.Pass(t.Context())
	require.Error(t, err)
	require.Error(t, down.queue.Check(t.Context()))
	require.NoError(t, down.worker.Start(t.Context()), "a worker starts and waits for Redis")
	require.NoError(t, down.worker.Stop(background()))

	up := setupStack(t, db, queue.Config{URL: platformtest.RedisURL(t)}, platformtest.Patience, nil)
	require.NoError(t, up.queue.Check(t.Context()))
	ended := up.await(5)
	startStack(t, up)
	platformtest.Receive(t, ended, "the relay wakes what could not be woken")
	requireEachEndedOnce(t, db, 5)
}

func TestDroppedDatabaseConnections(t *testing.T) {
	t.Parallel()
	databaseURL := databasetest.PostgresURL(t)
	admin, err := database.Open(t.Context(), database.Config{URL: databaseURL, MaxConns: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, admin.Close()) })
	require.NoError(t, admin.Write(t.Context()).Exec(`SET application_name = 'admin'`).Error)
	db, err := database.Open(t.Context(), database.Config{URL: databaseURL})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	s := setupStack(t, db, queue.Config{URL: platformtest.RedisURL(t)}, shortLease, nil)
	startStack(t, s)
	opened := 0
	var opening sync.WaitGroup
	ids := make(chan string, 400)
	for range 8 {
		opening.Go(func() {
			for range 50 {
				job, err := s.OpenWith(background(), engine.NewJob{Kind: "test", Subject: newID(), Owner: "ada", Owed: engine.Owes(launchTask)}, nil)
				if err == nil { // a client that gets an error may not rely on the job
					ids <- job.ID
				}
			}
		})
	}
	finished := make(chan struct{})
	go func() { opening.Wait(); close(finished) }()
	cut := time.NewTicker(50 * time.Millisecond)
	defer cut.Stop()
	for cuts := 0; cuts < 8; {
		<-cut.C
		require.NoError(t, admin.Write(t.Context()).Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name <> 'admin'`).Error)
		cuts++
	}
	platformtest.Receive(t, finished, "every client has an answer")
	close(ids)
	for range ids {
		opened++
	}
	require.Positive(t, opened)
	var total int
	require.NoError(t, admin.Read(t.Context()).Raw(`SELECT count(*) FROM engine_job`).Row().Scan(&total))
	require.GreaterOrEqual(t, total, opened, "what was confirmed is there")
	requireEachEndedOnce(t, admin, total)
}

func TestShutdownHandsOver(t *testing.T) {
	t.Parallel()
	db, cfg := databasetest.Postgres(t), queue.Config{URL: platformtest.RedisURL(t)}
	begun := make(chan struct{}, 10)
	slow := setupStack(t, db, cfg, platformtest.Patience, func(*stack) engine.Handler {
		return func(ctx context.Context, _ engine.Claim) error {
			begun <- struct{}{}
			<-ctx.Done()
			return fmt.Errorf("launch: %w", ctx.Err())
		}
	})
	require.NoError(t, slow.start(t.Context()))
	slow.openJobs(t, 10)
	for range 10 {
		platformtest.Receive(t, begun, "all tasks are taken")
	}
	require.NoError(t, slow.stop(background()))
	next := setupStack(t, db, cfg, platformtest.Patience, nil)
	ended := next.await(10)
	since := time.Now()
	require.NoError(t, next.worker.Start(t.Context())) // no relay: the hand-over is a wake-up
	t.Cleanup(func() { require.NoError(t, next.worker.Stop(background())) })
	platformtest.Receive(t, ended, "the next worker takes them")
	t.Logf("taken over in %s", time.Since(since).Round(time.Millisecond))
	requireEachEndedOnce(t, db, 10)
}
