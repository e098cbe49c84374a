package quality

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/query"
)

const columns = `table: transactions
columns:
  - {name: tx_id,   type: string,    required: true}
  - {name: amount,  type: double}
  - {name: country, type: string}
  - {name: ts,      type: timestamp, required: true}
  - {name: tags,    type: list<string>}
event_time: ts
`

type fixture struct {
	*testing.T
	engine *query.Engine
	mem    *memory.CheckedAllocator
}

func newFixture(t *testing.T) *fixture {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	e, err := query.Open(query.Options{Allocator: mem})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(); mem.AssertSize(t, 0) })
	return &fixture{t, e, mem}
}

func (f *fixture) compile(rest string) (*Plan, error) {
	table, err := contract.Parse("tables/transactions.yaml", []byte(columns+rest))
	if err != nil {
		f.Fatal(err)
	}
	return Compile(context.Background(), f.engine, table, table.ArrowSchema())
}

func (f *fixture) plan(rest string) *Plan {
	f.Helper()
	p, err := f.compile(rest)
	if err != nil {
		f.Fatal(err)
	}
	return p
}

// rows makes a record of the contract's columns from (amount, country) pairs,
// with the columns that a landed table has behind them.
func (f *fixture) rows(pairs ...any) arrow.Record {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&b, `{"tx_id": "t%d", "amount": %v, "country": %v, "ts": "2026-03-04T05:%02d:00Z", "tags": ["x", "%[1]d"], "_source": "s", "_raw": "AA=="}`, i/2, pairs[i], pairs[i+1], i/2%60)
		if i+2 < len(pairs) {
			b.WriteByte(',')
		}
	}
	table, _ := contract.Parse("", []byte(columns))
	schema := arrow.NewSchema(append(table.ArrowSchema().Fields(), arrow.Field{Name: batch.ColSource, Type: arrow.BinaryTypes.String}, arrow.Field{Name: batch.ColRaw, Type: arrow.BinaryTypes.Binary}), nil)
	rec, _, err := array.RecordFromJSON(f.mem, schema, strings.NewReader("["+b.String()+"]"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(rec.Release)
	return rec
}

func (f *fixture) run(p *Plan, recs ...arrow.Record) *Result {
	f.Helper()
	r, err := p.Run(context.Background(), recs)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(r.Release)
	return r
}

func column(rec arrow.Record, name string) string {
	return fmt.Sprint(rec.Column(rec.Schema().FieldIndices(name)[0]))
}

func TestChecksTurnRowsAway(t *testing.T) {
	f := newFixture(t)
	p := f.plan(`checks:
  - {name: positive_amount, expr: "amount > 0"}
  - {name: known, expr: "country IN ('DE', 'FR') -- ours", on_fail: quarantine}
  - {name: large, expr: "amount < 100", on_fail: warn}
`)
	a, b := f.rows(1, `"DE"`, -3.5, `"XX"`, `null`, `"FR"`), f.rows(200, `"XX"`, 300, `null`)
	r := f.run(p, a, b)
	want := []Failure{
		{Row: 1, Rule: "positive_amount", Class: "check", Column: "amount", Message: `check "positive_amount" (amount > 0) failed: amount = -3.5`},
		{Row: 3, Rule: "known", Class: "check", Column: "country", Message: `check "known" (country IN ('DE', 'FR') -- ours) failed: country = "XX"`},
	}
	if fmt.Sprint(r.Failed) != fmt.Sprint(want) {
		t.Errorf("%+v", r.Failed)
	}
	if fmt.Sprint(r.Warnings) != "map[large:2]" {
		t.Error(r.Warnings)
	}
	if len(r.Passed) != 2 || column(r.Passed[0], "tx_id") != `["t0" "t2"]` || column(r.Passed[0], "tags") != `[["x" "0"] ["x" "2"]]` || column(r.Passed[1], "tx_id") != `["t1"]` {
		t.Error(r.Passed)
	}
	if !r.Passed[0].Schema().Equal(a.Schema()) {
		t.Error(r.Passed[0].Schema())
	}
}

func TestFeatures(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]struct {
		yaml     string
		combined bool
	}{
		"row by row": {"features: |\n  SELECT *, ln(amount) AS log_amount, hour(ts) AS hour_of_day, log_amount * 2 AS twice FROM batch;\n", true},
		"alias":      {"features: SELECT b.*, ln(b.amount) AS log_amount, hour(ts) AS hour_of_day, log_amount * 2 AS twice FROM batch b ORDER BY amount DESC -- sorted\n", false},
		"window":     {"features: SELECT *, ln(amount) AS log_amount, max(hour(ts)) OVER (PARTITION BY amount) AS hour_of_day, ln(amount) * 2 AS twice FROM batch\n", false},
		"join":       {"features: |\n  SELECT a.*, log_amount, hour_of_day, twice FROM batch a LEFT JOIN\n   (SELECT _row AS id, ln(amount) AS log_amount, hour(ts) AS hour_of_day, 2 * ln(amount) AS twice FROM batch) b ON a._row = b.id\n", false},
		"cte":        {"features: WITH x AS (SELECT *, ln(amount) AS log_amount FROM batch) SELECT *, hour(ts) AS hour_of_day, log_amount * 2 AS twice FROM x\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			f.T = t
			p := f.plan("checks: [{name: positive_amount, expr: amount > 0}]\n" + c.yaml)
			if (p.combined != "") != c.combined {
				t.Errorf("combined: %q", p.combined)
			}
			rec := f.rows(1, `"DE"`, -1, `"DE"`, 2, `"DE"`, 0, `"DE"`)
			r := f.run(p, rec)
			if len(r.Failed) != 2 || r.Failed[0].Row != 1 || r.Failed[1].Row != 3 || r.Failed[0].Class != "check" {
				t.Fatalf("%+v", r.Failed)
			}
			out := r.Passed[0]
			if got := column(out, "log_amount") + column(out, "hour_of_day") + column(out, "twice") + column(out, "tx_id"); got != `[0 0.6931471805599453][5 5][0 1.3862943611198906]["t0" "t2"]` {
				t.Error(got)
			}
			var names []string
			for _, c := range out.Schema().Fields() {
				names = append(names, c.Name)
			}
			if got := strings.Join(names, " "); got != "tx_id amount country ts tags log_amount hour_of_day twice _source _raw" {
				t.Error(got)
			}
			if c.combined { // the features must not be computed where the check fails: they would stumble
				seen := f.rows(-1, `"DE"`, 2, `"DE"`)
				view := (&rows{plan: p}).viewOf(seen, []int64{0, 1})
				defer view.Release()
				got, err := p.query(context.Background(), p.combined, []arrow.Record{view})
				if err != nil {
					t.Fatal(err)
				}
				defer got.Release()
				if s := column(got, "log_amount"); s != "[(null) 0.6931471805599453]" {
					t.Error(s)
				}
			}
			if p.Columns().NumFields() != 8 {
				t.Error(p.Columns())
			}
			// Nothing fails: the contract's columns are the very arrays that came in.
			r = f.run(p, f.rows(3, `"DE"`), f.rows(), f.rows(4, `"FR"`, 5, `"FR"`))
			if len(r.Failed) > 0 || len(r.Passed) != 2 || column(r.Passed[1], "twice") != "[2.772588722239781 3.2188758248682006]" {
				t.Error(r)
			}
			if r := f.run(p, f.rows()); len(r.Passed) != 0 {
				t.Error(r)
			}
			if r := f.run(p, f.rows(0, `""`)); len(r.Passed) != 0 || len(r.Failed) != 1 {
				t.Error(r)
			}
		})
	}
}

func TestFeaturesMayChangeAColumn(t *testing.T) {
	f := newFixture(t)
	p := f.plan("features: SELECT * REPLACE (upper(country) AS country), 1 AS one FROM batch\n")
	r := f.run(p, f.rows(1, `"de"`, 2, `"fr"`))
	if column(r.Passed[0], "country") != `["DE" "FR"]` || column(r.Passed[0], "tags") != `[["x" "0"] ["x" "1"]]` {
		t.Error(r.Passed)
	}
}

func TestNothingToDoPassesRecordsThrough(t *testing.T) {
	f := newFixture(t)
	rec := f.rows(1, `"DE"`)
	if r := f.run(f.plan(""), rec); len(r.Passed) != 1 || r.Passed[0] != rec {
		t.Error(r)
	}
	// With checks that all rows pass, columns are not copied either.
	r := f.run(f.plan(`checks: [{name: a, expr: amount > 0}]`), rec)
	if r.Passed[0].Column(0) != rec.Column(0) {
		t.Error("columns were copied")
	}
}

func TestRowsThatSQLStumblesOver(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]struct{ yaml, want string }{
		"check": {"checks: [{name: first, expr: length(country) < 3}, {name: num, expr: CAST(country AS INTEGER) > 1}]\n",
			`2 num check check "num" (CAST(country AS INTEGER) > 1) cannot be computed: Could not convert string 'x' to INT32 when casting from source column country: country = "x"
			3 first check check "first" (length(country) < 3) failed: country = "yyyy"
			4 num check check "num" (CAST(country AS INTEGER) > 1) failed: country = "1"`},
		"row by row": {"features: SELECT *, CAST(country AS INTEGER) AS c FROM batch\n",
			`2 features features features cannot be computed: Could not convert string 'x' to INT32 when casting from source column country
			3 features features features cannot be computed: Could not convert string 'yyyy' to INT32 when casting from source column country`},
		"window": {"features: SELECT *, sum(CAST(country AS INTEGER)) OVER ()::BIGINT AS c FROM batch\n",
			`2 features features features cannot be computed: Could not convert string 'x' to INT32 when casting from source column country
			3 features features features cannot be computed: Could not convert string 'yyyy' to INT32 when casting from source column country`},
		"warn": {"checks: [{name: num, expr: CAST(country AS INTEGER) > 1, on_fail: warn}]\n", ``},
	} {
		t.Run(name, func(t *testing.T) {
			f.T = t
			r := f.run(f.plan(c.yaml), f.rows(1, `"2"`, 2, `"3"`), f.rows(3, `"x"`, 4, `"yyyy"`, 5, `"1"`, 6, `"7"`))
			var got []string
			for _, x := range r.Failed {
				got = append(got, fmt.Sprint(x.Row, " ", x.Rule, " ", x.Class, " ", x.Message))
			}
			if strings.Join(got, "\n\t\t\t") != c.want {
				t.Errorf("got\n%s", strings.Join(got, "\n"))
			}
			n := int64(len(r.Failed))
			for _, p := range r.Passed {
				n += p.NumRows()
			}
			if n != 6 {
				t.Errorf("%d rows in the result", n)
			}
			if name == "warn" && r.Warnings["num"] != 3 {
				t.Error(r.Warnings)
			}
		})
	}
}

func TestErrorThatNoRowCauses(t *testing.T) {
	f := newFixture(t)
	p := f.plan("features: SELECT *, (SELECT sum(9223372036854775807 // (1 + 0 * length(country))) FROM batch)::BIGINT AS c FROM batch\n")
	_, err := p.Run(context.Background(), []arrow.Record{f.rows(1, `"2"`, 2, `"3"`)})
	if e, ok := errors.AsType[*query.Error](err); !ok || !e.ByRow() {
		t.Fatal(err)
	}
}

func TestFeaturesThatChangeTheRows(t *testing.T) {
	f := newFixture(t)
	for _, sql := range []string{
		"SELECT *, 1 AS x FROM batch WHERE amount > 1",
		"SELECT a.*, 1 AS x FROM batch a, batch b",
		"SELECT *, unnest(tags) AS x FROM batch",
		"SELECT *, 1 AS x FROM batch UNION ALL SELECT *, 1 AS x FROM batch",
		"SELECT * REPLACE (0::BIGINT AS _row), 1 AS x FROM batch",
	} {
		p := f.plan("features: " + sql + "\n")
		_, err := p.Run(context.Background(), []arrow.Record{f.rows(1, `"2"`, 2, `"3"`)})
		if !errors.Is(err, ErrRows) || len(problem.Of(err)) != 1 || problem.Of(err)[0].Line != 9 {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestFreshness(t *testing.T) {
	f := newFixture(t)
	newest := time.Date(2026, 3, 4, 5, 1, 0, 0, time.UTC)
	for age, want := range map[time.Duration]string{time.Minute: "map[]", time.Minute + 1000: "map[fresh:1]"} {
		p := f.plan("checks: [{name: fresh, freshness: 1m}]\n").WithClock(func() time.Time { return newest.Add(age) })
		r := f.run(p, f.rows(1, `"a"`, 1, `"a"`))
		if fmt.Sprint(r.Warnings) != want || r.Passed[0].NumRows() != 2 {
			t.Errorf("%v: %v", age, r.Warnings)
		}
	}
}

func TestRowNumbersThatCameIn(t *testing.T) {
	f := newFixture(t)
	p := f.plan("checks: [{name: a, expr: amount > 0}]\nfeatures: SELECT *, 2 AS two FROM batch\n")
	rec := f.rows(1, `"2"`, -1, `"3"`, 3, `"4"`)
	b := array.NewInt64Builder(f.mem)
	defer b.Release()
	b.AppendValues([]int64{70, 80, 90}, nil)
	ids := b.NewArray()
	defer ids.Release()
	with := array.NewRecord(arrow.NewSchema(append(rec.Schema().Fields(), arrow.Field{Name: "_row", Type: arrow.PrimitiveTypes.Int64}), nil), append(rec.Columns(), ids), 3)
	defer with.Release()
	r := f.run(p, with)
	if r.Failed[0].Row != 80 || column(r.Passed[0], "_row") != "[70 90]" {
		t.Error(r)
	}
}

func TestBadSQLIsAProblemOfTheFile(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct{ yaml, want string }{
		{"checks:\n  - {name: a, expr: amont > 0}\n", "tables/transactions.yaml:10: checks[0].expr: \"amont\" does not exist; did you mean \"amount\"? (at `amont > 0`)"},
		{"checks:\n  - {name: a, expr: amount >}\n", "tables/transactions.yaml:10: checks[0].expr: syntax error"},
		{"checks:\n  - {name: a, expr: amount + 1}\n", "tables/transactions.yaml:10: checks[0].expr: is of type float64, not a condition; compare it with something, such as amount + 1 > 0"},
		{"checks:\n  - {name: a, expr: avg(amount) > 1}\n", "looks at all rows at once"},
		{"checks:\n  - {name: a, expr: \"true) AS a, (true\"}\n", "is not one expression"},
		{"checks:\n  - {name: a, expr: \"_raw IS NULL\"}\n", "_raw"},
		{"features: |\n  SELECT *,\n    ln(amont) AS x\n  FROM batch\n", "tables/transactions.yaml:11: features: \"amont\" does not exist; did you mean \"amount\"? (at `amont) AS x`)"},
		{"features: SELECT nosuch(amount) FROM batch\n", "tables/transactions.yaml:9: features: \"nosuch\" does not exist; did you mean"},
		{"features: SELECT *, ln(amount) FROM batch\n", "column \"ln(amount)\" has no name that tables can have"},
		{"features: SELECT ln(amount) AS a FROM batch\n", "the query drops _row, which tells the rows apart; write SELECT *, … FROM batch"},
		{"features: SELECT _row, tx_id, amount, ts, tags FROM batch\n", "the query drops column \"country\" of the contract"},
		{"features: SELECT *, upper(country) AS country FROM batch\n", "two columns come out as \"country\" and \"country\""},
		{"features: SELECT * REPLACE (1 AS country) FROM batch\n", "the query makes column \"country\" int32, but the contract says utf8"},
		{"features: SELECT *, sum(length(country)) OVER () AS n FROM batch\n", "column \"n\" has type HUGEINT, which no table column can hold; CAST it to BIGINT"},
		{"features: DROP TABLE batch\n", "only statements that read"},
		{"features: SELECT *, 1 AS a FROM batch; SELECT 2\n", "2 statements"},
		{"features: SELECT * FROM read_csv('/etc/passwd')\n", "disabled"},
	} {
		_, err := f.compile(c.yaml)
		if len(problem.Of(err)) == 0 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n got: %v\nwant: %s", c.yaml, err, c.want)
		}
	}
	_, err := f.compile("checks:\n  - {name: a, expr: a > 0}\n  - {name: b, expr: b > 0}\nfeatures: SELECT c FROM batch\n")
	if len(problem.Of(err)) != 3 {
		t.Errorf("all problems at once: %v", err)
	}
}

func TestCancel(t *testing.T) {
	f := newFixture(t)
	p := f.plan(`checks: [{name: a, expr: amount > 0}]`)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.Run(ctx, []arrow.Record{f.rows(1, `"2"`)}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
