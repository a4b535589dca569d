package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"cohortflow/internal/app"
	"cohortflow/internal/engine"
	"cohortflow/internal/platform/fault"
)

// known checks that a text can be an id, and words what the engine says of one that nothing has.
func known(what, id string, do func() error) error {
	if _, err := uuid.Parse(id); err != nil {
		return fmt.Errorf("%q is no id: cohortflow jobs list and cohortflow jobs dead show them", id)
	}
	err := do()
	if errors.Is(err, engine.ErrNoJob) || errors.As(err, &fault.NotFound{}) {
		return fmt.Errorf("there is no %s %s", what, id)
	}
	return err
}

// shown is ready, for the job of an id.
func shown(ctx context.Context, id string, f func(a *app.App) error) error {
	return known("job", id, func() error { return ready(ctx, f) })
}

// operator is who the timeline says did what this command does.
const operator = "operator"

func jobsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "jobs", Short: "Look after jobs and owed tasks"}
	cmd.AddCommand(jobsList(), jobsShow(), jobsDo("retry", "Try an ended job again", (*engine.Engine).Retry), jobsDo("cancel", "End a job", (*engine.Engine).Cancel), jobsDead(), jobsRevive())
	return cmd
}

func table(w io.Writer, header string, rows func(line func(format string, args ...any))) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, header)
	rows(func(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) })
	return t.Flush()
}

// oneLine keeps a table a table.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func moment(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func jobsList() *cobra.Command {
	var f engine.Filter
	var states []string
	var limit int
	cmd := &cobra.Command{Use: "list", Short: "List jobs, the youngest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range states {
				f.States = append(f.States, engine.State(s))
			}
			return ready(cmd.Context(), func(a *app.App) error {
				jobs, total, err := a.Engine().Jobs(cmd.Context(), f, limit, 0)
				if err != nil {
					return err
				}
				err = table(cmd.OutOrStdout(), "ID\tKIND\tSTATE\tOWNER\tCREATED\tDEADLINE\tREASON", func(line func(string, ...any)) {
					for _, j := range jobs {
						line("%s\t%s\t%s\t%s\t%s\t%s\t%s", j.ID, j.Kind, j.State, j.Owner, j.CreatedAt.UTC().Format(time.RFC3339), moment(j.Deadline), oneLine(j.Reason))
					}
				})
				fmt.Fprintf(cmd.OutOrStdout(), "%d of %d\n", len(jobs), total)
				return err
			})
		}}
	cmd.Flags().StringVar(&f.Kind, "kind", "", "only this kind")
	cmd.Flags().StringVar(&f.Owner, "owner", "", "only those of this user")
	cmd.Flags().StringSliceVar(&states, "state", nil, "only these states")
	cmd.Flags().BoolVar(&f.Running, "running", false, "only those that have not ended")
	cmd.Flags().BoolVar(&f.Overdue, "overdue", false, "only those past their deadline")
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at the most")
	return cmd
}

func jobsShow() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show a job and its timeline", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return shown(cmd.Context(), args[0], func(a *app.App) error {
				job, err := a.Engine().Job(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				lines, err := a.Engine().Events(cmd.Context(), job.ID)
				if err != nil {
					return err
				}
				out := cmd.OutOrStdout()
				fmt.Fprintf(out, "%s %s of %s: %s %s\nsubject %s, external id %q, deadline %s, last heard of %s\n\n", job.Kind, job.ID, job.Owner, job.State, job.Reason,
					job.Subject, job.ExternalID, moment(job.Deadline), moment(&job.HeardAt))
				return table(out, "WHEN\tEVENT\tFROM\tTO\tBY\tAPPLIED\tDETAIL", func(line func(string, ...any)) {
					for _, l := range lines {
						line("%s\t%s\t%s\t%s\t%s\t%t\t%s", l.At.UTC().Format("2006-01-02T15:04:05.000Z"), l.Event, l.From, l.To, l.Actor, l.Applied, l.Detail)
					}
				})
			})
		}}
}

func jobsDo(name, short string, do func(e *engine.Engine, ctx context.Context, jobID, actor string) (engine.Result, error)) *cobra.Command {
	return &cobra.Command{Use: name + " ID", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return shown(cmd.Context(), args[0], func(a *app.App) error {
				result, err := do(a.Engine(), cmd.Context(), args[0], operator)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s → %s\n", result.Job.ID, result.From, result.To)
				return nil
			})
		}}
}

func jobsDead() *cobra.Command {
	var limit int
	cmd := &cobra.Command{Use: "dead", Short: "List tasks that were set aside after their last attempt", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ready(cmd.Context(), func(a *app.App) error {
				dead, total, err := a.Engine().DeadTasks(cmd.Context(), limit, 0)
				if err != nil {
					return err
				}
				err = table(cmd.OutOrStdout(), "TASK\tNAME\tJOB\tATTEMPTS\tDEAD SINCE\tLAST ERROR", func(line func(string, ...any)) {
					for _, d := range dead {
						line("%s\t%s\t%s\t%d\t%s\t%s", d.ID, d.Name, cmp.Or(d.JobID, "-"), d.Attempt, moment(&d.DeadAt), oneLine(d.LastError))
					}
				})
				fmt.Fprintf(cmd.OutOrStdout(), "%d of %d\n", len(dead), total)
				return err
			})
		}}
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at the most")
	return cmd
}

func jobsRevive() *cobra.Command {
	return &cobra.Command{Use: "revive TASK", Short: "Make a dead task due again, with all its attempts", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return known("dead task", args[0], func() error {
				return ready(cmd.Context(), func(a *app.App) error {
					if err := a.Engine().Revive(cmd.Context(), args[0]); err != nil {
						return err
					}
					fmt.Fprintf(cmd.OutOrStdout(), "Task %s is due again.\n", args[0])
					return nil
				})
			})
		}}
}
