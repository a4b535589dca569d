package engine

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"cohortflow/internal/platform/database"
)

// stampLayout is a time as both databases read it from text; on SQLite it is how the driver writes times, so that they
// compare as text.
const stampLayout = "2006-01-02 15:04:05.999999999-07:00"

// stamp is a time in a recordset.
type stamp time.Time

// MarshalJSON implements json.Marshaler.
func (s stamp) MarshalJSON() ([]byte, error) {
	return time.Time(s).UTC().AppendFormat([]byte{'"'}, stampLayout+`"`), nil
}

func stampPtr(t *time.Time) *stamp {
	if t == nil {
		return nil
	}
	s := stamp(*t)
	return &s
}

// recordset is a table expression with alias r over one parameter, a JSON array of objects: a batch of rows is one
// statement whatever its size. columns are "name type, name type" with PostgreSQL's types; the first is never NULL.
//
// PostgreSQL supposes that a JSON function gives 100 rows, and then reads whole tables to hash them (measured: nine tenths
// of its time in a growing table). The condition is always true, but it brings the supposed number
// down to one (a two-hundredth of 100): so every row is looked up by its key, whatever the statistics say of a table that was empty a minute ago.
func recordset(d database.Dialect, columns string) string {
	if d == database.Postgres {
		first, _, _ := strings.Cut(columns, " ")
		return "(SELECT * FROM json_to_recordset(?::json) AS x(" + columns + ") WHERE x." + first + "::text = x." + first + "::text || '') AS r"
	}
	var fields []string
	for _, column := range strings.Split(columns, ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(column), " ")
		fields = append(fields, fmt.Sprintf("value->>'$.%s' AS %s", name, name))
	}
	return "(SELECT " + strings.Join(fields, ", ") + " FROM json_each(?)) AS r"
}

// rowsJSON is the parameter of a recordset.
func rowsJSON[T any](rows []T) (string, error) {
	b, err := json.Marshal(rows)
	if err != nil {
		return "", fmt.Errorf("encode %d rows: %w", len(rows), err)
	}
	return string(b), nil
}

// leading is a parameter whose placeholder comes before the recordset's.
type leading struct{ value any }

func before(value any) leading { return leading{value} }

// arrange puts the recordset's parameter after the leading ones.
func arrange(param string, args []any) []any {
	var first, rest []any
	for _, a := range args {
		if l, ok := a.(leading); ok {
			first = append(first, l.value)
		} else {
			rest = append(rest, a)
		}
	}
	return append(append(first, param), rest...)
}

// part is a statement that writes one table.
type part struct {
	sql  string
	args []any
}

// parts are statements that neither read nor write what another one of them writes: their order does not matter.
type parts []part

// add adds a statement over a recordset, unless it has no rows; {rows} in it stands for the table expression, and further
// parameters come after it.
func add[T any](p *parts, d database.Dialect, sql, columns string, rows []T, args ...any) error {
	if len(rows) == 0 {
		return nil
	}
	param, err := rowsJSON(rows)
	if err != nil {
		return err
	}
	*p = append(*p, part{strings.Replace(sql, "{rows}", recordset(d, columns), 1), append([]any{param}, args...)})
	return nil
}

func (p parts) exec(tx *database.Tx) error {
	for _, one := range p {
		if err := tx.Exec(one.sql, one.args...).Error; err != nil {
			return err
		}
	}
	return nil
}

// query runs all parts and reads what the last one returns: in one statement where the database can write in WITH.
func (p parts) query(tx *database.Tx, scan func(into func(dest ...any) error) error) error {
	last := p[len(p)-1]
	if dialect(tx) == database.SQLite {
		if err := p[:len(p)-1].exec(tx); err != nil {
			return err
		}
		return each(tx, last.sql, scan, last.args...)
	}
	var sql strings.Builder
	var args []any
	for i, one := range p[:len(p)-1] {
		if i == 0 {
			sql.WriteString("WITH ")
		} else {
			sql.WriteString(", ")
		}
		fmt.Fprintf(&sql, "part_%d AS (%s)", i, one.sql)
		args = append(args, one.args...)
	}
	sql.WriteString(" " + last.sql)
	return each(tx, sql.String(), scan, append(args, last.args...)...)
}

// query runs a statement over a recordset and calls scan for each row of the answer; {rows} in it stands for the table
// expression. Parameters whose placeholder comes before it are wrapped in before.
func query[T any](tx *database.Tx, sql, columns string, rows []T, scan func(into func(dest ...any) error) error, args ...any) error {
	if len(rows) == 0 {
		return nil
	}
	param, err := rowsJSON(rows)
	if err != nil {
		return err
	}
	sql = strings.Replace(sql, "{rows}", recordset(dialect(tx), columns), 1)
	return each(tx, sql, scan, arrange(param, args)...)
}

// each runs a query and calls scan for every row of the answer.
func each(tx *database.Tx, sql string, scan func(into func(dest ...any) error) error, args ...any) error {
	answer, err := tx.Raw(sql, args...).Rows()
	if err != nil {
		return translated(tx, err)
	}
	defer func() { _ = answer.Close() }()
	for answer.Next() {
		if err := scan(answer.Scan); err != nil {
			return err
		}
	}
	return translated(tx, answer.Err())
}

// translated is what gorm makes of errors everywhere but here (gorm.ErrDuplicatedKey …): it leaves those of Rows alone.
func translated(tx *database.Tx, err error) error {
	if translator, ok := tx.Dialector.(gorm.ErrorTranslator); ok && err != nil {
		return translator.Translate(err)
	}
	return err
}
