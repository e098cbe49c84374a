package parquet

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// transactions is a record like a landed batch: 7 columns of a contract and the 3 of the source position.
func transactions(n int) arrow.Record {
	r := rand.New(rand.NewPCG(7, 7))
	ts := &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "tx_id", Type: arrow.BinaryTypes.String},
		{Name: "card_id", Type: arrow.BinaryTypes.String},
		{Name: "amount", Type: arrow.PrimitiveTypes.Float64},
		{Name: "country", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "merchant", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "ts", Type: ts},
		{Name: "online", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "_source", Type: arrow.BinaryTypes.String},
		{Name: "_offset", Type: arrow.PrimitiveTypes.Int64},
		{Name: "_raw", Type: arrow.BinaryTypes.Binary},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	countries := []string{"DE", "FR", "US", "GB", "ES", "IT", "NL", "PL"}
	for i := range n {
		id := fmt.Sprintf("%016x", r.Uint64())
		card := fmt.Sprintf("card-%08d", r.IntN(2_000_000))
		amount := float64(r.IntN(1_000_000)) / 100
		c := countries[r.IntN(len(countries))]
		m := fmt.Sprintf("merchant-%04d", r.IntN(500))
		b.Field(0).(*array.StringBuilder).Append(id)
		b.Field(1).(*array.StringBuilder).Append(card)
		b.Field(2).(*array.Float64Builder).Append(amount)
		b.Field(3).(*array.StringBuilder).Append(c)
		b.Field(4).(*array.StringBuilder).Append(m)
		b.Field(5).(*array.TimestampBuilder).Append(arrow.Timestamp(1760000000000000 + int64(i)*137))
		if i%10 == 0 {
			b.Field(6).AppendNull()
		} else {
			b.Field(6).(*array.BooleanBuilder).Append(i%3 == 0)
		}
		b.Field(7).(*array.StringBuilder).Append("kafka/transactions/3")
		b.Field(8).(*array.Int64Builder).Append(int64(1000000 + i))
		b.Field(9).(*array.BinaryBuilder).Append([]byte(fmt.Sprintf(`{"tx_id":%q,"card_id":%q,"amount":%.2f,"country":%q,"merchant":%q}`, id, card, amount, c, m)))
	}
	return b.NewRecord()
}

func withoutRaw(rec arrow.Record) arrow.Record {
	n := int(rec.NumCols()) - 1
	return array.NewRecord(arrow.NewSchema(rec.Schema().Fields()[:n], nil), rec.Columns()[:n], rec.NumRows())
}

func BenchmarkEncode(b *testing.B) {
	full := transactions(10_000)
	for name, rec := range map[string]arrow.Record{"10cols": full, "9cols-noraw": withoutRaw(full)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				buf, err := Encode(rec, Options{Deltas: []string{"_offset"}})
				if err != nil {
					b.Fatal(err)
				}
				size = buf.Len()
				buf.Release()
			}
			b.ReportMetric(float64(rec.NumRows())*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
			b.ReportMetric(float64(size), "filebytes")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	rec := transactions(10_000)
	buf, err := Encode(rec, Options{Deltas: []string{"_offset"}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		got, err := Decode(b.Context(), buf.Bytes())
		if err != nil {
			b.Fatal(err)
		}
		got.Release()
	}
	b.ReportMetric(float64(rec.NumRows())*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
}
