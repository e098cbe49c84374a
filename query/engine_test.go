package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

func openEngine(t testing.TB, o Options) *Engine {
	t.Helper()
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// checked is an engine whose results must all be released.
func checked(t testing.TB) (*Engine, *memory.CheckedAllocator) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	e := openEngine(t, Options{Allocator: mem})
	t.Cleanup(func() { mem.AssertSize(t.(*testing.T), 0) })
	return e, mem
}

func run(t testing.TB, e *Engine, sql string, views map[string][]arrow.Record) arrow.Record {
	t.Helper()
	recs, err := e.Run(context.Background(), sql, views)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if len(recs) != 1 {
		t.Fatalf("%d records", len(recs))
	}
	t.Cleanup(recs[0].Release)
	return recs[0]
}

func fromJSON(t testing.TB, mem memory.Allocator, schema *arrow.Schema, rows string) arrow.Record {
	t.Helper()
	rec, _, err := array.RecordFromJSON(mem, schema, strings.NewReader(rows))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rec.Release)
	return rec
}

func schemaOf(fields ...any) *arrow.Schema {
	var fs []arrow.Field
	for i := 0; i < len(fields); i += 2 {
		fs = append(fs, arrow.Field{Name: fields[i].(string), Type: fields[i+1].(arrow.DataType), Nullable: true})
	}
	return arrow.NewSchema(fs, nil)
}

var everyType = schemaOf(
	"s", arrow.BinaryTypes.String, "l", arrow.PrimitiveTypes.Int64, "i", arrow.PrimitiveTypes.Int32,
	"d", arrow.PrimitiveTypes.Float64, "f", arrow.PrimitiveTypes.Float32, "b", arrow.FixedWidthTypes.Boolean,
	"ts", arrow.FixedWidthTypes.Timestamp_us, "day", arrow.FixedWidthTypes.Date32,
	"d4", &arrow.Decimal128Type{Precision: 4, Scale: 2}, "d9", &arrow.Decimal128Type{Precision: 9, Scale: 3},
	"d18", &arrow.Decimal128Type{Precision: 18, Scale: 4}, "d38", &arrow.Decimal128Type{Precision: 38, Scale: 10},
	"bin", arrow.BinaryTypes.Binary, "ss", arrow.ListOf(arrow.BinaryTypes.String),
	"st", arrow.StructOf(arrow.Field{Name: "a b", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		arrow.Field{Name: "x", Type: arrow.ListOf(arrow.FixedWidthTypes.Boolean), Nullable: true}),
	"ls", arrow.ListOf(arrow.StructOf(arrow.Field{Name: "k", Type: arrow.BinaryTypes.String, Nullable: true})),
)

// everyTypeRows has nulls everywhere in every seventh row, and texts on both
// sides of what DuckDB keeps inline.
func everyTypeRows(t testing.TB, mem memory.Allocator, n int) arrow.Record {
	var b strings.Builder
	b.WriteByte('[')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		switch {
		case i%7 == 3:
			b.WriteString("{}")
		case i%7 == 5:
			b.WriteString(`{"ss": [null, "a"], "st": {"x": [true, null]}, "ls": [null, {"k": null}, {"k": "v"}]}`)
		default:
			fmt.Fprintf(&b, `{"s": %q, "l": %d, "i": %d, "d": %d.25, "f": %d.5, "b": %v, "ts": "2026-03-04T05:06:07.%06dZ", "day": "2026-01-02",
				"d4": "-12.34", "d9": "%d.125", "d18": "-%d.5", "d38": "1234567890123456789012345.%d", "bin": "AAEC", "ss": ["%[1]s", "", "long enough to be outside"],
				"st": {"a b": %[2]d, "x": [false]}, "ls": []}`, "é"+strings.Repeat("x", i%20), -i, i, i, -i, i%3 == 0, i, i, i, i%10)
		}
	}
	b.WriteByte(']')
	return fromJSON(t, mem, everyType, b.String())
}

func TestEveryTypeComesBackAsItWas(t *testing.T) {
	e, mem := checked(t)
	rec := everyTypeRows(t, mem, 5000)
	for _, in := range [][]arrow.Record{{rec}, {slice(t, rec, 0, 1), slice(t, rec, 1, 1), slice(t, rec, 1, 2051), slice(t, rec, 2051, 5000)}} {
		out := run(t, e, "SELECT * FROM batch", map[string][]arrow.Record{"batch": in})
		if !out.Schema().Equal(everyType) {
			t.Fatalf("schema %v", out.Schema())
		}
		for i, c := range out.Columns() {
			if !array.Equal(c, rec.Column(i)) {
				t.Errorf("column %s differs:\n%.300v\n%.300v", rec.ColumnName(i), c, rec.Column(i))
			}
		}
	}
	// A filter makes chunks that begin at any bit.
	out := run(t, e, "SELECT * FROM batch WHERE l % 3 = 0", map[string][]arrow.Record{"batch": {rec}})
	at := int64(0)
	for i := range rec.NumRows() {
		if l := rec.Column(1).(*array.Int64); l.IsValid(int(i)) && l.Value(int(i))%3 == 0 {
			for c := range out.Columns() {
				if !array.SliceEqual(out.Column(c), at, at+1, rec.Column(c), i, i+1) {
					t.Fatalf("column %s, row %d", rec.ColumnName(c), i)
				}
			}
			at++
		}
	}
	if at != out.NumRows() || at == 0 {
		t.Fatalf("%d rows, %d expected", out.NumRows(), at)
	}
}

func slice(t testing.TB, rec arrow.Record, i, j int64) arrow.Record {
	s := rec.NewSlice(i, j)
	t.Cleanup(s.Release)
	return s
}

// TestNullStructHidesItsFields: Arrow lets the fields of a null struct have values.
func TestNullStructHidesItsFields(t *testing.T) {
	e, mem := checked(t)
	st := arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true})
	whole := fromJSON(t, mem, schemaOf("s", st), `[{"s": {"x": 1}}, {"s": {"x": 2}}, {"s": {"x": 3}}]`)
	d := whole.Column(0).Data()
	masked := array.NewData(st, 3, []*memory.Buffer{memory.NewBufferBytes([]byte{0b101})}, d.Children(), 1, 0)
	defer masked.Release()
	col := array.NewStructData(masked)
	defer col.Release()
	rec := array.NewRecord(whole.Schema(), []arrow.Array{col}, 3)
	defer rec.Release()
	out := run(t, e, "SELECT s.x AS x, s FROM batch", map[string][]arrow.Record{"batch": {rec}})
	if got := fmt.Sprint(out.Column(0), out.Column(1).IsNull(1)); got != "[1 (null) 3] true" {
		t.Fatal(got)
	}
}

// TestListsInAnyOrder reads entries that lie apart and backwards, as DuckDB may
// leave them.
func TestListsInAnyOrder(t *testing.T) {
	lt := logicalType(arrow.ListOf(arrow.PrimitiveTypes.Int64))
	defer duckdb.DestroyLogicalType(&lt)
	v := duckdb.CreateVector(lt, 8)
	defer duckdb.DestroyVector(&v)
	duckdb.ListVectorReserve(v, 8)
	duckdb.ListVectorSetSize(v, 8)
	copy(vectorSlice[int64](duckdb.ListVectorGetChild(v), 8), []int64{0, 1, 2, 3, 4, 5, 6, 7})
	copy(vectorSlice[listEntry](v, 5), []listEntry{{5, 2}, {7, 0}, {1, 2}, {3, 1}, {0, 8}})
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	g := newGather(mem, arrow.ListOf(arrow.PrimitiveTypes.Int64))
	defer g.release()
	if err := g.add(v, 0, 5); err != nil {
		t.Fatal(err)
	}
	d := g.data()
	defer d.Release()
	a := array.MakeFromData(d)
	defer a.Release()
	if got := fmt.Sprint(a); got != "[[5 6] [] [1 2] [3] [0 1 2 3 4 5 6 7]]" {
		t.Fatal(got)
	}
}

func TestViewCanBeReadTwice(t *testing.T) {
	e, mem := checked(t)
	rec := everyTypeRows(t, mem, 3000)
	out := run(t, e, `SELECT count(*) AS n, sum(a.l)::BIGINT AS s FROM batch a JOIN batch b ON a.l = b.l UNION ALL SELECT count(*), 0 FROM batch`,
		map[string][]arrow.Record{"batch": {rec}})
	if got := fmt.Sprint(out.Column(0)); got != "[2143 3000]" {
		t.Fatal(got)
	}
}

func TestTimestampsAreUTC(t *testing.T) {
	e, mem := checked(t)
	rec := fromJSON(t, mem, schemaOf("ts", arrow.FixedWidthTypes.Timestamp_us), `[{"ts": "2026-03-04T23:06:07Z"}]`)
	out := run(t, e, `SELECT hour(ts) AS h, date_trunc('day', ts) AS d, ts < now() AS past, ts = '2026-03-05T01:06:07+02:00'::TIMESTAMPTZ AS same,
		ts::TIMESTAMPTZ AS tz, strftime(ts, '%H:%M') AS txt, epoch_us(ts) AS us FROM batch`, map[string][]arrow.Record{"batch": {rec}})
	if got := out.Column(0).(*array.Int64).Value(0); got != 23 {
		t.Errorf("hour %d", got)
	}
	if !array.Equal(out.Column(4), rec.Column(0)) || fmt.Sprint(out.Column(2), out.Column(3), out.Column(5)) != `[true] [true] ["23:06"]` {
		t.Error(out)
	}
	for _, i := range []int{1, 4} {
		if !arrow.TypeEqual(out.Column(i).DataType(), arrow.FixedWidthTypes.Timestamp_us) {
			t.Errorf("column %d is %v", i, out.Column(i).DataType())
		}
	}
}

func TestOtherTypesAreConverted(t *testing.T) {
	e, _ := checked(t)
	out := run(t, e, `SELECT 1::TINYINT AS a, 2::USMALLINT AS b, 3::UINTEGER AS c, TIMESTAMP_NS '2026-01-01 00:00:00.000001' AS d,
		'ef9f6a3a-0000-4000-8000-000000000000'::UUID AS e, 'x'::ENUM('x','y') AS f, TIME '10:11:12' AS g, INTERVAL 1 DAY AS h,
		[1::SMALLINT, NULL] AS i, {'p': 1::TINYINT, 'q': [TIME '01:00:00']} AS j, [1.5, 2.5]::DOUBLE[2] AS k, NULL AS l, 'z' AS "odd ""name" ORDER BY 1 -- end`, nil)
	want := schemaOf("a", arrow.PrimitiveTypes.Int32, "b", arrow.PrimitiveTypes.Int32, "c", arrow.PrimitiveTypes.Int64, "d", arrow.FixedWidthTypes.Timestamp_us,
		"e", arrow.BinaryTypes.String, "f", arrow.BinaryTypes.String, "g", arrow.BinaryTypes.String, "h", arrow.BinaryTypes.String,
		"i", arrow.ListOf(arrow.PrimitiveTypes.Int32),
		"j", arrow.StructOf(arrow.Field{Name: "p", Type: arrow.PrimitiveTypes.Int32, Nullable: true}, arrow.Field{Name: "q", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true}),
		"k", arrow.ListOf(arrow.PrimitiveTypes.Float64), "l", arrow.PrimitiveTypes.Int32, `odd "name`, arrow.BinaryTypes.String)
	if !out.Schema().Equal(want) {
		t.Fatalf("%v", out.Schema())
	}
	if got := fmt.Sprint(out.Columns()); got != `[[1] [2] [3] [1767225600000001] ["ef9f6a3a-0000-4000-8000-000000000000"] ["x"] ["10:11:12"] ["1 day"] [[1 (null)]] {[1] [["01:00:00"]]} [[1.5 2.5]] [(null)] ["z"]]` {
		t.Fatal(got)
	}
}

func TestStatementsThatAreRefused(t *testing.T) {
	e := openEngine(t, Options{})
	for sql, want := range map[string]string{
		"SELECT sum(x) AS total FROM range(3) t(x)": `column "total" has type HUGEINT, which no table column can hold; CAST it to BIGINT`,
		"SELECT MAP {'a': 1} AS m":                  `column "m" has a type that no table column can hold`,
		"CREATE TABLE t(x INT)":                     "only statements that read",
		"SET threads = 4":                           "only statements that read",
		"SELECT 1; SELECT 2":                        "2 statements where one is expected",
		"":                                          "there is no SQL here",
		"SELECT ?":                                  "parameter",
		"SELECT nope FROM batch":                    `Referenced column "nope" not found`,
		"SELECT * FROM read_csv('/etc/passwd')":     "disabled",
		"SELECT * FROM '/etc/passwd.csv'":           "disabled",
		"SELECT * FROM glob('/etc/*')":              "disabled",
		"SELECT * FROM read_text('/etc/hostname')":  "disabled",
		"SELECT content FROM read_blob('https://127.0.0.1/x')": "disabled",
		"SELECT * FROM tidemill_scan('other')":                 "no such view",
		"SELECT getenv('HOME')":                                "getenv",
		"FROM other":                                           "other does not exist",
		"EXPLAIN SELECT 1":                                     "only statements that read",
		"COPY (SELECT 1) TO '/tmp/x'":                          "disabled",
		"ATTACH '/tmp/x.db'":                                   "only statements that read",
		"LOAD httpfs":                                          "only statements that read",
	} {
		_, err := e.Run(context.Background(), sql, map[string][]arrow.Record{"batch": {fromJSON(t, memory.DefaultAllocator, schemaOf("amount", arrow.PrimitiveTypes.Int64), `[]`)}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", sql, err, want)
		} else if x := asError(err); x == nil || !x.ByAuthor() {
			t.Errorf("%s: %#v is not the author's", sql, x)
		}
	}
}

func TestErrorsPointIntoTheStatement(t *testing.T) {
	e := openEngine(t, Options{})
	views := map[string]*arrow.Schema{"batch": schemaOf("amount", arrow.PrimitiveTypes.Float64, "country", arrow.BinaryTypes.String)}
	for _, c := range []struct {
		sql, at string
		near    string
	}{
		{"SELECT *,\n  ln(amont) AS x FROM batch", "amont", "amount"},
		{"SELECT * FRM batch", "batch", ""},
		{"SELECT nosuch(amount) FROM batch", "nosuch", ""},
		{"SELECT amount + country FROM batch", "+", ""},
		{"SELECT * FROM bach", "bach", "batch"},
	} {
		_, err := e.Describe(context.Background(), c.sql, views)
		x := asError(err)
		if x == nil || x.Offset < 0 || !strings.HasPrefix(c.sql[x.Offset:], c.at) {
			t.Errorf("%s: %#v", c.sql, x)
			continue
		}
		if strings.Contains(x.Message, "LINE") || c.near != "" && (len(x.Near) == 0 || x.Near[0] != c.near) {
			t.Errorf("%s: %#v", c.sql, x)
		}
	}
}

func TestTheClockRunsOnInPreparedStatements(t *testing.T) {
	e := openEngine(t, Options{Connections: 1})
	const sql = "SELECT epoch_us(now()) AS t"
	first := run(t, e, sql, nil).Column(0).(*array.Int64).Value(0)
	for run(t, e, sql, nil).Column(0).(*array.Int64).Value(0) == first {
		if time.Now().UnixMicro() > first+int64(time.Minute/time.Microsecond) {
			t.Fatal("now() stands still")
		}
	}
}

func TestViewsDoNotLeak(t *testing.T) {
	e, mem := checked(t)
	one := fromJSON(t, mem, schemaOf("x", arrow.PrimitiveTypes.Int64), `[{"x": 1}]`)
	two := fromJSON(t, mem, schemaOf("y", arrow.BinaryTypes.String), `[{"y": "2"}]`)
	for range 3 {
		if got := fmt.Sprint(run(t, e, "SELECT * FROM a", map[string][]arrow.Record{"a": {one}}).Column(0)); got != "[1]" {
			t.Fatal(got)
		}
		if got := fmt.Sprint(run(t, e, "SELECT * FROM a", map[string][]arrow.Record{"a": {two}}).Column(0)); got != `["2"]` {
			t.Fatal(got)
		}
		if _, err := e.Run(context.Background(), "SELECT * FROM a", map[string][]arrow.Record{"b": {one}}); err == nil {
			t.Fatal("view a outlived its call")
		}
	}
}

func TestTextThatIsNotUTF8IsRepaired(t *testing.T) {
	e, mem := checked(t)
	b := array.NewStringBuilder(mem)
	defer b.Release()
	b.AppendValues([]string{"good", "b\xffd", "ü"}, nil)
	col := b.NewArray()
	defer col.Release()
	rec := array.NewRecord(schemaOf("s", arrow.BinaryTypes.String), []arrow.Array{col}, 3)
	defer rec.Release()
	out := run(t, e, "SELECT upper(s) AS s FROM batch", map[string][]arrow.Record{"batch": {rec}})
	if got := fmt.Sprint(out.Column(0)); got != `["GOOD" "B�D" "Ü"]` {
		t.Fatal(got)
	}
}

func TestCancelInterruptsAndTheEngineGoesOn(t *testing.T) {
	e := openEngine(t, Options{Connections: 1})
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err := e.Run(ctx, "SELECT sum(a.range * b.range)::DOUBLE AS s FROM range(10000000) a, range(10000000) b", nil)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := e.Run(ctx, "SELECT 1", nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	run(t, e, "SELECT 1", nil)
}

func TestMemoryLimit(t *testing.T) {
	e := openEngine(t, Options{MemoryLimit: 32 << 20})
	_, err := e.Run(context.Background(), "SELECT count(*) FROM (SELECT DISTINCT range FROM range(50000000))", nil)
	if x := asError(err); x == nil || x.Class != "Out of Memory" {
		t.Fatal(err)
	}
	run(t, e, "SELECT 1", nil)
}

func TestDatabaseThatBrokeIsOpenedAnew(t *testing.T) {
	e := openEngine(t, Options{})
	run(t, e, "SELECT 1", nil)
	c, err := e.acquire(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := e.connect("other", nil)
	if err != nil {
		t.Fatal(err)
	}
	e.idle = append(e.idle, other)
	e.giveBack(c, fmt.Errorf("run: %w", &Error{Class: "FATAL", Message: "database has been invalidated"}))
	rec := fromJSON(t, memory.DefaultAllocator, schemaOf("x", arrow.PrimitiveTypes.Int64), `[{"x": 1}]`)
	run(t, e, "SELECT x FROM v", map[string][]arrow.Record{"v": {rec}})
	if e.broken || slices.Contains(e.idle, other) {
		t.Error("connections of the old database are still in use")
	}
}

func TestManyAtOnce(t *testing.T) {
	e, mem := checked(t)
	rec := everyTypeRows(t, mem, 3000)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for j := range 20 {
				name := fmt.Sprintf("v%d", (i+j)%3)
				recs, err := e.Run(context.Background(), "SELECT s, ss, l + 1 AS l FROM "+name, map[string][]arrow.Record{name: {rec}})
				if err != nil {
					t.Error(err)
					return
				}
				if !array.Equal(recs[0].Column(0), rec.Column(0)) || !array.Equal(recs[0].Column(1), rec.Column(13)) {
					t.Error("rows differ")
				}
				recs[0].Release()
			}
		})
	}
	wg.Wait()
}

func TestCloseIsFinal(t *testing.T) {
	e := openEngine(t, Options{})
	run(t, e, "SELECT 1", nil)
	for range 2 {
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Run(context.Background(), "SELECT 1", nil); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}
