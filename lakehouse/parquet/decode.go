package parquet

import (
	"bytes"
	"context"
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
)

// Decode returns a file's rows as one record with the file's own columns and types,
// whoever wrote it. A damaged file is an error, never a panic. The caller releases the
// record, whose memory is Go's: the decoder does not give all of an allocator's back.
func Decode(ctx context.Context, data []byte) (rec arrow.Record, err error) {
	defer func() {
		// The decoder trusts lengths that it reads.
		if r := recover(); r != nil {
			rec, err = nil, fmt.Errorf("decode parquet: damaged file: %v", r)
		}
	}()
	mem := memory.DefaultAllocator
	r, err := file.NewParquetReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("decode parquet: %w", err)
	}
	defer r.Close()
	fr, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{BatchSize: min(max(r.NumRows(), 1), 1<<20)}, mem)
	if err != nil {
		return nil, fmt.Errorf("decode parquet: %w", err)
	}
	leaves := make([]int, r.MetaData().Schema.NumColumns())
	for i := range leaves {
		leaves[i] = i
	}
	groups := make([]int, r.NumRowGroups())
	for i := range groups {
		groups[i] = i
	}
	readers, schema, err := fr.GetFieldReaders(ctx, leaves, groups)
	if err != nil {
		return nil, fmt.Errorf("decode parquet: %w", err)
	}
	cols := make([]arrow.Array, len(readers))
	defer func() {
		for _, c := range cols {
			if c != nil {
				c.Release()
			}
		}
	}()
	// Column by column, and not by the reader's own goroutines: from here a panic can be caught.
	for i, cr := range readers {
		defer cr.Release()
		chunks, err := fr.ReadColumn(groups, cr)
		if err == nil {
			cols[i], err = whole(mem, chunks)
			chunks.Release()
		}
		if err == nil && int64(cols[i].Len()) != r.NumRows() {
			err = fmt.Errorf("%d values for %d rows", cols[i].Len(), r.NumRows())
		}
		if err != nil {
			return nil, fmt.Errorf("decode parquet: column %s: %w", schema.Field(i).Name, err)
		}
	}
	return array.NewRecord(schema, cols, r.NumRows()), nil
}

// whole returns a chunked column as one array.
func whole(mem memory.Allocator, c *arrow.Chunked) (arrow.Array, error) {
	switch chunks := c.Chunks(); len(chunks) {
	case 0:
		return array.MakeArrayOfNull(mem, c.DataType(), 0), nil
	case 1:
		chunks[0].Retain()
		return chunks[0], nil
	default:
		return array.Concatenate(chunks, mem)
	}
}
