package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

func commitsOf(t *testing.T, tbl *Table) []string {
	t.Helper()
	s, err := tbl.Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	changes, err := tbl.Changes(t.Context(), -1, s.Version())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range changes {
		out = append(out, c.Info.Operation)
	}
	return out
}

// TestDoubt: whatever the store answers, a commit is in the log exactly once, and says
// the version it has there.
func TestDoubt(t *testing.T) {
	for f, name := range fates {
		for _, rival := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, rival %v", name, rival), func(t *testing.T) {
				store := &fateful{Store: mem.New()}
				tbl := mustCreate(t, store, CreateOptions{})
				want := []string{"CREATE TABLE", "OURS"}
				if rival { // another process takes the version that ours is about to try
					other := mustOpen(t, store)
					if _, err := other.Commit(t.Context(), Commit{Operation: "RIVAL"}); err != nil {
						t.Fatal(err)
					}
					want = []string{"CREATE TABLE", "RIVAL", "OURS"}
				}
				store.put = one(1, f)
				v, err := tbl.Commit(t.Context(), Commit{Operation: "OURS"})
				if err != nil {
					t.Fatal(err)
				}
				store.release()
				if got := commitsOf(t, mustOpen(t, store)); !slices.Equal(got, want) {
					t.Fatalf("the log has %v, want %v", got, want)
				}
				if v != int64(len(want)-1) || tbl.Snapshot().Version() != v {
					t.Fatalf("version %d, snapshot %d, want %d", v, tbl.Snapshot().Version(), len(want)-1)
				}
			})
		}
	}
}

// TestNeverOnWhileUndecided: a request that is still on its way when the writer sends
// again must not come in beside the commit that was sent after it.
func TestNeverOnWhileUndecided(t *testing.T) {
	store := &fateful{Store: mem.New()}
	tbl := mustCreate(t, store, CreateOptions{})
	n := 0
	store.put = func(string) fate {
		if n++; n <= 3 {
			return late
		}
		return stored
	}
	if _, err := tbl.Commit(t.Context(), Commit{Operation: "OURS"}); err != nil {
		t.Fatal(err)
	}
	store.release()
	for _, key := range store.puts[1:] {
		if key != "00000000000000000001.json" {
			t.Errorf("tried %s while version 1 was undecided", key)
		}
	}
	if got := commitsOf(t, tbl); len(got) != 2 {
		t.Fatalf("the log has %v", got)
	}
}

// TestUndecided: when nothing more can be learnt, the caller hears just that, and the
// next commit of the table takes up the same version.
func TestUndecided(t *testing.T) {
	for name, c := range map[string]struct {
		f       fate
		getFail bool
		in      bool
	}{
		"cancelled before the answer, read fails": {interrupted, true, true},
		"forbidden, not stored":                   {forbidden, false, false},
		"forbidden, read fails":                   {forbiddenYet, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			store := &fateful{Store: mem.New()}
			tbl := mustCreate(t, store, CreateOptions{})
			store.put = one(1, c.f)
			if c.getFail {
				store.get = func(string) error { return errForbidden }
			}
			_, err := tbl.Commit(t.Context(), Commit{Operation: "OURS"})
			if !errors.Is(err, ErrOutcomeUnknown) {
				t.Fatalf("got %v", err)
			}
			store.get = nil
			if _, err := tbl.Commit(t.Context(), Commit{Operation: "NEXT"}); err != nil {
				t.Fatal(err)
			}
			want := []string{"CREATE TABLE", "NEXT"}
			if c.in {
				want = []string{"CREATE TABLE", "OURS", "NEXT"}
			}
			if got := commitsOf(t, tbl); !slices.Equal(got, want) {
				t.Fatalf("the log has %v, want %v", got, want)
			}
		})
	}
}

// TestForbiddenYetStored: even a plain refusal is checked.
func TestForbiddenYetStored(t *testing.T) {
	store := &fateful{Store: mem.New()}
	tbl := mustCreate(t, store, CreateOptions{})
	store.put = one(1, forbiddenYet)
	if v, err := tbl.Commit(t.Context(), Commit{}); err != nil || v != 1 {
		t.Fatalf("version %d, %v", v, err)
	}
}

func TestCancelledCommit(t *testing.T) {
	store := &fateful{Store: mem.New()}
	tbl := mustCreate(t, store, CreateOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tbl.Commit(ctx, Commit{}); !errors.Is(err, context.Canceled) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("before anything was sent: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	store.put = func(string) fate { cancel(); return requestLost }
	if _, err := tbl.Commit(ctx, Commit{}); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("after it was sent: %v", err)
	}
	// A conflict says that its own request did nothing, not that an earlier one did.
	for _, earlier := range []fate{conflict, late} {
		ctx, cancel = context.WithCancel(t.Context())
		n := 0
		store.put = func(string) fate {
			if n++; n == 1 {
				return earlier
			}
			cancel()
			return conflict
		}
		if _, err := tbl.Commit(ctx, Commit{}); errors.Is(err, ErrOutcomeUnknown) != (earlier == late) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s, then a conflict: %v", fates[earlier], err)
		}
	}
	store.put = nil
	if _, err := tbl.Commit(t.Context(), Commit{}); err != nil {
		t.Errorf("the table is locked: %v", err)
	}
}

func TestCreateInDoubt(t *testing.T) {
	for f, name := range fates {
		store := &fateful{Store: mem.New(), put: one(0, f)}
		tbl, err := Create(t.Context(), store, "tables/t", CreateOptions{Schema: landed()}, WithWait(noWait))
		if err != nil || tbl.Snapshot().Version() != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExpectTxn(t *testing.T) {
	store := mem.New()
	tbl := mustCreate(t, store, CreateOptions{})
	commit := func(tbl *Table, expect, version int64) error {
		_, err := tbl.Commit(t.Context(), Commit{
			Txns: []delta.Txn{{AppID: "pipeline/t", Version: version}}, ExpectTxn: map[string]int64{"pipeline/t": expect},
		})
		return err
	}
	zombie := mustOpen(t, store)
	if err := commit(tbl, -1, 7); err != nil {
		t.Fatal(err)
	}
	var moved *TxnMovedError
	// The zombie's snapshot still says "absent": it learns at the lost version.
	if err := commit(zombie, -1, 7); !errors.As(err, &moved) || moved.Have != 7 || moved.AppID != "pipeline/t" {
		t.Fatalf("got %v", err)
	}
	if err := commit(tbl, 6, 9); !errors.As(err, &moved) || moved.Have != 7 {
		t.Fatalf("got %v", err)
	}
	if err := commit(zombie, 7, 9); err != nil {
		t.Fatal(err)
	}
	if got := txns(zombie.Snapshot())["pipeline/t"]; got != 9 {
		t.Fatalf("txn is %d", got)
	}
	// Without ExpectTxn a txn must be news.
	if _, err := tbl.Commit(t.Context(), Commit{Txns: []delta.Txn{{AppID: "pipeline/t", Version: 8}}}); !errors.As(err, &moved) {
		t.Fatalf("got %v", err)
	}
	if _, err := tbl.Commit(t.Context(), Commit{Txns: []delta.Txn{{AppID: "pipeline/t", Version: 10}, {AppID: "recover/1", Version: 1}}}); err != nil {
		t.Fatal(err)
	}
	if n := tbl.Snapshot().Version(); n != 3 {
		t.Fatalf("%d versions, refused commits left some", n)
	}
}

func writeRows(t *testing.T, tbl *Table, first, last int64) []File {
	t.Helper()
	rec := rows(memory.DefaultAllocator, perRow("p", first, last))
	defer rec.Release()
	files, err := tbl.WriteFiles(t.Context(), rec, map[string]string{"k": "v"})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func mustCommit(t *testing.T, tbl *Table, c Commit) int64 {
	t.Helper()
	v, err := tbl.Commit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestRemovesAreJudged(t *testing.T) {
	store := mem.New()
	tbl := mustCreate(t, store, CreateOptions{})
	old := append(writeRows(t, tbl, 0, 9), writeRows(t, tbl, 10, 19)...)
	mustCommit(t, tbl, Commit{Adds: old})
	before := tbl.Snapshot()

	other := mustOpen(t, store)
	mustCommit(t, other, Commit{Adds: writeRows(t, other, 20, 29)}) // an append does not disturb
	compacted := writeRows(t, tbl, 0, 19)
	v := mustCommit(t, tbl, Commit{Adds: compacted, Removes: old, Rearranged: true, Operation: "OPTIMIZE"})
	wantIDs(t, tbl, perRow("p", 0, 29))
	if before.NumFiles() != 2 || len(slices.Collect(before.Files())) != 2 || before.NumRows() != 20 {
		t.Errorf("an older snapshot changed: %d files", len(slices.Collect(before.Files())))
	}
	changes, err := tbl.Changes(t.Context(), v-1, v)
	if err != nil || len(changes) != 1 || len(changes[0].Adds) != 0 {
		t.Errorf("a compaction brings no rows: %+v %v", changes, err)
	}

	var conflict *ConflictError
	if _, err := other.Commit(t.Context(), Commit{Removes: old[:1]}); !errors.As(err, &conflict) {
		t.Errorf("a file removed twice: %v", err)
	}
	mustCommit(t, other, Commit{Removes: compacted, Operation: "DELETE"})
	wantIDs(t, other, perRow("p", 20, 29))
	if s, err := tbl.Refresh(t.Context()); err != nil || s.NumFiles() != 1 || s.NumRows() != 10 {
		t.Errorf("%v", err)
	}
	wantIDs(t, mustOpen(t, store), perRow("p", 20, 29))

	// The schema changes between a compaction's plan and its commit.
	left := slices.Collect(tbl.Snapshot().Files())
	rival := func(point string) {
		if point == "before-commit" && other.Snapshot().Schema().NumFields() == landed().NumFields() {
			fields := append(landed().Fields(), nullable("extra"))
			if err := other.AddColumns(t.Context(), newSchema(fields)); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := tbl.Commit(t.Context(), Commit{Removes: left, Rearranged: true, Fault: rival}); !errors.As(err, &conflict) {
		t.Errorf("compaction over a schema change: %v", err)
	}
}

func TestCommitAfterSchemaChange(t *testing.T) {
	store := mem.New()
	tbl, other := mustCreate(t, store, CreateOptions{}), mustOpen(t, store)
	files := writeRows(t, tbl, 0, 9)
	if err := other.AddColumns(t.Context(), newSchema(append(landed().Fields(), nullable("extra")))); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, tbl, Commit{Adds: files}) // files without the column still fit
	for f := range tbl.Snapshot().Files() {
		rec, err := tbl.ReadFile(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if c := rec.Column(4); rec.NumCols() != 5 || c.NullN() != c.Len() {
			t.Errorf("a column that the file lacks: %v", c)
		}
		rec.Release()
	}
	// Another engine makes a column required that our file may have nulls in.
	files = writeRows(t, tbl, 10, 19)
	meta := other.Snapshot().meta.Metadata
	meta.SchemaString = strings.Replace(meta.SchemaString, `"country","type":"string","nullable":true`, `"country","type":"string","nullable":false`, 1)
	if _, err := other.commit(t.Context(), func(*Snapshot) (*Commit, error) { return &Commit{metadata: &meta}, nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := tbl.Commit(t.Context(), Commit{Adds: files}); !errors.Is(err, ErrSchemaChanged) || !strings.Contains(err.Error(), "country") {
		t.Errorf("got %v", err)
	}
}
