package lakehouse

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
)

func (k *kept) vacuum(t *testing.T, o VacuumOptions) Vacuumed {
	t.Helper()
	v, err := k.Vacuum(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// dataFiles counts the objects that are not the log's.
func (k *kept) dataFiles(t *testing.T) int {
	t.Helper()
	n := 0
	for o, err := range k.store.List(t.Context(), "tables/t/", "") {
		if err != nil {
			t.Fatal(err)
		}
		if !hidden(strings.TrimPrefix(o.Key, "tables/t/")) {
			n++
		}
	}
	return n
}

var all = VacuumOptions{MaintainOptions: MaintainOptions{Hold: NoHold}}

func TestVacuum(t *testing.T) {
	k := newKept(t, CreateOptions{PartitionBy: []string{"country"}})
	k.append(t, 10)
	k.checkpoint(t)
	k.rewrite(t, false) // 10 files go
	old := k.Snapshot()
	k.clock.pass(30 * time.Minute)
	if v := k.vacuum(t, all); v.Expired != 0 {
		t.Errorf("too early: %+v", v)
	}
	k.rewrite(t, true) // 10 more
	k.checkpoint(t)
	k.clock.pass(40 * time.Minute)
	dry := all
	dry.DryRun = true
	if v := k.vacuum(t, dry); v.Expired != 10 || v.Bytes == 0 {
		t.Errorf("dry run: %+v", v)
	}
	if n := k.dataFiles(t); n != 30 {
		t.Errorf("%d files after a dry run", n)
	}
	if v := k.vacuum(t, all); v.Expired != 10 {
		t.Errorf("%+v", v)
	}
	if v := k.vacuum(t, all); v.Expired != 0 {
		t.Errorf("what is deleted is deleted again: %+v", v)
	}
	wantIDs(t, k.Table, perRow("p", 0, 9))
	for f := range old.Files() { // still in retention
		if _, err := k.store.Stat(t.Context(), "tables/t/"+f.Path); err != nil {
			t.Error(err)
		}
	}
	k.clock.pass(time.Hour)
	k.append(t, 1)
	if c := k.checkpoint(t); c.Tombstones != 10 {
		t.Errorf("tombstones of deleted files are carried on, or those of others lost: %+v", c)
	}
	if v := k.vacuum(t, all); v.Expired != 10 {
		t.Errorf("through a checkpoint: %+v", v)
	}
	if n := k.dataFiles(t); n != 11 {
		t.Errorf("%d files are left of 11", n)
	}
}

func TestVacuumOrphans(t *testing.T) {
	k := newKept(t, CreateOptions{})
	k.append(t, 3)
	rec := rows(memory.DefaultAllocator, perRow("q", 0, 0))
	defer rec.Release()
	lost, err := k.WriteFiles(t.Context(), rec, nil) // and never committed
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"_other/part.parquet", ".hidden/part.parquet", "_delta_log/.tmp", "_col=1/part.parquet"} {
		if err := k.store.Put(t.Context(), "tables/t/"+key, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	o := all
	o.Orphans = true
	if v := k.vacuum(t, o); v.Orphans != 0 {
		t.Errorf("too early: %+v", v)
	}
	k.clock.pass(time.Hour + time.Second)
	if _, err := k.Commit(t.Context(), Commit{Adds: lost}); !errors.Is(err, ErrFilesTooOld) {
		t.Errorf("files that vacuuming may take were committed: %v", err)
	}
	k.append(t, 1)
	k.rewrite(t, false)
	if v := k.vacuum(t, o); v.Orphans != 2 { // the lost file, and the one in a directory as of a partition
		t.Errorf("%+v", v)
	}
	if n := k.dataFiles(t); n != 8 {
		t.Errorf("%d files are left of 8", n)
	}
	for _, key := range []string{"_other/part.parquet", ".hidden/part.parquet", "_delta_log/.tmp"} {
		if _, err := k.store.Stat(t.Context(), "tables/t/"+key); err != nil {
			t.Error(err)
		}
	}
	wantIDs(t, k.open(t), perRow("p", 0, 3))
}

// TestSlowWriter: an appender whose file grew old in the queue writes it again.
func TestSlowWriter(t *testing.T) {
	k := newKept(t, CreateOptions{})
	slow := NewAppender(k.open(t), AppenderOptions{Fault: func(point string) {
		if point == "after-data-put" && k.next == 0 {
			k.next = 1
			k.clock.pass(2 * time.Hour)
			o := all
			o.Orphans = true
			if v := k.vacuum(t, o); v.Orphans != 1 {
				t.Errorf("%+v", v)
			}
		}
	}})
	mustAppend(t, slow, perRow("p", 0, 3))
	wantIDs(t, k.open(t), perRow("p", 0, 3))
}

// TestHold: what a follower has yet to read stays, whatever the table has done with it.
func TestHold(t *testing.T) {
	k := newKept(t, CreateOptions{})
	k.append(t, 4)
	k.rewrite(t, true)
	k.checkpoint(t)
	k.clock.pass(2 * time.Hour)
	k.append(t, 1)
	o := VacuumOptions{MaintainOptions: MaintainOptions{Hold: 2}, Orphans: true}
	if v := k.vacuum(t, o); v.Expired != 2 {
		t.Errorf("%+v", v)
	}
	if c := k.clean(t, 2); c.Commits != 0 {
		t.Errorf("%+v", c)
	}
	changes, err := k.Changes(t.Context(), 2, 4)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		for _, f := range c.Adds {
			rec, err := k.ReadFile(t.Context(), f)
			if err != nil {
				t.Errorf("version %d: %v", c.Version, err)
				continue
			}
			rec.Release()
		}
	}
	o.Hold = NoHold
	if v := k.vacuum(t, o); v.Expired != 4 || // while something is held back, all is looked at again
		v.Orphans != 0 {
		t.Errorf("afterwards: %+v", v)
	}
}

// timed is a table of rows with a time.
func timed(t *testing.T) *kept {
	fields := append(landed().Fields(), arrow.Field{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true})
	return newKept(t, CreateOptions{Schema: arrow.NewSchema(fields, nil)})
}

// at appends one file with a row for each time, in ms before the clock; -1 is null.
func (k *kept) at(t *testing.T, partition string, agos ...int64) {
	t.Helper()
	k.clock.pass(time.Second)
	run := perRow(partition, k.next, k.next+int64(len(agos))-1)
	k.next += int64(len(agos))
	base := rows(memory.DefaultAllocator, run)
	defer base.Release()
	b := array.NewTimestampBuilder(memory.DefaultAllocator, &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"})
	defer b.Release()
	for _, ago := range agos {
		if ago < 0 {
			b.AppendNull()
		} else {
			b.Append(arrow.Timestamp(k.clock.now().UnixMicro() - ago*1000))
		}
	}
	ts := b.NewArray()
	defer ts.Release()
	rec := array.NewRecord(k.Snapshot().Schema(), append(base.Columns(), ts), int64(len(agos)))
	defer rec.Release()
	out, err := k.app.Append(t.Context(), Append{Record: rec, Runs: []batch.Run{run}})
	if err != nil {
		t.Fatal(err)
	}
	if out.Record != nil {
		out.Record.Release()
	}
}

func TestExpire(t *testing.T) {
	k := timed(t)
	const day = 24 * 3600 * 1000
	k.next = 5                             // a partition that is joined in the middle
	k.at(t, "p", 40*day, 50*day)           // 5, 6: all too old
	k.next = 9                             // a gap
	k.at(t, "p", 45*day, 1*day, -1)        // 9 to 11: one too old
	k.at(t, "p", 30*day+3600*1000, 10*day) // 12, 13: too old by an hour
	k.at(t, "p", 31*day, -1)               // 14, 15
	k.at(t, "p", -1)                       // 16
	o := ExpireOptions{MaintainOptions: MaintainOptions{Hold: NoHold}, Column: "ts", Before: k.clock.now().Add(-30 * 24 * time.Hour), Slack: 3 * time.Hour}
	held := o
	held.Hold = 0
	if x, err := k.Expire(t.Context(), held); err != nil || x.Rows != 0 {
		t.Errorf("held back: %+v, %v", x, err)
	}
	before := k.Snapshot().Version()
	x, err := k.Expire(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if x.FilesRemoved != 1 || x.FilesRewritten != 2 || x.Rows != 4 {
		t.Errorf("%+v", x)
	}
	left := []batch.Run{perRow("p", 10, 13), perRow("p", 15, 16)}
	wantIDs(t, k.Table, left...)
	changes, err := k.Changes(t.Context(), before, k.Snapshot().Version())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if len(c.Adds) > 0 {
			t.Errorf("a follower is told of new rows in version %d", c.Version)
		}
	}
	k.checkpoint(t)
	fresh := NewAppender(k.open(t), AppenderOptions{})
	if got := fmt.Sprint(fresh.Claims("p")); got != "[{5 6} {9 16}]" {
		t.Errorf("offsets that are known to be in: %s", got)
	}
	if x, err := k.Expire(t.Context(), o); err != nil || x.Rows != 0 {
		t.Errorf("again: %+v, %v", x, err)
	}
	if _, err := k.Expire(t.Context(), ExpireOptions{Column: "country"}); err == nil || !strings.Contains(err.Error(), "no timestamp") {
		t.Errorf("got %v", err)
	}
}

// TestExpireMeetsOthers: who takes away the files it is at, once or again and again.
func TestExpireMeetsOthers(t *testing.T) {
	const day = 24 * 3600 * 1000
	for _, c := range []struct {
		name    string
		rivals  int
		expired int
		lost    bool
	}{
		{"sometimes", fruitless - 1, 4, false},
		{"always", fruitless, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := timed(t)
			k.next = 0
			for range 4 {
				k.at(t, "p", 45*day, 1*day)
			}
			other, left := k.open(t), c.rivals
			o := ExpireOptions{
				MaintainOptions: MaintainOptions{Hold: NoHold, Fault: func(point string) {
					if point != "expire-before-commit" {
						return
					}
					if left--; left < 0 {
						return
					}
					if _, err := other.Refresh(t.Context()); err != nil {
						t.Error(err)
					}
					// All files are there under other names, as after a compaction.
					var moved []File
					for _, f := range files(other) {
						data, err := k.store.Get(t.Context(), "tables/t/"+f.Path)
						if err != nil {
							t.Fatal(err)
						}
						f.Path, f.logPath = "moved-"+f.Path, ""
						if err := k.store.Put(t.Context(), "tables/t/"+f.Path, data); err != nil {
							t.Fatal(err)
						}
						moved = append(moved, f)
					}
					mustCommit(t, other, Commit{Removes: files(other), Adds: moved, Rearranged: true})
				}},
				Column: "ts", Before: k.clock.now().Add(-30 * 24 * time.Hour),
			}
			x, err := k.Expire(t.Context(), o)
			if _, lost := errors.AsType[*ConflictError](err); lost != c.lost || (err != nil) != c.lost || x.FilesRewritten != c.expired {
				t.Errorf("%+v, %v", x, err)
			}
		})
	}
}

func TestRestoreAndDiff(t *testing.T) {
	k := newKept(t, CreateOptions{})
	k.append(t, 5)
	good := k.Snapshot().Version()
	k.rewrite(t, false)
	mustAppend(t, k.app, perRow("bad", 7, 9))
	wide := arrow.NewSchema(append(landed().Fields(), arrow.Field{Name: "later", Type: arrow.BinaryTypes.String, Nullable: true}), nil)
	if err := k.AddColumns(t.Context(), wide); err != nil {
		t.Fatal(err)
	}
	now := k.Snapshot().Version()
	d, err := k.Diff(t.Context(), good, now)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Added) != 6 || len(d.Removed) != 5 || len(d.Columns) != 1 || len(d.Commits) != 3 {
		t.Errorf("%d added, %d removed, %d columns, %d commits", len(d.Added), len(d.Removed), len(d.Columns), len(d.Commits))
	}
	r, err := k.Restore(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	if r.Added != 5 || r.Removed != 6 || r.Version != now+1 {
		t.Errorf("%+v", r)
	}
	wantIDs(t, k.Table, perRow("p", 0, 4))
	if out := mustAppend(t, NewAppender(k.open(t), AppenderOptions{}), perRow("bad", 7, 9)); out.Rows != 0 {
		t.Errorf("what a restore took out came in again: %+v", out)
	}
	if changes, err := k.Changes(t.Context(), now, now+1); err != nil || len(changes[0].Adds) != 0 {
		t.Errorf("a follower is told of new rows: %v", err)
	}
	if r, err := k.Restore(t.Context(), good); err != nil || r.Added+r.Removed != 0 {
		t.Errorf("again: %+v, %v", r, err)
	}
	k.checkpoint(t)
	same(t, k.Snapshot(), k.open(t).Snapshot())

	k.clock.pass(2 * time.Hour)
	k.append(t, 1)
	k.vacuum(t, all)
	head := k.Snapshot().Version()
	if _, err := k.Restore(t.Context(), now); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "deletedFileRetentionDuration") {
		t.Errorf("got %v", err)
	}
	if k.Snapshot().Version() != head {
		t.Error("a restore that failed changed the table")
	}
}

func TestTimeTravel(t *testing.T) {
	k := newKept(t, CreateOptions{})
	var versions []*Snapshot
	for range 12 {
		versions = append(versions, k.Snapshot())
		if len(versions) == 6 {
			k.rewrite(t, false)
			continue
		}
		if len(versions) == 8 {
			k.checkpoint(t)
		}
		k.append(t, 1)
	}
	reader := k.open(t)
	for _, want := range versions {
		got, err := reader.At(t.Context(), want.Version())
		if err != nil {
			t.Fatal(err)
		}
		same(t, want, got)
		asOf, err := reader.AsOf(t.Context(), want.Time())
		if err != nil {
			t.Fatal(err)
		}
		if asOf.Version() < want.Version() || asOf.Time().After(want.Time()) {
			t.Errorf("as of %s: version %d of %s, want %d", want.Time(), asOf.Version(), asOf.Time(), want.Version())
		}
	}
	var none *VersionError
	if _, err := reader.At(t.Context(), 99); !errors.As(err, &none) || !strings.Contains(err.Error(), "versions 0 to 12") {
		t.Errorf("got %v", err)
	}
	if _, err := reader.AsOf(t.Context(), versions[0].Time().Add(-time.Hour)); !errors.As(err, &none) || none.EarliestTime.IsZero() {
		t.Errorf("got %v", err)
	}
	if s, err := reader.AsOf(t.Context(), k.clock.now().Add(time.Hour)); err != nil || s.Version() != 12 {
		t.Errorf("%v", err)
	}
}

// TestThinning: of old checkpoints one an hour stays, and every version can be read.
func TestThinning(t *testing.T) {
	k := newKept(t, CreateOptions{Configuration: map[string]string{}})
	for range 30 {
		k.append(t, 1)
		k.clock.pass(10 * time.Minute)
		k.checkpoint(t)
	}
	l, err := k.list(t.Context(), -1)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(l.checkpoints); n < 6 || n > 9 {
		t.Errorf("%d checkpoints of 5 hours", n)
	}
	for v := range k.Snapshot().Version() + 1 {
		if s, err := k.open(t).At(t.Context(), v); err != nil || s.NumRows() != v {
			t.Fatalf("version %d: %v", v, err)
		}
	}
}
