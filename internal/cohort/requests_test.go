package cohort

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRequests(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		folder, other, foreign := b.folder("alice", "F"), b.folder("alice", "G"), b.folder("bob", "B")
		a := b.do("alice", "POST", "/cohort/requests/", o{"uuid": "", "name": "R", "parent_folder": foreign, "parent_folder_id": folder,
			"shared_by": "bob", "query_snapshots": []any{1}, "updated_at": nil}).is(201)
		id := a.at("uuid").(string)
		want := fmt.Sprintf(`{"uuid":%q,"name":"R","description":"","favorite":false,"query_snapshots":[],"shared_by":null,
			"parent_folder":{"uuid":%q,"name":"F","description":null},"updated_at":null}`, id, folder)
		a.json(want)
		one := "/cohort/requests/" + id + "/"
		b.do("alice", "GET", one, nil).is(200).json(want)
		b.do("alice", "GET", "/cohort/folders/"+folder+"/", nil).has(o{"requests_count": 1})
		b.do("alice", "GET", "/cohort/folders/"+folder+"/requests/"+id+"/", nil).is(200).json(want)
		b.do("alice", "GET", "/cohort/folders/"+other+"/requests/"+id+"/", nil).is(404)
		b.do("bob", "GET", "/cohort/folders/"+folder+"/requests/", nil).is(200).has(o{"count": 0})
		b.do("bob", "POST", "/cohort/folders/"+folder+"/requests/", o{"name": "x"}).is(400).
			json(fmt.Sprintf(`{"parent_folder":["Invalid pk \"%s\" - object does not exist."]}`, folder))
		b.do("alice", "POST", "/cohort/folders/"+folder+"/requests/", o{"name": "x", "parent_folder": other}).is(201).
			has(o{"parent_folder": o{"uuid": folder, "name": "F", "description": nil}})

		b.do("alice", "PATCH", one, o{"name": "New", "description": "d", "favorite": "yes", "parent_folder": other}).is(200).
			has(o{"name": "New", "description": "d", "favorite": true, "parent_folder": o{"uuid": other, "name": "G", "description": nil}})
		b.do("bob", "PATCH", one, o{"name": "x"}).is(404).json(`{"detail":"No Request matches the given query."}`)
		b.do("alice", "DELETE", "/cohort/folders/"+folder+"/requests/"+id+"/", nil).is(404)
		b.do("alice", "DELETE", one, nil).is(204)
		b.do("alice", "GET", one, nil).is(404)
	})
}

func TestRequestsRefuse(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		folder, foreign := b.folder("alice", "F"), b.folder("bob", "B")
		for want, body := range map[string]o{
			`{"name":["This field is required."],"description":["This field may not be null."],"favorite":["Must be a valid boolean."],"parent_folder":["“abc” is not a valid UUID."]}`: {"description": nil, "favorite": "maybe", "parent_folder": "abc"},
			`{"parent_folder":["This field is required."]}`:                                          {"name": "R"},
			`{"parent_folder":["This field may not be null."]}`:                                      {"name": "R", "parent_folder": ""},
			`{"parent_folder":["Incorrect type. Expected pk value, received bool."]}`:                {"name": "R", "parent_folder": true},
			fmt.Sprintf(`{"parent_folder":["Invalid pk \"%s\" - object does not exist."]}`, foreign): {"name": "R", "parent_folder": foreign},
			`{"name":["Ensure this field has no more than 255 characters."]}`:                        {"name": strings.Repeat("x", 256), "parent_folder": folder},
			`{"owner":["Invalid pk \"bob\" - object does not exist."]}`:                              {"name": "R", "parent_folder": folder, "owner": "bob"},
		} {
			b.do("alice", "POST", "/cohort/requests/", body).is(400).json(want)
		}
		b.do("alice", "DELETE", "/cohort/folders/"+folder+"/", nil).is(204)
		b.do("alice", "POST", "/cohort/requests/", o{"name": "R", "parent_folder": folder}).is(400)
	})
}

func TestRequestLists(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		first, second := b.folder("alice", "Z"), b.folder("alice", "A")
		create := func(name, folder string, favorite bool) string {
			b.clock.Advance(time.Hour)
			return b.do("alice", "POST", "/cohort/requests/", o{"name": name, "parent_folder": folder, "favorite": favorite,
				"description": "about " + name}).is(201).at("uuid").(string)
		}
		old, recent := create("old", first, true), create("recent", second, false)
		create("empty", second, false)
		b.snapshot("alice", old)
		b.clock.Advance(48 * time.Hour)
		b.snapshot("alice", recent)
		b.fill("bob", 1)
		names := func(query string) string {
			a := b.do("alice", "GET", "/cohort/requests/?"+query, nil).is(200)
			var list []string
			for i := range a.at("results").([]any) {
				list = append(list, a.at(fmt.Sprintf("results.%d.name", i)).(string))
			}
			return strings.Join(list, "|")
		}
		require.Equal(t, "old|recent|empty", names(""))
		require.Equal(t, "old|recent|empty", names("ordering=updated_at"))
		require.Equal(t, "empty|recent|old", names("ordering=-updated_at"))
		require.Equal(t, "empty|recent|old", names("ordering=parent_folder,name"))
		require.Equal(t, "old", names("favorite=True"))
		require.Equal(t, "recent|empty", names("favorite=0"))
		require.Equal(t, "old", names("parent_folder="+first))
		require.Equal(t, "old", names("search=ABOUT+ol"))
		require.Equal(t, "old", names("max_updated_at=2026-02-01"))
		require.Equal(t, "recent", names("min_updated_at=2026-02-01T00:00:00Z"))
		require.Empty(t, names("shared_by=bob"))
		b.do("alice", "GET", "/cohort/requests/?parent_folder=abc", nil).is(400).json(`{"parent_folder":["“abc” is not a valid UUID."]}`)
		b.do("alice", "GET", "/cohort/requests/?shared_by=nobody", nil).is(400)
		b.do("alice", "GET", "/cohort/requests/"+old+"/", nil).has(o{"updated_at": "2026-01-31 15:00:00.123456+00:00"})
	})
}

func TestTimesOfRequestsHaveTheirOwnFormat(t *testing.T) {
	t.Parallel()
	for want, moment := range map[string]time.Time{
		`"2026-01-31 09:05:07.123456+00:00"`: time.Date(2026, 1, 31, 10, 5, 7, 123456000, time.FixedZone("", 3600)),
		`"2026-01-31 09:05:07+00:00"`:        time.Date(2026, 1, 31, 9, 5, 7, 0, time.UTC),
	} {
		got, err := spacedTime(moment).MarshalJSON()
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}
