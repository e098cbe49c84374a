package query

import (
	"bufio"
	"encoding/base64"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
)

// RecordReader is what the writers read: [Rows], for one. Next returns io.EOF
// after the last record; the writer releases the records.
type RecordReader interface {
	Schema() *arrow.Schema
	Next() (arrow.Record, error)
}

// each calls f for every record.
func each(r RecordReader, f func(arrow.Record) error) error {
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		err = f(rec)
		rec.Release()
		if err != nil {
			return err
		}
	}
}

// WriteJSON writes one JSON object per row and line, columns in their order.
// Numbers beyond what float64 holds exactly are numbers still, decimals are
// strings, timestamps RFC 3339 in UTC, binary base64; NaN and infinities,
// which JSON lacks, are null.
func WriteJSON(w io.Writer, r RecordReader) error {
	out := bufio.NewWriter(w)
	var line []byte
	err := each(r, func(rec arrow.Record) error {
		for i := range int(rec.NumRows()) {
			line = append(line[:0], '{')
			for c, f := range rec.Schema().Fields() {
				if c > 0 {
					line = append(line, ',')
				}
				line = append(appendText(line, f.Name), ':')
				line = appendJSON(line, rec.Column(c), i)
			}
			if _, err := out.Write(append(line, '}', '\n')); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, out.Flush())
}

// appendText writes a JSON string; what need not be escaped is not.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, `\n`...)
		case c < 0x20:
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

func appendJSON(b []byte, a arrow.Array, i int) []byte {
	if a.IsNull(i) {
		return append(b, "null"...)
	}
	switch a := a.(type) {
	case *array.String:
		return appendText(b, a.Value(i))
	case *array.Int64:
		return strconv.AppendInt(b, a.Value(i), 10)
	case *array.Int32:
		return strconv.AppendInt(b, int64(a.Value(i)), 10)
	case *array.Float64:
		return appendFloat(b, a.Value(i), 64)
	case *array.Float32:
		return appendFloat(b, float64(a.Value(i)), 32)
	case *array.Boolean:
		return strconv.AppendBool(b, a.Value(i))
	case *array.List:
		from, to := a.ValueOffsets(i)
		b = append(b, '[')
		for j := from; j < to; j++ {
			if j > from {
				b = append(b, ',')
			}
			b = appendJSON(b, a.ListValues(), int(j))
		}
		return append(b, ']')
	case *array.Struct:
		b = append(b, '{')
		for j, f := range a.DataType().(*arrow.StructType).Fields() {
			if j > 0 {
				b = append(b, ',')
			}
			b = append(appendText(b, f.Name), ':')
			b = appendJSON(b, a.Field(j), i)
		}
		return append(b, '}')
	}
	return appendText(b, showScalar(a, i))
}

func appendFloat(b []byte, v float64, bits int) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(b, "null"...)
	}
	return strconv.AppendFloat(b, v, floatFormat(v), -1, bits)
}

// floatFormat avoids long runs of zeros.
func floatFormat(v float64) byte {
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		return 'e'
	}
	return 'f'
}

// showScalar writes a value that is not null, without quotes.
func showScalar(a arrow.Array, i int) string {
	switch a := a.(type) {
	case *array.String:
		return a.Value(i)
	case *array.Binary:
		return base64.StdEncoding.EncodeToString(a.Value(i))
	case *array.Timestamp:
		return showTime(a.Value(i))
	case *array.Date32:
		return a.Value(i).ToTime().Format(time.DateOnly)
	case *array.Float64:
		return strconv.FormatFloat(a.Value(i), floatFormat(a.Value(i)), -1, 64)
	case *array.Float32:
		return strconv.FormatFloat(float64(a.Value(i)), floatFormat(float64(a.Value(i))), -1, 32)
	case *array.Decimal128:
		return a.Value(i).ToString(a.DataType().(*arrow.Decimal128Type).Scale)
	case *array.List, *array.Struct:
		return string(appendJSON(nil, a, i))
	}
	return a.ValueStr(i)
}

// showTime knows DuckDB's infinities, which are the ends of the range.
func showTime(t arrow.Timestamp) string {
	switch t {
	case math.MaxInt64:
		return "infinity"
	case -math.MaxInt64:
		return "-infinity"
	}
	return t.ToTime(arrow.Microsecond).Format(time.RFC3339Nano)
}

// WriteCSV writes a header and one line per row. Null is an empty field, an
// empty text too; nested values are JSON.
func WriteCSV(w io.Writer, r RecordReader) error {
	out := csv.NewWriter(w)
	row := make([]string, r.Schema().NumFields())
	for i, f := range r.Schema().Fields() {
		row[i] = f.Name
	}
	if err := out.Write(row); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	err := each(r, func(rec arrow.Record) error {
		for i := range int(rec.NumRows()) {
			for c, col := range rec.Columns() {
				row[c] = ""
				if col.IsValid(i) {
					row[c] = showScalar(col, i)
				}
			}
			if err := out.Write(row); err != nil {
				return err
			}
		}
		return nil
	})
	out.Flush()
	return errors.Join(err, out.Error())
}
