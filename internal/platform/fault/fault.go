// Package fault names the ways in which a request can be refused. Services return these; platform/web is the only place
// that turns them into HTTP. It knows nothing of HTTP, databases or any capability.
package fault

import (
	"fmt"
	"strings"
)

// NotFound says that an object does not exist, or that the caller may not know that it does.
// Model is the class name shown to clients ("Folder"): {"detail":"No Folder matches the given query."}; an empty Model
// renders the bare {"detail":"Not found."} (contract: system.md 2.8).
type NotFound struct{ Model string }

func (e NotFound) Error() string {
	if e.Model == "" {
		return "Not found."
	}
	return "No " + e.Model + " matches the given query."
}

// Forbidden says that the caller may not do this; an empty Detail renders the usual sentence.
type Forbidden struct{ Detail string }

func (e Forbidden) Error() string {
	if e.Detail == "" {
		return "You do not have permission to perform this action."
	}
	return e.Detail
}

// Unauthenticated says that nobody, or nobody valid, is asking. An empty Detail renders the usual sentence. Its HTTP
// status is 403, not 401: the front-ends rely on it (contract: system.md 2.8).
type Unauthenticated struct{ Detail string }

func (e Unauthenticated) Error() string {
	if e.Detail == "" {
		return "Authentication credentials were not provided."
	}
	return e.Detail
}

// Undecided says that for the moment nobody can tell who is asking, because another system does not answer: 503, which
// leaves a session as it is, where a refusal would end it (clients.md 2). RetryAfter is in seconds.
type Undecided struct {
	Detail     string
	RetryAfter int
}

func (e Undecided) Error() string { return e.Detail }

// Conflict says that the object's state does not allow this (409, {"detail": …}).
type Conflict struct{ Detail string }

func (e Conflict) Error() string { return e.Detail }

// Refused is a refusal with a status and body of its own, for the few answers of the contract that have no common shape:
// a bare JSON string, {"error": …}, {"message": …}. Body is what is rendered as JSON.
type Refused struct {
	Status int
	Body   any
	// RetryAfter, in seconds, is sent as the header of that name when positive.
	RetryAfter int
}

func (e Refused) Error() string { return fmt.Sprintf("refused with %d: %v", e.Status, e.Body) }

// Detail is a refusal whose body is {"detail": text}.
func Detail(status int, text string) Refused {
	return Refused{Status: status, Body: map[string]string{"detail": text}}
}

// Text is a 400 whose body is the bare JSON string text (contract: cohort.md 2.3).
func Text(text string) Refused { return Refused{Status: 400, Body: text} }

// Invalid collects what is wrong with the fields of a body or the parameters of a query: 400, {"field": ["message", …]}.
// Fields keep the order in which they were added. The zero value is ready to use and is no error: see Err.
type Invalid struct {
	order []string
	msgs  map[string][]any
}

// NonField is the name under which messages about the whole body are given.
const NonField = "non_field_errors"

// Add notes one message about a field. A message is a string, or for list and object items a map (system.md 2.8).
func (e *Invalid) Add(field string, message any) {
	if e.msgs == nil {
		e.msgs = map[string][]any{}
	}
	if _, seen := e.msgs[field]; !seen {
		e.order = append(e.order, field)
	}
	e.msgs[field] = append(e.msgs[field], message)
}

// Has tells whether something was noted about the field.
func (e *Invalid) Has(field string) bool { return len(e.msgs[field]) > 0 }

// Fields are the names noted, in order.
func (e *Invalid) Fields() []string { return e.order }

// Messages are those noted about the field.
func (e *Invalid) Messages(field string) []any { return e.msgs[field] }

// Err is nil when nothing was noted.
func (e *Invalid) Err() error {
	if e == nil || len(e.order) == 0 {
		return nil
	}
	return e
}

func (e *Invalid) Error() string {
	var b strings.Builder
	b.WriteString("invalid input:")
	for _, f := range e.order {
		fmt.Fprintf(&b, " %s: %v;", f, e.msgs[f])
	}
	return strings.TrimSuffix(b.String(), ";")
}

// Field is an Invalid with one message about one field.
func Field(field, message string) error {
	e := &Invalid{}
	e.Add(field, message)
	return e
}
