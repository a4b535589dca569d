// Package httpclient is the one HTTP client of the house: whoever speaks to an outside system (FHIR, QueryExecutor, the
// export API, identity servers) does it through a Client that app builds. It bounds time and size, strips what may not be
// read from addresses, and tells in its errors whether a request was certainly not accepted or whether nobody knows.
//
// It never repeats a request, never follows a redirect (which could repeat one elsewhere), and never logs queries,
// headers or bodies. (Go's transport itself sends a GET again over a fresh connection when a kept one turns out to be
// dead; it does the same with other methods only while not a byte was written.)
package httpclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"
)

// Defaults of Config.
const (
	DefaultTimeout = 60 * time.Second // cohort.md 1.2: outbound HTTP timeout
	DefaultMaxBody = 32 << 20
)

const (
	dialTimeout = 10 * time.Second
	// idleTimeout is shorter than the 30 s after which common servers (Jetty, nginx behind a balancer) drop an idle
	// connection: a request that meets the drop has an unknown outcome, which costs a creation its launch.
	idleTimeout = 15 * time.Second
	// keptBody is how much of a refusal's body an Error keeps for its reader.
	keptBody = 64 << 10
)

// Config is read once, by New. A zero field takes its default.
type Config struct {
	Timeout   time.Duration     // of a whole exchange; of a stream: until its head, then between two reads (60 s)
	MaxBody   int64             // bytes of a response body that is read whole (32 MiB)
	UserAgent string            // "cohortflow"
	Transport http.RoundTripper // for tests and unusual networks; nil: one of its own, with the environment's proxies
	Observe   func(Exchange)    // called once at the end of each exchange; nil: nobody
}

// Exchange is what a metrics hook learns: never an address or a body.
type Exchange struct {
	Peer     string
	Method   string
	Status   int    // 0 when there was no answer
	Reason   Reason // empty when it went well
	Duration time.Duration
}

// Client speaks HTTP to the outside systems. It is safe for concurrent use.
type Client struct {
	log  *slog.Logger
	cfg  Config
	http *http.Client
}

// New checks the configuration. It opens nothing.
func New(log *slog.Logger, cfg Config) (*Client, error) {
	if log == nil {
		return nil, errors.New("httpclient: a logger is needed")
	}
	if cfg.Timeout < 0 || cfg.MaxBody < 0 {
		return nil, fmt.Errorf("httpclient: negative limits: timeout %s, body %d", cfg.Timeout, cfg.MaxBody)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "cohortflow"
	}
	if cfg.Transport == nil {
		cfg.Transport = newTransport()
	}
	return &Client{log: log, cfg: cfg, http: &http.Client{
		Transport:     cfg.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        128,
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     idleTimeout,
		TLSHandshakeTimeout: dialTimeout,
	}
}

// Request is one question to an outside system.
type Request struct {
	Peer   string // who is asked, in logs, metrics and errors: "fhir", "query_executor"
	Method string // GET when empty
	URL    string
	Header http.Header
	Body   []byte // sent as it is; nil: none
	// JSON is encoded as the body, with its content type, when Body is nil.
	JSON any
	// Timeout and MaxBody replace those of the client when positive.
	Timeout time.Duration
	MaxBody int64
}

// Response is an answer with a 2xx status whose body was read whole.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends the request once. Everything but a 2xx answer that could be read whole is an *Error.
func (c *Client) Do(ctx context.Context, req Request) (*Response, error) {
	return c.do(ctx, req, func([]byte) error { return nil })
}

// JSON is Do, and decodes the answer into out. An answer that is no JSON of that form is an *Error with ReasonMalformed.
func (c *Client) JSON(ctx context.Context, req Request, out any) error {
	req.Header = req.Header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json")
	}
	_, err := c.do(ctx, req, func(body []byte) error {
		if json.Unmarshal(body, out) != nil { // whose error may quote the body
			return errNotJSON
		}
		return nil
	})
	return err
}

func (c *Client) do(ctx context.Context, req Request, read func(body []byte) error) (*Response, error) {
	ex := c.begin(req)
	ctx, cancel := context.WithTimeoutCause(ctx, orDefault(req.Timeout, c.cfg.Timeout), errTimeout)
	defer cancel()
	resp, err := ex.send(ctx, req)
	if err != nil {
		return nil, ex.end(ctx, err)
	}
	defer resp.Body.Close()
	body, err := readBounded(resp.Body, orDefault(req.MaxBody, c.cfg.MaxBody))
	if err == nil {
		err = read(body)
	}
	if err != nil {
		return nil, ex.end(ctx, ex.bodyError(ctx, err))
	}
	return &Response{Status: resp.StatusCode, Header: resp.Header, Body: body}, ex.end(ctx, nil)
}

// Stream sends the request once and hands over the body of a 2xx answer while it arrives; the caller closes it. The time
// limit holds until the head of the answer has come, and then for each pause between two reads. The body has no size
// limit unless the request gives one: who streams keeps nothing.
func (c *Client) Stream(ctx context.Context, req Request) (io.ReadCloser, http.Header, error) {
	ex := c.begin(req)
	limit := orDefault(req.Timeout, c.cfg.Timeout)
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(limit, func() { cancel(errTimeout) })
	resp, err := ex.send(ctx, req)
	if err != nil {
		timer.Stop()
		err = ex.end(ctx, err)
		cancel(nil)
		return nil, nil, err
	}
	s := &stream{ctx: ctx, cancel: cancel, timer: timer, pause: limit, body: resp.Body, ex: ex, left: req.MaxBody, bounded: req.MaxBody > 0}
	timer.Stop()
	return s, resp.Header, nil
}

// Standard is a plain *http.Client with the same limits and transport, for libraries that want one (OAuth 2.0, OIDC).
// What they send is bounded, but neither observed nor cleaned: their errors are not to be shown.
func (c *Client) Standard() *http.Client {
	return &http.Client{Transport: c.cfg.Transport, Timeout: c.cfg.Timeout, CheckRedirect: c.http.CheckRedirect}
}

// CloseIdle closes the connections that nobody uses; app calls it at the end.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// exchange is one request on its way.
type exchange struct {
	c      *Client
	peer   string
	method string
	url    string // cleaned
	began  time.Time
	sent   atomic.Bool
	status int
	ended  bool
}

func (c *Client) begin(req Request) *exchange {
	return &exchange{c: c, peer: req.Peer, method: method(req), url: CleanURL(req.URL), began: time.Now()}
}

// send returns a 2xx answer, or an *Error.
func (ex *exchange) send(ctx context.Context, req Request) (*http.Response, error) {
	r, err := ex.build(ctx, req)
	if err != nil {
		return nil, ex.error(ReasonRefused, err)
	}
	resp, err := ex.c.http.Do(r)
	if err != nil {
		return nil, ex.transportError(ctx, err)
	}
	ex.status = resp.StatusCode
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	e := ex.error(ReasonStatus, nil)
	e.ContentType = resp.Header.Get("Content-Type")
	e.Body, _ = io.ReadAll(io.LimitReader(resp.Body, keptBody)) // what is missing of a refusal changes nothing
	return nil, e
}

func (ex *exchange) build(ctx context.Context, req Request) (*http.Request, error) {
	body, encoded := req.Body, false
	if body == nil && req.JSON != nil {
		var err error
		if body, err = json.Marshal(req.JSON); err != nil {
			return nil, fmt.Errorf("encode the body: %w", err)
		}
		encoded = true
	}
	// A request counts as sent as soon as its head may have left. The transport asks for a connection again only when
	// nothing was written to the first, which is why that starts anew.
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:      func(string) { ex.sent.Store(false) },
		WroteHeaders: func() { ex.sent.Store(true) },
		WroteRequest: func(httptrace.WroteRequestInfo) { ex.sent.Store(true) },
	})
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, ex.method, req.URL, reader)
	if err != nil {
		return nil, errors.New("the method or address is not valid") // the cause quotes the address
	}
	for name, values := range req.Header {
		r.Header[http.CanonicalHeaderKey(name)] = append([]string(nil), values...)
	}
	if encoded && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", ex.c.cfg.UserAgent)
	}
	return r, nil
}

// end reports the exchange, once.
func (ex *exchange) end(ctx context.Context, err error) error {
	if ex.ended {
		return err
	}
	ex.ended = true
	took := time.Since(ex.began)
	seen := Exchange{Peer: ex.peer, Method: ex.method, Status: ex.status, Duration: took}
	var e *Error
	if errors.As(err, &e) {
		seen.Reason = e.Reason
		ex.c.log.WarnContext(ctx, "outside system failed", "peer", e.Peer, "method", e.Method, "url", e.URL,
			"reason", string(e.Reason), "status", e.Status, "sent", e.Sent, "error", e.Err)
	}
	if ex.c.cfg.Observe != nil {
		ex.c.cfg.Observe(seen)
	}
	return err
}

func method(req Request) string {
	if req.Method == "" {
		return http.MethodGet
	}
	return req.Method
}

func orDefault[T time.Duration | int64](value, otherwise T) T {
	if value > 0 {
		return value
	}
	return otherwise
}

// CleanURL is the address without user information, query and fragment: what may be shown and logged.
func CleanURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(invalid address)"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}
