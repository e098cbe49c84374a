// Package recycle is memory for Arrow that is used again. Micro-batches are a few buffers of
// some hundred kilobytes that live for as long as a commit takes. Left to the garbage
// collector they are most of what a process has, many times over.
package recycle

import (
	"math/bits"
	"os"

	"github.com/apache/arrow/go/v17/arrow/memory"
)

// Buffers from smallest to largest are kept. Smaller ones are cheap to make; larger ones are
// rare, and would be held for nothing.
const (
	smallest = 32 << 10
	largest  = 16 << 20
	// steps between two powers of two: a buffer is at most a quarter larger than asked for.
	steps = 4
)

// Allocator is for buffers that everybody who uses them holds a reference to: once the last
// reference is released, their memory is someone else's. A reader of an array that it does not
// hold (a string out of it, kept for later) would see another batch's bytes. The zero value
// keeps nothing. Safe for concurrent use.
type Allocator struct {
	classes [classes]Shelf[[]byte]
	room    Room
}

// Shared is what hop one decodes into and encodes with.
var Shared = &Allocator{room: Room{Bytes: 12 << 20}}

// Arrow's encoders of Parquet take their buffers from the default allocator, whatever they are
// told, and let them grow from 256 bytes for each column of each file.
func init() { memory.DefaultAllocator = Outgrown{Shared} }

// poison overwrites what is released, for tests to see whoever still reads it.
var poison = os.Getenv("TIDEMILL_POISON") != ""

var (
	firstBit = bits.Len(smallest) - 1
	plain    = memory.NewGoAllocator()
)

const classes = 9*steps + 1

// class returns the number of the smallest class that has room for size, and its room; -1
// when it is none of ours.
func class(size int) (n, room int) {
	if size < smallest || size > largest {
		return -1, size
	}
	bit := bits.Len(uint(size-1)) - 1 // 2^bit < size, or size is smallest
	if size == smallest {
		return 0, smallest
	}
	step := 1 << bit / steps
	part := (size - 1<<bit + step - 1) / step
	return (bit-firstBit)*steps + part, 1<<bit + part*step
}

// Allocate implements memory.Allocator. The bytes are zero, and may be more than asked for:
// Arrow's buffers take a slice's length for their capacity, and its compute kernels take the
// slice's capacity for its length.
func (a *Allocator) Allocate(size int) []byte {
	n, room := class(size)
	if n < 0 {
		return plain.Allocate(size)
	}
	if b, ok := a.classes[n].Take(&a.room); ok {
		clear(b)
		return b
	}
	return make([]byte, room) // of this size it is aligned to a page
}

// Reallocate implements memory.Allocator.
func (a *Allocator) Reallocate(size int, b []byte) []byte {
	if cap(b) >= size {
		return b[:cap(b)]
	}
	out := a.Allocate(size)
	copy(out, b)
	a.Free(b)
	return out
}

// Free implements memory.Allocator.
func (a *Allocator) Free(b []byte) {
	n, room := class(cap(b))
	if n < 0 || room != cap(b) {
		return
	}
	b = b[:room]
	if poison {
		b[0] = 0xA5
		for n := 1; n < len(b); n *= 2 {
			copy(b[n:], b[:n])
		}
	}
	a.classes[n].Give(&a.room, b, room)
}

// Outgrown is for buffers of which not everybody holds a reference. Only what a buffer leaves
// behind as it grows is used again; what is released is left to the garbage collector.
type Outgrown struct{ *Allocator }

// Free implements memory.Allocator.
func (Outgrown) Free([]byte) {}
