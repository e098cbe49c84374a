package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

func TestAppendOnce(t *testing.T) {
	m := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer m.AssertSize(t, 0)
	store := mem.New()
	tbl := mustCreate(t, store, CreateOptions{})
	a := NewAppender(tbl, AppenderOptions{})
	rec := rows(m, perRow("p", 0, 9))
	defer rec.Release()
	in := Append{Record: rec, Runs: []batch.Run{perRow("p", 0, 9)}, Tags: map[string]string{"by": "me"}}
	out, err := a.Append(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if out.Version != 1 || out.Rows != 10 || out.Duplicates != 0 || len(out.Files) != 1 || out.Record.NumRows() != 10 {
		t.Fatalf("%+v", out)
	}
	out.Record.Release()
	f := slices.Collect(tbl.Snapshot().Files())[0]
	if f.Tags[TagRanges] != `{"p":[[0,9]]}` || f.Tags["by"] != "me" || f.Version != 1 {
		t.Errorf("%+v", f)
	}
	if got := txns(tbl.Snapshot()); !maps.Equal(got, map[string]int64{"p": 9}) {
		t.Errorf("txns %v", got)
	}
	// Again, in this process and in another.
	for _, a := range []*Appender{a, NewAppender(mustOpen(t, store), AppenderOptions{})} {
		out, err := a.Append(t.Context(), in)
		if err != nil || out.Rows != 0 || out.Duplicates != 10 || out.Version != 1 || out.Files != nil || out.Record != nil {
			t.Errorf("again: %+v %v", out, err)
		}
	}
	// A part of it: only what is new lands, and that is what is handed back.
	more := rows(m, perRow("p", 5, 14))
	defer more.Release()
	out, err = a.Append(t.Context(), Append{Record: more, Runs: []batch.Run{perRow("p", 5, 14)}})
	if err != nil || out.Rows != 5 || out.Duplicates != 5 {
		t.Fatalf("%+v %v", out, err)
	}
	if got := out.Record.Column(3).(interface{ Value(int) int64 }).Value(0); got != 10 {
		t.Errorf("the landed record begins at offset %d", got)
	}
	out.Record.Release()
	wantIDs(t, tbl, perRow("p", 0, 14))
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Append(t.Context(), in); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestMessageOfManyRows: rows of one message share an offset and stay together; the
// same message twice in a batch counts once.
func TestMessageOfManyRows(t *testing.T) {
	tbl := mustCreate(t, mem.New(), CreateOptions{PartitionBy: []string{"country"}})
	a := NewAppender(tbl, AppenderOptions{})
	block := batch.Run{Partition: "p", First: 3, Rows: 5}
	mustAppend(t, a, block)
	out := mustAppend(t, a, perRow("q", 0, 2), block, perRow("q", 3, 4), perRow("q", 1, 3))
	if out.Rows != 5 || out.Duplicates != 8 {
		t.Fatalf("%+v", out)
	}
	wantIDs(t, tbl, block, perRow("q", 0, 4))
	for f := range tbl.Snapshot().Files() { // every file of a record has the record's ranges
		if r := f.Tags[TagRanges]; r != `{"p":[[3,3]]}` && r != `{"q":[[0,4]]}` {
			t.Errorf("tag %s", r)
		}
	}
}

// TestSpans: which transactions commits leave behind.
func TestSpans(t *testing.T) {
	type step struct {
		runs    []batch.Run
		settled batch.Intervals
	}
	for name, c := range map[string]struct {
		steps []step
		want  map[string]int64
		in    batch.Intervals
	}{
		"in order": {[]step{{runs: []batch.Run{perRow("p", 0, 4)}}, {runs: []batch.Run{perRow("p", 5, 9)}}},
			map[string]int64{"p": 9}, batch.Intervals{{First: 0, Last: 9}}},
		"out of order": {[]step{{runs: []batch.Run{perRow("p", 0, 4)}}, {runs: []batch.Run{perRow("p", 10, 14)}}, {runs: []batch.Run{perRow("p", 5, 9)}}},
			map[string]int64{"p": 14}, batch.Intervals{{First: 0, Last: 14}}},
		"a gap stays": {[]step{{runs: []batch.Run{perRow("p", 0, 4)}}, {runs: []batch.Run{perRow("p", 6, 9)}}},
			map[string]int64{"p": 4}, batch.Intervals{{First: 0, Last: 4}, {First: 6, Last: 9}}},
		"the source closes it": {[]step{{runs: []batch.Run{perRow("p", 0, 4)}}, {runs: []batch.Run{perRow("p", 6, 9)}}, {[]batch.Run{perRow("p", 12, 13)}, batch.Intervals{{First: 0, Last: 10}}}},
			map[string]int64{"p": 10}, batch.Intervals{{First: 0, Last: 10}, {First: 12, Last: 13}}},
		"begins elsewhere": {[]step{{runs: []batch.Run{perRow("p", 100, 104)}}, {runs: []batch.Run{perRow("p", 110, 114)}}, {runs: []batch.Run{perRow("p", 105, 109)}}},
			map[string]int64{"p@100": 114}, batch.Intervals{{First: 100, Last: 114}}},
		"a new beginning": {[]step{{runs: []batch.Run{perRow("p", 0, 4)}}, {[]batch.Run{perRow("p", 102, 104)}, batch.Intervals{{First: 100, Last: 101}}}, {runs: []batch.Run{perRow("p", 105, 106)}}},
			map[string]int64{"p": 4, "p@100": 106}, batch.Intervals{{First: 0, Last: 4}, {First: 100, Last: 106}}},
		"spans meet": {[]step{{runs: []batch.Run{perRow("p", 3, 4)}}, {runs: []batch.Run{perRow("p", 0, 2)}}, {runs: []batch.Run{perRow("p", 5, 6)}}},
			map[string]int64{"p@3": 4, "p": 6}, batch.Intervals{{First: 0, Last: 6}}},
	} {
		t.Run(name, func(t *testing.T) {
			store := mem.New()
			tbl := mustCreate(t, store, CreateOptions{})
			a := NewAppender(tbl, AppenderOptions{})
			for _, s := range c.steps {
				rec := rows(memory.DefaultAllocator, s.runs...)
				out, err := a.Append(t.Context(), Append{Record: rec, Runs: s.runs, Settled: func() batch.Claims { return batch.Claims{"p": s.settled} }})
				if err != nil {
					t.Fatal(err)
				}
				out.Record.Release()
				rec.Release()
			}
			if got := txns(tbl.Snapshot()); !maps.Equal(got, c.want) {
				t.Errorf("txns %v, want %v", got, c.want)
			}
			if got := NewAppender(mustOpen(t, store), AppenderOptions{}).Claims("p"); !slices.Equal(got, c.in) {
				t.Errorf("read back: %v, want %v", got, c.in)
			}
			if got := a.Claims("p"); !slices.Equal(got, c.in) {
				t.Errorf("known: %v, want %v", got, c.in)
			}
		})
	}
}

func TestSpanNames(t *testing.T) {
	for _, p := range []string{"kafka/t/3", "file/a@5", "a@0", "a@", "@7", "a@05", "a@b@9", "x@-1", "x@99999999999999999999"} {
		for _, first := range []int64{0, 1, 100} {
			if got, at := spanOf(spanApp(p, first)); got != p || at != first {
				t.Errorf("%s from %d is %s, read as %s from %d", p, first, spanApp(p, first), got, at)
			}
		}
	}
	if spanApp("kafka/t/3", 0) != "kafka/t/3" || spanApp("kafka/t/3", 7) != "kafka/t/3@7" {
		t.Error("the usual form")
	}
}

// TestGapsStayBounded: a source with gaps everywhere, and its word that they are gaps.
func TestGapsStayBounded(t *testing.T) {
	store := mem.New()
	tbl := mustCreate(t, store, CreateOptions{})
	a := NewAppender(tbl, AppenderOptions{})
	acked := int64(-1)
	for i := range int64(300) {
		run := perRow("p", i*10, i*10+3)
		rec := rows(memory.DefaultAllocator, run)
		out, err := a.Append(t.Context(), Append{Record: rec, Runs: []batch.Run{run}, Settled: func() batch.Claims {
			if acked < 0 {
				return nil
			}
			return batch.Claims{"p": {{First: 0, Last: acked}}}
		}})
		if err != nil {
			t.Fatal(err)
		}
		out.Record.Release()
		rec.Release()
		acked = run.First + 3
		if n := len(a.Claims("p")); n > 2 {
			t.Fatalf("%d intervals after %d batches", n, i+1)
		}
	}
	if got := txns(tbl.Snapshot()); !maps.Equal(got, map[string]int64{"p": 2983}) { // the last batch floats until the next
		t.Errorf("txns %v", got)
	}
}

func TestEphemeralAndKeyed(t *testing.T) {
	store := mem.New()
	now := time.Now()
	clock := WithClock(func() time.Time { return now })
	tbl, err := Create(t.Context(), store, "tables/t", CreateOptions{Schema: landed()}, clock, WithoutCheckpoints())
	if err != nil {
		t.Fatal(err)
	}
	a := NewAppender(tbl, AppenderOptions{KeyWindow: time.Hour, MaxKeys: 3})
	key := func(k string) batch.Run { return batch.Run{Partition: "#" + k, First: 0, Rows: 2} }
	mustAppend(t, a, perRow("~conn1", 0, 4))
	mustAppend(t, a, key("k1"))
	mustAppend(t, a, key("k2"))
	if got := txns(tbl.Snapshot()); len(got) != 0 {
		t.Errorf("txns %v", got)
	}
	for f := range tbl.Snapshot().Files() {
		if r := f.Tags[TagRanges]; r != "" && !strings.HasPrefix(r, `{"#k`) {
			t.Errorf("tag %s", r)
		}
	}
	if out := mustAppend(t, a, perRow("~conn1", 3, 6)); out.Rows != 2 {
		t.Errorf("a redelivery in the same process: %+v", out)
	}
	if out := mustAppend(t, a, key("k1")); out.Rows != 0 || out.Duplicates != 2 {
		t.Errorf("the same key: %+v", out)
	}
	// Another process knows the keys, not the connection.
	reopened := func() *Appender {
		tbl, err := Open(t.Context(), store, "tables/t", clock, WithoutCheckpoints())
		if err != nil {
			t.Fatal(err)
		}
		return NewAppender(tbl, AppenderOptions{KeyWindow: time.Hour, MaxKeys: 3})
	}
	b := reopened()
	if out := mustAppend(t, b, key("k1")); out.Rows != 0 {
		t.Errorf("the key after a restart: %+v", out)
	}
	if out := mustAppend(t, b, perRow("~conn1", 0, 0)); out.Rows != 1 {
		t.Errorf("a connection of another process: %+v", out)
	}
	now = now.Add(2 * time.Hour)
	for _, a := range []*Appender{b, reopened()} {
		if n := len(a.Claims("#k2")); n != 0 {
			t.Errorf("a key that is too old is remembered")
		}
	}
	for i := range 10 {
		mustAppend(t, b, key(fmt.Sprint("n", i)))
	}
	if len(b.Claims("#n9")) != 1 || len(b.Claims("#n6")) != 0 || len(b.positions.keyed.parts) != 3 {
		t.Errorf("the latest three keys are to be remembered, there are %d", len(b.positions.keyed.parts))
	}
}

// TestGroupCommit: while a commit is under way, what is written meanwhile queues; the
// next commit has it all.
func TestGroupCommit(t *testing.T) {
	inner := mem.New()
	store := &fateful{Store: inner}
	tbl := mustCreate(t, store, CreateOptions{})
	const n = 20
	entered, leave := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	var written sync.WaitGroup
	written.Add(n)
	a := NewAppender(tbl, AppenderOptions{MaxConcurrentWrites: n + 1, Fault: func(point string) {
		switch {
		case point == "before-commit" && first.CompareAndSwap(false, true):
			close(entered)
			<-leave
		case point == "after-data-put" && first.Load():
			written.Done()
		}
	}})
	var wg sync.WaitGroup
	wg.Go(func() { mustAppend(t, a, perRow("p", 0, 9)) })
	<-entered
	for i := range int64(n) {
		wg.Go(func() { mustAppend(t, a, perRow("p", 10+i*10, 19+i*10)) })
	}
	written.Wait()
	for { // all have to be in the queue: a few instructions after the hook
		a.mu.Lock()
		queued := len(a.queue)
		a.mu.Unlock()
		if queued == n {
			break
		}
		runtime.Gosched()
	}
	close(leave)
	wg.Wait()
	if v := tbl.Snapshot().Version(); v != 2 {
		t.Errorf("%d commits for a file and %d more that came meanwhile", v, n)
	}
	if got := txns(tbl.Snapshot()); !maps.Equal(got, map[string]int64{"p": 10*(n+1) - 1}) {
		t.Errorf("txns %v", got)
	}
	wantIDs(t, tbl, perRow("p", 0, 10*(n+1)-1))
}

// TestCallerLeaves: a caller whose context ends does not take the commit with it.
func TestCallerLeaves(t *testing.T) {
	tbl := mustCreate(t, mem.New(), CreateOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan struct{})
	a := NewAppender(tbl, AppenderOptions{Fault: func(point string) {
		if point == "before-commit" {
			cancel()
			<-left
		}
	}})
	rec := rows(memory.DefaultAllocator, perRow("p", 0, 9))
	defer rec.Release()
	in := Append{Record: rec, Runs: []batch.Run{perRow("p", 0, 9)}}
	_, err := a.Append(ctx, in)
	if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	// It is redelivered while the first commit is still under way.
	var wg sync.WaitGroup
	wg.Go(func() {
		if out := mustAppend(t, a, perRow("p", 0, 9)); out.Rows != 0 || out.Duplicates != 10 {
			t.Errorf("%+v", out)
		}
	})
	close(left)
	wg.Wait()
	wantIDs(t, tbl, perRow("p", 0, 9))
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestCloseGivesUp(t *testing.T) {
	store := &fateful{Store: mem.New()}
	tbl := mustCreate(t, store, CreateOptions{})
	sent := make(chan struct{}, 1<<20)
	store.put = func(string) fate {
		select {
		case sent <- struct{}{}:
		default:
		}
		return requestLost
	}
	a := NewAppender(tbl, AppenderOptions{})
	var wg sync.WaitGroup
	wg.Go(func() {
		rec := rows(memory.DefaultAllocator, perRow("p", 0, 9))
		defer rec.Release()
		if _, err := a.Append(context.Background(), Append{Record: rec, Runs: []batch.Run{perRow("p", 0, 9)}}); !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("got %v", err)
		}
	})
	<-sent
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wg.Wait()
}

func TestSchemaChangeFailsOnlyWhoDoesNotFit(t *testing.T) {
	store := mem.New()
	tbl := mustCreate(t, store, CreateOptions{})
	other := mustOpen(t, store)
	var once sync.Once
	a := NewAppender(tbl, AppenderOptions{Fault: func(point string) {
		if point == "before-commit" {
			once.Do(func() {
				if err := other.AddColumns(t.Context(), newSchema(append(landed().Fields(), nullable("extra")))); err != nil {
					t.Error(err)
				}
			})
		}
	}})
	if out := mustAppend(t, a, perRow("p", 0, 9)); out.Version != 2 {
		t.Errorf("%+v", out)
	}
	wantIDs(t, tbl, perRow("p", 0, 9))
	if _, err := a.Append(t.Context(), Append{Record: rows(memory.DefaultAllocator, perRow("p", 0, 3)), Runs: []batch.Run{perRow("p", 10, 11)}}); err == nil {
		t.Error("runs of 2 rows for a record of 4")
	}
}

// chaos is a seeded run: several processes append the same sources to one table, with
// other batches, through stores that fail in all ways.
type chaos struct {
	t       *testing.T
	seed    uint64
	store   *mem.Store
	offsets map[string]int64 // how many each partition has
}

// flaky decides at random over the requests of one process.
func (c *chaos) flaky(seed uint64) *fateful {
	r := seeded(seed)
	var mu sync.Mutex
	roll := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return r.IntN(n)
	}
	s := &fateful{Store: c.store}
	s.put = func(string) fate {
		return []fate{stored, stored, stored, stored, answerLost, requestLost, conflict, own412, late, answerLost}[roll(10)]
	}
	s.get = func(string) error {
		if !s.calm.Load() && roll(8) == 0 {
			return objstore.Transient(errors.New("503"))
		}
		return nil
	}
	s.other = func(op, _ string) error {
		if roll(10) == 0 {
			return objstore.Transient(errors.New("500"))
		}
		return nil
	}
	return s
}

// process delivers every offset of every partition at least once, in overlapping
// batches of its own size, some of them side by side and so out of order, until each
// has been acked. It may die at any point, and its successor begins at some offset
// before what it acked, as consumers do.
func (c *chaos) process(n uint64) {
	r := seeded(c.seed<<16 + n)
	acked := &acks{upTo: map[string]int64{}}
	for life := uint64(0); ; life++ {
		store := c.flaky(c.seed<<32 + n<<16 + life)
		store.calm.Store(true) // reading a long log without one failure takes for ever
		tbl := mustOpen(c.t, store)
		store.calm.Store(false)
		var dead atomic.Bool
		deaths := []string{"", "", "after-data-put", "before-commit", "after-commit"}
		die, after := deaths[r.IntN(len(deaths))], int64(1+r.IntN(20))
		if life > 4 {
			die = ""
		}
		died := make(chan struct{})
		var once sync.Once
		var count atomic.Int64
		a := NewAppender(tbl, AppenderOptions{Fault: func(point string) {
			if point == die && count.Add(1) >= after {
				dead.Store(true)
				once.Do(func() { close(died) })
				select {} // as a process that is gone: it goes no step further
			}
		}})
		done := make(chan bool, 1)
		lifeSeed := r.Uint64()
		go func() { done <- c.deliver(a, lifeSeed, acked, died) }()
		finished := <-done
		store.release()
		if finished {
			return
		}
	}
}

// acks are a consumer's offsets: all below were acked. A dead process's goroutine may be late.
type acks struct {
	sync.Mutex
	upTo map[string]int64
}

// deliver appends until all is acked; false: the process died.
func (c *chaos) deliver(a *Appender, seed uint64, acked *acks, died chan struct{}) bool {
	r := seeded(seed)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	for p, total := range c.offsets {
		acked.Lock()
		start := max(0, acked.upTo[p]-int64(r.IntN(30)))
		acked.Unlock()
		type span struct{ first, last int64 }
		var spans []span
		for at := start; at < total; {
			n := int64(1 + r.IntN(40))
			spans = append(spans, span{max(0, at-int64(r.IntN(10))), min(total, at+n) - 1})
			at += n
		}
		workers := 1 + r.IntN(3)
		next := make(chan span)
		var left sync.WaitGroup
		finished := make([]bool, len(spans))
		index := map[span]int{}
		for i, s := range spans {
			index[s] = i
		}
		for w := range workers {
			wr := seeded(seed + uint64(w) + 77)
			left.Go(func() {
				for s := range next {
					run := perRow(p, s.first, s.last)
					rec := rows(memory.DefaultAllocator, run)
					for {
						out, err := a.Append(ctx, Append{Record: rec, Runs: []batch.Run{run}, Settled: func() batch.Claims {
							acked.Lock()
							defer acked.Unlock()
							if wr.IntN(2) == 0 || acked.upTo[p] == 0 {
								return nil
							}
							return batch.Claims{p: {{First: 0, Last: acked.upTo[p] - 1}}}
						}})
						if err == nil {
							if out.Record != nil {
								out.Record.Release()
							}
							break
						}
						if ctx.Err() != nil {
							return
						}
					}
					rec.Release()
					acked.Lock()
					finished[index[s]] = true
					for i, ok := range finished {
						if !ok {
							break
						}
						acked.upTo[p] = max(acked.upTo[p], spans[i].last+1)
					}
					acked.Unlock()
				}
			})
		}
		wg.Go(func() {
			defer left.Wait()
			defer close(next)
			for _, s := range spans {
				select {
				case next <- s:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	all := make(chan struct{})
	go func() { wg.Wait(); close(all) }()
	select {
	case <-all:
		return true
	case <-died:
		cancel()
		return false
	}
}

// TestExactlyOnce is the promise: whatever fails, every offset is in the table once,
// and the log says just that.
func TestExactlyOnce(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := seeded(seed)
			c := &chaos{t: t, seed: seed, store: mem.New(), offsets: map[string]int64{}}
			var runs []batch.Run
			for i := range 1 + r.IntN(3) {
				p := fmt.Sprint("kafka/t/", i)
				c.offsets[p] = int64(200 + r.IntN(400))
				runs = append(runs, perRow(p, 0, c.offsets[p]-1))
			}
			o := CreateOptions{}
			if seed%3 == 0 {
				o.PartitionBy = []string{"country"}
			}
			mustCreate(t, c.store, o)
			var wg sync.WaitGroup
			for n := range uint64(2 + r.IntN(3)) {
				wg.Go(func() { c.process(n) })
			}
			wg.Wait()
			tbl := mustOpen(t, c.store)
			wantIDs(t, tbl, runs...)
			want := map[string]int64{}
			for p, n := range c.offsets {
				want[p] = n - 1
				if got := NewAppender(tbl, AppenderOptions{}).Claims(p); !slices.Equal(got, batch.Intervals{{First: 0, Last: n - 1}}) {
					t.Errorf("%s: the log has %v of 0 to %d", p, got, n-1)
				}
			}
			for p, last := range want {
				if got := txns(tbl.Snapshot())[p]; got != last {
					t.Errorf("txn of %s is %d, want %d", p, got, last)
				}
			}
		})
	}
}
