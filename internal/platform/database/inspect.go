package database

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm"
)

// State is what Inspect takes a database for.
type State string

const (
	// Empty holds neither the old system's tables nor ours: Migrate creates everything.
	Empty State = "empty"
	// Created was made by Migrate.
	Created State = "created"
	// Adopted was made by the old system, and Migrate has added our tables.
	Adopted State = "adopted"
	// Upstream is the old system's database at release 3.29: Migrate adopts it.
	Upstream State = "upstream 3.29"
	// Older is the old system's database before release 3.29. Refused: some of its migrations rewrite data.
	Older State = "older"
	// Newer was touched by a later release of the old system, or of this one. Refused.
	Newer State = "newer"
	// Foreign is something else, or damaged. Refused.
	Foreign State = "foreign"
)

// Plan is what Inspect found, and what Migrate would do about it.
type Plan struct {
	State State
	// Differences are the reasons of a refusal (Older, Newer, Foreign), one sentence each.
	Differences []string
	// Notes are harmless peculiarities: columns that the contract does not know.
	Notes []string
	// Steps are the names of the migrations that are missing, in order. Of an Upstream database "contract" is not one: it is
	// noted as taken, and touched by nothing.
	Steps []string
	// AdoptedAt is when an Adopted database was adopted; zero otherwise.
	AdoptedAt time.Time
}

// Ready tells that a process may work with the database as it is.
func (p Plan) Ready() bool { return (p.State == Created || p.State == Adopted) && len(p.Steps) == 0 }

// Err is nil unless Migrate refuses such a database.
func (p Plan) Err() error {
	advice := map[State]string{
		Older:   "the database belongs to an older release of the old system: run the migrations of its release 3.29 first",
		Newer:   "the database belongs to a newer release than this one knows",
		Foreign: "the database is neither empty nor one of ours or of the old system at release 3.29",
	}[p.State]
	if advice == "" {
		return nil
	}
	return fmt.Errorf("%s:\n- %s", advice, strings.Join(p.Differences, "\n- "))
}

// refuse returns the plan of a database that Migrate does not touch.
func refuse(state State, differences []string) Plan {
	return Plan{State: state, Differences: differences}
}

// Inspect recognises a database by its tables and columns, by the old system's ledger where that has rows, and by the steps
// that Migrate noted (contract: decision 26, schema.md 2.1 and 2.4). It only reads.
func Inspect(ctx context.Context, db *DB) (plan Plan, err error) {
	err = db.View(ctx, func(tx *Tx) error {
		plan, err = inspect(tx.DB)
		return err
	})
	return plan, err
}

// found is what there is in the database.
type found struct {
	tables catalog
	ledger []migration
	taken  []taken
}

// taken is a step that Migrate has noted.
type taken struct {
	Version   int64
	Name      string
	Adopted   bool
	AppliedAt time.Time
}

func inspect(g *gorm.DB) (Plan, error) {
	var f found
	var err error
	if f.tables, err = readCatalog(g); err != nil {
		return Plan{}, err
	}
	if columns := f.tables["django_migrations"]; columns["app"].family == "text" && columns["name"].family == "text" {
		if err := g.Raw("SELECT app, name FROM django_migrations").Scan(&f.ledger).Error; err != nil {
			return Plan{}, fmt.Errorf("read the ledger of the old system: %w", err)
		}
	}
	if f.has(versionTable) {
		if err := g.Raw("SELECT version, name, adopted, applied_at FROM " + versionTable + " ORDER BY version").Scan(&f.taken).Error; err != nil {
			return Plan{}, fmt.Errorf("read the migrations taken: %w", err)
		}
	}
	contract, err := steps[0].declared(DialectOf(g))
	if err != nil {
		return Plan{}, err
	}
	plan := recognise(f, contract)
	if plan.Err() == nil {
		err = f.complete(&plan, DialectOf(g))
	}
	return plan, err
}

// has tells whether there is a table of that name.
func (f found) has(table string) bool { _, ok := f.tables[table]; return ok }

// recognise decides what the database is. contract holds the tables of release 3.29.
func recognise(f found, contract catalog) Plan {
	if len(f.taken) == 0 && !f.has("user") && !f.has("django_migrations") {
		return recogniseEmpty(f, contract)
	}
	differences, notes := f.compare(contract)
	missing, beyond, known := f.compareLedger()
	switch {
	case len(beyond) > 0:
		return refuse(Newer, append(beyond, differences...))
	case len(missing) > 0 && known:
		return refuse(Older, append(missing, differences...))
	case len(f.ledger) > 0 && !known:
		return refuse(Foreign, append([]string{"the ledger django_migrations holds no migration of the old system"}, differences...))
	case len(differences) > 0:
		return refuse(Foreign, differences)
	}
	plan := Plan{State: Upstream, Notes: notes}
	if len(f.taken) > 0 {
		plan.State = Created
		if f.taken[0].Adopted {
			plan.State, plan.AdoptedAt = Adopted, f.taken[0].AppliedAt
		}
	}
	return plan
}

// recogniseEmpty is for a database without the two tables that every one of the old system has. Tables of others are no
// obstacle, those of the same names are.
func recogniseEmpty(f found, contract catalog) Plan {
	var left []string
	for _, table := range slices.Sorted(maps.Keys(f.tables)) {
		if _, ours := contract[table]; ours || (strings.HasPrefix(table, "engine_") && table != versionTable) {
			left = append(left, fmt.Sprintf("table %s exists, although table user does not", table))
		}
	}
	if len(left) > 0 {
		return refuse(Foreign, left)
	}
	return Plan{State: Empty}
}

// compare lists what the database lacks of the tables that are read or written (differences), and columns that are nobody's
// (notes). Names of constraints, kinds of generated keys and the order of columns vary legitimately (schema.md 2.4); tables
// of the old system's framework are not needed (decision 19).
func (f found) compare(contract catalog) (differences, notes []string) {
	for _, table := range slices.Sorted(maps.Keys(contract)) {
		if strings.HasPrefix(table, "django_") || strings.HasPrefix(table, "auth_") {
			continue
		}
		have, exists := f.tables[table]
		if !exists {
			differences = append(differences, fmt.Sprintf("table %s is missing", table))
			continue
		}
		want := contract[table]
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if c, exists := have[name]; !exists {
				differences = append(differences, fmt.Sprintf("column %s.%s is missing", table, name))
			} else if c.family != want[name].family {
				differences = append(differences, fmt.Sprintf("column %s.%s holds %s instead of %s", table, name, c.family, want[name].family))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(have)) {
			if _, known := want[name]; known {
				continue
			}
			if !have[name].given {
				differences = append(differences, fmt.Sprintf("column %s.%s is unknown and must be given", table, name))
				continue
			}
			notes = append(notes, fmt.Sprintf("column %s.%s is unknown and left alone", table, name))
		}
	}
	return differences, notes
}

// firstParty are the applications of the old system whose migrations decide about its release.
var firstParty = []string{"accesses", "admin_cohort", "cohort", "content_management", "exports"}

// compareLedger compares the ledger with that of release 3.29: what is missing, what lies beyond, and whether it knows the
// old system at all. Rows of libraries and old rows under other names mean nothing. An empty ledger says nothing.
func (f found) compareLedger() (missing, beyond []string, known bool) {
	have := map[migration]bool{}
	for _, m := range f.ledger {
		have[m] = true
	}
	last := map[string]int{}
	for _, m := range ledger329() {
		if !slices.Contains(firstParty, m.App) {
			continue
		}
		last[m.App] = max(last[m.App], m.number())
		switch {
		case have[m]:
			known = true
		case len(f.ledger) > 0:
			missing = append(missing, fmt.Sprintf("migration %s %s was not applied", m.App, m.Name))
		}
	}
	for _, m := range f.ledger {
		if n, ours := last[m.App]; ours && m.number() > n {
			beyond = append(beyond, fmt.Sprintf("migration %s %s is unknown", m.App, m.Name))
		}
	}
	return missing, beyond, known
}

// number is the leading number of a migration's name, 0 without one.
func (m migration) number() int {
	digits, _, _ := strings.Cut(m.Name, "_")
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}

// complete adds the steps that are missing to the plan of a database that is not refused, and refuses one whose own tables
// do not fit the steps noted.
func (f found) complete(plan *Plan, d Dialect) error {
	if len(f.taken) > 0 {
		if last := f.taken[len(f.taken)-1]; last.Version > steps[len(steps)-1].version {
			*plan = refuse(Newer, []string{fmt.Sprintf("step %d (%s) was taken by a newer release", last.Version, last.Name)})
			return nil
		}
	}
	var wrong []string
	for i, s := range steps {
		noted := slices.ContainsFunc(f.taken, func(t taken) bool { return t.Version == s.version })
		if i == 0 && plan.State == Upstream {
			continue
		}
		if !noted {
			plan.Steps = append(plan.Steps, s.name)
		}
		if i == 0 {
			continue // compared already
		}
		tables, err := s.declared(d)
		if err != nil {
			return err
		}
		for _, table := range slices.Sorted(maps.Keys(tables)) {
			if f.has(table) && !noted {
				wrong = append(wrong, fmt.Sprintf("table %s exists, although step %s was not taken", table, s.name))
			} else if !f.has(table) && noted {
				wrong = append(wrong, fmt.Sprintf("table %s is missing, although step %s was taken", table, s.name))
			}
		}
	}
	if len(wrong) > 0 {
		*plan = refuse(Foreign, wrong)
	}
	return nil
}

// readCatalog reads the tables of the connection's schema.
func readCatalog(g *gorm.DB) (catalog, error) {
	query := `SELECT c.relname AS table_name, a.attname AS column_name, format_type(a.atttypid, a.atttypmod) AS type,
			NOT a.attnotnull OR a.atthasdef OR a.attidentity <> '' AS given
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = current_schema())
			AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped`
	if DialectOf(g) == SQLite {
		query = `SELECT m.name AS table_name, p.name AS column_name, p.type AS type,
				p."notnull" = 0 OR p.dflt_value IS NOT NULL AS given
			FROM sqlite_master m JOIN pragma_table_info(m.name) p
			WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\_%' ESCAPE '\'`
	}
	var rows []struct {
		TableName, ColumnName, Type string
		Given                       bool
	}
	if err := g.Raw(query).Scan(&rows).Error; err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	tables := catalog{}
	for _, r := range rows {
		if tables[r.TableName] == nil {
			tables[r.TableName] = map[string]column{}
		}
		tables[r.TableName][r.ColumnName] = column{family: family(r.Type), given: r.Given}
	}
	return tables, nil
}
