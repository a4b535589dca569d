// Package fhirsim is a double of the hospital's FHIR server over the demo hospital: the translation operation, searches
// as paged bundles, and the lists of patients (contract: peers.md 3). Simulate serves it; the product's FHIR client,
// QueryExecutor's double and browsers read it. It changes nothing, and checks no more of a token than that one is there.
package fhirsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"cohortflow/internal/simulate/hospital"
)

// Auth says what the server asks of a request.
type Auth string

// Any bearer token will do (the default: users' tokens are signed by whom the double does not know), exactly the one
// configured, or none at all.
const (
	AnyToken   Auth = "any"
	ExactToken Auth = "exact"
	NoToken    Auth = "none"
)

// Config is what the double needs.
type Config struct {
	Hospital *hospital.Hospital
	Lists    *hospital.Lists
	Auth     Auth   // AnyToken
	Token    string // for ExactToken
	Base     string // path that the server answers below ("/fhir")
	// Practitioners are the users of the hospital's own system and their roles, for the synchronisation of accesses.
	Practitioners []Practitioner
}

// Practitioner is a user of the hospital's own system.
type Practitioner struct {
	ID, Username string
	Roles        []Role
}

// Role is what a practitioner may do at one perimeter. Start and End are RFC 3339 dates, or empty.
type Role struct {
	ID, Code   string
	Perimeter  int64
	Active     bool
	Start, End string
}

// Server is the double; it is an http.Handler.
type Server struct {
	cfg  Config
	h    *hospital.Hospital
	mux  *http.ServeMux
	last recalled
}

// otherTypes are resource types that exist, but of which the hospital holds nothing: they can be translated, and found
// empty.
var otherTypes = map[string]bool{"QuestionnaireResponse": true, "Questionnaire": true, "Composition": true, "Specimen": true,
	"DiagnosticReport": true, "ValueSet": true, "CodeSystem": true, "Location": true, "Medication": true, "IPPList": true}

// New makes the server.
func New(cfg Config) *Server {
	if cfg.Base == "" {
		cfg.Base = "/fhir"
	}
	if cfg.Auth == "" {
		cfg.Auth = AnyToken
	}
	s := &Server{cfg: cfg, h: cfg.Hospital, mux: http.NewServeMux(), last: recalled{found: map[string][]int32{}}}
	base := strings.TrimSuffix(cfg.Base, "/")
	s.mux.HandleFunc("GET "+base+"/metadata", s.metadata)
	s.mux.HandleFunc("GET "+base+"/{type}/$query", s.guard(s.translate))
	s.mux.HandleFunc("GET "+base+"/{type}", s.guard(s.search))
	s.mux.HandleFunc("GET "+base+"/{type}/{$}", s.guard(s.search))
	s.mux.HandleFunc("GET "+base+"/{type}/{id}", s.guard(s.read))
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "not-found", "unknown path or method")
	})
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Server) guard(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		token = strings.TrimSpace(token)
		switch {
		case s.cfg.Auth == NoToken:
		case !ok || token == "":
			refuse(w, http.StatusUnauthorized, "login", "a bearer token is required")
			return
		case s.cfg.Auth == ExactToken && token != s.cfg.Token:
			refuse(w, http.StatusUnauthorized, "login", "the token is not accepted")
			return
		}
		next(w, r)
	}
}

func (s *Server) metadata(w http.ResponseWriter, _ *http.Request) {
	resources := []map[string]any{}
	for _, k := range hospital.Kinds() {
		params := []map[string]string{}
		for _, name := range s.h.FieldNames(k) {
			params = append(params, map[string]string{"name": name, "type": "string"})
		}
		resources = append(resources, map[string]any{"type": k.String(), "searchParam": params,
			"interaction": []map[string]string{{"code": "read"}, {"code": "search-type"}}})
	}
	answer(w, http.StatusOK, map[string]any{"resourceType": "CapabilityStatement", "status": "active", "fhirVersion": "4.0.1",
		"kind": "instance", "date": hospital.Today().Format("2006-01-02"), "format": []string{"application/fhir+json"},
		"rest": []map[string]any{{"mode": "server", "resource": resources}}})
}

// translate answers $query: the Solr filters that mean the same as a search. What the hospital does not hold is
// translated by its name: whether it can be evaluated is QueryExecutor's affair.
func (s *Server) translate(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("type")
	kind, known := hospital.KindOf(name)
	if !known && !otherTypes[name] {
		refuse(w, http.StatusNotFound, "not-supported", fmt.Sprintf("unknown resource type %q", name))
		return
	}
	params, err := hospital.SplitQuery(r.URL.RawQuery)
	var search hospital.Expr
	if err == nil {
		search, err = s.h.ParseParams(kind, params)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "invalid", err.Error())
		return
	}
	answer(w, http.StatusOK, map[string]any{"resourceType": "Parameters", "parameter": []map[string]string{
		{"name": "collection", "valueString": hospital.Collection(name)},
		{"name": "fq", "valueString": s.h.Solr(kind, search)},
	}})
}

// refuse answers an OperationOutcome.
func refuse(w http.ResponseWriter, status int, code, text string) {
	answer(w, status, map[string]any{"resourceType": "OperationOutcome",
		"issue": []map[string]string{{"severity": "error", "code": code, "diagnostics": text}}})
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/fhir+json;charset=utf-8")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value) // the caller may be gone
}
