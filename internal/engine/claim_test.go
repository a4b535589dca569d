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

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/platformtest"
	"cohortflow/tasks"
)

func TestClaim(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, nil)
		f.open(t, nil)
		id := f.owed(t)[0].ID

		t.Run("OfManyAtOnceOneGetsIt", func(t *testing.T) {
			var got atomic.Int32
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					if _, ok, err := f.Claim(background(), id); err == nil && ok {
						got.Add(1)
					}
				})
			}
			wg.Wait()
			require.Equal(t, int32(1), got.Load())
		})
		t.Run("ALeaseThatRanOutIsNobodys", func(t *testing.T) {
			_, got, err := f.Claim(t.Context(), id)
			require.NoError(t, err)
			require.False(t, got)
			f.clock.Advance(11 * time.Second)
			claim, got, err := f.Claim(t.Context(), id)
			require.NoError(t, err)
			require.True(t, got)
			require.Equal(t, 2, claim.Attempt)
			require.NoError(t, f.Postpone(t.Context(), claim, f.clock.Now()))
		})
		t.Run("ALostLeaseChangesNothing", func(t *testing.T) {
			lost := f.claim(t, "test.launch")
			f.clock.Advance(11 * time.Second)
			ours := f.claim(t, "test.launch")
			_, err := f.Settle(t.Context(), lost, engine.Event{Name: done})
			require.ErrorIs(t, err, engine.ErrLeaseLost)
			_, err = f.Checkpoint(t.Context(), lost, engine.Event{Name: accepted})
			require.ErrorIs(t, err, engine.ErrLeaseLost)
			require.ErrorIs(t, f.Done(t.Context(), lost), engine.ErrLeaseLost)
			require.ErrorIs(t, f.Postpone(t.Context(), lost, noon), engine.ErrLeaseLost)
			require.ErrorIs(t, db.Update(t.Context(), func(tx *database.Tx) error {
				_, err := f.SettleTx(t.Context(), tx, lost, engine.Event{Name: done})
				return err
			}), engine.ErrLeaseLost)
			job, err := f.Job(t.Context(), ours.Step.JobID)
			require.NoError(t, err)
			require.Equal(t, engine.Created, job.State)

			kept, err := f.Checkpoint(t.Context(), ours, engine.Event{Name: accepted})
			require.NoError(t, err)
			require.Equal(t, engine.Pending, kept.To)
			require.Len(t, f.owed(t), 2, "the claim is held, the poll is owed")
			settled, err := f.Settle(t.Context(), ours, engine.Event{Name: done})
			require.NoError(t, err)
			require.True(t, settled.Applied)
			_, err = f.Settle(t.Context(), ours, engine.Event{Name: done})
			require.ErrorIs(t, err, engine.ErrLeaseLost, "a second settling finds no task")
		})
		t.Run("WhatIsGoneIsNotClaimed", func(t *testing.T) {
			_, got, err := f.Claim(t.Context(), newID())
			require.NoError(t, err)
			require.False(t, got)
		})
	})
}

// run runs the handler of the only task of a name, as a wake-up would.
func (f *fixture) run(t *testing.T, w *engine.Worker, name string) {
	t.Helper()
	w.Run(t.Context(), f.only(t, name), "")
}

// only is the id of the only task of a name.
func (f *fixture) only(t *testing.T, name string) string {
	t.Helper()
	for _, row := range f.owed(t) {
		if row.Name == name {
			return row.ID
		}
	}
	require.FailNow(t, "no task "+name+" is owed")
	return ""
}

func TestWorker(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		type bundle struct {
			*fixture
			worker *engine.Worker
			handle engine.Handler
		}
		setup := func(t *testing.T) *bundle {
			t.Helper()
			b := &bundle{fixture: newFixture(t, db, nil)}
			require.NoError(t, db.Update(t.Context(), func(tx *database.Tx) error { return tx.Exec(`DELETE FROM engine_task`).Error }))
			b.Handle(launchTask, func(ctx context.Context, c engine.Claim) error { return b.handle(ctx, c) })
			b.worker = engine.NewWorker(b.Engine, engine.WorkerConfig{Grace: time.Millisecond})
			require.NoError(t, b.worker.Start(t.Context()))
			t.Cleanup(func() { require.NoError(t, b.worker.Stop(background())) })
			return b
		}
		t.Run("NilWithoutSettlingIsDone", func(t *testing.T) {
			b := setup(t)
			b.open(t, nil)
			b.handle = func(context.Context, engine.Claim) error { return nil }
			b.run(t, b.worker, "test.launch")
			require.Empty(t, b.owed(t))
		})
		t.Run("AnErrorIsTriedAgainLater", func(t *testing.T) {
			b := setup(t)
			b.open(t, nil)
			b.handle = func(context.Context, engine.Claim) error {
				return errors.New(`Get "https://fhir.example/Patient?name=Doe": connection refused`)
			}
			b.run(t, b.worker, "test.launch")
			owed := b.owed(t)[0]
			require.Equal(t, 1, owed.Attempt)
			require.Empty(t, owed.LeaseOwner)
			require.Equal(t, `Get "https://fhir.example/Patient": connection refused`, owed.LastError, "no query is stored")
			rest := owed.DueAt.Sub(noon)
			require.GreaterOrEqual(t, rest, 5*time.Millisecond)
			require.LessOrEqual(t, rest, 10*time.Millisecond)
		})
		t.Run("APanicIsAnError", func(t *testing.T) {
			b := setup(t)
			b.open(t, nil)
			b.handle = func(context.Context, engine.Claim) error { panic("token 1234") }
			b.run(t, b.worker, "test.launch")
			require.Equal(t, "the handler of test.launch panicked", b.owed(t)[0].LastError)
		})
		t.Run("AfterTheLastAttemptItIsDeadAndTheJobFails", func(t *testing.T) {
			b := setup(t)
			job := b.open(t, nil)
			b.handle = func(context.Context, engine.Claim) error { return errors.New("no answer") }
			for range launchTask.MaxAttempts {
				b.run(t, b.worker, "test.launch")
				b.clock.Advance(time.Minute)
			}
			require.Equal(t, []string{"notify"}, names(b.owed(t)))
			read, err := b.Job(t.Context(), job.ID)
			require.NoError(t, err)
			require.Equal(t, engine.Failed, read.State)
			require.Equal(t, "The launch failed.", read.Reason)
			dead, total, err := b.DeadTasks(t.Context(), 10, 0)
			require.NoError(t, err)
			require.Equal(t, int64(1), total)
			require.Equal(t, "no answer", dead[0].LastError)
			require.Equal(t, job.ID, dead[0].JobID)
			require.NoError(t, b.Revive(t.Context(), dead[0].ID))
			require.ErrorAs(t, b.Revive(t.Context(), dead[0].ID), &fault.NotFound{})
			b.handle = func(context.Context, engine.Claim) error { return nil }
			b.run(t, b.worker, "test.launch")
		})
		t.Run("ATaskThatKilledItsWorkersIsDead", func(t *testing.T) {
			b := setup(t)
			b.open(t, nil)
			ran := false
			b.handle = func(context.Context, engine.Claim) error { ran = true; return nil }
			for range launchTask.MaxAttempts {
				b.claim(t, "test.launch")
				b.clock.Advance(time.Minute)
			}
			b.run(t, b.worker, "test.launch")
			require.False(t, ran)
			_, total, err := b.DeadTasks(t.Context(), 10, 0)
			require.NoError(t, err)
			require.Equal(t, int64(1), total)
		})
		t.Run("ATaskWithoutHandlerWaits", func(t *testing.T) {
			b := setup(t)
			require.NoError(t, db.Update(t.Context(), func(tx *database.Tx) error {
				_, err := b.Owe(t.Context(), tx, engine.Task{Spec: tasks.Spec{Name: "unknown"}})
				return err
			}))
			b.run(t, b.worker, "unknown")
			require.Contains(t, b.owed(t)[0].LastError, "no handler")
		})
		t.Run("ShutdownGivesBackWhatIsNotFinished", func(t *testing.T) {
			b := setup(t)
			b.open(t, nil)
			begun := make(chan struct{})
			b.handle = func(ctx context.Context, _ engine.Claim) error {
				close(begun)
				<-ctx.Done()
				return ctx.Err()
			}
			id, returned := b.only(t, "test.launch"), make(chan struct{})
			go func() { defer close(returned); b.worker.Run(background(), id, "") }()
			platformtest.Receive(t, begun, "the handler is entered")
			require.NoError(t, b.worker.Stop(background()))
			platformtest.Receive(t, returned, "the handler returns")
			owed := b.owed(t)[0]
			require.Empty(t, owed.LeaseOwner)
			require.Empty(t, owed.LastError)
			require.Zero(t, owed.Attempt, "the attempt does not count")
			_, got, err := b.Claim(t.Context(), owed.ID)
			require.NoError(t, err)
			require.True(t, got)
		})
		t.Run("ALeaseThatWasGivenUpIsFreeAtOnce", func(t *testing.T) {
			b := setup(t)
			b.open(t, nil)
			b.handle = func(context.Context, engine.Claim) error {
				return fmt.Errorf("not renewed in time: %w", engine.ErrLeaseLost)
			}
			b.run(t, b.worker, "test.launch")
			owed := b.owed(t)[0]
			require.Empty(t, owed.LeaseOwner)
			require.Empty(t, owed.LastError)
			require.Equal(t, 1, owed.Attempt, "the attempt counts")
			_, got, err := b.Claim(t.Context(), owed.ID)
			require.NoError(t, err)
			require.True(t, got)
		})
	})
}

func TestALostLeaseEndsTheHandler(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, func(c *engine.Config, _ *engine.Kind) { c.Lease, c.Renew = time.Minute, 10*time.Millisecond })
		causes := make(chan error, 1)
		f.Handle(launchTask, func(ctx context.Context, c engine.Claim) error {
			var other engine.Claim
			for got := false; !got; { // again if the lease was renewed between the two lines; bounded by the handler's time limit
				f.clock.Advance(2 * time.Minute) // the clock of the other worker: our lease has run out for it
				var err error
				if other, got, err = f.Claim(background(), c.TaskID); err != nil || ctx.Err() != nil {
					causes <- errors.Join(err, context.Cause(ctx))
					return errors.New("not taken over")
				}
			}
			defer func() { _ = f.Postpone(background(), other, f.clock.Now()) }()
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return ctx.Err()
		})
		w := engine.NewWorker(f.Engine, engine.WorkerConfig{})
		require.NoError(t, w.Start(t.Context()))
		defer func() { require.NoError(t, w.Stop(background())) }()
		f.open(t, nil)
		f.run(t, w, "test.launch")
		require.ErrorIs(t, platformtest.Receive(t, causes, "the handler tells why its context ended"), engine.ErrLeaseLost)
		require.Empty(t, f.owed(t)[0].LastError, "who lost the lease writes nothing")
	})
}

func TestLeasesAreRenewedWhileTheHandlerWorks(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, func(c *engine.Config, _ *engine.Kind) { c.Lease, c.Renew = time.Minute, 10*time.Millisecond })
		until := func(id string) (at time.Time) {
			_ = db.Read(background()).Raw(`SELECT lease_until FROM engine_task WHERE id = ?`, id).Row().Scan(&at)
			return at.UTC()
		}
		f.Handle(launchTask, func(ctx context.Context, c engine.Claim) error {
			f.clock.Advance(59 * time.Second)
			poll := time.NewTicker(5 * time.Millisecond)
			defer poll.Stop()
			for until(c.TaskID).Before(noon.Add(119 * time.Second)) { // bounded by the handler's time limit
				select {
				case <-poll.C:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
		w := engine.NewWorker(f.Engine, engine.WorkerConfig{})
		require.NoError(t, w.Start(t.Context()))
		defer func() { require.NoError(t, w.Stop(background())) }()
		f.open(t, nil)
		f.run(t, w, "test.launch")
		require.Empty(t, f.owed(t))
	})
}
