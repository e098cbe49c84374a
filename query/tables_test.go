package query

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

type fakeTable struct {
	Schema      *arrow.Schema
	PartitionBy []string
	Files       []SourceFile
}

type fakeSource struct {
	tables map[string]*fakeTable
	opened []string
	closed atomic.Int32
}

func (f *fakeSource) Names(context.Context) ([]string, error) {
	var names []string
	for n := range f.tables {
		names = append(names, n)
	}
	return names, nil
}

func (f *fakeSource) Open(_ context.Context, ref Ref) (*Source, error) {
	s := f.tables[ref.Name]
	if s == nil {
		return nil, fmt.Errorf("table %s: %w", ref.Name, fs.ErrNotExist)
	}
	return &Source{Schema: s.Schema, PartitionBy: s.PartitionBy, Fetch: func(context.Context, Need) (*Fetched, error) {
		f.opened = append(f.opened, ref.Name)
		return &Fetched{Files: s.Files, Close: func() { f.closed.Add(1) }}, nil
	}}, nil
}

// writeParquet makes a file with a DuckDB that may.
func writeParquet(t *testing.T, path, sql string) {
	t.Helper()
	var db duckdb.Database
	var c duckdb.Connection
	var res duckdb.Result
	if duckdb.Open("", &db) == duckdb.StateError || duckdb.Connect(db, &c) == duckdb.StateError {
		t.Fatal("open")
	}
	defer duckdb.Close(&db)
	defer duckdb.Disconnect(&c)
	defer duckdb.DestroyResult(&res)
	if duckdb.Query(c, "SET TimeZone='UTC'; COPY ("+sql+") TO "+literal(path)+" (FORMAT parquet)", &res) == duckdb.StateError {
		t.Fatal(duckdb.ResultError(&res))
	}
}

func openFixture(t *testing.T) (*Tables, *fakeSource) {
	dir := t.TempDir()
	a, b, c, big := filepath.Join(dir, "a's.parquet"), filepath.Join(dir, "b.parquet"), filepath.Join(dir, "c.parquet"), filepath.Join(dir, "big.parquet")
	writeParquet(t, a, "SELECT 1::BIGINT AS id, TIMESTAMPTZ '2026-01-02 03:04:05Z' AS ts, 'gone' AS dropped")
	writeParquet(t, b, "SELECT 2::BIGINT AS id, 'red' AS colour, {'TIMESTAMP': 5::BIGINT} AS s")
	writeParquet(t, c, "SELECT 3::BIGINT AS id, 'blue' AS colour, 'wrong' AS country")
	writeParquet(t, big, "SELECT range AS n, (range % 7)::INTEGER AS m FROM range(200000)")
	str := func(s string) *string { return &s }
	src := &fakeSource{tables: map[string]*fakeTable{
		"events": {
			Schema: schemaOf("id", arrow.PrimitiveTypes.Int64, "ts", arrow.FixedWidthTypes.Timestamp_us, "country", arrow.BinaryTypes.String,
				"colour", arrow.BinaryTypes.String, "day", arrow.FixedWidthTypes.Date32,
				"s", arrow.StructOf(arrow.Field{Name: "TIMESTAMP", Type: arrow.PrimitiveTypes.Int64, Nullable: true})),
			PartitionBy: []string{"country", "day"},
			Files: []SourceFile{
				{Path: a, Partition: map[string]*string{"country": str("O'Brien"), "day": str("2026-01-02")}},
				{Path: b, Partition: map[string]*string{"country": nil, "day": str("2026-01-02")}},
				{Path: c, Partition: map[string]*string{"country": str("DE"), "day": nil}},
			},
		},
		"big":   {Schema: schemaOf("n", arrow.PrimitiveTypes.Int64, "m", arrow.PrimitiveTypes.Int32), Files: []SourceFile{{Path: big}}},
		"empty": {Schema: schemaOf("x", arrow.BinaryTypes.String)},
	}}
	tables, err := OpenTables(src, TablesOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tables.Close() })
	return tables, src
}

func text(t *testing.T, tables *Tables, sql string, write func(io.Writer, RecordReader) error) string {
	t.Helper()
	rows, err := tables.Query(context.Background(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer rows.Close()
	var b bytes.Buffer
	if err := write(&b, rows); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return b.String()
}

func TestTablesReadFilesUnderTheirSchema(t *testing.T) {
	tables, src := openFixture(t)
	got := text(t, tables, "SELECT * FROM events ORDER BY id;", WriteJSON)
	want := `{"id":1,"ts":"2026-01-02T03:04:05Z","country":"O'Brien","colour":null,"day":"2026-01-02","s":null}
{"id":2,"ts":null,"country":null,"colour":"red","day":"2026-01-02","s":{"TIMESTAMP":5}}
{"id":3,"ts":null,"country":"DE","colour":"blue","day":null,"s":null}
`
	if got != want {
		t.Error(got)
	}
	if strings.Join(src.opened, " ") != "events" || src.closed.Load() != 1 {
		t.Errorf("opened %v, closed %d", src.opened, src.closed.Load())
	}
	if got := text(t, tables, "SELECT count(*) AS n, sum(n) AS s, max(m) AS m FROM big", WriteCSV); got != "n,s,m\n200000,19999900000,6\n" {
		t.Error(got)
	}
	if got := text(t, tables, "SELECT * FROM empty", WriteCSV); got != "x\n" {
		t.Error(got)
	}
	if got := text(t, tables, "WITH big AS (SELECT 1 AS x) SELECT big.x FROM big JOIN empty ON true", WriteCSV); got != "x\n" {
		t.Error(got)
	}
	if got := text(t, tables, "SELECT a.id FROM Events a WHERE EXISTS (FROM events b WHERE b.id = a.id + 1) ORDER BY 1", WriteCSV); got != "id\n1\n2\n" {
		t.Error(got)
	}
}

func TestTablesOtherStatements(t *testing.T) {
	tables, _ := openFixture(t)
	for sql, want := range map[string]string{
		"SHOW TABLES;":                                    "name\nbig\nempty\nevents\n",
		"DESCRIBE empty":                                  "x,VARCHAR",
		"DESCRIBE SELECT n FROM big":                      "n,BIGINT",
		"-- how\nSUMMARIZE big":                           "n,BIGINT,0,199999,",
		"EXPLAIN SELECT n FROM big":                       "READ_PARQUET",
		"EXPLAIN ANALYZE SELECT n FROM big":               "READ_PARQUET",
		"EXPLAIN (FORMAT json) SELECT n FROM big":         "PARQUET",
		"VALUES (1, DATE '2026-01-01')":                   "1,2026-01-01",
		"FROM big LIMIT 1":                                "0,0",
		"SELECT 'x'::ENUM('x'), MAP {'a': 1}, 1::UBIGINT": "x,{a=1},1",
	} {
		if got := text(t, tables, sql, WriteCSV); !strings.Contains(got, want) {
			t.Errorf("%s: %s", sql, got)
		}
	}
}

func TestTablesRefuse(t *testing.T) {
	tables, src := openFixture(t)
	file := src.tables["big"].Files[0].Path
	out := filepath.Join(filepath.Dir(file), "out.parquet")
	for sql, want := range map[string]string{
		"SELECT * FROM nope":                                   `table "nope" does not exist; there are: big, empty, events`,
		"INSERT INTO big VALUES (1)":                           "INSERT is refused: SQL only reads here",
		"/* x */ drop table big":                               "DROP is refused",
		"COPY big TO '/tmp/x.csv'":                             "COPY is refused",
		"SET threads = 1":                                      "SET is refused",
		"INSTALL httpfs":                                       "INSTALL is refused",
		"WITH x AS (SELECT 1) DELETE FROM big":                 "only statements that read",
		"EXPLAIN ANALYZE COPY (SELECT 1) TO " + literal(out):   "COPY is refused",
		"EXPLAIN (ANALYZE) COPY (SELECT 1) TO " + literal(out): "syntax error",
		"EXPLAIN DELETE FROM big":                              "DELETE is refused",
		"SELECT 1; DROP TABLE big":                             "statements where one is expected",
		"SELECT * FROM read_text('/etc/passwd')":               "disabled",
		"SELECT * FROM '/etc/passwd.csv'":                      "does not exist",
		"":                                                     "there is no SQL here",
		"SELECT nosuch FROM big":                               `"nosuch" not found`,
		"SELEC 1":                                              "SELEC is refused",
	} {
		rows, err := tables.Query(context.Background(), sql)
		if err == nil {
			_, err = rows.Next()
			rows.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", sql, err, want)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a statement wrote a file")
	}
	if n := src.closed.Load(); int(n) != len(src.opened) {
		t.Errorf("%d of %d sources closed", n, len(src.opened))
	}
}

func TestTablesSpillAndLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, spillPrefix+"died")
	if err := os.Mkdir(left, 0o755); err != nil {
		t.Fatal(err)
	}
	open := func() *Tables {
		tables, err := OpenTables(&fakeSource{}, TablesOptions{Dir: dir, MemoryLimit: 64 << 20, Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		return tables
	}
	a, b := open(), open() // b must not take a's directory for one left behind
	if got := text(t, a, "SELECT count(*) AS n FROM (SELECT DISTINCT range::VARCHAR || 'xxxxxxxxxxxxxx' FROM range(2000000))", WriteCSV); got != "n\n2000000\n" {
		t.Error(got)
	}
	for _, tables := range []*Tables{a, b, a} {
		if err := tables.Close(); err != nil {
			t.Error(err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Error(entries)
	}
}

func TestTablesAreReadPieceByPiece(t *testing.T) {
	tables, _ := openFixture(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	rows, err := tables.Query(ctx, "SELECT a.n FROM big a, big b")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	rec, err := rows.Next()
	if err != nil || rec.NumRows() > rowsPerRecord {
		t.Fatal(rec, err)
	}
	rec.Release()
	cancel()
	if _, err := rows.Next(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	rows.Close()
	if got := text(t, tables, "SELECT 1 AS x", WriteCSV); got != "x\n1\n" {
		t.Fatal(got)
	}
}

func TestGrid(t *testing.T) {
	e := openEngine(t, Options{})
	rec := run(t, e, `SELECT * FROM (VALUES (1, '日本語', 'a'||chr(10)||chr(27)||'[31mb', 1.5::DOUBLE, [1,2]), (-20, NULL, repeat('long ', 20), NULL, NULL), (3, 'x', 'y', 1e-9, [])) t(id, "名", txt, d, l)`, nil)
	for _, c := range []struct {
		o    GridOptions
		want string
	}{
		{GridOptions{Width: 50}, `
 id  名      txt                          d  l
───  ──────  ───────────────────────  ─────  ─────
  1  日本語  a\n\x1b[31mb               1.5  [1,2]
-20  null    long long long long lo…   null  null
  3  x       y                        1e-09  []
(3 rows)
`},
		{GridOptions{Width: 20, MaxRows: 1}, `
id  名      txt
──  ──────  ──────
 1  日本語  a\n\x…
(3 rows, the first 1 shown; no room for d, l)
`},
	} {
		var b bytes.Buffer
		rec.Retain()
		if err := WriteGrid(&b, &oneRecord{rec: rec, schema: rec.Schema()}, c.o); err != nil {
			t.Fatal(err)
		}
		if "\n"+b.String() != c.want {
			t.Errorf("got:\n%s", b.String())
		}
	}
}

// Raw rows are text nearly always, and people look at them to see what came in.
func TestGridShowsBytesThatAreText(t *testing.T) {
	e := openEngine(t, Options{})
	rec := run(t, e, `SELECT encode('{"ä": 1}'||chr(10)) AS raw UNION ALL SELECT '\xff\x00'::BLOB`, nil)
	var grid, lines bytes.Buffer
	rec.Retain()
	if err := WriteGrid(&grid, &oneRecord{rec: rec, schema: rec.Schema()}, GridOptions{}); err != nil {
		t.Fatal(err)
	}
	if want := "raw\n──────────\n{\"ä\": 1}\\n\n/wA=\n(2 rows)\n"; grid.String() != want {
		t.Errorf("got:\n%s", grid.String())
	}
	rec.Retain()
	if err := WriteJSON(&lines, &oneRecord{rec: rec, schema: rec.Schema()}); err != nil {
		t.Fatal(err)
	}
	if want := `{"raw":"eyLDpCI6IDF9Cg=="}` + "\n" + `{"raw":"/wA="}` + "\n"; lines.String() != want {
		t.Errorf("got:\n%s", lines.String())
	}
}

type oneRecord struct {
	rec    arrow.Record
	schema *arrow.Schema
}

func (r *oneRecord) Schema() *arrow.Schema { return r.schema }
func (r *oneRecord) Next() (arrow.Record, error) {
	if r.rec == nil {
		return nil, io.EOF
	}
	rec := r.rec
	r.rec = nil
	return rec, nil
}

func TestJSONLines(t *testing.T) {
	e := openEngine(t, Options{lenient: true})
	rec := run(t, e, `SELECT 'q"<é'||chr(1) AS s, 9223372036854775807 AS l, 'nan'::DOUBLE AS n, 1.50::DECIMAL(5,2) AS d, '\x00\x01'::BLOB AS b, {'x': [NULL, 1.25::FLOAT]} AS st, true AS t, 'infinity'::TIMESTAMP AS i`, nil)
	var b bytes.Buffer
	rec.Retain()
	if err := WriteJSON(&b, &oneRecord{rec: rec, schema: rec.Schema()}); err != nil {
		t.Fatal(err)
	}
	if want := `{"s":"q\"<é\u0001","l":9223372036854775807,"n":null,"d":"1.50","b":"AAE=","st":{"x":[null,1.25]},"t":true,"i":"infinity"}` + "\n"; b.String() != want {
		t.Error(b.String())
	}
}

func TestFileCache(t *testing.T) {
	dir := t.TempDir()
	c, err := NewFileCache(dir, 30)
	if err != nil {
		t.Fatal(err)
	}
	var opens atomic.Int32
	object := func(s string) func(context.Context) (io.ReadCloser, error) {
		return func(context.Context) (io.ReadCloser, error) {
			opens.Add(1)
			return io.NopCloser(strings.NewReader(s)), nil
		}
	}
	fetch := func(key, data string) *CachedFile {
		t.Helper()
		f, err := c.Fetch(context.Background(), key, int64(len(data)), object(data))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(f.Path); err != nil || string(got) != data {
			t.Fatalf("%q, %v", got, err)
		}
		return f
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { fetch("a", "0123456789").Release() })
	}
	wg.Wait()
	if opens.Load() != 1 {
		t.Errorf("opened %d times", opens.Load())
	}
	a := fetch("a", "0123456789")
	b := fetch("b", "bbbbbbbbbb")
	old := time.Now().Add(-time.Hour)
	os.Chtimes(a.Path, old, old) // the oldest, but in use
	b.Release()
	fetch("c", "cccccccccc").Release()
	fetch("d", "dddddddddd").Release() // no room: b goes
	if _, err := os.Stat(a.Path); err != nil {
		t.Error("a file in use was removed")
	}
	if _, err := os.Stat(b.Path); err == nil {
		t.Error("b is still there")
	}
	a.Release()
	opens.Store(0)
	if c, err = NewFileCache(dir, 30); err != nil {
		t.Fatal(err)
	}
	fetch("c", "cccccccccc").Release()
	if opens.Load() != 0 {
		t.Error("a file of an earlier run was fetched again")
	}
	if _, err := c.Fetch(context.Background(), "short", 5, object("1234")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+partialSuffix)); len(left) > 0 {
		t.Error(left)
	}
	boom := errors.New("boom")
	_, err = c.FetchAll(context.Background(), []Wanted{{"x", 1, object("x")}, {"y", 1, func(context.Context) (io.ReadCloser, error) { return nil, boom }}}, 2)
	if !errors.Is(err, boom) {
		t.Error(err)
	}
	files, err := c.FetchAll(context.Background(), []Wanted{{"x", 1, object("x")}, {"z", 1, object("z")}}, 8)
	if err != nil || len(files) != 2 || filepath.Dir(files[1].Path) != dir {
		t.Error(files, err)
	}
	for _, f := range files {
		f.Release()
	}
}
