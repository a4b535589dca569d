package database_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/platformtest"
)

// open opens a database as it is for as long as the test lives.
func open(t *testing.T, url string) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), database.Config{URL: url})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// empties returns a fresh database without any table of each kind.
func empties(t *testing.T) map[string]*database.DB {
	t.Helper()
	return map[string]*database.DB{
		"SQLite":   open(t, "sqlite:"+filepath.Join(t.TempDir(), "empty.db")),
		"Postgres": open(t, platformtest.PostgresURL(t)),
	}
}

func exec(t *testing.T, db *database.DB, statements ...string) {
	t.Helper()
	require.NoError(t, db.Update(t.Context(), func(tx *database.Tx) error {
		for _, s := range statements {
			if _, err := tx.Statement.ConnPool.ExecContext(t.Context(), s); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
		return nil
	}))
}

// upstream is the old system's database, made from the contract's own file (without ledger rows).
func upstream(t *testing.T) *database.DB {
	t.Helper()
	text, err := os.ReadFile("testdata/schema.sql")
	require.NoError(t, err)
	db := open(t, platformtest.PostgresURL(t))
	exec(t, db, strings.NewReplacer("\nBEGIN;\n", "\n", "\nCOMMIT;\n", "\n").Replace(string(text)))
	return db
}

// fillLedger gives the database the ledger of release 3.29.
func fillLedger(t *testing.T, db *database.DB) {
	t.Helper()
	text, err := os.ReadFile("migrations/ledger.txt")
	require.NoError(t, err)
	var rows []string
	for line := range strings.Lines(string(text)) {
		app, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		rows = append(rows, fmt.Sprintf("('%s', '%s', now())", app, name))
	}
	require.Len(t, rows, 129)
	exec(t, db, "INSERT INTO django_migrations (app, name, applied) VALUES "+strings.Join(rows, ", "))
}

func migrate(t *testing.T, db *database.DB) database.Report {
	t.Helper()
	report, err := database.Migrate(t.Context(), db, database.MigrateOptions{})
	require.NoError(t, err)
	return report
}

// pgCatalog dumps everything that the catalogue of PostgreSQL knows of the tables that are not ours, one fact a line.
func pgCatalog(t *testing.T, db *database.DB) []string {
	t.Helper()
	var facts []string
	const of = ` n.nspname = 'public' AND c.relname NOT LIKE 'engine\_%' `
	for _, query := range []string{
		`SELECT concat_ws('|', 'column', c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
				a.attidentity, pg_get_expr(d.adbin, d.adrelid), a.attcollation::regcollation)
			FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
			LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
			WHERE c.relkind = 'r' AND a.attnum > 0 AND` + of,
		`SELECT concat_ws('|', 'constraint', c.relname, k.conname, k.contype, k.condeferrable, k.condeferred, k.convalidated,
				pg_get_constraintdef(k.oid))
			FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE` + of,
		`SELECT concat_ws('|', 'index', c.relname, pg_get_indexdef(i.indexrelid))
			FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE` + of,
		`SELECT concat_ws('|', 'other', c.relkind, c.relname, s.seqtypid::regtype, s.seqstart, s.seqincrement, c.reloptions)
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_sequence s ON s.seqrelid = c.oid
			WHERE c.relkind <> 'i' AND` + of,
		`SELECT concat_ws('|', 'type', c.typname) FROM pg_type c JOIN pg_namespace n ON n.oid = c.typnamespace
			WHERE n.nspname = 'public' AND c.typname NOT LIKE 'engine\_%' AND c.typname NOT LIKE '\_engine\_%'`,
	} {
		var lines []string
		require.NoError(t, db.Read(t.Context()).Raw(query+" ORDER BY 1").Scan(&lines).Error)
		require.NotEmpty(t, lines)
		facts = append(facts, lines...)
	}
	return facts
}

func TestCreatedCatalogueIsThatOfTheContract(t *testing.T) {
	t.Parallel()
	want := pgCatalog(t, upstream(t))
	created := databasetest.Postgres(t)
	require.Empty(t, cmp.Diff(want, pgCatalog(t, created)))

	// The comparison notices one nullable column.
	exec(t, created, "ALTER TABLE datalab ALTER COLUMN name DROP NOT NULL")
	require.NotEmpty(t, cmp.Diff(want, pgCatalog(t, created)))
}

// shape is a table as both dialects can tell it.
type shape struct {
	Columns []string            // in order
	NotNull map[string]bool     // names of columns
	Unique  map[string]struct{} // "columns|partial"
}

func shapes(t *testing.T, db *database.DB) map[string]shape {
	t.Helper()
	columns := `SELECT c.relname AS table_name, a.attname AS column_name, a.attnotnull AS not_null
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 ORDER BY 1, a.attnum`
	unique := `SELECT c.relname AS table_name, i.indpred IS NOT NULL AS partial,
			(SELECT string_agg(a.attname, ',' ORDER BY k.n) FROM unnest(i.indkey) WITH ORDINALITY k(num, n)
				JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num) AS columns
		FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
		WHERE c.relnamespace = 'public'::regnamespace AND i.indisunique`
	if db.Dialect() == database.SQLite {
		columns = `SELECT m.name AS table_name, p.name AS column_name, p."notnull" OR (p.pk AND lower(p.type) = 'integer') AS not_null
			FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table' AND m.name <> 'sqlite_sequence' ORDER BY 1, p.cid`
		unique = `SELECT m.name AS table_name, l.partial,
				(SELECT group_concat(name, ',') FROM (SELECT name FROM pragma_index_info(l.name) ORDER BY seqno)) AS columns
			FROM sqlite_master m JOIN pragma_index_list(m.name) l WHERE m.type = 'table' AND l."unique"
			UNION ALL SELECT m.name, 0, p.name FROM sqlite_master m JOIN pragma_table_info(m.name) p
			WHERE m.type = 'table' AND p.pk = 1 AND lower(p.type) = 'integer'` // the row id has no index of its own
	}
	tables := map[string]shape{}
	var rows []struct {
		TableName, ColumnName string
		NotNull               bool
	}
	require.NoError(t, db.Read(t.Context()).Raw(columns).Scan(&rows).Error)
	for _, r := range rows {
		s, seen := tables[r.TableName]
		if !seen {
			s = shape{NotNull: map[string]bool{}, Unique: map[string]struct{}{}}
		}
		s.Columns = append(s.Columns, r.ColumnName)
		s.NotNull[r.ColumnName] = r.NotNull
		tables[r.TableName] = s
	}
	var sets []struct {
		TableName, Columns string
		Partial            bool
	}
	require.NoError(t, db.Read(t.Context()).Raw(unique).Scan(&sets).Error)
	for _, u := range sets {
		tables[u.TableName].Unique[fmt.Sprint(u.Columns, "|", u.Partial)] = struct{}{}
	}
	return tables
}

func TestSQLiteHasTheSameTables(t *testing.T) {
	t.Parallel()
	want := shapes(t, databasetest.Postgres(t))
	require.Len(t, want, 39+9)
	require.Empty(t, cmp.Diff(want, shapes(t, databasetest.SQLite(t))))
}

func TestSeeds(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		read := db.Read(t.Context())
		var rights []struct {
			Name, Category                                               string
			IsGlobal, AllowEditAccessesOnSameLevel, ImpactInferiorLevels bool
			AllowEditAccessesOnInfLevels                                 bool
			InsertDatetime                                               time.Time
			DependsOn                                                    *string
		}
		require.NoError(t, read.Raw(`SELECT r.*, d.name AS depends_on FROM accesses_right r
			LEFT JOIN accesses_right d ON d.id = r.depends_on_id ORDER BY r.id`).Scan(&rights).Error)
		require.Len(t, rights, 16)
		require.Equal(t, "right_full_admin", rights[0].Name)
		require.True(t, rights[0].IsGlobal)
		require.False(t, rights[3].IsGlobal)
		require.True(t, rights[3].AllowEditAccessesOnInfLevels && rights[3].ImpactInferiorLevels)
		require.False(t, rights[3].AllowEditAccessesOnSameLevel)
		require.Equal(t, "Recherche de Patients", rights[8].Category)
		require.Equal(t, "right_manage_datalabs", *rights[15].DependsOn)
		require.Nil(t, rights[14].DependsOn)
		require.Equal(t, time.UTC, rights[0].InsertDatetime.Location())

		var providers []struct {
			UUID    uuid.UUID
			Name    string
			Deleted *time.Time
		}
		require.NoError(t, read.Table("infrastructure_provider").Scan(&providers).Error)
		require.Len(t, providers, 1)
		require.Equal(t, "Main", providers[0].Name)
		require.EqualValues(t, 4, providers[0].UUID.Version())
		require.Nil(t, providers[0].Deleted)

		var ledger int64
		require.NoError(t, read.Table("django_migrations").Count(&ledger).Error)
		require.EqualValues(t, 129, ledger)
	})
}

func TestMigrateEmpty(t *testing.T) {
	t.Parallel()
	for kind, db := range empties(t) {
		t.Run(kind, func(t *testing.T) {
			report, err := database.Migrate(t.Context(), db, database.MigrateOptions{DryRun: true})
			require.NoError(t, err)
			require.Equal(t, database.Empty, report.State)
			require.Equal(t, []string{"contract", "engine"}, report.Steps)
			require.Contains(t, report.String(), `Would be done: create the tables of step "engine".`)
			require.Empty(t, shapes(t, db), "a dry run writes nothing")

			report = migrate(t, db)
			require.Equal(t, []string{"contract", "engine"}, report.Steps)
			before := dump(t, db)

			report = migrate(t, db)
			require.Equal(t, database.Created, report.State)
			require.True(t, report.Ready())
			require.Empty(t, report.Steps)
			require.Contains(t, report.String(), "Nothing is to be done.")
			require.Empty(t, cmp.Diff(before, dump(t, db)), "twice changes nothing")

			_, adopted, err := database.AdoptedAt(t.Context(), db)
			require.NoError(t, err)
			require.False(t, adopted)
		})
	}
}

// dump is the number of rows of each table.
func dump(t *testing.T, db *database.DB) map[string]int64 {
	t.Helper()
	counts := map[string]int64{}
	for table := range shapes(t, db) {
		var n int64
		require.NoError(t, db.Read(t.Context()).Table(table).Count(&n).Error)
		counts[table] = n
	}
	return counts
}

func TestMigrateConcurrently(t *testing.T) {
	t.Parallel()
	for kind, url := range map[string]string{
		"SQLite":   "sqlite:" + filepath.Join(t.TempDir(), "new.db"),
		"Postgres": platformtest.PostgresURL(t),
	} {
		t.Run(kind, func(t *testing.T) {
			var wg sync.WaitGroup
			errs, took := make([]error, 6), make([]int, 6)
			for i := range errs {
				wg.Go(func() { took[i], errs[i] = openAndMigrate(t, url) })
			}
			wg.Wait()
			sum := 0
			for i := range errs {
				require.NoError(t, errs[i])
				sum += took[i]
			}
			require.Equal(t, 2, sum, "exactly one of them took the steps")
		})
	}
}

// openAndMigrate does what each process does that starts, and returns the number of steps taken.
func openAndMigrate(t *testing.T, url string) (int, error) {
	db, err := database.Open(t.Context(), database.Config{URL: url})
	if err != nil {
		return 0, err
	}
	report, err := database.Migrate(t.Context(), db, database.MigrateOptions{})
	return len(report.Steps), errors.Join(err, db.Close())
}

// leaveBehind writes what an old system had under way: a schedule, two live unfinished counts, a deleted and a finished one.
const leaveBehind = `
INSERT INTO "user" (username) VALUES ('alice');
INSERT INTO cohort_folder (uuid, deleted_by_cascade, created_at, modified_at, name, owner_id)
VALUES ('00000000-0000-4000-8000-000000000001', false, now(), now(), 'f', 'alice');
INSERT INTO cohort_request (uuid, deleted_by_cascade, created_at, modified_at, name, description, favorite, owner_id, parent_folder_id)
VALUES ('00000000-0000-4000-8000-000000000002', false, now(), now(), 'r', '', false, 'alice', '00000000-0000-4000-8000-000000000001');
INSERT INTO cohort_requestquerysnapshot (uuid, deleted_by_cascade, created_at, modified_at, serialized_query, owner_id, request_id, version)
VALUES ('00000000-0000-4000-8000-000000000003', false, now(), now(), '{}', 'alice', '00000000-0000-4000-8000-000000000002', 1);
INSERT INTO cohort_requestrefreshschedule (uuid, deleted_by_cascade, created_at, modified_at, refresh_time, refresh_frequency,
	notify_owner, request_snapshot_id, owner_id)
VALUES ('00000000-0000-4000-8000-000000000004', false, now(), now(), '11:45', 'daily', false, '00000000-0000-4000-8000-000000000003', 'alice');
INSERT INTO cohort_datedmeasure (uuid, deleted, deleted_by_cascade, request_job_id, request_job_status, request_job_fail_msg,
	request_job_duration, created_at, modified_at, count_task_id, owner_id, request_query_snapshot_id)
SELECT ('00000000-0000-4000-8000-00000000001' || n)::uuid, CASE n WHEN 3 THEN now() END, false, '', CASE n WHEN 4 THEN 'finished' ELSE 'started' END,
	'', '', now(), now(), '', 'alice', '00000000-0000-4000-8000-000000000003' FROM generate_series(1, 4) n`

func TestAdopt(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, db *database.DB){
		"WithoutLedgerRows": func(*testing.T, *database.DB) {},
		"WithLedger":        fillLedger,
		"WithForeignLedgerRows": func(t *testing.T, db *database.DB) {
			fillLedger(t, db)
			exec(t, db, `INSERT INTO django_migrations (app, name, applied) VALUES ('accesses_perimeters', '0003_delete', now()),
				('auth', '0099_later', now()), ('accesses', '0003_an_old_name', now())`)
		},
		"SerialKeys": func(t *testing.T, db *database.DB) {
			exec(t, db, `ALTER TABLE accesses_role ALTER COLUMN id DROP IDENTITY; CREATE SEQUENCE accesses_role_id_seq;
				ALTER TABLE accesses_role ALTER COLUMN id SET DEFAULT nextval('accesses_role_id_seq')`)
		},
		"OtherConstraintNamesAndLeftovers": func(t *testing.T, db *database.DB) {
			exec(t, db, `ALTER TABLE export RENAME CONSTRAINT export_owner_id_ba1db078_fk_user_username TO export_owner_id_old;
				CREATE TABLE care_site (id integer); CREATE TABLE workspaces_project (id integer)`)
		},
		"WithoutFrameworkTables": func(t *testing.T, db *database.DB) {
			exec(t, db, "DROP TABLE django_admin_log, django_session, auth_group_permissions, django_celery_beat_periodictask")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := upstream(t)
			exec(t, db, leaveBehind)
			prepare(t, db)
			catalogue, rows := pgCatalog(t, db), dump(t, db)

			report, err := database.Migrate(t.Context(), db, database.MigrateOptions{DryRun: true})
			require.NoError(t, err)
			require.Equal(t, rows, dump(t, db), "a dry run writes nothing")
			require.Equal(t, database.Upstream, report.State)

			start := time.Now().Add(-time.Minute)
			for _, r := range []database.Report{report, migrate(t, db)} {
				require.Equal(t, []string{"engine"}, r.Steps)
				require.EqualValues(t, 1, r.PausedSchedules)
				require.Equal(t, []database.Unfinished{{Table: "cohort_datedmeasure", Status: "started", Count: 2, Nameless: 2}}, r.Unfinished)
			}
			require.Contains(t, report.String(), "paused until ADOPTED_REFRESH_SCHEDULES=run: 1.")
			require.Contains(t, report.String(), "Left by the old system in cohort_datedmeasure as started (settled by: cohortflow adopt --settle): 2.")
			require.Empty(t, cmp.Diff(catalogue, pgCatalog(t, db)), "the old system's tables are as they were")
			for table, n := range dump(t, db) {
				if !strings.HasPrefix(table, "engine_") {
					require.Equal(t, rows[table], n, table)
				}
			}

			// What comes after the adoption is ours: it neither pauses nor counts as left behind.
			exec(t, db, `UPDATE cohort_datedmeasure SET created_at = now() + interval '1 hour' WHERE uuid = '00000000-0000-4000-8000-000000000011'`)
			report = migrate(t, db)
			require.Equal(t, database.Adopted, report.State)
			require.True(t, report.Ready())
			require.EqualValues(t, 1, report.PausedSchedules)
			require.EqualValues(t, 1, report.Unfinished[0].Count)
			at, adopted, err := database.AdoptedAt(t.Context(), db)
			require.NoError(t, err)
			require.True(t, adopted)
			require.WithinRange(t, at, start, time.Now().Add(time.Minute))
		})
	}
}

func TestMigrateRefuses(t *testing.T) {
	t.Parallel()
	full := func(statements ...string) func(t *testing.T) *database.DB {
		return func(t *testing.T) *database.DB {
			db := upstream(t)
			fillLedger(t, db)
			exec(t, db, statements...)
			return db
		}
	}
	bare := func(statements ...string) func(t *testing.T) *database.DB {
		return func(t *testing.T) *database.DB {
			db := open(t, platformtest.PostgresURL(t))
			exec(t, db, statements...)
			return db
		}
	}
	ours := func(statements ...string) func(t *testing.T) *database.DB {
		return func(t *testing.T) *database.DB {
			db := databasetest.Postgres(t)
			exec(t, db, statements...)
			return db
		}
	}
	for name, c := range map[string]struct {
		db    func(t *testing.T) *database.DB
		state database.State
		says  []string
	}{
		"Older": {full("DELETE FROM django_migrations WHERE app = 'exports' AND name LIKE '0020%'",
			"ALTER TABLE export DROP COLUMN retried"), database.Older,
			[]string{"migration exports 0020_alter_string_based_fields was not applied", "column export.retried is missing"}},
		"Newer": {full("INSERT INTO django_migrations (app, name, applied) VALUES ('cohort', '0026_next', now())"), database.Newer,
			[]string{"migration cohort 0026_next is unknown"}},
		"NewerAfterAdoption": {ours("INSERT INTO django_migrations (app, name, applied) VALUES ('accesses', '0022_next', now())"),
			database.Newer, []string{"migration accesses 0022_next is unknown"}},
		"ColumnMissing": {full("ALTER TABLE datalab DROP COLUMN name"), database.Foreign, []string{"column datalab.name is missing"}},
		"TableMissing":  {full("DROP TABLE export_result_stat"), database.Foreign, []string{"table export_result_stat is missing"}},
		"OtherType": {full("ALTER TABLE release_note ALTER COLUMN message TYPE text"), database.Foreign,
			[]string{"column release_note.message holds text instead of text[]"}},
		"ColumnThatMustBeGiven": {full("ALTER TABLE datalab ADD COLUMN extra text NOT NULL"), database.Foreign,
			[]string{"column datalab.extra is unknown and must be given"}},
		"OtherDjangoProject": {bare("CREATE TABLE django_migrations (id int, app varchar, name varchar)",
			"INSERT INTO django_migrations VALUES (1, 'shop', '0001_initial')"), database.Foreign,
			[]string{"holds no migration of the old system", "table accesses_access is missing"}},
		"OtherUserTable": {bare(`CREATE TABLE "user" (id int)`), database.Foreign, []string{"column user.username is missing"}},
		"HalfCreated":    {bare("CREATE TABLE export (id int)"), database.Foreign, []string{"table export exists, although table user does not"}},
		"EngineTablesOfOthers": {full("CREATE TABLE engine_job (id int)"), database.Foreign,
			[]string{"table engine_job exists, although step engine was not taken"}},
		"EngineTableLost": {ours("DROP TABLE engine_task"), database.Foreign,
			[]string{"table engine_task is missing, although step engine was taken"}},
		"NewerOfOurs": {ours("INSERT INTO engine_schema_version VALUES (99, 'later', false, now())"), database.Newer,
			[]string{"step 99 (later) was taken by a newer release"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := c.db(t)
			before := dump(t, db)
			plan, err := database.Inspect(t.Context(), db)
			require.NoError(t, err)
			require.Equal(t, c.state, plan.State)
			require.False(t, plan.Ready())

			report, err := database.Migrate(t.Context(), db, database.MigrateOptions{})
			for _, text := range c.says {
				require.ErrorContains(t, err, text)
				require.Contains(t, report.String(), text)
			}
			require.Contains(t, report.String(), "Nothing was changed.")
			require.Equal(t, before, dump(t, db))
		})
	}
}

func TestUnknownColumnsAreNoted(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		exec(t, db, "ALTER TABLE datalab ADD COLUMN comment text")
		plan, err := database.Inspect(t.Context(), db)
		require.NoError(t, err)
		require.True(t, plan.Ready())
		require.Equal(t, []string{"column datalab.comment is unknown and left alone"}, plan.Notes)
	})
}

func TestAFailedStepLeavesNothing(t *testing.T) {
	t.Parallel()
	for kind, db := range empties(t) {
		t.Run(kind, func(t *testing.T) {
			exec(t, db, "CREATE TABLE mine (n integer)", "CREATE INDEX engine_job_kind_state ON mine (n)")
			_, err := database.Migrate(t.Context(), db, database.MigrateOptions{})
			require.ErrorContains(t, err, "take step engine")
			require.Len(t, shapes(t, db), 1)
		})
	}
}

func TestEngineTablesRefuseImpossibleRows(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		now := time.Now()
		job := func(change map[string]any) error {
			row := map[string]any{"id": uuid.NewString(), "kind": "count", "subject": uuid.NewString(), "owner": "alice", "state": "new",
				"deadline": now, "heard_at": now, "version": 1, "created_at": now, "updated_at": now}
			for k, v := range change {
				row[k] = v
			}
			return db.Update(t.Context(), func(tx *database.Tx) error { return tx.Table("engine_job").Create(row).Error })
		}
		require.NoError(t, job(nil))
		require.NoError(t, job(map[string]any{"ended_at": now, "deadline": nil}))
		require.Error(t, job(map[string]any{"ended_at": now}), "an ended job waits for nothing")
		require.Error(t, job(map[string]any{"subject": strings.Repeat("x", 65)}))
		require.Error(t, job(map[string]any{"kind": ""}))
		require.NoError(t, job(map[string]any{"subject": "one"}))
		err := job(map[string]any{"subject": "one"})
		require.ErrorIs(t, err, gorm.ErrDuplicatedKey)
		index, ok := database.UniqueViolation(err)
		require.True(t, ok)
		require.Equal(t, "engine_job_kind_subject_key", index)
	})
}
