package mail

import (
	"bytes"
	"regexp"
	"strings"
)

// What the templates of existing sites contain and pongo2 does not know is rewritten when a file is read
// (contract: system.md 15.3, exports.md 27).
var (
	helmLiteral = regexp.MustCompile("\\{\\{-?\\s*`([^`]*)`\\s*-?\\}\\}")
	loadTag     = regexp.MustCompile(`\{%-?\s*load\s[^%]*%\}`)
	staticTag   = regexp.MustCompile(`\{%-?\s*static\s+["']([^"']*)["']\s*-?%\}`)
	dateFilter  = regexp.MustCompile(`\|\s*date\s*:\s*("([^"]*)"|'([^']*)')`)
	extendsTag  = regexp.MustCompile(`\{%-?\s*extends\s+["']([^"']*)["']\s*-?%\}`)
	blockOpens  = regexp.MustCompile(`\{%-?\s*block\s+\w+\s*-?%\}`)
	blockCloses = regexp.MustCompile(`\{%-?\s*endblock(\s+\w+)?\s*-?%\}`)
)

// translate makes a Django template of a site one that pongo2 reads. exists tells which templates there are.
func translate(name string, source []byte, staticURL string, exists func(string) bool) []byte {
	source = bytes.TrimPrefix(source, []byte("\ufeff"))
	source = helmLiteral.ReplaceAll(source, []byte("$1"))
	source = loadTag.ReplaceAll(source, nil)
	source = staticTag.ReplaceAllFunc(source, func(tag []byte) []byte {
		return []byte(staticURL + string(staticTag.FindSubmatch(tag)[1]))
	})
	source = dateFilter.ReplaceAllFunc(source, func(filter []byte) []byte {
		parts := dateFilter.FindSubmatch(filter)
		return []byte(`|date:"` + goLayout(string(parts[2])+string(parts[3])) + `"`)
	})
	if strings.HasSuffix(name, ".txt") {
		source = plain(source, exists)
	}
	return source
}

// plain turns escaping off in a text template: in the whole of it or, where it extends another, in each of its blocks,
// since nothing may stand before an extends. A text that extends the HTML base (one of the existing ones does) is given
// the text base instead.
func plain(source []byte, exists func(string) bool) []byte {
	source = blockOpens.ReplaceAll(source, []byte("${0}{% autoescape off %}"))
	source = blockCloses.ReplaceAll(source, []byte("{% endautoescape %}${0}"))
	if !extendsTag.Match(source) {
		return append([]byte("{% autoescape off %}"), append(source, "{% endautoescape %}"...)...)
	}
	return extendsTag.ReplaceAllFunc(source, func(tag []byte) []byte {
		base := string(extendsTag.FindSubmatch(tag)[1])
		if text := strings.TrimSuffix(base, ".html") + ".txt"; strings.HasSuffix(base, ".html") && exists(text) {
			return []byte(`{% extends "` + text + `" %}`)
		}
		return tag
	})
}

// goLayouts maps the letters of Django's date format to Go's.
var goLayouts = map[rune]string{
	'd': "02", 'j': "2", 'D': "Mon", 'l': "Monday",
	'm': "01", 'n': "1", 'M': "Jan", 'F': "January", 'b': "jan",
	'Y': "2006", 'y': "06",
	'H': "15", 'G': "15", 'h': "03", 'g': "3", 'i': "04", 's': "05", 'A': "PM", 'a': "pm",
	'O': "-0700", 'T': "MST", 'e': "MST",
}

func goLayout(format string) string {
	var b strings.Builder
	escaped := false
	for _, letter := range format {
		layout, known := goLayouts[letter]
		switch {
		case escaped || !known && letter != '\\':
			b.WriteRune(letter)
			escaped = false
		case letter == '\\':
			escaped = true
		default:
			b.WriteString(layout)
		}
	}
	return b.String()
}
