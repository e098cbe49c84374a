package lakehouse

import (
	"fmt"
	"hash/maphash"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

func benchTable(b *testing.B) *Table {
	tbl, err := Create(b.Context(), mem.New(), "tables/t", CreateOptions{Schema: landed()})
	if err != nil {
		b.Fatal(err)
	}
	return tbl
}

// BenchmarkAppend: batches of 10,000 rows of 4 columns, from several callers, store in memory.
func BenchmarkAppend(b *testing.B) {
	const n = 10_000
	tbl := benchTable(b)
	a := NewAppender(tbl, AppenderOptions{})
	rec := rows(memory.DefaultAllocator, perRow("p", 0, n-1))
	defer rec.Release()
	var next atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			first := (next.Add(1) - 1) * n
			out, err := a.Append(b.Context(), Append{Record: rec, Runs: []batch.Run{perRow("p", first, first+n-1)}})
			if err != nil {
				b.Error(err)
				return
			}
			out.Record.Release()
		}
	})
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds()/1e6, "Mrows/s")
	b.ReportMetric(float64(b.N)/float64(tbl.Snapshot().Version()), "files/commit")
}

// BenchmarkCommit: a commit of one file to tables of few and of many files: the cost must not grow.
func BenchmarkCommit(b *testing.B) {
	for _, files := range []int{10, 50_000} {
		b.Run(fmt.Sprint(files, " files"), func(b *testing.B) {
			tbl := benchTable(b)
			var adds []File
			for i := range files {
				adds = append(adds, File{Path: fmt.Sprint("old", i), Size: 1, Stats: `{"numRecords":1}`})
			}
			if _, err := tbl.Commit(b.Context(), Commit{Adds: adds}); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			i := int64(0)
			for b.Loop() {
				c := Commit{Adds: []File{{Path: fmt.Sprint("f", i), Size: 1, Stats: `{"numRecords":1}`}}, Txns: []delta.Txn{{AppID: "p", Version: i}}}
				if _, err := tbl.Commit(b.Context(), c); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

// BenchmarkOpen: a log of 2,000 commits.
func BenchmarkOpen(b *testing.B) {
	tbl := benchTable(b)
	stats := `{"numRecords":10000,"minValues":{"id":"a","_offset":1},"maxValues":{"id":"z","_offset":2},"nullCount":{"id":0,"_offset":0}}`
	for i := range int64(2000) {
		c := Commit{Adds: []File{{Path: fmt.Sprint("f", i), Size: 1, Stats: stats, Tags: map[string]string{TagRanges: fmt.Sprintf(`{"p":[[%d,%d]]}`, i, i)}}}, Txns: []delta.Txn{{AppID: "p", Version: i}}}
		if _, err := tbl.Commit(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		t := newTable(tbl.store, "", nil)
		if err := t.load(b.Context()); err != nil {
			b.Fatal(err)
		}
		NewAppender(t, AppenderOptions{})
	}
	b.ReportMetric(2000*float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

// BenchmarkSparse filters a batch of rows whose offsets have gaps, and claims them.
func BenchmarkSparse(b *testing.B) {
	const n = 20_000
	p := newPositions(AppenderOptions{MaxEphemeral: 10, MaxKeys: 10, KeyWindow: time.Hour})
	now := time.Now()
	p.add(batch.Claims{"c/s": {{First: 0, Last: 999}}}, now)
	runs := make([]batch.Run, n)
	for i := range runs {
		runs[i] = batch.Run{Partition: "c/s", First: int64(i+1) * 1000, Rows: 1, Void: 999}
	}
	b.ReportAllocs()
	for b.Loop() {
		keep, kept := p.filter(runs, now)
		if keep != nil || len(batch.ClaimsOf(kept)["c/s"]) != 1 {
			b.Fatal("rows were left out")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
}

// BenchmarkDedupe: what comparing keys costs a row, as BenchmarkAppend does it, with a
// million keys remembered. ns/row of the two are to be compared.
func BenchmarkDedupe(b *testing.B) {
	const n = 10_000
	for name, o := range map[string]*Dedupe{"without": nil, "with": {Columns: []string{"id"}, Window: time.Hour}} {
		b.Run(name, func(b *testing.B) {
			a := NewAppender(benchTable(b), AppenderOptions{Dedupe: o})
			next := int64(0)
			send := func() {
				run := perRow("~p", next, next+n-1)
				next += n
				b.StopTimer()
				rec := rows(memory.DefaultAllocator, run)
				b.StartTimer()
				out, err := a.Append(b.Context(), Append{Record: rec, Runs: []batch.Run{run}})
				if err != nil {
					b.Fatal(err)
				}
				out.Record.Release()
				rec.Release()
			}
			for range 100 {
				send()
			}
			b.ReportAllocs()
			for b.Loop() {
				send()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
			if a.dedupe != nil {
				b.ReportMetric(float64(a.dedupe.set.live), "keys")
			}
		})
	}
}

// BenchmarkKeySetMemory: bytes a key.
func BenchmarkKeySetMemory(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		s := newKeySet(time.Hour, DefaultMaxKeys)
		h, now := newKeyHasher(), time.Now()
		for i := range uint64(3_000_000) {
			s.add([]rowKey{{maphash.Comparable(h[0], i), uint32(maphash.Comparable(h[1], i))}}, now)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(s.live), "bytes/key")
	}
}
