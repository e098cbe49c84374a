package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newConnectorTry(g *global) *cobra.Command {
	o := app.TryOptions{}
	cmd := &cobra.Command{
		Use:   "try FILE",
		Short: "Read some rows of a connector's real input, and show what would become of them",
		Long: `Try runs the connector's input and processors, decodes what they give, and runs the
contract's checks, features and model, the model as tidemill.yaml names its file. It
shows the rows that would land and pass, and those that would be quarantined and why.

Nothing is landed and no message is acked: consumer groups stay where they are, queues
get back what was read, files stay. What reading leaves behind all the same is said at
the end; inputs that take messages away by reading them are refused. No store and no
Temporal is needed.`,
		Example: `  tidemill connector try connectors/orders.yaml -n 20
  tidemill -C shop connector try connectors/orders.yaml --for 5s --json`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if o.Rows < 1 || o.Rows > maxTried {
				return usageError{fmt.Errorf("-n must be between 1 and %d; see `%s --help`", maxTried, cmd.CommandPath())}
			}
			if o.Within <= 0 {
				return usageError{fmt.Errorf("--for must be above zero; see `%s --help`", cmd.CommandPath())}
			}
			var err error
			if o.Logger, err = g.logger(); err != nil {
				return err
			}
			o.File, o.Progress = g.file(a[0]), cmd.ErrOrStderr()
			t, err := app.Try(cmd.Context(), o)
			if err != nil {
				return err
			}
			if g.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(t)
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), t.Text(app.TerminalWidth()))
			return err
		},
	}
	cmd.Flags().IntVarP(&o.Rows, "rows", "n", 20, "how many rows to read")
	cmd.Flags().DurationVar(&o.Within, "for", 30*time.Second, "how long to wait for them")
	return cmd
}

// maxTried bounds what a look keeps in memory.
const maxTried = 10_000

// file is a file that an argument names, relative to -C or, when only that is there, to the
// current directory, as a shell completes it.
func (g *global) file(name string) string {
	if g.dir == "" || filepath.IsAbs(name) {
		return name
	}
	inside := filepath.Join(g.dir, name)
	if _, err := os.Stat(inside); err != nil {
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	return inside
}
