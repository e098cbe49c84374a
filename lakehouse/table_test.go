package lakehouse

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
)

func nullable(name string) arrow.Field {
	return arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Float64, Nullable: true}
}

func newSchema(fields []arrow.Field) *arrow.Schema { return arrow.NewSchema(fields, nil) }

func TestOpenWhatIsNotThere(t *testing.T) {
	if _, err := Open(t.Context(), mem.New(), "tables/t"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
}

func TestCreateAtOnce(t *testing.T) {
	store := mem.New()
	var wg sync.WaitGroup
	tables := make([]*Table, 16)
	for i := range tables {
		wg.Go(func() {
			var err error
			if tables[i], err = Create(t.Context(), store, "/tables/t/", CreateOptions{Schema: landed()}, WithWait(noWait)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for _, tbl := range tables {
		if tbl.Snapshot().TableID() != tables[0].Snapshot().TableID() || tbl.Snapshot().Version() != 0 {
			t.Fatal("two tables, or a table created twice")
		}
	}
	s := tables[0].Snapshot()
	if !s.Schema().Equal(landed()) || s.Configuration()["delta.checkpointInterval"] != "100" || s.Time().IsZero() {
		t.Errorf("%v %v", s.Schema(), s.Configuration())
	}
}

func TestCreateChecksWhatIsThere(t *testing.T) {
	store := mem.New()
	mustCreate(t, store, CreateOptions{PartitionBy: []string{"country"}})
	without := func(name string) []arrow.Field {
		return slices.DeleteFunc(landed().Fields(), func(f arrow.Field) bool { return f.Name == name })
	}
	withType := func(name string, dt arrow.DataType) []arrow.Field {
		f := landed().Fields()
		f[landed().FieldIndices(name)[0]].Type = dt
		return f
	}
	by := []string{"country"}
	for _, c := range []struct {
		fields []arrow.Field
		by     []string
		want   string
	}{
		{landed().Fields(), nil, "partitioned by [country]"},
		{without("id"), by, "column id: the table requires it"},
		{withType("_offset", arrow.PrimitiveTypes.Int32), by, "column _offset: the table has type int64, not int32"},
		{append(landed().Fields(), arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int64}), by, "column x: a column added to a table must be nullable"},
		{append(without("id"), arrow.Field{Name: "ID", Type: arrow.BinaryTypes.String}), by, "column ID: the table has it as id"},
		{append(landed().Fields(), arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Uint64, Nullable: true}), by, "column x: uint64 has no type in Delta"},
		{append(landed().Fields(), arrow.Field{Name: "x", Type: arrow.FixedWidthTypes.Timestamp_ns, Nullable: true}), by, "column x: timestamp[ns"},
		{append(landed().Fields(), nullable("Country")), by, "differ by more than case"},
		{landed().Fields(), []string{"nope"}, "partition column nope"},
		{append(landed().Fields(), nullable("x")), []string{"x"}, "cannot be partitioned by a column of type float64"},
	} {
		_, err := Create(t.Context(), store, "tables/t", CreateOptions{Schema: newSchema(c.fields), PartitionBy: c.by}, WithWait(noWait))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
	// What only adds nullable columns changes the table; what has less of them is fine.
	wide := append([]arrow.Field{nullable("score")}, landed().Fields()...)
	for _, fields := range [][]arrow.Field{wide, without("country"), wide} {
		o := CreateOptions{Schema: newSchema(fields), PartitionBy: by}
		tbl, err := Create(t.Context(), store, "tables/t", o, WithWait(noWait))
		if err != nil {
			if strings.Contains(err.Error(), "partition column country is no column") {
				continue
			}
			t.Fatal(err)
		}
		if got := tbl.Snapshot(); got.Version() != 1 || names(got.Schema()) != "id, country, _source, _offset, score" {
			t.Fatalf("version %d: %s", got.Version(), names(got.Schema()))
		}
	}
}

func TestWriteReadPartitioned(t *testing.T) {
	m := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer m.AssertSize(t, 0)
	store := mem.New()
	fields := append(landed().Fields(), arrow.Field{Name: "d", Type: arrow.FixedWidthTypes.Date32, Nullable: true})
	tbl := mustCreate(t, store, CreateOptions{Schema: newSchema(fields), PartitionBy: []string{"d", "country"}})
	b := array.NewRecordBuilder(m, newSchema(fields))
	defer b.Release()
	want := map[string]string{}
	for i := range 200 {
		id := fmt.Sprint("r", i)
		b.Field(0).(*array.StringBuilder).Append(id)
		country := []string{"DE", "Côte d'Ivoire/x=y", "", "FR"}[i%4]
		if i%4 == 2 && i%8 == 2 {
			b.Field(1).AppendNull()
		} else {
			b.Field(1).(*array.StringBuilder).Append(country)
		}
		b.Field(2).(*array.StringBuilder).Append("p")
		b.Field(3).(*array.Int64Builder).Append(int64(i))
		day := arrow.Date32(20454 + i%3)
		b.Field(4).(*array.Date32Builder).Append(day)
		want[id] = fmt.Sprint(country, " ", day.FormattedString())
	}
	rec := b.NewRecord()
	defer rec.Release()
	files, err := tbl.WriteFiles(t.Context(), rec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 12 {
		t.Fatalf("%d files for 12 partitions", len(files))
	}
	mustCommit(t, tbl, Commit{Adds: files})
	again := mustOpen(t, store)
	for f := range again.Snapshot().Files() {
		if strings.Trim(f.Path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._=/-%") != "" || strings.ReplaceAll(f.Path, "%", "%25") != f.pathInLog() {
			t.Errorf("path %q, in the log %q", f.Path, f.pathInLog())
		}
		got, err := again.ReadFile(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Schema().Equal(newSchema(fields)) {
			t.Fatalf("schema %v", got.Schema())
		}
		for i := range int(got.NumRows()) {
			id := got.Column(0).(*array.String).Value(i)
			country := ""
			if c := got.Column(1).(*array.String); c.IsValid(i) {
				country = c.Value(i)
			}
			if s := fmt.Sprint(country, " ", got.Column(4).(*array.Date32).Value(i).FormattedString()); s != want[id] {
				t.Errorf("%s is %q, want %q", id, s, want[id])
			}
			delete(want, id)
		}
		got.Release()
	}
	if len(want) > 0 {
		t.Errorf("lost: %v", slices.Sorted(maps.Keys(want)))
	}
}

func TestWriteFilesRefuses(t *testing.T) {
	tbl := mustCreate(t, mem.New(), CreateOptions{})
	b := array.NewRecordBuilder(memory.DefaultAllocator, newSchema([]arrow.Field{
		{Name: "id", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "_offset", Type: arrow.PrimitiveTypes.Int32}, nullable("typo"),
	}))
	defer b.Release()
	b.Field(0).AppendNull()
	b.Field(1).(*array.Int32Builder).Append(1)
	b.Field(2).AppendNull()
	rec := b.NewRecord()
	defer rec.Release()
	_, err := tbl.WriteFiles(t.Context(), rec, nil)
	for _, want := range []string{"column id is required and has 1 null", "column _source is required and missing", "column _offset has type int32, the table has int64", "no column typo"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}

func TestRefreshAndChanges(t *testing.T) {
	store := mem.New()
	tbl := mustCreate(t, store, CreateOptions{})
	follower := mustOpen(t, store)
	n := int64(2*tailLen + 300) // more than a table keeps in memory
	for i := range n {
		mustCommit(t, tbl, Commit{Adds: []File{{Path: fmt.Sprint("f", i), Size: 1, Rows: 1, Stats: `{"numRecords":1}`}}, Txns: []delta.Txn{{AppID: fmt.Sprint("a", i%200), Version: i}}})
	}
	s, err := follower.Refresh(t.Context())
	if err != nil || s.Version() != n || s.NumFiles() != int(n) || s.NumRows() != n {
		t.Fatalf("%v: %+v", err, s)
	}
	if got := txns(s); len(got) != 200 || got["a7"] != (n-8)/200*200+7 {
		t.Errorf("%d txns, a7 is %d", len(got), got["a7"])
	}
	for _, span := range [][2]int64{{-1, n}, {0, 10}, {n - 5, n}, {n - 5, n + 100}, {n, n + 1}, {500, n - tailLen + 2}} {
		got, err := follower.Changes(t.Context(), span[0], span[1])
		if err != nil {
			t.Fatal(err)
		}
		want := span[0] + 1
		for _, c := range got {
			if c.Version != want || want > 0 && (len(c.Adds) != 1 || c.Adds[0].Path != fmt.Sprint("f", want-1) || c.Adds[0].Version != want) {
				t.Fatalf("after %d: version %d has %v", span[0], c.Version, c.Adds)
			}
			want++
		}
		if want != min(span[1], n)+1 {
			t.Errorf("changes (%d, %d] end before %d", span[0], span[1], want)
		}
	}
	i := int64(0)
	for f := range s.Files() {
		if f.Path != fmt.Sprint("f", i) {
			t.Fatalf("file %d is %s", i, f.Path)
		}
		i++
	}
}

// TestSnapshotsStay: many removes, with old snapshots alive.
func TestSnapshotsStay(t *testing.T) {
	tbl := mustCreate(t, mem.New(), CreateOptions{})
	r := seeded(1)
	live := map[string]bool{}
	type seen struct {
		s    *Snapshot
		want []string
	}
	var all []seen
	for i := range 2000 {
		var c Commit
		for j := range 3 {
			c.Adds = append(c.Adds, File{Path: fmt.Sprintf("f%d-%d", i, j), Size: 10, Rows: 2, Stats: `{"numRecords":2}`})
		}
		for f := range tbl.Snapshot().Files() {
			if len(live) > 50 && r.IntN(10) == 0 {
				c.Removes = append(c.Removes, f)
				delete(live, f.Path)
			}
		}
		for _, f := range c.Adds {
			live[f.Path] = true
		}
		mustCommit(t, tbl, c)
		if i%100 == 0 {
			all = append(all, seen{tbl.Snapshot(), slices.Sorted(maps.Keys(live))})
		}
	}
	for _, x := range all {
		var got []string
		for f := range x.s.Files() {
			got = append(got, f.Path)
		}
		slices.Sort(got)
		if !slices.Equal(got, x.want) || x.s.NumFiles() != len(x.want) || x.s.NumRows() != 2*int64(len(x.want)) || x.s.Bytes() != 10*int64(len(x.want)) {
			t.Fatalf("version %d: %d files, want %d", x.s.Version(), len(got), len(x.want))
		}
	}
	if n := len(tbl.Snapshot().entries); n > 3000 {
		t.Errorf("%d entries for %d files", n, tbl.Snapshot().NumFiles())
	}
}

// TestForeignLog reads what other writers may write.
func TestForeignLog(t *testing.T) {
	put := func(store *mem.Store, version int64, lines ...string) {
		if err := store.Put(t.Context(), "tables/t/"+commitKey(version), []byte(strings.Join(lines, "\n"))); err != nil {
			t.Fatal(err)
		}
	}
	protocol := `{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}`
	meta := func(field string) string {
		return `{"metaData":{"id":"x","format":{"provider":"parquet"},"schemaString":"{\"type\":\"struct\",\"fields\":[` + strings.ReplaceAll(field, `"`, `\"`) + `]}","partitionColumns":[],"configuration":{}}}`
	}
	long := `{"name":"a","type":"long","nullable":true,"metadata":{}}`
	store := mem.New()
	put(store, 0, `{"commitInfo":{"timestamp":"yesterday","what":[1]}}`, protocol, meta(long), `{"domainMetadata":{"domain":"d"}}`, "",
		`{"add":{"path":"a%20b%2520.parquet","partitionValues":{},"size":5,"modificationTime":1700000000000,"dataChange":true,"stats":"{\"minValues\":{},\"numRecords\":7}","future":{"x":1}}}`,
		`{"add":{"path":"nostats.parquet","partitionValues":{"p":""},"size":5,"modificationTime":1700000000001,"dataChange":true}}`)
	put(store, 1, `{"remove":{"path":"nostats.parquet","dataChange":true}}`, `{"remove":{"path":"never-seen.parquet","dataChange":true}}`)
	tbl := mustOpen(t, store)
	s := tbl.Snapshot()
	files := slices.Collect(s.Files())
	if s.Version() != 1 || len(files) != 1 || files[0].Path != "a b%20.parquet" || files[0].Rows != 7 || s.Time() != time.UnixMilli(1700000000001).UTC() {
		t.Fatalf("%+v %v", files, s.Time())
	}
	mustCommit(t, tbl, Commit{Removes: files})
	if data, _ := store.Get(t.Context(), "tables/t/"+commitKey(2)); !strings.Contains(string(data), `"path":"a%20b%2520.parquet"`) {
		t.Errorf("a remove has to name the path as the add did: %s", data)
	}
	if n := mustOpen(t, store).Snapshot().NumFiles(); n != 0 {
		t.Errorf("%d files left", n)
	}

	for want, lines := range map[string][]string{
		"deletionVectors":     {`{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors","appendOnly"]}}`, meta(long)},
		"columnMapping":       {`{"protocol":{"minReaderVersion":2,"minWriterVersion":5}}`, meta(long)},
		"timestampNtz":        {protocol, meta(strings.Replace(long, "long", "timestamp_ntz", 1))},
		"deletion vector":     {protocol, meta(long), `{"add":{"path":"x","size":1,"deletionVector":{"storageType":"u"}}}`},
		"absolute paths":      {protocol, meta(long), `{"add":{"path":"s3://b/x","size":1}}`},
		"line 2":              {protocol, `{"metaData":`},
		"no metaData":         {protocol},
		"type interval":       {protocol, meta(strings.Replace(long, "long", "interval", 1))},
		"type void":           {protocol, meta(strings.Replace(long, "long", "void", 1))},
		"type variant":        {protocol, meta(strings.Replace(long, "long", "variant", 1))},
		"delta.columnMapping": {protocol, strings.Replace(meta(long), `"configuration":{}`, `"configuration":{"delta.columnMapping.mode":"name"}`, 1)},
	} {
		store := mem.New()
		put(store, 0, lines...)
		if _, err := Open(t.Context(), store, "tables/t"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestGapInTheLog(t *testing.T) {
	store := mem.New()
	tbl := mustCreate(t, store, CreateOptions{})
	for range 5 {
		mustCommit(t, tbl, Commit{})
	}
	if err := store.Delete(t.Context(), "tables/t/"+commitKey(2)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), store, "tables/t"); err == nil || !strings.Contains(err.Error(), "damaged log: _delta_log/00000000000000000002.json is missing") {
		t.Errorf("got %v", err)
	}
}
