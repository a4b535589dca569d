package database

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"cohortflow/internal/platform/clock"
)

// Open connects to the database of cfg.URL and checks that it answers. It creates a missing SQLite file (readable by its
// owner only), and no table.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	cfg.MaxConns, cfg.MaxReaders = cmp.Or(cfg.MaxConns, 20), cmp.Or(cfg.MaxReaders, 4)
	cfg.SlowQuery = cmp.Or(cfg.SlowQuery, 500*time.Millisecond)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	var db *DB
	var err error
	switch {
	case strings.HasPrefix(cfg.URL, "postgres://"), strings.HasPrefix(cfg.URL, "postgresql://"):
		db, err = openPostgres(cfg)
	case strings.HasPrefix(cfg.URL, "sqlite:"):
		db, err = openSQLite(cfg)
	default:
		return nil, errors.New("open database: the URL must begin with postgres:// or sqlite:")
	}
	if err != nil {
		return nil, err
	}
	if err := db.Ping(ctx); err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

// gormConfig: prepared statements stay off (a trap inside transactions; pgx caches per connection already), single
// statements need no transaction of their own, and errors of both drivers become gorm's (gorm.ErrDuplicatedKey …).
func gormConfig(cfg Config) *gorm.Config {
	return &gorm.Config{
		PrepareStmt:            false,
		SkipDefaultTransaction: true,
		TranslateError:         true,
		NowFunc:                func() time.Time { return clock.System{}.Now() },
		Logger:                 statementLogger(cfg),
	}
}

// statementLogger reports slow and failed statements without their values: values are patients' and users' data.
func statementLogger(cfg Config) logger.Interface {
	return logger.NewSlogLogger(cfg.Log, logger.Config{
		SlowThreshold:             max(cfg.SlowQuery, 0),
		LogLevel:                  logger.Warn,
		IgnoreRecordNotFoundError: true,
		ParameterizedQueries:      true,
	})
}

func openPostgres(cfg Config) (*DB, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, errors.New("open database: the postgres URL is malformed") // its text would show the password
	}
	q := u.Query()
	if q.Get("timezone") == "" {
		q.Set("timezone", "UTC")
	}
	u.RawQuery = q.Encode()
	g, err := gorm.Open(postgres.New(postgres.Config{DSN: u.String()}), gormConfig(cfg))
	if err != nil {
		return nil, fmt.Errorf("open postgres database %q on %s: %w", strings.TrimPrefix(u.Path, "/"), u.Host, err)
	}
	if err := limit(g, cfg.MaxConns); err != nil {
		return nil, err
	}
	return &DB{dialect: Postgres, write: g, read: g}, nil
}

func openSQLite(cfg Config) (*DB, error) {
	path := strings.TrimPrefix(strings.TrimPrefix(cfg.URL, "sqlite:"), "//")
	if path == "" {
		return nil, errors.New("open database: the sqlite URL names no file")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open sqlite database: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open sqlite database: %w", err)
	}
	_ = file.Close()
	dsn := "file:" + path + "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)" +
		"&_pragma=foreign_keys(0)&_txlock=immediate"
	write, err := gorm.Open(sqlite.Open(dsn), gormConfig(cfg))
	if err != nil {
		return nil, fmt.Errorf("open sqlite database: %w", err)
	}
	if err := limit(write, 1); err != nil {
		return nil, err
	}
	read, err := gorm.Open(sqlite.Open(strings.Replace(dsn, "_txlock=immediate", "_txlock=deferred", 1)+"&_pragma=query_only(1)"), gormConfig(cfg))
	if err != nil {
		return nil, fmt.Errorf("open sqlite database for reading: %w", err)
	}
	if err := limit(read, cfg.MaxReaders); err != nil {
		return nil, err
	}
	return &DB{dialect: SQLite, write: write, read: read}, nil
}

func limit(g *gorm.DB, n int) error {
	raw, err := g.DB()
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	setLimits(raw, n)
	return nil
}

// setLimits keeps all connections open: opening one costs more than holding it.
func setLimits(raw *sql.DB, n int) {
	raw.SetMaxOpenConns(n)
	raw.SetMaxIdleConns(n)
	raw.SetConnMaxIdleTime(5 * time.Minute)
}
