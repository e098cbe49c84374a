package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
	"github.com/tidemill/tidemill/query"
)

// watched is a store that counts what is read of data files.
type watched struct {
	objstore.Store
	reads  atomic.Int64
	before func(key string) // a data file is read; may be nil
}

func (w *watched) Get(ctx context.Context, key string) ([]byte, error) {
	if strings.HasSuffix(key, ".parquet") && !strings.Contains(key, "_delta_log") {
		w.reads.Add(1)
		if w.before != nil {
			w.before(key)
		}
	}
	return w.Store.Get(ctx, key)
}

// sqlFixture is SQL over the tables of a store, as the command has it.
type sqlFixture struct {
	store  *watched
	source *source
	tables *query.Tables
}

func newSQLFixture(t *testing.T) *sqlFixture {
	t.Helper()
	cache, err := query.NewFileCache(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	f := &sqlFixture{store: &watched{Store: mem.New()}}
	f.source = &source{cache: cache, log: slog.New(slog.DiscardHandler), project: &tables{store: f.store, open: map[string]*lakehouse.Table{}}}
	if f.tables, err = query.OpenTables(f.source, query.TablesOptions{Dir: cache.Dir(), Threads: 1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.tables.Close()
		f.source.close()
	})
	return f
}

func rowsIn(ctx context.Context, q *query.Tables, sql string) (string, []query.TableStats, error) {
	rows, err := q.Query(ctx, sql)
	if err != nil {
		return "", nil, err
	}
	defer rows.Close()
	var b bytes.Buffer
	err = query.WriteJSON(&b, rows)
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n"), rows.Stats(), err
}

func (f *sqlFixture) rows(t *testing.T, sql string) (string, []query.TableStats) {
	t.Helper()
	out, stats, err := rowsIn(t.Context(), f.tables, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out, stats
}

var sqlSchema = arrow.NewSchema([]arrow.Field{
	{Name: "country", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
	{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "ts", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true},
	{Name: "m", Type: &arrow.Decimal128Type{Precision: 20, Scale: 2}, Nullable: true}, {Name: "ok", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "o", Type: arrow.StructOf(arrow.Field{Name: "k", Type: arrow.PrimitiveTypes.Int64, Nullable: true}), Nullable: true},
}, nil)

var firstOf2026 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// sqlRecord is some rows whose values lie around a number, so that files differ.
func sqlRecord(r *rand.Rand, around, rows int) arrow.Record {
	b := array.NewRecordBuilder(memory.DefaultAllocator, sqlSchema)
	defer b.Release()
	at := firstOf2026.AddDate(0, 0, around)
	for range rows {
		near := around*10 + r.IntN(10)
		ts := at.Add(time.Duration(r.Int64N(int64(24 * time.Hour)))).Truncate(time.Microsecond)
		for i := range sqlSchema.NumFields() {
			if r.IntN(8) == 0 {
				b.Field(i).AppendNull()
				continue
			}
			switch f := b.Field(i).(type) {
			case *array.StringBuilder:
				f.Append([][]string{{"DE", "FR", "O'Hare", "é"}, {fmt.Sprintf("key-%03d", near), strings.Repeat("ü", 40) + fmt.Sprint(near)}}[min(i, 1)][r.IntN(2+2*max(1-i, 0))])
			case *array.Date32Builder:
				f.Append(arrow.Date32(at.Unix() / 86400))
			case *array.Int64Builder:
				f.Append(int64(near))
			case *array.Float64Builder:
				f.Append([]float64{float64(near) / 4, math.NaN(), math.Inf(1), math.Copysign(0, -1)}[max(r.IntN(40)-36, 0)])
			case *array.TimestampBuilder:
				f.Append(arrow.Timestamp(ts.UnixMicro()))
			case *array.Decimal128Builder:
				f.Append(decimal128.FromI64(int64(near)*25 + 1))
			case *array.BooleanBuilder:
				f.Append(around%3 == 0)
			case *array.StructBuilder:
				f.Append(true)
				f.FieldBuilder(0).(*array.Int64Builder).Append(int64(-near))
			}
		}
	}
	return b.NewRecord()
}

// fill makes a table of some commits, one per day.
func (f *sqlFixture) fill(t *testing.T, r *rand.Rand, name string, days int, partitionBy ...string) *lakehouse.Table {
	t.Helper()
	tbl, err := lakehouse.Create(t.Context(), f.store, name, lakehouse.CreateOptions{Schema: sqlSchema, PartitionBy: partitionBy})
	if err != nil {
		t.Fatal(err)
	}
	for d := range days {
		rec := sqlRecord(r, d, 12)
		files, err := tbl.WriteFiles(t.Context(), rec, nil)
		rec.Release()
		if err == nil {
			_, err = tbl.Commit(t.Context(), lakehouse.Commit{Operation: "WRITE", Adds: files})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return tbl
}

func TestSQLReadsOnlyWhatItNeeds(t *testing.T) {
	f := newSQLFixture(t)
	r := rand.New(rand.NewPCG(1, 2))
	f.fill(t, r, "plain", 10)
	f.fill(t, r, "parted", 10, "day")
	for _, c := range []struct {
		sql                string
		files, part, stats int // in all, skipped
		store, cache       int // read, where the query is run
	}{
		{"SELECT * FROM plain WHERE n = 35", 10, 0, 9, 1, 0},
		{"SELECT * FROM plain WHERE n = 35", 10, 0, 9, 0, 1},
		{"SELECT * FROM plain WHERE ts::DATE = '2026-01-02' AND ok", 10, 0, 10, 0, 0},
		{"SELECT * FROM plain WHERE s LIKE 'key-04%' AND n BETWEEN 40 AND 49", 10, 0, 9, 1, 0},
		{"SELECT * FROM plain WHERE o.k > -30", 10, 0, 7, 3, 0},
		{"EXPLAIN SELECT * FROM plain WHERE n > 45", 10, 0, 4, 1, 0},
	} {
		before := f.store.reads.Load()
		_, stats := f.rows(t, c.sql)
		s := stats[0]
		if s.Version != 10 || s.Total.Files != c.files || s.ByPartition != c.part || s.ByStats != c.stats || s.Store.Files != c.store || s.Cache.Files != c.cache ||
			int(f.store.reads.Load()-before) != c.store {
			t.Errorf("%s: %+v, %d files read", c.sql, s, f.store.reads.Load()-before)
		}
	}
	if _, s := f.rows(t, "SELECT * FROM parted WHERE day = DATE '2026-01-04'"); s[0].ByPartition == 0 || s[0].ByStats != 0 || s[0].Store.Files != 1 {
		t.Errorf("%+v", s[0])
	}
	var out bytes.Buffer
	rows, err := f.tables.Query(t.Context(), "EXPLAIN SELECT p.n FROM parted p JOIN plain USING (n) WHERE p.day > '2026-01-09'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if err := query.WritePlan(&out, rows); err != nil || !strings.HasPrefix(out.String(), "parted: version 10, ") || !strings.Contains(out.String(), "\nplain: version 10, 10 files; skipped 0 by partition, 0 by statistics") {
		t.Error(out.String(), err)
	}
}

// unpruned is a source that fetches all files.
type unpruned struct{ *source }

func (u unpruned) Open(ctx context.Context, ref query.Ref) (*query.Source, error) {
	s, err := u.source.Open(ctx, ref)
	if err == nil {
		fetch := s.Fetch
		s.Fetch = func(ctx context.Context, _ query.Need) (*query.Fetched, error) { return fetch(ctx, query.Need{}) }
	}
	return s, err
}

// Random conditions over tables with random rows: the same rows come out with and without
// files skipped.
func TestSQLSkipsNoRow(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 3))
	f := newSQLFixture(t)
	f.fill(t, r, "a", 8)
	f.fill(t, r, "b", 5, "country")
	f.fill(t, r, "c", 6, "day", "ok")
	all, err := query.OpenTables(unpruned{f.source}, query.TablesOptions{Dir: f.source.cache.Dir(), Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	var condition func(alias string, depth int) string
	condition = func(alias string, depth int) string {
		if depth > 0 && r.IntN(2) == 0 {
			return pick("", "", "NOT ") + "(" + condition(alias, depth-1) + pick(" AND ", " OR ") + condition(alias, depth-1) + ")"
		}
		near := r.IntN(90) - 5
		op := pick("=", "<>", "<", "<=", ">", ">=")
		day := firstOf2026.AddDate(0, 0, near/10)
		return alias + pick(
			fmt.Sprintf("n %s %d", op, near), fmt.Sprintf("n %s %d.5", op, near), fmt.Sprintf("n IN (%d, %d)", near, near+20), fmt.Sprintf("n NOT BETWEEN %d AND %d", near, near+30),
			fmt.Sprintf("x %s %g", op, float64(near)/4), fmt.Sprintf("x %s 'nan'", op), fmt.Sprintf("x %s 0", op),
			fmt.Sprintf("s %s 'key-%03d'", op, near), fmt.Sprintf("s LIKE 'key-%02d%%'", max(near, 0)/10), fmt.Sprintf("s %s repeat('ü', 40) || '%d'", op, near), fmt.Sprintf("s %s '%s%d'", op, strings.Repeat("ü", 40), near),
			fmt.Sprintf("ts %s '%s'", op, day.Format(time.DateOnly)), fmt.Sprintf("ts::DATE %s DATE '%s'", op, day.Format(time.DateOnly)), fmt.Sprintf("ts %s TIMESTAMP '%s 12:00'", op, day.Format(time.DateOnly)),
			fmt.Sprintf("day %s '%s'", op, day.Format(time.DateOnly)), fmt.Sprintf("day %s TIMESTAMP '%s 12:00'", op, day.Format(time.DateOnly)),
			fmt.Sprintf("m %s %d.26", op, near/4), fmt.Sprintf("m %s %de-2", op, near*25), "ok", "ok IS NOT TRUE", "ok = false", fmt.Sprintf("o.k %s %d", op, -near),
			"country "+op+" 'FR'", "country = 'O''Hare'", "country IN ('é', '')", pick("country", "day", "n", "x", "s", "ts", "m", "ok", "o", "o.k")+pick(" IS NULL", " IS NOT NULL"))
	}
	skipped, ran := 0, 0
	for range 60 {
		t1, t2 := pick("a", "b", "c"), pick("a", "b", "c")
		sql := pick("SELECT * FROM "+t1+" WHERE "+condition("", 2),
			"SELECT l.n, l.s, r.x FROM "+t1+" l "+pick("JOIN", "LEFT JOIN", "FULL JOIN")+" "+t2+" r ON l.n = r.n AND "+condition("r.", 1)+" WHERE "+condition("l.", 1),
			"SELECT n, m FROM "+t1+" WHERE "+condition("", 1)+" UNION ALL SELECT n, m FROM "+t2+" WHERE "+condition("", 1)+" AND n IN (SELECT n FROM a WHERE "+condition("", 1)+")")
		want, _, err := rowsIn(t.Context(), all, sql)
		if err != nil {
			t.Fatalf("seed %d: %s: %v", seed, sql, err)
		}
		got, stats, err := rowsIn(t.Context(), f.tables, sql)
		if err != nil || got != want {
			t.Fatalf("seed %d: %s\n%+v\nall files:\n%s\nsome skipped:\n%s\n%v", seed, sql, stats, want, got, err)
		}
		ran++
		for _, s := range stats {
			skipped += s.ByPartition + s.ByStats
		}
	}
	if skipped < 2*ran {
		t.Errorf("seed %d: %d queries skipped only %d files", seed, ran, skipped)
	}
}

func TestSQLOfVersionsAndTimes(t *testing.T) {
	f := newSQLFixture(t)
	tbl := f.fill(t, rand.New(rand.NewPCG(1, 2)), "t", 4)
	for sql, want := range map[string]string{
		"SELECT count(*) AS n FROM t":                                                                         `{"n":48}`,
		"SELECT count(*) AS n FROM t FOR VERSION AS OF 2":                                                     `{"n":24}`,
		"SELECT count(*) AS n FROM t VERSION AS OF 0":                                                         `{"n":0}`,
		"SELECT count(*) AS n FROM t TIMESTAMP AS OF now() + INTERVAL 1 DAY":                                  `{"n":48}`,
		"SELECT (SELECT count(*) FROM t AT (VERSION => 3)) - (SELECT count(*) FROM t) AS n":                   `{"n":-12}`,
		"SELECT count(*) AS n FROM t FOR VERSION AS OF 1 AS a, t FOR VERSION AS OF 2 AS b":                    `{"n":288}`,
		"WITH w AS (FROM t VERSION AS OF 1) SELECT count(*) AS n FROM w WHERE day IS NOT NULL OR day IS NULL": `{"n":12}`,
	} {
		if got, _ := f.rows(t, sql); got != want {
			t.Errorf("%s: %s", sql, got)
		}
	}
	for sql, want := range map[string]string{
		"SELECT * FROM t VERSION AS OF 9":              "table t has no version 9: versions 0 to 4 can be read",
		"SELECT * FROM t TIMESTAMP AS OF '2001-01-01'": "version as old as 2001-01-01",
	} {
		if _, _, err := rowsIn(t.Context(), f.tables, sql); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", sql, err)
		}
	}

	// All rows are moved into other files, and the old files vacuumed: just before a query
	// fetches them, too.
	var old []lakehouse.File
	for file := range tbl.Snapshot().Files() {
		old = append(old, file)
	}
	overwrite := func() {
		ctx := context.WithoutCancel(t.Context())
		rec := sqlRecord(rand.New(rand.NewPCG(7, 7)), 5, 5)
		defer rec.Release()
		files, err := tbl.WriteFiles(ctx, rec, nil)
		if err == nil {
			_, err = tbl.Commit(ctx, lakehouse.Commit{Operation: "OVERWRITE", Adds: files, Removes: old})
		}
		for _, file := range old { // as vacuuming does after the retention
			err = errors.Join(err, f.store.Delete(ctx, "t/"+file.Path))
		}
		if err != nil {
			t.Error(err)
		}
	}
	var once sync.Once // while it is done, other reads wait
	f.store.before = func(string) { once.Do(overwrite) }
	cache, err := query.NewFileCache(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	f.source.cache = cache
	fresh, err := query.OpenTables(f.source, query.TablesOptions{Dir: cache.Dir(), Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	if got, stats, err := rowsIn(t.Context(), fresh, "SELECT count(*) AS n FROM t"); err != nil || got != `{"n":5}` || stats[0].Version != 5 {
		t.Error(got, stats, err)
	}
	_, _, err = rowsIn(t.Context(), fresh, "SELECT count(*) AS n FROM t VERSION AS OF 3")
	if err == nil || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "version 3 has file part-") || !strings.Contains(err.Error(), "deletedFileRetentionDuration") {
		t.Error(err)
	}
}

// A table at a path is read where there is no project.
func TestSQLOfPaths(t *testing.T) {
	f := newSQLFixture(t)
	f.fill(t, rand.New(rand.NewPCG(1, 2)), "t", 3, "country")
	root := filepath.Join(t.TempDir(), "a b%")
	for o, err := range f.store.List(t.Context(), "t/", "") {
		if err != nil {
			t.Fatal(err)
		}
		data, err := f.store.Get(t.Context(), o.Key)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(root, o.Key)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(root, o.Key), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	nowhere := t.TempDir()
	sql := func(sql string, stats io.Writer) (string, error) {
		var out bytes.Buffer
		err := SQL(t.Context(), nowhere, sql, SQLOptions{Format: "csv", Stats: stats}, slog.New(slog.DiscardHandler), &out)
		return out.String(), err
	}
	dir := filepath.Join(root, "t")
	file := "file://" + strings.NewReplacer("%", "%25", " ", "%20").Replace(dir)
	for _, from := range []string{"delta_scan('" + dir + "')", "delta_scan('" + file + "')", "'" + file + "'", `"` + file + `" x`} {
		var stats bytes.Buffer
		got, err := sql("SELECT count(*) AS n FROM "+from+" WHERE country = 'DE' AND n >= 10 OR country = 'none'", &stats)
		want, _ := f.rows(t, "SELECT count(*) AS n FROM t WHERE country = 'DE' AND n >= 10")
		if err != nil || `{"n":`+strings.TrimSpace(strings.TrimPrefix(got, "n\n"))+`}` != want || !strings.Contains(stats.String(), ": version 3, ") || !strings.Contains(stats.String(), " by partition") {
			t.Errorf("%s: %q, %v, %s, want %s", from, got, err, stats.String(), want)
		}
	}
	if got, err := sql("SELECT count(*) AS n FROM delta_scan('"+dir+"') VERSION AS OF 1", nil); err != nil || got != "n\n12\n" {
		t.Error(got, err)
	}
	for q, want := range map[string]string{
		"SELECT * FROM orders": "read by their path: delta_scan(",
		"SHOW TABLES":          "tidemill.yaml",
		"SELECT * FROM delta_scan('" + nowhere + "')": "holds no Delta table",
		"SELECT * FROM 'ftp://x/y'":                   "ftp://",
	} {
		if _, err := sql(q, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", q, err)
		}
	}
}
