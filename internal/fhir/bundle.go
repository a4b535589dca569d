package fhir

import (
	"encoding/json"
	"errors"
	"io"

	"cohortflow/internal/platform/jsonscan"
)

var errEntrySize = errors.New("value too large")

// bufferSize is what is read at once; a larger value makes the buffer grow.
const bufferSize = 128 << 10

// bundleReader reads one Bundle whose keys may come in any order. It holds one value of it at a time, bounded by max, and
// hands resources over where they lie in its buffer: a page may be large, and there are many.
type bundleReader struct {
	from io.Reader
	buf  []byte
	pos  int // where the unread part of buf begins
	max  int
	end  error // what ended the reading

	kind string
	next string
}

func newBundleReader(body io.Reader, maxEntry int) *bundleReader {
	return &bundleReader{from: body, buf: make([]byte, 0, bufferSize), max: maxEntry}
}

// read hands over each resource; it is false when the scanner has had enough.
func (r *bundleReader) read(to Scanner) (more bool, err error) {
	if err := r.expect('{'); err != nil {
		return false, err
	}
	for first := true; ; first = false {
		end, err := r.ends('}', first)
		if err != nil {
			return false, err
		}
		if end {
			return true, errors.Join(r.check(true), r.nothingMore())
		}
		if more, err = r.member(to); err != nil || !more {
			return more, err
		}
	}
}

func (r *bundleReader) member(to Scanner) (more bool, err error) {
	var key string
	err = r.parse(func(b []byte) (int, error) {
		name, at, err := jsonscan.Key(b, 0)
		key = string(name)
		return at, err
	})
	if err != nil {
		return false, err
	}
	if key == "entry" {
		return r.entries(to)
	}
	value, err := r.value()
	if err != nil {
		return false, err
	}
	switch key {
	case "resourceType":
		if err := json.Unmarshal(value, &r.kind); err != nil {
			return false, err
		}
		return true, r.check(false)
	case "link":
		var links []struct{ Relation, URL string }
		if err := json.Unmarshal(value, &links); err != nil {
			return false, err
		}
		for _, l := range links {
			if l.Relation != "next" {
				continue
			}
			if r.next = l.URL; r.next == "" { // not the end: a part must not be taken for the whole
				return false, malformed("the link to its next page is empty")
			}
		}
	}
	return true, nil
}

func (r *bundleReader) entries(to Scanner) (more bool, err error) {
	if err := r.expect('['); err != nil {
		return false, err
	}
	for first := true; ; first = false {
		end, err := r.ends(']', first)
		if err != nil || end {
			return err == nil, err
		}
		var e entry
		err = r.parse(func(b []byte) (at int, err error) {
			e = entry{}
			return e.read(b, to)
		})
		if err != nil {
			return false, err
		}
		if !e.resource || e.outcome {
			continue
		}
		if !e.object {
			return false, malformed("one of its resources is no object")
		}
		if !to.Keep() {
			return false, nil
		}
	}
}

// entry is what one entry of a Bundle holds.
type entry struct {
	resource bool // there is one
	object   bool // it is an object, and the scanner has read it
	outcome  bool
}

// read reads an entry and lets the scanner read its resource, in one pass.
func (e *entry) read(b []byte, to Scanner) (end int, err error) {
	if b[0] != '{' {
		return 0, jsonscan.ErrSyntax
	}
	i := jsonscan.Space(b, 1)
	if i < len(b) && b[i] == '}' {
		return i + 1, nil
	}
	for {
		key, at, err := jsonscan.Key(b, i)
		if err != nil {
			return at, err
		}
		if i, err = e.member(key, b, at, to); err != nil {
			return i, err
		}
		var last bool
		if i, last, err = jsonscan.Next(b, i, '}'); err != nil || last {
			return i, err
		}
		i = jsonscan.Space(b, i)
	}
}

func (e *entry) member(key, b []byte, at int, to Scanner) (end int, err error) {
	if string(key) == "resource" && at < len(b) {
		e.resource, e.object = true, b[at] == '{'
		if e.object {
			end, err = to.Scan(b[at:])
			return at + end, err
		}
	}
	if end, err = jsonscan.Value(b, at); err == nil && string(key) == "search" {
		e.outcome = isOutcome(b[at:end])
	}
	return end, err
}

// isOutcome looks at the search member of an entry, which is sound JSON by now.
func isOutcome(search []byte) (outcome bool) {
	_ = jsonscan.Members(search, func(key, value []byte) bool {
		if string(key) == "mode" {
			outcome = string(value) == `"outcome"`
		}
		return true
	})
	return outcome
}

// check refuses what is not a Bundle; at the end also what never said that it is one.
func (r *bundleReader) check(end bool) error {
	if r.kind == "Bundle" || r.kind == "" && !end {
		return nil
	}
	return malformed("it is not a Bundle")
}

// nothingMore refuses a page that goes on after the Bundle: what follows may be what was looked for.
func (r *bundleReader) nothingMore() error {
	err := r.parse(func([]byte) (int, error) { return 0, nil })
	switch {
	case err == nil:
		return malformed("a page goes on after its end")
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}

// value is the next value, whole.
func (r *bundleReader) value() (value []byte, err error) {
	err = r.parse(func(b []byte) (int, error) {
		end, err := jsonscan.Value(b, 0)
		value = b[:end]
		return end, err
	})
	return value, err
}

// expect passes an opening bracket.
func (r *bundleReader) expect(want byte) error {
	return r.parse(func(b []byte) (int, error) {
		if b[0] != want {
			return 0, jsonscan.ErrSyntax
		}
		return 1, nil
	})
}

// ends passes the closing bracket, or the comma before the next item.
func (r *bundleReader) ends(closing byte, first bool) (end bool, err error) {
	err = r.parse(func(b []byte) (int, error) {
		switch end = b[0] == closing; {
		case end:
			return 1, nil
		case first:
			return 0, nil
		case b[0] != ',':
			return 0, jsonscan.ErrSyntax
		}
		if i := jsonscan.Space(b, 1); i < len(b) {
			return i, nil
		}
		return 0, jsonscan.ErrIncomplete
	})
	return end, err
}

// parse runs f on what is unread, from the first byte that is no white space, and passes what f took. Where f finds the
// text incomplete, more is read and f runs again.
func (r *bundleReader) parse(f func(b []byte) (taken int, err error)) error {
	for {
		r.pos = jsonscan.Space(r.buf, r.pos)
		if r.pos < len(r.buf) {
			taken, err := f(r.buf[r.pos:])
			if err == nil {
				r.pos += taken
				return nil
			}
			if !errors.Is(err, jsonscan.ErrIncomplete) {
				return err
			}
		}
		if err := r.more(); err != nil {
			return err
		}
	}
}

// more reads on. What is unread moves to the front; a value that fills the buffer makes it twice as large. As much is read
// as is there already: a value is looked at again each time, and a large one must not be for every packet.
func (r *bundleReader) more() error {
	if r.end != nil {
		return r.end
	}
	unread := len(r.buf) - r.pos
	if unread >= r.max {
		return errEntrySize
	}
	if r.pos > 0 {
		r.buf = r.buf[:copy(r.buf[:unread], r.buf[r.pos:])]
		r.pos = 0
	}
	if len(r.buf) > cap(r.buf)/2 {
		r.buf = append(make([]byte, 0, 2*cap(r.buf)), r.buf...)
	}
	for enough := unread + max(unread, 1); len(r.buf) < enough && r.end == nil; {
		n, err := r.from.Read(r.buf[len(r.buf):cap(r.buf)])
		r.buf, r.end = r.buf[:len(r.buf)+n], err
	}
	if r.end != nil && len(r.buf) == unread {
		return r.end
	}
	return nil
}
