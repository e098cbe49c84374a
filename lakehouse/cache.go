package lakehouse

import (
	"container/list"
	"sync"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/util"
)

// RecordCache keeps records by the path of the file that holds them, up to a number of
// bytes, those used last. It saves the worker that wrote a file from reading it. Safe
// for concurrent use; its zero value keeps nothing.
type RecordCache struct {
	max int64

	mu    sync.Mutex
	size  int64                    // guarded by mu
	order list.List                // guarded by mu: of *cached, the last used first
	items map[string]*list.Element // guarded by mu
}

type cached struct {
	path string
	rec  arrow.Record
	size int64
}

// NewRecordCache returns a cache of at most so many bytes.
func NewRecordCache(maxBytes int64) *RecordCache {
	return &RecordCache{max: maxBytes, items: map[string]*list.Element{}}
}

// Put keeps a record, with a reference of its own. One that is larger than the cache is
// not kept.
func (c *RecordCache) Put(path string, rec arrow.Record) {
	size := util.TotalRecordSize(rec)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(path)
	if size > c.max {
		return
	}
	rec.Retain()
	c.items[path] = c.order.PushFront(&cached{path, rec, size})
	c.size += size
	for c.size > c.max {
		c.drop(c.order.Back().Value.(*cached).path)
	}
}

// Get returns a record that the caller releases, or nil.
func (c *RecordCache) Get(path string) arrow.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[path]
	if !ok {
		return nil
	}
	c.order.MoveToFront(e)
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
