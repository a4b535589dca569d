package cohort

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
)

func TestCount(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		a := b.do("alice", "POST", "/cohort/dated-measures/", o{"request_query_snapshot_id": snapshot, "request_id": "x", "stageDetails": "all",
			"mode": "Global", "measure": 12, "request_job_status": "finished", "count_task_id": "made-up"}).is(201)
		require.Equal(t, []string{"uuid", "owner", "request_query_snapshot", "count_outdated", "cohort_limit", "deleted", "deleted_by_cascade",
			"request_job_id", "request_job_status", "request_job_fail_msg", "request_job_duration", "created_at", "modified_at", "fhir_datetime",
			"measure", "measure_min", "measure_max", "extra", "count_task_id", "mode"}, a.keys())
		a.has(o{"owner": "alice", "request_query_snapshot": snapshot, "count_outdated": false, "cohort_limit": 20000, "request_job_id": "",
			"request_job_status": "new", "request_job_fail_msg": "", "request_job_duration": "", "measure": nil, "extra": nil, "mode": "Snapshot", "count_task_id": ""})
		id := a.at("uuid").(string)

		b.work()
		require.Equal(t, []string{"POST count " + id}, b.qe.seen(""))
		require.Equal(t, []string{"Bearer tok JWT"}, b.fhir.auth)
		require.Equal(t, "alice", b.qe.bodies[0]["ownerEntityId"])
		require.Equal(t, o{"sampling": nil, "details": "all"}, b.qe.bodies[0]["modeOptions"])
		require.NotEmpty(t, b.measure("alice", id).has(o{"request_job_status": "started", "request_job_id": "J1"}).at("count_task_id"))
		require.Empty(t, b.pushed(id), "a page waits for the end only")

		b.clock.Advance(34540079 * time.Microsecond)
		b.callback("dated-measures", id, o{"request_job_status": "FINISHED", "count": "1234", "extra": o{"criteria_count_1": "1234"}}).is(200).
			has(o{"request_job_status": "finished", "measure": 1234, "extra": o{"criteria_count_1": "1234"}, "request_job_duration": "0:00:34.540079",
				"measure_min": nil, "request_job_id": "J1"})
		require.Len(t, b.pushed(id), 1)
		require.JSONEq(t, fmt.Sprintf(`{"type":"job_status","status":"finished","uuid":%q,"job_name":"count","extra_info":{"request_job_status":"finished",
			"request_job_fail_msg":"","measure":1234,"snapshot_id":%q,"extra":{"criteria_count_1":"1234"}}}`, id, snapshot), b.pushed(id)[0])
		require.Empty(t, b.told())

		b.do("alice", "GET", "/cohort/request-query-snapshots/"+snapshot+"/", nil).is(200).has(o{"cohort_results": []any{}})
		require.Equal(t, id, b.do("alice", "GET", "/cohort/request-query-snapshots/"+snapshot+"/", nil).at("dated_measures.0.uuid"))
		require.EqualValues(t, 1234, b.do("alice", "GET", "/cohort/requests/", nil).at("results.0.query_snapshots.0.patients_count"))
		b.clock.Advance(25 * time.Hour)
		b.measure("alice", id).has(o{"count_outdated": true})
	})
}

func TestCountsAreTheirOwners(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		id := b.counting("alice", snapshot)
		one := "/cohort/dated-measures/" + id + "/"
		b.do("bob", "GET", one, nil).is(404).json(`{"detail":"No DatedMeasure matches the given query."}`)
		b.do("bob", "PATCH", one, o{"request_job_status": "FINISHED", "count": "1"}).is(404)
		b.do("alice", "PATCH", one, o{"request_job_status": "FINISHED", "count": "1"}).is(403)
		b.do("", "PATCH", one, o{"request_job_status": "FINISHED", "count": "1"}).is(403)
		b.do("alice", "DELETE", one, nil).is(405)
		b.do("SPARK_JOB_SERVER", "DELETE", one, nil).is(403)
		b.do("SPARK_JOB_SERVER", "POST", "/cohort/dated-measures/", o{"request_query_snapshot": snapshot}).is(403)
		b.do("SPARK_JOB_SERVER", "GET", one, nil).is(200)
		b.do("bob", "GET", "/cohort/dated-measures/", nil).is(200).has(o{"count": 0})
		b.do("alice", "GET", "/cohort/dated-measures/?ordering=zzz", nil).is(200).has(o{"count": 1})
		b.measure("alice", id).has(o{"request_job_status": "started", "measure": nil})
		for want, body := range map[string]o{
			`{"request_query_snapshot":["This field is required."]}`:          {},
			`{"request_query_snapshot":["This field may not be null."]}`:      {"request_query_snapshot_id": nil},
			`{"request_query_snapshot":["“undefined” is not a valid UUID."]}`: {"request_query_snapshot_id": "undefined"},
			`{"owner":["Invalid pk \"bob\" - object does not exist."]}`:       {"request_query_snapshot": snapshot, "owner": "bob"},
		} {
			b.do("alice", "POST", "/cohort/dated-measures/", body).is(400).json(want)
		}
		b.do("bob", "POST", "/cohort/dated-measures/", o{"request_query_snapshot": snapshot}).is(400)
		require.Len(t, b.qe.seen("POST"), 1)
	})
}

func TestCountCallbacks(t *testing.T) {
	cases := map[string]struct {
		body   any
		status int
		answer string // of a refusal
		want   o
	}{
		"Finished":        {body: o{"request_job_status": "finished", "count": 17, "minimum": "1", "maximum": "9", "group.id": "7", "group.count": "8"}, status: 200, want: o{"request_job_status": "finished", "measure": 17, "measure_min": nil, "extra": nil}},
		"OfNobody":        {body: o{"request_job_status": "FINISHED", "count": "0", "extra": o{}}, status: 200, want: o{"request_job_status": "finished", "measure": 0, "extra": o{}}},
		"Failed":          {body: o{"request_job_status": "ERROR", "message": "key not found: Claim"}, status: 200, want: o{"request_job_status": "failed", "request_job_fail_msg": "key not found: Claim", "measure": nil}},
		"FailedSilently":  {body: o{"request_job_status": "ERROR"}, status: 200, want: o{"request_job_status": "failed", "request_job_fail_msg": ""}},
		"Killed":          {body: o{"request_job_status": "KILLED", "message": "part of a group"}, status: 200, want: o{"request_job_status": "cancelled", "request_job_fail_msg": ""}},
		"Running":         {body: o{"request_job_status": "Running"}, status: 200, want: o{"request_job_status": "started", "request_job_duration": ""}},
		"Queued":          {body: o{"request_job_status": "PENDING"}, status: 200, want: o{"request_job_status": "pending", "request_job_duration": ""}},
		"LongPending":     {body: o{"request_job_status": "LONG_PENDING"}, status: 200, want: o{"request_job_status": "started"}},
		"Unknown":         {body: o{"request_job_status": "UNKNOWN"}, status: 200, want: o{"request_job_status": "unknown"}},
		"Nonsense":        {body: o{"request_job_status": "WRONG", "count": "3"}, status: 400, answer: `"Bad Request: Invalid job status: WRONG"`, want: o{"request_job_status": "failed", "request_job_fail_msg": "Bad Request: Invalid job status: WRONG", "measure": nil}},
		"OurOwnWord":      {body: o{"request_job_status": "failed"}, status: 400, answer: `"Bad Request: Invalid job status: failed"`, want: o{"request_job_status": "failed"}},
		"NoStatus":        {body: o{"count": "3"}, status: 400, answer: `"Bad Request: Invalid job status: None"`, want: o{"request_job_status": "failed", "measure": nil}},
		"NoNumber":        {body: o{"request_job_status": "FINISHED", "count": "many"}, status: 400, answer: `{"measure":["A valid integer is required."]}`, want: o{"request_job_status": "started", "measure": nil}},
		"FinishedWithout": {body: o{"request_job_status": "FINISHED"}, status: 400, answer: `{"measure":["This field is required."]}`, want: o{"request_job_status": "started", "measure": nil}},
		"NoJSON":          {body: `{"request_job_status": "FINISHED"`, status: 400, want: o{"request_job_status": "started"}},
		"NoObject":        {body: `[]`, status: 400, want: o{"request_job_status": "started"}},
	}
	each(t, func(t *testing.T, b *bundle) {
		for name, tt := range cases {
			b.run(t, name, func() {
				id := b.counting("alice", b.snapshot("alice", b.request("alice")))
				a := b.callback("dated-measures", id, tt.body).is(tt.status)
				if tt.answer != "" {
					a.json(tt.answer)
				}
				b.measure("alice", id).has(tt.want)
				told := 0
				if tt.status == 200 || tt.want["request_job_status"] == "failed" { // accepted, or the end of the count
					told = 1
				}
				require.Len(t, b.pushed(id), told)
			})
		}
	})
}

func TestAResultIsFinal(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		id := b.counted("alice", b.snapshot("alice", b.request("alice")), 21)
		for _, late := range []o{{"request_job_status": "ERROR", "message": "too late"}, {"request_job_status": "RUNNING"},
			{"request_job_status": "KILLED"}, {"request_job_status": "FINISHED", "count": "99", "extra": o{"a": "1"}}} {
			b.callback("dated-measures", id, late).is(200).has(o{"request_job_status": "finished", "measure": 21, "extra": o{}, "request_job_fail_msg": ""})
		}
		b.callback("dated-measures", id, o{"request_job_status": "WRONG"}).is(400)
		b.measure("alice", id).has(o{"request_job_status": "finished", "measure": 21})
		require.Len(t, b.pushed(id), 1)
		job, err := b.engine.JobOf(t.Context(), KindCount, id)
		require.NoError(t, err)
		events, err := b.engine.Events(t.Context(), job.ID)
		require.NoError(t, err)
		require.Len(t, events, 9, "late reports are written down")
		b.callback("dated-measures", "3f2c8f0e-5d1b-4a7c-9e60-0c1d2e3f4a5b", o{"request_job_status": "ERROR"}).is(404).
			json(`{"detail":"No DatedMeasure matches the given query."}`)
		b.callback("dated-measures", "nonsense", o{"request_job_status": "ERROR"}).is(404).json(`{"detail":"Not found."}`)
	})
}

func TestTwoCallbacksAtOnceHaveOneResult(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		id := b.counting("alice", b.snapshot("alice", b.request("alice")))
		var wg sync.WaitGroup
		answers := make([]answer, 16)
		for i := range answers {
			wg.Go(func() {
				answers[i] = b.callback("dated-measures", id, o{"request_job_status": "FINISHED", "count": fmt.Sprint(100 + i), "extra": o{}})
			})
		}
		wg.Wait()
		measure := b.measure("alice", id).has(o{"request_job_status": "finished"}).at("measure")
		for _, a := range answers {
			a.is(200).has(o{"measure": measure})
		}
		require.Len(t, b.pushed(id), 1)
	})
}

func TestAReportBeforeTheAnswerToTheLaunch(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.qe.will(func(_ http.ResponseWriter, r *http.Request, id string) bool {
			if r.Method == http.MethodPost {
				b.callback("dated-measures", id, o{"request_job_status": "FINISHED", "count": "64", "extra": o{}}).is(200)
			}
			return false
		})
		id := b.do("alice", "POST", "/cohort/dated-measures/", o{"request_query_snapshot": b.snapshot("alice", b.request("alice"))}).is(201).at("uuid").(string)
		b.work()
		b.measure("alice", id).has(o{"request_job_status": "finished", "measure": 64})
	})
}

func TestCountsThatCannotBeLaunched(t *testing.T) {
	for name, tt := range map[string]struct {
		fault func(b *bundle)
		want  string
	}{
		"TheFilterIsRefused": {func(b *bundle) { b.fhir.status = 400 }, ""},
		"TheTokenIsRefused":  {func(b *bundle) { b.fhir.status = 401 }, ""},
		"AStackTrace":        {func(b *bundle) { b.qe.says(500, "com.typesafe.config.ConfigException") }, "QueryExecutor refused the request (500 Internal Server Error)."},
		"APageInsteadOfJSON": {func(b *bundle) { b.qe.says(200, "<html>") }, "QueryExecutor gave an answer that cannot be read."},
		"ItEndsAtOnce":       {func(b *bundle) { b.qe.says(200, `{"status":"ERROR","jobId":"J"}`) }, "QueryExecutor could not run the job."},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, b *bundle) {
				tt.fault(b)
				id := b.do("alice", "POST", "/cohort/dated-measures/", o{"request_query_snapshot": b.snapshot("alice", b.request("alice"))}).is(201).at("uuid").(string)
				b.work()
				reason := b.measure("alice", id).has(o{"request_job_status": "failed", "measure": nil}).at("request_job_fail_msg")
				require.NotEmpty(t, reason)
				require.NotContains(t, reason, "gender")
				if tt.want != "" {
					require.Equal(t, tt.want, reason)
				}
				require.Len(t, b.pushed(id), 1, "the page must not wait for ever")
			})
		})
	}
}

func TestACountWhoseAnswerIsLostIsSentAgain(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.qe.drops()
		id := b.do("alice", "POST", "/cohort/dated-measures/", o{"request_query_snapshot": b.snapshot("alice", b.request("alice"))}).is(201).at("uuid").(string)
		b.work()
		b.measure("alice", id).has(o{"request_job_status": "pending"})
		b.qe.will(nil)
		b.clock.Advance(time.Minute)
		b.work()
		require.Len(t, b.qe.seen("POST"), 2)
		b.measure("alice", id).has(o{"request_job_status": "started", "request_job_id": "J2"})
	})
}

func TestNoCountWaitsForEver(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.qe.drops()
		snapshot := b.snapshot("alice", b.request("alice"))
		unlaunched := b.do("alice", "POST", "/cohort/dated-measures/", o{"request_query_snapshot": snapshot}).is(201).at("uuid").(string)
		for range 8 {
			b.work()
			b.clock.Advance(2 * time.Minute)
		}
		b.measure("alice", unlaunched).has(o{"request_job_status": "failed", "request_job_fail_msg": "The connection to QueryExecutor broke before it answered."})
		b.qe.will(nil)

		silent := b.counting("alice", snapshot)
		b.wait(3 * time.Minute)
		require.Len(t, b.qe.seen("GET"), 1, "it was asked")
		b.measure("alice", silent).has(o{"request_job_status": "started"})
		b.wait(2 * time.Hour)
		b.measure("alice", silent).has(o{"request_job_status": "failed", "request_job_fail_msg": reasonResult})
		b.callback("dated-measures", silent, o{"request_job_status": "FINISHED", "count": "5"}).is(200).
			has(o{"request_job_status": "finished", "measure": 5, "request_job_fail_msg": ""})
		b.callback("dated-measures", silent, o{"request_job_status": "FINISHED", "count": "6"}).is(200).has(o{"measure": 5})
		require.Len(t, b.pushed(silent), 2)
	})
}

func TestEnquiries(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		body   string
		want   o
	}{
		"ItRuns":        {200, `{"status":"RUNNING","jobId":"J1","result":""}`, o{"request_job_status": "started"}},
		"ItIsUnknown":   {500, "java.util.NoSuchElementException", o{"request_job_status": "failed", "request_job_fail_msg": reasonGone}},
		"ItFailed":      {200, `{"status":"ERROR","jobId":"J1","result":[{"message":"no space"}]}`, o{"request_job_status": "failed", "request_job_fail_msg": "no space"}},
		"ItWasStopped":  {200, `{"status":"KILLED","jobId":"J1"}`, o{"request_job_status": "cancelled"}},
		"ItFinished":    {200, `{"status":"FINISHED","jobId":"J1","result":[{"count":"77","extra":{"a":"1"}}]}`, o{"request_job_status": "finished", "measure": 77, "extra": o{"a": "1"}}},
		"NobodyAnswers": {503, "", o{"request_job_status": "started"}},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, b *bundle) {
				id := b.counting("alice", b.snapshot("alice", b.request("alice")))
				b.qe.will(func(w http.ResponseWriter, r *http.Request, _ string) bool {
					w.WriteHeader(tt.status)
					_, _ = fmt.Fprint(w, tt.body)
					return true
				})
				b.wait(3 * time.Minute)
				require.Equal(t, []string{"GET J1"}, b.qe.seen("GET"))
				b.measure("alice", id).has(tt.want)
			})
		})
	}
}

func TestANewCountEndsTheOneBefore(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		request := b.request("alice")
		snapshot := b.snapshot("alice", request)
		done := b.counted("alice", snapshot, 3)
		first := b.counting("alice", snapshot)
		other := b.counting("alice", b.snapshot("alice", b.request("alice")))
		next := b.do("alice", "POST", "/cohort/request-query-snapshots/", o{"previous_snapshot": snapshot, "serialized_query": query}).is(201).at("uuid").(string)
		second := b.counting("alice", next)
		b.measure("alice", first).has(o{"request_job_status": "cancelled", "measure": nil})
		require.Equal(t, []string{"DELETE J2"}, b.qe.seen("DELETE"))
		b.measure("alice", done).has(o{"request_job_status": "finished", "measure": 3})
		b.measure("alice", other).has(o{"request_job_status": "started"})
		b.callback("dated-measures", first, o{"request_job_status": "KILLED", "message": "cancelled"}).is(200).has(o{"request_job_status": "cancelled"})

		cohort := b.creating("alice", next, second, nil)
		third := b.counting("alice", next)
		b.measure("alice", second).has(o{"request_job_status": "started"})
		b.cohort("alice", cohort).has(o{"request_job_status": "started"})

		b.qe.will(func(w http.ResponseWriter, r *http.Request, _ string) bool {
			if r.Method == http.MethodDelete {
				w.WriteHeader(500) // restarted: it knows the job no more
				return true
			}
			return false
		})
		b.counting("alice", snapshot)
		b.measure("alice", third).has(o{"request_job_status": "cancelled"})
	})
}

func TestACountStoppedWhileItIsLaunched(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		b.qe.will(func(_ http.ResponseWriter, r *http.Request, id string) bool {
			if r.Method == http.MethodPost {
				job, err := b.engine.JobOf(t.Context(), KindCount, id)
				require.NoError(t, err)
				_, err = b.engine.Cancel(t.Context(), job.ID, "alice")
				require.NoError(t, err)
			}
			return false
		})
		id := b.do("alice", "POST", "/cohort/dated-measures/", o{"request_query_snapshot": snapshot}).is(201).at("uuid").(string)
		b.work()
		b.measure("alice", id).has(o{"request_job_status": "cancelled"})
		require.Equal(t, []string{"DELETE J1"}, b.qe.seen("DELETE"), "what was launched all the same is stopped")
		_, err := b.engine.Secret(t.Context(), mustJob(t, b, KindCount, id).ID)
		require.ErrorIs(t, err, engine.ErrNoSecret, "tokens go with the job")
	})
}

func mustJob(t *testing.T, b *bundle, kind, id string) engine.Job {
	t.Helper()
	job, err := b.engine.JobOf(t.Context(), kind, id)
	require.NoError(t, err)
	return job
}

func TestRowsOfTheOldSystemHaveNoJobYet(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		id := b.counted("alice", b.snapshot("alice", b.request("alice")), 1)
		b.exec(`DELETE FROM engine_job`)
		b.exec(`UPDATE cohort_datedmeasure SET request_job_status = 'started', request_job_id = 'old', measure = NULL`)
		b.callback("dated-measures", id, o{"request_job_status": "FINISHED", "count": "8", "extra": o{}}).is(200).has(o{"request_job_status": "finished", "measure": 8})
		require.Equal(t, "old", mustJob(t, b, KindCount, id).ExternalID)
		b.callback("dated-measures", id, o{"request_job_status": "FINISHED", "count": "9", "extra": o{}}).is(200).has(o{"measure": 8})
	})
}
