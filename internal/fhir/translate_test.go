package fhir

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/httpclient"
)

const answer = `{"resourceType":"Parameters","parameter":[{"name":"collection","valueString":"patientAphp"},{"name":"fq","valueString":"fq=gender:f&fq=active:true"}]}`

func TestNewRefusesNonsense(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "fhir", "ftp://x", "http://", "http://h/fhir?a=1", "::"} {
		_, err := New(newHTTP(t, httpclient.Config{}), Config{URL: address})
		require.Error(t, err, address)
	}
	_, err := New(nil, Config{URL: "http://h"})
	require.Error(t, err)
}

// The calls of cohort.md 26, and what the kit pins (cases/cohort/query/criteria.yaml).
func TestTranslateAddresses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ resource, filter, want string }{
		"26.1":          {"Patient", "active=true&gender=f&age-day=ge0&age-day=le130", "/fhir/Patient/$query?active=true&gender=f&age-day=ge0&age-day=le130"},
		"no parameters": {"Patient", "", "/fhir/Patient/$query"},
		"26.3 codes":    {"Condition", "subject.active=true&code=https://smt.esante.gouv.fr/terminologie-cim-10/|E11&onset-date=ge2022-01-01T00:00:00Z&onset-date=le2022-12-31T00:00:00Z", "/fhir/Condition/$query?subject.active=true&code=https%3A%2F%2Fsmt.esante.gouv.fr%2Fterminologie-cim-10%2F%7CE11&onset-date=ge2022-01-01T00%3A00%3A00Z&onset-date=le2022-12-31T00%3A00%3A00Z"},
		"26.3 form":     {"QuestionnaireResponse", `questionnaire.name=MAT&status=in-progress,completed&_filter=item.linkId eq F_1 and (item.answer.valueCoding eq "A B")`, "/fhir/QuestionnaireResponse/$query?questionnaire.name=MAT&status=in-progress%2Ccompleted&_filter=item.linkId+eq+F_1+and+%28item.answer.valueCoding+eq+%22A+B%22%29"},
		"26.3 values":   {"Observation", "status=Valid%C3%A9&value-quantity=ge5,le9", "/fhir/Observation/$query?status=Valid%C3%A9&value-quantity=ge5%2Cle9"},
		"grouped":       {"Patient", "a=1&b=2&a=3", "/fhir/Patient/$query?a=1&a=3&b=2"},
		"decoded once":  {"Patient", "type:not=a%26b%7Cc&note=a+b c&&x=%2541", "/fhir/Patient/$query?type%3Anot=a%26b%7Cc&note=a%2Bb+c&x=%2541"},
		"decision 25":   {"Condition", "code=http://x/?a=1", "/fhir/Condition/$query?code=http%3A%2F%2Fx%2F%3Fa%3D1"},
		"no equal sign": {"Condition", "code&x=1", "/fhir/Condition/$query?code=&x=1"},
		"half escapes":  {"Condition", "a=100%&b=%zz&c=%4", "/fhir/Condition/$query?a=100%25&b=%25zz&c=%254"},
		"no text":       {"Condition", "a=%ff", "/fhir/Condition/$query?a=%EF%BF%BD"},
		"no new path":   {"Condition", "../x?y=/z#f", "/fhir/Condition/$query?..%2Fx%3Fy=%2Fz%23f"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, Config{}, text(answer))
			got, err := b.client.Translate(t.Context(), c.resource, c.filter, Auth{})
			require.NoError(t, err)
			require.Equal(t, Translation{Filters: []string{"fq=gender:f&fq=active:true"}, Collection: "patientAphp"}, got)
			require.Equal(t, []string{c.want}, b.uris())
		})
	}
}

func TestTranslateHeaders(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Credential: StaticToken("service")}, text(answer))
	_, err := b.client.Translate(t.Context(), "Patient", "", Auth{Authorization: "Bearer tok", Method: "OIDC", TraceID: "mine"})
	require.NoError(t, err)
	require.Equal(t, "Bearer tok", b.headers(0).Get("Authorization"))
	require.Equal(t, "OIDC", b.headers(0).Get("AUTHORIZATIONMETHOD"))
	require.Equal(t, "mine", b.headers(0).Get("X-Trace-Id"))

	_, err = b.client.Translate(t.Context(), "Patient", "", Auth{})
	require.NoError(t, err)
	require.NotContains(t, b.headers(1), "Authorization", "the service's own credential is not for this")
	require.NotContains(t, b.headers(1), "Authorizationmethod")
	require.Equal(t, "trace", b.headers(1).Get("X-Trace-Id"))
}

func TestTranslateTestsTheQueryFirst(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{TestQueries: true}, text(answer))
	for _, filter := range []string{"a=1", ""} {
		_, err := b.client.Translate(t.Context(), "Patient", filter, Auth{Authorization: "Bearer tok", Method: "JWT"})
		require.NoError(t, err)
	}
	require.Equal(t, []string{"/fhir/Patient?a=1&_count=0", "/fhir/Patient/$query?a=1", "/fhir/Patient?_count=0", "/fhir/Patient/$query"}, b.uris())
	require.Equal(t, "Bearer tok", b.headers(0).Get("Authorization"))

	b = setup(t, Config{TestQueries: true}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) })
	_, err := b.client.Translate(t.Context(), "Patient", "a=1", Auth{})
	require.EqualError(t, err, "The FHIR server refused the request (400 Bad Request).")
	require.Len(t, b.uris(), 1)
}

func TestTranslateAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer, fault string
		filters       []string
	}{
		"no filter":        {answer: `{"resourceType":"Parameters","parameter":[{"name":"collection","valueString":"x"}]}`},
		"several":          {answer: `{"resourceType":"Parameters","parameter":[{"name":"fq","valueString":"one"},{"name":"fq","valueString":"two"}]}`, filters: []string{"one", "two"}},
		"none at all":      {answer: `{"resourceType":"Parameters","parameter":[]}`, fault: "at least one parameter"},
		"no list":          {answer: `{"resourceType":"Parameters"}`, fault: "at least one parameter"},
		"no resource type": {answer: `{"parameter":[{"name":"fq","valueString":"one"}]}`, fault: "no resourceType"},
		"no name":          {answer: `{"resourceType":"Parameters","parameter":[{"valueString":"one"}]}`, fault: "parameter 1"},
		"no value":         {answer: `{"resourceType":"Parameters","parameter":[{"name":"x","valueString":"y"},{"name":"fq"}]}`, fault: "parameter 2"},
		"value no text":    {answer: `{"resourceType":"Parameters","parameter":[{"name":"fq","valueString":1}]}`, fault: "cannot be read"},
		"no object":        {answer: `[]`, fault: "cannot be read"},
		"a page":           {answer: `<html>login</html>`, fault: "cannot be read"},
		"half":             {answer: `{"resourceType":"Para`, fault: "cannot be read"},
		"nothing":          {answer: ``, fault: "cannot be read"},
		"huge":             {answer: `{"resourceType":"` + strings.Repeat("x", 2<<20) + `"}`, fault: "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, Config{}, text(c.answer))
			got, err := b.client.Translate(t.Context(), "Patient", "family=secret", Auth{Authorization: "Bearer tok"})
			if c.fault == "" {
				require.NoError(t, err)
				require.Equal(t, c.filters, got.Filters)
				first, there := got.First()
				require.Equal(t, len(c.filters) > 0, there)
				require.True(t, !there || first == c.filters[0])
				return
			}
			var told *Error
			require.ErrorAs(t, err, &told)
			require.Contains(t, told.Text, c.fault)
			require.NotContains(t, fmt.Sprintf("%v %+v", err, err), "secret")
		})
	}
}

func TestTranslateFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"400": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			_, _ = io.WriteString(w, r.RequestURI)
		}, "The FHIR server refused the request (400 Bad Request)."},
		"401":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, "The FHIR server did not accept the credentials (401 Unauthorized)."},
		"404":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, "The FHIR server refused the request (404 Not Found)."},
		"500":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); _, _ = io.WriteString(w, "trace") }, "The FHIR server is out of order (500 Internal Server Error)."},
		"503":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, "The FHIR server is out of order (503 Service Unavailable)."},
		"reset": {reset, "The connection to the FHIR server broke."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, Config{}, c.handler)
			_, err := b.client.Translate(t.Context(), "Patient", "family=secret", Auth{})
			require.EqualError(t, err, c.want)
		})
	}
}

func TestTranslateNobodyThere(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, text(answer))
	b.server.Close()
	_, err := b.client.Translate(t.Context(), "Patient", "family=secret", Auth{})
	require.EqualError(t, err, "The FHIR server cannot be reached.")
}

func TestTranslateTooSlow(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	slow, err := New(newHTTP(t, httpclient.Config{Timeout: short}), b.client.cfg)
	require.NoError(t, err)
	_, err = slow.Translate(t.Context(), "Patient", "", Auth{})
	require.EqualError(t, err, "The FHIR server did not answer in time.")
}

func TestTranslateCancelled(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, text(answer))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.client.Translate(ctx, "Patient", "", Auth{})
	require.ErrorIs(t, err, context.Canceled)
	var told *Error
	require.NotErrorAs(t, err, &told, "our own doing is nothing to tell a user")
}

func TestTranslateResourceName(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{}, text(answer))
	for _, name := range []string{"", "../metadata", "Patient?x", "Patient/1", "Pätient"} {
		_, err := b.client.Translate(t.Context(), name, "", Auth{})
		require.Error(t, err, name)
	}
	require.Empty(t, b.uris())
}

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	auth := Auth{Authorization: "Bearer secret"}
	token := StaticToken("secret")
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", auth, auth, auth, auth), "secret")
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", token, token, token, token), "secret")
}
