package delta

import (
	"fmt"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

func BenchmarkStats(b *testing.B) {
	const n = 10_000
	var fields []arrow.Field
	for i, dt := range []arrow.DataType{arrow.BinaryTypes.String, arrow.BinaryTypes.String, arrow.BinaryTypes.String, arrow.PrimitiveTypes.Float64, arrow.PrimitiveTypes.Int64, timestampType} {
		fields = append(fields, arrow.Field{Name: fmt.Sprint("c", i), Type: dt, Nullable: true})
	}
	rb := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer rb.Release()
	for i := range n {
		for c := range 3 {
			if i%10 == 0 && c == 0 {
				rb.Field(c).AppendNull()
				continue
			}
			rb.Field(c).(*array.StringBuilder).Append(fmt.Sprintf("%016x", uint64(i)*0x9E3779B97F4A7C15))
		}
		rb.Field(3).(*array.Float64Builder).Append(float64(i % 777))
		rb.Field(4).(*array.Int64Builder).Append(int64(i))
		rb.Field(5).(*array.TimestampBuilder).Append(arrow.Timestamp(i))
	}
	rec := rb.NewRecord()
	defer rec.Release()
	b.ReportAllocs()
	for b.Loop() {
		Stats(rec)
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
}
