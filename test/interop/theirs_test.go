package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/parquet"
	"github.com/tidemill/tidemill/test/product"
)

// sameVersions compares a table of another writer at each of its versions: our rows and
// number of files with that of a reader, the writer itself.
func (e *engines) sameVersions(t *testing.T, r reader, name string, first, last int64) {
	t.Helper()
	tbl, err := lakehouse.Open(t.Context(), e.at, name)
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
		sameLines(t, fmt.Sprintf("%s at version %d", name, v), got, lines(want))
		if v == last || v == (first+last)/2 {
			e.binaryReads(t, name, v, lines(want))
		}
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

// binaryReads compares what `tidemill table scan` writes with what an engine has read.
func (e *engines) binaryReads(t *testing.T, name string, version int64, want []string) {
	t.Helper()
	b := product.Binary{Path: testserver.Tidemill(t)}
	for k, v := range e.at.options {
		b.Env = append(b.Env, k+"="+v)
	}
	path := filepath.Join(t.TempDir(), "rows.parquet")
	b.Must(t, "table", "scan", e.at.uri(name), "--version", strconv.FormatInt(version, 10), "--out", path)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := parquet.Decode(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	sameLines(t, fmt.Sprintf("tidemill table scan %s --version %d", name, version), lines([]arrow.Record{rec}), want)
	var shown struct {
		Version int64
		Rows    *int64 // null: some file has no statistics
	}
	if err := json.Unmarshal([]byte(b.Must(t, "table", "show", e.at.uri(name), "--json", "--version", strconv.FormatInt(version, 10))), &shown); err != nil {
		t.Fatal(err)
	}
	if shown.Version != version || shown.Rows != nil && *shown.Rows != int64(len(want)) {
		t.Errorf("tidemill table show: version %d with %d rows, want version %d with %d", shown.Version, *shown.Rows, version, len(want))
	}
}

// deltaRsTables reads what delta-rs writes.
func deltaRsTables(t *testing.T, e *engines) {
	for _, table := range []string{"all_types", "partitions", "changes", "evolution", "transactions"} {
		t.Run(e.at.name+"/"+table, func(t *testing.T) {
			name := "delta_rs_" + table
			var last int64
			e.Readers(t).must(t, "write", args{"table": table, "uri": e.at.uri(name), "options": e.at.options}, &last)
			e.sameVersions(t, e.all(t, "deltalake")[0], name, 0, last)
		})
	}
}
