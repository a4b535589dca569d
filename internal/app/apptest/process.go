package apptest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/app"
)

// roleVariable tells the test binary which command to be.
const roleVariable = "COHORTFLOW_APPTEST_ROLE"

// Main is TestMain of packages that start processes: in those it runs the command, else the tests. It ends the process.
func Main(m *testing.M) {
	name := os.Getenv(roleVariable)
	roles, known := map[string]app.Roles{"api": {API: true}, "worker": {Worker: true}, "scheduler": {Scheduler: true}}[name]
	if !known {
		os.Exit(m.Run())
	}
	app.Main(func() error { return app.Run(name, roles, os.Stderr) })
}

// keptLines is how many lines of a process's log a failed test shows.
const keptLines = 40

// Process is an api, a worker or a scheduler.
type Process struct {
	Name    string
	Ready   time.Duration // from its start until it said that it serves
	cmd     *exec.Cmd
	t       testing.TB
	started time.Time
	ready   chan struct{}
	ended   chan struct{}
	err     error // how it ended; read after ended

	mu      sync.Mutex
	address string
	log     []string
}

// Start starts a process (api, worker, scheduler) and waits until it serves. It is killed when the test has ended.
func (in *Installation) Start(name string, environ ...string) *Process {
	in.t.Helper()
	binary, err := os.Executable()
	require.NoError(in.t, err)
	return in.Exec(name, exec.Command(binary), environ...)
}

// Exec is Start with another program than the test binary, which needs no role.
func (in *Installation) Exec(name string, cmd *exec.Cmd, environ ...string) *Process {
	in.t.Helper()
	p := &Process{Name: name, t: in.t, cmd: cmd, ready: make(chan struct{}), ended: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir = in.environment(name, environ), in.dir
	pipe, err := p.cmd.StderrPipe()
	require.NoError(in.t, err)
	p.started = time.Now()
	require.NoError(in.t, p.cmd.Start())
	go func() {
		p.read(bufio.NewScanner(pipe))
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	in.t.Cleanup(p.cleanUp)
	select {
	case <-p.ready:
	case <-p.ended:
		require.FailNow(in.t, name+" did not start", "%v\n%v", p.err, p.tail())
	case <-time.After(Patience):
		require.FailNow(in.t, name+" does not become ready", "%v", p.tail())
	}
	return p
}

// read keeps the end of the log, and finds out when the process serves, and where.
func (p *Process) read(lines *bufio.Scanner) {
	lines.Buffer(nil, 1<<20)
	last := "started"
	if p.Name == "api" {
		last = "listening"
	}
	for lines.Scan() {
		var line struct{ Msg, Address string }
		_ = json.Unmarshal(lines.Bytes(), &line) // other lines are kept as they are
		p.mu.Lock()
		if p.log = append(p.log, lines.Text()); len(p.log) > 2*keptLines {
			p.log = append([]string(nil), p.log[keptLines:]...)
		}
		first := line.Msg == last && p.Ready == 0
		if first {
			p.address, p.Ready = line.Address, time.Since(p.started)
		}
		p.mu.Unlock()
		if first {
			close(p.ready)
		}
	}
}

func (p *Process) tail() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log[max(0, len(p.log)-keptLines):]
}

func (p *Process) cleanUp() {
	p.Kill()
	if p.t.Failed() {
		for _, line := range p.tail() {
			p.t.Log(p.Name, line)
		}
	}
}

// URL is where an api listens, without a slash at the end.
func (p *Process) URL() string { return "http://" + p.Address() }

// Address is where an api listens, for another one to take its place (ADDR).
func (p *Process) Address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.address
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends it as kill -9 does, and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// Terminate asks it to stop, as an orchestrator does.
func (p *Process) Terminate() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
}

// Wait waits until it has stopped, in good order.
func (p *Process) Wait() {
	p.t.Helper()
	select {
	case <-p.ended:
		require.NoError(p.t, p.err, "%s ended badly: %v", p.Name, p.tail())
	case <-time.After(Patience):
		require.FailNow(p.t, p.Name+" does not stop", "%v", p.tail())
	}
}

// Each runs f for 0 to n-1, eight at a time; an error fails the test.
func Each(t testing.TB, n int, f func(i int) error) {
	t.Helper()
	var all sync.WaitGroup
	errs, next := make([]error, n), make(chan int)
	for range min(8, n) {
		all.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					errs[i] = fmt.Errorf("%d of %d: %w", i, n, err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}
