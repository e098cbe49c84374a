package lakehouse

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/tidemill/tidemill/lakehouse/merge"
	"github.com/tidemill/tidemill/lakehouse/objstore/local"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// TestCompactMemory looks at what is alive between pieces of work, while a table is
// compacted whose rows take many times as much.
func TestCompactMemory(t *testing.T) {
	dir, err := local.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	store := &fateful{Store: dir}
	tbl := landing(t, store, 85, 1000)
	landed, all := tbl.Snapshot().Version(), 0.0
	for f := range tbl.Snapshot().Files() {
		rec, err := tbl.ReadFile(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		all += float64(merge.Bytes(rec)) / (1 << 20)
		rec.Release()
	}
	alive := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / (1 << 20)
	}
	for _, by := range [][]string{nil, {"card_id", "ts"}} {
		if _, err := tbl.Restore(t.Context(), landed); err != nil {
			t.Fatal(err)
		}
		o := anything()
		o.ClusterBy, o.TargetBytes, o.MemoryBytes = by, 1<<20, 2<<20
		before, peak, groups := alive(), 0.0, 0
		look := func() { peak = max(peak, alive()-before) }
		calls := 0
		o.Pace = func(context.Context, time.Duration) error {
			if calls++; calls%8 == 0 { // looking takes longer than the work
				look()
			}
			return nil
		}
		store.other = func(string, string) error { look(); return nil }
		for begun := true; begun; {
			out := mustCompact(t, tbl, o)
			groups, begun = groups+out.Groups, out.Groups > 0
		}
		store.other = nil
		limit := float64(o.MemoryBytes+2*o.TargetBytes)/(1<<20) + 4 // what encoders, footers and pools have beside it
		t.Logf("by %v: %d groups of a table of %.0f MiB of Arrow in %.1f MiB, %.1f of them allowed", by, groups, all, peak, limit)
		if peak > limit || all < 2*limit || groups < 5 {
			t.Errorf("by %v: %d groups, %.0f MiB in %.1f MiB, %.1f of them allowed", by, groups, all, peak, limit)
		}
		if n := tbl.Snapshot().NumRows(); n != 85_000 {
			t.Fatalf("%d rows", n)
		}
	}
}

// TestCompactAmplification plays hours of four commits a second, of which only the log is
// real: how often a row is written again, and how many files there are.
func TestCompactAmplification(t *testing.T) {
	const rounds, perRound = 600, 60 // compacted each quarter of a minute
	for _, c := range []struct{ size, spread int64 }{{50 << 10, 1}, {200, 1}, {20 << 10, 100}} {
		for _, by := range [][]string{nil, {"id"}} {
			tbl := mustCreate(t, mem.New(), CreateOptions{})
			o := CompactOptions{MaintainOptions: MaintainOptions{Hold: NoHold}, MinAge: -1, ClusterBy: by}
			r := seeded(uint64(c.size))
			landed, rewritten, most, age := int64(0), int64(0), 0, map[string]int{}
			deepest := 0
			for round := range rounds {
				var adds []File
				for i := range perRound {
					size := c.size * (1 + r.Int64N(c.spread))
					landed += size
					adds = append(adds, File{Path: fmt.Sprint("f", round, "-", i), Size: size, Stats: `{"numRecords":1}`, ModTime: time.Now()})
				}
				mustCommit(t, tbl, Commit{Adds: adds})
				k := &compaction{t: tbl, o: o.withDefaults(), skip: map[string]bool{}}
				bins, err := k.plan(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for i, b := range bins {
					out := File{Path: fmt.Sprint("c", round, "-", i), Size: b.bytes(), Stats: `{"numRecords":1}`, ModTime: time.Now(),
						Tags: map[string]string{TagLevel: fmt.Sprint(b.level), TagSorted: k.sortedBy()}}
					if out.Size > k.o.TargetBytes {
						t.Fatalf("a bin of %d bytes", out.Size)
					}
					for _, f := range b.files {
						age[out.Path] = max(age[out.Path], age[f.Path]+1)
						rewritten += f.Size
					}
					deepest = max(deepest, age[out.Path])
					mustCommit(t, tbl, Commit{Adds: []File{out}, Removes: b.files, Rearranged: true})
				}
				small := 0
				for f := range tbl.Snapshot().Files() {
					if k.small(f) {
						small++
					}
				}
				most = max(most, small)
			}
			k := (&CompactOptions{}).withDefaults()
			bound := int(math.Ceil(math.Log(rounds*perRound)/math.Log(float64(k.MinFiles)))) + 1
			t.Logf("%d files of %d to %d bytes by %v: each byte is written %.2f times more, at most %d; at most %d small files; %d at the end",
				rounds*perRound, c.size, c.size*c.spread, by, float64(rewritten)/float64(landed), deepest, most, tbl.Snapshot().NumFiles())
			if deepest > bound || deepest < 2 || most > k.MinFiles*(deepest+1)+perRound {
				t.Errorf("%d bytes by %v: written again %d times, at most %d are right; %d small files", c.size, by, deepest, bound, most)
			}
		}
	}
}
