package activities

import (
	"context"
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/compute"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// constantLong returns n times v.
func constantLong(mem memory.Allocator, v int64, n int) arrow.Array {
	b := array.NewInt64Builder(mem)
	defer b.Release()
	b.Reserve(n)
	for range n {
		b.UnsafeAppend(v)
	}
	return b.NewArray()
}

// ordinals returns first, first+1, … n times.
func ordinals(mem memory.Allocator, first int64, n int) arrow.Array {
	b := array.NewInt64Builder(mem)
	defer b.Release()
	b.Reserve(n)
	for i := range n {
		b.UnsafeAppend(first + int64(i))
	}
	return b.NewArray()
}

// constantString returns n times s, or n nulls for "".
func constantString(mem memory.Allocator, s string, n int) arrow.Array {
	b := array.NewStringBuilder(mem)
	defer b.Release()
	if s == "" {
		b.AppendNulls(n)
		return b.NewArray()
	}
	b.Reserve(n)
	b.ReserveData(n * len(s))
	for range n {
		b.Append(s)
	}
	return b.NewArray()
}

// filter returns the rows of a record for which keep is true.
func filter(mem memory.Allocator, rec arrow.Record, keep func(i int) bool) (arrow.Record, error) {
	b := array.NewBooleanBuilder(mem)
	defer b.Release()
	n := int(rec.NumRows())
	b.Reserve(n)
	for i := range n {
		b.UnsafeAppend(keep(i))
	}
	mask := b.NewBooleanArray()
	defer mask.Release()
	out, err := compute.FilterRecordBatch(compute.WithAllocator(context.Background(), mem), rec, mask, compute.DefaultFilterOptions())
	if err != nil {
		return nil, fmt.Errorf("filter rows: %w", err)
	}
	return out, nil
}
