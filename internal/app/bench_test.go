package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/access"
	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
)

// The size of the hospital in which accesses are measured.
const (
	benchPerimeters = 50_000
	benchUsers      = 2_000
	benchAccesses   = 10_000
	benchWidth      = 8 // children of a perimeter
)

// BenchmarkAccess measures the questions that every page of the front-ends asks about rights: p50-ms and p99-ms with one
// client, req/s with sixteen, and the number of statements of a request, authentication included.
func BenchmarkAccess(b *testing.B) {
	w := newWorld(b, databasetest.PostgresURL(b))
	w.reset()
	w.hospital(b)
	leaf := benchPerimeters - 1
	for _, route := range []struct{ name, path string }{
		{"Manageable", "/accesses/perimeters/manageable/"},
		{"ManageableSearch", "/accesses/perimeters/manageable/?search=unit%204999"},
		{"PatientDataRights", "/accesses/perimeters/patient-data/rights/"},
		{"PatientDataRightsSearch", "/accesses/perimeters/patient-data/rights/?search=unit%204999"},
		{"MyDataRights", "/accesses/accesses/my-data-rights/"},
		{"AccessesWithParents", fmt.Sprintf("/accesses/accesses/?perimeter_id=%d&include_parents=true", leaf)},
		{"AccessesOfTheRoot", "/accesses/accesses/?perimeter_id=1&include_parents=true&include_children=true"},
	} {
		b.Run(route.name, func(b *testing.B) { w.measure(b, route.path) })
	}
}

// measure asks one path, over and over, as somebody who administers and reads a part of the hospital.
func (w *world) measure(b *testing.B, path string) {
	pair, err := w.app.parts.tokens.Issue("bench-7")
	require.NoError(b, err)
	ask := func() int {
		r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, path, http.NoBody)
		r.Header.Set("Authorization", "Bearer "+pair.Access)
		r.Header.Set("AuthorizationMethod", "JWT")
		recorder := httptest.NewRecorder()
		w.http.ServeHTTP(recorder, r)
		return recorder.Code
	}
	require.Equal(b, http.StatusOK, ask())
	var statements atomic.Int64
	stop := w.app.db.OnStatement(func(string) { statements.Add(1) })
	ask()
	stop()
	var took []time.Duration
	for b.Loop() {
		started := time.Now()
		ask()
		took = append(took, time.Since(started))
	}
	slices.Sort(took)
	ms := func(share float64) float64 { return took[int(share*float64(len(took)-1))].Seconds() * 1000 }
	b.ReportMetric(ms(.5), "p50-ms")
	b.ReportMetric(ms(.99), "p99-ms")
	b.ReportMetric(float64(statements.Load()), "queries")
	b.ReportMetric(rate(16, time.Second, ask), "req/s")
}

// rate is how many times a second clients do something, all at once.
func rate(clients int, during time.Duration, do func() int) float64 {
	var done atomic.Int64
	var all sync.WaitGroup
	started := time.Now()
	for range clients {
		all.Go(func() {
			for time.Since(started) < during {
				do()
				done.Add(1)
			}
		})
	}
	all.Wait()
	return float64(done.Load()) / time.Since(started).Seconds()
}

// hospital adds a tree below the root, and users with five accesses each: to read, to administer, in all kinds of places.
func (w *world) hospital(b *testing.B) {
	b.Helper()
	now := w.clock.Now()
	stamps := access.Stamps{InsertDatetime: &now, UpdateDatetime: &now}
	perimeters := make([]access.Perimeter, 0, benchPerimeters)
	for i := int64(4); i <= benchPerimeters; i++ {
		parent := max(1, (i-4)/benchWidth)
		name := fmt.Sprint("Unit ", i)
		perimeters = append(perimeters, access.Perimeter{Stamps: stamps, ID: i, LocalID: fmt.Sprint(i), Name: &name, SourceValue: &name, ShortName: &name, TypeSourceValue: new("unit"),
			CohortID: new(fmt.Sprint(i + 1000)), FullPath: new("root/" + name), Level: new(4), ParentID: &parent, AboveLevelsIDs: new("1"), InferiorLevelsIDs: new("")})
	}
	var users []identity.User
	var profiles []access.Profile
	var accesses []access.Access
	roles := []access.Role{}
	for i, rights := range []access.Rights{access.ReadNominative | access.ExportCSVXLSXNominative, access.ReadPseudonymized, access.ManageDataSameLevel | access.ManageDataInferiorLevels,
		access.ManageAdminInferiorLevels | access.ReadPseudonymized, access.SearchByIPP | access.ReadNominative} {
		roles = append(roles, access.Role{Stamps: stamps, ID: int64(1000 + i), Name: new(fmt.Sprint("bench ", i)), Flags: access.FlagsOf(rights)})
	}
	for i := range benchUsers {
		name := fmt.Sprint("bench-", i)
		users = append(users, identity.User{Username: name, Firstname: &name, Lastname: &name, Email: &name, InsertDatetime: &now})
		profiles = append(profiles, access.Profile{Stamps: stamps, ID: int64(10_000 + i), Source: new(access.SourceManual), IsActive: new(true), UserID: &name})
	}
	for i := range benchAccesses {
		place := int64(4 + (i*7919)%benchPerimeters/(1+i%100)) // some high up in the tree, most far below
		accesses = append(accesses, access.Access{Stamps: stamps, ID: int64(10_000 + i), Source: new(access.SourceManual), PerimeterID: new(min(place, benchPerimeters-1)),
			ProfileID: new(int64(10_000 + i%benchUsers)), RoleID: new(int64(1000 + i/benchUsers)), StartDatetime: new(now.AddDate(0, 0, -1)), EndDatetime: new(now.AddDate(0, 0, 90))})
	}
	require.NoError(b, w.app.db.Update(b.Context(), func(tx *database.Tx) error {
		for _, rows := range []any{perimeters, users, profiles, roles, accesses} {
			if err := tx.CreateInBatches(rows, 1000).Error; err != nil {
				return err
			}
		}
		return tx.Exec("UPDATE engine_version SET version = version + 1 WHERE name = 'perimeters'").Error
	}))
	require.NoError(b, w.app.db.Write(b.Context()).Exec("ANALYZE").Error)
}
