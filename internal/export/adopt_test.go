package export

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
)

// leave makes an export as the old system would have left it: without a job of ours.
func (w *world) leave(body object, jobID, status string) uuid.UUID {
	w.t.Helper()
	id := w.create("alice", body).UUID
	w.update(func(tx *database.Tx) error {
		return errors.Join(tx.Exec("DELETE FROM engine_task").Error, tx.Exec("DELETE FROM engine_event").Error, tx.Exec("DELETE FROM engine_job").Error,
			tx.Exec("UPDATE export SET request_job_id = ?, request_job_status = ? WHERE uuid = ?", jobID, status, id).Error)
	})
	return id
}

func (w *world) settle(giveUp bool) engine.Tally {
	w.t.Helper()
	tally, err := w.service.SettleLeft(w.t.Context(), w.clock.Now().Add(time.Minute), giveUp)
	require.NoError(w.t, err)
	return tally
}

func (w *world) state(id uuid.UUID) engine.State {
	w.t.Helper()
	jobs, _, err := w.engine.Jobs(w.t.Context(), engine.Filter{Kind: KindName, Subjects: []string{id.String()}}, 2, 0)
	require.NoError(w.t, err)
	require.Len(w.t, jobs, 1)
	return jobs[0].State
}

func TestSettleExports(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer reply
		giveUp bool
		fate   engine.Fate
		state  engine.State
		status string // of the row
		reason string
		mails  []string
	}{
		"Received":   {answer: says("Received"), fate: engine.Followed, state: stateReceived, status: "started"},
		"Running":    {answer: says("Running"), fate: engine.Followed, state: engine.Started, status: "started"},
		"Retry":      {answer: says("Retry"), fate: engine.Followed, state: engine.Pending, status: "started"},
		"Finished":   {answer: says("FinishedSuccessfully"), fate: engine.Recorded, state: engine.Finished, status: "finished", mails: []string{"export_request_succeeded"}},
		"Failed":     {answer: says("FinishedWithError"), fate: engine.Recorded, state: engine.Failed, status: "failed", reason: terminated + "Job `old` ended with status `failed`", mails: []string{"export_request_failed", "export_request_failed"}},
		"Forgotten":  {answer: says("NotFound"), fate: engine.Lost, state: engine.Failed, status: "failed", reason: reasonForgotten},
		"Blind":      {answer: says("flowerNotAccessible"), fate: engine.Unasked, status: "started"},
		"Nonsense":   {answer: says("Bogus"), fate: engine.Unasked, status: "started"},
		"Down":       {answer: reply{drop: true}, fate: engine.Unasked, status: "started"},
		"DownGiveUp": {answer: reply{drop: true}, giveUp: true, fate: engine.Lost, state: engine.Failed, status: "failed", reason: reasonUnasked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, databasetest.SQLite(t), false, nil)
			id := w.leave(csvOf(w.cohort("alice", "98213")), "old", "started")
			w.api.answer("/task_status", tt.answer)
			require.Equal(t, engine.Tally{"export": {tt.fate: 1}}, w.settle(tt.giveUp))
			e := w.get(id)
			require.Equal(t, []string{tt.status, tt.reason}, []string{e.JobStatus, e.JobFailMsg})
			if tt.state == "" {
				return
			}
			require.Equal(t, tt.state, w.state(id))
			require.Empty(t, w.settle(false), "a second time there is nothing left")
			require.Equal(t, 1, w.api.count("GET /task_status"))
			w.work(0)
			require.Equal(t, len(tt.mails), len(w.mails.sent), w.mails.templates())
			if tt.fate == engine.Followed { // its polls go on until the end
				w.api.answer("/task_status", says("FinishedSuccessfully"))
				w.work(3)
				require.Equal(t, "finished", w.get(id).JobStatus)
			}
		})
	}
}

func TestSettleExportsWithoutID(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, false, nil)
		unsent := w.leave(csvOf(w.cohort("alice", "98213")), "", "new")
		waiting := w.leave(csvOf(uuid.Nil, object{"table_name": "person", "cohort_result_source": w.cohort("alice", "98213"),
			"fhir_filter": w.filter("alice", "Patient", "gender=f")}), "", "new")
		require.Len(t, w.cohorts.ids, 1)
		// Nobody would tell of the subset's end as long as it has no job itself.
		require.Equal(t, engine.Tally{"export": {engine.Lost: 1, engine.Depends: 1}}, w.settle(false))
		require.Equal(t, []string{"failed", reasonNameless}, []string{w.get(unsent).JobStatus, w.get(unsent).JobFailMsg})
		w.update(func(tx *database.Tx) error { // as the settling of cohorts does; this world knows no other kind
			_, err := w.engine.Open(t.Context(), tx, engine.NewJob{Kind: KindName, Subject: w.cohorts.ids[0].String(), Owner: "alice"})
			return err
		})
		require.Equal(t, engine.Tally{"export": {engine.Followed: 1}}, w.settle(false))
		require.Equal(t, stateWaiting, w.state(waiting))
		require.Empty(t, w.settle(false))
		w.api.answer("/yaml", reply{body: `{"task_id":"a"}`})
		w.subsetEnds(w.cohorts.ids[0], statusFinished, "555")
		w.work(0)
		require.Equal(t, "pending", w.get(waiting).JobStatus)
	})
}
