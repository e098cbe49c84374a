package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newDemo(g *global) *cobra.Command {
	var o app.DemoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run two example projects with everything embedded, and show what happens",
		Long: `Starts a Temporal server with its web UI, an S3 store, connectors and a worker
in this one process, and runs two projects at once: card transactions scored
for fraud, and the live telemetry of this machine scored for anomalies.`,
		Example: `  tidemill demo
  tidemill demo --for 20s --json | tail -1`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := g.logger()
			if err != nil {
				return err
			}
			o.JSON, o.Out, o.Logger = g.json, cmd.OutOrStdout(), log
			return app.Demo(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.For, "for", 0, "end by itself after this long (0: run until interrupted)")
	f.StringVar(&o.Dir, "state", ".tidemill/demo", "directory for the demo's state; emptied at the start")
	f.BoolVar(&o.FreePorts, "free-ports", false, "take any free ports instead of the default ones")
	f.DurationVar(&o.Every, "every", time.Second, "time between two status lines")
	return cmd
}
