package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/web"
)

// bundle is a service on a database of its own, behind HTTP, at a moment that stands still.
type bundle struct {
	*Service
	t       *testing.T
	db      *database.DB
	clock   *clock.Fake
	now     time.Time
	http    *web.Server
	mailbox *mailbox
	roles   map[string]int64
	source  *organizations
}

// each runs a test on both dialects, with the tree of the pinned cases loaded.
func each(t *testing.T, test func(t *testing.T, b *bundle)) {
	t.Helper()
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		b := setup(t, db)
		b.must(func(tx *database.Tx) error { return putPerimeters(tx, fixtureRows(), b.now) })
		test(t, b)
	})
}

func setup(t *testing.T, db *database.DB) *bundle {
	t.Helper()
	now := time.Date(2026, 3, 2, 8, 0, 0, 123456000, time.UTC)
	b := &bundle{t: t, db: db, clock: clock.NewFake(now), now: now, mailbox: &mailbox{}, roles: map[string]int64{}, source: &organizations{}}
	var err error
	b.Service, err = NewService(Config{Alerts: true, PerimeterTypes: []string{"APHP", "Hospital", "Unit"}}, db, b.clock,
		slog.New(slog.DiscardHandler), Peers{
			Users: accounts{}, Mailer: b.mailbox, Organizations: b.source, VirtualCohorts: b.source, Directory: b.source, CareSites: b.source,
		})
	require.NoError(t, err)
	b.http = web.New(web.Config{
		Log: slog.New(slog.DiscardHandler),
		Authenticate: func(c *gin.Context) error {
			name := c.GetHeader("As")
			caller := identity.Caller{Username: name, RealUsername: name}
			if name == "QUERY_EXECUTOR" {
				caller.Applicative = identity.QueryExecutor
			}
			identity.Remember(c, caller)
			return nil
		},
		Authorize: func(c *gin.Context, who web.Who) error {
			return b.Authorize(c.Request.Context(), identity.CallerOf(c), who, c.Request.Method)
		},
	}, b.Table())
	return b
}

// accounts is Users on the real table.
type accounts struct{}

func (accounts) EnsureUser(ctx context.Context, tx *database.Tx, u NewUser) (bool, error) {
	result := tx.Exec(`INSERT INTO "user" (username, firstname, lastname, email, password, insert_datetime)
		VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (username) DO NOTHING`, u.Username, u.Firstname, u.Lastname, u.Email, u.Password, clock.System{}.Now())
	return result.RowsAffected == 1, result.Error
}

func (b *bundle) must(f func(tx *database.Tx) error) {
	b.t.Helper()
	require.NoError(b.t, b.db.Update(b.t.Context(), f))
}

// role is the id of a role with these rights.
func (b *bundle) role(rights Rights) (id int64) {
	b.t.Helper()
	name := fmt.Sprintf("role %016b", rights)
	if id, found := b.roles[name]; found {
		return id
	}
	b.must(func(tx *database.Tx) error {
		role, err := b.ensureRole(tx, RoleSeed{name, rights})
		id = role.ID
		return err
	})
	b.roles[name] = id
	return id
}

// profile is the id of a user's profile; the user is made if missing.
func (b *bundle) profile(username string) (id int64) {
	b.t.Helper()
	b.must(func(tx *database.Tx) error {
		user := NewUser{Username: username, Firstname: "First " + username, Lastname: "LAST " + username, Email: username + "@example.org"}
		if _, err := (accounts{}).EnsureUser(b.t.Context(), tx, user); err != nil {
			return err
		}
		profile, err := ensureProfile(tx.DB, username, SourceManual, stampsAt(b.now))
		id = profile.ID
		return err
	})
	return id
}

// give is an access in force, from yesterday on for a month unless changed.
func (b *bundle) give(username string, rights Rights, perimeter int64, change ...func(*Access)) (id int64) {
	b.t.Helper()
	row := Access{
		Stamps: stampsAt(b.now), Source: new(SourceManual), ProfileID: new(b.profile(username)), RoleID: new(b.role(rights)), PerimeterID: &perimeter,
		StartDatetime: new(b.now.AddDate(0, 0, -1)), EndDatetime: new(b.now.AddDate(0, 0, 31)),
	}
	for _, f := range change {
		f(&row)
	}
	b.must(func(tx *database.Tx) error { return tx.Create(&row).Error })
	return row.ID
}

func (b *bundle) lasting(from, until time.Duration) func(*Access) {
	return func(a *Access) { a.StartDatetime, a.EndDatetime = new(b.now.Add(from)), new(b.now.Add(until)) }
}

// answered is what came back.
type answered struct {
	t      *testing.T
	status int
	header http.Header
	text   string
}

// do sends a request as somebody; a body that is no text is sent as JSON.
func (b *bundle) do(as, method, path string, body any) answered {
	b.t.Helper()
	var reader io.Reader = http.NoBody
	switch body := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(body)
	default:
		raw, err := json.Marshal(body)
		require.NoError(b.t, err)
		reader = bytes.NewReader(raw)
	}
	request := httptest.NewRequestWithContext(b.t.Context(), method, path, reader)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("As", as)
	recorder := httptest.NewRecorder()
	b.http.ServeHTTP(recorder, request)
	return answered{b.t, recorder.Code, recorder.Header(), recorder.Body.String()}
}

func (b *bundle) get(as, path string) answered {
	b.t.Helper()
	return b.do(as, http.MethodGet, path, nil)
}

// is checks status and, if given, the JSON.
func (a answered) is(status int, body ...string) answered {
	a.t.Helper()
	require.Equal(a.t, status, a.status, a.text)
	if len(body) == 1 {
		require.JSONEq(a.t, body[0], a.text)
	}
	return a
}

// read decodes the body.
func read[T any](a answered) (v T) {
	a.t.Helper()
	require.NoError(a.t, json.Unmarshal([]byte(a.text), &v), a.text)
	return v
}

// page is a list's envelope with what tests look at.
type page struct {
	Count   int
	Results []struct {
		ID       int64
		Name     *string
		Editable *bool
		IsValid  bool `json:"is_valid"`
	}
}

func (p page) ids() (ids []int64) {
	for _, r := range p.Results {
		ids = append(ids, r.ID)
	}
	return ids
}

// mailbox keeps the mails that are owed, unless it fails.
type mailbox struct {
	alerts  []ExpiryAlert
	reports []OrbisReport
	failing bool
}

func (m *mailbox) AccessesExpire(_ context.Context, _ *database.Tx, alert ExpiryAlert) error {
	if m.failing {
		return errBroken
	}
	m.alerts = append(m.alerts, alert)
	return nil
}

func (m *mailbox) OrbisReport(_ context.Context, _ *database.Tx, report OrbisReport) error {
	m.reports = append(m.reports, report)
	return nil
}

var errBroken = errors.New("broken")

// organizations plays the FHIR server and the maker of virtual cohorts, and the OMOP database.
type organizations struct {
	resources []string
	broken    bool
	asked     []string
	cohorts   []VirtualCohort
	sites     []CareSite
}

func (o *organizations) Search(_ context.Context, resourceType string, params url.Values) iter.Seq2[json.RawMessage, error] {
	o.asked = append(o.asked, resourceType+"?"+params.Encode())
	return func(yield func(json.RawMessage, error) bool) {
		for _, resource := range o.resources {
			if !yield(json.RawMessage(resource), nil) {
				return
			}
		}
		if o.broken {
			yield(nil, errBroken)
		}
	}
}

func (o *organizations) OweVirtualCohorts(_ context.Context, _ *database.Tx, cohorts []VirtualCohort) error {
	o.cohorts = append(o.cohorts, cohorts...)
	return nil
}

func (o *organizations) CareSites(context.Context) ([]CareSite, error) {
	if o.broken {
		return nil, errBroken
	}
	return o.sites, nil
}
