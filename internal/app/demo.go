package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/deploy/embedded"
	"github.com/tidemill/tidemill/examples"
	"github.com/tidemill/tidemill/internal/hist"
	"github.com/tidemill/tidemill/internal/project"
)

// DemoOptions of [Demo].
type DemoOptions struct {
	Dir       string // state; emptied at the start
	For       time.Duration
	Every     time.Duration
	FreePorts bool
	JSON      bool
	Out       io.Writer
	Logger    *slog.Logger
}

// Demo runs the example projects in one process with everything embedded,
// shows what they do, and at the end counts their tables.
func Demo(ctx context.Context, o DemoOptions) error {
	if err := clearDemo(o.Dir); err != nil {
		return err
	}
	st, err := startStack(ctx, stackOptions{dir: filepath.Join(o.Dir, "stack"), http: "127.0.0.1:4195", free: o.FreePorts, log: quiet(o.Logger)})
	if err != nil {
		return err
	}
	defer st.stop()
	var procs []*process
	var names []string
	defer func() {
		for _, p := range procs {
			logStop(o.Logger, p.stop(context.WithoutCancel(ctx)))
		}
	}()
	for _, name := range examples.Demo {
		p, err := startExample(ctx, st, name, o)
		if err != nil {
			return fmt.Errorf("example %s: %w", name, err)
		}
		procs = append(procs, p)
		names = append(names, p.project.Name())
	}
	st.print(o.Out, o.JSON, filepath.Join(o.Dir, examples.Demo[0]), procs[0].project, names...)
	if err := watch(ctx, procs, o); err != nil {
		return err
	}
	return report(context.WithoutCancel(ctx), procs, o)
}

// clearDemo removes what an earlier demo left, and nothing else.
func clearDemo(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		if _, err := os.Stat(filepath.Join(dir, "stack")); err != nil {
			entries, err := os.ReadDir(dir)
			if err != nil {
				return err
			}
			if len(entries) > 0 {
				return fmt.Errorf("%s holds something other than an earlier demo's state; name another directory with --state", dir)
			}
		}
		if embedded.Running(filepath.Join(dir, "stack")) {
			return unavailableError{fmt.Errorf("a demo is running in %s already; end it, or name another directory with --state", dir)}
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("state of an earlier demo: %w", err)
		}
	}
	return os.MkdirAll(dir, 0o700)
}

func startExample(ctx context.Context, st *stack, name string, o DemoOptions) (*process, error) {
	dir := filepath.Join(o.Dir, name)
	sub, err := fs.Sub(examples.FS, name)
	if err != nil {
		return nil, err
	}
	if err := os.CopyFS(dir, sub); err != nil {
		return nil, err
	}
	// Commands that look for the project's state find the stack that it shares
	// with the others: `tidemill -C .tidemill/demo/fraud sql …`.
	if err := os.Symlink(filepath.Join("..", "stack"), stateDir(dir)); err != nil {
		return nil, fmt.Errorf("state of the project: %w", err)
	}
	p, err := project.Load(dir)
	if err != nil {
		return nil, err
	}
	return startProcess(ctx, processOptions{
		project: p, ends: st.endpoints(p), connect: true, worker: true, wait: 30 * time.Second,
		log: quiet(o.Logger), registry: st.registry, mux: st.mux, board: st.board, grace: grace,
	})
}

// live collects what the status line shows of one table.
type live struct {
	mu sync.Mutex
	tally
}

type tally struct {
	landed, scored, quarantined int64
	latency                     hist.Histogram
	model                       string
}

func (l *live) land(o connectors.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.landed += o.Landed
	for _, n := range o.Quarantined {
		l.quarantined += n
	}
}

func (l *live) turn(s activities.Scored) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.scored += s.Rows
	for _, n := range s.Quarantined {
		l.quarantined += n
	}
	if s.Latency != nil {
		l.latency.Merge(s.Latency)
	}
	l.model = s.Model
}

// take returns what came since the last call.
func (l *live) take() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.tally
	l.tally = tally{model: out.model}
	return out
}

// lives are the tables' by name. The zero value is ready for use.
type lives struct {
	mu sync.Mutex
	m  map[string]*live
}

func (l *lives) of(table string) *live {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = map[string]*live{}
	}
	if l.m[table] == nil {
		l.m[table] = &live{}
	}
	return l.m[table]
}

// watch shows a status line per table until the time is up, ctx ends or a connector fails.
func watch(ctx context.Context, procs []*process, o DemoOptions) error {
	if o.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.For)
		defer cancel()
	}
	failed := make(chan error, len(procs))
	for _, p := range procs {
		go func() {
			select {
			case err := <-p.fleet.fatal:
				failed <- err
			case <-ctx.Done():
			}
		}()
	}
	every := max(o.Every, 100*time.Millisecond)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-tick.C:
			for _, p := range procs {
				for _, c := range p.contracts() {
					showLine(o, c.Name(), p.live(c.Name()).take(), every)
				}
			}
		}
	}
}

func showLine(o DemoOptions, table string, l tally, every time.Duration) {
	rate := func(n int64) int64 { return int64(float64(n)/every.Seconds() + 0.5) }
	p50, p99 := l.latency.Quantile(0.5), l.latency.Quantile(0.99)
	if o.JSON {
		_ = json.NewEncoder(o.Out).Encode(map[string]any{ //nolint:errchkjson // plain values
			"table": table, "landed_per_s": rate(l.landed), "scored_per_s": rate(l.scored), "quarantined_per_s": float64(l.quarantined) / every.Seconds(),
			"latency_ms": map[string]float64{"p50": ms(p50), "p99": ms(p99)}, "model": l.model,
		})
		return
	}
	fmt.Fprintf(o.Out, "%-14s %6d landed/s %6d scored/s %4d quarantined   event→queryable p50 %4.0f ms p99 %4.0f ms   %s\n",
		table, rate(l.landed), rate(l.scored), l.quarantined, ms(p50), ms(p99), l.model)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// report stops the connectors, lets the pipelines finish, and counts the tables.
func report(ctx context.Context, procs []*process, o DemoOptions) error {
	out := map[string]Audit{}
	for _, p := range procs {
		p.fleet.haltAll()
		wait, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := p.drained(wait)
		cancel()
		if err != nil {
			return err
		}
		a, err := p.audit(ctx)
		if err != nil {
			return fmt.Errorf("count the tables of %s: %w", p.project.Name(), err)
		}
		out[p.project.Name()] = a
	}
	if o.JSON {
		return json.NewEncoder(o.Out).Encode(map[string]any{"projects": out})
	}
	fmt.Fprintln(o.Out)
	for _, name := range sortedKeys(out) {
		a := out[name]
		fmt.Fprintf(o.Out, "%-8s in %d = scored %d + quarantined %d, duplicates %d, event→queryable p50 %.0f ms p99 %.0f ms (counted from the tables)\n",
			name, a.In, a.Scored, a.Quarantined, a.Duplicates, a.Latency.P50, a.Latency.P99)
	}
	return nil
}
