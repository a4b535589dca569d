package apptest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/app/apptest"
	"cohortflow/internal/demo"
	"cohortflow/internal/simulate/hospital"
)

const (
	starts = 200             // measured starts in one round
	idle   = 5 * time.Second // for how long the CPU of idle processes is measured
)

// BenchmarkIdleStart measures an idle system: from the moment at which the client has the answer of "POST a count" until a
// worker enters its handler; the clock is that of the machine, read by the worker right before the handler and told
// afterwards. asked-ms is the same from the sending of the POST on. idle-cpu-pct is the CPU time of the worker and of Redis
// (embedded: of the one process, simulators and API included) in per cent of one core while nothing happens.
func BenchmarkIdleStart(b *testing.B) {
	b.Run("postgres", func(b *testing.B) {
		in := apptest.New(b, apptest.Config{})
		api, worker := in.Start("api"), in.Start("worker")
		in.Suite.SetBackend(api.URL())
		r := in.SignIn(api)
		measureStarts(b, r, worker, in.Questions(r, 1, false)[0].Question, worker.PID(), in.Redis.PID())
	})
	b.Run("embedded", func(b *testing.B) {
		p := apptest.StartEmbedded(b)
		r := p.SignIn()
		question, err := r.Ask(b.Context(), "idle", everybody(b))
		require.NoError(b, err)
		measureStarts(b, r, p, question, p.PID())
	})
}

// everybody is a query about the whole hospital of the embedded default.
func everybody(b *testing.B) string {
	h, err := hospital.New(hospital.Config{Seed: 1})
	require.NoError(b, err)
	query, err := demo.Everybody(strconv.FormatInt(h.Perimeters()[0].CohortID, 10))
	require.NoError(b, err)
	return query
}

func measureStarts(b *testing.B, r *demo.Researcher, worker *apptest.Process, question demo.Question, pids ...int) {
	worker.Settle()
	before := cpu(b, pids...)
	pause := time.NewTimer(idle)
	<-pause.C
	used := cpu(b, pids...) - before
	socket, err := r.OpenSocket(b.Context())
	require.NoError(b, err)
	defer socket.Close()
	var waits, asked []time.Duration
	for b.Loop() {
		for range starts {
			sent := time.Now()
			id, err := r.Count(b.Context(), question)
			answered := time.Now()
			require.NoError(b, err)
			entered := worker.Entered(id)
			waits, asked = append(waits, entered.Sub(answered)), append(asked, entered.Sub(sent))
			_, _, err = socket.Final(b.Context(), id)
			require.NoError(b, err)
			pause.Reset(30 * time.Millisecond) // until all is quiet again
			<-pause.C
		}
	}
	b.ReportMetric(quantile(waits, 0.5), "median-ms")
	b.ReportMetric(quantile(waits, 0.99), "p99-ms")
	b.ReportMetric(quantile(asked, 0.5), "asked-ms")
	b.ReportMetric(100*used.Seconds()/idle.Seconds(), "idle-cpu-pct")
	b.ReportMetric(0, "ns/op")
}

// quantile is in milliseconds.
func quantile(all []time.Duration, q float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return float64(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Microseconds()) / 1000
}

// cpu is the time that processes have used, of all their threads, to the nanosecond: /proc/PID/schedstat of each thread.
func cpu(b *testing.B, pids ...int) (used time.Duration) {
	for _, pid := range pids {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		require.NoError(b, err)
		require.NotEmpty(b, threads, "this system does not tell the CPU time of processes")
		for _, path := range threads {
			raw, err := os.ReadFile(path)
			if err != nil {
				continue // the thread has ended
			}
			ns, err := strconv.ParseInt(strings.Fields(string(raw))[0], 10, 64)
			require.NoError(b, err)
			used += time.Duration(ns)
		}
	}
	return used
}

// BenchmarkStartup starts the real programs: ready-ms is the time from the start of the process until it serves, rss-MiB
// its resident memory once it has nothing left to do for its start. Embedded includes making the database, the hospital and the simulators.
func BenchmarkStartup(b *testing.B) {
	built := b.TempDir()
	out, err := exec.CommandContext(b.Context(), "go", "build", "-o", built+"/", "cohortflow/cmd/...").CombinedOutput()
	require.NoError(b, err, string(out))
	for _, name := range []string{"api", "worker", "scheduler"} {
		b.Run(name, func(b *testing.B) {
			in := apptest.New(b, apptest.Config{})
			measureStartup(b, func() *apptest.Process { return in.Exec(name, exec.Command(filepath.Join(built, name))) })
		})
	}
	b.Run("embedded", func(b *testing.B) {
		measureStartup(b, func() *apptest.Process { return apptest.StartUp(b, filepath.Join(built, "cohortflow")) })
	})
}

func measureStartup(b *testing.B, start func() *apptest.Process) {
	var ready []time.Duration
	var memory float64
	for b.Loop() {
		p := start()
		ready = append(ready, p.Ready)
		p.Settle()
		memory = max(memory, rss(b, p.PID()))
		p.Terminate()
		p.Wait()
	}
	b.ReportMetric(quantile(ready, 0.5), "ready-ms")
	b.ReportMetric(memory, "rss-MiB")
	b.ReportMetric(0, "ns/op")
}

// rss is the resident memory of a process in MiB.
func rss(b *testing.B, pid int) float64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(b, err)
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			require.NoError(b, err)
			return kib / 1024
		}
	}
	require.FailNow(b, "this system does not tell the memory of processes")
	return 0
}
