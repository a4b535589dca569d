package hospital

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Op compares a field with a value.
type Op string

// The comparisons that searches know: FHIR's prefixes, and "has a value at all".
const (
	Eq     Op = "eq"
	Ne     Op = "ne"
	Gt     Op = "gt"
	Ge     Op = "ge"
	Lt     Op = "lt"
	Le     Op = "le"
	Exists Op = "exists"
)

// Expr is a search in a form that depends on no notation: FHIR's and Solr's are read into it.
type Expr interface{ expr() }

// And, Or and Not combine searches; an empty And is true, an empty Or false. Test compares one field, named as in FHIR.
type (
	And  []Expr
	Or   []Expr
	Not  struct{ Expr Expr }
	Test struct {
		Field string
		Op    Op
		Value string
	}
)

func (And) expr()  {}
func (Or) expr()   {}
func (Not) expr()  {}
func (Test) expr() {}

// Unsupported is the refusal of a search that the hospital cannot answer.
type Unsupported struct{ Type, Field, Why string }

// Error names the field.
func (u *Unsupported) Error() string {
	if u.Why != "" {
		return fmt.Sprintf("cannot search %s by %s: %s", u.Type, u.Field, u.Why)
	}
	return fmt.Sprintf("cannot search %s by %s: unknown parameter", u.Type, u.Field)
}

// Matcher tells whether a row is found by a search.
type Matcher func(row Row) bool

// Compile makes a matcher of a search of one kind of resource. The error is an *Unsupported.
func (h *Hospital) Compile(k Kind, e Expr) (Matcher, error) {
	switch e := e.(type) {
	case Test:
		return h.compileTest(k, e)
	case Not:
		inner, err := h.Compile(k, e.Expr)
		if err != nil {
			return nil, err
		}
		return func(row Row) bool { return !inner(row) }, nil
	case And:
		parts, err := h.compileAll(k, e)
		return func(row Row) bool {
			for _, part := range parts {
				if !part(row) {
					return false
				}
			}
			return true
		}, err
	case Or:
		if m := h.compileAny(k, e); m != nil {
			return m, nil
		}
		parts, err := h.compileAll(k, e)
		return func(row Row) bool {
			for _, part := range parts {
				if part(row) {
					return true
				}
			}
			return false
		}, err
	}
	return nil, &Unsupported{Type: k.String(), Field: "?", Why: "no search"}
}

// compileAny makes one look-up of many alternatives for the same codes, as lists of patients or of perimeters have
// them; nil: it is not of that form.
func (h *Hospital) compileAny(k Kind, any Or) Matcher {
	wanted := make(map[string]struct{}, len(any))
	var f *Field
	for _, e := range any {
		t, ok := e.(Test)
		if !ok || t.Op != Eq {
			return nil
		}
		own := h.Field(k, t.Field)
		if own == nil || own.Kind != Token || f != nil && f != own {
			return nil
		}
		f, wanted[t.Value] = own, struct{}{}
	}
	if f == nil {
		return nil
	}
	return func(row Row) bool {
		for _, have := range f.tokens(row) {
			if _, ok := wanted[have]; ok {
				return true
			}
		}
		return false
	}
}

func (h *Hospital) compileAll(k Kind, all []Expr) ([]Matcher, error) {
	parts := make([]Matcher, len(all))
	for i, e := range all {
		part, err := h.Compile(k, e)
		if err != nil {
			return nil, err
		}
		parts[i] = part
	}
	return parts, nil
}

func (h *Hospital) compileTest(k Kind, t Test) (Matcher, error) {
	f := h.Field(k, t.Field)
	if f == nil {
		return nil, &Unsupported{Type: k.String(), Field: t.Field}
	}
	if t.Op == Exists {
		return f.exists, nil
	}
	switch f.Kind {
	case Token:
		return matchToken(k, t, f)
	case Text:
		if t.Op != Eq {
			return nil, &Unsupported{k.String(), t.Field, "a text has no order"}
		}
		want := strings.ToLower(t.Value)
		return func(row Row) bool { return strings.Contains(strings.ToLower(f.text(row)), want) }, nil
	case Number:
		want, err := strconv.ParseFloat(t.Value, 64)
		if err != nil {
			return nil, &Unsupported{k.String(), t.Field, "the value is not a number"}
		}
		return func(row Row) bool {
			have, ok := f.number(row)
			return ok && holds(t.Op, compare(have, want, want))
		}, nil
	default:
		from, to, err := ParseDate(t.Value)
		if err != nil {
			return nil, &Unsupported{k.String(), t.Field, "the value is not a date"}
		}
		return func(row Row) bool {
			have := f.date(row)
			return have != NoTime && holds(t.Op, compare(have, from, to-1))
		}, nil
	}
}

func matchToken(k Kind, t Test, f *Field) (Matcher, error) {
	if t.Op != Eq && t.Op != Ne {
		return nil, &Unsupported{k.String(), t.Field, "a code has no order"}
	}
	return func(row Row) bool {
		for _, have := range f.tokens(row) {
			if have == t.Value {
				return t.Op == Eq
			}
		}
		return t.Op == Ne
	}, nil
}

// compare says where have lies: -1 before, 0 within, 1 after the closed interval.
func compare[T int64 | float64](have, from, to T) int {
	switch {
	case have < from:
		return -1
	case have > to:
		return 1
	}
	return 0
}

func holds(op Op, c int) bool {
	switch op {
	case Eq:
		return c == 0
	case Ne:
		return c != 0
	case Gt:
		return c > 0
	case Ge:
		return c >= 0
	case Lt:
		return c < 0
	default:
		return c <= 0
	}
}

// ParseDate reads a FHIR date of any precision as the interval [from, to) of Unix seconds that it means.
func ParseDate(text string) (from, to int64, err error) {
	for _, precision := range []struct {
		layout       string
		years, month int
		days         int
		seconds      int64
	}{
		{layout: time.RFC3339, seconds: 1}, {layout: "2006-01-02T15:04:05", seconds: 1}, {layout: "2006-01-02T15:04", seconds: 60},
		{layout: "2006-01-02", days: 1}, {layout: "2006-01", month: 1}, {layout: "2006", years: 1},
	} {
		t, err := time.Parse(precision.layout, text)
		if err == nil {
			return t.Unix(), t.AddDate(precision.years, precision.month, precision.days).Unix() + precision.seconds, nil
		}
	}
	return 0, 0, fmt.Errorf("%q is not a date", text)
}
