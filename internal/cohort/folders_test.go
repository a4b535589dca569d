package cohort

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/database/databasetest"
)

func TestFolders(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		created := b.do("alice", "POST", "/cohort/folders/", o{"name": "  F \n", "description": "about", "created_at": "2001-01-01T00:00:00Z",
			"deleted": "2001-01-01T00:00:00Z", "requests_count": 12, "uuid": ""}).is(201)
		id := created.at("uuid").(string)
		created.json(fmt.Sprintf(`{"uuid":%q,"name":"F","description":"about","created_at":"2026-01-31T12:00:00.123456Z","requests_count":0}`, id))
		one := "/cohort/folders/" + id + "/"
		require.Equal(t, []string{"uuid", "name", "description", "created_at", "requests_count"}, b.do("alice", "GET", one, nil).is(200).keys())

		b.do("alice", "PATCH", one, o{"name": "G", "parent_folder": id, "color": "red"}).is(200).has(o{"name": "G", "description": "about"})
		b.do("alice", "PATCH", one, o{"description": nil}).is(200).has(o{"name": "G", "description": nil})
		b.do("alice", "PATCH", one, o{}).is(200).has(o{"name": "G"})
		b.do("alice", "PATCH", one, o{"owner": "bob"}).is(400).json(`{"owner":["Invalid pk \"bob\" - object does not exist."]}`)

		for _, method := range []string{"GET", "PATCH", "DELETE"} {
			b.do("bob", method, one, o{"name": "x"}).is(404).json(`{"detail":"No Folder matches the given query."}`)
			b.do("", method, one, o{"name": "x"}).is(403)
		}
		require.Empty(t, b.do("alice", "DELETE", one, nil).is(204).Text)
		for _, method := range []string{"GET", "PATCH", "DELETE"} {
			b.do("alice", method, one, o{"name": "x"}).is(404)
		}
		b.do("alice", "GET", "/cohort/folders/nonsense/", nil).is(404).json(`{"detail":"Not found."}`)
		b.do("alice", "PUT", one, o{}).is(405)
		b.do("alice", "GET", "/cohort/", nil).is(200).has(o{"folders": "http://example.com/cohort/folders/"})
	})
}

func TestFoldersRefuse(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		for want, body := range map[string]any{
			`{"name":["This field may not be null."]}`:                                    o{"name": nil},
			`{"name":["This field is required."]}`:                                        o{"description": "x"},
			`{"name":["This field may not be blank."]}`:                                   o{"name": "   "},
			`{"name":["Ensure this field has no more than 50 characters."]}`:              o{"name": strings.Repeat("é", 51)},
			`{"name":["Not a valid string."]}`:                                            o{"name": []string{"x"}},
			`{"owner":["This field may not be null."]}`:                                   o{"name": "x", "owner": nil},
			`{"owner":["Invalid pk \"bob\" - object does not exist."]}`:                   o{"name": "x", "owner": "alice", "owner_id": "bob"},
			`{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}`: []any{},
		} {
			b.do("alice", "POST", "/cohort/folders/", body).is(400).json(want)
		}
		b.do("alice", "POST", "/cohort/folders/", o{"name": strings.Repeat("é", 50), "owner": "alice"}).is(201)
	})
}

func TestFolderLists(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		for _, name := range []string{"B 100%", "A diabète", "C"} {
			b.folder("alice", name)
			b.clock.Advance(time.Minute)
		}
		b.folder("bob", "Z")
		names := func(query string) string {
			a := b.do("alice", "GET", "/cohort/folders/?"+query, nil).is(200)
			var list []string
			for i := range a.at("results").([]any) {
				list = append(list, a.at(fmt.Sprintf("results.%d.name", i)).(string))
			}
			return strings.Join(list, "|")
		}
		require.Equal(t, "B 100%|A diabète|C", names(""))
		require.Equal(t, "A diabète|B 100%|C", names("ordering=name"))
		require.Equal(t, "C|A diabète|B 100%", names("ordering=-created_at&name="))
		require.Equal(t, "C", names("name=C"))
		require.Empty(t, names("name=c"))
		require.Equal(t, "A diabète", names("search=DIAB%C3%88+a"))
		require.Equal(t, "B 100%", names("search=%25"))
		require.Equal(t, "A diabète|C", names("min_created_at=2026-01-31T12:01:00Z"))
		require.Equal(t, "B 100%", names("max_created_at=2026-01-31T12:00:00.123456Z"))
		require.Empty(t, names("max_created_at=2026-01-31"))
		require.Equal(t, "C", names("limit=1&offset=2"))
		require.Empty(t, names("offset=9"))
		b.do("alice", "GET", "/cohort/folders/?ordering=zzz", nil).is(400).json(`{"ordering":["Select a valid choice. zzz is not one of the available choices."]}`)
		b.do("alice", "GET", "/cohort/folders/?min_created_at=soon", nil).is(400).json(`{"min_created_at":["Enter a valid date/time."]}`)
		a := b.do("alice", "GET", "/cohort/folders/?limit=2&search=&ordering=name", nil).is(200)
		require.Equal(t, []string{"count", "next", "previous", "results"}, a.keys())
		a.has(o{"count": 3, "next": "http://example.com/cohort/folders/?limit=2&offset=2&ordering=name&search="})
	})
}

// fill makes n requests, each with a snapshot, in folders of their own.
func (b *bundle) fill(user string, n int) {
	for range n {
		b.snapshot(user, b.request(user))
	}
}

func TestListsNeedTheSameQueriesWhateverThePage(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.fill("alice", 41)
		for path, most := range map[string]int{"/cohort/folders/": 2, "/cohort/requests/": 3, "/cohort/request-query-snapshots/": 4} {
			one := databasetest.Count(t, b.db, func() { b.do("alice", "GET", path+"?limit=1", nil).is(200) })
			many := databasetest.Count(t, b.db, func() {
				require.Len(t, b.do("alice", "GET", path+"?limit=40", nil).is(200).at("results"), 40)
			})
			require.Equal(t, one, many, path)
			require.LessOrEqual(t, many, most, path)
		}
	})
}
