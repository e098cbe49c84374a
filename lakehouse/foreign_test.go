package lakehouse

import (
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
	"github.com/tidemill/tidemill/lakehouse/objstore/storetest"
)

// putCommit writes a commit as another writer may.
func putCommit(t *testing.T, store objstore.Store, version int64, lines ...string) {
	t.Helper()
	if err := store.Put(t.Context(), "tables/t/"+commitKey(version), []byte(strings.Join(lines, "\n"))); err != nil {
		t.Fatal(err)
	}
}

func metaLine(fields ...string) string {
	return `{"metaData":{"id":"x","format":{"provider":"parquet"},"schemaString":"{\"type\":\"struct\",\"fields\":[` + strings.ReplaceAll(strings.Join(fields, ","), `"`, `\"`) + `]}","partitionColumns":[],"configuration":{}}}`
}

// TestTablesThatAreOnlyRead: what binds writers only keeps us from writing, not from reading.
func TestTablesThatAreOnlyRead(t *testing.T) {
	meta, protocol := metaLine, `{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}`
	long := `{"name":"a","type":"long","nullable":true,"metadata":{}}`
	for want, lines := range map[string][]string{
		"checkConstraints": {`{"protocol":{"minReaderVersion":1,"minWriterVersion":3}}`, meta(long)},
		"changeDataFeed":   {`{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["appendOnly","changeDataFeed"]}}`, meta(long)},
		"invariants":       {protocol, meta(strings.Replace(long, `{}`, `{"delta.invariants":"x"}`, 1))},
	} {
		store := mem.New()
		putCommit(t, store, 0, lines...)
		putCommit(t, store, 1, `{"add":{"path":"x","partitionValues":{},"size":5,"dataChange":true}}`)
		tbl := mustOpen(t, store)
		if s := tbl.Snapshot(); s.NumFiles() != 1 || s.Schema().NumFields() != 1 {
			t.Errorf("%s: %d files, %v", want, s.NumFiles(), s.Schema())
		}
		rec := longs(tbl.Snapshot().Schema())
		_, werr := tbl.WriteFiles(t.Context(), rec, nil)
		rec.Release()
		_, cerr := tbl.Commit(t.Context(), Commit{})
		_, perr := tbl.Checkpoint(t.Context())
		_, lerr := tbl.CleanLog(t.Context(), MaintainOptions{})
		_, verr := tbl.Vacuum(t.Context(), VacuumOptions{Orphans: true})
		for _, err := range []error{werr, cerr, perr, lerr, verr, tbl.AddColumns(t.Context(), arrow.NewSchema([]arrow.Field{{Name: "new", Type: arrow.BinaryTypes.String, Nullable: true}}, nil))} {
			var u *delta.UnsupportedError
			if !errors.As(err, &u) || !strings.Contains(u.Feature, want) {
				t.Errorf("write: %v, want %s", err, want)
			}
		}
		if n := len(storetest.Keys(t, store, "", "")); n != 2 {
			t.Errorf("%s: %d objects, want those that were there", want, n)
		}
	}
	// A protocol can change without the metaData: the table was ours to write until then.
	store := mem.New()
	putCommit(t, store, 0, protocol, meta(long))
	tbl := mustOpen(t, store)
	mustCommit(t, tbl, Commit{})
	putCommit(t, store, 2, `{"protocol":{"minReaderVersion":1,"minWriterVersion":4}}`)
	if _, err := tbl.Commit(t.Context(), Commit{}); err == nil || !strings.Contains(err.Error(), "generatedColumns") || tbl.Snapshot().Protocol().MinWriterVersion != 4 {
		t.Errorf("%v, %+v", err, tbl.Snapshot().Protocol())
	}
}

// longs is one row of a column of longs.
func longs(s *arrow.Schema) arrow.Record {
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	defer b.Release()
	b.Field(0).(*array.Int64Builder).Append(1)
	return b.NewRecord()
}
