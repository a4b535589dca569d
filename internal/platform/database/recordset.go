package database

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// ColumnType is the type of a Recordset's column.
type ColumnType string

const (
	Text      ColumnType = "text"
	UUID      ColumnType = "uuid"
	Int       ColumnType = "bigint"
	Float     ColumnType = "double precision"
	Bool      ColumnType = "boolean"
	Timestamp ColumnType = "timestamptz"
	Bytes     ColumnType = "bytea"
)

// Column is one column of a Recordset. Its name is ours, never a user's text.
type Column struct {
	Name string
	Type ColumnType
}

// Recordset turns one parameter into rows, so that a batch of any size is one statement with a text that never changes:
//
//	due := database.NewRecordset("due", database.Column{"id", database.UUID}, database.Column{"at", database.Timestamp})
//	rows, err := due.JSON(db.Dialect(), [][]any{{id, at}, …})
//	tx.Exec("UPDATE engine_task SET due_at = due.at FROM "+due.From(db.Dialect())+" WHERE engine_task.id = due.id", rows)
type Recordset struct {
	alias   string
	columns []Column
}

// NewRecordset describes rows that the statement calls alias.
func NewRecordset(alias string, columns ...Column) Recordset {
	return Recordset{alias: alias, columns: columns}
}

// From is the item of a FROM clause. It holds one "?", for what JSON returns. "INSERT … SELECT … FROM item ON CONFLICT" needs
// a WHERE (WHERE true) on SQLite, whose grammar would take ON for a join.
func (r Recordset) From(d Dialect) string {
	parts := make([]string, len(r.columns))
	for i, c := range r.columns {
		switch {
		case d == Postgres:
			parts[i] = c.Name + " " + string(c.Type)
		case c.Type == Bytes:
			parts[i] = fmt.Sprintf("unhex(substr(value ->> '%s', 3)) AS %s", c.Name, c.Name)
		default:
			parts[i] = fmt.Sprintf("value ->> '%s' AS %s", c.Name, c.Name)
		}
	}
	list := strings.Join(parts, ", ")
	if d == Postgres {
		return "jsonb_to_recordset(?::jsonb) AS " + r.alias + "(" + list + ")"
	}
	return "(SELECT " + list + " FROM json_each(?)) AS " + r.alias
}

// JSON is the parameter that gives the rows; the values of each are in the order of the columns, nil for NULL. Times (also
// *time.Time, []byte and what marshals to text, as UUIDs do) take the form of the column they are compared with. NUL, which
// no text column can hold, is dropped from strings: one bad message from outside must not fail a whole batch.
func (r Recordset) JSON(d Dialect, rows [][]any) (string, error) {
	records := make([]map[string]any, len(rows))
	for i, row := range rows {
		if len(row) != len(r.columns) {
			return "", fmt.Errorf("rows of %s: row %d has %d values for %d columns", r.alias, i, len(row), len(r.columns))
		}
		records[i] = make(map[string]any, len(row))
		for j, v := range row {
			records[i][r.columns[j].Name] = recordValue(d, v)
		}
	}
	text, err := json.Marshal(records)
	if err != nil {
		return "", fmt.Errorf("rows of %s: %w", r.alias, err)
	}
	return string(text), nil
}

func recordValue(d Dialect, v any) any {
	switch v := v.(type) {
	case time.Time:
		return FormatTime(d, v)
	case *time.Time:
		if v == nil {
			return nil
		}
		return FormatTime(d, *v)
	case []byte:
		if v == nil {
			return nil
		}
		return `\x` + hex.EncodeToString(v)
	}
	if text := reflect.ValueOf(v); text.Kind() == reflect.String { // named types, too
		return strings.ReplaceAll(text.String(), "\x00", "")
	}
	return v
}
