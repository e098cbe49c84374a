package decode

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow"
)

// maxLearned bounds how many new fields a decoder tells of between two flushes,
// and maxExample how many bytes of a value it shows.
const (
	maxLearned = 256
	maxExample = 256
)

// NewField is a field of rows that is no column, as it was met since the last
// flush. Rows that do not decode, and fields that are null, do not count.
type NewField struct {
	Name string
	// Type holds every value that was met: boolean; long for integers of 64 bits in
	// plain digits, double when there are other numbers among them; timestamp for
	// text with a date and a time as a timestamp column takes it, lone days among
	// them; and string for all else: text, what is of several kinds, numbers that
	// would lose digits, and objects and arrays as JSON text.
	Type      arrow.DataType
	Rows      int64
	Example   string // the first value as it stands in the row; cut off when long
	Partition string // where that came from
}

// NewFields returns the new fields of the rows since the last flush, sorted by
// name: with [Add], and before the flush.
func (d *Decoder) NewFields() []NewField {
	if len(d.learned) == 0 {
		return nil
	}
	out := make([]NewField, 0, len(d.learned))
	for name, l := range d.learned {
		out = append(out, NewField{Name: name, Type: l.kinds.infer(), Rows: l.rows, Example: l.example, Partition: l.partition})
	}
	slices.SortFunc(out, func(a, b NewField) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// notice is a field that is no column, in the row being read.
type notice struct {
	slot     int
	name     string // of a key that shares the last slot
	from, to int    // where its value lies
}

// learned is what is known of a new field.
type learned struct {
	kinds     kinds
	rows      int64
	example   string
	partition string
}

// notice remembers a field until it is known whether its row is good.
func (d *Decoder) notice(o *object, slot int, b []byte, from, to int) {
	if b[from] == 'n' {
		return // says nothing about the type
	}
	n := notice{slot: slot, from: from, to: to}
	if slot == o.rest() {
		n.name = d.restName
	}
	d.noticed = append(d.noticed, n)
}

// learn takes in what was noticed in a good row.
func (d *Decoder) learn(b []byte, partition string) {
	for _, n := range d.noticed {
		name := n.name
		if n.slot != d.root.rest() {
			name = d.root.slots[n.slot].name()
		}
		l := d.learned[name]
		if l == nil {
			if len(d.learned) == maxLearned {
				continue
			}
			if d.learned == nil {
				d.learned = map[string]*learned{}
			}
			l = &learned{example: example(b[n.from:n.to]), partition: partition}
			d.learned[strings.Clone(name)] = l
		}
		l.rows++
		l.kinds |= d.kindsOf(b, n.from, n.to)
	}
	d.noticed = d.noticed[:0]
}

// example is the beginning of a value.
func example(v []byte) string {
	if len(v) <= maxExample {
		return string(v)
	}
	n := maxExample
	for n > 0 && !utf8.RuneStart(v[n]) {
		n--
	}
	return string(v[:n]) + "…"
}

// kinds are the kinds of value that a new field was met with.
type kinds uint8

const (
	someBool   kinds = 1 << iota
	someLong         // an integer in plain digits that fits 64 bits
	someDouble       // another number that a double holds, rounded to the nearest
	someTime         // text: a date and a time
	someDay          // text: a date
	someOther        // other text, objects and arrays, numbers that are too large
)

// infer returns the type that holds values of all the kinds.
func (k kinds) infer() arrow.DataType {
	switch {
	case k == someBool:
		return arrow.FixedWidthTypes.Boolean
	case k == someLong:
		return arrow.PrimitiveTypes.Int64
	case k&^(someLong|someDouble) == 0:
		return arrow.PrimitiveTypes.Float64
	case k&someTime != 0 && k&^(someTime|someDay) == 0:
		return arrow.FixedWidthTypes.Timestamp_us
	default:
		return arrow.BinaryTypes.String
	}
}

// kindsOf judges the value at b[from:to], which skip has checked and which is not null.
func (d *Decoder) kindsOf(b []byte, from, to int) kinds {
	switch c := b[from]; {
	case c == 't' || c == 'f':
		return someBool
	case c == '{' || c == '[':
		return someOther
	case c == '"':
		return d.textKind(b, from)
	default:
		return d.numberKind(b, from, to)
	}
}

func (d *Decoder) textKind(b []byte, from int) kinds {
	if _, end := plainTimestamp(b, from+1); end >= 0 {
		return someTime
	}
	s, end := d.text(b, from)
	if end < 0 {
		return someOther
	}
	switch _, problem := parseTimestamp(s); {
	case problem != fine:
		return someOther
	case len(s) == 10:
		return someDay
	default:
		return someTime
	}
}

func (d *Decoder) numberKind(b []byte, from, to int) kinds {
	if _, end := plainInt(b, from); end >= 0 {
		return someLong
	}
	text := b[from:to]
	if !bytes.ContainsAny(text, ".eE") {
		if _, ok := d.takeApart(text).int64(); ok {
			return someLong
		}
		return someOther // a double would lose its last digits
	}
	if _, err := strconv.ParseFloat(string(text), 64); err != nil {
		return someOther
	}
	return someDouble
}

// jsonText keeps the value at b[i], which is no string, as JSON text.
func (d *Decoder) jsonText(c *column, b []byte, i, idx int) int {
	end := d.skip(b, i, d.root.level)
	if end < 0 {
		return -1
	}
	o := int(c.offsets[idx])
	if n := o + end - i; n > len(c.data) {
		c.growData(n)
	}
	copy(c.data[o:], b[i:end])
	c.offsets[idx+1] = int32(o + end - i)
	return end
}
