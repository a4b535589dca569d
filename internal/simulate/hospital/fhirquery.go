package hospital

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Param is one key and value of a FHIR search, decoded.
type Param struct{ Key, Value string }

// SplitFilter cuts a filterFhir into its parameters: at &, empty pieces skipped, at the first = (decision 25 of the
// contract), the value percent-decoded once while a + stays a + (contract: peers.md 3.1).
func SplitFilter(filter string) ([]Param, error) {
	var params []Param
	for piece := range strings.SplitSeq(filter, "&") {
		if piece == "" {
			continue
		}
		key, value, ok := strings.Cut(piece, "=")
		if !ok {
			return nil, fmt.Errorf("filter: a parameter has no value")
		}
		if decoded, err := url.PathUnescape(value); err == nil {
			value = decoded
		}
		if decoded, err := url.PathUnescape(key); err == nil {
			key = decoded
		}
		params = append(params, Param{key, value})
	}
	return params, nil
}

// SplitQuery cuts the query of a URL into its parameters, in order.
func SplitQuery(raw string) ([]Param, error) {
	var params []Param
	for piece := range strings.SplitSeq(raw, "&") {
		if piece == "" {
			continue
		}
		key, value, _ := strings.Cut(piece, "=")
		k, err := url.QueryUnescape(key)
		if err != nil {
			return nil, fmt.Errorf("query: %w", err)
		}
		v, err := url.QueryUnescape(value)
		if err != nil {
			return nil, fmt.Errorf("query: %w", err)
		}
		params = append(params, Param{k, v})
	}
	return params, nil
}

// ParseFilter reads a filterFhir.
func (h *Hospital) ParseFilter(k Kind, filter string) (Expr, error) {
	params, err := SplitFilter(filter)
	if err != nil {
		return nil, err
	}
	return h.ParseParams(k, params)
}

// ParseParams reads the parameters of a FHIR search: all must hold; a comma means or. Unknown parameters are kept, and
// refused by Compile.
func (h *Hospital) ParseParams(k Kind, params []Param) (Expr, error) {
	all := And{}
	for _, p := range params {
		e, err := h.parseParam(k, p)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

func (h *Hospital) parseParam(k Kind, p Param) (Expr, error) {
	if p.Key == "_filter" {
		return parseFilterExpression(h, k, p.Value)
	}
	key, modifier, _ := strings.Cut(p.Key, ":")
	var any Or
	for _, value := range splitEscaped(p.Value, ',') {
		any = append(any, h.test(k, key, value))
	}
	switch modifier {
	case "", "contains", "exact", "text":
	case "not":
		return Not{unwrap(any)}, nil
	case "missing":
		if p.Value == "true" {
			return Not{Test{key, Exists, "*"}}, nil
		}
		return Test{key, Exists, "*"}, nil
	default:
		return Test{p.Key, Eq, p.Value}, nil // no field has such a name: Compile refuses it
	}
	return unwrap(any), nil
}

func unwrap(any Or) Expr {
	if len(any) == 1 {
		return any[0]
	}
	return any
}

var prefixed = regexp.MustCompile(`^(eq|ne|gt|ge|lt|le)[-+0-9]`)

// test makes the comparison of a field with one value of a parameter. Of a token only the code counts: which system
// names it uses is a matter of the front-end's configuration.
func (h *Hospital) test(k Kind, key, value string) Expr {
	f := h.Field(k, key)
	ordered := f == nil || f.Kind == Number || f.Kind == Date
	if ordered && prefixed.MatchString(value) {
		return Test{key, Op(value[:2]), value[2:]}
	}
	if f != nil && f.Kind == Token {
		return Test{key, Eq, codeOf(value)}
	}
	return Test{key, Eq, value}
}

// codeOf takes the code out of system|code and the id out of Type/id.
func codeOf(value string) string {
	if i := strings.LastIndexByte(value, '|'); i >= 0 {
		return value[i+1:]
	}
	if kind, id, ok := strings.Cut(value, "/"); ok {
		if _, known := KindOf(kind); known || kind == "Organization" {
			return id
		}
	}
	return value
}

// splitEscaped splits at a separator that no backslash protects, and takes the backslashes before it away.
func splitEscaped(text string, separator byte) []string {
	var parts []string
	var part strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && text[i+1] == separator:
			part.WriteByte(separator)
			i++
		case text[i] == separator:
			parts = append(parts, part.String())
			part.Reset()
		default:
			part.WriteByte(text[i])
		}
	}
	return append(parts, part.String())
}

// filterParser reads the grammar of _filter: path op value, and, or, not, parentheses (contract: clients.md 11).
type filterParser struct {
	h     *Hospital
	k     Kind
	words []string
	depth int
}

// depthMost bounds the parentheses within one another: what is read goes as deep as the text says.
const depthMost = 100

var errDepth = errors.New("the search has too many parentheses within one another")

var filterWord = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|[()]|[^\s()"]+`)

func parseFilterExpression(h *Hospital, k Kind, text string) (Expr, error) {
	p := &filterParser{h: h, k: k, words: filterWord.FindAllString(text, -1)}
	e, err := p.or()
	if err == nil && len(p.words) > 0 {
		err = fmt.Errorf("_filter: %q is too much", p.words[0])
	}
	return e, err
}

func (p *filterParser) peek() string {
	if len(p.words) == 0 {
		return ""
	}
	return p.words[0]
}

func (p *filterParser) next() string {
	word := p.peek()
	if len(p.words) > 0 {
		p.words = p.words[1:]
	}
	return word
}

func (p *filterParser) or() (Expr, error) {
	var any Or
	for {
		e, err := p.and()
		if err != nil {
			return nil, err
		}
		any = append(any, e)
		if p.peek() != "or" {
			return unwrap(any), nil
		}
		p.next()
	}
}

func (p *filterParser) and() (Expr, error) {
	var all And
	for {
		e, err := p.unary()
		if err != nil {
			return nil, err
		}
		all = append(all, e)
		if p.peek() != "and" {
			break
		}
		p.next()
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return all, nil
}

func (p *filterParser) unary() (Expr, error) {
	if p.depth++; p.depth > depthMost {
		return nil, errDepth
	}
	defer func() { p.depth-- }()
	switch word := p.next(); word {
	case "":
		return nil, fmt.Errorf("_filter: it ends too early")
	case "not":
		e, err := p.unary()
		return Not{e}, err
	case "(":
		e, err := p.or()
		if err == nil && p.next() != ")" {
			err = fmt.Errorf("_filter: a parenthesis is not closed")
		}
		return e, err
	default:
		return p.comparison(word)
	}
}

func (p *filterParser) comparison(path string) (Expr, error) {
	op, value := Op(p.next()), p.next()
	if value == "" || value == ")" || value == "(" {
		return nil, fmt.Errorf("_filter: %s is compared with nothing", path)
	}
	switch op {
	case Eq, Ne, Gt, Ge, Lt, Le:
	default:
		return nil, fmt.Errorf("_filter: unknown comparison %q", op)
	}
	value = strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(strings.Trim(value, `"`))
	if value == "*" {
		if op == Ne {
			return Not{Test{path, Exists, "*"}}, nil
		}
		return Test{path, Exists, "*"}, nil
	}
	if f := p.h.Field(p.k, path); f != nil && f.Kind == Token {
		value = codeOf(value)
	}
	return Test{path, op, value}, nil
}
