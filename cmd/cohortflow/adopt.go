package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"cohortflow/internal/app"
	"cohortflow/internal/engine"
	"cohortflow/internal/platform/database"
)

func adoptCommand() *cobra.Command {
	var settle, giveUp bool
	cmd := &cobra.Command{Use: "adopt", Short: "Settle the jobs that the old system left without an end", Args: cobra.NoArgs,
		Long: `Tells which jobs (counts, cohorts, feasibility studies, exports) the old system left without an end in an adopted
database, and changes nothing.

With --settle, QueryExecutor and the export API are asked about those they have given an id: those that run are looked
after from now on, with deadlines; those that have ended are recorded. Those that nobody knows are failed, without telling
anyone. Jobs about which the outside system gives no answer are left alone, and the exit status is 1: repeat the command,
or add --give-up to fail them, too. Repeating it does no harm.

Stop the old system first.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case settle:
				return ready(cmd.Context(), func(a *app.App) error {
					tally, err := a.Settle(cmd.Context(), giveUp)
					if errors.Is(err, app.ErrNeverAdopted) {
						fmt.Fprintln(cmd.OutOrStdout(), "The database was never the old system's: there is nothing to settle.")
						return nil
					}
					return errors.Join(showTally(cmd.OutOrStdout(), tally), err, unasked(tally))
				})
			case giveUp:
				return errors.New("--give-up says what --settle does with jobs about which nobody answers: it needs --settle")
			}
			return with(cmd.Context(), func(a *app.App) error {
				report, err := a.Adoption(cmd.Context())
				if err != nil {
					return err
				}
				return showLeft(cmd.OutOrStdout(), report)
			})
		}}
	cmd.Flags().BoolVar(&settle, "settle", false, "ask the outside systems, and settle what was found")
	cmd.Flags().BoolVar(&giveUp, "give-up", false, "with --settle: fail also those about which the outside system does not answer")
	return cmd
}

// showLeft tells what --settle would do.
func showLeft(out io.Writer, report database.Report) error {
	switch {
	case report.State == database.Empty || report.State == database.Created:
		fmt.Fprintln(out, "The database was never the old system's: there is nothing to settle.")
		return nil
	case len(report.Unfinished) == 0:
		fmt.Fprintln(out, "The old system has left no job without an end: there is nothing to settle.")
		return nil
	}
	var asked, nameless int64
	err := table(out, "TABLE\tSTATUS\tJOBS\tWITHOUT ID", func(line func(string, ...any)) {
		for _, u := range report.Unfinished {
			line("%s\t%s\t%d\t%d", u.Table, u.Status, u.Count, u.Nameless)
			asked, nameless = asked+u.Count-u.Nameless, nameless+u.Nameless
		}
	})
	fmt.Fprintf(out, `
With --settle, the outside systems would be asked about the %d that they have given an id: those that run would be
looked after from now on, those that have ended recorded, those that they do not know failed. Of the %d without id,
those that wait for another one would go on with it, the others would be failed. Nobody would be told of a failure.
Nothing was changed.
`, asked, nameless)
	if report.State == database.Upstream {
		fmt.Fprintln(out, `The database has not been adopted yet: run "cohortflow migrate" first.`)
	}
	return err
}

// showTally tells what became of which.
func showTally(out io.Writer, tally engine.Tally) error {
	if len(tally) == 0 {
		fmt.Fprintln(out, "The old system has left no job without an end: there was nothing to settle.")
		return nil
	}
	means := map[engine.Fate]string{
		engine.Followed: "worked on outside, looked after from now on",
		engine.Recorded: "ended outside, recorded",
		engine.Lost:     "known to nobody, failed without telling anyone",
		engine.Depends:  "ends with another one",
		engine.Unasked:  "no answer, left alone",
	}
	return table(out, "TABLE\tJOBS\tWHAT BECAME OF THEM", func(line func(string, ...any)) {
		for _, name := range slices.Sorted(maps.Keys(tally)) {
			for _, fate := range engine.Fates() {
				if n := tally[name][fate]; n > 0 {
					line("%s\t%d\t%s", name, n, means[fate])
				}
			}
		}
	})
}

// unasked is the error of an adoption that is not complete.
func unasked(tally engine.Tally) error {
	n := 0
	for _, fates := range tally {
		n += fates[engine.Unasked]
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("nobody answered about %d jobs: see that QUERY_EXECUTOR_URL and EXPORT_API_URL are right and answer, and repeat the command; or add --give-up to fail them", n)
}
