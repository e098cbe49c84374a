package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newContractInfer(g *global) *cobra.Command {
	o := app.InferOptions{}
	cmd := &cobra.Command{
		Use:   "infer FILE",
		Short: "Propose a contract from a sample of real messages",
		Long: `Infer looks at messages and prints a contract that all of them fit: columns with the
narrowest type that takes every value, and required: true where every row has one. What
only a person can decide stands in comments: keys, the event time, exact decimals,
fields that cannot be columns.

FILE is a connector, whose input is read as connector try does, without acking anything;
a file with one JSON object a line; or - for standard input.`,
		Example: `  tidemill contract infer connectors/orders.yaml > tables/orders.yaml
  head -1000 events.ndjson | tidemill contract infer - --table events`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if o.Rows < 1 || o.Rows > maxInferred {
				return usageError{fmt.Errorf("-n must be between 1 and %d; see `%s --help`", maxInferred, cmd.CommandPath())}
			}
			var err error
			if o.Logger, err = g.logger(); err != nil {
				return err
			}
			o.In, o.Progress, o.File = cmd.InOrStdin(), cmd.ErrOrStderr(), a[0]
			if a[0] != "-" {
				o.File = g.file(a[0])
			}
			c, err := app.InferContract(cmd.Context(), o)
			if err != nil {
				return err
			}
			if g.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(c)
			}
			for _, n := range c.Notes {
				fmt.Fprintf(cmd.ErrOrStderr(), "note  %s\n", n)
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), c.Contract)
			return err
		},
	}
	cmd.Flags().IntVarP(&o.Rows, "rows", "n", 1000, "how many rows to look at")
	cmd.Flags().DurationVar(&o.Within, "for", 10*time.Second, "how long to wait for them")
	cmd.Flags().StringVar(&o.Table, "table", "", "the table's name (default: the connector's, or the file's name)")
	return cmd
}

// maxInferred bounds what a sample keeps in memory.
const maxInferred = 100_000
