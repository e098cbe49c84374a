package interop

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
)

// lines are rows as texts, sorted: the same rows have the same lines, whoever read them.
// A line has the columns in the order of their names, for engines have orders of their own.
func lines(records []arrow.Record) []string {
	var out []string
	for _, rec := range records {
		names := make([]string, rec.NumCols())
		for i := range names {
			names[i] = rec.ColumnName(i)
		}
		order := slices.Clone(names)
		slices.Sort(order)
		for i := range int(rec.NumRows()) {
			var b strings.Builder
			for _, name := range order {
				fmt.Fprintf(&b, "%s=%s ", name, cell(rec.Column(slices.Index(names, name)), i))
			}
			out = append(out, b.String())
		}
	}
	slices.Sort(out)
	return out
}

// cell is a value as text. Of every type it is exact: floats as the shortest digits that
// give the same bits, decimals with their scale, times as counts.
func cell(col arrow.Array, i int) string {
	if col.IsNull(i) {
		return "∅"
	}
	switch a := col.(type) {
	case *array.String:
		return strconv.Quote(a.Value(i))
	case *array.Binary:
		return fmt.Sprintf("x%x", a.Value(i))
	case *array.Float64:
		return float(a.Value(i), 64)
	case *array.Float32:
		return float(float64(a.Value(i)), 32)
	case *array.Timestamp:
		return fmt.Sprintf("%d%s", a.Value(i), a.DataType().(*arrow.TimestampType).Unit)
	case *array.Date32:
		return fmt.Sprintf("day %d", a.Value(i))
	case *array.Decimal128:
		return fmt.Sprintf("%se-%d", a.Value(i).BigInt(), a.DataType().(*arrow.Decimal128Type).Scale)
	case *array.Struct:
		t := a.DataType().(*arrow.StructType)
		parts := make([]string, a.NumField())
		for j := range parts {
			parts[j] = t.Field(j).Name + ":" + cell(a.Field(j), i)
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case *array.Map:
		from, to := a.ValueOffsets(i)
		var parts []string
		for j := from; j < to; j++ {
			parts = append(parts, cell(a.Keys(), int(j))+"→"+cell(a.Items(), int(j)))
		}
		slices.Sort(parts)
		return "<" + strings.Join(parts, ", ") + ">"
	case *array.List:
		from, to := a.ValueOffsets(i)
		var parts []string
		for j := from; j < to; j++ {
			parts = append(parts, cell(a.ListValues(), int(j)))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return col.ValueStr(i)
}

// float does not tell one NaN from another, nor one zero.
func float(v float64, bits int) string {
	if math.IsNaN(v) {
		return "NaN"
	}
	return strconv.FormatFloat(v+0, 'g', -1, bits)
}

// load reads an Arrow file that an engine left.
func load(t *testing.T, path string) []arrow.Record {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := ipc.NewFileReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	records := make([]arrow.Record, r.NumRecords())
	for i := range records {
		if records[i], err = r.RecordAt(i); err != nil {
			t.Fatal(err)
		}
	}
	return records
}

// sameLines fails the test unless both are the same, and shows the first few that are not.
func sameLines(t *testing.T, what string, got, want []string) bool {
	t.Helper()
	if slices.Equal(got, want) {
		return true
	}
	t.Errorf("%s: %d rows, want %d, and not the same ones", what, len(got), len(want))
	count := map[string]int{}
	for _, l := range want {
		count[l]++
	}
	for _, l := range got {
		count[l]--
	}
	shown := 0
	for _, l := range slices.Concat(got, want) {
		if n := count[l]; n != 0 && shown < 3 {
			word := "missing"
			if n < 0 {
				word = "too many"
			}
			t.Logf("%s: %.400s", word, l)
			count[l] = 0
			shown++
		}
	}
	return false
}
