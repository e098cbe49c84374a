package decode

import (
	"math"
	"math/bits"

	"github.com/apache/arrow/go/v17/arrow/decimal128"
)

func (d *Decoder) decimal(c *column, b []byte, i, idx int) int {
	if m, frac, end := plainNumber(b, i); end >= 0 && frac <= int(c.scale) && int(c.scale)-frac < len(pow10u64) {
		hi, lo := bits.Mul64(m, pow10u64[int(c.scale)-frac])
		if hi == 0 && (int(c.prec) >= len(pow10u64) || lo < pow10u64[c.prec]) {
			v := decimal128.New(0, lo)
			if b[i] == '-' {
				v = v.Negate()
			}
			c.dec[idx] = v
			return end
		}
	}
	return d.slowDecimal(c, b, i, idx)
}

// slowDecimal reads the value of a decimal column, whatever it is.
func (d *Decoder) slowDecimal(c *column, b []byte, i, idx int) int {
	var text []byte
	var end int
	switch {
	case b[i] == '"':
		var s []byte
		if s, end = d.text(b, i); end < 0 {
			return -1
		}
		if !isNumber(s) {
			return d.failf(ruleWrongType, "expected a decimal number, got the string %s at byte %d", clip(string(b[i:end])), d.pos(i))
		}
		if text = s; len(d.scratch) > 0 { // takeApart writes where s lies
			text = append([]byte(nil), s...)
		}
	case b[i] == '-' || digit(b[i]):
		if end = d.skipNumber(b, i); end < 0 {
			return -1
		}
		text = b[i:end]
	default:
		return d.mismatch(c, b, i, idx)
	}
	n := d.takeApart(text)
	if int64(len(n.digits)) > n.point+int64(c.scale) && len(n.digits) > 0 {
		return d.failf(ruleOutOfRange, "%s at byte %d has more than %d digits after the point", clip(string(text)), d.pos(i), c.scale)
	}
	if n.point > int64(c.prec-c.scale) {
		return d.failf(ruleOutOfRange, "%s at byte %d has more than %d digits before the point", clip(string(text)), d.pos(i), c.prec-c.scale)
	}
	c.dec[idx] = n.decimal(c.scale)
	return end
}

// decimal returns the number × 10^scale, which is integral and has at most 38 digits.
func (n number) decimal(scale int32) decimal128.Num {
	var hi, lo uint64
	for k := range int(max(n.point+int64(scale), 0)) {
		if len(n.digits) == 0 {
			break
		}
		c := uint64(0)
		if k < len(n.digits) {
			c = uint64(n.digits[k] - '0')
		}
		h, l := bits.Mul64(lo, 10)
		var carry uint64
		lo, carry = bits.Add64(l, c, 0)
		hi = hi*10 + h + carry
	}
	v := decimal128.New(int64(hi&math.MaxInt64), lo)
	if n.neg {
		return v.Negate()
	}
	return v
}

// isNumber reports whether a string is a number as JSON writes it.
func isNumber(s []byte) bool {
	i := 0
	run := func() bool {
		from := i
		for i < len(s) && digit(s[i]) {
			i++
		}
		return i > from
	}
	if i < len(s) && s[i] == '-' {
		i++
	}
	first := i
	if !run() || s[first] == '0' && i > first+1 {
		return false
	}
	if i < len(s) && s[i] == '.' {
		if i++; !run() {
			return false
		}
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		if i++; i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if !run() {
			return false
		}
	}
	return i == len(s)
}
