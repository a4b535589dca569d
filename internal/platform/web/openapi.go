package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/swaggest/jsonschema-go"
	"github.com/swaggest/openapi-go"
	"github.com/swaggest/openapi-go/openapi3"
)

// OpenAPI is the document of a table: OpenAPI 3.0, as JSON. Of an answer's type every field without omitempty is required;
// a type that is sent and answered has one schema for each.
func OpenAPI(t Table, version string) ([]byte, error) {
	spec, err := describe(t, version)
	if err != nil {
		return nil, err
	}
	doc, err := json.MarshalIndent(spec, "", " ")
	if err != nil {
		return nil, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	return doc, nil
}

func describe(t Table, version string) (*openapi3.Spec, error) {
	r := openapi3.NewReflector()
	r.Spec.Info.WithTitle("Cohort360-Backend").WithVersion(version). // the name that tools know it by
										WithDescription("Cohortflow: patient cohorts and data exports of a research data warehouse. A drop-in replacement of the Cohort360 back-end.")
	r.AddTypeMapping(Datetime{}, time.Time{})
	r.AddTypeMapping(Millis{}, time.Time{})
	r.AddTypeMapping(uuid.UUID{}, uuidText(""))
	r.DefaultOptions = append(r.DefaultOptions, jsonschema.InterceptProp(nullableSlices), jsonschema.InterceptProp(requiredInAnswers), jsonschema.InterceptNullability(nullableRefs))
	var current openapi.OperationContext
	r.DefaultOptions = append(r.DefaultOptions, jsonschema.InterceptDefName(func(_ reflect.Type, name string) string {
		return definitionName(name, current != nil && !current.IsProcessingResponse())
	}))
	bearer := openapi3.SecurityScheme{HTTPSecurityScheme: (&openapi3.HTTPSecurityScheme{}).WithScheme("bearer")}
	r.Spec.ComponentsEns().SecuritySchemesEns().WithMapOfSecuritySchemeOrRefValuesItem("bearer", openapi3.SecuritySchemeOrRef{SecurityScheme: &bearer})
	for _, route := range t {
		if err := addOperation(r, route, &current); err != nil {
			return nil, fmt.Errorf("describe %s %s: %w", route.Method, route.Path, err)
		}
	}
	return r.Spec, nil
}

// uuidText documents uuids as texts of that format.
type uuidText string

// PrepareJSONSchema implements jsonschema.Preparer.
func (uuidText) PrepareJSONSchema(s *jsonschema.Schema) error { s.WithFormat("uuid"); return nil }

var notInNames = regexp.MustCompile(`[^A-Za-z0-9]+`)

// definitionName keeps names short and free of the brackets of generic types.
func definitionName(name string, sent bool) string {
	name = strings.ReplaceAll(name, "CohortflowInternal", "")
	if sent {
		name += "Request"
	}
	return notInNames.ReplaceAllString(name, "")
}

// nullableRefs: a pointer to a described type is that type or null; OpenAPI 3.0 has no shorter way to say so.
func nullableRefs(p jsonschema.InterceptNullabilityParams) {
	if p.Type.Kind() != reflect.Pointer || p.OmitEmpty || p.Schema.Ref == nil {
		return
	}
	ref, null := *p.Schema, jsonschema.Null.ToSchemaOrBool()
	null.TypeObject.Enum = []any{nil}
	p.Schema.Ref = nil
	p.Schema.AddType(jsonschema.Null)
	p.Schema.AnyOf = []jsonschema.SchemaOrBool{ref.ToSchemaOrBool(), null}
}

// requiredInAnswers: what is always written is always there.
func requiredInAnswers(p jsonschema.InterceptPropParams) error {
	oc, ok := openapi.OperationCtx(p.Context)
	if !ok || !oc.IsProcessingResponse() || !p.Processed || p.ParentSchema == nil {
		return nil
	}
	_, options, _ := strings.Cut(p.Field.Tag.Get("json"), ",")
	if !strings.Contains(options, "omit") && !slices.Contains(p.ParentSchema.Required, p.Name) {
		p.ParentSchema.Required = append(p.ParentSchema.Required, p.Name)
	}
	return nil
}

// nullableSlices: a slice of ours is rendered as [] or as null only where its field is a pointer.
func nullableSlices(p jsonschema.InterceptPropParams) error {
	if p.Processed && p.PropertySchema != nil && p.PropertySchema.HasType(jsonschema.Array) && p.Field.Type.Kind().String() == "slice" && p.Field.Tag.Get("nullable") != "true" {
		p.PropertySchema.RemoveType(jsonschema.Null)
	}
	return nil
}

func addOperation(r *openapi3.Reflector, route Route, current *openapi.OperationContext) error {
	path, names := pathParams(route.Path)
	oc, err := r.NewOperationContext(route.Method, path)
	if err != nil {
		return err
	}
	*current = oc
	oc.SetSummary(route.Summary)
	oc.SetTags(route.Tag)
	oc.SetID(operationID(route))
	oc.SetDescription("For: " + string(route.For) + ".")
	if route.For != NoAuth && route.For != Anyone {
		oc.AddSecurity("bearer")
	}
	if route.Body != nil {
		oc.AddReqStructure(route.Body, openapi.WithContentType("application/json"))
	}
	status := route.Status
	if status == 0 {
		status = http.StatusOK
	}
	out := route.Out
	if out == any(struct{}{}) {
		out = map[string]string{} // the reflector takes an empty struct for a text
	}
	if out != nil {
		oc.AddRespStructure(out, openapi.WithHTTPStatus(status), openapi.WithContentType(orJSON(route.Produces)))
	} else {
		oc.AddRespStructure(nil, openapi.WithHTTPStatus(status))
	}
	exposed, ok := oc.(openapi3.OperationExposer)
	if !ok {
		return fmt.Errorf("the reflector gives no operation")
	}
	op := exposed.Operation()
	for _, name := range names {
		op.Parameters = append(op.Parameters, param(openapi3.ParameterInPath, name, "string", ""))
	}
	for _, p := range append(slices.Clone(route.Query), pagingParams(route.Paged)...) {
		op.Parameters = append(op.Parameters, param(openapi3.ParameterInQuery, p.Name, p.Type, p.Doc))
	}
	if route.Out == nil && route.Produces != "" {
		file := (&openapi3.Schema{}).WithType(openapi3.SchemaTypeString).WithFormat("binary")
		op.Responses.WithMapOfResponseOrRefValuesItem(strconv.Itoa(status), openapi3.ResponseOrRef{Response: (&openapi3.Response{Description: "The file"}).
			WithContentItem(route.Produces, openapi3.MediaType{Schema: &openapi3.SchemaOrRef{Schema: file}})})
	}
	refusals(op, route)
	return r.AddOperation(oc)
}

func orJSON(produces string) string {
	if produces == "" {
		return "application/json"
	}
	return produces
}

// refusals documents the answers that any route may give: their bodies have the shapes of system.md 2.8, which vary.
func refusals(op *openapi3.Operation, route Route) {
	any := map[string]openapi3.MediaType{"application/json": {}}
	for status, text := range map[int]string{400: "What is wrong, by field or in a sentence", 403: "Not authenticated, or not allowed", 404: "No such object", 503: "Maintenance"} {
		op.Responses.WithMapOfResponseOrRefValuesItem(strconv.Itoa(status), openapi3.ResponseOrRef{Response: &openapi3.Response{Description: text, Content: any}})
	}
	op.Responses.Default = &openapi3.ResponseOrRef{Response: &openapi3.Response{Description: "Refused", Content: any}}
	if route.Produces != "" {
		op.WithDescription("For: " + string(route.For) + ". Answers " + route.Produces + ".")
	}
}

func operationID(r Route) string {
	id := strings.ToLower(r.Method) + notInNames.ReplaceAllString(r.Path, "_")
	id = strings.Trim(id, "_")
	if !strings.HasSuffix(r.Path, "/") {
		id += "_bare" // there may be the same path with its slash
	}
	return id
}

var ginParam = regexp.MustCompile(`[:*]([A-Za-z_]+)`)

func pathParams(path string) (string, []string) {
	var names []string
	for _, m := range ginParam.FindAllStringSubmatch(path, -1) {
		names = append(names, m[1])
	}
	return ginParam.ReplaceAllString(path, "{$1}"), names
}

func pagingParams(p Paging) []Param {
	switch p {
	case ByOffset:
		return []Param{{"limit", "integer", "20 by default; negative: everything"}, {"offset", "integer", ""}}
	case ByPage:
		return []Param{{"page", "string", "a number from 1, or last"}}
	}
	return nil
}

func param(in openapi3.ParameterIn, name, kind, doc string) openapi3.ParameterOrRef {
	p := (&openapi3.Parameter{}).WithName(name).WithIn(in).WithRequired(in == openapi3.ParameterInPath)
	if doc != "" {
		p.WithDescription(doc)
	}
	s := &openapi3.Schema{}
	switch kind {
	case "date-time", "uuid":
		s.WithType(openapi3.SchemaTypeString).WithFormat(kind)
	default:
		s.WithType(openapi3.SchemaType(kind))
	}
	p.WithSchema(openapi3.SchemaOrRef{Schema: s})
	return openapi3.ParameterOrRef{Parameter: p}
}
