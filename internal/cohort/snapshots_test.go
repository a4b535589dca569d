package cohort

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSnapshots(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		request := b.request("alice")
		a := b.do("alice", "POST", "/cohort/request-query-snapshots/", o{"request_id": request, "serialized_query": query, "version": 41,
			"perimeters_ids": []string{"99"}, "shared_by": "bob"}).is(201)
		require.Equal(t, []string{"uuid", "owner", "name", "version", "created_at", "modified_at", "request", "previous_snapshot",
			"serialized_query", "perimeters_ids", "dated_measures", "cohort_results"}, a.keys())
		a.has(o{"owner": "alice", "name": nil, "version": 1, "request": request, "previous_snapshot": nil, "serialized_query": query,
			"perimeters_ids": []string{"4012"}, "dated_measures": []any{}, "cohort_results": []any{}})
		first := a.at("uuid").(string)
		b.clock.Advance(1)
		a = b.do("alice", "POST", "/cohort/request-query-snapshots/", o{"previous_snapshot_id": first, "serialized_query": query,
			"request": request, "name": "Mine"}).is(201).has(o{"version": 2, "request": request, "previous_snapshot": first, "name": "Mine"})
		second := a.at("uuid").(string)
		b.do("alice", "POST", "/cohort/request-query-snapshots/"+first+"/next-snapshots/", o{"serialized_query": query}).is(201).has(o{"version": 3})
		b.do("alice", "GET", "/cohort/request-query-snapshots/"+first+"/next-snapshots/", nil).is(200).has(o{"count": 2})
		b.do("alice", "GET", "/cohort/request-query-snapshots/"+first+"/next-snapshots/"+second+"/", nil).is(200).has(o{"uuid": second})
		b.do("alice", "GET", "/cohort/requests/"+request+"/query-snapshots/"+second+"/", nil).is(200).has(o{"uuid": second})
		b.do("bob", "GET", "/cohort/requests/"+request+"/query-snapshots/", nil).is(200).has(o{"count": 0})
		b.do("bob", "GET", "/cohort/request-query-snapshots/"+second+"/", nil).is(404).json(`{"detail":"No RequestQuerySnapshot matches the given query."}`)
		b.do("alice", "DELETE", "/cohort/request-query-snapshots/"+second+"/", nil).is(405)

		for filter, count := range map[string]int{"request=" + request: 3, "previous_snapshot=" + first: 2, "name=Mine": 1, "shared_by=bob": 0} {
			b.do("alice", "GET", "/cohort/request-query-snapshots/?"+filter, nil).is(200).has(o{"count": count})
		}
		b.do("alice", "DELETE", "/cohort/requests/"+request+"/", nil).is(204)
		b.do("alice", "GET", "/cohort/request-query-snapshots/"+first+"/", nil).is(404)
		b.do("alice", "PATCH", "/cohort/request-query-snapshots/"+first+"/", o{"name": "x"}).is(404)
		b.do("alice", "POST", "/cohort/request-query-snapshots/", o{"previous_snapshot": first, "serialized_query": query}).is(400)
	})
}

func TestVersionsAreNumberedOneByOne(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		const many = 8
		first := b.snapshot("alice", b.request("alice"))
		answers := make(chan answer, many)
		for range many {
			go func() {
				answers <- b.do("alice", "POST", "/cohort/request-query-snapshots/", o{"previous_snapshot": first, "serialized_query": query})
			}()
		}
		seen := map[string]bool{}
		for range many {
			seen[fmt.Sprint((<-answers).is(201).at("version"))] = true
		}
		require.Len(t, seen, many)
	})
}

func TestSnapshotsRefuse(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		taken, empty, foreign := b.request("alice"), b.request("alice"), b.request("bob")
		first, theirs := b.snapshot("alice", taken), b.snapshot("bob", foreign)
		const unknown = "3f2c8f0e-5d1b-4a7c-9e60-0c1d2e3f4a5b"
		post := func(body o) answer { return b.do("alice", "POST", "/cohort/request-query-snapshots/", body).is(400) }
		post(o{}).json("\"Neither `previous_snapshot` nor `request` were provided\"")
		post(o{"request": taken, "serialized_query": query}).json("\"Must provide a `previous_snapshot` if the request already has snapshots\"")
		post(o{"request": empty, "previous_snapshot": first, "serialized_query": query}).json(`"The provided request is different from the previous_snapshot's request"`)
		for _, bad := range []any{nil, o{}, 12} {
			post(o{"request": empty, "serialized_query": bad}).json(`"serialized_query is required"`)
		}
		for _, bad := range []string{"not JSON", "", `{}`, `[]`, `{"sourcePopulation":{"caresiteCohortList":null}}`,
			`{"sourcePopulation":{"caresiteCohortList":[20010]}}`, `{"sourcePopulation":{"caresiteCohortList":["1","ward"]}}`,
			`{"sourcePopulation":{"caresiteCohortList":["1234567890123456"]}}`} {
			require.Contains(t, post(o{"request": empty, "serialized_query": bad}).Text, `"Error extracting perimeters ids from JSON query - `)
		}
		post(o{"request": foreign, "serialized_query": query}).json(fmt.Sprintf(`{"request":["Invalid pk \"%s\" - object does not exist."]}`, foreign))
		post(o{"previous_snapshot": theirs, "serialized_query": query}).json(fmt.Sprintf(`{"previous_snapshot":["Invalid pk \"%s\" - object does not exist."]}`, theirs))
		post(o{"request": unknown, "serialized_query": query}).json(fmt.Sprintf(`{"request":["Invalid pk \"%s\" - object does not exist."]}`, unknown))
		post(o{"request": "abc", "serialized_query": query}).json(`{"request":["“abc” is not a valid UUID."]}`)
		post(o{"previous_snapshot": first, "owner": "bob", "serialized_query": query}).json(`{"owner":["Invalid pk \"bob\" - object does not exist."]}`)
		b.do("alice", "GET", "/cohort/requests/"+taken+"/query-snapshots/", nil).has(o{"count": 1})
		b.do("alice", "POST", "/cohort/request-query-snapshots/undefined/next-snapshots/", o{"serialized_query": query}).is(404)
	})
}

func TestDocumentsAreKeptToTheLetter(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		const document = "{ \"z\" : 1.50,\n\t\"a\":[ ], \"sourcePopulation\":{\"caresiteCohortList\":[\"20010\"] }, \"é\":\"\\u00e9 患者 🏥 \\\" </script>\", \"big\": 12345678901234567890 }"
		id := b.do("alice", "POST", "/cohort/requests/"+b.request("alice")+"/query-snapshots/", o{"request": nil, "serialized_query": document}).is(201).at("uuid").(string)
		one := "/cohort/request-query-snapshots/" + id + "/"
		require.Equal(t, document, b.do("alice", "GET", one, nil).at("serialized_query"))

		const changed = `{"sourcePopulation": {"caresiteCohortList": []}}`
		b.do("alice", "PATCH", one, o{"serialized_query": changed, "perimeters_ids": []string{"1"}, "version": 9}).is(200).
			has(o{"serialized_query": changed, "perimeters_ids": []string{}, "version": 1})
		b.do("alice", "PATCH", one, o{"serialized_query": changed, "name": "N"}).is(200).has(o{"name": "N"})
		b.do("alice", "PATCH", one, o{"serialized_query": query}).is(200)
		for want, body := range map[string]o{
			`{"request":["This field may not be null."]}`:           {"request": nil},
			`{"previous_snapshot":["This field may not be null."]}`: {"previous_snapshot": nil},
			`{"serialized_query":["This field may not be blank."]}`: {"serialized_query": ""},
		} {
			b.do("alice", "PATCH", one, body).is(400).json(want)
		}
		var history []SnapshotPatch
		require.NoError(t, b.db.Read(t.Context()).Order("patch_version").Find(&history).Error)
		require.Len(t, history, 2)
		require.Equal(t, document, history[0].SerializedQuery)
		require.Equal(t, 1, history[0].PatchVersion)
		require.Equal(t, id, history[0].UUID)
		require.Equal(t, changed, history[1].SerializedQuery)
		require.Equal(t, 2, history[1].PatchVersion)
	})
}
