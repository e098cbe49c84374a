package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
	"github.com/tidemill/tidemill/quality"
	"github.com/tidemill/tidemill/query"
	"github.com/tidemill/tidemill/sinks"
)

// sinkRunners are the sinks of a process's project, by table. They come and go with the
// generations of the project.
type sinkRunners struct {
	mu     sync.Mutex
	tables map[string]*tableSinks // guarded by mu
}

// tableSinks are the sinks of one table.
type tableSinks struct {
	names   []string
	runners []*sinks.Runner    // by the place of the sink's name
	stop    context.CancelFunc // nil before they run
	running sync.WaitGroup
}

// newSinks prepares the sinks of a generation, and decides where those begin that are
// new: that comes before rows are scored here.
func (p *process) newSinks(ctx context.Context, g *generation) (*sinkRunners, error) {
	out := &sinkRunners{tables: map[string]*tableSinks{}}
	for _, c := range g.project.Contracts() {
		t, err := p.tableSinks(ctx, c, g.number)
		if err != nil {
			return nil, err
		}
		out.tables[c.Name()] = t
	}
	return out, nil
}

func (p *process) tableSinks(ctx context.Context, c *contract.Table, generation int64) (*tableSinks, error) {
	out := &tableSinks{}
	for _, s := range c.Sinks() {
		words := newLastWords(p.log.Handler())
		o := sinks.Options{
			Contract: c, Sink: s, Store: p.store,
			Scored: func(ctx context.Context) (*lakehouse.Table, error) {
				return p.tables.Open(ctx, c.Name()+activities.Suffix)
			},
			Quarantine: func(ctx context.Context) (*lakehouse.Table, error) {
				return p.tables.Create(ctx, c.Name()+quarantine.Suffix, lakehouse.CreateOptions{Schema: quarantine.Schema()})
			},
			Open:    func() (sinks.Output, error) { return p.conns.OpenSink(c, s, quiet(slog.New(words))) },
			Observe: p.metrics.sink(c.Name(), s.Name), Logger: slog.New(words), Fault: faultPoint(),
			Process: processName(), Generation: generation, LastError: words.last,
		}
		if s.Where != "" {
			o.Filter = sinkFilter{engine: p.engine, table: c, where: s.Where}
		}
		r := sinks.New(o)
		if err := r.Prepare(ctx); err != nil {
			return nil, err
		}
		out.runners = append(out.runners, r)
		out.names = append(out.names, s.Name)
	}
	return out, nil
}

// processName tells this process from others of the project.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return host + "/" + strconv.Itoa(os.Getpid())
}

// runner is the one of a sink that this process may have; nil if it has none, or if they
// are being changed, which may take seconds.
func (s *sinkRunners) runner(table, sink string) *sinks.Runner {
	if s == nil || !s.mu.TryLock() {
		return nil
	}
	defer s.mu.Unlock()
	if t := s.tables[table]; t != nil {
		if i := slices.Index(t.names, sink); i >= 0 {
			return t.runners[i]
		}
	}
	return nil
}

// sinkStatus tells of a contract's sinks, also of those that other processes have.
func (p *process) sinkStatus(ctx context.Context, c *contract.Table) []SinkStatus {
	var out []SinkStatus
	for _, s := range c.Sinks() {
		st, err := p.askSink(ctx, c.Name(), s.Name)
		one := SinkStatus{
			Name: s.Name, Output: connectors.SinkKind(s), State: "not running", Version: st.Version, Behind: st.Versions, BehindRows: st.Rows,
			Sent: st.Sent, Refused: st.Refused, Process: st.Process, Here: st.Here, Generation: st.Generation, Error: st.Error, ErrorAt: st.ErrorAt,
		}
		if !st.Seen.IsZero() {
			one.Seen = &st.Seen
		}
		switch {
		case err != nil:
			one.State, one.Error, one.ErrorAt = "not known", secret.Scrub(err.Error()), nil
		case st.Held && st.Down:
			one.State = "down"
		case st.Held && st.Versions > 0:
			one.State = "sending"
		case st.Held:
			one.State = "waiting"
		}
		out = append(out, one)
	}
	return out
}

func (p *process) askSink(ctx context.Context, table, sink string) (sinks.Status, error) {
	if r := p.sinks.runner(table, sink); r != nil {
		return r.Status(ctx)
	}
	scored, err := p.tables.Open(ctx, table+activities.Suffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return sinks.Status{}, err
	}
	return sinks.ReadStatus(ctx, p.store, scored, table, sink)
}

// start runs the sinks until close is called.
func (s *sinkRunners) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tables {
		t.start()
	}
}

func (t *tableSinks) start() {
	ctx, cancel := context.WithCancel(context.Background())
	t.stop = cancel
	for _, r := range t.runners {
		t.running.Go(func() { r.Run(ctx) })
	}
}

// close ends the sinks. Batches that are being sent have a few seconds.
func (t *tableSinks) close() {
	if t.stop != nil {
		t.stop()
	}
	t.running.Wait()
}

// moveSinks ends the sinks of contracts that have changed or are gone, and runs those that
// the contracts have now. Their cursors say where they go on.
func (p *process) moveSinks(ctx context.Context, to *generation, tables []string) error {
	p.sinks.mu.Lock()
	defer p.sinks.mu.Unlock()
	for _, name := range tables {
		if t := p.sinks.tables[name]; t != nil {
			t.close()
			delete(p.sinks.tables, name)
		}
		c, ok := to.project.Contract(name)
		if !ok {
			continue
		}
		t, err := p.tableSinks(ctx, c, to.number)
		if err != nil {
			return err
		}
		p.sinks.tables[name] = t
		t.start()
	}
	return nil
}

// wake tells a table's sinks that rows were scored.
func (s *sinkRunners) wake(table string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tables[table]; t != nil {
		for _, r := range t.runners {
			r.Wake()
		}
	}
}

// idle says whether no sink has anything that it could send now.
func (s *sinkRunners) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tables {
		for _, r := range t.runners {
			if !r.Idle() {
				return false
			}
		}
	}
	return true
}

// close ends all sinks.
func (s *sinkRunners) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tables {
		t.close()
	}
}

// holdForSinks is what maintenance asks about a scored table; see [sinks.Hold].
func (p *process) holdForSinks(ctx context.Context, table string, scored *lakehouse.Table) (int64, error) {
	if c, ok := p.gen.Load().project.Contract(table); ok {
		return sinks.Hold(ctx, p.store, scored, c, time.Now())
	}
	return lakehouse.NoHold, nil
}

// sinkFilter is a sink's condition, run by DuckDB.
type sinkFilter struct {
	engine *query.Engine
	table  *contract.Table
	where  string
}

// Check implements sinks.Filter.
func (f sinkFilter) Check(ctx context.Context, schema *arrow.Schema) error {
	message, err := quality.CheckCondition(ctx, f.engine, f.table, f.where, schema)
	if err == nil && message != "" {
		err = errors.New(message)
	}
	return err
}

// Rows implements sinks.Filter.
func (f sinkFilter) Rows(ctx context.Context, rec arrow.Record) ([]int, error) {
	rows, err := quality.Meeting(ctx, f.engine, f.where, rec)
	if e, ok := errors.AsType[*query.Error](err); ok && e.ByAuthor() {
		return nil, fmt.Errorf("%w: %s", sinks.ErrRow, strings.Join(strings.Fields(e.Message), " "))
	}
	return rows, err
}

// sink returns what takes in what a sink does.
func (m *metrics) sink(table, sink string) sinks.Observer {
	sent, refused := m.sinkSent.WithLabelValues(table, sink), m.sinkRefused.WithLabelValues(table, sink)
	missed, gaps := m.sinkMissed.WithLabelValues(table, sink), m.sinkGaps.WithLabelValues(table, sink)
	versions, seconds, down := m.sinkLagVersions.WithLabelValues(table, sink), m.sinkLagSeconds.WithLabelValues(table, sink), m.sinkDown.WithLabelValues(table, sink)
	return sinks.Observer{
		Sent: func(n int) { sent.Add(float64(n)) },
		Refused: func(n int) {
			refused.Add(float64(n))
			m.quarantined.WithLabelValues(table, "sink", sink).Add(float64(n))
		},
		Missed: func(n int64) {
			gaps.Inc()
			missed.Add(float64(n))
		},
		Lag: func(n int64, age time.Duration) {
			versions.Set(float64(n))
			seconds.Set(age.Seconds())
		},
		Down: func(is bool) {
			v := 0.0
			if is {
				v = 1
			}
			down.Set(v)
		},
	}
}
