package lakehouse

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

func keyRun(key string, rows int) batch.Run {
	return batch.Run{Partition: "#" + key, First: 0, Rows: rows}
}

// TestOnceAcrossCompaction: rows that are delivered again after a compaction are left
// out, by the same process and by one that has only the log: those that came in order,
// out of order, with gaps that stay, with gaps that the source's word closed, and by key.
func TestOnceAcrossCompaction(t *testing.T) {
	for name, by := range map[string][]string{"unpartitioned": nil, "partitioned": {"country"}} {
		t.Run(name, func(t *testing.T) {
			store := mem.New()
			tbl := mustCreate(t, store, CreateOptions{PartitionBy: by})
			a := NewAppender(tbl, AppenderOptions{})
			delivered := []batch.Run{
				perRow("order", 0, 29), perRow("order", 30, 59), // a span from 0
				perRow("over", 0, 9), perRow("over", 20, 29), // the latter only in a tag
				perRow("late", 100, 119), perRow("late", 60, 79), perRow("late", 140, 149), // a span from 100, and floating below and above
				perRow("x@5", 7, 19),
				perRow("gap", 0, 3), perRow("gap", 6, 9),
				keyRun("a", 5), keyRun("b", 4), keyRun("c", 6),
			}
			for _, run := range delivered {
				rec := rows(memory.DefaultAllocator, run)
				in := Append{Record: rec, Runs: []batch.Run{run}}
				if run.Partition == "gap" && run.First > 0 {
					in.Settled = func() batch.Claims { return batch.Claims{"gap": {{First: 0, Last: 5}}} }
				}
				if _, err := a.Append(t.Context(), in); err != nil {
					t.Fatal(err)
				}
				rec.Release()
			}
			o := anything()
			o.ClusterBy = []string{"id"}
			for _, minFiles := range []int{6, 2, 2} { // twice: what was put together is put together again
				o.MinFiles = minFiles
				mustCompact(t, tbl, o)
				mustAppend(t, a, perRow("order", 60+int64(minFiles)*10+tbl.Snapshot().Version()*100, 69+int64(minFiles)*10+tbl.Snapshot().Version()*100))
				delivered = append(delivered, perRow("order", 60+int64(minFiles)*10+(tbl.Snapshot().Version()-1)*100, 69+int64(minFiles)*10+(tbl.Snapshot().Version()-1)*100))
			}
			for _, f := range files(tbl) {
				if tag := f.Tags[TagRanges]; levelTag(f) > 0 && strings.Contains(tag, `"gap"`) {
					t.Errorf("the log's spans are in the tag %s too", tag)
				}
			}
			want := ids(t, tbl)
			for range 2*tailLen + 10 { // so that nothing is known from recent commits
				mustCommit(t, tbl, Commit{})
			}
			r := seeded(1)
			for life, a := range []*Appender{a, NewAppender(mustOpen(t, store), AppenderOptions{}), NewAppender(mustOpen(t, store), AppenderOptions{})} {
				for _, i := range r.Perm(len(delivered)) {
					if out := mustAppend(t, a, delivered[i]); out.Rows != 0 {
						t.Errorf("life %d: %d rows of %v came in again", life, out.Rows, delivered[i])
					}
				}
				// With others around them, and what is new comes in.
				run := perRow("over", int64(5-life), int64(32+life))
				if out := mustAppend(t, a, run); life == 0 && out.Rows != 13 || life > 0 && out.Rows != 1 {
					t.Errorf("life %d: %d new rows of %v", life, out.Rows, run)
				}
			}
			for n := 10; n < 35; n++ {
				want[fmt.Sprintf("over/%d/0", n)] = 1
			}
			if got := ids(t, mustOpen(t, store)); !maps.Equal(got, want) {
				t.Errorf("%d rows, want %d", len(got), len(want))
			}
		})
	}
}

// TestKeysAcrossCompaction: keys are remembered for the window from when they came, not
// from when they were compacted, and the newest if there are too many.
func TestKeysAcrossCompaction(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	now := start
	clock := WithClock(func() time.Time { return now })
	store := mem.New()
	tbl, err := Create(t.Context(), store, "tables/t", CreateOptions{Schema: landed()}, clock, WithoutCheckpoints())
	if err != nil {
		t.Fatal(err)
	}
	a := NewAppender(tbl, AppenderOptions{KeyWindow: time.Hour})
	known := func(limit int) (out string) {
		tbl, err := Open(t.Context(), store, "tables/t", clock, WithoutCheckpoints())
		if err != nil {
			t.Fatal(err)
		}
		a := NewAppender(tbl, AppenderOptions{KeyWindow: time.Hour, MaxKeys: limit})
		for i := range 8 {
			if len(a.Claims(fmt.Sprint("#", i))) > 0 {
				out += fmt.Sprint(i)
			}
		}
		return out
	}
	o := anything()
	o.KeyWindow, o.MinFiles = time.Hour, 2
	expect := func(limit int, want string) {
		t.Helper()
		if got := known(limit); got != want {
			t.Errorf("at %s the keys %q are known, want %q", now.Sub(start), got, want)
		}
	}
	for i := range 3 { // keys 0, 1, 2 at 0, 10, 20 minutes
		mustAppend(t, a, keyRun(fmt.Sprint(i), 2))
		now = now.Add(10 * time.Minute)
	}
	now = start.Add(50 * time.Minute)
	mustAppend(t, a, keyRun("3", 1), keyRun("4", 1))
	o.Keep = func(f File) bool { return f.Version == 4 } // the file of 3 and 4 stays, and is older in the log
	mustCompact(t, tbl, o)
	if f := files(tbl)[1]; f.Tags[TagKeysAt] != fmt.Sprint(start.Add(20*time.Minute).UnixMilli()) {
		t.Errorf("tags %v", f.Tags)
	}
	for range 2*tailLen + 10 { // so that only the files' tags tell
		mustCommit(t, tbl, Commit{})
	}
	expect(100, "01234")
	if got := known(2); got != "34" {
		t.Errorf("of two keys %q are kept, want the newest", got)
	}
	now = start.Add(79 * time.Minute) // all of the compacted file's are as new as its newest
	expect(100, "01234")
	now = start.Add(81 * time.Minute) // though the file was written at 50 minutes
	expect(100, "34")
	mustAppend(t, a, keyRun("5", 1))
	o.Keep = nil
	for mustCompact(t, tbl, o).Groups > 0 {
	}
	if f := files(tbl)[0]; len(files(tbl)) != 1 || f.Tags[TagRanges] != `{"#3":[[0,0]],"#4":[[0,0]],"#5":[[0,0]]}` || f.Tags[TagKeysAt] != fmt.Sprint(now.UnixMilli()) {
		t.Errorf("tags %v", f.Tags)
	}
	// No more than MaxKeys, the newest files' first.
	mustAppend(t, a, keyRun("6", 1))
	now = now.Add(time.Minute)
	o.MaxKeys = 1
	mustAppend(t, a, keyRun("7", 1))
	for mustCompact(t, tbl, o).Groups > 0 {
	}
	if tag := files(tbl)[len(files(tbl))-1].Tags[TagRanges]; tag != `{"#7":[[0,0]]}` {
		t.Errorf("tag %s", tag)
	}
}

// TestMergeTags: what is left of files' tags.
func TestMergeTags(t *testing.T) {
	at := time.Now()
	file := func(tag string, more ...string) File {
		f := File{Path: "f", ModTime: at, Tags: map[string]string{TagRanges: tag, "by": "me"}}
		for i := 0; i < len(more); i += 2 {
			f.Tags[more[i]] = more[i+1]
		}
		return f
	}
	tbl := mustCreate(t, mem.New(), CreateOptions{})
	mustCommit(t, tbl, Commit{Txns: []delta.Txn{{AppID: "p", Version: 9}, {AppID: "p@20", Version: 29}, {AppID: "q@100", Version: 50}, {AppID: "pipeline/t", Version: 1000}}})
	for name, c := range map[string]struct {
		files []File
		want  map[string]string
	}{
		"none":           {[]File{{}, {}}, map[string]string{}},
		"covered":        {[]File{file(`{"p":[[0,4]]}`), file(`{"p":[[5,9],[22,23]]}`)}, map[string]string{}},
		"partly":         {[]File{file(`{"p":[[8,12],[15,40]]}`), file(`{"q":[[0,4]]}`)}, map[string]string{TagRanges: `{"p":[[10,12],[15,19],[30,40]],"q":[[0,4]]}`}},
		"grown together": {[]File{file(`{"r":[[1,2]]}`), file(`{"r":[[5,6]]}`), file(`{"r":[[3,4]]}`)}, map[string]string{TagRanges: `{"r":[[1,6]]}`}},
		"same key":       {[]File{file(`{"#k":[[0,0]]}`), file(`{"#k":[[0,0]]}`)}, map[string]string{TagRanges: `{"#k":[[0,0]]}`, TagKeysAt: fmt.Sprint(at.UnixMilli())}},
		"old key":        {[]File{file(`{"#k":[[0,0]]}`, TagKeysAt, "1000"), file(`{"#l":[[0,0]],"r":[[1,1]]}`)}, map[string]string{TagRanges: `{"#l":[[0,0]],"r":[[1,1]]}`, TagKeysAt: fmt.Sprint(at.UnixMilli())}},
	} {
		before := fmt.Sprint(c.files)
		got, err := mergeTags(c.files, spans(tbl.Snapshot()), keysKept{time.Hour, 10}, at)
		if err != nil || !maps.Equal(got, c.want) {
			t.Errorf("%s: %v %v, want %v", name, got, err, c.want)
		}
		if fmt.Sprint(c.files) != before {
			t.Errorf("%s: the files were changed", name)
		}
	}
	if _, err := mergeTags([]File{file("{")}, nil, keysKept{}, at); err == nil || !strings.Contains(err.Error(), "file f") {
		t.Errorf("%v", err)
	}
	if !slices.Equal(spans(tbl.Snapshot())["p"], batch.Intervals{{First: 0, Last: 9}, {First: 20, Last: 29}}) {
		t.Error("spans")
	}
}

// TestCompactWhileAppending: two processes append, each with redeliveries out of order,
// while two others compact, all through stores that fail. Every row is in once, and
// stays so when a process that knows only the log's spans and tags delivers all again.
func TestCompactWhileAppending(t *testing.T) {
	for seed := range uint64(3) {
		c := &chaos{t: t, seed: seed, store: mem.New()}
		mustCreate(t, c.store, CreateOptions{PartitionBy: [][]string{nil, {"country"}}[seed%2]})
		const batches, rowsEach = 60, 20
		var writers, compactors sync.WaitGroup
		var done atomic.Bool
		var groups, conflicts atomic.Int64
		for w := range uint64(2) {
			store := c.flaky(seed<<8 + w)
			store.other = nil
			writers.Go(func() {
				store.calm.Store(true)
				a := NewAppender(mustOpen(t, store), AppenderOptions{})
				store.calm.Store(false)
				r := seeded(seed<<8 + w)
				for _, i := range r.Perm(batches) { // both deliver all of it
					first := int64(2 * i * rowsEach) // gaps stay, so that no span has it all
					mustAppend(t, a, perRow("p", first, first+rowsEach-1-int64(r.IntN(2))))
					mustAppend(t, a, perRow("p", first, first+rowsEach-1))
				}
			})
		}
		for w := range uint64(2) {
			compactors.Go(func() {
				tbl := mustOpen(t, c.store)
				o := anything()
				o.ClusterBy = [][]string{{"id"}, {batch.ColOffset}}[seed%2]
				for last := false; !last; {
					last = done.Load()
					o.MinFiles = 2 + int(w)
					out, err := tbl.Compact(t.Context(), o)
					var conflict *ConflictError
					if err != nil && !errors.As(err, &conflict) {
						t.Errorf("seed %d: %v", seed, err)
						return
					}
					groups.Add(int64(out.Groups))
					conflicts.Add(int64(out.Conflicts))
				}
			})
		}
		writers.Wait()
		done.Store(true)
		compactors.Wait()
		tbl := mustOpen(t, c.store)
		got := ids(t, tbl)
		for id, n := range got {
			if n != 1 {
				t.Errorf("seed %d: row %s is in %d times", seed, id, n)
			}
		}
		if len(got) != batches*rowsEach || groups.Load() == 0 {
			t.Errorf("seed %d: %d rows, %d groups", seed, len(got), groups.Load())
		}
		for range 2*tailLen + 10 {
			mustCommit(t, tbl, Commit{})
		}
		again := NewAppender(mustOpen(t, c.store), AppenderOptions{})
		for i := range int64(batches) {
			if out := mustAppend(t, again, perRow("p", 2*i*rowsEach, 2*i*rowsEach+rowsEach-1)); out.Rows != 0 {
				t.Errorf("seed %d: %d rows of batch %d came in again", seed, out.Rows, i)
			}
		}
		t.Logf("seed %d: %d groups and %d conflicts in %d versions, %d files left", seed, groups.Load(), conflicts.Load(), tbl.Snapshot().Version(), tbl.Snapshot().NumFiles())
	}
}
