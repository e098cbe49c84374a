package parquet

import (
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	pq "github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"

	"github.com/tidemill/tidemill/internal/recycle"
)

// Options say how to encode.
type Options struct {
	// Deltas names the columns of type long whose values mostly grow by little.
	Deltas []string
	// Zstd compresses with zstd instead of snappy: smaller and slower, for files that are
	// written once and read often.
	Zstd bool
	// Bounds puts each row group's bounds and numbers of nulls into the footer, so that
	// readers can leave out row groups of a big file. A float column has no bounds in a row
	// group with NaN or an infinity, and binary columns have none at all.
	Bounds bool
	// SizeHint is about how many bytes the file will have, if that is known.
	SizeHint int
}

// Writer encodes a file of several row groups in memory. Beside the file it needs what
// one row group takes. Not safe for concurrent use.
type Writer struct {
	o      Options
	schema *arrow.Schema // with field ids
	buf    *Buffer       // nil when the Writer is done
	fw     *pqarrow.FileWriter

	dictionary []bool // by column
	rows       int64
	groups     int
	boundless  []chunk // that have values without an order
}

// chunk is a leaf column of a row group.
type chunk struct{ group, leaf int }

// maxBound is the size in bytes from which the bounds of strings are left out.
const maxBound = 256

// NewWriter returns a Writer of files with a schema's columns.
func NewWriter(schema *arrow.Schema, o Options) (*Writer, error) {
	if schema.NumFields() == 0 {
		return nil, errors.New("encode parquet: no columns")
	}
	buf := buffers.Get().(*Buffer)
	buf.Grow(o.SizeHint)
	return &Writer{o: o, schema: WithFieldIDs(schema), buf: buf}, nil
}

// Len returns the bytes that were written so far.
func (w *Writer) Len() int {
	if w.buf == nil {
		return 0
	}
	return w.buf.Len()
}

// WriteGroup writes a record, which has the schema's columns, as a row group. How
// columns are encoded is decided with the first. After an error the Writer is done.
func (w *Writer) WriteGroup(rec arrow.Record) (err error) {
	defer w.caught(&err)
	if w.buf == nil {
		return errDone
	}
	if err := w.check(rec); err != nil {
		return err
	}
	if err := w.start(rec); err != nil {
		return err
	}
	w.fw.NewRowGroup()
	leaf := 0
	for i, col := range rec.Columns() {
		if w.o.Bounds {
			n := leaf
			leaf = w.findUnordered(col, leaf)
			if leaf == n {
				return fmt.Errorf("column %s: type %s has no column of Parquet", rec.ColumnName(i), col.DataType())
			}
		}
		if err := w.writeColumn(i, col); err != nil {
			return fmt.Errorf("column %s: %w", rec.ColumnName(i), err)
		}
	}
	w.rows += rec.NumRows()
	w.groups++
	return nil
}

var errDone = errors.New("the writer is done")

// caught ends the Writer if there was an error. One batch that the encoder cannot bear
// must not end the process, and all batches with it.
func (w *Writer) caught(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%v", r)
	}
	if *err != nil {
		*err = fmt.Errorf("encode parquet: %w", *err)
		w.Abort()
	}
}

// Abort gives the memory of a file back that is not wanted any more. It may be called at
// any time, and again.
func (w *Writer) Abort() {
	if w.buf != nil {
		w.buf.Release()
		w.buf = nil
	}
}

func (w *Writer) check(rec arrow.Record) error {
	if int(rec.NumCols()) != w.schema.NumFields() {
		return fmt.Errorf("a record of %d columns for a file of %d", rec.NumCols(), w.schema.NumFields())
	}
	for i, f := range w.schema.Fields() {
		if have := rec.Schema().Field(i); have.Name != f.Name || !arrow.TypeEqual(rec.Column(i).DataType(), f.Type) {
			return fmt.Errorf("column %s %s where the file has %s %s", have.Name, have.Type, f.Name, f.Type)
		}
		if !f.Nullable && rec.Column(i).NullN() > 0 {
			return fmt.Errorf("column %s is required and has %d nulls", f.Name, rec.Column(i).NullN())
		}
	}
	return nil
}

// start chooses each column's encoding with the first record, and begins the file.
func (w *Writer) start(rec arrow.Record) error {
	if w.fw != nil {
		return nil
	}
	codec, page, batch := compress.Codecs.Snappy, int64(microPage), int64(microBatch)
	if w.o.Zstd {
		codec, page, batch = compress.Codecs.Zstd, pageBytes, batchRows
	}
	mem := recycle.Shared
	props := []pq.WriterProperty{
		pq.WithAllocator(mem), pq.WithVersion(pq.V2_LATEST), pq.WithDataPageVersion(pq.DataPageV1),
		pq.WithCompression(codec), pq.WithDictionaryDefault(false), pq.WithStats(w.o.Bounds), pq.WithMaxStatsSize(maxBound),
		pq.WithDataPageSize(page), pq.WithBatchSize(batch), pq.WithCreatedBy(createdBy),
		pq.WithMaxRowGroupLength(max(rec.NumRows(), 1)),
	}
	w.dictionary = make([]bool, len(rec.Columns()))
	for i, col := range rec.Columns() {
		name := w.schema.Field(i).Name
		switch w.dictionary[i] = constant(col); {
		case w.dictionary[i]:
		case slices.Contains(w.o.Deltas, name) && col.DataType().ID() == arrow.INT64:
			props = append(props, pq.WithEncodingFor(name, pq.Encodings.DeltaBinaryPacked))
		default:
			w.dictionary[i] = paysOff(col)
		}
		if w.dictionary[i] {
			props = append(props, pq.WithDictionaryFor(name, true))
		}
		if col.DataType().ID() == arrow.BINARY {
			props = append(props, pq.WithStatsFor(name, false))
		}
	}
	var err error
	w.fw, err = pqarrow.NewFileWriter(w.schema, w.buf, pq.NewWriterProperties(props...), pqarrow.NewArrowWriterProperties(pqarrow.WithAllocator(mem)))
	return err
}

func (w *Writer) writeColumn(i int, col arrow.Array) error {
	// With a dictionary that is ready the encoder counts the nulls of a required column below 0.
	counted := w.o.Bounds && !w.schema.Field(i).Nullable
	if !w.dictionary[i] || counted {
		return w.fw.WriteColumnData(col)
	}
	ready, err := indexed(recycle.Shared, col)
	if err != nil {
		return err
	}
	defer ready.Release()
	return w.fw.WriteColumnData(ready)
}

// Finish ends the file and returns it. The caller releases it; the Writer is done.
func (w *Writer) Finish() (buf *Buffer, err error) {
	defer w.caught(&err)
	if w.buf == nil {
		return nil, errDone
	}
	if w.fw == nil {
		b := array.NewRecordBuilder(memory.DefaultAllocator, w.schema)
		defer b.Release()
		none := b.NewRecord()
		defer none.Release()
		if err := w.start(none); err != nil {
			return nil, err
		}
	}
	if err := w.fw.Close(); err != nil {
		return nil, err
	}
	if w.o.Bounds {
		if err := w.dropBounds(); err != nil {
			return nil, err
		}
	}
	buf, w.buf = w.buf, nil
	return buf, nil
}
