package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"cohortflow/internal/access"
	"cohortflow/internal/app"
)

func syncCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "sync", Short: "Synchronise perimeters and accesses now, or see what that would change"}
	var dryRun bool
	cmd.PersistentFlags().BoolVar(&dryRun, "dry-run", false, "print the differences, and change nothing")
	add := func(use, short string, run func(ctx context.Context, s *access.Service) (fmt.Stringer, error)) {
		cmd.AddCommand(&cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			return ready(cmd.Context(), func(a *app.App) error {
				service := a.Access()
				if dryRun {
					service = service.Dry()
				}
				report, err := run(cmd.Context(), service)
				if err == nil {
					fmt.Fprintln(cmd.OutOrStdout(), report)
				}
				return err
			})
		}})
	}
	add("fhir", "Perimeters from the organizations of the FHIR server", func(ctx context.Context, s *access.Service) (fmt.Stringer, error) { return s.SyncFromFHIR(ctx) })
	add("omop", "Perimeters from the OMOP database (PERIMETERS_SOURCE_DB_*)", func(ctx context.Context, s *access.Service) (fmt.Stringer, error) { return s.SyncFromCareSites(ctx) })
	add("orbis", "Accesses from the hospital's directory", func(ctx context.Context, s *access.Service) (fmt.Stringer, error) { return s.SyncOrbis(ctx, "") })
	return cmd
}
