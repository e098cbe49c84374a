package lakehouse

import (
	"container/list"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// RecordCache keeps records by the path of the file that holds them, up to a number of
// bytes, until they are removed. It saves the worker that wrote a file from reading it.
//
// Files are read in the order in which they were written, and once. A worker that falls
// behind therefore wants the oldest of them next, so a full cache keeps what it has and
// takes nothing new; what nobody came for within a while makes room. Safe for
// concurrent use; its zero value keeps nothing.
type RecordCache struct {
	max int64
	now func() time.Time

	mu    sync.Mutex
	size  int64                    // guarded by mu
	order list.List                // guarded by mu: of *cached, the oldest first
	items map[string]*list.Element // guarded by mu
}

// keptFor is how long a record that is not asked for may keep others out.
const keptFor = time.Minute

type cached struct {
	path string
	rec  arrow.Record
	size int64
	put  time.Time
}

// NewRecordCache returns a cache of at most so many bytes.
func NewRecordCache(maxBytes int64) *RecordCache {
	return &RecordCache{max: maxBytes, now: time.Now, items: map[string]*list.Element{}}
}

// Put keeps a record, with a reference of its own, if there is room.
func (c *RecordCache) Put(path string, rec arrow.Record) {
	size := heldBy(rec)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(path)
	if size > c.max {
		return
	}
	now := c.now()
	for c.size+size > c.max {
		oldest := c.order.Front().Value.(*cached)
		if now.Sub(oldest.put) <= keptFor {
			return
		}
		c.drop(oldest.path)
	}
	rec.Retain()
	c.items[path] = c.order.PushBack(&cached{path, rec, size, now})
	c.size += size
}

// Get returns a record that the caller releases, or nil.
func (c *RecordCache) Get(path string) arrow.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[path]
	if !ok {
		return nil
	}
	rec := e.Value.(*cached).rec
	rec.Retain()
	return rec
}

// Remove forgets a record.
func (c *RecordCache) Remove(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(path)
}

// Clear forgets all records.
func (c *RecordCache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path := range c.items {
		c.drop(path)
	}
}

// Bytes returns the size of what is kept.
func (c *RecordCache) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}

func (c *RecordCache) drop(path string) {
	e, ok := c.items[path]
	if !ok {
		return
	}
	x := e.Value.(*cached)
	c.order.Remove(e)
	delete(c.items, path)
	c.size -= x.size
	x.rec.Release()
}

// heldBy is the memory that a record keeps from being freed: its buffers with the room
// in them that was not needed, which builders that double make as large as the values,
// and the whole of those that it is a slice of.
func heldBy(rec arrow.Record) int64 {
	seen, size := map[*memory.Buffer]bool{}, int64(0)
	var add func(d arrow.ArrayData)
	add = func(d arrow.ArrayData) {
		for _, b := range d.Buffers() {
			if b != nil && !seen[b] {
				seen[b] = true
				size += int64(b.Cap())
			}
		}
		for _, child := range d.Children() {
			add(child)
		}
		if dict, ok := d.Dictionary().(*array.Data); ok && dict != nil {
			add(dict)
		}
	}
	for _, col := range rec.Columns() {
		add(col.Data())
	}
	return size
}
