package web

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"
	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
)

// documents describe the API in three forms.
type documents struct{ asYAML, asJSON, page []byte }

func document(table Table, version string) (d documents, err error) {
	spec, err := describe(table, version)
	if err != nil {
		return d, err
	}
	if d.asJSON, err = OpenAPI(table, version); err != nil {
		return d, err
	}
	if d.asYAML, err = spec.MarshalYAML(); err != nil {
		return d, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	d.page, err = reference(table, version)
	return d, err
}

// Documentation mounts what describes the API (system.md 12), all of it public and from within the binary: the OpenAPI
// document at /schema, Swagger UI at /docs, a reference to read at /redoc/. It is written when it is first asked for: that
// takes longer than all the rest of a start.
func (s *Server) Documentation(version string) {
	written := sync.OnceValues(func() (documents, error) { return document(s.table, version) })
	show := func(serve func(c *gin.Context, d documents)) gin.HandlerFunc {
		return func(c *gin.Context) {
			d, err := written()
			if err != nil {
				s.render(c, err)
				return
			}
			serve(c, d)
		}
	}
	for _, path := range []string{"/schema", "/schema/"} {
		s.Mount(http.MethodGet, path, show(func(c *gin.Context, d documents) { serveSchema(c, d.asYAML, d.asJSON) }))
	}
	ui := v5emb.NewHandlerWithConfig(swgui.Config{Title: "Cohortflow", SwaggerJSON: "/schema?format=json", BasePath: "/docs/assets/",
		SettingsUI: map[string]string{"filter": "true", "docExpansion": `"none"`, "tagsSorter": `"alpha"`, "operationsSorter": `"method"`,
			"tryItOutEnabled": "true", "persistAuthorization": "true"}})
	s.Mount(http.MethodGet, "/docs", func(c *gin.Context) {
		r := c.Request.Clone(c.Request.Context())
		r.URL.Path = "/docs/assets/"
		ui.ServeHTTP(c.Writer, r)
	})
	s.Mount(http.MethodGet, "/docs/assets/*file", gin.WrapH(ui))
	s.Mount(http.MethodGet, "/redoc/", show(func(c *gin.Context, d documents) { c.Data(http.StatusOK, "text/html; charset=utf-8", d.page) }))
}

// serveSchema answers YAML unless JSON is asked for.
func serveSchema(c *gin.Context, asYAML, asJSON []byte) {
	kind, ending, doc := "application/vnd.oai.openapi; charset=utf-8", "yaml", asYAML
	switch {
	case c.Query("format") == "json":
		kind, ending, doc = "application/vnd.oai.openapi+json", "json", asJSON
	case c.Query("format") == "" && strings.Contains(c.GetHeader("Accept"), "application/json"):
		kind, ending, doc = "application/json", "json", asJSON
	}
	c.Header("Content-Disposition", `inline; filename="Cohort360-Backend.`+ending+`"`)
	c.Data(http.StatusOK, kind, doc)
}

// reference is a page that lists all routes by capability, to read and to print; it needs no script.
func reference(t Table, version string) ([]byte, error) {
	type group struct {
		Tag    string
		Routes Table
	}
	var groups []*group
	byTag := map[string]*group{}
	for _, r := range t {
		g := byTag[r.Tag]
		if g == nil {
			g = &group{Tag: r.Tag}
			byTag[r.Tag], groups = g, append(groups, g)
		}
		g.Routes = append(g.Routes, r)
	}
	var b bytes.Buffer
	if err := referencePage.Execute(&b, map[string]any{"Version": version, "Groups": groups}); err != nil {
		return nil, fmt.Errorf("write the API reference: %w", err)
	}
	return b.Bytes(), nil
}

var referencePage = template.Must(template.New("reference").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Cohortflow API reference (ReDoc address)</title>
<style>body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}code{background:#eee;padding:0 .3em}
table{border-collapse:collapse;width:100%}td{border-top:1px solid #ccc;padding:.3em;vertical-align:top}</style></head><body>
<h1>Cohortflow API {{.Version}}</h1>
<p>The whole description is at <a href="../schema">/schema</a>; try requests out at <a href="../docs">/docs</a>.</p>
{{range .Groups}}<h2>{{.Tag}}</h2><table>{{range .Routes}}<tr><td><code>{{.Method}}</code></td><td><code>{{.Path}}</code></td><td>{{.Summary}}.
For: {{.For}}.{{range .Query}}<br><code>{{.Name}}</code> ({{.Type}}){{if .Doc}}: {{.Doc}}{{end}}{{end}}</td></tr>{{end}}</table>{{end}}
</body></html>
`))
