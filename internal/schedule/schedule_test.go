package schedule

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/engine"
	"cohortflow/internal/platform/clock"
	"cohortflow/tasks"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestParseTasks(t *testing.T) {
	t.Parallel()
	known := func(name string) (tasks.Spec, bool) {
		return tasks.Spec{Name: name}, name == "accesses.tasks.count_users" || name == "exports.tasks.clean"
	}
	for name, tt := range map[string]struct {
		text string
		want map[string]time.Time // first time after noon
		err  string
	}{
		"Empty":             {text: " ; \n ", want: map[string]time.Time{}},
		"FourFields":        {text: "a,exports.tasks.clean,6,30;", want: map[string]time.Time{"a": noon.AddDate(0, 0, 1).Add(-5*time.Hour - 30*time.Minute)}},
		"FiveFields":        {text: "a , accesses.tasks , count_users , 13 , 0", want: map[string]time.Time{"a": noon.Add(time.Hour)}},
		"ModuleWithoutDots": {text: "a,accesses,count_users,*,15", want: map[string]time.Time{"a": noon.Add(15 * time.Minute)}},
		"CronWithCommas":    {text: "a,exports.tasks.clean,5,10 12 * * 0,6", want: map[string]time.Time{"a": noon.Add(5 * time.Minute)}},
		"LastOfANameWins":   {text: "a,exports.tasks.clean,13,0\na,exports.tasks.clean,14,0", want: map[string]time.Time{"a": noon.Add(2 * time.Hour)}},
		"UnknownTask":       {text: "a,nobody.tasks.knows,1,1", err: "no task is named nobody.tasks.knows"},
		"BadHour":           {text: "a,exports.tasks.clean,25,0", err: "cron expression"},
		"TooFewFields":      {text: "a,exports.tasks.clean", err: "want name,task"},
		"Zone":              {text: "a,exports.tasks.clean,TZ=UTC * * * *", err: "times are UTC"},
		"AllMistakesAtOnce": {text: "x,y,z;a,b,1,1", err: "no task is named b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entries, err := ParseTasks(tt.text, known)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			got := map[string]time.Time{}
			for _, e := range entries {
				got[e.Name] = e.When.Next(noon)
			}
			require.Equal(t, tt.want, got)
		})
	}
}

// recorder remembers ticks, as the table of the engine does.
type recorder struct {
	last map[string]time.Time
	ran  []string
}

func (r *recorder) Tick(_ context.Context, name string, at time.Time, _ ...engine.Task) (bool, error) {
	r.last[name] = at
	r.ran = append(r.ran, name+" "+at.Format("15:04"))
	return true, nil
}

func (r *recorder) LastTick(_ context.Context, name string) (time.Time, bool, error) {
	at, ok := r.last[name]
	return at, ok, nil
}

func TestScheduler(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T, last map[string]time.Time) (*Scheduler, *clock.Fake, *recorder) {
		t.Helper()
		when, err := ParseCron("*/30 * * * *")
		require.NoError(t, err)
		clk, rec := clock.NewFake(noon.Add(time.Minute)), &recorder{last: last}
		return New(Config{Log: slog.New(slog.DiscardHandler), Clock: clk, Ticks: rec, Entries: []Entry{{Name: "half", When: when}}}), clk, rec
	}
	t.Run("RunsEachTimeOnce", func(t *testing.T) {
		t.Parallel()
		s, clk, rec := setup(t, map[string]time.Time{})
		for range 70 {
			require.NoError(t, s.pass(t.Context()))
			clk.Advance(time.Minute)
		}
		require.Equal(t, []string{"half 12:30", "half 13:00"}, rec.ran)
	})
	t.Run("MakesUpForADowntimeWithOneRun", func(t *testing.T) {
		t.Parallel()
		s, _, rec := setup(t, map[string]time.Time{"half": noon.Add(-5 * time.Hour)})
		require.NoError(t, s.pass(t.Context()))
		require.NoError(t, s.pass(t.Context()))
		require.Equal(t, []string{"half 12:00"}, rec.ran)
	})
}
