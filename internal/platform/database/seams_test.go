package database_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
)

// thing has a column of each kind that differs between the dialects.
type thing struct {
	ID    uuid.UUID `gorm:"primaryKey"`
	Name  *string
	Tags  database.StringArray
	Extra database.JSON
	Time  database.TimeOfDay
	At    *time.Time
	Made  time.Time
	Flag  bool
	Blob  []byte
}

// TableName implements gorm's schema.Tabler.
func (thing) TableName() string { return "thing" }

// things makes the table of thing in a database of each kind.
func things(t *testing.T, test func(t *testing.T, db *database.DB)) {
	t.Helper()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ddl := `CREATE TABLE thing (id uuid PRIMARY KEY, name text, tags varchar(15)[], extra jsonb, "time" time, at timestamptz,
			made timestamptz, flag boolean, blob bytea)`
		if db.Dialect() == database.SQLite {
			ddl = `CREATE TABLE thing (id text NOT NULL PRIMARY KEY, name text, tags text, extra text, "time" text, at datetime,
				made datetime, flag boolean, blob blob)`
		}
		exec(t, db, ddl, "CREATE UNIQUE INDEX thing_name ON thing (name)")
		test(t, db)
	})
}

func create(t *testing.T, db *database.DB, row *thing) {
	t.Helper()
	if row.ID == uuid.Nil {
		row.ID = uuid.New()
	}
	require.NoError(t, db.Update(t.Context(), func(tx *database.Tx) error { return tx.Create(row).Error }))
}

func named(names ...string) []*string {
	list := make([]*string, len(names))
	for i, n := range names {
		list[i] = &n
	}
	return list
}

func TestValuesComeBackAsWritten(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("east", 5*3600)
	at := time.Date(2026, 3, 29, 3, 30, 0, 123456789, zone)
	things(t, func(t *testing.T, db *database.DB) {
		for name, row := range map[string]thing{
			"Nothing": {},
			"Empty":   {Tags: database.StringArray{}, Extra: database.JSON(`{}`), Blob: []byte{}},
			"Full": {Tags: database.StringArray{"a", "", "b,c", `q"uo\te`, "{x}", "NULL", " é "}, Extra: database.JSON(`{"é": "1"}`),
				Time: 11*3600e6 + 45*60e6 + 1, At: &at, Flag: true, Blob: []byte{0, 1, 255}},
			"JSONNull": {Extra: database.JSON(`null`)},
		} {
			t.Run(name, func(t *testing.T) {
				row.Made = at
				create(t, db, &row)
				var got thing
				require.NoError(t, db.Read(t.Context()).First(&got, "id = ?", row.ID).Error)
				require.Equal(t, row.Tags, got.Tags)
				require.Equal(t, row.Time, got.Time)
				require.Equal(t, row.Flag, got.Flag)
				require.Equal(t, len(row.Blob), len(got.Blob))
				if row.Extra == nil {
					require.Nil(t, got.Extra)
				} else {
					require.JSONEq(t, string(row.Extra), string(got.Extra))
				}
				require.Equal(t, time.Date(2026, 3, 28, 22, 30, 0, 123456000, time.UTC), got.Made)
				if row.At != nil {
					require.Equal(t, got.Made, *got.At)
				}
			})
		}
		var nulls int64
		require.NoError(t, db.Read(t.Context()).Table("thing").Where("tags IS NULL").Count(&nulls).Error)
		require.EqualValues(t, 2, nulls, "an empty array is not NULL")
		require.NoError(t, db.Read(t.Context()).Table("thing").Where("extra IS NULL").Count(&nulls).Error)
		require.EqualValues(t, 1, nulls, "JSON's null is not NULL")
	})
}

func TestUpdatesOfValues(t *testing.T) {
	t.Parallel()
	things(t, func(t *testing.T, db *database.DB) {
		row := thing{Tags: database.StringArray{"a"}, Extra: database.JSON(`1`)}
		create(t, db, &row)
		require.NoError(t, db.Update(t.Context(), func(tx *database.Tx) error {
			return tx.Model(&row).Updates(map[string]any{"tags": database.StringArray{"b", "c"}, "extra": database.JSON(nil)}).Error
		}))
		var got thing
		require.NoError(t, db.Read(t.Context()).First(&got).Error)
		require.Equal(t, database.StringArray{"b", "c"}, got.Tags)
		require.Nil(t, got.Extra)

		err := db.Update(t.Context(), func(tx *database.Tx) error {
			return tx.Model(&row).Update("extra", database.JSON(`{"broken`)).Error
		})
		require.Error(t, err)
		err = db.Update(t.Context(), func(tx *database.Tx) error {
			return tx.Model(&row).Update("time", database.TimeOfDay(-1)).Error
		})
		require.Error(t, err)
	})
}

func TestTimesWithoutAColumn(t *testing.T) {
	t.Parallel()
	things(t, func(t *testing.T, db *database.DB) {
		late := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
		local := late.In(time.FixedZone("west", -3*3600))
		for _, at := range []time.Time{late.Add(-time.Microsecond), local.Add(999 * time.Nanosecond), late.Add(-time.Hour)} {
			create(t, db, &thing{Made: at})
		}
		var latest time.Time
		require.NoError(t, db.Read(t.Context()).Raw("SELECT max(made) FROM thing").Scan(&latest).Error)
		require.Equal(t, late, latest, "an aggregate is read as a time, in UTC")
		var n int64
		require.NoError(t, db.Read(t.Context()).Table("thing").Where("made >= ?", local).Count(&n).Error)
		require.EqualValues(t, 1, n, "arguments compare whatever their zone")
		var row struct{ Made time.Time }
		require.NoError(t, db.Update(t.Context(), func(tx *database.Tx) error {
			return tx.Raw("UPDATE thing SET flag = true WHERE made = ? RETURNING made", local.Add(500*time.Nanosecond)).Scan(&row).Error
		}))
		require.Equal(t, late, row.Made, "nanoseconds are cut off arguments, too")
		var text string
		require.NoError(t, db.Read(t.Context()).Raw("SELECT 'on 2026-01-01 12:00:00+00:00'").Scan(&text).Error)
		require.Equal(t, "on 2026-01-01 12:00:00+00:00", text)
	})
}

func TestContains(t *testing.T) {
	t.Parallel()
	things(t, func(t *testing.T, db *database.DB) {
		for _, name := range named("Étude A", "étude b", "100 % sûr", "100 x sûr", `back\slash`, "under_score", "undersscore", "") {
			create(t, db, &thing{Name: name})
		}
		create(t, db, &thing{})
		for text, want := range map[string][]string{
			"éTUDE": {"Étude A", "étude b"}, "a": {"Étude A", `back\slash`}, "%": {"100 % sûr"}, "_": {"under_score"}, `\`: {`back\slash`},
			"SÛR": {"100 % sûr", "100 x sûr"}, "nothing": {}, "with\x00zero": {}, "bro\xffken": {}, "' OR 1=1 --": {},
		} {
			names := []string{}
			require.NoError(t, db.Read(t.Context()).Table("thing").Where(database.Contains("thing.name", text)).
				Order(database.OrderBy("name", false)).Pluck("name", &names).Error)
			require.ElementsMatch(t, want, names, text)
		}
		var n int64
		require.NoError(t, db.Read(t.Context()).Table("thing").Where(database.Contains("name", "")).Count(&n).Error)
		require.EqualValues(t, 8, n, "the empty text is in every text, and not in NULL")
		require.NoError(t, db.Read(t.Context()).Table("thing").Where("NOT flag").
			Where(db.Read(t.Context()).Where(database.Contains("name", "ÉTUDE B")).Or(database.Contains(gorm.Expr("name || '!'"), "A!"))).
			Count(&n).Error)
		require.EqualValues(t, 2, n)
		require.NoError(t, db.Read(t.Context()).Table("thing").Where(database.Contains("name", "x\x00")).Count(&n).Error)
		require.Zero(t, n)
	})
}

func TestOrderBy(t *testing.T) {
	t.Parallel()
	things(t, func(t *testing.T, db *database.DB) {
		for _, name := range append(named("b", "a"), nil) {
			create(t, db, &thing{Name: name})
		}
		for desc, want := range map[bool][]string{false: {"a", "b", "-"}, true: {"-", "b", "a"}} {
			var names []string
			require.NoError(t, db.Read(t.Context()).Table("thing").Order(database.OrderBy("thing.name", desc)).
				Pluck("coalesce(name, '-')", &names).Error)
			require.Equal(t, want, names)
		}
	})
}

func TestArrayContainsAny(t *testing.T) {
	t.Parallel()
	things(t, func(t *testing.T, db *database.DB) {
		for _, tags := range []database.StringArray{{"1", "10"}, {"2"}, {}, nil, {`a"b`}} {
			create(t, db, &thing{Tags: tags})
		}
		for _, c := range []struct {
			values []string
			want   int64
		}{
			{[]string{"1"}, 1}, {[]string{"10", "2"}, 2}, {[]string{"0"}, 0}, {nil, 0}, {[]string{`a"b`, "x\x00"}, 1}, {[]string{"\x00"}, 0},
		} {
			var n int64
			require.NoError(t, db.Read(t.Context()).Table("thing").Where(database.ArrayContainsAny("tags", c.values)).Count(&n).Error)
			require.Equal(t, c.want, n, "%q", c.values)
			require.NoError(t, db.Read(t.Context()).Table("thing").Not(database.ArrayContainsAny("thing.tags", c.values)).Count(&n).Error)
			require.Equal(t, 5-c.want, n, "not %q", c.values)
		}
	})
}

func TestRecordset(t *testing.T) {
	t.Parallel()
	type text string
	rows := database.NewRecordset("r", database.Column{Name: "id", Type: database.UUID}, database.Column{Name: "name", Type: database.Text},
		database.Column{Name: "at", Type: database.Timestamp}, database.Column{Name: "flag", Type: database.Bool},
		database.Column{Name: "blob", Type: database.Bytes}, database.Column{Name: "n", Type: database.Int},
		database.Column{Name: "x", Type: database.Float})
	things(t, func(t *testing.T, db *database.DB) {
		at := time.Date(2026, 1, 1, 12, 0, 0, 5000, time.FixedZone("", 3600))
		first, second := uuid.New(), uuid.New()
		param, err := rows.JSON(db.Dialect(), [][]any{
			{first, "it's <b> \\u0000 \x00 é", at, true, []byte{0, 7}, int64(1) << 60, 0.5},
			{second, text("x\x00y"), &at, false, []byte{}, -1, nil},
			{uuid.New(), nil, (*time.Time)(nil), nil, nil, nil, nil},
		})
		require.NoError(t, err)
		require.NoError(t, db.Update(t.Context(), func(tx *database.Tx) error {
			return tx.Exec("INSERT INTO thing (id, name, at, made, flag, blob) SELECT id, name, at, at, flag, blob FROM "+
				rows.From(db.Dialect())+" WHERE true ON CONFLICT (id) DO NOTHING", param).Error
		}))
		var got []thing
		require.NoError(t, db.Read(t.Context()).Where("made = ?", at).Order(database.OrderBy("name", false)).
			Select("id", "name", "at", "made", "flag", "blob").Find(&got).Error)
		require.Len(t, got, 2, "times compare with those that the driver writes")
		require.Equal(t, first, got[0].ID)
		require.Equal(t, "it's <b> \\u0000  é", *got[0].Name)
		require.True(t, got[0].Flag)
		require.Equal(t, []byte{0, 7}, got[0].Blob)
		require.Equal(t, "xy", *got[1].Name)
		require.Equal(t, at.UTC(), *got[1].At)

		// Joined with the table, numbers as numbers.
		require.NoError(t, db.Update(t.Context(), func(tx *database.Tx) error {
			result := tx.Exec("UPDATE thing SET name = 'big' FROM "+rows.From(db.Dialect())+" WHERE thing.id = r.id AND thing.at <= r.at AND r.n > 5 AND r.x < 1", param)
			require.EqualValues(t, 1, result.RowsAffected)
			return result.Error
		}))
		require.NoError(t, db.Read(t.Context()).Where("id = ?", first).First(&got[0]).Error)
		require.Equal(t, "big", *got[0].Name)

		none, err := rows.JSON(db.Dialect(), nil)
		require.NoError(t, err)
		var n int64
		require.NoError(t, db.Read(t.Context()).Raw("SELECT count(*) FROM "+rows.From(db.Dialect()), none).Scan(&n).Error)
		require.Zero(t, n)
		_, err = rows.JSON(db.Dialect(), [][]any{{first}})
		require.ErrorContains(t, err, "1 values for 7 columns")
	})
}

func TestUniqueViolation(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		insert := func(statement string, args ...any) error {
			return db.Update(t.Context(), func(tx *database.Tx) error { return tx.Exec(statement, args...).Error })
		}
		role := `INSERT INTO accesses_role SELECT NULL, NULL, ?, ?, 'R', false, false, false, false, false, false, false, false, false, false, false, false, false, false, false, false`
		if db.Dialect() == database.Postgres {
			role = `INSERT INTO accesses_role SELECT NULL, NULL, ?::timestamptz, ?, 'R', false, false, false, false, false, false, false, false, false, false, false, false, false, false, false, false`
		}
		require.NoError(t, insert(role, time.Now(), 1), "a deleted role")
		require.NoError(t, insert(role, nil, 2), "leaves its name free")
		const user = `INSERT INTO "user" (username, email) VALUES (?, ?)`
		require.NoError(t, insert(user, "a", "a@example.org"))
		const tick = "INSERT INTO engine_tick (name, at, created_at) VALUES (?, ?, ?)"
		at := time.Now()
		require.NoError(t, insert(tick, "t", at, at))
		for index, err := range map[string]error{
			"unique_name":        insert(role, nil, 3),
			"accesses_role_pkey": insert(role, time.Now(), 2),
			"user_email_key":     insert(user, "b", "a@example.org"),
			"user_pkey":          insert(user, "a", nil),
			"engine_tick_pkey":   insert(tick, "t", at, at),
		} {
			require.ErrorIs(t, err, gorm.ErrDuplicatedKey)
			got, ok := database.UniqueViolation(err)
			require.True(t, ok)
			require.Equal(t, index, got)
		}
		for _, err := range []error{nil, context.Canceled, insert(user, nil, nil)} {
			_, ok := database.UniqueViolation(err)
			require.False(t, ok)
		}
	})
}

func TestTimeOfDay(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"09:45": "09:45:00", "09:45:01": "09:45:01", "23:59:59.5": "23:59:59.500000", "00:00:00.000001": "00:00:00.000001",
		"24:00:00": "24:00:00", "24:00": "24:00:00",
	} {
		got, err := database.ParseTimeOfDay(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got.String())
		body, err := json.Marshal(got)
		require.NoError(t, err)
		var back database.TimeOfDay
		require.NoError(t, json.Unmarshal(body, &back))
		require.Equal(t, got, back)
	}
	for _, text := range []string{"", "9:45", "25:00", "09:60", "09:45:00Z", "24:00:01", "24:00:00.1", "noon", "09.45"} {
		_, err := database.ParseTimeOfDay(text)
		require.Error(t, err, text)
	}
	require.Equal(t, 9, database.TimeOfDay(9*3600e6+45*60e6).Hour())
	require.Equal(t, 45, database.TimeOfDay(9*3600e6+45*60e6).Minute())
}

func TestStringArrayRefusesOtherShapes(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "{", "a", "{{a},{b}}", `{"a}`, `{"a"b}`, `{a,}`, `{"a\`, `["a"`, `[1]`} {
		var a database.StringArray
		require.Error(t, a.Scan(text), text)
	}
	var a database.StringArray
	require.NoError(t, a.Scan([]byte(`{a,NULL,"NULL"}`)))
	require.Equal(t, database.StringArray{"a", "", "NULL"}, a)
	require.Error(t, a.Scan(7))
}

func TestView(t *testing.T) {
	t.Parallel()
	things(t, func(t *testing.T, db *database.DB) {
		create(t, db, &thing{})
		require.NoError(t, db.View(t.Context(), func(tx *database.Tx) error {
			var before, after int64
			require.NoError(t, tx.Table("thing").Count(&before).Error)
			create(t, db, &thing{})
			require.NoError(t, tx.Table("thing").Count(&after).Error)
			require.Equal(t, before, after, "a view sees one state")
			return nil
		}))
		require.Error(t, db.View(t.Context(), func(tx *database.Tx) error { return tx.Exec("DELETE FROM thing").Error }))
		var n int64
		require.NoError(t, db.Read(t.Context()).Table("thing").Count(&n).Error)
		require.EqualValues(t, 2, n)
	})
}

func TestOnStatement(t *testing.T) {
	t.Parallel()
	things(t, func(t *testing.T, db *database.DB) {
		var texts []string
		stop := db.OnStatement(func(sql string) { texts = append(texts, sql) })
		work := func() {
			require.NoError(t, db.Read(t.Context()).Where("name = ?", "secret").Find(&[]thing{}).Error)
			require.NoError(t, db.Update(t.Context(), func(tx *database.Tx) error { return tx.Exec("DELETE FROM thing").Error }))
		}
		require.Equal(t, 2, databasetest.Count(t, db, work))
		require.Len(t, texts, 2)
		require.NotContains(t, texts[0], "secret")
		stop()
		require.Equal(t, 0, databasetest.Count(t, db, func() {}))
		work()
		require.Len(t, texts, 2)
	})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"UnknownKind": "mysql://x", "NoFile": "sqlite:", "Malformed": "postgres://u:secret@h:port/x",
		"Unreachable": "postgres://u:secret@127.0.0.1:1/x?connect_timeout=1", "NoDatabase": "sqlite:" + filepath.Join("/dev/null", "x.db"),
	} {
		_, err := database.Open(t.Context(), database.Config{URL: url})
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "secret", name)
	}
}

func TestOpenTakesAnyFileName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"plain.db", "what?.db", "a#b.db", "100%.db", "%41.db", "é à.db", "a&b=c.db"} {
		db := open(t, "sqlite:"+filepath.Join(dir, name))
		exec(t, db, "CREATE TABLE t (n integer)")
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.EqualValues(t, 0o600, info.Mode().Perm())
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.db"))
	require.NoError(t, err)
	require.Len(t, files, 7)
	for _, f := range files {
		info, err := os.Stat(f)
		require.NoError(t, err)
		require.NotZero(t, info.Size(), f)
	}
}

func TestOneOf(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		exec(t, db, "CREATE TABLE numbered (id bigint, place bigint)", "INSERT INTO numbered VALUES (1, -5), (2, 9007199254740993), (3, NULL), (4, 0)")
		many := make([]int64, 100_000)
		for i := range many {
			many[i] = int64(i) - 10
		}
		for name, tt := range map[string]struct{ ids, in, out []int64 }{
			"None":  {nil, nil, []int64{1, 2, 3, 4}},
			"One":   {[]int64{9007199254740993}, []int64{2}, []int64{1, 4}},
			"Twice": {[]int64{0, 0, -5}, []int64{1, 4}, []int64{2}},
			"Many":  {many, []int64{1, 4}, []int64{2}},
		} {
			var in, out []int64
			from := func() *gorm.DB { return db.Read(t.Context()).Table("numbered").Order("id") }
			require.NoError(t, from().Where(database.OneOf("numbered.place", tt.ids)).Pluck("id", &in).Error, name)
			require.ElementsMatch(t, tt.in, in, name)
			require.NoError(t, from().Not(database.OneOf("place", tt.ids)).Pluck("id", &out).Error, name)
			require.ElementsMatch(t, tt.out, out, name)
		}
	})
}

func TestOneOfTexts(t *testing.T) {
	t.Parallel()
	things(t, func(t *testing.T, db *database.DB) {
		for _, name := range named("a", `b"\{}`, "12", "é") {
			create(t, db, &thing{Name: name})
		}
		create(t, db, &thing{})
		for _, tt := range []struct {
			values []string
			want   int64
		}{
			{nil, 0}, {[]string{"a", "a", "é", "no"}, 2}, {[]string{`b"\{}`, "x\x00"}, 1}, {[]string{"12"}, 1}, {[]string{"a,12"}, 0},
		} {
			var n int64
			require.NoError(t, db.Read(t.Context()).Table("thing").Where(database.OneOf("name", tt.values)).Count(&n).Error)
			require.Equal(t, tt.want, n, "%q", tt.values)
		}
	})
}
