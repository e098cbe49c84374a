package delta

import (
	"encoding/json"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
)

// Limits of statistics, the same as other writers'.
const (
	statsColumns = 32 // leaf columns, in the schema's order
	statsRunes   = 32 // of a string bound
)

// Stats returns the statistics of a file's rows as they stand in an add action:
// numRecords, and for the first 32 leaf columns minValues, maxValues and nullCount.
//
// Bounds are such that a reader who skips a file by them never skips a row: a float
// column with NaN or an infinity has none, because readers disagree on NaN's order;
// timestamps are floored and ceiled to the milliseconds that the format has; a string
// bound is cut at 32 runes and the upper one then raised. Binary, lists and maps have
// none. Booleans have them because delta-rs takes their absence, next to its own
// expectation of them, to mean that no value can match. rec must not hold the partition
// columns.
func Stats(rec arrow.Record) string {
	var b statsBuilder
	s := b.fields(rec.Schema().Fields(), rec.Columns(), nil)
	out := append([]byte(nil), `{"numRecords":`...)
	out = strconv.AppendInt(out, rec.NumRows(), 10)
	out = append(out, `,"minValues":{`...)
	out = append(out, s.min...)
	out = append(out, `},"maxValues":{`...)
	out = append(out, s.max...)
	out = append(out, `},"nullCount":{`...)
	out = append(out, s.nulls...)
	return string(append(out, `}}`...))
}

// bounds are the members of three JSON objects, without their braces.
type bounds struct{ min, max, nulls []byte }

type statsBuilder struct{ leaves int }

// fields gathers the statistics of columns; valid, when not nil, says which rows of
// them have a parent.
func (b *statsBuilder) fields(fields []arrow.Field, cols []arrow.Array, valid []bool) (s bounds) {
	for i, f := range fields {
		if b.leaves >= statsColumns {
			return s
		}
		if st, ok := cols[i].(*array.Struct); ok {
			t := st.DataType().(*arrow.StructType)
			children := make([]arrow.Array, t.NumFields())
			for j := range children {
				children[j] = st.Field(j)
			}
			in := b.fields(t.Fields(), children, mask(st, valid))
			s.min = appendObject(s.min, f.Name, in.min)
			s.max = appendObject(s.max, f.Name, in.max)
			s.nulls = appendObject(s.nulls, f.Name, in.nulls)
			continue
		}
		b.leaves++
		s.leaf(f.Name, cols[i], valid)
	}
	return s
}

// mask combines a struct's validity with its parents'.
func mask(a arrow.Array, valid []bool) []bool {
	if a.NullN() == 0 {
		return valid
	}
	m := make([]bool, a.Len())
	for i := range m {
		m[i] = a.IsValid(i) && (valid == nil || valid[i])
	}
	return m
}

func (s *bounds) leaf(name string, col arrow.Array, valid []bool) {
	switch col.DataType().ID() {
	case arrow.LIST, arrow.LARGE_LIST, arrow.FIXED_SIZE_LIST, arrow.MAP, arrow.NULL:
		return
	}
	if col.NullN() > 0 {
		valid = mask(col, valid)
	}
	nulls := 0
	for _, v := range valid {
		if !v {
			nulls++
		}
	}
	s.nulls = appendKey(s.nulls, name)
	s.nulls = strconv.AppendInt(s.nulls, int64(nulls), 10)
	if nulls == col.Len() {
		return
	}
	lo, hi, ok := columnBounds(col, valid)
	if !ok {
		return
	}
	s.min = append(appendKey(s.min, name), lo...)
	s.max = append(appendKey(s.max, name), hi...)
}

// columnBounds returns the least and greatest value as JSON; ok is false when the
// column should have no bounds. At least one value is valid.
func columnBounds(col arrow.Array, valid []bool) (lo, hi []byte, ok bool) {
	switch a := col.(type) {
	case *array.Int64:
		l, h := extremes(a.Int64Values(), valid)
		return strconv.AppendInt(nil, l, 10), strconv.AppendInt(nil, h, 10), true
	case *array.Int32:
		l, h := extremes(a.Int32Values(), valid)
		return strconv.AppendInt(nil, int64(l), 10), strconv.AppendInt(nil, int64(h), 10), true
	case *array.Int16:
		l, h := extremes(a.Int16Values(), valid)
		return strconv.AppendInt(nil, int64(l), 10), strconv.AppendInt(nil, int64(h), 10), true
	case *array.Int8:
		l, h := extremes(a.Int8Values(), valid)
		return strconv.AppendInt(nil, int64(l), 10), strconv.AppendInt(nil, int64(h), 10), true
	case *array.Float64:
		l, h, finite := floatExtremes(a.Float64Values(), valid)
		return strconv.AppendFloat(nil, l, 'g', -1, 64), strconv.AppendFloat(nil, h, 'g', -1, 64), finite
	case *array.Float32:
		l, h, finite := floatExtremes(a.Float32Values(), valid)
		return strconv.AppendFloat(nil, float64(l), 'g', -1, 32), strconv.AppendFloat(nil, float64(h), 'g', -1, 32), finite
	case *array.Timestamp:
		l, h := extremes(a.TimestampValues(), valid)
		return timeBounds(int64(l), int64(h))
	case *array.Date32:
		l, h := extremes(a.Date32Values(), valid)
		first, last := time.Unix(int64(l)*86400, 0).UTC(), time.Unix(int64(h)*86400, 0).UTC()
		return quoteTime(first, dateLayout), quoteTime(last, dateLayout), writable(first) && writable(last)
	case *array.Decimal128:
		l, h := decimalExtremes(a.Values(), valid)
		scale := a.DataType().(*arrow.Decimal128Type).Scale
		return appendDecimal(nil, l, scale), appendDecimal(nil, h, scale), true
	case *array.String:
		return stringBounds(a, valid)
	case *array.Boolean:
		l, h := boolExtremes(a, valid)
		return strconv.AppendBool(nil, l), strconv.AppendBool(nil, h), true
	}
	return nil, nil, false
}

func extremes[T int8 | int16 | int32 | int64 | arrow.Timestamp | arrow.Date32](values []T, valid []bool) (lo, hi T) {
	if valid == nil {
		lo, hi = values[0], values[0]
		for _, v := range values {
			lo, hi = min(lo, v), max(hi, v)
		}
		return lo, hi
	}
	first := true
	for i, v := range values {
		switch {
		case !valid[i]:
		case first:
			lo, hi, first = v, v, false
		default:
			lo, hi = min(lo, v), max(hi, v)
		}
	}
	return lo, hi
}

func floatExtremes[T float32 | float64](values []T, valid []bool) (lo, hi T, finite bool) {
	first := true
	for i, v := range values {
		if valid != nil && !valid[i] {
			continue
		}
		if v-v != 0 { // NaN and the infinities
			return 0, 0, false
		}
		if first {
			lo, hi, first = v, v, false
		} else if v < lo {
			lo = v
		} else if v > hi {
			hi = v
		}
	}
	return lo, hi, true
}

func decimalExtremes(values []decimal128.Num, valid []bool) (lo, hi decimal128.Num) {
	first := true
	for i, v := range values {
		switch {
		case valid != nil && !valid[i]:
		case first:
			lo, hi, first = v, v, false
		case v.Less(lo):
			lo = v
		case hi.Less(v):
			hi = v
		}
	}
	return lo, hi
}

func boolExtremes(a *array.Boolean, valid []bool) (lo, hi bool) {
	lo = true
	for i := range a.Len() {
		if valid == nil || valid[i] {
			v := a.Value(i)
			lo, hi = lo && v, hi || v
		}
	}
	return lo, hi
}

// statsTime is the milliseconds that statistics of timestamps have.
const statsTime = "2006-01-02T15:04:05.000Z"

func timeBounds(lo, hi int64) (first, last []byte, ok bool) {
	if hi > math.MaxInt64-1000 {
		return nil, nil, false
	}
	l := time.UnixMilli(floorDiv(lo, 1000)).UTC()
	h := time.UnixMilli(-floorDiv(-hi, 1000)).UTC()
	return quoteTime(l, statsTime), quoteTime(h, statsTime), lo > math.MinInt64 && writable(l) && writable(h)
}

// writable says whether a time has a year of four digits, which is all that ISO 8601 texts agree on.
func writable(t time.Time) bool { return t.Year() >= 1 && t.Year() <= 9999 }

func quoteTime(t time.Time, layout string) []byte {
	return append(t.AppendFormat([]byte{'"'}, layout), '"')
}

func stringBounds(a *array.String, valid []bool) (lo, hi []byte, ok bool) {
	var l, h string
	first := true
	for i := range a.Len() {
		if valid != nil && !valid[i] {
			continue
		}
		v := a.Value(i)
		switch {
		case first:
			l, h, first = v, v, false
		case v < l:
			l = v
		case v > h:
			h = v
		}
	}
	if !utf8.ValidString(l) || !utf8.ValidString(h) {
		return nil, nil, false // JSON would change them
	}
	return quote(cut(l)), quote(raise(h)), true
}

// cut returns the first statsRunes runes, which sort at or before the whole.
func cut(s string) string {
	n := 0
	for i := range s {
		if n == statsRunes {
			return s[:i]
		}
		n++
	}
	return s
}

// raise returns a text of about statsRunes runes that sorts at or after s.
func raise(s string) string {
	prefix := cut(s)
	for len(prefix) < len(s) {
		next, size := utf8.DecodeRuneInString(s[len(prefix):])
		switch {
		case next < 0x7f:
			return prefix + "\x7f"
		case next < utf8.MaxRune:
			return prefix + string(utf8.MaxRune)
		}
		prefix = s[:len(prefix)+size] // nothing sorts above the last rune: keep it
	}
	return prefix
}

func quote(s string) []byte {
	b, _ := json.Marshal(s) //nolint:errchkjson // a string cannot fail
	return b
}

func appendKey(dst []byte, name string) []byte {
	if len(dst) > 0 {
		dst = append(dst, ',')
	}
	return append(append(dst, quote(name)...), ':')
}

func appendObject(dst []byte, name string, members []byte) []byte {
	if len(members) == 0 {
		return dst
	}
	dst = append(appendKey(dst, name), '{')
	return append(append(dst, members...), '}')
}
