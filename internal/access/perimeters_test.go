package access

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
)

func TestPerimeters(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.must(func(tx *database.Tx) error {
			return tx.Exec("UPDATE accesses_perimeter SET cohort_id = NULL WHERE id = 7").Error
		})
		list := func(query string) []int64 {
			t.Helper()
			return read[page](b.get("nora", "/accesses/perimeters/?"+query).is(200)).ids()
		}
		b.get("nora", "/accesses/perimeters/4/").is(200, `{"id":4,"parent_id":"0","care_site_id":4,"care_site_name":"P4",
			"care_site_source_value":"S4","care_site_short_name":null,"care_site_type_source_value":"T","type":"T",
			"names":{"name":"P4","short":null,"source_value":"S4"},"insert_datetime":"2026-03-02T08:00:00.123456Z",
			"update_datetime":"2026-03-02T08:00:00.123456Z","delete_datetime":null,"local_id":"4","name":"P4","source_value":"S4",
			"short_name":null,"type_source_value":"T","above_levels_ids":"9999,0","inferior_levels_ids":"11,12","cohort_id":"4",
			"full_path":"P9999/P0/P4","cohort_size":null,"level":3,"count_allowed_users":0,"count_allowed_users_inferior_levels":0,
			"count_allowed_users_above_levels":0}`)
		b.get("nora", "/accesses/perimeters/4711/").is(404, `{"detail":"No Perimeter matches the given query."}`)
		b.get("nora", "/accesses/perimeters/99999999999999999999999/").is(404, `{"detail":"Not found."}`)
		require.Len(t, list(""), 16)
		require.Equal(t, []int64{0, 1}, list("limit=2"))
		require.Equal(t, []int64{4, 10}, list("local_id=%204%20,10,x&limit=-1"))
		require.Equal(t, []int64{3}, list("cohort_id=3,4&name=p3"))
		require.Equal(t, []int64{0, 1, 2}, list("parent_id=9999"))
		require.Equal(t, []int64{1, 10, 11, 12, 13, 14}, list("search=p1+t"))
		require.Empty(t, list("search=%25"))
		require.Len(t, list("type_source_value=&search="), 16)
		require.Equal(t, []int64{3}, list("cohort_id=3,"), "a virtual cohort that is missing is not an empty one")
		require.Equal(t, []int64{aphp, 9, 8}, list("ordering=-care_site_name,care_site_source_value&limit=3"))
		b.get("nora", "/accesses/perimeters/?ordering=level").is(400)
		b.get("nora", "/accesses/perimeters/?parent_id=0,x").is(400)
		b.get("nora", "/accesses/perimeters/?search=%00").is(400, `["Null characters are not allowed."]`)

		children := read[page](b.get("nora", "/accesses/perimeters/0/children/").is(200))
		require.Equal(t, []int64{3, 4, 5}, children.ids())
		require.Empty(t, read[page](b.get("nora", "/accesses/perimeters/4711/children/").is(200)).ids())
		require.Equal(t, []int64{4}, read[page](b.get("nora", "/accesses/perimeters/0/children/?name=P4").is(200)).ids())
		require.Empty(t, read[page](b.get("nora", "/accesses/perimeters/0/children/?parent_id=1").is(200)).ids())
		b.get("nora", "/accesses/perimeters/NORD/children/").is(404)
		b.get("nora", "/accesses/perimeters/0/children/4/").is(200)
		b.get("nora", "/accesses/perimeters/0/children/11/").is(404)
		b.do("nora", "PATCH", "/accesses/perimeters/4/", body{"name": "x"}).is(405)
		for _, path := range []string{"", "4/", "4/children/", "manageable/", "patient-data/rights/", "patient-data/read/?cohort_ids=1&mode=min"} {
			b.get("", "/accesses/perimeters/"+path).is(403, `{"detail":"Authentication credentials were not provided."}`)
		}
		b.must(func(tx *database.Tx) error {
			if err := tx.Exec("UPDATE accesses_perimeter SET delete_datetime = ? WHERE id = 4", b.now).Error; err != nil {
				return err
			}
			return touchTree(tx)
		})
		b.get("nora", "/accesses/perimeters/4/").is(404)
		require.Len(t, list(""), 15)
	})
}

func TestManageable(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		for who, list := range map[string][]give{
			"z": {{dam, 0}, {adm, 1}, {adm, 2}, {dam, 8}}, "t": {{damI, 0}, {adm, 1}, {admS, 8}, {damI, 10}}, "full": {{AllRights, 4}},
			"reader": {{nomi, aphp}}, "users": {{ManageUsers, 4}},
		} {
			for _, g := range list {
				b.give(who, g.rights, g.on)
			}
		}
		manageable := func(who, query string) (ids []int64) {
			t.Helper()
			for _, p := range read[[]struct{ ID int64 }](b.get(who, "/accesses/perimeters/manageable/"+query).is(200)) {
				ids = append(ids, p.ID)
			}
			return ids
		}
		require.Equal(t, []int64{0, 1, 2}, manageable("z", ""))
		require.Equal(t, []int64{1, 3, 4, 5, 8, 13, 14}, manageable("t", ""))
		require.Equal(t, []int64{aphp}, manageable("full", ""))
		require.Equal(t, []int64{aphp}, manageable("users", ""))
		require.Equal(t, []int64{1, 11, 12, 13, 14}, manageable("t", "?search=P1"))
		require.Equal(t, []int64{1, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14}, manageable("t", "?limit=1"))
		require.Equal(t, []int64{14, 13}, manageable("t", "?parent_id=10&ordering=-care_site_name"))
		for _, who := range []string{"nora", "reader"} {
			b.get(who, "/accesses/perimeters/manageable/").is(200, "[]")
			b.get(who, "/accesses/perimeters/manageable/?search=P").is(200, "[]")
		}
		b.get("t", "/accesses/perimeters/manageable/?ordering=nothing").is(400)
		b.get("full", "/accesses/perimeters/manageable/").is(200, `[{"id":9999,"name":"P9999","source_value":"S9999","parent_id":null,"type":"T",
			"above_levels_ids":"","inferior_levels_ids":"0,1,2","cohort_id":"9999","cohort_size":null,"full_path":"P9999"}]`)
	})
}

// TestQuestionsUnderChildren: the parent of the path has no effect, whatever it is.
func TestQuestionsUnderChildren(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.give("t", damI, 0)
		b.give("t", pseudo, 4)
		for _, question := range []string{
			"manageable/", "manageable/?search=P1", "patient-data/rights/", "patient-data/rights/?limit=2", "patient-data/read/?cohort_ids=4&mode=min",
			"patient-data/read/?cohort_ids=2&mode=min", "patient-data/read/?mode=min", "manageable/?ordering=nothing",
		} {
			plain := b.get("t", "/accesses/perimeters/"+question)
			for _, parent := range []string{"2", "4711", "NORD"} {
				nested := b.get("t", "/accesses/perimeters/"+parent+"/children/"+question)
				require.Equal(t, plain.status, nested.status, question)
				// links to other pages name the page that was asked for
				require.JSONEq(t, plain.text, strings.ReplaceAll(nested.text, "/perimeters/"+parent+"/children/", "/perimeters/"), question)
			}
			b.get("", "/accesses/perimeters/2/children/"+question).is(403)
		}
	})
}

func TestReadableRoutes(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		for _, g := range []give{{pseudo, 0}, {nomiFull &^ SearchUnlimited, 1}, {nomiPse, 2}, {nomi, 4}, {pseudo, 10}} { // cases 51, 52
			b.give("y", g.rights, g.on)
		}
		b.give("carol", nomi, 4)
		type right struct {
			Perimeter struct{ ID int64 }
			ReadRole  string `json:"read_role"`
			Nomi      bool   `json:"right_read_patient_nominative"`
			Pseudo    bool   `json:"right_read_patient_pseudonymized"`
			IPP       bool   `json:"right_search_patients_by_ipp"`
			Opposed   bool   `json:"right_read_opposed_patients_data"`
		}
		rights := func(who, query string) []right {
			t.Helper()
			return read[struct{ Results []right }](b.get(who, "/accesses/perimeters/patient-data/rights/"+query).is(200)).Results
		}
		at := func(id int64, nominative bool) right {
			r := right{ReadRole: "READ_PATIENT_PSEUDO_ANONYMIZE", Nomi: nominative, Pseudo: true, IPP: true, Opposed: true}
			r.Perimeter.ID = id
			if nominative {
				r.ReadRole = "READ_PATIENT_NOMINATIVE"
			}
			return r
		}
		require.Equal(t, []right{at(0, false), at(4, true), at(1, true), at(2, true)}, rights("y", ""))
		require.Equal(t, []right{at(5, false), at(1, true), at(9, true)}, rights("y", "?limit=-1&local_id=1,5,9&type_source_value="))
		require.Len(t, rights("carol", ""), 1)
		require.Len(t, rights("carol", "?limit=-1"), 3)
		require.Len(t, rights("carol", "?colour=blue"), 3)
		require.Len(t, rights("carol", "?limit=2&offset=2"), 1)
		for _, query := range []string{"?offset=5000", "?cohort_id=0,1", "?search=nothing"} {
			b.get("carol", "/accesses/perimeters/patient-data/rights/"+query).is(200, "{}")
		}
		b.get("nora", "/accesses/perimeters/patient-data/rights/").is(200, "{}")
	})
}

// TestWholeLists: what clients ask for without a limit, and show as it comes.
func TestWholeLists(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		b := setup(t, db)
		rows := []Perimeter{{ID: 1, LocalID: "1", Level: new(1)}}
		for id := range int64(50) {
			rows = append(rows, Perimeter{ID: 100 + id, LocalID: fmt.Sprint(100 + id), ParentID: new(int64(1)), Level: new(2)})
		}
		b.must(func(tx *database.Tx) error { return putPerimeters(tx, rows, b.now) })
		for id := range int64(30) {
			b.give("r", pseudo, 100+id)
		}
		for path, want := range map[string]int{
			"1/children/": 50, "1/children/?limit=": 50, "1/children/?limit=7": 7, "1/children/?limit=0": 20, "1/children/?offset=45": 5,
			"patient-data/rights/": 30, "patient-data/rights/?search=": 20, "patient-data/rights/?limit=7": 7, "": 20,
		} {
			answer := read[struct {
				Count   int
				Next    *string
				Results []any
			}](b.get("r", "/accesses/perimeters/"+path).is(200))
			require.Len(t, answer.Results, want, path)
			require.Equal(t, answer.Count > want && path != "1/children/?offset=45", answer.Next != nil, path)
		}
	})
}

func TestPatientDataRead(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.give("x", pseudo|SearchOpposed, 1)
		b.give("x", nomi, 2)
		b.give("x", ManageUsers, 5)
		b.give("unlimited", nomiFull, 1)
		b.give("manager", dam, aphp)
		b.must(func(tx *database.Tx) error { return cohortRows(tx, b, "777", database.StringArray{"1", "8"}, "{}") })
		b.must(func(tx *database.Tx) error {
			return cohortRows(tx, b, "778", nil, `{"sourcePopulation":{"caresiteCohortList":["6", 8]}}`)
		})
		b.must(func(tx *database.Tx) error { return cohortRows(tx, b, "779", nil, "no json") })
		read := func(who, query string) answered {
			t.Helper()
			return b.get(who, "/accesses/perimeters/patient-data/read/?"+query)
		}
		mode := func(nominative bool) string {
			return fmt.Sprintf(`{"allow_read_patient_data_nomi":%t,"allow_lookup_opposed_patients":true,
				"allow_read_patient_without_perimeter_limit":false,"allow_read_practitioner":true}`, nominative)
		}
		nothing, unreadable := `{"error":"None of the target perimeters was found"}`, `{"error":"User has no data reading accesses"}`
		read("x", "cohort_ids=1,8&mode=min").is(200, mode(false))
		read("x", "cohort_ids=1,8&mode=max").is(200, mode(true))
		read("x", "cohort_ids=777&mode=max").is(200, mode(true))
		read("x", "cohort_ids=778&mode=min").is(200, mode(false))
		read("x", "cohort_ids=779&mode=min").is(404, nothing)
		read("x", "cohort_ids=1,5&mode=min").is(404, unreadable)
		read("x", "cohort_ids=1,5,4711&mode=max").is(200, mode(false))
		read("x", "cohort_ids=4711,x&mode=max").is(404, nothing)
		read("x", "cohort_ids=&mode=max").is(404, nothing)
		read("x", "cohort_ids=,&mode=min").is(404, nothing)
		read("x", "cohort_ids=1%20,%202&mode=max").is(404, nothing)
		read("manager", "cohort_ids=9999&mode=max").is(404, unreadable)
		read("nora", "cohort_ids=9999&mode=max").is(404, unreadable)
		read("unlimited", "cohort_ids=4711&mode=min").is(200, `{"allow_read_patient_data_nomi":true,"allow_lookup_opposed_patients":true,
			"allow_read_patient_without_perimeter_limit":true,"allow_read_practitioner":false}`)
		read("x", "mode=min").is(400, "{\"error\":\"Missing `cohort_ids` parameter\"}")
		for _, query := range []string{"cohort_ids=", "cohort_ids=1&mode=MIN", "cohort_ids=&mode=wrong_value"} {
			read("x", query).is(400, "{\"error\":\"Patient data reading `mode` is missing or has invalid value\"}")
		}
	})
}

// cohortRows makes a user's cohort with its snapshot, request and folder.
func cohortRows(tx *database.Tx, b *bundle, group string, perimeters database.StringArray, query string) error {
	folder, request, snapshot := uuid.NewString(), uuid.NewString(), uuid.NewString()
	b.owner(tx)
	for _, statement := range []struct {
		sql    string
		values []any
	}{
		{`INSERT INTO cohort_folder (uuid, deleted_by_cascade, created_at, modified_at, name, owner_id) VALUES (?, false, ?, ?, 'f', 'owner')`,
			[]any{folder, b.now, b.now}},
		{`INSERT INTO cohort_request (uuid, deleted_by_cascade, created_at, modified_at, name, description, favorite, owner_id, parent_folder_id)
			VALUES (?, false, ?, ?, 'r', '', false, 'owner', ?)`, []any{request, b.now, b.now, folder}},
		{`INSERT INTO cohort_requestquerysnapshot (uuid, deleted_by_cascade, created_at, modified_at, serialized_query, perimeters_ids,
			version, owner_id, request_id) VALUES (?, false, ?, ?, ?, ?, 1, 'owner', ?)`,
			[]any{snapshot, b.now, b.now, query, perimeters, request}},
		{`INSERT INTO cohort_cohortresult (uuid, deleted_by_cascade, created_at, modified_at, request_job_id, request_job_status,
			request_job_fail_msg, request_job_duration, create_task_id, favorite, owner_id, group_id, is_subset, request_query_snapshot_id)
			VALUES (?, false, ?, ?, '', 'finished', '', '', '', false, 'owner', ?, false, ?)`,
			[]any{uuid.NewString(), b.now, b.now, group, snapshot}},
	} {
		if err := tx.Exec(statement.sql, statement.values...).Error; err != nil {
			return err
		}
	}
	return nil
}

func (b *bundle) owner(tx *database.Tx) {
	b.t.Helper()
	_, err := accounts{}.EnsureUser(b.t.Context(), tx, NewUser{Username: "owner", Email: "owner@example.org"})
	require.NoError(b.t, err)
}

func TestQuestions(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		ctx := t.Context()
		b.give("reader", nomi, 0)
		b.give("reader", ExportCSVXLSXNominative, 8)
		b.give("pseudo", jupP, 1)
		check := func(who string, kind ExportKind, ids ...string) *MissingRight {
			t.Helper()
			missing, err := b.CheckExport(ctx, who, kind, ids)
			require.NoError(t, err)
			return missing
		}
		csv, hive := ExportKind{Nominative: true}, ExportKind{Jupyter: true}
		require.Nil(t, check("reader", csv, "0", "11"), "export rights hold everywhere")
		require.Equal(t, &MissingRight{"right_read_patient_nominative", []int64{6}}, check("reader", csv, "11", "6"), "one that cannot be read")
		require.Equal(t, &MissingRight{"right_read_patient_nominative", nil}, check("reader", csv), "no perimeter at all")
		require.Equal(t, &MissingRight{"right_read_patient_nominative", nil}, check("reader", csv, "11", "4711"), "an unknown one")
		require.Equal(t, &MissingRight{"right_read_patient_pseudonymized", []int64{11}}, check("reader", hive, "11"), "nominative does not include")
		require.Equal(t, &MissingRight{"right_export_jupyter_nominative", []int64{11}}, check("reader", ExportKind{true, true}, "11"))
		require.Nil(t, check("pseudo", hive, "6", "7"))
		require.Equal(t, &MissingRight{"right_export_csv_xlsx_nominative", []int64{6}}, check("pseudo", ExportKind{}, "6"))
		require.NotNil(t, check("nora", hive, "6"))

		rights, err := b.CohortRights(ctx, "reader", [][]string{{"11"}, {"6"}, nil})
		require.NoError(t, err)
		require.Equal(t, []CohortRights{{ReadNominative: true, ReadPseudonymized: true}, {}, {}}, rights)
		rights, err = b.CohortRights(ctx, "nora", [][]string{{"11"}})
		require.NoError(t, err)
		require.Equal(t, []CohortRights{{}}, rights, "nobody without accesses has any")

		for who, want := range map[string]bool{"reader": true, "pseudo": false, "nora": false} {
			got, err := b.HasNominativeRead(ctx, who, []int64{6, 11})
			require.NoError(t, err)
			require.Equal(t, want, got, who)
		}
		got, err := b.HasNominativeRead(ctx, "reader", nil)
		require.NoError(t, err)
		require.False(t, got)
		sees, err := b.SeesEverybodysLists(ctx, "pseudo")
		require.NoError(t, err)
		require.True(t, sees)

		root, err := b.RootCohortID(ctx)
		require.NoError(t, err)
		require.Equal(t, "9999", root)
		unknown, err := b.UnknownCohortIDs(ctx, []string{"4", "4711", ""})
		require.NoError(t, err)
		require.Equal(t, []string{"4711", ""}, unknown)
		found, err := b.ByCohortIDs(ctx, []string{"4", "4711", "4", "3"})
		require.NoError(t, err)
		require.Equal(t, []int64{4, 3}, idsOf(found))
		b.must(func(tx *database.Tx) error {
			return putPerimeters(tx, []Perimeter{{ID: 50, LocalID: "50", Level: new(1)}}, b.now)
		})
		_, err = b.RootCohortID(ctx)
		require.ErrorIs(t, err, ErrNoRoot)
	})
}

func TestCatalogueProfilesAndIndex(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		categories := read[[]struct {
			Name     string
			IsGlobal bool `json:"is_global"`
			Rights   []struct {
				Name      string
				DependsOn *string `json:"depends_on"`
			}
		}](b.get("nora", "/accesses/rights/?limit=1&name=x").is(200))
		require.Len(t, categories, 9)
		require.Equal(t, "Administration", categories[0].Name)
		require.False(t, categories[2].IsGlobal)
		require.Equal(t, "right_manage_datalabs", *categories[8].Rights[1].DependsOn)
		b.get("nora", "/accesses/rights/99999/").is(404, `{"detail":"No Right matches the given query."}`)
		b.do("nora", "DELETE", "/accesses/rights/1/", nil).is(405)
		b.get("nora", "/accesses/").is(200, `{"rights":"http://example.com/accesses/rights/","accesses":"http://example.com/accesses/accesses/",
			"roles":"http://example.com/accesses/roles/","profiles":"http://example.com/accesses/profiles/","perimeters":"http://example.com/accesses/perimeters/"}`)
		b.get("", "/accesses/").is(403)

		id := b.profile("ines")
		one := fmt.Sprintf(`{"id":%d,"insert_datetime":"2026-03-02T08:00:00.123456Z","update_datetime":"2026-03-02T08:00:00.123456Z",
			"delete_datetime":null,"is_active":true,"user_id":"ines","firstname":"First ines","lastname":"LAST ines",
			"email":"ines@example.org","provider_id":"ines","provider_name":"First ines LAST ines (ines)","source":"Manual","user":"ines"}`, id)
		b.get("nora", fmt.Sprintf("/accesses/profiles/%d/", id)).is(200, one)
		b.get("nora", "/accesses/profiles/?user_id=ines").is(200, `{"count":1,"next":null,"previous":null,"results":[`+one+`]}`)
		b.get("nora", "/accesses/profiles/?search=first+ines").is(200, `{"count":1,"next":null,"previous":null,"results":[`+one+`]}`)
		b.get("nora", "/accesses/profiles/?search=jules+ines").is(200, `{"count":0,"next":null,"previous":null,"results":[]}`)
		b.get("nora", "/accesses/profiles/?user_id=nobody").is(400, `{"user_id":["Select a valid choice. That choice is not one of the available choices."]}`)
		b.get("nora", "/accesses/profiles/?page=99").is(404, `{"detail":"Invalid page."}`)
		b.get("nora", "/accesses/profiles/99999/").is(404, `{"detail":"No Profile matches the given query."}`)
		b.get("", "/accesses/profiles/").is(403)
		var orphan Profile
		b.must(func(tx *database.Tx) error {
			orphan = Profile{Source: new(SourceManual)}
			return tx.Create(&orphan).Error
		})
		require.NotContains(t, b.get("nora", fmt.Sprintf("/accesses/profiles/%d/", orphan.ID)).is(200).text, "firstname")
	})
}
