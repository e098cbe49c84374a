package lakehouse

import (
	"fmt"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/arrow/util"
)

func TestRecordCache(t *testing.T) {
	m := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer m.AssertSize(t, 0)
	one := rows(m, perRow("p", 0, 99))
	size := util.TotalRecordSize(one)
	c := NewRecordCache(3*size + size/2)
	for i := range 3 {
		c.Put(fmt.Sprint(i), one)
	}
	one.Release()
	if c.Bytes() != 3*size {
		t.Fatalf("%d bytes of three records of %d", c.Bytes(), size)
	}
	c.Get("0").Release() // used, so that 1 is the oldest
	next := rows(m, perRow("p", 100, 199))
	c.Put("3", next)
	c.Put("3", next) // again: not counted twice
	next.Release()
	for path, want := range map[string]bool{"0": true, "1": false, "2": true, "3": true, "nope": false} {
		rec := c.Get(path)
		if (rec != nil) != want {
			t.Errorf("%s kept: %v", path, rec != nil)
		}
		if rec != nil {
			rec.Release()
		}
	}
	huge := rows(m, perRow("p", 0, 9999))
	c.Put("2", huge) // replaces what was there, and is too large itself
	huge.Release()
	if rec := c.Get("2"); rec != nil || c.Bytes() >= 3*size {
		t.Errorf("a record larger than the cache is kept, %d bytes", c.Bytes())
	}
	kept := c.Get("3")
	c.Remove("3")
	if kept.NumRows() != 100 || kept.Column(0).String() == "" {
		t.Error("a record in use was freed")
	}
	kept.Release()
	c.Clear()
	if c.Bytes() != 0 || c.Get("0") != nil {
		t.Error("cleared, and not empty")
	}
}

func TestRecordCacheConcurrent(t *testing.T) {
	m := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer m.AssertSize(t, 0)
	rec := rows(m, perRow("p", 0, 9))
	c := NewRecordCache(5 * util.TotalRecordSize(rec))
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
