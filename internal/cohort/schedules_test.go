package cohort

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
	"cohortflow/tasks"
)

func TestSchedules(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		a := b.do("alice", "POST", "/cohort/refresh-schedules/", o{"request_snapshot_id": snapshot, "refresh_time": "07:05", "last_refresh_count": 5}).is(201)
		id := a.at("uuid").(string)
		require.Equal(t, []string{"uuid", "deleted", "deleted_by_cascade", "created_at", "modified_at", "refresh_time", "refresh_frequency", "last_refresh",
			"last_refresh_succeeded", "last_refresh_count", "last_refresh_error_msg", "notify_owner", "request_snapshot", "owner"}, a.keys())
		a.has(o{"refresh_time": "07:05:00", "refresh_frequency": "weekly", "notify_owner": false, "owner": "alice", "last_refresh_count": nil, "request_snapshot": snapshot})
		require.Equal(t, []string{"Bearer tok JWT"}, b.fhir.auth, "translated at once")
		b.work()
		require.Empty(t, b.qe.seen(""), "nothing runs yet")
		one := "/cohort/refresh-schedules/" + id + "/"
		b.do("alice", "POST", "/cohort/refresh-schedules/", o{"request_snapshot": snapshot, "refresh_time": "08:05"}).is(400)
		b.do("alice", "PATCH", one, o{"refresh_time": "09:45:00", "refresh_frequency": "every_other_day"}).is(200).has(o{"refresh_time": "09:45:00", "refresh_frequency": "every_other_day"})
		b.do("alice", "PATCH", one, o{"notify_owner": true, "last_refresh_count": 7}).is(200).has(o{"notify_owner": true, "last_refresh_count": nil})
		b.do("alice", "PATCH", one, o{"refresh_frequency": "hourly"}).is(400).json(`{"refresh_frequency":["\"hourly\" is not a valid choice."]}`)
		for _, method := range []string{"GET", "PATCH", "DELETE"} {
			b.do("bob", method, one, o{"notify_owner": false}).is(404).json(`{"detail":"No RequestRefreshSchedule matches the given query."}`)
		}
		for query, count := range map[string]int{"": 1, "refresh_time=09:45": 1, "refresh_time=09:46:00": 0, "refresh_frequency=daily": 0,
			"request_snapshot_id=" + snapshot: 1, "ordering=-modified_at": 1} {
			b.do("alice", "GET", "/cohort/refresh-schedules/?"+query, nil).is(200).has(o{"count": count})
		}
		b.do("alice", "GET", "/cohort/refresh-schedules/?ordering=uuid", nil).is(400)
		b.do("alice", "DELETE", one, nil).is(204)
		b.do("alice", "GET", one, nil).is(404)
		b.do("alice", "POST", "/cohort/refresh-schedules/", o{"request_snapshot": snapshot, "refresh_time": "08:05"}).is(201)
	})
}

func TestSchedulesRefuse(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		mine, theirs := b.snapshot("alice", b.request("alice")), b.snapshot("bob", b.request("bob"))
		for want, body := range map[string]o{
			`{"refresh_time":["This field is required."],"request_snapshot":["This field is required."]}`:                                                                                                               {},
			`{"refresh_time":["Time has wrong format. Use one of these formats instead: hh:mm[:ss[.uuuuuu]]."],"refresh_frequency":["\"monthly\" is not a valid choice."],"notify_owner":["Must be a valid boolean."]}`: {"request_snapshot": mine, "refresh_time": "25:00", "refresh_frequency": "monthly", "notify_owner": "maybe"},
			fmt.Sprintf(`{"request_snapshot":["Invalid pk \"%s\" - object does not exist."]}`, theirs):                                                                                                                  {"request_snapshot": theirs, "refresh_time": "07:05"},
			`{"owner":["Invalid pk \"bob\" - object does not exist."]}`:                                                                                                                                                 {"request_snapshot": mine, "refresh_time": "07:05", "owner": "bob"},
		} {
			b.do("alice", "POST", "/cohort/refresh-schedules/", body).is(400).json(want)
		}
		b.fhir.status = 400
		b.do("alice", "POST", "/cohort/refresh-schedules/", o{"request_snapshot": mine, "refresh_time": "07:05"}).is(400)
		b.do("alice", "GET", "/cohort/refresh-schedules/", nil).has(o{"count": 0})
	})
}

// tick runs a schedule as the scheduler does.
func (b *bundle) tick() {
	b.t.Helper()
	list, err := b.service.Refreshes(b.t.Context(), time.Time{})
	require.NoError(b.t, err)
	for _, r := range list {
		_, err := b.engine.Tick(b.t.Context(), r.Name, b.clock.Now(), engine.Task{Spec: tasks.RefreshRun, Payload: r.Payload})
		require.NoError(b.t, err)
	}
	b.work()
}

func TestRefreshes(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		id := b.do("alice", "POST", "/cohort/refresh-schedules/", o{"request_snapshot": snapshot, "refresh_time": "11:45", "refresh_frequency": "daily", "notify_owner": true}).is(201).at("uuid").(string)
		schedule := func() answer { return b.do("alice", "GET", "/cohort/refresh-schedules/"+id+"/", nil).is(200) }
		list, err := b.service.Refreshes(t.Context(), time.Time{})
		require.NoError(t, err)
		require.Equal(t, "45 11 * * *", list[0].Cron)
		later, err := b.service.Refreshes(t.Context(), noon.Add(time.Hour))
		require.NoError(t, err)
		require.Empty(t, later, "those from before an adoption are paused")

		var runs []string
		for i := range 2 {
			b.clock.Advance(24 * time.Hour)
			b.tick()
			runs = append(runs, b.do("alice", "GET", "/cohort/request-query-snapshots/"+snapshot+"/", nil).at("dated_measures.0.uuid").(string))
			require.Equal(t, "POST count "+runs[i], b.qe.seen("POST")[i])
			require.Contains(t, b.qe.bodies[i]["cohortDefinitionSyntax"], `"instance_id":"`+runs[i]+`"`)
		}
		require.NotEqual(t, runs[0], runs[1], "each run is a count of its own")
		require.Len(t, b.fhir.auth, 1, "there is no token to translate again")
		b.callback("dated-measures", runs[1], o{"request_job_status": "FINISHED", "count": "700", "extra": o{}}).is(200)
		schedule().has(o{"last_refresh_succeeded": true, "last_refresh_count": 700, "last_refresh_error_msg": "", "last_refresh": "2026-02-02T12:00:00.123456Z"})
		b.work()
		require.Equal(t, []string{"alice: Votre requête a été bien rafraichie: Request (version 1)"}, b.mails.sent)

		own := b.counting("alice", snapshot)
		schedule().has(o{"last_refresh_succeeded": true})
		b.callback("dated-measures", own, o{"request_job_status": "ERROR", "message": "out of memory"}).is(200)
		schedule().has(o{"last_refresh_succeeded": false, "last_refresh_count": nil, "last_refresh_error_msg": "out of memory"})
		b.counted("alice", snapshot, 5)
		schedule().has(o{"last_refresh_succeeded": true, "last_refresh_count": 5})
		b.work()
		require.Len(t, b.mails.sent, 1, "the schedule's own counts only")

		b.do("alice", "PATCH", "/cohort/request-query-snapshots/"+snapshot+"/", o{"serialized_query": query + " "}).is(200)
		b.do("alice", "PATCH", "/cohort/request-query-snapshots/"+snapshot+"/", o{"serialized_query": `{"sourcePopulation":{"caresiteCohortList":[]}}`}).is(200)
		n := len(b.qe.seen("POST"))
		b.clock.Advance(time.Hour)
		b.tick()
		require.Len(t, b.qe.seen("POST"), n, "what is not asked any more is not counted")
		schedule().has(o{"last_refresh_succeeded": false})
		b.do("alice", "PATCH", "/cohort/refresh-schedules/"+id+"/", o{"refresh_time": "12:00"}).is(200)
		require.Equal(t, query, query)
	})
}

func TestTheTranslationsOfTheOldSystem(t *testing.T) {
	t.Parallel()
	const old, id = "84a4f2a0-1111-4222-8333-444455556666", "3f2c8f0e-5d1b-4a7c-9e60-0c1d2e3f4a5b"
	text := func(id, owner, filter string) string {
		return `input.cohortDefinitionName = Created from C360 backend,input.cohortDefinitionSyntax = "{\"instance_id\":\"` + id + `\",\"filterFhir\":\"` + filter +
			`\"}",input.ownerEntityId = ` + owner + `,input.mode = count,input.cohortUuid = ` + id
	}
	for body, want := range map[string]string{
		text(old, "None", "a=1"):                          text(id, `"alice@x"`, "a=1"),
		text(old, "bob", "a=1"):                           text(id, "bob", "a=1"),
		text(old, "None1", "a=1"):                         text(id, "None1", "a=1"),
		text(old, "None", ",input.ownerEntityId = None,"): text(id, `"alice@x"`, ",input.ownerEntityId = None,"),
		`{"input":{"cohortDefinitionSyntax":"{\"instance_id\":\"` + old + `\"}","cohortUuid":"` + old + `"}}`: `{"input":{"cohortDefinitionSyntax":"{\"instance_id\":\"` + id + `\"}","cohortUuid":"` + id + `"}}`,
		`no job at all`: `no job at all`,
	} {
		require.Equal(t, want, forCount(body, id, "alice@x"))
	}
	_, err := database.ParseTimeOfDay("11:45")
	require.NoError(t, err)
}
