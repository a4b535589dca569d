package apptest

import (
	"net/http"
	"strings"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/simulate/qesim"
)

// final are the states in which a job has ended.
const final = `('finished', 'failed', 'gave_up', 'cancelled', 'unknown')`

// Number reads one number from the database. It waits while the database does not answer.
func (in *Installation) Number(sql string, args ...any) (n int) {
	in.t.Helper()
	in.Eventually(func() bool { return in.DB.Read(in.t.Context()).Raw(sql, args...).Row().Scan(&n) == nil }, "the database answers")
	return n
}

// Settled waits until no job is under way and nothing is owed, and then holds the installation to what is promised: each
// job ended once, told its outcome once, and left nothing behind.
func (in *Installation) Settled() {
	in.t.Helper()
	in.Eventually(func() bool {
		return in.Number(`SELECT count(*) FROM engine_job WHERE ended_at IS NULL`) == 0 &&
			in.Number(`SELECT count(*) FROM engine_task WHERE job_id IS NOT NULL OR name = 'notify'`) == 0
	}, "all jobs end, and nothing is owed")
	require.Zero(in.t, in.Number(`SELECT count(*) FROM engine_job j WHERE 1 <> (SELECT count(*) FROM engine_event e WHERE e.job_id = j.id AND e.applied
		AND e.to_state IN `+final+` AND e.from_state NOT IN `+final+`)`), "jobs that did not end exactly once")
	// A cohort's size is added to its finished count, which keeps its status (decision 20): the one event that comes after.
	require.Zero(in.t, in.Number(`SELECT count(*) FROM engine_event WHERE applied AND from_state = 'finished' AND event <> 'sized'`), "a result is never replaced")
	require.Zero(in.t, in.Number(`SELECT count(*) FROM engine_secret`), "what a job needed of its caller is gone")
	in.told()
	in.createdOnce()
}

// told holds the mails against the notifications.
func (in *Installation) told() {
	in.t.Helper()
	require.Zero(in.t, in.Number(`SELECT count(*) FROM engine_notification WHERE sent_at IS NULL`), "messages that were not sent")
	mails := map[string]bool{}
	for _, m := range in.Suite.Inbox().Mails() {
		mails[strings.Join(m.Headers["Message-Id"], "")] = true // sent twice under one Message-ID is one mail to its reader
	}
	require.Len(in.t, mails, in.Number(`SELECT count(*) FROM engine_notification`), "mails that arrived")
}

// createdOnce holds what QueryExecutor was sent against the promise that no creation goes there twice, unless it said that
// it does not take it.
func (in *Installation) createdOnce() {
	in.t.Helper()
	require.Less(in.t, len(in.Suite.Requests("")), 1000, "the simulators have forgotten requests: the test is too large for this check")
	sent := map[string]int{}
	for _, r := range in.Suite.Requests("qe") {
		if r.Method != http.MethodPost || r.Status == http.StatusServiceUnavailable || r.Status == http.StatusTooManyRequests {
			continue
		}
		if input, err := qesim.ParseBody([]byte(r.Body)); err == nil && input.Mode == qesim.Create {
			sent[input.UUID]++
		}
	}
	for uuid, n := range sent {
		require.Equal(in.t, 1, n, "creations of cohort %s that were sent", uuid)
	}
}

// Measured holds the numbers of counts against the truth. They must have finished, unless failed ones are allowed.
func (in *Installation) Measured(ids []string, questions []Question, failed bool) {
	in.t.Helper()
	for i, id := range ids {
		var status string
		var measure *int
		require.NoError(in.t, in.DB.Read(in.t.Context()).Raw(`SELECT request_job_status, measure FROM cohort_datedmeasure WHERE uuid = ?`, id).Row().Scan(&status, &measure))
		if failed && status == "failed" {
			require.Nil(in.t, measure, id)
			continue
		}
		require.Equal(in.t, "finished", status, id)
		require.NotNil(in.t, measure, id)
		require.Equal(in.t, questions[i].Truth, *measure, id)
	}
}

// Ended counts jobs of a kind by their state.
func (in *Installation) Ended(kind, state string) int {
	in.t.Helper()
	return in.Number(`SELECT count(*) FROM engine_job WHERE kind = ? AND state = ?`, kind, state)
}

// Status is what clients see of a count.
func (in *Installation) Status(id string) (status string) {
	in.t.Helper()
	require.NoError(in.t, in.DB.Read(in.t.Context()).Raw(`SELECT request_job_status FROM cohort_datedmeasure WHERE uuid = ?`, id).Row().Scan(&status))
	return status
}

// Lock keeps a table from being written until release is called.
func (in *Installation) Lock(table string) (release func()) {
	in.t.Helper()
	tx := in.DB.Read(in.t.Context()).Begin()
	require.NoError(in.t, tx.Exec(`LOCK TABLE `+table+` IN EXCLUSIVE MODE`).Error)
	return func() { require.NoError(in.t, tx.Rollback().Error) }
}

// explain shows what is unfinished: the timelines of a few jobs.
func (in *Installation) explain() {
	ctx, cancel := background()
	defer cancel()
	rows, err := in.DB.Read(ctx).Raw(`SELECT j.kind || ' ' || j.id || ' is ' || j.state || ': ' || coalesce((SELECT string_agg(
			e.event || CASE WHEN e.applied THEN '' ELSE ' (ignored)' END || ' → ' || e.to_state, ', ' ORDER BY e.id) FROM engine_event e WHERE e.job_id = j.id), '')
			|| '; owed: ' || coalesce((SELECT string_agg(t.name || ' attempt ' || t.attempt || ' due ' || t.due_at || ' lease ' || coalesce(t.lease_until::text, '-')
			|| ' ' || t.last_error, ', ') FROM engine_task t WHERE t.job_id = j.id), 'nothing')
		FROM engine_job j ORDER BY j.ended_at IS NOT NULL, j.state = 'finished', j.created_at LIMIT 5`).Rows()
	if err != nil {
		in.t.Log("jobs cannot be read:", err)
		return
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var line string
		if rows.Scan(&line) == nil {
			in.t.Log(line)
		}
	}
}
