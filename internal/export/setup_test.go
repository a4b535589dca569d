package export

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/fhir"
)

type rawJSON = json.RawMessage

func decode(b []byte, v any) error { return json.Unmarshal(b, v) }

// source answers searches from lists of resources by type; it understands _id, and a group of "none" is empty.
type source struct {
	resources map[string][]string
	fail      map[string]error // after the resources of a type
	asked     []fhir.Search
}

func (s *source) Search(_ context.Context, q fhir.Search) iter.Seq2[json.RawMessage, error] {
	s.asked = append(s.asked, q)
	return func(yield func(json.RawMessage, error) bool) {
		for _, r := range s.resources[q.Type] {
			for _, p := range q.Params {
				var ided struct{ ID string }
				if json.Unmarshal([]byte(r), &ided); p.Name == "_id" && !slices.Contains(strings.Split(p.Value, ","), ided.ID) {
					r = ""
				}
			}
			if r == "" || q.Group == "none" || strings.HasPrefix(q.Group, "only-") && !strings.Contains(r, `"id":"`+q.Group[5:]+`"`) {
				continue
			}
			scratch := []byte(r) // overwritten afterwards, as the client's buffer is
			if !yield(scratch, nil) {
				return
			}
			clear(scratch)
		}
		if err := s.fail[q.Type]; err != nil {
			yield(nil, err)
		}
	}
}

func knownTables(t testing.TB) catalogue {
	t.Helper()
	c, err := newCatalogue()
	require.NoError(t, err)
	return c
}

// tableOf plans a table with some of its columns.
func tableOf(t testing.TB, name string, columns ...string) planned {
	t.Helper()
	known, err := knownTables(t).find(name)
	require.NoError(t, err)
	picked, err := known.pick(columns)
	require.NoError(t, err)
	return planned{table: known, title: name, columns: picked, group: "88"}
}
