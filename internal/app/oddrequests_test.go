package app_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/platformtest"
)

// sends writes a request as it stands, byte by byte, and reads the answer: what no HTTP client can be made to send.
func (s *served) sends(t *testing.T, method, path string, c caller, header, body string) (*http.Response, string) {
	t.Helper()
	conn := s.connect(t)
	_, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s%s\r\n%s", method, path, lines(c), header, body)
	require.NoError(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	require.NoError(t, err, "%s %s", method, path)
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	return answer, string(text)
}

// connect is a connection that ends with the test, and does not wait for ever.
func (s *served) connect(t *testing.T) *net.TCPConn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), platformtest.Patience)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	limit, _ := ctx.Deadline()
	require.NoError(t, conn.SetDeadline(limit))
	return conn.(*net.TCPConn)
}

// lines are the caller's headers on the wire.
func lines(c caller) string {
	var all strings.Builder
	for name, value := range c.header {
		fmt.Fprintf(&all, "%s: %s\r\n", name, value)
	}
	return all.String()
}

// TestOddMethods: a method that no route has is refused in the contract's shape, and does nothing; whoever asks, and wherever.
func TestOddMethods(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, s *served) {
		before := s.rows(t)
		for _, path := range []string{"/cohort/folders/", "/cohort/folders/" + s.refs[0] + "/", "/auth/login/", "/maintenances/", "/healthz", "/schema", "/ws/", "/nothing/", "/", "*"} {
			for _, method := range []string{"TRACE", "CONNECT", "PROPFIND", "PURGE", "get", "Post", "MADE_UP", "X" + strings.Repeat("Y", 3000)} {
				for _, c := range s.callers[:3] {
					answer, text := s.sends(t, method, path, c, "Content-Length: 2\r\nContent-Type: application/json\r\n", "{}")
					what := fmt.Sprintf("%.20s %s as %s: %d %.200s", method, path, c.name, answer.StatusCode, text)
					require.GreaterOrEqual(t, answer.StatusCode, 400, what)
					require.Less(t, answer.StatusCode, 500, what)
					require.NotContains(t, text, "Bearer", what) // TRACE would send back what it was sent
				}
			}
		}
		require.Equal(t, before, s.rows(t))
	})
}

// huge is a body of 50 MB that is never held in memory by us.
func huge() io.Reader {
	const size = 50 << 20
	return io.MultiReader(strings.NewReader(`{"name":"`), io.LimitReader(endless('x'), size), strings.NewReader(`"}`))
}

// endless reads as one byte again and again.
type endless byte

// Read implements io.Reader.
func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// TestHugeBodies: 50 MB are refused by every route that has a body, with and without a length.
func TestHugeBodies(t *testing.T) {
	t.Parallel()
	s := serve(t, onFile(t))
	before, tooLarge := s.rows(t), 0
	for _, r := range s.app.Routes() {
		if r.Body == nil {
			continue
		}
		path := s.url + strings.NewReplacer(":uuid", s.refs[0], ":nested", s.refs[0], ":id", "1", ":username", "alice").Replace(r.Path)
		for _, c := range []caller{s.callers[1], s.callers[0]} {
			for _, length := range []int64{50<<20 + 11, -1} {
				request, err := http.NewRequestWithContext(t.Context(), r.Method, path, io.NopCloser(huge()))
				require.NoError(t, err)
				request.ContentLength = length
				request.Header.Set("Content-Type", "application/json")
				for name, value := range c.header {
					request.Header.Set(name, value)
				}
				answer, err := http.DefaultClient.Do(request)
				if err != nil { // it hung up on us in the middle of it
					continue
				}
				text, err := io.ReadAll(answer.Body)
				require.NoError(t, err)
				require.NoError(t, answer.Body.Close())
				require.GreaterOrEqual(t, answer.StatusCode, 400, "%s %s as %s: %.200s", r.Method, r.Path, c.name, text)
				require.Less(t, answer.StatusCode, 500, "%s %s as %s: %.200s", r.Method, r.Path, c.name, text)
				if answer.StatusCode == http.StatusRequestEntityTooLarge {
					tooLarge++
				}
			}
		}
	}
	require.Greater(t, tooLarge, 20)
	require.Equal(t, before, s.rows(t))
}

// TestTruncatedBodies: who promises more than comes, and then hangs up or says that this was all, has changed nothing.
func TestTruncatedBodies(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, s *served) {
		before, answered := s.rows(t), 0
		bodies := []string{`Content-Length: 500` + "\r\n\r\n" + `{"name":"cut`, `Content-Length: 500` + "\r\n\r\n" + `{"name":"whole"}`, "Content-Length: 1\r\n\r\n",
			"Transfer-Encoding: chunked\r\n\r\n10\r\n" + `{"name":"cut"}`, "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"}
		for _, r := range s.app.Routes() {
			if r.Body == nil || slices.Contains([]string{http.MethodGet, http.MethodDelete}, r.Method) {
				continue
			}
			path := strings.NewReplacer(":uuid", s.refs[0], ":nested", s.refs[0], ":id", "1", ":username", "alice").Replace(r.Path)
			for _, body := range bodies {
				conn := s.connect(t)
				_, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%s%s", r.Method, path, lines(s.callers[1]), body)
				require.NoError(t, err)
				require.NoError(t, conn.CloseWrite())
				raw, err := io.ReadAll(conn) // until it hangs up, too
				require.NoError(t, err, "%s %s", r.Method, path)
				if len(raw) == 0 {
					continue // it did not answer somebody who is gone
				}
				answered++
				answer, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(raw))), nil)
				require.NoError(t, err, "%s %s %q: %s", r.Method, path, body, raw)
				text, _ := io.ReadAll(answer.Body)
				require.NoError(t, answer.Body.Close())
				require.GreaterOrEqual(t, answer.StatusCode, 400, "%s %s %q: %s", r.Method, path, body, text)
				require.Less(t, answer.StatusCode, 500, "%s %s %q: %s\n%s", r.Method, path, body, text, s.failures())
				require.True(t, json.Valid(text) || answer.Header.Get("Content-Type") != "application/json", "%s", text)
			}
		}
		require.Greater(t, answered, 100)
		require.Equal(t, before, s.rows(t))
	})
}
