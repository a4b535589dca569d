package apptest

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/app"
	"cohortflow/internal/app/embedded"
	"cohortflow/internal/engine"
)

// roleVariable tells the test binary which command to be.
const roleVariable = "COHORTFLOW_APPTEST_ROLE"

// embeddedRole is the whole product with nothing configured.
const embeddedRole = "up"

// Main is TestMain of packages that start processes: in those it runs the command, else the tests. It ends the process.
func Main(m *testing.M) {
	name := os.Getenv(roleVariable)
	roles, known := map[string]app.Roles{"api": {API: true}, "worker": {Worker: true}, "scheduler": {Scheduler: true}}[name]
	switch {
	case known:
		app.Main(func() error { return app.Run(name, roles, os.Stderr, tellEntered) })
	case name == embeddedRole:
		app.Main(up)
	default:
		os.Exit(m.Run())
	}
}

// up is the embedded default in the working directory.
func up() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return embedded.Run(ctx, embedded.Options{Dir: "data", Out: os.Stderr, Environ: os.Environ(), With: tellEntered})
}

// tellEntered has a worker say when each handler was entered: the time is taken before it is told.
func tellEntered(o *app.Options) {
	o.Entered = func(claim engine.Claim) {
		now := time.Now()
		fmt.Fprintf(os.Stderr, `{"msg":"entered","subject":%q,"at":%d}`+"\n", claim.Step.Subject, now.UnixNano())
	}
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
	side    string // where its metrics and its health are, once it has told
	log     []string
	odd     string               // the first line of a process of production that is no JSON
	entered map[string]time.Time // when the first handler about a row was entered
	changed chan struct{}        // closed and replaced at each of them
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
	cmd.Env, cmd.Dir = environment(name, append(append([]string{}, in.environ...), environ...)), in.dir
	return execute(in.t, name, cmd)
}

// StartEmbedded starts the embedded default, with simulators, in a process and a directory of its own. SignIn is
// possible with the password that it made.
func StartEmbedded(t testing.TB) *Process {
	t.Helper()
	binary, err := os.Executable()
	require.NoError(t, err)
	return startUp(t, exec.Command(binary))
}

// StartUp is StartEmbedded with the program cohortflow at the given path.
func StartUp(t testing.TB, program string) *Process {
	t.Helper()
	return startUp(t, exec.Command(program, "up", "--data", "data"))
}

func startUp(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	cmd.Env, cmd.Dir = environment(embeddedRole, []string{"ADDR=127.0.0.1:0"}), t.TempDir()
	return execute(t, embeddedRole, cmd)
}

func execute(t testing.TB, name string, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Name: name, t: t, cmd: cmd, ready: make(chan struct{}), ended: make(chan struct{}), entered: map[string]time.Time{}, changed: make(chan struct{})}
	out, in, err := os.Pipe()
	require.NoError(t, err)
	p.cmd.Stdout, p.cmd.Stderr = in, in
	p.started = time.Now()
	require.NoError(t, p.cmd.Start())
	require.NoError(t, in.Close()) // the process has its own: out ends with it
	go func() {
		p.read(bufio.NewScanner(out))
		_ = out.Close()
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(p.cleanUp)
	select {
	case <-p.ready:
	case <-p.ended:
		require.FailNow(t, name+" did not start", "%v\n%v", p.err, p.tail())
	case <-time.After(Patience):
		require.FailNow(t, name+" does not become ready", "%v", p.tail())
	}
	return p
}

// embeddedReady precedes the address in what the embedded default prints.
const embeddedReady = "Cohortflow is ready at http://"

// embeddedMetrics finds where its metrics are, which it prints after that.
var embeddedMetrics = regexp.MustCompile(`^ *metrics +http://(.+)/metrics$`)

// read keeps the end of the log, and finds out when the process serves and where, and when handlers were entered.
func (p *Process) read(lines *bufio.Scanner) {
	lines.Buffer(nil, 1<<20)
	serving := map[string]string{"api": "listening"}[p.Name]
	for lines.Scan() {
		var line struct {
			Msg, Address, Metrics, Subject string
			At                             int64
		}
		if !json.Valid(lines.Bytes()) && p.Name != embeddedRole {
			p.noteOdd(lines.Text())
		}
		_ = json.Unmarshal(lines.Bytes(), &line) // other lines have other keys
		if address, ok := strings.CutPrefix(lines.Text(), embeddedReady); ok {
			line.Msg, line.Address = cmp.Or(serving, "started"), address
		}
		if side := embeddedMetrics.FindStringSubmatch(lines.Text()); side != nil {
			line.Metrics = side[1]
		}
		if line.Metrics != "" {
			p.noteSide(line.Metrics)
		}
		switch line.Msg {
		case "entered":
			p.noteEntered(line.Subject, time.Unix(0, line.At))
		case cmp.Or(serving, "started"):
			p.noteReady(line.Address)
			fallthrough
		default:
			p.keep(lines.Text())
		}
	}
}

func (p *Process) keep(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log = append(p.log, line); len(p.log) > 2*keptLines {
		p.log = append([]string(nil), p.log[keptLines:]...)
	}
}

func (p *Process) noteReady(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Ready == 0 {
		p.address, p.Ready = address, time.Since(p.started)
		close(p.ready)
	}
}

func (p *Process) noteOdd(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.odd = cmp.Or(p.odd, line)
}

func (p *Process) noteSide(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.side = address
}

// Settle waits until the process calls itself ready and has shown its metrics, which asks the database for all of them: what
// its start had left to do is done then.
func (p *Process) Settle() {
	p.t.Helper()
	get := func(path string) bool {
		p.mu.Lock()
		side := p.side
		p.mu.Unlock()
		answer, err := http.Get("http://" + side + path)
		if err != nil {
			return false
		}
		_, err = io.Copy(io.Discard, answer.Body)
		return errors.Join(err, answer.Body.Close()) == nil && answer.StatusCode == http.StatusOK
	}
	require.Eventually(p.t, func() bool { return get("/readyz") && get("/metrics") }, Patience, 20*time.Millisecond, "%s is not ready", p.Name)
}

func (p *Process) noteEntered(subject string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.entered[subject]; !known {
		p.entered[subject] = at
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// Entered waits until this worker has entered the first handler about a row, and tells when that was.
func (p *Process) Entered(subject string) time.Time {
	p.t.Helper()
	limit := time.After(Patience)
	for {
		p.mu.Lock()
		at, known := p.entered[subject]
		changed := p.changed
		p.mu.Unlock()
		if known {
			return at
		}
		select {
		case <-changed:
		case <-limit:
			require.FailNow(p.t, "no handler was entered", subject)
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
	if p.odd != "" { // whoever collects logs relies on it
		p.t.Errorf("%s wrote a line that is no JSON: %s", p.Name, p.odd)
	}
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
