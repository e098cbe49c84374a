package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/tidemill/tidemill/test/bench/harness"
)

func (r *result) print(w io.Writer, m harness.Metrics, tree *harness.Tree) {
	fmt.Fprintf(w, "\n  %d rows in %.1f s: %.0f rows/s, %.0f MB/s of JSON\n", r.Rows, r.Seconds, r.Rate, float64(r.Bytes)/r.Seconds/1e6)
	fmt.Fprintf(w, "  %d scored, %d of them distinct, %d quarantined\n\n", r.Scored, r.Distinct, r.Quarantined)
	m.PrintStages(w)
	fmt.Fprintf(w, "\n  the product's CPU time by stage, from its CPU profile (children below)\n")
	names := slices.SortedFunc(maps.Keys(r.CPU), func(a, b string) int { return cmp.Compare(r.CPU[b], r.CPU[a]) })
	for _, name := range names {
		if s := r.CPU[name]; s >= 0.05 {
			fmt.Fprintf(w, "  %-20s %7.2f s  %6.2f µs/row\n", name, s, s/float64(r.Rows)*1e6)
		}
	}
	fmt.Fprintln(w)
	tree.Print(w)
	fmt.Fprintf(w, "\n  JSON to Arrow on one core: decoder %.2f M rows/s, arrow's reader %.2f M rows/s: %.1f times\n", r.DecodeRate/1e6, r.ArrowRate/1e6, r.DecodeRate/r.ArrowRate)
}

// verdict is nil when every row is in exactly one table, and with targets, when
// they are met.
func (r *result) verdict(targets bool) error {
	var errs []error
	failing := harness.Failing(r.Rows)
	if r.Scored != r.Rows-failing || r.Distinct != r.Scored || r.Quarantined != failing {
		errs = append(errs, fmt.Errorf("of %d rows %d are to be quarantined: %d scored, %d of them distinct, %d quarantined", r.Rows, failing, r.Scored, r.Distinct, r.Quarantined))
	}
	if targets && r.Rate < targetRate {
		errs = append(errs, fmt.Errorf("%.0f rows/s, the target is %d", r.Rate, targetRate))
	}
	if rss := r.Parts[harness.PartProduct].Peak; targets && rss >= targetRSS {
		errs = append(errs, fmt.Errorf("the product's peak RSS is %d MiB, the target is less than %d", rss>>20, targetRSS>>20))
	}
	if targets && r.DecodeRate < targetDecode*r.ArrowRate {
		errs = append(errs, fmt.Errorf("decoding is %.1f times as fast as arrow's reader, the target is %.1f", r.DecodeRate/r.ArrowRate, targetDecode))
	}
	return errors.Join(errs...)
}
