package access

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/fault"
)

const sampleHeader = "id;name;short_name;type_source_value;source_value;local_id;cohort_id;parent_id;level;above_levels_ids;inferior_levels_ids\n"

// sample has four perimeters, a child before its parent among them.
const sample = sampleHeader + `1;Main Hospital;Main;hospital;MH1;1;1;;1;;2,3
4;Unit;Unit;unit;U1;4;111;2;3;1,2;
2;"Department; one";Dept 1;hospital_depart;HD1;2;11;1;2;1;4
3;Department 2;Dept 2;hospital_depart;HD2;3;12;1;2;1;
`

func initialData() InitialData {
	return InitialData{
		Admin:         NewUser{"admin", "Admin", "ADMIN", "admin@backend.fr", "secret"},
		QueryExecutor: NewUser{"QE", "Query", "EXECUTOR", "query_executor@example.org", "1234"},
		ETL:           NewUser{Username: "SOLR_ETL", Firstname: "Solr", Lastname: "ETL", Email: "solr_etl@example.org"},
		Roles:         DemoRoles(),
	}
}

// counted is the number of rows of each table that a load writes.
func (b *bundle) counted() map[string]int64 {
	b.t.Helper()
	counts := map[string]int64{}
	for _, table := range []string{"accesses_perimeter", "accesses_role", "accesses_profile", "accesses_access", "user"} {
		var n int64
		require.NoError(b.t, b.db.Read(b.t.Context()).Table(table).Count(&n).Error)
		counts[table] = n
	}
	return counts
}

func TestLoad(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		b := setup(t, db)
		report, err := b.Load(t.Context(), strings.NewReader(sample), initialData())
		require.NoError(t, err)
		require.Equal(t, 4, report.Perimeters)
		require.Contains(t, report.Lines, "Successfully loaded 4 perimeters")
		require.Contains(t, report.Lines, "Successfully added user 'admin' with 'Full Admin' role")
		require.Contains(t, report.Lines, "WARNING: user 'QE' has the password that everybody knows; change it")
		want := map[string]int64{"accesses_perimeter": 4, "accesses_role": int64(1 + len(DemoRoles())), "accesses_profile": 3, "accesses_access": 1, "user": 3}
		require.Equal(t, want, b.counted())

		mine := read[[]shown](b.get("admin", "/accesses/accesses/my-accesses/").is(200))
		require.Len(t, mine, 1)
		require.Equal(t, b.now.AddDate(0, 0, 365), mine[0].End)
		require.EqualValues(t, 1, *mine[0].PerimeterID)
		full, err := b.IsFullAdmin(t.Context(), "admin")
		require.NoError(t, err)
		require.True(t, full)
		p, err := b.GetPerimeter(t.Context(), 2)
		require.NoError(t, err)
		require.Equal(t, "Department; one", *p.Name)
		require.Nil(t, p.FullPath)
		root, err := b.GetPerimeter(t.Context(), 1)
		require.NoError(t, err)
		require.Empty(t, *root.AboveLevelsIDs)
		require.Nil(t, root.ParentID)
		require.EqualValues(t, 5, b.nextPerimeter(), "the id of a row that leaves it to the table")

		again, err := b.Load(t.Context(), strings.NewReader("rubbish that nobody reads"), initialData())
		require.NoError(t, err)
		require.True(t, again.Skipped)
		require.Contains(t, again.Lines, "Found an old user QE in DB, proceed with it")
		require.Equal(t, want, b.counted())
		// an administrator whose access was closed does not get it back by a restart
		b.must(func(tx *database.Tx) error {
			return tx.Exec("UPDATE accesses_access SET end_datetime = ?", b.now.AddDate(0, 0, -1)).Error
		})
		_, err = b.Load(t.Context(), strings.NewReader(sample), initialData())
		require.NoError(t, err)
		require.Equal(t, want, b.counted())
	})
}

// nextPerimeter is the id that the table gives to a row without one; the row is not kept.
func (b *bundle) nextPerimeter() (id int64) {
	b.t.Helper()
	err := b.db.Update(b.t.Context(), func(tx *database.Tx) error {
		if err := tx.Raw("INSERT INTO accesses_perimeter (local_id) VALUES ('of the table') RETURNING id").Scan(&id).Error; err != nil {
			return err
		}
		return errBroken
	})
	require.ErrorIs(b.t, err, errBroken)
	return id
}

func TestLoadIntoAnInstallationAtWork(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.give("chief", AllRights, 4)
		_, err := b.Load(t.Context(), strings.NewReader(sample), initialData())
		require.NoError(t, err)
		full, err := b.IsFullAdmin(t.Context(), "admin")
		require.NoError(t, err)
		require.False(t, full)
		require.EqualValues(t, 3, b.counted()["user"], "chief and the machines")
	})
}

func TestLoadAtTheSameTime(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		b := setup(t, db)
		errs := make(chan error)
		for range 4 {
			go func() {
				_, err := b.Load(t.Context(), strings.NewReader(sample), initialData())
				errs <- err
			}()
		}
		for range 4 {
			require.NoError(t, <-errs)
		}
		require.EqualValues(t, 3, b.counted()["user"])
		require.EqualValues(t, 1, b.counted()["accesses_access"])
	})
}

// forest are rows without a parent, with the ids from 100 on.
func forest(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%[1]d;A;A;t;s;%[1]d;1;;1;;\n", 100+i)
	}
	return b.String()
}

func TestLoadLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		b := setup(t, db)
		before := b.counted()
		row := func(cells string) string { return sampleHeader + "1;A;A;t;s;1;1;;1;;\n" + cells + "\n" }
		for name, test := range map[string]struct{ file, message string }{
			"Empty":         {"", "the file is empty"},
			"OnlyHeader":    {sampleHeader, "the file has no rows"},
			"UnknownColumn": {"id;local_id;colour\n1;1;blue\n", `line 1: the perimeters have no column "colour"`},
			"TwiceAColumn":  {"id;local_id;id\n1;1;1\n", `line 1: column "id" comes twice`},
			"NoID":          {"local_id\n1\n", `line 1: column "id" is missing`},
			"BadID":         {row("x;B;B;t;s;2;2;1;2;1;"), `line 3: id: "x" is no whole number`},
			"BadParent":     {row("2;B;B;t;s;2;2;x;2;1;"), `line 3: parent_id: "x" is no whole number`},
			"NoLevel":       {row("2;B;B;t;s;2;2;1;;1;"), `line 3: level: "" is no whole number`},
			"NoLocalID":     {row("2;B;B;t;s;;2;1;2;1;"), "line 3: local_id: must have 1 to 63 characters"},
			"BadIDs":        {row("2;B;B;t;s;2;2;1;2;1,x;"), `line 3: above_levels_ids: "x" is no id`},
			"TooFewCells":   {row("2;B;B"), "line 3: wrong number of fields"},
			"BadQuote":      {row("2;\"B\"B;B;t;s;2;2;1;2;1;"), "line 3"},
			"SameID":        {row("1;B;B;t;s;2;2;1;2;1;"), "line 3: id 1 is that of line 2"},
			"SameLocalID":   {row("2;B;B;t;s;1;2;1;2;1;"), `line 3: local_id "1" is that of line 2`},
			"UnknownParent": {row("2;B;B;t;s;2;2;77;2;1;"), "read perimeters: line 3: parent_id 77 is not in the file"},
			"Cycle":         {row("2;B;B;t;s;2;2;2;2;1;"), "line 3: perimeter 2 is its own ancestor"},
			"LongCycle":     {row("2;B;B;t;s;2;2;3;2;1;\n3;C;C;t;s;3;3;2;2;1;"), "line 3: perimeter 2 is its own ancestor; line 4: perimeter 3 is its own ancestor"},
			"NoRoot":        {sampleHeader + "2;B;B;t;s;2;2;2;2;1;\n", "line 2: perimeter 2 is its own ancestor"},
			"NotUTF8":       {row("2;B\xff;B;t;s;2;2;1;2;1;"), "line 3: name is not UTF-8 text"},
			"Forest":        {sampleHeader + forest(30), ": lines 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, and 10 more have no parent_id"},
			"ManyOrphans":   {row(strings.TrimSuffix(strings.ReplaceAll(forest(30), ";;1;;", ";77;1;;"), "\n")), "line 22: parent_id 77 is not in the file; and 10 more"},
			"SeveralRoots":  {row("2;B;B;t;s;2;2;;2;1;"), "CSV file configuration error: ensure you have a single root perimeter: lines 2, 3 have no parent_id"},
		} {
			_, err := b.Load(t.Context(), strings.NewReader(test.file), initialData())
			require.ErrorContains(t, err, test.message, name)
			require.Equal(t, before, b.counted(), name)
		}
		_, err := b.Load(t.Context(), strings.NewReader("\ufeff"+sample), initialData())
		require.NoError(t, err, "a byte order mark")
	})
}

func TestReloadPerimeters(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.get("nora", "/accesses/perimeters/11/").is(200) // the tree is in memory
		before := b.get("nora", "/accesses/perimeters/?limit=1").is(200)
		n, err := b.ReloadPerimeters(t.Context(), strings.NewReader(sample))
		require.NoError(t, err)
		require.Equal(t, 4, n)
		require.NotEqual(t, before.text, b.get("nora", "/accesses/perimeters/?limit=1").is(200).text)
		require.Equal(t, []int64{1, 2, 3, 4}, read[page](b.get("nora", "/accesses/perimeters/").is(200)).ids())
		p, err := b.GetPerimeter(t.Context(), 4)
		require.NoError(t, err)
		require.Equal(t, []any{"Unit", int64(2), 3, "111"}, []any{*p.Name, *p.ParentID, *p.Level, *p.CohortID})
		require.Nil(t, p.FullPath, "a column that the file has not is emptied")
		tree, err := b.Snapshot(t.Context())
		require.NoError(t, err)
		require.NotNil(t, tree.Get(11).DeleteDatetime)
		_, err = b.ReloadPerimeters(t.Context(), strings.NewReader(sampleHeader+"x"))
		require.Error(t, err)
		require.Len(t, read[page](b.get("nora", "/accesses/perimeters/").is(200)).Results, 4)
		b.must(func(tx *database.Tx) error {
			return tx.Exec("UPDATE accesses_perimeter SET delete_datetime = ?", b.now).Error
		})
		_, err = b.ReloadPerimeters(t.Context(), strings.NewReader(sample))
		require.NoError(t, err)
		require.Len(t, read[page](b.get("nora", "/accesses/perimeters/").is(200)).Results, 4, "revived")
	})
}

func TestDevelopersAccounts(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		for range 2 {
			require.NoError(t, b.CreateAdmin(t.Context(), "420123456", "TEST"))
			full, err := b.IsFullAdmin(t.Context(), "420123456")
			require.NoError(t, err)
			require.True(t, full)
		}
		require.Equal(t, map[string]int64{"accesses_perimeter": 17, "accesses_role": 1, "accesses_profile": 1, "accesses_access": 1, "user": 1}, b.counted())
		b.must(func(tx *database.Tx) error {
			if err := tx.Exec("UPDATE accesses_role SET right_full_admin = false").Error; err != nil {
				return err
			}
			if err := tx.Exec("UPDATE accesses_profile SET is_active = false").Error; err != nil {
				return err
			}
			if err := tx.Exec("UPDATE accesses_perimeter SET delete_datetime = ? WHERE id = ?", b.now, testerPerimeter).Error; err != nil {
				return err
			}
			return tx.Exec("UPDATE accesses_access SET end_datetime = ?", b.now.AddDate(0, 0, -1)).Error
		})
		require.NoError(t, b.CreateAdmin(t.Context(), "420123456", "TEST"))
		full, err := b.IsFullAdmin(t.Context(), "420123456")
		require.NoError(t, err)
		require.True(t, full, "every right again")
		require.EqualValues(t, 1, b.counted()["accesses_role"])
		role := b.role(nomi)
		names, err := b.GenerateUsers(t.Context(), 3, 4, role)
		require.NoError(t, err)
		require.Equal(t, []string{"10000000", "10000001", "10000002"}, names)
		names, err = b.GenerateUsers(t.Context(), 1, 4, role)
		require.NoError(t, err)
		require.Equal(t, []string{"10000100"}, names)
		mine := read[[]shown](b.get("10000001", "/accesses/accesses/my-accesses/").is(200))
		require.Equal(t, b.now.AddDate(0, 0, 1000), mine[0].End)
		before := b.counted()
		for _, missing := range [][2]int64{{4711, role}, {4, 99999}} {
			_, err = b.GenerateUsers(t.Context(), 1, missing[0], missing[1])
			require.ErrorAs(t, err, new(fault.NotFound), fmt.Sprint(missing))
		}
		require.Equal(t, before, b.counted())
	})
}
