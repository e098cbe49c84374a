package query

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

var errResultTooLarge = errors.New("a text column of the result exceeds 2 GiB; ask for fewer rows")

// collector gathers the chunks of a result into one Arrow record.
type collector struct {
	schema  *arrow.Schema
	columns []*gather
	rows    int
}

func newCollector(mem memory.Allocator, schema *arrow.Schema) *collector {
	c := &collector{schema: schema, columns: make([]*gather, schema.NumFields())}
	for i, f := range schema.Fields() {
		c.columns[i] = newGather(mem, f.Type)
	}
	return c
}

func (c *collector) add(chunk duckdb.DataChunk) error {
	n := int(duckdb.DataChunkGetSize(chunk))
	for i, g := range c.columns {
		if err := g.add(duckdb.DataChunkGetVector(chunk, duckdb.IdxT(i)), 0, n); err != nil {
			return err
		}
	}
	c.rows += n
	return nil
}

// record takes what was gathered out of the collector, which is empty afterwards.
func (c *collector) record() arrow.Record {
	cols := make([]arrow.Array, len(c.columns))
	for i, g := range c.columns {
		d := g.data()
		cols[i] = array.MakeFromData(d)
		d.Release()
	}
	rec := array.NewRecord(c.schema, cols, int64(c.rows))
	for _, a := range cols {
		a.Release()
	}
	c.rows = 0
	return rec
}

func (c *collector) release() {
	for _, g := range c.columns {
		g.release()
	}
}

// gather is one column on its way from vectors to an array: the buffers of the
// array as they grow.
type gather struct {
	typ      arrow.DataType
	mem      memory.Allocator
	n, nulls int
	valid    *memory.Buffer // made at the first null
	values   *memory.Buffer // fixed-width values, or the bytes of strings
	offsets  *memory.Buffer // strings and lists
	width    int            // bytes of a fixed-width value
	children []*gather
}

func newGather(mem memory.Allocator, dt arrow.DataType) *gather {
	g := &gather{typ: dt, mem: mem, values: memory.NewResizableBuffer(mem)}
	switch t := dt.(type) {
	case *arrow.StringType, *arrow.BinaryType:
		g.offsets = memory.NewResizableBuffer(mem)
	case *arrow.ListType:
		g.offsets = memory.NewResizableBuffer(mem)
		g.children = []*gather{newGather(mem, t.Elem())}
	case *arrow.StructType:
		for _, f := range t.Fields() {
			g.children = append(g.children, newGather(mem, f.Type))
		}
	case *arrow.BooleanType:
	case arrow.FixedWidthDataType:
		g.width = t.BitWidth() / 8
	}
	return g
}

// grow makes a buffer n bytes longer and returns the new part. Capacity is
// doubled, so that gathering chunk by chunk stays linear.
func grow(b *memory.Buffer, n int) []byte {
	was := b.Len()
	if need := was + n; need > b.Cap() {
		b.Reserve(max(need, 2*b.Cap()))
	}
	b.ResizeNoShrink(was + n)
	return b.Bytes()[was:]
}

// as looks at bytes as values; Arrow buffers are aligned for all of them.
func as[T any](b []byte) []T {
	if len(b) == 0 {
		return nil
	}
	var t T
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), len(b)/int(unsafe.Sizeof(t)))
}

// add appends rows from to from+n of a vector.
func (g *gather) add(v duckdb.Vector, from, n int) error {
	if n == 0 {
		return nil
	}
	mask := duckdb.VectorGetValidity(v)
	g.addValidity(mask, from, n)
	var err error
	switch t := g.typ.(type) {
	case *arrow.StringType, *arrow.BinaryType:
		err = g.addStrings(v, mask, from, n)
	case *arrow.ListType:
		err = g.addLists(v, mask, from, n)
	case *arrow.StructType:
		for i, c := range g.children {
			if err = c.add(duckdb.StructVectorGetChild(v, duckdb.IdxT(i)), from, n); err != nil {
				break
			}
		}
	case *arrow.BooleanType:
		g.addBooleans(v, from, n)
	case *arrow.Decimal128Type:
		g.addDecimals(v, t.Precision, from, n)
	default:
		copy(grow(g.values, n*g.width), vectorSlice[byte](v, (from+n)*g.width)[from*g.width:])
	}
	g.n += n
	return err
}

func valid(mask unsafe.Pointer, row int) bool {
	return mask == nil || *(*uint64)(unsafe.Add(mask, row/64*8))&(1<<(row%64)) != 0
}

func (g *gather) addValidity(mask unsafe.Pointer, from, n int) {
	nulls := 0
	var bits []byte
	if mask != nil {
		bits = unsafe.Slice((*byte)(mask), (from+n+63)/64*8)
		nulls = n - bitutil.CountSetBits(bits, from, n)
	}
	if nulls == 0 && g.valid == nil {
		return
	}
	if g.valid == nil {
		g.valid = memory.NewResizableBuffer(g.mem)
		bitutil.SetBitsTo(grow(g.valid, int(bitutil.BytesForBits(int64(g.n)))), 0, int64(g.n), true)
	}
	grow(g.valid, int(bitutil.BytesForBits(int64(g.n+n)))-g.valid.Len())
	if bits == nil {
		bitutil.SetBitsTo(g.valid.Bytes(), int64(g.n), int64(n), true)
	} else {
		bitutil.CopyBitmap(bits, from, n, g.valid.Bytes(), g.n)
	}
	g.nulls += nulls
}

func (g *gather) addBooleans(v duckdb.Vector, from, n int) {
	grow(g.values, int(bitutil.BytesForBits(int64(g.n+n)))-g.values.Len())
	bits := g.values.Bytes()
	for i, b := range vectorSlice[byte](v, from+n)[from:] {
		bitutil.SetBitTo(bits, g.n+i, b != 0)
	}
}

func (g *gather) addDecimals(v duckdb.Vector, precision int32, from, n int) {
	dst := as[decimal128.Num](grow(g.values, n*arrow.Decimal128SizeBytes))
	switch {
	case precision <= 4:
		for i, x := range vectorSlice[int16](v, from+n)[from:] {
			dst[i] = decimal128.FromI64(int64(x))
		}
	case precision <= 9:
		for i, x := range vectorSlice[int32](v, from+n)[from:] {
			dst[i] = decimal128.FromI64(int64(x))
		}
	case precision <= 18:
		for i, x := range vectorSlice[int64](v, from+n)[from:] {
			dst[i] = decimal128.FromI64(x)
		}
	default:
		for i, x := range vectorSlice[[2]uint64](v, from+n)[from:] {
			dst[i] = decimal128.New(int64(x[1]), x[0])
		}
	}
}

// addOffsets makes room for n more offsets; the first call also writes the
// leading zero. The last offset written is dst[-1], returned as last.
func (g *gather) addOffsets(n int) (dst []int32, last int32) {
	if g.offsets.Len() == 0 {
		as[int32](grow(g.offsets, 4))[0] = 0
	}
	before := g.offsets.Len() / 4
	grow(g.offsets, 4*n)
	all := as[int32](g.offsets.Bytes())
	return all[before:], all[before-1]
}

func (g *gather) addStrings(v duckdb.Vector, mask unsafe.Pointer, from, n int) error {
	src := vectorSlice[stringHeader](v, from+n)[from:]
	dst, last := g.addOffsets(n)
	total := int64(last)
	for i := range src {
		if valid(mask, from+i) {
			total += int64(src[i].length)
		}
		dst[i] = int32(total)
	}
	if total > math.MaxInt32 {
		return errResultTooLarge
	}
	bytes := grow(g.values, int(total)-int(last))
	for i := range src {
		if valid(mask, from+i) {
			bytes = bytes[copy(bytes, src[i].bytes()):]
		}
	}
	return nil
}

// addLists appends the elements in as few pieces as they lie in, which is
// nearly always one.
func (g *gather) addLists(v duckdb.Vector, mask unsafe.Pointer, from, n int) error {
	entries := vectorSlice[listEntry](v, from+n)[from:]
	dst, last := g.addOffsets(n)
	child, elems := duckdb.ListVectorGetChild(v), g.children[0]
	total := int64(last)
	var start, end uint64
	for i, e := range entries {
		if valid(mask, from+i) && e.length > 0 {
			total += int64(e.length)
			if e.offset != end {
				if err := elems.add(child, int(start), int(end-start)); err != nil {
					return err
				}
				start = e.offset
			}
			end = e.offset + e.length
		}
		if total > math.MaxInt32 {
			return errResultTooLarge
		}
		dst[i] = int32(total)
	}
	return elems.add(child, int(start), int(end-start))
}

// data hands the buffers over.
func (g *gather) data() arrow.ArrayData {
	buffers := []*memory.Buffer{g.valid}
	var children []arrow.ArrayData
	switch g.typ.(type) {
	case *arrow.StructType:
	case *arrow.ListType:
		g.addOffsets(0)
		buffers = append(buffers, g.offsets)
	case *arrow.StringType, *arrow.BinaryType:
		g.addOffsets(0)
		buffers = append(buffers, g.offsets, g.values)
	default:
		buffers = append(buffers, g.values)
	}
	for _, c := range g.children {
		d := c.data()
		defer d.Release()
		children = append(children, d)
	}
	d := array.NewData(g.typ, g.n, buffers, children, g.nulls, 0)
	fresh := newGather(g.mem, g.typ)
	g.releaseOwn()
	*g = *fresh
	return d
}

func (g *gather) release() {
	g.releaseOwn()
	for _, c := range g.children {
		c.release()
	}
}

func (g *gather) releaseOwn() {
	for _, b := range []*memory.Buffer{g.valid, g.values, g.offsets} {
		if b != nil {
			b.Release()
		}
	}
}

// checkVectorSize makes sure that the library agrees with vectorSize.
func checkVectorSize() error {
	if n := duckdb.VectorSize(); n != vectorSize {
		return fmt.Errorf("DuckDB was built with vectors of %d rows, %d expected", n, vectorSize)
	}
	return nil
}
