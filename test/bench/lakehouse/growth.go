package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

const (
	growing    = "growth/t"
	source     = "bench/growth"
	growthRows = 20 // in a commit
	filling    = 8  // appends under way between the points
	retention  = 20 * time.Second
	refreshes  = 60 // measured at each point
	opens      = 7  // measured at each point
)

// grown is how a table did while it grew.
type grown struct {
	store  string
	points []point
	upkeep upkeep
	took   time.Duration
}

// point is what was measured at one length of the log.
type point struct {
	commits       int64
	busy, idle    latency // of commits: with maintenance, and while it rests
	appends       latency // data file and commit, with maintenance
	refresh, open latency
	heap          int64 // bytes that the writer holds for the table
	files         int   // in the table
	objects       int   // in the log
}

// latency is of a number of measurements.
type latency struct{ p50, p99, max time.Duration }

func latencyOf(d []time.Duration) latency {
	slices.Sort(d)
	if len(d) == 0 {
		return latency{}
	}
	return latency{d[len(d)/2], d[min(len(d)-1, len(d)*99/100)], d[len(d)-1]}
}

// grower is the writer.
type grower struct {
	c       config
	store   objstore.Store
	tbl     *lakehouse.Table
	app     *lakehouse.Appender
	next    int64 // batch of the source
	measure bool
	mu      sync.Mutex
	commits []time.Duration // guarded by mu; while measure is set
}

func growth(ctx context.Context, c config, s *server, out io.Writer) (*grown, error) {
	r := &grown{store: s.name}
	g := &grower{c: c, store: objstore.Retry(s, objstore.RetryPolicy{})}
	short := fmt.Sprintf("interval %d seconds", int(retention.Seconds()))
	_, err := lakehouse.Create(ctx, g.store, growing, lakehouse.CreateOptions{Schema: schema(), Configuration: map[string]string{
		"delta.logRetentionDuration": short, "delta.deletedFileRetentionDuration": short,
	}})
	if err != nil {
		return nil, err
	}
	keeper := newKeeper(g.store)
	kctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { keeper.run(kctx) })
	start := time.Now()
	for _, n := range marks(c.n) {
		p, err := g.point(ctx, n, keeper)
		if err != nil {
			return nil, fmt.Errorf("at %d commits: %w", n, err)
		}
		if err := keeper.failed(); err != nil {
			return nil, fmt.Errorf("maintenance: %w", err)
		}
		r.points = append(r.points, p)
		fmt.Fprintf(out, "%6d commits after %v: commit p99 %v, refresh %v, open %v, %d files\n", n, time.Since(start).Round(time.Second), p.busy.p99, p.refresh.p50, p.open.p50, p.files)
	}
	r.upkeep, r.took = keeper.sum(), time.Since(start)
	return r, nil
}

// marks are the lengths of the log to measure at: 1k, 2k, 5k, 10k … up to n.
func marks(n int64) (out []int64) {
	for decade := int64(1000); decade <= n; decade *= 10 {
		for _, f := range []int64{1, 2, 5} {
			if f*decade <= n {
				out = append(out, f*decade)
			}
		}
	}
	if len(out) == 0 || out[len(out)-1] != n {
		out = append(out, n)
	}
	return out
}

// point lets the table grow to a length and measures there.
func (g *grower) point(ctx context.Context, n int64, k *keeper) (p point, err error) {
	if err := g.open(ctx); err != nil {
		return p, err
	}
	half := g.c.window / 2
	if err := g.fill(ctx, n-int64(half)); err != nil {
		return p, err
	}
	if p.busy, p.appends, err = g.window(ctx, half); err != nil {
		return p, err
	}
	p.commits = g.tbl.Snapshot().Version()
	if p.refresh, err = g.refresh(ctx); err != nil {
		return p, err
	}
	k.rest.Lock()
	p.idle, _, err = g.window(ctx, half)
	if err == nil {
		p.open, err = g.coldOpen(ctx)
	}
	p.files = g.tbl.Snapshot().NumFiles()
	for _, err := range g.store.List(ctx, growing+"/_delta_log/", "") {
		if err != nil {
			return p, err
		}
		p.objects++
	}
	if err == nil {
		p.heap, err = g.heap(ctx)
	}
	k.rest.Unlock()
	return p, err
}

func (g *grower) open(ctx context.Context) (err error) {
	if g.tbl, err = lakehouse.Open(ctx, g.store, growing); err != nil {
		return err
	}
	g.app = lakehouse.NewAppender(g.tbl, lakehouse.AppenderOptions{MaxGroup: 1, Metrics: lakehouse.Metrics{
		Committed: func(d time.Duration, _ int, _, _ int64) {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.measure {
				g.commits = append(g.commits, d)
			}
		},
	}})
	return nil
}

// fill commits until the log is so long, some data files at a time, a version each.
func (g *grower) fill(ctx context.Context, upTo int64) error {
	todo := upTo - g.tbl.Snapshot().Version()
	errs := make([]error, filling)
	var wg sync.WaitGroup
	for w := range int64(filling) {
		wg.Go(func() {
			for k := g.next + w; k < g.next+todo && errs[w] == nil; k += filling {
				errs[w] = send(ctx, g.app, source, k, growthRows)
			}
		})
	}
	wg.Wait()
	g.next += max(0, todo)
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// window measures commits, one after the other.
func (g *grower) window(ctx context.Context, n int) (commits, appends latency, err error) {
	g.mu.Lock()
	g.measure, g.commits = true, nil
	g.mu.Unlock()
	var whole []time.Duration
	for range n {
		start := time.Now()
		if err := send(ctx, g.app, source, g.next, growthRows); err != nil {
			return commits, appends, err
		}
		whole = append(whole, time.Since(start))
		g.next++
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.measure = false
	return latencyOf(g.commits), latencyOf(whole), nil
}

// refresh measures how long a reader that is up to date needs for one new commit.
func (g *grower) refresh(ctx context.Context) (latency, error) {
	reader, err := lakehouse.Open(ctx, g.store, growing, lakehouse.WithoutCheckpoints())
	if err != nil {
		return latency{}, err
	}
	var took []time.Duration
	for range refreshes {
		if _, err := reader.Refresh(ctx); err != nil { // what maintenance did
			return latency{}, err
		}
		if err := send(ctx, g.app, source, g.next, growthRows); err != nil {
			return latency{}, err
		}
		g.next++
		start := time.Now()
		if _, err := reader.Refresh(ctx); err != nil {
			return latency{}, err
		}
		took = append(took, time.Since(start))
	}
	return latencyOf(took), nil
}

// coldOpen measures opening the table with nothing known of it.
func (g *grower) coldOpen(ctx context.Context) (latency, error) {
	var took []time.Duration
	for range opens {
		start := time.Now()
		if _, err := lakehouse.Open(ctx, g.store, growing, lakehouse.WithoutCheckpoints()); err != nil {
			return latency{}, err
		}
		took = append(took, time.Since(start))
	}
	return latencyOf(took), nil
}

// heap is what the writer's memory shrinks by when it gives up the table.
func (g *grower) heap(ctx context.Context) (int64, error) {
	if err := g.app.Close(ctx); err != nil {
		return 0, err
	}
	if err := g.tbl.Close(ctx); err != nil {
		return 0, err
	}
	with := inUse()
	runtime.KeepAlive(g.app)
	g.app, g.tbl = nil, nil
	return with - inUse(), nil
}

func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers let go of
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
