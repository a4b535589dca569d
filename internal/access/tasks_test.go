package access

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
)

func TestCountUsers(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) { // cases 72 to 75
		for user, places := range map[string][]int64{
			"a": {aphp}, "b": {0}, "c": {0, 1}, "d": {2, 2}, "e": {3}, "f": {5}, "g": {11}, "h": {12},
		} {
			for _, place := range places {
				b.give(user, nomi, place)
			}
		}
		b.give("inactive", nomi, 5)
		b.give("ended", nomi, 5, b.lasting(-2*time.Hour, -time.Hour))
		b.give("gone", nomi, 5, func(a *Access) { a.DeleteDatetime = &b.now })
		b.give("datalabs", ReadDatalabs, 2)
		b.must(func(tx *database.Tx) error {
			if err := tx.Exec("UPDATE accesses_profile SET is_active = false WHERE user_id = 'inactive'").Error; err != nil {
				return err
			}
			return tx.Exec("UPDATE accesses_perimeter SET count_allowed_users = 1 WHERE id = 12").Error
		})
		changed, err := b.CountUsers(t.Context())
		require.NoError(t, err)
		require.Positive(t, changed)
		counts := func(id int64) [3]int {
			p, err := b.GetPerimeter(t.Context(), id)
			require.NoError(t, err)
			return [3]int{*p.CountAllowedUsers, *p.CountAllowedUsersAboveLevels, *p.CountAllowedUsersInferiorLevels}
		}
		require.Equal(t, [3]int{1, 0, 8}, counts(aphp), "seven, and the one who reads datalabs")
		require.Equal(t, [3]int{2, 1, 4}, counts(0))
		require.Equal(t, [3]int{1, 1, 0}, counts(1))
		require.Equal(t, [3]int{2, 1, 0}, counts(2))
		require.Equal(t, [3]int{0, 3, 2}, counts(4))
		require.Equal(t, [3]int{0, 2, 0}, counts(6))
		require.Equal(t, [3]int{0, 2, 0}, counts(8), "the right to read datalabs has no effect below")
		require.Equal(t, [3]int{1, 3, 0}, counts(11))
		require.Equal(t, [3]int{1, 3, 0}, counts(12))
		changed, err = b.CountUsers(t.Context())
		require.NoError(t, err)
		require.Zero(t, changed, "nothing has changed since")
	})
}

func TestAlertExpiring(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		day := 24 * time.Hour
		run := func() (alerts []string) {
			t.Helper()
			b.mailbox.alerts = nil
			n, err := b.AlertExpiring(t.Context())
			require.NoError(t, err)
			require.Len(t, b.mailbox.alerts, n)
			for _, a := range b.mailbox.alerts {
				alerts = append(alerts, fmt.Sprint(a.Username, " ", a.ExpiryDays))
			}
			return alerts
		}
		b.give("month", nomi, 4, b.lasting(0, 30*day))
		b.give("month", pseudo, 4, b.lasting(0, 30*day+time.Hour))
		b.give("twoDays", nomi, 4, b.lasting(0, 2*day))
		b.give("sixty", nomi, 4, b.lasting(0, 60*day))
		b.give("fifteen", nomi, 4, b.lasting(0, 15*day))
		b.give("future", nomi, 4, b.lasting(day, 30*day))
		b.give("deleted", nomi, 4, b.lasting(0, 30*day), func(a *Access) { a.DeleteDatetime = &b.now })
		b.give("silent", nomi, 4, b.lasting(0, 30*day))
		b.give("left", nomi, 4, b.lasting(0, 30*day))
		b.must(func(tx *database.Tx) error {
			if err := tx.Exec(`UPDATE "user" SET email = NULL WHERE username = 'silent'`).Error; err != nil {
				return err
			}
			return tx.Exec(`UPDATE "user" SET delete_datetime = ? WHERE username = 'left'`, b.now).Error
		})
		require.ElementsMatch(t, []string{"month 30", "twoDays 2"}, run())
		require.Empty(t, run(), "once is enough")
		b.clock.Advance(13 * day)
		require.Equal(t, []string{"fifteen 2"}, run())
		b.clock.Advance(15 * day) // two days before the end of "month"
		require.ElementsMatch(t, []string{"month 2", "future 2"}, run())
		b.clock.Advance(4 * day) // "sixty" is 28 days before its end: its day was missed
		require.Equal(t, []string{"sixty 28"}, run())
		b.clock.Advance(27 * day)
		require.Equal(t, []string{"sixty 1"}, run(), "the alert of two days, missed by one")
	})
}

func TestAlertsThatFailAreGivenLater(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.give("month", nomi, 4, b.lasting(0, 30*24*time.Hour))
		b.mailbox.failing = true
		_, err := b.AlertExpiring(t.Context())
		require.ErrorIs(t, err, errBroken)
		b.mailbox.failing = false
		n, err := b.AlertExpiring(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, n)
		b.cfg.Alerts = false
		b.give("other", nomi, 4, b.lasting(0, 30*24*time.Hour))
		n, err = b.AlertExpiring(t.Context())
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func org(id int64, name, parent string) string {
	partOf := ""
	if parent != "" {
		partOf = fmt.Sprintf(`,"partOf":{"reference":%q}`, parent)
	}
	return fmt.Sprintf(`{"resourceType":"Organization","id":"%d","active":true,"name":%q%s}`, id, name, partOf)
}

func TestSyncFromFHIR(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) { // case 83
		b := setup(t, db)
		old := func(id int64, parent *int64) Perimeter {
			text := joinIDs([]int64{id})
			return Perimeter{ID: id, LocalID: text, Name: new("old " + text), ParentID: parent, Level: new(7), CohortID: &text, CohortSize: new("12")}
		}
		b.must(func(tx *database.Tx) error {
			return putPerimeters(tx, []Perimeter{old(9999, nil), old(0, new(int64(9999))), old(1, new(int64(0))), old(2, new(int64(0))), old(3, nil)}, b.now)
		})
		kept, lost, coming := b.give("x", nomi, 2), b.give("x", nomi, 1), b.give("x", nomi, 1, b.lasting(time.Hour, 2*time.Hour))
		nowhere := b.give("x", nomi, 1, func(a *Access) { a.PerimeterID = nil })
		b.source.resources = []string{
			org(9999, "Top", ""), org(2, "Two", "Organization/9999"), org(3, "Three", "9999"), org(4, "Four", "2"), org(5, "Five", "2"),
			org(6, "Six", "3"), org(7, "Seven", "http://fhir/Organization/3"), org(8, "Eight", "4"),
		}
		before, err := b.Snapshot(t.Context())
		require.NoError(t, err)
		dry, err := b.Dry().SyncFromFHIR(t.Context())
		require.NoError(t, err)
		after, err := b.Snapshot(t.Context())
		require.NoError(t, err)
		require.Same(t, before, after, "a dry run changes nothing")
		b.source.asked, b.source.cohorts = nil, nil
		report, err := b.SyncFromFHIR(t.Context())
		require.NoError(t, err)
		require.Equal(t, report, dry, "and tells what would be done")
		require.ElementsMatch(t, []string{"+ 4 Four", "+ 5 Five", "+ 6 Six", "+ 7 Seven", "+ 8 Eight",
			"~ 9999 Top: level, name, short_name, type_source_value, full_path, above_levels_ids, inferior_levels_ids",
			"~ 2 Two: parent_id, level, name, short_name, type_source_value, full_path, above_levels_ids, inferior_levels_ids",
			"~ 3 Three: parent_id, level, name, short_name, type_source_value, full_path, above_levels_ids, inferior_levels_ids",
			"- 0 old 0", "- 1 old 1"}, report.Differences)
		report.Differences = nil
		require.Equal(t, SyncReport{Created: 5, Updated: 3, Removed: 2, ClosedAccesses: 2}, report)
		require.EqualValues(t, 10000, b.nextPerimeter(), "after the last of the source")
		require.Equal(t, []string{"Organization?active=true"}, b.source.asked)
		require.ElementsMatch(t, []VirtualCohort{
			{4, []string{"8"}, ""}, {5, []string{}, ""}, {6, []string{}, ""}, {7, []string{}, ""}, {8, []string{}, ""},
			{3, []string{"6", "7"}, "3"}, {2, []string{"4", "5", "8"}, "2"}, {9999, []string{"2", "3", "4", "5", "6", "7", "8"}, "9999"},
		}, b.source.cohorts)
		made := VirtualCohort{PerimeterID: 2, Descendants: []string{"4", "5"}}
		require.Equal(t, "/fhir-perimeters/2/", made.CallbackPath())
		require.JSONEq(t, `{"_type":"request","sourcePopulation":{},"request":{"_type":"andGroup","_id":0,"isInclusive":true,"criteria":[
			{"_type":"basicResource","_id":1,"isInclusive":true,"resourceType":"Encounter","filterFhir":"service-provider=2,4,5"}]}}`, made.Query())
		require.Equal(t, []int64{2, 3, 4, 5, 6, 7, 8, 9999}, read[page](b.get("nora", "/accesses/perimeters/").is(200)).ids())
		p, err := b.GetPerimeter(t.Context(), 4)
		require.NoError(t, err)
		require.Equal(t, []any{"4", "Four", "Four", "Unit", int64(2), "9999,2", "8", "Top/Two/Four", 3}, []any{
			p.LocalID, *p.Name, *p.ShortName, *p.TypeSourceValue, *p.ParentID, *p.AboveLevelsIDs, *p.InferiorLevelsIDs, *p.FullPath, *p.Level})
		require.Nil(t, p.SourceValue)
		p, err = b.GetPerimeter(t.Context(), 2)
		require.NoError(t, err)
		require.Equal(t, []any{"2", "12", 2, "Hospital"}, []any{*p.CohortID, *p.CohortSize, *p.Level, *p.TypeSourceValue})
		deep, err := b.GetPerimeter(t.Context(), 8)
		require.NoError(t, err)
		require.Equal(t, []any{"Unit", ""}, []any{*deep.TypeSourceValue, *deep.InferiorLevelsIDs})
		ends := func(id int64) time.Time {
			var a Access
			require.NoError(t, db.Read(t.Context()).Take(&a, id).Error)
			return *a.EndDatetime
		}
		require.True(t, ends(kept).After(b.now))
		require.Equal(t, b.now, ends(lost).UTC())
		require.Equal(t, b.now, ends(nowhere).UTC())
		require.True(t, ends(coming).After(b.now), "what has not begun is left")

		b.clock.Advance(time.Hour)
		report, err = b.SyncFromFHIR(t.Context())
		require.NoError(t, err)
		require.Empty(t, report.Differences)
		require.Equal(t, 0, report.Created+report.Updated+report.Removed, "the same again")
		tree, err := b.Snapshot(t.Context())
		require.NoError(t, err)
		require.Equal(t, b.now, tree.Get(1).DeleteDatetime.UTC(), "the first moment stays")
		b.source.resources[7] = org(8, "Eight", "3") // moves with its rights
		_, err = b.SyncFromFHIR(t.Context())
		require.NoError(t, err)
		tree, err = b.Snapshot(t.Context())
		require.NoError(t, err)
		require.True(t, tree.Covers(3, 8))
		require.False(t, tree.Covers(2, 8))
		b.source.resources = append(b.source.resources, org(1, "Back", "8"))
		report, err = b.SyncFromFHIR(t.Context())
		require.NoError(t, err)
		require.Equal(t, "~ 8 Eight: inferior_levels_ids\n~ 1 Back: delete_datetime, parent_id, level, name, short_name, type_source_value, full_path, "+
			"above_levels_ids, inferior_levels_ids\n0 added, 2 changed, 0 removed, 0 accesses ended", report.String())
		b.get("nora", "/accesses/perimeters/1/").is(200)
	})
}

func TestSyncFromFHIRRefuses(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.give("full", AllRights, aphp)
		b.give("adm", adm, aphp)
		for name, resources := range map[string][]string{
			"Nothing":   nil,
			"NoNumber":  {`{"id":"x","name":"X"}`},
			"NoName":    {`{"id":"1"}`},
			"NoJSON":    {`[]`},
			"Cycle":     {org(1, "A", ""), org(2, "B", "3"), org(3, "C", "2")},
			"OnlyCycle": {org(2, "B", "3"), org(3, "C", "2")},
			"OwnParent": {org(5, "A", ""), org(2, "B", "2")},
			"Collision": {org(1, "A", ""), org(2, "B", "")},
		} {
			b.source.resources = resources
			b.do("full", "PUT", "/fhir-perimeters/_sync/", nil).is(502)
			require.Len(t, read[page](b.get("nora", "/accesses/perimeters/").is(200)).Results, 16, name)
		}
		b.source.resources, b.source.broken = []string{org(5, "A", "")}, true
		b.do("full", "PUT", "/fhir-perimeters/_sync/", nil).is(502, `{"detail":"The organizations of the FHIR server could not be read."}`)
		require.Len(t, read[page](b.get("nora", "/accesses/perimeters/").is(200)).Results, 16)
		b.source.broken = false
		for _, who := range []string{"adm", "nora", ""} {
			b.do(who, "PUT", "/fhir-perimeters/_sync/", nil).is(403)
		}
		b.do("full", "GET", "/fhir-perimeters/_sync/", nil).is(405)
		b.source.resources = []string{org(5, "A", ""), org(6, "B", "77")} // case 82: a root above
		require.Empty(t, b.do("QUERY_EXECUTOR", "PUT", "/fhir-perimeters/_sync/", nil).is(200).text)
		p, err := b.GetPerimeter(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, []any{"All Hospitals", "5,6", "APHP", 1}, []any{*p.Name, *p.InferiorLevelsIDs, *p.TypeSourceValue, *p.Level})
		require.Nil(t, p.ParentID)
	})
}

func TestVirtualCohortCallback(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.give("full", AllRights, aphp)
		patch := func(who, path, body string) answered { t.Helper(); return b.do(who, "PATCH", path, body) }
		has := func(id int64, cohort, size string) {
			t.Helper()
			p, err := b.GetPerimeter(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, []string{cohort, size}, []string{deref(p.CohortID), deref(p.CohortSize)})
		}
		const path = "/fhir-perimeters/4/"
		patch("QUERY_EXECUTOR", path, `{"request_job_status":"FINISHED","group.id":"4321","group.count":"77","extra":{}}`).is(200, "{}")
		has(4, "4321", "77")
		require.Equal(t, []int64{4}, read[page](b.get("nora", "/accesses/perimeters/?cohort_id=4321").is(200)).ids())
		patch("full", path, `{"request_job_status":"FINISHED","group.id":99,"group.count":12}`).is(200)
		has(4, "99", "12")
		patch("QUERY_EXECUTOR", path, `{"request_job_status":"FINISHED","group_id":"5","group_count":"6"}`).is(200)
		has(4, "5", "6")
		for _, failed := range []string{`{"request_job_status":"ERROR","message":"out of memory"}`, `{}`, `{"group.id":null}`, `{"group.id":""}`, `{"group.id":[]}`} {
			patch("QUERY_EXECUTOR", path, failed).is(200, "{}")
		}
		has(4, "5", "6")
		patch("QUERY_EXECUTOR", path, `{"group.id":"\u0000"}`).is(400)
		patch("QUERY_EXECUTOR", path, `{"request_job_status": `).is(400)
		patch("QUERY_EXECUTOR", "/fhir-perimeters/4711/", `{"group.id":"1"}`).is(404)
		patch("QUERY_EXECUTOR", "/fhir-perimeters/NORD/", `{"group.id":"1"}`).is(404)
		patch("nora", path, `{"group.id":"1"}`).is(403)
		patch("", path, `{"group.id":"1"}`).is(403)
		b.do("QUERY_EXECUTOR", "PUT", path, body{}).is(405)
		has(4, "5", "6")
	})
}
