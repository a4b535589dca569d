package simulate

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"time"

	"cohortflow/internal/platform/clock"
)

// Request is one that a double received. It is kept in memory only: it holds what the product sent, tokens included.
type Request struct {
	Peer    string      `json:"peer"`
	At      time.Time   `json:"at"`
	Method  string      `json:"method"`
	URI     string      `json:"uri"`
	Headers http.Header `json:"headers"`
	Body    string      `json:"body"` // its first 64 KiB, as far as the double read it
	Status  int         `json:"status"`
}

const (
	requestsMost = 1000
	bodyMost     = 64 << 10
)

// recorder keeps the last requests to all doubles (contract: peers.md 15.1).
type recorder struct {
	clock clock.Clock

	mu   sync.Mutex
	kept []Request
}

// of returns the requests to one double, or to all, oldest first.
func (rec *recorder) of(peer string) []Request {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	found := []Request{}
	for _, r := range rec.kept {
		if peer == "" || r.Peer == peer {
			found = append(found, r)
		}
	}
	return found
}

// wrap records the requests to a double once they are answered, also those that a fault breaks off.
func (rec *recorder) wrap(peer string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := Request{Peer: peer, At: rec.clock.Now(), Method: r.Method, URI: r.URL.RequestURI(), Headers: r.Header.Clone()}
		body := &head{}
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, body), r.Body}
		status := &statusKept{ResponseWriter: w}
		defer func() {
			seen.Body, seen.Status = body.String(), status.code
			rec.mu.Lock()
			defer rec.mu.Unlock()
			if rec.kept = append(rec.kept, seen); len(rec.kept) > requestsMost {
				rec.kept = append([]Request{}, rec.kept[len(rec.kept)-requestsMost:]...)
			}
		}()
		next.ServeHTTP(status, r)
	})
}

// head keeps the beginning of what is written to it.
type head struct{ bytes.Buffer }

func (h *head) Write(data []byte) (int, error) {
	if room := bodyMost - h.Len(); room > 0 {
		h.Buffer.Write(data[:min(room, len(data))])
	}
	return len(data), nil
}

// statusKept remembers the status of an answer; 0: there was none.
type statusKept struct {
	http.ResponseWriter
	code int
}

func (s *statusKept) WriteHeader(code int) {
	if s.code == 0 {
		s.code = code
	}
	s.ResponseWriter.WriteHeader(code)
}

func (s *statusKept) Write(data []byte) (int, error) {
	if s.code == 0 {
		s.code = http.StatusOK
	}
	return s.ResponseWriter.Write(data)
}

// Unwrap lets http.ResponseController reach the connection.
func (s *statusKept) Unwrap() http.ResponseWriter { return s.ResponseWriter }
