package models

import (
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// collector gathers one output column, chunk by chunk.
type collector interface {
	// take appends the rows of a checked tensor: values index, index+width, …; the
	// first one is row first of the record.
	take(t Tensor, index, width, first int, bad *rowErrors)
	array() arrow.Array
	release()
}

const msgFinite = "the model's answer is not a finite number"

func newCollector(mem memory.Allocator, p pick, rows int) collector {
	switch p.typ.ID() {
	case arrow.FLOAT32:
		return newNumbers(mem, p.typ, arrow.Float32Traits.BytesRequired(rows), arrow.Float32Traits.CastFromBytes)
	case arrow.FLOAT64:
		return newNumbers(mem, p.typ, arrow.Float64Traits.BytesRequired(rows), arrow.Float64Traits.CastFromBytes)
	case arrow.INT32:
		return newNumbers(mem, p.typ, arrow.Int32Traits.BytesRequired(rows), arrow.Int32Traits.CastFromBytes)
	case arrow.INT64:
		return newNumbers(mem, p.typ, arrow.Int64Traits.BytesRequired(rows), arrow.Int64Traits.CastFromBytes)
	case arrow.BOOL:
		b := &booleans{array.NewBooleanBuilder(mem)}
		b.Reserve(rows)
		return b
	default:
		b := &texts{array.NewStringBuilder(mem)}
		b.Reserve(rows)
		return b
	}
}

// numbers writes straight into the buffer that the array will have.
type numbers[D float32 | float64 | int32 | int64] struct {
	typ    arrow.DataType
	buf    *memory.Buffer
	values []D
}

func newNumbers[D float32 | float64 | int32 | int64](mem memory.Allocator, typ arrow.DataType, size int, view func([]byte) []D) *numbers[D] {
	buf := memory.NewResizableBuffer(mem)
	buf.Resize(size)
	return &numbers[D]{typ, buf, view(buf.Bytes())}
}

func (n *numbers[D]) take(t Tensor, index, width, first int, bad *rowErrors) {
	dst := n.values[first:]
	switch t.Type {
	case Float32:
		takeNumbers(dst, Values[float32](t), index, width, bad)
	case Float64:
		takeNumbers(dst, Values[float64](t), index, width, bad)
	case Int32:
		takeNumbers(dst, Values[int32](t), index, width, bad)
	case Int64:
		takeNumbers(dst, Values[int64](t), index, width, bad)
	}
}

func takeNumbers[D, S float32 | float64 | int32 | int64](dst []D, src []S, index, width int, bad *rowErrors) {
	for i := 0; index < len(src); i++ {
		d := D(src[index])
		dst[i] = d
		if d-d != 0 { // NaN or infinite
			bad.add(i, msgFinite)
		}
		index += width
	}
}

func (n *numbers[D]) array() arrow.Array {
	data := array.NewData(n.typ, len(n.values), []*memory.Buffer{nil, n.buf}, nil, 0, 0)
	defer data.Release()
	return array.MakeFromData(data)
}

func (n *numbers[D]) release() { n.buf.Release() }

type booleans struct{ *array.BooleanBuilder }

func (b *booleans) take(t Tensor, index, width, _ int, _ *rowErrors) {
	for ; index < len(t.Data); index += width {
		b.UnsafeAppend(t.Data[index] != 0)
	}
}
func (b *booleans) array() arrow.Array { return b.NewArray() }
func (b *booleans) release()           { b.Release() }

type texts struct{ *array.StringBuilder }

func (b *texts) take(t Tensor, index, width, _ int, _ *rowErrors) {
	for ; index < len(t.Strings); index += width {
		b.Append(t.Strings[index])
	}
}
func (b *texts) array() arrow.Array { return b.NewArray() }
func (b *texts) release()           { b.Release() }
