package web_test

import (
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/web"
)

type part struct {
	Size int `json:"size"`
}

type thing struct {
	Part    *part         `json:"part"`
	ID      uuid.UUID     `json:"uuid"`
	Name    *string       `json:"name"`
	Made    web.Datetime  `json:"created_at"`
	Ended   *web.Datetime `json:"ended_at"`
	Tags    []string      `json:"tags"`
	Started time.Time     `json:"started"`
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	nothing := func(*gin.Context) error { return nil }
	doc, err := web.OpenAPI(web.Table{
		{Method: "GET", Path: "/things/", Out: web.PageOf[thing]{}, Paged: web.ByOffset, For: web.Owner, Query: []web.Param{{Name: "after", Type: "date-time"}}, Do: nothing},
		{Method: "POST", Path: "/things/:uuid/close/", Body: thing{}, Out: thing{}, Status: 201, For: web.Owner, Do: nothing},
		{Method: "DELETE", Path: "/things/:uuid/", Status: 204, For: web.Owner, Do: nothing},
		{Method: "GET", Path: "/things/:uuid/download/", Produces: "application/zip", For: web.Owner, Do: nothing},
	}, "1")
	require.NoError(t, err)
	spec, err := openapi3.NewLoader().LoadFromData(doc)
	require.NoError(t, err)
	require.NoError(t, spec.Validate(t.Context()))
	file := spec.Paths.Find("/things/{uuid}/download/").Get.Responses.Value("200").Value.Content["application/zip"]
	require.NotNil(t, file, "a download is a file of its type")
	require.Equal(t, "binary", file.Schema.Value.Format)
	op := spec.Paths.Find("/things/").Get
	require.Len(t, op.Parameters, 3)
	schema := op.Responses.Value("200").Value.Content["application/json"].Schema.Value.Properties["results"].Value.Items.Value
	require.Equal(t, "uuid", schema.Properties["uuid"].Value.Format)
	require.Equal(t, "date-time", schema.Properties["created_at"].Value.Format)
	require.True(t, schema.Properties["name"].Value.Nullable)
	require.True(t, schema.Properties["ended_at"].Value.Nullable)
	require.False(t, schema.Properties["tags"].Value.Nullable)
	thingSchema := op.Responses.Value("200").Value.Content["application/json"].Schema.Value.Properties["results"].Value.Items.Value
	require.ElementsMatch(t, []string{"part", "uuid", "name", "created_at", "ended_at", "tags", "started"}, thingSchema.Required, "what is answered is always there")
	sent := spec.Paths.Find("/things/{uuid}/close/").Post.RequestBody.Value.Content["application/json"].Schema.Value
	require.Empty(t, sent.Required, "what is sent is judged by the service")
	for value, ok := range map[any]bool{nil: true, "text": false} {
		err := thingSchema.Properties["part"].Value.VisitJSON(value)
		require.Equal(t, ok, err == nil, "%v", err)
	}
	require.NoError(t, thingSchema.Properties["part"].Value.VisitJSON(map[string]any{"size": 1.0}))
	require.Error(t, thingSchema.Properties["part"].Value.VisitJSON(map[string]any{}))
}
