package database

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// condition is an expression that reads differently on each dialect.
type condition struct {
	postgres, sqlite clause.Expression
}

// Build implements clause.Expression.
func (c condition) Build(b clause.Builder) {
	if stmt, ok := b.(*gorm.Statement); ok && stmt.Name() == string(SQLite) {
		c.sqlite.Build(b)
		return
	}
	c.postgres.Build(b)
}

// never is a condition that no row meets.
var never clause.Expression = clause.Expr{SQL: "1 = 0"}

// operand turns the name of a column ("name", "cohort_request.name"; never a user's text) or an expression into an operand.
func operand(column any) any {
	if name, ok := column.(string); ok {
		return clause.Column{Name: name}
	}
	return column
}

// storable tells whether a text can stand in a text column at all.
func storable(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }

var likeEscaper = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// Contains is the condition that text occurs in the column, taken literally, whatever its case (contract: decision 24). column
// is a column's name or a clause.Expression. NULL contains nothing.
func Contains(column any, text string) clause.Expression {
	if !storable(text) {
		return never
	}
	return condition{
		postgres: clause.Expr{SQL: `UPPER(?) LIKE UPPER(?) ESCAPE '\'`, Vars: []any{operand(column), "%" + likeEscaper.Replace(text) + "%"}},
		sqlite:   clause.Expr{SQL: "instr(UPPER(?), UPPER(?)) > 0", Vars: []any{operand(column), text}},
	}
}

// ArrayContainsAny is the condition that the array column (see StringArray) holds one of the values. NULL holds none.
func ArrayContainsAny(column any, values []string) clause.Expression {
	usable := make([]string, 0, len(values))
	for _, v := range values {
		if storable(v) {
			usable = append(usable, v)
		}
	}
	if len(usable) == 0 {
		return never
	}
	return condition{
		postgres: clause.Expr{SQL: "COALESCE(? && ?, false)", Vars: []any{operand(column), arrayLiteral(usable)}},
		sqlite: clause.Expr{SQL: "EXISTS (SELECT 1 FROM json_each(?) WHERE value IN (SELECT value FROM json_each(?)))",
			Vars: []any{operand(column), jsonArray(usable)}},
	}
}

// few is up to how many values PostgreSQL's planner is shown. It weighs each one, which finds the best plan for a few and takes
// 0.2 s for 50,000 (measured); more are a query of their own, which it plans by their number.
const few = 100

// OneOf is the condition that the column holds one of the values, of which there may be a hundred thousand: they are one
// parameter, so the statement reads the same for any number of them and stays prepared. As in SQL, NULL is one of them never,
// and not one of them only if there are none.
func OneOf[T int64 | string](column any, values []T) clause.Expression {
	texts := make([]string, 0, len(values))
	for _, v := range values {
		if text := fmt.Sprint(v); storable(text) {
			texts = append(texts, text)
		}
	}
	array, list := "text[]", jsonArray(texts)
	if _, numbers := any(*new(T)).(int64); numbers {
		array, list = "bigint[]", "["+strings.Join(texts, ",")+"]"
	}
	postgres := "? IN (SELECT unnest(CAST(? AS " + array + ")))"
	if len(texts) <= few {
		postgres = "? = ANY (CAST(? AS " + array + "))"
	}
	return condition{
		postgres: clause.Expr{SQL: postgres, Vars: []any{operand(column), arrayLiteral(texts)}},
		sqlite:   clause.Expr{SQL: "? IN (SELECT value FROM json_each(?))", Vars: []any{operand(column), list}},
	}
}

// OrderBy orders by a column, for gorm's Order. NULL counts as the greatest value, as PostgreSQL has it, so that its indexes
// serve the order.
func OrderBy(column string, desc bool) clause.OrderByColumn {
	order := " ASC NULLS LAST"
	if desc {
		order = " DESC NULLS FIRST"
	}
	quoted := `"` + strings.ReplaceAll(strings.ReplaceAll(column, `"`, `""`), ".", `"."`) + `"`
	return clause.OrderByColumn{Column: clause.Column{Name: quoted + order, Raw: true}}
}

// Window is LIMIT and OFFSET, for gorm's Clauses, as numbers in the statement's text. As parameters, which Limit and Offset
// make of them, PostgreSQL guesses a tenth of the rows, and may walk an index in the order wanted through half a table to find
// the few that fit (measured: five times as long).
func Window(limit, offset int) clause.Interface { return window{limit, offset} }

type window struct{ limit, offset int }

// Name implements clause.Interface.
func (window) Name() string { return "LIMIT" }

// Build implements clause.Interface.
func (w window) Build(b clause.Builder) {
	_, _ = b.WriteString("LIMIT " + strconv.Itoa(w.limit) + " OFFSET " + strconv.Itoa(w.offset))
}

// MergeClause implements clause.Interface.
func (w window) MergeClause(c *clause.Clause) { c.Name, c.Expression = "", w }
