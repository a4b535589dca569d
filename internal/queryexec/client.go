package queryexec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"cohortflow/internal/platform/httpclient"
)

const peer = "query_executor"

// Outcome tells what is certain about a job whose submission failed (decision 30).
type Outcome string

const (
	// OutcomeNotAccepted: QueryExecutor certainly does not have the job, and may take it another time. Whatever the job
	// does, it may be sent again.
	OutcomeNotAccepted Outcome = "not_accepted"
	// OutcomeRejected: QueryExecutor said no. It will say so again.
	OutcomeRejected Outcome = "rejected"
	// OutcomeUnusable: it gave an answer that means nothing. The job fails; should a report come, it had the job.
	OutcomeUnusable Outcome = "unusable"
	// OutcomeUnknown: the request left, and nobody knows. Counts may be sent again; creations never, they wait for a report.
	OutcomeUnknown Outcome = "unknown"
)

// CallError is every failure of a Client. Text is a sentence that may be stored and shown.
type CallError struct {
	Outcome Outcome
	Text    string
	Err     error
}

func (e *CallError) Error() string { return e.Text }
func (e *CallError) Unwrap() error { return e.Err }

// Client speaks to one QueryExecutor. It is safe for concurrent use.
type Client struct {
	log  *slog.Logger
	http *httpclient.Client
	url  string
}

// NewClient checks QUERY_EXECUTOR_URL. It asks nothing. Without an address (commands that need none, as migrate) every call is
// refused.
func NewClient(log *slog.Logger, http *httpclient.Client, address string) (*Client, error) {
	if log == nil || http == nil {
		return nil, errors.New("queryexec: a client needs a logger and an HTTP client")
	}
	if address == "" {
		return &Client{log: log, http: http}, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("queryexec: QUERY_EXECUTOR_URL must be an http or https address without a query")
	}
	return &Client{log: log, http: http, url: strings.TrimRight(address, "/") + "/jobs"}, nil
}

// Accepted is a job that QueryExecutor took. Its status may be final already ("ERROR" in the answer: failed).
type Accepted struct {
	JobID  string // empty in answers without one: the job can then be neither asked about nor cancelled
	Status Status
}

// Submit sends the job once (cohort.md 18.1 to 18.3). Every error is a *CallError.
func (c *Client) Submit(ctx context.Context, job Job) (Accepted, error) {
	if !job.Mode.valid() || job.Body == "" {
		return Accepted{}, &CallError{Outcome: OutcomeRejected, Text: "This is no job."}
	}
	if c.url == "" {
		return Accepted{}, errUnconfigured()
	}
	request := httpclient.Request{Peer: peer, Method: http.MethodPost, URL: c.url + "?" + submitQuery(job.Mode),
		Header: http.Header{"Accept": {"application/json"}}, Body: []byte(job.Body)}
	if job.isJSON() {
		request.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(ctx, request)
	if err != nil {
		return Accepted{}, submitError(err)
	}
	return c.accepted(ctx, resp.Body)
}

// submitQuery names classes of an older job server; QueryExecutor ignores all of it (peers.md 2.2), logs may not.
func submitQuery(mode Mode) string {
	if mode == ModeCreate {
		return "appName=omop-spark-job&classPath=fr.aphp.id.eds.requester.CreateQuery&context=shared&sync=false"
	}
	return "appName=omop-spark-job&classPath=fr.aphp.id.eds.requester.CountQuery&context=shared"
}

// answer is a job object (peers.md 2.5), or the refusal of older job servers.
type answer struct {
	Status  json.RawMessage `json:"status"`
	JobID   json.RawMessage `json:"jobId"`
	Success *bool           `json:"success"`
	ErrMsg  json.RawMessage `json:"err_msg"`
	Result  json.RawMessage `json:"result"`
}

func (c *Client) accepted(ctx context.Context, body []byte) (Accepted, error) {
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return Accepted{}, &CallError{Outcome: OutcomeUnusable, Text: "QueryExecutor gave an answer that cannot be read."}
	}
	if a.Success != nil && !*a.Success {
		return Accepted{}, &CallError{Outcome: OutcomeRejected, Text: orElse(cleanMessage(textOf(a.ErrMsg)), "QueryExecutor refused the job.")}
	}
	status, err := statusOf(a.Status)
	if err != nil {
		return Accepted{}, &CallError{Outcome: OutcomeUnusable, Text: "QueryExecutor gave an answer without a known job status."}
	}
	id := textOf(a.JobID)
	if id == "" {
		c.log.WarnContext(ctx, "QueryExecutor took a job without telling its id", "status", string(status))
	}
	return Accepted{JobID: id, Status: status}, nil
}

// submitError sorts a failure. A gateway that lost its server, or its patience, knows no more than we do.
func submitError(err error) error {
	var failed *httpclient.Error
	if !errors.As(err, &failed) {
		return &CallError{Outcome: OutcomeUnknown, Text: "QueryExecutor could not be asked.", Err: err}
	}
	e := &CallError{Text: sentence(failed), Err: err}
	switch {
	case failed.NotSent():
		e.Outcome = OutcomeNotAccepted
	case failed.OutcomeUnknown():
		e.Outcome = OutcomeUnknown
	case failed.Reason == httpclient.ReasonMalformed:
		e.Outcome = OutcomeUnusable
	case failed.Status == http.StatusBadGateway || failed.Status == http.StatusGatewayTimeout:
		e.Outcome = OutcomeUnknown
	case failed.Status == http.StatusServiceUnavailable || failed.Status == http.StatusTooManyRequests:
		e.Outcome = OutcomeNotAccepted
	default:
		e.Outcome = OutcomeRejected
	}
	return e
}

func sentence(e *httpclient.Error) string {
	switch e.Reason {
	case httpclient.ReasonRefused:
		return "QueryExecutor cannot be reached."
	case httpclient.ReasonTimeout:
		if e.NotSent() {
			return "QueryExecutor cannot be reached."
		}
		return "QueryExecutor did not answer in time."
	case httpclient.ReasonBroken:
		return "The connection to QueryExecutor broke before it answered."
	case httpclient.ReasonCancelled:
		return "The request to QueryExecutor was given up."
	case httpclient.ReasonMalformed:
		return "QueryExecutor gave an answer that cannot be read."
	}
	status := strings.TrimSpace(fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status)))
	switch e.Status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return fmt.Sprintf("QueryExecutor is out of order (%s).", status)
	}
	return fmt.Sprintf("QueryExecutor refused the request (%s).", status)
}

// Cancel asks QueryExecutor to stop a job and tells what became of it: cancelled or finished. The text of an error is
// what stands behind "Error cancelling a … DM job […] - " (cohort.md 15.3, 18.4).
func (c *Client) Cancel(ctx context.Context, jobID string) (Status, error) {
	address, err := c.jobURL(jobID)
	if err != nil {
		return "", err
	}
	resp, err := c.http.Do(ctx, httpclient.Request{Peer: peer, Method: http.MethodDelete, URL: address, Header: http.Header{"Accept": {"application/json"}}})
	var failed *httpclient.Error
	switch {
	case err == nil:
		return cancelled(resp.Body)
	case !errors.As(err, &failed) || failed.Reason != httpclient.ReasonStatus:
		return "", submitError(err)
	case !json.Valid(failed.Body):
		return "", &CallError{Outcome: OutcomeUnusable, Text: fmt.Sprintf("Error with response content: it is not JSON (status %d)", failed.Status), Err: err}
	case failed.Status == http.StatusForbidden:
		return StatusFinished, nil // an older job server's way to say so
	}
	return "", &CallError{Outcome: OutcomeRejected, Text: fmt.Sprintf("Cancel request failed: %d", failed.Status), Err: err}
}

func cancelled(body []byte) (Status, error) {
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return "", &CallError{Outcome: OutcomeUnusable, Text: "Error with response content: it is not the JSON of a job"}
	}
	if textOf(a.Status) == "" {
		return "", &CallError{Outcome: OutcomeUnusable, Text: "`status` is missing in response"}
	}
	status, err := statusOf(a.Status)
	if err != nil || status != StatusCancelled && status != StatusFinished {
		return "", &CallError{Outcome: OutcomeUnusable, Text: "Invalid job status " + shorten(cleanMessage(textOf(a.Status)), 100)}
	}
	return status, nil
}

func errUnconfigured() error {
	return &CallError{Outcome: OutcomeRejected, Text: "QUERY_EXECUTOR_URL is not set."}
}

func (c *Client) jobURL(jobID string) (string, error) {
	if c.url == "" {
		return "", errUnconfigured()
	}
	if jobID == "" || jobID == "." || jobID == ".." || len(jobID) > 256 {
		return "", &CallError{Outcome: OutcomeRejected, Text: "QueryExecutor gave no usable id for this job."}
	}
	return c.url + "/" + url.PathEscape(jobID), nil
}

// JobState is what QueryExecutor says about a job when it is asked (peers.md 2.2, 2.5).
type JobState struct {
	Known  bool   // false: it never had the job, or forgot it in a restart
	Status Status // started, finished, long_pending, failed or cancelled
	// Of a finished job. Count is nil when the answer has no usable number; a count_all has no minimum or maximum here.
	Count   *int64
	GroupID string
	Extra   json.RawMessage
	Message string // of a failed one; may be empty
}

// Status asks about a job. An error means that nothing is known: ask again later.
func (c *Client) Status(ctx context.Context, jobID string) (JobState, error) {
	address, err := c.jobURL(jobID)
	if err != nil {
		return JobState{}, err
	}
	resp, err := c.http.Do(ctx, httpclient.Request{Peer: peer, URL: address, Header: http.Header{"Accept": {"application/json"}}})
	if err != nil {
		var failed *httpclient.Error
		if errors.As(err, &failed) && forgotten(failed) {
			return JobState{}, nil
		}
		return JobState{}, submitError(err)
	}
	return jobState(resp.Body)
}

// forgotten: QueryExecutor answers 500 with a stack trace for an id that it does not know, and for no other reason;
// a 404 counts only as JSON, since a balancer without a server says 404, too.
func forgotten(e *httpclient.Error) bool {
	return e.Status == http.StatusInternalServerError || e.Status == http.StatusNotFound && strings.Contains(e.ContentType, "json")
}

func jobState(body []byte) (JobState, error) {
	unusable := &CallError{Outcome: OutcomeUnusable, Text: "QueryExecutor gave an answer about the job that cannot be read."}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return JobState{}, unusable
	}
	status, err := statusOf(a.Status)
	if err != nil {
		return JobState{}, unusable
	}
	state := JobState{Known: true, Status: status}
	var results []struct {
		Message json.RawMessage `json:"message"`
		GroupID json.RawMessage `json:"group.id"`
		Count   json.RawMessage `json:"count"`
		Extra   json.RawMessage `json:"extra"`
	}
	if json.Unmarshal(a.Result, &results) != nil || len(results) == 0 {
		return state, nil // it is "" or null while there is none
	}
	result := results[0]
	switch status {
	case StatusFinished:
		// A creation that waits for the ETL is listed as finished; the message tells (peers.md 2.5).
		if inner, err := statusOf(result.Message); err == nil && inner == StatusLongPending {
			state.Status = StatusLongPending
		}
		if count, complaint := parseCount(result.Count); complaint == "" {
			state.Count = &count
		}
		state.GroupID, state.Extra = textOf(result.GroupID), orNil(result.Extra)
	case StatusFailed:
		state.Message = cleanMessage(textOf(result.Message))
	}
	return state, nil
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
