package releasenote_test

import (
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/platform/web/webtest"
	"cohortflow/internal/releasenote"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestReleaseNotes(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		clk := clock.NewFake(noon)
		client := webtest.New(t, webtest.Tables{releasenote.New(db, clk).Table()}, webtest.Authorize(func(_ *gin.Context, name string, who web.Who) error {
			switch {
			case name == "":
				return fault.Unauthenticated{}
			case who == web.FullAdmin && name != "admin":
				return fault.Forbidden{}
			}
			return nil
		}))
		admin, alice := client.As("admin"), client.As("alice")
		admin.POST("/release-notes/", map[string]any{"title": "T", "message": []any{"first", " zweite ß ", "{\"q\"}", 7}, "author": "me", "id": 8}).Status(201).
			Is(`{"id":1,"insert_datetime":"2026-11-24T12:00:00Z","update_datetime":"2026-11-24T12:00:00Z","title":"T","message":["first","zweite ß","{\"q\"}","7"],"author":"me"}`)
		clk.Advance(time.Minute)
		admin.POST("/release-notes/", map[string]any{"title": "No lines"}).Status(201).
			Is(`{"id":2,"insert_datetime":"2026-11-24T12:01:00Z","update_datetime":"2026-11-24T12:01:00Z","title":"No lines","message":[],"author":null}`)
		admin.PATCH("/release-notes/1/", map[string]any{"message": []string{"line one", "Zeile zwei"}, "author": nil}).Status(200).
			Is(`{"id":1,"insert_datetime":"2026-11-24T12:00:00Z","update_datetime":"2026-11-24T12:01:00Z","title":"T","message":["line one","Zeile zwei"],"author":null}`)
		alice.GET("/release-notes/1/").Status(200)
		ids := func(query string) (list []float64) {
			for _, n := range alice.GET("/release-notes/?" + query).Status(200).Results() {
				list = append(list, n["id"].(float64))
			}
			return list
		}
		for query, want := range map[string][]float64{"": {2, 1}, "ordering=title": {2, 1}, "search=ZEILE+t": {1}, "search=%22one+Zeile%22": nil, "search=%22": {2, 1},
			"search=%7B": nil, "search=lin": {2, 1}, "search=three": nil} {
			require.Equal(t, want, ids(query), query)
		}
		for want, body := range map[string]any{
			`{"title":["This field is required."]}`:                                          map[string]any{"message": []string{"x"}},
			`{"title":["This field may not be blank."]}`:                                     map[string]any{"title": ""},
			`{"message":["Expected a list of items but got type \"str\"."]}`:                 map[string]any{"title": "x", "message": "x"},
			`{"message":["This field may not be null."]}`:                                    map[string]any{"title": "x", "message": nil},
			`{"message":{"0":["This field may not be blank."],"2":["Not a valid string."]}}`: map[string]any{"title": "x", "message": []any{"", "x", true}},
			`{"message":{"0":["This field may not be null."]}}`:                              map[string]any{"title": "x", "message": []any{nil}},
			`{"author":["This field may not be blank."]}`:                                    map[string]any{"title": "x", "author": ""},
			`{"non_field_errors":["Invalid data. Expected a dictionary, but got int."]}`:     7,
		} {
			admin.POST("/release-notes/", body).Status(400).Is(want)
		}
		require.Len(t, ids(""), 2)
		alice.POST("/release-notes/", map[string]any{"title": "x"}).Status(403)
		alice.PATCH("/release-notes/1/", map[string]any{"title": "x"}).Status(403)
		client.PATCH("/release-notes/1/", map[string]any{"title": "x"}).Status(403)
		client.GET("/release-notes/").Status(403)
		admin.DELETE("/release-notes/1/").Status(405)
		admin.PATCH("/release-notes/", nil).Status(405)
		admin.PATCH("/release-notes/9/", map[string]any{"title": nil}).Status(404).Is(`{"detail":"No ReleaseNote matches the given query."}`)
		alice.GET("/release-notes/first/").Status(404).Is(`{"detail":"Not found."}`)
		require.NoError(t, db.Write(t.Context()).Model(&releasenote.Note{}).Where("id = 1").Update("delete_datetime", noon).Error)
		alice.GET("/release-notes/1/").Status(404)
		require.Equal(t, 2, databasetest.Count(t, db, func() { alice.GET("/release-notes/") }))
	})
}
