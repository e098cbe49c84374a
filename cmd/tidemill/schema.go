package main

import (
	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema connector|contract|project|test",
		Short: "Print the JSON Schema of a kind of file, for editors",
		Long: `Schema prints the JSON Schema of connectors, of contracts, of tidemill.yaml, or of
connectors' unit tests. An editor with a YAML language server completes and checks the
files with it, by a first line such as

  # yaml-language-server: $schema=../schemas/connector.json

tidemill init writes all of them into the project's schemas/.`,
		Example:   "  tidemill schema connector > schemas/connector.json",
		Args:      args(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
		ValidArgs: []string{"connector", "contract", "project", "test"},
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
