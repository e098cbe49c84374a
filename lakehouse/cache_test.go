package lakehouse

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

func TestRecordCache(t *testing.T) {
	m := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer m.AssertSize(t, 0)
	one := rows(m, perRow("p", 0, 99))
	size := heldBy(one)
	c := NewRecordCache(3*size + size/2)
	at := time.Unix(1000, 0)
	c.now = func() time.Time { return at }
	kept := func(want ...string) {
		t.Helper()
		var have []string
		for _, path := range []string{"0", "1", "2", "3", "nope"} {
			if rec := c.Get(path); rec != nil {
				have = append(have, path)
				rec.Release()
			}
		}
		if !slices.Equal(have, want) {
			t.Errorf("kept %v, want %v", have, want)
		}
	}
	for i := range 3 {
		c.Put(fmt.Sprint(i), one)
		c.Put(fmt.Sprint(i), one) // again: not counted twice
		at = at.Add(time.Second)
	}
	one.Release()
	if c.Bytes() != 3*size {
		t.Fatalf("%d bytes of three records of %d", c.Bytes(), size)
	}
	next := rows(m, perRow("p", 100, 199))
	defer next.Release()
	c.Put("3", next) // no room: who reads in order wants 0 next
	kept("0", "1", "2")
	c.Remove("1")
	c.Put("3", next)
	kept("0", "2", "3")
	at = time.Unix(1000, 0).Add(keptFor + 500*time.Millisecond) // only 0 is old now
	c.Put("1", next)
	kept("1", "2", "3")
	c.Put("0", next)
	kept("1", "2", "3")
	huge := rows(m, perRow("p", 0, 9999))
	c.Put("2", huge) // replaces what was there, and is too large itself
	huge.Release()
	kept("1", "3")
	using := c.Get("3")
	c.Remove("3")
	if using.NumRows() != 100 || using.Column(0).String() == "" {
		t.Error("a record in use was freed")
	}
	using.Release()
	c.Clear()
	if c.Bytes() != 0 || c.Get("0") != nil {
		t.Error("cleared, and not empty")
	}
}

// A record that is a slice of a larger one holds all of that, and buffers hold
// the room that was not needed.
func TestRecordCacheCountsWhatIsHeld(t *testing.T) {
	b := array.NewStringBuilder(memory.DefaultAllocator)
	for range 1000 {
		b.Append("some text that is not short")
	}
	col := b.NewArray()
	held := int64(0)
	for _, buf := range col.Data().Buffers() {
		held += int64(buf.Cap())
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.BinaryTypes.String}, {Name: "b", Type: arrow.BinaryTypes.String}}, nil)
	rec := array.NewRecord(schema, []arrow.Array{col, col}, 1000)
	if n := heldBy(rec); n != held || n <= 27_000+4_004 {
		t.Errorf("%d bytes, want %d, counted once", n, held)
	}
	if n := heldBy(rec.NewSlice(0, 1)); n != held {
		t.Errorf("a slice holds %d bytes, want %d", n, held)
	}
}

func TestRecordCacheConcurrent(t *testing.T) {
	m := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer m.AssertSize(t, 0)
	rec := rows(m, perRow("p", 0, 9))
	c := NewRecordCache(5 * heldBy(rec))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			r := seeded(uint64(w))
			for range 500 {
				path := fmt.Sprint(r.IntN(12))
				if got := c.Get(path); got != nil {
					got.Release()
				} else {
					c.Put(path, rec)
				}
			}
		})
	}
	wg.Wait()
	c.Clear()
	rec.Release()
}
