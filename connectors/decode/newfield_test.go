package decode

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

var idOnly = arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil)

// learn decodes rows and returns the new fields, as "name type rows example".
func learn(t *testing.T, d *Decoder, rows ...string) []string {
	t.Helper()
	for i, r := range rows {
		if err := d.Message([]byte(r), Position{Partition: fmt.Sprint("p", i), First: int64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	out := []string{}
	for _, f := range d.NewFields() {
		out = append(out, fmt.Sprint(f.Name, " ", f.Type, " ", f.Rows, " ", f.Partition, " ", f.Example))
	}
	rec, _, _ := d.Flush()
	rec.Release()
	if len(d.NewFields()) > 0 {
		t.Error("new fields survive the flush")
	}
	return out
}

func TestNewFields(t *testing.T) {
	d := newDecoder(t, idOnly, Options{OnNewField: Add})
	for _, c := range []struct{ values, want string }{
		{"true false null", "bool"},
		{"1 -2 9223372036854775807 -9223372036854775808", "int64"},
		{"1 2.5", "float64"},
		{"1.0", "float64"},
		{"1e3 2", "float64"},
		{"9223372036854775808", "utf8"},
		{"1.5 9223372036854775808", "utf8"},
		{"1e999", "utf8"},
		{`"2026-01-31T08:30:00Z" "2026-01-31T08:30:00.123456789+02:00" "2026-01-31\u002008:30:00" null`, "timestamp[us, tz=UTC]"},
		{`"2026-01-31T08:30:00Z" "2026-01-31"`, "timestamp[us, tz=UTC]"},
		{`"2026-01-31"`, "utf8"},
		{`"2026-01-31T08:30:00Z" "soon"`, "utf8"},
		{`"2026-02-30T08:30:00Z"`, "utf8"},
		{`"2026-01-31T08:30:00Z" 1700000000`, "utf8"},
		{`"" "x"`, "utf8"},
		{`{"a":[1,{"b":null}]}`, "utf8"},
		{`[]`, "utf8"},
		{"true 1", "utf8"},
		{`1 "1"`, "utf8"},
	} {
		values := strings.Fields(c.values)
		var rows []string
		n := 0
		for _, v := range values {
			rows = append(rows, `{"id":1,"x":`+v+`}`)
			if v != "null" {
				n++
			}
		}
		want := []string{fmt.Sprint("x ", c.want, " ", n, " p0 ", values[0])}
		if got := learn(t, d, rows...); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q, want %q", c.values, got, want)
		}
	}
	for _, row := range []string{`{"id":1,"x":null}`, `{"x":1}`, `{"id":1,"x":1,"x":2}`, `{"id":1,"x":1`, `{"id":1}`} {
		if got := learn(t, d, row); len(got) > 0 {
			t.Errorf("%s: %q", row, got)
		}
	}
	nested := newDecoder(t, arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.StructOf(idOnly.Field(0)), Nullable: true}}, nil), Options{OnNewField: Add})
	if got := learn(t, nested, `{"s":{"id":1,"y":2},"\u0078":{"y":3}}`, `{"x":[]}`); !reflect.DeepEqual(got, []string{`x utf8 2 p0 {"y":3}`}) {
		t.Errorf("inside a struct: %q", got)
	}
	if got := learn(t, d, `{"id":1,"x":"`+strings.Repeat("ä", 200)+`"}`); len(got) != 1 || !strings.HasSuffix(got[0], "ä…") || len(got[0]) > 300 {
		t.Errorf("a long example: %q", got)
	}
}

// TestNewFieldsAreBounded has more names than a decoder keeps apart, in any order.
func TestNewFieldsAreBounded(t *testing.T) {
	d := newDecoder(t, idOnly, Options{OnNewField: Add})
	r := rand.New(rand.NewPCG(3, 3))
	for range 3 {
		var rows []string
		for range 50 {
			row := `{"id":1`
			for _, i := range r.Perm(2 * maxInterned) {
				row += fmt.Sprintf(`,"f%d":%d`, i, i)
			}
			rows = append(rows, row+"}")
		}
		got := learn(t, d, rows...)
		if len(got) != 2*maxInterned {
			t.Fatalf("%d fields of %d", len(got), 2*maxInterned)
		}
		for _, g := range got {
			if w := strings.Fields(g); w[1] != "int64" || w[2] != "50" || "f"+w[4] != w[0] {
				t.Errorf("got %s", g)
			}
		}
	}
	row := `{"id":1`
	for i := range 2 * maxLearned {
		row += fmt.Sprintf(`,"g%d":%d`, i, i)
	}
	if got := learn(t, d, row+"}"); len(got) != maxLearned {
		t.Errorf("%d fields are kept apart", len(got))
	}
}

func TestExtraColumns(t *testing.T) {
	extra := []arrow.Field{
		{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "at", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true},
	}
	d := newDecoder(t, idOnly, Options{OnNewField: Add, Extra: extra})
	rows := []string{
		`{"id":1,"text":"a\u00e4","n":1,"at":"2026-01-31T08:30:00Z"}`, `{"id":2}`, `{"text":{"a": [1, "ü"]},"id":3,"new":1}`, `{"id":4,"text":12.50,"n":2.0}`,
		`{"id":5,"text":true}`, `{"id":6,"text":null,"n":null}`, `{"id":7,"text":[]}`,
		`{"id":8,"n":1.5}`, `{"id":9,"n":"; 1"}`, `{"id":10,"at":"soon"}`, `{"id":11,"n":9223372036854775808}`, `{"id":12,"text":{"a":}}`,
	}
	for i, r := range rows {
		if err := d.Message([]byte(r), Position{Partition: "p", First: int64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if f := d.NewFields(); len(f) != 1 || f[0].Name != "new" {
		t.Errorf("new fields %+v", f)
	}
	rec, _, bad := d.Flush()
	defer rec.Release()
	if got := rec.Schema().Field(4); got.Name != "text" || rec.NumCols() != 7 || !rec.Schema().Equal(d.plan.Schema()) {
		t.Fatalf("schema %v", rec.Schema())
	}
	var text []string
	for i := range int(rec.NumRows()) {
		text = append(text, rec.Column(4).ValueStr(i)+" "+rec.Column(5).ValueStr(i))
	}
	if want := []string{"aä 1", "(null) (null)", `{"a": [1, "ü"]} (null)`, "12.50 2", "true (null)", "(null) (null)", "[] (null)"}; !reflect.DeepEqual(text, want) {
		t.Errorf("text is %q", text)
	}
	const keeps = "; on_new_field: add gave the table's column its type by the field's first values, and it keeps it: send such values, or leave the old rows and begin a new table"
	wantBad := []string{
		`wrong_type n column "n": expected an integer, got the number 1.5 at byte 13` + keeps,
		`wrong_type n column "n": expected an integer, got the string "; 1" at byte 13` + keeps,
		`wrong_type at column "at": expected a timestamp like "2026-01-31T08:30:00Z" or a Unix time, got the string "soon" at byte 15` + keeps,
		`out_of_range n column "n": 9223372036854775808 at byte 14 does not fit a 64-bit integer` + keeps,
		`not_json text column "text": not JSON: expected a value, got "}" at byte 22`,
	}
	var gotBad []string
	for _, b := range bad {
		gotBad = append(gotBad, b.Rule+" "+b.Column+" "+b.Message)
	}
	if !reflect.DeepEqual(gotBad, wantBad) {
		t.Errorf("bad rows\n%s", strings.Join(gotBad, "\n"))
	}
	for _, o := range []Options{{Extra: []arrow.Field{{Name: "id", Type: arrow.BinaryTypes.String, Nullable: true}}}, {Extra: []arrow.Field{{Name: "x", Type: arrow.BinaryTypes.String}}},
		{Extra: []arrow.Field{{Name: "x", Type: arrow.BinaryTypes.Binary, Nullable: true}}}} {
		if _, err := NewPlan(idOnly, o); err == nil {
			t.Errorf("takes %+v", o.Extra)
		}
	}
}

// wantKind is the oracle's judgement of one value.
func wantKind(n node) kinds {
	switch n := n.(type) {
	case bool:
		return someBool
	case json.Number:
		if _, err := strconv.ParseInt(string(n), 10, 64); err == nil {
			return someLong
		}
		if _, err := strconv.ParseFloat(string(n), 64); err == nil && strings.ContainsAny(string(n), ".eE") {
			return someDouble
		}
	case string:
		if _, err := wantTime(n); err == nil && len(n) == 10 {
			return someDay
		} else if err == nil {
			return someTime
		}
	}
	return someOther
}

// learnAndRead decodes rows twice: to learn of their new fields, and with columns for
// them; both is compared with what encoding/json finds.
func learnAndRead(t *testing.T, rows [][]byte) {
	t.Helper()
	o := Options{MaxDepth: DefaultMaxDepth, OnNewField: Add}
	d := newDecoder(t, idOnly, o)
	seen := map[string]kinds{}
	rowsOf := map[string]int64{}
	var good []fields
	var raws []map[string]json.RawMessage
	for i, row := range rows {
		if err := d.Message(row, Position{Partition: "p", First: int64(i)}); err != nil {
			t.Fatal(err)
		}
		n, err := parseRow(trim(row))
		if err != nil {
			continue
		}
		if _, err := want(n, idOnly.Fields(), Options{MaxDepth: DefaultMaxDepth}, 1); err != nil {
			continue
		}
		raw := map[string]json.RawMessage{}
		if err := json.Unmarshal(row, &raw); err != nil {
			t.Fatal(err)
		}
		good, raws = append(good, n.(fields)), append(raws, raw)
		for _, f := range n.(fields) {
			if f.name != "id" && f.value != nil {
				seen[f.name] |= wantKind(f.value)
				rowsOf[f.name]++
			}
		}
	}
	learned := d.NewFields()
	rec, _, _ := d.Flush()
	rec.Release()
	if len(learned) != min(len(seen), maxLearned) {
		t.Fatalf("%d new fields, want %d", len(learned), len(seen))
	}
	for _, f := range learned {
		if !arrow.TypeEqual(f.Type, seen[f.Name].infer()) || f.Rows != rowsOf[f.Name] {
			t.Fatalf("%s is %s in %d rows, want %s in %d (kinds %b)", f.Name, f.Type, f.Rows, seen[f.Name].infer(), rowsOf[f.Name], seen[f.Name])
		}
		o.Extra = append(o.Extra, arrow.Field{Name: f.Name, Type: f.Type, Nullable: true})
	}
	d = newDecoder(t, idOnly, o)
	for i, row := range rows {
		if err := d.Message(row, Position{Partition: "p", First: int64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if f := d.NewFields(); len(seen) <= maxLearned && len(f) > 0 {
		t.Fatalf("%+v is still new", f)
	}
	rec, _, bad := d.Flush()
	defer rec.Release()
	if rec.NumRows() != int64(len(good)) {
		t.Fatalf("%d rows, want %d; bad: %+v", rec.NumRows(), len(good), bad)
	}
	for i, row := range good {
		for _, f := range row {
			at := rec.Schema().FieldIndices(f.name)
			if f.name == "id" || f.value == nil && len(at) == 0 || len(at) == 0 && len(seen) > maxLearned {
				continue
			}
			if w := wantExtra(t, f.value, raws[i][f.name], rec.Column(at[0]).DataType()); !reflect.DeepEqual(got(rec.Column(at[0]), i), w) {
				t.Fatalf("row %d: %s is %v, want %v", i, f.name, got(rec.Column(at[0]), i), w)
			}
		}
	}
}

// wantExtra is what a column that was inferred holds of a value that it was inferred from.
func wantExtra(t *testing.T, n node, raw json.RawMessage, typ arrow.DataType) any {
	t.Helper()
	if _, isText := n.(string); n != nil && typ.ID() == arrow.STRING && !isText {
		return string(raw)
	}
	v, err := wantValue(n, typ, Options{MaxDepth: DefaultMaxDepth}, 1)
	if err != nil {
		t.Fatalf("%v does not fit the type %s that was inferred from it", n, typ)
	}
	return v
}

// randomRow has an id and fields of some names, mostly each of one kind.
func randomRow(r *rand.Rand) []byte {
	values := []func() string{
		func() string { return strconv.Itoa(r.IntN(1000) - 500) },
		func() string { return strconv.FormatInt(int64(r.Uint64()), 10) },
		func() string { return strconv.FormatFloat(r.NormFloat64()*1e3, 'g', -1, 64) },
		func() string { return strconv.FormatBool(r.IntN(2) == 0) },
		func() string {
			return fmt.Sprintf(`"20%02d-%02d-%02dT08:30:00Z"`, r.IntN(100), 1+r.IntN(12), 1+r.IntN(31))
		},
		func() string { return fmt.Sprintf(`"20%02d-%02d-%02d"`, r.IntN(100), 1+r.IntN(12), 1+r.IntN(31)) },
		func() string { return `"text ` + strconv.Itoa(r.IntN(10)) + `\u00e4\n"` },
		func() string { return `{"a": [1, null, {"b":"ü"}] }` },
		func() string { return "null" },
		func() string { return strconv.FormatUint(r.Uint64(), 10) + "0" },
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"id":%d`, r.IntN(10))
	for _, k := range r.Perm(len(values))[:r.IntN(5)] {
		v := values[k]
		if r.IntN(8) == 0 {
			v = values[r.IntN(len(values))]
		}
		fmt.Fprintf(&b, `,"f%d": %s`, k, v())
	}
	if r.IntN(20) > 0 {
		b.WriteByte('}')
	}
	return b.Bytes()
}

func TestNewFieldsAgainstJSON(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 5))
		var rows [][]byte
		for range r.IntN(12) {
			rows = append(rows, randomRow(r))
		}
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { learnAndRead(t, rows) })
	}
}

func FuzzNewFields(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 5))
	for range 50 {
		f.Add(randomRow(r), randomRow(r))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		for _, row := range [][]byte{a, b} {
			s := trim(bytes.TrimPrefix(row, []byte("\xef\xbb\xbf")))
			if bytes.HasPrefix(s, []byte("[")) || bytes.ContainsAny(row, "\n\r") || !bytes.Equal(s, row) {
				return // rows, not messages
			}
		}
		learnAndRead(t, [][]byte{a, b, []byte(`{"id":1,"x":7}`), a})
	})
}

// BenchmarkAdd is BenchmarkDecode's blocks with on_new_field: add: without new fields,
// with some that have columns by now, and with some that never get one.
func BenchmarkAdd(b *testing.B) {
	const extra = `"source":"web","meta":{"ip":"10.0.0.1","tags":[1,2,3]},`
	columns := []arrow.Field{{Name: "source", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "meta", Type: arrow.BinaryTypes.String, Nullable: true}}
	for _, c := range []struct {
		name  string
		data  []byte
		extra []arrow.Field
	}{{"known", cardRows(benchRows, ""), nil}, {"added", cardRows(benchRows, extra), columns}, {"new", cardRows(benchRows, extra), nil}} {
		b.Run(c.name, func(b *testing.B) {
			p, err := NewPlan(cards(), Options{OnNewField: Add, Extra: c.extra})
			if err != nil {
				b.Fatal(err)
			}
			d := p.NewDecoder(memory.NewGoAllocator())
			for b.Loop() {
				if err := d.Message(c.data, Position{Partition: "p", PerRow: true}); err != nil {
					b.Fatal(err)
				}
				if n := len(d.NewFields()); (n == 2) != (c.name == "new") {
					b.Fatalf("%d new fields", n)
				}
				rec, _, _ := d.Flush()
				rec.Release()
			}
			report(b, benchRows, len(c.data))
		})
	}
}
