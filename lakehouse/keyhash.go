package lakehouse

import (
	"encoding/binary"
	"hash/maphash"
	"math"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
)

// keyHasher makes rowKeys of columns. Its seeds are random, so that nobody who sends
// rows can aim at a collision.
type keyHasher [2]maphash.Seed

func newKeyHasher() keyHasher { return keyHasher{maphash.MakeSeed(), maphash.MakeSeed()} }

// keys returns the keys of n rows; a row with a null in any of the columns has none.
func (h keyHasher) keys(columns []arrow.Array, n int) []rowKey {
	out := make([]rowKey, n)
	if s, ok := columns[0].(*array.String); ok && len(columns) == 1 {
		for i := range out {
			if !s.IsNull(i) {
				v := s.Value(i)
				out[i] = rowKey{maphash.String(h[0], v), uint32(maphash.String(h[1], v))} //nolint:gosec // as many bits as there are
			}
		}
		return out
	}
	encoders := make([]func([]byte, int) []byte, len(columns))
	for i, c := range columns {
		encoders[i] = encoder(c)
	}
	buf := make([]byte, 0, 64)
rows:
	for i := range out {
		buf = buf[:0]
		for j, c := range columns {
			if c.IsNull(i) {
				continue rows
			}
			buf = encoders[j](buf, i)
		}
		out[i] = rowKey{maphash.Bytes(h[0], buf), uint32(maphash.Bytes(h[1], buf))} //nolint:gosec // as many bits as there are
	}
	return out
}

// encoder returns what appends a column's value in a row, so that no two rows of
// several columns have the same bytes unless all of their values are the same.
func encoder(column arrow.Array) func(buf []byte, row int) []byte {
	le := binary.LittleEndian
	switch c := column.(type) {
	case *array.String:
		return func(b []byte, i int) []byte {
			v := c.Value(i)
			return append(binary.AppendUvarint(b, uint64(len(v))), v...)
		}
	case *array.Binary:
		return func(b []byte, i int) []byte {
			v := c.Value(i)
			return append(binary.AppendUvarint(b, uint64(len(v))), v...)
		}
	case *array.Int64:
		return func(b []byte, i int) []byte { return le.AppendUint64(b, uint64(c.Value(i))) } //nolint:gosec // bits
	case *array.Int32:
		return func(b []byte, i int) []byte { return le.AppendUint32(b, uint32(c.Value(i))) } //nolint:gosec // bits
	case *array.Timestamp:
		return func(b []byte, i int) []byte { return le.AppendUint64(b, uint64(c.Value(i))) } //nolint:gosec // bits
	case *array.Date32:
		return func(b []byte, i int) []byte { return le.AppendUint32(b, uint32(c.Value(i))) } //nolint:gosec // bits
	case *array.Float64:
		return func(b []byte, i int) []byte { return le.AppendUint64(b, math.Float64bits(c.Value(i))) }
	case *array.Float32:
		return func(b []byte, i int) []byte { return le.AppendUint32(b, math.Float32bits(c.Value(i))) }
	case *array.Decimal128:
		return func(b []byte, i int) []byte {
			v := c.Value(i)
			return le.AppendUint64(le.AppendUint64(b, uint64(v.HighBits())), v.LowBits()) //nolint:gosec // bits
		}
	}
	return func(b []byte, i int) []byte {
		v := column.ValueStr(i)
		return append(binary.AppendUvarint(b, uint64(len(v))), v...)
	}
}
