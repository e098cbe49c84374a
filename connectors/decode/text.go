package decode

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	high1 = 0x8080808080808080
	ones  = 0x0101010101010101
)

// special flags, in the top bit of each byte of x, the bytes that end a run of
// plain text: quotes, backslashes, control characters and all that is not
// ASCII. The lowest flag is exact; higher ones may be false.
//
// Flipping bit 1 puts the quote (0x22) next to the control characters, so that
// one subtraction finds both; see "Bit Twiddling Hacks", hasless(v, n). What is
// not ASCII keeps its top bit in at least one of the two differences.
func special(x uint64) uint64 {
	q := x ^ 0x02*ones
	s := x ^ '\\'*ones
	return ((q - 0x21*ones) | (s - ones)) & high1
}

// specialASCII is special without what is not ASCII.
func specialASCII(x uint64) uint64 {
	q := x ^ 0x02*ones
	s := x ^ '\\'*ones
	return ((q - 0x21*ones) | (s - ones)) & ^x & high1
}

func isNull(b []byte, i int) bool { return string(b[i:i+4]) == "null" }

// string reads a string value: it copies and looks for the end in one go.
func (d *Decoder) string(c *column, b []byte, i, idx int) int {
	if b[i] != '"' {
		return d.mismatch(c, b, i, idx)
	}
	i++
	o := int(c.offsets[idx])
	dst := c.data
	for {
		if o+8 > len(dst) {
			dst = c.growData(o + 8)
		}
		x := binary.LittleEndian.Uint64(b[i:])
		binary.LittleEndian.PutUint64(dst[o:], x)
		if m := special(x); m != 0 {
			n := bits.TrailingZeros64(m) >> 3
			i, o = i+n, o+n
			break
		}
		i, o = i+8, o+8
	}
	if b[i] == '"' {
		c.offsets[idx+1] = int32(o)
		return i + 1
	}
	return d.stringRest(c, b, i, o, idx)
}

// stringRest goes on with a string value in which something other than plain
// ASCII was found at b[i]; o is where the next byte goes.
func (d *Decoder) stringRest(c *column, b []byte, i, o, idx int) int {
	for {
		end := plainEnd(b, i)
		if !utf8.Valid(b[i:end]) {
			return d.badUTF8(b, i, end)
		}
		if n := o + end - i + utf8.UTFMax; n > len(c.data) {
			c.growData(n)
		}
		o += copy(c.data[o:], b[i:end])
		switch b[end] {
		case '"':
			c.offsets[idx+1] = int32(o)
			return end + 1
		case '\\':
			r, next := d.escape(b, end)
			if next < 0 {
				return -1
			}
			o += utf8.EncodeRune(c.data[o:], r)
			i = next
		default:
			return d.control(b, end)
		}
	}
}

// text reads a string at b[i], a quote. The result is valid until the next
// call, or as long as b when there are no escapes.
func (d *Decoder) text(b []byte, i int) (s []byte, end int) {
	start := i + 1
	i = start
	d.scratch = d.scratch[:0]
	escaped := false
	for {
		end := plainEnd(b, i)
		if !utf8.Valid(b[i:end]) {
			return nil, d.badUTF8(b, i, end)
		}
		switch b[end] {
		case '"':
			if !escaped {
				return b[start:end], end + 1
			}
			d.scratch = append(d.scratch, b[i:end]...)
			return d.scratch, end + 1
		case '\\':
			escaped = true
			d.scratch = append(d.scratch, b[i:end]...)
			r, next := d.escape(b, end)
			if next < 0 {
				return nil, -1
			}
			d.scratch = utf8.AppendRune(d.scratch, r)
			i = next
		default:
			return nil, d.control(b, end)
		}
	}
}

// skipString checks the string at b[i], a quote, and returns the position after it.
func (d *Decoder) skipString(b []byte, i int) int {
	i++
	for {
		end := plainEnd(b, i)
		if !utf8.Valid(b[i:end]) {
			return d.badUTF8(b, i, end)
		}
		switch b[end] {
		case '"':
			return end + 1
		case '\\':
			if _, i = d.escape(b, end); i < 0 {
				return -1
			}
		default:
			return d.control(b, end)
		}
	}
}

// plainEnd returns the position of the first quote, backslash or control
// character at or after i. The byte after a row is one.
func plainEnd(b []byte, i int) int {
	for {
		if m := specialASCII(binary.LittleEndian.Uint64(b[i:])); m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
		i += 8
	}
}

// escape reads the escape at b[i], a backslash, and returns the position after it.
func (d *Decoder) escape(b []byte, i int) (rune, int) {
	switch b[i+1] {
	case '"', '\\', '/':
		return rune(b[i+1]), i + 2
	case 'b':
		return '\b', i + 2
	case 'f':
		return '\f', i + 2
	case 'n':
		return '\n', i + 2
	case 'r':
		return '\r', i + 2
	case 't':
		return '\t', i + 2
	case 'u':
		r := hex4(b, i+2)
		if r < 0 {
			break
		}
		if !utf16.IsSurrogate(r) {
			return r, i + 6
		}
		if b[i+6] == '\\' && b[i+7] == 'u' {
			if pair := utf16.DecodeRune(r, hex4(b, i+8)); pair != utf8.RuneError {
				return pair, i + 12
			}
		}
		return 0, d.failf(ruleInvalidUTF8, "%s at byte %d is half a surrogate pair", b[i:i+6], d.pos(i))
	}
	if i+1 >= d.end {
		return 0, d.syntax(b, i+1, "the rest of an escape")
	}
	return 0, d.failf(ruleNotJSON, `not JSON: the backslash at byte %d begins no escape that JSON has`, d.pos(i))
}

// hex4 reads four hex digits; -1 when they are not.
func hex4(b []byte, i int) rune {
	var r rune
	for _, c := range b[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

func (d *Decoder) badUTF8(b []byte, i, end int) int {
	for i < end {
		r, size := utf8.DecodeRune(b[i:end])
		if r == utf8.RuneError && size == 1 {
			break
		}
		i += size
	}
	return d.failf(ruleInvalidUTF8, "not UTF-8: byte 0x%02x at byte %d; convert the source's text to UTF-8", b[i], d.pos(i))
}

func (d *Decoder) control(b []byte, i int) int {
	if i >= d.end {
		return d.syntax(b, i, "the closing quote of a string")
	}
	return d.failf(ruleNotJSON, "not JSON: control character 0x%02x in a string at byte %d; JSON writes it as an escape", b[i], d.pos(i))
}
