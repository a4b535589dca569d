// Package telemetry makes the logger and the metrics of a process, and the listener that shows the metrics: one of its
// own, since the fronts' proxy exposes the main one. app uses it. Nothing it emits names a person, a query or a token:
// labels are routes, kinds, states and task names.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Logger writes JSON lines of the given level (debug, info, warn, error) and above. What is logged for a request tells which:
// see WithRequest.
func Logger(w io.Writer, level, process string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("LOG_LEVEL: %w", err)
	}
	return slog.New(requestHandler{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l})}).With("process", process), nil
}

// Metrics are those of one process.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
}

// NewMetrics registers the Go runtime's metrics and the requests'.
func NewMetrics() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "cohortflow_http_request_seconds", Help: "Duration of answered requests, by route pattern.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60},
	}, []string{"method", "route", "status"})}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), m.requests)
	return m
}

// Observe is web.Config.Observe.
func (m *Metrics) Observe(method, route string, status int, took time.Duration) {
	if route == "" {
		route = "none" // an unknown path: its text must not become a label
	}
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions, http.MethodTrace:
	default:
		method = "other" // nor must a word that a client made up
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}

// Gauges adds figures that are read when somebody looks: name → help, and a function that gives the values by label.
func (m *Metrics) Gauges(name, help, label string, read func(ctx context.Context) (map[string]float64, error)) {
	m.registry.MustRegister(&gauges{desc: prometheus.NewDesc(name, help, []string{label}, nil), read: read})
}

type gauges struct {
	desc *prometheus.Desc
	read func(ctx context.Context) (map[string]float64, error)
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) { ch <- g.desc }

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	values, err := g.read(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(g.desc, err)
		return
	}
	for label, value := range values {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, value, label)
	}
}

// Handler shows the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// HTTPServer is an http.Server as a lifecycle.Service. Its Start fails at once when the address cannot be had.
type HTTPServer struct {
	Name string
	Addr string
	// Setting is the variable that gives Addr, for the error of an address that cannot be had.
	Setting string
	Handler http.Handler
	Log     *slog.Logger

	mu       sync.Mutex
	server   *http.Server // nil: it does not serve
	served   chan struct{}
	listener net.Listener
}

// Start listens and serves. While it serves, a second Start does nothing.
func (s *HTTPServer) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		return nil
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", s.Addr)
	if err != nil {
		return fmt.Errorf("the %s cannot listen on %s (another address: %s): %w", s.Name, s.Addr, s.Setting, err)
	}
	server := &http.Server{Handler: s.Handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug)}
	served := make(chan struct{})
	s.server, s.served, s.listener = server, served, listener
	go func() {
		defer close(served)
		if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.Log.Error(s.Name+" stopped serving", "error", err)
		}
	}()
	return nil
}

// Address is where it listens, or listened last: the port that ":0" became; "" before the first Start.
func (s *HTTPServer) Address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// Stop lets requests finish, for as long as ctx allows, and then breaks them off. Afterwards the address is free. A second
// Stop, or one without Start, does nothing.
func (s *HTTPServer) Stop(ctx context.Context) error {
	s.mu.Lock()
	server, served := s.server, s.served
	s.server = nil
	s.mu.Unlock()
	if server == nil {
		return nil
	}
	err := server.Shutdown(ctx)
	if err != nil {
		_ = server.Close()
		err = fmt.Errorf("stop %s: %w", s.Name, err)
	}
	<-served // it returns once the listener is closed
	return err
}
