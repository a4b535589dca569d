package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"cohortflow/internal/app"
	"cohortflow/internal/app/embedded"
	"cohortflow/internal/config"
)

func upCommand() *cobra.Command {
	o := embedded.Options{Out: os.Stdout}
	cmd := &cobra.Command{Use: "up", Short: "Run everything in one process", Args: cobra.NoArgs,
		Long: `Runs API, worker and scheduler in one process.

With nothing configured it is the embedded default: an SQLite file, a Redis inside the process, simulators of every
outside system and a demo hospital. With DATABASE_URL or DB_* set it is the real thing, on that database and REDIS_URL or
CELERY_BROKER_URL, without simulators or demo accounts.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			environ, err := config.Environ()
			if err != nil {
				return err
			}
			cfg, err := config.Load(environ)
			if err != nil {
				return err
			}
			if cfg.DatabaseURL() == "" {
				o.Environ = environ
				return embedded.Run(cmd.Context(), o)
			}
			if o.Demo || o.Reset || o.Exit || cmd.Flags().Changed("data") {
				return errors.New("a database is configured (DATABASE_URL or DB_*): --demo, --exit, --reset and --data are for the embedded default only")
			}
			return app.Run("up", app.Roles{API: true, Worker: true, Scheduler: true}, os.Stderr)
		}}
	cmd.Flags().StringVar(&o.Dir, "data", ".cohortflow", "the data directory of the embedded default")
	cmd.Flags().BoolVar(&o.Reset, "reset", false, "delete the data of former runs first")
	cmd.Flags().BoolVar(&o.Demo, "demo", false, "play one complete workflow when it is up")
	cmd.Flags().BoolVar(&o.Exit, "exit", false, "end after the demonstration; the exit status tells how it went")
	return cmd
}
