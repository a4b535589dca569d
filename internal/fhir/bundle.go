package fhir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

var errEntrySize = errors.New("value too large")

// budget is a reader that fails when too much is read before the budget is renewed: it bounds what the JSON decoder
// holds in memory for one value.
type budget struct {
	from  io.Reader
	whole int
	left  int
}

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errEntrySize
	}
	if len(p) > b.left {
		p = p[:b.left]
	}
	n, err := b.from.Read(p)
	b.left -= n
	return n, err
}

func (b *budget) renew() { b.left = b.whole }

// bundleReader reads one Bundle whose keys may come in any order.
type bundleReader struct {
	budget *budget
	dec    *json.Decoder
	kind   string
	next   string
}

func newBundleReader(body io.Reader, maxEntry int) *bundleReader {
	b := &budget{from: body, whole: maxEntry}
	b.renew()
	return &bundleReader{budget: b, dec: json.NewDecoder(b)}
}

// read hands over each resource; it is false when emit refused one.
func (r *bundleReader) read(emit func(json.RawMessage) bool) (more bool, err error) {
	if err := r.open('{'); err != nil {
		return false, err
	}
	for r.dec.More() {
		r.budget.renew()
		key, err := r.dec.Token()
		if err != nil {
			return false, err
		}
		if more, err = r.member(key, emit); err != nil || !more {
			return more, err
		}
	}
	if _, err := r.dec.Token(); err != nil {
		return false, err
	}
	return true, r.check(true)
}

func (r *bundleReader) member(key json.Token, emit func(json.RawMessage) bool) (more bool, err error) {
	switch key {
	case "resourceType":
		if err := r.dec.Decode(&r.kind); err != nil {
			return false, err
		}
		return true, r.check(false)
	case "link":
		var links []struct{ Relation, URL string }
		if err := r.dec.Decode(&links); err != nil {
			return false, err
		}
		for _, l := range links {
			if l.Relation == "next" {
				r.next = l.URL
			}
		}
		return true, nil
	case "entry":
		return r.entries(emit)
	}
	var ignored json.RawMessage
	return true, r.dec.Decode(&ignored)
}

func (r *bundleReader) entries(emit func(json.RawMessage) bool) (more bool, err error) {
	if err := r.open('['); err != nil {
		return false, err
	}
	for r.dec.More() {
		r.budget.renew()
		var entry struct {
			Resource json.RawMessage
			Search   struct{ Mode string }
		}
		if err := r.dec.Decode(&entry); err != nil {
			return false, err
		}
		if len(entry.Resource) == 0 || entry.Search.Mode == "outcome" {
			continue
		}
		if entry.Resource[0] != '{' {
			return false, malformed("one of its resources is no object")
		}
		if !emit(entry.Resource) {
			return false, nil
		}
	}
	_, err = r.dec.Token()
	return true, err
}

// check refuses what is not a Bundle; at the end also what never said that it is one.
func (r *bundleReader) check(end bool) error {
	if r.kind == "Bundle" || r.kind == "" && !end {
		return nil
	}
	return malformed("it is not a Bundle")
}

func (r *bundleReader) open(want json.Delim) error {
	token, err := r.dec.Token()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("expected %s", want)
	}
	return nil
}
