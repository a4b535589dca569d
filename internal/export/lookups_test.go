package export

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
)

// exchange is one request and what is expected of its answer: the status, and parts of the body.
type exchange struct {
	user, method, path string
	body               any
	status             int
	parts              []string
}

func (w *world) walk(steps ...exchange) {
	w.t.Helper()
	for _, s := range steps {
		status, text := w.ask(s.user, s.method, s.path, s.body)
		require.Equal(w.t, s.status, status, "%s %s %s: %s", s.user, s.method, s.path, text)
		for _, part := range s.parts {
			require.Contains(w.t, text, part, "%s %s", s.method, s.path)
		}
	}
}

func TestDatalabs(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, false, nil)
		const path = "/exports/datalabs/"
		one := path + labID.String() + "/"
		w.walk(
			exchange{"alice", "GET", path, nil, 403, []string{"You do not have permission to perform this action."}},
			exchange{"", "GET", path, nil, 403, []string{"Authentication credentials were not provided."}},
			exchange{"rita", "POST", path, "{", 403, nil}, // before the body is looked at
			exchange{"rita", "PATCH", one, object{"name": "x"}, 403, nil},
			exchange{"rita", "GET", one, nil, 200, []string{`{"uuid":"` + labID.String() + `","infrastructure_provider":{"uuid":"` + providerID.String() + `","name":"Infra"},"created_at":"2026-03-14T12:00:00Z","name":"lab"}`}},
			exchange{"rita", "GET", path + "?search=INFRA&name=lab&infra_provider=inf&ordering=-created_at,name&limit=1", nil, 200, []string{`"count":1,"next":null`}},
			exchange{"rita", "GET", path + "?name=la", nil, 200, []string{`"results":[]`}},
			exchange{"rita", "GET", path + "?page=2", nil, 404, []string{"Invalid page."}},
			exchange{"rita", "GET", path + "?page=last", nil, 200, nil},
			exchange{"rita", "GET", path + "?ordering=colour", nil, 400, nil},
			exchange{"dana", "POST", path, object{}, 400, []string{`{"infrastructure_provider":["This field is required."],"name":["This field is required."]}`}},
			exchange{"dana", "POST", path, object{"name": nil, "infrastructure_provider": ""}, 400, []string{`{"infrastructure_provider":["This field may not be null."],"name":["This field may not be null."]}`}},
			exchange{"dana", "POST", path, object{"name": "a b", "infrastructure_provider": "zz"}, 400, []string{`“zz” is not a valid UUID.`, "No spaces allowed"}},
			exchange{"dana", "POST", path, object{"name": "lab", "infrastructure_provider": nobody}, 400, []string{"object does not exist", "datalab with this name already exists."}},
			exchange{"dana", "POST", path, object{"name": strings.Repeat("x", 256), "infrastructure_provider": providerID}, 400, []string{"Ensure this field has no more than 255 characters."}},
			exchange{"dana", "POST", path, object{"name": " new ", "infrastructure_provider": providerID}, 201, []string{`"name":"new"`}},
			exchange{"dana", "PATCH", one, object{"name": "renamed"}, 200, []string{`"name":"renamed"`, `"Infra"`}},
			exchange{"dana", "PATCH", one, object{}, 200, []string{`"name":"renamed"`}},
			exchange{"dana", "PATCH", one, object{"name": "new"}, 400, []string{"already exists"}},
			exchange{"dana", "DELETE", one, nil, 405, nil},
			exchange{"dana", "GET", path + nobody + "/", nil, 404, []string{"No Datalab matches the given query."}},
		)
		w.update(func(tx *database.Tx) error {
			return tx.Exec("UPDATE datalab SET deleted = created_at WHERE name = 'new'").Error
		})
		w.walk(exchange{"dana", "POST", path, object{"name": "new", "infrastructure_provider": providerID}, 400, []string{"already exists"}},
			exchange{"rita", "GET", path, nil, 200, []string{`"count":1`}})
	})
}

func TestProviders(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, false, nil)
		const path = "/exports/infrastructure-providers/"
		one := path + providerID.String() + "/"
		w.walk(
			exchange{"alice", "GET", path, nil, 403, nil}, exchange{"rita", "POST", path, object{"name": "x"}, 403, nil}, exchange{"rita", "DELETE", one, nil, 403, nil},
			exchange{"dana", "POST", path, object{"name": "  "}, 400, []string{"This field may not be blank."}},
			exchange{"dana", "POST", path, object{"name": "Infra"}, 201, []string{`"name":"Infra"`}},
			exchange{"dana", "PATCH", one, object{"name": "P1"}, 200, []string{`{"uuid":"` + providerID.String() + `","name":"P1"}`}},
			exchange{"dana", "PUT", one, object{"name": "P1"}, 405, nil},
			exchange{"rita", "GET", path + "?ordering=-name&limit=1", nil, 200, []string{`"count":`, `"name":"P1"`}},
			exchange{"rita", "GET", path + "?search=p1&name=P1", nil, 200, []string{`"count":1`}},
			exchange{"dana", "DELETE", one, nil, 204, nil}, exchange{"dana", "DELETE", one, nil, 404, []string{"No InfrastructureProvider matches the given query."}},
			exchange{"rita", "GET", one, nil, 404, nil},
			exchange{"rita", "GET", "/exports/datalabs/" + labID.String() + "/", nil, 200, []string{`"name":"P1"`}}, // it still shows where it is
			exchange{"dana", "POST", "/exports/datalabs/", object{"name": "n", "infrastructure_provider": providerID}, 400, []string{"object does not exist"}},
		)
	})
}

func TestStats(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, false, nil)
		v := w.create("alice", csvOf(w.cohort("alice", "98213")))
		const path = "/exports/export-stats/"
		stat := func(more object) object {
			return merge(object{"name": "Rows", "type": "Integer", "value": 43, "export": v.UUID}, more)
		}
		status, text := w.ask("alice", "POST", path, stat(nil))
		require.Equal(t, 201, status, text)
		var made struct{ UUID uuid.UUID }
		require.NoError(t, json.Unmarshal([]byte(text), &made))
		require.Equal(t, fmt.Sprintf(`{"uuid":"%s","export_target":"%s","deleted":null,"deleted_by_cascade":false,"created_at":"2026-03-14T12:00:00Z","modified_at":"2026-03-14T12:00:00Z","name":"Rows","type":"Integer","value":"43","export":"%s"}`,
			made.UUID, *v.TargetName, v.UUID), text)
		one := path + made.UUID.String() + "/"
		w.walk(
			exchange{"alice", "PATCH", one, object{"name": "lines"}, 200, []string{`"name":"lines"`, `"value":"43"`, *v.TargetName}},
			exchange{"bob", "GET", one, nil, 404, []string{"No ExportResultStat matches the given query."}},
			exchange{"bob", "PATCH", one, object{"name": "x"}, 404, nil}, exchange{"bob", "GET", path, nil, 200, []string{`"results":[]`}},
			exchange{"bob", "POST", path, stat(nil), 400, []string{"object does not exist"}},
			exchange{"root", "GET", one, nil, 200, nil}, exchange{"alice", "DELETE", one, nil, 405, nil},
			exchange{"alice", "GET", path + "?export=" + v.UUID.String() + "&type=Integer&name=LIN&export_target_name=ALICE&ordering=-value,export", nil, 200, []string{`"count":1`}},
			exchange{"alice", "GET", path + "?type=zz", nil, 400, []string{`{"type":["Select a valid choice. zz is not one of the available choices."]}`}},
			exchange{"alice", "GET", path + "?export=" + nobody, nil, 400, []string{`{"export":["Select a valid choice. That choice is not one of the available choices."]}`}},
			exchange{"alice", "GET", path + "?export=zz", nil, 400, []string{`“zz” is not a valid UUID.`}},
			exchange{"alice", "POST", path, object{}, 400, []string{`{"name":["This field is required."],"type":["This field is required."],"value":["This field is required."],"export":["This field is required."]}`}},
			exchange{"alice", "POST", path, stat(object{"type": "Float", "value": true}), 400, []string{`"\"Float\" is not a valid choice."`, "Not a valid string."}},
			exchange{"alice", "POST", path, stat(object{"name": strings.Repeat("n", 56)}), 400, []string{"Ensure this field has no more than 55 characters."}},
		)
	})
}

func TestCohortsAndFilters(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, false, nil)
		mine, theirs := w.cohort("alice", "1"), w.cohort("bob", "2")
		w.update(func(tx *database.Tx) error {
			if err := w.insertCohort(tx, uuid.New(), "alice", statusPending, "", false); err != nil {
				return err
			}
			return w.insertCohort(tx, uuid.New(), "alice", statusFinished, "3", true)
		})
		lab := w.filter("alice", "Observation", "code=718-7")
		w.filter("bob", "Patient", "a")
		w.update(func(tx *database.Tx) error {
			return w.insertFilter(tx, uuid.New(), NewFilter{Owner: "alice", Resource: "Observation", Name: "auto"}, true)
		})
		filters := "/exports/fhir-filters/"
		w.walk(
			exchange{"alice", "GET", "/exports/cohorts/", nil, 200, []string{`"count":1,"next":null,"previous":null,"results":[{"uuid":"` + mine.String() + `","owner":"alice","name":"Cohort 1"}]`}},
			exchange{"alice", "GET", "/exports/cohorts/?owner_id=bob&limit=1000", nil, 200, []string{`"count":0`, `"results":[]`}},
			exchange{"rita", "GET", "/exports/cohorts/?owner_id=bob", nil, 200, []string{theirs.String()}}, exchange{"rita", "GET", "/exports/cohorts/", nil, 200, []string{`"count":2`}},
			exchange{"rita", "GET", "/exports/cohorts/?owner_id=nobody", nil, 200, []string{`"results":[]`}},
			exchange{"alice", "GET", "/exports/cohorts/" + mine.String() + "/", nil, 200, []string{`"owner":"alice"`}},
			exchange{"rita", "GET", "/exports/cohorts/" + mine.String() + "/", nil, 404, []string{"No CohortResult matches the given query."}},
			exchange{"alice", "POST", "/exports/cohorts/", object{}, 405, nil}, exchange{"", "GET", "/exports/cohorts/", nil, 403, nil},
			exchange{"alice", "GET", filters, nil, 200, []string{`"count":1`, `"owner":"Alice Test (alice)","deleted":null,"deleted_by_cascade":false,"created_at":"2026-03-14T12:00:00Z"`, `"query_version":"v1.4.4"`, `"filter":"code=718-7","identifying":false,"auto_generated":false`}},
			exchange{"rita", "GET", filters, nil, 200, []string{`"count":2`}}, exchange{"alice", "GET", filters + "?owner_id=bob", nil, 200, []string{`"results":[]`}},
			exchange{"alice", "GET", filters + "?fhir_resource=observation", nil, 200, []string{`"count":0`}}, exchange{"alice", "GET", filters + "?fhir_resource=Observation&ordering=-created_at", nil, 200, []string{`"count":1`}},
			exchange{"alice", "GET", filters + "?identifying=True", nil, 200, []string{`"count":0`}}, exchange{"alice", "GET", filters + "?identifying=perhaps&ordering=created_at", nil, 200, []string{`"count":1`}},
			exchange{"alice", "GET", filters + "?search=" + url.QueryEscape("OBSERV 718-"), nil, 200, []string{`"count":1`}}, exchange{"alice", "GET", filters + "?search=" + url.QueryEscape("7.8"), nil, 200, []string{`"count":0`}},
			exchange{"alice", "GET", filters + "?ordering=filter", nil, 400, nil}, exchange{"alice", "GET", filters + "?ordering=--created_at", nil, 400, nil},
			exchange{"alice", "GET", filters + lab.String() + "/", nil, 200, []string{lab.String()}}, exchange{"bob", "GET", filters + lab.String() + "/", nil, 404, []string{"No FhirFilter matches"}},
		)
	})
}
