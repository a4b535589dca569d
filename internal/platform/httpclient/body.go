package httpclient

import (
	"context"
	"io"
	"time"
)

// readBounded reads the body whole, and fails rather than cut it.
func readBounded(body io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, errTooLarge
	}
	return data, nil
}

// stream is a body that fails when the peer falls silent for too long.
type stream struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	pause   time.Duration
	body    io.ReadCloser
	ex      *exchange
	bounded bool
	left    int64
}

func (s *stream) Read(p []byte) (int, error) {
	s.timer.Reset(s.pause)
	n, err := s.body.Read(p)
	// The consumer's own pace is not the peer's fault: between two reads the clock stands still.
	s.timer.Stop()
	if s.bounded {
		if s.left -= int64(n); s.left < 0 {
			return 0, s.ex.end(s.ctx, s.ex.bodyError(s.ctx, errTooLarge))
		}
	}
	switch {
	case err == io.EOF:
		_ = s.ex.end(s.ctx, nil)
	case err != nil:
		err = s.ex.end(s.ctx, s.ex.bodyError(s.ctx, err))
	}
	return n, err
}

// Close gives the connection back. A stream that is closed before its end was an exchange that went well.
func (s *stream) Close() error {
	s.timer.Stop()
	_ = s.ex.end(s.ctx, nil)
	err := s.body.Close()
	s.cancel(nil)
	return err
}
