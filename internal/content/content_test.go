package content_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/content"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/platform/web/webtest"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

type bundle struct {
	*webtest.Client
	admin *webtest.Client
	clock *clock.Fake
	db    *database.DB
}

func each(t *testing.T, test func(t *testing.T, b bundle)) {
	t.Helper()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		b := bundle{clock: clock.NewFake(noon), db: db}
		b.Client = webtest.New(t, webtest.Tables{content.New(db, b.clock).Table()}, webtest.Authorize(func(_ *gin.Context, name string, who web.Who) error {
			switch {
			case name == "":
				return fault.Unauthenticated{}
			case who == web.FullAdmin && name != "admin":
				return fault.Forbidden{}
			}
			return nil
		}))
		b.admin = b.As("admin")
		test(t, b)
	})
}

func sample(change map[string]any) map[string]any {
	body := map[string]any{"title": "T", "content": "C", "page": "p", "content_type": "BANNER_INFO"}
	for name, value := range change {
		body[name] = value
	}
	return body
}

// write makes a content and returns its path.
func (b bundle) write(t *testing.T, change map[string]any) string {
	t.Helper()
	return fmt.Sprintf("/webcontent/contents/%v/", b.admin.POST("/webcontent/contents/", sample(change)).Status(201).Object()["id"])
}

func TestWriting(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b bundle) {
		b.admin.POST("/webcontent/contents/", sample(map[string]any{"title": " T\t", "metadata": map[string]any{"order": 1, "style": "x"}, "created_at": "2001-01-01", "id": 9})).Status(201).
			Is(`{"id":1,"title":"T","content":"C","page":"p","content_type":"BANNER_INFO","content_type_display":"Bannière d'information","created_at":"2026-11-24T12:00:00Z",
				"modified_at":"2026-11-24T12:00:00Z","deleted_at":null,"metadata":{"order":"1","style":"x"}}`)
		require.Equal(t, map[string]any{}, b.admin.POST("/webcontent/contents/", sample(nil)).Status(201).Object()["metadata"])
		path := "/webcontent/contents/1/"
		b.clock.Advance(time.Minute)
		changed := b.admin.PATCH(path, map[string]any{"title": 42}).Status(200).Object()
		require.Equal(t, []any{"42", "C", "2026-11-24T12:00:00Z", "2026-11-24T12:01:00Z", map[string]any{"order": "1", "style": "x"}},
			[]any{changed["title"], changed["content"], changed["created_at"], changed["modified_at"], changed["metadata"]})
		require.Equal(t, map[string]any{"tags": strings.Repeat("é", 255)}, b.admin.PATCH(path, map[string]any{"metadata": map[string]any{"tags": strings.Repeat("é", 255)}}).Status(200).Object()["metadata"])
		require.Equal(t, map[string]any{"tags": "n"}, b.admin.PATCH(path, map[string]any{"metadata": map[string]any{"tags": "n"}}).Status(200).Object()["metadata"])
		require.Equal(t, map[string]any{"tags": "n"}, b.GET(path).Status(200).Object()["metadata"])
		require.Equal(t, map[string]any{}, b.admin.PATCH(path, map[string]any{"metadata": map[string]any{}}).Status(200).Object()["metadata"])
		before := b.GET(path).Object()

		for want, body := range map[string]any{
			`{"title":["This field may not be blank."]}`:                                                                              map[string]any{"title": "  "},
			`{"title":["Not a valid string."]}`:                                                                                       map[string]any{"title": []string{"a"}},
			`{"title":["This field may not be null."]}`:                                                                               map[string]any{"title": nil},
			`{"title":["Ensure this field has no more than 200 characters."]}`:                                                        map[string]any{"title": strings.Repeat("x", 201)},
			`{"page":["Ensure this field has no more than 100 characters."]}`:                                                         map[string]any{"page": strings.Repeat("x", 101)},
			`{"content_type":["Invalid content type. Available types are: BANNER_WARNING, BANNER_INFO, BANNER_ERROR, RELEASE_NOTE"]}`: map[string]any{"content_type": "banner_info"},
			`{"content_type":["This field may not be blank."]}`:                                                                       map[string]any{"content_type": ""},
			`{"metadata":["Invalid metadata name(s): colour. Must be one of order, style, tags"]}`:                                    map[string]any{"metadata": map[string]any{"colour": "red", "tags": "x"}},
			`{"metadata":["This field may not be null."]}`:                                                                            map[string]any{"metadata": nil},
			`{"metadata":["Expected a dictionary of items but got type \"list\"."]}`:                                                  map[string]any{"metadata": []string{"order"}},
			`{"metadata":["Expected a dictionary of items but got type \"str\"."]}`:                                                   map[string]any{"metadata": "order"},
			`{"metadata":{"tags":["This field may not be null."]}}`:                                                                   map[string]any{"metadata": map[string]any{"tags": nil}},
			`{"metadata":{"order":["This field may not be blank."],"tags":["Not a valid string."]}}`:                                  map[string]any{"metadata": map[string]any{"tags": true, "order": " "}},
			`{"metadata":{"tags":["Ensure this field has no more than 255 characters."]}}`:                                            map[string]any{"metadata": map[string]any{"tags": strings.Repeat("x", 256)}},
			`{"non_field_errors":["Invalid data. Expected a dictionary, but got str."]}`:                                              "text",
		} {
			b.admin.PATCH(path, body).Status(400).Is(want)
		}
		b.admin.POST("/webcontent/contents/", map[string]any{}).Status(400).
			Is(`{"title":["This field is required."],"content":["This field is required."],"page":["This field is required."],"content_type":["This field is required."]}`)
		require.Equal(t, before, b.GET(path).Object(), "a refused change changes nothing")
		b.admin.PATCH("/webcontent/contents/2000000000/", map[string]any{"content_type": "nothing"}).Status(404).Is(`{"detail":"No Content matches the given query."}`)
	})
}

func TestWhoMayWrite(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b bundle) {
		path := b.write(t, nil)
		for _, c := range []*webtest.Client{b.As("alice"), b.Client} {
			c.POST("/webcontent/contents/", sample(nil)).Status(403)
			c.PATCH(path, map[string]any{"title": "Hacked"}).Status(403)
			c.DELETE(path).Status(403)
			c.PUT(path, nil).Status(403)
			require.Equal(t, "T", c.GET(path).Status(200).Object()["title"])
			c.GET("/webcontent/contents/").Status(200)
		}
		b.admin.PUT(path, nil).Status(405)
		b.admin.DELETE("/webcontent/contents/").Status(405)
		b.POST("/webcontent/contents/content_types/", nil).Status(405)
		b.As("alice").GET("/webcontent/").Status(200).Is(`{"contents":"http://example.com/webcontent/contents/"}`)
		b.GET("/webcontent/").Status(403)
	})
}

func TestDeleting(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b bundle) {
		path, second := b.write(t, map[string]any{"metadata": map[string]any{"order": "1"}}), b.write(t, nil)
		b.admin.DELETE(path).Status(204)
		b.admin.DELETE(path).Status(404)
		b.GET(path).Status(404).Is(`{"detail":"No Content matches the given query."}`)
		require.Equal(t, "2026-01-02T03:04:05Z", b.admin.PATCH(second, map[string]any{"deleted_at": "2026-01-02T03:04:05Z"}).Status(200).Object()["deleted_at"])
		b.admin.PATCH(second, map[string]any{"deleted_at": nil}).Status(404)
		require.Empty(t, b.GET("/webcontent/contents/").Results())
		var rows []content.Content
		require.NoError(t, b.db.Read(t.Context()).Order("id").Find(&rows).Error)
		require.Len(t, rows, 2, "the rows stay")
		require.True(t, noon.Equal(*rows[0].DeletedAt))
	})
}

func TestListing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b bundle) {
		for i, title := range []string{"Info", "Error (1.0)", "Warning"} {
			b.clock.Advance(time.Minute)
			b.write(t, map[string]any{"title": title, "page": []string{"blog", "blog", "home"}[i], "content_type": []string{"BANNER_INFO", "BANNER_ERROR", "BANNER_WARNING"}[i],
				"metadata": map[string]any{"order": "1", "tags": "x"}})
		}
		titles := func(query string) string {
			t.Helper()
			var list []string
			for _, c := range b.For(t).GET("/webcontent/contents/?" + query).Status(200).Results() {
				list = append(list, c["title"].(string)[:1])
			}
			return strings.Join(list, "")
		}
		for query, want := range map[string]string{
			"": "WEI", "page_source=blog": "EI", "page_source=blog,home&content_type=BANNER_ERROR": "E", "content_type=NOTHING": "", "content_type=NOTHING,%20BANNER_INFO": "I",
			"search=(1.0": "E", "search=c&content_type=BANNER_INFO,BANNER_WARNING": "WI", "search=.*": "", "ordering=title": "EIW", "ordering=-modified_at": "WEI", "page=1&page_size=1": "WEI",
			"ordering=-created_at&content_type=BANNER_INFO,BANNER_WARNING,BANNER_ERROR": "WEI",
		} {
			require.Equal(t, want, titles(query), query)
		}
		b.GET("/webcontent/contents/?ordering=id").Status(400).Is(`{"ordering":["Select a valid choice. id is not one of the available choices."]}`)
		b.GET("/webcontent/contents/?page=2").Status(404)
		b.GET("/webcontent/contents/first/").Status(404).Is(`{"detail":"Not found."}`)
		require.Equal(t, 3, databasetest.Count(t, b.db, func() { b.GET("/webcontent/contents/") }), "the count, the page, its metadata")
		types := string(b.GET("/webcontent/contents/content_types/").Status(200).Body)
		require.Regexp(t, `^\{"BANNER_WARNING":.*"BANNER_INFO":.*"BANNER_ERROR":.*"RELEASE_NOTE":\{"label":"Note de version","description":"Note de version"\}\}$`, types)
	})
}
