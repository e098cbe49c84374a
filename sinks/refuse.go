package sinks

import (
	"context"
	"fmt"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// refuse commits rows to the quarantine table. It goes on trying until ctx ends.
func (u *run) refuse(ctx context.Context, rows []*row) error {
	if len(rows) == 0 {
		return nil
	}
	for _, r := range rows {
		u.o.Logger.Warn("the sink refuses a row; it goes to the quarantine table", "key", r.Key, "error", r.err)
	}
	for attempt := 0; ; attempt++ {
		err := u.refuseOnce(ctx, rows)
		if err == nil {
			u.refused(len(rows))
			return nil
		}
		u.o.Logger.Warn("rows that the sink refuses cannot be put into the quarantine table yet", "rows", len(rows), "error", err)
		if err := sleep(ctx, min(time.Second<<min(attempt, 5), maxPause)); err != nil {
			return err
		}
	}
}

func (u *run) refuseOnce(ctx context.Context, rows []*row) error {
	t, err := u.o.Quarantine(ctx)
	if err != nil {
		return err
	}
	out := make([]quarantine.Row, len(rows))
	for i, r := range rows {
		out[i] = quarantine.Row{
			Source: text(r.rec, batch.ColSource, r.i), Offset: long(r.rec, batch.ColOffset, r.i), Raw: r.JSON,
			Rule: u.o.Sink.Name, Class: quarantine.ClassSink, Message: secret.Scrub(fmt.Sprintf("%s: %v", r.Key, r.err)),
			LandedVersion: -1, LandedRow: -1,
			Contract: text(r.rec, batch.ColContract, r.i), Model: text(r.rec, batch.ColModel, r.i), ModelVersion: long(r.rec, batch.ColModelVersion, r.i),
		}
	}
	rec := quarantine.Record(memory.DefaultAllocator, u.o.Now(), out)
	defer rec.Release()
	files, err := t.WriteFiles(ctx, rec, nil)
	if err != nil {
		return fmt.Errorf("write quarantine: %w", err)
	}
	_, err = t.Commit(ctx, lakehouse.Commit{Adds: files, Operation: "SINK", Parameters: map[string]string{"sink": u.o.Sink.Name}})
	if err != nil {
		return fmt.Errorf("commit quarantine: %w", err)
	}
	return nil
}

// text is a string of a row, "" for null and where there is no such column.
func text(rec arrow.Record, name string, i int) string {
	at := rec.Schema().FieldIndices(name)
	if len(at) != 1 {
		return ""
	}
	if a, ok := rec.Column(at[0]).(*array.String); ok && a.IsValid(i) {
		return a.Value(i)
	}
	return ""
}

// long is a whole number of a row, 0 for null and where there is no such column.
func long(rec arrow.Record, name string, i int) int64 {
	at := rec.Schema().FieldIndices(name)
	if len(at) != 1 {
		return 0
	}
	if a, ok := rec.Column(at[0]).(*array.Int64); ok && a.IsValid(i) {
		return a.Value(i)
	}
	return 0
}
