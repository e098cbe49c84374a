package app

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/lakehouse"
)

// upkeepMetrics are what /metrics shows of the tables' state and their maintenance.
type upkeepMetrics struct {
	steps   *prometheus.CounterVec // table, step, outcome
	seconds *prometheus.CounterVec // table, step
	rows    *prometheus.CounterVec // table
	files   *prometheus.CounterVec // table, what
	bytes   *prometheus.CounterVec // table, what
	log     *prometheus.GaugeVec   // table
}

func newUpkeepMetrics(r prometheus.Registerer) *upkeepMetrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "tidemill", Name: name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	m := &upkeepMetrics{
		steps:   counter("maintenance_steps_total", "Steps of maintenance: expire, compact, checkpoint, clean, vacuum; outcome is done or failed.", "table", "step", "outcome"),
		seconds: counter("maintenance_seconds_total", "Time that steps of maintenance took, pauses included.", "table", "step"),
		rows:    counter("maintenance_rows_expired_total", "Rows taken out of the table since they were older than the contract's retention.", "table"),
		files:   counter("maintenance_files_total", "What maintenance did to files: expired, joined (taken by compaction), made (by it), vacuumed, orphans (deleted), versions (deleted from the log), checkpoints (written by a step).", "table", "what"),
		bytes:   counter("maintenance_bytes_total", "Size of files that were joined, made and freed (deleted).", "table", "what"),
		log:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "tidemill", Name: "table_log_commits", Help: "Commits in the table's log, as of its last clean-up."}, []string{"table"}),
	}
	r.MustRegister(m.log)
	return m
}

func (m *upkeepMetrics) step(s activities.Maintained) {
	outcome := "done"
	if s.Err != nil {
		outcome = "failed"
	}
	m.steps.WithLabelValues(s.Table, s.Step, outcome).Inc()
	m.seconds.WithLabelValues(s.Table, s.Step).Add(s.Result.Took.Seconds())
	c := s.Result.Counts
	m.rows.WithLabelValues(s.Table).Add(float64(c.RowsExpired))
	for what, n := range map[string]int64{
		"expired": c.FilesExpired + c.FilesRewritten, "joined": c.FilesJoined, "made": c.FilesMade,
		"vacuumed": c.Vacuumed, "orphans": c.Orphans, "versions": c.Versions, "checkpoints": c.Checkpoints,
	} {
		m.files.WithLabelValues(s.Table, what).Add(float64(n))
	}
	for what, n := range map[string]int64{"joined": c.BytesJoined, "made": c.BytesMade, "freed": c.BytesFreed} {
		m.bytes.WithLabelValues(s.Table, what).Add(float64(n))
	}
	if c.LogCommits > 0 {
		m.log.WithLabelValues(s.Table).Set(float64(c.LogCommits))
	}
}

// tableCollector shows the open tables' newest versions when somebody looks.
type tableCollector struct {
	open                              func() map[string]*lakehouse.Table
	files, bytes, version, checkpoint *prometheus.Desc
}

// watchTables registers what is shown of a project's open tables.
func watchTables(registry prometheus.Registerer, project string, open func() map[string]*lakehouse.Table) {
	prometheus.WrapRegistererWith(prometheus.Labels{"project": project}, registry).MustRegister(&tableCollector{open: open,
		files:      prometheus.NewDesc("tidemill_table_files", "Files of the table's newest version.", []string{"table"}, nil),
		bytes:      prometheus.NewDesc("tidemill_table_bytes", "Size of the files of the table's newest version.", []string{"table"}, nil),
		version:    prometheus.NewDesc("tidemill_table_version", "The table's newest version.", []string{"table"}, nil),
		checkpoint: prometheus.NewDesc("tidemill_table_checkpoint_version", "Version of the newest checkpoint that this process knows of, -1 for none.", []string{"table"}, nil),
	})
}

// Describe implements prometheus.Collector.
func (c *tableCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.files, c.bytes, c.version, c.checkpoint} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *tableCollector) Collect(to chan<- prometheus.Metric) {
	for name, t := range c.open() {
		s := t.Snapshot()
		for d, v := range map[*prometheus.Desc]float64{
			c.files: float64(s.NumFiles()), c.bytes: float64(s.Bytes()), c.version: float64(s.Version()), c.checkpoint: float64(t.CheckpointVersion()),
		} {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, name)
		}
	}
}

// landings knows when rows last came in.
type landings struct{ last atomic.Int64 } // ns

func (l *landings) note() { l.last.Store(time.Now().UnixNano()) }

// busyAfter is how long after the last rows came in they still count as coming in.
const busyAfter = 2 * time.Second

func (l *landings) busy() bool { return time.Since(time.Unix(0, l.last.Load())) < busyAfter }

// opened returns the tables that this process has open.
func (t *tables) opened() map[string]*lakehouse.Table {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[string]*lakehouse.Table, len(t.open))
	for name, l := range t.open {
		out[name] = l
	}
	return out
}

// options of every table of the process.
func (t *tables) options() []lakehouse.Option {
	return []lakehouse.Option{lakehouse.WithLogger(t.log), lakehouse.WithFault(t.fault)}
}

// settle waits for what tables do in the background.
func (t *tables) settle(ctx context.Context) error {
	var errs []error
	for _, l := range t.opened() {
		errs = append(errs, l.Close(ctx))
	}
	return errors.Join(errs...)
}
