package recycle

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/compute"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

func TestClasses(t *testing.T) {
	last := -1
	for size := smallest; size <= largest; size += 1 + size/97 {
		n, room := class(size)
		if room < size || room > size+size/4+1 {
			t.Fatalf("%d bytes get %d", size, room)
		}
		if n < last || n >= classes {
			t.Fatalf("%d bytes: class %d after %d of %d", size, n, last, classes)
		}
		last = n
		if n2, room2 := class(room); n2 != n || room2 != room {
			t.Fatalf("room for %d: class %d of %d, itself class %d of %d", size, n, room, n2, room2)
		}
	}
	if n, room := class(largest); n != classes-1 || room != largest {
		t.Errorf("the largest is class %d of %d with %d bytes", n, classes, room)
	}
	for _, size := range []int{0, 1, smallest - 1, largest + 1} {
		if n, _ := class(size); n >= 0 {
			t.Errorf("%d bytes are of class %d", size, n)
		}
	}
}

// TestAllocator: memory is zero, aligned and the same again once it is free, but never while
// somebody has it.
func TestAllocator(t *testing.T) {
	a := &Allocator{room: Room{Bytes: 32 << 20}}
	held := map[*byte]bool{}
	take := func(size int) []byte {
		b := a.Allocate(size)
		if len(b) < size || len(b) != cap(b) {
			t.Fatalf("%d bytes of %d for %d", len(b), cap(b), size)
		}
		for i, v := range b {
			if v != 0 {
				t.Fatalf("byte %d of %d is %d", i, size, v)
			}
		}
		if p := unsafe.SliceData(b); size > 0 {
			if uintptr(unsafe.Pointer(p))%64 != 0 {
				t.Fatalf("%d bytes at %p", size, p)
			}
			if held[p] {
				t.Fatalf("the same %d bytes twice", size)
			}
			held[p] = true
		}
		return b
	}
	free := func(b []byte) {
		delete(held, unsafe.SliceData(b))
		a.Free(b)
	}
	for round := range 50 {
		var all [][]byte
		for size := 1; size < 2<<20; size = size*3 + round {
			b := take(size)
			for i := range b {
				b[i] = 0xFF
			}
			all = append(all, b)
		}
		for _, b := range all {
			free(b)
		}
	}
	b := take(40 << 10)
	n := len(b)
	b[0], b[n-1] = 1, 2
	grown := a.Reallocate(1<<20, b)
	if grown[0] != 1 || grown[n-1] != 2 || grown[n] != 0 || grown[len(grown)-1] != 0 {
		t.Error("what grows is not what it was, and zero behind it")
	}
}

// TestTake: Arrow's kernels find the room in a buffer that they think there is.
func TestTake(t *testing.T) {
	b := array.NewStringBuilder(new(Allocator))
	defer b.Release()
	const rows = 3000
	for i := range rows {
		b.Append(strings.Repeat("x", i%40))
	}
	values := b.NewArray()
	defer values.Release()
	at := array.NewInt32Builder(new(Allocator))
	defer at.Release()
	for i := range rows {
		at.Append(int32(rows - 1 - i))
	}
	indices := at.NewArray()
	defer indices.Release()
	ctx := compute.WithAllocator(t.Context(), new(Allocator))
	got, err := compute.TakeArray(ctx, values, indices)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Release()
	for i := range rows {
		if v := got.(*array.String).Value(i); len(v) != (rows-1-i)%40 {
			t.Fatalf("row %d is %q", i, v)
		}
	}
}

// TestReuse: batch after batch in the same buffers.
func TestReuse(t *testing.T) {
	a := &Allocator{room: Room{Bytes: 32 << 20}}
	batch := func() {
		b := memory.NewResizableBuffer(a)
		for size := 1 << 10; size < 4<<20; size *= 2 {
			b.Resize(size)
		}
		b.Release()
	}
	batch()
	if n := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			batch()
		}
	}).AllocedBytesPerOp(); n > 256<<10 {
		t.Errorf("a batch of 4 MiB in buffers that were there allocates %d bytes", n)
	}
}

// TestShelf: within its room, last in first out, and what nobody takes is forgotten.
func TestShelf(t *testing.T) {
	room := &Room{Bytes: 30}
	s := new(Shelf[string])
	for _, item := range []string{"a", "b", "c", "d"} {
		s.Give(room, item, 10)
	}
	if room.used.Load() != 30 || len(s.items) != 3 {
		t.Fatalf("%d bytes in %d items", room.used.Load(), len(s.items))
	}
	s.idle = len(s.items) // as after a sweep
	if got, ok := s.Take(room); !ok || got != "c" {
		t.Errorf("took %q", got)
	}
	s.Give(room, "e", 10)
	s.sweep(room)
	if len(s.items) != 1 || s.items[0].item != "e" || room.used.Load() != 10 {
		t.Errorf("after a sweep: %v, %d bytes", s.items, room.used.Load())
	}
	s.sweep(room)
	if _, ok := s.Take(room); ok || room.used.Load() != 0 {
		t.Error("what nobody took for two sweeps is still there")
	}
}
