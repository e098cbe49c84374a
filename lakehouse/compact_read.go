package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/lakehouse/merge"
	"github.com/tidemill/tidemill/lakehouse/parquet"
)

// fetched is a file as it is stored.
type fetched struct {
	file File
	data []byte
	err  error
}

// Bounds of what is fetched side by side: small files cost waiting, not bytes.
const (
	fetchFiles = 16
	fetchBytes = 16 << 20
)

// fetch reads the first of some files, side by side: one, or as many as are not too much.
func (c *compaction) fetch(ctx context.Context, files []File) []fetched {
	n, size := 0, int64(0)
	for n < min(len(files), fetchFiles) && (n == 0 || size+files[n].Size <= fetchBytes) {
		size += files[n].Size
		n++
	}
	out := make([]fetched, n)
	c.meter.wait(func() {
		var wg sync.WaitGroup
		for i := range out {
			wg.Go(func() {
				data, err := c.t.store.Get(ctx, files[i].Path)
				out[i] = fetched{files[i], data, err}
			})
		}
		wg.Wait()
	})
	return out
}

// open begins to read a file. What is the file's fault is an *inputError.
func open(f fetched) (*parquet.Reader, error) {
	if f.err != nil {
		if errors.Is(f.err, fs.ErrNotExist) {
			return nil, &inputError{f.file.Path, f.err}
		}
		return nil, fmt.Errorf("read %s: %w", f.file.Path, f.err)
	}
	r, err := parquet.NewReader(f.data)
	if err != nil {
		return nil, &inputError{f.file.Path, err}
	}
	if f.file.Rows >= 0 && r.NumRows() != f.file.Rows {
		r.Close()
		return nil, &inputError{f.file.Path, fmt.Errorf("it has %d rows, the log says %d", r.NumRows(), f.file.Rows)}
	}
	return r, nil
}

// readGroup returns a row group with the columns that the table's files have now.
func (c *compaction) readGroup(ctx context.Context, f File, r *parquet.Reader, i int) (arrow.Record, error) {
	rec, err := r.ReadGroup(ctx, i)
	if err == nil {
		var out arrow.Record
		out, err = complete(ctx, rec, c.data, File{})
		rec.Release()
		rec = out
	}
	if err == nil {
		err = checkNulls(rec, c.data.schema)
		if err != nil {
			rec.Release()
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &inputError{f.Path, err}
	}
	return rec, nil
}

// checkNulls returns an error if a required column has nulls.
func checkNulls(rec arrow.Record, schema *arrow.Schema) error {
	for i, f := range schema.Fields() {
		if n := rec.Column(i).NullN(); n > 0 && !f.Nullable {
			return fmt.Errorf("column %s is required and has %d nulls", f.Name, n)
		}
	}
	return nil
}

// load reads files whole, as many of the first ones as can be sorted in memory, and
// returns their records. The caller releases them.
func (c *compaction) load(ctx context.Context, files []File) (recs []arrow.Record, n int, err error) {
	defer func() {
		if err != nil {
			releaseRecords(recs)
			recs = nil
		}
	}()
	budget := c.o.MemoryBytes / 2
	for n < len(files) {
		for _, f := range c.fetch(ctx, files[n:]) {
			before := len(recs)
			r, err := open(f)
			if err != nil {
				return recs, n, err
			}
			for i := range r.NumRowGroups() {
				rec, err := c.readGroup(ctx, f.file, r, i)
				if err != nil {
					return recs, n, err
				}
				recs = append(recs, rec)
				budget -= heldBy(rec) + c.key.SortBytes(rec.NumRows())
				if budget >= 0 {
					continue
				}
				if n == 0 {
					return recs, n, &inputError{f.file.Path, errTooLarge}
				}
				releaseRecords(recs[before:])
				return recs[:before], n, nil
			}
			c.rows += r.NumRows()
			r.Close()
			n++
		}
		if err := c.pause(ctx); err != nil {
			return recs, n, err
		}
	}
	return recs, n, nil
}

func releaseRecords(recs []arrow.Record) {
	for _, r := range recs {
		r.Release()
	}
}

// runReader is a sorted file that is read row group by row group.
type runReader struct {
	c     *compaction
	file  File
	first arrow.Record    // what Next returns next, if it is there
	r     *parquet.Reader // nil before the first and after the last row group
	next  int
	ended bool
}

// peek reads the first record.
func (s *runReader) peek(ctx context.Context) (err error) {
	s.first, err = s.Next(ctx)
	return err
}

// begin reads on in a file that was fetched.
func (s *runReader) begin(f fetched) (err error) {
	if s.r, err = open(f); err == nil {
		s.c.rows += s.r.NumRows()
	}
	return err
}

// Next implements merge.Source.
func (s *runReader) Next(ctx context.Context) (arrow.Record, error) {
	if rec := s.first; rec != nil {
		s.first = nil
		return rec, nil
	}
	if s.ended {
		return nil, nil
	}
	if s.r == nil {
		if err := s.begin(s.c.fetch(ctx, []File{s.file})[0]); err != nil {
			return nil, err
		}
	}
	if s.next == s.r.NumRowGroups() {
		s.Close()
		return nil, nil
	}
	s.next++
	return s.c.readGroup(ctx, s.file, s.r, s.next-1)
}

// Close implements merge.Source.
func (s *runReader) Close() {
	if s.r != nil {
		s.r.Close()
	}
	if s.first != nil {
		s.first.Release()
	}
	s.r, s.first, s.ended = nil, nil, true
}

// several reads files one after the other, row group by row group.
type several struct {
	c     *compaction
	files []File
	ready []fetched
	now   *runReader
}

// Next implements merge.Source.
func (s *several) Next(ctx context.Context) (arrow.Record, error) {
	for {
		if s.now != nil {
			rec, err := s.now.Next(ctx)
			if rec != nil || err != nil {
				return rec, err
			}
			s.now = nil
		}
		if len(s.ready) == 0 {
			if len(s.files) == 0 {
				return nil, nil
			}
			s.ready = s.c.fetch(ctx, s.files)
			s.files = s.files[len(s.ready):]
		}
		s.now = &runReader{c: s.c, file: s.ready[0].file}
		if err := s.now.begin(s.ready[0]); err != nil {
			return nil, err
		}
		s.ready[0].data = nil
		s.ready = s.ready[1:]
	}
}

// Close implements merge.Source.
func (s *several) Close() {
	if s.now != nil {
		s.now.Close()
	}
	s.files, s.ready, s.now = nil, nil, nil
}

var _, _ merge.Source = (*runReader)(nil), (*several)(nil)
