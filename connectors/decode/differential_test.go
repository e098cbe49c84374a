package decode

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/internal/batch"
)

// compare reads rows as one message each and holds the record and the bad rows
// against the oracle.
func compare(t *testing.T, d *Decoder, o Options, rows [][]byte) (good int) {
	t.Helper()
	for i, row := range rows {
		if err := d.Message(row, Position{Partition: "p", First: int64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	rec, _, bad := d.Flush()
	defer rec.Release()
	cols := d.plan.contract.Fields()
	offsets := rec.Column(len(cols) + 1).(*array.Int64)
	raws := rec.Column(len(cols) + 2).(*array.Binary)
	at := 0
	for i, row := range rows {
		row = trim(bytes.TrimPrefix(row, []byte("\xef\xbb\xbf")))
		var wanted map[string]any
		n, err := parseRow(row)
		if err == nil {
			wanted, err = want(n, cols, o, 1)
		}
		if len(row) == 0 {
			continue
		}
		if err != nil {
			if len(bad) == 0 || bad[0].Offset != int64(i) || !bytes.Equal(bad[0].Raw, row) {
				t.Fatalf("row %q is good, must be bad", row)
			}
			bad = bad[1:]
			continue
		}
		if len(bad) > 0 && bad[0].Offset == int64(i) {
			t.Fatalf("row %q is bad, must be good: %s", row, bad[0].Message)
		}
		if offsets.Value(at) != int64(i) || !bytes.Equal(raws.Value(at), row) {
			t.Fatalf("row %q: offset %d, raw %q", row, offsets.Value(at), raws.Value(at))
		}
		for k, c := range cols {
			if v := got(rec.Column(k), at); !reflect.DeepEqual(v, wanted[c.Name]) {
				t.Fatalf("row %q: column %q: got %#v, want %#v", row, c.Name, v, wanted[c.Name])
			}
		}
		at++
	}
	if int64(at) != rec.NumRows() || len(bad) > 0 {
		t.Fatalf("%d rows, %d of them good; record has %d, %d bad ones left over", len(rows), at, rec.NumRows(), len(bad))
	}
	return at
}

// generator writes random rows: right ones, and wild ones with a few mistakes.
type generator struct {
	*rand.Rand
	b    bytes.Buffer
	wild bool
}

// slip says whether to make a mistake, one time in n.
func (g *generator) slip(n int) bool { return g.wild && g.IntN(n) == 0 }

func (g *generator) space() {
	for g.IntN(6) == 0 {
		g.b.WriteByte(" \t\r"[g.IntN(3)])
	}
}

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

func (g *generator) object(cols []arrow.Field) {
	g.b.WriteByte('{')
	order := make([]int, len(cols))
	for i := range order {
		order[i] = i
	}
	if g.IntN(3) == 0 {
		g.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	first := true
	next := func(name string) {
		if !first {
			g.b.WriteByte(',')
		}
		first = false
		g.space()
		g.b.WriteString(name)
		g.space()
		g.b.WriteByte(':')
		g.space()
	}
	for _, i := range order {
		c := cols[i]
		if g.IntN(8) == 0 && (c.Nullable || g.slip(4)) {
			continue
		}
		name := `"` + c.Name + `"`
		if g.IntN(30) == 0 {
			name = fmt.Sprintf(`"\u%04x%s"`, c.Name[0], c.Name[1:])
		}
		next(name)
		g.value(c)
		g.space()
		for g.IntN(12) == 0 {
			next(fmt.Sprintf(pick(g, `"new%d"`, `"ne\u0077%d"`, `"%d"`, `"`+c.Name+`%d"`, `"`+strings.Repeat("long", 100)+`%d"`), g.IntN(pick(g, 20, 10000))))
			g.any(0)
		}
		if g.slip(100) {
			next(name)
			g.value(c)
		}
	}
	g.b.WriteByte('}')
}

func (g *generator) value(c arrow.Field) {
	switch {
	case g.IntN(10) == 0 && (c.Nullable || g.slip(4)):
		g.b.WriteString("null")
		return
	case g.slip(100):
		g.any(0)
		return
	}
	switch t := c.Type.(type) {
	case *arrow.StringType:
		g.string()
	case *arrow.BooleanType:
		g.b.WriteString(pick(g, "true", "false"))
	case *arrow.Int64Type:
		g.int(63)
	case *arrow.Int32Type:
		g.int(31)
	case *arrow.Float64Type, *arrow.Float32Type:
		g.number()
	case *arrow.Decimal128Type:
		g.decimal(t)
	case *arrow.Date32Type:
		fmt.Fprintf(&g.b, `"%s"`, g.date())
	case *arrow.TimestampType:
		g.time()
	case *arrow.ListType:
		g.b.WriteByte('[')
		for i := range g.IntN(5) {
			if i > 0 {
				g.b.WriteByte(',')
			}
			g.space()
			g.value(t.ElemField())
			g.space()
		}
		g.b.WriteByte(']')
	case *arrow.StructType:
		g.object(t.Fields())
	}
}

func (g *generator) int(size int) {
	v := g.Uint64() >> g.IntN(64) >> (64 - size)
	s := fmt.Sprint(v)
	switch g.IntN(12) {
	case 0:
		s += ".000"
	case 1:
		s = "1" + strings.TrimRight(s[1:], "0") + fmt.Sprintf("e%d", len(s)-1-len(strings.TrimRight(s[1:], "0")))
	case 2:
		s += "000E-3"
	}
	if g.slip(20) {
		s = pick(g, "9223372036854775807", "9223372036854775808", "2147483647", "2147483648", "0", "1e18", "1e19", "0e99999999999999999999", "1.5", "00", "18446744073709551616", "1e99999999999999999999", "10e-1", "1e-1")
	}
	g.b.WriteString(pick(g, "", "", "-") + s)
}

func (g *generator) digits(n int) string {
	s := make([]byte, n)
	for i := range s {
		s[i] = byte('0' + g.IntN(10))
	}
	return string(s)
}

func (g *generator) number() {
	if g.IntN(20) == 0 {
		g.b.WriteString(pick(g, "1e-400", "-0", "-0.0", "9007199254740993", "9007199254740992.5", "16777217", "1.000000059604644775390625", "1.00000005960464477539062500001", "0.1"))
		return
	}
	if g.slip(20) {
		g.b.WriteString(pick(g, "1e400", "1.7976931348623158e308", "1.7976931348623159e308", "4.9e-324", "2.4e-324", "3.4028235e38", "3.4028236e38",
			".1", "1.", "+1", "NaN", "-", "1e", "1e+", "0x10", "Infinity"))
		return
	}
	s := pick(g, "", "", "-") + pick(g, "0", fmt.Sprint(g.Uint64()>>g.IntN(64)), "1"+g.digits(g.IntN(pick(g, 10, 20, 30))))
	if g.IntN(4) > 0 {
		s += "." + g.digits(1+g.IntN(pick(g, 3, 10, 25)))
	}
	if g.IntN(4) == 0 {
		s += pick(g, "e", "E") + pick(g, "", "+", "-") + g.digits(1)
	}
	g.b.WriteString(s)
}

func (g *generator) decimal(t *arrow.Decimal128Type) {
	s := pick(g, "", "-") + pick(g, "0", "1"+g.digits(g.IntN(int(t.Precision-t.Scale))))
	if g.IntN(2) == 0 {
		s += "." + (g.digits(int(t.Scale)) + "00")[:1+g.IntN(int(t.Scale)+2)]
	}
	if g.slip(5) {
		s += pick(g, "e1", "E-1", "e0", "e+2", "e99999999999", "e-99999999999", "x", " ")
	}
	if g.IntN(3) == 0 {
		s = `"` + s + `"`
	}
	g.b.WriteString(s)
}

func (g *generator) date() string {
	if g.slip(10) {
		return pick(g, "2023-02-29", "2024-02-29", "1900-02-29", "2000-02-29", "2024-13-01", "2024-00-01", "2024-04-31", "0000-01-01", "0001-01-01", "9999-12-31", "24-01-01", "2024/01/01", "2024-1-01", "")
	}
	return fmt.Sprintf("%04d-%02d-%02d", 1+g.IntN(9999), 1+g.IntN(12), 1+g.IntN(28))
}

func (g *generator) time() {
	switch k := g.IntN(16); {
	case k < 2:
		fmt.Fprint(&g.b, g.IntN(1e18))
		return
	case k == 2:
		fmt.Fprintf(&g.b, "%d.%s", g.IntN(1e12), g.digits(1+g.IntN(12)))
		return
	case g.slip(10):
		g.number()
		return
	}
	s := g.date()
	if g.IntN(8) > 0 {
		s += pick(g, "T", "T", "T", " ", "t") + fmt.Sprintf("%02d:%02d:%02d", g.IntN(24), g.IntN(60), g.IntN(60))
		if g.IntN(2) == 0 {
			s += "." + g.digits(pick(g, 3, 3, 6, 6, 1+g.IntN(9)))
		}
		s += pick(g, "Z", "Z", "Z", "z", "", "+02:00", "-23:59", fmt.Sprintf("+%02d:%02d", g.IntN(24), g.IntN(60)))
		if g.slip(5) {
			s = strings.Replace(s, pick(g, ":", "-", "0", "1", "2", "T", "Z"), pick(g, "", "9", "_", "+0200", "+24:00", "+01", "+00:60", ".1234567890Z"), 1)
		}
	}
	g.b.WriteString(`"` + s + `"`)
}

func (g *generator) string() {
	g.b.WriteByte('"')
	for range g.IntN(pick(g, 4, 12, 40)) {
		switch k := g.IntN(200); {
		case k < 4:
			g.b.WriteString(pick(g, `\n`, `\"`, `\\`, `\/`, `\u0041`, `\u00e9`, `\ud83d\udea2`, `\uD83D\uDEA2`, `\u0000`, `\uffff`))
		case k < 8:
			g.b.WriteString(pick(g, "é", "世", "🚢", "ß", "\u2028", "\ufffd", "\x7f"))
		case g.slip(500):
			g.b.WriteString(pick(g, "\xff", "\xc0\x80", "\xed\xa0\x80", `\ud800`, `\udc00`, `\ud800\u0041`, `\ud800\ud800\udc00`, `\x`, `\u12`, `\U0041`, "\x00", "\t", "\x1f", "\xe4\xb8"))
		default:
			g.b.WriteByte("abcdefghijklmnopqrstuvwxyz0123456789 {}[],:!#"[g.IntN(45)])
		}
	}
	g.b.WriteByte('"')
}

// any writes a value of any kind.
func (g *generator) any(level int) {
	switch k := g.IntN(8); {
	case k == 0:
		g.b.WriteString(pick(g, "null", "true", "false"))
		if g.slip(10) {
			g.b.WriteString(pick(g, "nul", "True", "NaN", "undefined"))
		}
	case k == 1:
		g.number()
	case k < 4 && level < 4:
		g.b.WriteByte('[')
		for i := range g.IntN(4) {
			if i > 0 {
				g.b.WriteByte(',')
			}
			g.any(level + 1)
		}
		g.b.WriteByte(']')
	case k < 6 && level < 4:
		g.b.WriteByte('{')
		for i := range g.IntN(4) {
			if i > 0 {
				g.b.WriteByte(',')
			}
			g.string()
			g.b.WriteByte(':')
			g.any(level + 1)
		}
		g.b.WriteByte('}')
	case k == 6 && g.slip(10):
		n := 100 + g.IntN(60)
		g.b.WriteString(strings.Repeat(pick(g, "[", `{"a":`), n) + "1" + strings.Repeat(pick(g, "]", "}"), n))
	default:
		g.string()
	}
}

// row writes a row, and sometimes damages it.
func (g *generator) row(cols []arrow.Field) []byte {
	g.b.Reset()
	g.wild = g.IntN(2) == 0
	g.space()
	g.object(cols)
	g.space()
	row := bytes.Clone(g.b.Bytes())
	for g.slip(5) {
		at := g.IntN(len(row))
		switch g.IntN(4) {
		case 0:
			row = row[:at+1]
		case 1:
			row[at] = byte(g.IntN(256))
		case 2:
			row[at] = `"\{}[],:0e.- tn`[g.IntN(15)]
		case 3:
			row = append(row[:at:at], row[at+g.IntN(len(row)-at):]...)
		}
		if len(row) == 0 {
			break
		}
	}
	// A message that begins with a bracket, or has lines, is not one row.
	row = bytes.ReplaceAll(row, []byte("\n"), nil)
	for bytes.HasPrefix(trim(row), []byte("[")) {
		row = trim(row)[1:]
	}
	return row
}

// TestAgainstOracle compares random rows of every kind of damage with the
// oracle; the seed is in the failure's name.
func TestAgainstOracle(t *testing.T) {
	seeds := uint64(600)
	if testing.Short() {
		seeds = 100
	}
	good, all := 0, 0
	for seed := range seeds {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			o := Options{MaxDepth: DefaultMaxDepth, OnNewField: OnNewField(seed % 3 / 2)}
			g := &generator{Rand: rand.New(rand.NewPCG(seed, 7))}
			d := newDecoder(t, allTypes(), o)
			cols := allTypes().Fields()
			for range 2 { // the second time with what the decoder learned
				rows := make([][]byte, 40)
				for i := range rows {
					rows[i] = g.row(cols)
				}
				good += compare(t, d, o, rows)
				all += len(rows)
			}
		})
	}
	if good < all/4 || good > all*3/4 {
		t.Errorf("%d of %d rows are good: the generator tests too little", good, all)
	}
}

// FuzzDecode compares whatever the fuzzer finds with the oracle. Messages of
// several rows are only held to give back each byte that is not white space or
// an array's punctuation, and not to crash.
func FuzzDecode(f *testing.F) {
	g := &generator{Rand: rand.New(rand.NewPCG(1, 7))}
	for range 200 {
		f.Add(g.row(allTypes().Fields()), false)
	}
	f.Add([]byte(`[{"id":"a"},{"id":7}]`), true)
	f.Add([]byte("{\"id\":\"a\"}\n\n{\"id\":\n{\"id\":\"b\"}\r\n"), true)
	for _, c := range badRows {
		f.Add([]byte(c.row), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, perRow bool) {
		o := Options{MaxDepth: DefaultMaxDepth}
		d := newDecoder(t, allTypes(), o)
		s := trim(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
		if !bytes.HasPrefix(s, []byte("[")) && !bytes.Contains(s, []byte("\n")) {
			compare(t, d, o, [][]byte{data, []byte(full), data})
			return
		}
		if err := d.Message(data, Position{Partition: "p", First: 5, PerRow: perRow}); err != nil {
			t.Fatal(err)
		}
		rec, runs, bad := d.Flush()
		defer rec.Release()
		if batch.Rows(runs) != int(rec.NumRows()) {
			t.Fatalf("%d rows, runs have %d", rec.NumRows(), batch.Rows(runs))
		}
		last := int64(5)
		if perRow {
			last += int64(bytes.Count(data, []byte("\n")))
		}
		for _, b := range bad {
			if !bytes.Contains(data, b.Raw) || b.Rule == "" || b.Message == "" || b.Offset < 5 || b.Offset > last {
				t.Fatalf("bad row %+v", b)
			}
		}
		raws := rec.Column(int(rec.NumCols()) - 1).(*array.Binary)
		for i := range raws.Len() {
			if n, err := parseRow(raws.Value(i)); err != nil {
				t.Fatalf("row %q: %v", raws.Value(i), err)
			} else if _, err := want(n, d.plan.contract.Fields(), o, 1); err != nil {
				t.Fatalf("row %q is good, must be bad", raws.Value(i))
			}
		}
	})
}
