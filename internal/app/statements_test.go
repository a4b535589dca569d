package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/access"
	"cohortflow/internal/content"
	"cohortflow/internal/identity"
	"cohortflow/internal/maintenance"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/releasenote"
	"cohortflow/internal/requestlog"
)

// The numbers of rows of each kind with which lists are asked.
const (
	fewRows  = 5
	manyRows = 60
)

// asked is what one question to a list took, and gave.
type asked struct {
	statements int64
	rows       int
}

// TestListsAskAConstantNumberOfTimes walks all paged lists, in one page each: with twelve times the rows, a page takes as
// many statements.
func TestListsAskAConstantNumberOfTimes(t *testing.T) {
	t.Parallel()
	eachWorld(t, func(t *testing.T, w *world) {
		w.grow(3, fewRows)
		few := w.askLists()
		w.grow(fewRows+1, manyRows)
		many := w.askLists()
		require.Greater(t, len(few), 30)
		grown := 0
		for list, before := range few {
			after := many[list]
			assert.Equal(t, before.statements, after.statements, list)
			if before.rows > 0 && after.rows >= manyRows-fewRows {
				grown++
			}
		}
		require.Greater(t, grown, 20, "lists that have grown")
	})
}

// askLists asks every paged list, as the owner of rows and as an administrator.
func (w *world) askLists() map[string]asked {
	w.t.Helper()
	all := map[string]asked{}
	for _, r := range w.app.Routes() {
		if r.Method != http.MethodGet || r.Paged == web.NotPaged {
			continue
		}
		for _, who := range []string{"owner", "fullAdmin"} {
			path := w.fill("GET "+r.Path, "owner")
			if strings.Contains(path, "?") {
				path += "&limit=1000&page_size=1000"
			} else {
				path += "?limit=1000&page_size=1000"
			}
			w.send(as(who), "GET", path, "") // loads what is kept in memory
			var statements atomic.Int64
			stop := w.app.db.OnStatement(func(string) { statements.Add(1) })
			a := w.send(as(who), "GET", path, "")
			stop()
			var page struct{ Results []json.RawMessage }
			_ = json.Unmarshal([]byte(a.body), &page) // a refusal has none
			all[r.Path+" as "+who] = asked{statements.Load(), len(page.Results)}
		}
	}
	return all
}

// grow adds rows of each kind, numbered from first to last: those of the owner, and those that belong to nobody.
func (w *world) grow(first, last int) {
	w.t.Helper()
	kept := w.ids // the paths stay those of the first rows
	require.NoError(w.t, w.app.db.Update(w.t.Context(), func(tx *database.Tx) error {
		w.ids = map[string]string{}
		for n := first; n <= last; n++ {
			w.research(tx, n, "owner")
			w.laboratory(tx, 30+n) // beside that of the portal
			w.person(tx, int64(1000+n))
			w.notices(tx, int64(1000+n))
		}
		return tx.Exec(`UPDATE engine_version SET version = version + 1 WHERE name = 'perimeters'`).Error
	}))
	w.ids = kept
}

// person is a user with an access to a unit of its own.
func (w *world) person(tx *database.Tx, n int64) {
	now, name := w.clock.Now(), fmt.Sprint("person-", n)
	stamps := access.Stamps{InsertDatetime: &now, UpdateDatetime: &now}
	w.make(tx, &access.Perimeter{Stamps: stamps, ID: n, LocalID: name, Name: &name, SourceValue: &name, ShortName: &name, TypeSourceValue: new("unit"), CohortID: new(fmt.Sprint(n + 10_000)),
		FullPath: new("root/hospital/" + name), Level: new(3), ParentID: new(hospital), AboveLevelsIDs: new("1,2"), InferiorLevelsIDs: new("")})
	w.make(tx, &identity.User{Username: name, Firstname: &name, Lastname: &name, Email: &name, InsertDatetime: &now})
	w.make(tx, &access.Profile{Stamps: stamps, ID: n, Source: new(access.SourceManual), IsActive: new(true), UserID: &name})
	w.make(tx, &access.Role{Stamps: stamps, ID: n, Name: &name, Flags: access.FlagsOf(access.ReadPseudonymized)})
	w.make(tx, &access.Access{Stamps: stamps, ID: n, Source: new(access.SourceManual), PerimeterID: &n, ProfileID: &n, RoleID: &n,
		StartDatetime: new(now.AddDate(0, 0, -1)), EndDatetime: new(now.AddDate(0, 0, 90))})
}

// notices are what the portal shows to everybody or keeps for administrators.
func (w *world) notices(tx *database.Tx, n int64) {
	now := w.clock.Now()
	w.make(tx, &maintenance.Phase{ID: n, Subject: "planned", Type: "partial", StartDatetime: now.AddDate(0, 0, int(n)), EndDatetime: now.AddDate(0, 0, int(n)+1), InsertDatetime: &now})
	w.make(tx, &content.Content{ID: n, Title: "title", Content: "text", Page: "HOME", ContentType: "BANNER_INFO", CreatedAt: now, ModifiedAt: now})
	w.make(tx, &releasenote.Note{ID: n, Title: "note", Message: []string{"text"}, InsertDatetime: &now})
	w.make(tx, &requestlog.Row{ID: n, RequestedAt: now, Path: "/x/", Host: "h", Method: "POST", RemoteAddr: new("127.0.0.1"), StatusCode: new(200)})
}
