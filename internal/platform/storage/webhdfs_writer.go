package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// watch ends a request when nothing has moved for a while. Only time spent waiting for the server counts.
type watch struct {
	timer    *time.Timer
	patience time.Duration
	cancel   context.CancelFunc
}

// newWatch starts waiting: for the first answer.
func newWatch(ctx context.Context, patience time.Duration) (context.Context, *watch) {
	ctx, cancel := context.WithCancel(ctx)
	return ctx, &watch{timer: time.AfterFunc(patience, cancel), patience: patience, cancel: cancel}
}

func (w *watch) begin() { w.timer.Reset(w.patience) }
func (w *watch) pause() { w.timer.Stop() }
func (w *watch) end()   { w.timer.Stop(); w.cancel() }

// watchedBody is a body whose every read is waited for so long and no longer.
type watchedBody struct {
	io.ReadCloser
	ctx   context.Context
	watch *watch
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.watch.begin()
	n, err := b.ReadCloser.Read(p)
	b.watch.pause()
	if err != nil && !errors.Is(err, io.EOF) {
		err = stalled(b.ctx, err)
	}
	return n, err
}

// stalled tells the end of the caller's context from that of our patience, both of which cancel the request.
func stalled(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("the storage server went silent: %w", os.ErrDeadlineExceeded)
	}
	return err
}

func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	b.watch.end()
	return err
}

// webWriter is a file being written through WebHDFS: what is written flows through a pipe into the body of one request.
type webWriter struct {
	ctx               context.Context
	server            *webHDFS
	watch             *watch
	pipe              *io.PipeWriter
	result            chan error // what became of the request, once
	temporary, target string
	ended             bool
}

func startWriting(ctx, writing context.Context, server *webHDFS, watch *watch, redirect *http.Response, temporary, target string) *webWriter {
	source, pipe := io.Pipe()
	body := &endedReader{PipeReader: source}
	w := &webWriter{
		ctx: ctx, server: server, watch: watch, pipe: pipe, result: make(chan error, 1), temporary: temporary, target: target,
	}
	watch.pause()
	go func() {
		response, err := server.follow(writing, http.MethodPut, redirect, body)
		if err == nil {
			if response.StatusCode != http.StatusCreated && response.StatusCode != http.StatusOK {
				err = refusal(response)
			} else if !body.ended.Load() {
				err = errors.New("the data node answered before the end of the file")
			}
			discard(response)
		}
		w.result <- err
		_ = source.CloseWithError(cmp.Or(err, errEnded))
	}()
	return w
}

// endedReader remembers that its end was reached: only then was the whole file sent.
type endedReader struct {
	*io.PipeReader
	ended atomic.Bool
}

func (r *endedReader) Read(p []byte) (int, error) {
	n, err := r.PipeReader.Read(p)
	if errors.Is(err, io.EOF) {
		r.ended.Store(true)
	}
	return n, err
}

func (w *webWriter) Write(p []byte) (int, error) {
	w.watch.begin()
	n, err := w.pipe.Write(p)
	w.watch.pause()
	if err != nil {
		return n, fmt.Errorf("write file: %w", stalled(w.ctx, err))
	}
	return n, nil
}

func (w *webWriter) Commit() error {
	if w.ended {
		return errEnded
	}
	w.ended = true
	_ = w.pipe.Close()
	w.watch.begin()
	err := <-w.result
	w.watch.end()
	if err == nil {
		err = w.rename()
	}
	if err != nil {
		_ = w.discard()
		return fmt.Errorf("commit file: %w", stalled(w.ctx, err))
	}
	return nil
}

// rename replaces what is there: WebHDFS answers false to a name that is taken.
func (w *webWriter) rename() error {
	done, err := w.server.rename(w.ctx, w.temporary, w.target)
	if err != nil || done {
		return err
	}
	if err := w.server.remove(w.ctx, w.target); err != nil {
		return err
	}
	if done, err = w.server.rename(w.ctx, w.temporary, w.target); err == nil && !done {
		err = &remoteError{exception: "RENAME refused", message: "Cannot rename to " + w.target}
	}
	return err
}

func (w *webWriter) Abort() error {
	if w.ended {
		return nil
	}
	w.ended = true
	w.pipe.CloseWithError(errAborted)
	w.watch.end()
	<-w.result
	if err := w.discard(); err != nil {
		return fmt.Errorf("abort file: %w", err)
	}
	return nil
}

var errAborted = errors.New("aborted")

// discard removes the temporary file even when the caller's context has ended.
func (w *webWriter) discard() error {
	return w.server.remove(context.WithoutCancel(w.ctx), w.temporary)
}
