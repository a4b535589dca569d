package queryexec

import (
	"regexp"
	"strings"
)

// maxMessage bounds a failure text of the outside in bytes; one of a megabyte has been seen (peers.md Q-19).
const maxMessage = 2000

var (
	// addresses lose user information and everything from the question mark on.
	addresses = regexp.MustCompile(`(?i)\b(https?://)(?:[^\s/?#@]*@)?([^\s?#"'<>]*)[?#][^\s"'<>]*`)
	userInfos = regexp.MustCompile(`(?i)\b(https?://)[^\s/?#@]*@`)
	// patients named by a filter of ours come back in errors of the index.
	patients = regexp.MustCompile(`(?i)(identifier\.value\s*[:=]\s*)(?:\([^)]*\)?|[^\s&]+)`)
	traces   = regexp.MustCompile(`(?m)[\r\n]+\s*(?:at\s|Caused by:|\.\.\. \d+ more)[\s\S]*`)
)

// cleanMessage is a text of the outside system as it may be stored and shown (decision 34): without questions in
// addresses, lists of patients and stack traces, and of bounded length.
func cleanMessage(s string) string {
	if len(s) > 4*maxMessage {
		s = shorten(s, 4*maxMessage) // the expressions below need not see more
	}
	s = traces.ReplaceAllString(s, "")
	s = addresses.ReplaceAllString(s, "$1$2")
	s = userInfos.ReplaceAllString(s, "$1")
	s = patients.ReplaceAllString(s, "$1…")
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1 // PostgreSQL takes no NUL in a text
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return shorten(strings.TrimSpace(s), maxMessage)
}
