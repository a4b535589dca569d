package storage

import (
	"context"
	"errors"
	"io"
)

// errLonger says that a file turned out longer than announced: it was replaced or is still being written.
var errLonger = errors.New("the file is longer than the storage server said")

// exactReader gives size bytes and then io.EOF, or fails.
type exactReader struct {
	ctx  context.Context
	body io.ReadCloser
	left int64
}

func exactly(ctx context.Context, body io.ReadCloser, size int64) io.ReadCloser {
	return &exactReader{ctx: ctx, body: body, left: size}
}

func (r *exactReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.body.Read(p)
	if int64(n) > r.left {
		return 0, errLonger
	}
	r.left -= int64(n)
	if errors.Is(err, io.EOF) && r.left > 0 {
		return n, io.ErrUnexpectedEOF
	}
	if err != nil && !errors.Is(err, io.EOF) && r.ctx.Err() != nil {
		return n, r.ctx.Err()
	}
	return n, err
}

func (r *exactReader) Close() error { return r.body.Close() }
