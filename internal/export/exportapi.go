package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/httpclient"
)

// API is the third-party export API (exports.md 19, peers.md 5).
type API struct{ remote }

// NewAPI speaks to the API at base, with the token in its own header.
func NewAPI(client *httpclient.Client, base, token string) *API {
	return &API{remote{http: client, peer: "export_api", base: strings.TrimRight(base, "/"), token: token}}
}

// remote is what the export API and the Hadoop API have in common.
type remote struct {
	http  *httpclient.Client
	peer  string
	base  string
	token string
}

// failure is what went wrong with a call, as it may be stored and shown (decision 34).
type failure struct {
	text string
	// notSent: the request certainly did not arrive. unknown: nobody knows.
	notSent, unknown bool
	err              error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

func (r remote) request(method, path string, query url.Values) httpclient.Request {
	address := r.base + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	return httpclient.Request{Peer: r.peer, Method: method, URL: address, Header: http.Header{"Auth-Token": {r.token}, "Accept": {"application/json"}}}
}

// do answers the body of a 2xx answer, or a *failure that tells the body of another one.
func (r remote) do(ctx context.Context, req httpclient.Request) (*httpclient.Response, error) {
	resp, err := r.http.Do(ctx, req)
	if err == nil {
		return resp, nil
	}
	var e *httpclient.Error
	if !errors.As(err, &e) {
		return nil, &failure{text: "the request failed", err: err}
	}
	return nil, &failure{text: r.sentence(e), notSent: e.NotSent(), unknown: e.OutcomeUnknown(), err: err}
}

func (r remote) sentence(e *httpclient.Error) string {
	name := map[string]string{"export_api": "the export API", "hadoop_api": "the Hadoop API"}[r.peer]
	switch e.Reason {
	case httpclient.ReasonRefused:
		return name + " cannot be reached"
	case httpclient.ReasonTimeout:
		return name + " did not answer in time"
	case httpclient.ReasonBroken:
		return "the connection to " + name + " broke"
	case httpclient.ReasonStatus:
		if said := words(e.Body); said != "" {
			return said
		}
		return fmt.Sprintf("%s answered %d %s", name, e.Status, http.StatusText(e.Status))
	}
	return name + " gave an answer that cannot be read"
}

// words are what a system says of its refusal: not a page made for browsers, and bounded.
func words(body []byte) string {
	text := strings.TrimSpace(strings.ToValidUTF8(string(body), "\uFFFD"))
	if strings.HasPrefix(text, "<") {
		return ""
	}
	const longest = 1000
	if r := []rune(text); len(r) > longest {
		text = string(r[:longest]) + "…"
	}
	return text
}

// task reads the id of the task that an answer names.
func (r remote) task(resp *httpclient.Response) (string, error) {
	var answer struct {
		TaskID *string `json:"task_id"`
	}
	if err := json.Unmarshal(resp.Body, &answer); err != nil {
		return "", &failure{text: r.sentence(&httpclient.Error{Reason: httpclient.ReasonMalformed}), err: errors.New("malformed answer")}
	}
	if answer.TaskID == nil || *answer.TaskID == "" {
		return "", &failure{text: "Got an invalid Job ID: `None`"}
	}
	return *answer.TaskID, nil
}

// Launch sends the description of an export (YAML) and answers the id of its task. Errors are *failure.
func (a *API) Launch(ctx context.Context, document []byte) (taskID string, err error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="yaml_file"; filename="yaml_file.yaml"`},
		"Content-Type": {"application/x-yaml"}})
	if err == nil {
		_, err = part.Write(document)
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		return "", fmt.Errorf("write the form: %w", err)
	}
	req := a.request(http.MethodPost, "/yaml", nil)
	req.Header.Set("Content-Type", form.FormDataContentType())
	req.Body = body.Bytes()
	resp, err := a.do(ctx, req)
	if err != nil {
		return "", err
	}
	if resp.Status != http.StatusOK {
		return "", &failure{text: a.sentence(&httpclient.Error{Reason: httpclient.ReasonStatus, Status: resp.Status, Body: resp.Body})}
	}
	return a.task(resp)
}

// status is what a task is in our words, and the event that this means for its export.
type status struct {
	name  string // failed, cancelled, unknown, finished, or what a running one is
	event engine.EventName
}

var statuses = map[string]status{
	"Received": {statusNew, eventReceived}, "Pending": {statusPending, eventQueued}, "Retry": {statusPending, eventQueued},
	"Running": {statusStarted, eventRunning}, "FinishedSuccessfully": {statusFinished, eventDone},
	"FinishedWithError": {statusFailed, eventBroken}, "FinishedWithTimeout": {statusFailed, eventBroken},
	"flowerNotAccessible": {statusFailed, eventBroken}, "Failure": {statusFailed, eventBroken}, "NotFound": {statusFailed, eventBroken},
	"Revoked": {statusCancelled, eventBroken},
}

// logs is the answer to a question about a task, a JSON object as it is. The HTTP status counts only when the server is out
// of order.
func (r remote) logs(ctx context.Context, path, taskID string) (json.RawMessage, error) {
	resp, err := r.do(ctx, r.request(http.MethodGet, path, url.Values{"task_uuid": {taskID}, "return_out_logs": {"True"}, "return_err_logs": {"True"}}))
	var body []byte
	var e *httpclient.Error
	switch {
	case err == nil:
		body = resp.Body
	case errors.As(err, &e) && e.Reason == httpclient.ReasonStatus && e.Status < 500:
		body = e.Body
	default:
		return nil, err
	}
	if body = bytes.TrimSpace(body); !json.Valid(body) || body[0] != '{' {
		return nil, &failure{text: r.sentence(&httpclient.Error{Reason: httpclient.ReasonMalformed})}
	}
	return body, nil
}

// statusWord is the word for the state of a task, "" where an answer has none.
func statusWord(answer json.RawMessage) string {
	var said struct {
		TaskStatus any `json:"task_status"`
	}
	_ = json.Unmarshal(answer, &said)
	word, _ := said.TaskStatus.(string)
	return word
}

func (r remote) status(ctx context.Context, path, taskID string) (status, error) {
	answer, err := r.logs(ctx, path, taskID)
	if err != nil {
		return status{}, err
	}
	if s, ok := statuses[statusWord(answer)]; ok {
		return s, nil
	}
	return status{statusUnknown, eventBroken}, nil
}

// Status asks about a task. Errors are *failure.
func (a *API) Status(ctx context.Context, taskID string) (status, error) {
	return a.status(ctx, "/task_status", taskID)
}

// Logs is all that the API says about a task. Errors are *failure.
func (a *API) Logs(ctx context.Context, taskID string) (json.RawMessage, error) {
	return a.logs(ctx, "/task_status", taskID)
}
