package database

import (
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
