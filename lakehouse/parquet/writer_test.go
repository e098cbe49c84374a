package parquet

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/metadata"
)

// TestRowGroups: what goes in group by group comes out group by group, and as a whole.
func TestRowGroups(t *testing.T) {
	for seed := range uint64(60) {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		r := rand.New(rand.NewPCG(seed, 5))
		o := Options{Deltas: []string{"_offset"}, Zstd: r.IntN(2) == 0, Bounds: r.IntN(2) == 0, SizeHint: r.IntN(2) << 20}
		w, err := NewWriter(everyType(), o)
		if err != nil {
			t.Fatal(err)
		}
		var groups []arrow.Record
		rows := int64(0)
		for range r.IntN(5) {
			rec := random(mem, everyType(), r, []int{0, 1, 2, 100, 2000}[r.IntN(5)], []int{1, 3, 100, 1 << 20}[r.IntN(4)])
			if err := w.WriteGroup(rec); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			groups, rows = append(groups, rec), rows+rec.NumRows()
		}
		buf, err := w.Finish()
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		rd, err := NewReader(buf.Bytes())
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if rd.NumRowGroups() != len(groups) || rd.NumRows() != rows || rd.Schema().NumFields() != everyType().NumFields() {
			t.Fatalf("seed %d: %d groups, %d rows, columns %s", seed, rd.NumRowGroups(), rd.NumRows(), rd.Schema())
		}
		for i, want := range groups {
			got, err := rd.ReadGroup(t.Context(), i)
			if err != nil || got.NumRows() != rd.GroupRows(i) {
				t.Fatalf("seed %d: group %d: %v", seed, i, err)
			}
			sameRows(t, fmt.Sprintf("seed %d, group %d of %d rows", seed, i, want.NumRows()), want, got)
			got.Release()
		}
		all, err := Decode(t.Context(), buf.Bytes())
		if err != nil || all.NumRows() != rows {
			t.Fatalf("seed %d: whole file: %v", seed, err)
		}
		at := int64(0)
		for i, want := range groups {
			part := all.NewSlice(at, at+want.NumRows())
			sameRows(t, fmt.Sprintf("seed %d, group %d in the whole", seed, i), want, part)
			part.Release()
			at += want.NumRows()
			want.Release()
		}
		all.Release()
		rd.Close()
		buf.Release()
		mem.AssertSize(t, 0)
	}
}

func sameRows(t *testing.T, what string, want, got arrow.Record) {
	t.Helper()
	for i, f := range want.Schema().Fields() {
		if !array.Equal(want.Column(i), got.Column(i)) && !array.ApproxEqual(want.Column(i), got.Column(i), array.WithNaNsEqual(true)) {
			t.Fatalf("%s: column %s %s:\n%v\n%v", what, f.Name, f.Type, want.Column(i), got.Column(i))
		}
	}
}

// TestBounds reads the footer's bounds of three row groups: exact where there are some,
// and none where a reader could leave out rows by them.
func TestBounds(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "st", Type: arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Float32, Nullable: true}), Nullable: true},
		{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "bin", Type: arrow.BinaryTypes.Binary},
		{Name: "ts", Type: utc},
		{Name: "k", Type: arrow.BinaryTypes.String},
	}, nil)
	long := strings.Repeat("x", maxBound+1)
	group := func(i []int64, x float32, f []float64, s []string) arrow.Record {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		defer b.Release()
		for n := range i {
			b.Field(0).(*array.Int64Builder).Append(i[n])
			b.Field(1).(*array.StructBuilder).Append(true)
			b.Field(1).(*array.StructBuilder).FieldBuilder(0).(*array.Float32Builder).Append(x)
			b.Field(2).(*array.Float64Builder).Append(f[n])
			if s[n] == "" {
				b.Field(3).AppendNull()
			} else {
				b.Field(3).(*array.StringBuilder).Append(s[n])
			}
			b.Field(4).(*array.BinaryBuilder).Append([]byte{1})
			b.Field(5).(*array.TimestampBuilder).Append(arrow.Timestamp(-i[n]))
			b.Field(6).(*array.StringBuilder).Append("k")
		}
		return b.NewRecord()
	}
	w, err := NewWriter(schema, Options{Zstd: true, Bounds: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range []arrow.Record{
		group([]int64{5, -7, 5}, 1, []float64{1.5, -2, 1.5}, []string{"é", "a", ""}),
		group([]int64{9, 9, 9}, float32(math.Inf(-1)), []float64{1, math.NaN(), 3}, []string{"same", "same", "same"}),
		group([]int64{1, 2, 3}, 7, []float64{math.Inf(1), 2, 3}, []string{long, "b", "c"}),
	} {
		if err := w.WriteGroup(rec); err != nil {
			t.Fatal(err)
		}
		rec.Release()
	}
	buf, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	defer buf.Release()
	r, err := file.NewParquetReader(bytes.NewReader(buf.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for g := range r.NumRowGroups() {
		for c := range r.MetaData().Schema.NumColumns() {
			chunk, err := r.MetaData().RowGroup(g).ColumnChunk(c)
			if err != nil {
				t.Fatal(err)
			}
			got += boundsText(t, chunk) + " "
			if s := r.MetaData().RowGroups[g].Columns[c].MetaData.Statistics; s != nil && s.IsSetDistinctCount() {
				t.Errorf("row group %d, column %d: a number of distinct values that nobody has counted", g, c)
			}
		}
		got += "\n"
	}
	want := "-7..5/0 1..1/0 -2..1.5/0 a..é/1 none -5..7/0 k..k/0 \n" +
		"9..9/0 unbounded/0 unbounded/0 same..same/0 none -9..-9/0 k..k/0 \n" +
		"1..3/0 7..7/0 unbounded/0 unbounded/0 none -3..-1/0 k..k/0 \n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for i, order := range r.MetaData().ColumnOrders {
		if !order.IsSetTYPE_ORDER() {
			t.Errorf("column %d has no order, so that no reader trusts its bounds", i)
		}
	}
	sizes := map[bool]int{}
	for _, bounds := range []bool{false, true} { // and without the option there are none
		rec := group([]int64{1}, 1, []float64{1}, []string{"a"})
		buf, err := Encode(rec, Options{Bounds: bounds})
		if err != nil {
			t.Fatal(err)
		}
		sizes[bounds] = buf.Len()
		buf.Release()
		rec.Release()
	}
	if sizes[true] <= sizes[false] {
		t.Errorf("sizes %v", sizes)
	}
}

func boundsText(t *testing.T, chunk *metadata.ColumnChunkMetaData) string {
	t.Helper()
	s, err := chunk.Statistics()
	switch {
	case err != nil:
		t.Fatal(err)
	case s == nil:
		return "none"
	case !s.HasMinMax():
		return fmt.Sprint("unbounded/", s.NullCount())
	}
	switch s := s.(type) {
	case *metadata.Int64Statistics:
		return fmt.Sprintf("%d..%d/%d", s.Min(), s.Max(), s.NullCount())
	case *metadata.Float64Statistics:
		return fmt.Sprintf("%v..%v/%d", s.Min(), s.Max(), s.NullCount())
	case *metadata.Float32Statistics:
		return fmt.Sprintf("%v..%v/%d", s.Min(), s.Max(), s.NullCount())
	case *metadata.ByteArrayStatistics:
		return fmt.Sprintf("%s..%s/%d", s.Min(), s.Max(), s.NullCount())
	}
	t.Fatalf("%T", s)
	return ""
}

func TestWriterRefuses(t *testing.T) {
	rec := transactions(10)
	defer rec.Release()
	less := withoutRaw(rec)
	defer less.Release()
	for name, c := range map[string]struct {
		schema *arrow.Schema
		want   string
	}{
		"columns": {less.Schema(), "10 columns for a file of 9"},
		"names":   {arrow.NewSchema(append([]arrow.Field{{Name: "other", Type: arrow.BinaryTypes.String}}, rec.Schema().Fields()[1:]...), nil), "column tx_id utf8 where the file has other utf8"},
		"types":   {arrow.NewSchema(append([]arrow.Field{{Name: "tx_id", Type: arrow.PrimitiveTypes.Int64}}, rec.Schema().Fields()[1:]...), nil), "column tx_id utf8 where the file has tx_id int64"},
		"nulls":   {required(rec.Schema(), "online"), "column online is required and has 1 nulls"},
	} {
		w, err := NewWriter(c.schema, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.WriteGroup(rec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := w.Finish(); err == nil {
			t.Errorf("%s: a file after an error", name)
		}
	}
	if _, err := NewWriter(arrow.NewSchema(nil, nil), Options{}); err == nil {
		t.Error("a file without columns")
	}
}

func required(s *arrow.Schema, name string) *arrow.Schema {
	fields := s.Fields()
	for i := range fields {
		if fields[i].Name == name {
			fields[i].Nullable = false
		}
	}
	return arrow.NewSchema(fields, nil)
}

// TestReaderOfDamagedGroups: damage in one place does not panic, whichever group is read.
func TestReaderOfDamagedGroups(t *testing.T) {
	rec := transactions(200)
	defer rec.Release()
	w, err := NewWriter(rec.Schema(), Options{Zstd: true, Bounds: true})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := w.WriteGroup(rec); err != nil {
			t.Fatal(err)
		}
	}
	buf, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	defer buf.Release()
	r := rand.New(rand.NewPCG(1, 2))
	failed := 0
	for range 300 {
		data := bytes.Clone(buf.Bytes())
		for range 3 {
			data[r.IntN(len(data))] ^= byte(1 + r.IntN(255))
		}
		rd, err := NewReader(data)
		if err != nil {
			failed++
			continue
		}
		for i := range rd.NumRowGroups() {
			if rec, err := rd.ReadGroup(t.Context(), i); err == nil {
				rec.Release()
			} else {
				failed++
			}
		}
		rd.Close()
	}
	if failed == 0 {
		t.Error("no damage was seen")
	}
	rd, err := NewReader(buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{-1, 3} {
		if _, err := rd.ReadGroup(t.Context(), i); err == nil {
			t.Errorf("row group %d of 3 was read", i)
		}
	}
}

// TestIndexed: a column of strings comes back as it was, however its dictionary was made.
func TestIndexed(t *testing.T) {
	rows := 5000
	for name, value := range map[string]func(i int) (string, bool){
		"few":            func(i int) (string, bool) { return fmt.Sprint("v", i%7), true },
		"few, and nulls": func(i int) (string, bool) { return fmt.Sprint("v", i%7), i%3 > 0 },
		"empty":          func(i int) (string, bool) { return []string{"", "a"}[i%2], true },
		"only nulls":     func(int) (string, bool) { return "", false },
		"too large":      func(i int) (string, bool) { return strings.Repeat(fmt.Sprint(i%600), 1000), true },
		"long, then few": func(i int) (string, bool) { return strings.Repeat("x", 1+i/4000*200_000), true },
	} {
		t.Run(name, func(t *testing.T) {
			schema := arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
			b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
			defer b.Release()
			for i := range rows {
				if v, ok := value(i); ok {
					b.Field(0).(*array.StringBuilder).Append(v)
				} else {
					b.Field(0).AppendNull()
				}
			}
			whole := b.NewRecord()
			defer whole.Release()
			for _, rec := range []arrow.Record{whole, whole.NewSlice(3, int64(rows)-5)} {
				buf, err := Encode(rec, Options{})
				if err != nil {
					t.Fatal(err)
				}
				got, err := Decode(t.Context(), buf.Bytes())
				if err != nil {
					t.Fatal(err)
				}
				if !array.Equal(got.Column(0), rec.Column(0)) {
					t.Errorf("%d rows come back different", rec.NumRows())
				}
				got.Release()
			}
		})
	}
}
