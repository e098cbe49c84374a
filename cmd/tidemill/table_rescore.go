package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newRescore(g *global) *cobra.Command {
	var where string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "rescore TABLE",
		Short: "Score rows of a scored table again, by the Rescore workflow",
		Long: `Rescore brings the rows of TABLE_scored up to today's contract and model, after
an alias has moved, say. Rows that are up to date are left alone, and so are rows
that the contract or the model refuses today. Files that cannot hold a row to be
scored are skipped by partition and statistics.`,
		Example: "  tidemill table rescore orders --where \"ts >= TIMESTAMP '2026-01-01'\"",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return g.client(cmd, func(c *app.Client) error {
				r, err := c.Rescore(cmd.Context(), a[0], where, dryRun)
				if err != nil {
					return err
				}
				out := cmd.OutOrStdout()
				if g.json {
					return json.NewEncoder(out).Encode(r)
				}
				did := "scored again"
				if dryRun {
					did = "to be scored again"
				}
				fmt.Fprintf(out, "%s: %d rows %s with %s@%d; %d files looked into, %d skipped\n", r.Table, r.Rows, did, r.Model, r.Version, r.Files, r.Skipped)
				if r.Kept > 0 {
					fmt.Fprintf(out, "%d rows are refused today (most by %s) and stay as they were\n", r.Kept, r.Rule)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&where, "where", "", "SQL condition over the scored table's columns")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only count the rows")
	return cmd
}
