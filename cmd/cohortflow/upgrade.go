package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cohortflow/internal/app"
)

func upgradeQueriesCommand() *cobra.Command {
	var opts app.UpgradeOptions
	var changes string
	versions := app.QueryVersions()
	cmd := &cobra.Command{Use: "upgrade-queries", Short: "Bring stored queries and filters of earlier front-ends to the present version", Args: cobra.NoArgs,
		Long: `Tells of which versions the stored queries and saved filters of all users are, and what upgrading them would change; with
--apply, does it. The text before is kept in the history of each. Deleted ones, those that exports have made, those of a version
from which nothing leads to the wanted one, and those that cannot be read stay as they are. Repeating it does no harm.

--changes writes each change, as it would be or is made, as a line of JSON (table, uuid, before, after). The file says what
researchers ask about patients: only you can read it, and you should delete it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(versions, opts.To) {
				return fmt.Errorf("--to: %q is none of %s", opts.To, strings.Join(versions, ", "))
			}
			return ready(cmd.Context(), func(a *app.App) error {
				finish, err := writeChanges(changes, &opts)
				if err != nil {
					return err
				}
				counts, err := a.UpgradeQueries(cmd.Context(), opts)
				return errors.Join(showUpgrade(cmd.OutOrStdout(), counts, opts), err, finish())
			})
		}}
	cmd.Flags().StringVar(&opts.To, "to", versions[len(versions)-1], "the version: "+strings.Join(versions, ", "))
	cmd.Flags().BoolVar(&opts.Apply, "apply", false, "write; without it, only tell")
	cmd.Flags().BoolVar(&opts.Filters, "filters", true, "saved filters, too")
	cmd.Flags().StringVar(&changes, "changes", "", "a new file for what is, or would be, changed")
	return cmd
}

// writeChanges has every change written to a new file, which must be finished; "" is no file.
func writeChanges(path string, opts *app.UpgradeOptions) (finish func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the changes: %w", err)
	}
	buffer := bufio.NewWriter(file)
	lines := json.NewEncoder(buffer)
	lines.SetEscapeHTML(false)
	opts.Changed = func(row app.UpgradedRow) error { return lines.Encode(row) }
	return func() error { return errors.Join(buffer.Flush(), file.Close()) }, nil
}

// showUpgrade tells what became of which, or would.
func showUpgrade(out io.Writer, counts []app.UpgradeCount, opts app.UpgradeOptions) error {
	if len(counts) == 0 {
		fmt.Fprintln(out, "There are no stored queries.")
		return nil
	}
	slices.SortFunc(counts, func(a, b app.UpgradeCount) int {
		return cmp.Or(strings.Compare(b.Table, a.Table), strings.Compare(a.Version, b.Version))
	})
	upgraded := 0
	err := table(out, "STORED\tVERSION\tUP TO DATE\tTO "+opts.To+"\tOF THEM CHANGED\tNO WAY\tUNREADABLE", func(line func(string, ...any)) {
		for _, c := range counts {
			line("%s\t%s\t%d\t%d\t%d\t%d\t%d", c.Table, cmp.Or(c.Version, "none"), c.There, c.Upgraded, c.Rewritten, c.Left, c.Broken)
			upgraded += c.Upgraded
		}
	})
	if !opts.Apply && upgraded > 0 {
		fmt.Fprintln(out, "Nothing was written: add --apply.")
	}
	return err
}
