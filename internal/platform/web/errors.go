package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/fault"
)

// render turns an error into an answer: the one switch from faults to HTTP (system.md 2.8). What is not a fault is ours:
// logged with its cause, told to nobody.
func (s *Server) render(c *gin.Context, err error) {
	if c.Writer.Written() { // a download that broke off: nothing can be said any more
		s.cfg.Log.ErrorContext(c.Request.Context(), "answer broken off", "route", c.FullPath(), "error", err)
		c.Abort()
		return
	}
	status, body := s.answerTo(c, err)
	JSON(c, status, body)
	c.Abort()
}

func (s *Server) answerTo(c *gin.Context, err error) (int, any) {
	var (
		notFound  fault.NotFound
		forbidden fault.Forbidden
		unauth    fault.Unauthenticated
		undecided fault.Undecided
		conflict  fault.Conflict
		refused   fault.Refused
		invalid   *fault.Invalid
		tooLarge  *http.MaxBytesError
	)
	switch {
	case errors.As(err, &invalid):
		return http.StatusBadRequest, orderedErrors{invalid}
	case errors.As(err, &notFound):
		return http.StatusNotFound, detail(notFound.Error())
	case errors.As(err, &forbidden):
		return http.StatusForbidden, detail(forbidden.Error())
	case errors.As(err, &unauth):
		return http.StatusForbidden, detail(unauth.Error())
	case errors.As(err, &undecided):
		retryAfter(c, undecided.RetryAfter)
		return http.StatusServiceUnavailable, detail(undecided.Error())
	case errors.As(err, &conflict):
		return http.StatusConflict, detail(conflict.Error())
	case errors.As(err, &refused):
		retryAfter(c, refused.RetryAfter)
		return refused.Status, refused.Body
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, detail(fmt.Sprintf("The body is larger than the %d bytes that are accepted.", tooLarge.Limit))
	case c.Request.Context().Err() != nil && errors.Is(err, context.Canceled):
		return statusClientClosed, detail("The client closed the request.")
	default:
		s.cfg.Log.ErrorContext(c.Request.Context(), "request failed", "method", c.Request.Method, "route", c.FullPath(), "error", err)
		c.Set(failedKey, true)
		if s.cfg.Failed != nil {
			s.cfg.Failed(c.Request.Context(), c.Request.Method, c.FullPath())
		}
		return http.StatusInternalServerError, detail("A server error occurred.")
	}
}

func retryAfter(c *gin.Context, seconds int) {
	if seconds > 0 {
		c.Header("Retry-After", strconv.Itoa(seconds))
	}
}

const failedKey = "web.failed"

// Failed tells whether the request ended in an error of ours, which nobody foresaw: a 500 that a handler chose is none.
func Failed(c *gin.Context) bool { return c.GetBool(failedKey) }

// statusClientClosed is nginx's number for a client that hung up: no alarm, and nobody reads it.
const statusClientClosed = 499

func detail(text string) map[string]string { return map[string]string{"detail": text} }

func methodNotAllowed(method string) error {
	return fault.Detail(http.StatusMethodNotAllowed, fmt.Sprintf("Method %q not allowed.", method))
}

// orderedErrors renders fault.Invalid with its fields in order.
type orderedErrors struct{ *fault.Invalid }

// MarshalJSON implements json.Marshaler: {"field": ["message", …], …}.
func (e orderedErrors) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, field := range e.Fields() {
		if i > 0 {
			out = append(out, ',')
		}
		name, err := marshal(field)
		if err != nil {
			return nil, err
		}
		messages, err := marshal(e.Messages(field))
		if err != nil {
			return nil, err
		}
		if m, ok := single(e.Messages(field)); ok { // item errors of lists and objects are a map, not a list
			if messages, err = marshal(m); err != nil {
				return nil, err
			}
		}
		out = append(append(append(out, name...), ':'), messages...)
	}
	return append(out, '}'), nil
}

func single(messages []any) (map[string]any, bool) {
	if len(messages) != 1 {
		return nil, false
	}
	m, ok := messages[0].(map[string]any)
	return m, ok
}
