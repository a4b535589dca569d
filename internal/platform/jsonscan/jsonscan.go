// Package jsonscan finds the end of a JSON value in a slice of bytes, and its members, without building anything. The
// FHIR client cuts resources out of pages with it, the built-in exporter takes cells out of resources: both handle millions
// of values of which they need a few fields, where encoding/json reads each byte three times. It never copies, never
// keeps what it is given, and decodes strings only when asked to.
package jsonscan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

var (
	// ErrIncomplete says that the slice ends before the value does.
	ErrIncomplete = errors.New("the JSON ends before its time")
	// ErrSyntax says that this is no JSON.
	ErrSyntax = errors.New("the JSON is malformed")
)

// MaxDepth bounds the nesting of values.
const MaxDepth = 1000

// Space is the position of the first byte from i on that is no white space; len(b) when there is none.
func Space(b []byte, i int) int {
	if i < len(b) && b[i] > ' ' { // as a rule there is none
		return i
	}
	return blanks(b, i)
}

func blanks(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// Value is the end of the value that begins at i, checked strictly. A number that reaches the end of the slice is
// incomplete: more digits might follow.
func Value(b []byte, i int) (end int, err error) { return Nested(b, i, 0) }

// Nested is Value for a value that lies in depth others, which the caller reads itself.
func Nested(b []byte, i, depth int) (end int, err error) {
	if i >= len(b) {
		return i, ErrIncomplete
	}
	switch c := b[i]; {
	case c == '"':
		return String(b, i)
	case c == '{' || c == '[':
		if depth >= MaxDepth {
			return i, ErrSyntax
		}
		if c == '{' {
			return object(b, i, depth+1)
		}
		return array(b, i, depth+1)
	case c == '-' || c >= '0' && c <= '9':
		return number(b, i)
	case c == 't':
		return word(b, i, "true")
	case c == 'f':
		return word(b, i, "false")
	case c == 'n':
		return word(b, i, "null")
	}
	return i, ErrSyntax
}

func object(b []byte, i, depth int) (int, error) {
	if i = Space(b, i+1); i < len(b) && b[i] == '}' {
		return i + 1, nil
	}
	for {
		_, at, err := Key(b, i)
		if err != nil {
			return at, err
		}
		if i, err = Nested(b, at, depth); err != nil {
			return i, err
		}
		var end bool
		if i, end, err = Next(b, i, '}'); err != nil || end {
			return i, err
		}
		i = Space(b, i)
	}
}

func array(b []byte, i, depth int) (int, error) {
	if i = Space(b, i+1); i < len(b) && b[i] == ']' {
		return i + 1, nil
	}
	for {
		var err error
		if i, err = Nested(b, i, depth); err != nil {
			return i, err
		}
		var end bool
		if i, end, err = Next(b, i, ']'); err != nil || end {
			return i, err
		}
		i = Space(b, i)
	}
}

// Next passes the comma after a value, or the closing bracket: then end is true.
func Next(b []byte, i int, closing byte) (at int, end bool, err error) {
	i = Space(b, i)
	switch {
	case i >= len(b):
		return i, false, ErrIncomplete
	case b[i] == closing:
		return i + 1, true, nil
	case b[i] == ',':
		return i + 1, false, nil
	}
	return i, false, ErrSyntax
}

// Key reads the key of a member that begins at i, and where its value begins. The key is without quotes, and decoded where
// it is written with escapes: only then is it no part of b.
func Key(b []byte, i int) (key []byte, at int, err error) {
	if i >= len(b) {
		return nil, i, ErrIncomplete
	}
	if b[i] != '"' {
		return nil, i, ErrSyntax
	}
	for k := i + 1; k < len(b)-2 && b[k] != '\\' && b[k] >= 0x20; k++ { // as a rule keys are short, and nothing is in between
		if b[k] != '"' {
			continue
		}
		if b[k+1] == ':' && b[k+2] > ' ' {
			return b[i+1 : k], k + 2, nil
		}
		break
	}
	end, err := String(b, i)
	if err != nil {
		return nil, end, err
	}
	if key = b[i+1 : end-1]; bytes.IndexByte(key, '\\') >= 0 {
		key = AppendString(nil, b[i:end])
	}
	if i = Space(b, end); i >= len(b) {
		return nil, i, ErrIncomplete
	}
	if b[i] != ':' {
		return nil, i, ErrSyntax
	}
	return key, Space(b, i+1), nil
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// String is the end of the string whose quote is at i.
func String(b []byte, i int) (end int, err error) {
	i++
	for {
		for i+8 <= len(b) { // eight bytes at a time: is one of them a quote, a backslash or a control character?
			w := binary.LittleEndian.Uint64(b[i:])
			q, s := w^(ones*'"'), w^(ones*'\\')
			hit := ((q - ones) &^ q) | ((s - ones) &^ s) | ((w - ones*0x20) &^ w)
			if hit &= highs; hit != 0 {
				i += bits.TrailingZeros64(hit) >> 3
				break
			}
			i += 8
		}
		if i >= len(b) {
			return i, ErrIncomplete
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1, nil
		case c == '\\':
			if i, err = escape(b, i); err != nil {
				return i, err
			}
		case c < 0x20:
			return i, ErrSyntax
		default:
			i++
		}
	}
}

func escape(b []byte, i int) (int, error) {
	if i+1 >= len(b) {
		return i, ErrIncomplete
	}
	switch b[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2, nil
	case 'u':
		if i+6 > len(b) {
			return i, ErrIncomplete
		}
		for _, c := range b[i+2 : i+6] {
			if !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f') {
				return i, ErrSyntax
			}
		}
		return i + 6, nil
	}
	return i, ErrSyntax
}

func number(b []byte, i int) (int, error) {
	if b[i] == '-' {
		i++
	}
	from := i
	if i = digits(b, i); i-from > 1 && b[from] == '0' {
		return i, ErrSyntax
	}
	if i == from && i < len(b) {
		return i, ErrSyntax
	}
	if i < len(b) && b[i] == '.' {
		from = i + 1
		if i = digits(b, from); i == from && i < len(b) {
			return i, ErrSyntax
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		from = i
		if i = digits(b, from); i == from && i < len(b) {
			return i, ErrSyntax
		}
	}
	if i >= len(b) {
		return i, ErrIncomplete
	}
	return i, nil
}

func digits(b []byte, i int) int {
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	return i
}

func word(b []byte, i int, want string) (int, error) {
	for k := range len(want) {
		if i+k >= len(b) {
			return len(b), ErrIncomplete
		}
		if b[i+k] != want[k] {
			return i + k, ErrSyntax
		}
	}
	return i + len(want), nil
}

// Skip is Value for JSON that is known to be well-formed: it only counts brackets. On anything else it ends all the same,
// at a position that means nothing, or with an error.
func Skip(b []byte, i int) (end int, err error) {
	if i >= len(b) {
		return i, ErrIncomplete
	}
	switch b[i] {
	case '"':
		return String(b, i)
	case '{', '[':
	default:
		for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] > ' ' {
			i++
		}
		return i, nil
	}
	for depth := 0; i < len(b); {
		switch b[i] {
		case '"':
			if i, err = String(b, i); err != nil {
				return i, err
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1, nil
			}
		}
		i++
	}
	return i, ErrIncomplete
}

// Members calls f for each member of the object b, in order, until f returns false: its key, see Key, and its value
// without white space around it. b is known to be well-formed: see Skip. What is no object has no members.
func Members(b []byte, f func(key, value []byte) bool) error {
	i := Space(b, 0)
	if i >= len(b) || b[i] != '{' {
		return nil
	}
	if i = Space(b, i+1); i < len(b) && b[i] == '}' {
		return nil
	}
	for {
		key, at, err := Key(b, i)
		if err != nil {
			return err
		}
		end, err := Skip(b, at)
		if err != nil {
			return err
		}
		if !f(key, b[at:end]) {
			return nil
		}
		after, last, err := Next(b, end, '}')
		if err != nil || last {
			return err
		}
		i = Space(b, after)
	}
}

// Elements calls f for each element of the array b, in order, until f returns false. b is known to be well-formed. What is
// no array has no elements.
func Elements(b []byte, f func(element []byte) bool) error {
	i := Space(b, 0)
	if i >= len(b) || b[i] != '[' {
		return nil
	}
	if i = Space(b, i+1); i < len(b) && b[i] == ']' {
		return nil
	}
	for {
		end, err := Skip(b, i)
		if err != nil {
			return err
		}
		if !f(b[i:end]) {
			return nil
		}
		at, last, err := Next(b, end, ']')
		if err != nil || last {
			return err
		}
		i = Space(b, at)
	}
}

// AppendString appends the text of a string value, quotes included in value, to dst.
func AppendString(dst, value []byte) []byte {
	if len(value) < 2 {
		return dst
	}
	text := value[1 : len(value)-1]
	if bytes.IndexByte(text, '\\') < 0 {
		return append(dst, text...)
	}
	for i := 0; i < len(text); {
		from := i
		for i < len(text) && text[i] != '\\' {
			i++
		}
		if dst = append(dst, text[from:i]...); i+1 >= len(text) {
			break
		}
		switch c := text[i+1]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, width := unicodeEscape(text[i:])
			dst, i = utf8.AppendRune(dst, r), i+width
			continue
		default:
			dst = append(dst, c)
		}
		i += 2
	}
	return dst
}

// unicodeEscape reads \uXXXX, or a pair of surrogates.
func unicodeEscape(b []byte) (r rune, width int) {
	code := func(b []byte) rune {
		if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
			return -1
		}
		n, err := strconv.ParseUint(string(b[2:6]), 16, 32)
		if err != nil {
			return -1
		}
		return rune(n)
	}
	if r = code(b); r < 0 {
		return utf8.RuneError, min(len(b), 2)
	}
	if utf16.IsSurrogate(r) {
		if pair := utf16.DecodeRune(r, code(b[6:])); pair != utf8.RuneError {
			return pair, 12
		}
		return utf8.RuneError, 6
	}
	return r, 6
}
