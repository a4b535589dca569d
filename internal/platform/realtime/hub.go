// Package realtime keeps the websockets of one api process: who is connected is said in the first message, and messages
// for a user go to all of that user's sockets (contract: system.md, section 10). app gives it the authentication and
// feeds it with the engine's events through a Follower. It stores nothing and knows no job.
package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Config says what the hub must ask others. Zero durations take the contract's values.
type Config struct {
	Log *slog.Logger
	// Identify tells whose token it is: "" for nobody. known=false is a method that nobody knows.
	Identify func(ctx context.Context, token, method, impersonate string) (username string, known bool, err error)
	// Welcome gives what a new socket of a user gets at once: the user's latest final results, which the front-end does
	// not ask for again.
	Welcome func(ctx context.Context, username string) ([]any, error)
	// GreetWithin is how long a socket may stay anonymous (60 s).
	GreetWithin time.Duration
	// PingEvery and PongWithin find dead peers (20 s, 30 s).
	PingEvery, PongWithin time.Duration
}

// Hub holds the sockets. Build it with NewHub.
type Hub struct {
	cfg     Config
	mu      sync.Mutex
	sockets map[*socket]struct{}
	byUser  map[string]map[*socket]struct{}
	closed  bool
	wg      sync.WaitGroup
}

// NewHub does no I/O.
func NewHub(cfg Config) *Hub {
	if cfg.GreetWithin == 0 {
		cfg.GreetWithin = time.Minute
	}
	if cfg.PingEvery == 0 {
		cfg.PingEvery, cfg.PongWithin = 20*time.Second, 30*time.Second
	}
	return &Hub{cfg: cfg, sockets: map[*socket]struct{}{}, byUser: map[string]map[*socket]struct{}{}}
}

// queued is how many messages may wait for one socket. One that does not read them is dropped: when it comes back it is
// told its latest results again.
const queued = 256

type socket struct {
	conn *websocket.Conn
	out  chan []byte
	done context.CancelFunc
	user string // guarded by Hub.mu
}

// ServeHTTP accepts a connection and serves it until it ends.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// No origin check, as before: the token in the first message decides, and no cookie is looked at.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return // Accept has answered
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	s := &socket{conn: conn, out: make(chan []byte, queued), done: cancel}
	if !h.add(s) {
		cancel()
		_ = conn.Close(websocket.StatusGoingAway, "")
		return
	}
	defer h.remove(s)
	defer cancel()
	h.wg.Go(func() { h.write(ctx, s) })
	h.read(ctx, s)
}

// add takes a socket in, unless the hub is closed.
func (h *Hub) add(s *socket) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.sockets[s] = struct{}{}
	return true
}

func (h *Hub) remove(s *socket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sockets, s)
	h.leave(s)
	_ = s.conn.CloseNow()
}

// leave takes a socket out of its user's group; the lock is held.
func (h *Hub) leave(s *socket) {
	if s.user == "" {
		return
	}
	delete(h.byUser[s.user], s)
	if len(h.byUser[s.user]) == 0 {
		delete(h.byUser, s.user)
	}
	s.user = ""
}

// join puts a socket into a user's group, out of the former one.
func (h *Hub) join(s *socket, username string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leave(s)
	if h.byUser[username] == nil {
		h.byUser[username] = map[*socket]struct{}{}
	}
	h.byUser[username][s] = struct{}{}
	s.user = username
}

// Send gives a message to all sockets of a user.
func (h *Hub) Send(username string, message any) {
	raw, err := json.Marshal(message)
	if err != nil {
		h.cfg.Log.Error("websocket: a message cannot be written", "error", err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.byUser[username] {
		h.enqueue(s, raw)
	}
}

// Broadcast gives a message to every socket that has said who it is.
func (h *Hub) Broadcast(message any) {
	raw, err := json.Marshal(message)
	if err != nil {
		h.cfg.Log.Error("websocket: a message cannot be written", "error", err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, group := range h.byUser {
		for s := range group {
			h.enqueue(s, raw)
		}
	}
}

// Connected tells whether a user has a socket here.
func (h *Hub) Connected(username string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.byUser[username]) > 0
}

// Sockets is the number of open connections.
func (h *Hub) Sockets() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sockets)
}

// enqueue never blocks: a socket whose queue is full is dropped.
func (h *Hub) enqueue(s *socket, raw []byte) {
	select {
	case s.out <- raw:
	default:
		s.done()
	}
}

// Start implements lifecycle.Service; there is nothing to start.
func (h *Hub) Start(context.Context) error { return nil }

// Stop closes all connections (1001) and refuses new ones.
func (h *Hub) Stop(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	for s := range h.sockets {
		s.done()
	}
	h.mu.Unlock()
	ended := make(chan struct{})
	go func() { h.wg.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return errors.New("websockets were still open when the time to stop was up")
	}
}

// write sends what waits for the socket, and pings it; it ends the connection when either fails.
func (h *Hub) write(ctx context.Context, s *socket) {
	defer func() { _ = s.conn.Close(websocket.StatusGoingAway, "") }()
	defer s.done()
	ping := time.NewTicker(h.cfg.PingEvery)
	defer ping.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case raw := <-s.out:
			if err := h.writeOne(ctx, s, raw); err != nil {
				return
			}
		case <-ping.C:
			wait, cancel := context.WithTimeout(ctx, h.cfg.PongWithin)
			err := s.conn.Ping(wait)
			cancel()
			if err != nil {
				return
			}
		}
	}
}

func (h *Hub) writeOne(ctx context.Context, s *socket, raw []byte) error {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.PongWithin)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageText, raw)
}
