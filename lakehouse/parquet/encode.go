package parquet

import (
	"bytes"
	"strconv"
	"sync"

	"github.com/apache/arrow/go/v17/arrow"
)

const (
	fieldIDKey = "PARQUET:field_id"
	createdBy  = "tidemill"
)

// How large a page is, about, and after how many values that is looked at. A micro-batch has
// small ones: the encoder makes three buffers of a page's size for each column of each file,
// and uses none of them again. In a big file they are what zstd has to work with.
const (
	pageBytes  = 1 << 20
	batchRows  = 64 << 10
	microPage  = 64 << 10
	microBatch = 512
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
