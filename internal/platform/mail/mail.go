// Package mail tells people by e-mail what became of what they asked for: it renders the templates, builds the messages
// and hands them to the site's SMTP server. The job handlers of the capabilities call it, each with a Letter of the
// catalogue; who is owed a mail, how often it is tried and that it is sent once is the engine's business.
//
// It never retries and never stores a mail, and neither its errors nor its logs hold addresses, subjects or texts. Contract: system.md 15, cohort.md 21, exports.md 22 and 27, accesses.md 17 and 20, peers.md 10.
package mail

import (
	"bytes"
	"fmt"
	"io/fs"
	netmail "net/mail"
	"strings"
	"unicode"

	gomail "github.com/wneessen/go-mail"
)

// LogoFile is the image that every mail carries and that templates show as cid:logo_cohort360.png.
const LogoFile = "logo_cohort360.png"

// Message is one mail to be sent.
type Message struct {
	// ID makes the Message-ID; a mail that is tried again keeps it, so that servers recognise the second copy.
	// Blank: a new one each time.
	ID string
	// To are addresses, all named in the one message. Blank ones are left out.
	To []string
	// Subject is one line; line breaks and other control characters in it become spaces.
	Subject string
	// Template is the name of the .html and .txt files.
	Template string
	// Data are the template's variables; contact_email_address is added.
	Data map[string]any
	// Attachments are files beside the text. Most mails have none.
	Attachments []Attachment
}

// Attachment is a file in a mail.
type Attachment struct {
	Name        string
	ContentType string
	Content     []byte
}

// build makes the MIME tree of contract system.md 15.2: related [ alternative [ text, html ], logo ].
func (s *Sender) build(m Message, to []string) (*gomail.Msg, error) {
	data := map[string]any{"contact_email_address": s.cfg.SupportContact}
	for name, value := range m.Data {
		data[name] = value
	}
	text, html, err := s.renderer.Mail(m.Template, data)
	if err != nil {
		return nil, err
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	if msg.From(s.from.String()) != nil || msg.To(to...) != nil {
		return nil, &DeliveryError{Step: stepRecipient, Permanent: true, cause: errAddress}
	}
	msg.Subject(oneLine(m.Subject))
	msg.SetDateWithValue(s.clock.Now())
	if id := oneLine(m.ID); id != "" {
		msg.SetMessageIDWithValue(id + "@" + domainOf(s.from.Address))
	} else {
		msg.SetMessageID()
	}
	msg.SetBodyString(gomail.TypeTextPlain, text)
	msg.AddAlternativeString(gomail.TypeTextHTML, html)
	if err := msg.EmbedReader(LogoFile, bytes.NewReader(s.logo), gomail.WithFileContentType("image/png")); err != nil {
		return nil, fmt.Errorf("build mail: embed the logo: %w", err)
	}
	for _, a := range m.Attachments {
		err := msg.AttachReader(oneLine(a.Name), bytes.NewReader(a.Content), gomail.WithFileContentType(gomail.ContentType(oneLine(a.ContentType))))
		if err != nil {
			return nil, fmt.Errorf("build mail: attach a file: %w", err)
		}
	}
	return msg, nil
}

// readLogo finds the site's logo, or the embedded one.
func readLogo(layers ...fs.FS) ([]byte, error) {
	for _, layer := range layers {
		if layer == nil {
			continue
		}
		if logo, err := fs.ReadFile(layer, LogoFile); err == nil {
			return logo, nil
		}
	}
	return nil, fmt.Errorf("read %s: %w", LogoFile, fs.ErrNotExist)
}

// recipients sorts the addresses of a mail into those that can be written to, each once, and the number of the others.
func recipients(to []string) (valid []string, refused int) {
	seen := map[string]bool{}
	for _, address := range to {
		address = strings.Trim(address, " ")
		if address == "" || seen[address] {
			continue
		}
		seen[address] = true
		parsed, err := netmail.ParseAddress(address)
		if err != nil || parsed.Address != address || hasControls(address) || strings.ContainsAny(address, "<> ") {
			refused++
			continue
		}
		valid = append(valid, address)
	}
	return valid, refused
}

func hasControls(s string) bool {
	return strings.ContainsFunc(s, unicode.IsControl)
}

// oneLine makes text safe for a header: no line breaks or other control characters, no doubled blanks left by them.
func oneLine(text string) string {
	if !hasControls(text) {
		return text
	}
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsControl(r) || r == ' ' }), " ")
}

func domainOf(address string) string {
	return address[strings.LastIndexByte(address, '@')+1:]
}
