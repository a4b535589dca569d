// Package smtpsim is an inbox for all the mails that the product sends on a laptop: an SMTP server that accepts anything,
// delivers nothing, and shows what came (contract: peers.md 10). Simulate serves it; demos read it in a browser, tests
// through Mails and Wait. It offers no TLS, as it never leaves the machine.
package smtpsim

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"sync"
	"time"
)

// Mail is one message that was accepted.
type Mail struct {
	ID         int                 `json:"id"`
	At         time.Time           `json:"at"`
	Sender     string              `json:"sender"`     // of the envelope
	Recipients []string            `json:"recipients"` // of the envelope
	Subject    string              `json:"subject"`    // decoded
	Headers    map[string][]string `json:"headers"`
	Text       string              `json:"text"`
	HTML       string              `json:"html"`
	Parts      []Part              `json:"parts"` // images and other attachments
	Raw        []byte              `json:"-"`
}

// Part is an attachment or an inline image.
type Part struct {
	ContentType string `json:"contentType"`
	ContentID   string `json:"contentId,omitempty"`
	Name        string `json:"name,omitempty"`
	Size        int    `json:"size"`
}

// inboxMost is how many mails are kept; the oldest go first.
const inboxMost = 2000

// Inbox keeps the mails. All its methods may be called at once.
type Inbox struct {
	mu      sync.Mutex
	mails   []Mail
	last    int
	arrived chan struct{} // closed and replaced at each arrival
}

// NewInbox returns an empty inbox.
func NewInbox() *Inbox { return &Inbox{arrived: make(chan struct{})} }

// Mails returns what came, oldest first.
func (b *Inbox) Mails() []Mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Mail{}, b.mails...)
}

// To returns the mails that were sent to an address.
func (b *Inbox) To(address string) []Mail {
	var found []Mail
	for _, m := range b.Mails() {
		for _, r := range m.Recipients {
			if strings.EqualFold(r, address) {
				found = append(found, m)
				break
			}
		}
	}
	return found
}

// Clear throws all mails away.
func (b *Inbox) Clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mails = nil
}

// Wait waits for the first mail that fits, also among those that are there already; the error is that of ctx.
func (b *Inbox) Wait(ctx context.Context, fits func(Mail) bool) (Mail, error) {
	for {
		b.mu.Lock()
		arrived := b.arrived
		for _, m := range b.mails {
			if fits(m) {
				b.mu.Unlock()
				return m, nil
			}
		}
		b.mu.Unlock()
		select {
		case <-arrived:
		case <-ctx.Done():
			return Mail{}, fmt.Errorf("wait for a mail: %w", ctx.Err())
		}
	}
}

func (b *Inbox) put(m Mail) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	m.ID = b.last
	b.mails = append(b.mails, m)
	if over := len(b.mails) - inboxMost; over > 0 {
		b.mails = append([]Mail{}, b.mails[over:]...)
	}
	close(b.arrived)
	b.arrived = make(chan struct{})
}

// read takes a message apart. One that cannot be read is kept as its raw text: it came, after all.
func read(raw []byte) Mail {
	m := Mail{Raw: raw, Headers: map[string][]string{}, Parts: []Part{}}
	message, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		m.Text = string(raw)
		return m
	}
	m.Headers = message.Header
	if m.Subject, err = new(mime.WordDecoder).DecodeHeader(message.Header.Get("Subject")); err != nil {
		m.Subject = message.Header.Get("Subject")
	}
	m.take(message.Header.Get("Content-Type"), message.Header.Get("Content-Transfer-Encoding"), "", message.Body, 0)
	return m
}

// take reads one part, and those in it, to a depth that no honest mail reaches.
func (m *Mail) take(contentType, encoding, contentID string, body io.Reader, depth int) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind = "text/plain"
	}
	if strings.HasPrefix(kind, "multipart/") && depth < 10 {
		parts := multipart.NewReader(body, params["boundary"])
		for {
			part, err := parts.NextRawPart()
			if err != nil {
				return
			}
			m.take(part.Header.Get("Content-Type"), part.Header.Get("Content-Transfer-Encoding"), part.Header.Get("Content-ID"), part, depth+1)
		}
	}
	switch strings.ToLower(encoding) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	}
	content, _ := io.ReadAll(body) // what could be read is shown
	switch {
	case kind == "text/plain" && m.Text == "":
		m.Text = string(content)
	case kind == "text/html" && m.HTML == "":
		m.HTML = string(content)
	default:
		m.Parts = append(m.Parts, Part{ContentType: kind, ContentID: contentID, Name: params["name"], Size: len(content)})
	}
}
