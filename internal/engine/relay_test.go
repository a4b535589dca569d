package engine_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/queue"
	"cohortflow/tasks"
)

// recorder remembers the wake-ups that it was given.
type recorder struct {
	mu    sync.Mutex
	woken []string
}

func (r *recorder) Enqueue(_ context.Context, w queue.WakeUp) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.woken = append(r.woken, w.Name+"@"+w.ID[36:])
	return true, nil
}

func (r *recorder) Nudge() {}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	woken := r.woken
	r.woken = nil
	return woken
}

func TestRelay(t *testing.T) {
	t.Parallel()
	type row struct {
		name  string
		due   time.Duration // from noon, which is now
		lease time.Duration // the same; 0: never claimed
		dead  bool
	}
	for name, tt := range map[string]struct {
		rows []row
		want []string
	}{
		"LeavesTheFutureAlone":         {rows: []row{{name: "a", due: time.Second}}},
		"LeavesHeldTasksAlone":         {rows: []row{{name: "a", due: -time.Second, lease: time.Second}}},
		"LeavesDeadTasksAlone":         {rows: []row{{name: "a", due: -time.Second, dead: true}}},
		"WakesWhatIsDue":               {rows: []row{{name: "a", due: 0}}, want: []string{"a@:0"}},
		"TakesBackWhatADeadWorkerHeld": {rows: []row{{name: "a", due: -time.Minute, lease: -time.Second}}, want: []string{"a@:1"}},
		"GoesOnAfterAFullBatch": {rows: []row{{name: "a", due: -3 * time.Second}, {name: "b", due: -3 * time.Second}, {name: "c", due: -2 * time.Second}, {name: "d", due: -time.Second}, {name: "e"}},
			want: []string{"a@:0", "b@:0", "c@:0", "d@:0", "e@:0"}},
		"ChangesTheIDOfWhatIsOverdueForLong": {rows: []row{{name: "a", due: -9 * time.Second}, {name: "b", due: -10 * time.Second},
			{name: "c", due: -20 * time.Second}, {name: "d", due: -39 * time.Second}, {name: "e", due: -40 * time.Second}, {name: "f", due: -time.Hour}},
			want: []string{"a@:0", "b@:0:1", "c@:0:2", "d@:0:2", "e@:0:3", "f@:0:9"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			databasetest.Each(t, func(t *testing.T, db *database.DB) {
				woken := &recorder{}
				f := newFixture(t, db, func(c *engine.Config, _ *engine.Kind) { c.Queue = woken })
				for _, r := range tt.rows {
					require.NoError(t, db.Update(t.Context(), func(tx *database.Tx) error {
						ids, err := f.Owe(t.Context(), tx, engine.Task{Spec: tasks.Spec{Name: r.name}, Due: noon.Add(time.Hour)})
						if err != nil {
							return err
						}
						set := map[string]any{"due_at": noon.Add(r.due), "created_at": noon.Add(-2 * time.Hour)}
						if r.lease != 0 {
							set["lease_owner"], set["lease_until"], set["attempt"] = "somebody", noon.Add(r.lease), 1
						}
						if r.dead {
							set["dead_at"] = noon
						}
						return tx.Table("engine_task").Where("id = ?", ids[0]).Updates(set).Error
					}))
				}
				relay := engine.NewRelay(f.Engine, nil, engine.RelayConfig{Batch: 2})
				n, err := relay.Pass(t.Context())
				require.NoError(t, err)
				require.Equal(t, len(tt.want), n)
				require.ElementsMatch(t, tt.want, woken.take())
				n, err = relay.Pass(t.Context())
				require.NoError(t, err)
				require.Zero(t, n, "what was sent a moment ago is not sent again")
			})
		})
	}
}

func TestRelayLeavesAFreshTaskToItsOwnWakeUp(t *testing.T) {
	t.Parallel()
	db := databasetest.SQLite(t)
	api := newFixture(t, db, nil) // a process whose wake-up is still under way
	woken := &recorder{}
	worker := newFixture(t, db, func(c *engine.Config, _ *engine.Kind) { c.Queue = woken })
	api.open(t, nil)
	relay := engine.NewRelay(worker.Engine, nil, engine.RelayConfig{})
	n, err := relay.Pass(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	worker.clock.Advance(500 * time.Millisecond)
	n, err = relay.Pass(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

func TestWakeUpsWaitForTheAnswer(t *testing.T) {
	t.Parallel()
	woken := &recorder{}
	f := newFixture(t, databasetest.SQLite(t), func(c *engine.Config, _ *engine.Kind) { c.Queue = woken })
	ctx, flushed := engine.WithLater(t.Context())
	open := func() {
		_, err := f.OpenWith(ctx, engine.NewJob{Kind: "test", Subject: newID(), Owed: engine.Owes(launchTask)}, nil)
		require.NoError(t, err)
	}
	open()
	require.Empty(t, woken.take())
	flushed()
	require.Equal(t, []string{"test.launch@:0"}, woken.take())
	open()
	require.Equal(t, []string{"test.launch@:0"}, woken.take(), "after the answer nothing is held back any more")
}
