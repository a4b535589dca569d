package webtest_test

import (
	"net/http"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/platform/web/webtest"
)

type thing struct {
	Name  string  `json:"name"`
	Owner *string `json:"owner"`
	Note  string  `json:"note,omitempty"`
}

// recorder is a test that notes that it failed.
type recorder struct {
	testing.TB
	failures int
}

func (r *recorder) Errorf(string, ...any) { r.failures++ }

func TestClientHoldsAnswersAgainstTheDocument(t *testing.T) {
	t.Parallel()
	answer := func(status int, v any) web.Table {
		return web.Table{
			{Method: "GET", Path: "/things/:id/", Out: thing{}, For: web.AnyUser, Do: func(c *gin.Context) error { web.JSON(c, status, v); return nil }},
			{Method: "GET", Path: "/things/first/", Out: web.PageOf[thing]{}, For: web.AnyUser, Do: func(c *gin.Context) error { web.JSON(c, status, v); return nil }},
			{Method: "DELETE", Path: "/things/:id/", Status: 204, For: web.AnyUser, Do: func(c *gin.Context) error { web.Empty(c, status); return nil }},
		}
	}
	for name, tt := range map[string]struct {
		status   int
		body     any
		method   string
		path     string
		failures int
	}{
		"AsDocumented":        {200, thing{Name: "a"}, "GET", "/things/1/", 0},
		"MissesAField":        {200, map[string]any{"name": "a"}, "GET", "/things/1/", 1},
		"WrongType":           {200, map[string]any{"name": 1, "owner": nil}, "GET", "/things/1/", 1},
		"NullWhereNone":       {200, map[string]any{"name": nil, "owner": nil}, "GET", "/things/1/", 1},
		"UndocumentedSuccess": {201, thing{Name: "a"}, "GET", "/things/1/", 1},
		"RefusalOfAnyShape":   {400, []string{"x"}, "GET", "/things/1/", 0},
		"LiteralSegmentsWin":  {200, web.PageOf[thing]{Results: []thing{}}, "GET", "/things/first/", 0},
		"NotThePattern":       {200, thing{Name: "a"}, "GET", "/things/first/", 1},
		"Empty":               {204, nil, "DELETE", "/things/1/", 0},
		"UnknownRoute":        {200, nil, "GET", "/nothing/", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &recorder{TB: t}
			webtest.New(t, webtest.Tables{answer(tt.status, tt.body)}).For(r).JSON(tt.method, tt.path, nil)
			require.Equal(t, tt.failures, r.failures)
		})
	}
}

func TestClientSendsAsSomebody(t *testing.T) {
	t.Parallel()
	table := web.Table{{Method: "GET", Path: "/me/", Out: thing{}, For: web.AnyUser, Do: func(c *gin.Context) error {
		web.JSON(c, http.StatusOK, thing{Name: c.GetString("who")})
		return nil
	}}}
	client := webtest.New(t, webtest.Tables{table}, webtest.Callers(func(c *gin.Context, name string) { c.Set("who", name) }),
		webtest.Authorize(func(_ *gin.Context, name string, who web.Who) error {
			require.Equal(t, web.AnyUser, who)
			if name == "" {
				return fault.Unauthenticated{}
			}
			return nil
		}))
	client.As("alice").GET("/me/").Status(200).Is(`{"name":"alice","owner":null}`)
	client.GET("/me/").Status(403).Is(`{"detail":"Authentication credentials were not provided."}`)
	require.Equal(t, "alice", client.As("alice").GET("/me/").Object()["name"])
}
