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
					fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%s\n", t.Name, t.Version, known(t.Rows), t.Files, t.Bytes, t.Committed.Format("2006-01-02 15:04:05.000"))
				}
				return w.Flush()
			})
		},
	}
	cmd.AddCommand(list, newTableShow(g), newTableHistory(g), newTableScan(g), newTableMaintain(g), newTableCheck(g), newTableDiff(g), newTableRestore(g), newRescore(g))
	return cmd
}
