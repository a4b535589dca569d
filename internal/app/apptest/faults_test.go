package apptest_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/app/apptest"
	"cohortflow/internal/simulate"
	"cohortflow/internal/simulate/faultplan"
)

func TestMain(m *testing.M) { apptest.Main(m) }

// slow lets each submission to QueryExecutor be taken at once and answered only after a while: work that is under way.
func slow(d time.Duration) faultplan.Rule {
	return faultplan.Rule{Peer: "qe", Route: "POST /jobs", Action: faultplan.Delay, After: true, For: faultplan.Duration(d)}
}

func set(t *testing.T, in *apptest.Installation, rules ...faultplan.Rule) {
	t.Helper()
	require.NoError(t, in.Suite.Faults().Set(rules...))
}

// TestRedisIsEmptied: 200 counts are owed while no worker runs, and Redis forgets all of them.
func TestRedisIsEmptied(t *testing.T) {
	t.Parallel()
	in := apptest.New(t, apptest.Config{})
	api := in.Start("api")
	in.Suite.SetBackend(api.URL())
	r := in.SignIn(api)
	questions := in.Questions(r, 20, false)
	all := make([]apptest.Question, 200) // nothing runs yet, so none supersedes another
	for i := range all {
		all[i] = questions[i%len(questions)]
	}
	ids := in.Counts(r, all)
	require.Equal(t, 200, in.Number(`SELECT count(*) FROM engine_task WHERE name = 'count.launch'`), "each is owed")
	in.Eventually(func() bool { return in.Redis.Waiting("count") > 100 }, "Redis holds the wake-ups") // one that could not be sent is no fault
	in.Redis.Flush()
	in.Start("worker")
	in.Settled()
	in.Measured(ids, all, false)
}

// TestWorkersAreKilled: workers die with work in their hands, three times; counts are sent again, creations never.
func TestWorkersAreKilled(t *testing.T) {
	t.Parallel()
	in := apptest.New(t, apptest.Config{})
	api := in.Start("api")
	in.Suite.SetBackend(api.URL())
	r := in.SignIn(api)
	worker := in.Start("worker")
	questions := append(in.Questions(r, 12, false), in.Questions(r, 3, true)...)
	counts := in.Counts(r, questions)
	in.Settled()
	in.Measured(counts, questions, false)

	// Creations are reported only when new workers have found them without an answer; counts not at all meanwhile, so that
	// each worker has something to do again.
	set(t, in, slow(time.Minute), faultplan.Rule{Peer: "qe", Mode: "count", Action: faultplan.CallbackLost}, faultplan.Rule{Peer: "qe", Mode: "create", Action: faultplan.CallbackDelay, For: faultplan.Duration(8 * time.Second)})
	cohorts := in.Cohorts(r, questions, counts)
	again := in.Questions(r, 20, false)
	more := in.Counts(r, again)
	for round := range 3 {
		in.Eventually(func() bool {
			return in.Number(`SELECT count(*) FROM engine_task WHERE lease_until > now() AND attempt > ?`, round) > 0
		}, "a worker holds tasks for the %d. time", round+1)
		worker.Kill()
		worker = in.Start("worker")
	}
	set(t, in)
	worker.Kill() // what it holds is answered after a minute
	in.Start("worker")
	in.Settled()
	in.Measured(more, again, false)
	require.Equal(t, len(cohorts), in.Ended("create", "finished"))
	require.Equal(t, 3, in.Number(`SELECT count(*) FROM engine_notification`), "one mail for each large cohort")
}

// TestQueryExecutorMisbehaves: it loses and repeats callbacks, sends them before it answers, refuses, talks nonsense, and
// accepts what it never answers.
func TestQueryExecutorMisbehaves(t *testing.T) {
	t.Parallel()
	in := apptest.New(t, apptest.Config{Environ: []string{"DEADLINE_LAUNCH=30s", "DEADLINE_COUNT=30s", "DEADLINE_COHORT=30s", "DEADLINE_LARGE_COHORT=30s", "OUTBOUND_TIMEOUT=2s"}})
	api := in.Start("api")
	in.Suite.SetBackend(api.URL())
	in.Start("worker")
	r := in.SignIn(api)
	questions := append(in.Questions(r, 12, false), in.Questions(r, 6, true)...)
	counts := in.Counts(r, questions)
	in.Settled()

	post := func(nth int, action faultplan.Action) faultplan.Rule {
		return faultplan.Rule{Peer: "qe", Route: "POST /jobs", Nth: nth, Action: action}
	}
	refuse, nonsense, lost, broken := post(11, faultplan.Status), post(13, faultplan.Body), post(5, faultplan.Hang), post(7, faultplan.Reset)
	refuse.Code, refuse.Body = http.StatusInternalServerError, "java.lang.IllegalStateException: no"
	nonsense.Body = "<html>"
	lost.After, broken.After = true, true // it has accepted the job
	set(t, in, refuse, nonsense, lost, broken, post(4, faultplan.CallbackEarly), post(3, faultplan.CallbackLost), post(2, faultplan.CallbackDuplicate),
		faultplan.Rule{Peer: "etl", Nth: 2, Action: faultplan.CallbackDuplicate})
	in.Cohorts(r, questions, counts)
	again := in.Questions(r, 40, false)
	more := in.Counts(r, again)
	in.Settled()
	in.Measured(more, again, true)
	require.Greater(t, in.Ended("count", "finished"), 18+30, "most counts survive all this")
	require.Greater(t, in.Ended("create", "finished"), 9, "most cohorts, too")
}

// TestDatabaseConnectionsAreCut: PostgreSQL ends all connections of all processes, again and again, under load.
func TestDatabaseConnectionsAreCut(t *testing.T) {
	t.Parallel()
	in := apptest.New(t, apptest.Config{})
	api := in.Start("api")
	in.Suite.SetBackend(api.URL())
	r := in.SignIn(api)
	questions := in.Questions(r, 60, false)
	in.Start("worker")
	accepted := make([]string, len(questions))
	ctx, cancel := context.WithTimeout(t.Context(), apptest.Patience)
	t.Cleanup(cancel)
	var posting sync.WaitGroup
	posting.Go(func() {
		apptest.Each(t, len(questions), func(i int) error { // who gets no answer asks again, as people do
			for {
				id, err := r.Count(ctx, questions[i].Question)
				if err == nil || ctx.Err() != nil {
					accepted[i] = id
					return err
				}
			}
		})
	})
	cut := func() int {
		return in.Number(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()
			AND pid <> pg_backend_pid() AND application_name <> 'apptest'`)
	}
	for round := range 6 {
		in.Eventually(func() bool { return in.Number(`SELECT count(*) FROM engine_job`) > 8*round }, "counts are asked for")
		in.Eventually(func() bool { return cut() > 0 }, "there are connections to cut")
	}
	posting.Wait()
	in.Settled()
	require.NotContains(t, accepted, "")
	for i, id := range accepted { // one that was superseded by its own repetition is cancelled
		require.Contains(t, []string{"finished", "cancelled"}, in.Status(id), "count %d", i)
	}
}

// TestProcessesDrain: api and worker are told to stop while requests are open and tasks are running.
func TestProcessesDrain(t *testing.T) {
	t.Parallel()
	in := apptest.New(t, apptest.Config{Environ: []string{"LEASE=1m"}}) // nobody dies here: what is held was left behind
	api, other := in.Start("api"), in.Start("api")
	in.Suite.SetBackend(other.URL())
	r := in.SignIn(api)
	questions := in.Questions(r, 24, false)
	worker := in.Start("worker")
	set(t, in, slow(500*time.Millisecond))

	release := in.Lock("cohort_datedmeasure")
	ids := make([]string, len(questions))
	var posting sync.WaitGroup
	posting.Go(func() {
		apptest.Each(t, 8, func(i int) (err error) {
			ids[i], err = r.Count(t.Context(), questions[i].Question)
			return err
		})
	})
	in.Eventually(func() bool {
		return in.Number(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) >= 8
	}, "eight requests are open")
	api.Terminate()
	in.Eventually(func() bool { return !listens(api) }, "it takes no new connections")
	release()
	posting.Wait() // each open request is answered
	api.Wait()

	r = r.At(other.URL())
	copy(ids[8:], in.Counts(r, questions[8:]))
	in.Eventually(func() bool { return in.Number(`SELECT count(*) FROM engine_task WHERE lease_until > now()`) > 0 }, "the worker holds tasks")
	worker.Terminate()
	worker.Wait()
	require.Zero(t, in.Number(`SELECT count(*) FROM engine_task WHERE lease_until IS NOT NULL`), "it holds nothing any more")
	in.Start("worker")
	in.Settled()
	in.Measured(ids, questions, false)
}

// TestTwoOfEach: the websocket is at one api, the callbacks come to the other; and when Redis is gone, messages are late.
func TestTwoOfEach(t *testing.T) {
	t.Parallel()
	in := apptest.New(t, apptest.Config{Environ: []string{"ENQUIRE_AFTER=1m"}})
	first, second := in.Start("api"), in.Start("api")
	in.Suite.SetBackend(first.URL())
	in.Start("worker")
	in.Start("worker")
	in.Start("scheduler")
	in.Start("scheduler")
	r := in.SignIn(first)
	ctx, cancel := context.WithTimeout(t.Context(), 2*apptest.Patience)
	t.Cleanup(cancel)
	socket, err := r.At(second.URL()).OpenSocket(ctx)
	require.NoError(t, err)
	defer socket.Close()
	questions := in.Questions(r, 6, false)
	for i, id := range in.Counts(r, questions) {
		status, measure, err := socket.Final(ctx, id)
		require.NoError(t, err)
		require.Equal(t, "finished", status)
		require.Equal(t, questions[i].Truth, *measure)
	}

	set(t, in, faultplan.Rule{Peer: "qe", Action: faultplan.JobStuck})
	late := in.Questions(r, 1, false)
	id := in.Counts(r, late)[0]
	external := ""
	in.Eventually(func() bool {
		err := in.DB.Read(t.Context()).Raw(`SELECT external_id FROM engine_job WHERE subject = ? AND state = 'started'`, id).Row().Scan(&external)
		return err == nil && external != ""
	}, "QueryExecutor has the job")
	in.Redis.Stop()
	post(t, in.Suite.Addresses(), external, `{"request_job_status":"FINISHED","count":"7","extra":{}}`)
	status, measure, err := socket.Final(ctx, id)
	require.NoError(t, err)
	require.Equal(t, "finished", status)
	require.Equal(t, 7, *measure)
	in.Redis.Start()
	in.Settled()
}

// post sends a callback of a job now.
func post(t *testing.T, at simulate.Addresses, job, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("%s/_simulate/jobs/%s/callback", at.Control, job), strings.NewReader(body))
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusNoContent, answer.StatusCode)
}

// listens tells whether a process takes connections.
func listens(p *apptest.Process) bool {
	conn, err := net.DialTimeout("tcp", p.Address(), apptest.Patience)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
