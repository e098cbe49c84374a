package connectors

import (
	"context"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse"
)

// messageIDs says, by the name of the Benthos input, which metadata has the id that a
// publisher gave to a message.
var messageIDs = map[string]string{
	"amqp_0_9": "amqp_message_id",
}

// messageID returns the partition that stands for a message by its publisher's id, ""
// without one.
func messageID(connector, kind string, m *service.Message) string {
	field, ok := messageIDs[kind]
	if !ok {
		return ""
	}
	id, ok := m.MetaGet(field)
	if !ok || id == "" {
		return ""
	}
	return batch.IdentifiedPrefix + connector + "/" + hashHex(id)
}

// Dedupe says how repeated rows are found in the landed table of a contract and in its
// quarantine table, as [lakehouse.AppenderOptions] has it; nil: they are not. A row that
// does not decode has no key, so it is told by its bytes.
func Dedupe(c *contract.Table) (landed, bad *lakehouse.Dedupe) {
	d := c.Dedupe()
	if d == nil {
		return nil, nil
	}
	of := func(columns ...string) *lakehouse.Dedupe {
		return &lakehouse.Dedupe{Columns: columns, Window: d.Window, MaxKeys: d.MaxKeys}
	}
	if d.By == contract.DedupeByMessageID {
		return of(batch.ColSource, batch.ColOffset), of(batch.ColSource, batch.ColOffset)
	}
	return of(c.Key()...), of("raw")
}

// byMessageID says whether messages with an id of their publisher's stand for themselves.
func (o *output) byMessageID() bool {
	d := o.landing.Contract.Dedupe()
	return d != nil && d.By == contract.DedupeByMessageID
}

// at returns where a message stands, as the output sees it.
func (s *stamped) at(byID bool) Position {
	if byID && s.id != "" {
		return Position{Partition: s.id, PerRow: true}
	}
	return s.Position
}

// withoutQuarantined leaves out the rows, of sources without positions, that are in the
// quarantine table: they did not decode under an older contract. The record returned is
// the caller's.
func (o *output) withoutQuarantined(ctx context.Context, rec arrow.Record, runs []batch.Run) (arrow.Record, []batch.Run, error) {
	same := func() (arrow.Record, []batch.Run, error) {
		rec.Retain()
		return rec, runs, nil
	}
	if o.landing.Contract.Dedupe() == nil {
		return same()
	}
	columns := []string{batch.ColRaw}
	if o.byMessageID() {
		columns = []string{batch.ColSource, batch.ColOffset}
	}
	seen, err := o.landing.Quarantine.Seen(ctx, columnsOf(rec, columns)...)
	if err != nil {
		return nil, nil, err
	}
	if len(seen) == 0 {
		return same()
	}
	known := map[int32]bool{}
	for _, row := range seen {
		known[row] = true
	}
	var keep []int32
	var kept []batch.Run
	row := int32(0)
	for _, r := range runs {
		for i := range r.Rows {
			if batch.Durable(r.Partition) || !known[row] {
				keep = append(keep, row)
				kept = batch.AppendRun(kept, r.Row(i))
			}
			row++
		}
	}
	if len(keep) == int(row) {
		return same()
	}
	out, err := pick(ctx, rec, keep)
	return out, kept, err
}

func columnsOf(rec arrow.Record, names []string) []arrow.Array {
	out := make([]arrow.Array, len(names))
	for i, name := range names {
		out[i] = rec.Column(rec.Schema().FieldIndices(name)[0])
	}
	return out
}

// repeated returns which bad rows, of sources without positions, the quarantine table
// has already, or an earlier one of them repeats.
func (o *output) repeated(ctx context.Context, bad []decode.BadRow) (map[int]bool, error) {
	if o.landing.Contract.Dedupe() == nil {
		return nil, nil
	}
	raw := array.NewBinaryBuilder(memory.DefaultAllocator, arrow.BinaryTypes.Binary)
	defer raw.Release()
	source := array.NewStringBuilder(memory.DefaultAllocator)
	defer source.Release()
	offset := array.NewInt64Builder(memory.DefaultAllocator)
	defer offset.Release()
	for _, b := range bad {
		raw.Append(b.Raw)
		source.Append(b.Partition)
		offset.Append(b.Offset)
	}
	columns := []arrow.Array{raw.NewArray()}
	if o.byMessageID() {
		columns[0].Release()
		columns = []arrow.Array{source.NewArray(), offset.NewArray()}
	}
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	seen, err := o.landing.Quarantine.Seen(ctx, columns...)
	if err != nil {
		return nil, err
	}
	out := map[int]bool{}
	for _, i := range seen {
		out[int(i)] = !batch.Durable(bad[i].Partition)
	}
	if !o.byMessageID() {
		here := map[string]bool{}
		for i, b := range bad {
			out[i] = out[i] || here[string(b.Raw)] && !batch.Durable(b.Partition)
			here[string(b.Raw)] = true
		}
	}
	return out, nil
}
