package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/hist"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// Audit is what a project's tables hold, counted from their files.
type Audit struct {
	In          int64   `json:"in"`     // rows that came in: landed, or quarantined before they could land
	Landed      int64   `json:"landed"` // rows of the landed tables
	Scored      int64   `json:"scored"`
	Quarantined int64   `json:"quarantined"`
	Duplicates  int64   `json:"duplicates"` // rows beyond the first of a source position, in scored and quarantine together
	Missing     int64   `json:"missing"`    // landed rows that are neither scored nor quarantined
	Latency     Latency `json:"latency_ms"`
}

// Latency from event_time to the commit that made the row queryable, milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// position identifies a row of a connector that hands over one row a message,
// as those of the examples do.
type position struct {
	source string
	offset int64
}

// audit reads every file of the project's tables.
func (p *process) audit(ctx context.Context) (Audit, error) {
	var a Audit
	var latency hist.Histogram
	for _, c := range p.contracts() {
		seen := map[position]int{}
		landed, early := map[position]bool{}, int64(0)
		err := p.eachFile(ctx, c.Name(), func(rec arrow.Record, _ time.Time) error {
			a.Landed += rec.NumRows()
			return positions(rec, func(_ int, at position) { landed[at] = true })
		})
		if err != nil {
			return a, err
		}
		err = p.eachFile(ctx, c.Name()+activities.Suffix, func(rec arrow.Record, committed time.Time) error {
			a.Scored += rec.NumRows()
			if name := c.EventTime(); name != "" {
				ts, ok := rec.Column(rec.Schema().FieldIndices(name)[0]).(*array.Timestamp)
				for i := 0; ok && i < ts.Len(); i++ {
					if ts.IsValid(i) {
						latency.Add(committed.Sub(time.UnixMicro(int64(ts.Value(i)))))
					}
				}
			}
			return positions(rec, func(_ int, at position) { seen[at]++ })
		})
		if err != nil {
			return a, err
		}
		replayed := map[position]bool{}
		err = p.eachFile(ctx, c.Name()+quarantine.Suffix, func(rec arrow.Record, _ time.Time) error {
			v := rec.Column(rec.Schema().FieldIndices("landed_version")[0])
			out := replays(rec)
			class, _ := rec.Column(rec.Schema().FieldIndices("class")[0]).(*array.String)
			return positions(rec, func(i int, at position) {
				if class != nil && class.Value(i) == quarantine.ClassSink {
					return // it is in the scored table, too
				}
				if out != nil && out.IsValid(i) { // it has come in again, at another position
					replayed[at] = true
					return
				}
				a.Quarantined++
				seen[at]++
				if v.IsNull(i) {
					early++
				}
			})
		})
		if err != nil {
			return a, err
		}
		a.In += early
		for _, n := range seen {
			a.Duplicates += int64(n - 1)
		}
		for at := range landed {
			if seen[at] == 0 && replayed[at] {
				continue
			}
			a.In++
			if seen[at] == 0 {
				a.Missing++
			}
		}
	}
	a.Latency = Latency{P50: ms(latency.Quantile(0.5)), P99: ms(latency.Quantile(0.99))}
	return a, nil
}

// eachFile calls fn with every file of a table's newest snapshot and the time of its commit.
func (p *process) eachFile(ctx context.Context, table string, fn func(arrow.Record, time.Time) error) error {
	t, err := p.tables.Open(ctx, table)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s, err := t.Refresh(ctx)
	if err != nil {
		return err
	}
	times := map[int64]time.Time{}
	changes, err := t.Changes(ctx, -1, s.Version())
	if err != nil {
		return err
	}
	for _, c := range changes {
		times[c.Version] = c.Time
	}
	for f := range s.Files() {
		if err := readOne(ctx, t, f, times[f.Version], fn); err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
	}
	return nil
}

// replays is the column that says of quarantined rows whether they were replayed; nil for a
// table that nobody has written to since there are replays.
func replays(rec arrow.Record) arrow.Array {
	at := rec.Schema().FieldIndices(quarantine.ColReplay)
	if len(at) == 0 {
		return nil
	}
	return rec.Column(at[0])
}

func readOne(ctx context.Context, t *lakehouse.Table, f lakehouse.File, at time.Time, fn func(arrow.Record, time.Time) error) error {
	rec, err := t.ReadFile(ctx, f)
	if err != nil {
		return err
	}
	defer rec.Release()
	return fn(rec, at)
}

// positions calls fn with each row's source position.
func positions(rec arrow.Record, fn func(i int, at position)) error {
	src, ok1 := rec.Column(rec.Schema().FieldIndices(batch.ColSource)[0]).(*array.String)
	off, ok2 := rec.Column(rec.Schema().FieldIndices(batch.ColOffset)[0]).(*array.Int64)
	if !ok1 || !ok2 {
		return errors.New("source position columns have other types")
	}
	last, clone := "", ""
	for i := range int(rec.NumRows()) {
		if s := src.Value(i); s != last || clone == "" {
			clone = strings.Clone(s)
			last = clone
		}
		fn(i, position{source: clone, offset: off.Value(i)})
	}
	return nil
}
