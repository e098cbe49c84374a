package app

import (
	"context"
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/quality"
)

// qualityPlan runs a contract's plan at a given time.
type qualityPlan struct{ *quality.Plan }

type outcomeOfPlan struct {
	passed   []arrow.Record
	failed   []quality.Failure
	warnings map[string]int64
}

func (o *outcomeOfPlan) release() {
	for _, r := range o.passed {
		r.Release()
	}
}

func (p qualityPlan) run(ctx context.Context, recs []arrow.Record, now time.Time) (*outcomeOfPlan, error) {
	q := p.Plan
	if !now.IsZero() {
		q = q.WithClock(func() time.Time { return now })
	}
	res, err := q.Run(ctx, recs)
	if err != nil {
		return nil, err
	}
	return &outcomeOfPlan{res.Passed, res.Failed, res.Warnings}, nil
}

// jsonOf is a value as JSON shows it: times in RFC 3339, decimals as numbers with
// all of their digits, and what JSON has no number for as text.
func jsonOf(a arrow.Array, i int) any {
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.Timestamp:
		unit := a.DataType().(*arrow.TimestampType).Unit
		return a.Value(i).ToTime(unit).UTC().Format(time.RFC3339Nano)
	case *array.Date32:
		return a.Value(i).ToTime().UTC().Format(time.DateOnly)
	case *array.Decimal128:
		return json.Number(a.ValueStr(i))
	case *array.Float64:
		return floatOf(a.Value(i), 64)
	case *array.Float32:
		return floatOf(float64(a.Value(i)), 32)
	case *array.List:
		from, to := a.ValueOffsets(i)
		out := make([]any, 0, to-from)
		for j := from; j < to; j++ {
			out = append(out, jsonOf(a.ListValues(), int(j)))
		}
		return out
	case *array.Struct:
		t := a.DataType().(*arrow.StructType)
		var out Columns
		for f := range t.NumFields() {
			out = append(out, column{t.Field(f).Name, jsonOf(a.Field(f), i)})
		}
		return out
	case *array.Binary:
		return string(a.Value(i))
	}
	return a.GetOneForMarshal(i)
}

func floatOf(f float64, bits int) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return strconv.FormatFloat(f, 'g', -1, bits)
	}
	return json.Number(strconv.FormatFloat(f, 'g', -1, bits))
}
