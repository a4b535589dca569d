package export

import (
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// What users name is a text for every reader of YAML: one that reads 1.1 takes 12:30 and "no" for something else, one that
// reads 1.2 takes 1e5 for a number.
func TestDocumentQuotesWhatOthersMayMisread(t *testing.T) {
	t.Parallel()
	for _, plain := range []string{"questionnaireresponse", "q1.weight", "person_id", "lab-2026"} {
		raw, err := yamlText(plain).MarshalYAML()
		require.NoError(t, err)
		require.Equal(t, plain, string(raw))
	}
	names := []string{"98213", "12:30", "190:20:30", "no", "Off", "TRUE", "null", "~", "1e5", "12e03", ".inf", ".5", "0x1F", "0o7", "2024-01-01", "1_000", "=", "<<",
		"tab\there", "two\nlines", "\x7f\u0085", "a: b", "# x", "é 😀", `a"b\c`, "'", "", " ", "y"}
	source := uuid.New()
	c := contents{Export: Export{OutputFormat: formatHive, TargetName: new("12_20260314_120000000000"), TargetLocation: new("/hive"), Tables: []Table{
		{Name: "person", CohortResultSourceID: &source, Columns: names}}}, groups: map[uuid.UUID]string{source: "98213"}, datalab: "12e03"}
	written, err := c.document(false)
	require.NoError(t, err)
	var read struct {
		Output struct{ DatabaseName any }
		Tables []struct {
			CohortID any `yaml:"cohortId"`
			Columns  any `yaml:"columnsToExport"`
		} `yaml:"tablesToExport"`
		Pseudo any
	}
	require.NoError(t, yaml.UnmarshalWithOptions(written, &read), "%s", written)
	require.Equal(t, "98213", read.Tables[0].CohortID)
	require.Equal(t, "12e03", read.Pseudo)
	var columns []any
	for _, name := range names {
		columns = append(columns, name)
	}
	require.Equal(t, columns, read.Tables[0].Columns, "%s", written)
	quoted := 0
	for line := range strings.Lines(string(written)) {
		if strings.HasPrefix(strings.TrimSpace(line), `- "`) {
			quoted++
		}
	}
	require.Equal(t, len(names), quoted, "%s", written)
	require.Contains(t, string(written), `databaseName: "12_20260314_120000000000"`)
}
