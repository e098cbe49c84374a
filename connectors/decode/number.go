package decode

import (
	"math/bits"
	"strconv"
)

// inNumber marks the bytes that a number may go on with after its first digits.
var inNumber = [256]bool{
	'0': true, '1': true, '2': true, '3': true, '4': true, '5': true, '6': true, '7': true, '8': true, '9': true,
	'.': true, 'e': true, 'E': true,
}

// Powers of ten, all exact.
var (
	pow10f64 = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}
	pow10u64 = [...]uint64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19}
)

// plainInt reads digits with or without a minus at b[i]. It leaves numbers of
// more than 18 characters and every other form to the caller: end is then -1.
func plainInt(b []byte, i int) (v int64, end int) {
	s := i
	if b[i] == '-' {
		i++
	}
	x := uint64(b[i] - '0')
	if x > 9 {
		return 0, -1
	}
	i++
	if x != 0 {
		for {
			c := uint64(b[i] - '0')
			if c > 9 {
				break
			}
			x = x*10 + c
			i++
		}
	}
	if i-s > 18 || inNumber[b[i]] {
		return 0, -1
	}
	if b[s] == '-' {
		return -int64(x), i
	}
	return int64(x), i
}

// plainNumber reads a number of usual length without an exponent: it is
// m / 10^frac, negative when b[i] is a minus. Other forms are left to the
// caller: end is then -1.
func plainNumber(b []byte, i int) (m uint64, frac, end int) {
	s := i
	if b[i] == '-' {
		i++
	}
	m = uint64(b[i] - '0')
	if m > 9 {
		return 0, 0, -1
	}
	i++
	if m != 0 {
		for {
			c := uint64(b[i] - '0')
			if c > 9 {
				break
			}
			m = m*10 + c
			i++
		}
	}
	if b[i] == '.' {
		i++
		point := i
		for {
			c := uint64(b[i] - '0')
			if c > 9 {
				break
			}
			m = m*10 + c
			i++
		}
		if frac = i - point; frac == 0 {
			return 0, 0, -1
		}
	}
	// 19 characters cannot overflow m, nor have more than 17 digits after the point.
	if i-s > 19 || inNumber[b[i]] {
		return 0, 0, -1
	}
	return m, frac, i
}

// skipNumber checks the number at b[i], a digit or a minus, and returns the position after it.
func (d *Decoder) skipNumber(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	switch {
	case b[i] == '0':
		if i++; digit(b[i]) {
			return d.failf(ruleNotJSON, "not JSON: a number with a leading zero at byte %d", d.pos(i-1))
		}
	case digit(b[i]):
		i = digits(b, i)
	default:
		return d.syntax(b, i, "a digit")
	}
	if b[i] == '.' {
		if i++; !digit(b[i]) {
			return d.syntax(b, i, "a digit after the point")
		}
		i = digits(b, i)
	}
	if b[i]|0x20 == 'e' {
		if i++; b[i] == '+' || b[i] == '-' {
			i++
		}
		if !digit(b[i]) {
			return d.syntax(b, i, "a digit of the exponent")
		}
		i = digits(b, i)
	}
	return i
}

func digit(c byte) bool { return c-'0' <= 9 }

func digits(b []byte, i int) int {
	for digit(b[i]) {
		i++
	}
	return i
}

// number is a JSON number taken apart: 0.digits × 10^point, exactly.
type number struct {
	neg    bool
	digits []byte // '0' to '9', neither beginning nor ending with '0'; empty: zero
	point  int64  // where the decimal point stands: before digits[point]
}

// integral reports whether the number has no fractional part.
func (n number) integral() bool { return int64(len(n.digits)) <= n.point }

// takeApart reads a number that skipNumber has checked.
func (d *Decoder) takeApart(text []byte) number {
	n := number{digits: d.scratch[:0]}
	i := 0
	if text[0] == '-' {
		n.neg = true
		i++
	}
	var frac bool
	for ; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '.':
			frac = true
			continue
		case !digit(c):
			n.point += exponent(text[i+1:])
			i = len(text)
			continue
		}
		if c == '0' && len(n.digits) == 0 {
			if frac {
				n.point--
			}
			continue
		}
		n.digits = append(n.digits, c)
		if !frac {
			n.point++
		}
	}
	d.scratch = n.digits[:0]
	for k := len(n.digits); k > 0 && n.digits[k-1] == '0'; k-- {
		n.digits = n.digits[:k-1]
	}
	if len(n.digits) == 0 {
		n.point = 0
	}
	return n
}

// exponent reads what follows an e. It stops counting where no row is long
// enough to make up for it.
func exponent(text []byte) int64 {
	var v int64
	neg := text[0] == '-'
	if neg || text[0] == '+' {
		text = text[1:]
	}
	for _, c := range text {
		v = min(v*10+int64(c-'0'), 1<<40)
	}
	if neg {
		return -v
	}
	return v
}

// scaled returns digits × 10^(point+shift) without what is behind the decimal
// point; ok is false when that does not fit 64 bits.
func (n number) scaled(shift int64) (v uint64, ok bool) {
	point := n.point + shift
	if len(n.digits) == 0 || point <= 0 {
		return 0, true
	}
	if point > 20 {
		return 0, false
	}
	for k := range int(point) {
		c := byte('0')
		if k < len(n.digits) {
			c = n.digits[k]
		}
		hi, lo := bits.Mul64(v, 10)
		sum, carry := bits.Add64(lo, uint64(c-'0'), 0)
		if hi+carry != 0 {
			return 0, false
		}
		v = sum
	}
	return v, true
}

// int64 returns an integral number, if it fits.
func (n number) int64() (int64, bool) {
	v, ok := n.scaled(0)
	switch {
	case !ok:
		return 0, false
	case n.neg:
		return -int64(v), v <= 1<<63
	default:
		return int64(v), v < 1<<63
	}
}

func (d *Decoder) int64(c *column, b []byte, i, idx int) int {
	v, end := plainInt(b, i)
	if end < 0 {
		if v, end = d.slowInt(c, b, i, idx, 64); end < 0 || isNull(b, i) {
			return end
		}
	}
	c.i64[idx] = v
	return end
}

func (d *Decoder) int32(c *column, b []byte, i, idx int) int {
	v, end := plainInt(b, i)
	if end < 0 || v != int64(int32(v)) {
		if v, end = d.slowInt(c, b, i, idx, 32); end < 0 || isNull(b, i) {
			return end
		}
	}
	c.i32[idx] = int32(v)
	return end
}

// slowInt reads the value of an integer column, whatever it is.
func (d *Decoder) slowInt(c *column, b []byte, i, idx, size int) (v int64, end int) {
	if b[i] != '-' && !digit(b[i]) {
		return 0, d.mismatch(c, b, i, idx)
	}
	if end = d.skipNumber(b, i); end < 0 {
		return 0, -1
	}
	n := d.takeApart(b[i:end])
	if !n.integral() {
		d.failf(ruleWrongType, "expected an integer, got the number %s at byte %d", clip(string(b[i:end])), d.pos(i))
		d.fail.advice = "; declare the column double or decimal"
		return 0, -1
	}
	v, ok := n.int64()
	if ok && size == 32 && v != int64(int32(v)) {
		ok = false
	}
	if !ok {
		return 0, d.failf(ruleOutOfRange, "%s at byte %d does not fit a %d-bit integer", clip(string(b[i:end])), d.pos(i), size)
	}
	return v, end
}

func (d *Decoder) float64(c *column, b []byte, i, idx int) int {
	// Clinger's fast path: a mantissa and a power of ten that are both exact
	// give the nearest float in one division.
	if m, frac, end := plainNumber(b, i); end >= 0 && m < 1<<53 {
		f := float64(m)
		if frac != 0 {
			f /= pow10f64[frac]
		}
		if b[i] == '-' {
			f = -f
		}
		c.f64[idx] = f
		return end
	}
	f, end := d.slowFloat(c, b, i, idx, 64)
	if end < 0 || isNull(b, i) {
		return end
	}
	c.f64[idx] = f
	return end
}

func (d *Decoder) float32(c *column, b []byte, i, idx int) int {
	// Not by way of a float64, which would round twice. Zero may have a sign.
	if v, end := plainInt(b, i); end >= 0 && v != 0 {
		c.f32[idx] = float32(v)
		return end
	}
	f, end := d.slowFloat(c, b, i, idx, 32)
	if end < 0 || isNull(b, i) {
		return end
	}
	c.f32[idx] = float32(f)
	return end
}

// slowFloat reads the value of a floating point column, whatever it is.
func (d *Decoder) slowFloat(c *column, b []byte, i, idx, size int) (f float64, end int) {
	if b[i] != '-' && !digit(b[i]) {
		return 0, d.mismatch(c, b, i, idx)
	}
	if end = d.skipNumber(b, i); end < 0 {
		return 0, -1
	}
	f, err := strconv.ParseFloat(string(b[i:end]), size)
	if err != nil { // skipNumber leaves only one reason
		return 0, d.failf(ruleOutOfRange, "%s at byte %d is beyond the largest %d-bit float", clip(string(b[i:end])), d.pos(i), size)
	}
	return f, end
}

func (d *Decoder) bool(c *column, b []byte, i, idx int) int {
	switch {
	case string(b[i:i+4]) == "true":
		c.setBool(idx, 1)
		return i + 4
	case string(b[i:i+5]) == "false":
		c.setBool(idx, 0)
		return i + 5
	}
	return d.mismatch(c, b, i, idx)
}
