package web_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/platform/web/webtest"
)

// setup is a server with the kinds of routes that differ in the order of checks.
func setup(t *testing.T, options ...webtest.Option) *webtest.Client {
	t.Helper()
	read := func(c *gin.Context) error { web.JSON(c, 200, map[string]string{"id": c.Param("id")}); return nil }
	write := func(c *gin.Context) error {
		body, err := web.Body(c)
		if err != nil {
			return err
		}
		f := web.FieldsOf(body, false)
		f.String("name", web.Required)
		if err := f.Err(); err != nil {
			return err
		}
		web.JSON(c, 201, map[string]any(body))
		return nil
	}
	table := web.Table{
		{Method: "GET", Path: "/open/", Out: map[string]string{}, For: web.Anyone, Do: read},
		{Method: "POST", Path: "/open/", Out: map[string]any{}, Status: 201, For: web.FullAdmin, Do: write},
		{Method: "GET", Path: "/mine/:id/", Out: map[string]string{}, For: web.Owner, Do: read},
		{Method: "POST", Path: "/login/", Out: map[string]any{}, Status: 201, For: web.NoAuth, Do: write},
		{Method: "GET", Path: "/users/", Out: map[string]string{}, For: web.UserManager, Knows: []string{"GET", "POST"}, Do: read},
		{Method: "GET", Path: "/panic/", For: web.Anyone, Do: func(*gin.Context) error { panic("secret of a patient") }},
		{Method: "GET", Path: "/broken/", For: web.Anyone, Do: func(*gin.Context) error { return errors.New("the cause") }},
		{Method: "GET", Path: "/gone/", For: web.Anyone, Do: func(*gin.Context) error { return context.Canceled }},
		{Method: "POST", Path: "/leave/", Out: map[string]any{}, For: web.AnyUser, Do: write,
			First: func(c *gin.Context) { c.Header("X-First", "seen") }},
		web.Root("/root/", "root", "second", "first"),
	}
	options = append([]webtest.Option{
		webtest.Callers(func(c *gin.Context, name string) { c.Set("name", name) }),
		webtest.Authorize(func(_ *gin.Context, name string, who web.Who) error {
			switch {
			case name == "":
				return fault.Unauthenticated{}
			case who == web.FullAdmin && name != "admin":
				return fault.Forbidden{}
			}
			return nil
		})}, options...)
	return webtest.New(t, webtest.Tables{table}, options...)
}

func TestOrderOfChecks(t *testing.T) {
	t.Parallel()
	client := setup(t)
	for name, tt := range map[string]struct {
		as, method, path, accept, kind, body string
		status                               int
		answer                               string
	}{
		"UnknownURLBeforeAccept":           {"", "GET", "/nothing/", "application/xml", "", "", 404, `{"detail":"Not found."}`},
		"MissingSlash":                     {"admin", "GET", "/open", "", "", "", 404, `{"detail":"Not found."}`},
		"ExtraSlash":                       {"admin", "GET", "/open//", "", "", "", 404, `{"detail":"Not found."}`},
		"LetterCaseMatters":                {"admin", "GET", "/Open/", "", "", "", 404, `{"detail":"Not found."}`},
		"Root":                             {"", "GET", "/", "", "", "", 404, `{"error":"Page Not Found"}`},
		"RootForAnyMethod":                 {"", "POST", "/", "", "", "", 404, `{"error":"Page Not Found"}`},
		"AcceptBeforePermission":           {"", "GET", "/mine/1/", "application/xml", "", "", 406, `{"detail":"Could not satisfy the request Accept header."}`},
		"AcceptBeforeMethod":               {"admin", "PUT", "/open/", "application/xml", "", "", 406, `{"detail":"Could not satisfy the request Accept header."}`},
		"PermissionBeforeMethod":           {"", "PUT", "/mine/1/", "", "", "", 403, `{"detail":"Authentication credentials were not provided."}`},
		"TheStricterPermissionDecides":     {"bob", "PUT", "/open/", "", "", "", 403, `{"detail":"You do not have permission to perform this action."}`},
		"Method":                           {"admin", "PUT", "/open/", "", "", "", 405, `{"detail":"Method \"PUT\" not allowed."}`},
		"MethodWhereNobodyMustBeKnown":     {"", "GET", "/login/", "", "", "", 405, `{"detail":"Method \"GET\" not allowed."}`},
		"MethodThatThePermissionKnows":     {"bob", "POST", "/users/", "", "", "", 405, `{"detail":"Method \"POST\" not allowed."}`},
		"MethodThatThePermissionKnowsNot":  {"admin", "DELETE", "/users/", "", "", "", 403, `{"detail":"You do not have permission to perform this action."}`},
		"HeadIsNotServed":                  {"bob", "OPTIONS", "/mine/1/", "", "", "", 405, `{"detail":"Method \"OPTIONS\" not allowed."}`},
		"TraceIsNotServed":                 {"bob", "TRACE", "/mine/1/", "", "", "", 405, `{"detail":"Method \"TRACE\" not allowed."}`},
		"PermissionBeforeContentType":      {"bob", "POST", "/open/", "", "text/plain", "x", 403, `{"detail":"You do not have permission to perform this action."}`},
		"ContentType":                      {"admin", "POST", "/open/", "", "text/plain", "x", 415, `{"detail":"Unsupported media type \"text/plain\" in request."}`},
		"NoContentType":                    {"admin", "POST", "/open/", "", "", "x", 415, `{"detail":"Unsupported media type \"\" in request."}`},
		"EmptyBodyOfAnyType":               {"admin", "POST", "/open/", "", "text/plain", "", 400, `{"name":["This field is required."]}`},
		"MalformedJSON":                    {"admin", "POST", "/open/", "", "application/json", `{"name"`, 400, `{"detail":"JSON parse error - unexpected EOF"}`},
		"TwoValues":                        {"admin", "POST", "/open/", "", "application/json", `{} {}`, 400, `{"detail":"JSON parse error - extra data after the value"}`},
		"NoObject":                         {"admin", "POST", "/open/", "", "application/json", `[1]`, 400, `{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}`},
		"NullIsNoObject":                   {"admin", "POST", "/open/", "", "application/json", `null`, 400, `{"non_field_errors":["Invalid data. Expected a dictionary, but got NoneType."]}`},
		"TooDeep":                          {"admin", "POST", "/open/", "", "application/json", strings.Repeat("[", 201), 400, `{"detail":"JSON parse error - nested deeper than 200 levels"}`},
		"DeepInsideOfATextIsNotDeep":       {"admin", "POST", "/open/", "", "application/json", `{"name":"\"` + strings.Repeat("[", 300) + `"}`, 201, ""},
		"CharsetIsAccepted":                {"admin", "POST", "/open/", "", "application/json; charset=utf-8", `{"name":"x"}`, 201, `{"name":"x"}`},
		"Form":                             {"admin", "POST", "/open/", "", "application/x-www-form-urlencoded", "name=a&name=b", 201, `{"name":"b"}`},
		"Multipart":                        {"admin", "POST", "/open/", "", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\né\r\n--x--\r\n", 201, `{"name":"é"}`},
		"MultipartCutShort":                {"admin", "POST", "/open/", "", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\né", 400, ""},
		"MultipartWithoutBoundary":         {"admin", "POST", "/open/", "", "multipart/form-data", "--x", 400, ""},
		"BrowsersGetJSON":                  {"bob", "GET", "/mine/1/", "text/html,application/xhtml+xml", "", "", 200, `{"id":"1"}`},
		"FormatJSONWinsOverAccept":         {"bob", "GET", "/mine/1/?format=json", "application/xml", "", "", 200, `{"id":"1"}`},
		"UnknownFormat":                    {"bob", "GET", "/mine/1/?format=yaml", "", "", "", 404, `{"detail":"Not found."}`},
		"DotsAndEscapesInParameters":       {"bob", "GET", "/mine/a.b%2Fc%20d/", "", "", "", 200, `{"id":"a.b/c d"}`},
		"ResourcesInOrderOfTheDeclaration": {"bob", "GET", "/root/", "", "", "", 200, `{"second":"http://example.com/root/second/","first":"http://example.com/root/first/"}`},
		"ResourcesNotForStrangers":         {"", "GET", "/root/", "", "", "", 403, `{"detail":"Authentication credentials were not provided."}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := client.For(t)
			if tt.as != "" {
				c = c.As(tt.as)
			}
			a := c.With("Accept", tt.accept).Text(tt.method, tt.path, tt.kind, tt.body).Status(tt.status)
			if tt.answer != "" {
				a.Is(tt.answer)
			}
			require.Equal(t, "application/json", a.Header.Get("Content-Type"))
		})
	}
	a := client.As("admin").PUT("/open/", nil)
	require.Equal(t, "GET, POST", a.Header.Get("Allow"))
	require.Less(t, strings.Index(string(client.As("bob").GET("/root/").Body), "second"), strings.Index(string(client.As("bob").GET("/root/").Body), "first"))
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	client := setup(t, webtest.Config(func(cfg *web.Config) { cfg.Origins = []string{"https://front.example.org"} }))
	for _, a := range []*webtest.Answer{client.GET("/open/"), client.GET("/nothing/"), client.GET("/mine/1/"), client.GET("/panic/")} {
		for name, value := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin",
			"Cross-Origin-Opener-Policy": "same-origin", "Vary": "Accept, origin", "WWW-Authenticate": "", "Access-Control-Allow-Origin": ""} {
			require.Equal(t, value, a.Header.Get(name), name)
		}
	}
	front := client.With("Origin", "https://front.example.org")
	require.Equal(t, "https://front.example.org", front.GET("/mine/1/").Status(403).Header.Get("Access-Control-Allow-Origin"), "refusals can be read")
	require.Empty(t, client.With("Origin", "https://front.example.org.evil.org").GET("/open/").Status(200).Header.Get("Access-Control-Allow-Origin"))
	require.Empty(t, front.GET("/open/").Header.Get("Access-Control-Allow-Credentials"))

	preflight := front.With("Access-Control-Request-Method", "PATCH").JSON("OPTIONS", "/nothing/", nil).Status(200)
	require.Empty(t, preflight.Body)
	for _, name := range []string{"authorizationmethod", "x-impersonate", "x-trace-id", "Authorization"} {
		require.Contains(t, preflight.Header.Get("Access-Control-Allow-Headers"), name)
	}
	require.Equal(t, "86400", preflight.Header.Get("Access-Control-Max-Age"))
	stranger := client.With("Origin", "https://evil.org").With("Access-Control-Request-Method", "PATCH").JSON("OPTIONS", "/open/", nil).Status(200)
	require.Empty(t, stranger.Header.Get("Access-Control-Allow-Headers"))

	for _, a := range []*webtest.Answer{client.POST("/leave/", nil).Status(403), client.GET("/leave/").Status(403), client.As("bob").GET("/leave/").Status(405)} {
		require.Equal(t, "seen", a.Header.Get("X-First"), "First runs before all checks")
	}
}

func TestGateComesFirstButPreflights(t *testing.T) {
	t.Parallel()
	client := setup(t, webtest.Config(func(cfg *web.Config) {
		cfg.Origins = []string{"https://front.example.org"}
		cfg.Gate = func(*gin.Context) error {
			return fault.Refused{Status: 503, Body: map[string]bool{"active": true}, RetryAfter: 7}
		}
	})).With("Origin", "https://front.example.org")
	a := client.POST("/nothing/", nil).Status(503).Is(`{"active":true}`)
	require.Equal(t, "7", a.Header.Get("Retry-After"))
	require.Equal(t, "https://front.example.org", a.Header.Get("Access-Control-Allow-Origin"))
	client.With("Access-Control-Request-Method", "GET").JSON("OPTIONS", "/open/", nil).Status(200)
}

func TestFailuresOfOurs(t *testing.T) {
	t.Parallel()
	client := setup(t)
	client.GET("/panic/").Status(500).Is(`{"detail":"A server error occurred."}`)
	client.GET("/broken/").Status(500).Is(`{"detail":"A server error occurred."}`)
	client.GET("/open/").Status(200)
}

func TestAClientThatHangsUpIsNoFailure(t *testing.T) {
	t.Parallel()
	server := web.New(web.Config{}, web.Table{{Method: "GET", Path: "/gone/", For: web.Anyone, Do: func(c *gin.Context) error { return c.Request.Context().Err() }}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rec := httptest.NewRecorder()
	server.ServeHTTP(rec, httptest.NewRequestWithContext(ctx, "GET", "/gone/", nil)) // a log line would hit the nil logger
	require.Equal(t, 499, rec.Code)
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	client := setup(t).As("admin")
	fits := `{"name":"` + strings.Repeat("x", web.MaxBody-11) + `"}`
	require.Len(t, fits, web.MaxBody)
	client.Text("POST", "/open/", "application/json", fits).Status(201)
	client.Text("POST", "/open/", "application/json", fits+" ").Status(413)
}

func TestRoutesAreRecordedAndObserved(t *testing.T) {
	t.Parallel()
	var recorded, later []string
	table := web.Table{
		{Method: "GET", Path: "/a/:id/", View: "views.A", Action: "retrieve", For: web.Anyone, Do: func(c *gin.Context) error { return fault.NotFound{Model: "A"} }},
		{Method: "GET", Path: "/b/", For: web.Anyone, Do: func(c *gin.Context) error { web.Empty(c, 200); return nil }},
	}
	client := webtest.New(t, webtest.Tables{table}, webtest.Config(func(cfg *web.Config) {
		cfg.Record = func(c *gin.Context, r web.Route, _ time.Time) {
			recorded = append(recorded, r.View+" "+r.Action+" "+http.StatusText(c.Writer.Status()))
		}
		cfg.Later = func(ctx context.Context) (context.Context, func()) {
			return ctx, func() { later = append(later, "flushed") }
		}
	}))
	client.GET("/a/1/").Status(404).Is(`{"detail":"No A matches the given query."}`)
	client.GET("/b/").Status(200)
	require.Equal(t, []string{"views.A retrieve Not Found"}, recorded)
	require.Len(t, later, 2)
}

func TestPathUUIDs(t *testing.T) {
	t.Parallel()
	table := web.Table{{Method: "GET", Path: "/x/:uuid/", Out: map[string]uuid.UUID{}, For: web.Anyone, Do: func(c *gin.Context) error {
		id, err := web.UUID(c, "uuid")
		if err != nil {
			return err
		}
		web.JSON(c, 200, map[string]uuid.UUID{"id": id})
		return nil
	}}}
	client := webtest.New(t, webtest.Tables{table})
	client.GET("/x/0189ABCD-0000-4000-8000-000000000000/").Status(200).Is(`{"id":"0189abcd-0000-4000-8000-000000000000"}`)
	client.GET("/x/0189abcd000040008000000000000000/").Status(200)
	for _, wrong := range []string{"1", "urn:uuid:0189abcd-0000-4000-8000-000000000000", "{0189abcd-0000-4000-8000-000000000000}", "0189abcd-0000-4000-8000-00000000000g"} {
		client.GET("/x/" + wrong + "/").Status(404).Is(`{"detail":"Not found."}`)
	}
}

func TestNoCache(t *testing.T) {
	t.Parallel()
	client := webtest.New(t, webtest.Tables{web.NoCache()}, webtest.Authorize(func(_ *gin.Context, name string, _ web.Who) error {
		if name != "admin" {
			return fault.Forbidden{}
		}
		return nil
	}))
	for _, path := range []string{"/cache", "/cache/"} {
		client.As("admin").GET(path + "?username=alice").Status(200).Is(`{}`)
		client.As("admin").GET(path + "?keys_only=1").Status(200).Is(`[]`)
		client.As("admin").DELETE(path).Status(204)
		client.As("admin").POST(path, nil).Status(403)
		client.As("alice").GET(path).Status(403)
		client.As("alice").DELETE(path).Status(403)
	}
	client.As("admin").GET("/cache-x").Status(404)
}
