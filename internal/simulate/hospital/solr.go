package hospital

import (
	"fmt"
	"strings"
)

// Collection is the name of the Solr collection of a resource type.
func Collection(resourceType string) string {
	if resourceType == "" {
		return ""
	}
	return strings.ToLower(resourceType[:1]) + resourceType[1:] + "Aphp"
}

// Solr translates a FHIR search into Solr's filters, as the FHIR server's translation operation does (contract:
// peers.md 3.1): one fq for each parameter, and the one that the server always adds. ParseSolr reads it back.
func (h *Hospital) Solr(k Kind, e Expr) string {
	all, ok := e.(And)
	if !ok {
		all = And{e}
	}
	var out strings.Builder
	for _, part := range append(all, Not{Test{"_security", Eq, noList}}) {
		if out.Len() > 0 {
			out.WriteByte('&')
		}
		out.WriteString("fq=")
		h.writeSolr(&out, k, part, false)
	}
	return out.String()
}

func (h *Hospital) writeSolr(out *strings.Builder, k Kind, e Expr, nested bool) {
	switch e := e.(type) {
	case Test:
		h.writeTest(out, k, e)
	case Not:
		out.WriteByte('-')
		h.writeSolr(out, k, e.Expr, true)
	case And:
		h.writeJoined(out, k, e, " AND ", nested)
	case Or:
		h.writeJoined(out, k, e, " OR ", nested)
	}
}

func (h *Hospital) writeJoined(out *strings.Builder, k Kind, all []Expr, joint string, nested bool) {
	if nested {
		out.WriteByte('(')
	}
	for i, e := range all {
		if i > 0 {
			out.WriteString(joint)
		}
		h.writeSolr(out, k, e, true)
	}
	if nested {
		out.WriteByte(')')
	}
}

func (h *Hospital) writeTest(out *strings.Builder, k Kind, t Test) {
	name, path, phrase := escape(t.Field), false, false
	if f := h.Field(k, t.Field); f != nil {
		name, path, phrase = f.Solr, f.Path, f.Kind == Text
	}
	if t.Op == Ne {
		out.WriteByte('-')
	}
	out.WriteString(name + ":")
	switch {
	case t.Op == Exists:
		out.WriteString("*")
	case t.Op == Ge:
		out.WriteString("[" + t.Value + " TO *]")
	case t.Op == Le:
		out.WriteString("[* TO " + t.Value + "]")
	case t.Op == Gt:
		out.WriteString("{" + t.Value + " TO *}")
	case t.Op == Lt:
		out.WriteString("{* TO " + t.Value + "}")
	case path:
		out.WriteString(`*\|` + escape(t.Value) + `\|*`)
	case phrase || t.Value == "" || strings.Contains(t.Value, "|"):
		out.WriteString(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `&`, `\&`).Replace(t.Value) + `"`)
	case t.Value == "true":
		out.WriteString("(true)")
	default:
		out.WriteString(escape(t.Value))
	}
}

const special = `+-&|!(){}[]^"~*?:\/ `

func escape(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if strings.IndexByte(special, text[i]) >= 0 {
			out.WriteByte('\\')
		}
		out.WriteByte(text[i])
	}
	return out.String()
}

// ParseSolr reads filters in the form that Solr writes, or that others have added to (identifier.value:(a b c)).
func (h *Hospital) ParseSolr(k Kind, filter string) (Expr, error) {
	all := And{}
	for _, part := range splitFilters(filter) {
		if part == "" {
			continue
		}
		text, ok := strings.CutPrefix(part, "fq=")
		if !ok {
			return nil, fmt.Errorf("solr filter: a part does not begin with fq=")
		}
		p := &solrParser{h: h, k: k, rest: text}
		e, err := p.or("")
		if err == nil && strings.TrimSpace(p.rest) != "" {
			err = fmt.Errorf("solr filter: %d characters are too much at the end", len(p.rest))
		}
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// splitFilters splits at the & that no backslash protects, and leaves all backslashes in place.
func splitFilters(text string) []string {
	var parts []string
	from := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '&':
			parts = append(parts, text[from:i])
			from = i + 1
		}
	}
	return append(parts, text[from:])
}

// solrParser reads one filter. Words side by side mean or, as the collections are configured.
type solrParser struct {
	h    *Hospital
	k    Kind
	rest string
	deep int
}

func (p *solrParser) skip(word string) bool {
	rest := strings.TrimLeft(p.rest, " ")
	if !strings.HasPrefix(rest, word) {
		return false
	}
	p.rest = rest[len(word):]
	return true
}

func (p *solrParser) atEnd() bool {
	rest := strings.TrimLeft(p.rest, " ")
	return rest == "" || rest[0] == ')'
}

// or reads alternatives; field is the one that a parenthesis belongs to, if any.
func (p *solrParser) or(field string) (Expr, error) {
	var any Or
	for {
		e, err := p.and(field)
		if err != nil {
			return nil, err
		}
		any = append(any, e)
		if !p.skip("OR ") && p.atEnd() {
			return unwrap(any), nil
		}
	}
}

func (p *solrParser) and(field string) (Expr, error) {
	var all And
	for {
		e, err := p.unary(field)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
		if !p.skip("AND ") {
			break
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return all, nil
}

func (p *solrParser) unary(field string) (Expr, error) {
	if p.deep++; p.deep > depthMost {
		return nil, errDepth
	}
	defer func() { p.deep-- }()
	switch {
	case p.skip("-"), p.skip("NOT "), p.skip("!"):
		e, err := p.unary(field)
		return Not{e}, err
	case p.skip("+"):
		return p.unary(field)
	case p.skip("("):
		e, err := p.or(field)
		if err == nil && !p.skip(")") {
			err = fmt.Errorf("solr filter: a parenthesis is not closed")
		}
		return e, err
	case field != "":
		return p.value(field)
	}
	p.rest = strings.TrimLeft(p.rest, " ")
	name, _ := p.term(":")
	if name == "" || !strings.HasPrefix(p.rest, ":") {
		return nil, fmt.Errorf("solr filter: a field is missing")
	}
	p.rest = p.rest[1:]
	if f := p.h.fieldInSolr(p.k, name); f != nil {
		name = f.Name
	}
	if strings.HasPrefix(p.rest, "(") {
		return p.unary(name)
	}
	return p.value(name)
}

// value reads what a field is compared with: a range, a phrase or a term.
func (p *solrParser) value(field string) (Expr, error) {
	p.rest = strings.TrimLeft(p.rest, " ")
	if p.rest == "" {
		return nil, fmt.Errorf("solr filter: a value is missing")
	}
	switch p.rest[0] {
	case '[', '{':
		return p.interval(field)
	case '"':
		return p.phrase(field)
	}
	value, wild := p.term(" )")
	switch {
	case value == "" && wild == "**":
		return Test{field, Exists, "*"}, nil
	case wild == "":
		return p.h.solrTest(p.k, field, value), nil
	case wild == "**" && len(value) > 1 && value[0] == '|' && value[len(value)-1] == '|':
		return Test{field, Eq, value[1 : len(value)-1]}, nil
	}
	return nil, &Unsupported{Type: p.k.String(), Field: field, Why: "this pattern is not understood"}
}

func (p *solrParser) interval(field string) (Expr, error) {
	open := p.rest[0]
	end := strings.IndexAny(p.rest, "]}")
	if end < 0 {
		return nil, fmt.Errorf("solr filter: an interval is not closed")
	}
	from, to, ok := strings.Cut(p.rest[1:end], " TO ")
	above, below := Ge, Le
	if open == '{' {
		above = Gt
	}
	if p.rest[end] == '}' {
		below = Lt
	}
	p.rest = p.rest[end+1:]
	if !ok {
		return nil, fmt.Errorf("solr filter: an interval has no TO")
	}
	switch {
	case from == "*" && to == "*":
		return Test{field, Exists, "*"}, nil
	case from == "*":
		return Test{field, below, to}, nil
	case to == "*":
		return Test{field, above, from}, nil
	}
	return And{Test{field, above, from}, Test{field, below, to}}, nil
}

func (p *solrParser) phrase(field string) (Expr, error) {
	var out strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '\\':
			i++
			if i < len(p.rest) {
				out.WriteByte(p.rest[i])
			}
		case '"':
			p.rest = p.rest[i+1:]
			return Test{field, Eq, out.String()}, nil
		default:
			out.WriteByte(p.rest[i])
		}
	}
	return nil, fmt.Errorf("solr filter: a phrase is not closed")
}

// term reads up to one of the stop characters, without the backslashes. wild is "**" when a * stands at both ends, "*"
// when one stands elsewhere.
func (p *solrParser) term(stop string) (value, wild string) {
	var out strings.Builder
	i, first, last, stars := 0, false, false, 0
	for ; i < len(p.rest); i++ {
		c := p.rest[i]
		if strings.IndexByte(stop, c) >= 0 {
			break
		}
		last = false
		switch {
		case c == '\\' && i+1 < len(p.rest):
			i++
			out.WriteByte(p.rest[i])
		case c == '*':
			stars++
			first, last = first || i == 0, true
		default:
			out.WriteByte(c)
		}
	}
	p.rest = p.rest[i:]
	switch {
	case stars == 0:
		return out.String(), ""
	case out.Len() == 0 && stars == 1, stars == 2 && first && last:
		return out.String(), "**"
	}
	return out.String(), "*"
}

func (h *Hospital) solrTest(k Kind, field, value string) Expr {
	if f := h.Field(k, field); f != nil && f.Kind == Token {
		return Test{field, Eq, codeOf(value)}
	}
	return Test{field, Eq, value}
}
