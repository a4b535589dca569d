package access

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tree of the contract's pinned cases (accesses.md 27): the ids of P0 to P14 are their numbers.
const aphp = 9999

func fixtureRows() []Perimeter {
	var rows []Perimeter
	parents := map[int64][]int64{aphp: {0, 1, 2}, 0: {3, 4, 5}, 4: {11, 12}, 1: {6, 7}, 2: {8, 9, 10}, 10: {13, 14}}
	var add func(id int64, parent *int64, path string, level int, above []int64)
	add = func(id int64, parent *int64, path string, level int, above []int64) {
		text := joinIDs([]int64{id})
		name := "P" + text
		rows = append(rows, Perimeter{
			ID: id, LocalID: text, Name: &name, SourceValue: new("S" + text), TypeSourceValue: new("T"), ParentID: parent, Level: &level,
			CohortID: &text, FullPath: new(path + name), AboveLevelsIDs: new(joinIDs(above)), InferiorLevelsIDs: new(joinIDs(parents[id])),
			CountAllowedUsers: new(0), CountAllowedUsersAboveLevels: new(0), CountAllowedUsersInferiorLevels: new(0),
		})
		for _, child := range parents[id] {
			add(child, &id, path+name+"/", level+1, append(slices.Clone(above), id))
		}
	}
	add(aphp, nil, "", 1, nil)
	return rows
}

// The roles of the pinned cases.
const (
	adm      = ManageUsers | ManageAdminSameLevel | ManageAdminInferiorLevels
	admS     = ManageUsers | ManageAdminSameLevel
	admI     = ManageUsers | ManageAdminInferiorLevels
	dam      = ManageUsers | ManageDataSameLevel | ManageDataInferiorLevels
	damS     = ManageUsers | ManageDataSameLevel
	damI     = ManageUsers | ManageDataInferiorLevels
	nomi     = ReadNominative | SearchByIPP
	nomiFull = ReadNominative | ReadPseudonymized | SearchByIPP | SearchOpposed | SearchUnlimited
	pseudo   = ReadPseudonymized
	nomiPse  = ReadNominative | ReadPseudonymized
	nomiCSV  = ReadNominative | ExportCSVXLSXNominative
	jupP     = ReadPseudonymized | ExportJupyterPseudonymized
)

type give struct {
	rights Rights
	on     int64
}

func granted(list ...give) (g Grants) {
	for i, item := range list {
		g = append(g, Grant{AccessID: int64(i + 1), PerimeterID: &item.on, Rights: item.rights})
	}
	return g
}

func idsOf(list []*Perimeter) (ids []int64) {
	for _, p := range list {
		ids = append(ids, p.ID)
	}
	return ids
}

func TestCanManage(t *testing.T) {
	t.Parallel()
	tree := BuildTree(fixtureRows())
	const here, below, above, elsewhere = 4, 11, 0, 7
	type places struct{ here, below, above, elsewhere bool }
	none, all := places{}, places{true, true, true, true}
	for name, test := range map[string]struct {
		rights      Rights
		admin, data places
		full        places
	}{
		"FullAdmin":          {AllRights, all, all, all},
		"AdminSame":          {admS, places{here: true}, places{here: true}, none},
		"AdminInferior":      {admI, places{below: true}, places{below: true}, none},
		"AdminBoth":          {adm, places{here: true, below: true}, places{here: true, below: true}, none},
		"DataSame":           {damS, none, places{here: true}, none},
		"DataInferior":       {damI, none, places{below: true}, none},
		"DataBoth":           {dam, none, places{here: true, below: true}, none},
		"UsersOnly":          {ManageUsers, none, none, none},
		"Reading":            {nomiFull, none, none, none},
		"DatalabsAndExports": {ManageDatalabs | ReadDatalabs | ExportJupyterNominative, none, none, none},
		"Nothing":            {0, none, none, none},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := granted(give{test.rights, here})
			check := func(role Rights, want places) {
				t.Helper()
				got := func(on int64) bool { return CanManage(tree, g, &role, &on) }
				require.Equal(t, want, places{got(here), got(below), got(above), got(elsewhere)}, "role %016b", role)
			}
			check(ReadDatalabs, test.admin)
			check(dam, test.admin)
			check(nomi|ReadDatalabs, test.admin)
			check(nomi, test.data)
			check(0, test.data) // decision 6
			check(SearchUnlimited, test.full)
			check(adm, test.full)
			check(AllRights, test.full)
		})
	}
	t.Run("SeveralAccessesAddUp", func(t *testing.T) {
		t.Parallel()
		g := granted(give{damS, here}, give{admI, above})
		require.True(t, CanManage(tree, g, new(dam), new(int64(here))))
	})
	t.Run("WithoutRoleOrPerimeter", func(t *testing.T) {
		t.Parallel()
		for _, role := range []*Rights{nil, new(nomi)} {
			require.True(t, CanManage(tree, granted(give{AllRights, 7}), role, nil))
			require.False(t, CanManage(tree, granted(give{adm, aphp}), role, nil))
		}
		require.False(t, CanManage(tree, granted(give{adm, aphp}), nil, new(int64(here))))
		require.False(t, CanManage(tree, granted(give{adm, 777}), new(nomi), new(int64(777))), "an unknown perimeter")
		require.False(t, CanManage(tree, Grants{{Rights: adm}}, new(nomi), new(int64(here))), "an access without perimeter")
	})
	t.Run("PinnedListsOfAProfile", func(t *testing.T) { // cases 37 to 39
		t.Parallel()
		editable := func(y Rights) (list []bool) {
			for _, x := range []give{{nomiPse, 1}, {adm, 4}, {dam, 10}} {
				list = append(list, CanManage(tree, granted(give{y, aphp}), &x.rights, &x.on))
			}
			return list
		}
		require.Equal(t, []bool{true, true, true}, editable(AllRights))
		require.Equal(t, []bool{true, false, true}, editable(adm))
		require.Equal(t, []bool{true, false, false}, editable(dam))
	})
}

func TestTopManageable(t *testing.T) {
	t.Parallel()
	tree := BuildTree(fixtureRows())
	for name, test := range map[string]struct {
		grants Grants
		want   []int64
	}{
		"Pinned49":              {granted(give{dam, 0}, give{adm, 1}, give{adm, 2}, give{dam, 8}), []int64{0, 1, 2}},
		"Pinned50":              {granted(give{damI, 0}, give{adm, 1}, give{admS, 8}, give{damI, 10}), []int64{1, 3, 4, 5, 8, 13, 14}},
		"FullAdmin":             {granted(give{AllRights, 11}), []int64{aphp}},
		"UsersOnly":             {granted(give{ManageUsers, 11}), []int64{aphp}},
		"UsersAndDatalabs":      {granted(give{ManageUsers, 11}, give{ManageDatalabs, 3}), []int64{aphp}},
		"UsersAndReading":       {granted(give{ManageUsers, 11}, give{nomi, 3}), nil},
		"Readers":               {granted(give{nomi, aphp}), nil},
		"Nobody":                {nil, nil},
		"SameLevelHidesLower":   {granted(give{admS, 0}, give{adm, 4}), []int64{0}},
		"InferiorOfALeaf":       {granted(give{damI, 3}), nil},
		"BothOnOnePerimeter":    {granted(give{damS, 4}, give{admI, 4}), []int64{4}},
		"AccessWithoutPlace":    {Grants{{Rights: adm}}, nil},
		"AccessOnUnknownPlaces": {granted(give{adm, 555}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, idsOf(TopManageable(tree, test.grants)))
		})
	}
}

func TestDataRights(t *testing.T) {
	t.Parallel()
	tree := BuildTree(fixtureRows())
	pinned := granted(give{nomiPse, 0}, give{adm, 1}, give{jupP, 7}, give{nomi, 8}, give{nomiCSV, 12})
	at := func(id int64, nominative, pseudonymized bool) DataRight {
		return DataRight{
			UserID: "u", PerimeterID: &id, ReadNominative: nominative, ReadPseudonymized: pseudonymized, SearchByIPP: true,
			ExportCSVXLSXNominative: true, ExportJupyterPseudonymized: true,
		}
	}
	for name, test := range map[string]struct {
		targets []int64
		want    []DataRight
	}{
		"Pinned45":        {[]int64{0}, []DataRight{at(0, true, true)}},
		"Pinned46":        {[]int64{2}, []DataRight{}},
		"Pinned47":        {[]int64{4}, []DataRight{at(4, true, true)}},
		"Pinned48":        {[]int64{8}, []DataRight{at(8, true, false)}},
		"Unrestricted":    {nil, []DataRight{at(0, true, true), at(7, false, true), at(8, true, false), at(12, true, true)}},
		"AccessesFirst":   {[]int64{11, 7, 2, 11, 0}, []DataRight{at(0, true, true), at(7, false, true), at(11, true, true)}},
		"Unknown":         {[]int64{4711}, []DataRight{}},
		"UnknownAndKnown": {[]int64{4711, 3}, []DataRight{at(3, true, true)}},
		"NothingGoesUp":   {[]int64{aphp}, []DataRight{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, DataRights(tree, pinned, "u", test.targets))
		})
	}
	t.Run("AccessWithoutPerimeter", func(t *testing.T) {
		t.Parallel()
		g := Grants{{AccessID: 1, Rights: nomi}}
		require.Equal(t, []DataRight{{UserID: "u", ReadNominative: true, SearchByIPP: true}}, DataRights(tree, g, "u", nil))
		require.Empty(t, DataRights(tree, g, "u", []int64{0}))
	})
	t.Run("DeletedPerimeter", func(t *testing.T) {
		t.Parallel()
		rows := fixtureRows()
		gone := slices.IndexFunc(rows, func(p Perimeter) bool { return p.ID == 4 })
		rows[gone].DeleteDatetime = &day1
		require.Empty(t, DataRights(BuildTree(rows), granted(give{nomi, 4}), "u", []int64{4}))
	})
	require.Empty(t, DataRights(tree, nil, "u", nil))
}

func TestReadRights(t *testing.T) {
	t.Parallel()
	tree := BuildTree(fixtureRows())
	pinned := granted(give{pseudo, 0}, give{nomiFull, 1}, give{nomiPse, 2}, give{nomi, 4}, give{pseudo, 10})
	modes := func(rights []ReadRight) map[int64]bool {
		got := map[int64]bool{}
		for _, r := range rights {
			got[r.Perimeter.ID] = r.Nominative
		}
		return got
	}
	t.Run("Pinned51", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, map[int64]bool{0: false, 1: true, 2: true, 4: true}, modes(ReadRights(tree, pinned, nil)))
	})
	t.Run("Pinned52", func(t *testing.T) {
		t.Parallel()
		wanted := PerimeterFilter{LocalIDs: []string{"1", "5", "9"}}.matcher()
		require.Equal(t, map[int64]bool{1: true, 5: false, 9: true}, modes(ReadRights(tree, pinned, wanted)))
	})
	t.Run("NominativeAboveHidesPseudonymisedBelow", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, map[int64]bool{0: true}, modes(ReadRights(tree, granted(give{nomi, 0}, give{pseudo, 4}, give{pseudo, 4}), nil)))
	})
	t.Run("NothingElsewhere", func(t *testing.T) {
		t.Parallel()
		all := func(*node) bool { return true }
		require.Equal(t, map[int64]bool{4: true, 11: true, 12: true}, modes(ReadRights(tree, granted(give{nomi, 4}), all)))
		require.Empty(t, ReadRights(tree, granted(give{adm, 4}), all))
		require.Empty(t, ReadRights(tree, nil, nil))
	})
	t.Run("ByPath", func(t *testing.T) {
		t.Parallel()
		rights := ReadRights(tree, granted(give{pseudo, aphp}), func(*node) bool { return true })
		require.True(t, slices.IsSortedFunc(rights, func(a, b ReadRight) int {
			return slices.Compare([]string{*a.Perimeter.FullPath}, []string{*b.Perimeter.FullPath})
		}))
		require.Len(t, rights, 16)
	})
}

func TestReadingMode(t *testing.T) {
	t.Parallel()
	tree := BuildTree(fixtureRows())
	for name, test := range map[string]struct {
		grants            Grants
		targets           []string
		all               bool
		reads, nominative bool
	}{
		"Pinned53":     {granted(give{pseudo, aphp}, give{nomi, 1}), []string{"1"}, true, true, true},
		"Pinned54":     {granted(give{pseudo, 1}, give{nomi, aphp}), []string{"1", "5"}, true, true, true},
		"Pinned55max":  {granted(give{pseudo, aphp}, give{nomi, 0}, give{nomi, 10}), []string{"5", "8"}, false, true, true},
		"Pinned55min":  {granted(give{pseudo, aphp}, give{nomi, 0}, give{nomi, 10}), []string{"5", "8"}, true, true, false},
		"Pinned56min":  {granted(give{pseudo, aphp}, give{nomiPse, 4}, give{nomi, 10}), []string{"9999", "4", "10"}, true, true, false},
		"Pinned56max":  {granted(give{pseudo, aphp}, give{nomiPse, 4}, give{nomi, 10}), []string{"9999", "4", "10"}, false, true, true},
		"Pinned57max":  {granted(give{pseudo, 2}, give{pseudo, 3}), []string{"2", "9"}, false, true, false},
		"Pinned57min":  {granted(give{pseudo, 2}, give{pseudo, 3}), []string{"2", "9"}, true, true, false},
		"Pinned58":     {granted(give{pseudo, 1}, give{nomi, 4}), []string{"6", "12"}, true, true, false},
		"Pinned61min":  {granted(give{pseudo, 1}, give{nomi, 2}), []string{"1", "5"}, true, false, false},
		"Pinned61max":  {granted(give{pseudo, 1}, give{nomi, 2}), []string{"1", "5"}, false, true, false},
		"Pinned62":     {granted(give{damS, aphp}, give{damI, 2}), []string{"9999", "2"}, true, false, false},
		"NoTarget":     {granted(give{nomi, aphp}), []string{"4711"}, true, false, false},
		"NoTargetMax":  {granted(give{nomi, aphp}), nil, false, false, false},
		"NobodyAtAll":  {nil, []string{"1"}, false, false, false},
		"AboveIsNotUp": {granted(give{nomi, 4}), []string{"0"}, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reads, nominative := readable(tree, test.grants, tree.OfCohorts(test.targets), test.all)
			require.Equal(t, test.reads, reads)
			require.Equal(t, test.nominative, nominative)
		})
	}
}

func TestCohortRights(t *testing.T) {
	t.Parallel()
	tree := BuildTree(fixtureRows())
	g := granted(give{nomiCSV, 0}, give{jupP, 2}, give{ReadNominative | ExportJupyterNominative, 1})
	rights := func(cohortIDs ...string) CohortRights { return cohortRights(tree, g, tree.OfCohorts(cohortIDs)) }
	require.Equal(t, CohortRights{ReadNominative: true, ReadPseudonymized: true, ExportCSVXLSXNominative: true}, rights("0", "11"))
	require.Equal(t, CohortRights{ReadPseudonymized: true, ExportJupyterPseudonymized: true}, rights("8"))
	require.Equal(t, CohortRights{ReadPseudonymized: true}, rights("3", "8"))
	require.Equal(t, CohortRights{ReadNominative: true, ReadPseudonymized: true, ExportJupyterNominative: true, ExportJupyterPseudonymized: true}, rights("6"))
	require.Equal(t, CohortRights{}, rights("9999"))
	require.Equal(t, CohortRights{}, rights(), "decision 7")
	require.Equal(t, CohortRights{}, rights("4711"))
}

func TestRoleClassesAndConsistency(t *testing.T) {
	t.Parallel()
	require.Equal(t, AllRights, classFull|classAdmin|classData)
	require.EqualValues(t, 1<<16-1, AllRights)
	require.Equal(t, ReadNominative|ReadPseudonymized|SearchByIPP|SearchOpposed|ExportCSVXLSXNominative|ExportJupyterNominative|ExportJupyterPseudonymized, classData)
	for i, name := range rightNames {
		require.Equal(t, name, Rights(1<<i).Name())
		require.Equal(t, Rights(1<<i), FlagsOf(1<<i).Rights())
	}
	for name, test := range map[string]struct {
		rights  Rights
		refused bool
	}{
		"Nothing":                       {0, false},
		"Everything":                    {AllRights, false},
		"FullAdminWithoutSomething":     {AllRights &^ SearchOpposed, true},
		"FullAdminAndUsers":             {FullAdmin | ManageUsers, true}, // case 8
		"PseudonymisedAndNominativeCSV": {pseudo | ExportCSVXLSXNominative, true},
		"PseudonymisedAndNominativeJup": {pseudo | ExportJupyterNominative, true},
		"ExportWithoutReading":          {ExportCSVXLSXNominative, false},
		"IPPWithoutNominative":          {pseudo | SearchByIPP, true},
		"IPP":                           {nomi, false},
		"AccessesWithoutUsers":          {ManageAdminSameLevel | ManageAdminInferiorLevels, true},
		"Accesses":                      {adm, false},
	} {
		require.Equal(t, test.refused, consistent(test.rights) != nil, name)
	}
}
