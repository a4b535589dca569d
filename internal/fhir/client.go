// Package fhir speaks to the FHIR server: it has search filters translated into the index's own (the $query operation, with
// the user's own headers), and it reads resources page by page with a credential of the service. queryexec calls the
// first while it prepares a job; the exporters and the synchronisation of perimeters call the second.
//
// It never keeps what it reads, never repeats a request, and never puts a filter into an error or a log: a FHIR address
// is a question about patients.
package fhir

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"cohortflow/internal/platform/httpclient"
)

const peer = "fhir"

// Auth is what a user's request carried, and what the translation passes on unchanged. The zero value sends nothing:
// virtual cohorts of perimeters have no user (peers.md 3.1). It prints nothing of itself.
type Auth struct {
	Authorization string // the whole header, "Bearer …"
	Method        string // AuthorizationMethod: JWT or OIDC; not sent when empty
	TraceID       string // X-Trace-Id of the user's request; a new one when empty
}

// String hides the token from logs and messages.
func (Auth) String() string { return "[auth]" }

// GoString hides the token from %#v.
func (Auth) GoString() string { return "[auth]" }

// Config is read once, by New.
type Config struct {
	URL         string // FHIR_URL, without a slash at its end
	TestQueries bool   // TEST_FHIR_QUERIES: search with _count=0 before each translation
	// Credential is what Search authenticates with; nil: nothing.
	Credential Credential
	// MaxEntry bounds one resource of a search in bytes: all of it that is held in memory (32 MiB).
	MaxEntry int
	// NewTraceID makes an X-Trace-Id; nil: a random uuid.
	NewTraceID func() string
}

// Client asks one FHIR server. It is safe for concurrent use.
type Client struct {
	http *httpclient.Client
	cfg  Config
	base *url.URL
}

// New checks the configuration. It asks nothing.
func New(http *httpclient.Client, cfg Config) (*Client, error) {
	if http == nil {
		return nil, errors.New("fhir: an HTTP client is needed")
	}
	cfg.URL = strings.TrimRight(cfg.URL, "/")
	base, err := url.Parse(cfg.URL)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, errors.New("fhir: FHIR_URL must be an http or https address")
	}
	if base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("fhir: FHIR_URL must have no query")
	}
	if cfg.MaxEntry < 0 {
		return nil, errors.New("fhir: the size of a resource may not be negative")
	}
	if cfg.MaxEntry == 0 {
		cfg.MaxEntry = 32 << 20
	}
	if cfg.NewTraceID == nil {
		cfg.NewTraceID = uuid.NewString
	}
	return &Client{http: http, cfg: cfg, base: base}, nil
}

// Error is a failure that can be told to the user: its text is a sentence of ours, without filter, address or token.
type Error struct {
	Text   string
	Status int // of the server's answer; 0 when there was none
	Err    error
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Err }

// explain words what went wrong with a request.
func explain(err error) error {
	var failed *httpclient.Error
	if !errors.As(err, &failed) {
		return err
	}
	if failed.Reason == httpclient.ReasonCancelled {
		return fmt.Errorf("fhir: %w", err) // our own doing: nothing to tell a user
	}
	return &Error{Text: sentence(failed), Status: failed.Status, Err: err}
}

func sentence(e *httpclient.Error) string {
	switch {
	case e.Reason == httpclient.ReasonRefused:
		return "The FHIR server cannot be reached."
	case e.Reason == httpclient.ReasonTimeout:
		return "The FHIR server did not answer in time."
	case e.Reason == httpclient.ReasonMalformed:
		return "The FHIR server gave an answer that cannot be read."
	case e.Reason == httpclient.ReasonBroken:
		return "The connection to the FHIR server broke."
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		return fmt.Sprintf("The FHIR server did not accept the credentials (%s).", status(e.Status))
	case e.Status < 500 && e.Status != http.StatusTooManyRequests:
		return fmt.Sprintf("The FHIR server refused the request (%s).", status(e.Status))
	}
	return fmt.Sprintf("The FHIR server is out of order (%s).", status(e.Status))
}

func status(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

func malformed(format string, args ...any) error {
	return &Error{Text: "The FHIR server gave an answer that cannot be used: " + fmt.Sprintf(format, args...) + "."}
}

// resourceName is what may stand in a path.
var resourceName = regexp.MustCompile(`^[A-Za-z]{1,64}$`)

func (c *Client) address(resourceType, operation, query string) (string, error) {
	if !resourceName.MatchString(resourceType) {
		return "", &Error{Text: "This is not the name of a FHIR resource."}
	}
	address := c.cfg.URL + "/" + resourceType + operation
	if query != "" {
		address += "?" + query
	}
	return address, nil
}

// Credential tells the Authorization header of the service, and is asked before each request.
type Credential interface {
	Authorization(ctx context.Context) (string, error)
}
