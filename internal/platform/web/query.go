package web

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"cohortflow/internal/platform/fault"
)

// Query reads the filters of a list (system.md 2.6, 2.7): values are trimmed, an empty one is no filter, unknown
// parameters are ignored, and what cannot be read is noted under the parameter's name. Ask Err when all are read.
type Query struct {
	c       *gin.Context
	invalid fault.Invalid
	refusal error // wins over invalid
}

// QueryOf starts reading the parameters of a request.
func QueryOf(c *gin.Context) *Query { return &Query{c: c} }

// Err is what could not be read.
func (q *Query) Err() error {
	if q.refusal != nil {
		return q.refusal
	}
	return q.invalid.Err()
}

// Text is the trimmed value, "" when there is none. The last one counts when a name is repeated.
func (q *Query) Text(name string) string {
	values := q.c.QueryArray(name)
	if len(values) == 0 {
		return ""
	}
	value := values[len(values)-1]
	if strings.ContainsRune(value, 0) {
		q.invalid.Add(name, "Null characters are not allowed.")
		return ""
	}
	return strings.TrimSpace(strings.ToValidUTF8(value, "\uFFFD")) // databases refuse other texts
}

const (
	// MaxItems bounds lists of ids in queries and bodies: databases take no more than some 30,000 values in one statement.
	MaxItems = 20_000
	// maxTerms bounds what is searched at once: each term costs a comparison per row and column.
	maxTerms = 100
)

// List splits a comma list, trimmed, each value once; nil when the parameter is absent or empty.
func (q *Query) List(name string) []string {
	text := q.Text(name)
	if text == "" {
		return nil
	}
	var values []string
	seen := map[string]bool{}
	for value := range strings.SplitSeq(text, ",") {
		if value = strings.TrimSpace(value); !seen[value] {
			seen[value], values = true, append(values, value)
		}
	}
	if len(values) > MaxItems {
		q.invalid.Add(name, fmt.Sprintf("Ensure this list has no more than %d values.", MaxItems))
		return nil
	}
	return values
}

// Bool is nil for anything but true/false/1/0 in any case: the front-end sends "undefined".
func (q *Query) Bool(name string) *bool {
	switch strings.ToLower(q.Text(name)) {
	case "true", "1":
		return new(true)
	case "false", "0":
		return new(false)
	}
	return nil
}

// Number reads a decimal number.
func (q *Query) Number(name string) *float64 {
	text := q.Text(name)
	if text == "" {
		return nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n != n || n > 1e18 || n < -1e18 {
		q.invalid.Add(name, "Enter a number.")
		return nil
	}
	return &n
}

// Time reads a moment: ISO 8601, or a date that means its midnight in UTC.
func (q *Query) Time(name string) *time.Time {
	text := q.Text(name)
	if text == "" {
		return nil
	}
	t, ok := ParseDatetime(text)
	if !ok {
		q.invalid.Add(name, "Enter a valid date/time.")
		return nil
	}
	return &t
}

// UUID reads a reference to another row.
func (q *Query) UUID(name string) *uuid.UUID {
	text := q.Text(name)
	if text == "" {
		return nil
	}
	id, err := ParseUUID(text)
	if err != nil {
		q.invalid.Add(name, fmt.Sprintf("“%s” is not a valid UUID.", text))
		return nil
	}
	return &id
}

// Choice accepts one of the values.
func (q *Query) Choice(name string, values ...string) string {
	text := q.Text(name)
	if text != "" && !slices.Contains(values, text) {
		q.invalid.Add(name, notAChoice(text))
		return ""
	}
	return text
}

// Refuse notes a message of the store's or service's own about a parameter.
func (q *Query) Refuse(name, message string) { q.invalid.Add(name, message) }

// NoSuchChoice is the message about a filter that names a row that does not exist.
const NoSuchChoice = "Select a valid choice. That choice is not one of the available choices."

func notAChoice(value string) string {
	return fmt.Sprintf("Select a valid choice. %s is not one of the available choices.", value)
}

// Order is one criterion of an ordering: a public name, as allowed by the list.
type Order struct {
	Name string
	Desc bool
}

// Ordering reads ordering=a,-b; a name that is not allowed is refused. Entries of allowed that begin with "-" allow only
// that direction.
func (q *Query) Ordering(allowed ...string) []Order {
	var orders []Order
	for _, item := range strings.Split(q.Text("ordering"), ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		name, desc := strings.CutPrefix(item, "-")
		if strings.HasPrefix(name, "-") || !slices.Contains(allowed, name) && (!desc || !slices.Contains(allowed, item)) {
			q.invalid.Add("ordering", notAChoice(item))
			return nil
		}
		if !slices.ContainsFunc(orders, func(o Order) bool { return o.Name == name }) { // a repeated name orders nothing
			orders = append(orders, Order{Name: name, Desc: desc})
		}
	}
	return orders
}

var searchTerms = regexp.MustCompile(`"([^"]*)"|'([^']*)'|[^\s,]+`)

// Search splits search=… into terms, all of which must match: at white space and commas, quoted phrases stay whole. They
// are taken literally (decision 24).
func (q *Query) Search() []string {
	text := strings.ToValidUTF8(q.c.Query("search"), "\uFFFD")
	if strings.ContainsRune(text, 0) {
		q.refusal = fault.Refused{Status: 400, Body: []string{"Null characters are not allowed."}}
		return nil
	}
	var terms []string
	for _, m := range searchTerms.FindAllStringSubmatch(text, -1) {
		term := m[0]
		if m[1] != "" || m[2] != "" {
			term = m[1] + m[2]
		}
		if strings.Trim(term, `"'`) != "" && !slices.Contains(terms, term) {
			terms = append(terms, term)
		}
		if len(terms) > maxTerms {
			q.invalid.Add("search", fmt.Sprintf("Ensure the search has no more than %d terms.", maxTerms))
			return nil
		}
	}
	return terms
}

// ParseUUID accepts the hyphenated form and 32 hexadecimal digits, nothing else.
func ParseUUID(text string) (uuid.UUID, error) {
	if n := len(text); n != 36 && n != 32 {
		return uuid.UUID{}, fmt.Errorf("not a uuid")
	}
	return uuid.Parse(text)
}

// UUID reads a path parameter; anything but a uuid is a 404 (cohort.md 2.6).
func UUID(c *gin.Context, name string) (uuid.UUID, error) {
	id, err := ParseUUID(c.Param(name))
	if err != nil {
		return uuid.UUID{}, fault.NotFound{}
	}
	return id, nil
}

var datetimeForms = func() (forms []string) {
	for _, day := range []string{"2006-01-02T", "2006-01-02 "} {
		for _, clock := range []string{"15:04:05", "15:04"} {
			for _, zone := range []string{"Z07:00", "-0700", "-07", ""} {
				forms = append(forms, day+clock+zone)
			}
		}
	}
	return append(forms, "2006-01-02")
}()

// ParseDatetime reads ISO 8601 with T or a space, optional seconds, fraction and offset (none: UTC), or a bare date
// (system.md 2.4). The result is in UTC with whole microseconds.
func ParseDatetime(text string) (time.Time, bool) {
	text = strings.TrimSpace(text)
	if len(text) > 40 {
		return time.Time{}, false
	}
	for _, form := range datetimeForms {
		if t, err := time.Parse(form, text); err == nil {
			t = t.UTC().Truncate(time.Microsecond) // which may take it out of the years that can be written
			return t, t.Year() >= 1 && t.Year() <= 9999
		}
	}
	return time.Time{}, false
}
