package merge

import (
	"container/heap"
	"context"
	"slices"
	"sort"

	"github.com/apache/arrow/go/v17/arrow"
)

// merger merges sources. Beside the record that it yields it holds, of each source, the
// record that is being merged and the one before it.
type merger struct {
	schema *arrow.Schema
	key    Key
	limit  Limit

	sources []Source
	heads   heads // sources that are not at their end, the one with the least row first
	begun   bool
}

// head is a source's record and the first row of it that was not merged yet.
type head struct {
	source int
	rec    arrow.Record
	cols   []column
	at     int
	row    float64 // bytes of memory
}

func (h *head) left() int { return int(h.rec.NumRows()) - h.at }

// before says whether row i of a head's record comes before the next row of another.
func (h *head) before(i int, o *head) bool {
	d := compareRows(h.cols, i, o.cols, o.at)
	return d < 0 || d == 0 && h.source < o.source
}

type heads []*head

func (h heads) Len() int           { return len(h) }
func (h heads) Less(i, j int) bool { return h[i].before(h[i].at, h[j]) }
func (h heads) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *heads) Push(x any)        { *h = append(*h, x.(*head)) }
func (h *heads) Pop() any          { x := (*h)[len(*h)-1]; *h = (*h)[:len(*h)-1]; return x }

// Merge merges sources, whose records all have one schema and are sorted by the key, to
// records of about a size. Of rows with equal keys those of the first source come first.
// With a single source it only changes the sizes of records. It takes the sources over,
// and closes them.
//
// Beside what the sources hold, it needs memory for two records of each and for the one
// that it returns.
func Merge(schema *arrow.Schema, k Key, sources []Source, limit Limit) Source {
	return &merger{schema: schema, key: k, limit: limit, sources: sources}
}

// Next implements Source.
func (m *merger) Next(ctx context.Context) (arrow.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !m.begun {
		m.begun = true
		for i := range m.sources {
			h := &head{source: i}
			more, err := m.load(ctx, h)
			if err != nil {
				return nil, err
			}
			if more {
				m.heads = append(m.heads, h)
			}
		}
		heap.Init(&m.heads)
	}
	if len(m.heads) == 0 {
		m.Close()
		return nil, nil
	}
	if top := m.heads[0]; len(m.heads) == 1 && top.at == 0 && m.limit.fits(top) {
		rec := top.rec
		rec.Retain()
		if err := m.advance(ctx, top, top.left()); err != nil {
			rec.Release()
			return nil, err
		}
		return rec, nil
	}
	return m.chunk(ctx)
}

// fits says whether a record is as large as it should be.
func (l Limit) fits(h *head) bool {
	rows, size := h.left(), int64(h.row*float64(h.left()))
	return rows <= l.Rows && (l.Bytes == 0 || size <= 2*l.Bytes) && (rows >= l.Rows/2 || l.Bytes > 0 && size >= l.Bytes/2)
}

// chunk merges the rows of one record.
func (m *merger) chunk(ctx context.Context) (arrow.Record, error) {
	var recs []arrow.Record
	defer func() {
		for _, r := range recs {
			r.Release()
		}
	}()
	index := map[arrow.Record]int{}
	var segs []segment
	rows, size := 0, 0.0
	for len(m.heads) > 0 && rows < m.limit.Rows && (rows == 0 || m.limit.Bytes == 0 || size < float64(m.limit.Bytes)) {
		top := m.heads[0]
		i, ok := index[top.rec]
		if !ok {
			i = len(recs)
			top.rec.Retain()
			recs, index[top.rec] = append(recs, top.rec), i
		}
		room := m.limit.Rows - rows
		if m.limit.Bytes > 0 && top.row > 0 {
			room = min(room, max(int((float64(m.limit.Bytes)-size)/top.row), 1))
		}
		n := m.run(top, min(room, top.left()))
		if last := len(segs) - 1; last >= 0 && segs[last].rec == i && segs[last].end() == top.at {
			segs[last].rows += n
		} else {
			segs = append(segs, segment{i, top.at, n})
		}
		rows, size = rows+n, size+float64(n)*top.row
		if err := m.advance(ctx, top, n); err != nil {
			return nil, err
		}
	}
	return gather(m.schema, recs, segs)
}

// run returns how many of the first source's next rows, of at most some, come before
// those of all others.
func (m *merger) run(top *head, most int) int {
	var second *head
	switch {
	case len(m.heads) == 1:
		return most
	case len(m.heads) == 2 || m.heads.Less(1, 2):
		second = m.heads[1]
	default:
		second = m.heads[2]
	}
	// Of the rows before lo it is known; the heap says so of the first.
	lo, step := 1, 1
	for lo+step <= most && top.before(top.at+lo+step-1, second) {
		lo, step = lo+step, 2*step
	}
	hi := min(lo+step-1, most)
	return lo + sort.Search(hi-lo, func(i int) bool { return !top.before(top.at+lo+i, second) })
}

// advance goes on by some rows in the first source.
func (m *merger) advance(ctx context.Context, top *head, n int) error {
	top.at += n
	if top.left() > 0 {
		heap.Fix(&m.heads, 0)
		return nil
	}
	more, err := m.load(ctx, top)
	switch {
	case err != nil:
		return err
	case more:
		heap.Fix(&m.heads, 0)
	default:
		heap.Pop(&m.heads)
	}
	return nil
}

// load reads a source's next record that has rows.
func (m *merger) load(ctx context.Context, h *head) (more bool, err error) {
	if h.rec != nil {
		h.rec.Release()
		h.rec, h.cols = nil, nil
	}
	for {
		rec, err := m.sources[h.source].Next(ctx)
		if err != nil || rec == nil {
			return false, err
		}
		if rec.NumRows() == 0 {
			rec.Release()
			continue
		}
		h.rec, h.cols, h.at = rec, m.key.columns(rec), 0
		h.row = float64(Bytes(rec)) / float64(rec.NumRows())
		return true, nil
	}
}

// Close implements Source.
func (m *merger) Close() {
	for _, h := range m.heads {
		if h.rec != nil {
			h.rec.Release()
		}
	}
	m.heads = nil
	for _, s := range m.sources {
		s.Close()
	}
	m.sources = nil
}

// Concat returns a source that yields what the given ones do, one after the other. Each
// is asked for only when the one before it is at its end, and closed at its own.
func Concat(sources []Source) Source { return &concat{slices.Clone(sources)} }

type concat struct{ sources []Source }

// Next implements Source.
func (c *concat) Next(ctx context.Context) (arrow.Record, error) {
	for len(c.sources) > 0 {
		rec, err := c.sources[0].Next(ctx)
		if rec != nil || err != nil {
			return rec, err
		}
		c.sources[0].Close()
		c.sources = c.sources[1:]
	}
	return nil, nil
}

// Close implements Source.
func (c *concat) Close() {
	for _, s := range c.sources {
		s.Close()
	}
	c.sources = nil
}
