package storage

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"
)

// cluster is a name node and a data node, each on a server of its own, over files in memory.
type cluster struct {
	name, data *httptest.Server

	mu    sync.Mutex
	files map[string]string
	calls []*http.Request
	// onName and onData may take a request over; they answer true when they did.
	onName, onData func(w http.ResponseWriter, r *http.Request) bool
}

func startCluster(t *testing.T, files map[string]string) *cluster {
	t.Helper()
	c := &cluster{files: map[string]string{}}
	for name, content := range files {
		c.files[name] = content
	}
	c.data = httptest.NewServer(http.HandlerFunc(c.serveData))
	c.name = httptest.NewServer(http.HandlerFunc(c.serveName))
	t.Cleanup(func() { c.name.Close(); c.data.Close() })
	return c
}

func (c *cluster) record(r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, r)
}

// asked lists the operations of the calls, data node ones with a star.
func (c *cluster) asked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ops []string
	for _, call := range c.calls {
		op := call.URL.Query().Get("op")
		if strings.HasPrefix(call.URL.Path, "/node") {
			op += "*"
		}
		ops = append(ops, op)
	}
	return ops
}

func (c *cluster) content(name string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	content, ok := c.files[name]
	return content, ok
}

func (c *cluster) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for name := range c.files {
		names = append(names, name)
	}
	return names
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func exception(w http.ResponseWriter, status int, name, message string) {
	answerJSON(w, status, map[string]any{"RemoteException": map[string]any{"exception": name, "javaClassName": "x." + name, "message": message}})
}

func boolean(w http.ResponseWriter, value bool) {
	answerJSON(w, http.StatusOK, map[string]any{"boolean": value})
}

func (c *cluster) serveName(w http.ResponseWriter, r *http.Request) {
	c.record(r)
	if c.onName != nil && c.onName(w, r) {
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/webhdfs/v1")
	content, exists := c.content(name)
	switch op := r.Method + " " + r.URL.Query().Get("op"); op {
	case "GET GETFILESTATUS", "GET OPEN":
		switch {
		case !exists && name == "/dir":
			answerJSON(w, http.StatusOK, map[string]any{"FileStatus": map[string]any{"length": 0, "type": "DIRECTORY"}})
		case !exists:
			exception(w, http.StatusNotFound, "FileNotFoundException", "File does not exist: "+name)
		case op == "GET OPEN":
			c.redirect(w, r, name)
		default:
			answerJSON(w, http.StatusOK, map[string]any{"FileStatus": map[string]any{"length": len(content), "type": "FILE"}})
		}
	case "PUT CREATE":
		c.redirect(w, r, name)
	case "PUT MKDIRS":
		boolean(w, true)
	case "DELETE DELETE":
		c.mu.Lock()
		delete(c.files, name)
		c.mu.Unlock()
		boolean(w, exists)
	case "PUT RENAME":
		to := r.URL.Query().Get("destination")
		if _, taken := c.content(to); taken || !exists {
			boolean(w, false)
			return
		}
		c.mu.Lock()
		c.files[to] = content
		delete(c.files, name)
		c.mu.Unlock()
		boolean(w, true)
	default:
		exception(w, http.StatusBadRequest, "IllegalArgumentException", "no such op\n\tat org.apache.hadoop")
	}
}

func (c *cluster) redirect(w http.ResponseWriter, r *http.Request, name string) {
	query := url.Values{"op": r.URL.Query()["op"], "delegation": {"secret-token"}}
	w.Header().Set("Location", c.data.URL+path.Join("/node", (&url.URL{Path: name}).EscapedPath())+"?"+query.Encode())
	w.WriteHeader(http.StatusTemporaryRedirect)
}

func (c *cluster) serveData(w http.ResponseWriter, r *http.Request) {
	c.record(r)
	if c.onData != nil && c.onData(w, r) {
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/node")
	if r.Method == http.MethodPut {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		c.mu.Lock()
		c.files[name] = string(body)
		c.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
		return
	}
	content, _ := c.content(name)
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = io.WriteString(w, content)
}

// drop breaks the connection without an answer.
func drop(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

func standby(w http.ResponseWriter, _ *http.Request) bool {
	exception(w, http.StatusForbidden, "StandbyException", "Operation category READ is not supported in state standby")
	return true
}
