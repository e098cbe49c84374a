package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/internal/hist"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/test/bench/harness"
)

const (
	pollEvery = 5 * time.Millisecond
	// settle is how long to wait for the last rows once nothing has come for a while.
	settle = 20 * time.Second
)

// watcher sees commits of the scored and the quarantine table as they appear.
// Files are read after the run, so that reading them costs the product nothing.
type watcher struct {
	store objstore.Store

	mu     sync.Mutex
	scored *lakehouse.Table
	seen   []commit
	rows   int64 // in seen
	bad    int64 // rows of the quarantine table
	err    error
}

// commit of the scored table.
type commit struct {
	lakehouse.Change
	seen time.Time // before the log was asked and after it was answered lies at most a poll
}

func newWatcher(store objstore.Store) *watcher { return &watcher{store: store} }

func (w *watcher) run(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var quarantine *lakehouse.Table
	for n := 0; ; n++ {
		err := w.look(ctx)
		if err == nil && n%20 == 0 {
			quarantine, err = w.count(ctx, quarantine)
		}
		if err != nil && ctx.Err() == nil {
			w.mu.Lock()
			w.err = err
			w.mu.Unlock()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// open opens a table, nil while there is none.
func (w *watcher) open(ctx context.Context, name string) (*lakehouse.Table, error) {
	t, err := lakehouse.Open(ctx, w.store, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return t, err
}

func (w *watcher) look(ctx context.Context) (err error) {
	after := int64(-1)
	if w.scored == nil {
		if w.scored, err = w.open(ctx, harness.Table+"_scored"); err != nil || w.scored == nil {
			return err
		}
	} else {
		after = w.scored.Snapshot().Version()
		if _, err := w.scored.Refresh(ctx); err != nil {
			return err
		}
	}
	now := time.Now()
	changes, err := w.scored.Changes(ctx, after, w.scored.Snapshot().Version())
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range changes {
		w.seen = append(w.seen, commit{c, now})
		for _, f := range c.Adds {
			w.rows += f.Rows
		}
	}
	return nil
}

func (w *watcher) count(ctx context.Context, t *lakehouse.Table) (*lakehouse.Table, error) {
	if t == nil {
		var err error
		if t, err = w.open(ctx, harness.Table+"_quarantine"); err != nil || t == nil {
			return t, err
		}
	}
	s, err := t.Refresh(ctx)
	if err != nil {
		return t, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bad = s.NumRows()
	return t, nil
}

// wait returns when as many rows as were sent are in the two tables.
func (w *watcher) wait(ctx context.Context, p *harness.Product, total int64) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last, moved := int64(-1), time.Now()
	for {
		w.mu.Lock()
		have, err := w.rows+w.bad, w.err
		w.mu.Unlock()
		if err != nil {
			return err
		}
		if have >= total {
			return nil
		}
		if have != last {
			last, moved = have, time.Now()
		}
		if time.Since(moved) > settle {
			return fmt.Errorf("%d of %d rows came, and none for %v", have, total, settle)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.Done():
			return fmt.Errorf("the product has ended: %w", p.Err())
		case <-tick.C:
		}
	}
}

// judge reads all rows and finds each one's latency, and those that are missing
// or there twice.
func (w *watcher) judge(ctx context.Context, total int64) (*result, error) {
	r := &result{Sent: total, Quarantined: w.bad}
	times := make([]int8, total)
	for _, c := range w.seen {
		for _, f := range c.Adds {
			rec, err := w.scored.ReadFile(ctx, f)
			if err != nil {
				return nil, err
			}
			err = r.take(rec, c, times)
			rec.Release()
			if err != nil {
				return nil, err
			}
		}
		if len(c.Adds) > 0 {
			r.Commits++
		}
	}
	for i, n := range times {
		want := int8(1)
		if harness.Fails(int64(i)) {
			want = 0
		}
		switch {
		case n < want:
			r.Missing++
		case n > want:
			r.Doubled++
		}
	}
	if want := harness.Failing(total); r.Quarantined != want {
		r.Missing += max(0, want-r.Quarantined)
		r.Doubled += max(0, r.Quarantined-want)
	}
	return r, nil
}

// take counts a file's rows.
func (r *result) take(rec arrow.Record, c commit, times []int8) error {
	ids, ok1 := rec.Column(rec.Schema().FieldIndices("tx_id")[0]).(*array.String)
	ts, ok2 := rec.Column(rec.Schema().FieldIndices("ts")[0]).(*array.Timestamp)
	if !ok1 || !ok2 {
		return errors.New("the scored table's columns have other types")
	}
	for i := range ids.Len() {
		id, ok := harness.RowID(ids.Value(i))
		if !ok || id >= int64(len(times)) {
			return fmt.Errorf("a row with tx_id %q was never sent", ids.Value(i))
		}
		times[id]++
		at := time.UnixMicro(int64(ts.Value(i)))
		r.seen.Add(c.seen.Sub(at))
		r.committed.Add(c.Time.Sub(at))
		r.Scored++
	}
	return nil
}

// result of a run.
type result struct {
	Sent        int64 `json:"sent"`
	Scored      int64 `json:"scored"`
	Quarantined int64 `json:"quarantined"`
	Missing     int64 `json:"missing"`
	Doubled     int64 `json:"doubled"`
	Failed      int64 `json:"failed_requests"`
	Commits     int64 `json:"commits"`

	Rate     float64            `json:"rows_per_second"`
	Latency  map[string]float64 `json:"latency_ms"`        // until the commit was seen
	Commit   map[string]float64 `json:"commit_latency_ms"` // until the time that the commit states
	Answer   map[string]float64 `json:"answer_ms"`         // of requests
	SendLate map[string]float64 `json:"send_late_ms"`

	Parts   map[string]harness.Usage `json:"parts"`
	PeakRSS int64                    `json:"peak_rss_bytes"`

	seen, committed hist.Histogram
	sendings        *sendings
}
