package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"cohortflow/internal/config"
	"cohortflow/internal/platform/queue"
	"cohortflow/internal/platform/telemetry"
)

// Run is a whole process of the production shape: it reads the environment, runs the roles until it is told to stop, and
// drains. The error is for the terminal. with may change the options.
func Run(name string, roles Roles, logs io.Writer, with ...func(*Options)) error {
	cfg, err := FromEnvironment()
	if err != nil {
		return err
	}
	if err := cfg.Serving(); err != nil {
		return fmt.Errorf("the configuration is incomplete:\n%w", err)
	}
	log, err := telemetry.Logger(logs, cfg.System.LogLevel, name)
	if err != nil {
		return err
	}
	queue.RedirectLog(log)
	for _, text := range cfg.Warnings {
		log.Warn(text)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	opts := Options{Log: log, Roles: roles}
	for _, change := range with {
		change(&opts)
	}
	a, err := New(ctx, cfg, opts)
	if err != nil {
		return err
	}
	if err := a.Start(ctx); err != nil {
		return err
	}
	log.Info("started", "metrics", a.MetricsAddress())
	if roles.API {
		log.Info("listening", "address", a.Address())
	}
	<-ctx.Done()
	log.Info("stopping")
	stopping, cancel := context.WithTimeout(context.Background(), cfg.Engine.ShutdownTimeout)
	defer cancel()
	return a.Stop(stopping)
}

// FromEnvironment reads the configuration of the process.
func FromEnvironment() (config.Config, error) {
	environ, err := config.Environ()
	if err != nil {
		return config.Config{}, err
	}
	cfg, err := config.Load(environ)
	if err != nil {
		return cfg, fmt.Errorf("the configuration has mistakes:\n%w", err)
	}
	return cfg, nil
}

// Main runs f and ends the process: with 0, or with 1 and the error on the terminal.
func Main(f func() error) {
	if err := f(); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
