package parquet

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	pq "github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
)

// Reader reads a file's row groups one by one, with the file's own columns and types,
// whoever wrote it. INT96 timestamps are timestamps in microseconds like others. A
// damaged file is an error, not a panic, as far as the decoder can be caught at it. Not
// safe for concurrent use.
type Reader struct {
	r      *file.Reader
	fr     *pqarrow.FileReader
	schema *arrow.Schema
	int96  []bool // by leaf column: it is a timestamp, and read as bytes; nil when none is
	size   int64  // of the file
}

// maxBatch is how many values the decoder makes room for before it knows how many there are.
const maxBatch = 1 << 20

// NewReader reads the footer of a file that is in memory. The Reader uses data for as
// long as it is used itself.
func NewReader(data []byte) (*Reader, error) {
	return newReader(bytes.NewReader(data), int64(len(data)), pq.NewReaderProperties(memory.NewGoAllocator()))
}

func newReader(src io.ReaderAt, size int64, props *pq.ReaderProperties) (r *Reader, err error) {
	defer recovered(&err)
	pr, int96, err := openFile(src, size, props)
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
	return &Reader{pr, fr, schema, int96, size}, nil
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
	if err := r.check(groups, leaves); err != nil {
		return nil, fmt.Errorf("decode parquet: %w", err)
	}
	included := make(map[int]bool, len(leaves))
	for _, l := range leaves {
		included[l] = true
	}
	fields, cols := make([]arrow.Field, len(columns)), make([]arrow.Array, len(columns))
	defer func() {
		for _, c := range cols {
			if c != nil {
				c.Release()
			}
		}
	}()
	// Column by column, and not by the decoder's own goroutines: from here a panic can be
	// caught. (The children of a struct are read by goroutines of the decoder all the same.)
	for i, c := range columns {
		fields[i] = r.schema.Field(c)
		cr, err := r.fr.GetFieldReader(ctx, c, included, groups)
		if err != nil {
			return nil, fmt.Errorf("decode parquet: column %s: %w", fields[i].Name, err)
		}
		cols[i], err = r.column(groups, cr, fields[i].Type, first[i])
		cr.Release()
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

// check refuses the column chunks that the decoder cannot read, or would panic on.
func (r *Reader) check(groups, leaves []int) error {
	meta := r.r.MetaData()
	for _, g := range groups {
		for _, l := range leaves {
			chunk := meta.RowGroups[g].Columns[l].MetaData
			path := meta.Schema.Column(l).Path()
			start := chunk.GetDataPageOffset()
			if at := chunk.GetDictionaryPageOffset(); chunk.IsSetDictionaryPageOffset() && at > 0 && at < start {
				start = at
			}
			if n := chunk.GetTotalCompressedSize(); start < 0 || n < 0 || start > r.size || n > r.size-start || chunk.GetTotalUncompressedSize() < 0 || chunk.GetNumValues() < 0 {
				return fmt.Errorf("damaged file: column %s of row group %d does not lie in the file", path, g)
			}
			for _, e := range chunk.GetEncodings() {
				if e == byteStreamSplit {
					return fmt.Errorf("column %s is encoded as BYTE_STREAM_SPLIT, which is not supported; have its writer use another encoding", path)
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
	return r.single(chunks, t, first)
}

// single returns the chunks of a column, whose first leaf is given, as one array, and
// releases them.
func (r *Reader) single(chunks *arrow.Chunked, t arrow.DataType, first int) (arrow.Array, error) {
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
