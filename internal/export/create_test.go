package export

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
)

const nobody = "00000000-0000-4000-8000-000000000000"

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, false, nil)
		mine, others, running := w.cohort("alice", "98213"), w.cohort("bob", "5"), uuid.New()
		w.update(func(tx *database.Tx) error { return w.insertCohort(tx, running, "alice", statusPending, "", false) })
		fhirFilter, foreign, longLab := w.filter("alice", "Observation", "code=1"), w.filter("bob", "Observation", "code=2"), uuid.New()
		w.update(func(tx *database.Tx) error {
			return tx.Table("datalab").Create(map[string]any{"uuid": longLab, "deleted_by_cascade": false, "created_at": noon, "modified_at": noon, "name": strings.Repeat("l", 234),
				"infrastructure_provider_id": providerID}).Error
		})
		for _, u := range []string{"mute", "odd"} {
			w.cohort(u, "1")
		}
		w.rights.missing["bob"] = &Missing{Right: "right_export_csv_xlsx_nominative", Perimeters: []int64{1, 2}}
		person := []object{{"table_name": "person", "cohort_result_source": mine}}
		hive := func(tables any) object {
			return object{"output_format": "hive", "nominative": true, "datalab": labID, "export_tables": tables}
		}
		for name, c := range map[string]struct {
			user string
			body any
			want string // of the one sentence; or a whole body when it begins with {
		}{
			"no format":          {"alice", object{"nominative": true}, "output_format is required"},
			"format a number":    {"alice", object{"output_format": 3}, "output_format is required"},
			"unknown format":     {"alice", object{"output_format": "plain"}, "Missing exporter configuration for type `plain`"},
			"pseudonymised csv":  {"alice", object{"output_format": "csv", "nominative": "false", "export_tables": person}, "Export must be in `nominative` mode"},
			"nominative unsaid":  {"alice", object{"output_format": "xlsx", "export_tables": person}, "Export must be in `nominative` mode"},
			"nominative null":    {"alice", object{"output_format": "csv", "nominative": nil, "export_tables": person}, "Export must be in `nominative` mode"},
			"another's filter":   {"alice", csvOf(mine, object{"table_name": "person", "cohort_result_source": mine, "fhir_filter": foreign}), "FHIR filter `" + foreign.String() + "` not found"},
			"too many tables":    {"alice", csvOf(mine, make([]object, 501)...), "export_tables holds no more than 500 tables"},
			"hive long lab":      {"alice", merge(hive(person), object{"datalab": longLab}), "the name of the datalab is too long for a database"},
			"no tables":          {"alice", object{"output_format": "csv", "nominative": true}, "All export tables must have the same source cohort"},
			"no cohort":          {"alice", csvOf(mine, object{"table_name": "person", "cohort_result_source": ""}), "All export tables must have the same source cohort"},
			"two cohorts":        {"alice", csvOf(mine, person[0], object{"table_name": "note", "cohort_result_source": others}), "All export tables must have the same source cohort"},
			"unknown cohort":     {"alice", csvOf(uuid.MustParse(nobody)), "Missing cohort with id " + nobody},
			"another's cohort":   {"alice", csvOf(others), "Missing cohort with id " + others.String()},
			"malformed cohort":   {"alice", csvOf(mine, object{"cohort_result_source": "zzz"}), "“zzz” is not a valid UUID."},
			"hive person alone":  {"alice", hive([]object{{"table_name": "person"}}), "The `person` table can not be exported without a source cohort"},
			"hive nothing":       {"alice", hive([]object{{"table_name": "note"}}), "`person` table was not specified; must then provide source cohort for all tables"},
			"hive unfinished":    {"alice", hive([]object{{"table_name": "person", "cohort_result_source": running}}), "Cohort `" + running.String() + "` not found or did not finish successfully"},
			"hive no datalab":    {"alice", object{"output_format": "hive", "nominative": true, "export_tables": person}, "`datalab` is required"},
			"hive unknown lab":   {"alice", merge(hive(person), object{"datalab": nobody}), "Datalab matching query does not exist."},
			"hive no nominative": {"alice", object{"output_format": "hive", "datalab": labID, "export_tables": person}, "`nominative` is required"},
			"no e-mail":          {"mute", csvOf(mineOf(t, w, "mute")), "No email address is configured. Please contact an administrator"},
			"an odd e-mail":      {"odd", csvOf(mineOf(t, w, "odd")), "Invalid email address 'odd@example.co.uk'. Please contact an administrator."},
			"missing right":      {"bob", csvOf(others), "The user is missing `right_export_csv_xlsx_nominative` on the following perimeters: [1, 2]."},
			"tables null":        {"alice", object{"output_format": "csv", "nominative": true, "export_tables": nil}, "export_tables must be a list"},
			"a table a text":     {"alice", object{"output_format": "csv", "nominative": true, "export_tables": []any{"person"}}, "table 1 is not an object"},
			"a long name":        {"alice", csvOf(mine, person[0], object{"table_name": strings.Repeat("t", 56)}), "table_name has no more than 55 characters"},
			"columns no list":    {"alice", csvOf(mine, object{"table_name": "person", "cohort_result_source": mine, "columns": "a"}), "columns must be a list"},
			"unknown filter":     {"alice", csvOf(mine, object{"table_name": "person", "cohort_result_source": mine, "fhir_filter": nobody}), "FHIR filter `" + nobody + "` not found"},
			"lab malformed":      {"alice", merge(csvOf(mine), object{"datalab": "nope"}), `{"datalab":["“nope” is not a valid UUID."]}`},
			"lab unknown":        {"alice", merge(csvOf(mine), object{"datalab": nobody}), `{"datalab":["Invalid pk \"` + nobody + `\" - object does not exist."]}`},
			"no boolean":         {"alice", merge(csvOf(mine), object{"shift_dates": "perhaps"}), `{"shift_dates":["Must be a valid boolean."]}`},
			"null boolean":       {"alice", merge(csvOf(mine), object{"group_tables": nil}), `{"group_tables":["This field may not be null."]}`},
			"no object":          {"alice", []string{"csv"}, `{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}`},
		} {
			status, text := w.ask(c.user, "POST", "/exports/", c.body)
			require.Equal(t, 400, status, name+": "+text)
			if c.want[0] == '{' {
				require.JSONEq(t, c.want, text, name)
				continue
			}
			var list []string
			require.NoError(t, json.Unmarshal([]byte(text), &list), name)
			require.Equal(t, []string{"Invalid export data: " + c.want}, list, name)
		}
		status, text := w.ask("alice", "POST", "/exports/", csvOf(mine, person[0], object{"table_name": "measurement", "fhir_filter": fhirFilter}))
		require.Equal(t, 400, status)
		require.JSONEq(t, `["A FHIR filter was provided but not a cohort source to filter"]`, text)
		w.cohorts.fail = errBroken
		status, _ = w.ask("alice", "POST", "/exports/", csvOf(mine, object{"table_name": "note", "cohort_result_source": mine}))
		require.Equal(t, 500, status)
		for _, table := range []string{"export", "export_table", "engine_job", "engine_task"} {
			var n int64
			require.NoError(t, db.Read(t.Context()).Table(table).Count(&n).Error)
			require.Zero(t, n, "nothing is left of a refused export in "+table)
		}
		status, _ = w.ask("", "POST", "/exports/", "{")
		require.Equal(t, 403, status)
	})
}

func mineOf(t *testing.T, w *world, user string) (id uuid.UUID) {
	t.Helper()
	var ids []uuid.UUID
	require.NoError(t, w.db.Read(t.Context()).Table("cohort_cohortresult").Where("owner_id = ?", user).Pluck("uuid", &ids).Error)
	return ids[0]
}

func TestCreateWritesWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, false, nil)
		w.clock.Advance(123456 * time.Microsecond)
		mine := w.cohort("alice", "98213")
		v := w.create("alice", merge(csvOf(mine, object{"table_name": "person", "cohort_result_source": mine, "columns": []string{"person_id", "a,\"b\""}, "pivot_merge": true},
			object{"table_name": "questionnaireresponse", "cohort_result_source": mine, "pivot_merge_columns": []string{}, "pivot_merge_ids": []string{"21"}},
			object{"table_name": "care_site"}), object{"motivation": "  a\nb\n\nc  ", "group_tables": 1, "shift_date": true, "owner": "bob", "target_name": "x", "datalab": labID}))
		require.Equal(t, "alice_20260314_120000123456", *v.TargetName)
		require.Equal(t, "/csv", *v.TargetLocation)
		require.Equal(t, "a - b -  - c", *v.Motivation)
		require.Equal(t, "new", v.RequestJobStatus)
		require.True(t, v.GroupTables)
		require.False(t, v.ShiftDates)
		require.Equal(t, []string{"1", "2"}, w.rights.asked)
		require.Equal(t, Need{Nominative: true}, w.rights.need)
		status, text := w.ask("alice", "GET", "/exports/"+strings.ToUpper(v.UUID.String())+"/", nil)
		require.Equal(t, 200, status)
		require.JSONEq(t, `{"uuid":"`+v.UUID.String()+`","request_job_id":"","request_job_status":"new","request_job_fail_msg":"","owner":"alice","output_format":"csv",
			"datalab":"`+labID.String()+`","nominative":true,"target_name":"alice_20260314_120000123456","target_location":"/csv","shift_dates":false,"group_tables":true,
			"export_tables":[
			{"name":"person","respect_table_relationships":true,"fhir_filter":null,"cohort_result_source":"`+mine.String()+`","pivot_merge":true,"pivot_merge_columns":null,"pivot_merge_ids":null},
			{"name":"questionnaireresponse","respect_table_relationships":true,"fhir_filter":null,"cohort_result_source":"`+mine.String()+`","pivot_merge":false,"pivot_merge_columns":[],"pivot_merge_ids":["21"]},
			{"name":"care_site","respect_table_relationships":true,"fhir_filter":null,"cohort_result_source":null,"pivot_merge":false,"pivot_merge_columns":null,"pivot_merge_ids":null}],
			"motivation":"a - b -  - c"}`, text)
		require.Equal(t, database.StringArray{"person_id", `a,"b"`}, w.get(v.UUID).Tables[0].Columns)
	})
}

// An operator makes transfers of other people's cohorts, with their filters.
func TestTransfersTakeAnothersCohortAndFilter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, databasetest.SQLite(t), false, nil)
	theirs, foreign := w.cohort("bob", "5"), w.filter("bob", "Observation", "code=2")
	v := w.create("alice", hiveOf(theirs, object{"export_tables": []object{{"table_name": "person", "cohort_result_source": theirs, "fhir_filter": foreign}}}))
	require.Equal(t, foreign, *v.ExportTables[0].FhirFilter)
	require.Equal(t, "alice", w.cohorts.subsets[0].Owner)
}

func TestCreateAsksForThePerimetersOfTheQuery(t *testing.T) {
	t.Parallel()
	w := newWorld(t, databasetest.SQLite(t), false, nil)
	mine := w.cohort("alice", "98213")
	w.update(func(tx *database.Tx) error {
		return tx.Exec("UPDATE cohort_requestquerysnapshot SET perimeters_ids = NULL").Error
	})
	w.create("alice", csvOf(mine))
	require.Equal(t, []string{"7", "8"}, w.rights.asked, "decision 7")
	w.update(func(tx *database.Tx) error {
		return tx.Exec("UPDATE cohort_requestquerysnapshot SET serialized_query = '{}'").Error
	})
	status, text := w.ask("alice", "POST", "/exports/", csvOf(mine))
	require.Equal(t, 400, status)
	require.Contains(t, text, "The user is missing `right_read_patient_nominative` on the following perimeters: [].")
}

func TestBuiltInRefusesWhatItCannotWrite(t *testing.T) {
	t.Parallel()
	w := newWorld(t, databasetest.SQLite(t), true, nil)
	mine := w.cohort("alice", "98213")
	patients := w.filter("alice", "Patient", "gender=f")
	for want, table := range map[string]object{
		"the table `concept` is not known; known tables are: care_site, ":               {"table_name": "concept"},
		"the column `x` of table `person` is not known; known columns are: person_id, ": {"table_name": "person", "columns": []string{"x"}},
		"the table `measurement` cannot be pivoted; only `questionnaireresponse` can":   {"table_name": "measurement", "pivot_merge": true},
		"the table `measurement` holds Observation, its filter is for Patient":          {"table_name": "measurement", "cohort_result_source": mine, "fhir_filter": patients},
	} {
		status, text := w.ask("alice", "POST", "/exports/", csvOf(mine, object{"table_name": "person", "cohort_result_source": mine}, table))
		require.Equal(t, 400, status)
		require.Contains(t, text, "Invalid export data: "+want)
	}
	status, text := w.ask("alice", "POST", "/exports/", object{"output_format": "hive", "nominative": true})
	require.Equal(t, 400, status)
	require.Contains(t, text, "Missing exporter configuration for type `hive`")
}

func TestListAndOwnership(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, false, nil)
		mine := w.cohort("alice", "98213")
		v := w.create("alice", merge(csvOf(mine), object{"datalab": labID}))
		w.clock.Advance(time.Hour)
		x := w.create("alice", merge(csvOf(mine), object{"output_format": "xlsx", "motivation": "other"}))
		list := func(user, query string, want ...uuid.UUID) string {
			t.Helper()
			status, text := w.ask(user, "GET", "/exports/?"+query, nil)
			if len(want) == 0 {
				require.Equal(t, 204, status, text)
				require.Empty(t, text)
				return ""
			}
			require.Equal(t, 200, status, text)
			var page struct{ Results []struct{ UUID uuid.UUID } }
			require.NoError(t, json.Unmarshal([]byte(text), &page))
			var got []uuid.UUID
			for _, r := range page.Results {
				got = append(got, r.UUID)
			}
			require.Equal(t, want, got, query)
			return text
		}
		text := list("alice", "ordering=-created_at", x.UUID, v.UUID)
		require.Contains(t, text, `"owner":"Alice Test (alice)","output_format":"csv","motivation":"étude - A","cohort_id":"98213","cohort_name":"Cohort 98213","patients_count":412,"created_at":"2026-03-14T12:00:00Z"`)
		require.Contains(t, text, `"request_job_status":"new","target_datalab":"lab","target_name":"alice_20260314_120000000000"`)
		list("root", "", v.UUID, x.UUID)
		list("bob", "")
		list("rita", "owner=alice")
		list("alice", "output_format=csv,%20hive", v.UUID)
		list("alice", "status=new,failed", v.UUID, x.UUID)
		list("alice", "request_job_status=failed")
		list("alice", "status=failed&request_job_status=new")
		list("alice", "owner=ALICE&motivation="+url.QueryEscape("TUDE"), v.UUID)
		list("alice", "search="+url.QueryEscape("CSV lab 98213 alice_2026"), v.UUID)
		list("alice", "search="+url.QueryEscape(`"étude - A"`), v.UUID)
		list("alice", "search=100%25")
		list("alice", "ordering=owner,-output_format", x.UUID, v.UUID)
		list("alice", "ordering=-patients_count,status,modified_at,created_at", v.UUID, x.UUID)
		list("alice", "created_at_gte="+url.QueryEscape("2026-03-14 12:30:00"), x.UUID)
		list("alice", "created_at_lte=2026-03-13")
		list("alice", "created_at_lte=2026-03-14&created_at_gte=nonsense", v.UUID, x.UUID)
		list("alice", "offset=20")
		list("alice", "limit=1&offset=1", x.UUID)
		text = list("alice", "return_full_objects=true", v.UUID, x.UUID)
		require.Contains(t, text, `"export_tables":[{"name":"person"`)
		list("alice", "return_full_objects=maybe", v.UUID, x.UUID)
		status, text := w.ask("alice", "GET", "/exports/?ordering=colour", nil)
		require.Equal(t, 400, status)
		require.JSONEq(t, `{"ordering":["Select a valid choice. colour is not one of the available choices."]}`, text)
		for _, c := range []struct {
			user, method, path string
			want               int
		}{{"root", "GET", "/exports/" + v.UUID.String() + "/", 200}, {"bob", "GET", "/exports/" + v.UUID.String() + "/", 404}, {"", "GET", "/exports/", 403},
			{"alice", "GET", "/exports/" + nobody + "/", 404}, {"alice", "GET", "/exports/zz/", 404}, {"alice", "PATCH", "/exports/" + v.UUID.String() + "/", 405},
			{"alice", "DELETE", "/exports/" + v.UUID.String() + "/", 405}, {"alice", "DELETE", "/exports/", 405}, {"alice", "OPTIONS", "/exports/", 405},
			{"alice", "GET", "/exports/" + v.UUID.String(), 404}, {"bob", "POST", "/exports/" + v.UUID.String() + "/retry/", 404},
			{"alice", "POST", "/exports/" + v.UUID.String() + "/retry/", 409}, {"alice", "GET", "/exports/" + v.UUID.String() + "/logs/", 403},
			{"alice", "POST", "/exports/" + v.UUID.String() + "/relaunch/", 403}, {"bob", "GET", "/exports/" + v.UUID.String() + "/download/", 404}} {
			status, _ := w.ask(c.user, c.method, c.path, nil)
			require.Equal(t, c.want, status, c)
		}
	})
}

func TestListsTakeAConstantNumberOfQueries(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, false, nil)
		mine := w.cohort("alice", "98213")
		count := func() []int {
			var n []int
			for _, path := range []string{"/exports/?limit=-1", "/exports/?limit=-1&return_full_objects=true", "/exports/datalabs/", "/exports/fhir-filters/?limit=-1", "/exports/cohorts/?limit=-1"} {
				user := "root"
				if strings.Contains(path, "datalabs") {
					user = "rita"
				}
				n = append(n, databasetest.Count(t, db, func() { w.ask(user, "GET", path, nil) }))
			}
			return n
		}
		w.create("alice", csvOf(mine))
		w.filter("alice", "Patient", "a=b")
		one := count()
		for i := range 15 {
			w.clock.Advance(time.Second)
			w.create("alice", csvOf(mine))
			w.filter("alice", "Patient", "a=b")
			w.cohort("alice", "1")
			w.update(func(tx *database.Tx) error {
				return tx.Create(&Datalab{Base: Base{UUID: uuid.New(), CreatedAt: noon, ModifiedAt: noon}, Name: strings.Repeat("x", i+1), InfrastructureProviderID: providerID}).Error
			})
		}
		require.Equal(t, one, count())
		require.Equal(t, []int{2, 3, 3, 2, 2}, one)
	})
}
