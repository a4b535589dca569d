package cohort

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestShare(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		_, snapshot, _ := b.finished("alice", "101", 10)
		request := b.do("alice", "GET", "/cohort/request-query-snapshots/"+snapshot+"/", nil).at("request").(string)
		b.do("alice", "PATCH", "/cohort/requests/"+request+"/", o{"description": "about", "favorite": true}).is(200)
		share := "/cohort/request-query-snapshots/" + snapshot + "/share/"
		require.Empty(t, b.do("alice", "POST", share, o{"recipients": "bob,alice", "notify_by_email": false}).is(201).Text)
		b.work()
		require.Empty(t, b.mails.sent)

		a := b.do("bob", "GET", "/cohort/requests/", nil).is(200).has(o{"count": 1})
		require.Equal(t, "Request", a.at("results.0.name"))
		require.Equal(t, "about", a.at("results.0.description"))
		require.Equal(t, false, a.at("results.0.favorite"))
		require.Equal(t, "Alice MARTIN (alice)", a.at("results.0.shared_by"))
		require.Equal(t, "Mes requêtes reçues", a.at("results.0.parent_folder.name"))
		require.EqualValues(t, 0, a.at("results.0.query_snapshots.0.cohorts_count"))
		copied := a.at("results.0.query_snapshots.0.uuid").(string)
		b.do("bob", "GET", "/cohort/request-query-snapshots/"+copied+"/", nil).is(200).has(o{"owner": "bob", "previous_snapshot": nil, "version": 1,
			"serialized_query": query, "perimeters_ids": []string{"4012"}, "dated_measures": []any{}, "cohort_results": []any{}})
		b.do("bob", "GET", "/cohort/request-query-snapshots/?shared_by=alice", nil).has(o{"count": 1})
		b.do("bob", "GET", "/cohort/requests/?shared_by=alice", nil).has(o{"count": 1})
		b.do("alice", "GET", "/cohort/requests/?shared_by=alice", nil).has(o{"count": 1})
		b.do("alice", "GET", "/cohort/requests/"+request+"/", nil).has(o{"shared_by": nil, "favorite": true})

		nested := "/cohort/requests/" + request + "/query-snapshots/" + snapshot + "/share/"
		b.do("alice", "POST", nested, o{"recipients": "bob,carol", "name": "Better", "notify_by_email": true}).is(201)
		b.work()
		require.ElementsMatch(t, []string{"bob: Alice MARTIN a partagé une requête avec vous: Better", "carol: Alice MARTIN a partagé une requête avec vous: Better"}, b.mails.sent)
		b.do("bob", "GET", "/cohort/folders/", nil).has(o{"count": 1})
		b.do("bob", "GET", "/cohort/requests/?search=better", nil).has(o{"count": 1})
	})
}

func TestShareRefuses(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		snapshot := b.snapshot("alice", b.request("alice"))
		share := "/cohort/request-query-snapshots/" + snapshot + "/share/"
		b.exec(`UPDATE "user" SET delete_datetime = ? WHERE username = 'carol'`, noon)
		for want, body := range map[string]o{
			`"No 'recipients' provided"`:                            {"name": "x", "recipients": ""},
			`"No users found with the following IDs: carol,nobody"`: {"recipients": "bob,nobody,carol"},
			`{"recipients":["Not a valid string."]}`:                {"recipients": []string{"bob"}},
		} {
			b.do("alice", "POST", share, body).is(400).json(want)
		}
		b.do("alice", "POST", share, o{"name": "x"}).is(400).json(`"No 'recipients' provided"`)
		b.do("alice", "POST", share, o{"recipients": 12}).is(400)
		b.do("bob", "POST", share, o{"recipients": "bob"}).is(404)
		b.do("alice", "POST", "/cohort/request-query-snapshots/undefined/share/", o{"recipients": "bob"}).is(404)
		b.do("bob", "GET", "/cohort/requests/", nil).has(o{"count": 0})
		require.Empty(t, fmt.Sprint(b.mails.sent)[2:])
	})
}
