package decode

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
)

func TestPlanErrors(t *testing.T) {
	str := arrow.BinaryTypes.String
	for _, c := range []struct {
		fields []arrow.Field
		opts   Options
		want   string
	}{
		{[]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Uint8}}, Options{}, `decode plan: column "a": no JSON form for type uint8`},
		{[]arrow.Field{{Name: "a", Type: arrow.FixedWidthTypes.Timestamp_ms}}, Options{}, `decode plan: column "a": no JSON form for type timestamp[ms, tz=UTC]`},
		{[]arrow.Field{{Name: "a", Type: arrow.ListOf(arrow.StructOf(arrow.Field{Name: "b", Type: arrow.Null}))}}, Options{}, `decode plan: column "a[].b": no JSON form for type null`},
		{[]arrow.Field{{Name: "a", Type: str}, {Name: "a", Type: str}}, Options{}, `decode plan: column "a": twice`},
		{nil, Options{MaxDepth: -1}, `decode plan: MaxDepth -1: want at least 1`},
		{nil, Options{MaxRowBytes: 2 << 30}, `decode plan: MaxRowBytes 2147483648: want 1 to 1073741823`},
	} {
		if _, err := NewPlan(arrow.NewSchema(c.fields, nil), c.opts); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestLandedSchema(t *testing.T) {
	contract := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	want := "schema:\n  fields: 4\n    - a: type=int64, nullable\n    - _source: type=utf8\n    - _offset: type=int64\n    - _raw: type=binary"
	if got := LandedSchema(contract).String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	d := newDecoder(t, contract, Options{})
	rec, runs, bad := d.Flush()
	defer rec.Release()
	if rec.NumRows() != 0 || runs != nil || bad != nil || !rec.Schema().Equal(LandedSchema(contract)) {
		t.Errorf("an empty flush: %v, %v, %v", rec, runs, bad)
	}
}

// TestLargeRows reads rows and blocks far beyond the usual, one of them too large.
func TestLargeRows(t *testing.T) {
	d := newDecoder(t, arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.BinaryTypes.String}}, nil), Options{})
	fits := `{"a":"` + strings.Repeat("x", DefaultMaxRowBytes-8) + `"}`
	tooLarge := []byte(`{"a":"` + strings.Repeat("y", 50<<20) + `"}`)
	small := []byte(strings.Repeat(`{"a":"`+strings.Repeat("z", 100)+"\"}\n", 50<<20/109))
	block := bytes.Join([][]byte{[]byte(fits), tooLarge, small}, []byte("\n"))
	if err := d.Message(block, Position{Partition: "p", PerRow: true}); err != nil {
		t.Fatal(err)
	}
	clear(block) // the decoder keeps nothing of it
	rec, runs, bad := d.Flush()
	defer rec.Release()
	n := 50 << 20 / 109
	if want := []batch.Run{{Partition: "p", First: 0, Rows: 1}, {Partition: "p", First: 2, Rows: n, PerRow: true}}; !reflect.DeepEqual(runs, want) {
		t.Errorf("runs %v, want %v", runs, want)
	}
	if rec.NumRows() != int64(1+n) || len(rec.Column(0).(*array.String).Value(0)) != DefaultMaxRowBytes-8 || rec.Column(0).(*array.String).Value(n)[99] != 'z' {
		t.Errorf("%d rows", rec.NumRows())
	}
	if len(bad) != 1 || bad[0].Rule != "too_large" || bad[0].Offset != 1 || !bytes.Equal(bad[0].Raw, tooLarge) {
		t.Errorf("%d bad rows", len(bad))
	}
}

func TestFull(t *testing.T) {
	d := newDecoder(t, arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.BinaryTypes.String, Nullable: true}}, nil), Options{})
	partition := strings.Repeat("p", 1<<20) // a record has room for 2048 of these
	many := []byte(strings.Repeat("{}\n", 1500))
	for i, want := range []error{nil, ErrFull} {
		if err := d.Message(many, Position{Partition: partition}); !errors.Is(err, want) {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if d.Rows() != 1500 {
		t.Errorf("%d rows", d.Rows())
	}
	d.Reset()
	if err := d.Message(bytes.Repeat([]byte("{}\n"), 2100), Position{Partition: partition, First: 9}); err != nil {
		t.Fatal(err)
	}
	rec, _, bad := d.Flush()
	defer rec.Release()
	if rec.NumRows() != 0 || len(bad) != 1 || bad[0].Rule != "too_large" || len(bad[0].Raw) != 6300 || bad[0].Offset != 9 {
		t.Errorf("%d rows, %d bad ones", rec.NumRows(), len(bad))
	}
}

// TestRuns mixes partitions and kinds of positions in one record.
func TestRuns(t *testing.T) {
	d := newDecoder(t, arrow.NewSchema(nil, nil), Options{})
	for _, m := range []struct {
		data string
		pos  Position
	}{
		{"{}", Position{"a", 5, false, 0}}, {"{}", Position{"a", 6, false, 0}}, {"{}\n{}", Position{"a", 7, true, 0}}, // one run
		{"{}\n{}\n{}", Position{"a", 9, false, 0}}, // shared, though the first of them could go on with the run before
		{"{}", Position{"b", 10, false, 0}},
		{"{}\nx\n{}\n{}", Position{"b", 11, true, 0}},
		{"x", Position{"c", 0, false, 0}},
		{"[{},{}]\n{}", Position{"long/partition", 0, true, 0}},
		{"{}", Position{"s", 100, false, 7}}, {"{}", Position{"s", 101, false, 0}}, {"[{},x,{}]", Position{"s", 200, false, 98}}, {"x\n{}", Position{"s", 300, true, 5}},
	} {
		if err := d.Message([]byte(m.data), m.pos); err != nil {
			t.Fatal(err)
		}
	}
	if d.Bad() != 4 {
		t.Errorf("%d bad rows", d.Bad())
	}
	rec, runs, bad := d.Flush()
	defer rec.Release()
	want := []batch.Run{
		{Partition: "a", First: 5, Rows: 5, PerRow: true}, {Partition: "a", First: 9, Rows: 2},
		{Partition: "b", First: 10, Rows: 2, PerRow: true}, {Partition: "b", First: 13, Rows: 2, PerRow: true},
		{Partition: "long/partition", First: 0, Rows: 2}, {Partition: "long/partition", First: 1, Rows: 1},
		{Partition: "s", First: 100, Rows: 2, PerRow: true, Void: 7}, {Partition: "s", First: 301, Rows: 1},
	}
	if !reflect.DeepEqual(runs, want) {
		t.Errorf("runs %v, want %v", runs, want)
	}
	if len(bad) != 4 || bad[2].Void != 98 || bad[3].Void != 5 || bad[0].Partition != "b" || bad[0].Offset != 12 || bad[1].Partition != "c" {
		t.Errorf("bad rows %+v", bad)
	}
	row := 0
	for _, r := range want {
		for k := range r.Rows {
			if rec.Column(0).ValueStr(row) != r.Partition || rec.Column(1).ValueStr(row) != fmt.Sprint(r.Offset(k)) {
				t.Errorf("row %d: %s %s", row, rec.Column(0).ValueStr(row), rec.Column(1).ValueStr(row))
			}
			row++
		}
	}
}

// TestNothingPerRow holds the decoder to its promise that rows cost no
// allocation, only records do.
func TestNothingPerRow(t *testing.T) {
	p, err := NewPlan(cards(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := p.NewDecoder(memory.NewGoAllocator())
	count := func(rows int) float64 {
		data := cardRows(rows, `"new":{"a":[1,"x\n"]},`)
		return testing.AllocsPerRun(3, func() {
			if err := d.Message(data, Position{Partition: "p", PerRow: true}); err != nil {
				t.Fatal(err)
			}
			rec, _, _ := d.Flush()
			rec.Release()
		})
	}
	if few, many := count(500), count(20_000); many > few+10 {
		t.Errorf("500 rows allocate %v times, 20000 rows %v times", few, many)
	}
}

// TestManyNewFields reads more names than an object remembers, and finds the
// one that is there twice.
func TestManyNewFields(t *testing.T) {
	d := newDecoder(t, arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64}}, nil), Options{})
	row := func(n, twice int) string {
		var b strings.Builder
		b.WriteString(`{"a":1`)
		for k := range n {
			fmt.Fprintf(&b, `,"k%d":%d`, k, k)
		}
		fmt.Fprintf(&b, `,"k%d":0}`, twice)
		return b.String()
	}
	for _, c := range []struct{ n, twice int }{{1000, 1000}, {1000, 3}, {1000, 999}, {40, 39}, {40, 40}} {
		_, bad := decodeOne(t, d, row(c.n, c.twice), "a")
		if dup := len(bad) == 1 && bad[0].Rule == "duplicate_key" && bad[0].Column == fmt.Sprintf("k%d", c.twice); dup != (c.twice < c.n) {
			t.Errorf("%v: %+v", c, bad)
		}
	}
}

func TestResetGivesBack(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	p, err := NewPlan(allTypes(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := p.NewDecoder(mem)
	for range 3 {
		if err := errors.Join(d.Message([]byte(full), Position{}), d.Message([]byte("x"), Position{})); err != nil {
			t.Fatal(err)
		}
		d.Reset()
		if n := mem.CurrentAlloc(); n != 0 || d.Rows() != 0 || d.Bytes() != 0 {
			t.Fatalf("%d bytes, %d rows left", n, d.Rows())
		}
	}
	rec, _, bad := d.Flush()
	rec.Release()
	if len(bad) != 0 {
		t.Errorf("%d bad rows left", len(bad))
	}
}
