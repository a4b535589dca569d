package simulate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// door serves one double over HTTP.
type door struct {
	name, address string
	handler       http.Handler
	log           *slog.Logger

	mu       sync.Mutex
	listener net.Listener
	server   *http.Server
	cancel   context.CancelFunc
	served   chan struct{}
}

// Start listens and serves.
func (d *door) Start(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listener != nil {
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", d.address)
	if err != nil {
		return fmt.Errorf("listen for %s: %w", d.name, err)
	}
	// Requests end with the door: one that hangs on purpose must not hold up Stop.
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	server := &http.Server{Handler: d.handler, ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return requests },
		ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug)}
	served := make(chan struct{})
	d.listener, d.server, d.cancel, d.served = listener, server, cancel, served
	go func() {
		defer close(served)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			d.log.Error("simulators: serve", "double", d.name, "error", err)
		}
	}()
	return nil
}

// Stop closes the port and ends the requests under way.
func (d *door) Stop(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listener == nil {
		return nil
	}
	d.cancel()
	err := d.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, d.server.Close())
	}
	<-d.served
	d.listener = nil
	return err
}

// addr is host:port, once started.
func (d *door) addr() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listener == nil {
		return ""
	}
	return d.listener.Addr().String()
}
