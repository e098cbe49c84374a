package lakehouse

import (
	"cmp"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/predicate"
)

// What writers do to bounds, and what is made of it here:
//
//   - Strings are cut. Ours are true bounds. Another writer's greatest value of
//     cutAt bytes or more may be a cut one that was not raised: everything that begins
//     with it is taken to be possible too.
//   - Timestamps are cut to milliseconds; only we raise the greatest then. Another
//     writer's bounds are moved apart by one.
//   - NaN is left out of bounds by writers that take them from Parquet footers. We write no
//     bounds for a column with NaN. In another writer's file NaN may always be there, and
//     it is greater than all.
//   - A bound of float32 may be its shortest decimal, which as float64 is another number.
//   - Decimals may have been through float64.
//   - Nulls of a field whose struct is null may not be counted.

// cutAt is below the length, in bytes, at which any writer known to us cuts strings.
const cutAt = 32

// point is a value of a column: in the member that its type uses.
type point struct {
	i int64 // whole numbers, booleans, days, microseconds
	f float64
	s string
	n predicate.Number
	k pointKind
}

type pointKind uint8

const (
	intPoint pointKind = iota
	floatPoint
	textPoint
	numberPoint
)

func (p point) cmp(q point) int {
	switch p.k {
	case intPoint:
		return cmp.Compare(p.i, q.i)
	case floatPoint: // neither is NaN
		switch {
		case p.f < q.f:
			return -1
		case p.f > q.f:
			return 1
		}
		return 0
	case textPoint:
		return strings.Compare(p.s, q.s)
	}
	return p.n.Cmp(q.n)
}

type nullness uint8

const (
	anyNull nullness = iota // not known
	noNull
	allNull
)

// span is what is known of a column's values in a file.
type span struct {
	lo, hi       point
	hasLo, hasHi bool
	cut          bool // values that begin with hi, a string, may be there too
	nan          bool // there may be NaN
	nulls        nullness

	kind pointKind // of lo and hi
}

// may says whether a comparison with a constant can be true of a value in the span.
func (s *span) may(op predicate.Op, c point) bool {
	if c.k == floatPoint && s.kind == numberPoint {
		s = s.asFloats()
	}
	above := s.hasLo && s.lo.cmp(c) > 0 // all values are above the constant
	below := s.hasHi && s.hi.cmp(c) < 0 && !(s.cut && strings.HasPrefix(c.s, s.hi.s))
	switch op {
	case predicate.Eq, predicate.In:
		return !above && !below
	case predicate.Ne:
		return s.nan || s.cut || !s.hasLo || !s.hasHi || s.lo.cmp(c) != 0 || s.hi.cmp(c) != 0
	case predicate.Lt:
		return !s.hasLo || s.lo.cmp(c) < 0
	case predicate.Le:
		return !above
	case predicate.Gt:
		return s.nan || !below && (s.cut || !s.hasHi || s.hi.cmp(c) > 0)
	case predicate.Ge:
		return s.nan || !below
	case predicate.Prefix:
		return (!above || strings.HasPrefix(s.lo.s, c.s)) && !below
	}
	return true
}

// constant brings a constant to the form in which a column's values compare with it; ok
// is false when nothing can be said.
func constant(typ arrow.DataType, v predicate.Value) (p point, ok bool) {
	switch id := typ.ID(); id {
	case arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.DECIMAL128:
		switch v.Kind() {
		case predicate.KindInt, predicate.KindDecimal:
			return point{k: numberPoint, n: v.Number()}, true
		case predicate.KindFloat: // of a decimal as float64 the last bit is uncertain
			return point{k: floatPoint, f: v.Float()}, id != arrow.DECIMAL128 && !math.IsNaN(v.Float())
		}
	case arrow.FLOAT32, arrow.FLOAT64:
		switch v.Kind() {
		case predicate.KindFloat:
			return point{k: floatPoint, f: v.Float()}, !math.IsNaN(v.Float())
		case predicate.KindInt:
			f := float64(v.Int())
			return point{k: floatPoint, f: f}, math.Abs(f) < 1<<24 // exact in float32, too
		}
	case arrow.STRING:
		return point{k: textPoint, s: v.Text()}, v.Kind() == predicate.KindString
	case arrow.BOOL:
		return point{i: v.Int()}, v.Kind() == predicate.KindBool
	case arrow.DATE32, arrow.TIMESTAMP: // days are compared as the moments at which they begin
		switch v.Kind() {
		case predicate.KindDate:
			return dayPoint(v.Int())
		case predicate.KindTimestamp:
			return point{i: v.Int()}, true
		}
	}
	return point{}, false
}

const microsPerDay = 24 * 60 * 60 * 1_000_000

func dayPoint(days int64) (point, bool) {
	return point{i: days * microsPerDay}, days > math.MinInt64/microsPerDay && days < math.MaxInt64/microsPerDay
}

// spanOfPartition is a span of one value, or of all if the text is none that we can read.
func spanOfPartition(typ arrow.DataType, text string) span {
	s := span{nulls: noNull}
	switch t := typ.(type) {
	case *arrow.StringType:
		s.setBoth(point{k: textPoint, s: text})
		return s
	case *arrow.TimestampType:
		if at, ok := parseTime(text); ok {
			s.setBoth(point{i: at.UnixMicro()})
			if at.Nanosecond()%1000 != 0 {
				s.hi.i++ // whichever way the reader rounds
			}
		}
		return s
	case *arrow.Float32Type, *arrow.Float64Type:
		s.nan = true
	case *arrow.Decimal128Type:
		if n, ok := predicate.ParseNumber(text); ok && n.Scale() > int(t.Scale) {
			return s // the reader rounds
		}
	}
	if p, ok := bound(typ, text); ok && (p.k != numberPoint || typ.ID() == arrow.DECIMAL128 || p.n.Scale() == 0) {
		s.setBoth(p)
		s.nan = false
	}
	return s
}

func (s *span) setBoth(p point) {
	s.kind, s.lo, s.hi, s.hasLo, s.hasHi = p.k, p, p, true, true
}

// asFloats is a span of whole numbers as DuckDB compares them with floats: rounded, which
// keeps their order.
func (s *span) asFloats() *span {
	out := &span{kind: floatPoint, nulls: s.nulls}
	out.lo.k, out.hi.k = floatPoint, floatPoint
	if s.hasLo {
		out.lo.f, out.hasLo = s.lo.n.Float()
	}
	if s.hasHi {
		out.hi.f, out.hasHi = s.hi.n.Float()
	}
	return out
}

// statsSpan is what a file's statistics say of a column.
func statsSpan(typ arrow.DataType, c columnStats, rows int64, own, nested bool) span {
	s := span{nan: !own}
	switch {
	case c.nulls < 0 || rows < 0:
	case c.nulls >= rows:
		s.nulls = allNull
	case c.nulls == 0 && (own || !nested):
		s.nulls = noNull
	}
	if id := typ.ID(); id != arrow.FLOAT32 && id != arrow.FLOAT64 {
		s.nan = false
	}
	s.lo, s.hasLo = statsBound(typ, c.min)
	s.hi, s.hasHi = statsBound(typ, c.max)
	if s.hasLo {
		s.kind = s.lo.k
	} else {
		s.kind = s.hi.k
	}
	if !own {
		s.loosen(typ)
	}
	return s
}

// loosen makes of another writer's bounds what they can be relied on to be.
func (s *span) loosen(typ arrow.DataType) {
	switch t := typ.(type) {
	case *arrow.StringType:
		s.cut = len(s.hi.s) >= cutAt
	case *arrow.TimestampType:
		s.lo.i = max(s.lo.i, math.MinInt64+1000) - 1000
		s.hi.i = min(s.hi.i, math.MaxInt64-1000) + 1000
	case *arrow.Decimal128Type:
		if t.Precision <= 15 { // so many digits float64 keeps
			return
		}
		if s.hasLo {
			s.lo.n = s.lo.n.Widen(false)
		}
		if s.hasHi {
			s.hi.n = s.hi.n.Widen(true)
		}
	}
}

// statsBound reads a bound as it stands in statistics: a JSON value, "" when there is none.
func statsBound(typ arrow.DataType, raw string) (point, bool) {
	if raw == "" || raw == "null" {
		return point{}, false
	}
	text := raw
	if raw[0] == '"' {
		if text = raw[1 : len(raw)-1]; strings.IndexByte(text, '\\') >= 0 && json.Unmarshal([]byte(raw), &text) != nil {
			return point{}, false
		}
	}
	switch isText := raw[0] == '"'; typ.ID() {
	case arrow.STRING:
		// The replacement character stands for bytes that are not known.
		return point{k: textPoint, s: text}, isText && utf8.ValidString(text) && !strings.ContainsRune(text, utf8.RuneError)
	case arrow.TIMESTAMP:
		t, err := time.Parse(time.RFC3339Nano, text)
		return point{i: t.UnixMicro()}, isText && err == nil
	case arrow.BINARY:
		return point{}, false
	}
	return bound(typ, text)
}

// bound reads a value of the types whose text is the same in statistics and in partition values.
func bound(typ arrow.DataType, text string) (point, bool) {
	switch typ.ID() {
	case arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.DECIMAL128:
		n, ok := predicate.ParseNumber(text)
		return point{k: numberPoint, n: n}, ok
	case arrow.FLOAT32:
		f, err := strconv.ParseFloat(text, 32)
		return point{k: floatPoint, f: f}, err == nil && !math.IsNaN(f)
	case arrow.FLOAT64:
		f, err := strconv.ParseFloat(text, 64)
		return point{k: floatPoint, f: f}, err == nil && !math.IsNaN(f)
	case arrow.BOOL:
		switch text {
		case "true":
			return point{i: 1}, true
		case "false":
			return point{i: 0}, true
		}
	case arrow.DATE32:
		t, err := time.Parse(time.DateOnly, text)
		return point{i: t.UnixMicro()}, err == nil
	}
	return point{}, false
}

// parseTime reads a partition value of a timestamp, in either of Delta's forms.
func parseTime(text string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t, err = time.Parse(time.DateTime, text) // a fraction is read, too
	}
	return t, err == nil
}
