package main

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newTableCheck(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "check TABLE",
		Short: "Check a table's log, checkpoints, files and clocks",
		Long: `Check looks at everything a table is made of: whether the log has no gap and can be
read, whether checkpoints hold what the commits say, whether every file is there with
its size, and whether the writers' clocks went right. It changes nothing, and ends
with 1 when the newest version is not whole.

` + tableArgument,
		Example: "  tidemill table check orders_scored\n  tidemill table check s3://lake/shop/orders",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return g.table(cmd, a[0], func(t *app.Table) error {
				c, err := t.Check(cmd.Context())
				if err != nil {
					return err
				}
				out := cmd.OutOrStdout()
				if g.json {
					if err := json.NewEncoder(out).Encode(c); err != nil {
						return err
					}
				} else {
					for _, p := range c.Problems {
						kind := "problem "
						if p.Harmless {
							kind = "harmless"
						}
						fmt.Fprintf(out, "%s  %s: %s; %s\n", kind, p.Object, p.Message, p.Advice)
					}
					fmt.Fprintf(out, "%s: version %d, %d commits, %d checkpoints, %d files: %d problems\n", c.Name, c.Version, c.Commits, c.Checkpoints, c.Files, len(c.Problems))
				}
				if slices.ContainsFunc(c.Problems, func(p app.TableProblem) bool { return !p.Harmless }) {
					return fmt.Errorf("table %s is damaged", c.Name)
				}
				return nil
			})
		},
	}
}
