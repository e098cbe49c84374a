package lakehouse

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// TestFilterRedeliveryInOneBatch: a message of many rows that comes twice in a batch
// leaves nothing of its second coming, not even the row whose offset is that of the row
// before it.
func TestFilterRedeliveryInOneBatch(t *testing.T) {
	p := newPositions(AppenderOptions{MaxEphemeral: 10, MaxKeys: 10, KeyWindow: time.Hour})
	for _, runs := range [][]batch.Run{
		{{Partition: "#k", First: 0, Rows: 5, PerRow: true}, {Partition: "#k", First: 0, Rows: 5, PerRow: true}},
		{{Partition: "a", First: 7, Rows: 5}, {Partition: "b", First: 1, Rows: 1}, {Partition: "a", First: 8, Rows: 1}, {Partition: "a", First: 7, Rows: 5}},
	} {
		want := batch.Rows(runs) - 5
		keep, kept := p.filter(runs, time.Now())
		if len(keep) != want || batch.Rows(kept) != want {
			t.Errorf("%v: kept rows %v, want the first %d", runs, keep, want)
		}
	}
}

// TestFilterAgainstSet compares with a plain set of offsets.
func TestFilterAgainstSet(t *testing.T) {
	for seed := range uint64(300) {
		r := seeded(seed)
		p := newPositions(AppenderOptions{MaxEphemeral: 10, MaxKeys: 10, KeyWindow: time.Hour})
		now := time.Now()
		in := map[string]bool{}
		parts := []string{"a", "b", "~c"}
		for range r.IntN(8) {
			part, first := parts[r.IntN(3)], int64(r.IntN(60))
			v := batch.Interval{First: first, Last: first + int64(r.IntN(9))}
			p.add(batch.Claims{part: {v}}, now)
			for o := v.First; o <= v.Last; o++ {
				in[fmt.Sprint(part, o)] = true
			}
		}
		var runs []batch.Run
		for range r.IntN(10) {
			runs = append(runs, batch.Run{Partition: parts[r.IntN(3)], First: int64(r.IntN(60)), Rows: 1 + r.IntN(6), PerRow: r.IntN(2) == 0})
		}
		// Row by row: in already, or in an earlier run of the partition, unless the row
		// before it in the partition has the same offset and is kept as the first of it.
		var want []int32
		var wantRuns []batch.Run
		type before struct {
			offset int64
			again  bool
		}
		seen, last := map[string]bool{}, map[string]before{}
		row := int32(0)
		for _, run := range runs {
			for i := range run.Rows {
				o := run.Offset(i)
				k := fmt.Sprint(run.Partition, o)
				prev, begun := last[run.Partition]
				again := seen[k] && !(begun && prev.offset == o && !prev.again)
				last[run.Partition] = before{o, again}
				if !in[k] && !again {
					want = append(want, row)
					wantRuns = batch.AppendRun(wantRuns, batch.Run{Partition: run.Partition, First: o, Rows: 1, PerRow: run.PerRow})
				}
				row++
			}
			for i := range run.Rows {
				seen[fmt.Sprint(run.Partition, run.Offset(i))] = true
			}
		}
		keep, kept := p.filter(runs, now)
		if keep == nil {
			if len(want) != int(row) {
				t.Fatalf("seed %d: all kept of %v, want %v", seed, runs, want)
			}
			continue
		}
		if !slices.Equal(keep, want) || !slices.Equal(kept, wantRuns) {
			t.Fatalf("seed %d: %v: kept %v %v, want %v %v", seed, runs, keep, kept, want, wantRuns)
		}
		if len(want) == int(row) {
			t.Fatalf("seed %d: rows are copied that all stay", seed)
		}
		if p.has(kept, now) {
			t.Fatalf("seed %d: what was kept is in: it would be filtered for ever", seed)
		}
	}
}

// TestOldTagsAreRead: what is in only by a tag, from commits that are no longer in memory.
func TestOldTagsAreRead(t *testing.T) {
	store := mem.New()
	tbl := mustCreate(t, store, CreateOptions{})
	a := NewAppender(tbl, AppenderOptions{})
	mustAppend(t, a, perRow("p", 0, 4))
	mustAppend(t, a, perRow("p", 10, 14))
	mustAppend(t, a, batch.Run{Partition: "#key", First: 0, Rows: 3})
	for range 2*tailLen + 10 {
		mustCommit(t, tbl, Commit{})
	}
	want := batch.Intervals{{First: 0, Last: 4}, {First: 10, Last: 14}}
	b := NewAppender(mustOpen(t, store), AppenderOptions{})
	if got := b.Claims("p"); !slices.Equal(got, want) {
		t.Errorf("after a restart: %v, want %v", got, want)
	}
	if got := b.Claims("#key"); len(got) != 1 {
		t.Errorf("the key after a restart: %v", got)
	}
	if got := a.Claims("p"); !slices.Equal(got, want) {
		t.Errorf("in the writer, which did not look for long: %v, want %v", got, want)
	}
}

// TestSettledIsWrittenOnce: a source's word that the log has already is not repeated, and
// that of a source that cannot replay stays in memory.
func TestSettledIsWrittenOnce(t *testing.T) {
	tbl := mustCreate(t, mem.New(), CreateOptions{})
	a := NewAppender(tbl, AppenderOptions{})
	settled := func() batch.Claims {
		return batch.Claims{"q": {{First: 0, Last: 99}}, "~e": {{First: 0, Last: 50}}, "r": {{First: 7, Last: 9}}}
	}
	for i := range int64(3) {
		run := perRow("p", i, i)
		rec := rows(memory.DefaultAllocator, run)
		out, err := a.Append(t.Context(), Append{Record: rec, Runs: []batch.Run{run}, Settled: settled})
		if err != nil {
			t.Fatal(err)
		}
		out.Record.Release()
		rec.Release()
	}
	changes, err := tbl.Changes(t.Context(), 0, 3)
	if err != nil || len(changes) != 3 {
		t.Fatal(err)
	}
	if len(changes[0].Txns) != 3 || len(changes[1].Txns) != 1 || len(changes[2].Txns) != 1 {
		t.Errorf("txns %v, %v, %v", changes[0].Txns, changes[1].Txns, changes[2].Txns)
	}
	if got := a.Claims("~e"); !slices.Equal(got, batch.Intervals{{First: 0, Last: 50}}) {
		t.Errorf("~e: %v", got)
	}
	if got := a.Claims("r"); !slices.Equal(got, batch.Intervals{{First: 7, Last: 9}}) {
		t.Errorf("r: %v", got)
	}
}
