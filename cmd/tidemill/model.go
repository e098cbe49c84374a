package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newModel(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "model",
		Short: "Register and list ONNX models",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var alias, table string
	register := &cobra.Command{
		Use:     "register NAME FILE",
		Short:   "Put a model through the gate and make it a version, by the RegisterModel workflow",
		Example: "  tidemill model register fraud fraud.onnx --alias champion",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return g.client(cmd, func(c *app.Client) error {
				r, err := c.RegisterModel(cmd.Context(), a[0], g.file(a[1]), alias, table)
				if err != nil {
					return err
				}
				out := cmd.OutOrStdout()
				if g.json {
					return json.NewEncoder(out).Encode(r)
				}
				for _, ch := range r.Checks {
					fmt.Fprintf(out, "passed  %-14s  %s\n", ch.Name, ch.Detail)
				}
				fmt.Fprintf(out, "%s@%d  sha256 %s", r.Name, r.Version, r.SHA256)
				if r.Alias != "" {
					fmt.Fprintf(out, "  is now %s@%s", r.Name, r.Alias)
				}
				fmt.Fprintln(out)
				return nil
			})
		},
	}
	register.Flags().StringVar(&alias, "alias", "", "alias to move to the new version, such as champion")
	register.Flags().StringVar(&table, "table", "", "check against this contract only")
	list := &cobra.Command{
		Use:     "list",
		Short:   "List registered versions and aliases",
		Example: "  tidemill model list --json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.client(cmd, func(c *app.Client) error {
				ms, err := c.Models(cmd.Context())
				if err != nil {
					return err
				}
				if g.json {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(ms)
				}
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "MODEL\tVERSION\tALIASES\tBYTES\tREGISTERED\tSHA256")
				for _, m := range ms {
					fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\t%s\n", m.Name, m.Version, m.Aliases, m.Bytes, m.CreatedAt.Format("2006-01-02 15:04:05"), m.SHA256)
				}
				return w.Flush()
			})
		},
	}
	cmd.AddCommand(register, list)
	return cmd
}
