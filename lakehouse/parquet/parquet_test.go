package parquet

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet/file"
)

var utc = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}

func everyType() *arrow.Schema {
	dec := func(p, s int32) arrow.DataType { return &arrow.Decimal128Type{Precision: p, Scale: s} }
	var fields []arrow.Field
	for i, t := range []arrow.DataType{
		arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int8,
		arrow.PrimitiveTypes.Float64, arrow.PrimitiveTypes.Float32, arrow.FixedWidthTypes.Boolean, utc, arrow.FixedWidthTypes.Date32,
		arrow.BinaryTypes.Binary, dec(5, 2), dec(18, 0), dec(38, 10),
		arrow.ListOf(arrow.PrimitiveTypes.Int64), arrow.ListOf(arrow.StructOf(arrow.Field{Name: "x", Type: arrow.BinaryTypes.String, Nullable: true})),
		arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int64}, arrow.Field{Name: "b", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true}),
	} {
		fields = append(fields, arrow.Field{Name: fmt.Sprintf("n%d", i), Type: t, Nullable: true}, arrow.Field{Name: fmt.Sprintf("r%d", i), Type: t})
	}
	return arrow.NewSchema(append(fields, arrow.Field{Name: "_offset", Type: arrow.PrimitiveTypes.Int64}), nil)
}

// fill appends a random value; distinct bounds how many there are, so that plain,
// dictionary and constant columns all occur.
func fill(r *rand.Rand, b array.Builder, distinct int, nullable bool) {
	if nullable && r.IntN(4) == 0 {
		b.AppendNull()
		return
	}
	v := r.IntN(distinct) - distinct/2
	switch b := b.(type) {
	case *array.StringBuilder:
		b.Append(fmt.Sprint("v", v))
	case *array.Int64Builder:
		b.Append(int64(v) << 40)
	case *array.Int32Builder:
		b.Append(int32(v))
	case *array.Int16Builder:
		b.Append(int16(v))
	case *array.Int8Builder:
		b.Append(int8(v))
	case *array.Float64Builder:
		b.Append([]float64{float64(v), math.Inf(1), math.Copysign(0, -1)}[r.IntN(3)])
	case *array.Float32Builder:
		b.Append(float32(v) / 3)
	case *array.BooleanBuilder:
		b.Append(v%2 == 0)
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(v) * 1_000_003)
	case *array.Date32Builder:
		b.Append(arrow.Date32(v))
	case *array.BinaryBuilder:
		b.Append(bytes.Repeat([]byte{byte(v)}, (v&7)+1))
	case *array.Decimal128Builder:
		b.Append(decimal128.FromI64(int64(v)))
	case *array.ListBuilder:
		b.Append(true)
		for range r.IntN(3) {
			fill(r, b.ValueBuilder(), distinct, true)
		}
	case *array.StructBuilder:
		b.Append(true)
		t := b.Type().(*arrow.StructType)
		for i := range b.NumField() {
			fill(r, b.FieldBuilder(i), distinct, t.Field(i).Nullable)
		}
	default:
		panic(fmt.Sprintf("%T", b))
	}
}

func random(mem memory.Allocator, schema *arrow.Schema, r *rand.Rand, n, distinct int) arrow.Record {
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	for i, f := range schema.Fields() {
		for range n {
			fill(r, b.Field(i), distinct, f.Nullable)
		}
	}
	return b.NewRecord()
}

func TestRoundTrip(t *testing.T) {
	for seed := range uint64(60) {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		r := rand.New(rand.NewPCG(seed, 3))
		n, distinct := []int{0, 1, 2, 100, 3000}[r.IntN(5)], []int{1, 3, 100, 1 << 20}[r.IntN(4)]
		rec := random(mem, everyType(), r, n, distinct)
		if n > 10 { // a record that is a part of another has offsets everywhere
			part := rec.NewSlice(3, int64(n-4))
			rec.Release()
			rec = part
		}
		buf, err := Encode(rec, Options{Deltas: []string{"_offset"}})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		got, err := Decode(t.Context(), buf.Bytes())
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for i, f := range rec.Schema().Fields() {
			if !array.Equal(rec.Column(i), got.Column(i)) && !array.ApproxEqual(rec.Column(i), got.Column(i), array.WithNaNsEqual(true)) {
				t.Fatalf("seed %d: %d rows, %d distinct: column %s %s:\n%v\n%v", seed, n, distinct, f.Name, f.Type, rec.Column(i), got.Column(i))
			}
		}
		buf.Release()
		got.Release()
		rec.Release()
		mem.AssertSize(t, 0)
	}
}

// TestForm reads the footer: what DELTA readers need, and what makes files small.
func TestForm(t *testing.T) {
	rec := transactions(10_000)
	defer rec.Release()
	buf, err := Encode(rec, Options{Deltas: []string{"_offset"}})
	if err != nil {
		t.Fatal(err)
	}
	defer buf.Release()
	r, err := file.NewParquetReader(bytes.NewReader(buf.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.NumRowGroups() != 1 || r.NumRows() != 10_000 {
		t.Fatalf("%d row groups, %d rows", r.NumRowGroups(), r.NumRows())
	}
	if ts := r.MetaData().Schema.Column(5); !strings.Contains(ts.LogicalType().String(), "isAdjustedToUTC=true, timeUnit=microseconds") {
		t.Errorf("timestamp is %s", ts.LogicalType())
	}
	sizes := map[string]int64{}
	for i := range r.MetaData().Schema.NumColumns() {
		col := r.MetaData().Schema.Column(i)
		if id := col.SchemaNode().FieldID(); id != int32(i+1) {
			t.Errorf("%s has field id %d, want %d", col.Name(), id, i+1)
		}
		chunk, err := r.MetaData().RowGroup(0).ColumnChunk(i)
		if err != nil {
			t.Fatal(err)
		}
		sizes[col.Name()] = chunk.TotalCompressedSize()
		wantDict := map[string]bool{"country": true, "merchant": true, "_source": true}[col.Name()]
		if chunk.HasDictionaryPage() != wantDict {
			t.Errorf("%s: dictionary %v, want %v (%v)", col.Name(), chunk.HasDictionaryPage(), wantDict, chunk.Encodings())
		}
	}
	if sizes["_source"] > 200 || sizes["_offset"] > 2000 {
		t.Errorf("a constant column takes %d bytes, consecutive offsets %d", sizes["_source"], sizes["_offset"])
	}
}

// TestAlmostConstant: bytes that repeat are not yet values that repeat.
func TestAlmostConstant(t *testing.T) {
	for _, values := range [][]string{{"a", "aa", "a"}, {"", "", "a"}, {"a", "", ""}, {"aa", "aa", "ab"}, {"", ""}, {"x", "x", "x"}} {
		b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String}}, nil))
		b.Field(0).(*array.StringBuilder).AppendValues(values, nil)
		rec := b.NewRecord()
		buf, err := Encode(rec, Options{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(t.Context(), buf.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if !array.Equal(rec.Column(0), got.Column(0)) {
			t.Errorf("%q read as %v", values, got.Column(0))
		}
		got.Release()
		buf.Release()
		rec.Release()
		b.Release()
	}
}

func TestDamagedFileIsAnError(t *testing.T) {
	rec := transactions(500)
	defer rec.Release()
	buf, err := Encode(rec, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer buf.Release()
	r := rand.New(rand.NewPCG(1, 1))
	for cutoff := range []int{0, 3, 100, buf.Len() - 1} {
		if rec, err := Decode(t.Context(), buf.Bytes()[:cutoff]); err == nil {
			rec.Release()
			t.Errorf("file cut to %d bytes was read", cutoff)
		}
	}
	for range 300 { // damage anywhere must not panic; values may differ
		data := bytes.Clone(buf.Bytes())
		for range 3 {
			data[r.IntN(len(data))] ^= byte(1 + r.IntN(255))
		}
		if rec, err := Decode(t.Context(), data); err == nil {
			rec.Release()
		}
	}
}
