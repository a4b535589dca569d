package export

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	mappingPage  = "../../docs/exports.md"
	mappingBegin = "<!-- tables: begin, written by UPDATE=1 go test ./internal/export -run TestDocumentedMapping -->\n"
	mappingEnd   = "<!-- tables: end -->\n"
)

// TestDocumentedMapping holds docs/exports.md against the mapping: what the exporter writes is what analysts read there.
func TestDocumentedMapping(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(mappingPage)
	require.NoError(t, err)
	before, rest, begun := strings.Cut(string(raw), mappingBegin)
	_, after, ended := strings.Cut(rest, mappingEnd)
	require.True(t, begun && ended, "the page has both marks")
	want := before + mappingBegin + mappingTables() + mappingEnd + after
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, os.WriteFile(mappingPage, []byte(want), 0o600))
		return
	}
	require.Equal(t, want, string(raw), "the page is not that of the mapping")
}

// mappingTables are the tables of the page, by name.
func mappingTables() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(specifications)) {
		spec := specifications[name]
		fmt.Fprintf(&b, "\n### `%s`\n\n", name)
		if len(spec.names) > 0 {
			fmt.Fprintf(&b, "Also `%s`. ", strings.Join(spec.names, "`, `"))
		}
		row := "a resource"
		if len(spec.explode) > 0 {
			row = "an element of `" + strings.Join(spec.explode, ".") + "`"
		}
		fmt.Fprintf(&b, "Resource `%s`; a row is %s", spec.resource, row)
		if spec.require != "" {
			fmt.Fprintf(&b, " that has `%s`", spec.require)
		}
		if spec.patient == "" {
			b.WriteString("; about nobody: all rows")
		}
		b.WriteString(".\n\n| column | taken from |\n| --- | --- |\n")
		for i := 0; i < len(spec.columns); i += 2 {
			fmt.Fprintf(&b, "| `%s` | `%s` |\n", spec.columns[i], strings.ReplaceAll(spec.columns[i+1], "|", `\|`))
		}
	}
	b.WriteString("\n")
	return b.String()
}
