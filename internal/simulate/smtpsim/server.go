package smtpsim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"time"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/lifecycle"
	"cohortflow/internal/simulate/faultplan"
)

// messageMost bounds one message, in bytes.
const messageMost = 32 << 20

// Server speaks SMTP and fills the inbox.
type Server struct {
	lifecycle.Base
	clock   clock.Clock
	plan    *faultplan.Plan
	address string
	inbox   *Inbox

	mu       sync.Mutex
	listener net.Listener
}

// NewServer makes a server that will listen on the address ("127.0.0.1:0": any free port).
func NewServer(log *slog.Logger, clk clock.Clock, plan *faultplan.Plan, address string) *Server {
	return &Server{Base: lifecycle.Base{Log: log, Name: "simulated SMTP"}, clock: clk, plan: plan, address: address, inbox: NewInbox()}
}

// Inbox is where the mails are.
func (s *Server) Inbox() *Inbox { return s.inbox }

// Addr is host:port, once started.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// Start listens.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.address)
	if err != nil {
		return fmt.Errorf("simulated SMTP: %w", err)
	}
	s.listener = listener
	return s.Go(context.WithoutCancel(ctx), func(ctx context.Context) { s.accept(ctx, listener) })
}

// Stop closes the port and all conversations.
func (s *Server) Stop(ctx context.Context) error {
	err := s.Base.Stop(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = nil
	return err
}

func (s *Server) accept(ctx context.Context, listener net.Listener) {
	var conversations sync.WaitGroup
	defer conversations.Wait()
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	for {
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() == nil {
				s.Log.Error("simulated SMTP: accept", "error", err)
			}
			return
		}
		conversations.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			defer conn.Close()
			if err := (&session{server: s, text: textproto.NewConn(conn)}).talk(ctx); err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
				s.Log.Debug("simulated SMTP: conversation broken off", "error", err)
			}
		})
	}
}

// session is one conversation.
type session struct {
	server     *Server
	text       *textproto.Conn
	sender     string
	hasSender  bool
	recipients []string
}

var errBroken = errors.New("broken off by a fault")

// fault lets the plan strike at a stage. answered: the stage has had its answer.
func (s *session) fault(ctx context.Context, stage string) (answered bool, err error) {
	for _, rule := range s.server.plan.Decide(faultplan.Event{Peer: "smtp", Stage: stage}, faultplan.Delay, faultplan.Status,
		faultplan.Reset, faultplan.Hang) {
		switch rule.Action {
		case faultplan.Delay:
			if !faultplan.Pause(ctx, time.Duration(rule.For)) {
				return true, ctx.Err()
			}
		case faultplan.Status:
			if err := s.say(rule.Code, cmp.Or(rule.Body, "refused by a fault")); err != nil || rule.Code == 421 {
				return true, errors.Join(err, errBroken)
			}
			return true, nil
		case faultplan.Reset:
			return true, errBroken
		case faultplan.Hang:
			_, err := s.text.ReadLine() // until the other side, or the server, gives up
			for err == nil {
				_, err = s.text.ReadLine()
			}
			return true, err
		}
	}
	return false, nil
}

func (s *session) say(code int, text string) error { return s.text.PrintfLine("%d %s", code, text) }

func (s *session) talk(ctx context.Context) error {
	if answered, err := s.fault(ctx, "CONNECT"); err != nil {
		return err
	} else if !answered {
		if err := s.say(220, "localhost ESMTP demo inbox"); err != nil {
			return err
		}
	}
	for {
		line, err := s.text.ReadLine()
		if err != nil {
			return err
		}
		verb, rest, _ := strings.Cut(line, " ")
		verb = strings.ToUpper(verb)
		answered, err := s.fault(ctx, verb)
		if err != nil {
			return err
		}
		if answered {
			continue
		}
		if err := s.obey(ctx, verb, strings.TrimSpace(rest)); err != nil || verb == "QUIT" {
			return err
		}
	}
}

// obey carries one command out.
func (s *session) obey(ctx context.Context, verb, rest string) error {
	switch verb {
	case "EHLO":
		return errors.Join(s.text.PrintfLine("250-localhost"), s.text.PrintfLine("250-8BITMIME"), s.text.PrintfLine("250-SMTPUTF8"),
			s.text.PrintfLine("250 SIZE %d", messageMost))
	case "HELO", "NOOP":
		return s.say(250, "localhost")
	case "RSET":
		s.reset()
		return s.say(250, "forgotten")
	case "MAIL":
		address, ok := addressOf(rest, "FROM:")
		if !ok {
			return s.say(501, "MAIL FROM:<address> expected")
		}
		s.reset()
		s.sender, s.hasSender = address, true
		return s.say(250, "sender accepted")
	case "RCPT":
		address, ok := addressOf(rest, "TO:")
		switch {
		case !s.hasSender:
			return s.say(503, "MAIL first")
		case !ok || address == "":
			return s.say(501, "RCPT TO:<address> expected")
		}
		s.recipients = append(s.recipients, address)
		return s.say(250, "recipient accepted")
	case "DATA":
		return s.data(ctx)
	case "QUIT":
		return s.say(221, "goodbye")
	case "STARTTLS", "AUTH":
		return s.say(502, "not offered")
	}
	return s.say(500, "unknown command")
}

func (s *session) reset() { s.sender, s.hasSender, s.recipients = "", false, nil }

// data reads a message and puts it into the inbox.
func (s *session) data(ctx context.Context) error {
	if len(s.recipients) == 0 {
		return s.say(503, "RCPT first")
	}
	if err := s.say(354, "end with a line that holds a dot only"); err != nil {
		return err
	}
	lines := s.text.DotReader()
	raw, err := io.ReadAll(io.LimitReader(lines, messageMost+1))
	if err != nil {
		return err
	}
	if len(raw) > messageMost {
		if _, err := io.Copy(io.Discard, lines); err != nil {
			return err
		}
		return s.say(552, "too large")
	}
	if answered, err := s.fault(ctx, "BODY"); err != nil || answered {
		return err
	}
	m := read(raw)
	m.At, m.Sender, m.Recipients = s.server.clock.Now(), s.sender, s.recipients
	s.reset()
	s.server.inbox.put(m)
	return s.say(250, "accepted")
}

// addressOf reads "FROM:<address> PARAM=…".
func addressOf(rest, prefix string) (string, bool) {
	if len(rest) < len(prefix) || !strings.EqualFold(rest[:len(prefix)], prefix) {
		return "", false
	}
	rest = strings.TrimSpace(rest[len(prefix):])
	if !strings.HasPrefix(rest, "<") {
		return "", false
	}
	address, _, ok := strings.Cut(rest[1:], ">")
	return address, ok
}
