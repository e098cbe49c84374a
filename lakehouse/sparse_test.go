package lakehouse

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// stream is a source whose offsets have gaps, read by processes that crash, read
// again from anywhere before what they missed, and commit out of order.
type stream struct {
	t       *testing.T
	r       *rand.Rand
	store   *mem.Store
	part    string
	ids     []int64
	index   map[int64]int
	landed  []bool // by index: the table has it
	dropped []bool // a processor drops it
	void    func(p *reader, from []int, i int) int64
	settled func(p *reader) batch.Intervals
	// Of a consumer group: what is next, and what was delivered and not acked.
	next    int
	pending map[int]bool
	starts  int // of readers
}

// reader is one process.
type reader struct {
	tbl   *Table
	app   *Appender
	at    int           // index of what it reads next
	first int           // the first it read, -1 before
	top   int           // the last in order
	acked map[int]bool  // what it knows to be done
	open  [][]batch.Run // batches on their way
}

func newStream(t *testing.T, seed uint64) *stream {
	r := seeded(seed)
	s := &stream{t: t, r: r, store: mem.New(), part: "c/s", index: map[int64]int{}, pending: map[int]bool{}}
	id := int64(0)
	for i := range 60 + r.IntN(200) {
		id += 1 + r.Int64N(5)*r.Int64N(2000)
		s.ids = append(s.ids, id)
		s.index[id] = i
	}
	s.landed, s.dropped = make([]bool, len(s.ids)), make([]bool, len(s.ids))
	for i := range s.dropped {
		s.dropped[i] = r.IntN(7) == 0
	}
	mustCreate(t, s.store, CreateOptions{})
	return s
}

func (s *stream) start(at int) *reader {
	tbl := mustOpen(s.t, s.store)
	s.starts++
	return &reader{tbl: tbl, app: NewAppender(tbl, AppenderOptions{}), at: at, first: -1, acked: map[int]bool{}}
}

// take makes batches of what was read, the rows of which stand for what void says.
func (s *stream) take(p *reader, from []int) {
	var runs []batch.Run
	for k, i := range from {
		if p.first < 0 {
			p.first, p.top = i, i
		}
		void := s.void(p, from, k)
		p.top = max(p.top, i)
		if s.dropped[i] {
			p.acked[i] = true
			delete(s.pending, i)
			continue
		}
		runs = batch.AppendRun(runs, batch.Run{Partition: s.part, First: s.ids[i], Rows: 1, Void: void})
		if s.r.IntN(10) == 0 {
			p.open = append(p.open, runs)
			runs = nil
		}
	}
	if len(runs) > 0 {
		p.open = append(p.open, runs)
	}
}

// land commits one of the batches that are on their way.
func (s *stream) land(p *reader) {
	k := s.r.IntN(len(p.open))
	runs := p.open[k]
	p.open = slices.Delete(p.open, k, k+1)
	rec := rows(memory.DefaultAllocator, runs...)
	defer rec.Release()
	out, err := p.app.Append(s.t.Context(), Append{Record: rec, Runs: runs, Settled: func() batch.Claims {
		return batch.Claims{s.part: s.settled(p)}
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	if out.Record != nil {
		out.Record.Release()
	}
	for _, r := range runs {
		for k := range r.Rows {
			i := s.index[r.Offset(k)]
			s.landed[i] = true
			p.acked[i] = true
			delete(s.pending, i)
		}
	}
	s.check(p)
}

// check compares what the log says, as a process sees it, with what has landed.
func (s *stream) check(p *reader) {
	s.t.Helper()
	in := p.app.Claims(s.part)
	for i, id := range s.ids {
		if in.Contains(id) && !s.landed[i] && !s.dropped[i] {
			s.t.Fatalf("%d is taken for in and never landed: %v", id, in)
		}
	}
	if s.r.IntN(8) > 0 {
		return
	}
	in = NewAppender(mustOpen(s.t, s.store), AppenderOptions{}).Claims(s.part)
	for i, id := range s.ids {
		if s.landed[i] && !in.Contains(id) {
			s.t.Fatalf("%d has landed and is not known to be in: %v", id, in)
		}
	}
}

// whole is a reader that sees the whole stream: nothing lies between what it reads.
func (s *stream) whole() {
	s.void = func(p *reader, from []int, k int) int64 {
		if i := from[k]; i > p.first && i > p.top {
			return s.ids[i] - s.ids[i-1] - 1
		}
		return 0 // its first, or again
	}
	s.settled = func(p *reader) batch.Intervals {
		last := p.first
		for ; last <= p.top && p.acked[last]; last++ {
		}
		if last == p.first {
			return nil
		}
		return batch.Intervals{{First: s.ids[p.first], Last: s.ids[last-1]}}
	}
}

// TestSparseOnce: processes that read the whole of a stream with gaps, each from
// somewhere before what it missed. No row is in twice, none is taken for in that is
// not, and the log does not grow with the gaps.
func TestSparseOnce(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			s := newStream(t, seed)
			s.whole()
			procs := []*reader{s.start(0), s.start(s.r.IntN(len(s.ids)))}
			for range 120 {
				p := procs[s.r.IntN(len(procs))]
				switch k := s.r.IntN(20); {
				case k < 8:
					n := min(1+s.r.IntN(12), len(s.ids)-p.at)
					var from []int
					for i := p.at; i < p.at+n; i++ {
						from = append(from, i)
					}
					p.at += n
					s.take(p, from)
				case k < 9: // a redelivery to the same process
					p.at = p.first + s.r.IntN(max(1, p.at-p.first))
					p.at = max(p.at, 0)
				case k < 10: // a crash
					back := s.r.IntN(len(s.ids))
					*p = *s.start(back)
				case len(p.open) > 0:
					s.land(p)
				}
			}
			s.finish(2 * s.starts)
		})
	}
}

// finish reads what is left, from the beginning, and looks at the table.
func (s *stream) finish(intervals int) {
	s.t.Helper()
	last := s.start(0)
	for last.at < len(s.ids) {
		n := min(10, len(s.ids)-last.at)
		var from []int
		for i := last.at; i < last.at+n; i++ {
			from = append(from, i)
		}
		last.at += n
		s.take(last, from)
		for len(last.open) > 0 {
			s.land(last)
		}
	}
	var want []batch.Run
	for i, id := range s.ids {
		if !s.dropped[i] {
			want = append(want, batch.Run{Partition: s.part, First: id, Rows: 1})
		}
	}
	wantIDs(s.t, mustOpen(s.t, s.store), want...)
	fresh := mustOpen(s.t, s.store)
	if got := NewAppender(fresh, AppenderOptions{}).Claims(s.part); len(got) > intervals {
		s.t.Errorf("%d intervals after %d starts: %v", len(got), s.starts, got)
	}
	for f := range fresh.Snapshot().Files() {
		c, err := Ranges(f)
		if err != nil {
			s.t.Fatal(err)
		}
		// Dropped rows part a file's ranges, and so do redeliveries; gaps do not.
		if n, most := len(c[s.part]), int(f.Rows); n > most {
			s.t.Errorf("file %s has %d ranges for %d rows", f.Path, n, f.Rows)
		}
	}
}

// group is a consumer group: its members share the stream, a reply has entries that
// follow each other, and what a dead member had is handed to others.
func (s *stream) group() {
	s.void = func(_ *reader, from []int, k int) int64 {
		if k > 0 && from[k] == from[k-1]+1 {
			return s.ids[from[k]] - s.ids[from[k]-1] - 1
		}
		return 0
	}
	s.settled = func(p *reader) batch.Intervals {
		floor := s.next
		for i := range s.pending {
			floor = min(floor, i)
		}
		if floor <= p.first {
			return nil
		}
		return batch.Intervals{{First: s.ids[p.first], Last: s.ids[floor-1]}}
	}
}

func (s *stream) deliver(p *reader) {
	var from []int
	for range min(1+s.r.IntN(8), len(s.ids)-s.next) {
		from = append(from, s.next)
		s.pending[s.next] = true
		s.next++
	}
	s.take(p, from)
}

// claim hands what a dead process had to another one.
func (s *stream) claim(p *reader) {
	var mine []int
	for i := range s.pending {
		mine = append(mine, i)
	}
	slices.Sort(mine)
	for _, i := range mine {
		s.take(p, []int{i})
	}
}

// TestSparseGroupOnce: members of a group see only some of the entries. What lies
// between two of one reply is void; all else is settled by the group's own word.
func TestSparseGroupOnce(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			s := newStream(t, seed)
			s.group()
			procs := []*reader{s.start(0), s.start(0), s.start(0)}
			for range 150 {
				p := procs[s.r.IntN(len(procs))]
				switch k := s.r.IntN(20); {
				case k < 6:
					s.deliver(p)
				case k < 7: // a crash; all that is pending goes to another, which may double it
					*p = *s.start(0)
					s.claim(procs[s.r.IntN(len(procs))])
				case len(p.open) > 0:
					s.land(p)
				}
			}
			// Everything pending comes again, to one member.
			p := s.start(0)
			for s.next < len(s.ids) {
				s.deliver(p)
			}
			s.claim(p)
			for len(p.open) > 0 {
				s.land(p)
			}
			s.whole()
			s.finish(len(s.ids))
		})
	}
}

// TestSparseVoidAcrossReplies is what must not be done: a member that takes what lies
// between its own entries for void stands for those of others, which are lost when
// they come again. If nothing were lost here, the tests above would prove nothing.
func TestSparseVoidAcrossReplies(t *testing.T) {
	s := newStream(t, 1)
	clear(s.dropped)
	s.settled = func(*reader) batch.Intervals { return nil }
	s.void = func(p *reader, from []int, k int) int64 {
		if from[k] > p.top {
			return s.ids[from[k]] - s.ids[p.top] - 1
		}
		return 0
	}
	p, dies, other := s.start(0), s.start(0), s.start(0)
	s.take(p, []int{0})
	s.take(dies, []int{1, 2, 3})
	s.take(p, []int{4})
	var runs []batch.Run
	for _, o := range p.open {
		runs = append(runs, o...)
	}
	mustAppend(t, p.app, runs...)
	if _, err := other.tbl.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := mustAppend(t, other.app, batch.Run{Partition: s.part, First: s.ids[2], Rows: 1})
	if again.Duplicates != 1 {
		t.Errorf("the row of another member landed: %+v", again)
	}
}
