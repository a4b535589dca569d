package fhir

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"cohortflow/internal/platform/httpclient"
)

// Translation is the answer to a $query.
type Translation struct {
	Filters    []string // the values named fq, in order; the first counts; none: there is nothing to add
	Collection string   // the index's collection; nobody uses it
}

// First is the filter that counts, if there is one.
func (t Translation) First() (string, bool) {
	if len(t.Filters) == 0 {
		return "", false
	}
	return t.Filters[0], true
}

// Translate has a filter of the UI (filterFhir: "a=1&b=2") translated, with the user's own headers (cohort.md 17, peers.md
// 3.1). With TestQueries it first searches for nothing with it, so that a filter the server does not understand fails.
func (c *Client) Translate(ctx context.Context, resourceType, filter string, auth Auth) (Translation, error) {
	query := EncodeFilter(filter)
	header := c.userHeader(auth)
	if c.cfg.TestQueries {
		if err := c.try(ctx, resourceType, query, header); err != nil {
			return Translation{}, err
		}
	}
	address, err := c.address(resourceType, "/$query", query)
	if err != nil {
		return Translation{}, err
	}
	var answer parameters
	if err := c.http.JSON(ctx, httpclient.Request{Peer: peer, URL: address, Header: header}, &answer); err != nil {
		return Translation{}, explain(err)
	}
	return answer.read()
}

// try is the search of TEST_FHIR_QUERIES; of its answer only the status counts.
func (c *Client) try(ctx context.Context, resourceType, query string, header http.Header) error {
	if query != "" {
		query += "&"
	}
	address, err := c.address(resourceType, "", query+"_count=0")
	if err != nil {
		return err
	}
	if _, err := c.http.Do(ctx, httpclient.Request{Peer: peer, URL: address, Header: header}); err != nil {
		return explain(err)
	}
	return nil
}

func (c *Client) userHeader(auth Auth) http.Header {
	header := http.Header{"Accept": {"application/json"}}
	if auth.Authorization != "" {
		header.Set("Authorization", auth.Authorization)
	}
	if auth.Method != "" {
		header.Set("AuthorizationMethod", auth.Method)
	}
	trace := auth.TraceID
	if trace == "" {
		trace = c.cfg.NewTraceID()
	}
	header.Set("X-Trace-Id", trace)
	return header
}

// parameters is the FHIR resource of that name, as far as it is read. Pointers tell absent from empty.
type parameters struct {
	ResourceType *string `json:"resourceType"`
	Parameter    []struct {
		Name  *string `json:"name"`
		Value *string `json:"valueString"`
	} `json:"parameter"`
}

func (p parameters) read() (Translation, error) {
	if p.ResourceType == nil {
		return Translation{}, malformed("it has no resourceType")
	}
	if len(p.Parameter) == 0 {
		return Translation{}, malformed("FhirParameters must have at least one parameter, got none")
	}
	var t Translation
	for i, one := range p.Parameter {
		switch {
		case one.Name == nil || one.Value == nil:
			return Translation{}, malformed("parameter %d has no name or no valueString", i+1)
		case *one.Name == "fq":
			t.Filters = append(t.Filters, *one.Value)
		case *one.Name == "collection" && t.Collection == "":
			t.Collection = *one.Value
		}
	}
	return t, nil
}

// Param is one parameter of a filter, its value decoded.
type Param struct{ Name, Value string }

// SplitFilter reads a filter of the UI: pieces between "&", split at their first "=" (decision 25); the value is
// percent-decoded once, the name is not, and a "+" stays a "+". Empty pieces are skipped; a piece without "=" is a name
// with an empty value.
func SplitFilter(filter string) []Param {
	var params []Param
	for piece := range strings.SplitSeq(filter, "&") {
		if piece == "" {
			continue
		}
		name, value, _ := strings.Cut(piece, "=")
		params = append(params, Param{Name: name, Value: unquote(value)})
	}
	return params
}

// EncodeParams writes a query string: repeated names are grouped at the first of them, and everything that may not stand
// in a form is escaped ("type:not" becomes "type%3Anot", a space "+").
func EncodeParams(params []Param) string {
	var names []string
	values := map[string][]string{}
	for _, p := range params {
		if _, seen := values[p.Name]; !seen {
			names = append(names, p.Name)
		}
		values[p.Name] = append(values[p.Name], p.Value)
	}
	var b strings.Builder
	for _, name := range names {
		for _, value := range values[name] {
			if b.Len() > 0 {
				b.WriteByte('&')
			}
			b.WriteString(url.QueryEscape(name) + "=" + url.QueryEscape(value))
		}
	}
	return b.String()
}

// EncodeFilter is a filter of the UI as the query string that is sent.
func EncodeFilter(filter string) string { return EncodeParams(SplitFilter(filter)) }

// unquote decodes %XX and leaves alone what is no such escape ("100%"), as the old system does; url.PathUnescape would
// fail. Bytes that are no text become the replacement character.
func unquote(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			b.WriteByte(hexValue(s[i+1])<<4 | hexValue(s[i+2]))
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func hexValue(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}
