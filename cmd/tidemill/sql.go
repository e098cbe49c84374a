package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newSQL(g *global) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   `sql "SELECT …"`,
		Short: "Query tables with DuckDB, straight from their logs and files",
		Example: `  tidemill sql "SELECT count(*) FROM orders_scored"
  tidemill sql --format csv "SELECT * FROM orders_quarantine" > bad.csv`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if g.json {
				format = "json"
			}
			switch format {
			case "table", "json", "csv":
			default:
				return usageError{fmt.Errorf("--format: %q is none of table, json, csv", format)}
			}
			return g.client(cmd, func(c *app.Client) error {
				return c.SQL(cmd.Context(), a[0], format, cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().StringVar(&format, "format", "table", "table, json (one object per line) or csv")
	return cmd
}
