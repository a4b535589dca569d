package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/fault"
)

const (
	// MaxBody bounds a request's body: what the existing nginx lets through (system.md 6.1).
	MaxBody = 25 << 20
	// DefaultBodyWithin is how long a body may take to arrive, if Config says nothing: time for a body of MaxBody over a line
	// of 4 Mbit/s. What the fronts send is a thousandth of that.
	DefaultBodyWithin = time.Minute
	// maxDepth bounds the nesting of JSON bodies.
	maxDepth = 200
)

// Object is a decoded body: JSON values, with numbers as json.Number; the values of forms are strings.
type Object map[string]any

const bodyKey = "web.body"

// Body decodes the request's body, once: JSON, a form or multipart (system.md 2.3). An empty body is an empty object; one
// that is no object, or no JSON, is a 400; another content type is a 415.
func Body(c *gin.Context) (Object, error) {
	if o, ok := c.Get(bodyKey); ok {
		return o.(Object), nil
	}
	raw, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, MaxBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, fmt.Errorf("read body: %w", err)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, fault.Detail(http.StatusRequestTimeout, "The body took too long to arrive.")
		}
		return nil, fault.Detail(http.StatusBadRequest, "The body could not be read.")
	}
	o, err := decodeBody(c.GetHeader("Content-Type"), raw)
	if err != nil {
		return nil, err
	}
	c.Set(bodyKey, o)
	return o, nil
}

// hurry gives the client a time in which the body must have arrived, whoever reads it, be it nobody: the server itself waits
// for what a refused client still sends. Headers have a limit of their own, in the server.
func (s *Server) hurry(c *gin.Context) {
	if c.Request.Body == nil || c.Request.Body == http.NoBody {
		return
	}
	line := http.NewResponseController(c.Writer)
	if line.SetReadDeadline(time.Now().Add(s.cfg.BodyWithin)) != nil { // tests without a connection
		return
	}
	c.Request.Body = &timedBody{ReadCloser: c.Request.Body, line: line}
}

// timedBody takes the deadline back when all has arrived: the connection is then watched for a client that hangs up, and
// the end of a deadline would look like one.
type timedBody struct {
	io.ReadCloser
	line *http.ResponseController
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.line.SetReadDeadline(time.Time{})
	}
	return n, err
}

// ReadBody is the body if a handler has decoded it.
func ReadBody(c *gin.Context) (Object, bool) {
	o, ok := c.Get(bodyKey)
	if !ok {
		return nil, false
	}
	return o.(Object), true
}

func decodeBody(contentType string, raw []byte) (Object, error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return Object{}, nil
	}
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil && contentType != "" {
		return nil, unsupported(contentType)
	}
	switch kind {
	case "application/json":
		return decodeJSON(raw)
	case "application/x-www-form-urlencoded":
		return decodeForm(raw)
	case "multipart/form-data":
		return decodeMultipart(raw, params["boundary"])
	}
	return nil, unsupported(contentType)
}

func unsupported(contentType string) error {
	return fault.Detail(http.StatusUnsupportedMediaType, fmt.Sprintf("Unsupported media type %q in request.", contentType))
}

func decodeJSON(raw []byte) (Object, error) {
	v, err := DecodeJSON(raw)
	if err != nil {
		return nil, fault.Detail(http.StatusBadRequest, "JSON parse error - "+err.Error())
	}
	o, ok := v.(map[string]any)
	if !ok {
		return nil, fault.Field(fault.NonField, "Invalid data. Expected a dictionary, but got "+PythonType(v)+".")
	}
	return o, nil
}

// DecodeJSON reads exactly one JSON value, with numbers as json.Number, nested no deeper than is reasonable.
func DecodeJSON(raw []byte) (any, error) {
	if err := checkDepth(raw); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("extra data after the value")
	}
	return v, nil
}

func checkDepth(raw []byte) error {
	depth, inText, escaped := 0, false, false
	for _, b := range raw {
		switch {
		case escaped:
			escaped = false
		case inText:
			escaped, inText = b == '\\', b != '"'
		case b == '"':
			inText = true
		case b == '{', b == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("nested deeper than %d levels", maxDepth)
			}
		case b == '}', b == ']':
			depth--
		}
	}
	return nil
}

// PythonType is the name that the contract's messages give to the type of a decoded value (system.md 2.9).
func PythonType(v any) string {
	switch v := v.(type) {
	case nil:
		return "NoneType"
	case string:
		return "str"
	case bool:
		return "bool"
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return "float"
		}
		return "int"
	case []any:
		return "list"
	}
	return "dict"
}
