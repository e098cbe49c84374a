package lakehouse

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

const paged = "api/orders" // the partition of a source that has pages

// cursorWorld is a source of pages whose rows go to two tables, what has come in of
// it by the callers' knowledge, and the process that is at it.
type cursorWorld struct {
	t     *testing.T
	r     *rand.Rand
	store objstore.Store
	ends  []int64 // last offset of each page

	in     [2]batch.Intervals // ever, by table
	ready  []int64            // offsets of cursors that were committed
	tables [2]*Table
	apps   [2]*Appender
	next   int64 // offset that the process reads next
}

func newCursorWorld(t *testing.T, seed uint64, by []string) *cursorWorld {
	w := &cursorWorld{t: t, r: seeded(seed), store: mem.New()}
	for at := int64(-1); len(w.ends) < 200; {
		at += 1 + w.r.Int64N(7)
		w.ends = append(w.ends, at)
	}
	for i := range w.tables {
		if _, err := Create(t.Context(), w.store, w.root(i), CreateOptions{Schema: lived(), PartitionBy: by}, WithWait(noWait)); err != nil {
			t.Fatal(err)
		}
	}
	w.restart()
	return w
}

func (w *cursorWorld) root(i int) string { return []string{"tables/t", "tables/t_quarantine"}[i] }

// restart begins a process anew, where the log says.
func (w *cursorWorld) restart() {
	for i := range w.tables {
		w.tables[i] = w.open(i)
		w.apps[i] = NewAppender(w.tables[i], AppenderOptions{})
	}
	w.check("restarted")
	c, ok, _, err := ResumeAt(w.t.Context(), paged, w.apps[0], w.apps[1])
	if err != nil {
		w.t.Fatal(err)
	}
	w.next = 0
	if ok {
		w.next = c.Offset + 1
	}
}

func (w *cursorWorld) open(i int) *Table {
	tbl, err := Open(w.t.Context(), w.store, w.root(i), WithWait(noWait))
	if err != nil {
		w.t.Fatal(err)
	}
	return tbl
}

// check wants the cursor to be the highest of those that came in below which all is in.
func (w *cursorWorld) check(when string) {
	w.t.Helper()
	in := slices.Clone(w.in[0]).AddSet(w.in[1])
	want, reach := int64(-1), reachOf(in)
	for _, at := range w.ready {
		if at <= reach {
			want = max(want, at)
		}
	}
	fresh := [2]*Appender{NewAppender(w.open(0), AppenderOptions{}), NewAppender(w.open(1), AppenderOptions{})}
	for who, apps := range map[string][2]*Appender{"the process": w.apps, "a new one": fresh} {
		c, ok, claims, err := ResumeAt(w.t.Context(), paged, apps[0], apps[1])
		if err != nil {
			w.t.Fatal(err)
		}
		if ok != (want >= 0) || ok && (c.Offset != want || c.Text != w.text(want)) {
			w.t.Fatalf("%s: to %s the cursor is %v (found %v), want that of %d; in are %v", when, who, c, ok, want, in)
		}
		if !slices.Equal(claims, in) {
			w.t.Fatalf("%s: to %s %v are in, %v are", when, who, claims, in)
		}
	}
}

func (w *cursorWorld) text(end int64) string { return fmt.Sprintf("page behind %d", end) }

// cursorAt is the cursor that a batch which ends at an offset comes with.
func (w *cursorWorld) cursorAt(last int64) (Cursor, bool) {
	i, ok := slices.BinarySearch(w.ends, last)
	if !ok {
		i--
	}
	if i < 0 {
		return Cursor{}, false
	}
	return Cursor{Offset: w.ends[i], Text: w.text(w.ends[i])}, true
}

// read hands some batches over, which arrive in any order, or not at all; then the
// process may die.
func (w *cursorWorld) read() {
	type span struct{ first, last int64 }
	var batches []span
	for range 1 + w.r.IntN(8) {
		last := min(w.next+w.r.Int64N(9), w.ends[len(w.ends)-1])
		if w.next > last {
			break
		}
		batches = append(batches, span{w.next, last})
		w.next = last + 1
	}
	w.r.Shuffle(len(batches), func(i, j int) { batches[i], batches[j] = batches[j], batches[i] })
	dies := w.r.IntN(2) == 0
	if dies && len(batches) > 0 {
		batches = batches[:w.r.IntN(len(batches)+1)]
	}
	var wg sync.WaitGroup
	var mu sync.Mutex // of the world
	for i, b := range batches {
		half := dies && i == len(batches)-1 && w.r.IntN(2) == 0 // it dies between its two commits
		bad := uint64(0)
		if w.r.IntN(3) == 0 {
			bad = w.r.Uint64() & w.r.Uint64()
		}
		wg.Go(func() { w.land(&mu, b.first, b.last, bad, half) })
	}
	wg.Wait()
	if dies {
		w.restart()
	}
}

// land commits a batch as the output does: the bad rows first, and none that is in the other table.
func (w *cursorWorld) land(mu *sync.Mutex, first, last int64, bad uint64, half bool) {
	var runs [2][]batch.Run
	for off := first; off <= last; off++ {
		to := 0
		if bad>>(off%64)&1 == 1 {
			to = 1
		}
		if w.apps[1-to].Claims(paged).Contains(off) {
			continue
		}
		runs[to] = batch.AppendRun(runs[to], batch.Run{Partition: paged, First: off, Rows: 1, PerRow: true})
	}
	for _, to := range []int{1, 0} {
		if len(runs[to]) == 0 || half && to == 0 {
			continue
		}
		rec := livedRows(memory.DefaultAllocator, runs[to])
		in := Append{Record: rec, Runs: runs[to]}
		c, ok := w.cursorAt(last)
		if ok {
			in.Cursors = map[string]Cursor{paged: c}
		}
		out, err := w.apps[to].Append(w.t.Context(), in)
		rec.Release()
		if err != nil {
			w.t.Error(err)
			return
		}
		if out.Record != nil {
			out.Record.Release()
		}
		mu.Lock()
		for _, r := range runs[to] {
			w.in[to] = w.in[to].Add(r.Interval())
		}
		if ok && out.Rows > 0 {
			w.ready = append(w.ready, c.Offset)
		}
		mu.Unlock()
	}
}

// maintain does one of the things that change files, from another process.
func (w *cursorWorld) maintain() string {
	ctx, tbl := w.t.Context(), w.open(w.r.IntN(2))
	free := MaintainOptions{Hold: NoHold}
	var what string
	var err error
	switch w.r.IntN(5) {
	default:
		what = "compacted"
		_, err = tbl.Compact(ctx, CompactOptions{MaintainOptions: free, MinAge: -1, MinFiles: 2})
	case 1:
		what = "expired"
		_, err = tbl.Expire(ctx, ExpireOptions{MaintainOptions: free, Column: "ts", Before: minute(w.r.Int64N(2*w.next + 1))})
	case 2:
		what = "restored"
		_, err = tbl.Restore(ctx, w.r.Int64N(tbl.Snapshot().Version()+1))
	}
	if err == nil { // else who opens the table is told of the files that are gone, too
		_, err = tbl.Checkpoint(ctx)
	}
	if err != nil {
		w.t.Fatal(what, err)
	}
	return what
}

// TestCursorsAgainstModel: whatever commits in whatever order, wherever the process dies,
// and whatever becomes of the files, the cursor is the highest one that came in below
// which all rows are in; and each row that is in came in once.
func TestCursorsAgainstModel(t *testing.T) {
	for seed := range uint64(16) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			var by []string
			if seed%3 == 0 {
				by = []string{"country"}
			}
			w := newCursorWorld(t, seed, by)
			for range 25 {
				what := "read"
				if w.r.IntN(2) > 0 {
					w.read()
				} else {
					what = w.maintain()
				}
				w.check(what)
			}
			w.restart()
			seen := map[string]int{}
			for _, tbl := range w.tables {
				for id, n := range ids(t, tbl) {
					seen[id] += n
				}
			}
			for id, n := range seen {
				if n != 1 {
					t.Errorf("row %s is in %d times", id, n)
				}
			}
		})
	}
}

// TestCursorsWithoutFiles: when all rows have expired, one file without rows remembers.
func TestCursorsWithoutFiles(t *testing.T) {
	w := newCursorWorld(t, 1, []string{"country"})
	var mu sync.Mutex
	for i := range int64(3) {
		first := int64(0)
		if i > 0 {
			first = w.ends[i*10-1] + 1
		}
		w.land(&mu, first, w.ends[i*10+9], 0, false)
		tbl := w.open(0)
		if _, err := tbl.Expire(t.Context(), ExpireOptions{MaintainOptions: MaintainOptions{Hold: NoHold}, Column: "ts", Before: minute(1 << 20)}); err != nil {
			t.Fatal(err)
		}
		s := tbl.Snapshot()
		if s.NumRows() != 0 || s.NumFiles() != 1 {
			t.Fatalf("%d rows in %d files are left, want one file without rows", s.NumRows(), s.NumFiles())
		}
		w.check("expired")
	}
	w.restart()
	if w.next != w.ends[29]+1 {
		t.Errorf("goes on at %d, want %d", w.next, w.ends[29]+1)
	}
}

// TestCursorsOverAGap: files on both sides of a gap become one, and the lower cursor
// still counts, until the gap is closed.
func TestCursorsOverAGap(t *testing.T) {
	w := newCursorWorld(t, 1, nil)
	var mu sync.Mutex
	w.land(&mu, 0, w.ends[9], 0, false)
	w.land(&mu, w.ends[19]+1, w.ends[29], 0, false)
	if c, err := w.open(0).Compact(t.Context(), CompactOptions{MaintainOptions: MaintainOptions{Hold: NoHold}, MinAge: -1, MinFiles: 2}); err != nil || c.FilesIn != 2 {
		t.Fatal(c, err)
	}
	if _, err := w.open(0).Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if w.next != w.ends[9]+1 {
		t.Errorf("goes on at %d, want %d", w.next, w.ends[9]+1)
	}
	w.land(&mu, w.ends[9]+1, w.ends[19], 0, false)
	w.restart()
	if w.next != w.ends[29]+1 {
		t.Errorf("after the gap was closed it goes on at %d, want %d", w.next, w.ends[29]+1)
	}
}

func TestCursorLimits(t *testing.T) {
	w := newCursorWorld(t, 1, nil)
	runs := []batch.Run{perRow(paged, 0, 1)}
	rec := livedRows(memory.DefaultAllocator, runs)
	defer rec.Release()
	_, err := w.apps[0].Append(t.Context(), Append{Record: rec, Runs: runs, Cursors: map[string]Cursor{paged: {1, strings.Repeat("x", MaxCursor+1)}}})
	if !errors.Is(err, ErrCursorTooLong) {
		t.Errorf("a long cursor: %v", err)
	}
	_, err = w.apps[0].Append(t.Context(), Append{Record: rec, Runs: runs, Cursors: map[string]Cursor{"~run": {1, "x"}}})
	if err == nil || !strings.Contains(err.Error(), "cannot have a cursor") {
		t.Errorf("a partition that is not remembered: %v", err)
	}
	if _, ok := w.apps[0].Cursor(paged); ok {
		t.Error("a cursor is there although nothing came in")
	}
}

// TestCursorsAreBounded: above a gap that stays, the highest are remembered, and the
// one that counts.
func TestCursorsAreBounded(t *testing.T) {
	var list []Cursor
	in := batch.Intervals{{First: 0, Last: 9}}
	for off := int64(0); off < 1000; off++ {
		if off != 10 {
			list = prune(addCursor(list, Cursor{Offset: off}), in)
			in = in.Add(batch.Interval{First: off, Last: off})
		}
	}
	if len(list) != 1+maxCursors || list[0].Offset != 9 || list[maxCursors].Offset != 999 {
		t.Errorf("%d cursors, the first at %d, the last at %d", len(list), list[0].Offset, list[len(list)-1].Offset)
	}
	if list = prune(list, in.Add(batch.Interval{First: 10, Last: 10})); len(list) != 1 || list[0].Offset != 999 {
		t.Errorf("after the gap was closed: %v", list)
	}
}
