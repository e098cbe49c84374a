package contract

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/problem"
)

func load(t *testing.T, name string) *Table {
	t.Helper()
	table, err := Load(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func parse(t *testing.T, src string) *Table {
	t.Helper()
	table, err := Parse("t.yaml", []byte(src))
	if err != nil {
		t.Fatalf("%v\nin\n%s", err, src)
	}
	return table
}

func TestDesignExample(t *testing.T) {
	table := load(t, "transactions.yaml")
	if table.Name() != "transactions" || table.EventTime() != "ts" || !reflect.DeepEqual(table.Key(), []string{"tx_id"}) ||
		table.OnNewField() != NewFieldIgnore || table.PartitionBy() != nil {
		t.Errorf("got %+v", table)
	}
	if want := []Check{
		{Name: "positive_amount", Expr: "amount > 0", OnFail: OnFailQuarantine},
		{Name: "fresh", Freshness: time.Minute, OnFail: OnFailWarn},
	}; !reflect.DeepEqual(table.Checks(), want) {
		t.Errorf("checks %+v", table.Checks())
	}
	if want := (&Score{Model: "fraud@champion", Inputs: []string{"log_amount", "hour_of_day"},
		Outputs: []Output{{"fraud_score", "probability", -1}}, Isolation: IsolationProcess}); !reflect.DeepEqual(table.Score(), want) {
		t.Errorf("score %+v", table.Score())
	}
	if want := "SELECT *, ln(amount) AS log_amount, hour(ts) AS hour_of_day FROM batch"; table.Features() != want {
		t.Errorf("features %q", table.Features())
	}
	src, err := os.ReadFile(table.File())
	if err != nil {
		t.Fatal(err)
	}
	if line := strings.Split(string(src), "\n")[table.FeaturesLine()-1]; strings.TrimSpace(line) != table.Features() {
		t.Errorf("line %d of the file is %q", table.FeaturesLine(), line)
	}
}

func TestEverything(t *testing.T) {
	table := load(t, "everything.yaml")
	var columns []string
	for _, c := range table.Columns() {
		s := c.Name + " " + c.Type.String()
		if c.Required {
			s += " required"
		}
		columns = append(columns, s)
	}
	if want := []string{
		"order_id long required", "customer_id long required", "no boolean", "price decimal(18,2) required", "weight float",
		"quantity int", "tags list<string>", "place struct<lat: double, lon: double, stops: list<struct<_id: long, at: timestamp>>>",
		"day date required", "placed_at timestamp required",
	}; !reflect.DeepEqual(columns, want) {
		t.Errorf("columns %q", columns)
	}
	if want := []Check{
		{Name: "priced", Expr: "price >= 0 AND quantity > 0", OnFail: OnFailQuarantine},
		{Name: "heavy", Expr: "weight < 1000", OnFail: OnFailWarn},
		{Name: "fresh", Freshness: 90 * time.Minute, OnFail: OnFailWarn},
	}; !reflect.DeepEqual(table.Checks(), want) {
		t.Errorf("checks %+v", table.Checks())
	}
	if want := []Output{{"return_probability", "probabilities", 1}, {"label", "dense/Softmax:0", -1}}; !reflect.DeepEqual(table.Score().Outputs, want) {
		t.Errorf("outputs %+v", table.Score().Outputs)
	}
	if table.OnNewField() != NewFieldQuarantine || !reflect.DeepEqual(table.PartitionBy(), []string{"day"}) || table.Score().Isolation != IsolationNone {
		t.Errorf("got %+v", table)
	}
	f, _ := table.ArrowSchema().FieldsByName("placed_at")
	if len(f) != 1 || f[0].Nullable || !arrow.TypeEqual(f[0].Type, &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}) {
		t.Errorf("arrow field %v", f)
	}
	if c, ok := table.Column("weight"); !ok || c.Type.Kind != Float {
		t.Errorf("column weight: %v %v", c, ok)
	}
}

// TestVersionIgnoresForm writes one contract in several ways.
func TestVersionIgnoresForm(t *testing.T) {
	same := []string{
		"table: a\ncolumns: [{name: x, type: long, required: true}, {name: t, type: timestamp}]\nevent_time: t\nchecks: [{name: c, expr: x > 0}, {name: f, freshness: 60s}]\nfeatures: |\n  SELECT *\n  FROM batch\n",
		"# c\nfeatures: \"SELECT *\\nFROM batch\"\nevent_time: 't'\non_new_field: ignore\nchecks:\n  - expr: \"x > 0\"\n    name: c\n    on_fail: quarantine\n  - {name: f, freshness: 1m, on_fail: warn}\ncolumns:\n- {type: ' long', name: x, required: true}\n- {required: false, name: t, type: timestamp}\ntable: \"a\"\n",
	}
	first := parse(t, same[0])
	if second := parse(t, same[1]); first.Version() != second.Version() {
		t.Errorf("%s and %s", first.json, second.json)
	}
	if !strings.HasPrefix(first.Version(), "sha256:") || len(first.Version()) != len("sha256:")+16 {
		t.Errorf("version %q", first.Version())
	}
	for _, edit := range [][2]string{
		{"table: a", "table: b"}, {"name: x", "name: y"}, {"type: long", "type: int"}, {", required: true", ""}, {"x > 0", "x > 1"},
		{"60s", "61s"}, {"SELECT *", "SELECT * "}, {"name: c", "name: d"}, {"{name: x, type: long, required: true}, {name: t, type: timestamp}", "{name: t, type: timestamp}, {name: x, type: long, required: true}"},
	} {
		src := strings.Replace(same[0], edit[0], edit[1], 1)
		if src == same[0] || parse(t, src).Version() == first.Version() {
			t.Errorf("the version does not see %q become %q", edit[0], edit[1])
		}
	}
}

// TestVersionIsStable guards the canonical form: scored rows carry versions,
// and a new form would make every contract look edited.
func TestVersionIsStable(t *testing.T) {
	for name, want := range map[string]string{
		"transactions.yaml": "sha256:6dc2cf694a18af5c",
		"everything.yaml":   "sha256:4bfeb15b927aa594",
	} {
		if got := load(t, name).Version(); got != want {
			t.Errorf("%s: version %s, was %s", name, got, want)
		}
	}
}

func TestJSONReadsBack(t *testing.T) {
	for _, name := range []string{"transactions.yaml", "everything.yaml", "layout.yaml"} {
		table := load(t, name)
		data, err := table.JSON()
		if err != nil || !json.Valid(data) {
			t.Fatalf("%s: %v %s", name, err, data)
		}
		again := parse(t, string(data))
		if again.Version() != table.Version() {
			t.Errorf("%s: read back as %s", data, again.json)
		}
		if !again.ArrowSchema().Equal(table.ArrowSchema()) {
			t.Errorf("%s: schema read back as %v", name, again.ArrowSchema())
		}
	}
}

func TestImmutable(t *testing.T) {
	table := load(t, "everything.yaml")
	table.Columns()[0].Name = "other"
	table.Key()[0] = "other"
	table.PartitionBy()[0] = "other"
	table.Checks()[0].Name = "other"
	s := table.Score()
	s.Model, s.Inputs[0], s.Outputs[0].Column = "other", "other", "other"
	data, _ := table.JSON()
	clear(data)
	if fresh := load(t, "everything.yaml"); !reflect.DeepEqual(table, fresh) {
		t.Errorf("a caller changed the table: %+v", table)
	}
}

func TestProblemPosition(t *testing.T) {
	table := load(t, "everything.yaml")
	for field, want := range map[string]string{
		"checks[0].expr":                  "22: checks[0].expr: m",
		"score.model":                     "28: score.model: m",
		"score.output.return_probability": "32: score.output.return_probability: m",
		"checks[1].freshness":             "25: checks[1].freshness: m", // not in the file: its check is
		"features":                        "2: features: m",             // nor is this: the document is
		"columns[3].type":                 "7: columns[3].type: m",
	} {
		if got := table.Problem(field, "%s", "m").Error(); got != table.File()+":"+want {
			t.Errorf("%s: got %s", field, got)
		}
	}
}

func TestLoadDir(t *testing.T) {
	dir := t.TempDir()
	write := func(name, src string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const rest = "\ncolumns: [{name: x, type: long}]\n"
	write("b.yaml", "table: b"+rest)
	write("a.yaml", "table: a"+rest)
	write(".a.yaml", "{")
	write("notes.txt", "{")
	tables, err := LoadDir(dir)
	if err != nil || len(tables) != 2 || tables[0].Name() != "a" || tables[1].Name() != "b" {
		t.Fatalf("got %v, %v", tables, err)
	}

	write("c.yaml", "\ntable: a"+rest)
	write("d.yml", "table: d"+rest)
	write("e.yaml", "table: e\n")
	_, err = LoadDir(dir)
	want := strings.NewReplacer("DIR", dir).Replace(`DIR/c.yaml:2: table: a is the table of DIR/a.yaml:1 too; give one of them another name
DIR/d.yml: is not read; rename it to d.yaml
DIR/e.yaml:1: columns: is missing; add it: The columns of the landed table, in order`)
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if _, err := LoadDir(filepath.Join(dir, "none")); !os.IsNotExist(err) || problem.Of(err) != nil {
		t.Errorf("absent directory: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none.yaml")); !os.IsNotExist(err) {
		t.Errorf("absent file: %v", err)
	}
}
