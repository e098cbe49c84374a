package parquet

import (
	"bytes"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// sampleRows is how many values of a column, evenly spaced, are looked at.
const sampleRows = 256

// paysOff says whether a column should have a dictionary. Building one hashes every
// value, which costs more than it saves once values hardly repeat.
func paysOff(col arrow.Array) bool {
	n := col.Len()
	if n < 2 {
		return false
	}
	step := max(1, n/sampleRows)
	switch a := col.(type) {
	case *array.String:
		return repeats(a.Len(), step, a.Value)
	case *array.Binary:
		return repeats(a.Len(), step, func(i int) string { v := a.Value(i); return unsafe.String(unsafe.SliceData(v), len(v)) })
	case *array.Int64:
		return repeats(n, step, a.Value)
	case *array.Int32:
		return repeats(n, step, a.Value)
	case *array.Float64:
		return repeats(n, step, a.Value)
	case *array.Float32:
		return repeats(n, step, a.Value)
	case *array.Date32:
		return repeats(n, step, a.Value)
	case *array.Timestamp:
		return repeats(n, step, a.Value)
	}
	return false
}

// repeats estimates from a sample whether a column has at most an eighth as many values
// as rows. Of d values equally likely, k samples hold about k*k/2d repetitions; a small
// column is its own sample, and then a quarter of it may be distinct.
func repeats[T comparable](rows, step int, value func(int) T) bool {
	seen, sampled := make(map[T]struct{}, sampleRows), 0
	for i := 0; i < rows; i += step {
		sampled++
		seen[value(i)] = struct{}{}
	}
	repeated := sampled - len(seen)
	return len(seen) <= sampled/4 || repeated*rows >= 4*sampled*sampled
}

// constant says whether all of a column's values are one, which is usual for what
// describes a batch (source partition, model, contract).
func constant(col arrow.Array) bool {
	n := col.Len()
	if n < 2 || col.NullN() > 0 {
		return false
	}
	switch a := col.(type) {
	case *array.String:
		return constantBytes(a.ValueOffsets(), a.Data())
	case *array.Binary:
		return constantBytes(a.ValueOffsets(), a.Data())
	case *array.Int64:
		return same(a.Int64Values())
	case *array.Int32:
		return same(a.Int32Values())
	}
	return false // of other types the encoder takes no ready dictionary
}

func same[T comparable](values []T) bool {
	for _, v := range values {
		if v != values[0] {
			return false
		}
	}
	return true
}

// constantBytes compares the values' bytes with themselves, one value further on.
func constantBytes(offsets []int32, data arrow.ArrayData) bool {
	width := offsets[1] - offsets[0]
	for i := 1; i < len(offsets); i++ {
		if offsets[i]-offsets[i-1] != width {
			return false
		}
	}
	if width == 0 {
		return true
	}
	raw := data.Buffers()[2].Bytes()[offsets[0]:offsets[len(offsets)-1]]
	return bytes.Equal(raw[width:], raw[:len(raw)-int(width)])
}

// maxDictionary is below the size, 1 MiB, at which the encoder gives a dictionary up.
const maxDictionary = 512 << 10

// indexed returns a column that should have a dictionary as indices into it, where that can
// be done for less than the encoder's own way, which boxes every value: for strings, and
// for constants. Others are returned as they are. The caller releases what it gets.
func indexed(mem memory.Allocator, col arrow.Array) (arrow.Array, error) {
	if constant(col) {
		return dictionaryOfOne(mem, col)
	}
	a, ok := col.(*array.String)
	if !ok || a.Data().Offset() != 0 { // the validity's bits would not be the indices'
		col.Retain()
		return col, nil
	}
	n := a.Len()
	indices := memory.NewResizableBuffer(mem)
	defer indices.Release()
	indices.Resize(4 * n)
	at := arrow.Int32Traits.CastFromBytes(indices.Bytes())
	values := array.NewStringBuilder(mem)
	defer values.Release()
	known := map[string]int32{} // of strings in col, which outlives it
	size := 0
	for i := range n {
		if a.IsNull(i) {
			at[i] = 0
			continue
		}
		v := a.Value(i)
		k, ok := known[v]
		if !ok {
			if size += len(v); size > maxDictionary {
				col.Retain()
				return col, nil // the encoder knows what to do with too large a dictionary
			}
			k = int32(len(known))
			known[v] = k
			values.Append(v)
		}
		at[i] = k
	}
	if len(known) == 0 { // there are only nulls
		values.Append("")
	}
	dict := values.NewArray()
	defer dict.Release()
	return withDictionary(col, indices, dict), nil
}

// withDictionary returns indices into a dictionary, with a column's nulls.
func withDictionary(col arrow.Array, indices *memory.Buffer, dict arrow.Array) arrow.Array {
	t := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: col.DataType()}
	var valid *memory.Buffer
	if col.NullN() > 0 {
		valid = col.Data().Buffers()[0]
	}
	data := array.NewDataWithDictionary(t, col.Len(), []*memory.Buffer{valid, indices}, col.NullN(), 0, dict.Data().(*array.Data))
	defer data.Release()
	return array.NewDictionaryData(data)
}

// dictionaryOfOne returns a constant column as indices into its single value.
func dictionaryOfOne(mem memory.Allocator, col arrow.Array) (arrow.Array, error) {
	first := array.NewSlice(col, 0, 1)
	defer first.Release()
	// A copy: the encoder takes a dictionary's offsets to begin at 0.
	value, err := array.Concatenate([]arrow.Array{first}, mem)
	if err != nil {
		return nil, err
	}
	defer value.Release()
	indices := memory.NewResizableBuffer(mem)
	defer indices.Release()
	indices.Resize(4 * col.Len())
	clear(indices.Bytes())
	return withDictionary(col, indices, value), nil
}
