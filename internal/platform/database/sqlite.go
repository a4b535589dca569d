package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	gosqlite "github.com/glebarez/go-sqlite"
	"github.com/glebarez/sqlite"
	"gorm.io/gorm"

	"cohortflow/internal/platform/clock"
)

// sqliteTimeLayout is how times stand in SQLite's columns. In UTC such texts sort like the times they mean: a shorter
// fraction ends in '+', which sorts before every digit.
const sqliteTimeLayout = "2006-01-02 15:04:05.999999999-07:00"

// sqliteFunctions replaces SQLite's upper and lower, which know ASCII only. Functions are registered for the whole process,
// hence once.
var sqliteFunctions = sync.OnceValue(func() error {
	for name, f := range map[string]func(string) string{"upper": strings.ToUpper, "lower": strings.ToLower} {
		if err := gosqlite.RegisterDeterministicScalarFunction(name, 1,
			func(_ *gosqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
				switch v := args[0].(type) {
				case nil:
					return nil, nil
				case string:
					return f(v), nil
				case []byte:
					return f(string(v)), nil
				default:
					return f(fmt.Sprint(v)), nil
				}
			}); err != nil {
			return fmt.Errorf("register function %s: %w", name, err)
		}
	}
	return nil
})

// sqliteDialector keeps the driver's error beside gorm's, because UniqueViolation needs it.
type sqliteDialector struct{ sqlite.Dialector }

// Translate implements gorm.ErrorTranslator.
func (d sqliteDialector) Translate(err error) error {
	translated := d.Dialector.Translate(err)
	if translated == nil || errors.Is(err, translated) {
		return err
	}
	return fmt.Errorf("%w: %w", translated, err)
}

// openSQLitePool opens dsn through sqliteConnector.
func openSQLitePool(dsn string) (gorm.Dialector, error) {
	if err := sqliteFunctions(); err != nil {
		return nil, err
	}
	raw, err := sql.Open(sqlite.DriverName, dsn) // opens nothing yet: it only finds the driver
	if err != nil {
		return nil, err
	}
	base := raw.Driver()
	if err := raw.Close(); err != nil {
		return nil, err
	}
	return sqliteDialector{sqlite.Dialector{Conn: sql.OpenDB(sqliteConnector{dsn: dsn, driver: base})}}, nil
}

// sqliteConnector wraps the driver's connections so that times behave as on PostgreSQL: written in UTC and whole microseconds,
// whoever made them, and read back as times also where SQLite does not know the type of a column (RETURNING, max, coalesce).
type sqliteConnector struct {
	dsn    string
	driver driver.Driver
}

// Connect implements driver.Connector.
func (c sqliteConnector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	full, ok := conn.(sqliteDriverConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("the sqlite driver's connection is a %T", conn)
	}
	return sqliteConn{full}, nil
}

// Driver implements driver.Connector.
func (c sqliteConnector) Driver() driver.Driver { return c.driver }

// sqliteDriverConn is all that the driver's connection can do; database/sql finds out by interfaces.
type sqliteDriverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
}

type sqliteConn struct{ sqliteDriverConn }

// CheckNamedValue implements driver.NamedValueChecker.
func (c sqliteConn) CheckNamedValue(v *driver.NamedValue) error {
	value, err := driver.DefaultParameterConverter.ConvertValue(v.Value)
	if err != nil {
		return err
	}
	if t, ok := value.(time.Time); ok {
		value = clock.Normalize(t)
	}
	v.Value = value
	return nil
}

// QueryContext implements driver.QueryerContext. Statements prepared by hand pass it by: nothing here prepares any.
func (c sqliteConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.sqliteDriverConn.QueryContext(ctx, query, args)
	if err != nil {
		return nil, err
	}
	return newSQLiteRows(rows), nil
}

// sqliteRows turns texts of untyped columns that are times into times.
type sqliteRows struct {
	driver.Rows
	types   []string
	untyped []bool
}

func newSQLiteRows(rows driver.Rows) driver.Rows {
	typed, ok := rows.(driver.RowsColumnTypeDatabaseTypeName)
	if !ok {
		return rows
	}
	n := len(rows.Columns())
	r := &sqliteRows{Rows: rows, types: make([]string, n), untyped: make([]bool, n)}
	for i := range n {
		r.types[i] = typed.ColumnTypeDatabaseTypeName(i)
		r.untyped[i] = r.types[i] == ""
	}
	return r
}

// ColumnTypeDatabaseTypeName implements driver.RowsColumnTypeDatabaseTypeName.
func (r *sqliteRows) ColumnTypeDatabaseTypeName(i int) string { return r.types[i] }

// Next implements driver.Rows.
func (r *sqliteRows) Next(dest []driver.Value) error {
	if err := r.Rows.Next(dest); err != nil {
		return err
	}
	for i, v := range dest {
		if text, ok := v.(string); ok && r.untyped[i] {
			if t, ok := parseSQLiteTime(text); ok {
				dest[i] = t
			}
		}
	}
	return nil
}

// parseSQLiteTime recognises a time only in exactly the form in which times are written.
func parseSQLiteTime(text string) (time.Time, bool) {
	if len(text) < len("2006-01-02 15:04:05+00:00") || text[10] != ' ' || !strings.HasSuffix(text, "+00:00") {
		return time.Time{}, false
	}
	t, err := time.ParseInLocation(sqliteTimeLayout, text, time.UTC)
	if err != nil || t.Format(sqliteTimeLayout) != text {
		return time.Time{}, false
	}
	return t, true
}
