package database

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
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
	statements := &observers{}
	var db *DB
	var err error
	switch {
	case strings.HasPrefix(cfg.URL, "postgres://"), strings.HasPrefix(cfg.URL, "postgresql://"):
		db, err = openPostgres(cfg, statements)
	case strings.HasPrefix(cfg.URL, "sqlite:"):
		db, err = openSQLite(cfg, statements)
	default:
		return nil, errors.New("open database: the URL begins with neither postgres:// nor sqlite: as it must")
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
func gormConfig(cfg Config, statements *observers) *gorm.Config {
	return &gorm.Config{
		PrepareStmt:            false,
		SkipDefaultTransaction: true,
		TranslateError:         true,
		NowFunc:                func() time.Time { return clock.System{}.Now() },
		Logger:                 observedLogger{statementLogger(cfg), statements},
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

func openPostgres(cfg Config, statements *observers) (*DB, error) {
	config, err := pgx.ParseConfig(cfg.URL)
	if err != nil {
		return nil, errors.New("open database: the postgres URL is malformed") // the error's text would show parts of it
	}
	config.RuntimeParams["timezone"] = "UTC"
	pool := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(readInUTC))
	g, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}), gormConfig(cfg, statements))
	if err != nil {
		return nil, fmt.Errorf("open postgres database %q on %s: %w", config.Database, config.Host, err)
	}
	if err := limit(g, cfg.MaxConns); err != nil {
		return nil, err
	}
	return &DB{dialect: Postgres, write: g, read: g, statements: statements}, nil
}

// readInUTC makes the driver return times in UTC; it would convert them to the zone of the machine.
func readInUTC(_ context.Context, conn *pgx.Conn) error {
	conn.TypeMap().RegisterType(&pgtype.Type{
		Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
	})
	return nil
}

// uriPath escapes what would end the path in SQLite's file URI.
var uriPath = strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23")

func openSQLite(cfg Config, statements *observers) (*DB, error) {
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
	dsn := "file:" + uriPath.Replace(path) + "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)" +
		"&_pragma=foreign_keys(0)&_txlock=immediate"
	write, err := openSQLiteHandle(dsn, 1, gormConfig(cfg, statements))
	if err != nil {
		return nil, fmt.Errorf("open sqlite database: %w", err)
	}
	dsn = strings.Replace(dsn, "_txlock=immediate", "_txlock=deferred", 1) + "&_pragma=query_only(1)"
	read, err := openSQLiteHandle(dsn, cfg.MaxReaders, gormConfig(cfg, statements))
	if err != nil {
		return nil, fmt.Errorf("open sqlite database for reading: %w", err)
	}
	return &DB{dialect: SQLite, write: write, read: read, statements: statements}, nil
}

func openSQLiteHandle(dsn string, conns int, config *gorm.Config) (*gorm.DB, error) {
	dialector, err := openSQLitePool(dsn)
	if err != nil {
		return nil, err
	}
	g, err := gorm.Open(dialector, config)
	if err != nil {
		return nil, err
	}
	return g, limit(g, conns)
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
