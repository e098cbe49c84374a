package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newContract(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "contract",
		Short: "Propose contracts, and list what rows have that contracts do not know",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	fields := &cobra.Command{
		Use:   "fields TABLE",
		Short: "List the fields that rows brought and the contract does not have, as lines to paste into it",
		Long: `With on_new_field: add, fields that a contract does not know become columns of its
tables. This lists them as lines to paste under columns: of the contract, with how
often they were seen and an example, and says which fields got no column and why.`,
		Example: "  tidemill contract fields orders",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return g.client(cmd, func(c *app.Client) error {
				f, err := c.ContractFields(cmd.Context(), a[0])
				if err != nil {
					return err
				}
				if g.json {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(f)
				}
				_, err = fmt.Fprint(cmd.OutOrStdout(), f.YAML())
				return err
			})
		},
	}
	cmd.AddCommand(fields, newContractInfer(g))
	return cmd
}
