package query

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"strings"
	"sync"
	"unicode/utf8"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/memory"
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// vectorSize is the number of rows that DuckDB works on at a time; the library
// is built with it (STANDARD_VECTOR_SIZE), and openDatabase checks it.
const vectorSize = 2048

// stringHeader is DuckDB's string_t: up to 12 bytes inline, or the first four
// and a pointer. The pointer is kept as a number: a pointer type would make the
// garbage collector look at what DuckDB's memory held before.
type stringHeader struct {
	length uint32
	prefix [4]byte
	ptr    uint64
}

const inlineString = 12

func (h *stringHeader) inline() *[inlineString]byte {
	return (*[inlineString]byte)(unsafe.Pointer(&h.prefix))
}

// bytes returns what the header stands for; valid as long as h and its memory are.
func (h *stringHeader) bytes() []byte {
	if h.length <= inlineString {
		return h.inline()[:h.length]
	}
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&h.ptr)), h.length)
}

// listEntry is DuckDB's list_entry_t.
type listEntry struct{ offset, length uint64 }

func vectorSlice[T any](v duckdb.Vector, n int) []T {
	return unsafe.Slice((*T)(duckdb.VectorGetData(v)), n)
}

// fillVector writes n values of an array, beginning at row from, into a flat
// vector at position at. The array's string data must be pinned.
func fillVector(v duckdb.Vector, a arrow.Array, from, n, at int) {
	if n == 0 {
		return
	}
	fillValidity(v, a, from, n, at)
	first := a.Data().Offset() + from // of the array's buffers
	switch a := a.(type) {
	case *array.Int64:
		copy(vectorSlice[int64](v, at+n)[at:], a.Int64Values()[from:from+n])
	case *array.Int32:
		copy(vectorSlice[int32](v, at+n)[at:], a.Int32Values()[from:from+n])
	case *array.Float64:
		copy(vectorSlice[float64](v, at+n)[at:], a.Float64Values()[from:from+n])
	case *array.Float32:
		copy(vectorSlice[float32](v, at+n)[at:], a.Float32Values()[from:from+n])
	case *array.Timestamp:
		copy(vectorSlice[arrow.Timestamp](v, at+n)[at:], a.TimestampValues()[from:from+n])
	case *array.Date32:
		copy(vectorSlice[arrow.Date32](v, at+n)[at:], a.Date32Values()[from:from+n])
	case *array.Boolean:
		dst, bits := vectorSlice[bool](v, at+n)[at:], a.Data().Buffers()[1].Bytes()
		for i := range dst {
			dst[i] = bitutil.BitIsSet(bits, first+i)
		}
	case *array.String:
		fillStrings(v, a.ValueOffsets()[from:], a.Data().Buffers()[2], n, at)
	case *array.Binary:
		fillStrings(v, a.ValueOffsets()[from:], a.Data().Buffers()[2], n, at)
	case *array.Decimal128:
		fillDecimals(v, a, from, n, at)
	case *array.List:
		fillLists(v, a, from, n, at)
	case *array.Struct:
		for i := range a.NumField() {
			child := duckdb.StructVectorGetChild(v, duckdb.IdxT(i))
			fillVector(child, a.Field(i), from, n, at)
			maskWith(child, a, from, n, at)
		}
	}
}

// fillValidity looks at the bits rather than at NullN, which counts lazily and
// so writes to an array that others may be reading.
func fillValidity(v duckdb.Vector, a arrow.Array, from, n, at int) {
	bits, first := a.NullBitmapBytes(), a.Data().Offset()+from
	if len(bits) == 0 || bitutil.CountSetBits(bits, first, n) == n {
		return
	}
	bitutil.CopyBitmap(bits, first, n, writableMask(v, at+n), at)
}

// maskWith makes rows of a child null where the struct is: DuckDB expects it,
// Arrow leaves it open.
func maskWith(child duckdb.Vector, parent arrow.Array, from, n, at int) {
	bits, first := parent.NullBitmapBytes(), parent.Data().Offset()+from
	if len(bits) == 0 || bitutil.CountSetBits(bits, first, n) == n {
		return
	}
	mask := writableMask(child, at+n)
	for i := range n {
		if !bitutil.BitIsSet(bits, first+i) {
			bitutil.ClearBit(mask, at+i)
		}
	}
}

func writableMask(v duckdb.Vector, rows int) []byte {
	duckdb.VectorEnsureValidityWritable(v)
	return unsafe.Slice((*byte)(duckdb.VectorGetValidity(v)), (rows+63)/64*8)
}

func fillStrings(v duckdb.Vector, offsets []int32, values *memory.Buffer, n, at int) {
	var data []byte
	if values != nil {
		data = values.Bytes()
	}
	dst := vectorSlice[stringHeader](v, at+n)[at:]
	for i := range dst {
		s := data[offsets[i]:offsets[i+1]]
		h := &dst[i]
		*h = stringHeader{length: uint32(len(s))}
		if len(s) <= inlineString {
			copy(h.inline()[:], s)
		} else {
			h.prefix = [4]byte(s)
			h.ptr = uint64(uintptr(unsafe.Pointer(&s[0])))
		}
	}
}

// fillDecimals narrows to the integer that DuckDB holds a precision in; the
// widest has Arrow's own layout.
func fillDecimals(v duckdb.Vector, a *array.Decimal128, from, n, at int) {
	values := a.Values()[from : from+n]
	switch p := a.DataType().(*arrow.Decimal128Type).Precision; {
	case p <= 4:
		dst := vectorSlice[int16](v, at+n)[at:]
		for i, x := range values {
			dst[i] = int16(x.LowBits())
		}
	case p <= 9:
		dst := vectorSlice[int32](v, at+n)[at:]
		for i, x := range values {
			dst[i] = int32(x.LowBits())
		}
	case p <= 18:
		dst := vectorSlice[int64](v, at+n)[at:]
		for i, x := range values {
			dst[i] = int64(x.LowBits())
		}
	default:
		dst := vectorSlice[[2]uint64](v, at+n)[at:]
		for i, x := range values {
			dst[i] = [2]uint64{x.LowBits(), uint64(x.HighBits())}
		}
	}
}

func fillLists(v duckdb.Vector, a *array.List, from, n, at int) {
	offsets := a.Offsets()[a.Data().Offset()+from:][:n+1] // unlike other accessors, Offsets begins before a slice does
	first, total := int(offsets[0]), int(offsets[n]-offsets[0])
	base := int(duckdb.ListVectorGetSize(v))
	duckdb.ListVectorReserve(v, duckdb.IdxT(base+total))
	duckdb.ListVectorSetSize(v, duckdb.IdxT(base+total))
	dst := vectorSlice[listEntry](v, at+n)[at:]
	for i := range dst {
		dst[i] = listEntry{uint64(base + int(offsets[i]) - first), uint64(offsets[i+1] - offsets[i])}
	}
	fillVector(duckdb.ListVectorGetChild(v), a.ListValues(), first, total, base)
}

// input is what the views return in one run, and what has been done to make
// their columns safe to read: only for columns that the query uses, once each.
type input struct {
	views  map[string][]arrow.Record
	pinner runtime.Pinner

	mu    sync.Mutex
	seen  map[arrow.Array]arrow.Array // guarded by mu: a column and what is read in its place
	fixed []arrow.Array               // guarded by mu: made here
}

func newInput(views map[string][]arrow.Record) *input {
	return &input{views: views, seen: map[arrow.Array]arrow.Array{}}
}

// ready returns a column, or a copy in which strings that are not UTF-8 have
// U+FFFD in place of the offending bytes: DuckDB takes its strings to be valid
// and may stop working for good on others. String data is pinned.
func (in *input) ready(a arrow.Array) arrow.Array {
	in.mu.Lock()
	defer in.mu.Unlock()
	if r := in.seen[a]; r != nil {
		return r
	}
	r := a
	if d, changed := validTextData(a.Data()); changed {
		r = array.MakeFromData(d)
		d.Release()
		in.fixed = append(in.fixed, r)
	}
	pin(&in.pinner, r.Data())
	in.seen[a] = r
	return r
}

func (in *input) release() {
	in.pinner.Unpin()
	for _, a := range in.fixed {
		a.Release()
	}
}

// pin keeps the string data of an array where it is until p is unpinned.
func pin(p *runtime.Pinner, d arrow.ArrayData) {
	switch d.DataType().ID() {
	case arrow.STRING, arrow.BINARY:
		if b := d.Buffers()[2]; b != nil && b.Len() > 0 {
			p.Pin(&b.Bytes()[0])
		}
	}
	for _, c := range d.Children() {
		pin(p, c)
	}
}

func validTextData(d arrow.ArrayData) (arrow.ArrayData, bool) {
	if d.DataType().ID() == arrow.STRING {
		a := array.NewStringData(d)
		defer a.Release()
		if textIsValid(a) {
			return nil, false
		}
		return repairText(a), true
	}
	children, changed := d.Children(), false
	for i, c := range d.Children() {
		fixed, ok := validTextData(c)
		if !ok {
			continue
		}
		if !changed {
			children, changed = append([]arrow.ArrayData(nil), children...), true
		}
		children[i] = fixed
		defer fixed.Release()
	}
	if !changed {
		return nil, false
	}
	return array.NewData(d.DataType(), d.Len(), d.Buffers(), children, d.NullN(), d.Offset()), true
}

func repairText(a *array.String) arrow.ArrayData {
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	for i := range a.Len() {
		if a.IsNull(i) {
			b.AppendNull()
		} else {
			b.Append(strings.ToValidUTF8(a.Value(i), "\uFFFD"))
		}
	}
	fixed := b.NewArray()
	defer fixed.Release()
	fixed.Data().Retain()
	return fixed.Data()
}

// textIsValid looks at all strings as one text first, which is fast, and at
// single ones only when that text is not plain ASCII.
func textIsValid(a *array.String) bool {
	if a.Len() == 0 {
		return true
	}
	offsets := a.ValueOffsets()
	if a.Data().Buffers()[2] == nil {
		return true
	}
	data := a.Data().Buffers()[2].Bytes()[offsets[0]:offsets[a.Len()]]
	if isASCII(data) {
		return true
	}
	for i := range a.Len() {
		if a.IsValid(i) && !utf8.Valid(data[offsets[i]-offsets[0]:offsets[i+1]-offsets[0]]) {
			return false
		}
	}
	return true
}

func isASCII(b []byte) bool {
	const high = 0x8080808080808080
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b)&high != 0 {
			return false
		}
	}
	return bytes.IndexFunc(b, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}
