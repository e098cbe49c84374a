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
	t := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: col.DataType()}
	data := array.NewDataWithDictionary(t, col.Len(), []*memory.Buffer{nil, indices}, 0, 0, value.Data().(*array.Data))
	defer data.Release()
	return array.NewDictionaryData(data), nil
}
