// Package storage reads, writes and removes the files of exports on the servers of STORAGE_PROVIDERS: HDFS by its native
// protocol (hdfs://), WebHDFS (http:// and https://), or a directory (file://). The export capability calls it: downloads,
// the built-in exporter, the cleaning.
//
// Servers are tried in order, and the next one whenever one is unreachable, on standby or refuses; only "there is no such
// file" is taken at its word. It streams: nothing is ever held whole in memory. It decides nothing about who may read
// what, and follows neither paths nor links out of a directory, nor redirections with credentials.
// Contract: exports.md 11, 11.1 and 23, peers.md 7, decision 14.
package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
	"unicode"
)

// DefaultTimeout bounds each wait for a server: connecting, its answer, the next block of a file (contract: 60 s).
const DefaultTimeout = 60 * time.Second

const (
	filePerm = 0o600
	dirPerm  = 0o700
)

// Config says where files are.
type Config struct {
	// Providers are the URLs of STORAGE_PROVIDERS, in order. An entry may hold several, separated by semicolons.
	//   hdfs://[user@]namenode:8020      native protocol, simple authentication
	//   http(s)://[user@]namenode:9870   WebHDFS; user becomes user.name, user:password is sent as basic authentication
	//   file:///srv/exports              a directory that exists; paths are below it
	Providers []string
	// User is who hdfs:// acts as where the URL names nobody. Blank: the user of this process.
	User string
	// Timeout bounds each wait; 0 means DefaultTimeout.
	Timeout time.Duration
	// Transport replaces the HTTP transport of WebHDFS. Nil: one of our own, with Timeout.
	Transport http.RoundTripper
	// Negotiate answers the Kerberos challenge of WebHDFS. Nil: TicketCache from the usual places.
	Negotiate Negotiator
}

// Info describes a file.
type Info struct {
	// Size in bytes.
	Size int64
	// Dir is true for a directory.
	Dir bool
}

// Writer writes one file under a temporary name. Exactly one of Commit and Abort ends it; Abort after Commit does nothing,
// so that it can be deferred.
type Writer interface {
	io.Writer
	// Commit gives the file its name, replacing one that is there. Only after its success is the file to be relied upon.
	Commit() error
	// Abort removes what was written.
	Abort() error
}

// provider is one server. Paths given to it are absolute and clean.
type provider interface {
	// name tells servers apart in errors and logs; it holds no credentials.
	name() string
	stat(ctx context.Context, path string) (Info, error)
	open(ctx context.Context, path string) (io.ReadCloser, int64, error)
	create(ctx context.Context, path string) (Writer, error)
	remove(ctx context.Context, path string) error
}

// Storage is the servers together. It is safe for concurrent use.
type Storage struct {
	providers []provider
	log       *slog.Logger
}

// New checks the URLs and reports every mistake in them at once. It does not connect. Without any provider the storage is
// one that is never available.
func New(cfg Config, log *slog.Logger) (*Storage, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	s := &Storage{log: log}
	var mistakes []error
	for _, entry := range cfg.Providers {
		for one := range strings.SplitSeq(entry, ";") {
			if one = strings.TrimSpace(one); one == "" {
				continue
			}
			p, err := newProvider(one, cfg)
			if err != nil {
				mistakes = append(mistakes, fmt.Errorf("STORAGE_PROVIDERS: entry %d: %w", len(s.providers)+len(mistakes)+1, err))
				continue
			}
			s.providers = append(s.providers, p)
		}
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	return s, nil
}

// newProvider never repeats the URL in its errors: it may hold a password.
func newProvider(raw string, cfg Config) (provider, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	switch {
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("neither a query nor a fragment is understood")
	case u.Scheme == "file":
		return newDirectory(u)
	case u.Host == "":
		return nil, errors.New("a scheme (hdfs, http, https, file) and a host are needed")
	case u.Scheme == "http" || u.Scheme == "https":
		return newWebHDFS(u, cfg), nil
	case u.Scheme == "hdfs":
		return newHDFS(u, cfg)
	}
	return nil, errors.New("the scheme must be hdfs, http, https or file")
}

// Stat describes a file. Errors: ErrNotExist, ErrUnavailable, ErrPath.
func (s *Storage) Stat(ctx context.Context, name string) (Info, error) {
	return attempt(ctx, s, "stat", name, func(p provider, name string) (Info, error) { return p.stat(ctx, name) })
}

// Open reads a file from its beginning, and tells its size in bytes. A read fails with io.ErrUnexpectedEOF when the server
// gives less than that, so that a broken download never looks like a whole one. ctx covers the reading too.
// Errors: as Stat.
func (s *Storage) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	type opened struct {
		body io.ReadCloser
		size int64
	}
	file, err := attempt(ctx, s, "open", name, func(p provider, name string) (opened, error) {
		body, size, err := p.open(ctx, name)
		return opened{body, size}, err
	})
	return file.body, file.size, err
}

// Create begins a file, making its directories. The server is chosen here: what fails later is not tried on another. ctx
// covers the writing too; its end aborts. Errors: ErrUnavailable, ErrPath.
func (s *Storage) Create(ctx context.Context, name string) (Writer, error) {
	if path.Clean("/"+name) == "/" {
		return nil, fmt.Errorf("create file: %w", ErrPath)
	}
	return attempt(ctx, s, "create", name, func(p provider, name string) (Writer, error) { return p.create(ctx, name) })
}

// Remove removes a file or an empty directory; a full one is refused, as exports are single files. That there is nothing
// is a success. Errors: ErrUnavailable, ErrPath.
func (s *Storage) Remove(ctx context.Context, name string) error {
	if path.Clean("/"+name) == "/" {
		return fmt.Errorf("remove file: %w", ErrPath)
	}
	_, err := attempt(ctx, s, "remove", name, func(p provider, name string) (struct{}, error) { return struct{}{}, p.remove(ctx, name) })
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	return err
}

// attempt asks one server after the other until one answers, be it that there is no such file.
func attempt[T any](ctx context.Context, s *Storage, op, name string, try func(provider, string) (T, error)) (T, error) {
	var none T
	name, err := cleanPath(name)
	if err != nil {
		return none, fmt.Errorf("%s file: %w", op, err)
	}
	var failures []error
	for _, p := range s.providers {
		result, err := try(p, name)
		if err == nil {
			return result, nil
		}
		if ctx.Err() != nil {
			return none, fmt.Errorf("%s file: %w", op, ctx.Err())
		}
		if errors.Is(err, ErrNotExist) {
			return none, fmt.Errorf("%s file: %w", op, err)
		}
		s.log.WarnContext(ctx, "storage server does not help, trying the next one", "server", p.name(), "operation", op, "error", err)
		failures = append(failures, fmt.Errorf("%s: %w", p.name(), err))
	}
	return none, fmt.Errorf("%s file: %w", op, &unavailableError{failures: failures})
}

// cleanPath accepts absolute paths alone, and none that climbs: a name made of user input must not lead elsewhere.
func cleanPath(name string) (string, error) {
	if !strings.HasPrefix(name, "/") || strings.ContainsFunc(name, unicode.IsControl) {
		return "", ErrPath
	}
	for element := range strings.SplitSeq(name, "/") {
		if element == ".." {
			return "", ErrPath
		}
	}
	return path.Clean(name), nil
}
