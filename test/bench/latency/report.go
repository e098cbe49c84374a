package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tidemill/tidemill/internal/hist"
	"github.com/tidemill/tidemill/test/bench/harness"
)

func (r *result) add(_ config, s *sendings, tree *harness.Tree) {
	r.sendings, r.Failed = s, s.failed
	r.Rate = float64(r.Sent) / s.elapsed.Seconds()
	r.Latency, r.Commit, r.Answer, r.SendLate = quantiles(&r.seen), quantiles(&r.committed), quantiles(&s.answers), quantiles(&s.late)
	r.Parts, r.PeakRSS = tree.Usage()
}

func quantiles(h *hist.Histogram) map[string]float64 {
	return map[string]float64{"p50": ms(h.Quantile(0.5)), "p90": ms(h.Quantile(0.9)), "p99": ms(h.Quantile(0.99)), "max": ms(h.Max())}
}

func ms(d time.Duration) float64 { return float64(d.Round(100*time.Microsecond)) / 1e6 }

func (r *result) print(w io.Writer, m harness.Metrics, tree *harness.Tree) {
	fmt.Fprintf(w, "\nevent to queryable row, as seen by a reader of the table's log\n")
	r.seen.Draw(w)
	fmt.Fprintf(w, "\n  %-28s %9s %9s %9s %9s\n", "ms", "p50", "p90", "p99", "max")
	line := func(name string, q map[string]float64) {
		fmt.Fprintf(w, "  %-28s %9.1f %9.1f %9.1f %9.1f\n", name, q["p50"], q["p90"], q["p99"], q["max"])
	}
	line("event to queryable row", r.Latency)
	line("event to commit's own time", r.Commit)
	line("request to durable answer", r.Answer)
	line("requests sent late by", r.SendLate)
	fmt.Fprintf(w, "\n  %d rows sent at %.0f/s; %d scored in %d commits, %d quarantined, %d missing, %d doubled, %d requests failed\n\n",
		r.Sent, r.Rate, r.Scored, r.Commits, r.Quarantined, r.Missing, r.Doubled, r.Failed)
	m.PrintStages(w)
	fmt.Fprintln(w)
	tree.Print(w)
}

// verdict is nil when every row is in exactly one table, and with targets, when
// they are met.
func (r *result) verdict(targets bool) error {
	var errs []error
	if r.Failed > 0 {
		errs = append(errs, fmt.Errorf("%d requests failed, the first with: %w", r.Failed, r.sendings.first))
	}
	if r.Missing > 0 || r.Doubled > 0 {
		errs = append(errs, fmt.Errorf("%d rows are missing and %d doubled", r.Missing, r.Doubled))
	}
	if p := r.seen.Quantile(0.5); targets && p >= targetP50 {
		errs = append(errs, fmt.Errorf("p50 is %v, the target is less than %v", p.Round(time.Millisecond), targetP50))
	}
	if p := r.seen.Quantile(0.99); targets && p >= targetP99 {
		errs = append(errs, fmt.Errorf("p99 is %v, the target is less than %v", p.Round(time.Millisecond), targetP99))
	}
	return errors.Join(errs...)
}
