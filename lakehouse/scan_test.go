package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
	"github.com/tidemill/tidemill/lakehouse/parquet"
)

// fromJSON makes a record of rows as JSON objects.
func fromJSON(t *testing.T, schema *arrow.Schema, rows string) arrow.Record {
	t.Helper()
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader("["+rows+"]"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rec.Release)
	return rec
}

// foreignTable is a table with one commit, of files as another writer may have stored them.
func foreignTable(t *testing.T, store objstore.Store, table *arrow.Schema, partitionBy string, files map[string]arrow.Record, values ...string) *Table {
	t.Helper()
	schema, err := delta.SchemaString(table)
	if err != nil {
		t.Fatal(err)
	}
	c := &delta.Commit{
		Protocol: &delta.Protocol{MinReaderVersion: 1, MinWriterVersion: 2},
		Metadata: &delta.Metadata{ID: "x", Format: delta.Format{Provider: "parquet"}, SchemaString: schema},
	}
	if partitionBy != "" {
		c.Metadata.PartitionColumns = []string{partitionBy}
	}
	for i, name := range slices.Sorted(maps.Keys(files)) {
		buf, err := parquet.Encode(files[name], parquet.Options{})
		if err != nil {
			t.Fatal(err)
		}
		put(t, store, "tables/t/"+name, buf.Bytes())
		add := delta.Add{Path: name, Size: int64(buf.Len()), DataChange: true}
		if i < len(values) {
			add.PartitionValues = map[string]*string{partitionBy: &values[i]}
		}
		c.Adds = append(c.Adds, add)
	}
	data, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	put(t, store, "tables/t/"+commitKey(0), data)
	return mustOpen(t, store)
}

func put(t *testing.T, store objstore.Store, key string, data []byte) {
	t.Helper()
	if err := store.Put(t.Context(), key, data); err != nil {
		t.Fatal(err)
	}
}

// scanAll returns a table's rows as JSON, an object a line.
func scanAll(t *testing.T, tbl *Table, columns ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	for rec, err := range tbl.Scan(t.Context(), tbl.Snapshot(), slices.Collect(tbl.Snapshot().Files()), columns...) {
		if err != nil {
			return "", err
		}
		if err := array.RecordToJSON(rec, &out); err != nil {
			t.Fatal(err)
		}
		rec.Release()
	}
	return out.String(), nil
}

func field(name string, t arrow.DataType) arrow.Field {
	return arrow.Field{Name: name, Type: t, Nullable: true}
}

// TestScanTakesOthersColumns: order, case, types of the same meaning, columns too few and
// too many.
func TestScanTakesOthersColumns(t *testing.T) {
	ms := &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}
	us := &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	table := arrow.NewSchema([]arrow.Field{
		field("id", arrow.PrimitiveTypes.Int64), field("Name", arrow.BinaryTypes.String), field("b", arrow.PrimitiveTypes.Int8), field("at", us),
		field("s", arrow.StructOf(field("x", arrow.PrimitiveTypes.Int16), field("y", arrow.ListOf(us)))), field("p", arrow.PrimitiveTypes.Float64), field("late", arrow.MapOf(arrow.BinaryTypes.String, us)),
	}, nil)
	other := arrow.NewSchema([]arrow.Field{
		field("s", arrow.StructOf(field("more", arrow.BinaryTypes.String), field("Y", arrow.ListOf(ms)), field("X", arrow.PrimitiveTypes.Int32))),
		field("P", arrow.BinaryTypes.String), field("AT", ms), field("b", arrow.PrimitiveTypes.Int64), field("name", arrow.BinaryTypes.Binary), field("id", arrow.PrimitiveTypes.Int32),
	}, nil)
	rec := fromJSON(t, other, `{"id":1,"name":"YQ==","b":-128,"AT":"1969-12-31T23:59:59.999Z","P":"wrong","s":{"X":7,"Y":["2020-01-01T00:00:00.001Z",null],"more":"m"}},{"id":2}`)
	tbl := foreignTable(t, mem.New(), table, "p", map[string]arrow.Record{"a": rec}, "-Infinity")
	got, err := scanAll(t, tbl, "id", "NAME", "b", "at", "s", "late")
	want := `{"Name":"a","at":"1969-12-31 23:59:59.999Z","b":-128,"id":1,"late":null,"s":{"x":7,"y":["2020-01-01 00:00:00.001Z",null]}}
{"Name":null,"at":null,"b":null,"id":2,"late":null,"s":null}
`
	if err != nil || got != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	full, err := tbl.Read(t.Context(), tbl.Snapshot(), slices.Collect(tbl.Snapshot().Files())[0])
	if err != nil {
		t.Fatal(err)
	}
	defer full.Release()
	if p := full.Column(5).(*array.Float64); !full.Schema().Equal(tbl.Snapshot().Schema()) || !math.IsInf(p.Value(0), -1) || !math.IsInf(p.Value(1), -1) {
		t.Errorf("read %s", full)
	}
}

func TestScanRefuses(t *testing.T) {
	required := func(name string, t arrow.DataType) arrow.Field { return arrow.Field{Name: name, Type: t} }
	long, text := arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.String
	for want, c := range map[string]struct {
		table, file arrow.Field
		rows        string
	}{
		"column a: the table requires it":                       {required("a", long), field("b", long), `{"b":1}`},
		"column a: the table requires it, and 1 of 2":           {required("a", long), field("a", long), `{"a":1},{"a":null}`},
		"column a: the file has int64 where the table has int8": {field("a", arrow.PrimitiveTypes.Int8), field("a", long), `{"a":128}`},
		"column a: the file has utf8 where the table has int64": {field("a", long), field("a", text), `{"a":"x"}`},
		"column a: the file has struct":                         {field("a", long), field("a", arrow.StructOf(field("x", long))), `{"a":null}`},
		"column a: field x: the table requires it, and row 1":   {field("a", arrow.StructOf(required("x", long))), field("a", arrow.StructOf(field("x", long))), `{"a":{"x":1}},{"a":{"x":null}}`},
		"column a: the table allows no null elements":           {field("a", arrow.ListOfNonNullable(long)), field("a", arrow.ListOf(long)), `{"a":[1,null]}`},
	} {
		file := arrow.NewSchema([]arrow.Field{c.file}, nil)
		tbl := foreignTable(t, mem.New(), arrow.NewSchema([]arrow.Field{c.table}, nil), "", map[string]arrow.Record{"the-file": fromJSON(t, file, c.rows)})
		if got, err := scanAll(t, tbl); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "the-file") {
			t.Errorf("%v, want %q; rows %s", err, want, got)
		}
	}
	twice := arrow.NewSchema([]arrow.Field{field("AA", long), field("Aa", long)}, nil)
	tbl := foreignTable(t, mem.New(), arrow.NewSchema([]arrow.Field{field("aa", long)}, nil), "", map[string]arrow.Record{"f": fromJSON(t, twice, `{"AA":1}`)})
	if _, err := scanAll(t, tbl); err == nil || !strings.Contains(err.Error(), "as AA and as Aa") {
		t.Error(err)
	}
	if _, err := scanAll(t, tbl, "aa", "AA"); err == nil || !strings.Contains(err.Error(), "asked for twice") {
		t.Error(err)
	}
	if _, err := scanAll(t, tbl, "nope"); err == nil || !strings.Contains(err.Error(), "no column nope; it has aa") {
		t.Error(err)
	}
}

// TestRequiredInsideOfNull: what a struct requires is not missing where the struct around
// it is null, at any distance.
func TestRequiredInsideOfNull(t *testing.T) {
	inner := arrow.StructOf(arrow.Field{Name: "v", Type: arrow.PrimitiveTypes.Int64})
	outer := arrow.StructOf(arrow.Field{Name: "in", Type: inner})
	schema := arrow.NewSchema([]arrow.Field{field("l", arrow.ListOf(outer)), field("s", outer)}, nil)
	rows := `{"l":[{"in":{"v":1}},null],"s":null},{"l":null,"s":{"in":{"v":2}}}`
	tbl := foreignTable(t, mem.New(), schema, "", map[string]arrow.Record{"f": fromJSON(t, schema, rows)})
	got, err := scanAll(t, tbl)
	if want := strings.ReplaceAll(rows, "},{\"l\"", "}\n{\"l\"") + "\n"; err != nil || got != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
}

func TestFinerTimestampsGoTowardsThePast(t *testing.T) {
	for _, c := range []struct {
		unit arrow.TimeUnit
		v    int64
		want int64
	}{
		{arrow.Nanosecond, 1999, 1}, {arrow.Nanosecond, -1, -1}, {arrow.Nanosecond, -1000, -1}, {arrow.Nanosecond, -1001, -2}, {arrow.Nanosecond, math.MinInt64, -9223372036854776},
		{arrow.Millisecond, -1, -1000}, {arrow.Second, 253402300799, 253402300799_000000}, {arrow.Millisecond, -62135596800000, -62135596800000000},
	} {
		b := array.NewTimestampBuilder(memory.DefaultAllocator, &arrow.TimestampType{Unit: c.unit})
		b.AppendNull()
		b.Append(arrow.Timestamp(c.v))
		in := b.NewArray()
		out, err := coerce(t.Context(), in, &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"})
		if err != nil || out.IsValid(0) || int64(out.(*array.Timestamp).Value(1)) != c.want {
			t.Errorf("%d %s: %v, %v, want %d", c.v, c.unit, out, err, c.want)
		}
	}
	b := array.NewTimestampBuilder(memory.DefaultAllocator, &arrow.TimestampType{Unit: arrow.Second})
	b.Append(math.MaxInt64 / 1000)
	if _, err := coerce(t.Context(), b.NewArray(), &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}); err == nil || !strings.Contains(err.Error(), "row 0") {
		t.Error(err)
	}
}

// held counts what is fetched and not yet looked at.
type held struct {
	objstore.Store
	mu         sync.Mutex
	gets, most int
}

func (h *held) Get(ctx context.Context, key string) ([]byte, error) {
	if strings.HasSuffix(key, ".parquet") {
		h.mu.Lock()
		h.gets++
		h.mu.Unlock()
	}
	return h.Store.Get(ctx, key)
}

// TestScanFetchesAhead, but not too much: by number and by bytes, and nothing once its
// caller has seen enough.
func TestScanFetchesAhead(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{field("n", arrow.PrimitiveTypes.Int64)}, nil)
	for size, ahead := range map[int64]int{1: scanAhead, scanAheadBytes / 2: 2, 2 * scanAheadBytes: 1} {
		h := &held{Store: mem.New()}
		files := map[string]arrow.Record{}
		for i := range 30 {
			files[fmt.Sprintf("%02d.parquet", i)] = fromJSON(t, schema, fmt.Sprintf(`{"n":%d}`, i))
		}
		tbl := foreignTable(t, h, schema, "", files)
		all := slices.Collect(tbl.Snapshot().Files())
		for i := range all {
			all[i].Size = size
		}
		n := 0
		for rec, err := range tbl.Scan(t.Context(), tbl.Snapshot(), all) {
			if err != nil {
				t.Fatal(err)
			}
			if got := rec.Column(0).(*array.Int64).Value(0); got != int64(n) {
				t.Errorf("row %d comes as number %d", got, n)
			}
			rec.Release()
			n++
			h.mu.Lock()
			h.most = max(h.most, h.gets-n+1)
			h.mu.Unlock()
			if n == 20 {
				break
			}
		}
		// The one that is looked at, and those ahead.
		if h.most > ahead || h.gets > 20+ahead {
			t.Errorf("files of %d bytes: %d were fetched at once, %d in all", size, h.most, h.gets)
		}
	}
}

func TestScanOfVacuumedFile(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{field("n", arrow.PrimitiveTypes.Int64)}, nil)
	store := mem.New()
	tbl := foreignTable(t, store, schema, "", map[string]arrow.Record{"a": fromJSON(t, schema, `{"n":1}`), "b": fromJSON(t, schema, `{"n":2}`)})
	if err := store.Delete(t.Context(), "tables/t/b"); err != nil {
		t.Fatal(err)
	}
	if _, err := scanAll(t, tbl); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "tables/t/b") || !strings.Contains(err.Error(), "version 0") {
		t.Error(err)
	}
	put(t, store, "tables/t/b", []byte("PAR1 this is no file PAR1"))
	if _, err := scanAll(t, tbl); err == nil || !strings.Contains(err.Error(), "scan table tables/t: b: decode parquet") {
		t.Error(err)
	}
}
