package engine_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/platformtest"
	"cohortflow/tasks"
)

func TestWatchdogEndsWhatIsOverdue(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, nil)
		var jobs []engine.Job
		for range 7 {
			jobs = append(jobs, f.open(t, nil))
		}
		young := f.open(t, nil)
		f.apply(t, young, accepted)
		f.clock.Advance(10 * time.Minute)
		dogs := []*engine.Watchdog{engine.NewWatchdog(f.Engine, engine.WatchdogConfig{Batch: 3}), engine.NewWatchdog(f.Engine, engine.WatchdogConfig{Batch: 3})}
		var moved atomic.Int32
		var wg sync.WaitGroup
		for _, dog := range dogs {
			wg.Go(func() {
				n, _, err := dog.Pass(background())
				moved.Add(int32(n))
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, int32(7), moved.Load(), "several at once: each job once")
		for _, job := range jobs {
			read, err := f.Job(t.Context(), job.ID)
			require.NoError(t, err)
			require.Equal(t, engine.GaveUp, read.State)
			require.Len(t, f.timeline(t, job), 2)
		}
		read, err := f.Job(t.Context(), young.ID)
		require.NoError(t, err)
		require.Equal(t, engine.Pending, read.State)
	})
}

func TestWatchdogAsksAboutSilentJobsOncePerPeriod(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, nil)
		dog := engine.NewWatchdog(f.Engine, engine.WatchdogConfig{Batch: 2})
		asked := func() int {
			_, n, err := dog.Pass(t.Context())
			require.NoError(t, err)
			return n
		}
		for range 5 {
			_, err := f.Settle(t.Context(), f.claimOf(t, f.open(t, nil)), engine.Event{Name: accepted})
			require.NoError(t, err)
		}
		loud := f.open(t, func(n *engine.NewJob) { n.State = engine.Pending; n.Owed = nil })
		f.open(t, func(n *engine.NewJob) { n.Owed = nil }) // new: nobody knows it yet, nobody is asked
		require.Zero(t, asked())
		f.clock.Advance(2 * time.Minute)
		require.NoError(t, f.Heard(t.Context(), loud.ID))
		require.Equal(t, 5, asked())
		require.Zero(t, asked())
		f.clock.Advance(2 * time.Minute)
		require.Equal(t, 6, asked())
		enquiries := 0
		for _, name := range names(f.owed(t)) {
			if name == "test.enquire" {
				enquiries++
			}
		}
		require.Equal(t, 6, enquiries, "an enquiry that nobody made yet is not owed twice")
	})
}

// claimOf takes the launch task of a job.
func (f *fixture) claimOf(t *testing.T, job engine.Job) engine.Claim {
	t.Helper()
	for _, row := range f.owed(t) {
		if row.JobID != nil && *row.JobID == job.ID {
			claim, got, err := f.Claim(t.Context(), row.ID)
			require.NoError(t, err)
			require.True(t, got)
			return claim
		}
	}
	require.Fail(t, "the job owes nothing")
	return engine.Claim{}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		old := newFixture(t, db, func(c *engine.Config, _ *engine.Kind) { c.Keys.Current = "the old one" })
		job := old.open(t, func(n *engine.NewJob) { n.Secret = []byte("token") })
		var sealed []byte
		require.NoError(t, db.Read(t.Context()).Raw(`SELECT sealed FROM engine_secret`).Row().Scan(&sealed))
		require.NotContains(t, string(sealed), "token")

		rotated := newFixture(t, db, func(c *engine.Config, _ *engine.Kind) {
			c.Keys = engine.Keys{Current: "the new one", Fallbacks: []string{"the old one"}}
		})
		plain, err := rotated.Secret(t.Context(), job.ID)
		require.NoError(t, err)
		require.Equal(t, "token", string(plain))

		forgetful := newFixture(t, db, nil)
		_, err = forgetful.Secret(t.Context(), job.ID)
		require.ErrorContains(t, err, "is not configured any more")

		other := rotated.open(t, func(n *engine.NewJob) { n.Secret = []byte("another") })
		require.NoError(t, db.Write(t.Context()).Exec(`UPDATE engine_secret SET sealed = (SELECT s.sealed FROM engine_secret s WHERE s.job_id = ?),
			nonce = (SELECT s.nonce FROM engine_secret s WHERE s.job_id = ?), key_id = (SELECT s.key_id FROM engine_secret s WHERE s.job_id = ?)
			WHERE job_id = ?`, job.ID, job.ID, job.ID, other.ID).Error)
		_, err = rotated.Secret(t.Context(), other.ID)
		require.ErrorContains(t, err, "sealed for another job")

		rotated.apply(t, job, broken)
		_, err = rotated.Secret(t.Context(), job.ID)
		require.ErrorIs(t, err, engine.ErrNoSecret)
		_, err = rotated.Apply(t.Context(), engine.Event{JobID: job.ID, Name: engine.RetryAsked, Secret: []byte("fresh")})
		require.NoError(t, err)
		plain, err = rotated.Secret(t.Context(), job.ID)
		require.NoError(t, err)
		require.Equal(t, "fresh", string(plain))

		keyless := newFixture(t, db, func(c *engine.Config, _ *engine.Kind) { c.Keys = engine.Keys{} })
		_, err = keyless.OpenWith(t.Context(), engine.NewJob{Kind: "test", Subject: "s", Secret: []byte("x")}, nil)
		require.ErrorContains(t, err, "no key is configured")
	})
}

func TestTicksRunOnce(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, nil)
		_, found, err := f.LastTick(t.Context(), "nightly")
		require.NoError(t, err)
		require.False(t, found)
		task := engine.Task{Spec: tasks.Default("nightly", time.Minute), Payload: tasks.Tick{Name: "nightly", At: noon}}
		var firsts atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				first, err := f.Tick(background(), "nightly", noon, task)
				if err != nil {
					t.Error(err)
				}
				if first {
					firsts.Add(1)
				}
			})
		}
		wg.Wait()
		require.Equal(t, int32(1), firsts.Load())
		require.Equal(t, []string{"default.nightly"}, names(f.owed(t)))
		_, err = f.Tick(t.Context(), "nightly", noon.Add(time.Hour), task)
		require.NoError(t, err)
		last, found, err := f.LastTick(t.Context(), "nightly")
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, noon.Add(time.Hour), last)
		claim := f.claim(t, "default.nightly")
		tick, err := engine.Payload[tasks.Tick](claim)
		require.NoError(t, err)
		require.Equal(t, tasks.Tick{Name: "nightly", At: noon}, tick)

		gone, err := f.Clean(t.Context(), noon.AddDate(1, 0, 0))
		require.NoError(t, err)
		require.Equal(t, int64(1), gone, "the last tick stays")
	})
}

func TestFollowerMissesNothing(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, nil)
		before := f.open(t, nil)
		last, err := f.LastEvent(t.Context())
		require.NoError(t, err)
		follower := f.Follow(last)
		next := func() (jobs []string) {
			entries, err := follower.Next(t.Context(), 100)
			require.NoError(t, err)
			for _, l := range entries {
				jobs = append(jobs, l.JobID)
			}
			return jobs
		}
		require.Empty(t, next())
		if db.Dialect() == database.SQLite {
			job := f.open(t, nil)
			require.Equal(t, []string{job.ID}, next())
			return
		}
		open := make(chan struct{})
		release := sync.OnceFunc(func() { close(open) })
		written, committed := make(chan string, 1), make(chan struct{})
		t.Cleanup(func() { release(); <-committed })
		go func() {
			defer close(committed)
			if err := db.Update(background(), func(tx *database.Tx) error {
				job, err := f.Open(background(), tx, engine.NewJob{Kind: "test", Subject: "slow"})
				written <- job.ID
				<-open
				return err
			}); err != nil {
				t.Error(err)
			}
		}()
		slow := platformtest.Receive(t, written, "the slow transaction has its number")
		quick := f.open(t, nil)
		f.apply(t, before, accepted)
		require.Equal(t, []string{quick.ID, before.ID}, next(), "a lower number is still uncommitted")
		require.Empty(t, next())
		release()
		platformtest.Receive(t, committed, "the slow transaction commits")
		require.Equal(t, []string{slow}, next())
		require.Empty(t, next())
	})
}

func TestListsAndStats(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, nil)
		mine := f.open(t, nil)
		f.clock.Advance(time.Second)
		other := f.open(t, func(n *engine.NewJob) { n.Owner = "grace" })
		f.apply(t, other, done)
		jobs, total, err := f.Jobs(t.Context(), engine.Filter{}, 1, 0)
		require.NoError(t, err)
		require.Equal(t, int64(2), total)
		require.Equal(t, other.ID, jobs[0].ID, "the youngest first")
		jobs, _, err = f.Jobs(t.Context(), engine.Filter{Owner: "ada", Kind: "test", States: []engine.State{engine.Created}, Subjects: []string{mine.Subject}, Running: true}, 10, 0)
		require.NoError(t, err)
		require.Equal(t, []engine.Job{mine}, utc(jobs))
		jobs, total, err = f.Jobs(t.Context(), engine.Filter{Overdue: true}, 10, 0)
		require.NoError(t, err)
		require.Empty(t, jobs)
		require.Zero(t, total)

		stats, err := f.Stats(t.Context())
		require.NoError(t, err)
		require.Equal(t, engine.Stats{Jobs: map[string]map[engine.State]int64{"test": {engine.Created: 1, engine.Finished: 1}},
			Owed: map[string]int64{"test.launch": 1, "notify": 1}, Due: 2, OldestDue: &mine.CreatedAt}, stats)
		ended, err := f.EndedSince(t.Context(), "grace", noon, 10)
		require.NoError(t, err)
		require.Len(t, ended, 1)
		require.Equal(t, engine.Finished, ended[0].To)

		claim := f.claim(t, "notify")
		payload, err := engine.Payload[tasks.Notification](claim)
		require.NoError(t, err)
		notice, job, err := f.Notification(t.Context(), payload.ID)
		require.NoError(t, err)
		require.Equal(t, "grace", notice.Recipient)
		require.Equal(t, engine.Success, notice.Outcome)
		require.Equal(t, other.ID, job.ID)
		require.NoError(t, f.NotificationSent(t.Context(), claim, payload.ID))
		require.ErrorIs(t, f.NotificationSent(t.Context(), claim, payload.ID), engine.ErrLeaseLost)
		_, _, err = f.Notification(t.Context(), newID())
		require.ErrorAs(t, err, &fault.NotFound{})
	})
}

// utc gives listed jobs the zone in which they were written.
func utc(jobs []engine.Job) []engine.Job {
	for i := range jobs {
		j := &jobs[i]
		j.HeardAt, j.CreatedAt, j.UpdatedAt = j.HeardAt.UTC(), j.CreatedAt.UTC(), j.UpdatedAt.UTC()
		for _, at := range []*time.Time{j.Deadline, j.EndedAt} {
			if at != nil {
				*at = at.UTC()
			}
		}
	}
	return jobs
}

func TestPublishedTellsTheLastNumberAfterTheCommit(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		var published atomic.Int64
		f := newFixture(t, db, func(c *engine.Config, _ *engine.Kind) {
			c.Published = func(_ context.Context, last int64) { published.Store(last) }
		})
		job := f.open(t, nil)
		first := published.Load()
		require.Positive(t, first)
		f.apply(t, job, done)
		require.Equal(t, first+1, published.Load())
	})
}
