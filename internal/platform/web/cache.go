package web

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"
	"github.com/swaggest/jsonschema-go"
)

// cacheView is an object of cached answers, or a list of their keys.
type cacheView map[string]any

// JSONSchema implements jsonschema.Exposer.
func (cacheView) JSONSchema() (jsonschema.Schema, error) {
	var s jsonschema.Schema
	s.WithDescription("The cached answers by key, or their keys.")
	keys := jsonschema.Array.ToSchemaOrBool()
	keys.TypeObject.WithItems(*(&jsonschema.Items{}).WithSchemaOrBool(jsonschema.String.ToSchemaOrBool()))
	s.OneOf = []jsonschema.SchemaOrBool{jsonschema.Object.ToSchemaOrBool(), keys}
	return s, nil
}

// Answers are the answers that a server keeps; *answercache.Cache has them.
type Answers interface {
	// Show lists those whose key contains a text: key → [body, status, headers].
	Show(ctx context.Context, contains string) (map[string]any, error)
	// Forget deletes them.
	Forget(ctx context.Context, contains string) error
}

// noAnswers are those of a server that keeps none: there is nothing to show, and nothing to empty.
type noAnswers struct{}

func (noAnswers) Show(context.Context, string) (map[string]any, error) { return map[string]any{}, nil }
func (noAnswers) Forget(context.Context, string) error                 { return nil }

// NoCache is the cache endpoint of a server that keeps no answers. Operators' scripts call it all the same.
func NoCache() Table { return CacheRoutes(noAnswers{}) }

// CacheRoutes is the cache endpoint (system.md 9.4).
func CacheRoutes(answers Answers) Table {
	knows := []string{http.MethodGet, http.MethodDelete}
	params := []Param{{Name: "keys_only", Type: "string", Doc: "anything: the keys alone"}, {Name: "username", Type: "string", Doc: "contained in the key"}}
	show := func(c *gin.Context) error {
		found, err := answers.Show(c.Request.Context(), c.Query("username"))
		if err != nil {
			return err
		}
		if c.Query("keys_only") == "" {
			JSON(c, http.StatusOK, found)
			return nil
		}
		keys := slices.Sorted(maps.Keys(found))
		if keys == nil {
			keys = []string{}
		}
		JSON(c, http.StatusOK, keys)
		return nil
	}
	forget := func(c *gin.Context) error {
		if err := answers.Forget(c.Request.Context(), c.Query("username")); err != nil {
			return err
		}
		Empty(c, http.StatusNoContent)
		return nil
	}
	var t Table
	for _, path := range []string{"/cache", "/cache/"} {
		t = append(t,
			Route{Method: http.MethodGet, Path: path, Summary: "Show the cached answers", Tag: "cache", Query: params, Out: cacheView{}, For: FullAdmin, Knows: knows, Do: show},
			Route{Method: http.MethodDelete, Path: path, Summary: "Empty the cache", Tag: "cache", Query: params, Status: http.StatusNoContent, For: FullAdmin, Knows: knows, Do: forget})
	}
	return t
}
