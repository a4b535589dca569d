package access

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/platformtest"
)

// practitioner and role are entries of the directory's answer.
func practitioner(username string) string { return staff(username, `"active":true,`) }

func staff(username, active string) string {
	return fmt.Sprintf(`{"resourceType":"Practitioner","id":"p-%[1]s",%[2]s"identifier":[{"value":%[1]q}]}`, username, active)
}

func practitionerOf(username, id string, active bool, organization, code, period string) string {
	return fmt.Sprintf(`{"resourceType":"PractitionerRole","id":%q,"active":%t,"practitioner":{"reference":"Practitioner/p-%s"},
		"organization":{"reference":"Organization/%s"},"code":[{"coding":[{"code":%q}]}],"period":%s}`, id, active, username, organization, code, period)
}

func TestSyncOrbis(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.profile("doctor")
		b.profile("other")
		sync := func(resources ...string) OrbisReport {
			t.Helper()
			b.source.resources = resources
			report, err := b.SyncOrbis(t.Context(), "")
			require.NoError(t, err)
			return report
		}
		all := func() (list []Access) {
			t.Helper()
			require.NoError(t, b.db.Read(t.Context()).Order("id").Find(&list).Error)
			return list
		}
		day := 24 * time.Hour
		at := func(d time.Duration) string { return b.now.Add(d).Format(time.RFC3339Nano) }
		until := func(d time.Duration) string { return fmt.Sprintf(`{"start":%q,"end":%q}`, at(-5*day), at(d)) }

		report := sync(practitioner("doctor"), practitionerOf("doctor", "r1", true, "4", "0_MEDECIN", until(10*day)))
		require.Equal(t, []string{"0_MEDECIN"}, report.SkippedRoles, "the role does not exist yet")
		require.Empty(t, all())
		b.must(func(tx *database.Tx) error {
			_, err := b.ensureRole(tx, RoleSeed{careTeamRole, nomi})
			return err
		})
		report = sync(practitioner("doctor"), practitionerOf("doctor", "r1", true, "4", "0_MEDECIN", until(10*day)),
			practitionerOf("doctor", "r2", true, "4", "0_PLOMBIER", until(10*day)),
			practitionerOf("doctor", "r3", true, "4711", "0_SAGEFEMME", until(10*day)),
			practitionerOf("stranger", "r4", true, "4", "0_MEDECIN", until(10*day)),
			practitionerOf("doctor", "r5", true, "4", "0_MEDECIN", `{"start":"soon"}`), `"rubbish"`,
			`{"resourceType":"PractitionerRole","id":"r6","practitioner":{"reference":"p-doctor"},"code":[{"coding":[{"code":"0_MEDECIN"}]}]}`)
		require.Equal(t, OrbisReport{At: b.now, MissingPerimeters: []string{"4711"}, OrbisAccesses: 5, NewAccesses: 1, Unreadable: 4,
			Differences: []string{"+ access r1: doctor on perimeter 4"}}, report)
		require.Equal(t, report, b.mailbox.reports[1])
		list := all()
		require.Len(t, list, 1)
		require.Equal(t, []any{"r1", SourceOrbis, int64(4)}, []any{*list[0].ExternalID, *list[0].Source, *list[0].PerimeterID})
		require.Equal(t, []time.Time{b.now.Add(-5 * day), b.now.Add(10 * day)}, []time.Time{list[0].StartDatetime.UTC(), list[0].EndDatetime.UTC()})
		require.Nil(t, list[0].CreatedBy)
		var profile Profile
		require.NoError(t, b.db.Read(t.Context()).Take(&profile, *list[0].ProfileID).Error)
		require.Equal(t, []any{SourceOrbis, true, "doctor"}, []any{*profile.Source, *profile.IsActive, *profile.UserID})

		sync(practitioner("doctor"), practitionerOf("doctor", "r1", true, "4", "0_MEDECIN", until(10*day)))
		require.Equal(t, list, all(), "the same again")
		sync(practitioner("doctor"), practitionerOf("doctor", "r1", true, "5", "0_MEDECIN", until(20*day)))
		list = all()
		require.EqualValues(t, 5, *list[0].PerimeterID)
		require.Equal(t, b.now.Add(20*day), list[0].EndDatetime.UTC())
		sync(practitioner("doctor"), practitionerOf("doctor", "r1", false, "5", "0_MEDECIN", `{}`))
		require.Equal(t, b.now, all()[0].EndDatetime.UTC())
		b.clock.Advance(time.Hour)
		sync(practitioner("doctor"), practitionerOf("doctor", "r1", false, "5", "0_MEDECIN", `{}`))
		require.Equal(t, b.now, all()[0].EndDatetime.UTC(), "an end is never prolonged")

		sync(practitioner("other"), practitionerOf("other", "r9", true, "4", "0_MEDECIN", `{}`))
		given := all()[1]
		require.Equal(t, b.clock.Now(), given.StartDatetime.UTC(), "from now on, when the directory does not say")
		require.Equal(t, b.clock.Now().AddDate(0, 0, 365), given.EndDatetime.UTC())
		b.must(func(tx *database.Tx) error { // somebody shortens it
			return tx.Exec("UPDATE accesses_access SET end_datetime = ?, updated_by = 'other' WHERE id = ?", b.now.Add(3*day), given.ID).Error
		})
		sync(practitioner("other"), practitionerOf("other", "r9", true, "5", "0_MEDECIN", until(20*day)))
		require.Equal(t, b.now.Add(3*day), all()[1].EndDatetime.UTC())
		require.EqualValues(t, 4, *all()[1].PerimeterID)
		sync(practitioner("other"), practitionerOf("other", "r9", true, "5", "0_MEDECIN", until(2*day)))
		require.Equal(t, b.now.Add(2*day), all()[1].EndDatetime.UTC())

		before := all()
		b.source.broken = true
		_, err := b.SyncOrbis(t.Context(), "")
		require.ErrorIs(t, err, errBroken)
		require.Equal(t, before, all())
		b.source.broken, b.source.asked = false, nil
		_, err = b.SyncOrbis(t.Context(), "doctor")
		require.NoError(t, err)
		require.Equal(t, []string{"Practitioner?_revinclude=PractitionerRole%3Apractitioner&identifier=doctor"}, b.source.asked)
		require.Equal(t, "doctor", b.mailbox.reports[len(b.mailbox.reports)-1].Username)
	})
}

// TestPractitionerPass: cases 76 and 77, and who comes back.
func TestPractitionerPass(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.role(nomi)
		b.must(func(tx *database.Tx) error {
			_, err := b.ensureRole(tx, RoleSeed{careTeamRole, nomi})
			return err
		})
		b.give("doctor", pseudo, 5) // by hand, in a profile of its own
		const active, inactive, silent = `"active":true,`, `"active":false,`, ""
		until := fmt.Sprintf(`{"end":%q}`, b.now.AddDate(0, 0, 10).Format(time.RFC3339Nano))
		role := practitionerOf("doctor", "r1", true, "4", "0_MEDECIN", until)
		sync := func(service *Service, resources ...string) []string {
			t.Helper()
			b.source.resources = resources
			report, err := service.SyncOrbis(t.Context(), "")
			require.NoError(t, err)
			return report.Differences
		}
		profiles := func(who string) (active []bool) {
			t.Helper()
			err := b.db.Read(t.Context()).Model(&Profile{}).Where("user_id = ? AND source = ?", who, SourceOrbis).Order("id").Pluck("is_active", &active).Error
			require.NoError(t, err)
			return active
		}
		places := func() (ids []int64) {
			t.Helper()
			for _, a := range read[[]shown](b.get("doctor", "/accesses/accesses/my-accesses/").is(200)) {
				ids = append(ids, *a.PerimeterID)
			}
			return ids
		}
		require.Empty(t, sync(b.Service, staff("doctor", silent), staff("stranger", active)), "strangers are no users, and who knows about the doctor")
		require.Empty(t, profiles("doctor"))
		require.Equal(t, []string{"+ profile of doctor"}, sync(b.Dry(), staff("doctor", active)))
		require.Empty(t, profiles("doctor"), "a dry run changes nothing")
		require.Equal(t, []string{"+ profile of doctor"}, sync(b.Service, staff("doctor", active)))
		require.Equal(t, []bool{true}, profiles("doctor"))
		require.Equal(t, []string{"+ access r1: doctor on perimeter 4"}, sync(b.Service, staff("doctor", active), role))
		require.Empty(t, sync(b.Service, staff("doctor", active), role))
		require.Equal(t, []int64{5, 4}, places())

		reports := len(b.mailbox.reports)
		require.Empty(t, sync(b.Service, staff("doctor", silent), role))
		require.Empty(t, sync(b.Service, staff("doctor", inactive), staff("doctor", active), role), "one of the two works")
		require.Equal(t, []string{"- profile of doctor, with 1 accesses"}, sync(b.Dry(), staff("doctor", inactive), role))
		require.Equal(t, []int64{5, 4}, places())
		require.Equal(t, []string{"- profile of doctor, with 1 accesses"}, sync(b.Service, role, staff("doctor", inactive)), "whatever the role says")
		require.Equal(t, []bool{false}, profiles("doctor"))
		require.Equal(t, []int64{5}, places(), "what was given by hand is left")
		require.Empty(t, sync(b.Service, staff("doctor", inactive), role))
		require.Len(t, b.mailbox.reports, reports+5, "one for each run")

		require.Equal(t, []string{"~ profile of doctor: active again", "~ access r1"}, sync(b.Service, staff("doctor", active), role))
		require.Equal(t, []bool{true}, profiles("doctor"))
		require.Equal(t, []int64{5, 4}, places())
		b.must(func(tx *database.Tx) error {
			return tx.Exec("UPDATE accesses_profile SET is_active = false WHERE source = 'ORBIS'").Error
		})
		require.Empty(t, sync(b.Service, staff("doctor", active), role))
		require.Equal(t, []bool{false}, profiles("doctor"), "somebody else has made it inactive")
	})
}

func TestEnsureSystemUser(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.cfg.RootPerimeterID = aphp
		b.role(AllRights)
		for range 2 {
			require.NoError(t, b.EnsureSystemUser(t.Context()))
			full, err := b.IsFullAdmin(t.Context(), SystemUser)
			require.NoError(t, err)
			require.True(t, full)
			require.EqualValues(t, 1, b.counted()["accesses_access"])
		}
	})
}

// careSites are the source of case 80, in any order: eleven sites under the root 999999, lists 1 to 11 in the same order.
func careSites() (sites []CareSite) {
	parents := []int64{0, 999999, 999999, 1, 1, 2, 2, 3, 3, 4, 4}
	for i, parent := range parents {
		id, level := int64(i), "TYPE1"
		site := CareSite{CohortID: fmt.Sprint(i + 1), CohortSize: "10"}
		if i == 0 {
			id, level = 999999, "TYPE0"
		} else {
			site.ParentID = &parent
		}
		site.ID, site.Type, site.Name, site.SourceValue = id, &level, new(fmt.Sprint("name", id)), new(fmt.Sprint("S", id))
		sites = append(sites, site)
	}
	rand.Shuffle(len(sites), func(i, j int) { sites[i], sites[j] = sites[j], sites[i] })
	return sites
}

func TestSyncFromCareSites(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) { // case 80
		b := setup(t, db)
		b.cfg.RootPerimeterID = 999999
		old := func(id int64, cohort string) Perimeter {
			return Perimeter{ID: id, LocalID: fmt.Sprint(id), CohortID: &cohort, Level: new(9)}
		}
		b.must(func(tx *database.Tx) error { return putPerimeters(tx, []Perimeter{old(3, "5"), old(4, "4")}, b.now) })
		queries := map[string]database.StringArray{}
		for i, ids := range []database.StringArray{{"1", "2", "3"}, {"4", "5", "6"}, {"7", "8", "9"}, {"10", "11"}} {
			query := fmt.Sprintf(`{"_type":"request","sourcePopulation":{"caresiteCohortList":[%s]},"x":[1.50,{"y":"é"}]}`, `"`+ids[0]+`","`+ids[1]+`"`)
			b.must(func(tx *database.Tx) error { return cohortRows(tx, b, fmt.Sprint("g", i), ids, query) })
			queries[query] = ids
		}
		require.Len(t, queries, 4)
		// lists 1 to 11 belong to 999999, 1, …, 10: perimeter 3 has cohort 4 now, perimeter 4 has 5
		b.source.sites = careSites()
		for i, c := range b.source.sites { // as in the pinned case: 3 keeps its cohort, that of 4 becomes 6
			switch c.ID {
			case 3:
				b.source.sites[i].CohortID = "5"
			case 4:
				b.source.sites[i].CohortID = "6"
			case 5:
				b.source.sites[i].CohortID = "4"
			}
		}
		report, err := b.SyncFromCareSites(t.Context())
		require.NoError(t, err)
		require.Equal(t, 9, report.Created)
		require.Equal(t, 2, report.Updated)
		tree, err := b.Snapshot(t.Context())
		require.NoError(t, err)
		require.Len(t, tree.Below(999999), 10)
		p := tree.Get(9)
		require.Equal(t, []any{4, "999999,1,4", "S999999-name999999/S1-name1/S4-name4/S9-name9", "", "9"},
			[]any{*p.Level, *p.AboveLevelsIDs, *p.FullPath, *p.InferiorLevelsIDs, p.LocalID})
		require.Nil(t, tree.Get(999999).AboveLevelsIDs)
		require.Equal(t, 3, *tree.Get(3).Level, "levels follow")
		var snapshots []storedSnapshot
		require.NoError(t, db.Read(t.Context()).Table("cohort_requestquerysnapshot").Find(&snapshots).Error)
		changed := 0
		for _, s := range snapshots {
			if ids, same := queries[s.SerializedQuery]; same {
				require.Equal(t, ids, s.PerimetersIDs)
				continue
			}
			changed++
			require.Equal(t, database.StringArray{"5", "6"}, s.PerimetersIDs)
			require.Equal(t, `{"_type": "request", "sourcePopulation": {"caresiteCohortList": ["5", "6"]}, "x": [1.50, {"y": "é"}]}`, s.SerializedQuery)
		}
		require.Equal(t, 1, changed)

		report, err = b.SyncFromCareSites(t.Context())
		require.NoError(t, err)
		require.Equal(t, SyncReport{}, report, "the same again, in whatever order")
		for i, c := range b.source.sites {
			switch c.ID {
			case 4: // out of the tree, with 9 and 10 below it
				b.source.sites[i].ParentID = new(int64(4711))
			case 8:
				b.source.sites[i].ID = 88
			}
		}
		report, err = b.SyncFromCareSites(t.Context())
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"+ 88 name8", "~ 3 name3: inferior_levels_ids", "~ 1 name1: inferior_levels_ids", "- 8 name8"}, report.Differences)
		require.Equal(t, []string{
			"care site 4 is not under the root: it is passed over", "care site 9 is not under the root: it is passed over",
			"care site 10 is not under the root: it is passed over",
		}, report.Warnings)
		all := b.source.sites
		b.source.sites = slices.DeleteFunc(slices.Clone(all), func(c CareSite) bool { return c.ID != 999999 })
		_, err = b.SyncFromCareSites(t.Context())
		require.ErrorIs(t, err, ErrOnlyRootSite)
		b.source.sites = nil
		_, err = b.SyncFromCareSites(t.Context())
		require.ErrorIs(t, err, ErrNoRootSite)
		b.source.broken = true
		_, err = b.SyncFromCareSites(t.Context())
		require.ErrorIs(t, err, errBroken)
		require.Len(t, read[page](b.get("nora", "/accesses/perimeters/").is(200)).Results, 11)
	})
}

func TestSyncFromTheRootAlone(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		b := setup(t, db)
		b.cfg.RootPerimeterID = 1
		b.source.sites = []CareSite{{ID: 1, Name: new("Only"), CohortID: "1"}}
		report, err := b.SyncFromCareSites(t.Context())
		require.NoError(t, err, "a tree that has no more than that")
		require.Equal(t, []string{"+ 1 Only"}, report.Differences)
	})
}

func TestGrowSitesChoosesTheSameEveryTime(t *testing.T) {
	t.Parallel()
	s := &Service{cfg: Config{RootPerimeterID: 1}}
	parent := func(id int64) *int64 { return &id }
	list := []CareSite{
		{ID: 1, CohortID: "1"}, {ID: 2, ParentID: parent(1), CohortID: "2"}, {ID: 3, ParentID: parent(1), CohortID: "3"},
		{ID: 4, ParentID: parent(3), CohortID: "4"}, {ID: 4, ParentID: parent(2), CohortID: "10"}, {ID: 4, ParentID: parent(2), CohortID: "9"},
		{ID: 4, ParentID: parent(0), CohortID: "9"}, // a parent that is no site
		{ID: 8, ParentID: parent(9), CohortID: "8"}, {ID: 9, ParentID: parent(8), CohortID: "9"},
	}
	for range 20 {
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		root, selected, warnings := s.growSites(list)
		rows := flatten(root, nil)
		require.Len(t, rows, 4)
		require.Equal(t, []int64{1, 2, 4, 3}, []int64{rows[0].ID, rows[1].ID, rows[2].ID, rows[3].ID})
		require.Equal(t, "9", *rows[2].CohortID)
		require.Len(t, selected, 6)
		require.Equal(t, []string{
			"care site 4 has several parents or virtual cohorts", "care site 4 has several parents or virtual cohorts",
			"care site 8 is not under the root: it is passed over", "care site 9 is not under the root: it is passed over",
		}, warnings)
	}
}

func TestRewriteQuery(t *testing.T) {
	t.Parallel()
	changed := map[string]string{"4": "6"}
	for text, want := range map[string]string{
		`{"sourcePopulation": {"caresiteCohortList": ["4", "5", "6"]}}`:                       `{"sourcePopulation": {"caresiteCohortList": ["5", "6"]}}`,
		`{"b":1e3,"sourcePopulation":{"caresiteCohortList":[4,11]},"a":{"z":null,"é":"<&>"}}`: `{"b": 1e3, "sourcePopulation": {"caresiteCohortList": ["11", "6"]}, "a": {"z": null, "é": "<&>"}}`,
		`{"sourcePopulation": {}}`:                          "",
		`{"sourcePopulation": {"caresiteCohortList": "4"}}`: "",
		`{"sourcePopulation": null}`:                        "",
		`[]`:                                                "",
		`rubbish`:                                           "",
		``:                                                  "",
		`{"sourcePopulation": {"caresiteCohortList": ["4"]}}x`: "",
	} {
		got, ok := rewriteQuery(text, changed)
		require.Equal(t, want, got, text)
		require.Equal(t, want != "", ok, text)
	}
}

func TestOMOP(t *testing.T) {
	t.Parallel()
	url := platformtest.PostgresURL(t)
	db, err := database.Open(t.Context(), database.Config{URL: url})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	schema := "omop_" + uuid.NewString()[:8]
	require.NoError(t, db.Update(t.Context(), func(tx *database.Tx) error {
		for _, statement := range []string{
			"CREATE SCHEMA " + schema,
			"CREATE TABLE " + schema + ".concept_fhir (source_concept_id int, source_concept_name text)",
			"CREATE TABLE " + schema + ".care_site (care_site_id bigint, care_site_name text, care_site_short_name text, care_site_type_source_value text, care_site_source_value text, delete_datetime timestamptz)",
			"CREATE TABLE " + schema + ".fact_relationship (fact_id_1 bigint, fact_id_2 bigint, domain_concept_id_1 int, domain_concept_id_2 int, relationship_concept_id int, delete_datetime timestamptz)",
			"CREATE TABLE " + schema + ".list (id bigint, _size bigint, _sourcereferenceid text, source__type text, delete_datetime timestamptz)",
			"INSERT INTO " + schema + ".concept_fhir VALUES (7, 'Care site'), (8, 'Care Site is part of Care Site'), (9, 'Other')",
			"INSERT INTO " + schema + `.care_site VALUES (1, 'Root', 'R', 'CHU', 'R1', NULL), (2, 'Two', NULL, 'L''Hôpital', 'T2', NULL),
				(3, 'Gone', NULL, 'L''Hôpital', 'T3', now()), (4, 'Wrong type', NULL, 'X', 'T4', NULL), (5, 'No list', NULL, 'L''Hôpital', 'T5', NULL),
				(6, 'Other relation', NULL, 'L''Hôpital', 'T6', NULL), (2, 'Two, before', NULL, 'L''Hôpital', 'T2', now())`,
			"INSERT INTO " + schema + `.fact_relationship VALUES (2, 1, 7, 7, 8, NULL), (3, 1, 7, 7, 8, NULL), (4, 1, 7, 7, 8, NULL),
				(5, 1, 7, 7, 8, NULL), (6, 1, 7, 7, 9, NULL), (2, 2, 7, 7, 8, NULL), (2, 4, 7, 7, 8, now())`,
			"INSERT INTO " + schema + `.list VALUES (11, 100, '1', 'Organization', NULL), (12, NULL, '2', 'Organization', NULL),
				(13, 1, '3', 'Organization', NULL), (14, 1, '4', 'Organization', NULL), (15, 1, '5', 'Practitioner', NULL), (16, 1, '6', 'Organization', NULL)`,
		} {
			if err := tx.Exec(statement).Error; err != nil {
				return err
			}
		}
		return nil
	}))
	source, err := NewOMOP(OMOPConfig{URL: url, Schemas: schema, RootID: 1, Types: []string{"CHU", "L'Hôpital"}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, source.Close()) })
	sites, err := source.CareSites(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, []CareSite{
		{ID: 1, Name: new("Root"), ShortName: new("R"), Type: new("CHU"), SourceValue: new("R1"), CohortID: "11", CohortSize: "100"},
		{ID: 2, Name: new("Two"), Type: new("L'Hôpital"), SourceValue: new("T2"), ParentID: new(int64(1)), CohortID: "12"},
	}, sites)
	_, err = source.db.ExecContext(t.Context(), "DELETE FROM "+schema+".list")
	require.ErrorContains(t, err, "read-only")
	for schemas, path := range map[string]string{"": "omop,public", "public": "omop,public", "a, b": "a, b,omop", "omop": "omop,omop"} {
		o, err := NewOMOP(OMOPConfig{URL: url, Schemas: schemas})
		require.NoError(t, err)
		var got string
		require.NoError(t, o.db.QueryRowContext(t.Context(), "SHOW search_path").Scan(&got))
		require.Equal(t, path, got)
		require.NoError(t, o.Close())
	}
	for _, cfg := range []OMOPConfig{{URL: url, Schemas: "x; DROP"}, {URL: url, Schemas: "a,b c"}, {URL: "postgres://a:secret@[:x"}} {
		_, err := NewOMOP(cfg)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret")
	}
	empty, err := NewOMOP(OMOPConfig{URL: url, Schemas: "public"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, empty.Close()) })
	_, err = empty.CareSites(t.Context())
	require.Error(t, err)
}
