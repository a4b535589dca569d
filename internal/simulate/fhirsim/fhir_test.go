package fhirsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/simulate/hospital"
)

type bundle struct {
	*Server
	lists *hospital.Lists
}

func setup(t *testing.T, change ...func(*Config)) *bundle {
	t.Helper()
	h, err := hospital.New(hospital.Config{Seed: 9, Patients: 150, Perimeters: 20})
	require.NoError(t, err)
	lists, err := hospital.OpenLists(t.TempDir(), h)
	require.NoError(t, err)
	cfg := Config{Hospital: h, Lists: lists}
	for _, f := range change {
		f(&cfg)
	}
	return &bundle{New(cfg), lists}
}

func (b *bundle) get(t *testing.T, path, token string) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	var body map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
	return w.Code, body
}

// ids follows the next links and gathers the ids.
func (b *bundle) ids(t *testing.T, path string) (ids []string, total, pages int) {
	t.Helper()
	for path != "" {
		code, page := b.get(t, path, "Bearer x")
		require.Equal(t, http.StatusOK, code, "%v", page)
		pages++
		total = int(page["total"].(float64))
		entries, _ := page["entry"].([]any)
		for _, e := range entries {
			ids = append(ids, e.(map[string]any)["resource"].(map[string]any)["id"].(string))
		}
		path = ""
		for _, l := range page["link"].([]any) {
			if link := l.(map[string]any); link["relation"] == "next" {
				path = link["url"].(string)
				require.True(t, strings.HasPrefix(path, "http://example.com/fhir/"))
			}
		}
	}
	return ids, total, pages
}

func TestTokens(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		auth  Auth
		token string
		want  int
	}{
		"Any": {AnyToken, "Bearer x", 200}, "Missing": {AnyToken, "", 401}, "Basic": {AnyToken, "Basic x", 401}, "Empty": {AnyToken, "Bearer  ", 401},
		"Exact": {ExactToken, "Bearer right", 200}, "Wrong": {ExactToken, "Bearer wrong", 401}, "None": {NoToken, "", 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(c *Config) { c.Auth = tt.auth; c.Token = "right" })
			code, body := b.get(t, "/fhir/Patient?_count=0", tt.token)
			require.Equal(t, tt.want, code)
			if code != 200 {
				require.Equal(t, "OperationOutcome", body["resourceType"])
			}
			code, _ = b.get(t, "/fhir/metadata", "")
			require.Equal(t, 200, code)
		})
	}
}

func TestTranslationOperation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	code, body := b.get(t, "/fhir/Patient/$query?active=true&gender=f", "Bearer x")
	require.Equal(t, 200, code)
	require.Equal(t, map[string]any{"resourceType": "Parameters", "parameter": []any{
		map[string]any{"name": "collection", "valueString": "patientAphp"},
		map[string]any{"name": "fq", "valueString": `fq=active:(true)&fq=gender:f&fq=-meta.security:"http://terminology.hl7.org/CodeSystem/v3-ActCode|NOLIST"`}}}, body)
	code, body = b.get(t, "/fhir/QuestionnaireResponse/$query?_filter=item.linkId+eq+F_1+and+%28item.answer.valueCoding+eq+%22A+B%22%29", "Bearer x")
	require.Equal(t, 200, code, "what the hospital does not hold is translated all the same: %v", body)
	code, body = b.get(t, "/fhir/Teapot/$query", "Bearer x")
	require.Equal(t, 404, code)
	require.Equal(t, "OperationOutcome", body["resourceType"])
	code, _ = b.get(t, "/fhir/Patient/$query?_filter=%28", "Bearer x")
	require.Equal(t, 400, code)
}

func TestSearchesArePaged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, k := range hospital.Kinds() {
		ids, total, _ := b.ids(t, fmt.Sprintf("/fhir/%s?_count=37", k))
		require.Len(t, ids, b.h.Count(k), k)
		require.Equal(t, total, b.h.Count(k))
		seen := map[string]bool{}
		for _, id := range ids {
			require.False(t, seen[id])
			seen[id] = true
		}
		code, one := b.get(t, fmt.Sprintf("/fhir/%s/%s", k, ids[len(ids)-1]), "Bearer x")
		require.Equal(t, 200, code)
		require.Equal(t, ids[len(ids)-1], one["id"])
	}
	ids, total, pages := b.ids(t, "/fhir/Patient?_count=0")
	require.Empty(t, ids)
	require.Equal(t, 150, total)
	require.Equal(t, 1, pages)
}

func TestSearchByList(t *testing.T) {
	t.Parallel()
	b := setup(t)
	members := hospital.NewSet(150)
	for _, i := range []int32{3, 4, 99} {
		members.Add(i)
	}
	id, err := b.lists.Put(hospital.List{Title: "c", Kind: hospital.Patients, Members: members, Indexed: true})
	require.NoError(t, err)
	ids, _, _ := b.ids(t, fmt.Sprintf("/fhir/Patient?_list=%d", id))
	require.Equal(t, []string{"1000003", "1000004", "1000099"}, ids)
	ids, _, _ = b.ids(t, fmt.Sprintf("/fhir/Condition?_list=%d&_count=2", id))
	for _, id := range ids {
		_, one := b.get(t, "/fhir/Condition/"+id, "Bearer x")
		require.Contains(t, []any{"Patient/1000003", "Patient/1000004", "Patient/1000099"}, one["subject"].(map[string]any)["reference"])
	}
	ids, total, _ := b.ids(t, "/fhir/Patient?_list=555")
	require.Empty(t, ids)
	require.Zero(t, total)
	_, group := b.get(t, fmt.Sprintf("/fhir/Group/%d", id), "Bearer x")
	require.EqualValues(t, 3, group["quantity"])
	require.Len(t, group["member"], 3)
	perimeter, _, _ := b.ids(t, "/fhir/Patient?_list=20001&_count=1000")
	require.Len(t, perimeter, 150)
}

func TestSearchParameters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	women, _, _ := b.ids(t, "/fhir/Patient?gender=female&_count=500")
	men, _, _ := b.ids(t, "/fhir/Patient?gender=male&_count=500")
	require.Len(t, append(women, men...), 150)
	ids, _, _ := b.ids(t, "/fhir/Patient?_id=1000007,1000001,nobody")
	require.Equal(t, []string{"1000007", "1000001"}, ids)
	_, page := b.get(t, "/fhir/Patient?_sort=-birthdate&_count=150&_elements=birthDate", "Bearer x")
	last := "9999"
	for _, e := range page["entry"].([]any) {
		resource := e.(map[string]any)["resource"].(map[string]any)
		require.LessOrEqual(t, resource["birthDate"], last)
		last = resource["birthDate"].(string)
		require.Len(t, resource, 3)
	}
	for _, bad := range []string{"/fhir/Patient?shoe-size=43", "/fhir/Patient?birthdate=geyesterday", "/fhir/Patient?_count=x", "/fhir/Patient?_list=x", "/fhir/Organization?x=1"} {
		code, body := b.get(t, bad, "Bearer x")
		require.Equal(t, 400, code)
		require.Equal(t, "OperationOutcome", body["resourceType"])
	}
	code, _ := b.get(t, "/fhir/Patient/17", "Bearer x")
	require.Equal(t, 404, code)
	code, _ = b.get(t, "/fhir/Teapot", "Bearer x")
	require.Equal(t, 404, code)
}

func TestOrganizations(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids, total, pages := b.ids(t, "/fhir/Organization?active=true&_count=7")
	require.Len(t, ids, 20)
	require.Equal(t, 20, total)
	require.Equal(t, 3, pages)
	_, child := b.get(t, "/fhir/Organization/"+ids[1], "Bearer x")
	require.Equal(t, map[string]any{"reference": "Organization/8312002244"}, child["partOf"])
}

func TestPractitionersWithTheirRoles(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) {
		c.Practitioners = []Practitioner{{ID: "1", Username: "u1", Roles: []Role{{ID: "r", Code: "12", Perimeter: 8312002244, Active: true}}}, {ID: "2", Username: "u2"}}
	})
	ids, total, _ := b.ids(t, "/fhir/Practitioner?_revinclude=PractitionerRole:practitioner&identifier=u1,u9")
	require.Equal(t, []string{"1", "r"}, ids)
	require.Equal(t, 1, total)
	_, one := b.get(t, "/fhir/Practitioner/2", "Bearer x")
	require.Equal(t, "u2", one["identifier"].([]any)[0].(map[string]any)["value"])
}
