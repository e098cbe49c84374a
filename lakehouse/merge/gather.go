package merge

import (
	"fmt"
	"math"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// segment is some consecutive rows of one of several records.
type segment struct {
	rec  int // index of the record
	row  int // the first
	rows int
}

func (s segment) end() int { return s.row + s.rows }

// gather makes a record of segments of others, in their order. The caller releases it.
func gather(schema *arrow.Schema, recs []arrow.Record, segs []segment) (arrow.Record, error) {
	n := 0
	for _, s := range segs {
		n += s.rows
	}
	cols := make([]arrow.Array, schema.NumFields())
	defer func() {
		for _, c := range cols {
			if c != nil {
				c.Release()
			}
		}
	}()
	from := make([]arrow.Array, len(recs))
	for i := range cols {
		for j, r := range recs {
			from[j] = r.Column(i)
		}
		var err error
		if cols[i], err = gatherArrays(from, segs, n); err != nil {
			return nil, fmt.Errorf("column %s: %w", schema.Field(i).Name, err)
		}
	}
	return array.NewRecord(schema, cols, int64(n)), nil
}

func gatherArrays(from []arrow.Array, segs []segment, n int) (arrow.Array, error) {
	t := from[0].DataType()
	switch t := t.(type) {
	case *arrow.BooleanType:
		return finish(t, from, segs, n, gatherBits(from, segs, n, 1)), nil
	case *arrow.StringType, *arrow.BinaryType:
		offsets, data, err := gatherBytes(from, segs, n)
		if err != nil {
			return nil, err
		}
		return finish(t, from, segs, n, offsets, data), nil
	case *arrow.StructType:
		return gatherStruct(t, from, segs, n)
	case arrow.FixedWidthDataType:
		switch t.BitWidth() {
		case 8, 16, 32, 64, 128:
			return finish(t, from, segs, n, gatherFixed(from, segs, n, t.BitWidth()/8)), nil
		}
	}
	slices := make([]arrow.Array, len(segs))
	defer func() {
		for _, s := range slices {
			s.Release()
		}
	}()
	for i, s := range segs {
		slices[i] = array.NewSlice(from[s.rec], int64(s.row), int64(s.end()))
	}
	return array.Concatenate(slices, memory.DefaultAllocator)
}

// finish makes an array of buffers, before which its validity comes.
func finish(t arrow.DataType, from []arrow.Array, segs []segment, n int, buffers ...[]byte) arrow.Array {
	all := []*memory.Buffer{nil}
	nulls := 0
	if validity := gatherValidity(from, segs, n); validity != nil {
		nulls = n - bitutil.CountSetBits(validity, 0, n)
		all[0] = memory.NewBufferBytes(validity)
	}
	for _, b := range buffers {
		all = append(all, memory.NewBufferBytes(b))
	}
	d := array.NewData(t, n, all, nil, nulls, 0)
	defer d.Release()
	return array.MakeFromData(d)
}

func gatherStruct(t *arrow.StructType, from []arrow.Array, segs []segment, n int) (arrow.Array, error) {
	children := make([]arrow.ArrayData, t.NumFields())
	defer func() {
		for _, c := range children {
			if c != nil {
				c.Release()
			}
		}
	}()
	fields := make([]arrow.Array, len(from))
	for i := range children {
		for j, a := range from {
			fields[j] = a.(*array.Struct).Field(i)
		}
		c, err := gatherArrays(fields, segs, n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Field(i).Name, err)
		}
		children[i] = c.Data()
		children[i].Retain()
		c.Release()
	}
	validity, nulls := (*memory.Buffer)(nil), 0
	if v := gatherValidity(from, segs, n); v != nil {
		validity, nulls = memory.NewBufferBytes(v), n-bitutil.CountSetBits(v, 0, n)
	}
	d := array.NewData(t, n, []*memory.Buffer{validity}, children, nulls, 0)
	defer d.Release()
	return array.NewStructData(d), nil
}

// gatherValidity returns nil if nothing is null.
func gatherValidity(from []arrow.Array, segs []segment, n int) []byte {
	for _, a := range from {
		if a.NullN() > 0 {
			return gatherBits(from, segs, n, 0)
		}
	}
	return nil
}

// gatherBits gathers the bitmap of a buffer; where an array has none, all is set.
func gatherBits(from []arrow.Array, segs []segment, n, buffer int) []byte {
	out := make([]byte, bitutil.BytesForBits(int64(n)))
	bits, first := make([][]byte, len(from)), make([]int, len(from))
	for i, a := range from {
		first[i] = a.Data().Offset()
		if b := a.Data().Buffers()[buffer]; b != nil {
			bits[i] = b.Bytes()
		}
	}
	at := 0
	for _, s := range segs {
		switch src := bits[s.rec]; {
		case len(src) == 0:
			bitutil.SetBitsTo(out, int64(at), int64(s.rows), true)
		case s.rows == 1:
			if bitutil.BitIsSet(src, first[s.rec]+s.row) {
				bitutil.SetBit(out, at)
			}
		default:
			bitutil.CopyBitmap(src, first[s.rec]+s.row, s.rows, out, at)
		}
		at += s.rows
	}
	return out
}

func gatherFixed(from []arrow.Array, segs []segment, n, width int) []byte {
	out := make([]byte, n*width)
	data := make([][]byte, len(from))
	for i, a := range from {
		if b := a.Data().Buffers()[1]; b != nil {
			data[i] = b.Bytes()[a.Data().Offset()*width:]
		}
	}
	switch width {
	case 4:
		gatherValues(arrow.Uint32Traits.CastFromBytes(out), cast(data, arrow.Uint32Traits.CastFromBytes), segs)
	case 8:
		gatherValues(arrow.Uint64Traits.CastFromBytes(out), cast(data, arrow.Uint64Traits.CastFromBytes), segs)
	default:
		at := 0
		for _, s := range segs {
			at += copy(out[at:], data[s.rec][s.row*width:s.end()*width])
		}
	}
	return out
}

func cast[T any](data [][]byte, f func([]byte) []T) [][]T {
	out := make([][]T, len(data))
	for i, d := range data {
		out[i] = f(d)
	}
	return out
}

func gatherValues[T any](out []T, from [][]T, segs []segment) {
	at := 0
	for _, s := range segs {
		if s.rows == 1 {
			out[at] = from[s.rec][s.row]
			at++
			continue
		}
		at += copy(out[at:], from[s.rec][s.row:s.end()])
	}
}

// gatherBytes gathers the offsets and the bytes of strings.
func gatherBytes(from []arrow.Array, segs []segment, n int) (offsets, data []byte, err error) {
	starts, values := make([][]int32, len(from)), make([][]byte, len(from))
	for i, a := range from {
		switch a := a.(type) {
		case *array.String:
			starts[i] = offsetsOf(a)
		case *array.Binary:
			starts[i] = offsetsOf(a)
		}
		values[i] = valueBytes(a.Data())
	}
	size := int64(0)
	for _, s := range segs {
		o := starts[s.rec]
		size += int64(o[s.end()] - o[s.row])
	}
	if size > math.MaxInt32 {
		return nil, nil, fmt.Errorf("%d bytes in %d values are too many for one record", size, n)
	}
	offsets, data = make([]byte, 4*(n+1)), make([]byte, 0, size)
	out := arrow.Int32Traits.CastFromBytes(offsets)
	at := 0
	for _, s := range segs {
		o := starts[s.rec]
		shift := int32(len(data)) - o[s.row]
		for i := range s.rows {
			out[at+i] = o[s.row+i] + shift
		}
		data = append(data, values[s.rec][o[s.row]:o[s.end()]]...)
		at += s.rows
	}
	out[at] = int32(len(data))
	return offsets, data, nil
}

// Bytes returns how many bytes of values a record has; the room in its buffers that is
// not used does not count.
func Bytes(rec arrow.Record) int64 {
	size := int64(0)
	for _, c := range rec.Columns() {
		size += arrayBytes(c)
	}
	return size
}

func arrayBytes(a arrow.Array) int64 {
	n := int64(a.Len())
	size := n / 8
	switch a := a.(type) {
	case *array.String:
		o := offsetsOf(a)
		return size + 4*n + int64(o[n]-o[0])
	case *array.Binary:
		o := offsetsOf(a)
		return size + 4*n + int64(o[n]-o[0])
	case *array.Struct:
		for i := range a.NumField() {
			size += arrayBytes(a.Field(i))
		}
		return size
	case *array.List:
		return size + 4*n + listBytes(a.ListValues(), a.Offsets(), a.Data().Offset(), a.Len())
	case *array.Map:
		return size + 4*n + listBytes(a.Keys(), a.Offsets(), a.Data().Offset(), a.Len()) + listBytes(a.Items(), a.Offsets(), a.Data().Offset(), a.Len())
	}
	if t, ok := a.DataType().(arrow.FixedWidthDataType); ok {
		return size + n*int64(t.BitWidth())/8
	}
	return size
}

// listBytes returns the share of a list's values that n of its rows have.
func listBytes(values arrow.Array, offsets []int32, at, n int) int64 {
	if n == 0 || values.Len() == 0 {
		return 0
	}
	return arrayBytes(values) * int64(offsets[at+n]-offsets[at]) / int64(values.Len())
}
