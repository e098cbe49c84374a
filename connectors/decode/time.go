package decode

import "encoding/binary"

const (
	secondsPerDay = 24 * 60 * 60
	micros        = 1_000_000
)

// What timestamps lie between.
const (
	minMicros = -719162 * secondsPerDay * micros // 0001-01-01
	endMicros = 2932897 * secondsPerDay * micros // the day after 9999-12-31
)

// timestamp reads a timestamp value: microseconds since 1970 in UTC.
func (d *Decoder) timestamp(c *column, b []byte, i, idx int) int {
	if b[i] != '"' {
		return d.unixTime(c, b, i, idx)
	}
	if us, end := plainTimestamp(b, i+1); end >= 0 {
		c.i64[idx] = us
		return end
	}
	s, end := d.text(b, i)
	if end < 0 {
		return -1
	}
	us, problem := parseTimestamp(s)
	switch problem {
	case malformed:
		return d.failf(ruleWrongType, "expected %s, got the string %s at byte %d", c.kind.want(), clip(string(b[i:end])), d.pos(i))
	case impossible:
		return d.failf(ruleOutOfRange, "there is no such time as %s at byte %d", clip(string(b[i:end])), d.pos(i))
	}
	c.i64[idx] = us
	return end
}

// plainTimestamp reads a timestamp of the usual form, YYYY-MM-DDTHH:MM:SS with
// up to six digits of a second and a Z, up to its closing quote. It leaves all
// others to the caller: end is then -1.
func plainTimestamp(b []byte, i int) (us int64, end int) {
	// With '0' taken off, each digit is 0 to 9 and each separator 0; one
	// addition carries what is more into the top bits.
	ymd := binary.LittleEndian.Uint64(b[i:]) ^ 0x2d30302d30303030   // "0000-00-"
	dhm := binary.LittleEndian.Uint64(b[i+8:]) ^ 0x30303a3030543030 // "00T00:00"
	sec := binary.LittleEndian.Uint64(b[i+16:])                     // ":00" and what follows
	sec3 := sec&0xffffff ^ 0x30303a
	bad := (ymd + 0x7f76767f76767676) | ymd | (dhm + 0x76767f76767f7676) | dhm | (sec3 + 0x76767f) | sec3
	if bad&high1 != 0 {
		return 0, -1
	}
	year := int(ymd&0xff)*1000 + int(ymd>>8&0xff)*100 + int(ymd>>16&0xff)*10 + int(ymd>>24&0xff)
	month := int(ymd>>40&0xff)*10 + int(ymd>>48&0xff)
	day := int(dhm&0xff)*10 + int(dhm>>8&0xff)
	hour := int(dhm>>24&0xff)*10 + int(dhm>>32&0xff)
	minute := int(dhm>>48&0xff)*10 + int(dhm>>56&0xff)
	second := int(sec3>>8&0xff)*10 + int(sec3>>16&0xff)
	if hour > 23 || minute > 59 || second > 59 || !validDay(year, month, day) {
		return 0, -1
	}
	us = (int64(daysFromCivil(year, month, day))*secondsPerDay + int64(hour*3600+minute*60+second)) * micros
	i += 19
	if b[i] == '.' {
		i++
		var frac, n int64
		for n < 7 && digit(b[i]) {
			frac = frac*10 + int64(b[i]-'0')
			i, n = i+1, n+1
		}
		if n == 0 || n > 6 {
			return 0, -1
		}
		us += frac * int64(pow10u64[6-n])
	}
	if b[i] != 'Z' || b[i+1] != '"' {
		return 0, -1
	}
	return us, i + 2
}

// timeProblem says what is wrong with the text of a time.
type timeProblem uint8

const (
	fine       timeProblem = iota
	malformed              // not a time at all
	impossible             // the 30th of February, hour 25, year 0
)

// parseTimestamp reads every form of a timestamp that the package comment lists.
func parseTimestamp(s []byte) (us int64, problem timeProblem) {
	if len(s) < 10 {
		return 0, malformed
	}
	day, problem := parseDate(s[:10])
	if problem != fine || len(s) == 10 {
		return int64(day) * secondsPerDay * micros, problem
	}
	if len(s) < 19 || s[10]|0x20 != 't' && s[10] != ' ' || s[13] != ':' || s[16] != ':' {
		return 0, malformed
	}
	hour, ok1 := twoDigits(s[11:])
	minute, ok2 := twoDigits(s[14:])
	second, ok3 := twoDigits(s[17:])
	if !ok1 || !ok2 || !ok3 {
		return 0, malformed
	}
	us = (int64(day)*secondsPerDay + int64(hour*3600+minute*60+second)) * micros
	s = s[19:]
	if len(s) > 0 && s[0] == '.' {
		frac, n := fraction(s[1:])
		if n == 0 || n > 9 {
			return 0, malformed
		}
		us += frac
		s = s[1+n:]
	}
	offset, problem := parseOffset(s)
	if problem != fine {
		return 0, problem
	}
	us -= int64(offset) * micros
	if hour > 23 || minute > 59 || second > 59 || us < minMicros || us >= endMicros {
		return 0, impossible
	}
	return us, fine
}

// fraction reads the digits of a second; it returns microseconds and how many digits there are.
func fraction(s []byte) (us int64, n int) {
	unit := int64(micros)
	for n < len(s) && digit(s[n]) {
		unit /= 10
		us += int64(s[n]-'0') * unit
		n++
	}
	return us, n
}

// parseOffset reads a zone: nothing, Z or ±HH:MM; in seconds east of UTC.
func parseOffset(s []byte) (seconds int, problem timeProblem) {
	if len(s) == 0 || len(s) == 1 && s[0]|0x20 == 'z' {
		return 0, fine
	}
	if len(s) != 6 || s[0] != '+' && s[0] != '-' || s[3] != ':' {
		return 0, malformed
	}
	hour, ok1 := twoDigits(s[1:])
	minute, ok2 := twoDigits(s[4:])
	if !ok1 || !ok2 {
		return 0, malformed
	}
	if hour > 23 || minute > 59 {
		return 0, impossible
	}
	seconds = hour*3600 + minute*60
	if s[0] == '-' {
		seconds = -seconds
	}
	return seconds, fine
}

// unixTime reads a timestamp that is a number.
func (d *Decoder) unixTime(c *column, b []byte, i, idx int) int {
	if v, end := plainInt(b, i); end >= 0 {
		if us := fromUnix(v); us >= minMicros && us < endMicros {
			c.i64[idx] = us
			return end
		}
	}
	if b[i] != '-' && !digit(b[i]) {
		return d.mismatch(c, b, i, idx)
	}
	end := d.skipNumber(b, i)
	if end < 0 {
		return -1
	}
	n := d.takeApart(b[i:end])
	var shift int64 // power of ten from the number's unit to microseconds
	switch {
	case n.point <= 11:
		shift = 6
	case n.point <= 14:
		shift = 3
	case n.point <= 17:
		shift = 0
	default:
		shift = -3
	}
	v, ok := n.scaled(shift)
	us := int64(v)
	if n.neg {
		if us = -us; int64(len(n.digits)) > n.point+shift {
			us-- // digits were dropped: down, as for times after 1970
		}
	}
	if !ok || v >= 1<<62 || us < minMicros || us >= endMicros {
		return d.failf(ruleOutOfRange, "%s at byte %d is no Unix time of the years 1 to 9999", clip(string(b[i:end])), d.pos(i))
	}
	c.i64[idx] = us
	return end
}

// fromUnix turns a Unix time of up to 18 characters, whose size tells its unit, into microseconds.
func fromUnix(v int64) int64 {
	switch a := max(v, -v); {
	case a < 1e11:
		return v * micros
	case a < 1e14:
		return v * 1000
	case a < 1e17:
		return v
	default: // positive: there is no room for a minus
		return v / 1000
	}
}

// date reads a date value: days since 1970-01-01.
func (d *Decoder) date(c *column, b []byte, i, idx int) int {
	if b[i] != '"' {
		return d.mismatch(c, b, i, idx)
	}
	s, end := d.text(b, i)
	if end < 0 {
		return -1
	}
	day, problem := parseDate(s)
	switch problem {
	case malformed:
		return d.failf(ruleWrongType, "expected %s, got the string %s at byte %d", c.kind.want(), clip(string(b[i:end])), d.pos(i))
	case impossible:
		return d.failf(ruleOutOfRange, "there is no such day as %s at byte %d", clip(string(b[i:end])), d.pos(i))
	}
	c.i32[idx] = day
	return end
}

// parseDate reads YYYY-MM-DD.
func parseDate(s []byte) (day int32, problem timeProblem) {
	if len(s) != 10 || s[4] != '-' || s[7] != '-' {
		return 0, malformed
	}
	century, ok1 := twoDigits(s)
	year, ok2 := twoDigits(s[2:])
	month, ok3 := twoDigits(s[5:])
	dom, ok4 := twoDigits(s[8:])
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return 0, malformed
	}
	if year += century * 100; !validDay(year, month, dom) {
		return 0, impossible
	}
	return int32(daysFromCivil(year, month, dom)), fine
}

func twoDigits(s []byte) (v int, ok bool) {
	return int(s[0]-'0')*10 + int(s[1]-'0'), digit(s[0]) && digit(s[1])
}

var daysIn = [...]uint8{0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

func validDay(year, month, day int) bool {
	if year < 1 || month < 1 || month > 12 || day < 1 {
		return false
	}
	last := int(daysIn[month])
	if month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0) {
		last++
	}
	return day <= last
}

// daysFromCivil counts the days from 1970-01-01 in the Gregorian calendar. The
// year begins in March here, which puts the leap day last; see Howard Hinnant,
// "chrono-Compatible Low-Level Date Algorithms". Year is at least 1.
func daysFromCivil(year, month, day int) int {
	if month <= 2 {
		year--
		month += 12
	}
	return 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1 - 719468
}
