package decode

import (
	"bytes"
	"math"
	"strconv"
)

// trim takes JSON's white space from both ends.
func trim(s []byte) []byte {
	for len(s) > 0 && isSpace(s[0]) {
		s = s[1:]
	}
	for len(s) > 0 && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

// blankLines counts the lines before the first that is not blank.
func blankLines(s []byte) (n int64) {
	for i := 0; i < len(s) && isSpace(s[i]); i++ {
		if s[i] == '\n' {
			n++
		}
	}
	return n
}

// oneValue tells a message of several lines that is one JSON value from a
// block of rows: in a block the first line is complete by itself. A broken
// message counts as a block when a later line begins with a brace, or when its
// lines have offsets of their own.
func (d *Decoder) oneValue(data []byte, perRow bool) bool {
	s := trim(data)
	nl := bytes.IndexByte(s, '\n')
	if nl < 0 {
		return true // with blank lines around it
	}
	if d.complete(s[:nl]) {
		return false
	}
	if d.complete(s) {
		return true
	}
	return !perRow && !bytes.Contains(s, []byte("\n{"))
}

// complete reports whether s is one JSON value.
func (d *Decoder) complete(s []byte) bool {
	b := d.framed(s)
	end := d.skip(b, 0, math.MinInt32)
	return end >= 0 && space(b, end) == len(s)
}

// framed copies s to where the decoder may read beyond its end.
func (d *Decoder) framed(s []byte) []byte {
	d.frame = append(d.frame[:0], s...)
	d.frame = append(d.frame, make([]byte, pad)...)
	d.start, d.end = 0, len(s)
	return d.frame
}

// array reads rows that are the elements of a JSON array. It is checked to its
// end first: from a broken one nothing lands.
func (d *Decoder) array(s []byte, partition string, offset int64) {
	b := d.framed(s)
	spans, end := d.elements(b, d.spans[:0])
	d.spans = spans
	if end >= 0 && end != len(s) {
		end = d.syntax(b, space(b, end), "nothing after the array")
	}
	if end < 0 {
		d.turnAway(bytes.Clone(s), partition, offset, d.fail)
		return
	}
	for _, e := range spans {
		d.row(s[e.from:e.to], partition, offset)
	}
	if len(d.spans) > 1<<16 {
		d.spans = nil
	}
}

// elements finds the elements of the array at b[0], and returns the position after it.
func (d *Decoder) elements(b []byte, spans []span) ([]span, int) {
	i := space(b, 1)
	if b[i] == ']' {
		return spans, i + 1
	}
	for {
		from := i
		// Only the row itself is told off for being too deep.
		if i = d.skip(b, i, math.MinInt32); i < 0 {
			return spans, -1
		}
		spans = append(spans, span{from, i})
		switch i = space(b, i); b[i] {
		case ',':
			i = space(b, i+1)
		case ']':
			return spans, i + 1
		default:
			return spans, d.syntax(b, i, `"," or "]"`)
		}
	}
}

func indexName(n int) string { return "[" + strconv.Itoa(n) + "]" }
