package cohort

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestFilters(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		body := o{"fhir_resource": "Patient", "fhir_version": "4.0", "name": "Name", "filter": "=&==AA=BB=&&=", "identifying": true, "owner": "bob"}
		a := b.do("alice", "POST", "/cohort/fhir-filters/", body).is(201)
		require.Equal(t, []string{"uuid", "owner", "deleted", "deleted_by_cascade", "created_at", "modified_at", "fhir_resource", "fhir_version",
			"query_version", "name", "filter", "identifying", "auto_generated"}, a.keys())
		a.has(o{"owner": "Alice MARTIN (alice)", "deleted": nil, "query_version": "v1.4.4", "filter": "AA=BB", "identifying": true, "auto_generated": false})
		one := "/cohort/fhir-filters/" + a.at("uuid").(string) + "/"
		require.Contains(t, b.do("alice", "POST", "/cohort/fhir-filters/", body).is(400).Text, `{"error":"`)
		b.do("bob", "POST", "/cohort/fhir-filters/", body).is(201)
		body["name"] = "Other"
		other := b.do("alice", "POST", "/cohort/fhir-filters/", body).is(201).at("uuid").(string)
		require.Contains(t, b.do("alice", "PATCH", "/cohort/fhir-filters/"+other+"/", o{"name": "Name"}).is(400).Text, `{"error":"`)
		b.do("alice", "PATCH", one, o{"filter": "&code=http://x|1,2&", "auto_generated": true}).is(200).has(o{"filter": "code=http://x|1,2", "name": "Name", "auto_generated": false})
		b.do("alice", "PATCH", one, o{"filter": "code=http://x|1,2="}).is(200)
		var history []FilterPatch
		require.NoError(t, b.db.Read(t.Context()).Find(&history).Error)
		require.Len(t, history, 1)
		require.Equal(t, "AA=BB", history[0].Filter)
		for _, method := range []string{"GET", "PATCH", "DELETE"} {
			b.do("bob", method, one, o{"name": "xx"}).is(404).json(`{"detail":"No FhirFilter matches the given query."}`)
		}
		b.do("alice", "DELETE", one, nil).is(204)
		b.do("alice", "GET", one, nil).is(404)
		b.do("alice", "PATCH", "/cohort/fhir-filters/"+other+"/", o{"name": "Name"}).is(200)
	})
}

func TestFiltersRefuse(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		for want, body := range map[string]o{
			`{"fhir_version":["This field is required."],"name":["Ensure this field has at least 2 characters."],"filter":["This field may not be blank."]}`:                                   {"fhir_resource": "Patient", "name": "x", "filter": ""},
			`{"fhir_resource":["This field may not be null."],"fhir_version":["This field may not be null."],"name":["This field may not be null."],"filter":["This field may not be null."]}`: {"fhir_resource": nil, "fhir_version": nil, "name": nil, "filter": nil},
			`{"name":["Ensure this field has no more than 50 characters."],"identifying":["Must be a valid boolean."]}`:                                                                        {"fhir_resource": "P", "fhir_version": "4", "name": strings.Repeat("x", 51), "filter": "a=b", "identifying": "maybe"},
		} {
			b.do("alice", "POST", "/cohort/fhir-filters/", body).is(400).json(want)
		}
		hidden := b.do("alice", "POST", "/cohort/fhir-filters/", o{"fhir_resource": "P", "fhir_version": "4", "name": "xx", "filter": "a=b", "auto_generated": true}).is(201).
			has(o{"auto_generated": true}).at("uuid").(string)
		b.do("alice", "GET", "/cohort/fhir-filters/"+hidden+"/", nil).is(404)
		b.do("alice", "DELETE", "/cohort/fhir-filters/delete_multiple/", o{"uuids": []string{hidden}}).is(204)
		b.do("alice", "GET", "/cohort/fhir-filters/", nil).has(o{"count": 0})
	})
}

func TestFilterLists(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		ids := make([]string, 5)
		for i := range ids {
			b.clock.Advance(time.Second)
			ids[i] = b.do("alice", "POST", "/cohort/fhir-filters/", o{"fhir_resource": "Patient", "fhir_version": "4.0", "name": fmt.Sprintf("F%d", i),
				"filter": fmt.Sprintf("age=ge%d", i), "identifying": i == 3}).is(201).at("uuid").(string)
		}
		first := func(query string) any {
			return b.do("alice", "GET", "/cohort/fhir-filters/?"+query, nil).is(200).at("results.0.name")
		}
		require.Equal(t, "F4", first("ordering=-created_at"))
		require.Equal(t, "F0", first("ordering=modified_at"))
		require.Equal(t, "F4", first("ordering=-modified_at"))
		for query, count := range map[string]int{"name=f3": 1, "fhir_resource=PAT": 5, "fhir_filter=GE2": 1, "identifying=true": 1, "identifying=0": 4,
			"owner=alice": 5, "owner=bob": 0, "query_version=v1.4.4": 5, "query_version=v1": 0} {
			b.do("alice", "GET", "/cohort/fhir-filters/?"+query, nil).is(200).has(o{"count": count})
		}
		b.do("alice", "GET", "/cohort/fhir-filters/?ordering=created_at", nil).is(400).json(`{"ordering":["Select a valid choice. created_at is not one of the available choices."]}`)
		b.do("alice", "GET", "/cohort/fhir-filters/?ordering=--created_at", nil).is(400)

		path := "/cohort/fhir-filters/delete_multiple/"
		b.do("bob", "DELETE", path, o{"uuids": ids}).is(204)
		b.do("alice", "GET", "/cohort/fhir-filters/", nil).has(o{"count": 5})
		b.do("alice", "DELETE", path, o{"uuids": []string{ids[0], ids[1], uuid.NewString()}}).is(204)
		for _, nothing := range []any{o{}, o{"uuids": []string{}}, nil} {
			b.do("alice", "DELETE", path, nothing).is(204)
		}
		b.do("alice", "DELETE", path, o{"uuids": []string{"x"}}).is(400)
		b.do("alice", "DELETE", path, o{"uuids": "x"}).is(400)
		b.do("alice", "DELETE", "/cohort/fhir-filters/"+ids[2]+","+ids[3]+"/", nil).is(204)
		b.do("alice", "GET", "/cohort/fhir-filters/", nil).has(o{"count": 1})
	})
}
