package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// maxMessage bounds one message of the websocket.
const maxMessage = 1 << 20

// message is what the websocket tells about a job.
type message struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Details string `json:"details"` // of a handshake
	UUID    string `json:"uuid"`
	JobName string `json:"job_name"`
	Info    struct {
		Measure    *int   `json:"measure"`  // of a count
		GroupID    string `json:"group_id"` // of a cohort, as all below
		ResultSize *int   `json:"result_size"`
		FailMsg    string `json:"request_job_fail_msg"`
	} `json:"extra_info"`
}

// socket keeps all that the websocket says.
type socket struct {
	conn   *websocket.Conn
	closed chan struct{} // when the reader has ended

	mu       sync.Mutex
	messages []message
	ended    error         // why nothing comes any more
	arrived  chan struct{} // closed and replaced whenever there is something new
}

// openSocket connects and greets, as the front-end does: the token is in the first message.
func openSocket(ctx context.Context, c *client) (*socket, error) {
	address := "ws" + strings.TrimPrefix(c.base, "http") + "/ws/"
	conn, answer, err := websocket.Dial(ctx, address, &websocket.DialOptions{HTTPClient: c.http})
	if answer != nil && answer.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("open the websocket: it answered %d", answer.StatusCode)
	}
	if err != nil {
		return nil, fmt.Errorf("open the websocket: %w", err)
	}
	conn.SetReadLimit(maxMessage)
	s := &socket{conn: conn, closed: make(chan struct{}), arrived: make(chan struct{})}
	if err := s.greet(ctx, c.token); err != nil {
		_ = conn.CloseNow()
		return nil, fmt.Errorf("greet the websocket: %w", err)
	}
	go s.read(context.WithoutCancel(ctx)) // close ends it
	return s, nil
}

func (s *socket) greet(ctx context.Context, token string) error {
	hello, err := json.Marshal(map[string]string{"token": token, "auth_method": requestMethod})
	if err != nil {
		return err
	}
	if err := s.conn.Write(ctx, websocket.MessageText, hello); err != nil {
		return err
	}
	_, raw, err := s.conn.Read(ctx)
	if err != nil {
		return err
	}
	var m message
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	if m.Type != "handshake" || m.Status != "accepted" {
		return fmt.Errorf("it was answered with %s %s, not with an accepted handshake", m.Type, m.Status)
	}
	return nil
}

func (s *socket) read(ctx context.Context) {
	defer close(s.closed)
	for {
		var m message
		_, raw, err := s.conn.Read(ctx)
		if err == nil {
			if err = json.Unmarshal(raw, &m); err != nil {
				err = fmt.Errorf("a message is not JSON: %w", err) // it would turn the front-end's page white
			}
		}
		s.mu.Lock()
		if err != nil {
			s.ended = err
		} else {
			s.messages = append(s.messages, m)
		}
		close(s.arrived)
		s.arrived = make(chan struct{})
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// about are the messages about one row so far; arrived is closed when there is anything new, ended tells why nothing will be.
func (s *socket) about(uuid string) (found []message, arrived <-chan struct{}, ended error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.messages {
		if m.Type == "job_status" && m.UUID == uuid {
			found = append(found, m)
		}
	}
	return found, s.arrived, s.ended
}

// last is the final message about a row, if it came.
func (s *socket) last(uuid string) (m message, came bool, arrived <-chan struct{}, ended error) {
	all, arrived, ended := s.about(uuid)
	for _, m := range all {
		if final(m.Status) {
			return m, true, arrived, ended
		}
	}
	return m, false, arrived, ended
}

// close says goodbye and waits for the reader, who leaves the connection when the server does not answer in time.
func (s *socket) close() {
	_ = s.conn.Close(websocket.StatusNormalClosure, "")
	<-s.closed
}

// errSilent says that a message which was due did not come.
var errSilent = errors.New("the websocket did not tell")

// final tells whether a job with this status has ended.
func final(status string) bool {
	switch status {
	case "finished", "failed", "cancelled", "unknown", "denied":
		return true
	}
	return false
}

// pause waits for a moment, a signal, or the end of the time.
func pause(ctx context.Context, signal <-chan struct{}, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-signal:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
