package quality

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"

	"github.com/tidemill/tidemill/contract"
)

// judge reads the flags that a query returned: warnings are counted, and rows
// that fail a check become failures, each for its first one.
func (p *Plan) judge(rows *rows, out arrow.Record, res *Result) marks {
	var failed marks
	for i, c := range p.checks {
		flags := out.Column(i).(*array.Boolean)
		n := 0
		if flags.Len() > 0 { // made by a query of ours: not null, from bit 0
			n = bitutil.CountSetBits(flags.Data().Buffers()[1].Bytes(), flags.Data().Offset(), flags.Len())
		}
		if n == 0 {
			continue
		}
		if c.OnFail == contract.OnFailWarn {
			res.warn(c.Name, int64(n))
			continue
		}
		if failed.at == nil {
			failed.at = make([]bool, rows.n)
		}
		for at := range flags.Len() {
			if flags.Value(at) && !failed.at[at] {
				failed.set(at)
				res.Failed = append(res.Failed, p.failure(rows, at, c, "failed"))
			}
		}
	}
	return failed
}

func (r *Result) warn(check string, n int64) {
	if r.Warnings == nil {
		r.Warnings = map[string]int64{}
	}
	r.Warnings[check] += n
}

// failure words what a check has against a row.
func (p *Plan) failure(rows *rows, at int, c check, what string) Failure {
	f := Failure{Row: rows.row(at), Rule: c.Name, Class: ClassCheck}
	var values []string
	for i, name := range c.columns {
		if i == 0 {
			f.Column = name
		}
		values = append(values, name+" = "+rows.value(at, name))
	}
	f.Message = fmt.Sprintf("check %q (%s) %s", c.Name, strings.Join(strings.Fields(c.Expr), " "), what)
	if len(values) > 0 {
		f.Message += ": " + strings.Join(values, ", ")
	}
	return f
}

// showValue writes a value for people: text in quotes, long values cut.
func showValue(a arrow.Array, i int) string {
	if a.IsNull(i) {
		return "null"
	}
	const most = 80
	var s string
	switch a := a.(type) {
	case *array.String:
		s = a.Value(i)
		if r := []rune(s); len(r) > most {
			s = string(r[:most]) + "…"
		}
		return strconv.Quote(s)
	case *array.Timestamp:
		return a.Value(i).ToTime(arrow.Microsecond).Format("2006-01-02T15:04:05.999999Z07:00")
	case *array.Date32:
		return a.Value(i).ToTime().Format(time.DateOnly)
	default:
		s = a.ValueStr(i)
	}
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return s
}

// checkFreshness compares the newest event time with the clock. A batch with
// no event time at all is not fresh; one of no rows is not judged.
func (p *Plan) checkFreshness(recs []arrow.Record, res *Result) error {
	if len(p.freshness) == 0 {
		return nil
	}
	newest, rows := arrow.Timestamp(0), int64(0)
	seen := false
	for _, rec := range recs {
		at := rec.Schema().FieldIndices(p.table.EventTime())
		if len(at) != 1 {
			return fmt.Errorf("records have %d columns %q, one expected", len(at), p.table.EventTime())
		}
		col, ok := rec.Column(at[0]).(*array.Timestamp)
		if !ok {
			return fmt.Errorf("column %q is %s, not a timestamp", p.table.EventTime(), rec.Column(at[0]).DataType())
		}
		rows += rec.NumRows()
		for i, v := range col.TimestampValues() {
			if (!seen || v > newest) && col.IsValid(i) {
				newest, seen = v, true
			}
		}
	}
	if rows == 0 {
		return nil
	}
	age := p.now().Sub(newest.ToTime(arrow.Microsecond))
	for _, c := range p.freshness {
		if !seen || age > c.Freshness {
			res.warn(c.Name, 1)
		}
	}
	return nil
}
