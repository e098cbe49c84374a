package main

import (
	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newDev(g *global) *cobra.Command {
	var o app.DevOptions
	cmd := &cobra.Command{
		Use:   "dev [DIR]",
		Short: "Run a project with everything embedded; state stays under DIR/.tidemill",
		Example: `  tidemill dev shop
  tidemill dev shop --free-ports`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			log, err := g.logger()
			if err != nil {
				return err
			}
			o.Dir, o.JSON, o.Out, o.Logger = g.project(a), g.json, cmd.OutOrStdout(), log
			return app.Dev(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&o.FreePorts, "free-ports", false, "take any free ports instead of the configured ones")
	cmd.Flags().BoolVar(&o.ExitWhenDone, "exit-when-done", false, "end once every connector's input has ended, all rows are scored, and sinks that are up have them")
	cmd.Flags().BoolVar(&o.Profiling, "pprof", false, "serve Go's profiles at /debug/pprof of the HTTP address")
	hide(cmd, "pprof")
	return cmd
}
