package realtime

import (
	"context"
	"encoding/json"
	"time"

	"github.com/coder/websocket"
)

// handshake is the answer to a client's first message, or to each further one.
type handshake struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Details string `json:"details"`
}

const missingToken = `Could not understand the JSON object, "token" key missing`

// read takes the client's messages until the connection ends. A socket that does not say who it is in time is dropped.
func (h *Hub) read(ctx context.Context, s *socket) {
	s.conn.SetReadLimit(64 << 10)
	greet := time.AfterFunc(h.cfg.GreetWithin, s.done)
	defer greet.Stop()
	// Reading goes on while ctx ends: a read that is cut short would take the connection down before the writer's closing
	// frame is out. The writer's Close ends it.
	whole := context.WithoutCancel(ctx)
	for {
		kind, raw, err := s.conn.Read(whole)
		if err != nil {
			return
		}
		if kind == websocket.MessageBinary {
			_ = s.conn.Close(websocket.StatusInternalError, "")
			return
		}
		switch h.greeted(ctx, s, raw) {
		case "accepted":
			greet.Stop()
		case "forbidden":
			_ = s.conn.Close(websocket.StatusNormalClosure, "")
			return
		}
	}
}

// greeted answers one message of the client; the status is "" for what is ignored.
func (h *Hub) greeted(ctx context.Context, s *socket, raw []byte) (status string) {
	var message any
	if json.Unmarshal(raw, &message) != nil {
		return ""
	}
	object, isObject := message.(map[string]any)
	if !isObject {
		return h.answer(ctx, s, "forbidden", "Bad token")
	}
	token, method := object["token"], object["auth_method"]
	if isEmpty(token) || isEmpty(method) {
		return h.answer(ctx, s, "pending", missingToken)
	}
	tokenText, isText := token.(string)
	methodText, _ := method.(string)
	headers, _ := object["headers"].(map[string]any)
	impersonate, _ := headers["X-Impersonate"].(string)
	if !isText {
		return h.answer(ctx, s, "forbidden", "Bad token")
	}
	username, known, err := h.cfg.Identify(ctx, tokenText, methodText, impersonate)
	switch {
	case err != nil:
		h.cfg.Log.WarnContext(ctx, "websocket: a token could not be checked", "error", err)
		return h.answer(ctx, s, "forbidden", "Bad token")
	case !known:
		return h.answer(ctx, s, "pending", missingToken)
	case username == "":
		return h.answer(ctx, s, "forbidden", "Bad token")
	}
	return h.accept(ctx, s, username)
}

// accept answers first and joins then, so that nothing overtakes the answer; what happened between is in the welcome.
func (h *Hub) accept(ctx context.Context, s *socket, username string) string {
	h.answer(ctx, s, "accepted", "")
	h.join(s, username)
	if h.cfg.Welcome == nil {
		return "accepted"
	}
	messages, err := h.cfg.Welcome(ctx, username)
	if err != nil {
		h.cfg.Log.WarnContext(ctx, "websocket: the latest results could not be read", "error", err)
	}
	for _, m := range messages {
		if raw, err := json.Marshal(m); err == nil {
			h.enqueue(s, raw)
		}
	}
	return "accepted"
}

// answer writes at once, past the queue: a refusal must be out before the connection is closed.
func (h *Hub) answer(ctx context.Context, s *socket, status, details string) string {
	raw, _ := json.Marshal(handshake{Type: "handshake", Status: status, Details: details})
	if err := h.writeOne(ctx, s, raw); err != nil {
		s.done()
	}
	return status
}

func isEmpty(v any) bool { return v == nil || v == "" }
