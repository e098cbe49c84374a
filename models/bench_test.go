package models_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/models"
)

// BenchmarkScore measures the fraud example's model over records: rows a second
// from Arrow to Arrow, in process and in a child.
func BenchmarkScore(b *testing.B) {
	runtime := realRuntime(b)
	data := readFile(b, "../examples/fraud/models/fraud.onnx")
	spec := scoreSpec{inputs: []string{"log_amount", "hour_of_day", "is_foreign", "merchant_risk", "tx_per_hour"}, outputs: "fraud_score=probabilities[1]"}
	for _, isolation := range []contract.Isolation{contract.IsolationNone, contract.IsolationProcess} {
		for _, rows := range []int{1, 1000, 20_000} {
			b.Run(fmt.Sprintf("isolation=%s/rows=%d", isolation, rows), func(b *testing.B) {
				score := spec.contract()
				score.Isolation = isolation
				s, err := models.NewScorer(b.Context(), models.ScorerOptions{Runtime: runtime, Version: version(b, "fraud", data), Data: data, Score: score})
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				rec := transactions(rows)
				defer rec.Release()
				b.ReportAllocs()
				for b.Loop() {
					out, err := s.Score(b.Context(), rec)
					if err != nil {
						b.Fatal(err)
					}
					out[0].Release()
				}
				b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}

func transactions(rows int) arrow.Record {
	rng := rand.New(rand.NewPCG(1, 2))
	fields := []arrow.Field{{Name: "log_amount", Type: double}, {Name: "hour_of_day", Type: long}, {Name: "is_foreign", Type: arrow.PrimitiveTypes.Int32},
		{Name: "merchant_risk", Type: double}, {Name: "tx_per_hour", Type: long}}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer b.Release()
	for range rows {
		b.Field(0).(*array.Float64Builder).Append(3.4 + rng.NormFloat64())
		b.Field(1).(*array.Int64Builder).Append(rng.Int64N(24))
		b.Field(2).(*array.Int32Builder).Append(rng.Int32N(2))
		b.Field(3).(*array.Float64Builder).Append(rng.Float64())
		b.Field(4).(*array.Int64Builder).Append(rng.Int64N(18))
	}
	return b.NewRecord()
}
