package lakehouse

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/compute"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// coerce gives a column that was read the type that the table has for it: other writers
// store timestamps in other units, strings as binary, small integers as larger ones, and
// say otherwise than the table what can be null and what the parts of a type are called.
// A value that does not fit is an error. The caller releases the result. parents are the
// structs around the column, of the same length.
func coerce(ctx context.Context, a arrow.Array, want arrow.DataType, parents ...arrow.Array) (arrow.Array, error) {
	switch t := want.(type) {
	case *arrow.StructType:
		if x, ok := a.(*array.Struct); ok {
			return coerceStruct(ctx, x, t, parents)
		}
	case *arrow.ListType:
		if x, ok := a.(*array.List); ok {
			return coerceList(ctx, x, t)
		}
	case *arrow.MapType:
		if x, ok := a.(*array.Map); ok {
			return coerceMap(ctx, x, t)
		}
	case *arrow.TimestampType:
		if x, ok := a.(*array.Timestamp); ok && t.Unit == arrow.Microsecond {
			return coerceTimestamp(x, t)
		}
	}
	switch {
	case arrow.TypeEqual(a.DataType(), want):
		a.Retain()
		return a, nil
	case a.DataType().ID() == arrow.NULL:
		return array.MakeArrayOfNull(memory.DefaultAllocator, want, a.Len()), nil
	case isNested(a.DataType()) || isNested(want):
		return nil, fmt.Errorf("the file has %s where the table has %s", a.DataType(), want)
	}
	out, err := compute.CastArray(ctx, a, &compute.CastOptions{ToType: want})
	if err != nil {
		return nil, fmt.Errorf("the file has %s where the table has %s: %w", a.DataType(), want, err)
	}
	return out, nil
}

func isNested(t arrow.DataType) bool { _, ok := t.(arrow.NestedType); return ok }

// validity returns the bitmap of an array as it is for offset 0; nil when nothing is null.
func validity(a arrow.Array) *memory.Buffer {
	if a.NullN() == 0 {
		return nil
	}
	bits, offset := a.NullBitmapBytes(), a.Data().Offset()
	if offset == 0 {
		b := a.Data().Buffers()[0]
		b.Retain()
		return b
	}
	out := make([]byte, bitutil.BytesForBits(int64(a.Len())))
	bitutil.CopyBitmap(bits, offset, a.Len(), out, 0)
	return memory.NewBufferBytes(out)
}

func coerceStruct(ctx context.Context, a *array.Struct, t *arrow.StructType, parents []arrow.Array) (arrow.Array, error) {
	parents = append(slices.Clip(parents), a)
	have := a.DataType().(*arrow.StructType)
	cols := make([]arrow.Array, t.NumFields())
	defer releaseAll(cols)
	children := make([]arrow.ArrayData, len(cols))
	for i, f := range t.Fields() {
		j, err := findField(have.Fields(), f.Name)
		switch {
		case err != nil:
		case j < 0:
			cols[i] = array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, a.Len())
		default:
			cols[i], err = coerce(ctx, a.Field(j), f.Type, parents...)
		}
		if err == nil && !f.Nullable {
			err = required(cols[i], parents)
		}
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
		children[i] = cols[i].Data()
	}
	valid := validity(a)
	d := array.NewData(t, a.Len(), []*memory.Buffer{valid}, children, a.NullN(), 0)
	if valid != nil {
		valid.Release()
	}
	defer d.Release()
	return array.NewStructData(d), nil
}

// required: a field that the table requires has a value wherever its struct is there.
func required(field arrow.Array, parents []arrow.Array) error {
	if field.NullN() == 0 {
		return nil
	}
	for i := range field.Len() {
		if field.IsNull(i) && !slices.ContainsFunc(parents, func(p arrow.Array) bool { return p.IsNull(i) }) {
			return fmt.Errorf("the table requires it, and row %d has no value", i)
		}
	}
	return nil
}

func coerceList(ctx context.Context, a *array.List, t *arrow.ListType) (arrow.Array, error) {
	values, err := coerce(ctx, a.ListValues(), t.Elem())
	if err != nil {
		return nil, fmt.Errorf("element: %w", err)
	}
	defer values.Release()
	if !t.ElemField().Nullable && values.NullN() > 0 {
		return nil, fmt.Errorf("the table allows no null elements, and %d are null", values.NullN())
	}
	d := array.NewData(t, a.Len(), a.Data().Buffers(), []arrow.ArrayData{values.Data()}, a.NullN(), a.Data().Offset())
	defer d.Release()
	return array.NewListData(d), nil
}

func coerceMap(ctx context.Context, a *array.Map, t *arrow.MapType) (arrow.Array, error) {
	keys, err := coerce(ctx, a.Keys(), t.KeyType())
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	defer keys.Release()
	values, err := coerce(ctx, a.Items(), t.ItemType())
	if err != nil {
		return nil, fmt.Errorf("value: %w", err)
	}
	defer values.Release()
	if keys.NullN() > 0 || !t.ItemField().Nullable && values.NullN() > 0 {
		return nil, fmt.Errorf("the table allows neither null keys nor, if it says so, null values: %d and %d are", keys.NullN(), values.NullN())
	}
	entries := array.NewData(t.Elem(), keys.Len(), []*memory.Buffer{nil}, []arrow.ArrayData{keys.Data(), values.Data()}, 0, 0)
	defer entries.Release()
	d := array.NewData(t, a.Len(), a.Data().Buffers(), []arrow.ArrayData{entries}, a.NullN(), a.Data().Offset())
	defer d.Release()
	return array.NewMapData(d), nil
}

// coerceTimestamp brings timestamps to microseconds, towards the past where they are
// finer. One without a zone is taken to be in UTC.
func coerceTimestamp(a *array.Timestamp, t *arrow.TimestampType) (arrow.Array, error) {
	have := a.DataType().(*arrow.TimestampType)
	if have.Unit == arrow.Microsecond {
		d := array.NewData(t, a.Len(), a.Data().Buffers(), nil, a.NullN(), a.Data().Offset())
		defer d.Release()
		return array.NewTimestampData(d), nil
	}
	b := array.NewTimestampBuilder(memory.DefaultAllocator, t)
	defer b.Release()
	b.Reserve(a.Len())
	for i := range a.Len() {
		if a.IsNull(i) {
			b.AppendNull()
			continue
		}
		v := int64(a.Value(i))
		switch factor := map[arrow.TimeUnit]int64{arrow.Second: 1e6, arrow.Millisecond: 1e3}[have.Unit]; {
		case factor == 0: // nanoseconds
			us := v / 1000
			if v%1000 < 0 {
				us--
			}
			v = us
		case v > math.MaxInt64/factor || v < math.MinInt64/factor:
			return nil, fmt.Errorf("row %d: timestamp %d %s is out of the range of microseconds", i, v, have.Unit)
		default:
			v *= factor
		}
		b.Append(arrow.Timestamp(v))
	}
	return b.NewArray(), nil
}
