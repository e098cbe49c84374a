package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

const tableArgument = `TABLE is the name of one of the project's tables; or, without any project, where a
Delta table lies: a path with a slash in it, a directory that is there, file:///path or
s3://bucket/path. S3 is reached as AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY say. Nothing is written to the table.`

// table opens a table for a command that looks at it.
func (g *global) table(cmd *cobra.Command, name string, fn func(t *app.Table) error) error {
	log, err := g.logger()
	if err != nil {
		return err
	}
	t, err := app.OpenTable(cmd.Context(), g.project(nil), name, log)
	if err != nil {
		return err
	}
	defer t.Close()
	return fn(t)
}

// known is a number for people, which may not be known.
func known(n *int64) string {
	if n == nil {
		return "?"
	}
	return strconv.FormatInt(*n, 10)
}

const timeColumn = "2006-01-02 15:04:05.000"

// atFlags say which version of a table is meant.
type atFlags struct {
	version   int64
	timestamp string
}

func (f *atFlags) add(cmd *cobra.Command) {
	cmd.Flags().Int64Var(&f.version, "version", -1, "version to read (default: the newest)")
	cmd.Flags().StringVar(&f.timestamp, "timestamp", "", "read the last version at or before it: 2026-01-31, 2026-01-31T12:00:00Z or 2026-01-31 12:00:00 (UTC)")
}

func (f *atFlags) at(cmd *cobra.Command) (app.At, error) {
	byVersion, byTime := cmd.Flags().Changed("version"), cmd.Flags().Changed("timestamp")
	switch {
	case byVersion && byTime:
		return app.At{}, usageError{fmt.Errorf("--version and --timestamp: give one of them")}
	case byVersion && f.version < 0:
		return app.At{}, usageError{fmt.Errorf("--version: %d is no version; they begin at 0", f.version)}
	case byVersion:
		return app.At{Version: &f.version}, nil
	case byTime:
		for _, layout := range []string{time.RFC3339Nano, time.DateTime, time.DateOnly} {
			if t, err := time.ParseInLocation(layout, f.timestamp, time.UTC); err == nil {
				return app.At{Time: &t}, nil
			}
		}
		return app.At{}, usageError{fmt.Errorf("--timestamp: %q is neither a date nor a time such as 2026-01-31T12:00:00Z", f.timestamp)}
	}
	return app.At{}, nil
}

func newTableShow(g *global) *cobra.Command {
	var at atFlags
	var files bool
	cmd := &cobra.Command{
		Use: "show TABLE", Short: "Show a table's snapshot: schema, files, positions taken in",
		Long: "Shows a table's newest version, or another: schema, size, properties, and the source\npositions that are in.\n\n" + tableArgument,
		Example: `  tidemill table show orders_scored
  tidemill table show --json --files s3://lake/sales/orders
  tidemill table show ./orders --version 12`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			at, err := at.at(cmd)
			if err != nil {
				return err
			}
			return g.table(cmd, a[0], func(t *app.Table) error {
				info, err := t.Show(cmd.Context(), at, files)
				if err != nil {
					return err
				}
				if g.json {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(info)
				}
				return printTable(cmd.OutOrStdout(), info)
			})
		},
	}
	at.add(cmd)
	cmd.Flags().BoolVar(&files, "files", false, "list the files, too: path, size, rows, partition, statistics (the last with --json)")
	return cmd
}

func printTable(out io.Writer, t app.TableInfo) error {
	fmt.Fprintf(out, "%s  version %d of %s\n%s rows in %d files, %d bytes, at %s\n\n", t.Name, t.Version, t.Committed.Format(timeColumn), known(t.Rows), t.Files, t.Bytes, t.Location)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COLUMN\tTYPE\tNULLABLE")
	for _, col := range t.Columns {
		fmt.Fprintf(w, "%s\t%s\t%v\n", col.Name, col.Type, col.Nullable)
	}
	if len(t.PartitionBy) > 0 {
		fmt.Fprintf(w, "\npartitioned by %s\n", strings.Join(t.PartitionBy, ", "))
	}
	if len(t.Transactions) > 0 {
		fmt.Fprintln(w, "\nSOURCE\tIN UP TO")
		for _, x := range t.Transactions {
			fmt.Fprintf(w, "%s\t%d\n", x.AppID, x.Version)
		}
	}
	if len(t.DataFiles) > 0 {
		fmt.Fprintln(w, "\nFILE\tROWS\tBYTES\tADDED BY")
		for _, f := range t.DataFiles {
			fmt.Fprintf(w, "%q\t%s\t%d\t%d\n", f.Path, known(f.Rows), f.Size, f.Version)
		}
	}
	return w.Flush()
}

func newTableHistory(g *global) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "history TABLE", Short: "List a table's versions, newest first",
		Long:    "Lists the versions of a table whose commits are in its log, newest first.\n\n" + tableArgument,
		Example: "  tidemill table history orders -n 5\n  tidemill table history file:///data/orders",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return g.table(cmd, a[0], func(t *app.Table) error {
				hs, err := t.History(cmd.Context(), limit)
				if err != nil {
					return err
				}
				if g.json {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(hs)
				}
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "VERSION\tTIME\tOPERATION\tFILES\tROWS\tBYTES")
				for _, h := range hs {
					fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%d\n", h.Version, h.Time.Format(timeColumn), h.Operation, h.Files, known(h.Rows), h.Bytes)
				}
				return w.Flush()
			})
		},
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "versions to list at most (0: all)")
	return cmd
}

func newTableScan(g *global) *cobra.Command {
	var at atFlags
	var columns []string
	var out string
	cmd := &cobra.Command{
		Use: "scan TABLE --out FILE", Short: "Write a table's rows to a Parquet file",
		Long: `Writes the rows of a table's newest version, or of another, to a Parquet file: the
table's columns in the table's order, those of its partitions among them. The file
appears when it is whole. With --out - it goes to standard output.

` + tableArgument,
		Example: `  tidemill table scan orders_scored --out orders.parquet
  tidemill table scan s3://lake/sales/orders --version 12 --columns id,amount --out - | duckdb …`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			at, err := at.at(cmd)
			if err != nil {
				return err
			}
			if out == "" {
				return usageError{fmt.Errorf("--out: name a file, or - for standard output")}
			}
			return g.table(cmd, a[0], func(t *app.Table) error {
				var done app.Scanned
				tell := cmd.ErrOrStderr()
				if out == "-" {
					done, err = t.ScanTo(cmd.Context(), at, columns, cmd.OutOrStdout())
				} else {
					done, err = t.Scan(cmd.Context(), at, columns, out)
				}
				switch {
				case err != nil:
					return err
				case g.json && out != "-":
					return json.NewEncoder(cmd.OutOrStdout()).Encode(done)
				case g.json:
					return json.NewEncoder(tell).Encode(done)
				}
				fmt.Fprintf(tell, "%d rows of version %d, from %d files\n", done.Rows, done.Version, done.Files)
				return nil
			})
		},
	}
	at.add(cmd)
	cmd.Flags().StringSliceVar(&columns, "columns", nil, "columns to write, in this order (default: all)")
	cmd.Flags().StringVarP(&out, "out", "o", "", "Parquet file to write; - is standard output")
	return cmd
}
