package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
	"github.com/tidemill/tidemill/quality"
	"github.com/tidemill/tidemill/query"
	"github.com/tidemill/tidemill/sinks"
)

// sinkRunners are the sinks of a process's project, by table.
type sinkRunners struct {
	byTable map[string][]*sinks.Runner
	stop    context.CancelFunc
	running sync.WaitGroup
}

// newSinks prepares the sinks of all contracts, and decides where those begin that are
// new: that comes before rows are scored here.
func (p *process) newSinks(ctx context.Context) (*sinkRunners, error) {
	out := &sinkRunners{byTable: map[string][]*sinks.Runner{}}
	for _, c := range p.project.Contracts() {
		for _, s := range c.Sinks() {
			o := sinks.Options{
				Contract: c, Sink: s, Store: p.store,
				Scored: func(ctx context.Context) (*lakehouse.Table, error) {
					return p.tables.Open(ctx, c.Name()+activities.Suffix)
				},
				Quarantine: func(ctx context.Context) (*lakehouse.Table, error) {
					return p.tables.Create(ctx, c.Name()+quarantine.Suffix, lakehouse.CreateOptions{Schema: quarantine.Schema()})
				},
				Open:    func() (sinks.Output, error) { return p.conns.OpenSink(c, s) },
				Observe: p.metrics.sink(c.Name(), s.Name), Logger: p.log, Fault: faultPoint(),
			}
			if s.Where != "" {
				o.Filter = sinkFilter{engine: p.engine, table: c, where: s.Where}
			}
			r := sinks.New(o)
			if err := r.Prepare(ctx); err != nil {
				return nil, err
			}
			out.byTable[c.Name()] = append(out.byTable[c.Name()], r)
		}
	}
	return out, nil
}

// start runs the sinks until close is called.
func (s *sinkRunners) start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	for _, runners := range s.byTable {
		for _, r := range runners {
			s.running.Go(func() { r.Run(ctx) })
		}
	}
}

// wake tells a table's sinks that rows were scored.
func (s *sinkRunners) wake(table string) {
	for _, r := range s.byTable[table] {
		r.Wake()
	}
}

// idle says whether no sink has anything that it could send now.
func (s *sinkRunners) idle() bool {
	for _, runners := range s.byTable {
		for _, r := range runners {
			if !r.Idle() {
				return false
			}
		}
	}
	return true
}

// close ends the sinks. Batches that are being sent have a few seconds.
func (s *sinkRunners) close() {
	if s.stop != nil {
		s.stop()
	}
	s.running.Wait()
}

// holdForSinks is what maintenance asks about a scored table; see [sinks.Hold].
func (p *process) holdForSinks(ctx context.Context, table string, scored *lakehouse.Table) (int64, error) {
	for _, c := range p.project.Contracts() {
		if c.Name() == table {
			return sinks.Hold(ctx, p.store, scored, c, time.Now())
		}
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
