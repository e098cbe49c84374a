package connectors

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/test/bench/harness"
	"github.com/tidemill/tidemill/test/product"
)

var (
	away = flag.Duration("bench.away", 5*time.Minute, "for how long the store stands still")
	pace = flag.Int("bench.pace", 20_000, "rows a second that the source makes meanwhile")
)

// maxRSS is what the process may have resident, however long the store is away: what the
// collector is told to keep to (256 MiB, 64 of a connector in blocks, a table's 128, 64 for
// batches between the hops, 256 for maintenance), and the program's own pages.
const maxRSS = (256 + 64 + 128 + 64 + 256 + 320) << 20

// BenchmarkStoreAway stops the store while the source goes on at full speed, and shows the
// product's memory before, meanwhile and after, and how fast it catches up.
func BenchmarkStoreAway(b *testing.B) {
	*rows = 0
	w := newWorld(b)
	for range b.N {
		w.awayOnce(b)
	}
}

func (w *world) awayOnce(b *testing.B) {
	port := testserver.FreePort(b)
	dir := filepath.Join(b.TempDir(), "away")
	if err := w.project(port, "away").WriteTo(dir); err != nil {
		b.Fatal(err)
	}
	bin := product.Binary{Path: w.ours}
	s, err := bin.Start("run", dir)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Stop()
	metrics := fmt.Sprintf("http://127.0.0.1:%d/metrics", port)
	src := w.produce(b)
	until := func(series string, n func() int64) time.Duration {
		start := time.Now()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			have, err := count(b.Context(), metrics, series)
			if err == nil && have >= n() {
				break
			}
			if time.Since(start) > 2**away+patience {
				b.Fatalf("%d of %d rows: %v\n%s", have, n(), err, s.Output())
			}
			select {
			case <-s.Done():
				b.Fatalf("ended early:\n%s", s.Output())
			case <-tick.C:
			}
		}
		return time.Since(start)
	}
	until("tidemill_rows_scored_total", func() int64 { return int64(*pace) * 5 })
	before := rss(s.Pid())

	_ = syscall.Kill(w.minio.Pid(), syscall.SIGSTOP)
	from := src.sent.Load()
	meanwhile := peakFor(b.Context(), s.Pid(), *away)
	_ = syscall.Kill(w.minio.Pid(), syscall.SIGCONT)
	grown := src.sent.Load() - from
	tree := harness.Watch(s.Pid())
	back := time.Now()
	// The newest rows are always on their way.
	caughtUp := until("tidemill_rows_landed_total", func() int64 { return src.sent.Load() - int64(*pace) })
	landed := src.sent.Load() - from
	src.stop()
	until("tidemill_rows_scored_total", src.sent.Load)
	tree.Stop()
	use, _ := tree.Usage()

	b.Logf("the store stood still for %s while %d rows came in", *away, grown)
	b.Logf("RSS before %d MiB, at most %d MiB meanwhile, %d MiB while catching up", before>>20, meanwhile>>20, use[harness.PartProduct].Peak>>20)
	b.Logf("%d rows landed in %s: %.0f rows/s, of a source that makes %d", landed, time.Since(back).Round(time.Second), float64(landed)/caughtUp.Seconds(), *pace)
	b.ReportMetric(float64(meanwhile>>20), "MiB-meanwhile")
	b.ReportMetric(float64(landed)/caughtUp.Seconds()/float64(*pace), "times-the-source")
	if meanwhile > maxRSS || use[harness.PartProduct].Peak > maxRSS {
		b.Errorf("more than %d MiB", maxRSS>>20)
	}
	if caughtUp > *away {
		b.Errorf("the backlog of %s took %s", *away, caughtUp)
	}
	got := product.Query[struct{ N, IDs int64 }](b, bin, dir, "SELECT count(*) AS n, count(DISTINCT tx_id) AS ids FROM transactions")
	if len(got) != 1 || got[0].N != src.sent.Load() || got[0].IDs != src.sent.Load() {
		b.Errorf("the table has %+v of %d rows", got, src.sent.Load())
	}
}

// source writes rows to the topic at a pace until it is stopped.
type source struct {
	sent atomic.Int64 // that the broker has
	stop func()
}

func (w *world) produce(b *testing.B) *source {
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	s := &source{stop: func() { cancel(); <-done }}
	b.Cleanup(s.stop)
	c := w.kafka.Client(b, kgo.ProducerLinger(5*time.Millisecond))
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := int64(0); ; {
			select {
			case <-ctx.Done():
				_ = c.Flush(context.WithoutCancel(ctx))
				return
			case <-tick.C:
			}
			for range *pace / 100 {
				row := bytes.TrimSuffix(harness.AppendRow(nil, i, time.Now().UTC().Format("2006-01-02T15:04:05.000Z")), []byte("\n"))
				c.Produce(context.WithoutCancel(ctx), &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: row}, func(_ *kgo.Record, err error) {
					if err == nil {
						s.sent.Add(1)
					}
				})
				i++
			}
		}
	}()
	return s
}

// rss is what a process has resident now.
func rss(pid int) int64 {
	t := harness.Watch(pid)
	t.Stop()
	use, _ := t.Usage()
	return use[harness.PartProduct].Peak
}

// peakFor is the most that a process has resident in a time.
func peakFor(ctx context.Context, pid int, d time.Duration) int64 {
	t := harness.Watch(pid)
	end := time.NewTimer(d)
	defer end.Stop()
	select {
	case <-end.C:
	case <-ctx.Done():
	}
	t.Stop()
	use, _ := t.Usage()
	return use[harness.PartProduct].Peak
}
