package interop

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// aged is a store whose objects are two days old, so that retention is over without a wait.
type aged struct{ objstore.Store }

const age = 48 * time.Hour

func (s aged) Stat(ctx context.Context, key string) (objstore.Object, error) {
	o, err := s.Store.Stat(ctx, key)
	if !strings.Contains(key, "clock") { // which the store's time is read from
		o.ModTime = o.ModTime.Add(-age)
	}
	return o, err
}

func (s aged) List(ctx context.Context, prefix, startAfter string) iter.Seq2[objstore.Object, error] {
	return func(yield func(objstore.Object, error) bool) {
		for o, err := range s.Store.List(ctx, prefix, startAfter) {
			o.ModTime = o.ModTime.Add(-age)
			if !yield(o, err) {
				return
			}
		}
	}
}

var laterField = arrow.Field{Name: "later", Type: arrow.BinaryTypes.String, Nullable: true}

// withLater gives rows one more column: the id as text, or null.
func withLater(rec arrow.Record, filled bool) arrow.Record {
	if len(rec.Schema().FieldIndices(laterField.Name)) > 0 {
		return rec
	}
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	for i := range int(rec.NumRows()) {
		if filled {
			b.Append("later " + rec.Column(0).ValueStr(i))
		} else {
			b.AppendNull()
		}
	}
	schema := arrow.NewSchema(append(rec.Schema().Fields(), laterField), nil)
	return array.NewRecord(schema, append(slices.Clone(rec.Columns()), b.NewArray()), rec.NumRows())
}

// aLife is a table through all that happens to one, and what its rows must be.
type aLife struct {
	*testing.T
	e        *engines
	tbl      *lakehouse.Table
	known    []arrow.Record
	versions map[int64][]arrow.Record // known, by version
}

// step lets something happen and every engine look.
func (l *aLife) step(what string, do func()) {
	l.Helper()
	l.Run(what, func(t *testing.T) {
		defer func(outer *testing.T) { l.T = outer }(l.T)
		l.T = t
		do()
		s, err := l.tbl.Refresh(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l.versions[s.Version()] = slices.Clone(l.known)
		sameLines(t, "our own reader", lines(ours(t, l.tbl, s)), lines(l.known))
		columns := []string{"id", "ts"}
		if len(s.Schema().FieldIndices(laterField.Name)) > 0 {
			columns = append(columns, laterField.Name)
		}
		everyoneReads(t, l.e, lifeTable, s, l.known, columns, 2)
	})
}

func (l *aLife) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

const lifeTable = "life"

func life(t *testing.T, e *engines) {
	// All of it happened two days ago, so that maintenance today finds it old.
	tbl, err := lakehouse.Create(t.Context(), e.at, lifeTable, lakehouse.CreateOptions{Schema: sampleSchema, PartitionBy: []string{"flag"}},
		lakehouse.WithClock(func() time.Time { return time.Now().Add(-age) }), lakehouse.WithoutCheckpoints())
	if err != nil {
		t.Fatal(err)
	}
	l := &aLife{T: t, e: e, tbl: tbl, versions: map[int64][]arrow.Record{}}
	add := func(rec arrow.Record) {
		appendTo(l.T, l.tbl, rec)
		l.known = append(l.known, rec)
	}
	l.step("appended", func() {
		for kind := range 3 {
			add(record(samples(kind, int64(1+kind*perFile))))
		}
	})
	l.step("checkpoint", func() {
		c, err := tbl.Checkpoint(l.Context())
		l.must(err)
		l.Logf("%+v", c)
	})
	l.step("appended behind it", func() { add(record(samples(mixed, 1000))) })
	l.step("column added", func() {
		l.must(tbl.AddColumns(l.Context(), arrow.NewSchema(append(sampleSchema.Fields(), laterField), nil)))
		for i, rec := range l.known {
			l.known[i] = withLater(rec, false)
		}
		add(withLater(record(samples(common, 2000)), true))
	})
	l.step("compacted", func() {
		c, err := tbl.Compact(l.Context(), lakehouse.CompactOptions{
			MaintainOptions: lakehouse.MaintainOptions{Hold: lakehouse.NoHold}, ClusterBy: []string{"ts"}, MinAge: -1, MinFiles: 2,
		})
		l.must(err)
		if before, after := 8, tbl.Snapshot().NumFiles(); after >= before {
			l.Errorf("%d files before, %d after: %+v", before, after, c)
		}
	})
	l.step("appended behind that", func() { add(withLater(record(samples(common, 4000)), true)) })
	full := tbl.Snapshot().Version()
	remove := func() {
		var last []lakehouse.File // the file of the last record; flag is true in all of it
		for f := range tbl.Snapshot().Files() {
			if strings.Contains(f.Stats, `"minValues":{"id":4000,`) {
				last = append(last, f)
			}
		}
		_, err := tbl.Commit(l.Context(), lakehouse.Commit{Removes: last, Operation: "DELETE"})
		l.must(err)
		l.known = l.known[:len(l.known)-1]
	}
	l.step("files removed", remove)
	l.step("restored", func() {
		_, err := tbl.Restore(l.Context(), full)
		l.must(err)
		l.known = slices.Clone(l.versions[full])
	})
	l.Run("time travel", func(t *testing.T) { l.travel(t) })
	l.step("files removed again", remove)
	l.step("vacuumed and cleaned up", func() {
		_, err := tbl.WriteFiles(l.Context(), l.known[0], nil) // and not committed: an orphan
		l.must(err)
		tbl, err = lakehouse.Open(l.Context(), aged{e.at}, lifeTable)
		l.must(err)
		l.tbl = tbl
		hold := lakehouse.MaintainOptions{Hold: lakehouse.NoHold}
		_, err = tbl.Checkpoint(l.Context())
		l.must(err)
		v, err := tbl.Vacuum(l.Context(), lakehouse.VacuumOptions{MaintainOptions: hold, Orphans: true})
		l.must(err)
		c, err := tbl.CleanLog(l.Context(), hold)
		l.must(err)
		if c.Commits == 0 || v.Expired == 0 || v.Orphans == 0 {
			l.Errorf("nothing to do: %+v, %+v", v, c)
		}
		l.Logf("%+v, %+v", v, c)
	})
	l.step("appended after all", func() { add(withLater(record(samples(past, 3000)), true)) })
}

// travel lets the engines read the versions that were looked at when they were new.
func (l *aLife) travel(t *testing.T) {
	for _, v := range slices.Sorted(maps.Keys(l.versions)) {
		s, err := l.tbl.At(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		want := lines(l.versions[v])
		sameLines(t, "our own reader", lines(ours(t, l.tbl, s)), want)
		for _, r := range l.e.all(t, everyEngine...) {
			got, rows := r.scan(t, lifeTable, &v)
			sameLines(t, fmt.Sprintf("%s at version %d", r.name, v), lines(rows), want)
			if got.Files != s.NumFiles() {
				t.Errorf("%s at version %d has %d files, the log %d", r.name, v, got.Files, s.NumFiles())
			}
		}
	}
	t.Logf("%d versions compared in all engines", len(l.versions))
}
