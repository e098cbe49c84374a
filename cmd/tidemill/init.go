package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newInit(g *global) *cobra.Command {
	return &cobra.Command{
		Use:     "init DIR",
		Short:   "Write a new project directory with comments that teach",
		Example: "  tidemill init shop\n  tidemill dev shop",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			files, err := app.Init(a[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if g.json {
				return json.NewEncoder(out).Encode(map[string]any{"dir": a[0], "files": files})
			}
			for _, f := range files {
				fmt.Fprintln(out, f)
			}
			fmt.Fprintf(out, "\nNext: tidemill dev %s\n", a[0])
			return nil
		},
	}
}
