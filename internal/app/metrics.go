package app

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/lakehouse"
)

// metrics is what /metrics shows. Rows are counted once, by the hop that
// decides about them: landed and quarantined{hop="land"} by hop one, scored
// and quarantined{hop="score"} by hop two.
type metrics struct {
	rowsIn      *prometheus.CounterVec   // table
	bytesIn     *prometheus.CounterVec   // table
	landed      *prometheus.CounterVec   // table
	duplicates  *prometheus.CounterVec   // table
	scored      *prometheus.CounterVec   // table
	quarantined *prometheus.CounterVec   // table, hop, rule
	warned      *prometheus.CounterVec   // table, check
	stage       *prometheus.HistogramVec // table, stage
	conflicts   *prometheus.CounterVec   // table
	newFields   *prometheus.CounterVec   // table, outcome
	lagVersions *prometheus.GaugeVec     // table
	lagSeconds  *prometheus.GaugeVec     // table

	generation prometheus.Gauge
	reloads    *prometheus.CounterVec // outcome

	sinkSent        *prometheus.CounterVec // table, sink
	sinkRefused     *prometheus.CounterVec // table, sink
	sinkMissed      *prometheus.CounterVec // table, sink
	sinkGaps        *prometheus.CounterVec // table, sink
	sinkLagVersions *prometheus.GaugeVec   // table, sink
	sinkLagSeconds  *prometheus.GaugeVec   // table, sink
	sinkDown        *prometheus.GaugeVec   // table, sink

	upkeep *upkeepMetrics
}

// NewRegistry returns a registry for the process, with what Go and the
// operating system tell about it.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// newMetrics registers one project's metrics, told apart by a project label.
func newMetrics(registry prometheus.Registerer, project string) *metrics {
	r := prometheus.WrapRegistererWith(prometheus.Labels{"project": project}, registry)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "tidemill", Name: name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "tidemill", Name: name, Help: help}, labels)
		r.MustRegister(g)
		return g
	}
	m := &metrics{
		rowsIn:          counter("rows_in_total", "Rows that connectors handed over: landed, quarantined or duplicate.", "table"),
		bytesIn:         counter("bytes_in_total", "Bytes of the messages that connectors handed over.", "table"),
		landed:          counter("rows_landed_total", "Rows committed to the landed table.", "table"),
		duplicates:      counter("rows_duplicate_total", "Rows dropped because the landed table's log already had their source positions.", "table"),
		scored:          counter("rows_scored_total", "Rows committed to the scored table.", "table"),
		quarantined:     counter("rows_quarantined_total", "Rows committed to the quarantine table, by the hop that did it (or sink) and the rule they broke.", "table", "hop", "rule"),
		warned:          counter("rows_warned_total", "Rows that failed a check with on_fail: warn.", "table", "check"),
		conflicts:       counter("commit_conflicts_total", "Commits that lost a version to another writer and were tried again.", "table"),
		newFields:       counter("new_fields_total", "Fields that the contract does not know, with on_new_field: add: a column was added for them, or they are ignored.", "table", "outcome"),
		lagVersions:     gauge("lag_versions", "Landed versions that are not scored yet.", "table"),
		lagSeconds:      gauge("lag_seconds", "Age of the oldest landed commit of the last range when its rows became queryable.", "table"),
		sinkSent:        counter("sink_rows_total", "Rows that sinks have taken, those that were sent again included.", "table", "sink"),
		sinkRefused:     counter("sink_rows_refused_total", "Rows that a sink refused, committed to the quarantine table.", "table", "sink"),
		sinkMissed:      counter("sink_rows_missed_total", "Rows that were not sent because their files were deleted first: the sink was away for too long.", "table", "sink"),
		sinkGaps:        counter("sink_gaps_total", "Files, or stretches of the log, that were deleted before a sink had sent their rows.", "table", "sink"),
		sinkLagVersions: gauge("sink_lag_versions", "Scored versions of which a sink has not sent all rows.", "table", "sink"),
		sinkLagSeconds:  gauge("sink_lag_seconds", "Age of the first commit of which a sink has not sent all rows.", "table", "sink"),
		sinkDown:        gauge("sink_down", "1 while a sink takes no rows.", "table", "sink"),
		stage: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "tidemill", Name: "batch_stage_seconds",
			Help:    "Time of one batch in a stage: decode, encode, put, land_commit, land (all of hop one), read, check, score, write, commit, turn (all of hop two).",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"table", "stage"}),
	}
	r.MustRegister(m.stage)
	m.generation = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "tidemill", Name: "generation", Help: "Generation of the project's files that runs: 1 at the start, one more for each edit that was taken in."})
	r.MustRegister(m.generation)
	m.reloads = counter("reloads_total", "Edits of the project's files: outcome is done, or refused (nothing was changed).", "outcome")
	for _, outcome := range []string{"done", "refused"} {
		m.reloads.WithLabelValues(outcome)
	}
	m.upkeep = newUpkeepMetrics(r)
	return m
}

// landing returns the observer of one table's hop one.
func (m *metrics) landing(table string) func(connectors.Outcome) {
	decode, land := m.stage.WithLabelValues(table, "decode"), m.stage.WithLabelValues(table, "land")
	in, bytes, landed, dup := m.rowsIn.WithLabelValues(table), m.bytesIn.WithLabelValues(table), m.landed.WithLabelValues(table), m.duplicates.WithLabelValues(table)
	return func(o connectors.Outcome) {
		rows := o.Landed + o.Duplicates
		for rule, n := range o.Quarantined {
			m.quarantined.WithLabelValues(table, "land", rule).Add(float64(n))
			rows += n
		}
		in.Add(float64(rows))
		bytes.Add(float64(o.Bytes))
		landed.Add(float64(o.Landed))
		dup.Add(float64(o.Duplicates))
		decode.Observe(o.Decode.Seconds())
		land.Observe(o.Total.Seconds())
	}
}

// newField returns the counter of one table's new fields, by what became of them.
func (m *metrics) newField(table string) func(outcome string) {
	return func(outcome string) { m.newFields.WithLabelValues(table, outcome).Inc() }
}

// turn takes in what a turn of a pipeline did.
func (m *metrics) turn(s activities.Scored) {
	m.scored.WithLabelValues(s.Table).Add(float64(s.Rows))
	for rule, n := range s.Quarantined {
		m.quarantined.WithLabelValues(s.Table, "score", rule).Add(float64(n))
	}
	for check, n := range s.Warned {
		m.warned.WithLabelValues(s.Table, check).Add(float64(n))
	}
	m.lagVersions.WithLabelValues(s.Table).Set(float64(s.Backlog))
	m.lagSeconds.WithLabelValues(s.Table).Set(s.Lag.Seconds())
	for stage, d := range map[string]time.Duration{"read": s.Read, "check": s.Check, "score": s.Score, "write": s.Write, "commit": s.Commit, "turn": s.Total} {
		m.stage.WithLabelValues(s.Table, stage).Observe(d.Seconds())
	}
}

// appender returns the observer of one landed or quarantine table's commits.
func (m *metrics) appender(table string) lakehouse.Metrics {
	encode, put, commit := m.stage.WithLabelValues(table, "encode"), m.stage.WithLabelValues(table, "put"), m.stage.WithLabelValues(table, "land_commit")
	return lakehouse.Metrics{
		Encoded:   func(d time.Duration, _, _ int64) { encode.Observe(d.Seconds()) },
		Put:       func(d time.Duration, _ int64) { put.Observe(d.Seconds()) },
		Committed: func(d time.Duration, _ int, _, _ int64) { commit.Observe(d.Seconds()) },
		Conflict:  m.conflicts.WithLabelValues(table).Inc,
	}
}
