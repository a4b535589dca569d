package cohort

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/simulate"
	"cohortflow/internal/simulate/faultplan"
)

// workflow is a bundle whose outside is the simulated hospital, which calls back over HTTP.
type workflow struct {
	*bundle
	suite *simulate.Suite
	root  int64
}

func newWorkflow(t *testing.T, db *database.DB, limit int) *workflow {
	t.Helper()
	suite, err := simulate.New(simulate.Config{Log: slog.New(slog.DiscardHandler), Clock: clock.System{}, Dir: t.TempDir(), Seed: 7, Patients: 300,
		Perimeters: 30, QEToken: "qe-token", ETLToken: "etl-token", CohortCreationLimit: limit})
	require.NoError(t, err)
	require.NoError(t, suite.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, suite.Stop(context.WithoutCancel(t.Context()))) })
	w := &workflow{suite: suite, root: suite.Hospital().Perimeters()[0].CohortID}
	at := suite.Addresses()
	w.bundle = setupWith(t, db, outside{fhir: at.FHIR, qe: at.QueryExecutor, root: strconv.FormatInt(w.root, 10)})
	suite.SetBackend(serve(t, w.server))
	return w
}

func (w *workflow) query(filter string) string {
	return fmt.Sprintf(`{"version":"v1.6.1","_type":"request","sourcePopulation":{"caresiteCohortList":["%d"]},"request":{"_id":0,"_type":"andGroup",`+
		`"isInclusive":true,"criteria":[{"_type":"basicResource","_id":1,"isInclusive":true,"resourceType":"Patient","filterFhir":%q}],"temporalConstraints":[]}}`,
		w.root, filter)
}

// becomes waits until a row shows a status.
func (w *workflow) becomes(path, status string) answer {
	w.t.Helper()
	var a answer
	require.Eventually(w.t, func() bool {
		a = w.do("alice", "GET", path, nil)
		return a.Status == 200 && a.at("request_job_status") == status
	}, 20*time.Second, 10*time.Millisecond, "%s does not become %s", path, status)
	return a
}

func TestWorkflowWithTheSimulatedHospital(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorkflow(t, db, 20000)
		request := w.request("alice")
		document := w.query("active=true&gender=f")
		want, err := w.suite.Evaluate(document)
		require.NoError(t, err)
		require.Positive(t, want)
		snapshot := w.do("alice", "POST", "/cohort/request-query-snapshots/", o{"request": request, "serialized_query": document}).is(201).at("uuid").(string)

		count := w.do("alice", "POST", "/cohort/dated-measures/", o{"request_query_snapshot": snapshot, "stageDetails": "all"}).is(201).at("uuid").(string)
		w.work()
		w.becomes("/cohort/dated-measures/"+count+"/", "finished").has(o{"measure": want, "extra": o{"criteria_count_0": fmt.Sprint(want), "criteria_count_1": fmt.Sprint(want)}})

		cohort := w.do("alice", "POST", "/cohort/cohorts/", o{"name": "C", "request_query_snapshot": snapshot, "dated_measure": count, "global_estimate": true}).is(201).at("uuid").(string)
		w.work()
		group := w.becomes("/cohort/cohorts/"+cohort+"/", "finished").has(o{"result_size": want}).at("group_id").(string)
		require.NotEmpty(t, group)
		require.Eventually(t, func() bool { return w.cohort("alice", cohort).at("measure_max") != nil }, 20*time.Second, 10*time.Millisecond)

		sample := w.do("alice", "POST", "/cohort/cohorts/", o{"name": "S", "parent_cohort": cohort, "sampling_ratio": 0.5}).is(201).at("uuid").(string)
		w.work()
		size := w.becomes("/cohort/cohorts/"+sample+"/", "finished").at("result_size").(float64)
		require.Less(t, size, float64(want))
		require.Positive(t, size)

		study := w.do("alice", "POST", "/cohort/feasibility-studies/", o{"request_query_snapshot": snapshot}).is(201).at("uuid").(string)
		w.work()
		w.becomes("/cohort/feasibility-studies/"+study+"/", "finished").has(o{"total_count": want})
		w.do("alice", "GET", "/cohort/feasibility-studies/"+study+"/download/", nil).is(200)
	})
}

func TestALargeCohortIsIndexedByTheSimulatedETL(t *testing.T) {
	t.Parallel()
	w := newWorkflow(t, databasetest.SQLite(t), 5)
	snapshot := w.do("alice", "POST", "/cohort/request-query-snapshots/", o{"request": w.request("alice"), "serialized_query": w.query("gender=f")}).is(201).at("uuid").(string)
	count := w.do("alice", "POST", "/cohort/dated-measures/", o{"request_query_snapshot": snapshot}).is(201).at("uuid").(string)
	w.work()
	w.becomes("/cohort/dated-measures/"+count+"/", "finished")
	cohort := w.do("alice", "POST", "/cohort/cohorts/", o{"name": "C", "request_query_snapshot": snapshot, "dated_measure": count}).is(201).at("uuid").(string)
	w.work()
	w.becomes("/cohort/cohorts/"+cohort+"/", "finished")
	require.Equal(t, []string{"success alice"}, w.told())
}

func TestLostDoubledAndEarlyReportsOfTheSimulatedHospital(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]faultplan.Rule{"Lost": {Peer: "qe", Action: faultplan.CallbackLost}, "Doubled": {Peer: "qe", Action: faultplan.CallbackDuplicate, Count: 3},
		"Early": {Peer: "qe", Action: faultplan.CallbackEarly}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorkflow(t, databasetest.SQLite(t), 20000)
			require.NoError(t, w.suite.Faults().Set(rule))
			snapshot := w.do("alice", "POST", "/cohort/request-query-snapshots/", o{"request": w.request("alice"), "serialized_query": w.query("gender=f")}).is(201).at("uuid").(string)
			count := w.do("alice", "POST", "/cohort/dated-measures/", o{"request_query_snapshot": snapshot}).is(201).at("uuid").(string)
			w.work()
			if rule.Action == faultplan.CallbackLost {
				require.Eventually(t, func() bool { // QueryExecutor has ended it by then, and nobody heard of it
					w.wait(3 * time.Minute)
					return w.measure("alice", count).at("request_job_status") == "finished"
				}, 20*time.Second, 20*time.Millisecond)
			}
			w.becomes("/cohort/dated-measures/"+count+"/", "finished")
			require.Len(t, w.pushed(count), 1)
		})
	}
}
