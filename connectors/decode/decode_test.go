package decode

import (
	"fmt"
	"math/bits"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
)

// allTypes has a column of every type; only id is required.
func allTypes() *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.BinaryTypes.String},
		{Name: "l", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "i", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		{Name: "d", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "f", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
		{Name: "b", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "ts", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true},
		{Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
		{Name: "dec", Type: &arrow.Decimal128Type{Precision: 10, Scale: 2}, Nullable: true},
		{Name: "big", Type: &arrow.Decimal128Type{Precision: 38, Scale: 0}, Nullable: true},
		{Name: "tags", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
		{Name: "pos", Type: arrow.StructOf(
			arrow.Field{Name: "lat", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
			arrow.Field{Name: "a_rather_long_name", Type: arrow.BinaryTypes.String, Nullable: true},
		), Nullable: true},
		{Name: "items", Type: arrow.ListOf(arrow.StructOf(
			arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64},
			arrow.Field{Name: "sizes", Type: arrow.ListOf(arrow.PrimitiveTypes.Int32), Nullable: true},
		)), Nullable: true},
	}, nil)
}

// dirty is memory as an allocator that reuses it would give it.
type dirty struct{ memory.Allocator }

func (a dirty) Allocate(size int) []byte {
	b := a.Allocator.Allocate(size)
	for i := range b {
		b[i] = 0xdd
	}
	return b
}

func newDecoder(t testing.TB, s *arrow.Schema, o Options) *Decoder {
	t.Helper()
	mem := memory.NewCheckedAllocator(dirty{memory.NewGoAllocator()})
	p, err := NewPlan(s, o)
	if err != nil {
		t.Fatal(err)
	}
	d := p.NewDecoder(mem)
	t.Cleanup(func() {
		d.Reset()
		if n := mem.CurrentAlloc(); n != 0 {
			t.Errorf("%d bytes not given back", n)
		}
	})
	return d
}

// decodeOne reads one message; value is how Arrow prints column col of its row.
func decodeOne(t *testing.T, d *Decoder, msg, col string) (value string, bad []BadRow) {
	t.Helper()
	if err := d.Message([]byte(msg), Position{Partition: "p", First: 7}); err != nil {
		t.Fatal(err)
	}
	rec, _, bad := d.Flush()
	defer rec.Release()
	if rec.NumRows() == 0 {
		return "", bad
	}
	at := rec.Schema().FieldIndices(col)[0]
	return rec.Column(at).ValueStr(0), bad
}

func TestValues(t *testing.T) {
	d := newDecoder(t, allTypes(), Options{})
	for _, c := range []struct{ col, json, want string }{
		{"id", `"a"`, "a"},
		{"id", `""`, ""},
		{"id", `"12345678"`, "12345678"},
		{"id", `"Grüße, 世界 🚢 and enough text behind it"`, "Grüße, 世界 🚢 and enough text behind it"},
		{"id", `"\"\\\/\b\f\n\r\t\u00e9\ud83d\udea2\u0000!"`, "\"\\/\b\f\n\r\té🚢\x00!"},
		{"l", `0`, "0"},
		{"l", `-0`, "0"},
		{"l", `9223372036854775807`, "9223372036854775807"},
		{"l", `-9223372036854775808`, "-9223372036854775808"},
		{"l", `1.0`, "1"},
		{"l", `1e3`, "1000"},
		{"l", `-120e-1`, "-12"},
		{"l", `0.0e999999999999999999999`, "0"},
		{"l", `922337203685477580700e-2`, "9223372036854775807"},
		{"i", `2147483647`, "2147483647"},
		{"i", `-2147483648`, "-2147483648"},
		{"i", `-2.147483648E9`, "-2147483648"},
		{"i", `null`, array.NullValueStr},
		{"d", `12.50`, "12.5"},
		{"d", `-0`, "-0"},
		{"d", `7`, "7"},
		{"d", `0.1`, "0.1"},
		{"d", `123456789012345678901234567890`, "1.2345678901234568e+29"},
		{"d", `1e-400`, "0"},
		{"d", `5e-324`, "5e-324"},
		{"d", `1.7976931348623157e308`, "1.7976931348623157e+308"},
		{"f", `3.4028235e38`, "3.4028235e+38"},
		{"f", `16777217`, "1.6777216e+07"},
		{"f", `-0`, "-0"},
		{"b", `true`, "true"},
		{"b", `false`, "false"},
		{"ts", `"2026-01-31T08:30:00Z"`, "2026-01-31 08:30:00Z"},
		{"ts", `"2026-01-31T08:30:00.123456Z"`, "2026-01-31 08:30:00.123456Z"},
		{"ts", `"2026-01-31T08:30:00.1234569+02:30"`, "2026-01-31 06:00:00.123456Z"},
		{"ts", `"2026-01-31t08:30:00.123456789z"`, "2026-01-31 08:30:00.123456Z"},
		{"ts", `"2026-01-31 08:30:00"`, "2026-01-31 08:30:00Z"},
		{"ts", `"2026-01-31T08:30:00.5"`, "2026-01-31 08:30:00.5Z"},
		{"ts", `"2026-01-31"`, "2026-01-31 00:00:00Z"},
		{"ts", `"2026\u002d01-31"`, "2026-01-31 00:00:00Z"},
		{"ts", `"0001-01-01T00:00:00Z"`, "0001-01-01 00:00:00Z"},
		{"ts", `"9999-12-31T23:59:59.999999999Z"`, "9999-12-31 23:59:59.999999Z"},
		{"ts", `"1969-12-31T23:59:59.9Z"`, "1969-12-31 23:59:59.9Z"},
		{"ts", `0`, "1970-01-01 00:00:00Z"},
		{"ts", `-1`, "1969-12-31 23:59:59Z"},
		{"ts", `99999999999`, "5138-11-16 09:46:39Z"},
		{"ts", `100000000000`, "1973-03-03 09:46:40Z"},
		{"ts", `1769848200123`, "2026-01-31 08:30:00.123Z"},
		{"ts", `1769848200123456`, "2026-01-31 08:30:00.123456Z"},
		{"ts", `176984820012345678`, "1975-08-11 10:27:00.012345Z"},
		{"ts", `1769848200123456789`, "2026-01-31 08:30:00.123456Z"},
		{"ts", `1769848200.1234567`, "2026-01-31 08:30:00.123456Z"},
		{"ts", `1.7698482e9`, "2026-01-31 08:30:00Z"},
		{"ts", `-0.0000001`, "1969-12-31 23:59:59.999999Z"},
		{"day", `"2024-02-29"`, "2024-02-29"},
		{"day", `"0001-01-01"`, "0001-01-01"},
		{"dec", `12.5`, "12.5"},
		{"dec", `"-12345678.90"`, "-12345678.9"},
		{"dec", `"\u0031.5"`, "1.5"},
		{"dec", `1.5000`, "1.5"},
		{"dec", `-0`, "0"},
		{"dec", `1e7`, "10000000"},
		{"big", `-99999999999999999999999999999999999999`, "-99999999999999999999999999999999999999"},
		{"big", `"12345678901234567890123456789"`, "12345678901234567890123456789"},
		{"tags", `[]`, `[]`},
		{"tags", `["a", null ,"b"]`, `["a",null,"b"]`},
		{"pos", `{"lat":1.5,"a_rather_long_name":"x"}`, `{"a_rather_long_name":"x","lat":1.5}`},
		{"pos", `{ }`, `{"a_rather_long_name":null,"lat":null}`},
		{"items", `[{"n":1,"sizes":[1,2]},{"sizes":null,"n":2},null]`, `[{"n":1,"sizes":[1,2]},{"n":2,"sizes":null},null]`},
	} {
		msg := fmt.Sprintf(`{"id":"x","%s":%s}`, c.col, c.json)
		if c.col == "id" {
			msg = fmt.Sprintf(`{"id":%s}`, c.json)
		}
		for _, msg := range []string{msg, strings.ReplaceAll(strings.ReplaceAll(msg, `":`, "\" : "), "}", " } ")} {
			got, bad := decodeOne(t, d, msg, c.col)
			if len(bad) > 0 {
				t.Errorf("%s: %s", msg, bad[0].Message)
			} else if got != c.want {
				t.Errorf("%s: got %s, want %s", msg, got, c.want)
			}
		}
	}
}

// TestSpecial tries every byte at every place of a word, before every byte.
func TestSpecial(t *testing.T) {
	for v := range 1 << 16 {
		c, after := byte(v), uint64(v>>8)
		ends := c == '"' || c == '\\' || c < 0x20
		for at := range 8 {
			x := uint64(0x6161616161616161)
			x = x&^(0xff<<(8*at)) | uint64(c)<<(8*at)
			if at < 7 {
				x = x&^(0xff<<(8*at+8)) | after<<(8*at+8)
			}
			first := func(flags uint64) bool { return flags != 0 && bits.TrailingZeros64(flags)/8 == at }
			if first(special(x)) != (ends || c >= 0x80) || first(specialASCII(x)) != ends {
				t.Fatalf("byte %#x at %d of %#x: flags %#x, %#x", c, at, x, special(x), specialASCII(x))
			}
		}
	}
}

func TestMessages(t *testing.T) {
	type row struct {
		offset int64
		raw    string
	}
	const bom = "\xef\xbb\xbf"
	d := newDecoder(t, arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil), Options{})
	for _, c := range []struct {
		name, data string
		perRow     bool
		good, bad  []row
	}{
		{name: "nothing", data: ""},
		{name: "white space", data: " \r\n\n\t"},
		{name: "a mark alone", data: bom},
		{name: "an object", data: `{"a":1}`, good: []row{{7, `{"a":1}`}}},
		{name: "white space around", data: bom + " {\"a\":1} \r\n", good: []row{{7, `{"a":1}`}}},
		{name: "an object on many lines", data: "\n{\n \"a\":1\n}\n", good: []row{{7, "{\n \"a\":1\n}"}}},
		{name: "its offset is its first line's", perRow: true, data: "\n{\n \"a\":1\n}\n", good: []row{{8, "{\n \"a\":1\n}"}}},
		{name: "a bad object on many lines", data: "{\n \"a\":\"x\"\n}", bad: []row{{7, "{\n \"a\":\"x\"\n}"}}},
		{name: "a broken object on many lines", data: "{\n \"a\":\n}", bad: []row{{7, "{\n \"a\":\n}"}}},
		{name: "lines", data: "{\"a\":1}\n\n{\"a\":2}\r\n{\"a\":3}", good: []row{{7, `{"a":1}`}, {7, `{"a":2}`}, {7, `{"a":3}`}}},
		{name: "numbered lines", perRow: true, data: bom + "\n{\"a\":1}\n \r\n{\"a\":2}\r\n{\"a\":3}", good: []row{{8, `{"a":1}`}, {10, `{"a":2}`}, {11, `{"a":3}`}}},
		{name: "bad lines between good ones", perRow: true, data: "{\"a\":1}\n{\"a\":\n7\n{\"a\":2}\n",
			good: []row{{7, `{"a":1}`}, {10, `{"a":2}`}}, bad: []row{{8, `{"a":`}, {9, `7`}}},
		{name: "a broken first line", data: "{\"a\"\n{\"a\":2}\n", good: []row{{7, `{"a":2}`}}, bad: []row{{7, `{"a"`}}},
		{name: "a broken first line of numbered ones", perRow: true, data: "{\"a\"\n {\"a\":2}\n", good: []row{{8, `{"a":2}`}}, bad: []row{{7, `{"a"`}}},
		{name: "two objects on a line", data: `{"a":1}{"a":2}`, bad: []row{{7, `{"a":1}{"a":2}`}}},
		{name: "an array", data: "[{\"a\":1},\n{\"a\":2} , 5,{\"a\":3}]", good: []row{{7, `{"a":1}`}, {7, `{"a":2}`}, {7, `{"a":3}`}}, bad: []row{{7, `5`}}},
		{name: "an array's rows share its line's offset", perRow: true, data: "[{\"a\":1},{\"a\":2}]\n{\"a\":3}", good: []row{{7, `{"a":1}`}, {7, `{"a":2}`}, {8, `{"a":3}`}}},
		{name: "lines that are no objects", data: "{\"a\":1}\n5", good: []row{{7, `{"a":1}`}}, bad: []row{{7, `5`}}},
		{name: "an array without commas", data: `[{"a":1}{"a":2}]`, bad: []row{{7, `[{"a":1}{"a":2}]`}}},
		{name: "an array of nothing", data: "[ ]"},
		{name: "an array in an array", data: `[[{"a":1}]]`, bad: []row{{7, `[{"a":1}]`}}},
		{name: "a broken array", data: `[{"a":1},{"a":2]`, bad: []row{{7, `[{"a":1},{"a":2]`}}},
		{name: "an array and more", data: `[{"a":1}] 2`, bad: []row{{7, `[{"a":1}] 2`}}},
	} {
		if err := d.Message([]byte(c.data), Position{Partition: "p", First: 7, PerRow: c.perRow}); err != nil {
			t.Fatal(err)
		}
		rows, size := d.Rows(), d.Bytes()
		rec, runs, badRows := d.Flush()
		var good, bad []row
		offsets, raws := rec.Column(2).(*array.Int64), rec.Column(3).(*array.Binary)
		at := 0
		for _, r := range runs {
			for k := range r.Rows {
				if r.Partition != "p" || rec.Column(1).(*array.String).Value(at) != "p" || r.Offset(k) != offsets.Value(at) {
					t.Errorf("%s: row %d: run %v, offset column %d", c.name, at, r, offsets.Value(at))
				}
				good = append(good, row{r.Offset(k), raws.ValueString(at)})
				size -= len(raws.Value(at))
				at++
			}
		}
		for _, b := range badRows {
			bad = append(bad, row{b.Offset, string(b.Raw)})
		}
		if rows != len(good) || size != 0 || int(rec.NumRows()) != batch.Rows(runs) {
			t.Errorf("%s: Rows %d, record %d, runs %d; %d bytes too many", c.name, rows, rec.NumRows(), batch.Rows(runs), size)
		}
		if !reflect.DeepEqual(good, c.good) || !reflect.DeepEqual(bad, c.bad) {
			t.Errorf("%s:\n got %v, bad %v\nwant %v, bad %v", c.name, good, bad, c.good, c.bad)
		}
		rec.Release()
	}
}
