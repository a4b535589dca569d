package cohort

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
)

var cohortKeys = []string{"uuid", "name", "owner", "request_query_snapshot", "parent_cohort", "sampling_ratio", "sample_cohorts", "result_size",
	"measure_min", "measure_max", "group_id", "request_job_status", "request_job_fail_msg", "request_job_duration", "exportable",
	"created_at", "modified_at", "description", "favorite", "request"}

func TestCohort(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		request := b.request("alice")
		snapshot := b.snapshot("alice", request)
		measure := b.counted("alice", snapshot, 1200)
		a := b.do("alice", "POST", "/cohort/cohorts/", o{"dated_measure_id": measure, "request_query_snapshot_id": snapshot, "request_id": request,
			"name": "C", "description": "about", "global_estimate": false, "group_id": "1", "request_job_status": "finished", "result_size": 5,
			"is_subset": true}).is(201)
		id := a.at("uuid").(string)
		a.has(o{"name": "C", "owner": "alice", "request_query_snapshot": snapshot, "parent_cohort": nil, "sampling_ratio": nil, "sample_cohorts": []any{},
			"group_id": "", "request_job_status": "new", "request_job_fail_msg": "", "request_job_duration": "", "description": "about",
			"favorite": false, "request": o{"uuid": request, "name": "Request", "description": ""}})
		require.Equal(t, cohortKeys, b.cohort("alice", id).keys())
		b.cohort("alice", id).has(o{"request_job_status": "pending", "result_size": 1200, "measure_min": nil, "exportable": true})
		b.work()
		b.cohort("alice", id).has(o{"request_job_status": "started", "group_id": ""})
		require.Equal(t, []string{"POST create " + id}, b.qe.seen("POST create"))

		b.clock.Advance(time.Minute)
		require.Empty(t, b.pushed(id), "the launch is not told")
		b.callback("cohorts", id, o{"request_job_status": "RUNNING"}).is(200).has(o{"request_job_status": "started", "request_job_duration": ""})
		require.Contains(t, b.pushed(id)[0], `"status":"started"`)
		b.callback("cohorts", id, o{"request_job_status": "FINISHED", "group.id": "88123", "group.count": "1230", "extra": o{}}).is(200).
			has(o{"request_job_status": "finished", "group_id": "88123", "result_size": 1230, "exportable": true, "request_job_duration": "0:01:00"})
		b.measure("alice", measure).has(o{"measure": 1230, "request_job_status": "finished"})
		require.Len(t, b.pushed(id), 2)
		require.JSONEq(t, fmt.Sprintf(`{"type":"job_status","status":"finished","uuid":%q,"job_name":"create","extra_info":{"request_job_status":"finished",
			"group_id":"88123","result_size":1230,"request_job_fail_msg":""}}`, id), b.pushed(id)[1])
		require.Empty(t, b.told())
		require.Equal(t, id, b.do("alice", "GET", "/cohort/request-query-snapshots/"+snapshot+"/", nil).at("cohort_results.0.uuid"))
		require.EqualValues(t, 1, b.do("alice", "GET", "/cohort/requests/"+request+"/", nil).at("query_snapshots.0.cohorts_count"))

		for _, late := range []o{{"request_job_status": "LONG_PENDING", "group.id": "5", "group.count": "31"}, {"request_job_status": "ERROR", "message": "x"},
			{"request_job_status": "KILLED"}, {"request_job_status": "FINISHED", "group.id": "6", "group.count": "7"}} {
			b.callback("cohorts", id, late).is(200).has(o{"request_job_status": "finished", "group_id": "88123", "result_size": 1230, "request_job_fail_msg": ""})
		}
	})
}

func TestLargeCohort(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		measure := b.counted("alice", snapshot, 20000)
		id := b.creating("alice", snapshot, measure, o{"global_estimate": true})
		b.cohort("alice", id).has(o{"request_job_status": "long_pending", "result_size": 20000, "exportable": true})
		global := strings.TrimPrefix(b.qe.seen("POST count_all")[0], "POST count_all ")
		b.measure("alice", global).has(o{"mode": "Global", "owner": "alice", "request_job_status": "started", "request_query_snapshot": snapshot})
		b.callback("dated-measures", global, o{"request_job_status": "FINISHED", "minimum": "900", "maximum": "1260", "count": "1234", "extra": o{}}).is(200).
			has(o{"measure": 1234, "measure_min": 900, "measure_max": 1260})
		require.Empty(t, b.pushed(global), "an estimate alone is not announced")

		b.callback("cohorts", id, o{"request_job_status": "RUNNING"}).is(200).has(o{"request_job_status": "long_pending"})
		b.callback("cohorts", id, o{"request_job_status": "LONG_PENDING", "group.id": "99001", "group.count": "25000", "extra": o{}}).is(200).
			has(o{"request_job_status": "long_pending", "group_id": "99001", "result_size": 25000, "exportable": false, "request_job_duration": "",
				"measure_min": 900, "measure_max": 1260})
		b.measure("alice", measure).has(o{"measure": 25000, "request_job_status": "finished"})
		require.Empty(t, b.told())
		for range 3 {
			b.indexed(id, o{"request_job_status": "FINISHED"}).is(200).has(o{"request_job_status": "finished", "group_id": "99001", "result_size": 25000})
		}
		require.Equal(t, []string{"success alice"}, b.told(), "once")
		require.Len(t, b.pushed(id), 3, "the sign of life, the list, the end")
		require.JSONEq(t, fmt.Sprintf(`{"type":"job_status","status":"finished","uuid":%q,"job_name":"create","extra_info":{"request_job_status":"finished",
			"group_id":"99001","result_size":25000,"request_job_fail_msg":"","global":{"measure_min":900,"measure_max":1260}}}`, id), b.pushed(id)[2])
	})
}

func TestIndexing(t *testing.T) {
	large := func(b *bundle) string {
		snapshot := b.snapshot("alice", b.request("alice"))
		return b.creating("alice", snapshot, b.counted("alice", snapshot, 25000), nil)
	}
	long := o{"request_job_status": "LONG_PENDING", "group.id": "99001", "group.count": "25000", "extra": o{}}
	for name, test := range map[string]func(t *testing.T, b *bundle){
		"Fails": func(t *testing.T, b *bundle) {
			id := large(b)
			b.callback("cohorts", id, long).is(200)
			b.indexed(id, o{"request_job_status": "ERROR", "message": "index is full"}).is(200).
				has(o{"request_job_status": "failed", "request_job_fail_msg": "index is full"})
			require.Empty(t, b.told())
		},
		"OvertakesTheReportOfTheCreation": func(t *testing.T, b *bundle) {
			id := large(b)
			b.indexed(id, o{"request_job_status": "FINISHED", "group.id": "99001", "group.count": "25000"}).is(200).has(o{"request_job_status": "finished"})
			b.callback("cohorts", id, long).is(200).has(o{"request_job_status": "finished", "group_id": "99001"})
			require.Equal(t, []string{"success alice"}, b.told())
		},
		"OvertakesTheReportThatBringsTheList": func(t *testing.T, b *bundle) {
			id := large(b)
			for range 2 {
				b.indexed(id, o{"request_job_status": "FINISHED"}).is(200).has(o{"request_job_status": "long_pending", "group_id": "", "request_job_fail_msg": ""})
			}
			require.Empty(t, b.told(), "nobody could open it yet")
			b.callback("cohorts", id, long).is(200).has(o{"request_job_status": "finished", "group_id": "99001", "result_size": 25000})
			require.Equal(t, []string{"success alice"}, b.told())
		},
		"OvertakesAReportThatIsLost": func(t *testing.T, b *bundle) {
			id := large(b)
			b.indexed(id, o{"request_job_status": "FINISHED"}).is(200)
			b.qe.will(func(w http.ResponseWriter, r *http.Request, id string) bool {
				_, _ = fmt.Fprintf(w, `{"status":"FINISHED","jobId":%q,"result":[{"group.id":"99001","count":"25000","message":"LONG_PENDING"}]}`, id)
				return true
			})
			b.wait(3 * time.Minute)
			b.cohort("alice", id).has(o{"request_job_status": "finished", "group_id": "99001", "result_size": 25000})
			require.Equal(t, []string{"success alice"}, b.told())
		},
		"OvertakesAReportThatNeverComes": func(t *testing.T, b *bundle) {
			id := large(b)
			b.indexed(id, o{"request_job_status": "FINISHED"}).is(200)
			b.wait(31 * time.Hour)
			b.cohort("alice", id).has(o{"request_job_status": "failed", "request_job_fail_msg": reasonResult})
		},
		"IsNotNeeded": func(t *testing.T, b *bundle) {
			id := large(b)
			b.callback("cohorts", id, o{"request_job_status": "FINISHED", "group.id": "99001", "group.count": "19999", "extra": o{}}).is(200).
				has(o{"request_job_status": "finished", "result_size": 19999, "exportable": true})
			require.Empty(t, b.told())
		},
		"OfASmallCohortThatGrew": func(t *testing.T, b *bundle) {
			snapshot := b.snapshot("alice", b.request("alice"))
			id := b.creating("alice", snapshot, b.counted("alice", snapshot, 42), nil)
			b.callback("cohorts", id, o{"request_job_status": "LONG_PENDING", "group.id": "99001", "group.count": "31000", "extra": o{}}).is(200).
				has(o{"request_job_status": "long_pending", "result_size": 31000, "exportable": false})
			b.indexed(id, o{"request_job_status": "FINISHED"}).is(200)
			require.Equal(t, []string{"success alice"}, b.told())
		},
		"DoesNotLastForEver": func(t *testing.T, b *bundle) {
			id := large(b)
			b.callback("cohorts", id, long).is(200)
			b.wait(31 * time.Hour)
			b.cohort("alice", id).has(o{"request_job_status": "failed", "request_job_fail_msg": reasonIndex})
			b.indexed(id, o{"request_job_status": "FINISHED"}).is(200).has(o{"request_job_status": "finished", "request_job_fail_msg": ""})
			require.Equal(t, []string{"success alice"}, b.told(), "a first success still counts, and is told")
		},
	} {
		t.Run(name, func(t *testing.T) { each(t, test) })
	}
}

func TestCohortCallbacks(t *testing.T) {
	cases := map[string]struct {
		body   o
		status int
		answer string
		want   o
	}{
		"Failed":         {body: o{"request_job_status": "ERROR", "message": "No space left on device"}, status: 200, want: o{"request_job_status": "failed", "request_job_fail_msg": "No space left on device", "group_id": ""}},
		"FailedSilently": {body: o{"request_job_status": "ERROR"}, status: 200, want: o{"request_job_status": "failed"}},
		"Killed":         {body: o{"request_job_status": "KILLED", "message": "x"}, status: 200, want: o{"request_job_status": "cancelled", "request_job_fail_msg": ""}},
		"Nonsense":       {body: o{"request_job_status": "failed"}, status: 400, answer: `"Bad Request: Invalid job status: failed"`, want: o{"request_job_status": "failed", "request_job_fail_msg": "Bad Request: Invalid job status: failed"}},
		"SizeOnly":       {body: o{"group.count": "12"}, status: 400, want: o{"request_job_status": "started"}},
		"NoGroup":        {body: o{"request_job_status": "FINISHED", "group.id": "-1", "group.count": "12"}, status: 200, want: o{"request_job_status": "failed", "group_id": ""}},
		"NoGroupAtAll":   {body: o{"request_job_status": "FINISHED", "group.count": "12"}, status: 200, want: o{"request_job_status": "failed"}},
		"FixedFields":    {body: o{"request_job_status": "FINISHED", "group.id": "1", "owner": "bob"}, status: 400, want: o{"request_job_status": "started", "group_id": "", "owner": "alice"}},
		"Garbage":        {body: o{"request_job_status": "FINISHED", "group.id": "1", "group.count": "many"}, status: 400, want: o{"request_job_status": "started", "group_id": ""}},
		"NotAReport":     {body: o{"name": "taken"}, status: 200, want: o{"name": "Cohort"}},
	}
	each(t, func(t *testing.T, b *bundle) {
		for name, tt := range cases {
			b.run(t, name, func() {
				snapshot := b.snapshot("alice", b.request("alice"))
				measure := b.counting("alice", snapshot)
				id := b.creating("alice", snapshot, measure, nil)
				a := b.callback("cohorts", id, tt.body).is(tt.status)
				if tt.answer != "" {
					a.json(tt.answer)
				}
				b.cohort("alice", id).has(tt.want).has(o{"result_size": nil})
				b.measure("alice", measure).has(o{"request_job_status": "started"})
			})
		}
	})
}

func TestTheSizeOfACohortFinishesItsRunningCount(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		measure := b.counting("alice", snapshot)
		id := b.creating("alice", snapshot, measure, nil)
		b.callback("cohorts", id, o{"request_job_status": "FINISHED", "group.id": "7", "group.count": "12", "extra": o{}}).is(200).has(o{"result_size": 12})
		b.measure("alice", measure).has(o{"request_job_status": "finished", "measure": 12})
		b.callback("dated-measures", measure, o{"request_job_status": "FINISHED", "count": "13", "extra": o{}}).is(200).has(o{"measure": 12})
	})
}

func TestCohortsAreTheirOwners(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		id, _, measure := b.finished("alice", "88", 42)
		one := "/cohort/cohorts/" + id + "/"
		b.do("alice", "PATCH", one, o{"name": "New", "description": "", "favorite": true, "request_job_status": "FINISHED", "group_id": "1", "group.id": "1",
			"group.count": "1", "request_job_fail_msg": "x", "parent_cohort": nil, "sampling_ratio": 3, "is_subset": true, "deleted": "2001-01-01T00:00:00Z"}).is(200).
			has(o{"name": "New", "description": "", "favorite": true, "request_job_status": "finished", "group_id": "88", "result_size": 42, "request_job_fail_msg": ""})
		require.Len(t, b.pushed(id), 2, "a rename is pushed, too")
		b.measure("alice", measure).has(o{"measure": 42})
		for want, body := range map[string]o{
			`{"name":["This field may not be null."]}`:  {"name": nil},
			`{"name":["This field may not be blank."]}`: {"name": " ", "description": "kept"},
			`{"favorite":["Must be a valid boolean."]}`: {"favorite": "maybe"},
		} {
			b.do("alice", "PATCH", one, body).is(400).json(want)
		}
		for _, fixed := range fixedFields {
			require.Contains(t, b.do("alice", "PATCH", one, o{fixed: "bob", "name": "x"}).is(400).Text, "\"The payload contains non-updatable fields `")
			b.do("alice", "PATCH", "/cohort/cohorts/3f2c8f0e-5d1b-4a7c-9e60-0c1d2e3f4a5b/", o{fixed: "bob"}).is(400)
		}
		b.cohort("alice", id).has(o{"name": "New", "description": ""})
		require.Len(t, b.pushed(id), 2)
		for _, method := range []string{"GET", "PATCH", "DELETE"} {
			b.do("bob", method, one, o{"name": "x"}).is(404).json(`{"detail":"No CohortResult matches the given query."}`)
		}
		b.do("SOLR_ETL", "DELETE", one, nil).is(403)
		b.do("SPARK_JOB_SERVER", "POST", "/cohort/cohorts/", o{"name": "x"}).is(403)
		b.do("SPARK_JOB_SERVER", "GET", one, nil).is(200).has(o{"owner": "alice"})
	})
}

func TestCohortsRefuse(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		measure := b.counted("alice", snapshot, 10)
		theirs := b.snapshot("bob", b.request("bob"))
		their := b.counted("bob", theirs, 10)
		unknown := func(field, id string) string {
			return fmt.Sprintf(`{%q:["Invalid pk \"%s\" - object does not exist."]}`, field, id)
		}
		for want, body := range map[string]o{
			`{"request_query_snapshot":["This field may not be null."]}`:      {"name": "C", "request_query_snapshot": nil, "dated_measure": measure},
			`{"request_query_snapshot":["This field is required."]}`:          {"name": "C", "dated_measure": measure},
			`{"dated_measure":["This field is required."]}`:                   {"name": "C", "request_query_snapshot": snapshot},
			`{"name":["This field may not be null."]}`:                        {"name": nil, "request_query_snapshot": snapshot, "dated_measure": measure},
			`{"name":["This field may not be blank."]}`:                       {"name": "", "request_query_snapshot": snapshot, "dated_measure": measure},
			`{"name":["Ensure this field has no more than 255 characters."]}`: {"name": strings.Repeat("x", 256), "request_query_snapshot": snapshot, "dated_measure": measure},
			`{"request_query_snapshot":["“abc” is not a valid UUID."],"dated_measure":["“def” is not a valid UUID."],"favorite":["Must be a valid boolean."]}`: {"name": "C", "request_query_snapshot": "abc", "dated_measure": "def", "favorite": "maybe"},
			unknown("request_query_snapshot", theirs): {"name": "C", "request_query_snapshot": theirs, "dated_measure": measure},
			unknown("dated_measure", their):           {"name": "C", "request_query_snapshot": snapshot, "dated_measure": their},
		} {
			b.do("alice", "POST", "/cohort/cohorts/", body).is(400).json(want)
		}
		b.do("alice", "GET", "/cohort/cohorts/", nil).has(o{"count": 0})
		b.work()
		require.Empty(t, b.qe.seen("POST create"))
	})
}

func TestSamples(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		parent, snapshot, _ := b.finished("alice", "88123", 1000)
		post := func(user string, body o) answer { return b.do(user, "POST", "/cohort/cohorts/", body) }
		sample := post("alice", o{"name": "Sample", "description": "", "parent_cohort": parent, "sampling_ratio": 0.3}).is(201).
			has(o{"parent_cohort": o{"uuid": parent, "name": "Cohort"}, "sampling_ratio": 0.3, "request_query_snapshot": snapshot, "request_job_status": "new"}).at("uuid").(string)
		b.work()
		b.cohort("alice", sample).has(o{"request_job_status": "started", "result_size": nil})
		job := b.qe.bodies[len(b.qe.bodies)-1]
		require.Equal(t, o{"sampling": 0.3, "details": nil}, job["modeOptions"])
		require.Contains(t, job["cohortDefinitionSyntax"], `"sourcePopulation":{"caresiteCohortList":[88123]}`)
		b.do("alice", "GET", "/cohort/request-query-snapshots/"+snapshot+"/", nil).is(200)
		b.callback("cohorts", sample, o{"request_job_status": "FINISHED", "group.id": "88200", "group.count": "299", "extra": o{}}).is(200).
			has(o{"request_job_status": "finished", "result_size": 299})
		b.cohort("alice", parent).has(o{"result_size": 1000, "sample_cohorts": []any{o{"uuid": sample, "name": "Sample", "sampling_ratio": 0.3}}})
		require.Len(t, b.do("alice", "GET", "/cohort/request-query-snapshots/"+snapshot+"/", nil).at("dated_measures"), 1, "the size of a sample is no count")

		for _, ratio := range []float64{0, 1, 2.5, -1.5} {
			post("alice", o{"name": "S", "parent_cohort": parent, "sampling_ratio": ratio}).is(400).json(`{"sampling_ratio":["Sampling ratio must be between 0 and 1"]}`)
		}
		post("alice", o{"name": "S", "parent_cohort": parent, "sampling_ratio": "half"}).is(400).json(`{"sampling_ratio":["A valid number is required."]}`)
		post("alice", o{"name": "S", "parent_cohort": parent, "sampling_ratio": nil}).is(400).json(`{"sampling_ratio":["This field may not be null."]}`)
		post("alice", o{"name": "S", "parent_cohort": parent}).is(400).json(`{"sampling_ratio":["This field is required."]}`)
		post("alice", o{"name": "S", "parent_cohort": sample, "sampling_ratio": 0.5}).is(400).json(fmt.Sprintf(`{"parent_cohort":["Invalid pk \"%s\" - object does not exist."]}`, sample))
		post("bob", o{"name": "S", "parent_cohort": parent, "sampling_ratio": 0.5}).is(400)

		for filter, count := range map[string]int{"is_sample=false": 1, "is_sample=true": 1, "is_sample=undefined": 2, "parent_cohort=" + parent: 1} {
			b.do("alice", "GET", "/cohort/cohorts/?"+filter, nil).is(200).has(o{"count": count})
		}
		b.do("alice", "DELETE", "/cohort/cohorts/"+parent+"/", nil).is(204)
		b.cohort("alice", sample).has(o{"parent_cohort": nil, "sampling_ratio": 0.3})
	})
}

func TestACreationIsNeverSentTwice(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		measure := b.counted("alice", snapshot, 42)
		b.qe.drops()
		id := b.creating("alice", snapshot, measure, nil)
		b.wait(5 * time.Minute)
		require.Len(t, b.qe.seen("POST create"), 1)
		b.cohort("alice", id).has(o{"request_job_status": "pending", "group_id": ""})
		b.callback("cohorts", id, o{"request_job_status": "FINISHED", "group.id": "7", "group.count": "42", "extra": o{}}).is(200).
			has(o{"request_job_status": "finished", "group_id": "7", "result_size": 42, "request_job_fail_msg": ""})

		silent := b.creating("alice", snapshot, measure, nil)
		b.wait(11 * time.Minute)
		b.cohort("alice", silent).has(o{"request_job_status": "failed", "request_job_fail_msg": reasonLaunch})
		b.callback("cohorts", silent, o{"request_job_status": "FINISHED", "group.id": "8", "group.count": "42", "extra": o{}}).is(200).
			has(o{"request_job_status": "finished", "group_id": "8"})
		require.Len(t, b.qe.seen("POST create"), 2)
	})
}

func TestAWorkerThatDiesWhileItSendsACreation(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		measure := b.counted("alice", snapshot, 42)
		id := b.do("alice", "POST", "/cohort/cohorts/", o{"name": "C", "request_query_snapshot": snapshot, "dated_measure": measure}).is(201).at("uuid").(string)
		var task string
		require.NoError(t, b.db.Read(t.Context()).Table("engine_task").Where("name = 'cohort.launch'").Pluck("id", &task).Error)
		claim, got, err := b.engine.Claim(t.Context(), task)
		require.NoError(t, err)
		require.True(t, got)
		_, err = b.engine.Checkpoint(t.Context(), claim, engine.Event{Name: evSending})
		require.NoError(t, err) // and here it dies
		b.clock.Advance(time.Minute)
		b.work()
		require.Empty(t, b.qe.seen("POST create"), "nobody knows whether it left")
		b.cohort("alice", id).has(o{"request_job_status": "pending"})
		b.wait(10 * time.Minute)
		b.cohort("alice", id).has(o{"request_job_status": "failed"})
	})
}

func TestACreationThatWasCertainlyNotTakenIsSentAgain(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		measure := b.counted("alice", snapshot, 42)
		b.qe.says(503, "starting")
		id := b.creating("alice", snapshot, measure, nil)
		b.cohort("alice", id).has(o{"request_job_status": "pending"})
		b.qe.will(nil)
		b.clock.Advance(time.Minute)
		b.work()
		b.cohort("alice", id).has(o{"request_job_status": "started"})
		b.qe.says(400, "{}")
		refused := b.creating("alice", snapshot, measure, nil)
		b.cohort("alice", refused).has(o{"request_job_status": "failed", "request_job_fail_msg": "QueryExecutor refused the request (400 Bad Request)."})
		require.Len(t, b.pushed(refused), 1)
		b.qe.says(200, "<html>")
		unusable := b.creating("alice", snapshot, measure, nil)
		b.cohort("alice", unusable).has(o{"request_job_status": "failed"})
		b.callback("cohorts", unusable, o{"request_job_status": "FINISHED", "group.id": "9", "group.count": "1"}).is(200).has(o{"request_job_status": "finished"})
	})
}

func TestACohortReportedBeforeTheAnswerToTheLaunch(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		measure := b.counted("alice", snapshot, 42)
		b.qe.will(func(_ http.ResponseWriter, r *http.Request, id string) bool {
			if r.Method == http.MethodPost {
				b.callback("cohorts", id, o{"request_job_status": "FINISHED", "group.id": "7", "group.count": "41", "extra": o{}}).is(200)
			}
			return false
		})
		id := b.creating("alice", snapshot, measure, nil)
		b.cohort("alice", id).has(o{"request_job_status": "finished", "group_id": "7", "result_size": 41})
	})
}

func TestASilentCreationIsAskedAbout(t *testing.T) {
	for name, tt := range map[string]struct {
		body string
		want o
	}{
		"ItFinished":     {`{"status":"FINISHED","jobId":"J2","result":[{"group.id":"55","count":"40","message":"FINISHED"}]}`, o{"request_job_status": "finished", "group_id": "55", "result_size": 40}},
		"ItIsIndexed":    {`{"status":"FINISHED","jobId":"J2","result":[{"group.id":"55","count":"40","message":"LONG_PENDING"}]}`, o{"request_job_status": "long_pending", "group_id": "55"}},
		"ItHasNoList":    {`{"status":"FINISHED","jobId":"J2","result":[{"group.id":"-1","count":"40"}]}`, o{"request_job_status": "failed", "group_id": ""}},
		"ItFailed":       {`{"status":"ERROR","jobId":"J2","result":[{"message":"no space"}]}`, o{"request_job_status": "failed", "request_job_fail_msg": "no space"}},
		"ItRunsAndLasts": {`{"status":"RUNNING","jobId":"J2","result":""}`, o{"request_job_status": "started"}},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, b *bundle) {
				snapshot := b.snapshot("alice", b.request("alice"))
				id := b.creating("alice", snapshot, b.counted("alice", snapshot, 42), nil)
				b.qe.will(func(w http.ResponseWriter, r *http.Request, _ string) bool {
					_, _ = fmt.Fprint(w, tt.body)
					return true
				})
				b.wait(3 * time.Minute)
				b.cohort("alice", id).has(tt.want)
			})
		})
	}
}

func TestAQueuedCreationBeginsAndEnds(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		id := b.creating("alice", snapshot, b.counted("alice", snapshot, 42), nil)
		for _, report := range []struct{ word, status string }{{"PENDING", "pending"}, {"Running", "started"}, {"pending", "pending"}} {
			b.callback("cohorts", id, o{"request_job_status": report.word}).is(200).has(o{"request_job_status": report.status, "request_job_duration": ""})
		}
		require.Len(t, b.pushed(id), 3, "each accepted report is told")
		b.wait(25 * time.Hour)
		b.cohort("alice", id).has(o{"request_job_status": "failed"})
	})
}

func TestARetryOfQueryExecutorsOwnIsTaken(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.tree()
		snapshot := b.snapshot("alice", b.request("alice"))
		cohort := b.creating("alice", snapshot, b.counted("alice", snapshot, 42), nil)
		study := b.study("alice", snapshot)
		count := b.counting("alice", snapshot)
		b.qe.will(func(w http.ResponseWriter, r *http.Request, id string) bool {
			_, _ = fmt.Fprintf(w, `{"status":"ERROR","jobId":%q,"result":[{"message":"an executor was lost"}]}`, id)
			return true
		})
		b.wait(3 * time.Minute)
		failed := o{"request_job_status": "failed", "request_job_fail_msg": "an executor was lost"}
		b.measure("alice", count).has(failed)
		b.cohort("alice", cohort).has(failed)
		b.do("alice", "GET", "/cohort/feasibility-studies/"+study+"/", nil).is(200).has(o{"request_job_status": "failed"})
		b.callback("dated-measures", count, o{"request_job_status": "FINISHED", "count": "7", "extra": o{}}).is(200).
			has(o{"request_job_status": "finished", "measure": 7, "request_job_fail_msg": ""})
		b.callback("cohorts", cohort, o{"request_job_status": "FINISHED", "group.id": "55", "group.count": "40", "extra": o{}}).is(200).
			has(o{"request_job_status": "finished", "group_id": "55", "request_job_fail_msg": ""})
		b.callback("feasibility-studies", study, o{"request_job_status": "FINISHED", "count": "7", "extra": o{"100": "7"}}).is(200).
			has(o{"request_job_status": "finished", "total_count": 7})
	})
}

func TestCohortLists(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		first, _, _ := b.finished("alice", "101", 10)
		b.clock.Advance(time.Hour)
		second, _, _ := b.finished("alice", "102", 20001)
		b.do("alice", "PATCH", "/cohort/cohorts/"+second+"/", o{"name": "Other 50%", "favorite": true, "description": "sans asthme"}).is(200)
		b.clock.Advance(time.Hour)
		request := b.request("alice")
		b.do("alice", "PATCH", "/cohort/requests/"+request+"/", o{"name": "Z"}).is(200)
		snapshot := b.snapshot("alice", request)
		third := b.creating("alice", snapshot, b.counting("alice", snapshot), o{"name": "Third"})
		b.finished("bob", "101", 10)
		names := map[string]string{first: "1", second: "2", third: "3"}
		list := func(query string) string {
			a := b.do("alice", "GET", "/cohort/cohorts/?"+query, nil).is(200)
			text := ""
			for i := range a.at("results").([]any) {
				text += names[a.at(fmt.Sprintf("results.%d.uuid", i)).(string)]
			}
			return text
		}
		for query, want := range map[string]string{
			"": "123", "name=OTHER": "2", "name=o.her": "", "search=ASTHME+other": "2", "search=%25": "2", "min_result_size=11": "2", "max_result_size=10": "1",
			"min_result_size=0": "12", "favorite=True": "2", "favorite=perhaps": "123", "group_id=101,+102,77": "12", "group_id=,": "3", "status=finished": "12",
			"status=started,+pending": "3", "status=undefined": "", "exportable=true": "1", "exportable=false": "23", "request_id=" + request: "3",
			"min_created_at=2026-01-31T14:00:00Z": "3", "max_created_at=2026-01-31": "", "ordering=-created_at": "321", "ordering=result_size": "123",
			"ordering=-result_size": "321", "ordering=-favorite,created_at": "213", "ordering=-request,created_at": "312", "ordering=name": "123",
			"ordering=modified_at": "123", "limit=1&offset=1": "2",
		} {
			require.Equal(t, want, list(query), query)
		}
		for query, want := range map[string]string{
			"ordering=group_id":    `{"ordering":["Select a valid choice. group_id is not one of the available choices."]}`,
			"min_result_size=many": `{"min_result_size":["Enter a number."]}`,
			"request_id=abc":       `{"request_id":["“abc” is not a valid UUID."]}`,
			"parent_cohort=3f2c8f0e-5d1b-4a7c-9e60-0c1d2e3f4a5b": `{"parent_cohort":["Select a valid choice. That choice is not one of the available choices."]}`,
		} {
			b.do("alice", "GET", "/cohort/cohorts/?"+query, nil).is(400).json(want)
		}
		b.do("SOLR_ETL", "GET", "/cohort/cohorts/", nil).is(200).has(o{"count": 4})
		b.do("", "GET", "/cohort/cohorts/jobs/active/", nil).is(200).json(`{"jobs_count":1}`)
	})
}

func TestListsOfJobsNeedTheSameQueriesWhateverThePage(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		measure := b.counted("alice", snapshot, 10)
		for range 41 {
			b.do("alice", "POST", "/cohort/cohorts/", o{"name": "C", "request_query_snapshot": snapshot, "dated_measure": measure, "global_estimate": true}).is(201)
		}
		for path, most := range map[string]int{"/cohort/cohorts/": 3, "/cohort/dated-measures/": 2, "/cohort/request-query-snapshots/": 5} {
			one := databasetest.Count(t, b.db, func() { b.do("alice", "GET", path+"?limit=1", nil).is(200) })
			many := databasetest.Count(t, b.db, func() { b.do("alice", "GET", path+"?limit=40", nil).is(200) })
			require.Equal(t, one, many, path)
			require.LessOrEqual(t, many, most, path)
		}
	})
}

func TestCohortRights(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		for group, owner := range map[string]string{"101": "alice", "102": "alice", "103": "bob"} {
			b.finished(owner, group, 10)
		}
		b.exec(`UPDATE cohort_cohortresult SET created_at = ? WHERE group_id = '102'`, noon.Add(time.Hour))
		path := "/cohort/cohorts/cohort-rights/?group_id="
		rights := `{"read_patient_nomi":false,"read_patient_pseudo":true,"export_csv_xlsx_nomi":false,"export_jupyter_nomi":false,"export_jupyter_pseudo":false}`
		b.do("alice", "GET", path+",101,77,%20102%20,103", nil).is(200).
			json(`[{"cohort_id":"101","rights":` + rights + `},{"cohort_id":"102","rights":` + rights + `}]`)
		require.Equal(t, [][]string{{"4012"}, {"4012"}}, b.rights.asked)
		for _, none := range []string{"", ",,", "%20", "103", "0"} {
			b.do("alice", "GET", path+none, nil).is(200).json(`[]`)
		}
		b.do("alice", "GET", "/cohort/cohorts/cohort-rights/", nil).is(200).json(`[]`)
		b.do("", "GET", path+"101", nil).is(403)
		b.exec(`UPDATE cohort_requestquerysnapshot SET perimeters_ids = NULL`)
		b.do("alice", "GET", path+"101", nil).is(200)
		require.Equal(t, [][]string{{"4012"}}, b.rights.asked, "from the query")
		b.exec(`UPDATE cohort_requestquerysnapshot SET serialized_query = '{"sourcePopulation":{"caresiteCohortList":[4013]}}', perimeters_ids = ?`, database.StringArray{})
		b.do("alice", "GET", path+"101", nil).is(200)
		require.Equal(t, [][]string{{"4013"}}, b.rights.asked, "from an old query, with numbers")
		b.exec(`UPDATE cohort_requestquerysnapshot SET serialized_query = '{}'`)
		require.Contains(t, b.do("alice", "GET", path+"101", nil).is(200).Text, `"read_patient_pseudo":false`)
	})
}

func TestDeletingEndsJobs(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		request := b.request("alice")
		snapshot := b.snapshot("alice", request)
		measure := b.counting("alice", snapshot)
		first, second := b.creating("alice", snapshot, measure, nil), b.creating("alice", snapshot, measure, nil)
		b.do("alice", "DELETE", "/cohort/cohorts/"+first+","+uuid.NewString()+"/", nil).is(204)
		b.work()
		require.Equal(t, []string{"DELETE J2"}, b.qe.seen("DELETE"))
		b.do("alice", "DELETE", "/cohort/cohorts/"+first+"/", nil).is(404)
		b.do("alice", "DELETE", "/cohort/cohorts/"+first+","+uuid.NewString()+"/", nil).is(204)
		b.do("alice", "DELETE", "/cohort/cohorts/aaa,bbb/", nil).is(400).json(`{"error":"Invalid value for uuid param, uuids=['aaa', 'bbb']"}`)
		b.do("bob", "DELETE", "/cohort/requests/"+request+","+request+"/", nil).is(204)
		b.measure("alice", measure).has(o{"request_job_status": "started"})

		b.do("alice", "DELETE", "/cohort/requests/"+request+"/", nil).is(204)
		b.work()
		require.ElementsMatch(t, []string{"DELETE J2", "DELETE J1", "DELETE J3"}, b.qe.seen("DELETE"))
		for _, path := range []string{"dated-measures/" + measure, "cohorts/" + second, "request-query-snapshots/" + snapshot} {
			b.do("alice", "GET", "/cohort/"+path+"/", nil).is(404)
		}
		b.callback("cohorts", second, o{"request_job_status": "FINISHED", "group.id": "1", "group.count": "1"}).is(404)
		b.callback("dated-measures", measure, o{"request_job_status": "FINISHED", "count": "1"}).is(404)
		require.Empty(t, b.pushed(first))
		require.Empty(t, b.pushed(second))
		require.Empty(t, b.pushed(measure))
		require.Empty(t, b.told())
		var byCascade int64
		require.NoError(t, b.db.Read(t.Context()).Table("cohort_datedmeasure").Where("deleted IS NOT NULL AND deleted_by_cascade").Count(&byCascade).Error)
		require.EqualValues(t, 1, byCascade)
	})
}

func TestDeletingTakesExportTablesAlong(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		id, _, _ := b.finished("alice", "101", 10)
		b.exec(`INSERT INTO export (uuid, deleted_by_cascade, created_at, modified_at, request_job_id, request_job_status, request_job_fail_msg,
			request_job_duration, output_format, nominative, shift_dates, group_tables, owner_id, is_user_notified, retried)
			VALUES (?, ?, ?, ?, '', 'new', '', '', 'csv', ?, ?, ?, 'alice', ?, ?)`, uuid.New(), false, noon, noon, false, false, false, false, false)
		b.exec(`INSERT INTO export_table (uuid, deleted_by_cascade, created_at, modified_at, name, export_id, respect_table_relationships,
			cohort_result_source_id, pivot_merge) SELECT ?, ?, ?, ?, 'person', uuid, ?, ?, ? FROM export`, uuid.New(), false, noon, noon, true, id, false)
		b.do("alice", "DELETE", "/cohort/cohorts/"+id+"/", nil).is(204)
		var n int64
		require.NoError(t, b.db.Read(t.Context()).Table("export_table").Where("deleted IS NOT NULL AND deleted_by_cascade").Count(&n).Error)
		require.EqualValues(t, 1, n)
		require.NoError(t, b.db.Read(t.Context()).Table("export").Where("deleted IS NULL").Count(&n).Error)
		require.EqualValues(t, 1, n)
	})
}

func TestSubsets(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		source, snapshot, _ := b.finished("alice", "88123", 42)
		filter := uuid.New()
		b.exec(`INSERT INTO cohort_fhirfilter (uuid, deleted_by_cascade, created_at, modified_at, fhir_resource, fhir_version, query_version, name, filter,
			owner_id, auto_generated, identifying) VALUES (?, ?, ?, ?, 'DocumentReference', '4.0', 'v1.4.4', 'f', 'type=x', 'alice', ?, ?)`,
			filter, false, noon, noon, false, false)
		want := Subset{Owner: "alice", Table: "note", Source: uuid.MustParse(source), Filter: filter, Authorization: "Bearer tok", Method: "JWT"}
		var id uuid.UUID
		require.NoError(t, b.db.Update(t.Context(), func(tx *database.Tx) (err error) {
			id, err = b.service.CreateSubset(t.Context(), tx, want)
			return err
		}))
		var ended []engine.State
		b.engine.Subscribe(KindCreate, func(_ context.Context, _ *database.Tx, c engine.Change) ([]engine.Event, error) {
			if c.After.EndedAt != nil {
				ended = append(ended, c.After.State)
			}
			return nil, nil
		})
		b.work()
		job := b.qe.bodies[len(b.qe.bodies)-1]
		require.Equal(t, id.String(), job["cohortUuid"])
		require.Contains(t, job["cohortDefinitionSyntax"], `"sourcePopulation":{"caresiteCohortList":[88123]},"resourceType":"DocumentReference"`)
		one := "/cohort/cohorts/" + id.String() + "/"
		for _, method := range []string{"GET", "PATCH", "DELETE"} {
			b.do("alice", method, one, o{"name": "x"}).is(404)
		}
		b.do("alice", "DELETE", "/cohort/cohorts/"+id.String()+","+id.String()+"/", nil).is(204)
		b.do("SPARK_JOB_SERVER", "GET", one, nil).is(200).has(o{"name": "note_88123", "request_job_status": "started", "result_size": 42})
		b.do("alice", "GET", "/cohort/cohorts/", nil).has(o{"count": 1})
		b.do("alice", "GET", "/cohort/request-query-snapshots/", nil).has(o{"count": 1})
		b.do("alice", "GET", "/cohort/requests/", nil).has(o{"count": 1})
		b.indexed(id.String(), o{"request_job_status": "FINISHED", "group.id": "5", "group.count": "9"}).is(200).has(o{"request_job_status": "finished"})
		require.Equal(t, []engine.State{engine.Finished}, ended)
		require.Empty(t, b.told(), "nobody asked for a subset")
		b.do("alice", "POST", "/cohort/request-query-snapshots/", o{"previous_snapshot": snapshot, "serialized_query": query}).is(201).has(o{"version": 2})

		want.Source = uuid.New()
		require.Error(t, b.db.Update(t.Context(), func(tx *database.Tx) error {
			_, err := b.service.CreateSubset(t.Context(), tx, want)
			return err
		}))
	})
}

func TestOwnersOfJobsMayEndThem(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		id := b.creating("alice", snapshot, b.counted("alice", snapshot, 42), nil)
		_, err := b.engine.Cancel(t.Context(), mustJob(t, b, KindCreate, id).ID, "alice")
		require.NoError(t, err)
		b.work()
		b.cohort("alice", id).has(o{"request_job_status": "cancelled"})
		require.Equal(t, []string{"DELETE J2"}, b.qe.seen("DELETE"))
	})
}

func TestAnAnswerThatComesAfterTheLeaseIsLostIsKept(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		measure := b.counted("alice", snapshot, 42)
		b.qe.will(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
			if r.Method == http.MethodPost { // meanwhile another worker takes the task and finds that nothing may be sent
				b.exec(`UPDATE engine_task SET lease_owner = 'another' WHERE name = 'cohort.launch'`)
			}
			return false
		})
		id := b.creating("alice", snapshot, measure, nil)
		b.cohort("alice", id).has(o{"request_job_status": "started"})
		require.Equal(t, "J2", mustJob(t, b, KindCreate, id).ExternalID)
		require.Len(t, b.qe.seen("POST create"), 1)
	})
}

func TestManyGroupsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.finished("alice", "101", 10)
		list := strings.Repeat("9,", 70_000) + "101"
		b.do("alice", "GET", "/cohort/cohorts/?group_id="+list, nil).is(200).has(o{"count": 1})
		b.do("alice", "GET", "/cohort/cohorts/cohort-rights/?group_id="+list, nil).is(200)
		b.do("alice", "POST", "/cohort/request-query-snapshots/"+b.snapshot("alice", b.request("alice"))+"/share/", o{"recipients": strings.Repeat("bob,", 500)}).is(400)
	})
}

func TestDeletingWhileAReportComes(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		for i := range 4 {
			snapshot := b.snapshot("alice", b.request("alice"))
			measure := b.counting("alice", snapshot)
			id := b.creating("alice", snapshot, measure, nil)
			var wg sync.WaitGroup
			wg.Go(func() { b.do("alice", "DELETE", "/cohort/cohorts/"+id+"/", nil).is(204) })
			wg.Go(func() {
				a := b.callback("cohorts", id, o{"request_job_status": "FINISHED", "group.id": fmt.Sprint(900 + i), "group.count": "1", "extra": o{}})
				require.Contains(t, []int{200, 404}, a.Status, a.Text)
			})
			wg.Go(func() {
				b.callback("dated-measures", measure, o{"request_job_status": "FINISHED", "count": "2", "extra": o{}}).is(200)
			})
			wg.Wait()
			b.do("alice", "GET", "/cohort/cohorts/"+id+"/", nil).is(404)
			b.measure("alice", measure).has(o{"request_job_status": "finished"})
			require.NotNil(t, mustJob(t, b, KindCreate, id).EndedAt)
		}
	})
}
