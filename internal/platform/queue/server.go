package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// ServerConfig is read once, by NewServer. A zero field takes its default.
type ServerConfig struct {
	// Queues are served in strict order, the first one first.
	Queues []string
	// Concurrency is the number of wake-ups worked on at once (32).
	Concurrency int
}

// Server takes wake-ups from its queues and hands them on. Long tasks get a server of their own, which is also a second loop
// of polls.
type Server struct {
	client *Client
	cfg    ServerConfig
	mu     sync.Mutex
	gate   *gate
	redis  redis.UniversalClient
	asynq  *asynq.Server
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// NewServer returns a server of the client's Redis. It does no I/O.
func NewServer(c *Client, cfg ServerConfig) (*Server, error) {
	if len(cfg.Queues) == 0 {
		return nil, errors.New("queue server: it serves no queue")
	}
	cfg.Concurrency = cmp.Or(cfg.Concurrency, 32)
	return &Server{client: c, cfg: cfg}, nil
}

// Serve begins to take wake-ups; run is called for each with the id of the owed task and that of the wake-up, and nothing
// is retried whatever happens in it. It returns at once, also while Redis is down.
func (s *Server) Serve(run func(ctx context.Context, task, wake string)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asynq != nil {
		return nil
	}
	rdb, err := s.client.dial()
	if err != nil {
		return fmt.Errorf("queue server: %w", err)
	}
	gate := newGate(len(s.cfg.Queues))
	rdb.AddHook(gate)
	priorities := map[string]int{}
	for i, q := range s.cfg.Queues {
		priorities[q] = len(s.cfg.Queues) - i
	}
	server := asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Concurrency:              s.cfg.Concurrency,
		Queues:                   priorities,
		StrictPriority:           true,
		TaskCheckInterval:        time.Millisecond,
		DelayedTaskCheckInterval: 10 * time.Second, // nothing of ours waits in Redis; tasks of dead workers come back by the relay
		ShutdownTimeout:          20 * time.Second,
		RetryDelayFunc:           func(int, error, *asynq.Task) time.Duration { return 0 },
		Logger:                   asynqLog{s.client.cfg.Log},
		LogLevel:                 asynq.WarnLevel,
	})
	handler := asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) error {
		wake, _ := asynq.GetTaskID(ctx)
		defer func() { // Asynq would run it again, later than the relay does
			if p := recover(); p != nil {
				s.client.cfg.Log.Error("a wake-up panicked", "task", string(t.Payload()), "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			}
		}()
		run(ctx, string(t.Payload()), wake)
		return nil
	})
	if err := server.Start(handler); err != nil {
		return errors.Join(fmt.Errorf("start queue server: %w", err), rdb.Close())
	}
	s.gate, s.redis, s.asynq = gate, rdb, server
	s.client.gates.add(gate)
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.wg.Go(func() { s.listen(ctx, gate) })
	return nil
}

// listen turns the nudges of other processes into local ones. go-redis reconnects by itself.
func (s *Server) listen(ctx context.Context, gate *gate) {
	sub := s.client.redis.Subscribe(ctx, nudgeChannel)
	defer func() { _ = sub.Close() }()
	messages := sub.Channel(redis.WithChannelSize(1))
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-messages:
			if !open {
				return
			}
			gate.nudge()
		}
	}
}

// Quiet stops taking wake-ups; those under way go on.
func (s *Server) Quiet() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asynq != nil {
		s.gate.close() // a held poll would delay it
		s.asynq.Stop()
	}
}

// Stop stops taking wake-ups and waits for those under way, at most until ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	server, gate, rdb, cancel := s.asynq, s.gate, s.redis, s.cancel
	s.asynq = nil
	s.mu.Unlock()
	if server == nil {
		return nil
	}
	gate.close()
	s.client.gates.remove(gate)
	cancel()
	ended := make(chan error, 1)
	go func() {
		server.Shutdown()
		s.wg.Wait()
		ended <- rdb.Close()
	}()
	select {
	case err := <-ended:
		if err != nil && !errors.Is(err, redis.ErrClosed) {
			return fmt.Errorf("stop queue server: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop queue server: wake-ups still under way: %w", ctx.Err())
	}
}

// asynqLog hands Asynq's messages to ours. They hold task ids and names only.
type asynqLog struct{ log *slog.Logger }

func (l asynqLog) Debug(args ...any) { l.log.Debug("asynq: " + fmt.Sprint(args...)) }
func (l asynqLog) Info(args ...any)  { l.log.Info("asynq: " + fmt.Sprint(args...)) }
func (l asynqLog) Warn(args ...any)  { l.log.Warn("asynq: " + fmt.Sprint(args...)) }
func (l asynqLog) Error(args ...any) { l.log.Error("asynq: " + fmt.Sprint(args...)) }

// Fatal is an error like others: a library does not end our process.
func (l asynqLog) Fatal(args ...any) { l.log.Error("asynq: " + fmt.Sprint(args...)) }
