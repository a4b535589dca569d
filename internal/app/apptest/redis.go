package apptest

import (
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// Redis is a server of one test alone: it may be emptied and stopped.
type Redis struct {
	URL    string
	Client *redis.Client

	t    testing.TB
	port string
	cmd  *exec.Cmd
}

// StartRedis starts one. It ends with the test.
func StartRedis(t testing.TB) *Redis {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	r := &Redis{t: t, port: port, URL: "redis://127.0.0.1:" + port + "/0", Client: redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port})}
	t.Cleanup(func() {
		_ = r.Client.Close()
		r.Stop()
	})
	r.Start()
	return r
}

// Start starts it at the port that it had, empty.
func (r *Redis) Start() {
	r.t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		program, err = exec.LookPath("valkey-server")
	}
	require.NoError(r.t, err, "these tests stop and empty a Redis of their own: install redis-server")
	r.cmd = exec.Command(program, "--port", r.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning", "--dir", r.t.TempDir())
	require.NoError(r.t, r.cmd.Start())
	require.Eventually(r.t, func() bool { return r.Client.Ping(r.t.Context()).Err() == nil }, Patience, 5*time.Millisecond, "Redis starts")
}

// Stop kills it, with all that it holds.
func (r *Redis) Stop() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait() // "killed" is how it shall end
		r.cmd = nil
	}
}

// PID is the process's number.
func (r *Redis) PID() int { return r.cmd.Process.Pid }

// Flush empties it.
func (r *Redis) Flush() {
	r.t.Helper()
	require.NoError(r.t, r.Client.FlushAll(r.t.Context()).Err())
}

// Waiting is how many wake-ups wait in it: the lengths of Asynq's lists.
func (r *Redis) Waiting(queues ...string) int {
	r.t.Helper()
	waiting := int64(0)
	for _, q := range queues {
		n, err := r.Client.LLen(r.t.Context(), "asynq:{"+q+"}:pending").Result()
		require.NoError(r.t, err)
		waiting += n
	}
	return int(waiting)
}
