package main

import (
	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:       "schema contract|project",
		Short:     "Print the JSON Schema of contracts or of tidemill.yaml, for editors",
		Example:   "  tidemill schema contract > contract.schema.json",
		Args:      args(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
		ValidArgs: []string{"contract", "project"},
		RunE: func(cmd *cobra.Command, a []string) error {
			s, err := app.Schema(a[0])
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(append(s, '\n'))
			return err
		},
	}
}
