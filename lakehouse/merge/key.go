package merge

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"math/bits"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
)

// Key says by which columns rows are ordered, the first before the second. That of no
// columns takes all rows for equal.
type Key struct{ cols []int }

// NewKey returns the key of some of a schema's columns. Lists, maps and structs have no order.
func NewKey(schema *arrow.Schema, columns []string) (Key, error) {
	var k Key
	for _, name := range columns {
		at := schema.FieldIndices(name)
		if len(at) == 0 {
			return Key{}, fmt.Errorf("no column %s to sort by", name)
		}
		switch t := schema.Field(at[0]).Type; t.ID() {
		case arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.TIMESTAMP, arrow.DATE32, arrow.FLOAT32, arrow.FLOAT64,
			arrow.DECIMAL128, arrow.STRING, arrow.BINARY, arrow.BOOL:
			k.cols = append(k.cols, at[0])
		default:
			return Key{}, fmt.Errorf("column %s: rows cannot be sorted by a column of type %s", name, t)
		}
	}
	return k, nil
}

// column is a column of a key in one record, in a form that is quick to compare.
type column struct {
	valid   []byte // bitmap; nil if no value is null
	at      int    // of row 0 in it
	nums    []uint64
	offsets []int32 // of strings, when nums is nil: one more than rows
	data    []byte
}

func (c *column) null(i int) bool { return c.valid != nil && !bitutil.BitIsSet(c.valid, c.at+i) }

func (c *column) bytes(i int) []byte { return c.data[c.offsets[i]:c.offsets[i+1]] }

// compare compares row i with row j of the same column in another record.
func (c *column) compare(i int, o *column, j int) int {
	if c.valid != nil || o.valid != nil {
		switch a, b := c.null(i), o.null(j); {
		case a && b:
			return 0
		case a:
			return 1
		case b:
			return -1
		}
	}
	if c.nums != nil {
		return cmp.Compare(c.nums[i], o.nums[j])
	}
	return bytes.Compare(c.bytes(i), o.bytes(j))
}

// compareRows compares row i of one record with row j of another, by the key's columns.
func compareRows(a []column, i int, b []column, j int) int {
	for c := range a {
		if d := a[c].compare(i, &b[c], j); d != 0 {
			return d
		}
	}
	return 0
}

// columns returns the key's columns of a record. They use its memory.
func (k Key) columns(rec arrow.Record) []column {
	out := make([]column, 0, len(k.cols)+1)
	for _, i := range k.cols {
		out = appendColumn(out, rec.Column(i))
	}
	return out
}

const sign = 1 << 63

func appendColumn(out []column, a arrow.Array) []column {
	var c column
	if a.NullN() > 0 {
		c.valid, c.at = a.NullBitmapBytes(), a.Data().Offset()
	}
	switch a := a.(type) {
	case *array.Int64:
		c.nums = signed(a.Int64Values())
	case *array.Int32:
		c.nums = signed(a.Int32Values())
	case *array.Int16:
		c.nums = signed(a.Int16Values())
	case *array.Int8:
		c.nums = signed(a.Int8Values())
	case *array.Timestamp:
		c.nums = signed(a.TimestampValues())
	case *array.Date32:
		c.nums = signed(a.Date32Values())
	case *array.Float64:
		c.nums = floats(a.Float64Values())
	case *array.Float32:
		c.nums = floats(a.Float32Values())
	case *array.Boolean:
		c.nums = make([]uint64, a.Len())
		for i := range c.nums {
			if a.Value(i) {
				c.nums[i] = 1
			}
		}
	case *array.Decimal128: // as two columns, of which the second decides when the first is equal
		low := c
		c.nums, low.nums = make([]uint64, a.Len()), make([]uint64, a.Len())
		for i, v := range a.Values() {
			c.nums[i], low.nums[i] = uint64(v.HighBits())^sign, v.LowBits()
		}
		return append(out, c, low)
	case *array.String:
		c.offsets, c.data = offsetsOf(a), valueBytes(a.Data())
	case *array.Binary:
		c.offsets, c.data = offsetsOf(a), valueBytes(a.Data())
	}
	return append(out, c)
}

func signed[T int8 | int16 | int32 | int64 | arrow.Timestamp | arrow.Date32](values []T) []uint64 {
	out := make([]uint64, len(values))
	for i, v := range values {
		out[i] = uint64(int64(v)) ^ sign
	}
	return out
}

func floats[T float32 | float64](values []T) []uint64 {
	out := make([]uint64, len(values))
	for i, v := range values {
		switch b := math.Float64bits(float64(v)); {
		case v != v:
			out[i] = math.MaxUint64
		case v == 0:
			out[i] = sign
		case b&sign != 0:
			out[i] = ^b
		default:
			out[i] = b | sign
		}
	}
	return out
}

// offsetsOf returns the offsets of an array's values, also when it has none and no buffer either.
func offsetsOf(a interface {
	Len() int
	ValueOffsets() []int32
}) []int32 {
	if a.Len() == 0 {
		return []int32{0}
	}
	return a.ValueOffsets()
}

func valueBytes(d arrow.ArrayData) []byte {
	if b := d.Buffers()[2]; b != nil {
		return b.Bytes()
	}
	return nil
}

// prefix returns the first eight bytes of s from skip on as a number of the same order,
// for strings that are equal up to skip: if two numbers differ, they differ as the strings do.
func prefix(s []byte, skip int) uint64 {
	s = s[skip:]
	if len(s) >= 8 {
		return uint64(s[0])<<56 | uint64(s[1])<<48 | uint64(s[2])<<40 | uint64(s[3])<<32 | uint64(s[4])<<24 | uint64(s[5])<<16 | uint64(s[6])<<8 | uint64(s[7])
	}
	var n uint64
	for _, b := range s {
		n = n<<8 | uint64(b)
	}
	return n << (8 * uint(8-len(s)))
}

// common returns how many bytes a and b begin with alike.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if d := prefix(a, i) ^ prefix(b, i); d != 0 {
			return i + bits.LeadingZeros64(d)/8
		}
	}
	for ; i < n && a[i] == b[i]; i++ {
	}
	return i
}
