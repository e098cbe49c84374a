package lakehouse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
	"github.com/tidemill/tidemill/lakehouse/parquet"
)

// anything compacts whatever it finds.
func anything() CompactOptions {
	return CompactOptions{MaintainOptions: MaintainOptions{Hold: NoHold}, MinAge: -1, MinFiles: 4}
}

func mustCompact(t *testing.T, tbl *Table, o CompactOptions) Compacted {
	t.Helper()
	out, err := tbl.Compact(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func files(tbl *Table) []File { return slices.Collect(tbl.Snapshot().Files()) }

// columnOf returns a file's values of a column as texts, in their order.
func columnOf(t *testing.T, tbl *Table, f File, name string) []string {
	t.Helper()
	rec, err := tbl.ReadFile(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Release()
	col := rec.Column(rec.Schema().FieldIndices(name)[0])
	out := make([]string, col.Len())
	for i := range out {
		out[i] = col.ValueStr(i)
	}
	return out
}

func TestCompact(t *testing.T) {
	for name, by := range map[string][]string{"unpartitioned": nil, "partitioned": {"country"}} {
		t.Run(name, func(t *testing.T) {
			inner := mem.New()
			store := &fateful{Store: inner}
			tbl := mustCreate(t, store, CreateOptions{PartitionBy: by})
			a := NewAppender(tbl, AppenderOptions{})
			for i := range int64(10) { // later rows first
				mustAppend(t, a, perRow("p", (9-i)*30, (9-i)*30+29))
			}
			before := tbl.Snapshot()
			o := anything()
			o.ClusterBy = []string{"country", batch.ColOffset}
			var points, worked []string
			o.Fault = func(p string) { points = append(points, p) }
			o.Pace = func(context.Context, time.Duration) error { worked = append(worked, "x"); return nil }
			var done, total int64
			o.Progress = func(d, n int64) { done, total = d, n }
			out := mustCompact(t, tbl, o)
			parts := max(1, 3*len(by))
			if out.Groups != parts || out.FilesIn != 10*parts || out.FilesOut != parts || out.RowsIn != 300 || out.BytesIn != before.Bytes() ||
				out.BytesOut != tbl.Snapshot().Bytes() || out.Version != tbl.Snapshot().Version() || out.Conflicts != 0 || out.Worked <= 0 {
				t.Errorf("%+v", out)
			}
			if len(points) != 3*parts || !slices.Equal(points[:3], []string{"compact-written", "compact-before-commit", "compact-after-commit"}) {
				t.Errorf("fault points %v", points)
			}
			if len(worked) < 2*parts || done != total || total != before.Bytes() {
				t.Errorf("paced %d times, progress %d of %d", len(worked), done, total)
			}
			wantIDs(t, tbl, perRow("p", 0, 299))
			for _, f := range files(tbl) {
				checkCompacted(t, tbl, f, o.ClusterBy)
			}
			if n := before.NumFiles(); n != 10*parts || len(slices.Collect(before.Files())) != n {
				t.Errorf("the snapshot before has %d files", n)
			}
			// Those who follow the table see no new rows.
			changes, err := tbl.Changes(t.Context(), before.Version(), out.Version)
			if err != nil || len(changes) != parts || len(changes[0].Adds) != 0 || changes[0].Info.Operation != "OPTIMIZE" {
				t.Errorf("%+v %v", changes, err)
			}
			// In another process it is the same, and there is nothing left to do, at the cost of one look.
			var gets atomic.Int64
			fresh := mustOpen(t, store)
			wantIDs(t, fresh, perRow("p", 0, 299))
			store.get = func(string) error { gets.Add(1); return nil }
			if out := mustCompact(t, fresh, anything()); out.Groups+out.FilesIn != 0 || out.Version != 0 || gets.Load() != 1 {
				t.Errorf("again: %+v, %d reads", out, gets.Load())
			}
		})
	}
}

// checkCompacted holds a file against what compaction promises.
func checkCompacted(t *testing.T, tbl *Table, f File, by []string) {
	t.Helper()
	if !strings.HasSuffix(f.Path, ".c000.zstd.parquet") || f.Tags[TagSorted] != strings.Join(by, ",") || f.Tags[TagLevel] == "" {
		t.Errorf("%s: tags %v", f.Path, f.Tags)
	}
	data, err := tbl.store.Get(t.Context(), f.Path)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := parquet.Decode(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Release()
	if int64(len(data)) != f.Size || rec.NumRows() != f.Rows {
		t.Errorf("%s: %d bytes, %d rows, the log says %d, %d", f.Path, len(data), rec.NumRows(), f.Size, f.Rows)
	}
	for _, name := range tbl.Snapshot().PartitionBy() {
		if len(rec.Schema().FieldIndices(name)) > 0 {
			t.Errorf("%s has the partition column %s", f.Path, name)
		}
	}
	if want := delta.Stats(rec); f.Stats != want {
		t.Errorf("%s: statistics\n%s\nof the rows\n%s", f.Path, f.Stats, want)
	}
	var keys []arrow.Array
	for _, name := range by {
		if at := rec.Schema().FieldIndices(name); len(at) > 0 {
			keys = append(keys, rec.Column(at[0]))
		}
	}
	for i := 1; i < int(rec.NumRows()); i++ {
		for _, k := range keys {
			if d := compareAt(k, i-1, i); d > 0 {
				t.Fatalf("%s: row %d does not come after %s %s", f.Path, i, k.ValueStr(i-1), k.ValueStr(i))
			} else if d < 0 {
				break
			}
		}
	}
}

// compareAt compares two values of a column in the plainest way, nulls last.
func compareAt(a arrow.Array, i, j int) int {
	switch {
	case a.IsNull(i) && a.IsNull(j):
		return 0
	case a.IsNull(i):
		return 1
	case a.IsNull(j):
		return -1
	}
	switch a := a.(type) {
	case *array.String:
		return strings.Compare(a.Value(i), a.Value(j))
	case *array.Int64:
		return int(a.Value(i) - a.Value(j))
	case *array.Float64:
		x, y := a.Value(i), a.Value(j)
		switch {
		case math.IsNaN(x) && math.IsNaN(y) || x == y:
			return 0
		case math.IsNaN(y) || x < y:
			return -1
		}
		return 1
	}
	panic(fmt.Sprintf("%T", a))
}

// TestCompactLevels: files go up level by level, by sorting and then by merging, and
// each stays sorted. In between the order is changed; then files are sorted once more.
func TestCompactLevels(t *testing.T) {
	schema := newSchema(append(landed().Fields(), arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true}))
	for seed := range uint64(8) {
		store := mem.New()
		tbl := mustCreate(t, store, CreateOptions{Schema: schema})
		a := NewAppender(tbl, AppenderOptions{})
		r := seeded(seed)
		o := anything()
		o.MinFiles, o.MemoryBytes = 2+r.IntN(3), []int64{32 << 10, 200 << 10, 0}[r.IntN(3)]
		o.ClusterBy = [][]string{{"x"}, {"country", "x"}, {"x", "id"}, nil}[r.IntN(4)]
		next, top := int64(0), 0
		for range 60 {
			n := int64(1 + r.IntN(50))
			run := perRow("p", next, next+n-1)
			next += n
			rec := rows(memory.DefaultAllocator, run)
			b := array.NewFloat64Builder(memory.DefaultAllocator)
			for range rec.NumRows() {
				if b.Append([]float64{r.NormFloat64(), math.NaN(), math.Inf(1), math.Inf(-1), 0}[r.IntN(5)]); r.IntN(7) == 0 {
					b.AppendNull()
				}
			}
			x := array.NewSlice(b.NewArray(), 0, rec.NumRows())
			out, err := a.Append(t.Context(), Append{Record: array.NewRecord(schema, append(slices.Clone(rec.Columns()), x), rec.NumRows()), Runs: []batch.Run{run}})
			if err != nil {
				t.Fatal(err)
			}
			out.Record.Release()
			if r.IntN(4) == 0 {
				mustCompact(t, tbl, o)
			}
			if r.IntN(40) == 0 {
				o.ClusterBy = []string{"id"}
			}
		}
		for mustCompact(t, tbl, o).Groups > 0 {
		}
		wantIDs(t, tbl, perRow("p", 0, next-1))
		for _, f := range files(tbl) {
			if f.Tags[TagLevel] != "" {
				checkCompacted(t, tbl, f, strings.Split(f.Tags[TagSorted], ","))
			}
			top = max(top, levelTag(f))
		}
		if left := len(files(tbl)); top < 2 || left >= o.MinFiles*(top+1) {
			t.Errorf("seed %d: %d files are left, up to level %d, MinFiles %d", seed, left, top, o.MinFiles)
		}
	}
}

// TestCompactKeepsOrder: with nothing to sort by rows stay in the order in which they came.
func TestCompactKeepsOrder(t *testing.T) {
	tbl := mustCreate(t, mem.New(), CreateOptions{})
	a := NewAppender(tbl, AppenderOptions{})
	var want []string
	for _, first := range []int64{40, 0, 20, 10, 30} {
		mustAppend(t, a, perRow("p", first, first+9))
		for i := range 10 {
			want = append(want, fmt.Sprint(first+int64(i)))
		}
	}
	mustCompact(t, tbl, anything())
	if got := columnOf(t, tbl, files(tbl)[0], batch.ColOffset); len(files(tbl)) != 1 || !slices.Equal(got, want) {
		t.Errorf("%d files, rows %v, want %v", len(files(tbl)), got, want)
	}
}

// TestCompactSchema: files that lack newer columns, and columns in another order.
func TestCompactSchema(t *testing.T) {
	store := mem.New()
	tbl := mustCreate(t, store, CreateOptions{})
	a := NewAppender(tbl, AppenderOptions{})
	mustAppend(t, a, perRow("p", 0, 9))
	mustAppend(t, a, perRow("p", 10, 19))
	if err := tbl.AddColumns(t.Context(), newSchema(append(landed().Fields(), nullable("extra")))); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, a, perRow("p", 20, 29))
	o := anything()
	o.MinFiles = 3
	o.ClusterBy = []string{"extra", "id"}
	mustCompact(t, tbl, o)
	f := files(tbl)[0]
	checkCompacted(t, tbl, f, o.ClusterBy)
	if !strings.Contains(f.Stats, `"extra":30`) {
		t.Errorf("statistics %s", f.Stats)
	}
	wantIDs(t, tbl, perRow("p", 0, 29))
	for by, want := range map[string]string{"other": "no column other", "l": "cannot be sorted"} {
		if err := tbl.AddColumns(t.Context(), newSchema(append(tbl.Snapshot().Schema().Fields(), arrow.Field{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64), Nullable: true}))); err != nil && by == "other" {
			t.Fatal(err)
		}
		o.ClusterBy = []string{by}
		if _, err := tbl.Compact(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("by %s: %v", by, err)
		}
	}
}

// TestCompactPartitions: each partition's files stay its own, whatever its value is.
func TestCompactPartitions(t *testing.T) {
	values := []string{"", "a/b=%", "a_b", "ü", "\u2028 ;1:", strings.Repeat("x", 200), "null"}
	tbl := mustCreate(t, mem.New(), CreateOptions{PartitionBy: []string{"country", batch.ColSource}})
	for i := range 4 * len(values) {
		b := array.NewRecordBuilder(memory.DefaultAllocator, landed())
		for j := range 3 {
			b.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("p/%d/0", i*3+j))
			if v := values[i%len(values)]; v == "" {
				b.Field(1).AppendNull()
			} else {
				b.Field(1).(*array.StringBuilder).Append(v)
			}
			b.Field(2).(*array.StringBuilder).Append("p")
			b.Field(3).(*array.Int64Builder).Append(int64(i*3 + j))
		}
		fs, err := tbl.WriteFiles(t.Context(), b.NewRecord(), nil)
		if err != nil {
			t.Fatal(err)
		}
		mustCommit(t, tbl, Commit{Adds: fs})
	}
	rowsOf := func() map[string]int64 {
		out := map[string]int64{}
		for _, f := range files(tbl) {
			v := "<null>"
			if p := f.PartitionValues["country"]; p != nil {
				v = *p
			}
			out[v] += f.Rows
			if got := columnOf(t, tbl, f, "country"); slices.ContainsFunc(got, func(s string) bool { return s != v && (s != "(null)" || v != "<null>") }) {
				t.Errorf("partition %q has rows of %q", v, got)
			}
		}
		return out
	}
	before := rowsOf()
	o := anything()
	o.ClusterBy = []string{"country", "id"} // of which the first is the same all through a file
	out := mustCompact(t, tbl, o)
	if after := rowsOf(); len(before) != len(values) || fmt.Sprint(before) != fmt.Sprint(after) || out.Groups != len(values) || len(files(tbl)) != len(values) {
		t.Errorf("%d groups, rows %v, before %v", out.Groups, after, before)
	}
	wantIDs(t, tbl, perRow("p", 0, int64(12*len(values)-1)))
}

// TestCompactLeavesAlone: what is too young, held, kept or large enough.
func TestCompactLeavesAlone(t *testing.T) {
	now := time.Now()
	clock := WithClock(func() time.Time { return now })
	tbl, err := Create(t.Context(), mem.New(), "tables/t", CreateOptions{Schema: landed()}, clock, WithoutCheckpoints())
	if err != nil {
		t.Fatal(err)
	}
	a := NewAppender(tbl, AppenderOptions{})
	for i := range int64(10) {
		mustAppend(t, a, perRow("p", i*10, i*10+9))
		now = now.Add(time.Second)
	}
	smallest := slices.MinFunc(files(tbl), func(a, b File) int { return int(a.Size - b.Size) }).Size
	left := func(change func(*CompactOptions)) int {
		o := anything()
		o.ClusterBy = []string{"id"}
		change(&o)
		c := &compaction{t: tbl, o: o.withDefaults(), skip: map[string]bool{}}
		bins, err := c.plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := 10
		for _, b := range bins {
			n -= len(b.files)
		}
		return n
	}
	for name, c := range map[string]struct {
		change func(*CompactOptions)
		want   int
	}{
		"none":       {func(*CompactOptions) {}, 0},
		"young":      {func(o *CompactOptions) { o.MinAge = 4500 * time.Millisecond }, 4},
		"by default": {func(o *CompactOptions) { o.MinAge = 0 }, 4},
		"held":       {func(o *CompactOptions) { o.Hold = 7 }, 3},
		"all held":   {func(o *CompactOptions) { o.Hold = 0 }, 10},
		"kept":       {func(o *CompactOptions) { o.Keep = func(f File) bool { return f.Version%2 == 0 } }, 5},
		"too few":    {func(o *CompactOptions) { o.MinFiles = 11 }, 10},
		"large":      {func(o *CompactOptions) { o.TargetBytes = 2 * smallest }, 10},
		"too large":  {func(o *CompactOptions) { o.MemoryBytes = 1 << 10 }, 10},
	} {
		if got := left(c.change); got != c.want {
			t.Errorf("%s: %d of 10 files are left alone, want %d", name, got, c.want)
		}
	}
}

// TestCompactTooLarge: what turns out to be too large for the memory when it is read is
// left alone, too, without an error.
func TestCompactTooLarge(t *testing.T) {
	tbl := mustCreate(t, mem.New(), CreateOptions{})
	a := NewAppender(tbl, AppenderOptions{})
	for i := range int64(5) {
		run := perRow("p", i*200, i*200+199)
		rec := rows(memory.DefaultAllocator, run)
		if i == 0 { // little when it is stored
			b := array.NewStringBuilder(memory.DefaultAllocator)
			for range rec.NumRows() {
				b.Append(strings.Repeat("x", 1000))
			}
			rec, _ = rec.SetColumn(1, b.NewArray())
		}
		if _, err := a.Append(t.Context(), Append{Record: rec, Runs: []batch.Run{run}}); err != nil {
			t.Fatal(err)
		}
	}
	o := anything()
	o.ClusterBy, o.MemoryBytes = []string{"id"}, 256<<10
	out := mustCompact(t, tbl, o)
	if left := files(tbl); out.FilesIn != 4 || len(left) != 2 || left[0].Rows != 200 || left[0].Version != 1 {
		t.Errorf("%+v, left %v", out, left)
	}
	wantIDs(t, tbl, perRow("p", 0, 999))
}

// TestCompactSplitsBins: files that are together too much for the memory are sorted in parts.
func TestCompactSplitsBins(t *testing.T) {
	tbl := mustCreate(t, mem.New(), CreateOptions{})
	a := NewAppender(tbl, AppenderOptions{})
	for i := range int64(20) {
		mustAppend(t, a, perRow("p", i*200, i*200+199))
	}
	o := anything()
	o.ClusterBy, o.MemoryBytes = []string{"id"}, 160<<10
	out := mustCompact(t, tbl, o)
	if out.Groups < 2 || out.FilesIn < 15 {
		t.Errorf("%+v", out)
	}
	for _, f := range files(tbl) {
		if levelTag(f) > 0 {
			checkCompacted(t, tbl, f, o.ClusterBy)
		}
	}
	wantIDs(t, tbl, perRow("p", 0, 3999))
}

// TestCompactColdPartition: what is left over when nothing comes any more is put
// together, but a late file does not make a large one be written again.
func TestCompactColdPartition(t *testing.T) {
	begun := time.Now()
	var later atomic.Int64 // a checkpoint in the background looks at the clock, too
	tbl, err := Create(t.Context(), mem.New(), "tables/t", CreateOptions{Schema: landed()}, WithClock(func() time.Time { return begun.Add(time.Duration(later.Load())) }))
	if err != nil {
		t.Fatal(err)
	}
	a := NewAppender(tbl, AppenderOptions{})
	o := anything()
	o.ClusterBy = []string{batch.ColOffset}
	next := int64(0)
	put := func(files int, rows int64) {
		for range files {
			mustAppend(t, a, perRow("p", next, next+rows-1))
			next += rows
		}
	}
	put(4, 5000)
	mustCompact(t, tbl, o)
	put(3, 5000)
	if out := mustCompact(t, tbl, o); out.Groups != 0 || len(files(tbl)) != 4 {
		t.Fatalf("while it is warm: %+v", out)
	}
	later.Add(int64(2 * time.Hour))
	if out := mustCompact(t, tbl, o); out.Groups != 1 || out.FilesIn != 4 || len(files(tbl)) != 1 {
		t.Fatalf("when it is cold: %+v", out)
	}
	checkCompacted(t, tbl, files(tbl)[0], o.ClusterBy)
	put(1, 3)
	later.Add(int64(2 * time.Hour))
	if out := mustCompact(t, tbl, o); out.Groups != 0 {
		t.Errorf("after a late file: %+v", out)
	}
	put(2, 3)
	later.Add(int64(2 * time.Hour))
	if out := mustCompact(t, tbl, o); out.Groups != 1 || out.FilesIn != 3 || len(files(tbl)) != 2 {
		t.Errorf("after three late files: %+v", out)
	}
	wantIDs(t, tbl, perRow("p", 0, next-1))
}

// TestCompactBadInputs: files that are missing, damaged, or not what the log says are
// named and left out; the others go on.
func TestCompactBadInputs(t *testing.T) {
	store := mem.New()
	tbl := mustCreate(t, store, CreateOptions{PartitionBy: []string{"country"}})
	a := NewAppender(tbl, AppenderOptions{})
	for i := range int64(8) {
		mustAppend(t, a, perRow("p", i*30, i*30+29))
	}
	bad := map[string]string{}
	var good []File
	for i, f := range files(tbl) {
		key := "tables/t/" + f.Path
		switch i {
		case 0:
			bad[f.Path] = fs.ErrNotExist.Error()
			_ = store.Delete(t.Context(), key)
		case 4:
			bad[f.Path] = "decode parquet"
			data, _ := store.Get(t.Context(), key)
			_ = store.Put(t.Context(), key, append(bytes.Repeat([]byte{0xff}, len(data)/2), data[len(data)/2:]...))
		case 7:
			bad[f.Path] = "has 10 rows, the log says 11"
			mustCommit(t, tbl, Commit{Adds: []File{{Path: f.Path, PartitionValues: f.PartitionValues, Size: f.Size, Stats: `{"numRecords":11}`, ModTime: f.ModTime}}})
		case 8:
			bad[f.Path] = "tag tidemill.ranges"
			mustCommit(t, tbl, Commit{Adds: []File{{Path: f.Path, PartitionValues: f.PartitionValues, Size: f.Size, Stats: f.Stats, ModTime: f.ModTime, Tags: map[string]string{TagRanges: "{"}}}})
		default:
			good = append(good, f)
		}
	}
	o := anything()
	o.ClusterBy = []string{"id"}
	out, err := tbl.Compact(t.Context(), o)
	for path, want := range bad {
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %s, %s, in: %v", path, want, err)
		}
	}
	if !errors.Is(err, fs.ErrNotExist) || out.FilesIn != len(good) || out.FilesOut != 3 {
		t.Errorf("%+v", out)
	}
	left := files(tbl)
	if len(left) != len(bad)+3 {
		t.Errorf("%d files are left", len(left))
	}
	for _, f := range left {
		if bad[f.Path] == "" {
			checkCompacted(t, tbl, f, o.ClusterBy)
		}
	}
}

// TestCompactCountsRows: a bin of which rows got lost is not committed.
func TestCompactCountsRows(t *testing.T) {
	tbl := mustCreate(t, mem.New(), CreateOptions{})
	a := NewAppender(tbl, AppenderOptions{})
	for i := range int64(4) {
		mustAppend(t, a, perRow("p", i*10, i*10+9))
	}
	c := &compaction{t: tbl, o: anything().withDefaults(), skip: map[string]bool{}}
	bins, err := c.plan(t.Context())
	if err != nil || len(bins) != 1 {
		t.Fatal(bins, err)
	}
	source, _, err := c.source(t.Context(), bins[0])
	if err != nil {
		t.Fatal(err)
	}
	c.rows = 1 // as if one more had been read than comes out
	_, err = c.write(t.Context(), bins[0], source)
	var differs *mismatchError
	if !errors.As(err, &differs) || !strings.Contains(err.Error(), "41 rows became 40") || !strings.Contains(err.Error(), bins[0].files[3].Path) {
		t.Errorf("%v", err)
	}
}

// TestCompactAmongOthers: what others do between the plan and the commit.
func TestCompactAmongOthers(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(t *testing.T, other *Table, first File)
		conflicts int
		groups    int
	}{
		"append": {func(t *testing.T, other *Table, _ File) {
			mustAppend(t, NewAppender(other, AppenderOptions{}), perRow("q", 0, 9))
		}, 0, 1},
		"add column": {func(t *testing.T, other *Table, _ File) {
			if err := other.AddColumns(t.Context(), newSchema(append(landed().Fields(), nullable("extra")))); err != nil {
				t.Error(err)
			}
		}, 1, 1},
		"remove": {func(t *testing.T, other *Table, f File) {
			mustCommit(t, other, Commit{Removes: []File{f}, Rearranged: true})
		}, 1, 1},
		"compact": {func(t *testing.T, other *Table, _ File) { mustCompact(t, other, anything()) }, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			store := mem.New()
			tbl, other := mustCreate(t, store, CreateOptions{}), mustOpen(t, store)
			a := NewAppender(tbl, AppenderOptions{})
			for i := range int64(6) {
				mustAppend(t, a, perRow("p", i*10, i*10+9))
			}
			if _, err := other.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			o := anything()
			var done bool
			first := files(tbl)[0]
			o.Fault = func(point string) {
				if point == "compact-before-commit" && !done {
					done = true
					c.meanwhile(t, other, first)
				}
			}
			out := mustCompact(t, tbl, o)
			if out.Conflicts != c.conflicts || out.Groups != c.groups {
				t.Errorf("%+v", out)
			}
			want := []batch.Run{perRow("p", 0, 59)}
			switch name {
			case "append":
				want = append(want, perRow("q", 0, 9))
			case "remove":
				want = []batch.Run{perRow("p", 10, 59)}
			}
			wantIDs(t, tbl, want...)
			wantIDs(t, mustOpen(t, store), want...)
		})
	}
}

// TestCompactGivesUp: an opponent who is always faster.
func TestCompactGivesUp(t *testing.T) {
	store := mem.New()
	tbl, other := mustCreate(t, store, CreateOptions{}), mustOpen(t, store)
	a := NewAppender(tbl, AppenderOptions{})
	for i := range int64(20) {
		mustAppend(t, a, perRow("p", i*10, i*10+9))
	}
	o := anything()
	tries := 0
	o.Fault = func(point string) {
		if point == "compact-before-commit" {
			tries++
			if _, err := other.Refresh(t.Context()); err != nil {
				t.Error(err)
			}
			mustCommit(t, other, Commit{Removes: files(other)[:1], Rearranged: true})
		}
	}
	out, err := tbl.Compact(t.Context(), o)
	var conflict *ConflictError
	if !errors.As(err, &conflict) || out.Conflicts != fruitless || tries != fruitless || out.Groups != 0 {
		t.Errorf("%d tries: %+v %v", tries, out, err)
	}
	wantIDs(t, tbl, perRow("p", fruitless*10, 199))
}

// TestCompactStops: at its pace's and its context's word, without harm.
func TestCompactStops(t *testing.T) {
	store := mem.New()
	tbl := mustCreate(t, store, CreateOptions{})
	a := NewAppender(tbl, AppenderOptions{})
	for i := range int64(40) {
		mustAppend(t, a, perRow("p", i*10, i*10+9))
	}
	enough := errors.New("enough")
	for stop := 1; ; stop++ {
		o := anything()
		o.ClusterBy = []string{"id"}
		calls := 0
		o.Pace = func(context.Context, time.Duration) error {
			if calls++; calls == stop {
				return enough
			}
			return nil
		}
		out, err := tbl.Compact(t.Context(), o)
		wantIDs(t, tbl, perRow("p", 0, 399))
		if err == nil {
			if stop < 4 || out.Groups != 0 { // the call before has committed, and was stopped behind it
				t.Errorf("stop %d: %+v", stop, out)
			}
			break
		}
		if !errors.Is(err, enough) || stop > 50 {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	mustAppend(t, a, perRow("p", 400, 400))
	if _, err := tbl.Compact(ctx, anything()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestCompactCrash: whoever dies at a fault point leaves a table that has all rows, and is
// compacted by the next; what was stored for nothing is in no snapshot.
func TestCompactCrash(t *testing.T) {
	for point, committed := range map[string]int64{"compact-written": 0, "compact-before-commit": 0, "compact-after-commit": 1} {
		store := mem.New()
		tbl := mustCreate(t, store, CreateOptions{})
		a := NewAppender(tbl, AppenderOptions{})
		for i := range int64(6) {
			mustAppend(t, a, perRow("p", i*10, i*10+9))
		}
		o := anything()
		o.Fault = func(p string) {
			if p == point {
				panic("killed")
			}
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: not passed", point)
				}
			}()
			_, _ = tbl.Compact(t.Context(), o)
		}()
		next := mustOpen(t, store)
		if v := next.Snapshot().Version(); v != 6+committed {
			t.Errorf("%s: version %d", point, v)
		}
		wantIDs(t, next, perRow("p", 0, 59))
		if out := mustCompact(t, next, anything()); out.Groups != 1-int(committed) || len(files(next)) != 1 {
			t.Errorf("%s: %+v", point, out)
		}
		wantIDs(t, next, perRow("p", 0, 59))
	}
}
