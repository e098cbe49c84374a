package lakehouse

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/objstore/faulty"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// TestSmallRecordsDoNotQueue: a store that is far away gets many small files at a time,
// and of large ones no more than there is memory for.
func TestSmallRecordsDoNotQueue(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // or it hangs
	defer cancel()
	const small = 2 * fullWeight
	var under atomic.Int64
	all := make(chan struct{})
	store := faulty.New(mem.New(), faulty.Options{Hook: func(ctx context.Context, c faulty.Call, w faulty.When) error {
		if c.Op != faulty.Put || w != faulty.Before {
			return nil
		}
		defer under.Add(-1)
		if under.Add(1) == small {
			close(all)
		}
		select {
		case <-all:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	tbl := mustCreate(t, store, CreateOptions{})
	a := NewAppender(tbl, AppenderOptions{MaxConcurrentWrites: 2})
	var wg sync.WaitGroup
	for i := range int64(small) {
		wg.Go(func() {
			run := perRow("p", 10*i, 10*i+9)
			rec := rows(memory.DefaultAllocator, run)
			defer rec.Release()
			out, err := a.Append(ctx, Append{Record: rec, Runs: []batch.Run{run}})
			if err != nil {
				t.Error(err)
			} else {
				out.Record.Release()
			}
		})
	}
	wg.Wait()
	b := array.NewRecordBuilder(memory.DefaultAllocator, landed())
	defer b.Release()
	for i := range int64(100_000) {
		b.Field(0).(*array.StringBuilder).Append("a row of a large record")
		b.Field(1).(*array.StringBuilder).AppendNull()
		b.Field(2).(*array.StringBuilder).Append("p")
		b.Field(3).(*array.Int64Builder).Append(i)
	}
	rec := b.NewRecord()
	defer rec.Release()
	if w := weight(rec); w != fullWeight {
		t.Errorf("a record of %d bytes has weight %d", heldBy(rec), w)
	}
}
