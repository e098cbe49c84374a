package parquet

import (
	"context"
	"fmt"
	"io"
	"iter"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	pq "github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
)

// pageBuffer is what a column is read ahead by, at least.
const pageBuffer = 256 << 10

// OpenReader reads the footer of a file that stays where it is. It is for files of
// others, of any size: use [Reader.Batches], which takes a page of each column, and
// not a row group, into memory. Errors of src are in the chain of the Reader's.
func OpenReader(src io.ReaderAt, size int64) (*Reader, error) {
	props := pq.NewReaderProperties(memory.NewGoAllocator())
	props.BufferedStreamEnabled = true
	props.BufferSize = pageBuffer
	return newReader(src, size, props)
}

// GroupBytes returns how many bytes the values of a row group take, as the file says.
func (r *Reader) GroupBytes(i int) int64 { return r.r.MetaData().RowGroups[i].GetTotalByteSize() }

// Batches yields the rows of row group i in records of at most n rows. A record is the
// caller's until the next one. After an error it ends.
func (r *Reader) Batches(ctx context.Context, i int, n int64) iter.Seq2[arrow.Record, error] {
	return func(yield func(arrow.Record, error) bool) {
		g, err := r.openGroup(ctx, i)
		if err != nil {
			yield(nil, fmt.Errorf("decode parquet: %w", err))
			return
		}
		defer g.close()
		for left := r.GroupRows(i); left > 0; {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			rec, err := g.next(min(n, left))
			if err != nil {
				yield(nil, err)
				return
			}
			left -= rec.NumRows()
			more := yield(rec, nil)
			rec.Release()
			if !more {
				return
			}
		}
	}
}

// group is a row group that is read batch by batch.
type group struct {
	r       *Reader
	columns []*pqarrow.ColumnReader
	first   []int // leaf of each column
}

func (r *Reader) openGroup(ctx context.Context, i int) (g *group, err error) {
	defer recovered(&err)
	if i < 0 || i >= r.NumRowGroups() {
		return nil, fmt.Errorf("row group %d of %d", i, r.NumRowGroups())
	}
	leaves, first := r.leaves(r.all())
	if err := r.check([]int{i}, leaves); err != nil {
		return nil, err
	}
	included := make(map[int]bool, len(leaves))
	for _, l := range leaves {
		included[l] = true
	}
	g = &group{r: r, first: first}
	for c := range r.schema.NumFields() {
		cr, err := r.fr.GetFieldReader(ctx, c, included, []int{i})
		if err != nil {
			g.close()
			return nil, fmt.Errorf("column %s: %w", r.schema.Field(c).Name, err)
		}
		g.columns = append(g.columns, cr)
	}
	return g, nil
}

func (g *group) close() {
	for _, c := range g.columns {
		c.Release()
	}
}

// next reads so many rows.
func (g *group) next(rows int64) (rec arrow.Record, err error) {
	defer recovered(&err)
	cols := make([]arrow.Array, len(g.columns))
	defer func() {
		for _, c := range cols {
			if c != nil {
				c.Release()
			}
		}
	}()
	for i, c := range g.columns {
		f := g.r.schema.Field(i)
		chunks, err := c.NextBatch(rows)
		if err == nil {
			cols[i], err = g.r.single(chunks, f.Type, g.first[i])
		}
		if err == nil && int64(cols[i].Len()) != rows {
			err = fmt.Errorf("%d values for %d rows", cols[i].Len(), rows)
		}
		if err != nil {
			return nil, fmt.Errorf("decode parquet: column %s: %w", f.Name, err)
		}
	}
	return array.NewRecord(g.r.schema, cols, rows), nil
}
