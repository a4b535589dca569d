package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"cohortflow/internal/app"
	"cohortflow/internal/platform/database"
)

// quiet is the logger of commands: warnings, in words.
func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// with builds an application that runs nothing, for one command.
func with(ctx context.Context, f func(a *app.App) error) error {
	cfg, err := app.FromEnvironment()
	if err != nil {
		return err
	}
	if cfg.DatabaseURL() == "" {
		return fmt.Errorf("no database is configured: set DATABASE_URL, or DB_HOST, DB_NAME, DB_USER and DB_PASSWORD")
	}
	a, err := app.New(ctx, cfg, app.Options{Log: quiet()})
	if err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = a.Stop(stopping)
	}()
	return f(a)
}

// ready is with, on a database that has its tables.
func ready(ctx context.Context, f func(a *app.App) error) error {
	return with(ctx, func(a *app.App) error {
		if err := a.Inspect(ctx); err != nil {
			return err
		}
		return f(a)
	})
}

func migrateCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{Use: "migrate", Short: "Create or adopt the database", Args: cobra.NoArgs,
		Long: "Creates the tables in an empty database; recognises that of the system being replaced, adds only tables of its own\n(engine_*), and changes none of its rows.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return migrate(cmd, database.MigrateOptions{DryRun: dryRun})
		}}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done, and do nothing")
	return cmd
}

func migrate(cmd *cobra.Command, opts database.MigrateOptions) error {
	return with(cmd.Context(), func(a *app.App) error {
		report, err := a.Migrate(cmd.Context(), opts)
		if err != nil {
			return err
		}
		fmt.Fprint(cmd.OutOrStdout(), report)
		return nil
	})
}

func loadCommand() *cobra.Command {
	var perimeters string
	cmd := &cobra.Command{Use: "load-initial-data", Aliases: []string{"load_initial_data"}, Args: cobra.NoArgs,
		Short: "Load the perimeters, the administrator and the accounts of QueryExecutor and the ETL",
		RunE:  func(cmd *cobra.Command, _ []string) error { return load(cmd, perimeters) }}
	cmd.Flags().StringVar(&perimeters, "perimeters", "", "the file of perimeters (CSV, separated by semicolons)")
	cmd.Flags().StringVar(&perimeters, "perimeters-conf", "", "the same, under its former name")
	cmd.MarkFlagsOneRequired("perimeters", "perimeters-conf")
	return cmd
}

func load(cmd *cobra.Command, perimeters string) error {
	file, err := os.Open(perimeters)
	if err != nil {
		return fmt.Errorf("read the perimeters: %w", err)
	}
	defer func() { _ = file.Close() }()
	return ready(cmd.Context(), func(a *app.App) error {
		lines, err := a.LoadInitialData(cmd.Context(), file)
		for _, line := range lines {
			fmt.Fprintln(cmd.OutOrStdout(), line)
		}
		return err
	})
}

func reloadCommand() *cobra.Command {
	return &cobra.Command{Use: "reload-perimeters FILE", Short: "Make the tree of perimeters exactly what a file says", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("read the perimeters: %w", err)
			}
			defer func() { _ = file.Close() }()
			return ready(cmd.Context(), func(a *app.App) error {
				n, err := a.Access().ReloadPerimeters(cmd.Context(), file)
				if err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "The tree has the %d perimeters of the file.\n", n)
				}
				return err
			})
		}}
}

func createAdminCommand() *cobra.Command {
	var username, password string
	cmd := &cobra.Command{Use: "create-admin", Aliases: []string{"create_user_admin"}, Short: "Create an administrator, or give one every right again", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ready(cmd.Context(), func(a *app.App) error {
				return a.Access().CreateAdmin(cmd.Context(), username, password)
			})
		}}
	cmd.Flags().StringVar(&username, "username", "420123456", "")
	cmd.Flags().StringVar(&password, "password", "TEST", "")
	return cmd
}

func generateUsersCommand() *cobra.Command {
	var count int
	var perimeter, role int64
	cmd := &cobra.Command{Use: "generate-users", Aliases: []string{"generate_fictive_users"}, Short: "Create invented users with an access each", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ready(cmd.Context(), func(a *app.App) error {
				names, err := a.Access().GenerateUsers(cmd.Context(), count, perimeter, role)
				for _, name := range names {
					fmt.Fprintln(cmd.OutOrStdout(), name)
				}
				return err
			})
		}}
	cmd.Flags().IntVar(&count, "count", 12, "how many")
	cmd.Flags().Int64Var(&perimeter, "perimeter_id", 1234567890, "on which perimeter")
	cmd.Flags().Int64Var(&role, "role_id", 4, "with which role")
	return cmd
}
