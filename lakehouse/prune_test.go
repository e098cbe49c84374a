package lakehouse

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/predicate"
	"github.com/tidemill/tidemill/lakehouse/delta"
)

// snapshotOf is a snapshot of files that need not exist.
func snapshotOf(schema *arrow.Schema, partitionBy []string, files ...File) *Snapshot {
	s := &Snapshot{meta: &metadata{Metadata: delta.Metadata{PartitionColumns: partitionBy}, schema: schema}}
	for i, f := range files {
		f.Path, f.Size = fmt.Sprint(i), 1
		s.entries = append(s.entries, &entry{File: f})
		s.files++
	}
	return s
}

// keptBy returns the numbers of the files that a condition keeps, and what it skips.
func keptBy(s *Snapshot, p *predicate.Node) (string, Skipped) {
	keep, sk := s.Prune(p)
	names := make([]string, len(keep))
	for i, f := range keep {
		names[i] = f.Path
	}
	return strings.Join(names, " "), sk
}

func cmpNode(column string, op predicate.Op, v predicate.Value) *predicate.Node {
	return predicate.Compare(op, strings.Split(column, "."), v)
}

// Each line is a column's type, two bounds and a count of nulls among 10 rows as a file's
// statistics have them, who wrote it, a condition, and whether the file has to be read.
func TestPruneByStatistics(t *testing.T) {
	dec := func(s string) predicate.Value {
		n, ok := predicate.ParseNumber(s)
		if !ok {
			t.Fatal(s)
		}
		return predicate.Decimal(n)
	}
	day := func(s string) int64 {
		d, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return d.Unix() / 86400
	}
	at := func(s string) predicate.Value {
		x, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return predicate.Timestamp(x.UnixMicro())
	}
	const (
		eq, ne, lt, le, gt, ge, prefix = predicate.Eq, predicate.Ne, predicate.Lt, predicate.Le, predicate.Gt, predicate.Ge, predicate.Prefix
		both, ours, theirs             = "both", "ours", "theirs"
	)
	long := strings.Repeat("x", 32)
	i64, f64, f32, str, ts := arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float64, arrow.PrimitiveTypes.Float32, arrow.BinaryTypes.String, arrow.FixedWidthTypes.Timestamp_us
	money, wide := &arrow.Decimal128Type{Precision: 10, Scale: 2}, &arrow.Decimal128Type{Precision: 38, Scale: 18}
	for _, c := range []struct {
		typ      arrow.DataType
		min, max string
		nulls    string
		who      string
		op       predicate.Op
		v        predicate.Value
		read     bool
	}{
		{i64, "1", "9", "0", both, eq, predicate.Int(10), false},
		{i64, "1", "9", "0", both, eq, predicate.Int(9), true},
		{i64, "1", "9", "0", both, gt, predicate.Int(9), false},
		{i64, "1", "9", "0", both, ge, predicate.Int(9), true},
		{i64, "1", "9", "0", both, lt, predicate.Int(1), false},
		{i64, "1", "9", "0", both, le, predicate.Int(1), true},
		{i64, "5", "5", "3", both, ne, predicate.Int(5), false},
		{i64, "5", "6", "3", both, ne, predicate.Int(5), true},
		{i64, "5", "", "0", both, ne, predicate.Int(5), true},
		{i64, "", "9", "0", both, eq, predicate.Int(0), true},
		{i64, "", "9", "0", both, eq, predicate.Int(10), false},
		{i64, "", "", "0", both, eq, predicate.Int(0), true},
		{i64, "", "", "10", both, ne, predicate.Int(0), false},
		{i64, "", "", "", both, eq, predicate.Int(0), true},
		{i64, "1", "5", "0", both, gt, dec("4.5"), true},
		{i64, "1", "5", "0", both, gt, dec("5.5"), false},
		{i64, "1", "5", "0", both, eq, dec("4.5"), true}, // in between; bounds do not know
		{i64, "-9223372036854775808", "9223372036854775806", "0", both, gt, predicate.Int(math.MaxInt64 - 1), false},
		{i64, "0", "9223372036854775807", "0", both, gt, dec("9223372036854775807.5"), false},
		{i64, "9007199254740993", "9007199254740993", "0", both, eq, predicate.Float(9007199254740992), true}, // as float64 they are the same
		{i64, "9007199254740993", "9007199254740993", "0", both, eq, predicate.Int(9007199254740992), false},
		{i64, "1", "5", "0", both, gt, predicate.Float(5.5), false},
		{i64, "1", "5", "0", both, lt, predicate.Float(math.NaN()), true},
		{i64, `"oops"`, `{"a":1}`, "0", both, eq, predicate.Int(9), true},
		{i64, "1", "5", "0", both, eq, predicate.String("9"), true}, // no comparison we know of
		{f64, "1.5", "2.5", "0", ours, gt, predicate.Float(3), false},
		{f64, "1.5", "2.5", "0", theirs, gt, predicate.Float(3), true}, // there may be NaN
		{f64, "1.5", "2.5", "0", theirs, ne, predicate.Float(3), true},
		{f64, "2", "2", "0", theirs, ne, predicate.Float(2), true},
		{f64, "2", "2", "0", ours, ne, predicate.Float(2), false},
		{f64, "1.5", "2.5", "0", theirs, lt, predicate.Float(1.5), false},
		{f64, "1.5", "2.5", "0", theirs, eq, predicate.Float(3), false},
		{f64, "1.5", "2.5", "0", ours, gt, predicate.Float(math.NaN()), true},
		{f64, "1.5", "2.5", "0", both, lt, predicate.Float(math.Inf(-1)), false},
		{f64, "-0.0", "-0.0", "0", both, eq, predicate.Float(0), true},
		{f64, "0.0", "0.0", "0", ours, ne, predicate.Float(math.Copysign(0, -1)), false},
		{f64, "1.0", `"NaN"`, "0", both, gt, predicate.Float(5), true},
		{f64, "1", "2", "0", both, eq, predicate.Int(3), false},
		{f32, "0.1", "0.1", "0", both, eq, predicate.Float(float64(float32(0.1))), true},
		{f32, "0.1", "0.1", "0", ours, gt, predicate.Float(0.1), true}, // 0.1 as float32 is greater
		{str, `"b"`, `"d"`, "0", both, lt, predicate.String("b"), false},
		{str, `"b"`, `"d"`, "0", both, gt, predicate.String("d"), false},
		{str, `"b"`, `"d"`, "0", both, gt, predicate.String("cz"), true},
		{str, `"b"`, `"d"`, "0", both, prefix, predicate.String("da"), false},
		{str, `"b"`, `"d"`, "0", both, prefix, predicate.String("bz"), true},
		{str, `"ba"`, `"d"`, "0", both, prefix, predicate.String("b"), true},
		{str, `"ba"`, `"d"`, "0", both, prefix, predicate.String("a"), false},
		{str, `"a"`, `"` + long + `"`, "0", theirs, gt, predicate.String(long), true},
		{str, `"a"`, `"` + long + `"`, "0", theirs, eq, predicate.String(long + "y"), true},
		{str, `"a"`, `"` + long + `"`, "0", theirs, prefix, predicate.String(long + "yy"), true},
		{str, `"a"`, `"` + long + `"`, "0", theirs, gt, predicate.String("y"), false},
		{str, `"a"`, `"` + long + `"`, "0", ours, gt, predicate.String(long), false},
		{str, `"` + long + `"`, `"` + long + `"`, "0", theirs, ne, predicate.String(long), true},
		{str, `"z"`, `"\u00e9"`, "0", both, gt, predicate.String("é"), false},
		{str, `"z"`, `"é"`, "0", both, eq, predicate.String("ä"), true}, // by bytes, z comes first
		{str, `"\ud83d\ude00"`, `"\ud83d\ude00"`, "0", both, lt, predicate.String("\uffff"), false},
		{str, `"a"`, `"b` + "\ufffd" + `"`, "0", both, gt, predicate.String("z"), true}, // bytes that no text has
		{str, `""`, `""`, "0", both, eq, predicate.String(""), true},
		{ts, `"2026-01-01T00:00:00.000Z"`, `"2026-01-01T00:00:00.001Z"`, "0", theirs, ge, at("2026-01-01T00:00:00.001999Z"), true},
		{ts, `"2026-01-01T00:00:00.000Z"`, `"2026-01-01T00:00:00.001Z"`, "0", theirs, gt, at("2026-01-01T00:00:00.002Z"), false},
		{ts, `"2026-01-01T00:00:00.000Z"`, `"2026-01-01T00:00:00.001Z"`, "0", ours, ge, at("2026-01-01T00:00:00.001999Z"), false},
		{ts, `"1969-12-31T23:59:59.999Z"`, `"1970-01-01T00:00:00.000Z"`, "0", both, lt, at("1969-12-31T23:59:59Z"), false},
		{ts, `"1969-12-31T23:59:59.999Z"`, `"1970-01-01T00:00:00.000Z"`, "0", theirs, lt, at("1969-12-31T23:59:59.9985Z"), true},
		{ts, `"2026-01-01T00:00:00.000+02:00"`, `"2026-01-01T00:00:00.000+02:00"`, "0", both, gt, at("2025-12-31T23:00:00Z"), false},
		{ts, `"2026-01-01T00:00:00"`, `"2026-01-01T00:00:00"`, "0", both, gt, at("2030-01-01T00:00:00Z"), true}, // in which zone?
		{ts, `"2026-01-01T00:00:00.000Z"`, `"2026-01-01T23:00:00.000Z"`, "0", both, ge, predicate.Date(day("2026-01-02")), false},
		{arrow.FixedWidthTypes.Date32, `"1969-12-30"`, `"1969-12-31"`, "0", both, gt, predicate.Date(-1), false},
		{arrow.FixedWidthTypes.Date32, `"1969-12-30"`, `"1969-12-31"`, "0", both, ge, predicate.Date(-1), true},
		{arrow.FixedWidthTypes.Date32, `"1969-12-30"`, `"1969-12-31"`, "0", both, gt, at("1969-12-31T00:00:01Z"), false},
		{arrow.FixedWidthTypes.Date32, `"10000-01-01"`, `"10000-01-01"`, "0", both, lt, predicate.Date(0), true},
		{arrow.FixedWidthTypes.Boolean, "false", "false", "0", both, eq, predicate.Bool(true), false},
		{arrow.FixedWidthTypes.Boolean, "false", "true", "0", both, eq, predicate.Bool(true), true},
		{arrow.FixedWidthTypes.Boolean, "", "", "0", both, eq, predicate.Bool(true), true},
		{money, "1.10", "99999999.99", "0", both, gt, dec("99999999.99"), false},
		{money, "1.10", "99999999.99", "0", both, gt, dec("99999999.985"), true},
		{money, "1.1", "1.1e0", "0", both, ne, dec("1.10"), false},
		{wide, "0", "12345678901234567890.123456789012345678", "0", ours, gt, dec("12345678901234567890.123456789012345678"), false},
		{wide, "0", "12345678901234567000", "0", theirs, eq, dec("12345678901234567890.123456789012345678"), true}, // was a float64
		{wide, "0", "12345678901234567890", "0", theirs, gt, dec("12345678901235"), true},
		{wide, "0", "12345678901234567890", "0", theirs, gt, dec("12345678901999999999"), false},
		{money, "1", "2", "0", both, eq, predicate.Float(3), true}, // rounding is DuckDB's
		{arrow.BinaryTypes.Binary, `"a"`, `"b"`, "0", both, gt, predicate.String("z"), true},
	} {
		stats := map[string]map[string]json.RawMessage{"minValues": {}, "maxValues": {}, "nullCount": {}}
		for k, raw := range map[string]string{"minValues": c.min, "maxValues": c.max, "nullCount": c.nulls} {
			if raw != "" {
				stats[k]["c"] = json.RawMessage(raw)
			}
		}
		text, err := json.Marshal(struct {
			NumRecords int `json:"numRecords"`
			Min        any `json:"minValues"`
			Max        any `json:"maxValues"`
			Nulls      any `json:"nullCount"`
		}{10, stats["minValues"], stats["maxValues"], stats["nullCount"]})
		if err != nil {
			t.Fatal(err)
		}
		mine, other := File{Stats: string(text), Tags: writerTags}, File{Stats: string(text)}
		files := map[string][]File{both: {mine, other}, ours: {mine}, theirs: {other}}[c.who]
		snap := snapshotOf(arrow.NewSchema([]arrow.Field{{Name: "c", Type: c.typ, Nullable: true}}, nil), nil, files...)
		for _, node := range []*predicate.Node{cmpNode("C", c.op, c.v), predicate.Any(cmpNode("c", c.op, c.v), cmpNode("c", c.op, c.v))} {
			keep, sk := snap.Prune(node)
			want := 0
			if c.read {
				want = len(files)
			}
			if len(keep) != want || sk.ByStats != len(files)-want || sk.Bytes != int64(sk.ByStats) {
				t.Errorf("%s [%s, %s], %s nulls of 10, %s: %s keeps %d", c.typ, c.min, c.max, c.nulls, c.who, node, len(keep))
			}
		}
	}
}

func TestPruneByPartitionNullsAndPaths(t *testing.T) {
	str := func(s string) *string { return &s }
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "Country", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "s", Type: arrow.StructOf(arrow.Field{Name: `a"b`, Type: arrow.PrimitiveTypes.Int64, Nullable: true}), Nullable: true},
	}, nil)
	files := []File{
		{PartitionValues: map[string]*string{"Country": str("DE"), "day": str("1969-12-31")},
			Stats: ` {"numRecords": 3, "x": [1, {"y": "}\\\""}], "minValues":{"n":1,"s":{"a\"b":5}},"maxValues":{"n":9,"s":{"a\u0022b":6}},"nullCount":{"n":0,"s":{"a\"b":0}}} `},
		{PartitionValues: map[string]*string{"Country": nil, "day": str("1969-12-31")}, Stats: `{"numRecords":3,"nullCount":{"n":3,"s":{"a\"b":3}}}`, Tags: writerTags},
		{PartitionValues: map[string]*string{"Country": str(""), "day": str("soon")}, Stats: `{"numRecords":3,"nullCount":{"n":1`},
		{},
	}
	snap := snapshotOf(schema, []string{"Country", "day"}, files...)
	country, n, field := []string{"country"}, []string{"n"}, []string{"S", `A"B`}
	for _, c := range []struct {
		p           *predicate.Node
		want        string
		part, stats int
	}{
		{nil, "0 1 2 3", 0, 0},
		{cmpNode("country", predicate.Eq, predicate.String("DE")), "0", 3, 0},
		{cmpNode("country", predicate.Ne, predicate.String("DE")), "", 4, 0},
		{cmpNode("country", predicate.Eq, predicate.String("")), "", 4, 0}, // Delta has no empty partition value
		{predicate.Null(country, true), "1 2 3", 1, 0},
		{predicate.Null(country, false), "0", 3, 0},
		{cmpNode("day", predicate.Lt, predicate.Date(0)), "0 1 2", 1, 0},
		{cmpNode("day", predicate.Lt, predicate.Date(-1)), "2", 3, 0}, // a value that nobody can read is DuckDB's to refuse
		{predicate.Null(n, true), "1 2 3", 0, 1},
		{predicate.Null(n, false), "0 2 3", 0, 1},
		{predicate.Null(field, true), "0 1 2 3", 0, 0}, // other writers count nulls of fields in their own way
		{predicate.Null(field, false), "0 2 3", 0, 1},
		{predicate.OneOf(field, predicate.Int(7), predicate.Int(4)), "2 3", 0, 2},
		{predicate.OneOf(field, predicate.Int(7), predicate.Int(6)), "0 2 3", 0, 1},
		{predicate.All(cmpNode("country", predicate.Eq, predicate.String("DE")), cmpNode("n", predicate.Gt, predicate.Int(9))), "", 3, 1},
		{predicate.Any(cmpNode("country", predicate.Eq, predicate.String("DE")), cmpNode("n", predicate.Gt, predicate.Int(9))), "0 2 3", 0, 1},
		{cmpNode("nosuch", predicate.Eq, predicate.Int(1)), "0 1 2 3", 0, 0},
		{cmpNode("n.x", predicate.Eq, predicate.Int(1)), "0 1 2 3", 0, 0},
		{predicate.Any(cmpNode("nosuch", predicate.Eq, predicate.Int(1)), cmpNode("n", predicate.Gt, predicate.Int(9))), "0 1 2 3", 0, 0},
		{predicate.All(cmpNode("nosuch", predicate.Eq, predicate.Int(1)), cmpNode("n", predicate.Gt, predicate.Int(9))), "2 3", 0, 2},
	} {
		got, sk := keptBy(snap, c.p)
		if got != c.want || sk.ByPartition != c.part || sk.ByStats != c.stats || sk.Files != c.part+c.stats {
			t.Errorf("%s keeps %q, skips %+v, want %q, %d, %d", c.p, got, sk, c.want, c.part, c.stats)
		}
	}
}

// What is no JSON, or not of the form of statistics, keeps the file and never panics.
func TestPruneOfDamagedStatistics(t *testing.T) {
	whole := `{"numRecords":3,"minValues":{"n":1},"maxValues":{"n":9},"nullCount":{"n":0}}`
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	p := cmpNode("n", predicate.Gt, predicate.Int(100))
	var files []File
	for i := range len(whole) {
		files = append(files, File{Stats: whole[:i]})
	}
	for _, s := range []string{whole + "x", "null", "[]", `"x"`, strings.Repeat(`{"a":`, 100_000), strings.Repeat(`[`, 1000), `{"maxValues":[1]}`, `{"maxValues":{"n":"\u12"}}`, `{"maxValues":{"n":{}}}`, `{"maxValues":{"n":-}}`, `{,}`, `{"a" 1}`} {
		files = append(files, File{Stats: s})
	}
	if keep, _ := snapshotOf(schema, nil, files...).Prune(p); len(keep) != len(files) {
		t.Errorf("%d of %d kept", len(keep), len(files))
	}
	if keep, _ := snapshotOf(schema, nil, File{Stats: whole}).Prune(p); len(keep) != 0 {
		t.Error("the whole one is kept")
	}
}

// Random files, their statistics as ours and as other writers make them, and random
// conditions: a file that has a row for which the condition is true is kept.
func TestPruneNeverSkipsARow(t *testing.T) {
	seed := rand.Uint64()
	r := seeded(seed)
	schema := propertySchema()
	skipped := 0
	for range 120 {
		var files []File
		var recs []arrow.Record
		for range 6 {
			rec := propertyRecord(r, schema)
			defer rec.Release()
			f := File{Stats: delta.Stats(rec), Tags: writerTags}
			if r.IntN(2) == 0 {
				f = File{Stats: foreignStats(r, f.Stats, rec)}
			}
			files, recs = append(files, f), append(recs, rec)
		}
		snap := snapshotOf(schema, nil, files...)
		for range 60 {
			p := propertyNode(r, schema, 2)
			keep, sk := snap.Prune(p)
			skipped += sk.Files
			for i, rec := range recs {
				if slices.ContainsFunc(keep, func(f File) bool { return f.Path == strconv.Itoa(i) }) {
					continue
				}
				for row := range int(rec.NumRows()) {
					if truth(p, rec, row) == yes {
						t.Fatalf("seed %d: %s is true of row %d of a file that is skipped; its statistics: %s\n%v", seed, p, row, files[i].Stats, rec)
					}
				}
			}
		}
	}
	if skipped < 3_000 {
		t.Errorf("seed %d: only %d files skipped in all", seed, skipped)
	}
}

func propertySchema() *arrow.Schema {
	null := func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: true}
	}
	return arrow.NewSchema([]arrow.Field{
		null("i", arrow.PrimitiveTypes.Int64), null("f", arrow.PrimitiveTypes.Float64), null("g", arrow.PrimitiveTypes.Float32),
		null("s", arrow.BinaryTypes.String), null("b", arrow.FixedWidthTypes.Boolean), null("d", arrow.FixedWidthTypes.Date32),
		null("t", arrow.FixedWidthTypes.Timestamp_us), null("m", &arrow.Decimal128Type{Precision: 38, Scale: 4}),
		null("o", arrow.StructOf(null("i", arrow.PrimitiveTypes.Int64))),
	}, nil)
}

// pool has few values for each type, near each other and at the edges, so that
// constants and bounds meet.
func pool(r *rand.Rand, t arrow.DataType, middle int64) predicate.Value {
	near := middle + r.Int64N(5) - 2
	switch t := t.(type) {
	case *arrow.Int64Type:
		return predicate.Int([]int64{near, near, near, near, 1<<53 + near, math.MinInt64, math.MaxInt64}[r.IntN(7)])
	case *arrow.Float64Type, *arrow.Float32Type:
		at := r.IntN(40)
		if at > 7 {
			at %= 3
		}
		f := []float64{float64(near), float64(near) + 0.5, float64(near) / 10, math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 1e-300}[at]
		if t.ID() == arrow.FLOAT32 {
			f = float64(float32(f))
		}
		return predicate.Float(f)
	case *arrow.StringType:
		long := strings.Repeat("ä😀x", 11)
		return predicate.String([]string{"", strconv.FormatInt(near, 10), strconv.FormatInt(near, 10) + "ß", long + "a", long + "b", long, "\U0010ffff", "z\x00"}[r.IntN(8)])
	case *arrow.BooleanType:
		return predicate.Bool(r.IntN(2) == 0)
	case *arrow.Date32Type:
		return predicate.Date(near)
	case *arrow.TimestampType:
		return predicate.Timestamp(near*1000 + r.Int64N(3)*500 - 500)
	case *arrow.Decimal128Type:
		digits := []string{"", "9007199254740993", "12345678901234567890123456789012"}[min(r.IntN(6), 2)]
		n, _ := predicate.ParseNumber(digits + strconv.FormatInt(max(near, -near), 10) + "." + []string{"0", "5", "1234", "0001"}[r.IntN(4)])
		return predicate.Decimal(n)
	}
	panic(t)
}

func propertyRecord(r *rand.Rand, schema *arrow.Schema) arrow.Record {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for i, f := range schema.Fields() {
		nulls, middle := r.IntN(4), r.Int64N(20)-10
		if r.IntN(10) == 0 {
			nulls = 100
		}
		for range 6 {
			if r.IntN(8) < nulls {
				b.Field(i).AppendNull()
			} else {
				appendValue(r, b.Field(i), f.Type, middle, nulls)
			}
		}
	}
	return b.NewRecord()
}

func appendValue(r *rand.Rand, b array.Builder, t arrow.DataType, middle int64, nulls int) {
	if st, ok := t.(*arrow.StructType); ok {
		sb := b.(*array.StructBuilder)
		sb.Append(true)
		if r.IntN(8) < nulls {
			sb.FieldBuilder(0).AppendNull()
		} else {
			appendValue(r, sb.FieldBuilder(0), st.Field(0).Type, middle, nulls)
		}
		return
	}
	v := pool(r, t, middle)
	switch b := b.(type) {
	case *array.Int64Builder:
		b.Append(v.Int())
	case *array.Float64Builder:
		b.Append(v.Float())
	case *array.Float32Builder:
		b.Append(float32(v.Float()))
	case *array.StringBuilder:
		b.Append(v.Text())
	case *array.BooleanBuilder:
		b.Append(v.Int() != 0)
	case *array.Date32Builder:
		b.Append(arrow.Date32(v.Int()))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(v.Int()))
	case *array.Decimal128Builder:
		x, _ := new(big.Rat).SetString(v.Number().String())
		x.Mul(x, big.NewRat(10_000, 1))
		b.Append(decimal128.FromBigInt(x.Num()))
	}
}

// foreignStats does to statistics what other writers do.
func foreignStats(r *rand.Rand, stats string, rec arrow.Record) string {
	var s struct {
		NumRecords int64                      `json:"numRecords"`
		Min        map[string]json.RawMessage `json:"minValues"`
		Max        map[string]json.RawMessage `json:"maxValues"`
		Nulls      map[string]json.RawMessage `json:"nullCount"`
	}
	if err := json.Unmarshal([]byte(stats), &s); err != nil {
		panic(err)
	}
	floats := func(name string, values []float64, col arrow.Array) { // bounds that know no NaN
		delete(s.Min, name)
		delete(s.Max, name)
		lo, hi := math.Inf(1), math.Inf(-1)
		for i, v := range values {
			if col.IsValid(i) && !math.IsNaN(v) {
				lo, hi = min(lo, v), max(hi, v)
			}
		}
		if lo <= hi && !math.IsInf(lo, 0) && !math.IsInf(hi, 0) {
			s.Min[name], s.Max[name] = json.RawMessage(strconv.FormatFloat(lo, 'g', -1, 64)), json.RawMessage(strconv.FormatFloat(hi, 'g', -1, 64))
		}
	}
	floats("f", rec.Column(1).(*array.Float64).Float64Values(), rec.Column(1))
	g := make([]float64, rec.NumRows())
	for i, v := range rec.Column(2).(*array.Float32).Float32Values() {
		g[i], _ = strconv.ParseFloat(strconv.FormatFloat(float64(v), 'g', -1, 32), 64)
	}
	floats("g", g, rec.Column(2))
	for _, m := range []map[string]json.RawMessage{s.Min, s.Max} {
		if raw, ok := m["m"]; ok && r.IntN(2) == 0 { // a decimal through float64
			f, _ := strconv.ParseFloat(string(raw), 64)
			m["m"] = json.RawMessage(strconv.FormatFloat(f, 'g', -1, 64))
		}
	}
	if lo, ok := s.Min["t"]; ok { // cut to milliseconds, the greatest too
		var hi time.Time
		for i, v := range rec.Column(6).(*array.Timestamp).TimestampValues() {
			if at := time.UnixMicro(int64(v)).UTC(); rec.Column(6).IsValid(i) && (hi.IsZero() || at.After(hi)) {
				hi = at
			}
		}
		s.Max["t"] = json.RawMessage(hi.Truncate(time.Millisecond).Format(`"2006-01-02T15:04:05.000Z"`))
		s.Min["t"] = lo
	}
	if _, ok := s.Max["s"]; ok { // cut, and not raised
		hi := ""
		for i := range int(rec.NumRows()) {
			if col := rec.Column(3).(*array.String); col.IsValid(i) {
				hi = max(hi, col.Value(i))
			}
		}
		if runes := []rune(hi); len(runes) > 32 {
			hi = string(runes[:32])
		}
		raw, err := json.Marshal(hi)
		if err != nil {
			panic(err)
		}
		s.Max["s"] = raw
	}
	out, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(out)
}

func propertyNode(r *rand.Rand, schema *arrow.Schema, depth int) *predicate.Node {
	if depth > 0 && r.IntN(3) == 0 {
		a, b := propertyNode(r, schema, depth-1), propertyNode(r, schema, depth-1)
		if r.IntN(2) == 0 {
			return predicate.All(a, b)
		}
		return predicate.Any(a, b)
	}
	f := schema.Field(r.IntN(schema.NumFields()))
	path, typ := []string{f.Name}, f.Type
	if st, ok := typ.(*arrow.StructType); ok {
		path, typ = append(path, "i"), st.Field(0).Type
	}
	value := func() predicate.Value {
		t := typ
		if typ.ID() == arrow.INT64 && r.IntN(4) == 0 {
			t = []arrow.DataType{arrow.PrimitiveTypes.Float64, &arrow.Decimal128Type{Precision: 38, Scale: 4}}[r.IntN(2)]
		}
		return pool(r, t, r.Int64N(20)-10)
	}
	switch op := predicate.Op(int(predicate.Eq) + r.IntN(10)); op {
	case predicate.IsNull, predicate.IsNotNull:
		return predicate.Null(path, op == predicate.IsNull)
	case predicate.In:
		return predicate.OneOf(path, value(), value())
	case predicate.Prefix:
		if typ.ID() == arrow.STRING {
			text := []rune(value().Text())
			return predicate.Compare(op, path, predicate.String(string(text[:r.IntN(len(text)+1)])))
		}
		fallthrough
	default:
		return predicate.Compare(min(op, predicate.Ge), path, value())
	}
}

type answer int

const (
	no answer = iota
	null
	yes
)

// truth evaluates a condition on a row the slow and sure way.
func truth(p *predicate.Node, rec arrow.Record, row int) answer {
	of := func(b bool) answer {
		if b {
			return yes
		}
		return no
	}
	switch p.Op {
	case predicate.And, predicate.Or:
		out := truth(p.Args[0], rec, row)
		for _, a := range p.Args[1:] {
			if p.Op == predicate.And {
				out = min(out, truth(a, rec, row))
			} else {
				out = max(out, truth(a, rec, row))
			}
		}
		return out
	}
	col := rec.Column(rec.Schema().FieldIndices(p.Column[0])[0])
	valid := col.IsValid(row)
	if len(p.Column) > 1 {
		col = col.(*array.Struct).Field(0)
		valid = valid && col.IsValid(row)
	}
	switch {
	case p.Op == predicate.IsNull || p.Op == predicate.IsNotNull:
		return of(valid == (p.Op == predicate.IsNotNull))
	case !valid:
		return null
	}
	for _, v := range p.Values {
		c := compareRow(col, row, v)
		holds := map[predicate.Op]bool{predicate.Eq: c == 0, predicate.In: c == 0, predicate.Ne: c != 0, predicate.Lt: c < 0, predicate.Le: c <= 0, predicate.Gt: c > 0, predicate.Ge: c >= 0}
		if p.Op == predicate.Prefix {
			holds[p.Op] = strings.HasPrefix(col.(*array.String).Value(row), v.Text())
		}
		if holds[p.Op] {
			return yes
		}
	}
	return no
}

func compareRow(col arrow.Array, row int, v predicate.Value) int {
	total := func(a, b float64) int { // NaN is greatest
		switch {
		case math.IsNaN(a) && math.IsNaN(b) || a == b:
			return 0
		case math.IsNaN(a) || a > b:
			return 1
		}
		return -1
	}
	rat := func(n predicate.Number) *big.Rat {
		x, _ := new(big.Rat).SetString(n.String())
		return x
	}
	switch a := col.(type) {
	case *array.Int64:
		if v.Kind() == predicate.KindFloat {
			return total(float64(a.Value(row)), v.Float())
		}
		return new(big.Rat).SetInt64(a.Value(row)).Cmp(rat(v.Number()))
	case *array.Float64:
		return total(a.Value(row), v.Float())
	case *array.Float32:
		return total(float64(a.Value(row)), v.Float())
	case *array.String:
		return strings.Compare(a.Value(row), v.Text())
	case *array.Boolean:
		b := int64(0)
		if a.Value(row) {
			b = 1
		}
		return int(b - v.Int())
	case *array.Date32:
		return int(int64(a.Value(row)) - v.Int())
	case *array.Timestamp:
		return int(int64(a.Value(row)) - v.Int())
	case *array.Decimal128:
		x := new(big.Rat).SetInt(a.Value(row).BigInt())
		return x.Quo(x, big.NewRat(10_000, 1)).Cmp(rat(v.Number()))
	}
	panic(col)
}

// BenchmarkPrune judges 50,000 files by two columns of twenty.
func BenchmarkPrune(b *testing.B) {
	var fields []arrow.Field
	for i := range 20 {
		fields = append(fields, arrow.Field{Name: fmt.Sprintf("column_%d", i), Type: arrow.PrimitiveTypes.Int64, Nullable: true})
	}
	schema := arrow.NewSchema(fields, nil)
	files := make([]File, 50_000)
	for i := range files {
		parts := make([][]string, 3)
		for j := range fields {
			for k, v := range []int{i * 10, i*10 + 9, j} {
				parts[k] = append(parts[k], fmt.Sprintf("%q:%d", fields[j].Name, v))
			}
		}
		files[i] = File{Tags: writerTags, Stats: fmt.Sprintf(`{"numRecords":1000,"minValues":{%s},"maxValues":{%s},"nullCount":{%s}}`,
			strings.Join(parts[0], ","), strings.Join(parts[1], ","), strings.Join(parts[2], ","))}
	}
	snap := snapshotOf(schema, nil, files...)
	p := predicate.All(cmpNode("column_3", predicate.Ge, predicate.Int(1000)), cmpNode("column_17", predicate.Lt, predicate.Int(1050)))
	b.ReportAllocs()
	for b.Loop() {
		if keep, _ := snap.Prune(p); len(keep) != 5 {
			b.Fatal(len(keep))
		}
	}
}
