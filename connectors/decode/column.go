package decode

import (
	"math"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// column is one column being filled: the typed slices are views of its buffers.
//
// A column does not count its values. Whoever fills it says at which index, and
// a value becomes part of the column only when the count of the column around
// it moves past that index. That makes giving up on a row free: its values are
// overwritten by the next row's. Only the list of nulls has to be cut back.
type column struct {
	kind     kind
	required bool
	extra    bool  // beside the contract's; of kindString: takes every value
	prec     int32 // decimal
	scale    int32
	name     string
	typ      arrow.DataType

	i64     []int64 // kindInt64, kindTimestamp
	f64     []float64
	i32     []int32 // kindInt32, kindDate
	f32     []float32
	dec     []decimal128.Num
	bits    []byte  // kindBool
	offsets []int32 // kindString, kindList: offsets[0] is 0, value i ends at offsets[i+1]
	data    []byte  // kindString
	nulls   []int32 // indices, ascending
	elem    *column // kindList
	elemCap int     // values that elem has room for
	obj     *object // kindStruct

	values *memory.Buffer // under i64, f64, i32, f32, dec, bits or offsets
	bytes  *memory.Buffer // under data

	hint     int // bytes or elements to make room for, after the last record
	hintRows int // of the raw column: rows
}

// newColumn makes a column whose values lie in something of the given level.
func newColumn(f arrow.Field, level int) column {
	c := column{kind: kindOf(f.Type), required: !f.Nullable, name: f.Name, typ: f.Type}
	switch t := f.Type.(type) {
	case *arrow.Decimal128Type:
		c.prec, c.scale = t.Precision, t.Scale
	case *arrow.ListType:
		elem := newColumn(t.ElemField(), level+1)
		c.elem = &elem
	case *arrow.StructType:
		c.obj = newObject(t.Fields(), level+1)
	}
	return c
}

// grow makes room for n values, of which the bytes of strings are not part.
func (c *column) grow(mem memory.Allocator, n int) {
	if c.kind == kindStruct {
		for i := range c.obj.fields {
			c.obj.fields[i].grow(mem, n)
		}
		return
	}
	if c.values == nil {
		c.values = memory.NewResizableBuffer(mem)
	}
	fresh := c.values.Cap() == 0
	switch c.kind {
	case kindInt64, kindTimestamp:
		c.values.Reserve(n * 8)
		c.i64 = arrow.Int64Traits.CastFromBytes(c.values.Buf())
	case kindFloat64:
		c.values.Reserve(n * 8)
		c.f64 = arrow.Float64Traits.CastFromBytes(c.values.Buf())
	case kindInt32, kindDate:
		c.values.Reserve(n * 4)
		c.i32 = arrow.Int32Traits.CastFromBytes(c.values.Buf())
	case kindFloat32:
		c.values.Reserve(n * 4)
		c.f32 = arrow.Float32Traits.CastFromBytes(c.values.Buf())
	case kindDecimal:
		c.values.Reserve(n * arrow.Decimal128SizeBytes)
		c.dec = arrow.Decimal128Traits.CastFromBytes(c.values.Buf())
	case kindBool:
		c.values.Reserve((n + 7) / 8)
		c.bits = c.values.Buf()
	case kindString, kindList:
		c.values.Reserve((n + 1) * 4)
		c.offsets = arrow.Int32Traits.CastFromBytes(c.values.Buf())
		if fresh {
			c.offsets[0] = 0
		}
		if c.kind == kindString && c.bytes == nil {
			c.bytes = memory.NewResizableBuffer(mem)
			c.bytes.Reserve(max(c.hint, n))
			c.data = c.bytes.Buf()
		}
		if c.kind == kindList && c.elemCap == 0 {
			c.growElem(mem, max(c.hint, n))
		}
	}
}

// growData makes room for n bytes of strings and returns the bytes to write to.
func (c *column) growData(n int) []byte {
	c.bytes.Reserve(max(n, c.bytes.Cap()*2))
	c.data = c.bytes.Buf()
	return c.data
}

func (c *column) growElem(mem memory.Allocator, n int) {
	c.elemCap = max(n, c.elemCap*2)
	c.elem.grow(mem, c.elemCap)
}

// setNull writes a null at idx; of a column that cannot be null, and whose
// struct is, a value that nobody reads.
func (c *column) setNull(idx int) {
	if !c.required {
		c.nulls = append(c.nulls, int32(idx))
	}
	switch c.kind {
	case kindInt64, kindTimestamp:
		c.i64[idx] = 0
	case kindFloat64:
		c.f64[idx] = 0
	case kindInt32, kindDate:
		c.i32[idx] = 0
	case kindFloat32:
		c.f32[idx] = 0
	case kindDecimal:
		c.dec[idx] = decimal128.Num{}
	case kindBool:
		c.setBool(idx, 0)
	case kindString, kindList:
		c.offsets[idx+1] = c.offsets[idx]
	case kindStruct:
		for i := range c.obj.fields {
			c.obj.fields[i].setNull(idx)
		}
	}
}

// setBool overwrites the bit at idx, which an abandoned row may have set.
func (c *column) setBool(idx int, v byte) {
	shift := uint(idx) & 7
	c.bits[idx>>3] = c.bits[idx>>3]&^(1<<shift) | v<<shift
}

// cut forgets the nulls at n and above.
func (c *column) cut(n int) {
	k := len(c.nulls)
	for k > 0 && int(c.nulls[k-1]) >= n {
		k--
	}
	c.nulls = c.nulls[:k]
	switch c.kind {
	case kindList:
		c.elem.cut(int(c.offsets[n]))
	case kindStruct:
		for i := range c.obj.fields {
			c.obj.fields[i].cut(n)
		}
	}
}

// take hands over the first n values and leaves the column empty, without buffers.
func (c *column) take(mem memory.Allocator, n int) *array.Data {
	bufs := []*memory.Buffer{c.validity(mem, n)}
	var children []arrow.ArrayData
	switch c.kind {
	case kindString:
		size := int(c.offsets[n])
		c.hint = withSlack(size)
		bufs = append(bufs, fit(c.values, (n+1)*4), fit(c.bytes, size))
	case kindList:
		size := int(c.offsets[n])
		c.hint = withSlack(size)
		bufs = append(bufs, fit(c.values, (n+1)*4))
		children = []arrow.ArrayData{c.elem.take(mem, size)}
	case kindStruct:
		for i := range c.obj.fields {
			children = append(children, c.obj.fields[i].take(mem, n))
		}
	case kindBool:
		bufs = append(bufs, fit(c.values, (n+7)/8))
	default:
		bufs = append(bufs, fit(c.values, n*c.typ.(arrow.FixedWidthDataType).Bytes()))
	}
	data := array.NewData(c.typ, n, bufs, children, len(c.nulls), 0)
	for _, b := range bufs {
		if b != nil {
			b.Release()
		}
	}
	for _, d := range children {
		d.Release()
	}
	c.values, c.bytes = nil, nil // the array's now
	c.reset()
	return data
}

// reset gives up all values and buffers.
func (c *column) reset() {
	if c.values != nil {
		c.values.Release()
	}
	if c.bytes != nil {
		c.bytes.Release()
	}
	c.values, c.bytes = nil, nil
	c.i64, c.f64, c.i32, c.f32, c.dec, c.bits, c.offsets, c.data = nil, nil, nil, nil, nil, nil, nil, nil
	c.nulls, c.elemCap = c.nulls[:0], 0
	if c.elem != nil {
		c.elem.reset()
	}
	if c.obj != nil {
		for i := range c.obj.fields {
			c.obj.fields[i].reset()
		}
	}
}

// validity is the bitmap of the nulls, nil when there are none.
func (c *column) validity(mem memory.Allocator, n int) *memory.Buffer {
	if len(c.nulls) == 0 {
		return nil
	}
	b := memory.NewResizableBuffer(mem)
	b.Resize((n + 7) / 8)
	memory.Set(b.Bytes(), 0xff)
	for _, i := range c.nulls {
		bitutil.ClearBit(b.Bytes(), int(i))
	}
	return b
}

// fit sets a buffer's length, and gives back room when most of it is unused:
// records live on in a cache that counts what they hold.
func fit(b *memory.Buffer, size int) *memory.Buffer {
	if b.Cap() > 4096 && size < b.Cap()/2 {
		b.Resize(size)
	} else {
		b.ResizeNoShrink(size)
	}
	return b
}

// withSlack is what to reserve after a record that took n.
func withSlack(n int) int { return min(n+n/8+64, math.MaxInt32) }
