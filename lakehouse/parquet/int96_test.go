package parquet

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	pq "github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/schema"
)

// int96 is a time as Spark and Hive write it. What they count days by does not matter
// here: both know only one day after the other.
func int96(t time.Time) pq.Int96 {
	const unixDay = 24 * 60 * 60
	days := t.Unix() / unixDay
	if t.Unix()%unixDay < 0 {
		days--
	}
	var v pq.Int96
	binary.LittleEndian.PutUint64(v[:], uint64((t.Unix()-days*unixDay)*1e9+int64(t.Nanosecond())))
	binary.LittleEndian.PutUint32(v[8:], uint32(days+2440588))
	return v
}

// writeInt96 writes a file with INT96 columns at the top, in a struct's list and as a
// map's values, beside columns of 12 bytes that are none, in two row groups.
func writeInt96(t *testing.T, times []time.Time) []byte {
	t.Helper()
	must := func(n schema.Node, err error) schema.Node {
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	opt, rep, req := pq.Repetitions.Optional, pq.Repetitions.Repeated, pq.Repetitions.Required
	bytes12 := func(name string) schema.Node {
		return schema.NewFixedLenByteArrayNode(name, req, 12, -1)
	}
	list := must(schema.NewGroupNodeLogical("times", opt, schema.FieldList{
		must(schema.NewGroupNode("list", rep, schema.FieldList{schema.NewInt96Node("element", opt, -1)}, -1)),
	}, schema.NewListLogicalType(), -1))
	dict := must(schema.NewGroupNodeLogical("m", opt, schema.FieldList{
		must(schema.NewGroupNode("key_value", rep, schema.FieldList{
			must(schema.NewPrimitiveNodeLogical("key", req, schema.StringLogicalType{}, pq.Types.ByteArray, -1, -1)), schema.NewInt96Node("value", opt, -1),
		}, -1)),
	}, schema.MapLogicalType{}, -1))
	root := must(schema.NewGroupNode("schema", req, schema.FieldList{
		schema.NewInt96Node("t", opt, -1), bytes12("raw"), must(schema.NewGroupNode("s", opt, schema.FieldList{bytes12("raw"), list}, -1)), dict,
	}, -1)).(*schema.GroupNode)
	var buf bytes.Buffer
	w := file.NewParquetWriter(&buf, root)
	values := make([]pq.Int96, len(times))
	raw := make([]pq.FixedLenByteArray, len(times)+1)
	keys := make([]pq.ByteArray, len(times))
	for i, at := range times {
		values[i], raw[i], keys[i] = int96(at), []byte("twelve bytes"), []byte("k")
	}
	raw[len(times)] = raw[0]
	n := len(times)
	all := func(level int16) []int16 { return bytes16(level, n) }
	for range 2 { // rows: one for each time, and one of nulls
		g := w.AppendRowGroup()
		column := func(write func(cw file.ColumnChunkWriter) error) {
			cw, err := g.NextColumn()
			if err == nil {
				err = write(cw)
			}
			if err == nil {
				err = cw.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		ints := func(def, rep []int16) {
			column(func(cw file.ColumnChunkWriter) error {
				_, err := cw.(*file.Int96ColumnChunkWriter).WriteBatch(values, def, rep)
				return err
			})
		}
		ints(append(all(1), 0), nil)
		column(func(cw file.ColumnChunkWriter) error {
			_, err := cw.(*file.FixedLenByteArrayColumnChunkWriter).WriteBatch(raw, nil, nil)
			return err
		})
		column(func(cw file.ColumnChunkWriter) error {
			_, err := cw.(*file.FixedLenByteArrayColumnChunkWriter).WriteBatch(raw[:n], append(all(1), 0), nil)
			return err
		})
		// The first row's list has all times and a null, the others are empty.
		def, reps := append(all(4), 3), append([]int16{0}, bytes16(1, n)...)
		for range n - 1 {
			def, reps = append(def, 2), append(reps, 0)
		}
		ints(append(def, 0), append(reps, 0))
		column(func(cw file.ColumnChunkWriter) error {
			_, err := cw.(*file.ByteArrayColumnChunkWriter).WriteBatch(keys, append(all(2), 0), append(bytes16(0, n), 0))
			return err
		})
		ints(append(all(3), 0), append(bytes16(0, n), 0))
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func bytes16(v int16, n int) []int16 {
	out := make([]int16, n)
	for i := range out {
		out[i] = v
	}
	return out
}

func TestInt96(t *testing.T) {
	var times []time.Time
	for _, s := range []string{
		"0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000001Z", "1677-09-21T00:12:43.145224Z", "1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z",
		"2262-04-11T23:47:16.854776Z", "2026-02-28T12:34:56.789012Z", "9999-12-31T23:59:59.999999Z",
	} {
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, at)
	}
	// Finer than microseconds is cut off towards the past, on both sides of 1970.
	fine := append(times, time.Date(1900, 1, 1, 0, 0, 0, 1999, time.UTC), time.Date(2000, 1, 1, 0, 0, 0, 1999, time.UTC))
	want := append(times, time.Date(1900, 1, 1, 0, 0, 0, 1000, time.UTC), time.Date(2000, 1, 1, 0, 0, 0, 1000, time.UTC))
	r, err := NewReader(writeInt96(t, fine))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := r.Schema().Field(0).Type; !arrow.TypeEqual(got, int96Timestamp) || r.Schema().Field(1).Type.ID() != arrow.FIXED_SIZE_BINARY {
		t.Errorf("schema %s", r.Schema())
	}
	check := func(what string, a arrow.Array, from int) {
		t.Helper()
		ts, ok := a.(*array.Timestamp)
		if !ok || !arrow.TypeEqual(a.DataType(), int96Timestamp) {
			t.Fatalf("%s is of type %s", what, a.DataType())
		}
		for i, at := range want {
			if ts.IsNull(from+i) || int64(ts.Value(from+i)) != at.UnixMicro() {
				t.Errorf("%s %s was read as %s", what, at, ts.ValueStr(from+i))
			}
		}
		if ts.IsValid(from + len(want)) {
			t.Errorf("%s: null was read as %s", what, ts.ValueStr(from+len(want)))
		}
	}
	n := len(want)
	for g := range r.NumRowGroups() {
		rec, err := r.ReadGroup(t.Context(), g)
		if err != nil {
			t.Fatal(err)
		}
		check("column", rec.Column(0), 0)
		s := rec.Column(2).(*array.Struct)
		if raw := s.Field(0).(*array.FixedSizeBinary); string(raw.Value(0)) != "twelve bytes" || s.IsValid(n) {
			t.Errorf("struct is %s", s)
		}
		times := s.Field(1).(*array.List)
		check("element", times.ListValues(), 0)
		if from, to := times.ValueOffsets(0); from != 0 || int(to) != n+1 || times.IsValid(n) || times.IsNull(1) {
			t.Errorf("lists are %s", times)
		}
		m := rec.Column(3).(*array.Map)
		if m.Keys().Len() != n || m.IsValid(n) || int64(m.Items().(*array.Timestamp).Value(n-1)) != want[n-1].UnixMicro() {
			t.Errorf("maps are %s", m)
		}
		rec.Release()
		// A column by itself, behind others that have been left out.
		if rec, err = r.ReadColumns(t.Context(), g, []int{1, 3}); err != nil {
			t.Fatal(err)
		}
		if items, ok := rec.Column(1).(*array.Map).Items().(*array.Timestamp); !ok || int64(items.Value(0)) != want[0].UnixMicro() || rec.NumCols() != 2 {
			t.Errorf("some columns are %s", rec)
		}
		rec.Release()
	}
	all, err := Decode(t.Context(), writeInt96(t, fine))
	if err != nil || all.NumRows() != 2*int64(n+1) {
		t.Fatalf("whole file: %v", err)
	}
	defer all.Release()
	check("second group's column", all.Column(0), n+1)
}

// TestUnsupportedEncodingIsNamed: the decoder itself would find no values and say nothing.
func TestUnsupportedEncodingIsNamed(t *testing.T) {
	r, err := NewReader(writeInt96(t, []time.Time{time.Unix(0, 0)}))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	meta := r.r.MetaData()
	meta.RowGroups[1].Columns[2].MetaData.Encodings[0] = byteStreamSplit
	if _, err := r.ReadColumns(t.Context(), 1, []int{0, 1}); err != nil {
		t.Errorf("other columns: %v", err)
	}
	if _, err := r.ReadGroup(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "column s.raw is encoded as BYTE_STREAM_SPLIT") {
		t.Error(err)
	}
}
