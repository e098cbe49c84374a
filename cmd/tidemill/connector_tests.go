package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newConnectorTest(g *global) *cobra.Command {
	o := app.TestOptions{}
	verbose := false
	cmd := &cobra.Command{
		Use:   "test [PATH ...]",
		Short: "Run the unit tests of connectors, from raw bytes to scored and quarantined rows",
		Long: `Test runs the tests in connectors/NAME_test.yaml, and those that a connector holds
itself under tests:. Each gives messages in the place of the input, and says which rows
the scored and the quarantine table would get. Processors, decoding, checks, features
and the model (as tidemill.yaml names its file) are the real ones, unless the test
mocks them. No store, no Temporal and no source is needed.

PATH is a project's directory, a connector, or a file of tests; by default the project.
A test that fails shows what differs, with file and line, and the command ends with 1.`,
		Example: `  tidemill connector test
  tidemill connector test connectors/orders_test.yaml --run negative`,
		RunE: func(cmd *cobra.Command, a []string) error {
			if _, err := regexp.Compile(o.Run); err != nil {
				return usageError{fmt.Errorf("--run: %w", err)}
			}
			var err error
			if o.Logger, err = g.logger(); err != nil {
				return err
			}
			o.Paths = []string{g.project(nil)}
			if len(a) > 0 {
				o.Paths = nil
				for _, p := range a {
					o.Paths = append(o.Paths, g.file(p))
				}
			}
			results, err := app.TestConnectors(cmd.Context(), o)
			if err != nil {
				return err
			}
			return reportTests(cmd, g.json, verbose, results)
		},
	}
	cmd.Flags().StringVar(&o.Run, "run", "", "run only tests whose names match this regular expression")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "name the tests that pass, too")
	return cmd
}

func reportTests(cmd *cobra.Command, asJSON, verbose bool, results []app.TestResult) error {
	failed := 0
	for _, r := range results {
		if !r.Passed {
			failed++
		}
	}
	out := cmd.OutOrStdout()
	if asJSON {
		if err := json.NewEncoder(out).Encode(map[string]any{"tests": results, "passed": len(results) - failed, "failed": failed}); err != nil {
			return err
		}
	} else {
		for _, r := range results {
			switch {
			case !r.Passed:
				fmt.Fprint(out, r.Text())
			case verbose:
				fmt.Fprintf(out, "ok    %s:%d  %s\n", r.File, r.Line, r.Name)
			}
		}
		fmt.Fprintf(out, "%d passed, %d failed\n", len(results)-failed, failed)
	}
	switch {
	case failed > 0:
		return errors.New("tests failed")
	case len(results) == 0:
		return errors.New("no tests found; write connectors/NAME_test.yaml beside connectors/NAME.yaml")
	}
	return nil
}
