package access

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/database"
)

func TestRoles(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.give("full", AllRights, aphp)
		b.give("admin", adm, aphp)
		post := func(as string, change any) answered { t.Helper(); return b.do(as, "POST", "/accesses/roles/", change) }
		made := read[struct {
			ID                        int64
			Name                      string
			HelpText                  []string `json:"help_text"`
			RightReadPatientNomi      bool     `json:"right_read_patient_nominative"`
			InsertDatetime            time.Time
			DeleteDatetime            *time.Time
			RightManageUsers          bool `json:"right_manage_users"`
			RightReadPatientPseudonym bool `json:"right_read_patient_pseudonymized"`
		}](post("full", body{"name": " Reader ", "right_read_patient_nominative": "yes", "id": 1, "delete_datetime": "2001-01-01T00:00:00Z", "x": 1}).is(201))
		require.Equal(t, "Reader", made.Name)
		require.True(t, made.RightReadPatientNomi)
		require.False(t, made.RightManageUsers)
		require.Nil(t, made.DeleteDatetime)
		require.Equal(t, []string{"Lire les données patient sous forme nominatives sur son périmètre et ses sous-périmètres"}, made.HelpText)
		path := fmt.Sprintf("/accesses/roles/%d/", made.ID)

		post("full", body{"name": "Reader"}).is(400, `{"name":["role with this name already exists."]}`)
		post("full", body{"name": "X", "right_read_datalabs": "maybe", "right_manage_users": nil}).is(400,
			`{"right_read_datalabs":["Must be a valid boolean."],"right_manage_users":["This field may not be null."]}`)
		post("full", body{"name": body{}}).is(400, `{"name":["Not a valid string."]}`)
		post("full", body{"name": incompressible(20_000)}).is(400, `{"name":["Ensure this field has no more than 500 characters."]}`)
		post("full", body{"name": incompressible(500)}).is(201)
		post("full", body{"name": "X", "right_full_admin": "false", "right_read_datalabs": true}).is(201)
		post("full", body{"right_full_admin": true, "right_manage_users": true}).is(400, `{"error":"Cannot create a Full Admin role with falsy rights"}`)
		post("full", body{}).is(201)
		post("full", body{"name": nil}).is(201)
		post("full", "[]").is(400)
		post("admin", body{"name": "Y"}).is(403)
		post("nora", body{"name": "Y"}).is(403)
		post("", body{"name": "Y"}).is(403)

		b.do("full", "PATCH", path, body{"right_search_patients_by_ipp": true, "name": "Renamed"}).is(200)
		b.do("full", "PATCH", path, body{}).is(200)
		b.do("full", "PATCH", path, body{"right_read_patient_nominative": false}).is(400)
		b.do("full", "PATCH", path, body{"name": "X"}).is(400, `{"name":["role with this name already exists."]}`)
		b.do("admin", "PATCH", path, body{}).is(403)
		b.do("full", "PATCH", "/accesses/roles/99999/", body{}).is(404, `{"detail":"No Role matches the given query."}`)
		require.Contains(t, b.get("nora", path).is(200).text, `"name":"Renamed"`)
		b.get("nora", "/accesses/roles/spare/").is(404, `{"detail":"Not found."}`)
		b.do("full", "PUT", path, body{}).is(405)
		b.do("nora", "PUT", path, body{}).is(403)

		held := b.give("x", nomi, 4, b.lasting(-9*time.Hour, -8*time.Hour))
		b.do("full", "DELETE", fmt.Sprintf("/accesses/roles/%d/", b.role(nomi)), nil).is(403, `{"error":"This role is attached to existing accesses"}`)
		b.do("full", "DELETE", fmt.Sprintf("/accesses/roles/%d/", b.role(AllRights)), nil).is(403, `{"error":"Cannot delete the Full Admin role"}`)
		b.must(func(tx *database.Tx) error {
			return tx.Exec("UPDATE accesses_access SET delete_datetime = ? WHERE id = ?", b.now, held).Error
		})
		b.do("full", "DELETE", fmt.Sprintf("/accesses/roles/%d/", b.role(nomi)), nil).is(204)
		b.do("full", "DELETE", path, nil).is(204)
		b.do("full", "DELETE", path, nil).is(404)
		b.get("nora", path).is(404)
		post("full", body{"name": "Renamed"}).is(201)
	})
}

// incompressible is a text of as many characters of four bytes, none like its neighbours.
func incompressible(n int) string {
	text := make([]rune, n)
	for i := range text {
		text[i] = rune(0x20000 + rand.IntN(0xA000))
	}
	return string(text)
}

func TestListRoles(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		for name, rights := range map[string]Rights{"Été": ReadDatalabs, "alpha": nomi, "Beta": ReadDatalabs | ManageDatalabs} {
			b.must(func(tx *database.Tx) error {
				_, err := b.ensureRole(tx, RoleSeed{name, rights})
				return err
			})
		}
		names := func(query string) (list []string) {
			t.Helper()
			for _, r := range read[page](b.get("nora", "/accesses/roles/?"+query).is(200)).Results {
				list = append(list, *r.Name)
			}
			return list
		}
		require.Equal(t, []string{"alpha", "Beta", "Été"}, names("ordering=name&limit=100&search=nothing"))
		require.Equal(t, []string{"Beta", "alpha"}, names("ordering=-name&limit=2&offset=1"))
		require.Equal(t, []string{"Été"}, names("name=%C3%89T"))
		require.ElementsMatch(t, []string{"Beta", "Été"}, names("right_read_datalabs=TRUE"))
		require.Equal(t, []string{"Été"}, names("right_read_datalabs=1&right_manage_datalabs=0&right_full_admin=undefined"))
		b.get("nora", "/accesses/roles/?ordering=id").is(400)
		b.get("nora", "/accesses/roles/?offset=9").is(200, `{"count":3,"next":null,"previous":"http://example.com/accesses/roles/?limit=20","results":[]}`)
		b.get("", "/accesses/roles/").is(403)
	})
}

func TestAssignableRoles(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		eight := []Rights{dam, damS, damI, nomi, pseudo, nomiPse, jupP, nomiCSV} // case 16
		all := append([]Rights{AllRights, adm, admS, admI, nomiFull}, eight...)
		for _, rights := range all {
			b.role(rights)
		}
		for who, g := range map[string]give{
			"full": {AllRights, aphp}, "adm": {adm, aphp}, "admS": {admS, aphp}, "admI": {admI, aphp}, "adm0": {adm, 0}, "adm4": {adm, 4},
			"data": {dam, aphp},
		} {
			b.give(who, g.rights, g.on)
		}
		assignable := func(who string, on int64) (ids []int64) {
			t.Helper()
			for _, r := range read[[]struct{ ID int64 }](b.get(who, fmt.Sprintf("/accesses/roles/assignable/?perimeter_id=%d", on)).is(200)) {
				ids = append(ids, r.ID)
			}
			return ids
		}
		of := func(list []Rights) (ids []int64) {
			for _, rights := range list {
				ids = append(ids, b.role(rights))
			}
			return ids
		}
		for _, on := range []int64{aphp, 5, 7, 13} {
			require.ElementsMatch(t, of(all), assignable("full", on))
		}
		require.ElementsMatch(t, of(eight), assignable("adm", 0))
		require.ElementsMatch(t, of(eight), assignable("admI", 0))
		require.ElementsMatch(t, of(eight), assignable("adm0", 0))
		require.Empty(t, assignable("admS", 0))
		require.Empty(t, assignable("nora", 0))
		require.ElementsMatch(t, of([]Rights{nomi, pseudo, nomiPse, jupP, nomiCSV}), assignable("data", 0))
		b.get("adm4", "/accesses/roles/assignable/?perimeter_id=0").is(200, "[]")
		for _, query := range []string{"", "?perimeter_id="} {
			b.get("full", "/accesses/roles/assignable/"+query).is(400, "{\"error\":\"Missing parameter: `perimeter_id`\"}")
		}
		b.get("full", "/accesses/roles/assignable/?perimeter_id=4711").is(404, `{"detail":"No Perimeter matches the given query."}`)
		b.get("full", "/accesses/roles/assignable/?perimeter_id=P4").is(400)
	})
}

func TestRoleUsers(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		path := fmt.Sprintf("/accesses/roles/%d/users/", b.role(jupP))
		b.get("nora", path).is(204)
		b.give("c", jupP, 0)
		b.give("a", jupP, 1, b.lasting(-time.Hour, time.Hour))
		b.give("b", jupP, 2, b.lasting(-time.Hour, 2*time.Hour))
		b.give("b", jupP, 3, b.lasting(time.Hour, 2*time.Hour))
		b.give("a", jupP, 3, b.lasting(-2*time.Hour, -time.Hour))
		type user struct {
			Username  string `json:"provider_username"`
			Perimeter string
		}
		users := func(query string) (list []string) {
			t.Helper()
			for _, u := range read[struct{ Results []user }](b.get("nora", path+query).is(200)).Results {
				list = append(list, u.Username)
			}
			return list
		}
		b.get("nora", path+"?filter_by_name=LAST+a").is(200, `{"count":1,"next":null,"previous":null,"results":[{
			"provider_username":"a","firstname":"First a","lastname":"LAST a","email":"a@example.org","perimeter":"P1",
			"start_datetime":"2026-03-02 07:00:00.123456+00:00","end_datetime":"2026-03-02 09:00:00.123456+00:00"}]}`)
		require.Equal(t, []string{"a", "b", "c"}, users(""))
		require.Equal(t, []string{"c", "b", "a"}, users("?order=-lastname"))
		require.Equal(t, []string{"c", "a", "b"}, users("?order=perimeter"))
		require.Equal(t, []string{"c", "b", "a"}, users("?order=-end_datetime"))
		require.Equal(t, []string{"c", "a", "b"}, users("?order=-provider_username"), "an unknown key changes nothing")
		require.Equal(t, []string{"b"}, users("?limit=1&offset=1"))
		b.get("nora", path+"?filter_by_name=nobody").is(204)
		for i := range 20 {
			b.give("c", jupP, int64(i%15))
		}
		require.Len(t, users("?page=1"), 20)
		require.Len(t, users("?page=2"), 3)
		require.Len(t, users("?page=2&limit=5"), 5)
		b.get("nora", path+"?page=3").is(404)
		b.get("nora", "/accesses/roles/99999/users/").is(404)
		b.get("", path).is(403)
	})
}
