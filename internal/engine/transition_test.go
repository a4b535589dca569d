package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"cohortflow/internal/engine"
	"cohortflow/internal/engine/enginetest"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/fault"
	"cohortflow/tasks"
)

func TestTheTestKindKeepsItsPromises(t *testing.T) {
	t.Parallel()
	enginetest.Walk(t, testKind())
}

func TestCheckFindsUnsoundTables(t *testing.T) {
	t.Parallel()
	end := engine.Rule{}
	waits := func(on engine.On) engine.Rule { return engine.Rule{Deadline: engine.DeadlineCount, On: on} }
	for name, tt := range map[string]struct {
		table engine.Table
		want  string
	}{
		"NoInitialState":         {engine.Table{"end": end}, "the initial state is not in the table"},
		"DeadlineWithoutOverdue": {engine.Table{engine.Created: waits(engine.On{"go": {To: "end"}}), "end": end}, "no move for overdue"},
		"OverdueWithoutDeadline": {engine.Table{engine.Created: {On: engine.On{engine.Overdue: {To: "end"}}}, "end": end}, "but no deadline"},
		"UnknownTarget":          {engine.Table{engine.Created: waits(engine.On{engine.Overdue: {To: "nowhere"}})}, "nowhere, which is not in the table"},
		"Unreachable":            {engine.Table{engine.Created: waits(engine.On{engine.Overdue: {To: "end"}}), "end": end, "island": end}, "island: cannot be reached"},
		"NoEnd":                  {engine.Table{engine.Created: waits(engine.On{engine.Overdue: {To: "b"}}), "b": waits(engine.On{engine.Overdue: {To: engine.Created}})}, "no end can be reached"},
		"Circle": {engine.Table{engine.Created: waits(engine.On{engine.Overdue: {To: "b"}, "go": {To: "end"}}), "b": waits(engine.On{engine.Overdue: {To: engine.Created}}),
			"end": end}, "go round in a circle"},
		"EnquiryInAnEndedState": {engine.Table{engine.Created: waits(engine.On{engine.Overdue: {To: "end"}}), "end": {EnquireAfter: true}}, "nobody enquires"},
		"OverdueToItself":       {engine.Table{engine.Created: waits(engine.On{engine.Overdue: {To: engine.Created}, "go": {To: "end"}}), "end": end}, "leads back to it"},
		"TaskWithoutName":       {engine.Table{engine.Created: waits(engine.On{engine.Overdue: {To: "end", Owed: engine.Owes(tasks.Spec{})}}), "end": end}, "a task without a name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, tt.table.Check(engine.Created), tt.want)
		})
	}
	require.NoError(t, testTable().Check(engine.Created))
}

func TestOpen(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, nil)
		job := f.open(t, func(n *engine.NewJob) { n.Secret = []byte("token") })
		read, err := f.Job(t.Context(), job.ID)
		require.NoError(t, err)
		require.Equal(t, job, read)
		require.Equal(t, engine.Created, read.State)
		require.Equal(t, noon.Add(10*time.Minute), *read.Deadline)
		require.Equal(t, []string{"opened >new true"}, f.timeline(t, job))
		owed := f.owed(t)
		require.Equal(t, []string{"test.launch"}, names(owed))
		require.JSONEq(t, fmt.Sprintf(`{"job_id":%q,"kind":"test","subject":%q}`, job.ID, job.Subject), owed[0].Payload)
		secret, err := f.Secret(t.Context(), job.ID)
		require.NoError(t, err)
		require.Equal(t, "token", string(secret))

		t.Run("RefusesASecondJobOfTheSubject", func(t *testing.T) {
			_, err := f.OpenWith(t.Context(), engine.NewJob{Kind: "test", Subject: job.Subject}, nil)
			require.ErrorIs(t, err, gorm.ErrDuplicatedKey)
		})
		t.Run("RefusesAnUnknownKindAndState", func(t *testing.T) {
			_, err := f.OpenWith(t.Context(), engine.NewJob{Kind: "other", Subject: "1"}, nil)
			require.ErrorContains(t, err, "not registered")
			_, err = f.OpenWith(t.Context(), engine.NewJob{Kind: "test", Subject: "1", State: "odd"}, nil)
			require.ErrorContains(t, err, "not in its table")
		})
		t.Run("IsUndoneWithItsTransaction", func(t *testing.T) {
			_, err := f.OpenWith(t.Context(), engine.NewJob{Kind: "test", Subject: "undone"}, func(context.Context, *database.Tx) error {
				return errors.New("the row is refused")
			})
			require.ErrorContains(t, err, "the row is refused")
			_, err = f.JobOf(t.Context(), "test", "undone")
			require.ErrorIs(t, err, engine.ErrNoJob)
		})
		t.Run("MayBeOpenedEnded", func(t *testing.T) {
			ended := f.open(t, func(n *engine.NewJob) { n.State, n.Owed = engine.Finished, nil })
			require.NotNil(t, ended.EndedAt)
			require.Nil(t, ended.Deadline)
		})
	})
}

func TestApply(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, nil)
		job := f.open(t, func(n *engine.NewJob) { n.Secret = []byte("token") })
		f.clock.Advance(time.Minute)
		result, err := f.Apply(t.Context(), engine.Event{Kind: "test", Subject: job.Subject, Name: accepted, ExternalID: "x-1", Detail: "as job x-1"})
		require.NoError(t, err)
		require.True(t, result.Applied)
		require.Equal(t, engine.Pending, result.To)
		require.Equal(t, "x-1", result.Job.ExternalID)
		require.Equal(t, noon.Add(time.Minute+2*time.Hour), *result.Job.Deadline)
		require.Equal(t, []string{"test.launch", "test.poll"}, names(f.owed(t)))

		require.False(t, f.apply(t, job, accepted).Applied, "a repeated event changes nothing")
		require.True(t, f.apply(t, job, done).Applied)
		read, err := f.Job(t.Context(), job.ID)
		require.NoError(t, err)
		require.Equal(t, engine.Finished, read.State)
		require.Equal(t, int64(3), read.Version)
		require.NotNil(t, read.EndedAt)
		require.Nil(t, read.Deadline)
		require.Equal(t, []string{"notify"}, names(f.owed(t)), "an ended job owes nothing but its notification")
		_, err = f.Secret(t.Context(), job.ID)
		require.ErrorIs(t, err, engine.ErrNoSecret)
		require.False(t, f.apply(t, job, broken).Applied, "final is final")
		require.Equal(t, []string{"opened >new true", "accepted new>pending true", "accepted pending>pending false",
			"done pending>finished true", "broken finished>finished false"}, f.timeline(t, job))

		_, err = f.Apply(t.Context(), engine.Event{JobID: newID(), Name: done})
		require.ErrorIs(t, err, engine.ErrNoJob)
		_, err = f.Apply(t.Context(), engine.Event{Kind: "test", Subject: "nobody", Name: done})
		require.ErrorIs(t, err, engine.ErrNoJob)
		_, err = f.Apply(t.Context(), engine.Event{JobID: job.ID, Name: done, RequireVersion: 1})
		require.ErrorIs(t, err, engine.ErrVersion)
	})
}

func TestAFirstSuccessAfterGivingUpCounts(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, nil)
		job := f.open(t, nil)
		f.apply(t, job, accepted)
		require.Equal(t, "Nobody answered.", f.apply(t, job, engine.Overdue).Job.Reason)
		success := f.apply(t, job, done)
		require.True(t, success.Applied)
		require.Empty(t, success.Job.Reason)
		f.apply(t, job, done)
		var outcomes []string
		require.NoError(t, db.Read(t.Context()).Raw(`SELECT outcome FROM engine_notification ORDER BY outcome`).Scan(&outcomes).Error)
		require.Equal(t, []string{"failure", "success"}, outcomes, "one message per outcome")
		require.Equal(t, []string{"notify", "notify"}, names(f.owed(t)))
	})
}

func TestRetryAndCancel(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, nil)
		job := f.open(t, nil)
		_, err := f.Retry(t.Context(), job.ID, "ada")
		require.Equal(t, fault.Conflict{Detail: "A job that is new cannot be retried."}, err)
		f.apply(t, job, broken)
		retried, err := f.Retry(t.Context(), job.ID, "ada")
		require.NoError(t, err)
		require.Nil(t, retried.Job.EndedAt)
		require.NotNil(t, retried.Job.Deadline)
		f.apply(t, job, broken) // the same outcome again: told once
		require.Equal(t, []string{"notify"}, names(f.owed(t)))
		_, err = f.Retry(t.Context(), job.ID, "ada")
		require.NoError(t, err)
		cancelled, err := f.Cancel(t.Context(), job.ID, "ada")
		require.NoError(t, err)
		require.Equal(t, engine.Cancelled, cancelled.To)
		_, err = f.Cancel(t.Context(), job.ID, "ada")
		require.ErrorAs(t, err, &fault.Conflict{})
	})
}

func TestAPollOwesTheNextOneWithAGrowingRest(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, nil)
		job := f.open(t, nil)
		_, err := f.Settle(t.Context(), f.claim(t, "test.launch"), engine.Event{Name: accepted})
		require.NoError(t, err)
		for round, rest := range []time.Duration{10 * time.Second, 15 * time.Second, 22500 * time.Millisecond} {
			owed := f.owed(t)
			require.Equal(t, []string{"test.poll"}, names(owed), "one poll at a time")
			require.Equal(t, f.clock.Now().Add(rest), owed[0].DueAt.UTC())
			_, got, err := f.Claim(t.Context(), owed[0].ID)
			require.NoError(t, err)
			require.False(t, got, "it is not due yet")
			f.clock.Advance(rest)
			claim := f.claim(t, "test.poll")
			require.Equal(t, round, claim.Step.Round)
			require.Equal(t, engine.Pending, claim.JobState)
			_, err = f.Settle(t.Context(), claim, engine.Event{Name: running})
			require.NoError(t, err)
		}
		read, err := f.Job(t.Context(), job.ID)
		require.NoError(t, err)
		require.Equal(t, noon.Add(2*time.Hour), *read.Deadline, "polls do not move the deadline")
	})
}

func TestProjectionsAndSubscribersShareTheTransaction(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		var mu sync.Mutex
		projected := map[string][]engine.State{}
		poison := newID()
		f := newFixture(t, db, func(_ *engine.Config, k *engine.Kind) {
			k.Project = func(_ context.Context, tx *database.Tx, changes []engine.Change) error {
				mu.Lock()
				defer mu.Unlock()
				for _, c := range changes {
					if c.After.Subject == poison {
						return errors.New("its row is gone")
					}
					projected[c.After.Subject] = append(projected[c.After.Subject], c.After.State)
				}
				return nil
			}
		})
		parent := f.open(t, nil)
		f.Subscribe("test", func(_ context.Context, _ *database.Tx, c engine.Change) ([]engine.Event, error) {
			if c.After.ID == parent.ID || c.After.State != engine.Finished {
				return nil, nil
			}
			return []engine.Event{{JobID: parent.ID, Name: accepted}, {JobID: parent.ID, Name: done}}, nil
		})
		child := f.open(t, nil)
		f.apply(t, child, done)
		read, err := f.Job(t.Context(), parent.ID)
		require.NoError(t, err)
		require.Equal(t, engine.Finished, read.State)
		require.Equal(t, []engine.State{engine.Pending, engine.Finished}, projected[parent.Subject])

		t.Run("OnePoisonedEventFailsAlone", func(t *testing.T) {
			jobs := make([]engine.Job, 40)
			for i := range jobs {
				jobs[i] = f.open(t, func(n *engine.NewJob) {
					if i == 17 {
						n.Subject = poison
					}
				})
			}
			errs := make([]error, len(jobs))
			var wg sync.WaitGroup
			for i, job := range jobs {
				wg.Go(func() { _, errs[i] = f.Apply(background(), engine.Event{JobID: job.ID, Name: broken}) })
			}
			wg.Wait()
			for i, err := range errs {
				read, readErr := f.Job(t.Context(), jobs[i].ID)
				require.NoError(t, readErr)
				if i == 17 {
					require.ErrorContains(t, err, "its row is gone")
					require.Equal(t, engine.Created, read.State)
				} else {
					require.NoError(t, err)
					require.Equal(t, engine.Failed, read.State)
				}
			}
		})
	})
}

func TestAPanicInATransactionIsItsError(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		var poison atomic.Value
		poison.Store("")
		f := newFixture(t, db, func(_ *engine.Config, k *engine.Kind) {
			k.Project = func(_ context.Context, _ *database.Tx, changes []engine.Change) error {
				for _, c := range changes {
					if c.After.Subject == poison.Load() {
						panic("the row of patient 1234")
					}
				}
				return nil
			}
		})
		_, err := f.OpenWith(t.Context(), engine.NewJob{Kind: "test", Subject: "a"}, func(context.Context, *database.Tx) error { panic("a mistake") })
		require.ErrorContains(t, err, "panicked")
		_, err = f.JobOf(t.Context(), "test", "a")
		require.ErrorIs(t, err, engine.ErrNoJob, "nothing of it is kept")

		job, other := f.open(t, nil), f.open(t, nil)
		poison.Store(job.Subject)
		_, err = f.Apply(t.Context(), engine.Event{JobID: job.ID, Name: done})
		require.ErrorContains(t, err, "panicked")
		require.NotContains(t, err.Error(), "1234")
		require.True(t, f.apply(t, other, done).Applied, "the engine goes on")
		poison.Store("")
		require.True(t, f.apply(t, job, done).Applied)
	})
}

func TestConcurrentEventsMakeOneFinalTransition(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, nil)
		job := f.open(t, nil)
		var wg sync.WaitGroup
		results := make([]engine.Result, 64)
		for i := range results {
			wg.Go(func() {
				name := []engine.EventName{done, broken, engine.CancelAsked, accepted}[i%4]
				results[i], _ = f.Apply(background(), engine.Event{JobID: job.ID, Name: name})
			})
		}
		wg.Wait()
		finals := 0
		for _, r := range results {
			if r.Applied && r.To != engine.Pending {
				finals++
			}
		}
		require.Equal(t, 1, finals)
		lines := f.timeline(t, job)
		require.Len(t, lines, 65, "every event has its line")
	})
}

func TestABatchIsAConstantNumberOfStatements(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, nil)
		count := func(n int) int {
			jobs := make([]engine.NewJob, n)
			for i := range jobs {
				jobs[i] = engine.NewJob{Kind: "test", Subject: newID(), Owner: "ada", Owed: engine.Owes(launchTask), Secret: []byte("s")}
			}
			return databasetest.Count(t, db, func() {
				require.NoError(t, db.Update(t.Context(), func(tx *database.Tx) error {
					opened, err := f.OpenAll(t.Context(), tx, jobs)
					if err != nil {
						return err
					}
					events := make([]engine.Event, n)
					for i := range events {
						events[i] = engine.Event{JobID: opened[i].ID, Name: done}
					}
					_, err = f.ApplyTx(t.Context(), tx, events...)
					return err
				}))
			})
		}
		require.Equal(t, count(1), count(40))
	})
}
