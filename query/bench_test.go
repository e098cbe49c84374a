package query

import (
	"context"
	"fmt"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// transactions is a batch of ten columns as the examples have them.
func transactions(n int) arrow.Record {
	s := schemaOf("tx_id", arrow.BinaryTypes.String, "card_id", arrow.BinaryTypes.String, "amount", arrow.PrimitiveTypes.Float64,
		"country", arrow.BinaryTypes.String, "ts", arrow.FixedWidthTypes.Timestamp_us, "merchant", arrow.BinaryTypes.String,
		"mcc", arrow.PrimitiveTypes.Int32, "lat", arrow.PrimitiveTypes.Float64, "lon", arrow.PrimitiveTypes.Float64, "online", arrow.FixedWidthTypes.Boolean)
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	defer b.Release()
	for i := range n {
		b.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("tx-%016d", i))
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("card-%012d", i%1000))
		b.Field(2).(*array.Float64Builder).Append(float64(i%500) + 0.5)
		b.Field(3).(*array.StringBuilder).Append("DE")
		b.Field(4).(*array.TimestampBuilder).Append(arrow.Timestamp(1_767_225_600_000_000 + int64(i)*1000))
		b.Field(5).(*array.StringBuilder).Append("Corner shop number " + fmt.Sprint(i%100))
		b.Field(6).(*array.Int32Builder).Append(5411)
		b.Field(7).(*array.Float64Builder).Append(52.5)
		b.Field(8).(*array.Float64Builder).Append(13.4)
		b.Field(9).(*array.BooleanBuilder).Append(i%2 == 0)
	}
	return b.NewRecord()
}

func BenchmarkRun(b *testing.B) {
	e := openEngine(b, Options{})
	for _, rows := range []int{1, 20_000} {
		rec := transactions(rows)
		for _, q := range []struct{ name, sql string }{
			{"check", "SELECT amount > 0 AS ok FROM batch"},
			{"features", "SELECT ln(amount) AS a, hour(ts) AS h, amount > 100 AND country <> 'DE' AS f FROM batch"},
			{"hour", "SELECT hour(ts) AS h FROM batch"},
			{"hour_tz", "SELECT hour(ts::TIMESTAMPTZ) AS h FROM batch"},
			{"all", "SELECT *, ln(amount) AS a, hour(ts) AS h FROM batch"},
			{"window", "SELECT avg(amount) OVER (PARTITION BY card_id) AS a FROM batch"},
		} {
			b.Run(fmt.Sprintf("%s/rows=%d", q.name, rows), func(b *testing.B) {
				views := map[string][]arrow.Record{"batch": {rec}}
				b.ReportAllocs()
				for range b.N {
					out, err := e.Run(context.Background(), q.sql, views)
					if err != nil {
						b.Fatal(err)
					}
					out[0].Release()
				}
				b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}
