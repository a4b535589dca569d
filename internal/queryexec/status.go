// Package queryexec is all that the house knows of QueryExecutor: it translates the query of the user interface into a
// job (cohort.md 16), sends, cancels and asks about jobs (cohort.md 18, peers.md 2), and reads the reports that come back
// (cohort.md 19). It also brings stored queries of earlier releases to the present version (cohort.md 25). The tasks of
// cohort, export and access call it, their callback routes, and the operator's command.
//
// It stores nothing, decides nothing about a job's state, never repeats a request, and never lets a filter, an address
// with a query, or a stack trace into a text that people read.
package queryexec

import (
	"encoding/json"
	"strings"
	"unicode/utf8"

	"cohortflow/internal/platform/fault"
)

// Status is a state of a job in our own words, as the contract's columns and answers have it.
type Status string

// The states of cohort.md 14. QueryExecutor never says "new".
const (
	StatusNew         Status = "new"
	StatusPending     Status = "pending"
	StatusLongPending Status = "long_pending"
	StatusStarted     Status = "started"
	StatusFinished    Status = "finished"
	StatusFailed      Status = "failed"
	StatusCancelled   Status = "cancelled"
	StatusUnknown     Status = "unknown"
)

// ParseStatus maps a word of QueryExecutor or the ETL, in any case. Our own words that differ (failed, cancelled, new) are
// none of theirs.
func ParseStatus(word string) (Status, bool) {
	switch strings.ToUpper(word) {
	case "PENDING":
		return StatusPending, true
	case "LONG_PENDING":
		return StatusLongPending, true
	case "STARTED", "RUNNING":
		return StatusStarted, true
	case "FINISHED":
		return StatusFinished, true
	case "ERROR":
		return StatusFailed, true
	case "KILLED":
		return StatusCancelled, true
	case "UNKNOWN":
		return StatusUnknown, true
	}
	return "", false
}

// InvalidStatus refuses a report whose status is none. It unwraps to the 400 that the contract pins; a job that is not
// final yet takes Text as the reason of its failure (cohort.md 8.4, 9.4; decision 10: a final one keeps its result).
type InvalidStatus struct{ Text string }

func (e *InvalidStatus) Error() string { return e.Text }
func (e *InvalidStatus) Unwrap() error { return fault.Text(e.Text) }

// invalidStatus words the refusal as the contract does; an absent or null status is shown as None.
func invalidStatus(raw json.RawMessage) error {
	shown := "None"
	var word string
	switch {
	case len(raw) == 0 || string(raw) == "null":
	case json.Unmarshal(raw, &word) == nil:
		shown = word
	default:
		shown = string(raw)
	}
	return &InvalidStatus{Text: "Bad Request: Invalid job status: " + shorten(shown, 100)}
}

// statusOf reads the status of a report or an answer; raw is nil when the key is absent.
func statusOf(raw json.RawMessage) (Status, error) {
	var word string
	if err := json.Unmarshal(raw, &word); err == nil {
		if status, ok := ParseStatus(word); ok {
			return status, nil
		}
	}
	return "", invalidStatus(raw)
}

// shorten cuts a text after so many bytes, between two characters.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}
