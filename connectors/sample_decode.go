package connectors

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/connectors/decode"
	"github.com/tidemill/tidemill/contract"
)

// Decoded is what the messages of a sample become under a contract.
type Decoded struct {
	Records   []arrow.Record // rows that would land; the caller releases them
	Bad       []decode.BadRow
	NewFields []decode.NewField // that would become columns, with on_new_field: add
}

// Release releases the records.
func (d *Decoded) Release() {
	for _, r := range d.Records {
		r.Release()
	}
	d.Records = nil
}

// Messages are the sample's messages.
func (s *Sample) Messages() ([]Message, error) {
	out := make([]Message, len(s.msgs))
	for i, m := range s.msgs {
		data, err := m.AsBytes()
		if err != nil {
			return nil, fmt.Errorf("message bytes: %w", err)
		}
		out[i] = Message{Data: data, Meta: map[string]string{}}
		if err := m.GetError(); err != nil {
			out[i].Error = err.Error()
		}
		if st, ok := positionOf(m); ok {
			out[i].Source, out[i].Offset = st.Partition, st.Offset
		}
		_ = m.MetaWalk(func(k, v string) error {
			if k != positionMeta {
				out[i].Meta[k] = v
			}
			return nil
		})
	}
	return out, nil
}

// Decode decodes the sample's messages as the lakehouse output does.
func (s *Sample) Decode(c *contract.Table) (*Decoded, error) {
	maxRow := decode.DefaultMaxRowBytes
	if n := child(child(child(s.config.root, "output"), "lakehouse"), "max_row_bytes"); n != nil {
		if err := n.Decode(&maxRow); err != nil {
			return nil, fmt.Errorf("output.lakehouse.max_row_bytes: %w", err)
		}
	}
	o := &output{table: c.Name(), maxRow: maxRow, landing: &Landing{Contract: c}}
	by, err := o.compile(o.landing, LandedSchema(c))
	if err != nil {
		return nil, err
	}
	dec := by.decoder()
	out := &Decoded{}
	for msgs := s.msgs; len(msgs) > 0; {
		part, n, err := o.decode(dec, msgs)
		if err != nil {
			dec.Reset()
			out.Release()
			return nil, err
		}
		msgs = msgs[n:]
		if part.rec.NumRows() > 0 {
			out.Records = append(out.Records, part.rec)
		} else {
			part.rec.Release()
		}
		out.Bad = append(out.Bad, part.bad...)
		for _, f := range part.fresh {
			if !slices.ContainsFunc(out.NewFields, func(have decode.NewField) bool { return have.Name == f.Name }) {
				out.NewFields = append(out.NewFields, f)
			}
		}
	}
	return out, nil
}

// rowsIn counts the rows of a message: objects, whatever stands between them.
func rowsIn(data []byte) int {
	trimmed := bytes.TrimSpace(data)
	if len(trimmed) > 0 && trimmed[0] == '[' {
		var elements []json.RawMessage
		if json.Unmarshal(trimmed, &elements) == nil {
			return max(1, len(elements))
		}
		return 1
	}
	if json.Valid(trimmed) {
		return 1
	}
	n := 0
	for line := range bytes.SplitSeq(trimmed, []byte{'\n'}) {
		if len(bytes.TrimSpace(line)) > 0 {
			n++
		}
	}
	return max(1, n)
}
