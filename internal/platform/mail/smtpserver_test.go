package mail

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// smtpServer is a small mail server that keeps what it accepts and answers as told.
type smtpServer struct {
	addr *net.TCPAddr
	// answers replaces the reply to a line that begins with the key, such as "RCPT TO:<a@b>"; "drop" ends the connection.
	// "greeting", "content" and "middle" stand for the greeting, the final dot, and a drop within the message.
	answers    map[string]string
	extensions []string
	tls        *tls.Config

	mu       sync.Mutex
	received []receivedMail
	lines    []string
}

type receivedMail struct {
	from string
	to   []string
	raw  []byte
}

func startSMTP(t *testing.T, answers map[string]string, extensions ...string) *smtpServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &smtpServer{addr: listener.Addr().(*net.TCPAddr), answers: answers, extensions: extensions}
	if len(extensions) > 0 && extensions[0] == "STARTTLS" {
		s.tls = selfSigned(t)
	}
	var talks sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); talks.Wait() })
	talks.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			talks.Go(func() { s.talk(conn) })
		}
	})
	return s
}

func (s *smtpServer) mails() []receivedMail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received
}

func (s *smtpServer) heard() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

func (s *smtpServer) talk(raw net.Conn) {
	defer func() { raw.Close() }()
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
	conn := textproto.NewConn(raw)
	if !s.say(conn, "greeting", "220 test ESMTP") {
		return
	}
	var mail receivedMail
	extensions := s.extensions
	for {
		line, err := conn.ReadLine()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.lines = append(s.lines, line)
		s.mu.Unlock()
		switch verb := strings.ToUpper(strings.SplitN(line, " ", 2)[0]); verb {
		case "EHLO":
			_ = conn.PrintfLine("250-test")
			for _, extension := range extensions {
				_ = conn.PrintfLine("250-%s", extension)
			}
			_ = conn.PrintfLine("250 8BITMIME")
		case "STARTTLS":
			_ = conn.PrintfLine("220 go on")
			secure := tls.Server(raw, s.tls)
			if secure.Handshake() != nil {
				return
			}
			raw, extensions = secure, extensions[1:]
			conn = textproto.NewConn(raw)
		case "DATA":
			if !s.say(conn, line, "354 go on") {
				return
			}
			if s.answer("middle") == "drop" {
				_, _ = conn.R.Peek(1)
				return
			}
			if mail.raw, err = conn.ReadDotBytes(); err != nil {
				return
			}
			if !s.say(conn, "content", "250 kept") {
				return
			}
			if s.answer("content") == "" {
				s.mu.Lock()
				s.received = append(s.received, mail)
				s.mu.Unlock()
			}
		case "QUIT":
			_ = conn.PrintfLine("221 bye")
			return
		case "AUTH":
			if !s.say(conn, line, "235 welcome") {
				return
			}
		default:
			if !s.say(conn, line, "250 ok") {
				return
			}
			if address := line[strings.Index(line, ":")+1:]; verb == "MAIL" {
				mail = receivedMail{from: address}
			} else if s.answer(line) == "" {
				mail.to = append(mail.to, strings.Trim(address, "<>"))
			}
		}
	}
}

// relent answers a line as usual from now on.
func (s *smtpServer) relent(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.answers, line)
}

func (s *smtpServer) answer(line string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for start, answer := range s.answers {
		if strings.HasPrefix(line, start) {
			return answer
		}
	}
	return ""
}

func (s *smtpServer) say(conn *textproto.Conn, line, usual string) bool {
	answer := s.answer(line)
	switch answer {
	case "drop":
		return false
	case "":
		answer = usual
	}
	return conn.PrintfLine("%s", answer) == nil
}

// selfSigned is a certificate for 127.0.0.1; its only authority is itself.
func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}}
}

// startClosed is a port where nobody listens.
func startClosed(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().(*net.TCPAddr).Port
}

// startSilent is a port where connections are taken and nothing is ever said; it tells of each connection.
func startSilent(t *testing.T) (port int, accepted chan struct{}) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	accepted = make(chan struct{}, 8)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			accepted <- struct{}{}
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port, accepted
}
