// Package queue speaks to Redis and Asynq: it understands where Redis is (URLs of every kind, or one inside the process),
// sends wake-ups, and runs the servers that receive them. The engine uses it; app opens it. It is an accelerator: it stores
// nothing that is not in the database, knows no job and no payload but the id of an owed task, and a Redis that is down slows
// nobody down for longer than its short time-outs.
package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

const (
	// epochKey is gone when Redis lost its data.
	epochKey = "engine:epoch"
	// nudgeChannel carries the hint that something was enqueued.
	nudgeChannel = "engine:nudge"
	// asynqQueues is Asynq's set of queue names; it adds to it only once per process, so after a flush we do.
	asynqQueues = "asynq:queues"
	// wakeTimeLimit is Asynq's limit for one run. The task's own limit is the engine's; this one must never be the first.
	wakeTimeLimit = 48 * time.Hour
	// wakeRetries lets Asynq take a wake-up of a dead process back instead of archiving it; such a run finds nothing to claim.
	wakeRetries = 3
)

// Config is read once, by Open. A zero field takes its default.
type Config struct {
	// URL is where Redis is: see ParseURL. Empty with Embedded.
	URL string
	// Embedded is a Redis inside this process.
	Embedded *Embedded
	// Queues are all queues' names, for Register.
	Queues []string
	// PoolSize bounds the connections of each client to one Redis node (64).
	PoolSize int
	Log      *slog.Logger
}

// WakeUp asks a worker to look at an owed task.
type WakeUp struct {
	ID    string // unique while it waits or runs; a second one with the same id is dropped
	Name  string // the task's name, for operators
	Queue string
	Task  string // id of the owed task: the whole payload
}

// Client sends wake-ups. It is safe for concurrent use.
type Client struct {
	cfg   Config
	redis redis.UniversalClient
	asynq *asynq.Client
	gates gates
	nudge nudger
}

// Open prepares the connection; it does no I/O, so that a process starts while Redis is down.
func Open(cfg Config) (*Client, error) {
	cfg.PoolSize = cmp.Or(cfg.PoolSize, 64)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg}
	var err error
	if c.redis, err = c.dial(); err != nil {
		return nil, fmt.Errorf("open queue: %w", err)
	}
	c.asynq = asynq.NewClientFromRedisClient(c.redis)
	c.nudge.publish = func(ctx context.Context) error { return c.redis.Publish(ctx, nudgeChannel, "1").Err() }
	return c, nil
}

// dial returns a client of its own: with time-outs that never make a request wait, which go-redis only keeps to with
// ContextTimeoutEnabled.
func (c *Client) dial() (redis.UniversalClient, error) {
	var opts *redis.UniversalOptions
	if c.cfg.Embedded != nil {
		opts = c.cfg.Embedded.options()
	} else {
		var err error
		if opts, err = ParseURL(c.cfg.URL); err != nil {
			return nil, err
		}
	}
	opts.ContextTimeoutEnabled = true
	opts.DialTimeout, opts.ReadTimeout, opts.WriteTimeout = 500*time.Millisecond, 500*time.Millisecond, 500*time.Millisecond
	opts.PoolTimeout = time.Second
	opts.MaxRetries = 1
	opts.DialerRetries, opts.DialerRetryTimeout = 1, 50*time.Millisecond
	opts.PoolSize = c.cfg.PoolSize
	return redis.NewUniversalClient(opts), nil
}

// RedirectLog hands what go-redis logs to ours. It keeps its logger in a global variable: the main function calls this once,
// nothing else does.
func RedirectLog(log *slog.Logger) { redis.SetLogger(redisLog{log}) }

// redisLog logs failed connections; they are expected while Redis is down, and callers get errors besides.
type redisLog struct{ log *slog.Logger }

func (l redisLog) Printf(_ context.Context, format string, v ...any) {
	l.log.Debug("redis: " + fmt.Sprintf(format, v...))
}

// Redis is the connection, for what else is kept there for speed: pub/sub, caches.
func (c *Client) Redis() redis.UniversalClient { return c.redis }

// Enqueue sends a wake-up; fresh is false when one with its id is there already. Nudge after it.
func (c *Client) Enqueue(ctx context.Context, w WakeUp) (fresh bool, err error) {
	task := asynq.NewTask(w.Name, []byte(w.Task))
	_, err = c.asynq.EnqueueContext(ctx, task, asynq.TaskID(w.ID), asynq.Queue(w.Queue), asynq.MaxRetry(wakeRetries), asynq.Timeout(wakeTimeLimit))
	switch {
	case errors.Is(err, asynq.ErrTaskIDConflict):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("enqueue wake-up of %s in %s: %w", w.Name, w.Queue, err)
	}
	return true, nil
}

// Nudge tells idle servers to look at once: those of this process directly, others by a message, of which at most one is
// under way. Nobody else can reach a Redis inside this process.
func (c *Client) Nudge() {
	c.gates.nudge()
	if c.cfg.Embedded == nil {
		c.nudge.send()
	}
}

// Fresh tells whether Redis lost everything since the last Prime, or never was primed.
func (c *Client) Fresh(ctx context.Context) (bool, error) {
	n, err := c.redis.Exists(ctx, epochKey).Result()
	if err != nil {
		return false, fmt.Errorf("look for the epoch in Redis: %w", err)
	}
	return n == 0, nil
}

// Register makes the queues known to Asynq's inspectors again after a flush.
func (c *Client) Register(ctx context.Context) error {
	names := make([]any, len(c.cfg.Queues))
	for i, q := range c.cfg.Queues {
		names[i] = q
	}
	if len(names) == 0 {
		return nil
	}
	if err := c.redis.SAdd(ctx, asynqQueues, names...).Err(); err != nil {
		return fmt.Errorf("register %d queues in Redis: %w", len(names), err)
	}
	return nil
}

// Prime notes that everything owed was sent to this Redis.
func (c *Client) Prime(ctx context.Context) error {
	if err := c.redis.Set(ctx, epochKey, time.Now().UTC().Format(time.RFC3339), 0).Err(); err != nil {
		return fmt.Errorf("set the epoch in Redis: %w", err)
	}
	return nil
}

// Check tells whether Redis answers, and warns of settings under which it drops wake-ups: that delays tasks, it loses none.
func (c *Client) Check(ctx context.Context) error {
	if err := c.redis.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("ping Redis: %w", err)
	}
	settings, err := c.redis.ConfigGet(ctx, "maxmemory*").Result()
	if err != nil { // managed services forbid it
		return nil
	}
	if settings["maxmemory"] != "0" && settings["maxmemory"] != "" && settings["maxmemory-policy"] != "noeviction" {
		c.cfg.Log.Warn("Redis may evict wake-ups; set maxmemory-policy to noeviction", "maxmemory-policy", settings["maxmemory-policy"])
	}
	return nil
}

// Close ends the connections; servers are stopped before.
func (c *Client) Close() error {
	c.nudge.close()
	if err := c.redis.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("close queue: %w", err)
	}
	return nil
}

// nudger publishes nudges, at most one at a time: what comes while one is under way is one more afterwards.
type nudger struct {
	publish func(ctx context.Context) error
	mu      sync.Mutex
	busy    bool
	again   bool
	closed  bool
	wg      sync.WaitGroup
}

func (n *nudger) send() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	if n.busy {
		n.again = true
		return
	}
	n.busy = true
	n.wg.Go(n.run)
}

func (n *nudger) run() {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		_ = n.publish(ctx) // a lost nudge costs the fallback of the gates, no more
		cancel()
		n.mu.Lock()
		if !n.again || n.closed {
			n.busy = false
			n.mu.Unlock()
			return
		}
		n.again = false
		n.mu.Unlock()
	}
}

func (n *nudger) close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.wg.Wait()
}
