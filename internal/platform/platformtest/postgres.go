package platformtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Template is a database that tests copy instead of running the migrations each: a copy takes some 30 ms.
type Template struct {
	// Name says what is in it, in letters a-z, digits and underscores.
	Name string
	// Hash tells versions apart: a hash of what Build will run. Templates of another hash are left alone.
	Hash string
	// Build fills the empty database at url, and closes its connections before it returns.
	Build func(ctx context.Context, url string) error
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

const (
	maxName    = 63 // what PostgreSQL keeps of a name
	unfinished = "_new"
)

// database is the name of the template's database. It exists only once Build has succeeded.
func (tmpl Template) database() (string, error) {
	hash := strings.ToLower(tmpl.Hash)
	if len(hash) > 20 {
		hash = hash[:20]
	}
	name := "template_" + tmpl.Name + "_" + hash
	if tmpl.Name == "" || hash == "" || tmpl.Build == nil || len(name) > maxName-len(unfinished) {
		return "", fmt.Errorf("template %q: needs a name of at most 29 letters, a hash and Build", tmpl.Name)
	}
	return name, nil
}

// ensure builds the template unless it exists, and returns the name of its database. Test processes that come at the same
// time wait for the first one.
func (tmpl Template) ensure(ctx context.Context, base string) (string, error) {
	name, err := tmpl.database()
	if err != nil {
		return "", err
	}
	conn, err := pgx.Connect(ctx, base)
	if err != nil {
		return "", fmt.Errorf("template %s: connect to the test database: %w", name, err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) // ends the lock, too
	if done, err := exists(ctx, conn, name); err != nil || done {
		return name, err
	}
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(hashtextextended($1, 0))", name); err != nil {
		return "", fmt.Errorf("template %s: wait for its lock: %w", name, err)
	}
	if done, err := exists(ctx, conn, name); err != nil || done {
		return name, err
	}
	if err := tmpl.build(ctx, conn, base, name); err != nil {
		return "", fmt.Errorf("template %s: %w", name, err)
	}
	return name, nil
}

// build works under another name, so that a build that was broken off is never taken for a template.
func (tmpl Template) build(ctx context.Context, conn *pgx.Conn, base, name string) error {
	building := name + unfinished
	if err := drop(ctx, conn, building); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+quote(building)+" TEMPLATE template1"); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	at, err := withDatabase(base, building)
	if err != nil {
		return err
	}
	if err := tmpl.Build(ctx, at); err != nil {
		return errors.Join(fmt.Errorf("build: %w", err), drop(context.WithoutCancel(ctx), conn, building))
	}
	// Nobody may connect to it from now on: a connection, even of autovacuum, would get into the way of the copies.
	if err := whenUnused(ctx, conn, "ALTER DATABASE "+quote(building)+" ALLOW_CONNECTIONS false"); err != nil {
		return fmt.Errorf("close for connections: %w", err)
	}
	if err := whenUnused(ctx, conn, "ALTER DATABASE "+quote(building)+" RENAME TO "+quote(name)); err != nil {
		return fmt.Errorf("rename (did Build close its connections?): %w", err)
	}
	return nil
}

// whenUnused repeats a statement for a while as long as the database is in use: the server notices a closed connection a
// moment later than the client.
func whenUnused(ctx context.Context, conn *pgx.Conn, statement string) error {
	const objectInUse = "55006"
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for attempt := 1; ; attempt++ {
		_, err := conn.Exec(ctx, statement)
		var refused *pgconn.PgError
		if err == nil || !errors.As(err, &refused) || refused.Code != objectInUse || attempt == 20 {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// newDatabase copies template to a database with a name of its own, and drops it when the test has ended.
func newDatabase(t testing.TB, base, template string) string {
	t.Helper()
	name := nameFor(t.Name())
	at, err := withDatabase(base, name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	err = onServer(ctx, base, func(conn *pgx.Conn) error {
		return whenUnused(ctx, conn, "CREATE DATABASE "+quote(name)+" TEMPLATE "+quote(template))
	})
	if err != nil {
		t.Fatalf("create a database for the test: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience) // that of the test is over
		defer cancel()
		if err := onServer(ctx, base, func(conn *pgx.Conn) error { return drop(ctx, conn, name) }); err != nil {
			t.Errorf("drop the database of the test: %v", err)
		}
	})
	return at
}

// nameFor makes a name that tells, in pg_stat_activity, whose database it is.
func nameFor(test string) string {
	words := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(test), "_"), "_")
	if len(words) > 30 {
		words = words[:30]
	}
	return "test_" + words + "_" + strings.ToLower(rand.Text()[:16])
}

func onServer(ctx context.Context, base string, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, base)
	if err != nil {
		return fmt.Errorf("connect to the test database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return do(conn)
}

func exists(ctx context.Context, conn *pgx.Conn, name string) (found bool, err error) {
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&found)
	if err != nil {
		return false, fmt.Errorf("look for database %s: %w", name, err)
	}
	return found, nil
}

// drop drops a database, if there is one, with the connections that a test may have left open.
func drop(ctx context.Context, conn *pgx.Conn, name string) error {
	if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// withDatabase is base with another database. The error does not repeat the URL: it holds a password.
func withDatabase(base, name string) (string, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return "", errors.New("TEST_DATABASE_URL is no URL of the form postgres://user:password@host:port/postgres?sslmode=disable")
	}
	u.Path = "/" + name
	return u.String(), nil
}
