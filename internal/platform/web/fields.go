package web

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"cohortflow/internal/platform/fault"
)

// Opt is a field of a body: absent, null or a value.
type Opt[T any] struct {
	Set   bool // the key was there and its value is valid
	Null  bool
	Value T
}

// Or is the value, or fallback when the field is absent or null.
func (o Opt[T]) Or(fallback T) T {
	if o.Set && !o.Null {
		return o.Value
	}
	return fallback
}

// Ptr is nil when the field is absent or null.
func (o Opt[T]) Ptr() *T {
	if o.Set && !o.Null {
		return &o.Value
	}
	return nil
}

// Fields validates a body field by field with the contract's messages (system.md 2.9, cohort.md 2.5). Read the fields in
// the order of the representation: errors are rendered in the order in which they are found. Ask Err when all are read.
type Fields struct {
	fault.Invalid
	body    Object
	partial bool
}

// FieldsOf starts validating. A partial body (PATCH) may leave required fields out.
func FieldsOf(body Object, partial bool) *Fields { return &Fields{body: body, partial: partial} }

// Rule restricts a field.
type Rule func(*rules)

type rules struct {
	required, nullable, blank, noTrim bool
	minLen, maxLen                    int
	min, max                          *int64
}

// Required fields must be there, except in a partial body.
func Required(r *rules) { r.required = true }

// Nullable fields may be null.
func Nullable(r *rules) { r.nullable = true }

// Blank texts are allowed.
func Blank(r *rules) { r.blank = true }

// Untrimmed texts keep their outer white space.
func Untrimmed(r *rules) { r.noTrim = true }

// MaxLen bounds a text's length in characters.
func MaxLen(n int) Rule { return func(r *rules) { r.maxLen = n } }

// MinLen bounds a text's length in characters.
func MinLen(n int) Rule { return func(r *rules) { r.minLen = n } }

// Between bounds a whole number, inclusively.
func Between(low, high int64) Rule { return func(r *rules) { r.min, r.max = &low, &high } }

// The messages that services need as well.
const (
	MsgRequired = "This field is required."
	MsgNull     = "This field may not be null."
	MsgBlank    = "This field may not be blank."
)

// Has tells whether the body has the key at all.
func (f *Fields) HasKey(name string) bool { _, ok := f.body[name]; return ok }

// Raw is the value as decoded.
func (f *Fields) Raw(name string) any { return f.body[name] }

// take handles what is the same for all types: absence and null. ok tells that there is a value to look at.
func (f *Fields) take(name string, list []Rule) (v any, r rules, isNull, ok bool) {
	for _, rule := range list {
		rule(&r)
	}
	v, there := f.body[name]
	switch {
	case !there:
		if r.required && !f.partial {
			f.Add(name, MsgRequired)
		}
		return nil, r, false, false
	case v == nil:
		if !r.nullable {
			f.Add(name, MsgNull)
			return nil, r, false, false
		}
		return nil, r, true, false
	}
	return v, r, false, true
}

// String reads a text: trimmed, numbers are taken as they are written, nothing else is.
func (f *Fields) String(name string, list ...Rule) Opt[string] {
	v, r, isNull, ok := f.take(name, list)
	if !ok {
		return Opt[string]{Set: isNull, Null: isNull}
	}
	var text string
	switch v := v.(type) {
	case string:
		text = v
	case json.Number:
		text = v.String()
	default:
		f.Add(name, "Not a valid string.")
		return Opt[string]{}
	}
	if !r.noTrim {
		text = strings.TrimSpace(text)
	}
	length := utf8.RuneCountInString(text)
	switch {
	case strings.ContainsRune(text, 0):
		f.Add(name, "Null characters are not allowed.")
	case text == "" && !r.blank:
		f.Add(name, MsgBlank)
	case r.maxLen > 0 && length > r.maxLen:
		f.Add(name, fmt.Sprintf("Ensure this field has no more than %d characters.", r.maxLen))
	case length < r.minLen && text != "":
		f.Add(name, fmt.Sprintf("Ensure this field has at least %d characters.", r.minLen))
	default:
		return Opt[string]{Set: true, Value: text}
	}
	return Opt[string]{}
}

var (
	trues  = []string{"t", "T", "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", "1"}
	falses = []string{"f", "F", "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", "0", "0.0"}
)

// Bool reads true or false in any of the spellings that the contract accepts.
func (f *Fields) Bool(name string, list ...Rule) Opt[bool] {
	v, _, isNull, ok := f.take(name, list)
	if !ok {
		return Opt[bool]{Set: isNull, Null: isNull}
	}
	if b, isBool := v.(bool); isBool {
		return Opt[bool]{Set: true, Value: b}
	}
	text := ""
	switch v := v.(type) {
	case string:
		text = strings.TrimSpace(v)
	case json.Number:
		text = v.String()
	}
	switch {
	case slices.Contains(trues, text):
		return Opt[bool]{Set: true, Value: true}
	case slices.Contains(falses, text):
		return Opt[bool]{Set: true}
	}
	f.Add(name, "Must be a valid boolean.")
	return Opt[bool]{}
}

// Int reads a whole number, also from a text.
func (f *Fields) Int(name string, list ...Rule) Opt[int64] {
	v, r, isNull, ok := f.take(name, list)
	if !ok {
		return Opt[int64]{Set: isNull, Null: isNull}
	}
	n, valid := WholeNumber(v)
	if !valid {
		f.Add(name, "A valid integer is required.")
		return Opt[int64]{}
	}
	if r.max != nil && n > *r.max {
		f.Add(name, fmt.Sprintf("Ensure this value is less than or equal to %d.", *r.max))
		return Opt[int64]{}
	}
	if r.min != nil && n < *r.min {
		f.Add(name, fmt.Sprintf("Ensure this value is greater than or equal to %d.", *r.min))
		return Opt[int64]{}
	}
	return Opt[int64]{Set: true, Value: n}
}

// WholeNumber takes 12, "12", 12.0 and "12.0" for a whole number; booleans, fractions and everything else are none.
func WholeNumber(v any) (int64, bool) {
	text := ""
	switch v := v.(type) {
	case string:
		text = strings.TrimSpace(v)
	case json.Number:
		text = v.String()
	default:
		return 0, false
	}
	if whole, zeros, found := strings.Cut(text, "."); found && strings.Trim(zeros, "0") == "" {
		text = whole
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	if x, err := strconv.ParseFloat(text, 64); err == nil && x == math.Trunc(x) && math.Abs(x) < 1<<53 {
		return int64(x), true
	}
	return 0, false
}

// Float reads a number, also from a text.
func (f *Fields) Float(name string, list ...Rule) Opt[float64] {
	v, _, isNull, ok := f.take(name, list)
	if !ok {
		return Opt[float64]{Set: isNull, Null: isNull}
	}
	text := ""
	switch v := v.(type) {
	case string:
		text = strings.TrimSpace(v)
	case json.Number:
		text = v.String()
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
		f.Add(name, "A valid number is required.")
		return Opt[float64]{}
	}
	return Opt[float64]{Set: true, Value: x}
}

const msgDatetime = "Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."

// Time reads a moment (system.md 2.4).
func (f *Fields) Time(name string, list ...Rule) Opt[time.Time] {
	v, _, isNull, ok := f.take(name, list)
	if !ok {
		return Opt[time.Time]{Set: isNull, Null: isNull}
	}
	text, isText := v.(string)
	t, valid := ParseDatetime(text)
	if !isText || !valid {
		f.Add(name, msgDatetime)
		return Opt[time.Time]{}
	}
	return Opt[time.Time]{Set: true, Value: t}
}

// Choice reads one of the values.
func (f *Fields) Choice(name string, values []string, list ...Rule) Opt[string] {
	v, _, isNull, ok := f.take(name, list)
	if !ok {
		return Opt[string]{Set: isNull, Null: isNull}
	}
	text, isText := v.(string)
	if !isText || !slices.Contains(values, text) {
		f.Add(name, fmt.Sprintf("%q is not a valid choice.", Display(v)))
		return Opt[string]{}
	}
	return Opt[string]{Set: true, Value: text}
}

// Ref reads a reference to a row with a uuid key, with the messages of cohort.md 2.5. Whether the row exists is the
// service's question: see NoSuchRow.
func (f *Fields) Ref(name string, list ...Rule) Opt[uuid.UUID] {
	if text, isText := f.body[name].(string); isText && strings.TrimSpace(text) == "" {
		f.body[name] = nil // an empty text means null
	}
	v, _, isNull, ok := f.take(name, list)
	if !ok {
		return Opt[uuid.UUID]{Set: isNull, Null: isNull}
	}
	if _, isBool := v.(bool); isBool {
		f.Add(name, "Incorrect type. Expected pk value, received bool.")
		return Opt[uuid.UUID]{}
	}
	id, err := ParseUUID(strings.TrimSpace(Display(v)))
	if err != nil {
		f.Add(name, fmt.Sprintf("“%s” is not a valid UUID.", Display(v)))
		return Opt[uuid.UUID]{}
	}
	return Opt[uuid.UUID]{Set: true, Value: id}
}

// IntRef reads a reference to a row with a numeric key (accesses.md 12.4); outside of Between there is no such row. Whether
// the row exists is the service's question: see NoSuchRow.
func (f *Fields) IntRef(name string, list ...Rule) Opt[int64] {
	if text, isText := f.body[name].(string); isText && strings.TrimSpace(text) == "" {
		f.body[name] = nil // an empty text means null
	}
	v, r, isNull, ok := f.take(name, list)
	if !ok {
		return Opt[int64]{Set: isNull, Null: isNull}
	}
	id, valid := WholeNumber(v)
	if !valid {
		f.Add(name, "Incorrect type. Expected pk value, received "+PythonType(v)+".")
		return Opt[int64]{}
	}
	if r.max != nil && (id < *r.min || id > *r.max) {
		f.Add(name, NoSuchRow(id))
		return Opt[int64]{}
	}
	return Opt[int64]{Set: true, Value: id}
}

// NoSuchRow is the message about a reference to a row that does not exist, or not for this caller.
func NoSuchRow(id any) string { return fmt.Sprintf("Invalid pk \"%v\" - object does not exist.", id) }

// Display writes a decoded value into a message, no longer than is readable.
func Display(v any) string {
	text, isText := v.(string)
	if !isText {
		raw, _ := marshal(v)
		text = string(raw)
	}
	if utf8.RuneCountInString(text) > 200 {
		text = string([]rune(text)[:200]) + "…"
	}
	return text
}
