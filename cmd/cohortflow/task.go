package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"cohortflow/internal/app"
)

func taskCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "task", Short: "Periodic tasks"}
	var arguments string
	run := &cobra.Command{Use: "run NAME", Short: "Run a periodic task at once, here, and wait until it is done", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if given := strings.TrimSpace(arguments); given != "" && given != "[]" {
				return fmt.Errorf("periodic tasks take no arguments, got %s", given)
			}
			return ready(cmd.Context(), func(a *app.App) error { return a.RunTask(cmd.Context(), args[0]) })
		}}
	run.Flags().StringVar(&arguments, "args", "", "a JSON list of arguments; must be empty")
	list := &cobra.Command{Use: "list", Short: "List the periodic tasks", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return with(cmd.Context(), func(a *app.App) error {
				for _, name := range a.TaskNames() {
					fmt.Fprintln(cmd.OutOrStdout(), name)
				}
				return nil
			})
		}}
	cmd.AddCommand(run, list)
	return cmd
}
