package sinks

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// TestRowsAreJSON reads what is written with Go's own parser.
func TestRowsAreJSON(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	schema := arrow.NewSchema([]arrow.Field{
		{Name: `te"xt`, Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "long", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "int", Type: arrow.PrimitiveTypes.Int32},
		{Name: "double", Type: arrow.PrimitiveTypes.Float64},
		{Name: "float", Type: arrow.PrimitiveTypes.Float32},
		{Name: "flag", Type: arrow.FixedWidthTypes.Boolean},
		{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}},
		{Name: "day", Type: arrow.FixedWidthTypes.Date32},
		{Name: "price", Type: &arrow.Decimal128Type{Precision: 20, Scale: 2}},
		{Name: "tags", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
		{Name: "at", Type: arrow.StructOf(arrow.Field{Name: "lat", Type: arrow.PrimitiveTypes.Float64, Nullable: true}), Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	text := "a\"b\\c\n\t\r\x01é😀\u2028 <&>"
	at := time.Date(2026, 1, 31, 12, 30, 15, 123456000, time.UTC)
	add := func(text string, f float64) {
		b.Field(0).(*array.StringBuilder).Append(text)
		b.Field(1).(*array.Int64Builder).Append(math.MinInt64)
		b.Field(2).(*array.Int32Builder).Append(-7)
		b.Field(3).(*array.Float64Builder).Append(f)
		b.Field(4).(*array.Float32Builder).Append(0.1)
		b.Field(5).(*array.BooleanBuilder).Append(true)
		b.Field(6).(*array.TimestampBuilder).Append(arrow.Timestamp(at.UnixMicro()))
		b.Field(7).(*array.Date32Builder).Append(arrow.Date32FromTime(at))
		b.Field(8).(*array.Decimal128Builder).Append(decimal128.FromI64(-12345))
		list := b.Field(9).(*array.ListBuilder)
		list.Append(true)
		list.ValueBuilder().(*array.StringBuilder).Append(text)
		list.ValueBuilder().AppendNull()
		st := b.Field(10).(*array.StructBuilder)
		st.Append(true)
		st.FieldBuilder(0).(*array.Float64Builder).Append(1.5)
	}
	add(text, 1e-7)
	add("", math.NaN())
	add("bad \xff byte", 1e300)
	for i, f := range b.Fields() {
		if schema.Field(i).Nullable {
			f.AppendNull()
		} else {
			f.AppendEmptyValue()
		}
	}
	rec := b.NewRecord()
	defer rec.Release()
	all := make([]int, schema.NumFields())
	for i := range all {
		all[i] = i
	}
	enc, err := newEncoder(rec, all)
	if err != nil {
		t.Fatal(err)
	}
	row := func(text, list any, f any) map[string]any {
		return map[string]any{`te"xt`: text, "long": float64(math.MinInt64), "int": -7.0, "double": f, "float": 0.1, "flag": true,
			"ts": "2026-01-31T12:30:15.123456Z", "day": "2026-01-31", "price": -123.45, "tags": list, "at": map[string]any{"lat": 1.5}}
	}
	want := []map[string]any{
		row(text, []any{text, nil}, 1e-7), row("", []any{"", nil}, nil), row("bad \ufffd byte", []any{"bad \ufffd byte", nil}, 1e300),
		{`te"xt`: nil, "long": nil, "int": 0.0, "double": 0.0, "float": 0.0, "flag": false, "ts": "1970-01-01T00:00:00Z", "day": "1970-01-01", "price": 0.0, "tags": nil, "at": nil},
	}
	for i := range want {
		data := enc.row(nil, i)
		var got map[string]any
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if !reflect.DeepEqual(got, want[i]) {
			t.Errorf("row %d is %s, want %v", i, data, want[i])
		}
	}
}

func BenchmarkRow(b *testing.B) {
	build := array.NewRecordBuilder(memory.DefaultAllocator, scoredSchema)
	for i := range 1000 {
		build.Field(0).(*array.StringBuilder).Append("r00017")
		build.Field(1).(*array.Float64Builder).Append(float64(i) / 7)
		build.Field(2).(*array.StringBuilder).Append("kafka/transactions/3")
		build.Field(3).(*array.Int64Builder).Append(int64(i))
		build.Field(4).(*array.StringBuilder).Append("sha256:0123456789abcdef")
	}
	rec := build.NewRecord()
	enc, err := newEncoder(rec, []int{0, 1, 2, 3, 4})
	if err != nil {
		b.Fatal(err)
	}
	var dst []byte
	n := 0
	for b.Loop() {
		dst = enc.row(dst[:0], n%1000)
		n++
	}
	b.SetBytes(int64(len(dst)))
	b.ReportAllocs()
}
