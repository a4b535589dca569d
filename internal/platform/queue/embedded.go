package queue

import (
	"context"
	"net"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"cohortflow/internal/platform/lifecycle"
)

// Embedded is a Redis inside the process: no port, no persistence. After a restart it is empty, which the relay treats like
// any emptied Redis.
type Embedded struct {
	lifecycle.Base
	mini *miniredis.Miniredis
}

// NewEmbedded returns one that serves at once; Start makes its time pass.
func NewEmbedded() *Embedded {
	return &Embedded{Base: lifecycle.Base{Name: "embedded Redis"}, mini: miniredis.NewMiniRedis()}
}

// Start makes time pass in it, a second each second: without that nothing in it would ever expire.
func (e *Embedded) Start(ctx context.Context) error {
	return e.Go(ctx, func(ctx context.Context) {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				e.mini.FastForward(time.Second)
			}
		}
	})
}

// Stop ends it, and with it what it holds.
func (e *Embedded) Stop(ctx context.Context) error {
	err := e.Base.Stop(ctx)
	e.mini.Close()
	return err
}

// Flush empties it, as FLUSHALL does.
func (e *Embedded) Flush() { e.mini.FlushAll() }

func (e *Embedded) options() *redis.UniversalOptions {
	return &redis.UniversalOptions{
		Addrs:    []string{"embedded:6379"},
		Protocol: 2,
		Dialer:   func(context.Context, string, string) (net.Conn, error) { return e.mini.Dial() },
	}
}
