package parquet

import (
	"bytes"
	"strconv"
	"sync"

	"github.com/apache/arrow/go/v17/arrow"
)

const (
	fieldIDKey = "PARQUET:field_id"
	pageBytes  = 1 << 20 // a column of a micro-batch is one page
	batchRows  = 64 << 10
	createdBy  = "tidemill"
)

// Buffer is an encoded file in memory that may be used again.
type Buffer struct{ bytes.Buffer }

var buffers = sync.Pool{New: func() any { return new(Buffer) }}

// maxPooled keeps one huge record from holding its memory for ever.
const maxPooled = 64 << 20

// Release gives the memory back. Nobody may look at Bytes any more: do not call it
// after an upload that failed, whose transport may still be reading.
func (b *Buffer) Release() {
	if b.Cap() <= maxPooled {
		b.Reset()
		buffers.Put(b)
	}
}

// Encode returns a record as a Parquet file of one row group, in a pooled buffer that the caller releases.
func Encode(rec arrow.Record, o Options) (*Buffer, error) {
	w, err := NewWriter(rec.Schema(), o)
	if err != nil {
		return nil, err
	}
	if err := w.WriteGroup(rec); err != nil {
		return nil, err
	}
	return w.Finish()
}

// WithFieldIDs returns a schema whose columns are numbered, from 1 in their order.
func WithFieldIDs(s *arrow.Schema) *arrow.Schema {
	n := 0
	return arrow.NewSchema(numberFields(s.Fields(), &n), nil)
}

func numberFields(in []arrow.Field, n *int) []arrow.Field {
	out := make([]arrow.Field, len(in))
	for i, f := range in {
		*n++
		f.Metadata = arrow.NewMetadata([]string{fieldIDKey}, []string{strconv.Itoa(*n)})
		if st, ok := f.Type.(*arrow.StructType); ok {
			f.Type = arrow.StructOf(numberFields(st.Fields(), n)...)
		}
		out[i] = f
	}
	return out
}
