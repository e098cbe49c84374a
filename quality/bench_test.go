package quality

import (
	"context"
	"fmt"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/query"
)

const tenColumns = `table: transactions
columns:
  - {name: tx_id,    type: string, required: true}
  - {name: card_id,  type: string, required: true}
  - {name: amount,   type: double, required: true}
  - {name: country,  type: string}
  - {name: ts,       type: timestamp, required: true}
  - {name: merchant, type: string}
  - {name: mcc,      type: int}
  - {name: lat,      type: double}
  - {name: lon,      type: double}
  - {name: online,   type: boolean}
checks: [{name: positive_amount, expr: amount > 0}]
`

// BenchmarkPlan: 10 columns, 1 check, 3 features.
func BenchmarkPlan(b *testing.B) {
	const rowwise = "features: SELECT *, ln(amount) AS log_amount, hour(ts) AS hour_of_day, (amount > 100 AND country <> 'DE')::INTEGER AS odd FROM batch\n"
	for _, c := range []struct {
		name, features string
		rows, bad      int // every bad-th row fails the check; 0: none
		apart          bool
	}{
		{"combined", rowwise, 20_000, 0, false},
		{"combined", rowwise, 1, 0, false},
		{"combined/1pct_fail", rowwise, 20_000, 100, false},
		{"apart", rowwise, 20_000, 0, true},
		{"apart", rowwise, 1, 0, true},
		{"apart/1pct_fail", rowwise, 20_000, 100, true},
		{"check_only", "", 20_000, 0, false},
		{"window", "features: SELECT *, avg(amount) OVER (PARTITION BY card_id) AS a, count(*) OVER (PARTITION BY card_id) AS n, hour(ts) AS h FROM batch\n", 20_000, 0, false},
	} {
		b.Run(fmt.Sprintf("%s/rows=%d", c.name, c.rows), func(b *testing.B) {
			e, err := query.Open(query.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer e.Close()
			table, err := contract.Parse("t.yaml", []byte(tenColumns+c.features))
			if err != nil {
				b.Fatal(err)
			}
			p, err := Compile(context.Background(), e, table, table.ArrowSchema())
			if err != nil {
				b.Fatal(err)
			}
			if c.apart {
				p.combined = ""
			}
			rec := transactions(table.ArrowSchema(), c.rows, c.bad)
			b.ReportAllocs()
			for b.Loop() {
				r, err := p.Run(context.Background(), []arrow.Record{rec})
				if err != nil {
					b.Fatal(err)
				}
				r.Release()
			}
			b.ReportMetric(float64(c.rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func transactions(s *arrow.Schema, n, bad int) arrow.Record {
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	defer b.Release()
	for i := range n {
		amount := float64(i%500) + 0.5
		if bad > 0 && i%bad == 0 {
			amount = -amount
		}
		b.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("tx-%016d", i))
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("card-%012d", i%1000))
		b.Field(2).(*array.Float64Builder).Append(amount)
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
