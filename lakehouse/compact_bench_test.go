package lakehouse

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// transactions is a landed batch: seven columns of a contract, and where they came from.
// Its rows are about 250 bytes each in memory, in about the order of their time.
func transactions(r *rand.Rand, first int64, n int) arrow.Record {
	str := arrow.BinaryTypes.String
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "tx_id", Type: str}, {Name: "card_id", Type: str}, {Name: "amount", Type: arrow.PrimitiveTypes.Float64},
		{Name: "country", Type: str, Nullable: true}, {Name: "merchant", Type: str, Nullable: true},
		{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}}, {Name: "online", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: batch.ColSource, Type: str}, {Name: batch.ColOffset, Type: arrow.PrimitiveTypes.Int64}, {Name: "_raw", Type: arrow.BinaryTypes.Binary},
	}, nil))
	defer b.Release()
	for i := range n {
		id, card := fmt.Sprintf("%016x", r.Uint64()), fmt.Sprintf("card-%08d", r.IntN(2_000_000))
		amount, c, m := float64(r.IntN(1_000_000))/100, countries[r.IntN(3)], fmt.Sprintf("merchant-%04d", r.IntN(500))
		b.Field(0).(*array.StringBuilder).Append(id)
		b.Field(1).(*array.StringBuilder).Append(card)
		b.Field(2).(*array.Float64Builder).Append(amount)
		b.Field(3).(*array.StringBuilder).Append(c)
		b.Field(4).(*array.StringBuilder).Append(m)
		b.Field(5).(*array.TimestampBuilder).Append(arrow.Timestamp(1_760_000_000_000_000 + (first+int64(i))*137 + int64(r.IntN(2_000_000))))
		b.Field(6).(*array.BooleanBuilder).Append(i%3 == 0)
		b.Field(7).(*array.StringBuilder).Append("kafka/transactions/3")
		b.Field(8).(*array.Int64Builder).Append(first + int64(i))
		b.Field(9).(*array.BinaryBuilder).Append(fmt.Appendf(nil, `{"tx_id":%q,"card_id":%q,"amount":%.2f,"country":%q,"merchant":%q}`, id, card, amount, c, m))
	}
	return b.NewRecord()
}

// landing makes a table of files of so many rows each.
func landing(tb testing.TB, store objstore.Store, files, rows int) *Table {
	tb.Helper()
	r := seeded(7)
	first := transactions(r, 0, 1)
	tbl, err := Create(tb.Context(), store, "tables/t", CreateOptions{Schema: first.Schema()}, WithoutCheckpoints())
	if err != nil {
		tb.Fatal(err)
	}
	var adds []File
	for i := range files {
		rec := transactions(r, int64(i*rows), rows)
		fs, err := tbl.WriteFiles(tb.Context(), rec, nil)
		if err != nil {
			tb.Fatal(err)
		}
		rec.Release()
		adds = append(adds, fs...)
	}
	if _, err := tbl.Commit(tb.Context(), Commit{Adds: adds}); err != nil {
		tb.Fatal(err)
	}
	return tbl
}

// cpu is the processor time that this process has used, the collector's included: other
// processes do not change it much, as they do the time that passes.
func cpu(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// heap is what is in memory, with what the collector has not taken yet.
func heap() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkCompact: 500 landed files of 1,000 rows become one, sorted by nothing, by a
// time that is almost in order, and by a string at random; and eight sorted files of
// 62,500 rows become one.
func BenchmarkCompact(b *testing.B) {
	const rows = 500_000
	for _, c := range []struct {
		by   string
		runs int // to be sorted first, which is not measured
	}{{"", 0}, {"ts", 0}, {"card_id", 0}, {"ts", 8}, {"card_id", 8}} {
		name := "land by " + c.by
		if c.runs > 0 {
			name = "merge by " + c.by
		}
		b.Run(name, func(b *testing.B) {
			var out Compacted
			var used time.Duration
			most := int64(0)
			for b.Loop() {
				b.StopTimer()
				tbl := landing(b, mem.New(), 500, rows/500)
				o := anything()
				o.ClusterBy = strings.Fields(c.by)
				for range c.runs {
					n := 0
					o.Keep = func(f File) bool { n++; return levelTag(f) > 0 || n > 500/c.runs+1 }
					o.MinFiles = 60
					if _, err := tbl.Compact(b.Context(), o); err != nil {
						b.Fatal(err)
					}
				}
				o.Keep, o.MinFiles = nil, 4
				runtime.GC()
				before, peak := heap(), int64(0)
				o.Pace = func(context.Context, time.Duration) error { peak = max(peak, heap()-before); return nil }
				begun := cpu(b)
				b.StartTimer()
				var err error
				if out, err = tbl.Compact(b.Context(), o); err != nil || out.RowsIn != rows {
					b.Fatal(out, err)
				}
				used, most = used+cpu(b)-begun, max(most, peak)
			}
			b.ReportMetric(rows*float64(b.N)/used.Seconds()/1e6, "Mrows/cpu-s")
			b.ReportMetric(float64(most)/(1<<20), "MiB-peak")
			b.ReportMetric(float64(out.BytesIn)/rows, "B/row-before")
			b.ReportMetric(float64(out.BytesOut)/rows, "B/row-after")
		})
	}
}
