package main

import (
	"context"
	"fmt"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse"
)

func schema() *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}},
		{Name: "device", Type: arrow.BinaryTypes.String},
		{Name: "value", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: batch.ColSource, Type: arrow.BinaryTypes.String},
		{Name: batch.ColOffset, Type: arrow.PrimitiveTypes.Int64},
	}, nil)
}

// record makes the rows of a run.
func record(r batch.Run) arrow.Record {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema())
	defer b.Release()
	now := time.Now().UnixMicro()
	for i := range r.Rows {
		off := r.Offset(i)
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(now - off%5_000_000))
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("device-%03d", off%500))
		b.Field(2).(*array.Float64Builder).Append(float64(off%1000) / 7)
		b.Field(3).(*array.StringBuilder).Append(r.Partition)
		b.Field(4).(*array.Int64Builder).Append(off)
	}
	return b.NewRecord()
}

// send appends the k-th batch of a source.
func send(ctx context.Context, a *lakehouse.Appender, source string, k int64, rows int) error {
	run := batch.Run{Partition: source, First: k * int64(rows), Rows: rows, PerRow: true}
	rec := record(run)
	defer rec.Release()
	out, err := a.Append(ctx, lakehouse.Append{Record: rec, Runs: []batch.Run{run}})
	if err != nil {
		return err
	}
	if out.Record != nil {
		out.Record.Release()
	}
	if out.Rows != int64(rows) {
		return fmt.Errorf("batch %d of %s: %d rows are new, want %d", k, source, out.Rows, rows)
	}
	return nil
}
