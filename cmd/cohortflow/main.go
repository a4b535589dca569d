// Command cohortflow is the operator's: it runs everything on a laptop (up), migrates and fills the database, and looks
// after jobs and tasks. Configuration: the environment (see .env.example).
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"cohortflow/internal/app"
)

func main() {
	root := &cobra.Command{Use: "cohortflow", Short: "Patient cohorts and data exports of a research data warehouse",
		SilenceUsage: true, SilenceErrors: true, Version: app.Version}
	root.AddCommand(upCommand(), simulateCommand(), migrateCommand(), adoptCommand(), loadCommand(), reloadCommand(), createAdminCommand(), generateUsersCommand(),
		syncCommand(), upgradeQueriesCommand(), taskCommand(), jobsCommand())
	entrypoint(root)
	app.Main(func() error {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return root.ExecuteContext(ctx)
	})
}
