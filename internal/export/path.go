package export

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"cohortflow/internal/platform/jsonscan"
)

// accessor says where in a FHIR resource a column's value is. It is a small part of FHIRPath, written as in the mapping:
//
//	code.coding.code                    arrays are entered; the first value found counts
//	identifier(type.coding.code=IPP).value   elements that have this value, or contain it with "~" (any case)
//	onsetDateTime|onsetPeriod.start     the first alternative that has a value
//	subject.reference:id                the id of a reference ("Patient/12" is 12, and so is "http://…/Patient/12/_history/3")
//	name.given:all                      all values found, with a blank between them
//	attachment.data:text                the text of base64
//	^id                                 in a table of elements (items, series): of the resource that holds the element
//	'visit'                             a constant
type accessor struct {
	constant     string
	level        int // how many steps up from the innermost element
	alternatives [][]step
	id, all      bool
	base64       bool
	pivot        string // of a response: the link id of the question whose answers are the value
}

// step enters one member; where is nil for all of its elements.
type step struct {
	key   string
	where *condition
}

type condition struct {
	path     []step
	value    string
	contains bool
}

// compileAccessor reads an accessor. A mistake is the programmer's: the mapping is part of the program, and tested.
func compileAccessor(text string) (accessor, error) {
	var a accessor
	if strings.HasPrefix(text, "'") && strings.HasSuffix(text, "'") && len(text) > 2 {
		a.constant = text[1 : len(text)-1]
		return a, nil
	}
	for strings.HasPrefix(text, "^") {
		a.level, text = a.level+1, text[1:]
	}
	if rest, ok := strings.CutSuffix(text, ":id"); ok {
		a.id, text = true, rest
	}
	if rest, ok := strings.CutSuffix(text, ":all"); ok {
		a.all, text = true, rest
	}
	if rest, ok := strings.CutSuffix(text, ":text"); ok {
		a.base64, text = true, rest
	}
	for alternative := range strings.SplitSeq(text, "|") {
		steps, err := compileSteps(alternative)
		if err != nil {
			return a, fmt.Errorf("accessor %q: %w", text, err)
		}
		a.alternatives = append(a.alternatives, steps)
	}
	return a, nil
}

var errAccessor = errors.New("malformed")

func compileSteps(text string) ([]step, error) {
	var steps []step
	for text != "" {
		end := strings.IndexAny(text, ".(")
		if end < 0 {
			end = len(text)
		}
		s := step{key: text[:end]}
		text = text[end:]
		if inside, ok := strings.CutPrefix(text, "("); ok {
			body, after, closed := strings.Cut(inside, ")")
			at := strings.IndexAny(body, "=~")
			if !closed || at < 1 {
				return nil, errAccessor
			}
			path, err := compileSteps(body[:at])
			if err != nil {
				return nil, err
			}
			s.where, text = &condition{path: path, value: body[at+1:], contains: body[at] == '~'}, after
		}
		if s.key == "" {
			return nil, errAccessor
		}
		steps = append(steps, s)
		if text != "" && text[0] != '.' {
			return nil, errAccessor
		}
		text = strings.TrimPrefix(text, ".")
	}
	if steps == nil {
		return nil, errAccessor
	}
	return steps, nil
}

// plain tells whether the first value found at the end of the steps is what counts.
func (a *accessor) plain(steps []step) bool {
	for _, s := range steps {
		if s.where != nil {
			return false
		}
	}
	return !a.all
}

// walk calls found for each scalar at the end of the steps, below value, until it returns false.
func walk(value []byte, steps []step, found func(scalar []byte) bool) (more bool) {
	if len(value) == 0 {
		return true
	}
	if value[0] == '[' {
		more = true
		_ = jsonscan.Elements(value, func(e []byte) bool { // the FHIR client has checked the whole resource
			more = walk(e, steps, found)
			return more
		})
		return more
	}
	if len(steps) == 0 {
		if value[0] == '{' || value[0] == 'n' {
			return true // an object is no value of a cell, nor is null
		}
		return found(value)
	}
	if value[0] != '{' {
		return true
	}
	more = true
	_ = jsonscan.Members(value, func(key, v []byte) bool {
		if string(key) != steps[0].key {
			return true
		}
		more = enter(v, steps, found)
		return false
	})
	return more
}

// enter goes on below the member that the first step names.
func enter(value []byte, steps []step, found func([]byte) bool) bool {
	where, rest := steps[0].where, steps[1:]
	if where == nil {
		return walk(value, rest, found)
	}
	if len(value) > 0 && value[0] == '[' {
		more := true
		_ = jsonscan.Elements(value, func(e []byte) bool {
			if where.holds(e) {
				more = walk(e, rest, found)
			}
			return more
		})
		return more
	}
	if where.holds(value) {
		return walk(value, rest, found)
	}
	return true
}

func (c *condition) holds(element []byte) bool {
	holds := false
	walk(element, c.path, func(scalar []byte) bool {
		text := scalar
		if scalar[0] == '"' {
			if text = scalar[1 : len(scalar)-1]; bytes.IndexByte(text, '\\') >= 0 {
				text = jsonscan.AppendString(nil, scalar)
			}
		}
		if c.contains {
			holds = bytes.Contains(bytes.ToLower(text), []byte(c.value))
		} else {
			holds = string(text) == c.value
		}
		return !holds
	})
	return holds
}

// found is what the reader has found for one alternative: the value itself, or with steps the member that they begin with.
type found struct {
	value []byte
	steps []step
}

// append adds the column's value to dst, and tells whether it is a number.
func (a *accessor) append(dst []byte, alternatives func(i int) (found, bool)) (out []byte, number bool) {
	if a.constant != "" {
		return append(dst, a.constant...), false
	}
	from := len(dst)
	for i := 0; len(dst) == from; i++ {
		f, more := alternatives(i)
		switch {
		case !more:
			return dst, false
		case f.value == nil:
		case a.pivot != "":
			dst, number = a.answers(dst, f.value)
		case f.steps == nil:
			dst, number = appendScalar(dst, f.value)
		default:
			enter(f.value, f.steps, func(scalar []byte) bool {
				if a.all && len(dst) > from {
					dst = append(dst, ' ')
				}
				dst, number = appendScalar(dst, scalar)
				return a.all
			})
			number = number && !a.all
		}
	}
	if a.id {
		dst = keepID(dst, from)
	}
	if a.base64 {
		text, err := base64.StdEncoding.AppendDecode(nil, dst[from:])
		if err == nil { // what is none stays as it is
			dst = append(dst[:from], text...)
		}
	}
	return dst, number
}

// keepID leaves the id of the reference that dst holds from a position on, without the version that it may name.
func keepID(dst []byte, from int) []byte {
	reference := dst[from:]
	if at := bytes.IndexAny(reference, "|#"); at > 0 { // of a canonical address; "#x" is inside of the resource itself
		reference = reference[:at]
	}
	if at := bytes.Index(reference, []byte("/_history/")); at >= 0 {
		reference = reference[:at]
	}
	return append(dst[:from], reference[bytes.LastIndexByte(reference, '/')+1:]...)
}

func appendScalar(dst, scalar []byte) (out []byte, number bool) {
	if scalar[0] == '"' {
		return jsonscan.AppendString(dst, scalar), false
	}
	return append(dst, scalar...), scalar[0] != 't' && scalar[0] != 'f'
}

// answers adds the answers to one question, found among items, with blanks between them. Items may hold further ones, and so
// may the answers to them.
func (a *accessor) answers(dst, items []byte) (out []byte, number bool) {
	from := len(dst)
	var look func(items []byte)
	look = func(items []byte) {
		_ = jsonscan.Elements(items, func(item []byte) bool {
			var link, answer, inner []byte
			_ = jsonscan.Members(item, func(key, v []byte) bool {
				switch string(key) {
				case "linkId":
					link = v
				case "answer":
					answer = v
				case "item":
					inner = v
				}
				return true
			})
			asked := len(link) > 2 && string(jsonscan.AppendString(nil, link)) == a.pivot
			_ = jsonscan.Elements(answer, func(e []byte) bool {
				if asked {
					dst, number = a.answer(dst, from, e)
				}
				look(itemsOf(e))
				return true
			})
			look(inner)
			return true
		})
	}
	look(items)
	return dst, number
}

// itemsOf are the questions that follow an answer; nil: there are none.
func itemsOf(answer []byte) (items []byte) {
	_ = jsonscan.Members(answer, func(key, v []byte) bool {
		if string(key) == "item" {
			items = v
		}
		return items == nil
	})
	return items
}

// answer adds the value of one answer, of whichever kind it is.
func (a *accessor) answer(dst []byte, from int, answer []byte) (out []byte, number bool) {
	for _, steps := range a.alternatives {
		seen := false
		walk(answer, steps, func(scalar []byte) bool {
			single := len(dst) == from
			if !single {
				dst = append(dst, ' ')
			}
			dst, number = appendScalar(dst, scalar)
			number, seen = number && single, true
			return false
		})
		if seen {
			return dst, number
		}
	}
	return dst, false
}
