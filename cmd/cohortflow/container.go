package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"cohortflow/internal/app"
	"cohortflow/internal/platform/database"
)

// perimetersFile is where compositions for the system being replaced mount the perimeters.
const perimetersFile = "/perimeters.csv"

// container are the flags with which compositions start the image of the system being replaced (system.md 19).
type container struct{ scheduler, migrate, initialData, logReceiver, noServer, kerberos bool }

// entrypoint has the command without a name be the entry point of such a composition.
func entrypoint(root *cobra.Command) {
	var c container
	flags := root.Flags()
	for _, f := range []struct {
		target *bool
		letter string
		name   string
		doc    string
	}{
		{&c.scheduler, "b", "with-scheduler", "run the scheduler, too"},
		{&c.migrate, "d", "with-migration", "create or adopt the database first"},
		{&c.initialData, "i", "with-initial-data", "then load " + perimetersFile + " and the first accounts; a failure is told, and does not stop the start"},
		{&c.logReceiver, "l", "log-receiver", "accepted: logs go to the standard error output, there is nothing to receive"},
		{&c.noServer, "n", "no-server", "end after the migration and the initial data"},
		{&c.kerberos, "k", "kerberos", "accepted: credentials of hdfs:// are in its URL"},
	} {
		flags.BoolVarP(f.target, f.name, f.letter, false, f.doc)
		flags.Lookup(f.name).Hidden = true
	}
	root.Args = cobra.NoArgs
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().NFlag() == 0 {
			return cmd.Help()
		}
		return c.run(cmd)
	}
}

// run does what the old image did, in its order: migration, initial data, the processes.
func (c container) run(cmd *cobra.Command) error {
	if c.migrate {
		if err := migrate(cmd, database.MigrateOptions{}); err != nil {
			return err
		}
	}
	if c.initialData {
		if err := load(cmd, perimetersFile); err != nil {
			fmt.Fprintf(os.Stderr, "the initial data were not loaded: %v\n", err)
		}
	}
	if c.noServer {
		return nil
	}
	return app.Run("container", app.Roles{API: true, Worker: true, Scheduler: c.scheduler}, os.Stderr)
}
