// Command tidemill turns event streams into checked, scored, queryable Delta
// tables. Each subcommand has a file of its own; what they do is internal/app's.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/secret"
)

// version is set by the linker.
var version = "dev"

// Exit codes, documented in `tidemill --help`.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitProblems    = 3
	exitUnavailable = 4
	exitInterrupted = 130
)

const exitCodes = `Exit codes:
  0    done
  1    an error; its text is on standard error
  2    wrong usage: unknown command, flag or argument
  3    problems in the project's files, listed as file:line: field: what to do
  4    something is not to be had: a port in use, the store or Temporal not reachable
  130  interrupted before it was done; dev, run and demo, which run until they are
       interrupted, end with 0`

func main() {
	if app.ModelWorker(os.Args) {
		return
	}
	os.Exit(run())
}

func run() int {
	log.SetOutput(secret.Writer(os.Stderr)) // of libraries
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	err := root.ExecuteContext(ctx)
	code := exitCode(ctx, err)
	if err != nil && code != exitInterrupted {
		fmt.Fprintln(os.Stderr, "tidemill: "+secret.Scrub(err.Error()))
	}
	return code
}

func exitCode(ctx context.Context, err error) int {
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case problem.Of(err) != nil:
		return exitProblems
	case errors.Is(err, app.ErrUnavailable):
		return exitUnavailable
	case ctx.Err() != nil:
		return exitInterrupted
	}
	return exitError
}

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// args wraps a check of arguments so that its errors count as wrong usage.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
		}
		return nil
	}
}
