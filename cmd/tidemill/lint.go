package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
	"github.com/tidemill/tidemill/internal/problem"
)

func newLint(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "lint [DIR]",
		Short: "Check connectors and contracts; every problem at once, as file:line: field: what to do",
		Example: `  tidemill lint shop
  tidemill lint shop --json`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			err := app.Lint(cmd.Context(), g.project(a))
			out := cmd.OutOrStdout()
			if g.json {
				ps := problem.Of(err)
				if ps == nil && err != nil {
					return err
				}
				if jerr := json.NewEncoder(out).Encode(map[string]any{"problems": append(problem.List{}, ps...)}); jerr != nil {
					return jerr
				}
				return err
			}
			if err == nil {
				fmt.Fprintln(out, "no problems")
			}
			return err
		},
	}
}
