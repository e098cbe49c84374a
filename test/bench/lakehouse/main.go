// Command lakehouse measures what a table costs its store, and whether it stays as
// fast as it was while it grows, on a real S3 store on this machine.
//
// Cost: 1, 10 and 100 connectors feed one table, each at the same rate, as those of one
// process do: through one appender. Every call of the store is counted, those of
// checkpoints included, and told per million rows: for the store as it is here, and for
// one that answers as late as those in data centers do.
//
// Growth: one writer commits a hundred thousand times, with maintenance running beside it
// (checkpoints, compaction, clean-up of the log, vacuum, all with retentions of seconds,
// so that they do happen). At 1k, 2k, 5k … commits it is measured: how long commits take,
// with maintenance and while that rests; how long a reader needs to see a new commit;
// how long the table takes to open; how much memory the writer holds.
//
//	go tool task bench:lakehouse
//	go run ./test/bench/lakehouse -n 10000 -store minio
//	go run ./test/bench/lakehouse -part cost -for 30s
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"
)

type config struct {
	store  string
	part   string
	n      int64
	window int
	length time.Duration
	far    time.Duration
	svg    string
	check  bool
}

// What -check holds a run against.
const (
	targetGrowth = 1.5 // commit p99 and refresh p50 at the end, of those at 1k
	targetOpen   = time.Second
	targetHeap   = 64 << 20 // of the writer's table
	targetCost   = 0.75     // PUTs a row at 100 connectors, of those at 1
)

func main() {
	var c config
	flag.StringVar(&c.store, "store", "embedded", "embedded or minio")
	flag.StringVar(&c.part, "part", "", "cost or growth; empty: both")
	flag.Int64Var(&c.n, "n", 100_000, "growth: commits")
	flag.IntVar(&c.window, "window", 1000, "growth: commits measured at each point, half of them while maintenance rests")
	flag.DurationVar(&c.length, "for", 20*time.Second, "cost: how long each number of connectors feeds the table")
	flag.DurationVar(&c.far, "far", 30*time.Millisecond, "cost: what a store in a data center adds to each request, for the second measurement")
	flag.StringVar(&c.svg, "svg", "", "growth: file to draw the curves in")
	flag.BoolVar(&c.check, "check", false, fmt.Sprintf("fail unless commit p99 and refresh p50 at the end are within %.1f of those at 1k, a cold open is under %v, the writer's memory under %d MiB, and a row at 100 connectors costs less than %.2f of the PUTs of one at 1",
		targetGrowth, targetOpen, targetHeap>>20, targetCost))
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, c, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:lakehouse:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c config, out io.Writer) (err error) {
	s, err := start(ctx, c.store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	var verdicts []error
	if c.part != "growth" {
		for _, far := range []time.Duration{0, c.far} {
			r, err := cost(ctx, c, s, far)
			if err != nil {
				return err
			}
			r.print(out)
			if far > 0 { // a store on this machine may be too fast for commits to have to wait
				verdicts = append(verdicts, r.verdict())
			}
		}
	}
	if c.part != "cost" {
		r, err := growth(ctx, c, s, out)
		if err != nil {
			return err
		}
		r.print(out)
		verdicts = append(verdicts, r.verdict())
		if c.svg != "" {
			if err := os.WriteFile(c.svg, r.draw(), 0o644); err != nil {
				return err
			}
		}
	}
	if c.check {
		return errors.Join(verdicts...)
	}
	return nil
}
