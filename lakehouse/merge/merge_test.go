package merge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

var (
	utc  = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	keys = []arrow.DataType{
		arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int8,
		arrow.PrimitiveTypes.Float64, arrow.PrimitiveTypes.Float32, arrow.FixedWidthTypes.Boolean, utc, arrow.FixedWidthTypes.Date32,
		arrow.BinaryTypes.Binary, &arrow.Decimal128Type{Precision: 38, Scale: 3},
	}
	others = []arrow.DataType{
		arrow.ListOf(arrow.BinaryTypes.String), arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64),
		arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, arrow.Field{Name: "b", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true}),
	}
)

// everything has a column of each type, and one that numbers the rows as they come.
func everything() *arrow.Schema {
	var fields []arrow.Field
	for i, t := range slices.Concat(keys, others) {
		fields = append(fields, arrow.Field{Name: fmt.Sprint("c", i), Type: t, Nullable: true})
	}
	return arrow.NewSchema(append(fields, arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64}), nil)
}

func fill(r *rand.Rand, b array.Builder, distinct int) {
	if r.IntN(6) == 0 {
		b.AppendNull()
		return
	}
	v := r.IntN(distinct) - distinct/2
	switch b := b.(type) {
	case *array.StringBuilder:
		b.Append("same beginning "[:r.IntN(2)*15] + strings.Repeat("\x00", r.IntN(2)) + fmt.Sprint(v + 2000)[:r.IntN(5)])
	case *array.BinaryBuilder:
		b.Append(bytes.Repeat([]byte{byte(v)}, (v&15)+1))
	case *array.Int64Builder:
		b.Append(int64(v) << 40)
	case *array.Int32Builder:
		b.Append(int32(v))
	case *array.Int16Builder:
		b.Append(int16(v))
	case *array.Int8Builder:
		b.Append(int8(v))
	case *array.Float64Builder:
		b.Append([]float64{float64(v), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 0, math.NaN(), -math.NaN()}[r.IntN(7)])
	case *array.Float32Builder:
		b.Append([]float32{float32(v) / 3, float32(math.NaN())}[r.IntN(2)])
	case *array.BooleanBuilder:
		b.Append(v%2 == 0)
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(v) * 1_000_003)
	case *array.Date32Builder:
		b.Append(arrow.Date32(v))
	case *array.Decimal128Builder:
		b.Append(decimal128.New(int64(v%3), r.Uint64()>>r.IntN(64)))
	case *array.MapBuilder:
		b.Append(true)
		for i := range r.IntN(3) {
			b.KeyBuilder().(*array.StringBuilder).Append(fmt.Sprint(i))
			fill(r, b.ItemBuilder(), distinct)
		}
	case *array.ListBuilder:
		b.Append(true)
		for range r.IntN(3) {
			fill(r, b.ValueBuilder(), distinct)
		}
	case *array.StructBuilder:
		b.Append(true)
		for i := range b.NumField() {
			fill(r, b.FieldBuilder(i), distinct)
		}
	default:
		panic(fmt.Sprintf("%T", b))
	}
}

// random makes a record of n rows that are numbered from first. Sometimes it is a part
// of another, so that there are offsets everywhere.
func random(r *rand.Rand, n int, first int64) arrow.Record {
	schema := everything()
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	before := r.IntN(2) * r.IntN(10)
	for i := range schema.NumFields() - 1 {
		distinct := []int{2, 10, 1000}[r.IntN(3)]
		for range before + n + 3 {
			fill(r, b.Field(i), distinct)
		}
	}
	for i := range before + n + 3 {
		b.Field(schema.NumFields() - 1).(*array.Int64Builder).Append(first + int64(i-before))
	}
	rec := b.NewRecord()
	defer rec.Release()
	return rec.NewSlice(int64(before), int64(before+n))
}

// less compares values as the package's comment says, in the plainest way.
func less(a arrow.Array, i int, b arrow.Array, j int) (before, after bool) {
	switch {
	case a.IsNull(i) || b.IsNull(j):
		return b.IsNull(j) && !a.IsNull(i), a.IsNull(i) && !b.IsNull(j)
	}
	order := func(x, y float64) (bool, bool) {
		switch {
		case x != x || y != y:
			return y != y && x == x, x != x && y == y
		}
		return x < y, x > y
	}
	switch a := a.(type) {
	case *array.String:
		d := strings.Compare(a.Value(i), b.(*array.String).Value(j))
		return d < 0, d > 0
	case *array.Binary:
		d := bytes.Compare(a.Value(i), b.(*array.Binary).Value(j))
		return d < 0, d > 0
	case *array.Int64:
		return a.Value(i) < b.(*array.Int64).Value(j), a.Value(i) > b.(*array.Int64).Value(j)
	case *array.Int32:
		return a.Value(i) < b.(*array.Int32).Value(j), a.Value(i) > b.(*array.Int32).Value(j)
	case *array.Int16:
		return a.Value(i) < b.(*array.Int16).Value(j), a.Value(i) > b.(*array.Int16).Value(j)
	case *array.Int8:
		return a.Value(i) < b.(*array.Int8).Value(j), a.Value(i) > b.(*array.Int8).Value(j)
	case *array.Float64:
		return order(a.Value(i), b.(*array.Float64).Value(j))
	case *array.Float32:
		return order(float64(a.Value(i)), float64(b.(*array.Float32).Value(j)))
	case *array.Boolean:
		return !a.Value(i) && b.(*array.Boolean).Value(j), a.Value(i) && !b.(*array.Boolean).Value(j)
	case *array.Timestamp:
		return a.Value(i) < b.(*array.Timestamp).Value(j), a.Value(i) > b.(*array.Timestamp).Value(j)
	case *array.Date32:
		return a.Value(i) < b.(*array.Date32).Value(j), a.Value(i) > b.(*array.Date32).Value(j)
	case *array.Decimal128:
		d := a.Value(i).BigInt().Cmp(b.(*array.Decimal128).Value(j).BigInt())
		return d < 0, d > 0
	}
	panic(fmt.Sprintf("%T", a))
}

// expected sorts the rows of records in the plainest way, stable.
func expected(recs []arrow.Record, by []int) []segment {
	var rows []segment
	for i, r := range recs {
		for row := range int(r.NumRows()) {
			rows = append(rows, segment{i, row, 1})
		}
	}
	slices.SortStableFunc(rows, func(a, b segment) int {
		for _, c := range by {
			before, after := less(recs[a.rec].Column(c), a.row, recs[b.rec].Column(c), b.row)
			if before {
				return -1
			}
			if after {
				return 1
			}
		}
		return 0
	})
	return rows
}

// check compares what a source yields with rows of records.
func check(t *testing.T, what string, s Source, recs []arrow.Record, want []segment, limit Limit) {
	t.Helper()
	at := 0
	for {
		rec, err := s.Next(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if rec == nil {
			break
		}
		if rec.NumRows() == 0 || int(rec.NumRows()) > limit.Rows {
			t.Fatalf("%s: a record of %d rows, at most %d were asked for", what, rec.NumRows(), limit.Rows)
		}
		for row := range int(rec.NumRows()) {
			if at == len(want) {
				t.Fatalf("%s: more rows than the %d there are", what, len(want))
			}
			w := want[at]
			for c := range int(rec.NumCols()) {
				if !sameValue(rec.Column(c), row, recs[w.rec].Column(c), w.row) {
					t.Fatalf("%s: row %d, column %d is %s, want %s of record %d, row %d", what, at, c, rec.Column(c).ValueStr(row), recs[w.rec].Column(c).ValueStr(w.row), w.rec, w.row)
				}
			}
			at++
		}
		rec.Release()
	}
	if at != len(want) {
		t.Fatalf("%s: %d rows of %d", what, at, len(want))
	}
	s.Close()
}

func sameValue(a arrow.Array, i int, b arrow.Array, j int) bool {
	x, y := array.NewSlice(a, int64(i), int64(i+1)), array.NewSlice(b, int64(j), int64(j+1))
	defer x.Release()
	defer y.Release()
	return array.ApproxEqual(x, y, array.WithNaNsEqual(true))
}

func someKey(t *testing.T, r *rand.Rand) (Key, []int) {
	t.Helper()
	by := r.Perm(len(keys))[:r.IntN(4)]
	var names []string
	for _, c := range by {
		names = append(names, fmt.Sprint("c", c))
	}
	k, err := NewKey(everything(), names)
	if err != nil {
		t.Fatal(err)
	}
	return k, by
}

func someLimit(r *rand.Rand) Limit {
	return Limit{Rows: 1 + r.IntN(100), Bytes: []int64{0, 1, 1000, 100_000}[r.IntN(4)]}
}

func TestSort(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		k, by := someKey(t, r)
		var recs []arrow.Record
		n := int64(0)
		for range r.IntN(5) {
			rec := random(r, r.IntN(60), n)
			recs, n = append(recs, rec), n+rec.NumRows()
		}
		limit := someLimit(r)
		check(t, fmt.Sprintf("seed %d, by %v", seed, by), Sort(everything(), k, recs, limit), recs, expected(recs, by), limit)
	}
}

// slice is a source of records that are there.
type slice struct {
	recs   []arrow.Record
	closed int
	fail   error // at the end
}

func (s *slice) Next(context.Context) (arrow.Record, error) {
	if len(s.recs) == 0 {
		return nil, s.fail
	}
	rec := s.recs[0]
	s.recs = s.recs[1:]
	rec.Retain()
	return rec, nil
}

func (s *slice) Close() { s.closed++ }

func TestMerge(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 2))
		k, by := someKey(t, r)
		var all []arrow.Record
		var sources []Source
		n := int64(0)
		for range r.IntN(6) {
			rec := random(r, r.IntN(200), n)
			n += rec.NumRows()
			runs := Sort(everything(), k, []arrow.Record{rec}, Limit{Rows: 1 + r.IntN(50)})
			s := &slice{}
			for {
				part, err := runs.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if part == nil {
					break
				}
				s.recs, all = append(s.recs, part), append(all, part)
				if r.IntN(5) == 0 {
					s.recs = append(s.recs, part.NewSlice(0, 0))
				}
			}
			sources = append(sources, s)
		}
		limit := someLimit(r)
		what := fmt.Sprintf("seed %d, %d sources by %v, %+v", seed, len(sources), by, limit)
		check(t, what, Merge(everything(), k, sources, limit), all, expected(all, by), limit)
		for _, s := range sources {
			if s.(*slice).closed == 0 {
				t.Fatalf("%s: a source was not closed", what)
			}
		}
	}
}

// TestMergeFails: an error of a source is the merge's, wherever it comes.
func TestMergeFails(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	k, _ := NewKey(everything(), []string{"n"})
	broken := errors.New("broken")
	for _, n := range []int{0, 1, 2} {
		a, b := &slice{fail: broken}, &slice{recs: []arrow.Record{random(r, 20, 0)}}
		for i := range n {
			a.recs = append(a.recs, random(r, 5, int64(i*5)))
		}
		m := Merge(everything(), k, []Source{a, b}, Limit{Rows: 3})
		var err error
		for err == nil {
			var rec arrow.Record
			if rec, err = m.Next(t.Context()); rec == nil && err == nil {
				t.Fatalf("after %d records: no error", n)
			}
		}
		if !errors.Is(err, broken) {
			t.Errorf("after %d records: %v", n, err)
		}
		m.Close()
		if a.closed == 0 || b.closed == 0 {
			t.Error("a source was not closed")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, s := range map[string]Source{"sort": Sort(everything(), k, []arrow.Record{random(r, 5, 0)}, Limit{Rows: 3}), "merge": Merge(everything(), k, []Source{&slice{recs: []arrow.Record{random(r, 20, 0)}}}, Limit{Rows: 3})} {
		if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMergeInParts: one source's small records become large ones, and large ones stay as they are.
func TestMergeInParts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 4))
	var recs []arrow.Record
	for i := range 30 {
		recs = append(recs, random(r, 10, int64(i*10)))
	}
	big := random(r, 80, 300)
	recs = append(recs, big)
	var sources []Source
	for _, rec := range recs {
		sources = append(sources, &slice{recs: []arrow.Record{rec}})
	}
	m := Merge(everything(), Key{}, []Source{Concat(sources)}, Limit{Rows: 100})
	var sizes []int64
	for {
		rec, err := m.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if rec == nil {
			break
		}
		if rec.NumRows() == 80 && rec != big {
			t.Error("a record that is large enough was copied")
		}
		sizes = append(sizes, rec.NumRows())
	}
	if !slices.Equal(sizes, []int64{100, 100, 100, 80}) {
		t.Errorf("records of %v rows", sizes)
	}
}

func TestNoOrder(t *testing.T) {
	for name, want := range map[string]string{"c12": "column c12: rows cannot be sorted by a column of type list", "x": "no column x"} {
		if _, err := NewKey(everything(), []string{"c0", name}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
}

func TestBytes(t *testing.T) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String}, {Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Int32)}}, nil))
	defer b.Release()
	for i := range 80 {
		b.Field(0).(*array.StringBuilder).Append(strings.Repeat("x", 10))
		b.Field(1).(*array.Int64Builder).Append(1)
		l := b.Field(2).(*array.ListBuilder)
		l.Append(true)
		for range i % 2 {
			l.ValueBuilder().(*array.Int32Builder).Append(1)
		}
	}
	rec := b.NewRecord()
	if got, want := Bytes(rec), int64(80*(10+4)+80*8+80*4+40*4+3*10+5); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
	if got, half := Bytes(rec.NewSlice(40, 80)), Bytes(rec)/2; got < half-10 || got > half+10 {
		t.Errorf("the half has %d bytes of %d", got, 2*half)
	}
}
