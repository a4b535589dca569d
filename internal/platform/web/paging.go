package web

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/fault"
)

const (
	pageSize = 20
	// maxLimit is what a negative limit means: "everything" (system.md 2.5).
	maxLimit = 30000
)

// Page is the part of a list that is asked for.
type Page struct {
	Limit, Offset int
	// number is the page's number in the numbered pagination, 0 in the other; last asks for the last one.
	number int
	last   bool
}

// PageOf is the envelope of every list.
type PageOf[T any] struct {
	Count    int64   `json:"count"`
	Next     *string `json:"next"`
	Previous *string `json:"previous"`
	Results  []T     `json:"results"`
}

// OffsetPage reads limit and offset (pagination B): nonsense falls back to 20 and 0, a negative limit means 30000.
func OffsetPage(c *gin.Context) Page {
	p := Page{Limit: pageSize}
	if n, err := strconv.Atoi(strings.TrimSpace(c.Query("limit"))); err == nil && n != 0 {
		p.Limit = n
		if n < 0 {
			p.Limit = maxLimit
		}
	}
	if n, err := strconv.Atoi(strings.TrimSpace(c.Query("offset"))); err == nil && n > 0 {
		p.Offset = n
	}
	return p
}

// WholePage is OffsetPage for lists whose clients show what they get and never ask for more: without limit it is everything.
func WholePage(c *gin.Context) Page {
	p := OffsetPage(c)
	if c.Query("limit") == "" {
		p.Limit = maxLimit
	}
	return p
}

// NumberedPage reads page (pagination A), a number from 1 or "last". Whether the page exists is known only once the rows
// are counted: see Fit.
func NumberedPage(c *gin.Context) (Page, error) {
	p := Page{Limit: pageSize, number: 1}
	switch text := c.Query("page"); text {
	case "":
	case "last":
		p.last = true
	default:
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1<<40 {
			return Page{}, errInvalidPage
		}
		p.number, p.Offset = n, (n-1)*pageSize
	}
	return p, nil
}

var errInvalidPage = fault.Detail(404, "Invalid page.")

// Fit settles a numbered page against the number of rows: "last" becomes a number, a page beyond the end is a 404. Stores
// call it between the count and the query of the rows; for pagination B it does nothing.
func (p Page) Fit(total int64) (Page, error) {
	if p.number == 0 {
		return p, nil
	}
	pages := int((total + pageSize - 1) / pageSize)
	if p.last {
		p.number = max(pages, 1)
		p.Offset = (p.number - 1) * pageSize
	}
	if p.number > max(pages, 1) {
		return Page{}, errInvalidPage
	}
	return p, nil
}

// Past tells that no row can be on this page, so that the query for them can be left out.
func (p Page) Past(total int64) bool { return total == 0 || int64(p.Offset) > total }

// Envelope makes the answer of a list. results may be nil.
func Envelope[T any](c *gin.Context, p Page, total int64, results []T) PageOf[T] {
	if results == nil {
		results = []T{}
	}
	e := PageOf[T]{Count: total, Results: results}
	if p.number > 0 {
		last := int((total + pageSize - 1) / pageSize)
		if p.number < last {
			e.Next = link(c, map[string]string{"page": strconv.Itoa(p.number + 1)})
		}
		if p.number == 2 {
			e.Previous = link(c, map[string]string{"page": ""})
		} else if p.number > 2 {
			e.Previous = link(c, map[string]string{"page": strconv.Itoa(p.number - 1)})
		}
		return e
	}
	limit := strconv.Itoa(p.Limit)
	if int64(p.Offset) < total-int64(p.Limit) { // the sum of two numbers of a client's may overflow
		e.Next = link(c, map[string]string{"limit": limit, "offset": strconv.Itoa(p.Offset + p.Limit)})
	}
	if p.Offset > 0 {
		before := ""
		if p.Offset > p.Limit {
			before = strconv.Itoa(p.Offset - p.Limit)
		}
		e.Previous = link(c, map[string]string{"limit": limit, "offset": before})
	}
	return e
}

// link is the absolute URL of the request with some parameters replaced (an empty value removes one). url.Values encodes
// in alphabetical order, which the front-end relies on.
func link(c *gin.Context, replace map[string]string) *string {
	q := url.Values{}
	for name, values := range c.Request.URL.Query() {
		q[name] = values
	}
	for name, value := range replace {
		if value == "" {
			q.Del(name)
		} else {
			q.Set(name, value)
		}
	}
	text := Origin(c) + c.Request.URL.EscapedPath()
	if encoded := q.Encode(); encoded != "" {
		text += "?" + encoded
	}
	return &text
}

// Origin is scheme and host of this server as the client sees it (system.md 2.5).
func Origin(c *gin.Context) string {
	scheme := "http"
	if c.Request.TLS != nil || c.GetHeader("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + c.Request.Host
}
