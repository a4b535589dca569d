// Package webtest is the client of contract tests: it sends requests to a web.Server in the test's own process, and holds
// every JSON answer against the server's OpenAPI document, so that no answer's shape can drift from what is documented.
// Tests of all capabilities use it. It knows no capability: who a name is, and what they may do, is told by functions.
package webtest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/platformtest"
	"cohortflow/internal/platform/web"
)

// Tables are the routes under test.
type Tables []web.Table

// nameHeader carries the name given to As.
const nameHeader = "X-Webtest-Caller"

// Option changes the server's configuration before it is built.
type Option func(*web.Config)

// Callers makes the caller of a request out of the name given to As; nobody is asked for a request without a name.
// Typically: identity.Remember(c, identity.Caller{Username: name}).
func Callers(remember func(c *gin.Context, name string)) Option {
	return func(cfg *web.Config) {
		cfg.Authenticate = func(c *gin.Context) error {
			if name := c.GetHeader(nameHeader); name != "" {
				remember(c, name)
			}
			return nil
		}
	}
}

// Authorize decides who may use a route, as web.Config.Authorize does. The name is the one given to As.
func Authorize(decide func(c *gin.Context, name string, who web.Who) error) Option {
	return func(cfg *web.Config) {
		cfg.Authorize = func(c *gin.Context, who web.Who) error { return decide(c, c.GetHeader(nameHeader), who) }
	}
}

// Config changes anything else.
func Config(change func(*web.Config)) Option { return Option(change) }

// Client sends requests. As and With return changed copies; a Client may be used by several goroutines.
type Client struct {
	t      testing.TB
	server *web.Server
	doc    *document
	header http.Header
}

// New builds a server of these tables: everybody may do everything, and is nobody, unless options say otherwise.
func New(t testing.TB, tables Tables, options ...Option) *Client {
	t.Helper()
	cfg := web.Config{Log: platformtest.Log(t)}
	for _, o := range options {
		o(&cfg)
	}
	return Of(t, web.New(cfg, tables...))
}

// Of is a client of a server that was built elsewhere.
func Of(t testing.TB, server *web.Server) *Client {
	t.Helper()
	doc, err := load(server.Routes())
	require.NoError(t, err, "the OpenAPI document of the tables")
	return &Client{t: t, server: server, doc: doc, header: http.Header{}}
}

// As sends as somebody: see Callers.
func (c *Client) As(name string) *Client { return c.With(nameHeader, name) }

// With sends a header, too; an empty value removes it.
func (c *Client) With(name, value string) *Client {
	copied := *c
	copied.header = c.header.Clone()
	if value == "" {
		copied.header.Del(name)
	} else {
		copied.header.Set(name, value)
	}
	return &copied
}

// For reports to another test: subtests share a server.
func (c *Client) For(t testing.TB) *Client {
	copied := *c
	copied.t = t
	return &copied
}

// GET sends a GET.
func (c *Client) GET(path string) *Answer { c.t.Helper(); return c.JSON(http.MethodGet, path, nil) }

// POST sends body as JSON; nil sends none.
func (c *Client) POST(path string, body any) *Answer {
	c.t.Helper()
	return c.JSON(http.MethodPost, path, body)
}

// PATCH sends body as JSON.
func (c *Client) PATCH(path string, body any) *Answer {
	c.t.Helper()
	return c.JSON(http.MethodPatch, path, body)
}

// PUT sends body as JSON.
func (c *Client) PUT(path string, body any) *Answer {
	c.t.Helper()
	return c.JSON(http.MethodPut, path, body)
}

// DELETE sends a DELETE.
func (c *Client) DELETE(path string) *Answer {
	c.t.Helper()
	return c.JSON(http.MethodDelete, path, nil)
}

// JSON sends any method with a body that is encoded as JSON; nil sends none.
func (c *Client) JSON(method, path string, body any) *Answer {
	c.t.Helper()
	if body == nil {
		return c.Raw(method, path, "", nil)
	}
	raw, err := json.Marshal(body)
	require.NoError(c.t, err)
	return c.Raw(method, path, "application/json", bytes.NewReader(raw))
}

// Text sends a body as it is.
func (c *Client) Text(method, path, contentType, body string) *Answer {
	c.t.Helper()
	return c.Raw(method, path, contentType, strings.NewReader(body))
}

// Raw sends a body as it is, and checks the answer against the document.
func (c *Client) Raw(method, path, contentType string, body io.Reader) *Answer {
	c.t.Helper()
	req := httptest.NewRequestWithContext(c.t.Context(), method, path, body)
	for name, values := range c.header {
		req.Header[name] = values
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if host := c.header.Get("Host"); host != "" {
		req.Host = host
	}
	rec := httptest.NewRecorder()
	c.server.ServeHTTP(rec, req)
	a := &Answer{t: c.t, what: method + " " + path, Code: rec.Code, Header: rec.Result().Header, Body: rec.Body.Bytes()}
	if err := c.doc.check(req, a); err != nil {
		c.t.Errorf("%s: the answer %d is not as documented: %v\n%s", a.what, a.Code, err, a.Body)
	}
	return a
}

// Answer is what came back.
type Answer struct {
	t      testing.TB
	what   string
	Code   int
	Header http.Header
	Body   []byte
}

// Status requires one of the statuses.
func (a *Answer) Status(codes ...int) *Answer {
	a.t.Helper()
	require.Contains(a.t, codes, a.Code, "%s answered %s", a.what, a.Body)
	return a
}

// JSON is the decoded body, numbers as float64.
func (a *Answer) JSON() any {
	a.t.Helper()
	var v any
	a.Into(&v)
	return v
}

// Object is the decoded body, which must be an object.
func (a *Answer) Object() map[string]any {
	a.t.Helper()
	var v map[string]any
	a.Into(&v)
	return v
}

// Results are the objects of a list's page.
func (a *Answer) Results() []map[string]any {
	a.t.Helper()
	var page struct {
		Results []map[string]any `json:"results"`
	}
	a.Into(&page)
	return page.Results
}

// Into decodes the body.
func (a *Answer) Into(v any) *Answer {
	a.t.Helper()
	require.NoError(a.t, json.Unmarshal(a.Body, v), "%s answered %d %q", a.what, a.Code, a.Body)
	return a
}

// Is requires a body equal to this JSON.
func (a *Answer) Is(want string) *Answer {
	a.t.Helper()
	require.JSONEq(a.t, want, string(a.Body), a.what)
	return a
}
