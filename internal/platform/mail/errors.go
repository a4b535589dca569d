package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
)

// ErrNotConfigured is the answer to every mail while EMAIL_HOST is blank. Trying again is of no use.
var ErrNotConfigured = errors.New("no mail server is configured (EMAIL_HOST)")

// ErrTemplate is the answer to a mail whose template is missing or cannot be rendered. Trying again is of no use.
var ErrTemplate = errors.New("mail template cannot be rendered")

// DeliveryError says at which step, and how, the server did not take a mail. Its text holds neither addresses, nor what
// the mail says, nor the server's own words, which often repeat both.
type DeliveryError struct {
	// Step is where it happened: connect, sender, recipient, content.
	Step string
	// Code is the server's answer, such as 550; 0 when there was none.
	Code int
	// Permanent is true when the server, or we, refuse the recipient or the message for good.
	Permanent bool
	cause     error
}

func (e *DeliveryError) Error() string {
	kind := "temporary"
	if e.Permanent {
		kind = "permanent"
	}
	text := fmt.Sprintf("send mail: %s failure at step %q", kind, e.Step)
	if e.Code != 0 {
		text += fmt.Sprintf(" (answer %d)", e.Code)
	}
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

func (e *DeliveryError) Unwrap() error { return e.cause }

// IsPermanent tells whether trying the same mail again is of no use.
func IsPermanent(err error) bool {
	if errors.Is(err, ErrNotConfigured) || errors.Is(err, ErrTemplate) {
		return true
	}
	var failure *DeliveryError
	return errors.As(err, &failure) && failure.Permanent
}

const (
	stepConnect   = "connect"
	stepSender    = "sender"
	stepRecipient = "recipient"
	stepContent   = "content"
)

// failedAt makes a DeliveryError of what went wrong at a step. A refusal is for good only when it is about the recipient
// or the message: a server that turns everybody away (421, 5xx in its greeting, our sender not allowed) may be mended.
func failedAt(step string, err error) *DeliveryError {
	failure := &DeliveryError{Step: step}
	var answer *textproto.Error
	if errors.As(err, &answer) {
		failure.Code = answer.Code
		failure.Permanent = answer.Code >= 500 && (step == stepRecipient || step == stepContent)
		return failure
	}
	failure.cause = withoutServerWords(err)
	return failure
}

// withoutServerWords keeps the errors of the network and drops all others, whose text may quote the server.
func withoutServerWords(err error) error {
	var network *net.OpError
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &network):
		return network
	case errors.As(err, &name):
		return name
	case errors.As(err, &certificate):
		return certificate
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	}
	return errors.New("the server did not speak as expected")
}
