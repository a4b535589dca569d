package app_test

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// The values that bad requests are made of.

// texts are bad values of parameters.
func (f *forger) texts() []string {
	return []string{"", " ", "null", "undefined", "-1", "0", "00", "1.5", "1e400", "NaN", "2147483648", "-2147483649", "9223372036854775807", "9223372036854775808",
		"-9223372036854775808", "340282366920938463463374607431768211456", "\x00", "a\x00b", "\xff", "\xed\xa0\x80", "..", "../..", "a/b", "%2F", "%00", "%", "_", "\\", "'", "\"",
		"'; DROP TABLE export; --", "é", "\U0001F600", "\u202e", "{}", "[]", "\r\nX-Injected: 1", "0190a0a0-0000-7000-8000-00000000000", "0190a0a0-0000-7000-8000-00000000000g",
		"{0190a0a0-0000-7000-8000-000000000000}", "urn:uuid:0190a0a0-0000-7000-8000-000000000000", "0000-01-01", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00",
		"10000-01-01T00:00:00Z", "2026-02-30", "2026-01-01T25:00:00Z", "2026-01-01T00:00:00+99:99", "-0001-01-01", "infinity", "true", "TRUE", strings.Repeat("x", 3000), strings.Repeat("é", 256),
		",,,", ",", "-", "--name", "name,-name", "last", "finished", "csv", "all", "min", "max", "0x10", "1_000", "١٢"}
}

// literals are bad values of fields, in JSON.
func (f *forger) literals() []string {
	all := []string{"null", "true", "0", "-1", "1.5", "1e400", "-0", "1E5", "2147483648", "9223372036854775808", "-9223372036854775809", "123456789012345678901234567890", `"\u0000"`, `"a\u0000b"`,
		`"\ud800"`, `[]`, `{}`, `[[]]`, `[null]`, `[{}]`, `[1,"a",null,true]`, `{"a":{"b":[1]}}`, `{"\u0000":1}`, `["\u0000"]`, `{"a":"\u0000"}`, `"` + strings.Repeat("x", 300_000) + `"`,
		strings.Repeat("[", 150) + strings.Repeat("]", 150), "[" + strings.Repeat("1,", 20_000) + "1]", `[{"":""}]`, `"{\"_type\":\"request\"}"`}
	for _, text := range append(f.texts(), f.refs...) {
		raw, err := json.Marshal(text)
		if err == nil {
			all = append(all, string(raw))
		}
	}
	return all
}

// queries are documents of the query builder: a sound one, and ones that are not.
func queries() []string {
	criterion := `{"_type":"basicResource","_id":1,"isInclusive":true,"resourceType":"Patient","filterFhir":"active=true"}`
	document := func(request string) string {
		return `{"version":"v1.6.1","_type":"request","sourcePopulation":{"caresiteCohortList":["1"]},"request":` + request + `}`
	}
	group := func(criteria string) string {
		return `{"_type":"andGroup","_id":0,"isInclusive":true,"criteria":[` + criteria + `],"temporalConstraints":[]}`
	}
	nested := criterion
	for range 60 {
		nested = group(nested)
	}
	return []string{document(group(criterion)), document(group("")), document("null"), document("[]"), document("1"), document(`{"_type":"nonsense"}`), document(nested),
		document(group(strings.TrimSuffix(strings.Repeat(criterion+",", 2_000), ","))), document(group(`{"_type":"basicResource","filterFhir":1,"resourceType":[]}`)),
		document(group(`null,1,"a",[]`)), `{"_type":"request"}`, `{"_type":"request","sourcePopulation":[]}`, `{"sourcePopulation":{"caresiteCohortList":{}}}`,
		`{"sourcePopulation":{"caresiteCohortList":[null,{},1e99,"x","\u0000","99999999999999999999"]},"_type":"request","request":null}`, `{`, `[]`, `"a"`, `null`, `{"\u0000":"\u0000"}`}
}

// plausible is what a client of good will might send in a field, in JSON.
func (f *forger) plausible(name string, s *openapi3.Schema) string {
	switch name {
	case "serialized_query":
		return jsonText(pick(f.random, queries()))
	case "output_format":
		return jsonText(pick(f.random, []string{"csv", "xlsx", "hive"}))
	case "request_job_status":
		return jsonText(pick(f.random, []string{"FINISHED", "FAILED", "LONG_PENDING", "finished", "started", "NONSENSE"}))
	case "group.id", "group.count", "count", "minimum", "maximum":
		return pick(f.random, []string{"12", `"12"`, "-1", "99999999999999999999"})
	case "start_datetime", "end_datetime":
		return jsonText(pick(f.random, []string{"2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z"}))
	case "refresh_time":
		return jsonText(pick(f.random, []string{"12:30", "12:30:00", "24:00", "12:60:00+99"}))
	case "refresh_frequency":
		return jsonText(pick(f.random, []string{"daily", "weekly", "monthly", "D"}))
	case "recipients":
		return jsonText(pick(f.random, []string{"bob", "alice,bob", "nobody,nobody", ",,"}))
	case "export_tables":
		return pick(f.random, []string{`[{"table_name":"person","cohort_result_source":"` + pick(f.random, f.refs) + `"}]`, `[{"table_name":1}]`, `[{"table_name":"person","columns":[1],"pivot_merge_columns":{}}]`, `[null]`, `{}`,
			`[{"table_name":"person","cohort_result_source":"` + pick(f.random, f.refs) + `","fhir_filter":"` + pick(f.random, f.refs) + `"},{"table_name":"\u0000"}]`})
	case "fhir_resource":
		return jsonText(pick(f.random, []string{"Patient", "Nonsense"}))
	case "perimeter_id", "profile_id", "role_id":
		return pick(f.random, []string{"1", "2", "3", "-1", "9223372036854775807"})
	case "username":
		return jsonText(pick(f.random, []string{"alice", "bob", "carol", "new/one"}))
	case "password":
		return jsonText("wrong")
	}
	switch {
	case s.Type.Is("boolean"):
		return "true"
	case s.Type.Is("integer"), s.Type.Is("number"):
		return "1"
	case s.Type.Is("array"):
		return "[]"
	case s.Type.Is("object"):
		return `{"a":"b"}`
	case isReference(name):
		return jsonText(pick(f.random, f.refs))
	}
	return jsonText("some text")
}

func isReference(name string) bool {
	return slices.Contains([]string{"dated_measure", "parent_cohort", "request_query_snapshot", "request_snapshot", "parent_folder", "request", "previous_snapshot", "datalab", "infrastructure_provider", "export",
		"cohort_result_source", "fhir_filter"}, name)
}

func jsonText(text string) string {
	raw, err := json.Marshal(text)
	if err != nil { // strings always marshal
		panic(err)
	}
	return string(raw)
}
