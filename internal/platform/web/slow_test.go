package web_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/platformtest"
	"cohortflow/internal/platform/web"
)

// slowServer reads bodies at /read/, refuses before reading at /refuse/, and answers without reading at /ignore/.
func slowServer(t *testing.T, within time.Duration) *web.Server {
	t.Helper()
	read := func(c *gin.Context) error {
		body, err := web.Body(c)
		if err != nil {
			return err
		}
		web.JSON(c, 200, map[string]any(body))
		return nil
	}
	ignore := func(c *gin.Context) error { web.JSON(c, 200, map[string]any{}); return nil }
	return web.New(web.Config{Log: platformtest.Log(t), BodyWithin: within, Authorize: func(*gin.Context, web.Who) error { return fault.Unauthenticated{} }}, web.Table{
		{Method: "POST", Path: "/read/", For: web.Anyone, Do: read}, {Method: "POST", Path: "/refuse/", For: web.AnyUser, Do: read},
		{Method: "POST", Path: "/ignore/", For: web.Anyone, Do: ignore}, {Method: "GET", Path: "/read/", For: web.Anyone, Do: ignore},
	})
}

func TestBodiesThatNeverEnd(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(slowServer(t, 20*time.Millisecond))
	t.Cleanup(server.Close)
	for path, want := range map[string]int{"/read/": 408, "/refuse/": 403, "/ignore/": 200, "/nothing/": 404} {
		for kind, head := range map[string]string{"Announced": "Content-Length: 1000", "Chunked": "Transfer-Encoding: chunked"} {
			t.Run(kind+path, func(t *testing.T) {
				t.Parallel()
				line, err := net.Dial("tcp", server.Listener.Addr().String())
				require.NoError(t, err)
				defer func() { _ = line.Close() }()
				require.NoError(t, line.SetDeadline(time.Now().Add(time.Minute))) // the test fails rather than hang
				_, err = fmt.Fprintf(line, "POST %s HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n%s\r\n\r\n5\r\n{\"a\":", path, head)
				require.NoError(t, err)
				in := bufio.NewReader(line)
				resp, err := http.ReadResponse(in, nil)
				require.NoError(t, err)
				require.Equal(t, want, resp.StatusCode)
				_, _ = io.Copy(io.Discard, resp.Body)
				_, err = in.ReadByte()
				require.ErrorIs(t, err, io.EOF, "the connection is given up")
			})
		}
	}
}

// watchedLine notes the deadlines that are set on a connection.
type watchedLine struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (w *watchedLine) SetReadDeadline(t time.Time) error {
	w.set = append(w.set, t)
	return nil
}

func TestDeadlinesOfBodies(t *testing.T) {
	t.Parallel()
	server := slowServer(t, 0)
	for name, tt := range map[string]struct {
		method, path, body string
		want               []bool // of each deadline: is there one
	}{
		"Read":    {"POST", "/read/", `{"a":1}`, []bool{true, false}},
		"Refused": {"POST", "/refuse/", `{"a":1}`, []bool{true}},
		"Ignored": {"POST", "/ignore/", `{"a":1}`, []bool{true}},
		"None":    {"GET", "/read/", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			line := &watchedLine{ResponseRecorder: httptest.NewRecorder()}
			var body io.Reader = http.NoBody
			if tt.body != "" {
				body = strings.NewReader(tt.body)
			}
			r := httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, body)
			r.Header.Set("Content-Type", "application/json")
			server.ServeHTTP(line, r)
			var got []bool
			for _, at := range line.set {
				got = append(got, !at.IsZero())
			}
			require.Equal(t, tt.want, got)
			if len(got) > 0 {
				require.WithinDuration(t, time.Now().Add(web.DefaultBodyWithin), line.set[0], 30*time.Second)
			}
		})
	}
}
