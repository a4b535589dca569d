package queue

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// gateFallback bounds how long an idle server does not look although no nudge came: one was lost, or another process only
// moved a task.
const gateFallback = 500 * time.Millisecond

// gate is a hook on the client of one Asynq server. Asynq polls; with a short interval it starts a task at once, but burns a
// core. The gate lets it poll quickly and holds its polls while all queues are empty, until a nudge, or the fallback.
type gate struct {
	queues  int // of the server: so many empty answers in a row mean that there is nothing
	nudged  chan struct{}
	closing chan struct{}
	once    sync.Once
	mu      sync.Mutex
	empty   int
}

func newGate(queues int) *gate {
	return &gate{queues: queues, nudged: make(chan struct{}, 1), closing: make(chan struct{})}
}

// nudge lets the next poll pass. One that arrives during a poll is kept for the next: no wake-up is lost.
func (g *gate) nudge() {
	select {
	case g.nudged <- struct{}{}:
	default:
	}
}

func (g *gate) close() { g.once.Do(func() { close(g.closing) }) }

// DialHook implements redis.Hook.
func (g *gate) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook implements redis.Hook.
func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ProcessHook implements redis.Hook.
func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !isDequeue(cmd) {
			return next(ctx, cmd)
		}
		g.hold(ctx)
		err := next(ctx, cmd)
		g.answered(err)
		return err
	}
}

func (g *gate) hold(ctx context.Context) {
	g.mu.Lock()
	idle := g.empty >= g.queues
	g.mu.Unlock()
	if !idle {
		return
	}
	timer := time.NewTimer(gateFallback)
	defer timer.Stop()
	select {
	case <-g.nudged:
	case <-timer.C:
	case <-g.closing:
	case <-ctx.Done():
	}
	g.mu.Lock()
	g.empty = 0
	g.mu.Unlock()
}

// answered counts empty answers. It does not look for "the first queue": without strict order Asynq shuffles them.
func (g *gate) answered(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case errors.Is(err, redis.Nil):
		g.empty++
	case err == nil:
		g.empty = 0
	}
}

// isDequeue recognises Asynq's dequeue script by its keys: …:pending and …:paused first.
func isDequeue(cmd redis.Cmder) bool {
	if name := cmd.Name(); name != "evalsha" && name != "eval" {
		return false
	}
	args := cmd.Args()
	if len(args) < 5 {
		return false
	}
	pending, ok1 := args[3].(string)
	paused, ok2 := args[4].(string)
	return ok1 && ok2 && strings.HasSuffix(pending, ":pending") && strings.HasSuffix(paused, ":paused")
}

// gates are the gates of the servers in this process.
type gates struct {
	mu  sync.Mutex
	all map[*gate]bool
}

func (g *gates) add(one *gate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == nil {
		g.all = map[*gate]bool{}
	}
	g.all[one] = true
}

func (g *gates) remove(one *gate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.all, one)
}

func (g *gates) nudge() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for one := range g.all {
		one.nudge()
	}
}
