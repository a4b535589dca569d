package web

import (
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/swaggest/jsonschema-go"
)

// cacheView is an object of cached answers, or a list of their keys.
type cacheView map[string]any

// JSONSchema implements jsonschema.Exposer.
func (cacheView) JSONSchema() (jsonschema.Schema, error) {
	var s jsonschema.Schema
	s.WithDescription("The cached answers by key, or their keys: none.")
	keys := jsonschema.Array.ToSchemaOrBool()
	keys.TypeObject.WithItems(*(&jsonschema.Items{}).WithSchemaOrBool(jsonschema.String.ToSchemaOrBool()))
	s.OneOf = []jsonschema.SchemaOrBool{jsonschema.Object.ToSchemaOrBool(), keys}
	return s, nil
}

// NoCache is the cache endpoint of a server that keeps no answers (system.md 9.4): there is nothing to show, and nothing
// to empty. Operators' scripts call it all the same.
func NoCache() Table {
	knows := []string{http.MethodGet, http.MethodDelete}
	params := []Param{{Name: "keys_only", Type: "string", Doc: "anything: the keys alone"}, {Name: "username", Type: "string", Doc: "contained in the key"}}
	var t Table
	for _, path := range []string{"/cache", "/cache/"} {
		t = append(t,
			Route{Method: http.MethodGet, Path: path, Summary: "Show the cached answers", Tag: "cache", Query: params, Out: cacheView{}, For: FullAdmin, Knows: knows, Do: showNothing},
			Route{Method: http.MethodDelete, Path: path, Summary: "Empty the cache", Tag: "cache", Query: params, Status: http.StatusNoContent, For: FullAdmin, Knows: knows,
				Do: func(c *gin.Context) error { Empty(c, http.StatusNoContent); return nil }})
	}
	return t
}

func showNothing(c *gin.Context) error {
	if c.Query("keys_only") != "" {
		JSON(c, http.StatusOK, []string{})
		return nil
	}
	JSON(c, http.StatusOK, struct{}{})
	return nil
}
