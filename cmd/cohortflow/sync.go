package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"cohortflow/internal/app"
)

func syncCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "sync", Short: "Synchronise perimeters and accesses now, or see what that would change"}
	var dryRun bool
	cmd.PersistentFlags().BoolVar(&dryRun, "dry-run", false, "print the differences, and change nothing")
	for _, source := range []struct{ name, short string }{
		{"fhir", "Perimeters from the organizations of the FHIR server"},
		{"omop", "Perimeters from the OMOP database (PERIMETERS_SOURCE_DB_*)"},
		{"orbis", "Accesses from the hospital's directory"},
	} {
		cmd.AddCommand(&cobra.Command{Use: source.name, Short: source.short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			return ready(cmd.Context(), func(a *app.App) error {
				report, err := a.Synchronise(cmd.Context(), source.name, dryRun)
				if err == nil {
					fmt.Fprintln(cmd.OutOrStdout(), report)
				}
				return err
			})
		}})
	}
	return cmd
}
