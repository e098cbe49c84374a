package query

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/tidemill/tidemill/internal/predicate"
)

// exactSource has tables with a file for each row, and fetches exactly the rows of which
// a condition is true: no pruning can leave out more, so that a condition that asks for a
// row too few shows.
type exactSource struct {
	t      *testing.T
	db     duckdb.Connection // knows the tables, with the file of each row
	tables map[string]*fakeTable
	all    bool // fetches everything
	last   map[string]*predicate.Node
	asked  map[string]int // files fetched by the last query
}

func (e *exactSource) Names(context.Context) ([]string, error) { return nil, nil }

func (e *exactSource) Open(_ context.Context, ref Ref) (*Source, error) {
	s := e.tables[ref.Name]
	if s == nil {
		return nil, fs.ErrNotExist
	}
	return &Source{Schema: s.Schema, Fetch: func(_ context.Context, need Need) (*Fetched, error) {
		out := &Fetched{}
		e.last[ref.Name] = need.Where
		matching := rowsOf(e.t, e.db, "SELECT file FROM "+ref.Name+" WHERE "+nodeSQL(need.Where, s.Schema))
		for _, f := range s.Files {
			if e.all || slices.Contains(matching, f.Path) {
				out.Files = append(out.Files, f)
			}
		}
		e.asked[ref.Name] = len(out.Files)
		return out, nil
	}}, nil
}

// nodeSQL writes a condition so that its meaning hangs on no rule of conversion.
func nodeSQL(n *predicate.Node, schema *arrow.Schema) string {
	if n.IsUnknown() {
		return "true"
	}
	if n.Op == predicate.And || n.Op == predicate.Or {
		parts := make([]string, len(n.Args))
		for i, a := range n.Args {
			parts[i] = "(" + nodeSQL(a, schema) + ")"
		}
		return strings.Join(parts, " "+n.Op.String()+" ")
	}
	_, typ := findColumn(schema, n.Column)
	quoted := make([]string, len(n.Column))
	for i, c := range n.Column {
		quoted[i] = quote(c)
	}
	column := strings.Join(quoted, ".")
	if n.Op == predicate.IsNull || n.Op == predicate.IsNotNull {
		return column + " " + n.Op.String()
	}
	v := n.Values[0]
	var value string
	switch v.Kind() {
	case predicate.KindDecimal:
		column, value = "CAST("+column+" AS DECIMAL(38,8))", "CAST('"+v.String()+"' AS DECIMAL(38,8))"
	case predicate.KindFloat:
		column, value = "CAST("+column+" AS DOUBLE)", "CAST('"+v.String()+"' AS DOUBLE)"
	case predicate.KindTimestamp:
		column, value = "CAST("+column+" AS TIMESTAMP)", fmt.Sprintf("make_timestamp(%d::BIGINT)", v.Int())
	case predicate.KindString, predicate.KindBool:
		value = v.String()
	default:
		panic(fmt.Sprintf("%s of %s", n, typ))
	}
	if n.Op == predicate.Prefix {
		return "starts_with(" + column + ", " + value + ")"
	}
	return column + " " + n.Op.String() + " " + value
}

func openDuckDB(t *testing.T) duckdb.Connection {
	t.Helper()
	var db duckdb.Database
	var c duckdb.Connection
	if duckdb.Open("", &db) == duckdb.StateError || duckdb.Connect(db, &c) == duckdb.StateError {
		t.Fatal("open")
	}
	t.Cleanup(func() { duckdb.Disconnect(&c); duckdb.Close(&db) })
	rowsOf(t, c, "SET TimeZone='UTC'")
	return c
}

// rowsOf runs a statement of the test's own and returns its first column.
func rowsOf(t *testing.T, c duckdb.Connection, sql string) []string {
	t.Helper()
	e := &conn{engine: &Engine{o: Options{}.withDefaults()}, c: c, stmts: map[string]*statement{}}
	if word, _, _ := strings.Cut(sql, " "); word != "SELECT" {
		if err := e.exec(sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return nil
	}
	texts, err := e.texts(context.Background(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	out := make([]string, len(texts))
	for i, x := range texts {
		out[i] = *x
	}
	return out
}

// What the columns of the tables t, u and v hold: values near each other, nulls, and the
// edges of types.
var testColumns = map[string][]string{
	"i":  {"BIGINT", "NULL", "-2", "-1", "0", "1", "2", "3", "5", "9007199254740993", "9007199254740992", "9223372036854775807"},
	"f":  {"DOUBLE", "NULL", "-1.5", "-0.0", "0", "0.1", "2", "5.5", "'nan'", "'inf'", "'-inf'", "9007199254740992"},
	"g":  {"FLOAT", "NULL", "-1.5", "0", "0.1", "2", "16777216", "'nan'"},
	"s":  {"VARCHAR", "NULL", "''", "'a'", "'ab'", "'abc'", "'b%'", "'é'", "'😀'", "'5'", "'A'"},
	"b":  {"BOOLEAN", "NULL", "true", "false"},
	"d":  {"DATE", "NULL", "'1969-12-31'", "'1970-01-01'", "'2026-01-01'", "'2026-01-02'", "current_date"},
	"ts": {"TIMESTAMPTZ", "NULL", "'1969-12-31 23:59:59.999999+00'", "'2026-01-01 00:00:00+00'", "'2026-01-01 12:00:00.5+00'", "'2026-01-02 00:00:00+00'", "now()"},
	"m":  {"DECIMAL(18,2)", "NULL", "-1.50", "0", "0.01", "1.01", "5.50", "1234567890123456.78"},
	"o":  {"STRUCT(x BIGINT, s VARCHAR)", "NULL", "{'x': 1, 's': 'a'}", "{'x': NULL, 's': NULL}", "{'x': 2, 's': 'b'}", "{'x': -1, 's': 'a'}"},
}

// constants of the test's conditions, by column type: literals, typed or not, expressions.
var testConstants = map[string][]string{
	"i": {"0", "1", "2", "-1", "1.5", "2.0", "'2'", "1e0", "9007199254740992", "9007199254740992::DOUBLE", "9007199254740992.0", "9223372036854775808", "2::TINYINT", "0.1::FLOAT",
		"1+1", "NULL", "3::HUGEINT", "2.0000001", "abs(-2)", "'2'::INTEGER"},
	"f": {"0", "0.1", "-0.0", "'nan'", "'nan'::DOUBLE", "'inf'::DOUBLE", "2", "5.5", "0.1::FLOAT", "9007199254740993", "NULL", "1e300", "'5.5'"},
	"g": {"0", "0.1", "0.1::DOUBLE", "16777217", "16777217::DOUBLE", "2", "'0.1'", "-1.5", "NULL", "0.1::DECIMAL(18,10)"},
	"s": {"''", "'a'", "'ab'", "'b'", "'é'", "'b%'", "concat('a', 'b')", "lower('AB')", "5", "NULL", "'a' || 'bc'", "NULL::VARCHAR"},
	"b": {"true", "false", "'true'", "1", "NULL", "'f'::BOOLEAN"},
	"d": {"'2026-01-01'", "DATE '2026-01-01'", "TIMESTAMP '2026-01-01 00:00:01'", "'1970-01-01'", "current_date", "current_date - 1", "now()", "DATE '2026-01-01' + INTERVAL 1 DAY",
		"TIMESTAMPTZ '2026-01-01 00:00:00+01'", "NULL", "'2026-01-01 12:00'", "'infinity'", "today()"},
	"ts": {"'2026-01-01'", "'2026-01-01 12:00:00'", "TIMESTAMP '2026-01-01 12:00:00.5'", "DATE '2026-01-02'", "now()", "now() - INTERVAL 1 HOUR", "current_date", "to_timestamp(0)",
		"TIMESTAMPTZ '2026-01-01 01:00:00+01'", "date_trunc('day', now())", "NULL", "current_timestamp", "'1969-12-31 23:59:59.999999'", "'infinity'::TIMESTAMP", "TIMESTAMP_NS '2026-01-01 12:00:00.5'"},
	"m":   {"0", "1.005", "'1.005'", "5.5", "1234567890123456.78", "1.01::DOUBLE", "1", "0.010", "NULL", "5.5::FLOAT", "1234567890123456.785"},
	"o.x": {"0", "1", "2", "1.5", "NULL"},
	"o.s": {"'a'", "'b'", "'A'"},
	"day": {"'2026-01-01'", "DATE '2026-01-02'", "current_date", "'1969-12-31'", "TIMESTAMP '2026-01-01 12:00:00'", "DATE '1970-01-01'", "NULL"},
}

var exactTables = map[string][]string{"t": {"i", "f", "g", "s", "b", "d", "ts", "m", "o"}, "u": {"i", "s", "d", "k"}, "v": {"i", "m", "ts"}}

func newExactSource(t *testing.T, r *rand.Rand, rows int) (*exactSource, *Tables) {
	t.Helper()
	dir := t.TempDir()
	src := &exactSource{t: t, db: openDuckDB(t), tables: map[string]*fakeTable{}, last: map[string]*predicate.Node{}, asked: map[string]int{}}
	types := map[string]arrow.DataType{
		"i": arrow.PrimitiveTypes.Int64, "f": arrow.PrimitiveTypes.Float64, "g": arrow.PrimitiveTypes.Float32, "s": arrow.BinaryTypes.String,
		"b": arrow.FixedWidthTypes.Boolean, "d": arrow.FixedWidthTypes.Date32, "ts": arrow.FixedWidthTypes.Timestamp_us,
		"m": &arrow.Decimal128Type{Precision: 18, Scale: 2}, "k": arrow.PrimitiveTypes.Int64,
		"o": arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, arrow.Field{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}),
	}
	for _, name := range []string{"t", "u", "v"} {
		var fields []any
		for _, c := range exactTables[name] {
			fields = append(fields, c, types[c])
		}
		table := &fakeTable{Schema: schemaOf(fields...)}
		for row := range rows {
			var columns []string
			for _, c := range exactTables[name] {
				values := testColumns[c]
				if c == "k" {
					values = testColumns["i"]
				}
				columns = append(columns, "CAST("+values[1+r.IntN(len(values)-1)]+" AS "+values[0]+") AS "+c)
			}
			path := filepath.Join(dir, fmt.Sprintf("%s%d.parquet", name, row))
			rowsOf(t, src.db, "COPY (SELECT "+strings.Join(columns, ", ")+") TO "+literal(path)+" (FORMAT parquet)")
			table.Files = append(table.Files, SourceFile{Path: path})
		}
		rowsOf(t, src.db, "CREATE TABLE "+name+" AS SELECT *, filename AS file FROM read_parquet("+literal(filepath.Join(dir, name+"*.parquet"))+", filename = true)")
		src.tables[name] = table
	}
	tables, err := OpenTables(src, TablesOptions{Dir: dir, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tables.Close() })
	return src, tables
}

// sqlMaker makes random queries.
type sqlMaker struct{ r *rand.Rand }

func (m sqlMaker) pick(s ...string) string { return s[m.r.IntN(len(s))] }

// column of a table under an alias ("" for none), and its kind.
func (m sqlMaker) column(table, alias string) (name, kind string) {
	kind = m.pick(exactTables[table]...)
	if name = kind; kind == "o" {
		name = m.pick("o.x", "o.s")
		kind = name
	}
	if kind == "k" {
		kind = "i"
	}
	if alias != "" {
		name = alias + "." + name
	}
	if kind == "ts" && m.r.IntN(3) == 0 {
		return m.pick("CAST("+name+" AS DATE)", name+"::DATE"), "day"
	}
	return name, kind
}

func (m sqlMaker) condition(table, alias string, depth int) string {
	if depth > 0 && m.r.IntN(3) == 0 {
		return "(" + m.condition(table, alias, depth-1) + m.pick(" AND ", " OR ") + m.condition(table, alias, depth-1) + ")"
	}
	if m.r.IntN(4) == 0 {
		return "NOT (" + m.condition(table, alias, max(depth-1, 0)) + ")"
	}
	col, kind := m.column(table, alias)
	value := func() string { return m.pick(testConstants[kind]...) }
	op := m.pick("=", "<>", "<", "<=", ">", ">=")
	switch m.r.IntN(12) {
	case 0:
		return col + m.pick(" IS NULL", " IS NOT NULL")
	case 1, 2:
		return col + m.pick(" IN (", " NOT IN (") + value() + ", " + value() + ")"
	case 3, 4:
		return col + m.pick(" BETWEEN ", " NOT BETWEEN ") + value() + " AND " + value()
	case 5:
		return value() + " " + op + " " + col
	case 6:
		if kind == "s" || kind == "o.s" {
			return m.pick(col+m.pick(" LIKE ", " NOT LIKE ")+m.pick("'a%'", "'ab'", "'%b'", "'_b%'", "'b%'", "''", "'é%'", "'a\\%'"), "starts_with("+col+", "+value()+")", col+" ^@ 'a'", col+" LIKE 'a!%' ESCAPE '!'", col+" ILIKE 'A%'")
		}
		if kind == "b" {
			return m.pick(col, "NOT "+col, col+" IS TRUE", col+" IS NOT TRUE")
		}
		return col + m.pick(" IS DISTINCT FROM ", " IS NOT DISTINCT FROM ") + value()
	case 7:
		return m.pick("coalesce("+col+", NULL) IS NOT NULL", "random() >= 0", "(1 = 1)", "NULL IS NULL")
	}
	return col + " " + op + " " + value()
}

// query is a random query over the tables.
func (m sqlMaker) query() string {
	t := func(alias string) string { return m.condition("t", alias, 2) }
	u := func(alias string) string { return m.condition("u", alias, 1) }
	any := func() string {
		return m.pick(t("a"), u("b"), "a.i = b.i", t("a")+" AND "+u("b"), u("b")+" OR "+t("a"), t("a")+" AND a.i < b.k")
	}
	join := m.pick("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN")
	switch m.r.IntN(19) {
	case 0, 1, 2:
		return "SELECT * FROM t WHERE " + t(m.pick("", "t", "T"))
	case 3, 4:
		return "SELECT a.i, b.k, a.s FROM t a " + join + " u AS b ON a.i = b.i AND " + any() + " WHERE " + any()
	case 5:
		return "SELECT a.i, b.k, c.m FROM t a " + join + " (u b " + m.pick("JOIN", "LEFT JOIN", "RIGHT JOIN") + " v c ON b.i = c.i AND " + m.pick(u("b"), m.condition("v", "c", 1)) + ") ON a.i = b.i AND " + any() +
			" WHERE " + m.pick(t("a"), u("b"), m.condition("v", "c", 1))
	case 6:
		return "SELECT a.i, a.s FROM t a " + m.pick("SEMI", "ANTI") + " JOIN u b ON a.i = b.i AND " + any() + " WHERE " + t("a")
	case 7:
		return "SELECT a.i, f, k FROM t a, u b WHERE a.i = b.i AND " + m.pick(any(), "f > 0 AND k < 3", "k IN (1, 2)", "ts < now() AND b.s = 'a'")
	case 8:
		return "SELECT i, s, f, k FROM t " + m.pick("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN") + " u USING (i, s) WHERE " + m.pick("i > 0", "s = 'a'", "k < 2", "f > 1", "t.d = u.d", "i IS NULL", u("u"))
	case 9:
		return "SELECT f, k FROM t " + m.pick("", "LEFT", "FULL") + " JOIN u ON t.i = u.i WHERE " + m.pick("k = 1", "f > 1", "k IS NULL", "ts IS NULL", "f > 1 OR k = 1")
	case 10:
		return "WITH t AS (SELECT * FROM t WHERE " + t("") + "), w AS (SELECT i, k FROM u WHERE " + u("") + ") SELECT t.i, t.s, w.k FROM t JOIN w ON t.i = w.i WHERE " + m.pick(t("t"), "w.k > 1")
	case 11:
		return "SELECT a.i FROM t a WHERE " + t("a") + " AND " + m.pick("EXISTS", "NOT EXISTS") + " (SELECT 1 FROM u b WHERE b.i = a.i AND " + m.pick(u("b"), t("a")) + ")"
	case 12:
		return "SELECT i FROM t WHERE i " + m.pick("IN", "NOT IN") + " (SELECT k FROM u WHERE " + u("") + ") AND " + t("")
	case 13:
		return "SELECT i, s FROM t WHERE " + t("") + m.pick(" UNION ALL ", " UNION ", " EXCEPT ", " INTERSECT ") + "SELECT i, s FROM " + m.pick("t WHERE "+t(""), "u WHERE "+u(""))
	case 14:
		return "SELECT s, count(*) AS n, sum(i::DOUBLE) AS x FROM t WHERE " + t("") + " GROUP BY s HAVING " + m.pick("count(*) > 1", "max(i) > 1", "s = 'a'")
	case 15:
		return "SELECT i, row_number() OVER (PARTITION BY s ORDER BY i, f, g, d, ts, m) AS n FROM t WHERE " + t("") + " QUALIFY " + m.pick("n = 1", "i > 1", "n < 3")
	case 16:
		return "SELECT a.i, b.m FROM t a ASOF " + m.pick("", "LEFT") + " JOIN v b ON a.i = b.i AND a.ts >= b.ts WHERE " + m.pick(t("a"), m.condition("v", "b", 1))
	case 17:
		return m.pick("SELECT a.i, x.n FROM t a, LATERAL (SELECT count(*) AS n FROM u b WHERE b.i = a.i AND "+u("b")+") x WHERE "+t("a"),
			"SELECT (SELECT max(k) FROM u b WHERE "+u("b")+" AND b.i = a.i) AS x, a.i FROM t a WHERE "+t("a"),
			"SELECT count(*) FROM query_table('t') UNION ALL SELECT count(*) FROM t WHERE "+t(""),
			"SELECT x.i FROM (SELECT * FROM t WHERE "+t("")+") x LEFT JOIN (FROM u WHERE "+u("")+") y ON x.i = y.i WHERE x.i > 0",
			"SELECT x FROM t AS a(x, f) WHERE "+m.pick("x > 0", "f > 1", "a.x = 1"),
			"SELECT i, m FROM t NATURAL JOIN v WHERE "+m.pick("i > 0", "m > 1", "f > 0"),
			"WITH RECURSIVE r(n, s) AS (SELECT i, s FROM t WHERE "+t("")+" UNION SELECT u.k, u.s FROM u, r WHERE u.i = r.n AND "+u("u")+") SELECT * FROM r",
			"SELECT m AS i, -i AS s FROM t WHERE "+t(""),
			"SUMMARIZE SELECT i, s FROM t WHERE "+t(""))
	}
	return "SELECT a.i, b.f FROM t a, t b WHERE " + t("a") + " AND " + t("b")
}

// Random queries give the same rows whether all files are read, or only those rows of
// which the condition found for the table is true.
func TestNeedsLeaveOutNothing(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 5))
	src, tables := newExactSource(t, r, 16)
	result := func(sql string) (string, error) {
		rows, err := tables.Query(t.Context(), sql)
		if err != nil {
			return "", err
		}
		defer rows.Close()
		var b strings.Builder
		if err := WriteJSON(&b, rows); err != nil {
			return "", err
		}
		lines := strings.Split(b.String(), "\n")
		slices.Sort(lines)
		return strings.Join(lines, "\n"), nil
	}
	ran, chosen, left := 0, 0, 0
	for range 200 {
		sql := sqlMaker{r}.query()
		src.all = true
		want, err := result(sql)
		if err != nil {
			t.Log(err, sql)
			continue // a comparison that DuckDB has not, a value that it cannot cast
		}
		ran++
		src.all = false
		clear(src.last)
		got, err := result(sql)
		if e := asError(err); e != nil && e.ByRow() {
			continue // whether a value is ever cast is up to the plan
		}
		if err != nil || got != want {
			t.Fatalf("seed %d: %s\nneeds %v\nall files:\n%s\nthose needed:\n%s\n%v", seed, sql, src.last, want, got, err)
		}
		for name, n := range src.last {
			if !n.IsUnknown() {
				chosen++
				left += len(src.tables[name].Files) - src.asked[name]
			}
		}
	}
	t.Logf("%d queries, %d conditions, %d rows left out", ran, chosen, left)
	if ran < 100 || chosen < ran/3 || left < 3*chosen {
		t.Errorf("seed %d: only %d queries ran, with %d conditions that leave out %d rows", seed, ran, chosen, left)
	}
}
