package database

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// StringArray is the value of a column of type varchar[] or text[], on SQLite of a text that holds a JSON array. nil is NULL,
// an empty one is {} (contract: schema.md 13). A NULL element is read as ”.
type StringArray []string

// GormDataType implements schema.GormDataTypeInterface.
func (StringArray) GormDataType() string { return "string_array" }

// GormValue implements gorm.Valuer.
func (a StringArray) GormValue(_ context.Context, g *gorm.DB) clause.Expr {
	if a == nil {
		return clause.Expr{SQL: "NULL"}
	}
	if DialectOf(g) == SQLite {
		return clause.Expr{SQL: "?", Vars: []any{jsonArray(a)}}
	}
	return clause.Expr{SQL: "?", Vars: []any{arrayLiteral(a)}}
}

// Scan implements sql.Scanner, for both forms.
func (a *StringArray) Scan(src any) error {
	text, null, err := scanText(src)
	switch {
	case err != nil:
		return fmt.Errorf("scan an array of strings: %w", err)
	case null:
		*a = nil
		return nil
	case strings.HasPrefix(text, "["):
		items := StringArray{}
		if err := json.Unmarshal([]byte(text), (*[]string)(&items)); err != nil {
			return fmt.Errorf("scan an array of strings: %w", err)
		}
		*a = items
		return nil
	}
	items, err := parseArrayLiteral(text)
	if err != nil {
		return fmt.Errorf("scan an array of strings: %w", err)
	}
	*a = items
	return nil
}

func jsonArray(items []string) string {
	text, err := json.Marshal(items)
	if err != nil { // strings always marshal
		panic(err)
	}
	return string(text)
}

// arrayLiteral is PostgreSQL's text form of an array, every element quoted.
func arrayLiteral(items []string) string {
	var b strings.Builder
	escaped := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	b.WriteByte('{')
	for i, item := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		b.WriteString(escaped.Replace(item))
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}

var errArrayLiteral = errors.New("not an array of one dimension")

// parseArrayLiteral reads PostgreSQL's text form of an array of one dimension.
func parseArrayLiteral(text string) ([]string, error) {
	if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' {
		return nil, errArrayLiteral
	}
	items := []string{}
	for rest := text[1 : len(text)-1]; rest != ""; {
		item, after, err := arrayElement(rest)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
		if after == "" {
			break
		}
		if after[0] != ',' || len(after) == 1 {
			return nil, errArrayLiteral
		}
		rest = after[1:]
	}
	return items, nil
}

// arrayElement cuts the first element off.
func arrayElement(text string) (item, after string, err error) {
	if text[0] != '"' {
		end := strings.IndexByte(text, ',')
		if end < 0 {
			end = len(text)
		}
		if item = text[:end]; strings.ContainsAny(item, `{}"\`) {
			return "", "", errArrayLiteral
		}
		if item == "NULL" {
			item = ""
		}
		return item, text[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			return b.String(), text[i+1:], nil
		case '\\':
			if i++; i == len(text) {
				return "", "", errArrayLiteral
			}
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", errArrayLiteral
}

// JSON is the value of a jsonb column, on SQLite of a text. nil is NULL, which is not JSON's null. PostgreSQL keeps the value,
// not its blanks and order of keys.
type JSON json.RawMessage

// GormDataType implements schema.GormDataTypeInterface.
func (JSON) GormDataType() string { return "jsonb" }

// GormValue implements gorm.Valuer. What is no JSON fails the statement, on both dialects.
func (j JSON) GormValue(_ context.Context, g *gorm.DB) clause.Expr {
	if j == nil {
		return clause.Expr{SQL: "NULL"}
	}
	if !json.Valid(j) {
		_ = g.AddError(errors.New("write a JSON column: the value is not JSON"))
	}
	return clause.Expr{SQL: "?", Vars: []any{string(j)}}
}

// Scan implements sql.Scanner.
func (j *JSON) Scan(src any) error {
	text, null, err := scanText(src)
	switch {
	case err != nil:
		return fmt.Errorf("scan JSON: %w", err)
	case null:
		*j = nil
	default:
		*j = JSON(text)
	}
	return nil
}

// MarshalJSON implements json.Marshaler: NULL is null.
func (j JSON) MarshalJSON() ([]byte, error) {
	if j == nil {
		return []byte("null"), nil
	}
	return j, nil
}

// UnmarshalJSON implements json.Unmarshaler: null is kept, as JSON's null.
func (j *JSON) UnmarshalJSON(text []byte) error {
	*j = bytes.Clone(text)
	return nil
}

// scanText is what a text column gives, in the forms of both drivers.
func scanText(src any) (text string, null bool, err error) {
	switch v := src.(type) {
	case nil:
		return "", true, nil
	case string:
		return v, false, nil
	case []byte:
		return string(v), false, nil
	default:
		return "", false, fmt.Errorf("unexpected %T", src)
	}
}

// FormatTime is how a time stands in the JSON parameter of a Recordset, so that it compares with columns: UTC, whole
// microseconds.
func FormatTime(d Dialect, t time.Time) string {
	t = t.UTC().Truncate(time.Microsecond)
	if d == SQLite {
		return t.Format(sqliteTimeLayout)
	}
	return t.Format(time.RFC3339Nano)
}
