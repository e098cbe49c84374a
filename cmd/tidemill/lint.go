package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
	"github.com/tidemill/tidemill/internal/problem"
)

func newLint(g *global) *cobra.Command {
	o := app.LintOptions{}
	cmd := &cobra.Command{
		Use:   "lint [DIR]",
		Short: "Check connectors, contracts and models; every problem at once, as file:line: field: what to do",
		Long: `Lint checks everything a project's files say without running any of it: connectors
against Benthos' own linter (Bloblang included) and the contracts that they name, their
unit tests, contracts with their SQL, and score: of a contract against the signature of
its model: inputs with their types, which features may have derived, and outputs.

Models are read from the files that tidemill.yaml names. Those that are in the registry
only are looked up there with --online, which needs the store. It also asks the schema
registries that connectors and sinks name for their subjects. What was not checked is said.`,
		Example: `  tidemill lint shop
  tidemill lint shop --online --json`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			o.Dir = g.project(a)
			var err error
			if o.Logger, err = g.logger(); err != nil {
				return err
			}
			unchecked, err := app.LintWith(cmd.Context(), o)
			out := cmd.OutOrStdout()
			if g.json {
				ps := problem.Of(err)
				if ps == nil && err != nil {
					return err
				}
				if jerr := json.NewEncoder(out).Encode(map[string]any{"problems": append(problem.List{}, ps...), "unchecked": append(problem.List{}, unchecked...)}); jerr != nil {
					return jerr
				}
				return err
			}
			for _, p := range unchecked {
				fmt.Fprintln(out, p.Error())
			}
			if err == nil {
				fmt.Fprintln(out, "no problems")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&o.Online, "online", false, "look models up in the registry, and subjects in schema registries, too")
	return cmd
}
