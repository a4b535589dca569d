package mail

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	netmail "net/mail"
	"time"
)

const (
	// DefaultPort is used when EMAIL_PORT is blank.
	DefaultPort = 25
	// DefaultTimeout bounds every single wait for the server: connecting, one answer, one block of the message.
	DefaultTimeout = 60 * time.Second
)

// Config says how mails leave (contract: system.md 15.1, 20.7; peers.md 10.1).
type Config struct {
	// Host is EMAIL_HOST. Blank: nothing can be sent, every Send answers ErrNotConfigured.
	Host string
	// Port is EMAIL_PORT; 0 means DefaultPort.
	Port int
	// StartTLS is EMAIL_USE_TLS: the connection must be encrypted with STARTTLS, and the server's certificate is verified.
	StartTLS bool
	// TLS adds to the verification, such as the certificate authorities of the hospital. Nil: those of the system.
	TLS *tls.Config
	// User and Password log in to the server (EMAIL_HOST_USER, EMAIL_HOST_PASSWORD, which the existing system has not).
	// Blank user: no login, as ever. They are given to an encrypted connection only.
	User, Password string
	// From is DEFAULT_FROM_EMAIL: an address, or `Name <address>`.
	From string
	// SupportContact is EMAIL_SUPPORT_CONTACT, given to every template as contact_email_address. May be blank.
	SupportContact string
	// HELO is the name this machine gives itself. Blank: its host name.
	HELO string
	// Timeout bounds every wait for the server; 0 means DefaultTimeout.
	Timeout time.Duration
	// Templates are the embedded ones.
	Templates fs.FS
	// Mounted is the directory of the site, whose files replace the embedded ones of the same name. May be nil.
	Mounted fs.FS
	// StaticURL is put before the paths of {% static %}. Blank: /static/.
	StaticURL string
}

// validated is the configuration with its defaults, or every mistake in it.
func (c Config) validated() (Config, *netmail.Address, error) {
	if c.Port == 0 {
		c.Port = DefaultPort
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.StaticURL == "" {
		c.StaticURL = "/static/"
	}
	var mistakes []error
	if c.Port < 1 || c.Port > 65535 {
		mistakes = append(mistakes, fmt.Errorf("EMAIL_PORT: %d is no port", c.Port))
	}
	if c.Timeout < 0 {
		mistakes = append(mistakes, errors.New("the timeout of mails must be positive"))
	}
	if c.User != "" && !c.StartTLS {
		mistakes = append(mistakes, errors.New("EMAIL_HOST_USER: a login needs EMAIL_USE_TLS"))
	}
	if c.Templates == nil {
		mistakes = append(mistakes, errors.New("mail templates are missing"))
	}
	from := &netmail.Address{}
	if c.Host != "" {
		parsed, err := netmail.ParseAddress(c.From)
		if err != nil || hasControls(c.From) {
			mistakes = append(mistakes, errors.New("DEFAULT_FROM_EMAIL: an e-mail address is needed once EMAIL_HOST is set"))
		} else {
			from = parsed
		}
	}
	return c, from, errors.Join(mistakes...)
}
