package fhir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"cohortflow/internal/platform/httpclient"
	"cohortflow/internal/platform/jsonscan"
)

// Search is a question for many resources.
type Search struct {
	Type     string
	Group    string  // _list: only the patients of this cohort (its group id)
	Filter   string  // a filter of the UI, verbatim; may be empty
	Params   []Param // further parameters, not encoded
	PageSize int     // _count; 0: the server's own
	// Credential replaces the client's own.
	Credential Credential
}

func (s Search) query() string {
	params := append(SplitFilter(s.Filter), s.Params...)
	if s.Group != "" {
		params = append(params, Param{"_list", s.Group})
	}
	if s.PageSize > 0 {
		params = append(params, Param{"_count", strconv.Itoa(s.PageSize)})
	}
	return EncodeParams(params)
}

// Search yields the resources that match, one by one as they arrive, over all pages; a page is read while its resources
// are consumed, so that memory does not grow with their number. After the first error nothing more comes: what was
// yielded before is then a part only, and must not be taken for the whole. A resource is valid until the next one.
// Outcomes (entries with search mode "outcome") are left out.
func (c *Client) Search(ctx context.Context, s Search) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		if err := c.Scan(ctx, s, &whole{yield: yield}); err != nil {
			yield(nil, err)
		}
	}
}

// whole is the scanner that takes resources as they are.
type whole struct {
	resource json.RawMessage
	yield    func(json.RawMessage, error) bool
}

func (w *whole) Scan(b []byte) (end int, err error) {
	end, err = jsonscan.Value(b, 0)
	w.resource = b[:end:end]
	return end, err
}

func (w *whole) Keep() bool { return w.yield(w.resource, nil) }

// Scanner takes resources apart where they lie in the client's buffer, while they are cut out of a page, so that the text
// of a large export is read once instead of twice.
type Scanner interface {
	// Scan reads the object that b begins with, as strictly as jsonscan.Value does and with its errors, and tells where it
	// ends; the rest of the page follows. At jsonscan.ErrIncomplete it is called again for the same resource when more has
	// arrived. b is valid until Keep returns.
	Scan(b []byte) (end int, err error)
	// Keep says that what Scan read last was found by the search; false ends the search. Where Scan is called again without
	// it, what it read last is to be forgotten: it was not whole, or it was an outcome.
	Keep() bool
}

// Scan is Search for those who read the text of resources themselves. It returns nil at the end of the search, also when
// the scanner ended it.
func (c *Client) Scan(ctx context.Context, s Search, to Scanner) error {
	address, err := c.address(s.Type, "", s.query())
	if err != nil {
		return err
	}
	credential := s.Credential
	if credential == nil {
		credential = c.cfg.Credential
	}
	var visited trail
	for more := true; more && address != ""; {
		if !visited.step(address) {
			return malformed("its pages go round in a circle")
		}
		if address, more, err = c.page(ctx, address, credential, to); err != nil {
			return err
		}
	}
	return nil
}

// page reads one page; more is false when the scanner has had enough.
func (c *Client) page(ctx context.Context, address string, credential Credential, to Scanner) (next string, more bool, err error) {
	header := http.Header{"Accept": {"application/fhir+json"}, "X-Trace-Id": {c.cfg.NewTraceID()}}
	if credential != nil {
		authorization, err := credential.Authorization(ctx)
		if err != nil {
			return "", false, err
		}
		if authorization != "" {
			header.Set("Authorization", authorization)
		}
	}
	body, _, err := c.http.Stream(ctx, httpclient.Request{Peer: peer, URL: address, Header: header})
	if err != nil {
		return "", false, explain(err)
	}
	defer body.Close()
	reader := newBundleReader(body, c.cfg.MaxEntry)
	more, err = reader.read(to)
	if err != nil {
		return "", false, explainPage(err)
	}
	if !more || reader.next == "" {
		return "", more, nil
	}
	next, err = c.follow(address, reader.next)
	return next, more, err
}

// follow resolves a next link. It leads only to the server that was asked: the credential goes with it.
func (c *Client) follow(from, link string) (string, error) {
	current, err := url.Parse(from)
	if err != nil {
		return "", malformed("its address cannot be read")
	}
	next, err := current.Parse(link)
	if err != nil {
		return "", malformed("the link to its next page cannot be read")
	}
	if next.Scheme != c.base.Scheme || !sameHost(next, c.base) {
		return "", malformed("the link to its next page leads to another server")
	}
	next.User, next.Fragment = c.base.User, ""
	return next.String(), nil
}

func sameHost(a, b *url.URL) bool {
	return a.Hostname() == b.Hostname() && port(a) == port(b)
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// trail notices a circle of pages of any length while it remembers one address (Brent's algorithm).
type trail struct {
	mark        string
	steps, turn int
}

func (t *trail) step(address string) bool {
	if t.steps > 0 && address == t.mark {
		return false
	}
	if t.steps == t.turn {
		t.mark, t.turn, t.steps = address, max(1, 2*t.turn), 0
	}
	t.steps++
	return true
}

func explainPage(err error) error {
	var told *Error
	var failed *httpclient.Error
	switch {
	case errors.As(err, &told):
		return err
	case errors.As(err, &failed):
		return explain(err)
	case errors.Is(err, errEntrySize):
		return malformed("one of its resources is too large")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return malformed("a page ends before its time")
	}
	return &Error{Text: "The FHIR server gave an answer that cannot be read.", Err: fmt.Errorf("read a page: %w", err)}
}
