package maintenance_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/identity"
	"cohortflow/internal/maintenance"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/platform/web/webtest"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

type bundle struct {
	*webtest.Client
	service *maintenance.Service
	clock   *clock.Fake
	told    *[]announced // in order
}

// announced is what was announced about a phase.
type announced struct {
	id     int64
	active bool
}

// setup knows admin, and a machine whose header is X-Machine.
func setup(t *testing.T, db *database.DB) bundle {
	t.Helper()
	b := bundle{clock: clock.NewFake(noon), told: &[]announced{}}
	who := func(c *gin.Context) error {
		if c.GetHeader("Authorization") == "malformed" {
			return fault.Unauthenticated{Detail: "malformed"}
		}
		if c.GetHeader("Authorization") == "undecided" {
			return fault.Undecided{Detail: "try again"}
		}
		identity.Remember(c, identity.Caller{Username: c.GetHeader("X-Webtest-Caller")})
		return nil
	}
	b.service = maintenance.NewService(maintenance.Config{Store: maintenance.NewStore(db), Clock: b.clock, Authenticate: who,
		OpensGate:   func(c *gin.Context) bool { return c.GetHeader("X-Machine") != "" },
		IsFullAdmin: func(_ context.Context, username string) (bool, error) { return username == "admin", nil },
		Broadcast: func(_ context.Context, id int64, active bool) error {
			*b.told = append(*b.told, announced{id, active})
			return nil
		}})
	do := func(c *gin.Context) error { web.JSON(c, 200, struct{}{}); return nil }
	b.Client = webtest.New(t, webtest.Tables{b.service.Table(), {
		{Method: "GET", Path: "/things/", Out: struct{}{}, For: web.Anyone, Do: do}, {Method: "POST", Path: "/things/", Out: struct{}{}, For: web.Anyone, Do: do},
		{Method: "POST", Path: "/auth/login/", Out: struct{}{}, For: web.NoAuth, Do: do}, {Method: "GET", Path: "/healthz", Out: struct{}{}, For: web.NoAuth, Do: do},
	}}, webtest.Config(func(cfg *web.Config) { cfg.Gate, cfg.Authenticate = b.service.Gate, who }),
		webtest.Authorize(func(_ *gin.Context, name string, who web.Who) error {
			switch {
			case name == "":
				return fault.Unauthenticated{}
			case who == web.Maintainer && name != "admin":
				return fault.Forbidden{}
			}
			return nil
		}))
	return b
}

func each(t *testing.T, test func(t *testing.T, b bundle)) {
	t.Helper()
	databasetest.Each(t, func(t *testing.T, db *database.DB) { test(t, setup(t, db)) })
}

func body(subject string, from, to time.Duration) map[string]any {
	return map[string]any{"subject": subject, "start_datetime": noon.Add(from), "end_datetime": noon.Add(to)}
}

// plan makes a phase and returns its id.
func (b bundle) plan(t *testing.T, values map[string]any) int64 {
	t.Helper()
	return int64(b.As("admin").For(t).POST("/maintenances/", values).Status(201).Object()["id"].(float64))
}

func path(id int64) string { return fmt.Sprintf("/maintenances/%d/", id) }

func TestPlanning(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b bundle) {
		admin := b.As("admin").For(t)
		admin.POST("/maintenances/", map[string]any{"id": 7, "active": true, "delete_datetime": noon, "subject": " S ", "message": "M", "type": "full",
			"start_datetime": "2002-11-22T09:00:00Z", "end_datetime": "2002-11-22T13:00:00.123+01:00"}).Status(201).
			Is(`{"id":1,"insert_datetime":"2026-11-24T12:00:00Z","update_datetime":"2026-11-24T12:00:00Z","delete_datetime":null,"maintenance_start":"2002-11-22T09:00:00Z",
				"maintenance_end":"2002-11-22T12:00:00.123000Z","active":false,"subject":"S","message":"M","type":"full","start_datetime":"2002-11-22T09:00:00Z","end_datetime":"2002-11-22T12:00:00.123000Z"}`)
		second := admin.POST("/maintenances/", map[string]any{"subject": "D", "start_datetime": "2002-11-22", "end_datetime": "2002-11-22"}).Status(201).Object()
		require.Equal(t, []any{"partial", nil, false}, []any{second["type"], second["message"], second["active"]}, "defaults; start and end may be equal")

		for want, values := range map[string]map[string]any{
			`{"subject":["This field is required."],"start_datetime":["This field is required."],"end_datetime":["This field is required."]}`: {"message": "x"},
			`{"subject":["This field may not be blank."]}`:                       {"subject": "", "start_datetime": noon, "end_datetime": noon},
			`{"subject":["This field may not be null."]}`:                        {"subject": nil, "start_datetime": noon, "end_datetime": noon},
			`{"message":["This field may not be blank."]}`:                       {"subject": "x", "message": "", "start_datetime": noon, "end_datetime": noon},
			`{"type":["\"total\" is not a valid choice."]}`:                      {"subject": "x", "type": "total", "start_datetime": noon, "end_datetime": noon},
			`{"type":["This field may not be null."]}`:                           {"subject": "x", "type": nil, "start_datetime": noon, "end_datetime": noon},
			`{"end_datetime":["This field may not be null."]}`:                   {"subject": "x", "start_datetime": noon, "end_datetime": nil},
			`{"non_field_errors":["end_datetime is lower than start_datetime"]}`: body("x", time.Second, 0),
		} {
			admin.POST("/maintenances/", values).Status(400).Is(want)
		}
		id := b.plan(t, body("past", -2*day, -day))
		before := admin.GET(path(id)).Object()
		for _, change := range []map[string]any{{"start_datetime": noon}, {"end_datetime": noon.Add(-3 * day)}, {"start_datetime": noon, "end_datetime": noon.Add(-1)}} {
			admin.PATCH(path(id), change).Status(400).Is(`{"non_field_errors":["end_datetime is lower than start_datetime"]}`)
		}
		require.Equal(t, before, admin.GET(path(id)).Object())
		b.clock.Advance(time.Minute)
		changed := admin.PATCH(path(id), map[string]any{"subject": "New", "message": "m", "active": true}).Status(200).Object()
		require.Equal(t, []any{"New", "m", before["start_datetime"], "2026-11-24T12:01:00Z", false},
			[]any{changed["subject"], changed["message"], changed["start_datetime"], changed["update_datetime"], changed["active"]})
		require.Nil(t, admin.PATCH(path(id), map[string]any{"message": nil}).Status(200).Object()["message"])
		admin.PATCH(path(id), map[string]any{"start_datetime": noon, "end_datetime": noon.Add(day)}).Status(200)

		admin.PATCH("/maintenances/2000000000/", map[string]any{"start_datetime": "never"}).Status(404).Is(`{"detail":"No MaintenancePhase matches the given query."}`)
		admin.GET("/maintenances/first/").Status(404).Is(`{"detail":"Not found."}`)
		for _, m := range []string{"PUT", "HEAD", "OPTIONS"} {
			admin.JSON(m, path(id), nil).Status(405)
			b.For(t).JSON(m, path(id), nil).Status(403)
		}
		b.For(t).JSON("HEAD", "/maintenances/next/", nil).Status(405)
		admin.DELETE("/maintenances/").Status(405)
		for _, c := range []*webtest.Client{b.As("alice").For(t), b.For(t)} {
			c.POST("/maintenances/", body("x", 0, day)).Status(403)
			c.PATCH(path(id), body("x", 0, day)).Status(403)
			c.DELETE(path(id)).Status(403)
			c.GET(path(id)).Status(200)
			c.GET("/maintenances/").Status(200)
		}
		require.Empty(t, *b.told, "planning tells nobody")
	})
}

func TestListingPhases(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b bundle) {
		b.plan(t, body("A v1.2 (x)", 0, time.Hour))
		b.plan(t, body("B v1x2 %_", day, day+time.Hour))
		b.As("admin").DELETE(path(b.plan(t, body("gone", -2*day, -day)))).Status(204)
		b.clock.Advance(30 * day)
		subjects := func(query string) string {
			t.Helper()
			var list []string
			for _, p := range b.For(t).GET("/maintenances/?" + query).Status(200).Results() {
				list = append(list, p["subject"].(string)[:1])
			}
			return strings.Join(list, "")
		}
		for query, want := range map[string]string{
			"": "AB", "subject=A": "", "subject=A%20v1.2%20(x)": "A", "start_datetime=2026-11-24T13:00:00%2B01:00": "A", "end_datetime=2026-11-25T13:00:00Z": "B",
			"min_start_datetime=2026-11-24T12:00:01Z": "B", "max_end_datetime=2026-11-24T13:00:00Z": "A", "max_end_datetime=2026-11-24": "", "search=V1.2": "A", "search=v1+(x": "A",
			"search=%25_": "B", "search=v.*": "", "ordering=-start_datetime&page=1&page_size=20": "BA", "ordering=end_datetime": "AB",
		} {
			require.Equal(t, want, subjects(query), query)
		}
		for query, want := range map[string]string{
			"start_datetime=soon": `{"start_datetime":["Enter a valid date/time."]}`, "max_end_datetime=2003-06-31": `{"max_end_datetime":["Enter a valid date/time."]}`,
			"ordering=subject": `{"ordering":["Select a valid choice. subject is not one of the available choices."]}`,
		} {
			b.For(t).GET("/maintenances/?" + query).Status(400).Is(want)
		}
	})
}

func TestNext(t *testing.T) {
	t.Parallel()
	type span struct{ from, to time.Duration }
	for name, tt := range map[string]struct {
		spans []span
		want  int // 0: none
	}{
		"Nothing":                {nil, 0},
		"TheFirstToStart":        {[]span{{day, 3 * day}, {2 * day, 4 * day}}, 1},
		"EvenIfItEndsLater":      {[]span{{day, 4 * day}, {2 * day, 3 * day}}, 1},
		"OfRunningTheLastToEnd":  {[]span{{-2 * day, day}, {-day, 2 * day}}, 2},
		"TheStartDoesNotCount":   {[]span{{-2 * day, 2 * day}, {-day, day}}, 1},
		"OnlyPast":               {[]span{{-2 * day, -day}}, 0},
		"RunningBeforeComing":    {[]span{{time.Minute, day}, {-day, time.Minute}}, 2},
		"BoundsBelongToThePhase": {[]span{{-day, 0}}, 1},
		"StartsNow":              {[]span{{0, day}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, databasetest.SQLite(t))
			for i, s := range tt.spans {
				require.EqualValues(t, i+1, b.plan(t, body("x", s.from, s.to)))
			}
			next := b.GET("/maintenances/next/").Status(200)
			if tt.want == 0 {
				next.Is(`{}`)
				return
			}
			require.Equal(t, float64(tt.want), next.Object()["id"])
		})
	}
}

func TestGate(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b bundle) {
		values := body("x", -time.Hour, time.Hour)
		values["end_datetime"] = noon.Add(time.Hour + 123456*time.Microsecond)
		id := b.plan(t, values)
		b.POST("/things/", nil).Status(503).Is(`{"message":"The server is unavailable for maintenance up to 24/11/2026, 13:00:00 for the following reason: None",
			"maintenance_start":"2026-11-24T11:00:00Z","maintenance_end":"2026-11-24T13:00:00.123Z","active":true}`)
		b.As("admin").POST("/things/", nil).Status(503)
		b.POST("/nothing/", nil).Status(503)
		b.With("Authorization", "malformed").POST("/things/", nil).Status(503)
		b.GET("/things/").Status(200)
		b.JSON("HEAD", "/things/", nil).Status(403, 405)
		b.With("X-Machine", "1").POST("/things/", nil).Status(200)
		b.POST("/auth/login/", nil).Status(200)
		b.As("alice").POST("/maintenances/", body("x", 0, 0)).Status(403)

		b.As("admin").PATCH(path(id), map[string]any{"type": "full", "message": "upgrade"}).Status(200)
		b.As("alice").GET("/things/").Status(503)
		b.GET("/things/").Status(503)
		for _, nobodys := range []string{"malformed", "undecided"} {
			require.Contains(t, b.With("Authorization", nobodys).As("admin").GET("/things/").Status(503).Object(), "maintenance_end")
		}
		b.As("admin").GET("/things/").Status(200)
		b.As("admin").POST("/things/", nil).Status(503)
		b.With("X-Machine", "1").GET("/things/").Status(200)
		b.GET("/maintenances/next/").Status(200)
		b.GET("/healthz").Status(200)
		b.POST("/auth/login/", nil).Status(200)

		b.As("admin").DELETE(path(id)).Status(204)
		b.POST("/things/", nil).Status(200)
		b.plan(t, body("coming", time.Hour, 2*time.Hour))
		b.POST("/things/", nil).Status(200)
	})
}

func TestTelling(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b bundle) {
		told := func() (list []string) { // as it is delivered now
			for _, a := range *b.told {
				notice, err := b.service.Message(t.Context(), a.id, a.active)
				require.NoError(t, err)
				if notice != nil {
					list = append(list, fmt.Sprint(notice.Info.ID, " ", notice.Info.Active))
				}
			}
			*b.told = nil
			return list
		}
		notify := func() []string { require.NoError(t, b.service.Notify(t.Context())); return told() }
		require.Empty(t, notify())
		long := b.plan(t, body("long", time.Minute, 3*time.Hour))
		short := b.plan(t, body("short", time.Minute, time.Hour))
		past := b.plan(t, body("past", -2*day, -day))
		require.Empty(t, notify(), "not yet")
		b.clock.Advance(90 * time.Second)
		require.Equal(t, []string{fmt.Sprint(long, " true")}, notify())
		require.Equal(t, []string{fmt.Sprint(long, " true")}, notify(), "every minute")
		b.As("admin").DELETE(path(past)).Status(204)
		require.Empty(t, told(), "a past one goes in silence")
		b.clock.Advance(time.Hour)
		require.Equal(t, []string{fmt.Sprint(long, " true")}, notify(), "the end of the short one hides the long one from nobody")
		_ = short
		b.clock.Advance(2 * time.Hour)
		require.Equal(t, []string{fmt.Sprint(long, " false")}, notify())
		b.clock.Advance(time.Hour)
		require.Empty(t, notify())

		first, second := b.plan(t, body("first", 0, 2*day)), b.plan(t, body("second", 0, 3*day))
		b.As("admin").DELETE(path(first)).Status(204)
		require.Empty(t, told(), "another one is on")
		b.As("admin").DELETE(path(second)).Status(204)
		require.Equal(t, []string{fmt.Sprint(second, " false")}, told())
		b.As("admin").DELETE(path(second)).Status(404)
		require.Empty(t, told())

		third := b.plan(t, body("third", 0, day))
		b.As("admin").DELETE(path(third)).Status(204)
		fourth := b.plan(t, body("fourth", 0, day))
		require.Empty(t, told(), "the end is told late, when the next one is on")
		require.Equal(t, []string{fmt.Sprint(fourth, " true")}, notify())
	})
}

func TestAhead(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b bundle) {
		b.plan(t, body("begins", 20*time.Second, time.Hour))
		b.plan(t, body("ends", -time.Hour, time.Minute))
		b.plan(t, body("both", 30*time.Second, 40*time.Second))
		b.plan(t, body("began just now", 0, time.Hour))
		b.plan(t, body("later", time.Minute+time.Second, time.Hour))
		b.As("admin").DELETE(path(b.plan(t, body("called off", 5*time.Second, 6*time.Second)))).Status(204)
		moments, err := b.service.Ahead(t.Context())
		require.NoError(t, err)
		var ahead []time.Duration
		for _, at := range moments {
			ahead = append(ahead, at.Sub(noon))
		}
		require.ElementsMatch(t, []time.Duration{20 * time.Second, time.Minute, 30 * time.Second, 40 * time.Second}, ahead)
	})
}

func TestNotice(t *testing.T) {
	t.Parallel()
	raw, err := json.Marshal(maintenance.NoticeOf(maintenance.Phase{ID: 3, Subject: "now", Type: "partial", Message: new("upgrade"),
		StartDatetime: noon, EndDatetime: noon.Add(1500 * time.Millisecond)}, true))
	require.NoError(t, err)
	require.JSONEq(t, `{"type":"maintenance","info":{"id":3,"subject":"now","maintenance_start":"2026-11-24T12:00:00+00:00","maintenance_end":"2026-11-24T12:00:01.500000+00:00","active":true,"type":"partial","message":"upgrade"}}`, string(raw))
}
