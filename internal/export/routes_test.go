package export

import (
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/web"
)

func TestTheTableIsDocumented(t *testing.T) {
	t.Parallel()
	w := newWorld(t, databasetest.SQLite(t), true, nil)
	doc, err := web.OpenAPI(w.service.Table(), "1")
	require.NoError(t, err)
	spec, err := openapi3.NewLoader().LoadFromData(doc)
	require.NoError(t, err)
	require.NoError(t, spec.Validate(t.Context()))
	view := spec.Paths.Find("/exports/{uuid}/").Get.Responses.Value("200").Value.Content["application/json"].Schema.Value
	require.Contains(t, view.Properties, "export_tables")
}
