package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

// completeTables completes a first argument: contracts, or all of their tables.
func completeTables(g *global, all bool) cobra.CompletionFunc {
	return func(_ *cobra.Command, a []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(a) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return app.TableNames(g.project(nil), all), cobra.ShellCompDirectiveNoFileComp
	}
}

func newTableMaintain(g *global) *cobra.Command {
	var o app.MaintainOptions
	cmd := &cobra.Command{
		Use:   "maintain TABLE",
		Short: "Expire rows, join files, clean up logs and files now, by the Maintain workflow",
		Long: `Runs the Maintain workflow for the tables of a contract: the scored, the
quarantine and the landed one. It runs by itself, too, as maintenance.every in
tidemill.yaml says. Given one of the three tables, it looks after that only.`,
		Example:           "  tidemill table maintain orders --orphans\n  tidemill table maintain orders --only orders_scored --steps compact,vacuum",
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: completeTables(g, true),
		RunE: func(cmd *cobra.Command, a []string) error {
			for _, s := range o.Steps {
				if !slices.Contains(app.MaintainSteps(), s) {
					return usageError{fmt.Errorf("--steps: %q is none of %s", s, strings.Join(app.MaintainSteps(), ", "))}
				}
			}
			return g.client(cmd, func(c *app.Client) error {
				o.Table = a[0]
				o.Told = func(line string) { fmt.Fprintln(cmd.ErrOrStderr(), line) }
				r, err := c.Maintain(cmd.Context(), o)
				if r.Workflow == "" {
					return err
				}
				return errors.Join(printMaintenance(cmd.OutOrStdout(), g.json, o.Wait, r), err)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Only, "only", "", "one of the contract's tables, such as orders_scored")
	f.StringSliceVar(&o.Steps, "steps", nil, "only these steps: "+strings.Join(app.MaintainSteps(), ", "))
	f.BoolVar(&o.Orphans, "orphans", false, "look for files that nothing names, too; it lists the whole table")
	f.BoolVar(&o.DryRun, "dry-run", false, "say what would expire and what would be vacuumed, and change nothing")
	_ = cmd.RegisterFlagCompletionFunc("steps", cobra.FixedCompletions(app.MaintainSteps(), cobra.ShellCompDirectiveNoFileComp))
	f.BoolVar(&o.Wait, "wait", true, "show progress and wait for the end; --wait=false starts it and returns")
	return cmd
}

func printMaintenance(out io.Writer, asJSON, waited bool, r app.Maintenance) error {
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	switch {
	case !waited:
		fmt.Fprintf(out, "started %s\n", r.Workflow)
		return nil
	case r.Skipped != "":
		fmt.Fprintf(out, "nothing was done: %s\n", r.Skipped)
		return nil
	case len(r.Tables) == 0:
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TABLE\tFILES\tBYTES\tROWS EXPIRED\tFILES JOINED\tVERSIONS CLEANED\tVACUUMED\tORPHANS\tFREED")
	for _, t := range r.Tables {
		c := t.Counts
		fmt.Fprintf(w, "%s\t%d -> %d\t%d -> %d\t%d\t%d\t%d\t%d\t%d\t%d\n", t.Table, t.Before.Files, t.After.Files, t.Before.Bytes, t.After.Bytes,
			c.RowsExpired, c.FilesJoined, c.Versions, c.Vacuumed, c.Orphans, c.BytesFreed)
	}
	return w.Flush()
}

func version64(name, text string) (int64, error) {
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil || v < 0 {
		return 0, usageError{fmt.Errorf("%s is %q, want a version: 0 or a whole number above, as `tidemill table history` lists them", name, text)}
	}
	return v, nil
}

func newTableDiff(g *global) *cobra.Command {
	return &cobra.Command{
		Use:               "diff TABLE V1 V2",
		Short:             "Compare two versions of a table: files, rows, columns, commits between them",
		Example:           "  tidemill table diff orders_scored 120 140",
		Args:              args(cobra.ExactArgs(3)),
		ValidArgsFunction: completeTables(g, true),
		RunE: func(cmd *cobra.Command, a []string) error {
			from, err1 := version64("V1", a[1])
			to, err2 := version64("V2", a[2])
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			return g.client(cmd, func(c *app.Client) error {
				d, err := c.Diff(cmd.Context(), a[0], from, to)
				if err != nil {
					return err
				}
				if g.json {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(d)
				}
				return printDiff(cmd.OutOrStdout(), d)
			})
		},
	}
}

func printDiff(out io.Writer, d app.TableDiff) error {
	fmt.Fprintf(out, "%s  version %d to %d\n+ %s\n- %s\n", d.Table, d.From, d.To, files(d.Added), files(d.Removed))
	for _, c := range d.Columns {
		fmt.Fprintf(out, "+ column %s %s\n", c.Name, c.Type)
	}
	if len(d.Commits) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nVERSION\tTIME\tOPERATION\tFILES\tROWS\tBYTES")
	for _, h := range d.Commits {
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%d\n", h.Version, h.Time.Format("2006-01-02 15:04:05.000"), h.Operation, h.Files, known(h.Rows), h.Bytes)
	}
	return w.Flush()
}

func files(f app.Files) string {
	return fmt.Sprintf("%d files, %d rows, %d bytes", f.Files, f.Rows, f.Bytes)
}

func newTableRestore(g *global) *cobra.Command {
	var yes, force bool
	cmd := &cobra.Command{
		Use:   "restore TABLE VERSION",
		Short: "Give a table the rows of an earlier version again, as a new version",
		Long: `Gives a table the rows again that it had at an earlier version, as a new
version: nothing is deleted, and a restore can be undone by another one. Rows
that a restore takes out do not come in again by themselves. Of a landed table
only what is scored may go, unless --force is given.`,
		Example:           "  tidemill table restore orders_scored 120",
		Args:              args(cobra.ExactArgs(2)),
		ValidArgsFunction: completeTables(g, true),
		RunE: func(cmd *cobra.Command, a []string) error {
			to, err := version64("VERSION", a[1])
			if err != nil {
				return err
			}
			return g.client(cmd, func(c *app.Client) error { return restore(cmd, g, c, a[0], to, yes, force) })
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&force, "force", false, "take rows out of a landed table though its pipeline has not seen them")
	return cmd
}

func restore(cmd *cobra.Command, g *global, c *app.Client, table string, to int64, yes, force bool) error {
	plan, err := c.PlanRestore(cmd.Context(), table, to)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	say := out
	if g.json {
		say = cmd.ErrOrStderr()
	}
	fmt.Fprintf(say, "%s is at version %d. Restoring version %d\n  brings back %s\n  takes out   %s\n", table, plan.From, plan.To, files(plan.Added), files(plan.Removed))
	if plan.Lag != "" {
		fmt.Fprintf(say, "  and %s\n", plan.Lag)
	}
	if plan.Added.Files+plan.Removed.Files == 0 {
		fmt.Fprintln(say, "There is nothing to do.")
		return nil
	}
	if (plan.Lag == "" || force) && !yes {
		if err := confirm(cmd.InOrStdin(), say); err != nil {
			return err
		}
	}
	done, err := c.Restore(cmd.Context(), plan, force)
	if err != nil {
		return err
	}
	if g.json {
		return json.NewEncoder(out).Encode(done)
	}
	fmt.Fprintf(out, "%s has the rows of version %d again, as version %d.\n", table, done.To, done.Version)
	return nil
}

// confirm asks a person. Where there is nobody to ask, the flag must say it.
func confirm(in io.Reader, out io.Writer) error {
	if f, ok := in.(*os.File); ok {
		if i, err := f.Stat(); err != nil || i.Mode()&os.ModeCharDevice == 0 {
			return usageError{errors.New("standard input is no terminal to ask at; give --yes")}
		}
	}
	fmt.Fprint(out, "Go on? [y/N] ")
	line, _ := bufio.NewReader(in).ReadString('\n') // an end without a line is a no
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("not restored")
}
