package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newTable(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "table",
		Short: "Look at tables: snapshots, files, versions; maintain and restore them",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	list := &cobra.Command{
		Use: "list", Short: "List the project's tables", Example: "  tidemill table list", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.client(cmd, func(c *app.Client) error {
				ts, err := c.Tables(cmd.Context())
				if err != nil {
					return err
				}
				if g.json {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(ts)
				}
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "TABLE\tVERSION\tROWS\tFILES\tBYTES\tLAST COMMIT")
				for _, t := range ts {
					fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\n", t.Name, t.Version, t.Rows, t.Files, t.Bytes, t.Committed.Format("2006-01-02 15:04:05.000"))
				}
				return w.Flush()
			})
		},
	}
	show := &cobra.Command{
		Use: "show TABLE", Short: "Show a table's snapshot: schema, files, positions taken in", Example: "  tidemill table show orders_scored", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return g.client(cmd, func(c *app.Client) error {
				t, err := c.Table(cmd.Context(), a[0])
				if err != nil {
					return err
				}
				out := cmd.OutOrStdout()
				if g.json {
					return json.NewEncoder(out).Encode(t)
				}
				fmt.Fprintf(out, "%s  version %d of %s\n%d rows in %d files, %d bytes, at %s\n\n", t.Name, t.Version, t.Committed.Format("2006-01-02 15:04:05.000"), t.Rows, t.Files, t.Bytes, t.Location)
				w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "COLUMN\tTYPE\tNULLABLE")
				for _, col := range t.Columns {
					fmt.Fprintf(w, "%s\t%s\t%v\n", col.Name, col.Type, col.Nullable)
				}
				if err := w.Flush(); err != nil || len(t.Transactions) == 0 {
					return err
				}
				fmt.Fprintln(w, "\nSOURCE\tIN UP TO")
				for _, x := range t.Transactions {
					fmt.Fprintf(w, "%s\t%d\n", x.AppID, x.Version)
				}
				return w.Flush()
			})
		},
	}
	var limit int
	history := &cobra.Command{
		Use: "history TABLE", Short: "List a table's versions, newest first", Example: "  tidemill table history orders -n 5", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return g.client(cmd, func(c *app.Client) error {
				hs, err := c.History(cmd.Context(), a[0], limit)
				if err != nil {
					return err
				}
				if g.json {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(hs)
				}
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "VERSION\tTIME\tOPERATION\tFILES\tROWS\tBYTES")
				for _, h := range hs {
					fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%d\t%d\n", h.Version, h.Time.Format("2006-01-02 15:04:05.000"), h.Operation, h.Files, h.Rows, h.Bytes)
				}
				return w.Flush()
			})
		},
	}
	history.Flags().IntVarP(&limit, "limit", "n", 20, "versions to list at most (0: all)")
	cmd.AddCommand(list, show, history, newTableMaintain(g), newTableDiff(g), newTableRestore(g), newRescore(g))
	return cmd
}
