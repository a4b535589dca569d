package database

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"strings"
)

//go:embed migrations
var migrations embed.FS

// step is one migration. Its SQL is a file per dialect; a step once released never changes.
type step struct {
	version int64
	name    string
}

// steps in the order in which they are taken. A new one is a line here and a file in each folder of migrations.
var steps = []step{{1, "contract"}, {2, "engine"}}

// sql is the text of a step for a dialect.
func (s step) sql(d Dialect) (string, error) {
	text, err := migrations.ReadFile(fmt.Sprintf("migrations/%s/%04d_%s.sql", d, s.version, s.name))
	if err != nil {
		return "", fmt.Errorf("read migration %d (%s): %w", s.version, s.name, err)
	}
	return string(text), nil
}

// SchemaHash tells versions of the schema apart: it changes with each migration and seed. Tests name their templates by it.
func SchemaHash() (string, error) {
	h := sha256.New()
	for _, d := range []Dialect{Postgres, SQLite} {
		for _, s := range steps {
			text, err := s.sql(d)
			if err != nil {
				return "", err
			}
			_, _ = io.WriteString(h, text) // a hash never fails
		}
	}
	_, _ = fmt.Fprint(h, rights, ledgerText)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// column is what a table must offer, or offers.
type column struct {
	// family is the kind of value: a database that has text where the contract has varchar(30) holds the same values.
	family string
	// given tells that a row can be inserted without naming the column: it accepts NULL, or the server fills it.
	given bool
}

// catalog holds tables by name, and their columns by name.
type catalog map[string]map[string]column

var (
	declaredTable  = regexp.MustCompile(`(?ms)^CREATE TABLE "?(\w+)"? \(\n(.*?)\n\)[^;]*;`)
	declaredColumn = regexp.MustCompile(`(?m)^    ([a-z_0-9]+) +([a-z].*?),?$`)
)

// declared reads the tables that a step creates from its own SQL, so that there is one list of them. It relies on the layout
// of those files: four blanks before a column, constraints in capitals.
func (s step) declared(d Dialect) (catalog, error) {
	text, err := s.sql(d)
	if err != nil {
		return nil, err
	}
	tables := catalog{}
	for _, table := range declaredTable.FindAllStringSubmatch(text, -1) {
		columns := map[string]column{}
		for _, c := range declaredColumn.FindAllStringSubmatch(table[2], -1) {
			def := c[2]
			given := !strings.Contains(def, "NOT NULL") || strings.Contains(def, "DEFAULT")
			columns[c[1]] = column{family: family(def), given: given}
		}
		tables[table[1]] = columns
	}
	return tables, nil
}

// families of the type names in use, by their beginning; what is not listed is a family of its own.
var families = []struct{ prefix, family string }{
	{"character varying", "text"}, {"varchar", "text"}, {"text", "text"},
	{"timestamp with time zone", "timestamptz"}, {"timestamptz", "timestamptz"}, {"datetime", "timestamptz"},
	{"time without time zone", "time"}, {"time", "time"},
	{"smallint", "integer"}, {"integer", "integer"}, {"bigint", "integer"},
	{"double precision", "float"}, {"real", "float"}, {"numeric", "numeric"},
	{"boolean", "boolean"}, {"uuid", "uuid"}, {"jsonb", "jsonb"}, {"bytea", "bytes"}, {"blob", "bytes"}, {"inet", "inet"},
}

// family reduces a column's type, as declared or as the catalogue tells it, to the kind of value it holds.
func family(typ string) string {
	typ = strings.ToLower(typ)
	for _, f := range families {
		if strings.HasPrefix(typ, f.prefix) {
			if strings.Contains(typ, "[]") {
				return f.family + "[]"
			}
			return f.family
		}
	}
	return typ
}
