package interop

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/lakehouse"
)

// bothAppend lets delta-rs append while we append, compact and write checkpoints.
// Every row is in once, and the log has no gap.
func bothAppend(t *testing.T, e *engines) {
	const theirs, rowsEach = 40, 3 // appends of delta-rs; ours go on for as long as it works
	at := e.at
	tbl := write(t, at, "race", lakehouse.CreateOptions{})
	a := lakehouse.NewAppender(tbl, lakehouse.AppenderOptions{})
	done := make(chan error, 1)
	process := e.Readers(t)
	go func() {
		done <- process.ask("appends", args{"uri": at.uri("race"), "options": at.options, "commits": theirs, "rows": rowsEach}, nil)
	}()
	next := int64(1)
	var compacted lakehouse.Compacted
	for running := true; running || next == 1; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		rec := record(samples(common, next)[:rowsEach])
		if _, err := a.Append(t.Context(), lakehouse.Append{Record: rec}); err != nil {
			t.Fatal(err)
		}
		if next += rowsEach; next%(20*rowsEach) == 1 {
			c, err := tbl.Compact(t.Context(), lakehouse.CompactOptions{MaintainOptions: lakehouse.MaintainOptions{Hold: lakehouse.NoHold}, MinAge: -1, MinFiles: 4})
			if err != nil {
				t.Fatal(err)
			}
			compacted.Groups += c.Groups
			if _, err := tbl.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := tbl.Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[int64]int{}
	for i := range next - 1 {
		want[i+1]++
	}
	for i := range int64(theirs * rowsEach) {
		want[-1-i]++
	}
	e.countIDs(t, tbl, s, want)
	changes := denseLog(t, at, "race", s.Version())
	t.Logf("%d rows of %d commits of ours, %d of delta-rs; %d groups compacted; the writers took turns %d times", next-1, (next-1)/rowsEach, theirs, compacted.Groups, changes)
	if changes < 2 {
		t.Error("they did not append at the same time")
	}
}

// countIDs compares how often each id is in the table, for us and for an engine.
func (e *engines) countIDs(t *testing.T, tbl *lakehouse.Table, s *lakehouse.Snapshot, want map[int64]int) {
	t.Helper()
	_, theirs := e.all(t, "duckdb")[0].scan(t, tbl.Root(), nil)
	for who, records := range map[string][]arrow.Record{"tidemill": ours(t, tbl, s), "duckdb": theirs} {
		got := map[int64]int{}
		for _, rec := range records {
			_, id := column(rec, "id")
			for i := range int(rec.NumRows()) {
				got[id(i).(int64)]++
			}
		}
		for id, n := range want {
			if got[id] != n {
				t.Errorf("%s: row %d is %d times in the table", who, id, got[id])
			}
			delete(got, id)
		}
		if len(got) > 0 {
			t.Errorf("%s: rows that nobody appended: %v", who, got)
		}
	}
}

// denseLog fails the test unless every version up to the last has a commit, and returns
// how often the writer of a commit is another one than that of the commit before.
func denseLog(t *testing.T, at *site, table string, last int64) int {
	t.Helper()
	var writers []string
	for v := range last + 1 {
		data, err := at.Get(t.Context(), fmt.Sprintf("%s/_delta_log/%020d.json", table, v))
		if err != nil {
			t.Errorf("version %d: %v", v, err)
			continue
		}
		writer := "tidemill"
		if strings.Contains(string(data), "delta-rs") {
			writer = "delta-rs"
		}
		writers = append(writers, writer)
	}
	return len(slices.Compact(writers)) - 1
}
