package app

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/cohort"
	"cohortflow/internal/engine"
	"cohortflow/internal/platform/platformtest"
)

// greeting is what a caller says on the websocket: the token of the user, and whom they want to be.
func (w *world) greeting(c caller) map[string]any {
	w.t.Helper()
	switch {
	case c.name == "nobody":
		return map[string]any{"auth_method": "JWT"}
	case c.name == "badToken":
		return map[string]any{"token": "no.such.token", "auth_method": "JWT"}
	case c.key != "":
		return map[string]any{"token": c.key, "auth_method": "JWT"}
	}
	user, headers := c.name, map[string]any{}
	if c.user != "" {
		user, headers = c.user, map[string]any{"X-Impersonate": c.as}
	}
	pair, err := w.app.parts.tokens.Issue(user)
	require.NoError(w.t, err)
	return map[string]any{"token": pair.Access, "auth_method": "JWT", "headers": headers}
}

// heard is a message of the websocket, as far as the tests look at it.
type heard struct{ Type, Status, UUID string }

// TestWebsocketMatrix: who is let in as whom, and that what happens to an owner's job is told to sockets of the owner only.
func TestWebsocketMatrix(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onSQLite(t))
	w.reset()
	server := httptest.NewServer(w.http)
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), platformtest.Patience)
	t.Cleanup(cancel)
	read := func(conn *websocket.Conn) (message heard, err error) {
		_, raw, err := conn.Read(ctx)
		if err == nil {
			require.NoError(t, json.Unmarshal(raw, &message))
		}
		return message, err
	}
	sockets := map[string]*websocket.Conn{}
	greet := func(name string, hello map[string]any) heard {
		raw, err := json.Marshal(hello)
		require.NoError(t, err)
		require.NoError(t, sockets[name].Write(ctx, websocket.MessageText, raw))
		answer, err := read(sockets[name])
		require.NoError(t, err, name)
		require.Equal(t, "handshake", answer.Type, name)
		return answer
	}
	accepted := []string{}
	for _, c := range callers {
		conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(server.URL, "http")+"/ws/", nil)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.CloseNow() })
		sockets[c.name] = conn
		want := "accepted"
		switch {
		case c.name == "nobody":
			want = "pending"
		case c.unknown, c.key != "", c.name == "ownerAsAdmin":
			want = "forbidden"
		}
		require.Equal(t, want, greet(c.name, w.greeting(c)).Status, c.name)
		switch want {
		case "accepted":
			accepted = append(accepted, c.name)
			greet(c.name, w.greeting(c)) // the second answer comes after the first greeting is done
		case "forbidden":
			_, err := read(conn)
			require.Equal(t, websocket.StatusNormalClosure, websocket.CloseStatus(err), "%s: %v", c.name, err)
		}
	}

	require.NoError(t, w.app.deliver(ctx, engine.Entry{Kind: cohort.KindCount, Subject: w.ids["owner.measure"], Owner: "owner", Event: "done",
		From: engine.Pending, To: engine.Finished, Applied: true}))
	w.app.hub.Broadcast(map[string]string{"type": "last"})
	for _, name := range accepted {
		var got []heard
		for len(got) == 0 || got[len(got)-1].Type != "last" {
			message, err := read(sockets[name])
			require.NoError(t, err, name)
			got = append(got, message)
		}
		want := []heard{{Type: "last"}}
		if name == "owner" || name == "adminAsOwner" {
			want = []heard{{"job_status", "finished", w.ids["owner.measure"]}, {Type: "last"}}
		}
		require.Equal(t, want, got, name)
	}
	require.Equal(t, "pending", greet("nobody", map[string]any{}).Status, "who has not said who it is was told nothing before")
}
