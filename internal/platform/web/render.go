package web

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
)

// JSON answers with v: compact, raw UTF-8, application/json without charset (system.md 2.3). The length is announced, so
// that the answer can be flushed before what must follow it is started.
func JSON(c *gin.Context, status int, v any) {
	body, err := marshal(v)
	if err != nil { // a view that cannot be marshalled is a defect of ours; tests would show it
		status, body = http.StatusInternalServerError, []byte(`{"detail":"A server error occurred."}`)
	}
	c.Header("Content-Type", "application/json")
	c.Header("Content-Length", strconv.Itoa(len(body)))
	c.Status(status)
	_, _ = c.Writer.Write(body)
}

// Empty answers with a status and nothing else.
func Empty(c *gin.Context, status int) {
	c.Status(status)
	if status != http.StatusNoContent {
		c.Header("Content-Length", "0")
	}
	c.Writer.WriteHeaderNow()
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

// Datetime renders a moment as the contract does (system.md 2.4): 2026-11-22T09:00:00Z, with six digits of a second
// where there are any.
type Datetime time.Time

// MarshalJSON implements json.Marshaler.
func (d Datetime) MarshalJSON() ([]byte, error) { return []byte(`"` + d.String() + `"`), nil }

// String is the text between the quotes.
func (d Datetime) String() string {
	t := time.Time(d).UTC()
	if t.Nanosecond()/1000 == 0 {
		return t.Format("2006-01-02T15:04:05Z")
	}
	return t.Format("2006-01-02T15:04:05.000000Z")
}

// DatetimeOf is nil for nil.
func DatetimeOf(t *time.Time) *Datetime {
	if t == nil {
		return nil
	}
	d := Datetime(*t)
	return &d
}

// Millis is the datetime form of sign-in answers and of refusals during a maintenance: at most three digits of a second
// (system.md 2.4).
type Millis time.Time

// MarshalJSON implements json.Marshaler.
func (m Millis) MarshalJSON() ([]byte, error) {
	t := time.Time(m).UTC()
	if t.Nanosecond()/1000 == 0 {
		return []byte(t.Format(`"2006-01-02T15:04:05Z"`)), nil
	}
	return []byte(t.Format(`"2006-01-02T15:04:05.000Z"`)), nil
}
