package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newQuarantine(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quarantine",
		Short: "Look at rows that were turned away, and put them through again",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newQuarantineList(g), newQuarantineShow(g), newQuarantineReplay(g))
	return cmd
}

func newQuarantineList(g *global) *cobra.Command {
	var o app.QuarantineList
	cmd := &cobra.Command{
		Use:   "list TABLE",
		Short: "List the newest rows of TABLE_quarantine, or count them by rule",
		Example: "  tidemill quarantine list orders --counts\n" +
			"  tidemill quarantine list orders --where \"rule = 'wrong_type'\" -n 5",
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: completeTables(g, false),
		RunE: func(cmd *cobra.Command, a []string) error {
			log, err := g.logger()
			if err != nil {
				return err
			}
			if o.Limit < 1 {
				return usageError{fmt.Errorf("-n: %d, want 1 or more", o.Limit)}
			}
			o.Table, o.JSON = a[0], g.json
			return app.ListQuarantine(cmd.Context(), g.project(nil), o, log, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Where, "where", "", "SQL condition over the quarantine table's columns")
	f.IntVarP(&o.Limit, "rows", "n", 20, "how many rows")
	f.BoolVar(&o.All, "all", false, "also rows that were replayed")
	f.BoolVar(&o.Counts, "counts", false, "count rows by class and rule")
	return cmd
}

func newQuarantineShow(g *global) *cobra.Command {
	return &cobra.Command{
		Use:               "show TABLE POSITION",
		Short:             "Show a quarantined row whole: its bytes, where it came from, and why it was turned away",
		Example:           "  tidemill quarantine show orders http/~1:17",
		Args:              args(cobra.ExactArgs(2)),
		ValidArgsFunction: completeTables(g, false),
		RunE: func(cmd *cobra.Command, a []string) error {
			log, err := g.logger()
			if err != nil {
				return err
			}
			return app.ShowQuarantine(cmd.Context(), g.project(nil), a[0], a[1], g.json, log, cmd.OutOrStdout())
		},
	}
}

func newQuarantineReplay(g *global) *cobra.Command {
	var o app.ReplayOptions
	var file string
	cmd := &cobra.Command{
		Use:   "replay TABLE",
		Short: "Put quarantined rows through the same path again, by the ReplayQuarantine workflow",
		Long: `Takes rows out of TABLE_quarantine that decode and pass the checks today, repaired
by a Bloblang mapping if one is given, and lands them once more; rows that would
not pass stay. Each row lands once, whatever is cut off. The rows that were taken
keep their place in TABLE_quarantine, with the replay's id in the column replay.`,
		Example: "  tidemill quarantine replay orders --where \"rule = 'wrong_type'\" --repair 'root.amount = this.amount.number()' --dry-run\n" +
			"  tidemill quarantine replay orders --repair-file repair.blobl",
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: completeTables(g, false),
		RunE: func(cmd *cobra.Command, a []string) error {
			if file != "" {
				if o.Repair != "" {
					return usageError{errors.New("--repair and --repair-file: give one of them")}
				}
				src, err := os.ReadFile(file)
				if errors.Is(err, fs.ErrNotExist) {
					return usageError{fmt.Errorf("--repair-file: no file %s", file)}
				}
				if err != nil {
					return err
				}
				o.Repair = string(src)
			}
			return g.client(cmd, func(c *app.Client) error {
				o.Table = a[0]
				r, err := c.Replay(cmd.Context(), o)
				if err != nil {
					return err
				}
				if g.json {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
				}
				printReplay(cmd.OutOrStdout(), r, o.DryRun)
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Where, "where", "", "SQL condition over the quarantine table's columns; all rows by default")
	f.StringVar(&o.Repair, "repair", "", "Bloblang mapping over the row's bytes")
	f.StringVar(&file, "repair-file", "", "a file with that mapping")
	f.BoolVar(&o.DryRun, "dry-run", false, "say which rows would pass, and change nothing")
	return cmd
}

func printReplay(out io.Writer, r app.Replayed, dryRun bool) {
	if dryRun {
		fmt.Fprintf(out, "%s: %d of %d rows would pass\n", r.Table, r.Marked, r.Chosen)
	} else {
		fmt.Fprintf(out, "%s: %d of %d rows taken out of quarantine, %d landed; replay %s\n", r.Table, r.Marked, r.Chosen, r.Landed, r.ID)
	}
	if r.Back > 0 {
		fmt.Fprintf(out, "%d rows were turned away once more: the contract has changed meanwhile\n", r.Back)
	}
	if r.Waiting > 0 {
		fmt.Fprintf(out, "%d rows were left, since the pipeline is not done with them; try again\n", r.Waiting)
	}
	if r.Kept > 0 {
		fmt.Fprintf(out, "%d rows stay, since they would not pass:\n", r.Kept)
		for _, rule := range slices.Sorted(maps.Keys(r.Rules)) {
			fmt.Fprintf(out, "  %6d  %s\n", r.Rules[rule], rule)
		}
		fmt.Fprintf(out, "one of them: %s\n", r.Example)
	}
}
