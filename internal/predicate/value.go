package predicate

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Kind is the type of a [Value].
type Kind uint8

// Kinds of constants.
const (
	KindInt       Kind = iota + 1
	KindFloat          // float64
	KindDecimal        // exact, of any precision
	KindString         // UTF-8
	KindBool           //
	KindDate           // days since 1970-01-01
	KindTimestamp      // microseconds since 1970-01-01T00:00Z
)

// Value is a constant, never null.
type Value struct {
	kind Kind
	i    int64
	f    float64
	s    string
	n    Number
}

// Int is a whole number.
func Int(v int64) Value { return Value{kind: KindInt, i: v, n: NumberOf(v)} }

// Float is a binary floating point number. A column is compared with it as float64: whole
// numbers are rounded first, as DuckDB does it.
func Float(v float64) Value { return Value{kind: KindFloat, f: v} }

// Decimal is an exact number.
func Decimal(n Number) Value { return Value{kind: KindDecimal, n: n} }

// String is a text.
func String(s string) Value { return Value{kind: KindString, s: s} }

// Bool is true or false.
func Bool(b bool) Value {
	if b {
		return Value{kind: KindBool, i: 1}
	}
	return Value{kind: KindBool}
}

// Date is a day, counted from 1970-01-01.
func Date(days int64) Value { return Value{kind: KindDate, i: days} }

// Timestamp is a moment, in microseconds since 1970-01-01T00:00Z.
func Timestamp(micros int64) Value { return Value{kind: KindTimestamp, i: micros} }

// Kind returns the value's type.
func (v Value) Kind() Kind { return v.kind }

// Int returns an Int, 0 or 1 for a Bool, a Date's days, a Timestamp's microseconds.
func (v Value) Int() int64 { return v.i }

// Float returns a Float.
func (v Value) Float() float64 { return v.f }

// Text returns a String.
func (v Value) Text() string { return v.s }

// Number returns an Int or a Decimal.
func (v Value) Number() Number { return v.n }

// String returns the value as SQL writes it.
func (v Value) String() string {
	switch v.kind {
	case KindInt:
		return strconv.FormatInt(v.i, 10)
	case KindFloat:
		return strconv.FormatFloat(v.f, 'g', -1, 64)
	case KindDecimal:
		return v.n.String()
	case KindString:
		return "'" + strings.ReplaceAll(v.s, "'", "''") + "'"
	case KindBool:
		return strconv.FormatBool(v.i != 0)
	case KindDate:
		return "DATE '" + time.Unix(0, 0).UTC().AddDate(0, 0, int(v.i)).Format(time.DateOnly) + "'"
	case KindTimestamp:
		return "TIMESTAMP '" + time.UnixMicro(v.i).UTC().Format("2006-01-02 15:04:05.999999") + "'"
	}
	return "?"
}

// Number is an exact decimal number. The zero value is 0.
type Number struct {
	small int64    // the digits without a point, when big is nil
	big   *big.Int // the same, when they do not fit
	scale int      // digits after the point, 0 or more
}

// NumberOf is a whole number.
func NumberOf(v int64) Number { return Number{small: v} }

// maxExponent bounds numbers that are written with an exponent: no column's type holds more.
const maxExponent = 400

// ParseNumber reads a number as JSON and SQL write it, with or without an exponent,
// exactly. It says false of what is no number, and of exponents beyond 400.
func ParseNumber(s string) (Number, bool) {
	if v, err := strconv.ParseInt(s, 10, 64); err == nil {
		return Number{small: v}, true
	}
	mantissa, exponent := s, 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		e, err := strconv.Atoi(s[i+1:])
		if err != nil || e < -maxExponent || e > maxExponent {
			return Number{}, false
		}
		mantissa, exponent = s[:i], e
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := whole + fraction
	scale := len(fraction) - exponent
	if scale < 0 {
		digits += strings.Repeat("0", -scale)
		scale = 0
	}
	if !isNumber(whole, fraction) {
		return Number{}, false
	}
	if v, err := strconv.ParseInt(digits, 10, 64); err == nil {
		return Number{small: v, scale: scale}, true
	}
	v, ok := new(big.Int).SetString(digits, 10)
	return Number{big: v, scale: scale}, ok
}

// isNumber says whether a number has digits where they belong, and nothing else.
func isNumber(whole, fraction string) bool {
	whole = strings.TrimPrefix(strings.TrimPrefix(whole, "-"), "+")
	digits := func(s string) bool { return strings.Trim(s, "0123456789") == "" }
	return digits(whole) && digits(fraction) && whole+fraction != ""
}

// Cmp compares two numbers: -1, 0 or 1.
func (n Number) Cmp(m Number) int {
	if n.big == nil && m.big == nil {
		a, okA := rescale(n.small, m.scale-n.scale)
		b, okB := rescale(m.small, n.scale-m.scale)
		if okA && okB {
			switch {
			case a < b:
				return -1
			case a > b:
				return 1
			}
			return 0
		}
	}
	scale := max(n.scale, m.scale)
	return n.digits(scale).Cmp(m.digits(scale))
}

// Scale is how many digits it has after the point, zeros at its end included.
func (n Number) Scale() int { return n.scale }

// Float returns a whole number rounded to the nearest float64. It says false of others.
func (n Number) Float() (float64, bool) { return float64(n.small), n.big == nil && n.scale == 0 }

// rescale adds digits after the point, as far as they fit; it removes none.
func rescale(v int64, digits int) (int64, bool) {
	for ; digits > 0 && v != 0; digits-- {
		if v > math.MaxInt64/10 || v < math.MinInt64/10 {
			return 0, false
		}
		v *= 10
	}
	return v, true
}

// digits returns the number times ten to the power of scale, which is not below the number's own.
func (n Number) digits(scale int) *big.Int {
	v := n.big
	if v == nil {
		v = big.NewInt(n.small)
	}
	factor := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale-n.scale)), nil)
	return factor.Mul(factor, v)
}

// Widen returns a number that is greater, or with up false less, by at least one part in
// 2^51: twice what rounding to float64 and back can have moved it.
func (n Number) Widen(up bool) Number {
	const places = 16 // 10^-16 < 2^-51 < 5 * 10^-16
	scaled := n.digits(n.scale + places)
	step := new(big.Int).Abs(scaled)
	step.Mul(step, big.NewInt(5)).Div(step, new(big.Int).Exp(big.NewInt(10), big.NewInt(places), nil)).Add(step, big.NewInt(1))
	if !up {
		step.Neg(step)
	}
	return Number{big: step.Add(step, scaled), scale: n.scale + places}
}

// String returns the number without an exponent.
func (n Number) String() string {
	s := n.digits(n.scale).String()
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	if n.scale == 0 {
		return sign + s
	}
	if pad := n.scale + 1 - len(s); pad > 0 {
		s = strings.Repeat("0", pad) + s
	}
	return sign + s[:len(s)-n.scale] + "." + s[len(s)-n.scale:]
}
