package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
	"github.com/tidemill/tidemill/internal/secret"
)

// global holds the flags that all commands take.
type global struct {
	dir       string
	json      bool
	logFormat string
	logLevel  string
}

func newRoot() *cobra.Command {
	g := &global{}
	root := &cobra.Command{
		Use:   "tidemill",
		Short: "Event streams to checked, scored, queryable Delta tables in under a second",
		Long: `Tidemill lands event streams in Delta tables on any S3 store, checks every
batch, scores it with ONNX models, and keeps the result queryable within a
second. Each row that comes in ends in exactly one of two tables: scored, or
quarantined with its raw bytes and the reason.

` + exitCodes,
		Example: `  tidemill demo                          # see it run
  tidemill init shop && tidemill dev shop
  tidemill -C shop sql "SELECT count(*) FROM orders_scored"`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          args(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := root.PersistentFlags()
	f.StringVarP(&g.dir, "dir", "C", "", "project directory (default: the current one)")
	f.BoolVar(&g.json, "json", false, "print JSON")
	f.StringVar(&g.logFormat, "log-format", "text", "format of the log on standard error: text or json")
	f.StringVar(&g.logLevel, "log-level", "info", "least level that is logged: debug, info, warn or error")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
	})
	root.AddCommand(newDemo(g), newInit(g), newDev(g), newRun(g), newLint(g), newStatus(g), newPlan(g), newContract(g), newConnector(g), newModel(g), newTable(g), newQuarantine(g), newSQL(g), newSchema())
	return root
}

// project returns the project directory: an argument goes before -C.
func (g *global) project(a []string) string {
	switch {
	case len(a) > 0:
		return a[0]
	case g.dir != "":
		return g.dir
	}
	return "."
}

func (g *global) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(g.logLevel)); err != nil {
		return nil, usageError{fmt.Errorf("--log-level: %q is none of debug, info, warn, error", g.logLevel)}
	}
	o := &slog.HandlerOptions{Level: level}
	switch g.logFormat {
	case "text":
		return slog.New(secret.Handler(slog.NewTextHandler(os.Stderr, o))), nil
	case "json":
		return slog.New(secret.Handler(slog.NewJSONHandler(os.Stderr, o))), nil
	}
	return nil, usageError{fmt.Errorf("--log-format: %q is neither text nor json", g.logFormat)}
}

// client connects to the running project for a command that asks or changes something.
func (g *global) client(cmd *cobra.Command, fn func(c *app.Client) error) error {
	log, err := g.logger()
	if err != nil {
		return err
	}
	c, err := app.Connect(cmd.Context(), g.project(nil), log)
	if err != nil {
		return err
	}
	defer c.Close()
	return fn(c)
}
