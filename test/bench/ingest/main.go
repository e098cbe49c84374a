// Command ingest measures the way from raw JSON bytes to scored Parquet: a file
// of newline-separated card transactions, ten columns and about 200 bytes each,
// goes through the product binary with a `file` connector, one check, and a
// small model in its own process, until all of it is in the scored table.
//
// It reports rows a second of wall time, from the moment the product is up until
// the last row is scored; where the product's CPU time went, by stage, from a CPU
// profile of the whole run; CPU and memory of each process; and, beside it in the
// same run and on the same bytes, Arrow's own JSON reader against the connector's
// decoder, each on one core.
//
//	go tool task bench:ingest
//	go run ./test/bench/ingest -rows 10000000 -features
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/tidemill/tidemill/test/bench/harness"
)

type config struct {
	binary   string
	rows     int64
	features bool
	profile  string
	keep     bool
	json     bool
	check    bool
}

// What -check holds a run against.
const (
	targetRate   = 150_000 // rows a second
	targetRSS    = 1 << 30 // of the product
	targetDecode = 3.0     // times arrow's reader
)

func main() {
	var c config
	flag.StringVar(&c.binary, "binary", "", "product binary (default bin/tidemill)")
	flag.Int64Var(&c.rows, "rows", 8_000_000, "rows of the file")
	flag.BoolVar(&c.features, "features", false, "compute features too")
	flag.StringVar(&c.profile, "profile", "", "directory to keep the product's profiles in")
	flag.BoolVar(&c.keep, "keep", false, "keep the project's directory")
	flag.BoolVar(&c.json, "json", false, "print the result once more, as JSON, on the last line")
	flag.BoolVar(&c.check, "check", false, fmt.Sprintf("fail unless at least %d rows/s, less than %d MiB, decoding %v times as fast as arrow", targetRate, targetRSS>>20, targetDecode))
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, "bench:ingest:", err)
		os.Exit(1)
	}
}

// result of a run.
type result struct {
	Rows        int64   `json:"rows"`
	Bytes       int64   `json:"bytes"`
	Scored      int64   `json:"scored"`
	Distinct    int64   `json:"scored_distinct"`
	Quarantined int64   `json:"quarantined"`
	Seconds     float64 `json:"seconds"`
	Rate        float64 `json:"rows_per_second"`
	DecodeRate  float64 `json:"decode_rows_per_second"`
	ArrowRate   float64 `json:"arrow_reader_rows_per_second"`

	CPU     map[string]float64       `json:"product_cpu_seconds_by_stage"`
	Parts   map[string]harness.Usage `json:"parts"`
	PeakRSS int64                    `json:"peak_rss_bytes"`
}

func run(ctx context.Context, c config) error {
	binary, err := harness.Binary(c.binary)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tidemill-ingest-")
	if err != nil {
		return err
	}
	if c.keep {
		fmt.Println("project:", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	r := &result{Rows: c.rows}
	input := filepath.Join(dir, "rows.ndjson")
	if r.Bytes, err = generate(input, c.rows); err != nil {
		return err
	}
	fmt.Printf("%d rows, %d MB of JSON, features %t\n", r.Rows, r.Bytes/1e6, c.features)
	connector := fmt.Sprintf("input:\n  file: {paths: [%q]}\noutput:\n  lakehouse: {table: %s}\n", input, harness.Table)
	if err := harness.WriteProject(dir, connector, harness.Features(c.features)); err != nil {
		return err
	}
	metrics, tree, err := r.ingest(ctx, c, binary, dir)
	if err != nil {
		return err
	}
	if err := r.count(ctx, binary, dir); err != nil {
		return err
	}
	if r.DecodeRate, r.ArrowRate, err = sideBySide(input); err != nil {
		return err
	}
	r.print(os.Stdout, metrics, tree)
	if c.json {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		fmt.Println(string(line))
	}
	return r.verdict(c.check)
}

// ingest runs the product until it ends by itself.
func (r *result) ingest(ctx context.Context, c config, binary, dir string) (harness.Metrics, *harness.Tree, error) {
	p, err := harness.Start(ctx, binary, dir, "--exit-when-done", "--pprof")
	if err != nil {
		return nil, nil, err
	}
	start := time.Now()
	tree := harness.Watch(p.Pid())
	profile := make(chan []byte, 1)
	go func() { profile <- follow(ctx, p, c.profile) }()
	var metrics harness.Metrics
	done := time.Time{}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-ctx.Done():
			return nil, nil, errors.Join(ctx.Err(), p.Stop())
		case <-p.Done():
			running = false
		case <-tick.C:
			m, err := p.Metrics(ctx)
			if err != nil {
				continue // it is about to end
			}
			metrics = m
			if done.IsZero() && m.Sum("tidemill_rows_scored_total")+m.Sum("tidemill_rows_quarantined_total") >= float64(r.Rows) {
				done = time.Now()
			}
		}
	}
	if done.IsZero() {
		done = time.Now()
	}
	tree.Stop()
	if err := p.Err(); err != nil {
		return nil, nil, err
	}
	r.Seconds = done.Sub(start).Seconds()
	r.Rate = float64(r.Rows) / r.Seconds
	r.Parts, r.PeakRSS = tree.Usage()
	select {
	case data := <-profile:
		r.CPU = byStage(data)
	case <-time.After(10 * time.Second):
	}
	return metrics, tree, nil
}

// count asks the tables, when the product is gone, whether every row is in one of them.
func (r *result) count(ctx context.Context, binary, dir string) error {
	var n struct{ Scored, Distinct, Quarantined int64 }
	err := harness.SQL(ctx, binary, dir, `SELECT count(*) AS "Scored", count(DISTINCT tx_id) AS "Distinct",
		(SELECT count(*) FROM transactions_quarantine) AS "Quarantined" FROM transactions_scored`, &n)
	r.Scored, r.Distinct, r.Quarantined = n.Scored, n.Distinct, n.Quarantined
	return err
}

// generate writes the input.
func generate(file string, rows int64) (size int64, err error) {
	f, err := os.Create(file)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	at := time.Now().Add(-time.Hour).UTC()
	var buf []byte
	for i := range rows {
		ts := at.Add(time.Duration(i) * 250 * time.Microsecond).Format("2006-01-02T15:04:05.000Z")
		buf = harness.AppendRow(buf[:0], i, ts)
		size += int64(len(buf))
		if _, err := w.Write(buf); err != nil {
			return size, err
		}
	}
	return size, w.Flush()
}
