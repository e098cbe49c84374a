package interop

import (
	"testing"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/lakehouse"
)

// sameVersions compares a table of another writer at each of its versions: our rows and
// number of files with that of a reader, the writer itself.
func sameVersions(t *testing.T, at *site, r reader, name string, first, last int64) {
	t.Helper()
	tbl, err := lakehouse.Open(t.Context(), at, name)
	if err != nil {
		t.Fatal(err)
	}
	if v := tbl.Snapshot().Version(); v != last {
		t.Errorf("version %d is the newest, want %d", v, last)
	}
	rows, files := 0, 0
	for v := first; v <= last; v++ {
		s, err := tbl.At(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		theirs, want := r.scan(t, name, &v)
		got := lines(ours(t, tbl, s))
		sameLines(t, name+" at version "+literal(arrow.PrimitiveTypes.Int64, v), got, lines(want))
		if theirs.Files != s.NumFiles() {
			t.Errorf("version %d: %s has %d files, we %d", v, r.name, theirs.Files, s.NumFiles())
		}
		rows, files = rows+len(got), files+s.NumFiles()
	}
	if rows == 0 {
		t.Error("no rows were compared")
	}
	t.Logf("%s: %d versions, %d rows of %d files in all compared", name, last-first+1, rows, files)
}

// TestDeltaRsTables reads what delta-rs writes.
func TestDeltaRsTables(t *testing.T) {
	for _, at := range []*site{onMinIO(t), onDisk(t)} {
		e := &engines{at: at, owner: t}
		for _, name := range []string{"all_types", "partitions", "changes", "evolution", "transactions"} {
			t.Run(at.name+"/"+name, func(t *testing.T) {
				var last int64
				e.Readers(t).must(t, "write", args{"table": name, "uri": at.uri(name), "options": at.options}, &last)
				sameVersions(t, at, e.all(t, "deltalake")[0], name, 0, last)
			})
		}
	}
}
