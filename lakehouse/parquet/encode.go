package parquet

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	pq "github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
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

// Options say how to encode.
type Options struct {
	// Deltas names the columns of type long whose values mostly grow by little.
	Deltas []string
}

// Encode returns a record as a Parquet file, in a pooled buffer that the caller releases.
func Encode(rec arrow.Record, o Options) (buf *Buffer, err error) {
	buf = buffers.Get().(*Buffer)
	defer func() {
		// One batch that the encoder cannot bear must not end the process, and all batches with it.
		if r := recover(); r != nil {
			err = fmt.Errorf("encode parquet: %v", r)
		}
		if err != nil {
			buf.Release()
			buf = nil
		}
	}()
	mem := memory.DefaultAllocator
	rec, props, err := prepare(mem, rec, o)
	if err != nil {
		return buf, fmt.Errorf("encode parquet: %w", err)
	}
	defer rec.Release()
	w, err := pqarrow.NewFileWriter(rec.Schema(), buf, props, pqarrow.NewArrowWriterProperties(pqarrow.WithAllocator(mem)))
	if err != nil {
		return buf, fmt.Errorf("encode parquet: %w", err)
	}
	if err := w.Write(rec); err != nil {
		return buf, fmt.Errorf("encode parquet: %w", err)
	}
	if err := w.Close(); err != nil {
		return buf, fmt.Errorf("encode parquet: %w", err)
	}
	return buf, nil
}

// prepare chooses each column's encoding, and gives the columns their ids.
func prepare(mem memory.Allocator, rec arrow.Record, o Options) (arrow.Record, *pq.WriterProperties, error) {
	props := []pq.WriterProperty{
		pq.WithAllocator(mem), pq.WithVersion(pq.V2_LATEST), pq.WithDataPageVersion(pq.DataPageV1),
		pq.WithCompression(compress.Codecs.Snappy), pq.WithDictionaryDefault(false), pq.WithStats(false),
		pq.WithDataPageSize(pageBytes), pq.WithBatchSize(batchRows), pq.WithCreatedBy(createdBy),
		pq.WithMaxRowGroupLength(max(rec.NumRows(), 1)),
	}
	fields := WithFieldIDs(rec.Schema()).Fields()
	cols := make([]arrow.Array, len(fields))
	for i, col := range rec.Columns() {
		cols[i] = col
		switch name := fields[i].Name; {
		case constant(col):
			one, err := dictionaryOfOne(mem, col)
			if err != nil {
				return nil, nil, fmt.Errorf("column %s: %w", name, err)
			}
			defer one.Release()
			cols[i], fields[i].Type = one, one.DataType()
			props = append(props, pq.WithDictionaryFor(name, true))
		case slices.Contains(o.Deltas, name) && col.DataType().ID() == arrow.INT64:
			props = append(props, pq.WithEncodingFor(name, pq.Encodings.DeltaBinaryPacked))
		case paysOff(col):
			props = append(props, pq.WithDictionaryFor(name, true))
		}
	}
	return array.NewRecord(arrow.NewSchema(fields, nil), cols, rec.NumRows()), pq.NewWriterProperties(props...), nil
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
