package parquet

import (
	"fmt"
	"io"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/arrow/util"
)

// A row group of a Stream has at least so many rows or bytes, unless it is the last.
const (
	streamRows  = 128 << 10
	streamBytes = 32 << 20
)

// Stream encodes a file as it comes and writes it to an io.Writer. Small records are put
// together, so it takes memory for one row group and the largest record, whatever the
// file's size. Not safe for concurrent use.
type Stream struct {
	out     io.Writer
	w       *Writer
	pending []arrow.Record
	rows    int64
	bytes   int64
}

// NewStream returns a Stream of a schema's columns to a writer, which it does not close.
// Options.Bounds is not for streams.
func NewStream(out io.Writer, schema *arrow.Schema, o Options) (*Stream, error) {
	o.Bounds = false // they would be taken out of a footer that is written already
	w, err := NewWriter(schema, o)
	if err != nil {
		return nil, err
	}
	return &Stream{out: out, w: w}, nil
}

// Write takes a record with the schema's columns; it keeps a reference for a while. After
// an error the Stream is done, and its file is cut off.
func (s *Stream) Write(rec arrow.Record) error {
	if rec.NumRows() == 0 {
		return nil
	}
	rec.Retain()
	s.pending = append(s.pending, rec)
	s.rows += rec.NumRows()
	s.bytes += util.TotalRecordSize(rec)
	if s.rows < streamRows && s.bytes < streamBytes {
		return nil
	}
	return s.flush()
}

// flush writes a row group.
func (s *Stream) flush() error {
	rec, err := concatenate(s.w.schema, s.pending)
	s.drop()
	if err == nil {
		err = s.w.WriteGroup(rec)
		rec.Release()
	}
	if err == nil {
		_, err = s.w.buf.WriteTo(s.out)
	}
	if err != nil {
		s.w.Abort()
	}
	return err
}

func (s *Stream) drop() {
	for _, r := range s.pending {
		r.Release()
	}
	s.pending, s.rows, s.bytes = nil, 0, 0
}

// Close ends the file.
func (s *Stream) Close() error {
	if len(s.pending) > 0 {
		if err := s.flush(); err != nil {
			return err
		}
	}
	buf, err := s.w.Finish()
	if err != nil {
		return err
	}
	defer buf.Release()
	_, err = buf.WriteTo(s.out)
	return err
}

// Abort gives the memory of a file back that is not wanted any more. It may be called at
// any time, and again.
func (s *Stream) Abort() {
	s.drop()
	s.w.Abort()
}

// concatenate returns records of one schema as one. The caller releases it.
func concatenate(schema *arrow.Schema, recs []arrow.Record) (rec arrow.Record, err error) {
	if len(recs) == 1 {
		recs[0].Retain()
		return recs[0], nil
	}
	cols := make([]arrow.Array, schema.NumFields())
	defer func() {
		for _, c := range cols {
			if c != nil {
				c.Release()
			}
		}
	}()
	rows := int64(0)
	for _, r := range recs {
		rows += r.NumRows()
	}
	for i := range cols {
		parts := make([]arrow.Array, len(recs))
		for k, r := range recs {
			parts[k] = r.Column(i)
		}
		if cols[i], err = array.Concatenate(parts, memory.DefaultAllocator); err != nil {
			return nil, fmt.Errorf("column %s: %w", schema.Field(i).Name, err)
		}
	}
	return array.NewRecord(recs[0].Schema(), cols, rows), nil
}
