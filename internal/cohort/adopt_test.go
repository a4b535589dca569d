package cohort

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
)

// abandon makes the rows what the old system would have left: without jobs of ours.
func (b *bundle) abandon() {
	b.t.Helper()
	for _, table := range []string{"engine_task", "engine_notification", "engine_event", "engine_secret", "engine_job"} {
		b.exec("DELETE FROM " + table)
	}
}

// settle settles what was left; the tables were taken over at that moment.
func (b *bundle) settle(giveUp bool) engine.Tally {
	b.t.Helper()
	tally, err := b.jobs.SettleLeft(b.t.Context(), b.clock.Now().Add(time.Minute), giveUp)
	require.NoError(b.t, err)
	return tally
}

// knows has QueryExecutor answer about single jobs; it does not know the others.
func (q *executorDouble) knows(answers map[string]string) {
	q.will(func(w http.ResponseWriter, r *http.Request, id string) bool {
		if r.Method != http.MethodGet {
			return false
		}
		text, known := answers[id]
		if !known {
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, text)
		return true
	})
}

const (
	running = `{"status":"RUNNING","result":""}`
	killed  = `{"status":"KILLED","result":""}`
)

func over(message, group string, count int) string {
	return fmt.Sprintf(`{"status":"FINISHED","result":[{"message":%q,"group.id":%q,"count":%d,"extra":{"100":"7"}}]}`, message, group, count)
}

func TestSettleCounts(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		counts := map[string]string{}
		for i, name := range []string{"running", "done", "failed", "killed", "forgotten", "nameless", "numbered", "deleted", "ended"} {
			id := b.counting("alice", b.snapshot("alice", b.request("alice")))
			counts[name] = id
			b.exec("UPDATE cohort_datedmeasure SET request_job_id = ?, request_job_status = 'started' WHERE uuid = ?", fmt.Sprintf("old%d", i), id)
		}
		b.exec("UPDATE cohort_datedmeasure SET request_job_id = '', request_job_status = 'pending' WHERE uuid = ?", counts["nameless"])
		b.exec("UPDATE cohort_datedmeasure SET measure = 5, request_job_status = 'long_pending' WHERE uuid = ?", counts["numbered"])
		b.exec("UPDATE cohort_datedmeasure SET deleted = created_at WHERE uuid = ?", counts["deleted"])
		b.exec("UPDATE cohort_datedmeasure SET request_job_status = 'cancelled' WHERE uuid = ?", counts["ended"])
		b.abandon()
		b.qe.knows(map[string]string{"old0": running, "old1": over("FINISHED", "", 42), "old2": `{"status":"ERROR","result":[{"message":"no such code"}]}`, "old3": killed})

		require.Equal(t, engine.Tally{"cohort_datedmeasure": {engine.Followed: 1, engine.Recorded: 4, engine.Lost: 2}}, b.settle(false))
		for name, want := range map[string]o{
			"running":   {"request_job_status": "started", "request_job_fail_msg": ""},
			"done":      {"request_job_status": "finished", "measure": 42},
			"failed":    {"request_job_status": "failed", "request_job_fail_msg": "no such code"},
			"killed":    {"request_job_status": "cancelled"},
			"forgotten": {"request_job_status": "failed", "request_job_fail_msg": reasonGone},
			"nameless":  {"request_job_status": "failed", "request_job_fail_msg": reasonNameless},
			"numbered":  {"request_job_status": "finished", "measure": 5},
			"ended":     {"request_job_status": "cancelled"},
		} {
			b.measure("alice", counts[name]).has(want)
		}
		require.Empty(t, b.told())
		require.Empty(t, b.pushed(counts["forgotten"]), "nobody is told")
		require.Empty(t, b.settle(false), "a second time there is nothing left")

		// What is followed has a deadline; a result that is reported after all still counts.
		job, _, err := b.engine.Jobs(t.Context(), engine.Filter{Running: true}, 10, 0)
		require.NoError(t, err)
		require.Len(t, job, 1)
		require.Equal(t, []any{counts["running"], engine.Started, "old0"}, []any{job[0].Subject, job[0].State, job[0].ExternalID})
		require.NotNil(t, job[0].Deadline)
		b.callback("dated-measures", counts["running"], o{"request_job_status": "FINISHED", "count": "9", "extra": o{}}).is(200).has(o{"measure": 9, "request_job_status": "finished"})
		b.callback("dated-measures", counts["forgotten"], o{"request_job_status": "FINISHED", "count": "8", "extra": o{}}).is(200).has(o{"measure": 8, "request_job_status": "finished"})
	})
}

func TestSettleCohorts(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		cohorts := map[string]string{}
		for i, name := range []string{"small", "large", "made", "indexing", "indexed_long_ago", "unsent", "lost", "empty"} {
			snapshot := b.snapshot("alice", b.request("alice"))
			id := b.creating("alice", snapshot, b.counted("alice", snapshot, 10), nil)
			cohorts[name] = id
			status := "started"
			if name == "large" || name == "made" || name == "indexing" || name == "indexed_long_ago" {
				status = "long_pending"
			}
			b.exec("UPDATE cohort_cohortresult SET request_job_id = ?, request_job_status = ? WHERE uuid = ?", fmt.Sprintf("old%d", i), status, id)
		}
		b.exec("UPDATE cohort_cohortresult SET group_id = '77' WHERE uuid = ?", cohorts["indexed_long_ago"])
		b.exec("UPDATE cohort_cohortresult SET request_job_id = '', request_job_status = 'pending' WHERE uuid = ?", cohorts["unsent"])
		b.abandon()
		b.qe.knows(map[string]string{"old0": running, "old1": running, "old2": over("FINISHED", "88", 1230), "old3": over("LONG_PENDING", "99", 30000),
			"old7": over("FINISHED", "", 0)})

		require.Equal(t, engine.Tally{"cohort_cohortresult": {engine.Followed: 4, engine.Recorded: 2, engine.Lost: 2}}, b.settle(false))
		states := map[string]engine.State{}
		for name, id := range cohorts {
			jobs, _, err := b.engine.Jobs(t.Context(), engine.Filter{Subjects: []string{id}}, 1, 0)
			require.NoError(t, err)
			require.Len(t, jobs, 1, name)
			states[name] = jobs[0].State
		}
		require.Equal(t, map[string]engine.State{"small": engine.Started, "large": stateLarge, "made": engine.Finished, "indexing": stateIndexing,
			"indexed_long_ago": stateIndexing, "unsent": engine.GaveUp, "lost": engine.GaveUp, "empty": engine.Failed}, states)
		b.cohort("alice", cohorts["made"]).has(o{"request_job_status": "finished", "group_id": "88", "result_size": 1230})
		b.cohort("alice", cohorts["indexing"]).has(o{"request_job_status": "long_pending", "group_id": "99"})
		b.cohort("alice", cohorts["unsent"]).has(o{"request_job_status": "failed", "request_job_fail_msg": reasonNameless})
		require.Empty(t, b.told())
		require.Empty(t, b.settle(false))
		b.indexed(cohorts["indexed_long_ago"], o{"request_job_status": "FINISHED"}).is(200).has(o{"request_job_status": "finished", "group_id": "77"})
		require.Equal(t, []string{"success alice"}, b.told())
	})
}

func TestSettleStudies(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		ids := make([]string, 3)
		for i := range ids {
			ids[i] = b.do("alice", "POST", "/cohort/feasibility-studies/", o{"request_query_snapshot_id": b.snapshot("alice", b.request("alice"))}).is(201).at("uuid").(string)
			b.work()
			b.exec("UPDATE cohort_feasibilitystudy SET request_job_id = ? WHERE uuid = ?", fmt.Sprintf("old%d", i), ids[i])
		}
		b.abandon()
		b.qe.knows(map[string]string{"old0": running, "old1": over("FINISHED", "", 12)})
		require.Equal(t, engine.Tally{"cohort_feasibilitystudy": {engine.Followed: 1, engine.Recorded: 1, engine.Lost: 1}}, b.settle(false))
		for i, status := range []string{"started", "finished", "failed"} {
			b.do("alice", "GET", "/cohort/feasibility-studies/"+ids[i]+"/", nil).is(200).has(o{"request_job_status": status})
		}
		require.Equal(t, []string{"success alice"}, b.told(), "the result is told, the loss is not")
	})
}

func TestSettleWithoutAnswers(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		var ids []string
		for i := range 5 {
			ids = append(ids, b.counting("alice", b.snapshot("alice", b.request("alice"))))
			b.exec("UPDATE cohort_datedmeasure SET request_job_id = ? WHERE uuid = ?", fmt.Sprintf("old%d", i), ids[i])
		}
		b.abandon()
		b.qe.will(func(w http.ResponseWriter, _ *http.Request, _ string) bool {
			w.WriteHeader(http.StatusBadGateway)
			return true
		})
		before := len(b.qe.seen("GET"))
		require.Equal(t, engine.Tally{"cohort_datedmeasure": {engine.Unasked: 5}}, b.settle(false))
		require.LessOrEqual(t, len(b.qe.seen("GET"))-before, 3*maxDeaf, "a dead system is not asked for ever")
		b.measure("alice", ids[0]).has(o{"request_job_status": "started"})
		require.Equal(t, engine.Tally{"cohort_datedmeasure": {engine.Lost: 5}}, b.settle(true))
		b.measure("alice", ids[4]).has(o{"request_job_status": "failed", "request_job_fail_msg": reasonUnasked})
	})
}

func TestSettleLeavesSamplesToTheirCohorts(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		measure := b.counted("alice", snapshot, 10)
		id := b.creating("alice", snapshot, measure, nil)
		b.exec("UPDATE cohort_cohortresult SET request_job_id = 'old' WHERE uuid = ?", id)
		b.exec("UPDATE cohort_datedmeasure SET request_job_id = '', request_job_status = 'new', measure = NULL WHERE uuid = ?", measure)
		b.abandon()
		b.qe.knows(map[string]string{"old": running})
		require.Equal(t, engine.Tally{"cohort_cohortresult": {engine.Followed: 1}, "cohort_datedmeasure": {engine.Depends: 1}}, b.settle(false))
		b.callback("cohorts", id, o{"request_job_status": "FINISHED", "group.id": "88", "group.count": "3", "extra": o{}}).is(200)
		b.measure("alice", measure).has(o{"request_job_status": "finished", "measure": 3})
	})
}
