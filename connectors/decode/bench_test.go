package decode

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// cards is the schema of card transactions, ten columns.
func cards() *arrow.Schema {
	str := arrow.BinaryTypes.String
	return arrow.NewSchema([]arrow.Field{
		{Name: "tx_id", Type: str},
		{Name: "card_id", Type: str},
		{Name: "merchant_id", Type: str},
		{Name: "amount", Type: arrow.PrimitiveTypes.Float64},
		{Name: "currency", Type: str, Nullable: true},
		{Name: "country", Type: str, Nullable: true},
		{Name: "mcc", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "channel", Type: str, Nullable: true},
		{Name: "card_present", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "ts", Type: arrow.FixedWidthTypes.Timestamp_us},
	}, nil)
}

// cardRows are n transactions of about 200 bytes, one a line. Extra is put into every row.
func cardRows(n int, extra string) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	at := time.Date(2026, 1, 31, 8, 30, 0, 0, time.UTC)
	var b bytes.Buffer
	for i := range n {
		at = at.Add(time.Duration(r.IntN(40)) * time.Millisecond)
		fmt.Fprintf(&b, `{"tx_id":"tx-%012d","card_id":"card-%08d","merchant_id":"m-%06d","amount":%.2f,"currency":"%s","country":"%s","mcc":%d,"channel":"%s","card_present":%t,%s"ts":"%s"}`+"\n",
			i, r.IntN(1e8), r.IntN(1e6), r.ExpFloat64()*80, []string{"EUR", "USD", "GBP"}[r.IntN(3)], []string{"DE", "FR", "US", "GB"}[r.IntN(4)],
			1000+r.IntN(9000), []string{"pos", "ecommerce", "atm"}[r.IntN(3)], r.IntN(2) == 0, extra, at.Format("2006-01-02T15:04:05.000Z"))
	}
	return b.Bytes()
}

const benchRows = 20_000

func report(b *testing.B, rows, size int) {
	b.SetBytes(int64(size))
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(0, "ns/op")
}

func benchDecode(b *testing.B, schema *arrow.Schema, data []byte, perRow bool) {
	p, err := NewPlan(schema, Options{})
	if err != nil {
		b.Fatal(err)
	}
	d := p.NewDecoder(memory.NewGoAllocator())
	messages := [][]byte{data}
	if !perRow {
		messages = bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	}
	b.ReportAllocs()
	for b.Loop() {
		for i, m := range messages {
			if err := d.Message(m, Position{Partition: "cards/transactions/3", First: int64(i), PerRow: perRow}); err != nil {
				b.Fatal(err)
			}
		}
		rec, _, bad := d.Flush()
		if rec.NumRows() != benchRows || len(bad) > 0 {
			b.Fatal(rec.NumRows(), bad)
		}
		rec.Release()
	}
	report(b, benchRows, len(data))
}

// BenchmarkDecode reads 20,000 card transactions into one record, as lines of
// blocks and as a message each, beside Arrow's own JSON reader, which builds
// neither source position nor raw bytes, on the same rows.
func BenchmarkDecode(b *testing.B) {
	rows := cardRows(benchRows, "")
	b.Run("blocks", func(b *testing.B) { benchDecode(b, cards(), rows, true) })
	b.Run("messages", func(b *testing.B) { benchDecode(b, cards(), rows, false) })
	b.Run("new_fields", func(b *testing.B) {
		benchDecode(b, cards(), cardRows(benchRows, `"terminal":"T-1234567","tags":["a",{"b":1.5e3}],`), true)
	})
	b.Run("arrow", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r := array.NewJSONReader(bytes.NewReader(rows), cards(), array.WithChunk(benchRows))
			if !r.Next() || r.Record().NumRows() != benchRows {
				b.Fatal(r.Err())
			}
			r.Release()
		}
		report(b, benchRows, len(rows))
	})
}
