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

// Reader reads a file's row groups one by one, with the file's own columns and types,
// whoever wrote it. A damaged file is an error, never a panic. Not safe for concurrent
// use.
type Reader struct {
	r      *file.Reader
	fr     *pqarrow.FileReader
	schema *arrow.Schema
}

// maxBatch is how many values the decoder makes room for before it knows how many there are.
const maxBatch = 1 << 20

// NewReader reads the footer of a file that is in memory. The Reader uses data for as
// long as it is used itself.
func NewReader(data []byte) (r *Reader, err error) {
	defer recovered(&err)
	pr, err := file.NewParquetReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("decode parquet: %w", err)
	}
	rows, most := int64(0), int64(1)
	for i := range pr.NumRowGroups() {
		n := pr.MetaData().RowGroups[i].GetNumRows()
		if n < 0 || rows+n > pr.NumRows() {
			return nil, fmt.Errorf("decode parquet: damaged file: row group %d has %d rows, the file %d", i, n, pr.NumRows())
		}
		rows, most = rows+n, max(most, n)
	}
	if rows != pr.NumRows() {
		return nil, fmt.Errorf("decode parquet: damaged file: the row groups have %d rows, the file %d", rows, pr.NumRows())
	}
	fr, err := pqarrow.NewFileReader(pr, pqarrow.ArrowReadProperties{BatchSize: min(most, maxBatch)}, memory.DefaultAllocator)
	if err != nil {
		return nil, fmt.Errorf("decode parquet: %w", err)
	}
	schema, err := fr.Schema()
	if err != nil {
		return nil, fmt.Errorf("decode parquet: %w", err)
	}
	return &Reader{pr, fr, schema}, nil
}

// recovered turns a panic into an error: the decoder trusts lengths that it reads.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("decode parquet: damaged file: %v", r)
	}
}

// NumRowGroups returns the number of row groups.
func (r *Reader) NumRowGroups() int { return r.r.NumRowGroups() }

// NumRows returns the number of rows in all row groups.
func (r *Reader) NumRows() int64 { return r.r.NumRows() }

// GroupRows returns the number of rows of a row group.
func (r *Reader) GroupRows(i int) int64 { return r.r.MetaData().RowGroups[i].GetNumRows() }

// Schema returns the file's columns.
func (r *Reader) Schema() *arrow.Schema { return r.schema }

// ReadGroup returns row group i, 0 <= i < NumRowGroups, as one record. The caller
// releases it; its memory is Go's: the decoder does not give all of an allocator's back.
func (r *Reader) ReadGroup(ctx context.Context, i int) (arrow.Record, error) {
	if i < 0 || i >= r.NumRowGroups() {
		return nil, fmt.Errorf("decode parquet: row group %d of %d", i, r.NumRowGroups())
	}
	return r.read(ctx, []int{i}, r.GroupRows(i))
}

// Close lets go of the file.
func (r *Reader) Close() { _ = r.r.Close() }

// read returns some row groups, which have rows rows together, as one record.
func (r *Reader) read(ctx context.Context, groups []int, rows int64) (rec arrow.Record, err error) {
	defer recovered(&err)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	leaves := make([]int, r.r.MetaData().Schema.NumColumns())
	for i := range leaves {
		leaves[i] = i
	}
	readers, schema, err := r.fr.GetFieldReaders(ctx, leaves, groups)
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
	// Column by column, and not by the decoder's own goroutines: from here a panic can be caught.
	for i, cr := range readers {
		defer cr.Release()
		chunks, err := r.fr.ReadColumn(groups, cr)
		if err == nil {
			cols[i], err = whole(memory.DefaultAllocator, chunks)
			chunks.Release()
		}
		if err == nil && int64(cols[i].Len()) != rows {
			err = fmt.Errorf("%d values for %d rows", cols[i].Len(), rows)
		}
		if err != nil {
			return nil, fmt.Errorf("decode parquet: column %s: %w", schema.Field(i).Name, err)
		}
	}
	return array.NewRecord(schema, cols, rows), nil
}

// Decode returns a file's rows as one record. The caller releases it. What is said of a
// Reader holds here too.
func Decode(ctx context.Context, data []byte) (arrow.Record, error) {
	r, err := NewReader(data)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	groups := make([]int, r.NumRowGroups())
	for i := range groups {
		groups[i] = i
	}
	return r.read(ctx, groups, r.NumRows())
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
