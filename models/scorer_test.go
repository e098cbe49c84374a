package models_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/models"
)

// record makes a record of columns given as Go slices of values or nil for null.
func record(t testing.TB, mem memory.Allocator, columns ...column) arrow.Record {
	t.Helper()
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = arrow.Field{Name: c.name, Type: c.typ, Nullable: true}
	}
	b := array.NewRecordBuilder(mem, arrow.NewSchema(fields, nil))
	defer b.Release()
	for i, c := range columns {
		for _, v := range c.values {
			appendValue(t, b.Field(i), v)
		}
	}
	return b.NewRecord()
}

type column struct {
	name   string
	typ    arrow.DataType
	values []any
}

func appendValue(t testing.TB, b array.Builder, v any) {
	t.Helper()
	if v == nil {
		b.AppendNull()
		return
	}
	switch b := b.(type) {
	case *array.Decimal128Builder:
		b.Append(v.(decimal128.Num))
	case *array.Float64Builder:
		b.Append(v.(float64))
	case *array.StringBuilder:
		b.Append(v.(string))
	default:
		if err := b.AppendValueFromString(fmt.Sprint(v)); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	double  = arrow.PrimitiveTypes.Float64
	long    = arrow.PrimitiveTypes.Int64
	boolean = arrow.FixedWidthTypes.Boolean
	text    = arrow.BinaryTypes.String
)

type scoreSpec struct {
	inputs  []string
	outputs string // such as "score=y, other=both[1]"
	scored  *arrow.Schema
}

func (s scoreSpec) contract() *contract.Score {
	c := &contract.Score{Model: "m@1", Inputs: s.inputs, Isolation: contract.IsolationProcess}
	for part := range strings.SplitSeq(s.outputs, ", ") {
		name, tensor, _ := strings.Cut(part, "=")
		o := contract.Output{Column: name, Tensor: tensor, Index: -1}
		if tensor, index, ok := strings.Cut(tensor, "["); ok {
			o.Tensor = tensor
			fmt.Sscan(strings.TrimSuffix(index, "]"), &o.Index)
		}
		c.Outputs = append(c.Outputs, o)
	}
	return c
}

func newScorer(t testing.TB, mem memory.Allocator, model string, spec scoreSpec) *models.Scorer {
	t.Helper()
	data := readModel(t, model)
	s, err := models.NewScorer(t.Context(), models.ScorerOptions{Runtime: realRuntime(t), Version: version(t, model, data), Data: data,
		Score: spec.contract(), Scored: spec.scored, Allocator: mem})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// checked is an allocator that must be empty in the end.
func checked(t testing.TB) memory.Allocator {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	t.Cleanup(func() { mem.AssertSize(t, 0) })
	return mem
}

// score returns the columns as text.
func score(t *testing.T, s *models.Scorer, rec arrow.Record) (string, error) {
	t.Helper()
	defer rec.Release()
	arrays, err := s.Score(t.Context(), rec)
	if err != nil {
		if arrays != nil {
			t.Error("arrays and an error")
		}
		return "", err
	}
	var out []string
	for i, a := range arrays {
		if f := s.Fields()[i]; !arrow.TypeEqual(f.Type, a.DataType()) {
			t.Errorf("%s is %s, Fields says %s", f.Name, a.DataType(), f.Type)
		}
		out = append(out, fmt.Sprint(a))
		a.Release()
	}
	return strings.Join(out, " "), nil
}

func TestScoreOneTensor(t *testing.T) {
	mem := checked(t)
	s := newScorer(t, mem, "linear", scoreSpec{inputs: []string{"a", "flag", "n"}, outputs: "minus=both[1], y=y, plus=both[0]"})
	got, err := score(t, s, record(t, mem, column{"n", long, []any{1, 2, 3}}, column{"unused", text, []any{"x", nil, "z"}},
		column{"flag", boolean, []any{true, false, true}}, column{"a", double, []any{0.5, 1.0, 1.5}}))
	if want := "[-110.5 -201 -311.5] [110.5 201 311.5] [110.5 201 311.5]"; err != nil || got != want {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
	got, err = score(t, s, record(t, mem, column{"n", long, nil}, column{"flag", boolean, nil}, column{"a", double, nil}))
	if err != nil || got != "[] [] []" {
		t.Errorf("no rows: %s, %v", got, err)
	}
}

func TestScoreNamedInputs(t *testing.T) {
	mem := checked(t)
	outputs := "sum=sum, long=long, int=int, not=not, echo=echo"
	values := []column{{"text", text, []any{"", "ü"}}, {"flag", boolean, []any{true, false}}, {"i64", long, []any{100, math.MinInt64}},
		{"i32", arrow.PrimitiveTypes.Int16, []any{10, -20}}, {"f64", double, []any{0.25, 0.0}}, {"f32", arrow.PrimitiveTypes.Float32, []any{1.5, 0}}}
	want := `[112.75 -9.223372036854776e+18] [100 -9223372036854775808] [10 -20] [false true] ["" "ü"]`
	for _, inputs := range [][]string{nil, {"text", "flag", "i64", "i32", "f64", "f32"}} {
		got, err := score(t, newScorer(t, mem, "named", scoreSpec{inputs: inputs, outputs: outputs}), record(t, mem, values...))
		if err != nil || got != want {
			t.Errorf("inputs %v: %s, %v\nwant %s", inputs, got, err, want)
		}
	}
	renamed := slices.Clone(values)
	names := []string{"u", "v", "w", "x", "y", "z"}
	for i := range renamed {
		renamed[i].name = names[i]
	}
	slices.Reverse(names) // the model's order
	got, err := score(t, newScorer(t, mem, "named", scoreSpec{inputs: names, outputs: outputs}), record(t, mem, renamed...))
	if err != nil || got != want {
		t.Errorf("by order: %s, %v\nwant %s", got, err, want)
	}
}

func TestScoreSlicedRecord(t *testing.T) {
	mem := checked(t)
	rec := record(t, mem, column{"a", double, []any{nil, 1.0, 2.0, 3.0}}, column{"n", long, []any{9, 1, 2, 3}}, column{"flag", boolean, []any{nil, true, false, true}})
	slice := rec.NewSlice(1, 4)
	rec.Release()
	got, err := score(t, newScorer(t, mem, "linear", scoreSpec{inputs: []string{"a", "flag", "n"}, outputs: "y=y"}), slice)
	if want := "[111 202 313]"; err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}

// The model for a series of readings: usual near its centre, not far from it.
func TestZScore(t *testing.T) {
	mem := checked(t)
	s := newScorer(t, mem, "zscore", scoreSpec{outputs: "score=score"})
	rec := record(t, mem, column{"value", double, []any{85.0, 20.0}})
	defer rec.Release()
	arrays, err := s.Score(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	defer arrays[0].Release()
	if v := arrays[0].(*array.Float32).Float32Values(); v[0] > 1 || v[1] < 4 {
		t.Errorf("scores %v", v)
	}
}

// Records larger than a chunk come out in order and with the right row numbers.
func TestScoreManyRows(t *testing.T) {
	mem := checked(t)
	const rows = 40_000
	values := make([]any, rows)
	for i := range values {
		values[i] = int64(i)
	}
	s := newScorer(t, mem, "poison", scoreSpec{inputs: []string{"n"}, outputs: "y=y"})
	rec := record(t, mem, column{"n", long, values})
	arrays, err := s.Score(t.Context(), rec)
	rec.Release()
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range arrays[0].(*array.Int64).Int64Values() {
		if v != -int64(i) {
			t.Fatalf("row %d: %d", i, v)
		}
	}
	arrays[0].Release()
	values[20_000], values[39_999] = nil, nil
	_, err = score(t, s, record(t, mem, column{"n", long, values}))
	var bad *models.RowsError
	if !errors.As(err, &bad) || len(bad.Rows) != 2 || bad.Rows[0].Row != 20_000 || bad.Rows[1].Row != 39_999 || bad.Total != rows {
		t.Errorf("%v", err)
	}
}

func TestRowsThatCannotBeScored(t *testing.T) {
	mem := checked(t)
	decimals := &arrow.Decimal128Type{Precision: 38, Scale: 2}
	for _, test := range []struct {
		model, input string
		column       column
		rows         []int
		text         string
	}{
		{"log", "x", column{"x", double, []any{1.0, nil, math.NaN(), nil}}, []int{1, 3}, "row 1: x: is null"},
		{"log", "x", column{"x", double, []any{1.0, 1e39}}, []int{1}, "too large"},
		{"log", "x", column{"x", double, []any{1.0, -1.0, math.NaN(), math.Inf(1)}}, []int{1, 2, 3}, "row 1: score: the model's answer is not a finite number"},
		{"poison", "x", column{"x", double, []any{1.0, 1.5, math.NaN(), math.Inf(-1), 0x1p62, 0x1p63, -0x1p63}}, []int{1, 2, 3, 5}, "not a whole number"},
		{"poison", "x", column{"x", arrow.PrimitiveTypes.Uint64, []any{1, uint64(1) << 63}}, []int{1}, "not a whole number"},
		{"poison", "x", column{"x", decimals, []any{decimal128.FromI64(300), decimal128.FromI64(301), decimal128.New(7, 0), nil}}, []int{1, 2, 3}, "not a whole number"},
	} {
		s := newScorer(t, mem, test.model, scoreSpec{inputs: []string{"x"}, outputs: "score=y"})
		_, err := score(t, s, record(t, mem, test.column))
		var bad *models.RowsError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), test.text) || !models.IsRowFault(err) {
			t.Errorf("%s %v: %v", test.model, test.column.values, err)
			continue
		}
		var rows []int
		for _, r := range bad.Rows {
			rows = append(rows, r.Row)
		}
		if !slices.Equal(rows, test.rows) {
			t.Errorf("%s %v: rows %v, want %v", test.model, test.column.values, rows, test.rows)
		}
	}
}

func TestDecimalsAreNumbers(t *testing.T) {
	mem := checked(t)
	decimals := &arrow.Decimal128Type{Precision: 38, Scale: 2}
	values := column{"x", decimals, []any{decimal128.FromI64(100), decimal128.FromI64(-700)}}
	got, err := score(t, newScorer(t, mem, "poison", scoreSpec{inputs: []string{"x"}, outputs: "y=y"}), record(t, mem, values))
	if err != nil || got != "[-1 7]" {
		t.Errorf("into int64: %s, %v", got, err)
	}
	got, err = score(t, newScorer(t, mem, "wide", scoreSpec{inputs: []string{"x", "x"}, outputs: "y=y"}), record(t, mem, values))
	if err != nil || got != "[2 -14]" {
		t.Errorf("into float32, twice: %s, %v", got, err)
	}
}

func TestNULByte(t *testing.T) {
	mem := checked(t)
	s := newScorer(t, mem, "named", scoreSpec{outputs: "echo=echo"})
	zero := []any{0, 0}
	_, err := score(t, s, record(t, mem, column{"text", text, []any{"fine", "a\x00b"}}, column{"flag", boolean, []any{true, true}}, column{"i64", long, zero},
		column{"i32", long, zero}, column{"f64", arrow.PrimitiveTypes.Float32, zero}, column{"f32", arrow.PrimitiveTypes.Float32, zero}))
	var bad *models.RowsError
	if !errors.As(err, &bad) || len(bad.Rows) != 1 || bad.Rows[0].Row != 1 || bad.Rows[0].Column != "text" {
		t.Errorf("%v", err)
	}
}

func TestBatchFaults(t *testing.T) {
	mem := checked(t)
	lookup := newScorer(t, mem, "lookup", scoreSpec{inputs: []string{"x"}, outputs: "y=y"})
	if _, err := score(t, lookup, record(t, mem, column{"x", long, []any{0, 7}})); !errors.Is(err, models.ErrRejected) || !models.IsRowFault(err) {
		t.Errorf("refused by the runtime: %v", err)
	}
	poison := newScorer(t, mem, "poison", scoreSpec{inputs: []string{"x"}, outputs: "y=y"})
	if _, err := score(t, poison, record(t, mem, column{"x", long, []any{0, math.MinInt64}})); !errors.Is(err, models.ErrCrashed) || !models.IsRowFault(err) {
		t.Errorf("killed: %v", err)
	}
	if got, err := score(t, poison, record(t, mem, column{"x", long, []any{5}})); err != nil || got != "[-5]" {
		t.Errorf("after the crash: %s, %v", got, err)
	}
	total := newScorer(t, mem, "total", scoreSpec{inputs: []string{"x"}, outputs: "y=y"})
	if _, err := score(t, total, record(t, mem, column{"x", double, []any{1.0, 2.0}})); !errors.Is(err, models.ErrRejected) || !strings.Contains(err.Error(), "for 2 rows its output y float32[?,1] is float32[1,1]") {
		t.Errorf("one answer for two rows: %v", err)
	}
}

func TestScoredTypeHolds(t *testing.T) {
	mem := checked(t)
	scored := arrow.NewSchema([]arrow.Field{{Name: "score", Type: double}, {Name: "n", Type: arrow.PrimitiveTypes.Float32}}, nil)
	s := newScorer(t, mem, "log", scoreSpec{inputs: []string{"x"}, outputs: "score=y", scored: scored})
	if got, err := score(t, s, record(t, mem, column{"x", double, []any{1.0}})); err != nil || got != "[0]" || !arrow.TypeEqual(s.Fields()[0].Type, double) {
		t.Errorf("%s, %v", got, err)
	}
	sig := version(t, "poison", readModel(t, "poison")).Signature
	_, err := models.OutputFields(sig, scoreSpec{outputs: "n=y"}.contract().Outputs, scored)
	if err == nil || !strings.Contains(err.Error(), "score.output.n: the scored table has a column n of float32, and the model's output y int64[?,1] gives int64") {
		t.Errorf("%v", err)
	}
}

func TestConcurrentScores(t *testing.T) {
	mem := checked(t)
	s := newScorer(t, mem, "poison", scoreSpec{inputs: []string{"x"}, outputs: "y=y"})
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			for i := range 20 {
				v := int64(100*g + i)
				rec := record(t, mem, column{"x", long, []any{v, v + 1}})
				arrays, err := s.Score(t.Context(), rec)
				rec.Release()
				if err != nil {
					t.Error(err)
					return
				}
				if got, want := fmt.Sprint(arrays[0]), fmt.Sprintf("[%d %d]", -v, -v-1); got != want {
					t.Errorf("%s, want %s", got, want)
				}
				arrays[0].Release()
			}
		})
	}
	wg.Wait()
}

func TestRecordThatDoesNotFit(t *testing.T) {
	mem := checked(t)
	s := newScorer(t, mem, "log", scoreSpec{inputs: []string{"x"}, outputs: "y=y"})
	var bind *models.BindError
	if _, err := score(t, s, record(t, mem, column{"y", double, []any{1.0}})); !errors.As(err, &bind) || models.IsRowFault(err) {
		t.Errorf("no column: %v", err)
	}
	if _, err := score(t, s, record(t, mem, column{"x", text, []any{"1"}})); !errors.As(err, &bind) {
		t.Errorf("text: %v", err)
	}
}
