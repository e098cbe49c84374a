package lakehouse

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/faulty"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// devices numbers the rows of sources without positions, so that no test gives two the same.
type devices struct {
	mu   sync.Mutex
	next int64
}

// keyed makes a record of rows with the given ids, of a partition that is numbered per run.
func (d *devices) keyed(ids ...string) (arrow.Record, []batch.Run) {
	d.mu.Lock()
	defer d.mu.Unlock()
	run := perRow("~mqtt/1", d.next, d.next+int64(len(ids))-1)
	d.next += int64(len(ids))
	return withIDs(run, ids...), []batch.Run{run}
}

func withIDs(run batch.Run, ids ...string) arrow.Record {
	rec := rows(memory.DefaultAllocator, run)
	defer rec.Release()
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	b.AppendValues(ids, nil)
	col := b.NewArray()
	defer col.Release()
	return array.NewRecord(rec.Schema(), append([]arrow.Array{col}, rec.Columns()[1:]...), rec.NumRows())
}

func appendKeyed(t *testing.T, a *Appender, rec arrow.Record, runs []batch.Run) (rows, duplicates int64) {
	t.Helper()
	defer rec.Release()
	out, err := a.Append(t.Context(), Append{Record: rec, Runs: runs})
	if err != nil {
		t.Fatal(err)
	}
	if out.Record != nil {
		out.Record.Release()
	}
	return out.Rows, out.Duplicates
}

func byID(window time.Duration) *Dedupe { return &Dedupe{Columns: []string{"id"}, Window: window} }

// TestDedupe follows one table: through a batch, a second one, a restart, another
// process, rows that have positions, a compaction and the end of the window.
func TestDedupe(t *testing.T) {
	store := mem.New()
	var past atomic.Int64 // since the beginning
	now := func() time.Time { return time.UnixMilli(1_800_000_000_000).Add(time.Duration(past.Load())) }
	pass := func(d time.Duration) { past.Add(int64(d)) }
	open := func() *Table {
		tbl, err := Create(t.Context(), store, "tables/t", CreateOptions{Schema: landed()}, WithClock(now), WithWait(noWait))
		if err != nil {
			t.Fatal(err)
		}
		return tbl
	}
	var d devices
	appender := func() *Appender { return NewAppender(open(), AppenderOptions{Dedupe: byID(time.Hour)}) }
	step := func(what string, a *Appender, rec arrow.Record, runs []batch.Run, rows, duplicates int64) {
		t.Helper()
		if r, dup := appendKeyed(t, a, rec, runs); r != rows || dup != duplicates {
			t.Fatalf("%s: %d rows and %d duplicates, want %d and %d", what, r, dup, rows, duplicates)
		}
	}
	send := func(what string, a *Appender, rows, duplicates int64, ids ...string) {
		t.Helper()
		rec, runs := d.keyed(ids...)
		step(what, a, rec, runs, rows, duplicates)
	}

	a := appender()
	send("one batch", a, 2, 1, "a", "b", "a")
	send("a second", a, 1, 2, "a", "c", "b")
	b := appender()
	send("after a restart", b, 1, 2, "b", "d", "c")
	send("in the other process, which has not looked", a, 1, 1, "d", "e")
	kafka := perRow("kafka/t/0", 0, 1)
	step("with positions, the same key is another row", a, withIDs(kafka, "a", "f"), []batch.Run{kafka}, 2, 0)
	send("but its key counts", b, 0, 1, "f")
	mixed := []batch.Run{perRow("kafka/t/0", 2, 2), perRow("~x", 0, 1)}
	rec := rows(memory.DefaultAllocator, mixed...)
	step("both in one batch", a, rec, mixed, 3, 0)
	again := []batch.Run{perRow("~y", 0, 0), perRow("kafka/t/0", 1, 3), perRow("~y", 1, 2)}
	step("and again", a, withIDs(again[0], "a"), again[:1], 0, 1)

	pass(40 * time.Minute)
	send("within the window", b, 1, 1, "a", "g")
	pass(10 * time.Minute)
	if _, err := open().Compact(t.Context(), CompactOptions{MaintainOptions: MaintainOptions{Hold: NoHold}, MinAge: -1, MinFiles: 2}); err != nil {
		t.Fatal(err)
	}
	if n := open().Snapshot().NumFiles(); n != 1 {
		t.Fatalf("%d files after a compaction", n)
	}
	c := appender()
	send("after a compaction and a restart", c, 0, 2, "a", "g")
	pass(55 * time.Minute) // what was compacted landed 65 minutes ago, and is a file for 55
	send("after the window and a restart", appender(), 1, 0, "a")
	send("after the window", c, 1, 1, "a", "b")
}

// TestDedupeInOneCommit: two records with one key wait for the same commit.
func TestDedupeInOneCommit(t *testing.T) {
	release, held := make(chan struct{}), make(chan struct{})
	var once sync.Once
	store := faulty.New(mem.New(), faulty.Options{Hook: func(_ context.Context, c faulty.Call, w faulty.When) error {
		if c.Op == faulty.PutIfAbsent && w == faulty.Before && strings.HasSuffix(c.Key, "0001.json") {
			once.Do(func() { close(held) })
			<-release
		}
		return nil
	}})
	a := NewAppender(mustCreate(t, store, CreateOptions{}), AppenderOptions{Dedupe: byID(time.Hour)})
	var d devices
	var wg sync.WaitGroup
	send := func(ids ...string) {
		rec, runs := d.keyed(ids...)
		wg.Go(func() { appendKeyed(t, a, rec, runs) })
	}
	send("a")
	<-held
	send("x", "y")
	send("y", "z")
	send("z", "x", "a")
	for queued := 0; queued < 3; runtime.Gosched() {
		a.mu.Lock()
		queued = len(a.queue)
		a.mu.Unlock()
	}
	close(release)
	wg.Wait()
	if got := ids(t, a.t); len(got) != 4 || got["a"]+got["x"]+got["y"]+got["z"] != 4 {
		t.Errorf("the table has %v", got)
	}
}

// TestDedupeRaces: processes that share a store send the same keys at the same time,
// over a store that loses answers.
func TestDedupeRaces(t *testing.T) {
	inner := mem.New()
	mustCreate(t, inner, CreateOptions{})
	var wg sync.WaitGroup
	var d devices
	var mu sync.Mutex
	var in, duplicates, sent int64
	const keys, batches, processes = 300, 30, 3
	var appenders []*Appender
	for p := range processes {
		store := faulty.New(inner, faulty.Options{Seed: uint64(p), FailBefore: 0.05, FailAfter: 0.05})
		appenders = append(appenders, NewAppender(mustOpenEventually(t, store), AppenderOptions{Dedupe: byID(time.Hour)}))
	}
	for p, a := range appenders {
		for w := range 2 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(p), uint64(w)))
				for range batches {
					ids := make([]string, 1+r.IntN(8))
					for i := range ids {
						ids[i] = fmt.Sprint("k", r.IntN(keys))
					}
					for { // as a broker does until it is acked
						rec, runs := d.keyed(ids...)
						out, err := a.Append(context.Background(), Append{Record: rec, Runs: runs})
						rec.Release()
						if err != nil {
							continue
						}
						if out.Record != nil {
							out.Record.Release()
						}
						mu.Lock()
						in, duplicates, sent = in+out.Rows, duplicates+out.Duplicates, sent+int64(len(ids))
						mu.Unlock()
						break
					}
				}
			})
		}
	}
	wg.Wait()
	got := ids(t, mustOpen(t, inner))
	for id, n := range got {
		if n != 1 {
			t.Errorf("%s is in %d times", id, n)
		}
	}
	if in+duplicates != sent || duplicates == 0 {
		t.Errorf("%d rows and %d duplicates of %d", in, duplicates, sent)
	}
	t.Logf("%d rows of %d sent, %d keys", in, sent, len(got))
}

func mustOpenEventually(t *testing.T, s objstore.Store) *Table {
	t.Helper()
	for range 100 {
		if tbl, err := Open(t.Context(), s, "tables/t", WithWait(noWait)); err == nil {
			return tbl
		}
	}
	t.Fatal("cannot be opened")
	return nil
}

// TestDedupeLimit: with more keys than may be remembered, the latest are, and the log says so.
func TestDedupeLimit(t *testing.T) {
	store := mem.New()
	tbl := mustCreate(t, store, CreateOptions{})
	var log bytes.Buffer
	o := AppenderOptions{Dedupe: &Dedupe{Columns: []string{"id"}, Window: time.Hour, MaxKeys: 160}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	a := NewAppender(tbl, o)
	var d devices
	batchOf := func(n int) (ids []string) {
		for i := range 20 {
			ids = append(ids, fmt.Sprint(n*20+i))
		}
		return ids
	}
	for n := range 20 {
		rec, runs := d.keyed(batchOf(n)...)
		appendKeyed(t, a, rec, runs)
	}
	for _, a := range []*Appender{a, NewAppender(mustOpen(t, store), o)} {
		rec, runs := d.keyed(batchOf(19)...)
		if rows, _ := appendKeyed(t, a, rec, runs); rows != 0 {
			t.Errorf("%d of the latest rows are in twice", rows)
		}
		slots := 0
		for _, shard := range a.dedupe.set.shards {
			slots += len(shard.slots)
		}
		if a.dedupe.set.live > 160 || slots > keyShards*leastSlots {
			t.Errorf("%d keys are held in %d slots", a.dedupe.set.live, slots)
		}
	}
	if !strings.Contains(log.String(), "raise max_keys") {
		t.Errorf("the log says nothing: %s", &log)
	}
	rec, runs := d.keyed(batchOf(0)...)
	if rows, _ := appendKeyed(t, a, rec, runs); rows != 20 {
		t.Errorf("%d of the oldest rows land again", rows)
	}
}

// TestKeySetAgainstMap compares the set with a plain map of times. What is between the
// window and a sixteenth more may be either.
func TestKeySetAgainstMap(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 7))
		const window = 160 * time.Second
		s, want, now := newKeySet(window, 1<<20), map[rowKey]time.Time{}, time.Unix(0, 0)
		for range 300 {
			now = now.Add(time.Duration(r.IntN(8)) * time.Second)
			s.forget(now)
			var some []rowKey
			for range r.IntN(20) {
				some = append(some, keyOf(r.Uint64N(500)+1))
			}
			s.add(some, now)
			for _, k := range some {
				want[k] = now
			}
			live := map[uint32]int{}
			for k := range uint64(502) {
				at, ok := want[keyOf(k)]
				age := now.Sub(at)
				if has := s.has(keyOf(k)); ok && age <= window && !has || has && (!ok || age > window+window/generations) {
					t.Fatalf("seed %d: key %d of age %s: has %v", seed, k, age, has)
				}
				if x, _ := s.shards[keyOf(k).b%keyShards].find(keyOf(k), s.first); x != nil && x.gen >= s.first {
					live[x.gen]++
				}
			}
			for i, g := range s.gens {
				if live[s.first+uint32(i)] != g.keys {
					t.Fatalf("seed %d: generation %d has %d keys and counts %d", seed, i, live[s.first+uint32(i)], g.keys)
				}
			}
		}
	}
}

// keyOf spreads numbers as hashes are, over a few places of two shards.
func keyOf(n uint64) rowKey { return rowKey{n << 60, uint32(n)<<8 | uint32(n)&1} }

// TestKeysOfAllTypes: rows are told apart by each of their columns, and a null has no key.
func TestKeysOfAllTypes(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "t", Type: arrow.BinaryTypes.String}, {Name: "l", Type: arrow.PrimitiveTypes.Int64},
		{Name: "i", Type: arrow.PrimitiveTypes.Int32}, {Name: "f", Type: arrow.PrimitiveTypes.Float64}, {Name: "g", Type: arrow.PrimitiveTypes.Float32},
		{Name: "b", Type: arrow.FixedWidthTypes.Boolean}, {Name: "d", Type: arrow.FixedWidthTypes.Date32}, {Name: "z", Type: &arrow.Decimal128Type{Precision: 20, Scale: 2}},
		{Name: "ts", Type: arrow.FixedWidthTypes.Timestamp_us}, {Name: "raw", Type: arrow.BinaryTypes.Binary},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	row := func(change int) {
		v := func(i int) int { // 1 in the column that is changed
			if i == change {
				return 1
			}
			return 0
		}
		s, u := "a", "bc"
		if change == 0 {
			s, u = "ab", "c" // the same bytes in a row
		}
		b.Field(0).(*array.StringBuilder).Append(s)
		b.Field(1).(*array.StringBuilder).Append(u + strings.Repeat("x", v(1)))
		b.Field(2).(*array.Int64Builder).Append(int64(v(2)))
		b.Field(3).(*array.Int32Builder).Append(int32(v(3)))
		b.Field(4).(*array.Float64Builder).Append(float64(v(4)))
		b.Field(5).(*array.Float32Builder).Append(float32(v(5)))
		b.Field(6).(*array.BooleanBuilder).Append(v(6) == 1)
		b.Field(7).(*array.Date32Builder).Append(arrow.Date32(v(7)))
		b.Field(8).(*array.Decimal128Builder).Append(decimal128.FromI64(int64(v(8))))
		b.Field(9).(*array.TimestampBuilder).Append(arrow.Timestamp(v(9)))
		b.Field(10).(*array.BinaryBuilder).Append([]byte{byte(v(10))})
	}
	n := schema.NumFields()
	for i := range n {
		row(i)
	}
	row(-1)
	row(-1)
	rec := b.NewRecord()
	defer rec.Release()
	keys := newKeyHasher().keys(rec.Columns(), n+2)
	seen := map[rowKey]int{}
	for i, k := range keys {
		if j, ok := seen[k]; ok && i != n+1 || k == (rowKey{}) {
			t.Errorf("rows %d and %d have one key", i, j)
		}
		seen[k] = i
	}
	if len(seen) != n+1 {
		t.Errorf("%d keys of %d rows, the last two the same", len(seen), n+2)
	}
	b.Field(0).AppendNull()
	nulls := b.Field(0).NewArray()
	defer nulls.Release()
	if k := newKeyHasher().keys([]arrow.Array{nulls}, 1); k[0] != (rowKey{}) {
		t.Error("a null has a key")
	}
}
