package queryexec

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of a query document, far above what people make and below what hurts.
const (
	maxDocument = 10 << 20 // bytes: a list of 900,000 patients
	maxDepth    = 200      // objects and lists inside each other
	maxValues   = 500_000  // keys, values and lists together
)

// object is a JSON object that keeps the order of its keys. The other values are what encoding/json makes of them:
// string, bool, nil, json.Number, []any; and int64 where a number was checked.
type object struct {
	keys   []string
	values map[string]any
}

func newObject() *object { return &object{values: map[string]any{}} }

// set keeps the place of a key that is there already.
func (o *object) set(key string, value any) {
	if _, there := o.values[key]; !there {
		o.keys = append(o.keys, key)
	}
	o.values[key] = value
}

func (o *object) remove(key string) {
	delete(o.values, key)
	o.keys = slices.DeleteFunc(o.keys, func(k string) bool { return k == key })
}

// absent keeps the place of a key that is not written.
type absent struct{}

var (
	errNoJSON  = errors.New("it is not valid JSON")
	errTooDeep = errors.New("it is nested too deeply")
	errTooBig  = errors.New("it is too large")
)

// parseDocument reads one JSON value, whose repeated keys take their last value.
func parseDocument(text string) (any, error) {
	if len(text) > maxDocument {
		return nil, errTooBig
	}
	p := &parser{dec: json.NewDecoder(strings.NewReader(text))}
	p.dec.UseNumber()
	value, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := p.dec.Token(); err != io.EOF {
		return nil, errNoJSON
	}
	return value, nil
}

// Population are the groups of patients that a stored query is about, usually the virtual cohorts of perimeters, as texts: old
// documents have numbers, too (schema.md 7.4). It is nil when the query cannot be read.
func Population(serialized string) []string {
	value, err := parseDocument(serialized)
	if err != nil {
		return nil
	}
	document, _ := value.(*object)
	if document == nil {
		return nil
	}
	source, _ := document.values["sourcePopulation"].(*object)
	if source == nil {
		return nil
	}
	list, _ := source.values["caresiteCohortList"].([]any)
	var ids []string
	for _, item := range list {
		id, err := integer(item)
		if err != nil {
			return nil
		}
		ids = append(ids, strconv.FormatInt(id.(int64), 10))
	}
	return ids
}

type parser struct {
	dec  *json.Decoder
	seen int
}

func (p *parser) token() (json.Token, error) {
	if p.seen++; p.seen > maxValues {
		return nil, errTooBig
	}
	token, err := p.dec.Token()
	if err != nil {
		return nil, errNoJSON
	}
	return token, nil
}

func (p *parser) value(depth int) (any, error) {
	token, err := p.token()
	if err != nil {
		return nil, err
	}
	delim, nested := token.(json.Delim)
	if !nested {
		return token, nil
	}
	if depth >= maxDepth {
		return nil, errTooDeep
	}
	if delim == '[' {
		return p.list(depth + 1)
	}
	return p.object(depth + 1)
}

func (p *parser) list(depth int) (any, error) {
	list := []any{}
	for p.dec.More() {
		item, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, item)
	}
	_, err := p.token()
	return list, err
}

func (p *parser) object(depth int) (any, error) {
	o := newObject()
	for p.dec.More() {
		key, err := p.token()
		if err != nil {
			return nil, err
		}
		value, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		o.set(key.(string), value) // the decoder gives nothing else where a key stands
	}
	_, err := p.token()
	return o, err
}

// writer writes JSON, compact unless spaced; ascii escapes what is not ASCII.
type writer struct {
	strings.Builder
	ascii  bool
	spaced bool // a space behind each comma and colon, as stored documents have it that the back-end wrote
}

func (w *writer) separate(sign byte) {
	w.WriteByte(sign)
	if w.spaced {
		w.WriteByte(' ')
	}
}

func (w *writer) value(v any) {
	switch v := v.(type) {
	case nil:
		w.WriteString("null")
	case bool:
		w.WriteString(strconv.FormatBool(v))
	case int64:
		w.WriteString(strconv.FormatInt(v, 10))
	case float64:
		w.WriteString(strconv.FormatFloat(v, 'f', -1, 64))
	case json.Number:
		w.WriteString(v.String())
	case string:
		w.text(v)
	case []any:
		w.WriteByte('[')
		for i, item := range v {
			if i > 0 {
				w.separate(',')
			}
			w.value(item)
		}
		w.WriteByte(']')
	case *object:
		w.object(v)
	}
}

func (w *writer) object(o *object) {
	w.WriteByte('{')
	first := true
	for _, key := range o.keys {
		value := o.values[key]
		if value == (absent{}) {
			continue
		}
		if !first {
			w.separate(',')
		}
		first = false
		w.text(key)
		w.separate(':')
		w.value(value)
	}
	w.WriteByte('}')
}

const hexDigits = "0123456789abcdef"

// text writes a string. encoding/json is not used because it escapes more than QueryExecutor's own store shows today
// (<, >, &), and cannot escape the rest.
func (w *writer) text(s string) {
	w.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			w.WriteByte('\\')
			w.WriteRune(r)
		case r == '\n':
			w.WriteString(`\n`)
		case r == '\r':
			w.WriteString(`\r`)
		case r == '\t':
			w.WriteString(`\t`)
		case r < 0x20 || r == 0x7f:
			w.escape(uint16(r))
		case r < utf8.RuneSelf || !w.ascii:
			w.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			w.escape(uint16(0xd800 + r>>10))
			w.escape(uint16(0xdc00 + r&0x3ff))
		default:
			w.escape(uint16(r))
		}
	}
	w.WriteByte('"')
}

func (w *writer) escape(u uint16) {
	w.WriteString(`\u`)
	for shift := 12; shift >= 0; shift -= 4 {
		w.WriteByte(hexDigits[u>>shift&0xf])
	}
}
