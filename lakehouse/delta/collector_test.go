package delta

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// TestCollector: however a file's rows come in parts, their statistics are those of the whole.
func TestCollector(t *testing.T) {
	types := []arrow.DataType{
		arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int8,
		arrow.PrimitiveTypes.Float64, arrow.PrimitiveTypes.Float32, arrow.FixedWidthTypes.Boolean, timestampType, arrow.FixedWidthTypes.Date32,
		arrow.BinaryTypes.Binary, &arrow.Decimal128Type{Precision: 38, Scale: 3}, arrow.ListOf(arrow.PrimitiveTypes.Int64),
		arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, arrow.Field{Name: "in", Type: arrow.StructOf(arrow.Field{Name: "y", Type: arrow.BinaryTypes.String, Nullable: true}), Nullable: true}),
	}
	var fields []arrow.Field
	for i, dt := range types {
		fields = append(fields, arrow.Field{Name: fmt.Sprint("c", i), Type: dt, Nullable: true})
	}
	schema := arrow.NewSchema(fields, nil)
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 9))
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		n := r.IntN(40)
		nulls := []int{0, 3, 10}[r.IntN(3)] // of 10
		for i := range fields {
			for range n {
				addRandom(r, b.Field(i), nulls)
			}
		}
		rec := b.NewRecord()
		b.Release()
		c := NewCollector(schema)
		for at := 0; at < n; {
			next := min(n, at+r.IntN(15))
			part := rec.NewSlice(int64(at), int64(next))
			c.Add(part)
			part.Release()
			at = next
		}
		if got, want := c.Stats(), Stats(rec); got != want {
			t.Fatalf("seed %d:\n%s\nand as a whole\n%s", seed, got, want)
		}
		rec.Release()
	}
}

func addRandom(r *rand.Rand, b array.Builder, nulls int) {
	if r.IntN(10) < nulls {
		b.AppendNull()
		return
	}
	v := r.IntN(2000) - 1000
	switch b := b.(type) {
	case *array.StringBuilder:
		b.Append(fmt.Sprint("é", v))
	case *array.Int64Builder:
		b.Append(int64(v))
	case *array.Int32Builder:
		b.Append(int32(v))
	case *array.Int16Builder:
		b.Append(int16(v))
	case *array.Int8Builder:
		b.Append(int8(v))
	case *array.Float64Builder:
		b.Append(float64(v) / 7)
	case *array.Float32Builder:
		if v == 0 || v == 1 {
			b.Append(float32(math.NaN()))
			return
		}
		b.Append(float32(v))
	case *array.BooleanBuilder:
		b.Append(v > 0)
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(v * 333))
	case *array.Date32Builder:
		b.Append(arrow.Date32(v))
	case *array.BinaryBuilder:
		b.Append([]byte{byte(v)})
	case *array.Decimal128Builder:
		b.Append(decimal128.FromI64(int64(v)))
	case *array.ListBuilder:
		b.Append(true)
		addRandom(r, b.ValueBuilder(), nulls)
	case *array.StructBuilder:
		b.Append(true)
		for i := range b.NumField() {
			addRandom(r, b.FieldBuilder(i), nulls)
		}
	}
}
