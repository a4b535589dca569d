package httpclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
)

// Reason says why an exchange failed. The set is closed: it is a label of metrics.
type Reason string

const (
	// ReasonRefused: it never left (no connection, no such host, an address or a body that cannot be sent).
	ReasonRefused Reason = "refused"
	// ReasonTimeout: the time was up; Error.Sent tells on which side of the sending.
	ReasonTimeout Reason = "timeout"
	// ReasonBroken: the connection broke after the request, or a part of it, had been written.
	ReasonBroken Reason = "broken"
	// ReasonCancelled: our own caller gave up.
	ReasonCancelled Reason = "cancelled"
	// ReasonStatus: an answer with another status than 2xx.
	ReasonStatus Reason = "status"
	// ReasonMalformed: a 2xx answer that cannot be understood, or is too large.
	ReasonMalformed Reason = "malformed"
)

// Error is every failure of this package. Its text may be logged: it holds no query, no credential and no body.
type Error struct {
	Peer   string
	Method string
	URL    string // without user information, query and fragment
	Reason Reason
	Status int  // 0 when there was no answer
	Sent   bool // the request, or a part of it, left the house

	ContentType string
	Body        []byte // of a refusal: its first 64 KiB, for whoever understands them; not to be shown
	Err         error  // the cause, without addresses; may be nil
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s %s: %s", e.Method, e.URL, e.Reason)
	if e.Peer != "" {
		text = e.Peer + ": " + text
	}
	if e.Status != 0 {
		text += fmt.Sprintf(" %d %s", e.Status, http.StatusText(e.Status))
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// NotSent tells that the request certainly did not reach anybody: it may be sent again whatever it does.
func (e *Error) NotSent() bool { return !e.Sent }

// OutcomeUnknown tells that the request left, and that no whole answer says what became of it.
func (e *Error) OutcomeUnknown() bool {
	return e.Sent && (e.Reason == ReasonTimeout || e.Reason == ReasonBroken || e.Reason == ReasonCancelled)
}

var (
	errTimeout  = errors.New("no answer in time")
	errTooLarge = errors.New("the answer is too large")
	errNotJSON  = errors.New("the answer is not the JSON that was expected")
)

func (ex *exchange) error(reason Reason, cause error) *Error {
	return &Error{Peer: ex.peer, Method: ex.method, URL: ex.url, Reason: reason, Status: ex.status,
		Sent: ex.sent.Load() || ex.status != 0, Err: cause}
}

// transportError sorts a failure before the head of an answer came.
func (ex *exchange) transportError(ctx context.Context, err error) *Error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // the wrapping quotes the address
	}
	return ex.error(ex.reasonOf(ctx, err), cause(ctx, err))
}

// bodyError sorts a failure while the body of a 2xx answer came. The status stays in the error: it was an acceptance.
func (ex *exchange) bodyError(ctx context.Context, err error) *Error {
	if errors.Is(err, errTooLarge) || errors.Is(err, errNotJSON) {
		return ex.error(ReasonMalformed, err)
	}
	return ex.error(ex.reasonOf(ctx, err), cause(ctx, err))
}

func (ex *exchange) reasonOf(ctx context.Context, err error) Reason {
	var timed net.Error
	switch {
	case errors.Is(context.Cause(ctx), errTimeout), errors.Is(ctx.Err(), context.DeadlineExceeded):
		return ReasonTimeout
	case ctx.Err() != nil:
		return ReasonCancelled
	case errors.As(err, &timed) && timed.Timeout():
		return ReasonTimeout
	case ex.sent.Load() || ex.status != 0:
		return ReasonBroken
	}
	return ReasonRefused
}

// cause keeps the context's own error in the chain, so that errors.Is(err, context.Canceled) works for callers.
func cause(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errTimeout) {
		return errTimeout
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
