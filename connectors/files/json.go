package files

import (
	"encoding/base64"
	"math"
	"strconv"
	"time"
)

// appendBytes appends bytes as a string of base64.
func appendBytes(dst, b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), b), '"')
}

// appendFloat appends a number that reads back as the same one. What JSON has no
// number for is a string, which no column of numbers takes.
func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, bits)
}

// appendTime appends a moment as RFC 3339 in UTC, quoted, with as many digits as it
// needs. utc is false for a reading of a clock whose zone nobody knows.
func appendTime(dst []byte, t time.Time, utc bool) []byte {
	layout := "2006-01-02T15:04:05.999999999"
	if utc {
		layout += "Z"
	}
	return append(t.UTC().AppendFormat(append(dst, '"'), layout), '"')
}

func appendDate(dst []byte, days int64) []byte {
	return append(time.Unix(days*86400, 0).UTC().AppendFormat(append(dst, '"'), "2006-01-02"), '"')
}

// appendClock appends a time of day.
func appendClock(dst []byte, nanos int64) []byte {
	return append(time.Unix(0, nanos).UTC().AppendFormat(append(dst, '"'), "15:04:05.999999999"), '"')
}

// appendDecimal appends an unscaled number given in digits, with scale digits after
// the point.
func appendDecimal[T string | []byte](dst []byte, digits T, scale int) []byte {
	if len(digits) > 0 && digits[0] == '-' {
		dst, digits = append(dst, '-'), digits[1:]
	}
	if scale <= 0 {
		dst = append(dst, digits...)
		for range -scale {
			if string(digits) == "0" {
				break
			}
			dst = append(dst, '0')
		}
		return dst
	}
	if len(digits) <= scale {
		dst = append(dst, '0', '.')
		for range scale - len(digits) {
			dst = append(dst, '0')
		}
		return append(dst, digits...)
	}
	dst = append(dst, digits[:len(digits)-scale]...)
	return append(append(dst, '.'), digits[len(digits)-scale:]...)
}
