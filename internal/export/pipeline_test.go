package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
)

func TestThirdPartyExport(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, false, nil)
		w.api.answer("/yaml", reply{body: `{"task_id":"123456"}`})
		w.api.answer("/task_status", says("Received"), says("Pending"), reply{status: 502, body: "<html>"}, says("Retry"), says("Running"), says("FinishedSuccessfully"))
		mine := w.cohort("alice", "98213")
		v := w.create("alice", csvOf(mine, object{"table_name": "measurement", "cohort_result_source": mine, "columns": []string{"2", "é"}},
			object{"table_name": "person", "cohort_result_source": mine, "columns": []string{"person_id"}}))
		w.work(0)
		require.Equal(t, "pending", w.get(v.UUID).JobStatus)
		require.Equal(t, "123456", w.get(v.UUID).JobID)
		require.Equal(t, []string{"csv_export_received"}, w.mails.templates())
		var seen []string
		for range 6 {
			w.work(1)
			seen = append(seen, w.get(v.UUID).JobStatus)
		}
		require.Equal(t, []string{"new", "pending", "pending", "pending", "started", "finished"}, seen)
		e := w.get(v.UUID)
		require.Empty(t, e.JobFailMsg)
		require.True(t, e.IsUserNotified)
		require.Regexp(t, `^0:00:\d\d(\.\d{6})?$`, e.JobDuration)
		require.Equal(t, []string{"csv_export_received", "csv_export_succeeded"}, w.mails.templates())
		require.Equal(t, "[Cohorte 98213] Export `Cohort 98213` terminé", w.mails.sent[1].Subject)
		require.Equal(t, "https://front/download/exports/"+v.UUID.String()+"/", w.mails.sent[1].Data["download_url"])
		require.Equal(t, 1, w.api.count("POST /yaml t0ken"))
		require.Equal(t, "GET /task_status?return_err_logs=True&return_out_logs=True&task_uuid=123456 t0ken", w.api.calls[1])
		part := w.api.bodies[0]
		require.Contains(t, part, "Content-Disposition: form-data; name=\"yaml_file\"; filename=\"yaml_file.yaml\"\r\nContent-Type: application/x-yaml\r\n\r\n")
		for _, line := range []string{"joinOnPrimaryKey: false\noutput:\n  type: csv\n  filePath: /csv/" + *v.TargetName + ".zip\noverwrite: true\ntablesToExport:\n- tableName: person\n  cohortId: \"98213\"\n  relation: true\n  columnsToExport:\n  - person_id\n- tableName: measurement\n  relation: true\n",
			"noDateShift: true\ndisableTerminology: false\n"} {
			require.Contains(t, part, line)
		}
		w.work(5)
		require.Equal(t, 6, w.api.count("GET /task_status"), "an ended job is left alone")
	})
}

func TestThirdPartyFailures(t *testing.T) {
	t.Parallel()
	always := func(r reply) []reply { return []reply{r} }
	for name, c := range map[string]struct {
		launch, status []reply
		tables         []object
		want           string
		launches       int
	}{
		"no job id":         {always(reply{body: `{"message":"queued"}`}), nil, nil, "Export terminated with an error: Got an invalid Job ID: `None`", 1},
		"no JSON":           {always(reply{status: 500, body: "<html>oops</html>"}), nil, nil, "Export terminated with an error: the export API answered 500 Internal Server Error", 1},
		"refused":           {always(reply{status: 422, body: `{"detail":"no table"}`}), nil, nil, `Export terminated with an error: {"detail":"no table"}`, 1},
		"another 2xx":       {always(reply{status: 202, body: `{"task_id":"1"}`}), nil, nil, `Export terminated with an error: {"task_id":"1"}`, 1},
		"half an answer":    {always(reply{body: `{"task_`}), nil, nil, "Export terminated with an error: the export API gave an answer that cannot be read", 1},
		"cut off":           {always(reply{drop: true}), nil, nil, "Export terminated with an error: the connection to the export API broke", 1},
		"job fails":         {nil, []reply{says("Running"), says("FinishedWithError")}, nil, "Export terminated with an error: Job `j` ended with status `failed`", 1},
		"job revoked":       {nil, always(says("Revoked")), nil, "Export terminated with an error: Job `j` ended with status `cancelled`", 1},
		"job without":       {nil, always(reply{body: `{"state":"fine"}`}), nil, "Export terminated with an error: Job `j` ended with status `unknown`", 1},
		"a 404 with status": {nil, always(reply{status: 404, body: `{"task_status":"NotFound"}`}), nil, "Export terminated with an error: Job `j` ended with status `failed`", 1},
		"five failed polls": {nil, []reply{says("Running"), {status: 500, body: "x"}}, nil, "Export terminated with an error: Job `j` ended with status `started`", 1},
		"no person":         {nil, nil, []object{{"table_name": "note_nlp"}}, "Export terminated with an error: Missing person table from export", 0},
		"two persons":       {nil, nil, []object{{"table_name": "person"}, {"table_name": "patient"}}, "Export terminated with an error: The export has more than one person table", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, databasetest.SQLite(t), false, nil)
			w.api.answer("/yaml", reply{body: `{"task_id":"j"}`})
			if c.launch != nil {
				w.api.answer("/yaml", c.launch...)
			}
			w.api.answer("/task_status", c.status...)
			mine := w.cohort("alice", "98213")
			tables := c.tables
			for _, table := range tables {
				table["cohort_result_source"] = mine
			}
			v := w.create("alice", csvOf(mine, tables...))
			w.work(12)
			e := w.get(v.UUID)
			require.Equal(t, "failed", e.JobStatus)
			require.Equal(t, c.want, e.JobFailMsg)
			require.Equal(t, c.launches, w.api.count("POST /yaml"))
			require.True(t, e.IsUserNotified)
			templates := strings.Join(w.mails.templates(), " ")
			require.Equal(t, 1, strings.Count(templates, "export_failed_admins"), templates)
			require.Equal(t, 2, strings.Count(templates, "export_failed"), "the owner and the administrators, once each")
			require.NotContains(t, templates, "succeeded")
		})
	}
}

// The API is not there: nothing was sent, so it is asked again; when it comes back, once is enough.
func TestAnUnreachableAPIIsAskedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, databasetest.SQLite(t), false, nil)
	good := w.service.cfg.API.base
	w.service.cfg.API.base = "http://127.0.0.1:1"
	v := w.create("alice", csvOf(w.cohort("alice", "98213")))
	w.work(3)
	require.Equal(t, "new", w.get(v.UUID).JobStatus)
	w.service.cfg.API.base = good
	w.api.answer("/yaml", reply{body: `{"task_id":"j"}`})
	w.api.answer("/task_status", says("FinishedSuccessfully"))
	w.work(3)
	require.Equal(t, "finished", w.get(v.UUID).JobStatus)
	require.Equal(t, 1, w.api.count("POST /yaml"))
	require.Equal(t, []string{"csv_export_received", "csv_export_succeeded"}, w.mails.templates(), "received is told once")

	w.service.cfg.API.base = "http://127.0.0.1:1"
	v = w.create("alice", csvOf(w.cohort("alice", "98214")))
	w.work(40)
	require.Equal(t, "Export terminated with an error: the export API cannot be reached", w.get(v.UUID).JobFailMsg)
}

// A worker that dies between sending and keeping the answer leaves a launch of which nobody knows: it is not sent again.
func TestALaunchIsNeverSentTwice(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, false, nil)
		v := w.create("alice", csvOf(w.cohort("alice", "98213")))
		result, err := w.engine.Apply(t.Context(), engine.Event{Kind: KindName, Subject: v.UUID.String(), Name: eventSending})
		require.NoError(t, err)
		require.True(t, result.Applied)
		w.work(1)
		require.Equal(t, "Export terminated with an error: it is not known whether the export API accepted it", w.get(v.UUID).JobFailMsg)
		require.Zero(t, w.api.count("POST /yaml"))
	})
}

func hiveOf(cohort uuid.UUID, more object) object {
	return merge(object{"output_format": "hive", "nominative": true, "datalab": labID, "export_tables": []object{
		{"table_name": "patient", "cohort_result_source": cohort}, {"table_name": "care_site"}}}, more)
}

const ok = `{"status":"success","ret_code":0,"err":null}`

func (w *world) hadoopIsWell() {
	w.api.answer("/hadoop/hive/create_base_hive", reply{body: `{"task_id":"db1"}`})
	w.api.answer("/hadoop/task_status", says("Running"), says("FinishedSuccessfully"))
	w.api.answer("/hadoop/hdfs/chown_directory", reply{body: ok})
	w.api.answer("/yaml", reply{body: `{"task_id":"j"}`})
	w.api.answer("/task_status", says("FinishedSuccessfully"))
}

func TestTransferToADatalab(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, false, nil)
		w.hadoopIsWell()
		v := w.create("bob", hiveOf(w.cohort("alice", "98213"), object{"nominative": false, "shift_dates": true}))
		require.Equal(t, Need{Jupyter: true}, w.rights.need)
		require.Equal(t, "lab_20260314_120000000000", *v.TargetName)
		w.work(1)
		require.Equal(t, "new", w.get(v.UUID).JobStatus, "the database is not the export")
		require.Empty(t, w.get(v.UUID).JobID)
		w.work(1)
		require.Equal(t, "pending", w.get(v.UUID).JobStatus, "nor is its end")
		w.work(1)
		e := w.get(v.UUID)
		require.Equal(t, "finished", e.JobStatus)
		require.Equal(t, "j", e.JobID)
		location := "location=%2Fhive%2Flab_20260314_120000000000.db"
		status := "return_err_logs=True&return_out_logs=True&task_uuid="
		require.Equal(t, []string{
			"POST /hadoop/hive/create_base_hive?if_not_exists=True&" + location + "&name=lab_20260314_120000000000 h4doop",
			"GET /hadoop/task_status?" + status + "db1 h4doop", "GET /hadoop/task_status?" + status + "db1 h4doop",
			"POST /hadoop/hdfs/chown_directory?gid=hdfs&" + location + "&recursive=True&uid=hive_exporter h4doop",
			"POST /yaml t0ken", "GET /task_status?" + status + "j t0ken",
			"POST /hadoop/hdfs/chown_directory?gid=hdfs&" + location + "&recursive=True&uid=lab h4doop"}, w.api.calls)
		require.Contains(t, w.api.bodies[4], "output:\n  type: hive\n  databaseName: lab_20260314_120000000000\noverwrite: true\ntablesToExport:\n- tableName: person\n  cohortId: \"98213\"\n  relation: true\n- tableName: care_site\n  relation: true\nnoDateShift: false\ndisableTerminology: false\npseudo: \"lab\"\n")
		require.Equal(t, []string{"hive_export_received", "hive_export_succeeded"}, w.mails.templates())
		code, text := w.ask("bob", "GET", "/exports/"+v.UUID.String()+"/download/", nil)
		require.Equal(t, 400, code)
		require.JSONEq(t, `"Error downloading files: The export is not done yet or has failed or not downloadable"`, text)
	})
}

func TestTransferFailures(t *testing.T) {
	t.Parallel()
	const name = "lab_20260314_120000000000"
	for what, c := range map[string]struct {
		path    string
		answers []reply
		want    string
		yaml    int
	}{
		"no database":         {"/hadoop/hive/create_base_hive", []reply{{body: `{}`}}, "Error while preparing DB for export: Got an invalid Job ID: `None`", 0},
		"database fails":      {"/hadoop/task_status", []reply{says("FinishedWithError")}, "Error while preparing DB for export: Job `db1` ended with status `failed`", 0},
		"no owner":            {"/hadoop/hdfs/chown_directory", []reply{{status: 500, body: "no such user"}}, "Error while preparing DB for export: Error granting `hive_exporter` rights on DB `" + name + "` - no such user", 0},
		"owner refused":       {"/hadoop/hdfs/chown_directory", []reply{{body: `{"status":"error","ret_code":1,"err":"denied"}`}}, "Error while preparing DB for export: Error granting `hive_exporter` rights on DB `" + name + "` - Granting rights did not succeed: denied", 0},
		"owner not given":     {"/hadoop/hdfs/chown_directory", []reply{{body: `{"status":"success","ret_code":3}`}}, "Error while preparing DB for export: Error granting `hive_exporter` rights on DB `" + name + "` - Granting rights did not succeed: {\"status\":\"success\",\"ret_code\":3}", 0},
		"export fails":        {"/task_status", []reply{says("Failure")}, "Export terminated with an error: Job `j` ended with status `failed`", 1},
		"no owner at the end": {"/hadoop/hdfs/chown_directory", []reply{{body: ok}, {status: 500, body: "gone"}}, "Could not conclude export: Error granting `lab` rights on DB `" + name + "` - gone", 1},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, databasetest.SQLite(t), false, nil)
			w.hadoopIsWell()
			w.api.answer(c.path, c.answers...)
			v := w.create("alice", hiveOf(w.cohort("alice", "98213"), nil))
			w.work(12)
			require.Equal(t, "failed", w.get(v.UUID).JobStatus)
			require.Equal(t, c.want, w.get(v.UUID).JobFailMsg)
			require.Equal(t, c.yaml, w.api.count("POST /yaml"))
			require.NotContains(t, w.mails.templates(), "hive_export_succeeded")
			if what == "export fails" {
				require.Equal(t, 1, w.api.count("POST /hadoop/hdfs"), "nothing is given to the datalab")
			}
		})
	}
}

func TestSubsets(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, false, nil)
		w.api.answer("/yaml", reply{body: `{"task_id":"j"}`})
		w.api.answer("/task_status", says("FinishedSuccessfully"))
		mine := w.cohort("alice", "98213")
		lab := w.filter("alice", "Observation", "code=1")
		table := func(name string, filter any) object {
			return object{"table_name": name, "cohort_result_source": mine, "fhir_filter": filter}
		}
		tables := []object{table("person", nil), table("measurement", lab), table("note", nil), table("note", nil), table("imaging_series", lab)}
		v := w.create("alice", csvOf(mine, tables...))
		require.Len(t, w.cohorts.subsets, 3, "none for imaging_series")
		require.Equal(t, Subset{Caller: w.cohorts.subsets[0].Caller, Owner: "alice", Table: "measurement", Source: mine, Filter: lab}, w.cohorts.subsets[0])
		require.Equal(t, "alice", w.cohorts.subsets[0].Caller.Username)
		require.Equal(t, w.cohorts.subsets[1].Filter, w.cohorts.subsets[2].Filter, "one automatic filter for all notes")
		w.work(3)
		require.Equal(t, "new", w.get(v.UUID).JobStatus)
		w.subsetEnds(w.cohorts.ids[0], "finished", "71")
		w.subsetEnds(w.cohorts.ids[1], "long_pending", "")
		w.work(3)
		require.Zero(t, w.api.count("POST"))
		w.subsetEnds(w.cohorts.ids[1], "finished", "72")
		w.subsetEnds(w.cohorts.ids[2], "finished", "73")
		w.subsetEnds(w.cohorts.ids[2], "finished", "73") // repeated
		w.work(3)
		w.subsetEnds(w.cohorts.ids[0], "finished", "71") // late
		w.work(3)
		require.Equal(t, "finished", w.get(v.UUID).JobStatus, w.get(v.UUID).JobFailMsg)
		require.Equal(t, 1, w.api.count("POST /yaml"))
		require.Contains(t, w.api.bodies[0], "- tableName: measurement\n  relation: true\n  cohortId: \"71\"\n- tableName: note\n  relation: true\n  cohortId: \"72\"\n- tableName: note\n  relation: true\n  cohortId: \"73\"\n- tableName: imaging_series\n  relation: true\n")

		// One fails, however it does: the export does, at once.
		for _, end := range []string{"failed", "cancelled", "unknown"} {
			w.clock.Advance(time.Hour)
			w.cohorts.ids = nil
			v = w.create("alice", csvOf(mine, tables...))
			w.subsetEnds(w.cohorts.ids[1], end, "")
			w.work(0)
			require.Equal(t, "One or multiple cohort subsets has failed", w.get(v.UUID).JobFailMsg)
			w.subsetEnds(w.cohorts.ids[0], "finished", "71")
			w.subsetEnds(w.cohorts.ids[2], "finished", "73")
			w.work(2)
			require.Equal(t, "failed", w.get(v.UUID).JobStatus)
		}
		require.Equal(t, 1, w.api.count("POST /yaml"))

		// Tried again: only the failed subset is made anew.
		made := len(w.cohorts.subsets)
		status, text := w.ask("alice", "POST", "/exports/"+v.UUID.String()+"/retry/", `{"signal":{}}`)
		require.Equal(t, 200, status, text)
		require.JSONEq(t, fmt.Sprintf(`"The export `+"`%s`"+` has been relaunched"`, v.UUID), text)
		require.Len(t, w.cohorts.subsets, made+1)
		w.work(2)
		require.Equal(t, "new", w.get(v.UUID).JobStatus)
		require.Empty(t, w.get(v.UUID).JobFailMsg)
		w.subsetEnds(w.cohorts.ids[3], "finished", "74")
		w.work(3)
		require.Equal(t, "finished", w.get(v.UUID).JobStatus, w.get(v.UUID).JobFailMsg)
		require.True(t, w.get(v.UUID).Retried)
	})
}

func TestRetryAndRelaunch(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, false, nil)
		w.api.answer("/yaml", reply{body: `{"task_id":"a"}`}, reply{body: `{"task_id":"b"}`}, reply{body: `{"task_id":"c"}`})
		w.api.answer("/task_status", says("Failure"), says("FinishedSuccessfully"))
		mine := w.cohort("alice", "98213")
		v := w.create("alice", csvOf(mine, object{"table_name": "person", "cohort_result_source": mine, "columns": []string{"a"}, "pivot_merge_ids": []string{"21"}}))
		w.work(1)
		require.Equal(t, "failed", w.get(v.UUID).JobStatus)
		status, _ := w.ask("root", "POST", "/exports/"+v.UUID.String()+"/retry/", nil)
		require.Equal(t, 200, status)
		e := w.get(v.UUID)
		require.Equal(t, []any{"new", "", true, false}, []any{e.JobStatus, e.JobFailMsg, e.Retried, e.IsUserNotified})
		status, _ = w.ask("root", "POST", "/exports/"+v.UUID.String()+"/retry/", nil)
		require.Equal(t, 409, status, "it is under way")
		w.work(1)
		e = w.get(v.UUID)
		require.Equal(t, []any{"finished", "b", v.TargetName}, []any{e.JobStatus, e.JobID, e.TargetName})
		require.Equal(t, []string{"csv_export_received", "export_failed", "export_failed_admins", "csv_export_received", "csv_export_succeeded"}, w.mails.templates())
		status, _ = w.ask("alice", "POST", "/exports/"+v.UUID.String()+"/retry/", nil)
		require.Equal(t, 409, status)
		w.clock.Advance(time.Minute)
		status, text := w.ask("root", "POST", "/exports/"+v.UUID.String()+"/relaunch/", object{})
		require.Equal(t, 201, status, text)
		require.Contains(t, text, `"owner":"alice"`)
		require.Contains(t, text, `"pivot_merge_ids":["21"]`)
		require.NotContains(t, text, *v.TargetName)
		w.work(1)
		require.Equal(t, 3, w.api.count("POST /yaml"))
		require.Equal(t, "finished", w.get(v.UUID).JobStatus)
	})
}

func TestRetryOfAnAdoptedExport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, databasetest.SQLite(t), false, nil)
	v := w.create("alice", csvOf(w.cohort("alice", "98213")))
	w.update(func(tx *database.Tx) error {
		return errors.Join(tx.Exec("DELETE FROM engine_task").Error, tx.Exec("DELETE FROM engine_event").Error, tx.Exec("DELETE FROM engine_job").Error,
			tx.Exec("UPDATE export SET request_job_status = 'failed'").Error)
	})
	status, text := w.ask("alice", "POST", "/exports/"+v.UUID.String()+"/retry/", nil)
	require.Equal(t, 200, status, text)
	w.api.answer("/yaml", reply{body: `{"task_id":"a"}`})
	w.work(0)
	require.Equal(t, "pending", w.get(v.UUID).JobStatus)
}

func TestNothingWaitsForEver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, databasetest.SQLite(t), false, nil)
	w.api.answer("/yaml", reply{body: `{"task_id":"a"}`})
	w.api.answer("/task_status", says("Running"))
	v := w.create("alice", csvOf(w.cohort("alice", "98213")))
	w.work(3)
	require.Equal(t, "started", w.get(v.UUID).JobStatus)
	result, err := w.engine.Apply(t.Context(), engine.Event{Kind: KindName, Subject: v.UUID.String(), Name: engine.Overdue})
	require.NoError(t, err)
	require.True(t, result.Applied)
	w.work(2)
	require.Equal(t, []string{"failed", reasonOverdue}, []string{w.get(v.UUID).JobStatus, w.get(v.UUID).JobFailMsg})
}

func TestLogs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, databasetest.SQLite(t), false, nil)
	w.api.answer("/yaml", reply{body: `{"task_id":"a"}`})
	w.api.answer("/task_status", reply{body: `{"task_status":"Failure","stdout":"é😀 <&>","n":12345678901234567890,"stderr":[]}`})
	mine := w.cohort("alice", "98213")
	v := w.create("alice", csvOf(mine))
	path := "/exports/" + v.UUID.String() + "/logs/"
	status, text := w.ask("root", "GET", path, nil)
	require.Equal(t, 400, status)
	require.JSONEq(t, `"The target export has no job ID"`, text)
	w.work(1)
	rec := w.record("root", "GET", path, nil)
	require.Equal(t, 200, rec.Code)
	require.Equal(t, `attachment; filename="logs_export_`+*v.TargetName+`.json"`, rec.Header().Get("Content-Disposition"))
	require.Equal(t, "{\n    \"task_status\": \"Failure\",\n    \"stdout\": \"\\u00e9\\ud83d\\ude00 <&>\",\n    \"n\": 12345678901234567890,\n    \"stderr\": []\n}", rec.Body.String())
	w.api.answer("/task_status", reply{drop: true})
	status, text = w.ask("root", "GET", path, nil)
	require.Equal(t, 500, status)
	require.JSONEq(t, `"Error fetching logs: the connection to the export API broke"`, text)
	status, _ = w.ask("alice", "GET", path, nil)
	require.Equal(t, 403, status)
	w.update(func(tx *database.Tx) error { return tx.Exec("UPDATE export SET request_job_status = 'finished'").Error })
	rec = w.record("root", "GET", path, nil)
	require.Empty(t, rec.Header().Get("Content-Disposition"))
	require.JSONEq(t, `"No logs available. The target export has finished successfully"`, rec.Body.String())
}

func TestBuiltInFromTheRequestToTheDownload(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, true, nil)
		mine := w.cohort("alice", "98213")
		v := w.create("alice", csvOf(mine, object{"table_name": "person", "cohort_result_source": mine, "columns": []string{"person_id", "gender"}},
			object{"table_name": "Observation_Laboratory", "columns": []string{"measurement_id"}}))
		path := "/exports/" + v.UUID.String() + "/download/"
		status, _ := w.ask("alice", "GET", path, nil)
		require.Equal(t, 400, status)
		w.work(0)
		e := w.get(v.UUID)
		require.Equal(t, []any{"finished", "", true}, []any{e.JobStatus, e.JobFailMsg, e.IsUserNotified})
		require.Equal(t, []string{"csv_export_received", "csv_export_succeeded"}, w.mails.templates())
		rec := w.record("alice", "GET", path, nil)
		require.Equal(t, 200, rec.Code)
		require.Equal(t, "application/zip", rec.Header().Get("Content-Type"))
		require.Equal(t, "attachment; filename=export_98213.zip", rec.Header().Get("Content-Disposition"))
		require.Equal(t, fmt.Sprint(rec.Body.Len()), rec.Header().Get("Content-Length"))
		files := unzip(t, rec.Body.Bytes())
		require.Equal(t, "person_id,gender\np1,female\np2,male\n", string(files["person.csv"]))
		require.Equal(t, "measurement_id\no1\no2\no3\n", string(files["Observation_Laboratory.csv"]))
		for _, search := range w.service.cfg.Source.(*source).asked {
			require.Equal(t, "98213", search.Group)
		}
		status, _ = w.ask("root", "GET", path, nil)
		require.Equal(t, 404, status, "the owner alone")
		left, err := filepath.Glob(filepath.Join(w.dir, "csv", "*"))
		require.NoError(t, err)
		require.Len(t, left, 1)

		require.NoError(t, os.Remove(left[0]))
		status, text := w.ask("alice", "GET", path, nil)
		require.Equal(t, 500, status)
		require.Contains(t, text, "Storage provider error: ")
		w.clock.Advance(7 * 24 * time.Hour)
		status, text = w.ask("alice", "GET", path, nil)
		require.Equal(t, 400, status)
		require.JSONEq(t, `"Error downloading files: The exported files are no longer available on the server."`, text)
	})
}

func TestBuiltInRunsAgainAfterACrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, databasetest.SQLite(t), true, nil)
	v := w.create("alice", csvOf(w.cohort("alice", "98213")))
	_, err := w.engine.Apply(t.Context(), engine.Event{Kind: KindName, Subject: v.UUID.String(), Name: eventWriting}) // and then it died
	require.NoError(t, err)
	w.work(0)
	require.Equal(t, "finished", w.get(v.UUID).JobStatus)
	require.Equal(t, []string{"csv_export_received", "csv_export_succeeded"}, w.mails.templates())
}

func TestBuiltInFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"the server fails": {func(c *Config) {
			s := twoPatients()
			s.fail = map[string]error{"Patient": errBroken}
			c.Source = s
		}, "Export terminated with an error: the files could not be written"},
		"a resource is malformed": {func(c *Config) { c.Source = &source{resources: map[string][]string{"Patient": {`{"id":`}}} },
			"Export terminated with an error: the FHIR server gave a resource that cannot be read"},
		"no directory": {func(c *Config) { c.CSVPath = "" }, "Export terminated with an error: No directory is configured for exports of this format"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, databasetest.SQLite(t), true, c.change)
			v := w.create("alice", csvOf(w.cohort("alice", "98213")))
			w.work(6)
			require.Equal(t, "failed", w.get(v.UUID).JobStatus)
			require.Equal(t, c.want, w.get(v.UUID).JobFailMsg)
			left, err := filepath.Glob(filepath.Join(w.dir, "csv", "*"))
			require.NoError(t, err)
			require.Empty(t, left, "nothing half-written stays")
		})
	}
}

func TestBuiltInPivotsQuestions(t *testing.T) {
	t.Parallel()
	s := &source{resources: map[string][]string{"Patient": {ada}, "QuestionnaireResponse": {response, strings.ReplaceAll(response, "/21", "/22")},
		"Questionnaire": {`{"id":"21","item":[{"linkId":"1","type":"group","item":[{"linkId":"1.1","type":"decimal"},{"linkId":"1.2","type":"choice"}]},{"linkId":"2"}]}`, `{"id":"22","item":[{"linkId":"x"}]}`}}}
	w := newWorld(t, databasetest.SQLite(t), true, func(c *Config) { c.Source = s })
	mine := w.cohort("alice", "98213")
	v := w.create("alice", csvOf(mine, object{"table_name": "person", "cohort_result_source": mine, "columns": []string{"person_id"}},
		object{"table_name": "questionnaireresponse", "columns": []string{"id"}, "pivot_merge_ids": []string{"21"}, "pivot_merge_columns": []string{}}))
	w.work(0)
	content, err := os.ReadFile(filepath.Join(w.dir, "csv", *v.TargetName+".zip"))
	require.NoError(t, err)
	require.Equal(t, "id,1.1,1.2,2\nr1,70.5,a b,true\n", string(unzip(t, content)["questionnaireresponse.csv"]))
}

func TestCleaning(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, true, nil)
		mine := w.cohort("alice", "98213")
		v := w.create("alice", csvOf(mine))
		w.work(0)
		path := filepath.Join(w.dir, "csv", *v.TargetName+".zip")
		w.clock.Advance(7*24*time.Hour - time.Second)
		require.NoError(t, w.service.DeleteExportedFiles(t.Context()))
		require.FileExists(t, path)
		w.clock.Advance(time.Second)
		good := w.service.cfg.Files
		w.service.cfg.Files = brokenFiles{good}
		require.Error(t, w.service.DeleteExportedFiles(t.Context()))
		w.work(0)
		require.Nil(t, w.get(v.UUID).CleanDatetime)
		require.NotContains(t, w.mails.templates(), "exported_files_deleted")
		w.service.cfg.Files = good
		for range 2 {
			require.NoError(t, w.service.DeleteExportedFiles(t.Context()))
			w.work(0)
		}
		require.NoFileExists(t, path)
		e := w.get(v.UUID)
		require.NotNil(t, e.CleanDatetime)
		require.Equal(t, "finished", e.JobStatus)
		require.Equal(t, []string{"csv_export_received", "csv_export_succeeded", "exported_files_deleted"}, w.mails.templates())
	})
}

type brokenFiles struct{ Files }

func (brokenFiles) Remove(context.Context, string) error { return errBroken }

// A mail that cannot be sent is tried again, and changes nothing about the export.
func TestMailsThatFail(t *testing.T) {
	t.Parallel()
	w := newWorld(t, databasetest.SQLite(t), true, nil)
	w.mails.fail = errBroken
	v := w.create("alice", csvOf(w.cohort("alice", "98213")))
	w.work(2)
	e := w.get(v.UUID)
	require.Equal(t, []any{"finished", "", false}, []any{e.JobStatus, e.JobFailMsg, e.IsUserNotified})
	w.mails.fail = nil
	w.work(10)
	require.True(t, w.get(v.UUID).IsUserNotified)
}

// shortFile is a file whose storage gives up in the middle.
type shortFiles struct{ Files }

type shortFile struct{ from *bytes.Reader }

func (shortFile) Close() error { return nil }
func (f shortFile) Read(p []byte) (int, error) {
	if n, err := f.from.Read(p); err == nil {
		return n, nil
	}
	return 0, errBroken
}

func (shortFiles) Open(context.Context, string) (io.ReadCloser, int64, error) {
	return shortFile{bytes.NewReader([]byte("half"))}, 8, nil
}

func TestADownloadThatBreaksOffIsSeenToDoSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, databasetest.SQLite(t), true, nil)
	v := w.create("alice", csvOf(w.cohort("alice", "98213")))
	w.work(0)
	w.service.cfg.Files = shortFiles{w.service.cfg.Files}
	require.PanicsWithError(t, http.ErrAbortHandler.Error(), func() { w.record("alice", "GET", "/exports/"+v.UUID.String()+"/download/", nil) })
}
