package mail

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	netmail "net/mail"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"cohortflow/internal/platform/clock"
	"cohortflow/templates"

	"github.com/stretchr/testify/require"
)

type bundle struct {
	server *smtpServer
	sender *Sender
	logs   *bytes.Buffer
}

var noon = time.Date(2026, 3, 5, 12, 0, 0, 0, time.UTC)

func setup(t *testing.T, answers map[string]string, extensions ...string) *bundle {
	t.Helper()
	b := &bundle{server: startSMTP(t, answers, extensions...), logs: &bytes.Buffer{}}
	b.sender = b.newSender(t, func(*Config) {})
	return b
}

func (b *bundle) newSender(t *testing.T, change func(*Config)) *Sender {
	t.Helper()
	cfg := Config{
		Host: "127.0.0.1", Port: b.server.addr.Port, From: "Cohort360 <cohort360@example.org>", SupportContact: "support@example.org",
		Timeout: 5 * time.Second, Templates: templates.Files(),
	}
	change(&cfg)
	sender, err := NewSender(cfg, clock.NewFake(noon), slog.New(slog.NewTextHandler(b.logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	require.NoError(t, err)
	return sender
}

func shared(t *testing.T, name string, to ...string) Message {
	t.Helper()
	m, err := Compose(to, SharedRequest{RecipientName: "Élodie O'HARA (bob)", OwnerName: "Alice MARTIN", RequestName: name})
	require.NoError(t, err)
	return m
}

type part struct {
	kind, disposition, id, name string
	content                     []byte
}

// unfold lists the kinds of the tree in order, and its leaves.
func unfold(t *testing.T, raw []byte) (netmail.Header, []string, []part) {
	t.Helper()
	message, err := netmail.ReadMessage(bytes.NewReader(raw))
	require.NoError(t, err)
	var tree []string
	var leaves []part
	var walk func(header map[string][]string, body io.Reader)
	walk = func(header map[string][]string, body io.Reader) {
		h := netmail.Header(header)
		kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
		require.NoError(t, err)
		tree = append(tree, kind)
		if strings.HasPrefix(kind, "multipart/") {
			reader := multipart.NewReader(body, params["boundary"])
			for {
				p, err := reader.NextRawPart()
				if err == io.EOF {
					return
				}
				require.NoError(t, err)
				walk(p.Header, p)
			}
		}
		switch strings.ToLower(h.Get("Content-Transfer-Encoding")) {
		case "base64":
			body = base64.NewDecoder(base64.StdEncoding, body)
		case "quoted-printable":
			body = quotedprintable.NewReader(body)
		}
		content, err := io.ReadAll(body)
		require.NoError(t, err)
		leaves = append(leaves, part{kind: kind, disposition: h.Get("Content-Disposition"), id: h.Get("Content-Id"), name: params["name"], content: content})
	}
	walk(message.Header, message.Body)
	return message.Header, tree, leaves
}

func decoded(t *testing.T, header string) string {
	t.Helper()
	text, err := new(mime.WordDecoder).DecodeHeader(header)
	require.NoError(t, err)
	return text
}

func TestMailHasTextHTMLAndLogo(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	m := shared(t, "L'étude <42> & co", "bob@example.org", " ", "bob@example.org")
	m.ID = "notification-7"
	require.NoError(t, b.sender.Send(t.Context(), m))
	require.Len(t, b.server.mails(), 1)
	got := b.server.mails()[0]
	require.Contains(t, got.from, "<cohort360@example.org>")
	require.Equal(t, []string{"bob@example.org"}, got.to)
	header, tree, leaves := unfold(t, got.raw)
	require.Equal(t, []string{"multipart/related", "multipart/alternative", "text/plain", "text/html", "image/png"}, tree)
	require.Equal(t, "Alice MARTIN a partagé une requête avec vous", decoded(t, header.Get("Subject")))
	require.Equal(t, "<notification-7@example.org>", header.Get("Message-ID"))
	require.Equal(t, "<bob@example.org>", header.Get("To"))
	date, err := header.Date()
	require.NoError(t, err)
	require.True(t, noon.Equal(date))
	require.Contains(t, string(leaves[0].content), "L'étude <42> & co")
	require.Contains(t, string(leaves[0].content), "Élodie O'HARA (bob)")
	require.NotContains(t, string(leaves[0].content), "&#")
	require.Contains(t, string(leaves[1].content), "&lt;42&gt; &amp; co")
	require.Contains(t, string(leaves[1].content), "cid:logo_cohort360.png")
	require.Equal(t, "<logo_cohort360.png>", leaves[2].id)
	require.Equal(t, "logo_cohort360.png", leaves[2].name)
	require.True(t, bytes.HasPrefix(leaves[2].content, []byte("\x89PNG")))
}

func TestMailNobodyToWriteTo(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for _, to := range [][]string{nil, {""}, {" ", ""}} {
		require.NoError(t, b.sender.Send(t.Context(), shared(t, "x", to...)))
	}
	require.Empty(t, b.server.heard())
}

func TestMailAttachment(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	m := shared(t, "x", "bob@example.org")
	m.Attachments = []Attachment{{Name: "rapport é\r\nX-Evil: 1.csv", ContentType: "text/csv", Content: []byte("a;b\n")}}
	require.NoError(t, b.sender.Send(t.Context(), m))
	header, tree, leaves := unfold(t, b.server.mails()[0].raw)
	require.Empty(t, header.Get("X-Evil"))
	require.Equal(t, "multipart/mixed", tree[0])
	require.True(t, strings.HasPrefix(leaves[3].disposition, "attachment"))
	require.Equal(t, "a;b\n", string(leaves[3].content))
}

func TestMailAnswersOfTheServer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers   map[string]string
		step      string
		code      int
		permanent bool
	}{
		"recipient unknown":         {map[string]string{"RCPT": "550 5.1.1 bob@example.org no such mailbox"}, stepRecipient, 550, true},
		"recipient later":           {map[string]string{"RCPT": "450 4.2.1 bob@example.org is busy"}, stepRecipient, 450, false},
		"content refused":           {map[string]string{"content": "554 no mail today, bob@example.org"}, stepContent, 554, true},
		"content later":             {map[string]string{"content": "451 later, bob@example.org"}, stepContent, 451, false},
		"data refused":              {map[string]string{"DATA": "552 full"}, stepContent, 552, true},
		"sender refused":            {map[string]string{"MAIL": "550 not you"}, stepSender, 550, false},
		"closing down":              {map[string]string{"greeting": "421 not now"}, stepConnect, 421, false},
		"turned away":               {map[string]string{"greeting": "554 go away"}, stepConnect, 554, false},
		"dropped at once":           {map[string]string{"greeting": "drop"}, stepConnect, 0, false},
		"dropped at recipient":      {map[string]string{"RCPT": "drop"}, stepRecipient, 0, false},
		"dropped within the mail":   {map[string]string{"middle": "drop"}, stepContent, 0, false},
		"dropped before the answer": {map[string]string{"content": "drop"}, stepContent, 0, false},
		"garbled":                   {map[string]string{"RCPT": "hello bob@example.org"}, stepRecipient, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, c.answers)
			err := b.sender.Send(t.Context(), shared(t, "secret study", "bob@example.org"))
			var failure *DeliveryError
			require.ErrorAs(t, err, &failure)
			require.Equal(t, c.step, failure.Step)
			require.Equal(t, c.code, failure.Code)
			require.Equal(t, c.permanent, IsPermanent(err))
			require.Empty(t, b.server.mails())
			for _, private := range []string{"bob@", "secret", "MARTIN", "Élodie"} {
				require.NotContains(t, err.Error()+b.logs.String(), private)
			}
			require.Contains(t, b.logs.String(), "shared_request")
		})
	}
}

func TestMailServerIsNotThere(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	closed := startClosed(t)
	sender := b.newSender(t, func(c *Config) { c.Port = closed })
	err := sender.Send(t.Context(), shared(t, "x", "bob@example.org"))
	var failure *DeliveryError
	require.ErrorAs(t, err, &failure)
	require.Equal(t, stepConnect, failure.Step)
	require.False(t, IsPermanent(err))
	unset := b.newSender(t, func(c *Config) { c.Host, c.From = "", "" })
	err = unset.Send(t.Context(), shared(t, "x", "bob@example.org"))
	require.ErrorIs(t, err, ErrNotConfigured)
	require.True(t, IsPermanent(err))
}

func TestMailSilentServerAndEndOfContext(t *testing.T) {
	t.Parallel()
	silent, accepted := startSilent(t)
	b := setup(t, nil)
	patient := b.newSender(t, func(c *Config) { c.Port, c.Timeout = silent, time.Second })
	err := patient.Send(t.Context(), shared(t, "x", "bob@example.org"))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.False(t, IsPermanent(err))
	<-accepted
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-accepted; cancel() }()
	endless := b.newSender(t, func(c *Config) { c.Port, c.Timeout = silent, time.Hour })
	require.ErrorIs(t, endless.Send(ctx, shared(t, "x", "bob@example.org")), context.Canceled)
}

func TestMailToSeveral(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers   map[string]string
		reached   []string
		permanent bool
	}{
		"all":             {nil, []string{"a@example.org", "b@example.org"}, false},
		"one refused":     {map[string]string{"RCPT TO:<a@": "550 no"}, []string{"b@example.org"}, false},
		"both refused":    {map[string]string{"RCPT": "550 no"}, nil, true},
		"one later":       {map[string]string{"RCPT TO:<a@": "550 no", "RCPT TO:<b@": "450 later"}, nil, false},
		"the other later": {map[string]string{"RCPT TO:<a@": "450 later", "RCPT TO:<b@": "550 no"}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, c.answers)
			err := b.sender.Send(t.Context(), shared(t, "x", "a@example.org", "b@example.org"))
			if c.reached == nil {
				require.Error(t, err)
				require.Equal(t, c.permanent, IsPermanent(err))
				return
			}
			require.NoError(t, err)
			require.Len(t, b.server.mails(), 1)
			require.Equal(t, c.reached, b.server.mails()[0].to)
		})
	}
}

func TestMailInjection(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	m := shared(t, "evil\r\nBcc: x@example.org", "bob@example.org")
	m.Subject = "Bonjour\r\nBcc: eve@example.org\r\n\r\nspam\x00"
	m.ID = "1\r\nX-Evil: yes"
	require.NoError(t, b.sender.Send(t.Context(), m))
	got := b.server.mails()[0]
	header, _, _ := unfold(t, got.raw)
	require.Equal(t, "Bonjour Bcc: eve@example.org spam", decoded(t, header.Get("Subject")))
	require.Empty(t, header.Get("Bcc"))
	require.Empty(t, header.Get("X-Evil"))
	for _, to := range []string{"bob@example.org\r\nRCPT TO:<eve@example.org>", "a@example.org, eve@example.org", "Bob <bob@example.org>", "<bob@example.org>", "bob"} {
		err := b.sender.Send(t.Context(), shared(t, "x", to))
		require.True(t, IsPermanent(err), to)
	}
	require.Len(t, b.server.mails(), 1)
	require.NotContains(t, b.server.heard(), "eve")
}

func TestMailNonASCIIAddress(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	require.True(t, IsPermanent(b.sender.Send(t.Context(), shared(t, "x", "élodie@example.org"))))
	modern := setup(t, nil, "SMTPUTF8")
	require.NoError(t, modern.sender.Send(t.Context(), shared(t, "x", "élodie@example.org")))
	require.Equal(t, []string{"élodie@example.org"}, modern.server.mails()[0].to)
}

func TestMailHugeBody(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	huge := strings.Repeat("é.\r\n.ligne & suite ", 100_000)
	require.NoError(t, b.sender.Send(t.Context(), shared(t, huge+"fin", "bob@example.org")))
	_, _, leaves := unfold(t, b.server.mails()[0].raw)
	require.Contains(t, strings.ReplaceAll(string(leaves[0].content), "\r\n", "\n"), strings.ReplaceAll(huge, "\r\n", "\n")+"fin")
}

func TestMailEncryption(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, "STARTTLS")
	trusted := x509.NewCertPool()
	trusted.AddCert(b.server.tls.Certificates[0].Leaf)
	unknown := b.newSender(t, func(c *Config) { c.StartTLS = true })
	err := unknown.Send(t.Context(), shared(t, "x", "bob@example.org"))
	var untrusted *tls.CertificateVerificationError
	require.ErrorAs(t, err, &untrusted)
	require.False(t, IsPermanent(err))

	again := setup(t, nil, "STARTTLS")
	trusted.AddCert(again.server.tls.Certificates[0].Leaf)
	sender := again.newSender(t, func(c *Config) { c.StartTLS, c.TLS = true, &tls.Config{RootCAs: trusted} })
	require.NoError(t, sender.Send(t.Context(), shared(t, "x", "bob@example.org")))
	require.Len(t, again.server.mails(), 1)

	member := setup(t, map[string]string{"AUTH": "535 who is me@example.org?"}, "STARTTLS", "AUTH PLAIN")
	trusted.AddCert(member.server.tls.Certificates[0].Leaf)
	login := member.newSender(t, func(c *Config) {
		c.StartTLS, c.TLS, c.User, c.Password = true, &tls.Config{RootCAs: trusted}, "me", "hush"
	})
	err = login.Send(t.Context(), shared(t, "x", "bob@example.org"))
	require.EqualError(t, err, `send mail: temporary failure at step "connect" (answer 535)`)
	member.server.relent("AUTH")
	require.NoError(t, login.Send(t.Context(), shared(t, "x", "bob@example.org")))
	require.Contains(t, member.server.heard(), "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00me\x00hush")))

	plain := setup(t, nil)
	err = plain.newSender(t, func(c *Config) { c.StartTLS = true }).Send(t.Context(), shared(t, "x", "bob@example.org"))
	require.Error(t, err)
	require.NotContains(t, plain.server.heard(), "MAIL")
}

func TestMailConfiguration(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	_, err := NewSender(Config{Host: "h", Port: 70000, From: "nobody", User: "me"}, clock.System{}, log)
	require.ErrorContains(t, err, "EMAIL_PORT")
	require.ErrorContains(t, err, "DEFAULT_FROM_EMAIL")
	require.ErrorContains(t, err, "EMAIL_HOST_USER")
	require.ErrorContains(t, err, "templates")
	_, err = NewSender(Config{Host: "h", From: "a@b.fr\r\nX: y", Templates: templates.Files()}, clock.System{}, log)
	require.ErrorContains(t, err, "DEFAULT_FROM_EMAIL")
	_, err = NewSender(Config{Templates: fstest.MapFS{}}, clock.System{}, log)
	require.ErrorContains(t, err, LogoFile)
	sender, err := NewSender(Config{Templates: templates.Files()}, clock.System{}, log)
	require.NoError(t, err)
	require.Equal(t, 25, sender.cfg.Port)
}
