package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/lakehouse/parquet"
)

// How many rows of a Parquet file are in memory at a time: as many as take about so
// many bytes, by what the file says of the row group, and no more than so many.
const (
	parquetBytes = 2 << 20
	parquetRows  = 4096
)

// parquetReader reads a Parquet file batch by batch. Row groups that are not wanted are
// passed over, and one that is broken costs its own rows only.
type parquetReader struct {
	ctx   context.Context // of the iterator that is under way
	src   *watched
	r     *parquet.Reader
	group int   // the next one
	start int64 // number of its first row
	from  int64

	next1 func() (arrow.Record, error, bool)
	stop  func()
	row   int64 // of the next record
	end   int64 // of the group being read
}

// watched remembers what reading failed with.
type watched struct {
	at     io.ReaderAt
	failed error
}

func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.at.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		w.failed = err
	}
	return n, err
}

func newParquetReader(ctx context.Context, at io.ReaderAt, size, from int64) (*parquetReader, error) {
	src := &watched{at: at}
	r, err := parquet.OpenReader(src, size)
	if err != nil {
		if src.failed != nil {
			return nil, src.failed
		}
		return nil, damage{err}
	}
	return &parquetReader{ctx: ctx, src: src, r: r, from: from}, nil
}

func (p *parquetReader) close() {
	if p.stop != nil {
		p.stop()
	}
	p.r.Close()
}

// next implements rowReader.
func (p *parquetReader) next() (block, error) {
	for {
		if p.stop == nil {
			if p.group == p.r.NumRowGroups() {
				return block{}, io.EOF
			}
			rows := p.r.GroupRows(p.group)
			p.row, p.end = p.start, p.start+rows
			p.start += rows
			p.group++
			if p.end <= p.from {
				continue
			}
			p.next1, p.stop = iter.Pull2(p.r.Batches(p.ctx, p.group-1, p.batchRows(rows)))
		}
		rec, err, ok := p.next1()
		if !ok {
			p.stop()
			p.stop = nil
			continue
		}
		if err != nil {
			return p.broken(err)
		}
		b := block{first: p.row, rows: rec.NumRows()}
		p.row += b.rows
		skip := int(max(0, min(p.from-b.first, b.rows)))
		if b.first, b.rows = b.first+int64(skip), b.rows-int64(skip); b.rows == 0 {
			continue
		}
		b.data = appendRecord(make([]byte, 0, blockBytes), rec, skip)
		return b, nil
	}
}

// batchRows is how many of a row group's rows are read at a time.
func (p *parquetReader) batchRows(rows int64) int64 {
	each := p.r.GroupBytes(p.group-1)/rows + 1
	return max(1, min(parquetRows, parquetBytes/each))
}

// broken gives up a row group whose next rows cannot be read.
func (p *parquetReader) broken(err error) (block, error) {
	if p.src.failed != nil {
		return block{}, p.src.failed
	}
	if p.ctx.Err() != nil {
		return block{}, p.ctx.Err()
	}
	p.stop()
	p.stop = nil
	first := max(p.row, p.from)
	return block{first: first, rows: p.end - first, bad: &Bad{RuleUnreadable,
		fmt.Sprintf("rows %d to %d, the rest of row group %d: %v", first, p.end-1, p.group-1, err)}}, nil
}
