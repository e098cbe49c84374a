package files

import (
	"strconv"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/internal/jsontext"
)

// appendValue appends value i of an array, which is not null.
type appendValue func(dst []byte, i int) []byte

// appendRecord appends the rows of a record from one on, a JSON object a line.
func appendRecord(dst []byte, rec arrow.Record, from int) []byte {
	n := int(rec.NumCols())
	keys, values, nulls := make([][]byte, n), make([]appendValue, n), make([]arrow.Array, n)
	for c := range n {
		sep := []byte{','}
		if c == 0 {
			sep = []byte{'{'}
		}
		keys[c] = append(jsontext.AppendString(sep, rec.ColumnName(c)), ':')
		values[c] = valueOf(rec.Column(c))
		if a := rec.Column(c); a.NullN() > 0 || a.DataType().ID() == arrow.NULL {
			nulls[c] = a
		}
	}
	for i := from; i < int(rec.NumRows()); i++ {
		if n == 0 {
			dst = append(dst, '{')
		}
		for c := range n {
			dst = append(dst, keys[c]...)
			if nulls[c] != nil && nulls[c].IsNull(i) {
				dst = append(dst, "null"...)
				continue
			}
			dst = values[c](dst, i)
		}
		dst = append(dst, '}', '\n')
	}
	return dst
}

// orNull is for values inside others.
func orNull(a arrow.Array) appendValue {
	v := valueOf(a)
	return func(dst []byte, i int) []byte {
		if a.IsNull(i) {
			return append(dst, "null"...)
		}
		return v(dst, i)
	}
}

// valueOf returns what writes the values of an array. What one type's values look like
// is decided here once, not for each value.
func valueOf(a arrow.Array) appendValue {
	switch a := a.(type) {
	case *array.Boolean:
		return func(dst []byte, i int) []byte { return strconv.AppendBool(dst, a.Value(i)) }
	case *array.Int8:
		return integer(a.Int8Values())
	case *array.Int16:
		return integer(a.Int16Values())
	case *array.Int32:
		return integer(a.Int32Values())
	case *array.Int64:
		return integer(a.Int64Values())
	case *array.Uint8:
		return integer(a.Uint8Values())
	case *array.Uint16:
		return integer(a.Uint16Values())
	case *array.Uint32:
		return integer(a.Uint32Values())
	case *array.Uint64:
		return func(dst []byte, i int) []byte { return strconv.AppendUint(dst, a.Value(i), 10) }
	case *array.Float16:
		return func(dst []byte, i int) []byte { return appendFloat(dst, float64(a.Value(i).Float32()), 32) }
	case *array.Float32:
		return func(dst []byte, i int) []byte { return appendFloat(dst, float64(a.Value(i)), 32) }
	case *array.Float64:
		return func(dst []byte, i int) []byte { return appendFloat(dst, a.Value(i), 64) }
	case *array.String:
		return func(dst []byte, i int) []byte { return jsontext.AppendString(dst, a.Value(i)) }
	case *array.LargeString:
		return func(dst []byte, i int) []byte { return jsontext.AppendString(dst, a.Value(i)) }
	case *array.Binary:
		return func(dst []byte, i int) []byte { return appendBytes(dst, a.Value(i)) }
	case *array.LargeBinary:
		return func(dst []byte, i int) []byte { return appendBytes(dst, a.Value(i)) }
	case *array.FixedSizeBinary:
		return func(dst []byte, i int) []byte { return appendBytes(dst, a.Value(i)) }
	}
	if v := timeOf(a); v != nil {
		return v
	}
	return nestedOf(a)
}

func integer[T int8 | int16 | int32 | int64 | uint8 | uint16 | uint32](values []T) appendValue {
	return func(dst []byte, i int) []byte { return strconv.AppendInt(dst, int64(values[i]), 10) }
}

// timeOf is valueOf for dates, times and decimals; nil for others.
func timeOf(a arrow.Array) appendValue {
	switch a := a.(type) {
	case *array.Timestamp:
		t := a.DataType().(*arrow.TimestampType)
		utc := t.TimeZone != ""
		return func(dst []byte, i int) []byte {
			v := int64(a.Value(i))
			switch t.Unit {
			case arrow.Second:
				return appendTime(dst, time.Unix(v, 0), utc)
			case arrow.Millisecond:
				return appendTime(dst, time.UnixMilli(v), utc)
			case arrow.Microsecond:
				return appendTime(dst, time.UnixMicro(v), utc)
			}
			return appendTime(dst, time.Unix(0, v), utc)
		}
	case *array.Date32:
		return func(dst []byte, i int) []byte { return appendDate(dst, int64(a.Value(i))) }
	case *array.Date64:
		return func(dst []byte, i int) []byte { return appendTime(dst, time.UnixMilli(int64(a.Value(i))), true) }
	case *array.Time32:
		unit := int64(a.DataType().(*arrow.Time32Type).Unit.Multiplier())
		return func(dst []byte, i int) []byte { return appendClock(dst, int64(a.Value(i))*unit) }
	case *array.Time64:
		unit := int64(a.DataType().(*arrow.Time64Type).Unit.Multiplier())
		return func(dst []byte, i int) []byte { return appendClock(dst, int64(a.Value(i))*unit) }
	case *array.Decimal128:
		scale := int(a.DataType().(*arrow.Decimal128Type).Scale)
		return func(dst []byte, i int) []byte {
			v := a.Value(i)
			if low := int64(v.LowBits()); v.HighBits() == low>>63 { // most fit into 64 bits
				var digits [20]byte
				return appendDecimal(dst, strconv.AppendInt(digits[:0], low, 10), scale)
			}
			return appendDecimal(dst, v.BigInt().String(), scale)
		}
	case *array.Decimal256:
		scale := int(a.DataType().(*arrow.Decimal256Type).Scale)
		return func(dst []byte, i int) []byte { return appendDecimal(dst, a.Value(i).BigInt().String(), scale) }
	}
	return nil
}

// nestedOf is valueOf for what holds other values.
func nestedOf(a arrow.Array) appendValue {
	switch a := a.(type) {
	case *array.Struct:
		t := a.DataType().(*arrow.StructType)
		var keys [][]byte
		var values []appendValue
		for f := range a.NumField() {
			sep := []byte{','}
			if f == 0 {
				sep = []byte{'{'}
			}
			keys = append(keys, append(jsontext.AppendString(sep, t.Field(f).Name), ':'))
			values = append(values, orNull(a.Field(f)))
		}
		return func(dst []byte, i int) []byte {
			if len(keys) == 0 {
				dst = append(dst, '{')
			}
			for f := range keys {
				dst = values[f](append(dst, keys[f]...), i)
			}
			return append(dst, '}')
		}
	case *array.Map:
		key, value := orNull(a.Keys()), orNull(a.Items())
		text := a.Keys().DataType().ID() == arrow.STRING || a.Keys().DataType().ID() == arrow.LARGE_STRING
		return func(dst []byte, i int) []byte {
			from, to := a.ValueOffsets(i)
			dst = append(dst, '{')
			for k := from; k < to; k++ {
				if k > from {
					dst = append(dst, ',')
				}
				if text {
					dst = key(dst, int(k))
				} else { // JSON has keys of text only
					dst = jsontext.AppendString(dst, a.Keys().ValueStr(int(k)))
				}
				dst = value(append(dst, ':'), int(k))
			}
			return append(dst, '}')
		}
	case array.ListLike:
		elem := orNull(a.ListValues())
		return func(dst []byte, i int) []byte {
			from, to := a.ValueOffsets(i)
			dst = append(dst, '[')
			for k := from; k < to; k++ {
				if k > from {
					dst = append(dst, ',')
				}
				dst = elem(dst, int(k))
			}
			return append(dst, ']')
		}
	case *array.Dictionary:
		v := orNull(a.Dictionary())
		return func(dst []byte, i int) []byte { return v(dst, a.GetValueIndex(i)) }
	case *array.Null:
		return func(dst []byte, _ int) []byte { return append(dst, "null"...) }
	}
	return func(dst []byte, i int) []byte { return jsontext.AppendString(dst, a.ValueStr(i)) }
}
