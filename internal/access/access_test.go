package access

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

type body = map[string]any

// shown is an access as clients read it.
type shown struct {
	ID          int64
	IsValid     bool `json:"is_valid"`
	Profile     struct{ Username string }
	Role        struct{ ID int64 }
	Start       time.Time `json:"start_datetime"`
	End         time.Time `json:"end_datetime"`
	PerimeterID *int64    `json:"perimeter_id"`
	CreatedBy   *string   `json:"created_by"`
	UpdatedBy   *string   `json:"updated_by"`
}

func TestGrantsAreFreshAndNarrow(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		day := 24 * time.Hour
		holds := func(username string) bool {
			full, err := b.IsFullAdmin(t.Context(), username)
			require.NoError(t, err)
			return full
		}
		b.give("valid", AllRights, 4)
		require.True(t, holds("valid"))
		require.False(t, holds("nobody"))
		for name, change := range map[string]func(*Access){
			"ended":        b.lasting(-2*day, -day),
			"future":       b.lasting(day, 2*day),
			"deleted":      func(a *Access) { a.DeleteDatetime = &b.now },
			"withoutStart": func(a *Access) { a.StartDatetime = nil },
			"withoutEnd":   func(a *Access) { a.EndDatetime = nil },
			"withoutRole":  func(a *Access) { a.RoleID = nil },
		} {
			b.give(name, AllRights, 4, change)
			require.False(t, holds(name), name)
		}
		b.give("nowhere", AllRights, 4, func(a *Access) { a.PerimeterID = nil })
		require.True(t, holds("nowhere"), "a right that no perimeter bounds")
		b.give("lastMoment", AllRights, 4, b.lasting(-day, 0))
		require.True(t, holds("lastMoment"))

		set := func(sql string, values ...any) {
			b.must(func(tx *database.Tx) error { return tx.Exec(sql, values...).Error })
		}
		b.give("x", AllRights, 4)
		set("UPDATE accesses_profile SET is_active = false WHERE user_id = 'x'")
		require.False(t, holds("x"), "inactive profile")
		set("UPDATE accesses_profile SET is_active = true, delete_datetime = ? WHERE user_id = 'x'", b.now)
		require.False(t, holds("x"), "deleted profile")
		set("UPDATE accesses_profile SET delete_datetime = NULL WHERE user_id = 'x'")
		require.True(t, holds("x"))
		set("UPDATE accesses_role SET delete_datetime = ?", b.now)
		require.False(t, holds("x"), "deleted role")
		set("UPDATE accesses_role SET delete_datetime = NULL")
		set("UPDATE accesses_perimeter SET delete_datetime = ? WHERE id = 4", b.now)
		require.False(t, holds("x"), "deleted perimeter")
	})
}

func TestAuthorize(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.give("full", AllRights, 4)
		b.give("manager", dam, 4)
		b.give("users", ManageUsers, 4)
		b.give("labs", ManageDatalabs|ReadDatalabs, 4)
		b.give("labReader", ReadDatalabs, 4)
		b.give("labOddity", ManageDatalabs, 4)
		b.profile("nobody")
		jobs := identity.Caller{Username: "QE", Applicative: identity.QueryExecutor}
		callers := []identity.Caller{{}, jobs}
		for _, name := range []string{"full", "manager", "users", "labs", "labReader", "labOddity", "nobody"} {
			callers = append(callers, identity.Caller{Username: name})
		}
		for who, allowed := range map[web.Who]string{
			web.Anyone:       " QE full manager users labs labReader labOddity nobody",
			web.AnyUser:      "QE full manager users labs labReader labOddity nobody",
			web.Owner:        "QE full manager users labs labReader labOddity nobody",
			web.OwnerOrAdmin: "QE full manager users labs labReader labOddity nobody",
			web.OwnerOrJobs:  "QE full manager users labs labReader labOddity nobody",
			web.FullAdmin:    "full",
			AdminOrJobs:      "QE full",
			AccessManager:    "full manager",
			UserManager:      "full manager users",
			DatalabReader:    "full labs labReader",
			DatalabManager:   "full labs",
		} {
			var got []string
			for _, caller := range callers {
				err := b.Authorize(t.Context(), caller, who, http.MethodGet)
				if err == nil {
					got = append(got, caller.Username)
					continue
				}
				if caller.Authenticated() {
					require.ErrorAs(t, err, new(fault.Forbidden))
				} else {
					require.ErrorAs(t, err, new(fault.Unauthenticated))
				}
			}
			require.Equal(t, allowed, strings.Join(got, " "), who)
		}
		for method, want := range map[string]bool{"GET": true, "PATCH": true, "POST": false, "DELETE": false, "PUT": false} {
			require.Equal(t, want, b.Authorize(t.Context(), jobs, web.OwnerOrJobs, method) == nil, method)
		}
		require.Error(t, b.Authorize(t.Context(), identity.Caller{Username: "full"}, "the postman", "GET"))
	})
}

func TestCreateAccess(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.give("manager", dam, aphp)
		b.give("reader", nomiCSV, aphp)
		profile, role := b.profile("target"), b.role(nomi)
		day := 24 * time.Hour
		at := func(d time.Duration) string { return b.now.Add(d).Format(time.RFC3339Nano) }
		valid := func(change body) body {
			sent := body{"profile_id": profile, "role_id": role, "perimeter_id": aphp}
			for k, v := range change {
				if v == "absent" {
					delete(sent, k)
				} else {
					sent[k] = v
				}
			}
			return sent
		}
		post := func(as string, change body) answered {
			t.Helper()
			return b.do(as, "POST", "/accesses/accesses/", valid(change))
		}
		created := post("manager", body{"start_datetime": at(0), "end_datetime": at(10 * day)}).is(201)
		require.Contains(t, created.text, `"care_site":{}`)
		require.NotContains(t, created.text, "editable")
		view := read[shown](created)
		require.True(t, view.IsValid)
		require.Equal(t, "First manager LAST manager (manager)", *view.CreatedBy)
		require.Equal(t, "target", view.Profile.Username)
		require.Equal(t, "2026-03-12T08:00:00.123456Z", view.End.Format(time.RFC3339Nano))
		view = read[shown](post("manager", nil).is(201)) // case 22
		require.Equal(t, b.now.AddDate(0, 0, 365), view.End)
		view = read[shown](post("manager", body{"start_datetime": "2199-05-01T00:00:00+02:00", "end_datetime": nil, "perimeter_id": "11"}).is(201))
		require.Equal(t, "2199-04-30T22:00:00Z", view.Start.Format(time.RFC3339Nano))
		require.EqualValues(t, 11, *view.PerimeterID)
		require.False(t, view.IsValid)

		post("manager", body{"start_datetime": at(-day)}).is(400, `{"error":"La date de début ne peut pas être dans le passé"}`)
		post("manager", body{"start_datetime": at(-5 * time.Second)}).is(201)
		post("manager", body{"start_datetime": at(0), "end_datetime": at(-day)}).is(400, `{"error":"La date de fin ne peut pas être dans le passé"}`)
		post("manager", body{"start_datetime": at(2 * day), "end_datetime": at(day)}).is(400, `{"error":"La date de fin ne peut pas précéder la date de début"}`)
		for _, bad := range []any{"tomorrow", "31/12/2199", 7258118400, "2199-13-01T00:00:00Z", true, []any{}} {
			require.Contains(t, post("manager", body{"end_datetime": bad}).is(400).text, "Datetime has wrong format")
		}
		post("manager", body{"start_datetime": "9999-12-31T00:00:00Z"}).is(400, `{"error":"date value out of range"}`)
		b.do("manager", "POST", "/accesses/accesses/", body{}).is(400,
			`{"profile_id":["This field is required."],"role_id":["This field is required."],"perimeter_id":["This field is required."]}`)
		post("manager", body{"profile_id": nil}).is(400, `{"profile_id":["This field may not be null."]}`)
		post("manager", body{"profile_id": "me"}).is(400, `{"profile_id":["Incorrect type. Expected pk value, received str."]}`)
		post("manager", body{"role_id": true, "perimeter_id": []any{}}).is(400,
			`{"role_id":["Incorrect type. Expected pk value, received bool."],"perimeter_id":["Incorrect type. Expected pk value, received list."]}`)
		post("manager", body{"profile_id": 99999, "role_id": 99999, "perimeter_id": 99999}).is(400, `{
			"profile_id":["Invalid pk \"99999\" - object does not exist."],"role_id":["Invalid pk \"99999\" - object does not exist."],
			"perimeter_id":["Invalid pk \"99999\" - object does not exist."]}`)
		b.do("manager", "POST", "/accesses/accesses/", []any{}).is(400)
		b.do("manager", "POST", "/accesses/accesses/", `{"profile_id": `).is(400)

		post("reader", nil).is(403)
		post("", nil).is(403, `{"detail":"Authentication credentials were not provided."}`)
		post("manager", body{"role_id": b.role(adm)}).is(403)
		post("manager", body{"role_id": b.role(AllRights)}).is(403)
		b.give("local", damS, 4)
		post("local", body{"perimeter_id": 4}).is(201)
		post("local", body{"perimeter_id": 11}).is(403)
		require.Equal(t, 5, read[page](b.get("manager", fmt.Sprintf("/accesses/accesses/?profile_id=%d", profile))).Count)
	})
}

func TestChangeAccess(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.give("manager", dam, aphp)
		b.give("reader", nomiCSV, aphp)
		day := 24 * time.Hour
		at := func(d time.Duration) string { return b.now.Add(d).Format(time.RFC3339Nano) }
		patch := func(as string, id int64, change any) answered {
			t.Helper()
			return b.do(as, "PATCH", fmt.Sprintf("/accesses/accesses/%d/", id), change)
		}
		closing := func(as string, id int64, change any) answered {
			t.Helper()
			return b.do(as, "PATCH", fmt.Sprintf("/accesses/accesses/%d/close/", id), change)
		}
		current := b.give("x", nomi, 0)
		future := b.give("x", nomi, 0, b.lasting(10*day, 20*day))
		ended := b.give("x", nomi, 0, b.lasting(-20*day, -10*day))

		view := read[shown](patch("manager", current, body{"end_datetime": at(21 * day)}).is(200))
		require.Equal(t, b.now.Add(21*day), view.End)
		require.Equal(t, "First manager LAST manager (manager)", *view.UpdatedBy)
		patch("manager", current, body{"end_datetime": at(-21 * day)}).is(400, `{"error":"La date de fin ne peut pas être dans le passé"}`)
		patch("manager", current, body{"start_datetime": at(day)}).is(400, `{"error":"La date de début ne peut pas être modifiée car elle est passée"}`)
		patch("manager", current, body{"start_datetime": at(-day)}).is(400, `{"error":"La date de début ne peut pas être dans le passé"}`)
		patch("manager", ended, body{"end_datetime": at(day)}).is(400, `{"error":"La date de fin ne peut pas être modifiée car elle est passée"}`)
		patch("manager", future, body{"start_datetime": at(30 * day), "end_datetime": at(40 * day)}).is(200)
		patch("manager", future, body{"start_datetime": at(40 * day), "end_datetime": at(30 * day)}).is(400, `{"error":"La date de fin ne peut pas précéder la date de début"}`)
		patch("manager", future, body{"end_datetime": at(5 * day)}).is(400, `{"error":"La date de fin ne peut pas précéder la date de début"}`)
		patch("manager", future, body{"start_datetime": at(50 * day)}).is(400, `{"error":"La date de fin ne peut pas précéder la date de début"}`)
		patch("manager", future, body{}).is(400, `{"error":"No data was provided to update access"}`)
		patch("manager", future, body{"perimeter_id": 4}).is(400, "{\"error\":\"Only `start_datetime` and `end_datetime` can be updated\"}")
		for _, missing := range []body{{"end_datetime": nil}, {"start_datetime": "", "end_datetime": at(35 * day)}} {
			patch("manager", future, missing).is(400, `{"error":"Missing dates to updating access"}`)
		}
		require.Contains(t, patch("manager", future, body{"end_datetime": "next week"}).is(400).text, "Datetime has wrong format")
		patch("reader", future, body{"end_datetime": at(45 * day)}).is(403)
		patch("manager", 99999, body{"end_datetime": at(45 * day)}).is(404, `{"detail":"No Access matches the given query."}`)
		b.do("manager", "PATCH", "/accesses/accesses/mine/", body{"end_datetime": at(45 * day)}).is(404, `{"detail":"Not found."}`)
		require.Equal(t, "2026-04-01T08:00:00.123456Z", read[shown](b.get("manager", fmt.Sprintf("/accesses/accesses/%d/", future)).is(200)).Start.Format(time.RFC3339Nano))

		closing("manager", future, nil).is(400, `{"error":"L'accès ne peut pas être clôturé car n'a pas encore commencé"}`)
		closing("manager", ended, nil).is(400, `{"error":"L'accès est déjà clôturé"}`)
		view = read[shown](closing("manager", current, body{"perimeter_id": 4, "role_id": b.role(AllRights), "end_datetime": at(90 * day)}).is(200))
		require.False(t, view.IsValid)
		require.EqualValues(t, 0, *view.PerimeterID)
		require.Equal(t, b.now, view.End)
		require.Equal(t, b.role(nomi), view.Role.ID)
		closing("manager", current, nil).is(400, `{"error":"L'accès est déjà clôturé"}`)
		dateless := b.give("x", nomi, 0, func(a *Access) { a.StartDatetime = nil })
		closing("manager", dateless, nil).is(400, `{"error":"Dates d'accès manquantes"}`)

		b.give("local", dam, aphp)
		begun, coming := b.give("x", nomi, 5), b.give("x", nomi, 5, b.lasting(day, 2*day)) // case 36
		remove := func(as string, id int64) answered {
			return b.do(as, "DELETE", fmt.Sprintf("/accesses/accesses/%d/", id), nil)
		}
		remove("local", begun).is(400, `{"error":"L'accès est déjà activé, il ne peut plus être supprimé."}`)
		remove("reader", coming).is(403)
		require.Empty(t, remove("local", coming).is(204).text)
		remove("local", coming).is(404)
		admins := b.give("x", adm, 5)
		b.get("local", fmt.Sprintf("/accesses/accesses/%d/", admins)).is(403, `{"detail":"You do not have permission to perform this action."}`)
		closing("local", admins, nil).is(403)
	})
}

func TestListAccesses(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.give("full", AllRights, aphp)
		b.give("admin", adm, aphp)
		b.give("data", dam, aphp)
		b.give("same", damS, aphp)
		x := b.profile("x")
		day := 24 * time.Hour
		reading := b.give("x", nomiPse, 1)
		managing := b.give("x", adm, 4, b.lasting(-3*day, 5*day))
		below := b.give("x", dam, 10, b.lasting(day, 9*day))
		list := func(as, query string) page {
			t.Helper()
			return read[page](b.get(as, "/accesses/accesses/?"+query).is(200))
		}
		editable := func(as string) map[int64]bool {
			got := map[int64]bool{}
			for _, r := range list(as, fmt.Sprintf("profile_id=%d", x)).Results {
				got[r.ID] = *r.Editable
			}
			return got
		}
		require.Equal(t, map[int64]bool{reading: true, managing: true, below: true}, editable("full"))
		require.Equal(t, map[int64]bool{reading: true, managing: false, below: true}, editable("admin"))
		require.Equal(t, map[int64]bool{reading: true, managing: false, below: false}, editable("data"))

		ofX := fmt.Sprintf("profile_id=%d", x)
		for ordering, want := range map[string][]int64{
			"start_datetime": {managing, reading, below}, "-start_datetime": {below, reading, managing},
			"end_datetime": {managing, below, reading}, "perimeter_name": {reading, below, managing},
			"-is_valid,end_datetime": {managing, reading, below}, "is_valid": {below, reading, managing},
			"-is_valid": {reading, managing, below}, "created_by,-updated_by,role_name": {managing, below, reading},
		} {
			require.Equal(t, want, list("full", ofX+"&ordering="+ordering).ids(), ordering)
		}
		b.get("full", "/accesses/accesses/?ordering=id").is(400, `{"ordering":["Select a valid choice. id is not one of the available choices."]}`)
		require.Contains(t, b.get("full", "/accesses/accesses/?"+ofX+"&expiring=").is(200).text, `"profile":"First x LAST x (x)"`)
		require.Nil(t, list("full", "search=first%20x").Results[0].Editable)
		require.Equal(t, []int64{reading}, list("full", "search=%22last+x%22,P1&end_datetime=2026-04-02T08:00:00.123456Z").ids())
		require.Equal(t, []int64{managing}, list("full", fmt.Sprintf("role_id=%d&search=LAST,x@EXAMPLE.org", b.role(adm))).ids())
		b.get("full", "/accesses/accesses/?search=_").is(200, "[]")
		b.get("full", "/accesses/accesses/?search=x&source=ORBIS").is(200, "[]")
		b.get("full", "/accesses/accesses/?"+ofX+"&page=2").is(404, `{"detail":"Invalid page."}`)
		for _, name := range []string{"profile_id", "role_id"} {
			for _, value := range []string{"99999", "mine"} {
				b.get("full", "/accesses/accesses/?"+name+"="+value).is(400, `{"`+name+`":["Select a valid choice. That choice is not one of the available choices."]}`)
			}
		}
		b.get("full", "/accesses/accesses/?start_datetime=junk").is(400, `{"start_datetime":["Enter a valid date/time."]}`)

		b.give("other", nomi, 2)
		b.give("other", nomi, aphp)
		b.give("other", ReadDatalabs, aphp)
		b.give("other", nomi, 2, b.lasting(day, 2*day))
		b.give("other", nomi, 13)
		count := func(as, query string) int { t.Helper(); return list(as, query+"&search=other").Count }
		require.Equal(t, 1, count("full", "perimeter_id=2&include_parents=false"))
		require.Equal(t, 2, count("full", "perimeter_id=2&include_parents=true"))
		require.Equal(t, 2, count("full", "perimeter_id=2&include_children=True"))
		require.Equal(t, 3, count("full", "perimeter_id=2&include_children=true&include_parents=true"))
		require.Equal(t, 1, count("same", "perimeter_id=2&include_children=true"), "who manages no lower level")
		require.Equal(t, []int64{managing}, list("full", ofX+"&perimeter_id=4").ids())
		b.get("full", "/accesses/accesses/?perimeter_id=4711").is(404, `{"detail":"No Perimeter matches the given query."}`)
		b.get("full", "/accesses/accesses/?perimeter_id=P2").is(400)
		b.get("full", "/accesses/accesses/?perimeter_id=2&include_parents=maybe").is(400, `{"include_parents":["Must be true or false."]}`)
		b.get("x", "/accesses/accesses/").is(200)
		b.get("other", "/accesses/accesses/").is(403)
		b.get("", "/accesses/accesses/").is(403)
	})
}

func TestMyAccesses(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		day := 24 * time.Hour
		current := b.give("x", nomi, 0, b.lasting(-day, 70*day))
		b.give("x", nomi, 0, b.lasting(-2*day, -day))
		b.give("x", nomi, 0, b.lasting(day, 5*day))
		mine := read[[]shown](b.get("x", "/accesses/accesses/my-accesses/").is(200))
		require.Len(t, mine, 1)
		require.Equal(t, current, mine[0].ID)
		b.get("x", "/accesses/accesses/my-accesses/?expiring=true").is(200, `{"message":"No accesses to expire in the next 30 days"}`)
		soon := b.give("x", nomi, 1, b.lasting(-day, 29*day))
		b.give("x", pseudo, 1, b.lasting(-day, 30*day))
		expires := b.get("x", "/accesses/accesses/my-accesses/?expiring=true").is(200,
			`[{"start_datetime":"2026-03-01T08:00:00.123456Z","end_datetime":"2026-03-31T08:00:00.123456Z","profile":"First x LAST x (x)","perimeter":"P1"}]`)
		require.NotZero(t, soon)
		require.Len(t, read[[]any](expires), 1)
		require.Len(t, read[[]any](b.get("x", "/accesses/accesses/my-accesses/?expiring=false").is(200)), 3)
		b.get("x", "/accesses/accesses/my-accesses/?expiring=soon").is(400)
		b.get("nora", "/accesses/accesses/my-accesses/").is(200, "[]")
		b.get("nora", "/accesses/accesses/my-accesses/?expiring=true").is(200, `{"message":"No accesses to expire in the next 30 days"}`)
		b.get("", "/accesses/accesses/my-accesses/").is(403)

		require.Len(t, read[[]any](b.get("x", "/accesses/accesses/my-data-rights/").is(200)), 2)
		b.get("x", "/accesses/accesses/my-data-rights/?perimeters_ids=%204%20,2").is(200, `[{"user_id":"x","perimeter_id":4,
			"right_read_patient_nominative":true,"right_read_patient_pseudonymized":false,"right_search_patients_by_ipp":true,
			"right_search_opposed_patients":false,"right_export_csv_xlsx_nominative":false,"right_export_jupyter_nominative":false,
			"right_export_jupyter_pseudonymized":false}]`)
		b.get("x", "/accesses/accesses/my-data-rights/?perimeters_ids=a").is(400, "\"`perimeters_ids` must be integers, got `a` instead\"")
		b.get("x", "/accesses/accesses/my-data-rights/?perimeters_ids=4711").is(200, "[]")
		b.get("nora", "/accesses/accesses/my-data-rights/").is(200, "[]")
	})
}

// Lists cost the same, whatever is in them.
func TestConstantQueries(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.give("full", AllRights, aphp)
		b.give("x", nomi, 0)
		paths := []string{
			"/accesses/accesses/?perimeter_id=9999&include_children=true", "/accesses/accesses/my-accesses/", "/accesses/roles/",
			"/accesses/profiles/", "/accesses/perimeters/", "/accesses/perimeters/manageable/?search=P",
			"/accesses/perimeters/patient-data/rights/?limit=-1", fmt.Sprintf("/accesses/roles/%d/users/", b.role(nomi)),
			"/accesses/roles/assignable/?perimeter_id=4", "/accesses/accesses/my-data-rights/",
		}
		measure := func() map[string]int {
			counts := map[string]int{}
			for _, path := range paths {
				b.get("full", path).is(200) // the tree may have to be loaded
				counts[path] = databasetest.Count(t, b.db, func() { b.get("full", path).is(200) })
			}
			return counts
		}
		before := measure()
		for i := range 15 {
			b.give("full", []Rights{nomi, dam, adm}[i%3], int64(i))
			b.give(fmt.Sprintf("user%d", i), nomi|1<<(i%5), int64(i))
		}
		require.Equal(t, before, measure())
		require.LessOrEqual(t, before["/accesses/accesses/my-accesses/"], 5)
		require.LessOrEqual(t, before["/accesses/accesses/?perimeter_id=9999&include_children=true"], 7)
	})
}
