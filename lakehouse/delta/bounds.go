package delta

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
)

// statsRunes is how long a string bound is, the same as other writers'.
const statsRunes = 32

// bounds are the least and the greatest value of a column.
type bounds interface {
	// add takes in the values of an array of the column's type: those that are valid, or
	// all if valid is nil. At least one is.
	add(col arrow.Array, valid []bool)
	// text returns both as JSON; ok is false when the column should have no bounds. It is
	// asked only after an add.
	text() (lo, hi []byte, ok bool)
}

// boundsOf returns the bounds of a type, nil if it has none.
func boundsOf(t arrow.DataType) bounds {
	switch t := t.(type) {
	case *arrow.Int64Type:
		return &ordered[int64]{values: func(a arrow.Array) []int64 { return a.(*array.Int64).Int64Values() }, write: integers[int64]}
	case *arrow.Int32Type:
		return &ordered[int32]{values: func(a arrow.Array) []int32 { return a.(*array.Int32).Int32Values() }, write: integers[int32]}
	case *arrow.Int16Type:
		return &ordered[int16]{values: func(a arrow.Array) []int16 { return a.(*array.Int16).Int16Values() }, write: integers[int16]}
	case *arrow.Int8Type:
		return &ordered[int8]{values: func(a arrow.Array) []int8 { return a.(*array.Int8).Int8Values() }, write: integers[int8]}
	case *arrow.TimestampType:
		return &ordered[arrow.Timestamp]{values: func(a arrow.Array) []arrow.Timestamp { return a.(*array.Timestamp).TimestampValues() }, write: timeBounds}
	case *arrow.Date32Type:
		return &ordered[arrow.Date32]{values: func(a arrow.Array) []arrow.Date32 { return a.(*array.Date32).Date32Values() }, write: dateBounds}
	case *arrow.Float64Type:
		return &floats[float64]{values: func(a arrow.Array) []float64 { return a.(*array.Float64).Float64Values() }, bits: 64}
	case *arrow.Float32Type:
		return &floats[float32]{values: func(a arrow.Array) []float32 { return a.(*array.Float32).Float32Values() }, bits: 32}
	case *arrow.Decimal128Type:
		return &decimals{scale: t.Scale}
	case *arrow.StringType:
		return &texts{}
	case *arrow.BooleanType:
		return &booleans{lo: true}
	}
	return nil
}

type integral interface {
	int8 | int16 | int32 | int64 | arrow.Timestamp | arrow.Date32
}

// ordered are the bounds of types that are integers.
type ordered[T integral] struct {
	values func(arrow.Array) []T
	write  func(lo, hi T) (first, last []byte, ok bool)
	lo, hi T
	begun  bool
}

func (b *ordered[T]) add(col arrow.Array, valid []bool) {
	lo, hi := extremes(b.values(col), valid)
	if b.begun {
		lo, hi = min(lo, b.lo), max(hi, b.hi)
	}
	b.lo, b.hi, b.begun = lo, hi, true
}

func (b *ordered[T]) text() (lo, hi []byte, ok bool) { return b.write(b.lo, b.hi) }

func integers[T integral](lo, hi T) (first, last []byte, ok bool) {
	return strconv.AppendInt(nil, int64(lo), 10), strconv.AppendInt(nil, int64(hi), 10), true
}

// floats are the bounds of floats, as long as all are finite.
type floats[T float32 | float64] struct {
	values func(arrow.Array) []T
	bits   int
	lo, hi T
	begun  bool
	none   bool
}

func (b *floats[T]) add(col arrow.Array, valid []bool) {
	if b.none {
		return
	}
	lo, hi, finite := floatExtremes(b.values(col), valid)
	if b.begun {
		lo, hi = min(lo, b.lo), max(hi, b.hi)
	}
	b.lo, b.hi, b.begun, b.none = lo, hi, true, !finite
}

func (b *floats[T]) text() (lo, hi []byte, ok bool) {
	return strconv.AppendFloat(nil, float64(b.lo), 'g', -1, b.bits), strconv.AppendFloat(nil, float64(b.hi), 'g', -1, b.bits), !b.none
}

type decimals struct {
	scale  int32
	lo, hi decimal128.Num
	begun  bool
}

func (b *decimals) add(col arrow.Array, valid []bool) {
	for i, v := range col.(*array.Decimal128).Values() {
		switch {
		case valid != nil && !valid[i]:
		case !b.begun:
			b.lo, b.hi, b.begun = v, v, true
		case v.Less(b.lo):
			b.lo = v
		case b.hi.Less(v):
			b.hi = v
		}
	}
}

func (b *decimals) text() (lo, hi []byte, ok bool) {
	return AppendDecimal(nil, b.lo, b.scale), AppendDecimal(nil, b.hi, b.scale), true
}

type booleans struct{ lo, hi bool }

func (b *booleans) add(col arrow.Array, valid []bool) {
	a := col.(*array.Boolean)
	for i := range a.Len() {
		if valid == nil || valid[i] {
			v := a.Value(i)
			b.lo, b.hi = b.lo && v, b.hi || v
		}
	}
}

func (b *booleans) text() (lo, hi []byte, ok bool) {
	return strconv.AppendBool(nil, b.lo), strconv.AppendBool(nil, b.hi), true
}

// texts are the bounds of strings.
type texts struct {
	lo, hi string
	begun  bool
}

func (b *texts) add(col arrow.Array, valid []bool) {
	a := col.(*array.String)
	lo, hi, begun := b.lo, b.hi, b.begun
	for i := range a.Len() {
		if valid != nil && !valid[i] {
			continue
		}
		v := a.Value(i)
		switch {
		case !begun:
			lo, hi, begun = v, v, true
		case v < lo:
			lo = v
		case v > hi:
			hi = v
		}
	}
	b.lo, b.hi, b.begun = strings.Clone(lo), strings.Clone(hi), begun // the array's memory may be freed
}

func (b *texts) text() (lo, hi []byte, ok bool) {
	if !utf8.ValidString(b.lo) || !utf8.ValidString(b.hi) {
		return nil, nil, false // JSON would change them
	}
	return quote(cut(b.lo)), quote(raise(b.hi)), true
}

func extremes[T integral](values []T, valid []bool) (lo, hi T) {
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

// statsTime is the milliseconds that statistics of timestamps have.
const statsTime = "2006-01-02T15:04:05.000Z"

func timeBounds(lo, hi arrow.Timestamp) (first, last []byte, ok bool) {
	if hi > math.MaxInt64-1000 {
		return nil, nil, false
	}
	l := time.UnixMilli(floorDiv(int64(lo), 1000)).UTC()
	h := time.UnixMilli(-floorDiv(-int64(hi), 1000)).UTC()
	return quoteTime(l, statsTime), quoteTime(h, statsTime), lo > math.MinInt64 && writable(l) && writable(h)
}

func dateBounds(lo, hi arrow.Date32) (first, last []byte, ok bool) {
	l, h := time.Unix(int64(lo)*86400, 0).UTC(), time.Unix(int64(hi)*86400, 0).UTC()
	return quoteTime(l, dateLayout), quoteTime(h, dateLayout), writable(l) && writable(h)
}

// writable says whether a time has a year of four digits, which is all that ISO 8601 texts agree on.
func writable(t time.Time) bool { return t.Year() >= 1 && t.Year() <= 9999 }

func quoteTime(t time.Time, layout string) []byte {
	return append(t.AppendFormat([]byte{'"'}, layout), '"')
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
