package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tidemill/tidemill/internal/hist"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// A connector's load: so many rows in a batch, a batch so often. It is the same however
// many connectors there are.
const (
	batchRows   = 50
	batchPeriod = 250 * time.Millisecond
)

// costs is what tables cost their store.
type costs struct {
	store string
	far   time.Duration
	lines []costLine
}

type costLine struct {
	connectors         int
	rows               int64
	took               time.Duration
	files, commits     int64 // PUTs of data, of commits (those that lost included)
	other              int64 // PUTs of checkpoints and of what belongs to them
	gets, lists, trash int64 // trash: DELETEs
	p50, p99           time.Duration
}

func (l *costLine) puts() int64 { return l.files + l.commits + l.other }

// perMillion scales a count to a million rows.
func (l *costLine) perMillion(n int64) float64 { return float64(n) * 1e6 / float64(l.rows) }

func cost(ctx context.Context, c config, s *server, far time.Duration) (*costs, error) {
	r := &costs{store: s.name, far: far}
	for _, n := range []int{1, 10, 100} {
		l, err := costOf(ctx, c, s, n, far)
		if err != nil {
			return nil, fmt.Errorf("%d connectors: %w", n, err)
		}
		r.lines = append(r.lines, l)
	}
	return r, nil
}

func costOf(ctx context.Context, c config, s *server, connectors int, far time.Duration) (costLine, error) {
	l := costLine{connectors: connectors}
	counted := &counting{Store: s, far: far}
	tbl, err := lakehouse.Create(ctx, objstore.Retry(counted, objstore.RetryPolicy{}), fmt.Sprintf("cost/%v/%d", far, connectors), lakehouse.CreateOptions{Schema: schema()})
	if err != nil {
		return l, err
	}
	var mu sync.Mutex
	a := lakehouse.NewAppender(tbl, lakehouse.AppenderOptions{Metrics: lakehouse.Metrics{
		Committed: func(_ time.Duration, files int, _, _ int64) {
			mu.Lock()
			defer mu.Unlock()
			l.files += int64(files)
		},
	}})
	before := counted.commits.Load()
	var waits hist.Histogram
	errs := make([]error, connectors)
	start := time.Now()
	var wg sync.WaitGroup
	for i := range connectors {
		wg.Go(func() {
			at := start.Add(batchPeriod * time.Duration(i) / time.Duration(connectors)) // they do not beat in time
			for k := int64(0); errs[i] == nil && at.Sub(start) < c.length; k++ {
				if errs[i] = until(ctx, at); errs[i] != nil {
					return
				}
				errs[i] = send(ctx, a, fmt.Sprint("connector/", i), k, batchRows)
				mu.Lock()
				waits.Add(time.Since(at))
				l.rows += batchRows
				mu.Unlock()
				at = at.Add(batchPeriod)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return l, err
		}
	}
	if err := a.Close(ctx); err != nil {
		return l, err
	}
	if err := tbl.Close(ctx); err != nil {
		return l, err
	}
	l.took = time.Since(start)
	l.commits = counted.commits.Load() - before
	l.other = counted.puts.Load() - l.files
	l.gets, l.lists, l.trash = counted.gets.Load()+counted.stats.Load(), counted.lists.Load(), counted.deletes.Load()
	l.p50, l.p99 = waits.Quantile(0.5), waits.Quantile(0.99)
	return l, nil
}

// until waits for a time.
func until(ctx context.Context, at time.Time) error {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (r *costs) print(w io.Writer) {
	where := "on this machine"
	if r.far > 0 {
		where = fmt.Sprintf("%v away", r.far)
	}
	fmt.Fprintf(w, "\ncost on %s, %s: requests per million rows; each connector sends %d rows every %v\n\n", r.store, where, batchRows, batchPeriod)
	fmt.Fprintf(w, "  %10s %9s | %8s %8s %11s %8s | %8s %7s %8s | %9s %9s\n",
		"connectors", "rows/s", "PUT", "of data", "of commits", "of other", "GET", "LIST", "DELETE", "ack p50", "ack p99")
	for i := range r.lines {
		l := &r.lines[i]
		m := l.perMillion
		fmt.Fprintf(w, "  %10d %9.0f | %8.0f %8.0f %11.0f %8.1f | %8.1f %7.1f %8.1f | %9v %9v\n", l.connectors, float64(l.rows)/l.took.Seconds(),
			m(l.puts()), m(l.files), m(l.commits), m(l.other), m(l.gets), m(l.lists), m(l.trash), l.p50.Round(100*time.Microsecond), l.p99.Round(100*time.Microsecond))
	}
}

func (r *costs) verdict() error {
	first, last := &r.lines[0], &r.lines[len(r.lines)-1]
	if ratio := last.perMillion(last.puts()) / first.perMillion(first.puts()); ratio > targetCost {
		return fmt.Errorf("a row at %d connectors costs %.2f of the PUTs that it costs at %d; the target is %.2f", last.connectors, ratio, first.connectors, targetCost)
	}
	return nil
}
