package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	netmail "net/mail"
	"time"
	"unicode"

	"cohortflow/internal/platform/clock"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

var errAddress = errors.New("an address is malformed")

// Sender hands mails to the SMTP server, one connection for each. It is safe for concurrent use.
type Sender struct {
	cfg      Config
	from     *netmail.Address
	renderer *Renderer
	logo     []byte
	clock    clock.Clock
	log      *slog.Logger
}

// NewSender checks the configuration and reports every mistake in it at once. It does not connect.
func NewSender(cfg Config, clk clock.Clock, log *slog.Logger) (*Sender, error) {
	cfg, from, err := cfg.validated()
	if err != nil {
		return nil, fmt.Errorf("configure mail: %w", err)
	}
	renderer, err := NewRenderer(cfg.Templates, cfg.Mounted, cfg.StaticURL, log)
	if err != nil {
		return nil, fmt.Errorf("configure mail: %w", err)
	}
	logo, err := readLogo(cfg.Mounted, cfg.Templates)
	if err != nil {
		return nil, fmt.Errorf("configure mail: %w", err)
	}
	return &Sender{cfg: cfg, from: from, renderer: renderer, logo: logo, clock: clk, log: log}, nil
}

// Renderer is what fills the templates, for documents that are no mails.
func (s *Sender) Renderer() *Renderer { return s.renderer }

// Send renders a mail and hands it over. Without any recipient it does nothing and is content (contract: a user without
// address). Errors: ErrNotConfigured, ErrTemplate, *DeliveryError; IsPermanent tells which are worth another try.
// A mail with several recipients is sent once some of them were accepted; a connection that breaks after the last byte
// is a temporary failure, though the server may have taken the mail: give the Message an ID.
func (s *Sender) Send(ctx context.Context, m Message) error {
	err := s.send(ctx, m)
	var failure *DeliveryError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failure):
		s.log.WarnContext(ctx, "mail was not sent", "template", m.Template, "step", failure.Step, "code", failure.Code, "permanent", failure.Permanent)
	default:
		s.log.WarnContext(ctx, "mail was not sent", "template", m.Template, "error", err)
	}
	return err
}

func (s *Sender) send(ctx context.Context, m Message) error {
	to, refused := recipients(m.To)
	if len(to) == 0 && refused == 0 {
		return nil
	}
	if s.cfg.Host == "" {
		return ErrNotConfigured
	}
	if len(to) == 0 {
		return &DeliveryError{Step: stepRecipient, Permanent: true, cause: errAddress}
	}
	msg, err := s.build(m, to)
	if err != nil {
		return err
	}
	left, err := s.deliver(ctx, msg, to)
	if err == nil && left+refused > 0 {
		s.log.WarnContext(ctx, "mail did not reach every recipient", "template", m.Template, "refused", left+refused)
	}
	return err
}

// deliver is one conversation with the server. It returns how many recipients were refused while others were accepted.
func (s *Sender) deliver(ctx context.Context, msg *gomail.Msg, to []string) (int, error) {
	client, release, err := s.connect(ctx)
	if err != nil {
		return 0, s.failed(ctx, stepConnect, err)
	}
	defer release()
	if err := client.Mail("<" + s.from.Address + ">"); err != nil {
		return 0, s.failed(ctx, stepSender, err)
	}
	refused, err := s.nameRecipients(ctx, client, to)
	if err != nil {
		return 0, err
	}
	body, err := client.Data()
	if err != nil {
		return 0, s.failed(ctx, stepContent, err)
	}
	if _, err := msg.WriteTo(body); err != nil {
		// The body is left open: closing it would send the final dot, and half a mail with it.
		return 0, s.failed(ctx, stepContent, err)
	}
	if err := body.Close(); err != nil {
		return 0, s.failed(ctx, stepContent, err)
	}
	_ = client.Quit() // the mail is the server's now; a rude goodbye changes nothing
	return refused, nil
}

// nameRecipients fails only when the server accepts none of them. One that may be accepted later makes that temporary.
func (s *Sender) nameRecipients(ctx context.Context, client *smtp.Client, to []string) (int, error) {
	anyScript, _ := client.Extension("SMTPUTF8")
	var failure *DeliveryError
	refused := 0
	for _, address := range to {
		if !anyScript && !isASCII(address) {
			refused++
			if failure == nil {
				failure = &DeliveryError{Step: stepRecipient, Permanent: true, cause: errors.New("the server takes no address outside of ASCII")}
			}
			continue
		}
		err := client.Rcpt("<" + address + ">")
		if err == nil {
			continue
		}
		one := s.failed(ctx, stepRecipient, err)
		if one.Code == 0 { // no answer at all: the connection is gone
			return 0, one
		}
		refused++
		if failure == nil || failure.Permanent {
			failure = one
		}
	}
	if refused == len(to) {
		return 0, failure
	}
	return refused, nil
}

// connect greets the server and encrypts. release ends the connection; so does the end of ctx, at any point.
func (s *Sender) connect(ctx context.Context) (session *smtp.Client, release func(), err error) {
	release = func() {}
	dial := func(dialCtx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(dialCtx, network, address)
		if err != nil {
			return nil, err
		}
		unwatch := context.AfterFunc(ctx, func() { _ = conn.Close() })
		release = func() { unwatch(); _ = conn.Close() }
		return &patientConn{Conn: conn, patience: s.cfg.Timeout}, nil
	}
	client, err := gomail.NewClient(s.cfg.Host, s.options(dial)...)
	if err != nil {
		return nil, nil, err
	}
	session, err = client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		release()
		return nil, nil, err
	}
	return session, release, nil
}

func (s *Sender) options(dial gomail.DialContextFunc) []gomail.Option {
	policy := gomail.NoTLS
	if s.cfg.StartTLS {
		policy = gomail.TLSMandatory
	}
	tlsConfig := &tls.Config{}
	if s.cfg.TLS != nil {
		tlsConfig = s.cfg.TLS.Clone()
	}
	if tlsConfig.ServerName == "" {
		tlsConfig.ServerName = s.cfg.Host
	}
	tlsConfig.MinVersion = max(tlsConfig.MinVersion, tls.VersionTLS12)
	options := []gomail.Option{
		gomail.WithPort(s.cfg.Port), gomail.WithTimeout(s.cfg.Timeout), gomail.WithTLSPolicy(policy),
		gomail.WithTLSConfig(tlsConfig), gomail.WithDialContextFunc(dial),
	}
	if s.cfg.User != "" {
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(s.cfg.User), gomail.WithPassword(s.cfg.Password))
	}
	if s.cfg.HELO != "" {
		options = append(options, gomail.WithHELO(s.cfg.HELO))
	}
	return options
}

// failed prefers the end of ctx as the cause, since what it does to the connection says nothing.
func (s *Sender) failed(ctx context.Context, step string, err error) *DeliveryError {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return failedAt(step, err)
}

// patientConn gives every single read and write its time, so that a large mail may take long but a silent server may not.
type patientConn struct {
	net.Conn
	patience time.Duration
}

func (c *patientConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *patientConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] > unicode.MaxASCII {
			return false
		}
	}
	return true
}
