package parquet

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/parquet/file"
)

// findUnordered notes the leaves of a column that have no bounds in the row group that
// is being written, where leaf is the number of its first, and returns the next one's.
func (w *Writer) findUnordered(col arrow.Array, leaf int) int {
	switch a := col.(type) {
	case *array.Struct:
		for i := range a.NumField() {
			leaf = w.findUnordered(a.Field(i), leaf)
		}
		return leaf
	case *array.Map:
		return w.findUnordered(a.Items(), w.findUnordered(a.Keys(), leaf))
	case *array.List:
		return w.findUnordered(a.ListValues(), leaf)
	case *array.Float64:
		if unordered(a.Float64Values()) {
			w.boundless = append(w.boundless, chunk{w.groups, leaf})
		}
	case *array.Float32:
		if unordered(a.Float32Values()) {
			w.boundless = append(w.boundless, chunk{w.groups, leaf})
		}
	}
	return leaf + 1
}

// unordered says whether there is NaN or an infinity among some values. Nulls' values
// count as well; that does no harm.
func unordered[T float32 | float64](values []T) bool {
	for _, v := range values {
		if v-v != 0 {
			return true
		}
	}
	return false
}

const trailer = 8 // bytes: the footer's length, and the magic number

// dropBounds takes the bounds of w.boundless out of the footer again: the encoder
// passes over NaN and keeps the bounds of the rest, and others disagree on what that
// means. So it does with one bound where the other one was too long, and with numbers that it has
// not counted. It also holds the footer against what was written, for the encoder keeps
// errors of a row group to itself.
func (w *Writer) dropBounds() error {
	r, err := file.NewParquetReader(bytes.NewReader(w.buf.Bytes()))
	if err != nil {
		return fmt.Errorf("read the footer back: %w", err)
	}
	defer r.Close()
	meta := r.MetaData()
	if r.NumRows() != w.rows || r.NumRowGroups() != w.groups {
		return fmt.Errorf("wrote %d rows in %d row groups, the footer says %d in %d", w.rows, w.groups, r.NumRows(), r.NumRowGroups())
	}
	for _, c := range w.boundless {
		if s := meta.RowGroups[c.group].Columns[c.leaf].MetaData.Statistics; s != nil {
			s.Min, s.MinValue = nil, nil
		}
	}
	for _, g := range meta.RowGroups {
		for _, c := range g.Columns {
			s := c.MetaData.Statistics
			if s == nil {
				continue
			}
			s.DistinctCount = nil // which the encoder says is 0
			if s.MinValue == nil || s.MaxValue == nil {
				s.Min, s.Max, s.MinValue, s.MaxValue = nil, nil, nil, nil
			}
		}
	}
	data := w.buf.Bytes()
	size := int(binary.LittleEndian.Uint32(data[len(data)-trailer:]))
	w.buf.Truncate(len(data) - trailer - size)
	n, err := meta.WriteTo(w.buf, nil)
	if err != nil {
		return fmt.Errorf("write the footer: %w", err)
	}
	w.buf.Write(binary.LittleEndian.AppendUint32(nil, uint32(n)))
	w.buf.WriteString("PAR1")
	return nil
}
