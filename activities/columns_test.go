package activities_test

import (
	"context"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/activities"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/lakehouse"
)

// plainYAML has no model, so that it needs no runtime.
const plainYAML = `table: t
columns:
  - {name: id, type: long, required: true}
  - {name: x, type: double, required: true}
  - {name: ts, type: timestamp}
checks:
  - {name: positive, expr: "x > 0"}
features: SELECT *, x * 2 AS twice FROM batch
`

func TestPartitionedByDay(t *testing.T) {
	w := newWorld(t)
	yaml := plainYAML + "partition_by: [date(ts)]\n"
	w.landAs(yaml, `{"id":1,"x":1,"ts":"2026-01-31T23:59:59.999999Z"}`, `{"id":2,"x":1,"ts":"2026-02-01T00:00:00Z"}`, `{"id":3,"x":1}`,
		`{"id":4,"x":-1,"ts":"2026-02-01T00:00:00Z"}`, `{"id":5,"x":1,"ts":"1969-12-31T23:59:59Z"}`, `{"id":6,"x":1,"ts":"2026-02-01T01:00:00+02:00"}`)
	if res := w.turn(w.start(yaml)); res.Scored != 5 || res.Quarantined != 1 {
		t.Fatalf("%+v", res)
	}
	want := map[string]string{"1": "2026-01-31", "2": "2026-02-01", "3": "(null)", "4": "2026-02-01", "5": "1969-12-31", "6": "2026-01-31"}
	for _, table := range []string{"t", "t_scored"} {
		for _, r := range w.read(table) {
			dir := "ts_date=" + strings.ReplaceAll(want[r["id"]], "(null)", "__HIVE_DEFAULT_PARTITION__") + "/"
			if r["ts_date"] != want[r["id"]] || !strings.HasPrefix(r["file"], dir) {
				t.Errorf("%s: row %s has %s in %s, want %s", table, r["id"], r["ts_date"], r["file"], want[r["id"]])
			}
		}
	}
	scored, _ := w.exact(0)
	for _, r := range scored {
		if r["twice"] != "2" {
			t.Errorf("row %v", r)
		}
	}
	if err := activities.CheckContract(t.Context(), engine, parse(t, strings.Replace(yaml, "AS twice", "AS TS_date", 1))); err == nil ||
		!strings.Contains(err.Error(), "partition_by adds the column ts_date") {
		t.Errorf("a feature of the derived column's name: %v", err)
	}
}

// extend adds a column to a table, as on_new_field: add does in another process.
func (w *world) extend(table, name string, typ arrow.DataType) {
	w.t.Helper()
	l, err := lakehouse.Open(w.t.Context(), w.store, table, noWait)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := l.Extend(w.t.Context(), func(*arrow.Schema) []arrow.Field { return []arrow.Field{{Name: name, Type: typ}} }); err != nil {
		w.t.Fatal(err)
	}
}

// landWith lands one row with a value in a column that the contract does not know.
func (w *world) landWith(id int64, column, value string) {
	w.t.Helper()
	l, err := lakehouse.Open(w.t.Context(), w.store, "t", noWait)
	if err != nil {
		w.t.Fatal(err)
	}
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "x", Type: arrow.PrimitiveTypes.Float64}, {Name: "_source", Type: arrow.BinaryTypes.String},
		{Name: "_offset", Type: arrow.PrimitiveTypes.Int64}, {Name: "_raw", Type: arrow.BinaryTypes.Binary}, {Name: column, Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	b.Field(0).(*array.Int64Builder).Append(id)
	b.Field(1).(*array.Float64Builder).Append(1)
	b.Field(2).(*array.StringBuilder).Append("c/f/0")
	b.Field(3).(*array.Int64Builder).Append(w.next)
	b.Field(4).(*array.BinaryBuilder).Append([]byte("raw"))
	b.Field(5).(*array.StringBuilder).Append(value)
	w.next++
	rec := b.NewRecord()
	defer rec.Release()
	files, err := l.WriteFiles(w.t.Context(), rec, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := l.Commit(w.t.Context(), lakehouse.Commit{Adds: files}); err != nil {
		w.t.Fatal(err)
	}
}

// TestColumnsPassBy has the landed table get columns that the contract does not know,
// while a worker runs and between workers.
func TestColumnsPassBy(t *testing.T) {
	w := newWorld(t)
	k := w.start(plainYAML)
	w.landAs(plainYAML, `{"id":1,"x":1}`)
	w.turn(k)
	w.extend("t", "coupon", arrow.BinaryTypes.String)
	w.landWith(2, "coupon", "SAVE10")
	w.landAs(plainYAML, `{"id":3,"x":1}`)
	w.turn(k)
	w.extend("t", "twice", arrow.BinaryTypes.String) // the feature goes before it
	w.landWith(4, "twice", "landed only")
	w.extend("t", "CLASH", arrow.BinaryTypes.String)
	w.extend("t_scored", "clash", arrow.BinaryTypes.String)
	w.landWith(5, "CLASH", "landed only")
	w.extend("t", "odd", arrow.BinaryTypes.String)
	w.extend("t_scored", "odd", arrow.PrimitiveTypes.Int64) // behind the worker's back
	w.landWith(6, "odd", "landed only")
	w.turn(k)
	w.landWith(7, "coupon", "SAVE20")
	w.turn(w.start(plainYAML))

	scored, _ := w.exact(0)
	want := map[string]string{"1": "(null)", "2": "SAVE10", "3": "(null)", "4": "(null)", "5": "(null)", "6": "(null)", "7": "SAVE20"}
	for _, r := range scored {
		if r["coupon"] != want[r["id"]] || r["twice"] != "2" || r["clash"] != "(null)" || r["odd"] != "(null)" {
			t.Errorf("row %v", r)
		}
		if _, ok := r["CLASH"]; ok {
			t.Error("the scored table has two columns that differ by case")
		}
	}
	if len(scored) != len(want) {
		t.Errorf("%d rows scored", len(scored))
	}
}

// TestColumnRacesTheTurn adds a column to the scored table between the turn's look at
// it and its own, with another type.
func TestColumnRacesTheTurn(t *testing.T) {
	w := newWorld(t)
	w.landAs(plainYAML, `{"id":1,"x":1}`)
	w.turn(w.start(plainYAML))
	w.extend("t", "late", arrow.BinaryTypes.String)
	w.landWith(2, "late", "landed only")
	k := w.start(plainYAML, func(o *activities.Options) {
		o.Tables = &meddling{Tables: o.Tables, before: func() { w.extend("t_scored", "late", arrow.PrimitiveTypes.Int64) }}
	})
	if res := w.turn(k); res.Scored != 1 {
		t.Errorf("%+v", res)
	}
	scored, _ := w.exact(0)
	if len(scored) != 2 || scored[1]["late"] != "(null)" {
		t.Errorf("scored %v", scored)
	}
}

// TestRescoreKeepsColumns has the tables get a column, and a worker of the old contract
// score a row with it, after a rescore has looked at the tables.
func TestRescoreKeepsColumns(t *testing.T) {
	w := newWorld(t)
	old := w.start(plainYAML)
	w.landAs(plainYAML, `{"id":1,"x":1}`)
	w.turn(old)
	k := w.start(replace(plainYAML, "x * 2", "x * 4"), func(o *activities.Options) {
		o.Tables = &meddling{Tables: o.Tables, after: func() {
			w.extend("t", "late", arrow.BinaryTypes.String)
			w.landWith(2, "late", "kept")
			w.turn(old)
		}}
	})
	if res := w.rescore(k, activities.RescoreInput{}); res.Rows != 2 {
		t.Errorf("%+v", res)
	}
	scored, _ := w.exact(0)
	if len(scored) != 2 || scored[0]["twice"] != "4" || scored[1]["twice"] != "4" || scored[1]["late"] != "kept" {
		t.Errorf("scored %v", scored)
	}
}

// meddling tables do something once, before or after the scored table is created.
type meddling struct {
	activities.Tables
	before, after func()
}

func (m *meddling) Create(ctx context.Context, name string, o lakehouse.CreateOptions) (*lakehouse.Table, error) {
	if m.before != nil && name == "t"+activities.Suffix {
		m.before()
		m.before = nil
	}
	table, err := m.Tables.Create(ctx, name, o)
	if m.after != nil && name == "t"+activities.Suffix {
		after := m.after
		m.after = nil
		after()
	}
	return table, err
}

// TestNewContractOverOldTables changes contracts over tables that have rows.
func TestNewContractOverOldTables(t *testing.T) {
	w := newWorld(t)
	old := plainYAML + "partition_by: [date(ts)]\n"
	w.landAs(old, `{"id":1,"x":1}`)
	w.turn(w.start(old))

	wide := replace(old, "checks:", "  - {name: note, type: string}\nchecks:", "AS twice", "AS twice, x * 3 AS thrice")
	before := w.start(old) // goes on with the old contract
	w.landAs(wide, `{"id":2,"x":1,"note":"hello"}`)
	w.landAs(old, `{"id":3,"x":1}`)
	w.turn(w.start(wide))
	w.landAs(wide, `{"id":4,"x":1,"note":"again"}`)
	w.turn(before)
	scored, _ := w.exact(0)
	want := map[string][2]string{"1": {"(null)", "(null)"}, "2": {"hello", "3"}, "3": {"(null)", "3"}, "4": {"again", "(null)"}}
	for _, r := range scored {
		if got := [2]string{r["note"], r["thrice"]}; got != want[r["id"]] {
			t.Errorf("row %s has %q, want %q", r["id"], got, want[r["id"]])
		}
	}
	if len(scored) != len(want) {
		t.Errorf("%d rows scored", len(scored))
	}

	for _, c := range []struct{ edit, with, want string }{
		{"x, type: double", "x, type: float", "tables/t.yaml:4: columns[1].type: the table t has the column x as double, not float, and a column keeps its type; " +
			"write type: double and cast in a query or a view over the table, such as SELECT * REPLACE (TRY_CAST(x AS FLOAT) AS x) FROM t, or give the contract another name, such as table: t_2"},
		{"name: ts,", "name: TS,", "tables/t.yaml:5: columns[2].name: the table t has the column as ts, and readers cannot tell them apart by case; write it that way, or"},
		{"type: timestamp}", "type: timestamp, required: true}", "tables/t.yaml:5: columns[2].required: the table t has the column ts as not required, and rows with null there; leave out required: true and add a check such as `ts IS NOT NULL`, or"},
		{"x, type: double, required: true", "x, type: double", "tables/t.yaml:4: columns[1].required: the table t requires the column x; write required: true, or"},
		{"  - {name: id, type: long, required: true}\n", "", "tables/t.yaml:2: columns: the table t requires the column id, which the contract does not have any more; put {name: id, type: long, required: true} back, or"},
		{"checks:", "  - {name: note, type: string, required: true}\nchecks:", "columns[3].required: the table t"},
		{"[date(ts)]", "[id]", "partition_by: the table t is partitioned by ts_date, the contract wants it partitioned by id, and files stay where they are; write partition_by as it was, or"},
	} {
		yaml := replace(old, c.edit, c.with)
		if strings.Contains(c.edit, "name: ts") {
			yaml = replace(yaml, "date(ts)", "date(TS)")
		}
		now := parse(t, yaml)
		l, err := lakehouse.Open(t.Context(), w.store, "t")
		if err != nil {
			t.Fatal(err)
		}
		err = activities.SchemaProblems(now, "t", l.Evolve(t.Context(), landedSchema(now), now.PartitionBy()))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got\n%v\nwant\n%s", c.with, err, c.want)
		}
	}

	// What features and scores come out as is told of the scored table, by a turn.
	w.landAs(old, `{"id":5,"x":1}`)
	k := w.start(replace(old, "x * 2 AS twice", "'two' AS twice"))
	_, err := k.Turn(t.Context(), activities.TurnInput{Table: "t"})
	if err == nil || activities.Kind(err) != activities.ErrTypeContract ||
		!strings.Contains(err.Error(), "tables/t.yaml:8: features: the table t_scored has the column twice as double, not string, and a column keeps its type; give it another name") {
		t.Errorf("a feature of another type: %v", err)
	}
}

func landedSchema(c *contract.Table) *arrow.Schema {
	fields := c.ArrowSchema().Fields()
	for _, d := range c.Derived() {
		fields = append(fields[:len(fields):len(fields)], arrow.Field{Name: d.Name, Type: arrow.FixedWidthTypes.Date32, Nullable: true})
	}
	return arrow.NewSchema(append(fields[:len(fields):len(fields)],
		arrow.Field{Name: "_source", Type: arrow.BinaryTypes.String}, arrow.Field{Name: "_offset", Type: arrow.PrimitiveTypes.Int64},
		arrow.Field{Name: "_raw", Type: arrow.BinaryTypes.Binary}), nil)
}
