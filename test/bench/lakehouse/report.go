package main

import (
	"errors"
	"fmt"
	"io"
	"time"
)

func (r *grown) print(w io.Writer) {
	u := r.upkeep
	fmt.Fprintf(w, "\ngrowth on %s: %d commits in %v; %d compactions of %d files (%d given up), %d commits cleaned up, %d files vacuumed, in %d rounds\n\n",
		r.store, r.points[len(r.points)-1].commits, r.took.Round(time.Second), u.compactions, u.compacted, u.conflicts, u.cleaned, u.vacuumed, u.rounds)
	fmt.Fprintf(w, "  %8s | %8s %8s | %8s %8s | %8s %8s | %8s %8s | %8s %8s | %8s | %6s %6s\n", "ms",
		"commit", "", "resting", "", "append", "", "refresh", "", "open", "", "heap", "", "log")
	fmt.Fprintf(w, "  %8s | %8s %8s | %8s %8s | %8s %8s | %8s %8s | %8s %8s | %8s | %6s %6s\n", "commits",
		"p50", "p99", "p50", "p99", "p50", "p99", "p50", "p99", "p50", "max", "MiB", "files", "objects")
	for _, p := range r.points {
		fmt.Fprintf(w, "  %8d | %8.2f %8.2f | %8.2f %8.2f | %8.2f %8.2f | %8.2f %8.2f | %8.2f %8.2f | %8.2f | %6d %6d\n", p.commits,
			ms(p.busy.p50), ms(p.busy.p99), ms(p.idle.p50), ms(p.idle.p99), ms(p.appends.p50), ms(p.appends.p99),
			ms(p.refresh.p50), ms(p.refresh.p99), ms(p.open.p50), ms(p.open.max), mib(p.heap), p.files, p.objects)
	}
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }
func mib(n int64) float64        { return float64(n) / (1 << 20) }

// verdict is nil when the table is as fast at the end as it was at the first point.
func (r *grown) verdict() error {
	var errs []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	first, last := r.points[0], r.points[len(r.points)-1]
	within := func(what string, a, b time.Duration) {
		want(float64(b) <= targetGrowth*float64(a), "%s is %v at %d commits and %v at %d; the target is %.1f times as much",
			what, a, first.commits, b, last.commits, targetGrowth)
	}
	within("commit p99 with maintenance", first.busy.p99, last.busy.p99)
	within("refresh p50", first.refresh.p50, last.refresh.p50)
	for _, p := range r.points {
		want(p.open.max < targetOpen, "a cold open at %d commits takes %v, the target is less than %v", p.commits, p.open.max, targetOpen)
		want(p.heap < targetHeap, "the writer holds %.1f MiB at %d commits, the target is less than %d", mib(p.heap), p.commits, targetHeap>>20)
	}
	u := r.upkeep
	want(u.compactions > 0 && (u.cleaned > 0 && u.vacuumed > 0 || r.took < 2*retention), "maintenance did not happen: %+v", u)
	return errors.Join(errs...)
}
