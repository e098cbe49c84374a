package main

import (
	"github.com/spf13/cobra"
)

func newConnector(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "connector",
		Short: "Try connectors on their real input, and run their unit tests",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConnectorTry(g), newConnectorTest(g))
	return cmd
}
