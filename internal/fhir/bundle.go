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

// read hands over each resource; it is false when emit refused one.
func (r *bundleReader) read(emit func(json.RawMessage) bool) (more bool, err error) {
	if err := r.expect('{'); err != nil {
		return false, err
	}
	for first := true; ; first = false {
		end, err := r.ends('}', first)
		if err != nil {
			return false, err
		}
		if end {
			return true, r.check(true)
		}
		if more, err = r.member(emit); err != nil || !more {
			return more, err
		}
	}
}

func (r *bundleReader) member(emit func(json.RawMessage) bool) (more bool, err error) {
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
		return r.entries(emit)
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
			if l.Relation == "next" {
				r.next = l.URL
			}
		}
	}
	return true, nil
}

func (r *bundleReader) entries(emit func(json.RawMessage) bool) (more bool, err error) {
	if err := r.expect('['); err != nil {
		return false, err
	}
	for first := true; ; first = false {
		end, err := r.ends(']', first)
		if err != nil || end {
			return err == nil, err
		}
		var resource []byte
		var outcome bool
		err = r.parse(func(b []byte) (at int, err error) {
			resource, outcome, at, err = entry(b)
			return at, err
		})
		if err != nil {
			return false, err
		}
		if len(resource) == 0 || outcome {
			continue
		}
		if resource[0] != '{' {
			return false, malformed("one of its resources is no object")
		}
		if !emit(resource) {
			return false, nil
		}
	}
}

// entry reads one entry of a Bundle and finds its resource in it, in one pass.
func entry(b []byte) (resource []byte, outcome bool, end int, err error) {
	if b[0] != '{' {
		return nil, false, 0, jsonscan.ErrSyntax
	}
	i := jsonscan.Space(b, 1)
	if i < len(b) && b[i] == '}' {
		return nil, false, i + 1, nil
	}
	for {
		key, at, err := jsonscan.Key(b, i)
		if err != nil {
			return nil, false, at, err
		}
		if i, err = jsonscan.Value(b, at); err != nil {
			return nil, false, i, err
		}
		switch string(key) {
		case "resource":
			resource = b[at:i]
		case "search":
			outcome = isOutcome(b[at:i])
		}
		switch i = jsonscan.Space(b, i); {
		case i >= len(b):
			return nil, false, i, jsonscan.ErrIncomplete
		case b[i] == '}':
			return resource, outcome, i + 1, nil
		case b[i] != ',':
			return nil, false, i, jsonscan.ErrSyntax
		}
		i = jsonscan.Space(b, i+1)
	}
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

// more reads on. What is unread moves to the front; a value that fills the buffer makes it twice as large.
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
	for read := false; !read && r.end == nil; {
		n, err := r.from.Read(r.buf[len(r.buf):cap(r.buf)])
		r.buf = r.buf[:len(r.buf)+n]
		read, r.end = n > 0, err
	}
	if r.end != nil && len(r.buf) == unread {
		return r.end
	}
	return nil
}
