package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newSQL(g *global) *cobra.Command {
	var o app.SQLOptions
	var stats bool
	cmd := &cobra.Command{
		Use:   `sql "SELECT …"`,
		Short: "Query tables with DuckDB, straight from their logs and files",
		Long: `Runs one statement that reads. Of the tables that it names only those files are
fetched whose partition values and statistics leave room for rows that it needs;
--stats and EXPLAIN say how many were skipped.

A table's name may be followed by a version, FOR VERSION AS OF 12, or by a time,
FOR TIMESTAMP AS OF '2026-01-01 12:00:00'. Delta tables of other writers are read
by their path: delta_scan('s3://bucket/path'), in any directory.`,
		Example: `  tidemill sql "SELECT count(*) FROM orders_scored"
  tidemill sql --stats "SELECT * FROM orders_scored WHERE ts >= now() - INTERVAL 1 HOUR"
  tidemill sql "SELECT * FROM orders_scored FOR VERSION AS OF 12 ANTI JOIN orders_scored USING (id)"
  tidemill sql --format csv "SELECT * FROM orders_quarantine" > bad.csv
  tidemill sql "SELECT * FROM delta_scan('s3://lake/sales') LIMIT 10"`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if g.json {
				o.Format = "json"
			}
			switch o.Format {
			case "table", "json", "csv":
			default:
				return usageError{fmt.Errorf("--format: %q is none of table, json, csv", o.Format)}
			}
			log, err := g.logger()
			if err != nil {
				return err
			}
			if stats {
				o.Stats = cmd.ErrOrStderr()
			}
			return app.SQL(cmd.Context(), g.project(nil), a[0], o, log, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&o.Format, "format", "table", "table, json (one object per line) or csv")
	cmd.Flags().BoolVar(&stats, "stats", false, "say on standard error how many files of each table were read and skipped")
	return cmd
}
