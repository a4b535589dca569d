package jobs_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
	"cohortflow/internal/identity"
	"cohortflow/internal/jobs"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/platform/web/webtest"
)

// kind is a job of two steps.
var kind = engine.Kind{Name: "walk", Table: engine.Table{
	engine.Created: {Deadline: engine.DeadlineCount, On: engine.On{
		"arrive": {To: engine.Finished}, engine.CancelAsked: {To: engine.Cancelled}, engine.Overdue: {To: engine.Failed, Reason: "too slow"}}},
	engine.Finished: {}, engine.Cancelled: {}, engine.Failed: {},
}}

type onlyAdmin struct{}

func (onlyAdmin) IsFullAdmin(_ context.Context, username string) (bool, error) {
	return username == "admin", nil
}

func TestJobs(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		type bundle struct {
			engine *engine.Engine
			clock  *clock.Fake
		}
		setup := func(t *testing.T) (*webtest.Client, *bundle) {
			t.Helper()
			b := &bundle{clock: clock.NewFake(time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC))}
			var err error
			b.engine, err = engine.New(engine.Config{DB: db, Clock: b.clock, NewID: uuid.NewString, Deadlines: engine.DefaultDeadlines()}, kind)
			require.NoError(t, err)
			client := webtest.New(t, webtest.Tables{jobs.New(b.engine, onlyAdmin{}).Table()},
				webtest.Callers(func(c *gin.Context, name string) {
					identity.Remember(c, identity.Caller{Username: name, RealUsername: name})
				}),
				webtest.Authorize(func(_ *gin.Context, name string, _ web.Who) error {
					if name == "" {
						return fault.Unauthenticated{}
					}
					return nil
				}))
			return client, b
		}
		open := func(t *testing.T, b *bundle, owner, subject string) string {
			t.Helper()
			job, err := b.engine.OpenWith(t.Context(), engine.NewJob{Kind: kind.Name, Subject: subject, Owner: owner}, nil)
			require.NoError(t, err)
			b.clock.Advance(time.Second)
			return job.ID
		}
		client, b := setup(t)
		mine, theirs := open(t, b, "alice", "a-1"), open(t, b, "bob", "b-1")
		ended := open(t, b, "alice", "a-2")
		_, err := b.engine.Apply(t.Context(), engine.Event{JobID: ended, Name: "arrive", Actor: "road"})
		require.NoError(t, err)
		alice, admin := client.As("alice"), client.As("admin")

		t.Run("ListsOnesOwnYoungestFirst", func(t *testing.T) {
			rows := alice.For(t).GET("/jobs/").Status(200).Results()
			require.Len(t, rows, 2)
			require.Equal(t, ended, rows[0]["id"])
			require.Equal(t, mine, rows[1]["id"])
		})
		t.Run("Filters", func(t *testing.T) {
			for query, want := range map[string]int{"state=finished": 1, "state=new,finished": 2, "kind=walk": 2, "kind=other": 0, "running=true": 1, "owner=bob": 2, "limit=1": 1} {
				require.Len(t, alice.For(t).GET("/jobs/?"+query).Status(200).Results(), want, query)
			}
		})
		t.Run("AdminsSeeAll", func(t *testing.T) {
			require.Len(t, admin.For(t).GET("/jobs/").Status(200).Results(), 3)
			require.Len(t, admin.For(t).GET("/jobs/?owner=bob").Status(200).Results(), 1)
			admin.For(t).GET("/jobs/" + theirs + "/").Status(200)
		})
		t.Run("HidesWhatIsAnothers", func(t *testing.T) {
			for _, path := range []string{"/jobs/%s/", "/jobs/%s/events/"} {
				alice.For(t).GET(fmt.Sprintf(path, theirs)).Status(404)
			}
			alice.For(t).POST("/jobs/"+theirs+"/cancel/", nil).Status(404)
			client.For(t).GET("/jobs/").Status(403)
			alice.For(t).GET("/jobs/" + uuid.NewString() + "/").Status(404).Is(`{"detail":"No Job matches the given query."}`)
			alice.For(t).GET("/jobs/nonsense/").Status(404)
		})
		t.Run("ShowsTheTimeline", func(t *testing.T) {
			lines, isList := alice.For(t).GET("/jobs/" + ended + "/events/").Status(200).JSON().([]any)
			require.True(t, isList)
			require.Len(t, lines, 2)
			require.Equal(t, "arrive", lines[1].(map[string]any)["event"])
			require.Equal(t, "road", lines[1].(map[string]any)["actor"])
		})
		t.Run("CancelsOnce", func(t *testing.T) {
			job := alice.For(t).POST("/jobs/"+mine+"/cancel/", nil).Status(200).Object()
			require.Equal(t, "cancelled", job["state"])
			require.NotNil(t, job["ended_at"])
			alice.For(t).POST("/jobs/"+mine+"/cancel/", nil).Status(409)
			alice.For(t).POST("/jobs/"+ended+"/cancel/", nil).Status(409)
		})
	})
}
