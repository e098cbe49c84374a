package files

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
	"github.com/hamba/avro/v2/ocf"
)

const benchRows = 200_000

// benchParquet has the columns of BenchmarkFormats in row groups of 50,000.
func benchParquet(tb testing.TB) string {
	tb.Helper()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "name", Type: arrow.BinaryTypes.String}, {Name: "card", Type: arrow.BinaryTypes.String},
		{Name: "amount", Type: &arrow.Decimal128Type{Precision: 12, Scale: 2}}, {Name: "ratio", Type: arrow.PrimitiveTypes.Float64},
		{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}}, {Name: "online", Type: arrow.FixedWidthTypes.Boolean},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for i := range benchRows {
		b.Field(0).(*array.Int64Builder).Append(int64(i))
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("customer %d", i%5000))
		b.Field(2).(*array.StringBuilder).Append(fmt.Sprintf("4556-7375-8689-%04d", i%10000))
		b.Field(3).(*array.Decimal128Builder).Append(decimal128.FromI64(int64(i % 100_000)))
		b.Field(4).(*array.Float64Builder).Append(float64(i) / 7)
		b.Field(5).(*array.TimestampBuilder).Append(arrow.Timestamp(1769846400_000000 + int64(i)*1234))
		b.Field(6).(*array.BooleanBuilder).Append(i%3 == 0)
	}
	rec := b.NewRecord()
	defer rec.Release()
	var out bytes.Buffer
	w, err := pqarrow.NewFileWriter(schema, &out, parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Snappy), parquet.WithMaxRowGroupLength(50_000)), pqarrow.DefaultWriterProps())
	if err != nil {
		tb.Fatal(err)
	}
	if err := w.Write(rec); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.String()
}

func benchAvro(tb testing.TB) string {
	tb.Helper()
	var out bytes.Buffer
	w, err := ocf.NewEncoder(`{"type":"record","name":"R","fields":[{"name":"id","type":"long"},{"name":"name","type":["null","string"]},{"name":"card","type":"string"},
		{"name":"cents","type":"long"},{"name":"ratio","type":"double"},{"name":"ts","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"online","type":"boolean"}]}`,
		&out, ocf.WithCodec(ocf.Snappy), ocf.WithBlockLength(1000))
	if err != nil {
		tb.Fatal(err)
	}
	for i := range benchRows {
		name := fmt.Sprintf("customer %d", i%5000)
		if err := w.Encode(struct {
			ID     int64   `avro:"id"`
			Name   *string `avro:"name"`
			Card   string  `avro:"card"`
			Cents  int64   `avro:"cents"`
			Ratio  float64 `avro:"ratio"`
			TS     int64   `avro:"ts"`
			Online bool    `avro:"online"`
		}{int64(i), &name, fmt.Sprintf("4556-7375-8689-%04d", i%10000), int64(i % 100_000), float64(i) / 7, 1769846400_000000 + int64(i)*1234, i%3 == 0}); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.String()
}

// BenchmarkFormats turns files of 200,000 rows of 7 columns into JSON lines with one reader.
// The decoder, which comes after it, takes about 0.3 µs a row.
func BenchmarkFormats(b *testing.B) {
	var csv, nd bytes.Buffer
	csv.WriteString("id,name,card,amount,ratio,ts,online\n")
	for i := range benchRows {
		fmt.Fprintf(&csv, "%d,customer %d,4556-7375-8689-%04d,%d.%02d,%v,2026-01-31T08:00:00.123456Z,%t\n", i, i%5000, i%10000, i%1000, i%100, float64(i)/7, i%3 == 0)
		fmt.Fprintf(&nd, `{"id":%d,"name":"customer %d","card":"4556-7375-8689-%04d","amount":%d.%02d,"ratio":%v,"ts":"2026-01-31T08:00:00.123456Z","online":%t}`+"\n", i, i%5000, i%10000, i%1000, i%100, float64(i)/7, i%3 == 0)
	}
	for name, content := range map[string]string{
		"a.ndjson": nd.String(), "a.ndjson.gz": packed(b, "gz", nd.String()), "a.ndjson.zst": packed(b, "zst", nd.String()),
		"a.csv": csv.String(), "a.parquet": benchParquet(b), "a.avro": benchAvro(b),
	} {
		b.Run(name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), name)
			write(b, path, content)
			for b.Loop() {
				s := newSink()
				c := s.config(b, path)
				r := New(c)
				rows := int64(0)
				for rows < benchRows {
					block, err := r.Next(context.Background())
					if err != nil || block.Bad != nil {
						b.Fatal(err, block.Bad)
					}
					rows += block.Rows
				}
				r.Close()
			}
			b.ReportMetric(benchRows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
