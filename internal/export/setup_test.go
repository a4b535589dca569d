package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/fhir"
	"cohortflow/internal/platform/jsonscan"
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

// Scan is as awkward as the client may be: each resource comes in halves first, then whole, and after it comes an outcome.
func (s *source) Scan(ctx context.Context, q fhir.Search, to fhir.Scanner) error {
	outcome := []byte(`{"resourceType":"OperationOutcome","id":"outcome","item":[{"linkId":"outcome"}],"series":[{}]}`)
	for resource, err := range s.Search(ctx, q) {
		if err != nil {
			return err
		}
		b := append(resource, '}') // of the entry
		if _, err := to.Scan(b[:len(b)/2]); err == nil || !errors.Is(err, jsonscan.ErrIncomplete) {
			return fmt.Errorf("half of a resource: %w", err)
		}
		if _, err := to.Scan(b); err != nil {
			return err
		}
		if !to.Keep() {
			return nil
		}
		clear(b)
		if _, err := to.Scan(outcome); err != nil {
			return err
		}
	}
	return nil
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
