package lakehouse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

// clock is a time that tests move.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time       { return time.Unix(0, c.ns.Load()).UTC() }
func (c *clock) pass(d time.Duration) { c.ns.Add(int64(d)) }

// kept is a table on a store, both of one clock, that keeps things for an hour.
type kept struct {
	*Table
	store *mem.Store
	clock *clock
	app   *Appender
	next  int64 // offset
}

var anHour = map[string]string{
	"delta.logRetentionDuration": "interval 1 hours", "delta.deletedFileRetentionDuration": "interval 1 hours",
}

func newKept(t *testing.T, o CreateOptions) *kept {
	t.Helper()
	k := &kept{store: mem.New(), clock: newClock()}
	k.store.Now = k.clock.now
	if o.Schema == nil {
		o.Schema = landed()
	}
	if o.Configuration == nil {
		o.Configuration = anHour
	}
	var err error
	if k.Table, err = Create(t.Context(), k.store, "tables/t", o, k.options()...); err != nil {
		t.Fatal(err)
	}
	k.app = NewAppender(k.Table, AppenderOptions{})
	return k
}

func (k *kept) options() []Option {
	return []Option{WithClock(k.clock.now), WithWait(noWait), WithoutCheckpoints()}
}

func (k *kept) open(t *testing.T, more ...Option) *Table {
	t.Helper()
	tbl, err := Open(t.Context(), k.store, "tables/t", append(k.options(), more...)...)
	if err != nil {
		t.Fatal(err)
	}
	return tbl
}

// append appends n commits of one row each, a second apart.
func (k *kept) append(t *testing.T, n int) {
	t.Helper()
	for range n {
		k.clock.pass(time.Second)
		mustAppend(t, k.app, perRow("p", k.next, k.next))
		k.next++
	}
}

func (k *kept) checkpoint(t *testing.T) Checkpointed {
	t.Helper()
	c, err := k.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (k *kept) clean(t *testing.T, hold int64) Cleaned {
	t.Helper()
	c, err := k.CleanLog(t.Context(), MaintainOptions{Hold: hold})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rewrite takes all files out and puts their rows in again as one, as a compaction does.
func (k *kept) rewrite(t *testing.T, dataChange bool) {
	t.Helper()
	var removes, adds []File
	for f := range k.Snapshot().Files() {
		removes = append(removes, f)
		rec, err := k.ReadFile(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		files, err := k.WriteFiles(t.Context(), rec, f.Tags)
		rec.Release()
		if err != nil {
			t.Fatal(err)
		}
		adds = append(adds, files...)
	}
	mustCommit(t, k.Table, Commit{Removes: removes, Adds: adds, Rearranged: !dataChange, Operation: opOptimize})
}

// same fails unless two snapshots are of one version and have the same in them.
func same(t *testing.T, a, b *Snapshot) {
	t.Helper()
	describe := func(s *Snapshot) []string {
		out := []string{fmt.Sprint(s.Version(), s.NumFiles(), s.NumRows(), s.Bytes(), s.TableID(), s.Schema(), txns(s), s.Configuration())}
		for f := range s.Files() {
			values := map[string]string{}
			for k, v := range f.PartitionValues {
				values[k] = "null"
				if v != nil {
					values[k] = "'" + *v + "'"
				}
			}
			out = append(out, fmt.Sprint(f.Path, f.Size, f.Rows, f.Stats, f.Tags, f.ModTime.UnixMilli(), values))
		}
		return out
	}
	x, y := describe(a), describe(b)
	for i := range max(len(x), len(y)) {
		if i >= len(x) || i >= len(y) || x[i] != y[i] {
			t.Errorf("snapshots differ:\n%s\n%s", x[i:min(i+1, len(x))], y[i:min(i+1, len(y))])
			return
		}
	}
}

func TestOpenThroughACheckpoint(t *testing.T) {
	k := newKept(t, CreateOptions{PartitionBy: []string{"country"}})
	k.append(t, 20)
	k.rewrite(t, false)
	if c := k.checkpoint(t); !c.Written || c.Version != 21 || c.Files != 20 || c.Tombstones != 20 {
		t.Errorf("%+v", c)
	}
	if c := k.checkpoint(t); c.Written || c.Version != 21 {
		t.Errorf("again: %+v", c)
	}
	k.append(t, 5)
	var reads atomic.Int64
	counting := &fateful{Store: k.store, get: func(key string) error {
		if strings.HasSuffix(key, ".json") {
			reads.Add(1)
		}
		return nil
	}}
	tbl, err := Open(t.Context(), counting, "tables/t", k.options()...)
	if err != nil {
		t.Fatal(err)
	}
	same(t, k.Snapshot(), tbl.Snapshot())
	if n := reads.Load(); n != 1+5 { // the commit of the checkpoint, for its time
		t.Errorf("%d commits were read", n)
	}
	wantIDs(t, tbl, perRow("p", 0, 24))
	out := mustAppend(t, NewAppender(tbl, AppenderOptions{}), perRow("p", 3, 30))
	if out.Duplicates != 22 || out.Rows != 6 {
		t.Errorf("after a checkpoint %d duplicates were found of 22", out.Duplicates)
	}
}

func TestAutomaticCheckpoints(t *testing.T) {
	clock, store := newClock(), mem.New()
	tbl, err := Create(t.Context(), store, "tables/t", CreateOptions{Schema: landed(), Configuration: map[string]string{"delta.checkpointInterval": "10"}}, WithClock(clock.now), WithWait(noWait))
	if err != nil {
		t.Fatal(err)
	}
	has := func(version int64) bool {
		if err := tbl.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		return tbl.readHint(t.Context()).version == version
	}
	for range 8 {
		mustCommit(t, tbl, Commit{})
	}
	if !has(-1) {
		t.Error("too early")
	}
	mustCommit(t, tbl, Commit{})
	if !has(9) {
		t.Error("no checkpoint after ten commits")
	}
	mustCommit(t, tbl, Commit{})
	if !has(9) {
		t.Error("too early")
	}
	clock.pass(checkpointAge)
	mustCommit(t, tbl, Commit{})
	if !has(11) {
		t.Error("no checkpoint after a minute")
	}
}

// TestDamagedCheckpoints: whatever is wrong with a checkpoint is noticed, and the table
// is read without it while the log still has what it takes.
func TestDamagedCheckpoints(t *testing.T) {
	good := func(t *testing.T) *kept {
		k := newKept(t, CreateOptions{})
		k.append(t, 5)
		k.checkpoint(t)
		k.append(t, 5)
		k.checkpoint(t)
		k.append(t, 2)
		return k
	}
	get := func(t *testing.T, k *kept, key string) []byte {
		data, err := k.store.Get(t.Context(), "tables/t/"+key)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	put := func(t *testing.T, k *kept, key string, data []byte) {
		if err := k.store.Put(t.Context(), "tables/t/"+key, data); err != nil {
			t.Fatal(err)
		}
	}
	newest := checkpointKey(10)
	damages := map[string]func(t *testing.T, k *kept){
		"torn":                  func(t *testing.T, k *kept) { d := get(t, k, newest); put(t, k, newest, d[:len(d)/2]) },
		"empty":                 func(t *testing.T, k *kept) { put(t, k, newest, nil) },
		"no Parquet":            func(t *testing.T, k *kept) { put(t, k, newest, []byte(`{"add":{}}`)) },
		"another version's":     func(t *testing.T, k *kept) { put(t, k, newest, get(t, k, checkpointKey(5))) },
		"deleted":               func(t *testing.T, k *kept) { _ = k.store.Delete(t.Context(), "tables/t/"+newest) },
		"hint torn":             func(t *testing.T, k *kept) { put(t, k, hintKey, []byte(`{"version":1`)) },
		"hint beyond the log":   func(t *testing.T, k *kept) { put(t, k, hintKey, []byte(`{"version":700,"size":3}`)) },
		"hint names no version": func(t *testing.T, k *kept) { put(t, k, hintKey, []byte(`{}`)) },
		"hint before all":       func(t *testing.T, k *kept) { put(t, k, hintKey, []byte(`{"version":5,"size":3}`)) },
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			k := good(t)
			damage(t, k)
			var log bytes.Buffer
			tbl := k.open(t, WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			same(t, k.Snapshot(), tbl.Snapshot())
			if !strings.HasPrefix(name, "hint") && name != "deleted" && !strings.Contains(log.String(), newest) {
				t.Errorf("the log does not name %s: %s", newest, log.String())
			}
			// The next checkpoint makes up for it.
			k.append(t, 1)
			c := k.checkpoint(t)
			if name != "hint beyond the log" && !c.Written {
				t.Errorf("%+v", c)
			}
			same(t, k.Snapshot(), k.open(t).Snapshot())
		})
	}
}

// TestNothingLeftToReadFrom: with its commits cleaned up, a damaged checkpoint is an
// error that names it, and a Table that still knows the table makes it whole again.
func TestNothingLeftToReadFrom(t *testing.T) {
	k := newKept(t, CreateOptions{})
	k.append(t, 5)
	k.checkpoint(t)
	k.append(t, 1)
	k.clock.pass(2 * time.Hour)
	if c := k.clean(t, NoHold); c.Commits != 5 || c.First != 5 {
		t.Fatalf("%+v", c)
	}
	if err := k.store.Put(t.Context(), "tables/t/"+checkpointKey(5), []byte("PAR1")); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), k.store, "tables/t", k.options()...)
	var damaged *DamagedError
	if !errors.As(err, &damaged) || damaged.Object != checkpointKey(5) || !strings.Contains(err.Error(), restoreObject) {
		t.Errorf("got %v", err)
	}
	k.clock.pass(2 * time.Hour)
	if c := k.clean(t, NoHold); c.Commits != 0 {
		t.Errorf("the log was cleaned up behind a damaged checkpoint: %+v", c)
	}
	k.checkpoint(t)
	same(t, k.Snapshot(), k.open(t).Snapshot())
}

func TestCleanLog(t *testing.T) {
	k := newKept(t, CreateOptions{})
	k.append(t, 10) // 1 to 10
	k.checkpoint(t)
	k.append(t, 10)
	k.checkpoint(t)
	k.append(t, 10)
	if c := k.clean(t, NoHold); c.Commits != 0 {
		t.Errorf("too early: %+v", c)
	}
	k.clock.pass(time.Hour + time.Second)
	k.append(t, 1)
	if c := k.clean(t, 9); c.Commits != 0 {
		t.Errorf("held back: %+v", c)
	}
	if c := k.clean(t, 15); c.Commits != 10 || c.First != 10 {
		t.Errorf("held back after 15: %+v", c)
	}
	if c := k.clean(t, NoHold); c.Commits != 10 || c.Checkpoints != 1 || c.First != 20 {
		t.Errorf("%+v", c)
	}
	tbl := k.open(t)
	same(t, k.Snapshot(), tbl.Snapshot())
	if _, err := tbl.At(t.Context(), 20); err != nil {
		t.Error(err)
	}
	var gone *VersionError
	if _, err := tbl.At(t.Context(), 19); !errors.As(err, &gone) || gone.Earliest != 20 || gone.Latest != 31 {
		t.Errorf("got %v", err)
	}
	if _, err := tbl.Changes(t.Context(), 5, 20); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	out := mustAppend(t, NewAppender(tbl, AppenderOptions{}), perRow("p", 0, 40))
	if out.Duplicates != 31 {
		t.Errorf("%d duplicates", out.Duplicates)
	}
}

// TestClockSetForward: a machine whose clock is a year ahead deletes nothing too early.
func TestClockSetForward(t *testing.T) {
	k := newKept(t, CreateOptions{})
	k.append(t, 3)
	k.rewrite(t, false)
	k.checkpoint(t)
	k.append(t, 1)
	ahead, err := Open(t.Context(), k.store, "tables/t", WithClock(func() time.Time { return k.clock.now().AddDate(1, 0, 0) }), WithWait(noWait), WithoutCheckpoints())
	if err != nil {
		t.Fatal(err)
	}
	c, err := ahead.CleanLog(t.Context(), MaintainOptions{Hold: NoHold})
	if err != nil || c.Commits != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	v, err := ahead.Vacuum(t.Context(), VacuumOptions{MaintainOptions: MaintainOptions{Hold: NoHold}, Orphans: true})
	if err != nil || v.Expired+v.Orphans != 0 {
		t.Errorf("%+v, %v", v, err)
	}
}

// sleeperStore holds one writer back in the middle of its conditional PUT.
type sleeperStore struct {
	objstore.Store
	during func()
}

func (s *sleeperStore) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if f := s.during; f != nil {
		s.during = nil
		f()
	}
	return s.Store.PutIfAbsent(ctx, key, data)
}

// TestSleepers: a writer that slept while its next versions were written and cleaned up,
// before its commit or in the middle of it, goes in behind them.
func TestSleepers(t *testing.T) {
	for _, name := range []string{"before", "in the middle"} {
		t.Run(name, func(t *testing.T) {
			k := newKept(t, CreateOptions{})
			store := &sleeperStore{Store: k.store}
			tbl, err := Open(t.Context(), store, "tables/t", k.options()...)
			if err != nil {
				t.Fatal(err)
			}
			sleeper := NewAppender(tbl, AppenderOptions{})
			meanwhile := func() {
				k.append(t, 5)
				k.checkpoint(t)
				k.clock.pass(time.Hour + 10*time.Second)
				k.append(t, 1)
				if c := k.clean(t, NoHold); c.Commits != 5 {
					t.Fatalf("%+v", c)
				}
			}
			if name == "before" {
				meanwhile()
			} else {
				store.during = meanwhile
			}
			if out := mustAppend(t, sleeper, perRow("p", 4, 9)); out.Version != 7 || out.Duplicates != 2 {
				t.Errorf("%+v", out)
			}
			for v := range int64(5) {
				if _, err := k.store.Stat(t.Context(), "tables/t/"+commitKey(v)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("version %d was written again", v)
				}
			}
			wantIDs(t, k.open(t), perRow("p", 0, 9))
		})
	}
}

func TestParseInterval(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"interval 1 days": 24 * time.Hour, "INTERVAL 2 WEEKS": 14 * 24 * time.Hour, "interval 1 day 12 hours": 36 * time.Hour, "3 minutes": 3 * time.Minute, "interval 500 milliseconds": 500 * time.Millisecond,
	} {
		if got, ok := parseInterval(text); !ok || got != want {
			t.Errorf("%s: %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "interval", "interval 1 fortnight", "1 day and more", "interval -1 days", "interval 9223372036854775807 weeks"} {
		if got, ok := parseInterval(text); ok {
			t.Errorf("%q: %v", text, got)
		}
	}
}
