package realtime_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/realtime"
)

func TestHub(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T, change func(*realtime.Config)) (*realtime.Hub, func() *websocket.Conn) {
		t.Helper()
		cfg := realtime.Config{Log: slog.New(slog.DiscardHandler), Identify: func(_ context.Context, token, method, as string) (string, bool, error) {
			switch {
			case method != "JWT":
				return "", false, nil
			case token == "broken":
				return "", true, errors.New("the database is away")
			case as != "":
				return as, true, nil
			}
			return strings.TrimPrefix(token, "token-of-"), true, nil
		}}
		if change != nil {
			change(&cfg)
		}
		hub := realtime.NewHub(cfg)
		server := httptest.NewServer(hub)
		t.Cleanup(func() {
			require.NoError(t, hub.Stop(context.Background()))
			server.Close()
		})
		return hub, func() *websocket.Conn {
			conn, _, err := websocket.Dial(t.Context(), server.URL, nil)
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.CloseNow() })
			return conn
		}
	}
	read := func(t *testing.T, c *websocket.Conn) map[string]any {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var v map[string]any
		require.NoError(t, wsjson.Read(ctx, c, &v))
		return v
	}
	write := func(t *testing.T, c *websocket.Conn, text string) {
		t.Helper()
		require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte(text)))
	}
	closed := func(t *testing.T, c *websocket.Conn, want websocket.StatusCode) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, _, err := c.Read(ctx)
		require.Equal(t, want, websocket.CloseStatus(err), "%v", err)
	}
	const alice = `{"token":"token-of-alice","auth_method":"JWT"}`

	t.Run("SendsToEverySocketOfTheUserAndNobodyElse", func(t *testing.T) {
		t.Parallel()
		hub, dial := setup(t, nil)
		one, two, other := dial(), dial(), dial()
		for _, c := range []*websocket.Conn{one, two} {
			write(t, c, alice)
			require.Equal(t, "accepted", read(t, c)["status"])
		}
		write(t, other, `{"token":"token-of-bob","auth_method":"JWT"}`)
		read(t, other)
		require.Eventually(t, func() bool { return hub.Connected("alice") && hub.Connected("bob") }, 5*time.Second, time.Millisecond)
		hub.Send("alice", map[string]any{"n": 1})
		hub.Broadcast(map[string]any{"n": 2})
		require.EqualValues(t, 1, read(t, one)["n"])
		require.EqualValues(t, 2, read(t, one)["n"])
		require.EqualValues(t, 2, read(t, other)["n"], "the first one was not for bob")
	})
	t.Run("LeavesTheFormerUser", func(t *testing.T) {
		t.Parallel()
		hub, dial := setup(t, nil)
		c := dial()
		write(t, c, alice)
		read(t, c)
		write(t, c, `{"token":"token-of-admin","auth_method":"JWT","headers":{"X-Impersonate":"carol"}}`)
		read(t, c)
		require.Eventually(t, func() bool { return hub.Connected("carol") }, 5*time.Second, time.Millisecond)
		require.False(t, hub.Connected("alice"))
	})
	t.Run("AnswersWhatLacksSomethingAndStaysOpen", func(t *testing.T) {
		t.Parallel()
		_, dial := setup(t, nil)
		c := dial()
		write(t, c, `not json`)
		for _, text := range []string{`{}`, `{"token":"x"}`, `{"auth_method":"JWT"}`, `{"token":"x","auth_method":"SAML"}`} {
			write(t, c, text)
			require.Equal(t, "pending", read(t, c)["status"], text)
		}
		write(t, c, alice)
		require.Equal(t, "accepted", read(t, c)["status"])
	})
	for name, text := range map[string]string{"BadToken": `{"token":"token-of-","auth_method":"JWT"}`, "NotAText": `{"token":7,"auth_method":"JWT"}`, "NoObject": `[1]`, "Unchecked": `{"token":"broken","auth_method":"JWT"}`} {
		t.Run("Ends"+name, func(t *testing.T) {
			t.Parallel()
			_, dial := setup(t, nil)
			c := dial()
			write(t, c, text)
			require.Equal(t, map[string]any{"type": "handshake", "status": "forbidden", "details": "Bad token"}, read(t, c))
			closed(t, c, websocket.StatusNormalClosure)
		})
	}
	t.Run("EndsOnBinary", func(t *testing.T) {
		t.Parallel()
		_, dial := setup(t, nil)
		c := dial()
		require.NoError(t, c.Write(t.Context(), websocket.MessageBinary, []byte{1}))
		closed(t, c, websocket.StatusInternalError)
	})
	t.Run("DropsWhoNeverSaysWhoTheyAre", func(t *testing.T) {
		t.Parallel()
		_, dial := setup(t, func(cfg *realtime.Config) { cfg.GreetWithin = time.Millisecond })
		closed(t, dial(), websocket.StatusGoingAway)
	})
	t.Run("WelcomesWithTheLatestResults", func(t *testing.T) {
		t.Parallel()
		_, dial := setup(t, func(cfg *realtime.Config) {
			cfg.Welcome = func(_ context.Context, username string) ([]any, error) {
				return []any{map[string]any{"for": username}}, nil
			}
		})
		c := dial()
		write(t, c, alice)
		require.Equal(t, "accepted", read(t, c)["status"])
		require.Equal(t, "alice", read(t, c)["for"])
	})
}
