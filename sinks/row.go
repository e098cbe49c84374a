package sinks

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/internal/jsontext"
)

// encoder writes rows of one record as JSON objects.
type encoder struct {
	names [][]byte // `{"a":`, `,"b":` and so on
	cols  []appendFunc
}

// appendFunc appends the JSON of a column's i-th value, which is not null.
type appendFunc func(dst []byte, i int) []byte

// newEncoder prepares the columns of a record that are to be sent, by their places.
func newEncoder(rec arrow.Record, columns []int) (*encoder, error) {
	e := &encoder{}
	for n, at := range columns {
		begin := byte(',')
		if n == 0 {
			begin = '{'
		}
		name := appendText([]byte{begin}, rec.ColumnName(at))
		col, err := appender(rec.Column(at))
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", rec.ColumnName(at), err)
		}
		e.names, e.cols = append(e.names, append(name, ':')), append(e.cols, col)
	}
	return e, nil
}

// row appends a row.
func (e *encoder) row(dst []byte, i int) []byte {
	for n, col := range e.cols {
		dst = append(dst, e.names[n]...)
		dst = col(dst, i)
	}
	return append(dst, '}')
}

// appender returns how values of an array are written, null included.
func appender(a arrow.Array) (appendFunc, error) {
	value, err := valueAppender(a)
	if err != nil || a.NullN() == 0 {
		return value, err
	}
	return func(dst []byte, i int) []byte {
		if a.IsNull(i) {
			return append(dst, "null"...)
		}
		return value(dst, i)
	}, nil
}

func valueAppender(a arrow.Array) (appendFunc, error) {
	switch a := a.(type) {
	case *array.Null:
		return func(dst []byte, _ int) []byte { return append(dst, "null"...) }, nil
	case *array.String:
		return func(dst []byte, i int) []byte { return appendText(dst, a.Value(i)) }, nil
	case *array.Binary:
		return func(dst []byte, i int) []byte {
			dst = append(dst, '"')
			dst = base64.StdEncoding.AppendEncode(dst, a.Value(i))
			return append(dst, '"')
		}, nil
	case *array.Boolean:
		return func(dst []byte, i int) []byte { return strconv.AppendBool(dst, a.Value(i)) }, nil
	case *array.Int64:
		return func(dst []byte, i int) []byte { return strconv.AppendInt(dst, a.Value(i), 10) }, nil
	case *array.Int32:
		return func(dst []byte, i int) []byte { return strconv.AppendInt(dst, int64(a.Value(i)), 10) }, nil
	case *array.Float64:
		return func(dst []byte, i int) []byte { return appendFloat(dst, a.Value(i), 64) }, nil
	case *array.Float32:
		return func(dst []byte, i int) []byte { return appendFloat(dst, float64(a.Value(i)), 32) }, nil
	case *array.Timestamp:
		unit := a.DataType().(*arrow.TimestampType).Unit
		return func(dst []byte, i int) []byte {
			dst = append(dst, '"')
			dst = a.Value(i).ToTime(unit).UTC().AppendFormat(dst, time.RFC3339Nano)
			return append(dst, '"')
		}, nil
	case *array.Date32:
		return func(dst []byte, i int) []byte {
			dst = append(dst, '"')
			dst = a.Value(i).ToTime().AppendFormat(dst, time.DateOnly)
			return append(dst, '"')
		}, nil
	case *array.Decimal128:
		scale := a.DataType().(*arrow.Decimal128Type).Scale
		return func(dst []byte, i int) []byte { return append(dst, a.Value(i).ToString(scale)...) }, nil
	case *array.List:
		return listAppender(a)
	case *array.Struct:
		return structAppender(a)
	}
	return nil, fmt.Errorf("values of type %s cannot be sent; name those to send in columns", a.DataType())
}

func listAppender(a *array.List) (appendFunc, error) {
	elem, err := appender(a.ListValues())
	if err != nil {
		return nil, err
	}
	return func(dst []byte, i int) []byte {
		from, to := a.ValueOffsets(i)
		dst = append(dst, '[')
		for j := from; j < to; j++ {
			if j > from {
				dst = append(dst, ',')
			}
			dst = elem(dst, int(j))
		}
		return append(dst, ']')
	}, nil
}

func structAppender(a *array.Struct) (appendFunc, error) {
	t := a.DataType().(*arrow.StructType)
	fields, names := make([]appendFunc, a.NumField()), make([][]byte, a.NumField())
	for f := range fields {
		var err error
		if fields[f], err = appender(a.Field(f)); err != nil {
			return nil, err
		}
		names[f] = append(appendText(nil, t.Field(f).Name), ':')
	}
	return func(dst []byte, i int) []byte {
		dst = append(dst, '{')
		for f, field := range fields {
			if f > 0 {
				dst = append(dst, ',')
			}
			dst = field(append(dst, names[f]...), i)
		}
		return append(dst, '}')
	}, nil
}

// appendFloat writes a number; JSON has none for NaN and the infinities.
func appendFloat(dst []byte, v float64, bits int) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(dst, "null"...)
	}
	format := byte('f')
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, v, format, -1, bits)
}

// appendText writes a JSON string. Bytes that are not UTF-8 become U+FFFD, since no row can
// be turned away for them any more.
func appendText(dst []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = string([]rune(s)) // each byte by itself
	}
	return jsontext.AppendString(dst, s)
}
