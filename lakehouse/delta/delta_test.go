package delta

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

func ptr(s string) *string { return &s }

func TestCommitRoundTrip(t *testing.T) {
	in := &Commit{
		Info:     &CommitInfo{Timestamp: 1, Operation: "WRITE", OperationParameters: Parameters{"a": "b"}, IsBlindAppend: true, EngineInfo: EngineInfo, TxnID: "x"},
		Protocol: &Protocol{MinReaderVersion: 1, MinWriterVersion: 2},
		Metadata: &Metadata{ID: "id", Format: Format{"parquet", map[string]string{}}, SchemaString: "{}", PartitionColumns: []string{"d"}, Configuration: map[string]string{"k": "v"}, CreatedTime: 5},
		Txns:     []Txn{{"connector/topic/3", 42, 7}},
		Adds:     []Add{{Path: "d=1/x.parquet", PartitionValues: map[string]*string{"d": ptr("1"), "e": nil}, Size: 1, ModificationTime: 2, DataChange: true, Stats: `{"numRecords":1}`, Tags: map[string]string{"t": "<&>"}}},
		Removes:  []Remove{{Path: "y", DeletionTimestamp: 1, ExtendedFileMetadata: true, PartitionValues: map[string]*string{"d": nil}, Size: 4}},
	}
	data, err := in.Encode()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if len(lines) != 6 {
		t.Fatalf("%d lines: %s", len(lines), data)
	}
	for _, l := range lines {
		var one map[string]any
		if err := json.Unmarshal([]byte(l), &one); err != nil || len(one) != 1 {
			t.Errorf("%s: %v", l, err)
		}
	}
	out, err := Decode(data)
	if err != nil || !reflect.DeepEqual(in, out) {
		t.Fatalf("%v\n%+v\n%+v", err, in, out)
	}
	// What the protocol requires is written also when it is empty.
	data, _ = (&Commit{Adds: []Add{{Path: "x"}}}).Encode()
	for _, want := range []string{`"partitionValues":{}`, `"size":0`, `"modificationTime":0`, `"dataChange":false`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s lacks %s", data, want)
		}
	}
	for _, c := range []*Commit{{Adds: []Add{{Path: "x"}, {Path: "x"}}}, {Adds: []Add{{Path: "x"}}, Removes: []Remove{{Path: "x"}}}, {Txns: []Txn{{AppID: "x"}, {AppID: "x"}}}} {
		if _, err := c.Encode(); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

func TestProtocolNamesTheFeature(t *testing.T) {
	type list = []string
	for _, c := range []struct {
		p           Protocol
		read, write string // the feature that is refused; empty: none
	}{
		{Protocol{1, 2, nil, nil}, "", ""}, {Protocol{1, 1, nil, nil}, "", ""},
		{Protocol{1, 3, nil, nil}, "", "checkConstraints"}, {Protocol{1, 4, nil, nil}, "", "changeDataFeed"}, {Protocol{1, 6, nil, nil}, "", "identityColumns"},
		{Protocol{2, 5, nil, nil}, "columnMapping", "columnMapping"},
		{Protocol{1, 7, nil, list{"appendOnly", "invariants"}}, "", "appendOnly, invariants"}, {Protocol{3, 7, list{}, list{}}, "", "table features"}, {Protocol{3, 7, nil, nil}, "", "table features"},
		{Protocol{1, 7, nil, list{"domainMetadata", "appendOnly"}}, "", "domainMetadata, appendOnly"},
		{Protocol{1, 7, nil, list{"checkConstraints", "generatedColumns", "changeDataFeed"}}, "", "checkConstraints, generatedColumns, changeDataFeed"},
		{Protocol{3, 7, list{"v2Checkpoint"}, list{"v2Checkpoint", "inCommitTimestamp"}}, "v2Checkpoint", "v2Checkpoint"},
		{Protocol{3, 7, list{"deletionVectors"}, list{"deletionVectors"}}, "deletionVectors", "deletionVectors"},
		{Protocol{3, 7, list{"timestampNtz", "vacuumProtocolCheck"}, list{"timestampNtz", "vacuumProtocolCheck"}}, "timestampNtz", "timestampNtz"},
		{Protocol{3, 7, list{"vacuumProtocolCheck"}, list{"vacuumProtocolCheck"}}, "", "vacuumProtocolCheck"}, {Protocol{3, 7, list{"vacuumProtocolCheck"}, nil}, "", "vacuumProtocolCheck"},
		{Protocol{1, 7, list{"someday"}, nil}, "someday", "someday"}, {Protocol{4, 7, nil, nil}, "reader version 4", "reader version 4"}, {Protocol{1, 9, nil, nil}, "", "writer version 9"},
	} {
		for what, check := range map[string]struct {
			err  error
			want string
		}{"read": {c.p.CheckRead(), c.read}, "write": {c.p.CheckWrite(), c.write}} {
			var u *UnsupportedError
			if check.want == "" && check.err != nil || check.want != "" && (!errors.As(check.err, &u) || !strings.HasPrefix(u.Feature, check.want)) {
				t.Errorf("%s %+v: %v, want %q", what, c.p, check.err, check.want)
			}
		}
	}
}

// TestWritersDemandsDoNotBindReaders: a column whose values its writer must make or check
// is read like any other, and keeps us from writing wherever it stands.
func TestWritersDemandsDoNotBindReaders(t *testing.T) {
	for key, feature := range map[string]string{"delta.invariants": "invariants", "delta.generationExpression": "generatedColumns", "delta.identity.start": "identityColumns"} {
		field := `{"name":"x","type":"long","nullable":true,"metadata":{"` + key + `":"1"}}`
		inner := `{"type":"struct","fields":[` + field + `]}`
		for where, typ := range map[string]string{
			"column a.x ": inner, "column a.element.x ": `{"type":"array","elementType":` + inner + `,"containsNull":true}`,
			"column a.value.x ": `{"type":"map","keyType":"string","valueType":` + inner + `,"valueContainsNull":true}`,
		} {
			m := &Metadata{SchemaString: `{"type":"struct","fields":[{"name":"a","type":` + typ + `,"nullable":true,"metadata":{}}]}`}
			if _, err := ParseSchema(m.SchemaString); err != nil {
				t.Errorf("%s: %v", m.SchemaString, err)
			}
			var u *UnsupportedError
			if err := m.CheckWrite(); !errors.As(err, &u) || u.Feature != feature || !strings.Contains(u.Detail, where) {
				t.Errorf("%s: %v, want %s of %s", m.SchemaString, err, feature, where)
			}
		}
		m := &Metadata{SchemaString: `{"type":"struct","fields":[` + field + `]}`}
		if err := m.CheckWrite(); err == nil || !strings.Contains(err.Error(), "column x ") {
			t.Error(err)
		}
	}
	if err := (&Metadata{SchemaString: `{"type":"struct","fields":[{"name":"x","type":"long","nullable":true,"metadata":{"comment":"delta.invariants"}}]}`}).CheckWrite(); err != nil {
		t.Error(err)
	}
}

func TestSchemaRoundTrip(t *testing.T) {
	inner := []arrow.Field{{Name: "x", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "y", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64)}}
	var fields []arrow.Field
	for i, dt := range []arrow.DataType{
		arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Float64,
		arrow.PrimitiveTypes.Float32, arrow.FixedWidthTypes.Boolean, timestampType, arrow.FixedWidthTypes.Date32, arrow.BinaryTypes.Binary, &arrow.Decimal128Type{Precision: 20, Scale: 4},
		arrow.ListOf(arrow.StructOf(inner...)), arrow.ListOfNonNullable(arrow.PrimitiveTypes.Int32), arrow.StructOf(inner...), arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64),
	} {
		fields = append(fields, arrow.Field{Name: fmt.Sprint("c", i), Type: dt, Nullable: i%2 == 0})
	}
	in := arrow.NewSchema(fields, nil)
	s, err := SchemaString(in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := ParseSchema(s)
	if err != nil || !out.Equal(in) {
		t.Fatalf("%v\n%v\n%v", err, in, out)
	}
	want := `{"type":"struct","fields":[{"name":"a","type":"decimal(5,2)","nullable":false,"metadata":{}},{"name":"b","type":{"type":"array","elementType":"long","containsNull":true},"nullable":true,"metadata":{}}]}`
	s, err = SchemaString(arrow.NewSchema([]arrow.Field{{Name: "a", Type: &arrow.Decimal128Type{Precision: 5, Scale: 2}}, {Name: "b", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64), Nullable: true}}, nil))
	if err != nil || s != want {
		t.Errorf("%v\n%s\n%s", err, s, want)
	}
	for name, dt := range map[string]arrow.DataType{"uint64": arrow.PrimitiveTypes.Uint64, "timestamp[ns": arrow.FixedWidthTypes.Timestamp_ns, "timestamp[us": &arrow.TimestampType{Unit: arrow.Microsecond}, "time64": arrow.FixedWidthTypes.Time64us, "duration": arrow.FixedWidthTypes.Duration_us} {
		s := arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.StructOf(arrow.Field{Name: "bad", Type: dt})}}, nil)
		if _, err := SchemaString(s); err == nil || !strings.Contains(err.Error(), "column s.bad") || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type statsJSON struct {
	NumRecords                      int64
	MinValues, MaxValues, NullCount map[string]any
}

func statsOf(t *testing.T, fields []arrow.Field, fill func(b *array.RecordBuilder)) (string, statsJSON) {
	t.Helper()
	m := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer m.AssertSize(t, 0)
	b := array.NewRecordBuilder(m, arrow.NewSchema(fields, nil))
	defer b.Release()
	fill(b)
	rec := b.NewRecord()
	defer rec.Release()
	s := Stats(rec)
	var out statsJSON
	if err := json.Unmarshal([]byte(s), &out); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return s, out
}

// TestStatsExact pins the texts that other readers parse.
func TestStatsExact(t *testing.T) {
	f := func(name string, dt arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: dt, Nullable: true}
	}
	long := strings.Repeat("é", 40)
	fields := []arrow.Field{
		f("s", arrow.BinaryTypes.String), f("l", arrow.PrimitiveTypes.Int64), f("d", arrow.PrimitiveTypes.Float64), f("f", arrow.PrimitiveTypes.Float32), f("nan", arrow.PrimitiveTypes.Float64),
		f("inf", arrow.PrimitiveTypes.Float32), f("b", arrow.FixedWidthTypes.Boolean), f("ts", timestampType), f("day", arrow.FixedWidthTypes.Date32), f("bin", arrow.BinaryTypes.Binary),
		f("dec", &arrow.Decimal128Type{Precision: 38, Scale: 3}), f("none", arrow.PrimitiveTypes.Int32), f("list", arrow.ListOf(arrow.PrimitiveTypes.Int64)),
		f("st", arrow.StructOf(f("x", arrow.PrimitiveTypes.Int32), f("in", arrow.StructOf(f("y", arrow.BinaryTypes.String))))),
	}
	big, _ := decimal128.FromString("-12345678901234567890123456789012345.678", 38, 3)
	got, _ := statsOf(t, fields, func(b *array.RecordBuilder) {
		b.Field(0).(*array.StringBuilder).AppendValues([]string{long, "\"q\"\n", ""}, []bool{true, true, false})
		b.Field(1).(*array.Int64Builder).AppendValues([]int64{math.MaxInt64, math.MinInt64, 0}, nil)
		b.Field(2).(*array.Float64Builder).AppendValues([]float64{1e300, -0.1, 3}, nil)
		b.Field(3).(*array.Float32Builder).AppendValues([]float32{0.1, 16777216, 3}, nil)
		b.Field(4).(*array.Float64Builder).AppendValues([]float64{1, math.NaN(), 3}, nil)
		b.Field(5).(*array.Float32Builder).AppendValues([]float32{1, float32(math.Inf(-1)), 3}, []bool{true, true, false})
		b.Field(6).(*array.BooleanBuilder).AppendValues([]bool{true, false, true}, []bool{true, true, false})
		b.Field(7).(*array.TimestampBuilder).AppendValues([]arrow.Timestamp{-1, 1767225600000001, 0}, nil)
		b.Field(8).(*array.Date32Builder).AppendValues([]arrow.Date32{-1, 20454, 0}, nil)
		b.Field(9).(*array.BinaryBuilder).AppendValues([][]byte{{1}, nil, {2}}, []bool{true, false, true})
		b.Field(10).(*array.Decimal128Builder).AppendValues([]decimal128.Num{big, decimal128.FromI64(5), decimal128.FromI64(-5)}, nil)
		b.Field(11).AppendNulls(3)
		b.Field(12).AppendNulls(3)
		st := b.Field(13).(*array.StructBuilder)
		st.AppendValues([]bool{true, false, true})
		st.FieldBuilder(0).(*array.Int32Builder).AppendValues([]int32{7, -100, 9}, []bool{true, true, true}) // -100 has no parent
		in := st.FieldBuilder(1).(*array.StructBuilder)
		in.AppendValues([]bool{true, true, false})
		in.FieldBuilder(0).(*array.StringBuilder).AppendValues([]string{"a", "0", "z"}, nil)
	})
	e := strings.Repeat("é", 32)
	want := `{"numRecords":3,"minValues":{"s":"\"q\"\n","l":-9223372036854775808,"d":-0.1,"f":0.1,"b":false,"ts":"1969-12-31T23:59:59.999Z","day":"1969-12-31","dec":-12345678901234567890123456789012345.678,"st":{"x":7,"in":{"y":"a"}}},` +
		`"maxValues":{"s":"` + e + "\U0010FFFF" + `","l":9223372036854775807,"d":1e+300,"f":1.6777216e+07,"b":true,"ts":"2026-01-01T00:00:00.001Z","day":"2026-01-01","dec":0.005,"st":{"x":9,"in":{"y":"a"}}},` +
		`"nullCount":{"s":1,"l":0,"d":0,"f":0,"nan":0,"inf":1,"b":1,"ts":0,"day":0,"bin":1,"dec":0,"none":3,"st":{"x":1,"in":{"y":2}}}}`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestStatsLimits(t *testing.T) {
	var fields []arrow.Field
	for i := range 40 {
		fields = append(fields, arrow.Field{Name: fmt.Sprint("c", i), Type: arrow.PrimitiveTypes.Int64})
	}
	_, s := statsOf(t, fields, func(b *array.RecordBuilder) {
		for i := range 40 {
			b.Field(i).(*array.Int64Builder).Append(1)
		}
	})
	if len(s.MinValues) != 32 || len(s.NullCount) != 32 || s.MinValues["c31"] == nil {
		t.Errorf("%d columns", len(s.MinValues))
	}
	// Dates that have no text of four-digit years, strings that are not UTF-8.
	_, s = statsOf(t, []arrow.Field{{Name: "ts", Type: timestampType}, {Name: "d", Type: arrow.FixedWidthTypes.Date32}, {Name: "s", Type: arrow.BinaryTypes.String}}, func(b *array.RecordBuilder) {
		b.Field(0).(*array.TimestampBuilder).AppendValues([]arrow.Timestamp{math.MinInt64, math.MaxInt64}, nil)
		b.Field(1).(*array.Date32Builder).AppendValues([]arrow.Date32{0, math.MaxInt32}, nil)
		b.Field(2).(*array.StringBuilder).AppendValues([]string{"a", "\xff"}, nil)
	})
	if len(s.MinValues)+len(s.MaxValues) != 0 {
		t.Errorf("%v %v", s.MinValues, s.MaxValues)
	}
}

// TestStringBounds: whatever the strings, no value lies outside of the bounds.
func TestStringBounds(t *testing.T) {
	alphabet := []rune{'a', 'b', 0x7e, 0x7f, 0x80, 'é', 0xFFFF, 0x10000, 0x10FFFF}
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		var values []string
		prefix := strings.Repeat(string(alphabet[r.IntN(len(alphabet))]), r.IntN(35))
		for range 1 + r.IntN(5) {
			v := prefix
			for range r.IntN(40) {
				v += string(alphabet[r.IntN(len(alphabet))])
			}
			values = append(values, v)
		}
		_, s := statsOf(t, []arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String}}, func(b *array.RecordBuilder) { b.Field(0).(*array.StringBuilder).AppendValues(values, nil) })
		lo, hi := s.MinValues["s"].(string), s.MaxValues["s"].(string)
		for _, v := range values {
			if v < lo || v > hi {
				t.Fatalf("seed %d: %q is not in %q to %q", seed, v, lo, hi)
			}
		}
		if n := len([]rune(lo)); n > 32 {
			t.Fatalf("seed %d: a minimum of %d runes", seed, n)
		}
	}
}

func TestPartitionValues(t *testing.T) {
	m := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer m.AssertSize(t, 0)
	dec := &arrow.Decimal128Type{Precision: 10, Scale: 3}
	ts := func(s string) arrow.Timestamp {
		v, _ := time.Parse(time.RFC3339Nano, s)
		return arrow.Timestamp(v.UnixMicro())
	}
	for _, c := range []struct {
		t    arrow.DataType
		add  func(array.Builder)
		want string
	}{
		{arrow.BinaryTypes.String, func(b array.Builder) { b.(*array.StringBuilder).Append("a b/ü=%") }, "a b/ü=%"},
		{arrow.PrimitiveTypes.Int64, func(b array.Builder) { b.(*array.Int64Builder).Append(-5) }, "-5"},
		{arrow.PrimitiveTypes.Int32, func(b array.Builder) { b.(*array.Int32Builder).Append(5) }, "5"},
		{arrow.PrimitiveTypes.Int8, func(b array.Builder) { b.(*array.Int8Builder).Append(5) }, "5"},
		{arrow.FixedWidthTypes.Boolean, func(b array.Builder) { b.(*array.BooleanBuilder).Append(true) }, "true"},
		{arrow.FixedWidthTypes.Date32, func(b array.Builder) { b.(*array.Date32Builder).Append(20454) }, "2026-01-01"},
		{arrow.FixedWidthTypes.Date32, func(b array.Builder) { b.(*array.Date32Builder).Append(-1) }, "1969-12-31"},
		{timestampType, func(b array.Builder) { b.(*array.TimestampBuilder).Append(ts("2026-01-01T00:00:00.12Z")) }, "2026-01-01T00:00:00.120000Z"},
		{timestampType, func(b array.Builder) { b.(*array.TimestampBuilder).Append(-1) }, "1969-12-31T23:59:59.999999Z"},
		{dec, func(b array.Builder) { b.(*array.Decimal128Builder).Append(decimal128.FromI64(-5)) }, "-0.005"},
	} {
		b := array.NewBuilder(m, c.t)
		c.add(b)
		b.AppendNull()
		a := b.NewArray()
		v, err := PartitionValue(a, 0)
		if err != nil || v == nil || *v != c.want {
			t.Errorf("%s: %v %v, want %q", c.t, v, err, c.want)
		}
		if v, err := PartitionValue(a, 1); v != nil || err != nil {
			t.Errorf("%s: null is %v, %v", c.t, v, err)
		}
		back, err := PartitionArray(m, c.t, &c.want, 3)
		if err != nil || back.Len() != 3 || !array.SliceEqual(back, 2, 3, a, 0, 1) {
			t.Errorf("%s: %q reads as %v, %v", c.t, c.want, back, err)
		}
		back.Release()
		null, err := PartitionArray(m, c.t, nil, 2)
		if err != nil || null.NullN() != 2 {
			t.Errorf("%s: null reads as %v, %v", c.t, null, err)
		}
		null.Release()
		a.Release()
		b.Release()
	}
	// Other writers' forms, and what is no value.
	old, err := PartitionArray(m, timestampType, ptr("2026-01-01 00:00:00"), 1)
	if err != nil || old.(*array.Timestamp).Value(0) != ts("2026-01-01T00:00:00Z") {
		t.Errorf("%v %v", old, err)
	}
	old.Release()
	for dt, s := range map[arrow.DataType]string{arrow.PrimitiveTypes.Int32: "3000000000", arrow.FixedWidthTypes.Date32: "1.1.2026", dec: "0.0001", timestampType: "x"} {
		if a, err := PartitionArray(m, dt, &s, 1); err == nil {
			a.Release()
			t.Errorf("%s: %q was read", dt, s)
		}
	}
}

func TestPaths(t *testing.T) {
	for in, want := range map[string]string{"d=1/a.parquet": "d=1/a.parquet", "a%20b": "a b", "a%2520b": "a%20b", "a+b": "a+b"} {
		if got, err := DecodePath(in); err != nil || got != want {
			t.Errorf("%s: %q %v", in, got, err)
		}
	}
	for _, in := range []string{"", "s3://b/k", "/abs", "%zz", "file%3A//x"} {
		if got, err := DecodePath(in); err == nil {
			t.Errorf("%s was read as %s", in, got)
		}
	}
	seen := map[string]string{}
	long := strings.Repeat("x", 300)
	for _, v := range []string{"DE", "a b", "a_b", "a/b", "a%2Fb", "../..", "ü", strings.Repeat("漢", 16), strings.Repeat("漢", 17), long, long[1:], "a-" + long} {
		d := PartitionDir("c", &v)
		if other, ok := seen[d]; ok || len(d) > 2+maxDirValue || strings.Trim(d, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._=-%") != "" {
			t.Errorf("%q and %q: %s", v, other, d)
		}
		seen[d] = v
		// Who reads the directory finds the value, but for the long ones.
		if back, err := url.PathUnescape(d); len(v) < 50 && (err != nil || back != "c="+v) {
			t.Errorf("%q: %s stands for %q, %v", v, d, back, err)
		}
		if path, err := DecodePath(EncodePath(d + "/a.parquet")); err != nil || path != d+"/a.parquet" {
			t.Errorf("%s: %s, %v", d, path, err)
		}
	}
	if PartitionDir("c", nil) != "c=__HIVE_DEFAULT_PARTITION__" || PartitionDir("d", ptr("2026-01-01")) != "d=2026-01-01" {
		t.Error("the usual forms")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"add":{"path":"x","size":1}}`))
	f.Add([]byte("{\"commitInfo\":1}\n{\"txn\":null}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := Decode(data); err == nil {
			if enc, err := c.Encode(); err == nil {
				if _, err := Decode(enc); err != nil {
					t.Errorf("%q is not read again: %v", enc, err)
				}
			}
		}
	})
}
