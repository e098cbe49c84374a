package decode

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// TestDerivedDays compares the days of random timestamps, some of them null and
// some in rows that do not decode, with package time's.
func TestDerivedDays(t *testing.T) {
	const seed = 7
	r := rand.New(rand.NewPCG(seed, seed))
	contract := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "ts", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true},
		{Name: "at", Type: arrow.FixedWidthTypes.Timestamp_us},
	}, nil)
	plan, err := NewPlan(contract, Options{Derived: []Derived{{"ts_date", "ts"}, {"at_date", "at"}}})
	if err != nil {
		t.Fatal(err)
	}
	checked := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer checked.AssertSize(t, 0)
	d := plan.NewDecoder(checked)
	span := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).Unix() - time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	random := func() time.Time {
		return time.Unix(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).Unix()+r.Int64N(span), r.Int64N(1e6)*1000).UTC()
	}
	for range 3 {
		var want []string
		for i := range 1000 {
			ts, at := random(), random()
			text, day := `"`+ts.Format("2006-01-02T15:04:05.000000Z")+`"`, ts.Format("2006-01-02")
			switch r.IntN(6) {
			case 0:
				text, day = "null", "(null)"
			case 1:
				text, day = fmt.Sprintf(`"%s"`, ts.Format("2006-01-02")), ts.Format("2006-01-02")
			}
			row := fmt.Sprintf(`{"id":%d,"ts":%s,"at":"%s"}`, i, text, at.Format(time.RFC3339))
			if r.IntN(5) == 0 {
				row = strings.Replace(row, `"at"`, `"att"`, 1) // at is missing
			} else {
				want = append(want, day+" "+at.Format("2006-01-02"))
			}
			if err := d.Message([]byte(row), Position{Partition: "p", First: int64(i)}); err != nil {
				t.Fatal(err)
			}
		}
		rec, _, bad := d.Flush()
		if len(bad)+len(want) != 1000 || rec.NumRows() != int64(len(want)) {
			t.Fatalf("seed %d: %d rows and %d bad ones", seed, rec.NumRows(), len(bad))
		}
		a, b := rec.Column(3).(*array.Date32), rec.Column(4).(*array.Date32)
		for i, w := range want {
			if got := a.ValueStr(i) + " " + b.ValueStr(i); got != w {
				t.Fatalf("seed %d: row %d has %s, want %s", seed, i, got, w)
			}
		}
		rec.Release()
	}
	rec, _, _ := d.Flush()
	defer rec.Release()
	if !rec.Schema().Equal(plan.Schema()) || rec.NumCols() != 8 {
		t.Errorf("empty: %v", rec.Schema())
	}
	for _, o := range []Options{{Derived: []Derived{{"x_date", "x"}}}, {Derived: []Derived{{"id_date", "id"}}}} {
		if _, err := NewPlan(contract, o); err == nil || !strings.Contains(err.Error(), o.Derived[0].Name) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
