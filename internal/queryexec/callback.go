package queryexec

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"cohortflow/internal/platform/fault"
)

// Payload is the body of a report (cohort.md 19.1), key by key as it came. Keys with dots are literal keys.
type Payload map[string]json.RawMessage

// ReadPayload reads the body of a PATCH. What is no JSON object is a 400.
func ReadPayload(body []byte) (Payload, error) {
	if !json.Valid(body) {
		return nil, fault.Detail(http.StatusBadRequest, "JSON parse error - the body is not valid JSON")
	}
	var p Payload
	if err := json.Unmarshal(body, &p); err != nil || p == nil {
		return nil, fault.Field(fault.NonField, "Invalid data. Expected a dictionary.")
	}
	return p, nil
}

// PayloadOf is a body that somebody decoded already.
func PayloadOf(body map[string]any) (Payload, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("queryexec: read a report: %w", err)
	}
	return ReadPayload(raw)
}

const (
	keyStatus     = "request_job_status"
	keyMessage    = "message"
	keyExtra      = "extra"
	keyGroupID    = "group.id"
	keyGroupCount = "group.count"
)

// value is nil for an absent or null key.
func (p Payload) value(keys ...string) json.RawMessage {
	for _, key := range keys {
		if raw := orNil(p[key]); raw != nil {
			return raw
		}
	}
	return nil
}

// message is the reason of a failure: empty when there is none (decision 21), never a refusal, because a failure whose
// reason is garbled is a failure all the same.
func (p Payload) message() string { return cleanMessage(textOf(p[keyMessage])) }

// CountReport is the end, or a sign of life, of a dated measure (cohort.md 19.2).
type CountReport struct {
	Status Status
	// Of a finished count. Count is never nil then (decision 21).
	Count   *int64
	Minimum *int64 // of an estimate only, and only if reported
	Maximum *int64
	Extra   json.RawMessage // an object; nil when there is none
	Message string          // of a failed count; may be empty
}

// Count reads a report about a dated measure; estimate tells that its mode is Global. An unknown status is an
// *InvalidStatus; other mistakes are faults (400), after which the count goes on waiting.
func (p Payload) Count(estimate bool) (CountReport, error) {
	status, err := statusOf(p[keyStatus])
	if err != nil {
		return CountReport{}, err
	}
	report := CountReport{Status: status}
	switch status {
	case StatusFailed:
		report.Message = p.message()
	case StatusFinished:
		invalid := &fault.Invalid{}
		report.Count = p.number(invalid, "count", "measure")
		if _, given := p["count"]; !given {
			invalid.Add("measure", "This field is required.")
		} else if report.Count == nil && !invalid.Has("measure") {
			invalid.Add("measure", "This field may not be null.")
		}
		if estimate {
			report.Minimum = p.number(invalid, "minimum", "measure_min")
			report.Maximum = p.number(invalid, "maximum", "measure_max")
		}
		report.Extra = p.value(keyExtra)
		if report.Extra != nil && report.Extra[0] != '{' {
			invalid.Add("extra", "Value must be an object.")
		}
		if err := invalid.Err(); err != nil {
			return CountReport{}, err
		}
	}
	return report, nil
}

// CohortReport is what QueryExecutor or the ETL say about a cohort (cohort.md 19.3).
type CohortReport struct {
	Status  Status
	GroupID string // empty: not told; the ETL need not
	Count   *int64 // size of the cohort; nil: not told
	Message string // of a failed creation; may be empty
}

// NoGroup is the reason of a failure when a cohort would be finished without a group: nobody could open it (peers.md Q-21).
const NoGroup = "QueryExecutor made no list of patients for this cohort."

// ReportsCohort tells a report from an ordinary edit of a cohort.
func (p Payload) ReportsCohort() bool {
	for _, key := range []string{keyStatus, keyGroupID, keyGroupCount} {
		if _, there := p[key]; there {
			return true
		}
	}
	return false
}

// Cohort reads a report about a cohort. Errors are as for Count. A success that names the group "-1" or "" (QueryExecutor
// has nowhere to store it) is a failure. Who owns the row must also fail a success without any group when the row has none
// (NoGroup).
func (p Payload) Cohort() (CohortReport, error) {
	if _, there := p[keyStatus]; !there {
		return CohortReport{}, fault.Field(keyStatus, "This field is required.")
	}
	status, err := statusOf(p[keyStatus])
	if err != nil {
		return CohortReport{}, err
	}
	report := CohortReport{Status: status}
	if status == StatusFailed {
		report.Message = p.message()
		return report, nil
	}
	success := status == StatusFinished || status == StatusLongPending
	group, told := p.group()
	if success && told && (group == "" || group == "-1") {
		return CohortReport{Status: StatusFailed, Message: NoGroup}, nil
	}
	invalid := &fault.Invalid{}
	if told && !groupID.MatchString(group) {
		invalid.Add(keyGroupID, "Not a valid string.")
	}
	report.GroupID = group
	report.Count = p.number(invalid, keyGroupCount, keyGroupCount)
	if err := invalid.Err(); err != nil {
		return CohortReport{}, err
	}
	return report, nil
}

// groupID is an id of FHIR: it becomes a part of addresses.
var groupID = regexp.MustCompile(`^[A-Za-z0-9.-]{1,64}$`)

// group reads the group id in both spellings; told is false when there is none.
func (p Payload) group() (id string, told bool) {
	raw := p.value(keyGroupID, "group_id")
	if raw == nil {
		return "", false
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return strings.TrimSpace(s), true
	}
	return string(raw), true // a number as it is; anything else fails the check
}

// StudyReport is the end of a feasibility study (cohort.md 12.2, 19.4).
type StudyReport struct {
	Status  Status
	Count   int64            // of a finished one; 0 when not told
	Sizes   map[string]int64 // patients by the perimeters' cohort id; empty for an empty result
	Message string           // of a failed one; may be empty
}

// StudyReportError refuses a report of which no document can be made. Unlike after the other refusals of a study, its
// owner gets no e-mail (cohort.md 12.2).
type StudyReportError struct{ Text string }

func (e *StudyReportError) Error() string { return e.Text }
func (e *StudyReportError) Unwrap() error { return fault.Text(e.Text) }

// Study reads a report about a feasibility study. Errors are an *InvalidStatus, a *StudyReportError or a fault, all 400.
func (p Payload) Study() (StudyReport, error) {
	status, err := statusOf(p[keyStatus])
	if err != nil {
		return StudyReport{}, err
	}
	report := StudyReport{Status: status}
	switch status {
	case StatusFailed:
		report.Message = p.message()
	case StatusFinished:
		if raw := p.value("count"); raw != nil {
			count, complaint := parseCount(raw)
			if complaint != "" {
				return StudyReport{}, fault.Text("invalid literal for int() with base 10: '" + shorten(textOf(raw), 100) + "'")
			}
			report.Count = count
		}
		if report.Sizes, err = p.sizes(); err != nil {
			return StudyReport{}, err
		}
	}
	return report, nil
}

func (p Payload) sizes() (map[string]int64, error) {
	sizes := map[string]int64{}
	raw := p.value(keyExtra)
	if raw == nil {
		return sizes, nil // an empty result (peers.md Q-18)
	}
	var extra map[string]json.RawMessage
	if err := json.Unmarshal(raw, &extra); err != nil {
		return nil, &StudyReportError{Text: "Error saving feasibility report - `extra` is no object"}
	}
	for key, value := range extra {
		size, complaint := parseCount(value)
		if complaint != "" {
			return nil, &StudyReportError{Text: "Error saving feasibility report - a size in `extra` is no whole number"}
		}
		sizes[key] = size
	}
	return sizes, nil
}

// PerimeterReport is the end of a perimeter's virtual cohort (accesses.md 14.1).
type PerimeterReport struct {
	Status  Status // empty when the body has none: that is then a success
	Ready   bool   // GroupID is to be stored; otherwise nothing changes
	GroupID string
	Count   string // as a text, as the column has it; empty: not told
	Message string // of a failed one; may be empty
}

// Perimeter reads a report about a virtual cohort. Both spellings of its keys are understood, "group.id" and "group_id".
func (p Payload) Perimeter() (PerimeterReport, error) {
	var report PerimeterReport
	if p.value(keyStatus) != nil {
		status, err := statusOf(p[keyStatus])
		if err != nil {
			return PerimeterReport{}, err
		}
		report.Status = status
	}
	if report.Status == StatusFailed {
		report.Message = p.message()
	}
	if report.Status != "" && report.Status != StatusFinished && report.Status != StatusLongPending {
		return report, nil
	}
	group, told := p.group()
	if !told || group == "" || group == "-1" {
		return report, nil
	}
	invalid := &fault.Invalid{}
	if !groupID.MatchString(group) {
		invalid.Add(keyGroupID, "Not a valid string.")
	}
	if raw := p.value(keyGroupCount, "group_count"); raw != nil {
		count, complaint := parseCount(raw)
		if complaint != "" {
			invalid.Add(keyGroupCount, complaint)
		}
		report.Count = strconv.FormatInt(count, 10)
	}
	if err := invalid.Err(); err != nil {
		return PerimeterReport{}, err
	}
	report.Ready, report.GroupID = true, group
	return report, nil
}

// number reads a size; nil when the key is absent, null, or wrong, which is noted under the name of the column.
func (p Payload) number(invalid *fault.Invalid, key, column string) *int64 {
	raw := p.value(key)
	if raw == nil {
		return nil
	}
	n, complaint := parseCount(raw)
	if complaint != "" {
		invalid.Add(column, complaint)
		return nil
	}
	return &n
}

// parseCount reads a number of patients, which comes as a number or a text ("1234", "1234.0").
func parseCount(raw json.RawMessage) (n int64, complaint string) {
	const noInteger = "A valid integer is required."
	s := string(raw)
	var quoted string
	if json.Unmarshal(raw, &quoted) == nil {
		s = strings.TrimSpace(quoted)
	}
	if whole, zeros, dotted := strings.Cut(s, "."); dotted && strings.Trim(zeros, "0") == "" {
		s = whole
	}
	if len(s) > 1000 {
		return 0, "String value too large."
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil && strings.Contains(err.Error(), "out of range") && !strings.HasPrefix(s, "-"):
		return 0, "Ensure this value is less than or equal to 9223372036854775807."
	case err == nil && n < 0, err != nil && strings.Contains(err.Error(), "out of range"):
		return 0, "Ensure this value is greater than or equal to 0."
	case err != nil:
		return 0, noInteger
	}
	return n, ""
}

// textOf is a JSON string, a number as it is written, and nothing for anything else.
func textOf(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var n json.Number
	if json.Unmarshal(raw, &n) == nil {
		return n.String()
	}
	return ""
}

// orNil is nil for what is absent or null.
func orNil(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	return raw
}
