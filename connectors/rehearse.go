package connectors

import (
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/batch"
)

// Redecode decodes landed rows anew, from the bytes they came as, as a connector would do
// it under another contract. Rows are told apart by their place in the record: that is
// the _offset that comes back. What decodes is returned as records of [LandedSchema],
// which the caller releases; what does not, as bad rows.
//
// raw may have nulls: rows whose bytes are not kept. They are left out.
func Redecode(c *contract.Table, raw *array.Binary) (recs []arrow.Record, bad []decode.BadRow, err error) {
	opts := decode.Options{Derived: derived(c)}
	switch c.OnNewField() {
	case contract.NewFieldQuarantine:
		opts.OnNewField = decode.Quarantine
	case contract.NewFieldAdd:
		opts.OnNewField = decode.Add
	}
	plan, err := decode.NewPlan(c.ArrowSchema(), opts)
	if err != nil {
		return nil, nil, fmt.Errorf("table %s: %w", c.Name(), err)
	}
	dec := plan.NewDecoder(memory.DefaultAllocator)
	flush := func() {
		rec, _, wrong := dec.Flush()
		recs, bad = append(recs, rec), append(bad, wrong...)
	}
	for i := range raw.Len() {
		if raw.IsNull(i) {
			continue
		}
		at := decode.Position{Partition: "replay", First: int64(i)}
		if dec.Message(raw.Value(i), at) != nil { // the record is full
			flush()
			if err := dec.Message(raw.Value(i), at); err != nil {
				return recs, bad, fmt.Errorf("decode a row of %s: %w", c.Name(), err)
			}
		}
	}
	flush()
	return recs, bad, nil
}

// RawColumn is where a landed record keeps the bytes of its rows, nil when it does not.
func RawColumn(rec arrow.Record) *array.Binary {
	at := rec.Schema().FieldIndices(batch.ColRaw)
	if len(at) == 0 {
		return nil
	}
	raw, _ := rec.Column(at[0]).(*array.Binary)
	return raw
}
