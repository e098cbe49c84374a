package parquet

import (
	"context"
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
)

// Reader reads a file's row groups one by one, with the file's own columns and types,
// whoever wrote it. INT96 timestamps are timestamps in microseconds like others. A damaged file is an error, never a panic. Not safe for concurrent
// use.
type Reader struct {
	r      *file.Reader
	fr     *pqarrow.FileReader
	schema *arrow.Schema
	int96  []bool // by leaf column: it is a timestamp, and read as bytes; nil when none is
}

// maxBatch is how many values the decoder makes room for before it knows how many there are.
const maxBatch = 1 << 20

// NewReader reads the footer of a file that is in memory. The Reader uses data for as
// long as it is used itself.
func NewReader(data []byte) (r *Reader, err error) {
	defer recovered(&err)
	pr, int96, err := openFile(data)
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
	if int96 != nil {
		schema = int96Schema(schema, int96)
	}
	return &Reader{pr, fr, schema, int96}, nil
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
	return r.read(ctx, []int{i}, r.all(), r.GroupRows(i))
}

// ReadColumns is ReadGroup of some columns only, by their places in Schema, in ascending
// order. Others are not decoded.
func (r *Reader) ReadColumns(ctx context.Context, i int, columns []int) (arrow.Record, error) {
	if i < 0 || i >= r.NumRowGroups() {
		return nil, fmt.Errorf("decode parquet: row group %d of %d", i, r.NumRowGroups())
	}
	return r.read(ctx, []int{i}, columns, r.GroupRows(i))
}

func (r *Reader) all() []int {
	columns := make([]int, r.schema.NumFields())
	for i := range columns {
		columns[i] = i
	}
	return columns
}

// Close lets go of the file.
func (r *Reader) Close() { _ = r.r.Close() }

// read returns columns of some row groups, which have rows rows together, as one record.
func (r *Reader) read(ctx context.Context, groups, columns []int, rows int64) (rec arrow.Record, err error) {
	defer recovered(&err)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	leaves, first := r.leaves(columns)
	if err := r.checkEncodings(groups, leaves); err != nil {
		return nil, fmt.Errorf("decode parquet: %w", err)
	}
	readers, _, err := r.fr.GetFieldReaders(ctx, leaves, groups)
	if err != nil {
		return nil, fmt.Errorf("decode parquet: %w", err)
	}
	for _, cr := range readers {
		defer cr.Release()
	}
	if len(readers) != len(columns) {
		return nil, fmt.Errorf("decode parquet: %d columns where there should be %d", len(readers), len(columns))
	}
	fields, cols := make([]arrow.Field, len(columns)), make([]arrow.Array, len(columns))
	defer func() {
		for _, c := range cols {
			if c != nil {
				c.Release()
			}
		}
	}()
	// Column by column, and not by the decoder's own goroutines: from here a panic can be caught.
	for i, c := range columns {
		fields[i] = r.schema.Field(c)
		cols[i], err = r.column(groups, readers[i], fields[i].Type, first[i])
		if err == nil && int64(cols[i].Len()) != rows {
			err = fmt.Errorf("%d values for %d rows", cols[i].Len(), rows)
		}
		if err != nil {
			return nil, fmt.Errorf("decode parquet: column %s: %w", fields[i].Name, err)
		}
	}
	return array.NewRecord(arrow.NewSchema(fields, nil), cols, rows), nil
}

// leaves returns the leaf columns of columns, and each column's first.
func (r *Reader) leaves(columns []int) (leaves, first []int) {
	n, next := 0, 0
	for i, f := range r.schema.Fields() {
		width := numLeaves(f.Type)
		if next < len(columns) && columns[next] == i {
			next++
			first = append(first, n)
			for k := range width {
				leaves = append(leaves, n+k)
			}
		}
		n += width
	}
	return leaves, first
}

// byteStreamSplit is the number of an encoding that the decoder lacks: it would find no
// values, and not say why.
const byteStreamSplit = 9

func (r *Reader) checkEncodings(groups, leaves []int) error {
	meta := r.r.MetaData()
	for _, g := range groups {
		for _, l := range leaves {
			for _, e := range meta.RowGroups[g].Columns[l].MetaData.GetEncodings() {
				if e == byteStreamSplit {
					return fmt.Errorf("column %s is encoded as BYTE_STREAM_SPLIT, which is not supported; have its writer use another encoding", meta.Schema.Column(l).Path())
				}
			}
		}
	}
	return nil
}

// column returns one column of some row groups, whose first leaf is given.
func (r *Reader) column(groups []int, cr *pqarrow.ColumnReader, t arrow.DataType, first int) (arrow.Array, error) {
	chunks, err := r.fr.ReadColumn(groups, cr)
	if err != nil {
		return nil, err
	}
	defer chunks.Release()
	a, err := whole(memory.DefaultAllocator, chunks)
	if err != nil || r.int96 == nil {
		return a, err
	}
	defer a.Release()
	d, err := int96Data(a.Data(), t, r.int96[first:])
	if err != nil {
		return nil, err
	}
	defer d.Release()
	return array.MakeFromData(d), nil
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
	return r.read(ctx, groups, r.all(), r.NumRows())
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
