package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newRun(g *global) *cobra.Command {
	var o app.RunOptions
	var roles []string
	cmd := &cobra.Command{
		Use:   "run [DIR]",
		Short: "Run a project against the Temporal cluster and the S3 store that tidemill.yaml names",
		Example: `  tidemill run shop
  tidemill run shop --roles worker`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			log, err := g.logger()
			if err != nil {
				return err
			}
			for _, r := range roles {
				switch r {
				case "connect":
					o.Connect = true
				case "worker":
					o.Worker = true
				default:
					return usageError{fmt.Errorf("--roles: %q is neither connect nor worker", r)}
				}
			}
			o.Dir, o.JSON, o.Out, o.Logger = g.project(a), g.json, cmd.OutOrStdout(), log
			return app.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().StringSliceVar(&roles, "roles", []string{"connect", "worker"}, "what this process does: "+strings.Join([]string{"connect", "worker"}, ", "))
	cmd.Flags().DurationVar(&o.Wait, "wait", 30*time.Second, "how long to wait for the store and Temporal at the start")
	cmd.Flags().BoolVar(&o.ExitWhenDone, "exit-when-done", false, "end once every connector's input has ended, all rows are scored, and sinks that are up have them")
	cmd.Flags().BoolVar(&o.Profiling, "pprof", false, "serve Go's profiles at /debug/pprof of the HTTP address")
	hide(cmd, "pprof")
	return cmd
}

// hide keeps a flag for developers of Tidemill out of the help.
func hide(cmd *cobra.Command, flag string) {
	if err := cmd.Flags().MarkHidden(flag); err != nil {
		panic(err) // there is no such flag
	}
}
