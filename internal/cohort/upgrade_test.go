package cohort

import (
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestUpgradeQueries(t *testing.T) {
	const old = `{"version":"v1.5.1","_type":"request","sourcePopulation":{"caresiteCohortList":["1"]},"request":{"_type":"basicResource","_id":1,"isInclusive":true,"resourceType":"Encounter","filterFhir":"end-age-visit=ge1"}}`
	const upgraded = `{"version": "v1.6.1", "_type": "request", "sourcePopulation": {"caresiteCohortList": ["1"]}, "request": {"_type": "basicResource", "_id": 1, "isInclusive": true, "resourceType": "Encounter", "filterFhir": "start-age-visit=ge1"}}`
	each(t, func(t *testing.T, b *bundle) {
		// query stores a text as a snapshot's query; the API does not let every text in.
		query := func(text string) string {
			id := b.snapshot("alice", b.request("alice"))
			b.exec("UPDATE cohort_requestquerysnapshot SET serialized_query = ?, translated_query = 'kept' WHERE uuid = ?", text, id)
			return id
		}
		textOf := func(id string) (text string) {
			require.NoError(t, b.db.Read(t.Context()).Table("cohort_requestquerysnapshot").Where("uuid = ?", id).Pluck("serialized_query", &text).Error)
			return text
		}
		filter := func(resource, text string) string {
			return b.do("bob", "POST", "/cohort/fhir-filters/", o{"fhir_resource": resource, "fhir_version": "4.0", "name": resource, "filter": text}).is(201).at("uuid").(string)
		}
		changed := query(old)
		plain := query(`{"version":"v1.6.0","_type":"request"}`)
		there := query(`{"version":"v1.6.1","_type":"request"}`)
		ancient := query(`{"version":"v1.3.0","_type":"request"}`)
		broken := query(`{"version":"v1.6.0"}`)
		deleted := query(old)
		b.exec("UPDATE cohort_requestquerysnapshot SET deleted = ? WHERE uuid = ?", noon, deleted)
		hidden := query(old)
		b.exec(`UPDATE cohort_cohortresult SET is_subset = true WHERE uuid = ?`, b.creating("alice", hidden, b.counted("alice", hidden, 5), nil))
		visits := filter("Encounter", "end-age-visit=ge1")
		patients := filter("Patient", "active=true")
		want := []UpgradeCount{
			{Table: "filters", Version: "v1.4.4", Upgraded: 2, Rewritten: 1},
			{Table: "queries", Version: "v1.3.0", Left: 1},
			{Table: "queries", Version: "v1.5.1", Upgraded: 1, Rewritten: 1},
			{Table: "queries", Version: "v1.6.0", Upgraded: 1, Broken: 1},
			{Table: "queries", Version: "v1.6.1", There: 1},
		}

		var told []UpgradedRow
		opts := UpgradeOptions{To: "v1.6.1", Filters: true, Changed: func(r UpgradedRow) error { told = append(told, r); return nil }}
		counts, err := b.service.UpgradeQueries(t.Context(), opts)
		require.NoError(t, err)
		require.ElementsMatch(t, want, counts)
		require.ElementsMatch(t, []UpgradedRow{
			{Table: "queries", ID: uuid.MustParse(changed), Before: old, After: upgraded},
			{Table: "filters", ID: uuid.MustParse(visits), Before: "end-age-visit=ge1", After: "start-age-visit=ge1"}}, told)
		require.Equal(t, old, textOf(changed), "a dry run changes nothing")

		opts.Apply = true
		counts, err = b.service.UpgradeQueries(t.Context(), opts)
		require.NoError(t, err)
		require.ElementsMatch(t, want, counts)
		require.Equal(t, upgraded, textOf(changed))
		require.Equal(t, `{"version": "v1.6.1", "_type": "request"}`, textOf(plain))
		require.Equal(t, `{"version":"v1.6.1","_type":"request"}`, textOf(there))
		require.Equal(t, `{"version":"v1.3.0","_type":"request"}`, textOf(ancient))
		require.Equal(t, `{"version":"v1.6.0"}`, textOf(broken))
		require.Equal(t, old, textOf(deleted))
		require.Equal(t, old, textOf(hidden))
		b.do("bob", "GET", "/cohort/fhir-filters/"+visits+"/", nil).is(200).has(o{"filter": "start-age-visit=ge1", "query_version": "v1.6.1"})
		b.do("bob", "GET", "/cohort/fhir-filters/"+patients+"/", nil).is(200).has(o{"filter": "active=true", "query_version": "v1.6.1"})
		var kept []SnapshotPatch
		require.NoError(t, b.db.Read(t.Context()).Where("snapshot_id = ?", changed).Find(&kept).Error)
		require.Len(t, kept, 1)
		require.Equal(t, old, kept[0].SerializedQuery)
		var before []FilterPatch
		require.NoError(t, b.db.Read(t.Context()).Find(&before).Error)
		require.Len(t, before, 1, "a filter that only got another version has no history")
		var row Snapshot
		require.NoError(t, b.db.Read(t.Context()).Where("uuid = ?", changed).Take(&row).Error)
		require.Equal(t, "kept", *row.TranslatedQuery, "a schedule goes on counting the same")

		told = nil
		counts, err = b.service.UpgradeQueries(t.Context(), opts)
		require.NoError(t, err)
		require.Empty(t, told)
		require.ElementsMatch(t, []UpgradeCount{{Table: "filters", Version: "v1.6.1", There: 2}, {Table: "queries", Version: "v1.6.1", There: 3},
			{Table: "queries", Version: "v1.3.0", Left: 1}, {Table: "queries", Version: "v1.6.0", Broken: 1}}, counts)
	})
}

func TestUpgradeQueriesStopsAtAnError(t *testing.T) {
	each(t, func(t *testing.T, b *bundle) {
		b.exec(`UPDATE cohort_requestquerysnapshot SET serialized_query = ? WHERE uuid = ?`,
			`{"version":"v1.6.0","_type":"request","request":{"_type":"basicResource","resourceType":"MedicationRequest","filterFhir":"medication=a"}}`, b.snapshot("alice", b.request("alice")))
		full := errors.New("the disk is full")
		_, err := b.service.UpgradeQueries(t.Context(), UpgradeOptions{To: "v1.6.1", Apply: true, Changed: func(UpgradedRow) error { return full }})
		require.ErrorIs(t, err, full)
		var n int64
		require.NoError(t, b.db.Read(t.Context()).Model(&SnapshotPatch{}).Count(&n).Error)
		require.Zero(t, n, "what could not be told is not written")
	})
}
