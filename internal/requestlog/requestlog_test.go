package requestlog_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/platformtest"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/platform/web/webtest"
	"cohortflow/internal/requestlog"
)

// users gives identity's, as app does.
type users struct{ store *identity.Store }

func (u users) Views(ctx context.Context, usernames []string) (map[string]requestlog.User, error) {
	found, err := u.store.Views(ctx, usernames)
	views := map[string]requestlog.User{}
	for name, view := range found {
		views[name] = requestlog.User(view)
	}
	return views, err
}

// setup has the logs API and a route that is logged.
func setup(t *testing.T, db *database.DB) *webtest.Client {
	t.Helper()
	log := requestlog.New(db, clock.System{}, platformtest.Log(t))
	require.NoError(t, db.Update(t.Context(), func(tx *database.Tx) error {
		for _, u := range []identity.User{{Username: "admin", Lastname: new("ADMIN")}, {Username: "alice", CreatedBy: new("admin")}, {Username: "gone", DeleteDatetime: new(time.Now())}} {
			if err := tx.Create(&u).Error; err != nil {
				return err
			}
		}
		return nil
	}))
	do := func(c *gin.Context) error {
		if c.Query("refuse") != "" {
			return fault.Forbidden{}
		}
		if _, err := web.Body(c); err != nil {
			return err
		}
		if c.Query("peer") != "" {
			return fault.Refused{Status: 500, Body: "Storage provider error"}
		}
		if c.Query("fail") != "" {
			return fmt.Errorf("out of order")
		}
		web.JSON(c, 200, struct{}{})
		return nil
	}
	table := web.Table{{Method: "POST", Path: "/things/:id/", Out: struct{}{}, For: web.Anyone, View: "views.Things", Action: "create", Do: do},
		{Method: "POST", Path: "/unlogged/", Out: struct{}{}, For: web.Anyone, Do: do}}
	return webtest.New(t, webtest.Tables{table, log.Table(users{identity.NewStore(db)})}, webtest.Callers(func(c *gin.Context, name string) {
		caller := identity.Caller{Username: name, RealUsername: name}
		switch c.GetHeader("X-Is") { // what identity says of callers who ask to be somebody else
		case "refused":
			caller = identity.Caller{RealUsername: name, RefusedTarget: c.GetHeader("X-Impersonate")}
		case "unknown":
			caller = identity.Caller{RealUsername: name}
		case "impersonating":
			caller.Username = c.GetHeader("X-Impersonate")
		}
		identity.Remember(c, caller)
	}), webtest.Authorize(func(_ *gin.Context, name string, who web.Who) error {
		switch {
		case name == "":
			return fault.Unauthenticated{}
		case who == web.FullAdmin && name != "admin":
			return fault.Forbidden{}
		}
		return nil
	}), webtest.Config(func(cfg *web.Config) { cfg.Record = log.Record }))
}

func TestRowsOfRequests(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		client := setup(t, db)
		began := time.Now()
		alice := client.As("alice").With("User-Agent", strings.Repeat("é", 300)).With("X-Forwarded-For", "203.0.113.7:80, 10.0.0.1")
		alice.POST("/things/1/?why=x", map[string]any{"name": "été"}).Status(200)
		client.POST("/things/2/", nil).Status(200)
		client.With("X-Forwarded-For", "nonsense").POST("/things/3/?refuse=1", nil).Status(403)
		client.POST("/things/4/?fail=1", nil).Status(500)
		client.POST("/unlogged/", nil).Status(200)
		client.POST("/things/5/?peer=1", map[string]any{"a": `<b> & "c" \u0000`, "nul": "\x00"}).Status(500)

		rows := client.As("admin").GET("/logs/").Status(200).Results()
		require.Len(t, rows, 4, "neither failures of ours nor what has no view")
		first := rows[0]
		at, err := time.Parse(time.RFC3339, first["requested_at"].(string))
		require.NoError(t, err)
		require.WithinDuration(t, began, at, time.Minute)
		require.GreaterOrEqual(t, first["response_ms"], float64(0))
		require.Len(t, []rune(first["user_agent"].(string)), 255)
		for _, name := range []string{"id", "requested_at", "response_ms", "user_agent"} {
			delete(first, name)
		}
		require.Equal(t, map[string]any{"related_names": nil, "username_persistent": "alice", "path": "/things/1/", "view": "views.Things", "view_method": "create",
			"remote_addr": "203.0.113.7", "host": "example.com", "method": "POST", "query_params": `{"why":"x"}`, "data": `{"name":"été"}`, "response": nil, "errors": nil,
			"status_code": float64(200), "user": "alice", "user_details": map[string]any{"username": "alice", "firstname": nil, "lastname": nil, "email": nil,
				"display_name": "None None (alice)", "created_by": "None ADMIN (admin)", "updated_by": nil}}, first)
		require.Equal(t, []any{"Anonymous", nil, nil, "{}", "{}"}, []any{rows[1]["username_persistent"], rows[1]["user"], rows[1]["user_details"], rows[1]["data"], rows[1]["query_params"]})
		require.Equal(t, []any{"127.0.0.1", float64(403), "{}"}, []any{rows[2]["remote_addr"], rows[2]["status_code"], rows[2]["data"]})

		require.Equal(t, []any{float64(500), `{"a":"<b> & \"c\" \\u0000","nul":"\u0000"}`}, []any{rows[3]["status_code"], rows[3]["data"]}, "a failure of another system is one we foresaw")
		require.Len(t, client.As("admin").GET("/logs/?data=%3Cb%3E%20%26").Results(), 1)

		detail := client.As("admin").GET(fmt.Sprintf("/logs/%v/", rows[1]["id"])).Status(200).Object()
		require.NotContains(t, detail, "related_names")
		require.Nil(t, detail["user_details"])
		require.Equal(t, 3, databasetest.Count(t, db, func() { client.As("admin").GET("/logs/") }), "the count, the page, its users")
	})
}

func TestRowsNameWhoIsBehind(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		client := setup(t, db)
		for _, tt := range []struct{ as, is, target string }{{"admin", "impersonating", "alice"}, {"alice", "refused", "ad\"min\xff\x00"}, {"stranger", "unknown", ""}, {"admin", "impersonating", "admin"}} {
			client.As(tt.as).With("X-Is", tt.is).With("X-Impersonate", tt.target).POST("/things/1/", nil).Status(200)
		}
		rows := client.As("admin").GET("/logs/").Status(200).Results()
		require.Len(t, rows, 4)
		for i, want := range [][]any{
			{"alice", "alice", `{"impersonator_username":"admin"}`, map[string]any{"impersonator_username": "admin"}},
			{"alice", "alice", "{\"refused_target_username\":\"ad\\\"min\uFFFD\"}", map[string]any{"refused_target_username": "ad\"min\uFFFD"}},
			{nil, "stranger", nil, nil},
			{"admin", "admin", nil, nil},
		} {
			require.Equal(t, want, []any{rows[i]["user"], rows[i]["username_persistent"], rows[i]["response"], rows[i]["related_names"]})
		}
		detail := client.As("admin").GET(fmt.Sprintf("/logs/%v/", rows[0]["id"])).Status(200).Object()
		require.Equal(t, `{"impersonator_username":"admin"}`, detail["response"])
		require.Len(t, client.As("admin").GET(`/logs/?response="impersonator_username":"admin"`).Results(), 1)
	})
}

func TestNoSecretIsEverKept(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		client := setup(t, db).As("alice").With("Authorization", "Bearer planted-header").With("Cookie", "sessionid=planted-cookie")
		secret := map[string]any{"Password": "planted-1", "TOKEN": "planted-2", "api": "planted-3", "key": []string{"planted-4"}, "secret": map[string]string{"x": "planted-5"},
			"signature": "planted-6", "refresh_token": "planted-7", "access_token": "planted-8", "auth_code": "planted-9", "code_verifier": "planted-10", "kept": "this one"}
		client.POST("/things/1/", secret).Status(200)
		client.POST("/things/1/", map[string]any{"list": []any{[]any{secret}}, "inner": map[string]any{"deep": secret}}).Status(200)
		client.POST("/things/1/?token=planted-11&password=planted-12&kept=x", nil).Status(200)
		client.POST("/things/1/?refuse=1", secret).Status(403)
		client.Text("POST", "/things/1/", "application/json", `{"password": "planted-13"`).Status(400)
		client.Text("POST", "/things/1/", "text/plain", `password=planted-14`).Status(415)
		client.Text("POST", "/things/1/", "application/x-www-form-urlencoded", `password=planted-15&kept=1`).Status(200)
		client.Text("POST", "/things/1/", "application/json", `["planted-16"]`).Status(400)
		client.POST("/things/1/", map[string]any{"nul": "a\x00b", "password": "planted-17"}).Status(200)
		client.POST("/things/1/", map[string]any{"a": strings.Repeat("x", 20_000), "password": "planted-18"}).Status(200)
		var rows []requestlog.Row
		require.NoError(t, db.Read(t.Context()).Order("id").Find(&rows).Error)
		require.Len(t, rows, 10)
		for _, r := range rows {
			require.NotContains(t, fmt.Sprintf("%+v %s %s", r, *r.Data, *r.QueryParams), "planted")
			require.Nil(t, r.Response)
			require.LessOrEqual(t, len(*r.Data), 10_000)
		}
		require.Contains(t, *rows[0].Data, "this one")
		require.Equal(t, `{"kept":"x","password":"********************","token":"********************"}`, *rows[2].QueryParams)
	})
}

func TestFilters(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		client := setup(t, db).As("admin")
		noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
		add := func(change func(r *requestlog.Row)) {
			r := requestlog.Row{UserID: new("alice"), UsernamePersistent: new("alice"), RequestedAt: noon, ResponseMs: 10, Path: "/auth/login/", View: new("v.Login"), ViewMethod: new("post"),
				RemoteAddr: new("203.0.113.7"), Host: "h:80", Method: "POST", UserAgent: "browser", Data: new(`{}`), QueryParams: new(`{}`), StatusCode: new(200)}
			change(&r)
			require.NoError(t, db.Write(t.Context()).Create(&r).Error)
		}
		add(func(*requestlog.Row) {})
		add(func(r *requestlog.Row) {
			r.Method, r.StatusCode, r.Path, r.ResponseMs, r.RequestedAt = "PATCH", new(404), "/users/x_y/", 500, noon.Add(time.Hour)
			r.Response = new(`{"care_site_id":42,"name":"first","role":{"name":"second","lastname":"L","n":1},"list":[{"name":"third"}],"nickname":null}`)
		})
		add(func(r *requestlog.Row) {
			r.UserID, r.UsernamePersistent, r.RemoteAddr, r.View, r.ViewMethod, r.Data, r.QueryParams, r.StatusCode = nil, new("gone"), nil, nil, nil, nil, nil, nil
			r.Errors, r.Response, r.RequestedAt = new("Trace BACK"), new(`["name"]`), noon.Add(-time.Hour)
		})
		ids := func(query string) (list []float64) {
			t.Helper()
			for _, r := range client.GET("/logs/?" + query).Status(200).Results() {
				list = append(list, r["id"].(float64))
			}
			return list
		}
		for query, want := range map[string][]float64{
			"":                     {1, 2, 3},
			"method=post":          {1, 3},
			"method=post,%20patch": {1, 2, 3},
			"status_code=200,404":  {1, 2},
			"requested_at_after=2026-11-24T12:00:00Z":                                {1, 2},
			"requested_at_before=2026-11-24T12:00:00Z":                               {1, 3},
			"requested_at_before=2026-11-24":                                         nil,
			"requested_at_after=2026-11-24&requested_at_before=2026-11-24T11:30:00Z": {3},
			"response_ms_min=10.5":                                                   {2},
			"response_ms_max=499.9&id=1":                                             {1},
			"response_ms_max=1e17":                                                   {1, 2, 3},
			"id=1.5":                                                                 nil,
			"id=99999999999":                                                         nil,
			"path_contains=ERS/":                                                     {2},
			"path_contains=xzy":                                                      nil,
			"path=/users/x_y/":                                                       {2},
			"path=/users":                                                            nil,
			`response=%22care_site_id%22:42,`:                                        {2},
			"errors=trace":                                                           {3},
			"data=%7B":                                                               {1, 2},
			"user=alice":                                                             {1, 2},
			"username_persistent=gone":                                               {3},
			"view=v.Login&view_method=post":                                          {1, 2},
			"remote_addr=203.0.113.7":                                                {1, 2},
			"remote_addr=me":                                                         nil,
			"host=h:80&user_agent=browser":                                           {1, 2, 3},
			"query_params=%7B%7D":                                                    {1, 2},
			"ordering=-requested_at":                                                 {2, 1, 3},
			"ordering=requested_at":                                                  {3, 1, 2},
			"search=login":                                                           {1, 3},
			"page=last":                                                              {1, 2, 3},
			"user=&status_code=&nothing=1":                                           {1, 2, 3},
			"path_contains=%FF":                                                      nil,
			"ordering=-requested_at&page_size=1":                                     {2, 1, 3},
		} {
			require.Equal(t, want, ids(query), query)
		}
		for query, want := range map[string]string{
			"status_code=ok": `{"status_code":["Enter a number."]}`, "status_code=200,ok": `{"status_code":["Enter a number."]}`, "status_code=99999999999": `{"status_code":["Enter a number."]}`,
			"requested_at_after=yesterday": `{"requested_at_after":["Enter a valid date/time."]}`, "response_ms_min=fast": `{"response_ms_min":["Enter a number."]}`,
			"ordering=path": `{"ordering":["Select a valid choice. path is not one of the available choices."]}`,
			"user=nobody":   `{"user":["Select a valid choice. That choice is not one of the available choices."]}`,
			"user=gone":     `{"user":["Select a valid choice. That choice is not one of the available choices."]}`,
		} {
			client.GET("/logs/?" + query).Status(400).Is(want)
		}
		rows := client.GET("/logs/").Results()
		require.Equal(t, map[string]any{"name": "second", "lastname": "L"}, rows[1]["related_names"])
		require.Nil(t, rows[2]["related_names"])
		require.Nil(t, rows[2]["user_details"], "a deleted user")
		client.GET("/logs/2/").Status(200)
		client.GET("/logs/2000000000/").Status(404).Is(`{"detail":"No APIRequestLog matches the given query."}`)
		client.GET("/logs/first/").Status(404).Is(`{"detail":"Not found."}`)
		client.POST("/logs/", nil).Status(405)
		client.DELETE("/logs/1/").Status(405)
		client.As("alice").GET("/logs/").Status(403)
		client.As("alice").POST("/logs/", nil).Status(403)
		client.As("").GET("/logs/1/").Status(403)
	})
}
