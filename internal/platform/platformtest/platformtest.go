// Package platformtest gives tests a database, a Redis and a log of their own on real servers, so that they run side by
// side without seeing each other. Tests of every package call it; production code never does. It starts no server:
// scripts/services does (make test), and tells where they are in TEST_DATABASE_URL and TEST_REDIS_URL. What these servers
// hold is at the mercy of the tests.
package platformtest

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"
)

// Patience bounds every wait of a test, and everything done for it, building a template included: on a busy machine of two
// cores that may take a while, but a test that hangs must say why. It costs only when a test fails.
const Patience = 2 * time.Minute

// Receive returns what the channel gives, the zero value when it is closed. A test to which nothing comes fails and says
// what it waited for, instead of hanging until all are ended.
func Receive[T any](t testing.TB, from <-chan T, what string) T {
	t.Helper()
	return receive(t, from, what, Patience)
}

func receive[T any](t testing.TB, from <-chan T, what string, patience time.Duration) (got T) {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case got = <-from:
	case <-limit.C:
		t.Fatalf("waited in vain: %s", what)
	}
	return got
}

// server reads where a server is. A test without its server fails: one that is skipped would be missed by nobody.
func server(t testing.TB, lookup func(string) (string, bool), variable string) string {
	t.Helper()
	url, _ := lookup(variable)
	if url == "" {
		t.Fatalf("%s is not set: run the tests with `make test`, or `scripts/services run -- go test ./…`", variable)
	}
	return url
}

// PostgresURL is the URL of an empty database for this test alone, dropped when the test has ended. The user is a
// superuser. See Template for one with a schema.
func PostgresURL(t testing.TB) string {
	t.Helper()
	return newDatabase(t, server(t, os.LookupEnv, "TEST_DATABASE_URL"), "template1")
}

// PostgresURL is the URL of a copy of the template for this test alone, dropped when the test has ended. The template is
// built first if no test of any process has done so.
func (tmpl Template) PostgresURL(t testing.TB) string {
	t.Helper()
	base := server(t, os.LookupEnv, "TEST_DATABASE_URL")
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	name, err := tmpl.ensure(ctx, base)
	if err != nil {
		t.Fatal(err)
	}
	return newDatabase(t, base, name)
}

// RedisURL is the URL of an empty logical database (redis://…/N) for this test alone, emptied when the test has ended.
// Channels of PUBLISH are not part of a database: tests that run at the same time hear each other on channels of the
// same name. FLUSHALL is everybody's: use FLUSHDB.
func RedisURL(t testing.TB) string {
	t.Helper()
	return leaseRedis(t, server(t, os.LookupEnv, "TEST_REDIS_URL"))
}

// Log writes to the log of the test, all levels; lines that come after the end of the test are dropped.
func Log(t testing.TB) *slog.Logger {
	w := &testWriter{t: t}
	t.Cleanup(w.close)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct {
	mu    sync.Mutex
	t     testing.TB
	ended bool
}

func (w *testWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended { // t.Log panics after the end of its test
		w.t.Log(string(bytes.TrimRight(line, "\n")))
	}
	return len(line), nil
}

func (w *testWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
}
