package webtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"cohortflow/internal/platform/web"
)

// document holds answers against the OpenAPI document of a table.
type document struct {
	spec  *openapi3.T
	table web.Table
}

func load(t web.Table) (*document, error) {
	raw, err := web.OpenAPI(t, "test")
	if err != nil {
		return nil, err
	}
	loader := openapi3.NewLoader()
	spec, err := loader.LoadFromData(raw)
	if err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	if err := spec.Validate(loader.Context); err != nil {
		return nil, fmt.Errorf("the OpenAPI document is not valid: %w", err)
	}
	return &document{spec: spec, table: t}, nil
}

// check finds what the document says about an answer. What no route serves, and what is mounted beside the table, is not
// described.
func (d *document) check(req *http.Request, a *Answer) error {
	pattern, ok := d.route(req)
	if !ok {
		return nil
	}
	item := d.spec.Paths.Find(pattern)
	if item == nil {
		return fmt.Errorf("%s is not in the document", pattern)
	}
	operation := item.GetOperation(req.Method)
	if operation == nil {
		return nil
	}
	response := operation.Responses.Status(a.Code)
	if response == nil {
		if a.Code < 300 {
			return errors.New("this success is not documented")
		}
		response = operation.Responses.Default()
	}
	if len(a.Body) == 0 {
		if a.Code < 300 && len(response.Value.Content) > 0 {
			return errors.New("there should be a body")
		}
		return nil
	}
	return checkBody(response.Value, a)
}

func checkBody(response *openapi3.Response, a *Answer) error {
	kind, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("content type %q", a.Header.Get("Content-Type"))
	}
	media := response.Content[kind]
	if media == nil {
		return fmt.Errorf("a body of type %s is not documented", kind)
	}
	if kind != "application/json" {
		return nil
	}
	var v any
	if err := json.Unmarshal(a.Body, &v); err != nil {
		return fmt.Errorf("the body is no JSON: %w", err)
	}
	if media.Schema == nil {
		return nil
	}
	return media.Schema.Value.VisitJSON(v, openapi3.VisitAsResponse(), openapi3.MultiErrors())
}

// route is the path, in the document's notation, of the route that serves a request: as in the router, literal segments
// win over parameters.
func (d *document) route(req *http.Request) (string, bool) {
	path := strings.Split(req.URL.EscapedPath(), "/")
	best, bestParams := "", -1
	for _, r := range d.table {
		params, ok := matches(strings.Split(r.Path, "/"), path)
		if ok && r.Method == req.Method && (bestParams < 0 || params < bestParams) {
			best, bestParams = documented(r.Path), params
		}
	}
	return best, bestParams >= 0
}

func matches(pattern, path []string) (params int, ok bool) {
	if len(pattern) != len(path) {
		return 0, false
	}
	for i, segment := range pattern {
		switch {
		case strings.HasPrefix(segment, ":"):
			params++
			if path[i] == "" {
				return 0, false
			}
		case segment != path[i]:
			return 0, false
		}
	}
	return params, true
}

func documented(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if name, isParam := strings.CutPrefix(s, ":"); isParam {
			segments[i] = "{" + name + "}"
		}
	}
	return strings.Join(segments, "/")
}
