package access

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
)

// jsonTree is a JSON document whose objects keep the order of their members, and whose texts and numbers are kept as they
// were written.
type jsonTree struct {
	literal string // a text, number, true, false or null
	keys    []string
	values  map[string]*jsonTree // of an object
	items   []*jsonTree          // of an array, not nil
}

// maxNesting bounds what parseOrdered reads.
const maxNesting = 200

// parseOrdered reads a whole document.
func parseOrdered(text string) (*jsonTree, bool) {
	if !json.Valid([]byte(text)) {
		return nil, false
	}
	return parseValue([]byte(text), maxNesting)
}

func parseValue(raw []byte, depth int) (*jsonTree, bool) {
	raw = bytes.TrimSpace(raw)
	if depth == 0 {
		return nil, false
	}
	if raw[0] != '{' && raw[0] != '[' {
		return &jsonTree{literal: string(raw)}, true
	}
	o := &jsonTree{}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if raw[0] == '{' {
		o.values = map[string]*jsonTree{}
	} else {
		o.items = []*jsonTree{}
	}
	if _, err := decoder.Token(); err != nil {
		return nil, false
	}
	for decoder.More() {
		key := ""
		if o.values != nil {
			token, err := decoder.Token()
			if err != nil {
				return nil, false
			}
			key, _ = token.(string)
		}
		var member json.RawMessage
		if decoder.Decode(&member) != nil {
			return nil, false
		}
		value, ok := parseValue(member, depth-1)
		if !ok {
			return nil, false
		}
		o.put(key, value)
	}
	return o, true
}

func (o *jsonTree) put(key string, value *jsonTree) {
	if o.values == nil {
		o.items = append(o.items, value)
		return
	}
	if _, again := o.values[key]; !again {
		o.keys = append(o.keys, key)
	}
	o.values[key] = value
}

// member is that of an object.
func (o *jsonTree) member(key string) (*jsonTree, bool) {
	value, found := o.values[key]
	return value, found
}

// write writes the document with ", " and ": ".
func (o *jsonTree) write(w io.StringWriter) {
	put := func(parts ...string) { _, _ = w.WriteString(strings.Join(parts, "")) }
	switch {
	case o.values != nil:
		put("{")
		for i, key := range o.keys {
			if i > 0 {
				put(", ")
			}
			quoted, _ := marshalText(key)
			put(string(quoted), ": ")
			o.values[key].write(w)
		}
		put("}")
	case o.items != nil:
		put("[")
		for i, item := range o.items {
			if i > 0 {
				put(", ")
			}
			item.write(w)
		}
		put("]")
	default:
		put(o.literal)
	}
}
