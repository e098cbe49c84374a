package decode

import (
	"bytes"
	"errors"
	"math"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
)

// ErrFull says that a message would take a column past the 2 GiB that Arrow's
// offsets reach. Nothing of the message was taken: flush, and offer it again.
var ErrFull = errors.New("decoder is full: flush before the next message")

// maxColumnBytes is what the 32-bit offsets of a string column can address.
const maxColumnBytes = math.MaxInt32

// pad is how far beyond a row the decoder may read: two words after the byte
// that ends it, and the longest escape.
const pad = 32

// minRows is the room a decoder begins with.
const minRows = 256

// keepScratch is how much scratch memory of each kind a decoder keeps after a
// flush; one huge row must not be paid for forever.
const keepScratch = 1 << 20

// Position says where in its source a message stands.
type Position struct {
	Partition string
	First     int64 // offset of the message, or of its first line when PerRow
	PerRow    bool  // line k of the message, from 0 and counting blank ones, has offset First+k
	Void      int64 // offsets right before First that no row has; see batch.Run
}

// A Decoder collects the rows of messages until they are flushed as one
// record. It is for one goroutine at a time; keep it, and it keeps its scratch
// memory and what it has learned about the rows.
type Decoder struct {
	plan     *Plan
	mem      memory.Allocator
	maxDepth int

	root object // the contract's columns, then Options.Extra
	raw  column // each row's bytes; the row being read lies behind them

	rows, rowCap int
	runs         []batch.Run
	run          batch.Run // the run being built; not yet in runs
	sourceBytes  int       // that the source column will take
	at           Position  // of the message being read

	bad []BadRow

	adding  bool     // Options.OnNewField is Add
	noticed []notice // of the row being read
	learned map[string]*learned

	restName string // the last key that shares the last slot

	// The row being read.
	start, end int // where it lies in raw.data
	fail       failure

	scratch []byte // text without escapes, digits
	stack   []byte // of skip
	frame   []byte // a message being cut into rows
	spans   []span
}

type span struct{ from, to int }

// NewDecoder makes a decoder whose records take their memory from mem.
func (p *Plan) NewDecoder(mem memory.Allocator) *Decoder {
	fields := slices.Concat(p.contract.Fields(), p.opts.Extra)
	d := &Decoder{
		plan:     p,
		mem:      mem,
		maxDepth: p.opts.MaxDepth,
		adding:   p.opts.OnNewField == Add,
		root:     *newObject(fields, 1),
		raw:      column{kind: kindString, required: true, name: batch.ColRaw, typ: arrow.BinaryTypes.Binary},
	}
	for i := range p.opts.Extra {
		d.root.fields[p.contract.NumFields()+i].extra = true
	}
	return d
}

// Rows counts the good rows since the last flush.
func (d *Decoder) Rows() int { return d.rows }

// Bad counts the bad rows since the last flush.
func (d *Decoder) Bad() int { return len(d.bad) }

// Bytes counts the bytes of the good rows since the last flush.
func (d *Decoder) Bytes() int {
	if d.rows == 0 {
		return 0
	}
	return int(d.raw.offsets[d.rows])
}

// Message reads the rows of one message; data may be reused afterwards. Rows
// that do not decode are remembered for [Decoder.Flush]. The only error is
// [ErrFull], which never comes right after a flush.
func (d *Decoder) Message(data []byte, pos Position) error {
	d.at = pos
	if d.Bytes()+len(data) > maxColumnBytes-pad || !d.sourceFits(data, pos.Partition) {
		if d.rows > 0 {
			return ErrFull
		}
		d.turnAway(bytes.Clone(data), pos.Partition, pos.First, failure{rule: ruleTooLarge, message: "a message of this size does not fit into one record"})
		return nil
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	nl := bytes.IndexByte(data, '\n')
	switch {
	case nl < 0 || nl == len(data)-1:
		d.line(trim(data), pos.Partition, pos.First)
	case d.oneValue(data, pos.PerRow):
		if pos.PerRow {
			pos.First += blankLines(data)
		}
		d.line(trim(data), pos.Partition, pos.First)
	default:
		d.lines(data, nl, pos)
	}
	return nil
}

// sourceFits reports whether the source column has room for every row that
// data could hold. The shortest row, with what parts it from the next, has
// three bytes.
func (d *Decoder) sourceFits(data []byte, partition string) bool {
	room := maxColumnBytes - d.sourceBytes
	if (len(data)/3+1)*len(partition) <= room {
		return true
	}
	rows := max(bytes.Count(data, []byte{'\n'}), bytes.Count(data, []byte{'{'})) + 1
	return rows*len(partition) <= room
}

// lines reads a message line by line; nl is where the first line ends.
func (d *Decoder) lines(data []byte, nl int, pos Position) {
	for offset := pos.First; ; {
		d.line(trim(data[:nl]), pos.Partition, offset)
		if nl == len(data) {
			return
		}
		if pos.PerRow {
			offset++
		}
		data = data[nl+1:]
		if nl = bytes.IndexByte(data, '\n'); nl < 0 {
			nl = len(data)
		}
	}
}

// line reads a row, or an array of rows that share an offset.
func (d *Decoder) line(s []byte, partition string, offset int64) {
	switch {
	case len(s) == 0:
	case s[0] == '[':
		d.array(s, partition, offset)
	default:
		d.row(s, partition, offset)
	}
}

// row reads one row.
func (d *Decoder) row(s []byte, partition string, offset int64) {
	if len(s) > d.plan.opts.MaxRowBytes {
		d.failf(ruleTooLarge, "the row has %d bytes, more than the %d allowed", len(s), d.plan.opts.MaxRowBytes)
		d.turnAway(bytes.Clone(s), partition, offset, d.fail)
		return
	}
	n := d.rows
	if n == d.rowCap {
		d.grow()
	}
	// The row is read where its copy stays. A zero byte after it, which JSON
	// has no place for, ends every loop without a look at the length.
	d.start = int(d.raw.offsets[n])
	d.end = d.start + len(s)
	b := d.raw.data
	if d.end+pad > len(b) {
		b = d.raw.growData(d.end + pad)
	}
	copy(b[d.start:], s)
	b[d.end] = 0

	end := -1
	if b[d.start] == '{' {
		end = d.object(&d.root, b, d.start, n)
	} else {
		d.notObject(b)
	}
	if end >= 0 && end != d.end {
		end = d.syntax(b, space(b, end), "nothing after the object")
	}
	if end < 0 {
		for i := range d.root.fields {
			d.root.fields[i].cut(n)
		}
		d.noticed = d.noticed[:0]
		d.turnAway(bytes.Clone(s), partition, offset, d.fail)
		return
	}
	d.raw.offsets[n+1] = int32(d.end)
	d.rows = n + 1
	if len(d.noticed) > 0 {
		d.learn(b, partition)
	}
	d.extendRun(partition, offset)
}

// notObject says what a row is that is not an object.
func (d *Decoder) notObject(b []byte) {
	end := d.skip(b, d.start, 0)
	switch {
	case end < 0:
	case end != d.end:
		d.syntax(b, space(b, end), "nothing after the value")
	default:
		d.failf(ruleNotObject, "expected an object, got %s", describe(b[d.start:end]))
	}
}

// value reads the value at b[i] into index idx of a column and returns the
// position after it, or -1 after a failure.
func (d *Decoder) value(c *column, b []byte, i, idx int) int {
	switch c.kind {
	case kindString:
		return d.string(c, b, i, idx)
	case kindFloat64:
		return d.float64(c, b, i, idx)
	case kindInt64:
		return d.int64(c, b, i, idx)
	case kindTimestamp:
		return d.timestamp(c, b, i, idx)
	case kindInt32:
		return d.int32(c, b, i, idx)
	case kindBool:
		return d.bool(c, b, i, idx)
	case kindDate:
		return d.date(c, b, i, idx)
	case kindDecimal:
		return d.decimal(c, b, i, idx)
	case kindFloat32:
		return d.float32(c, b, i, idx)
	case kindList:
		return d.list(c, b, i, idx)
	default:
		if b[i] != '{' {
			return d.mismatch(c, b, i, idx)
		}
		return d.object(c.obj, b, i, idx)
	}
}

// list reads an array into the elements of a column.
func (d *Decoder) list(c *column, b []byte, i, idx int) int {
	if b[i] != '[' {
		return d.mismatch(c, b, i, idx)
	}
	first := int(c.offsets[idx])
	n := first
	if i = space(b, i+1); b[i] == ']' {
		c.offsets[idx+1] = int32(n)
		return i + 1
	}
	for {
		if n == c.elemCap {
			c.growElem(d.mem, n+1)
		}
		if i = d.value(c.elem, b, i, n); i < 0 {
			d.fail.within(indexName(n - first))
			return -1
		}
		n++
		i = space(b, i)
		if b[i] == ',' {
			i = space(b, i+1)
			continue
		}
		if b[i] != ']' {
			return d.syntax(b, i, `"," or "]"`)
		}
		c.offsets[idx+1] = int32(n)
		return i + 1
	}
}

func (d *Decoder) grow() {
	d.rowCap = max(minRows, d.rowCap*2, d.raw.hintRows)
	for i := range d.root.fields {
		d.root.fields[i].grow(d.mem, d.rowCap)
	}
	d.raw.grow(d.mem, d.rowCap)
}

func (d *Decoder) turnAway(raw []byte, partition string, offset int64, why failure) {
	d.bad = append(d.bad, BadRow{
		Partition: partition, Offset: offset, Void: d.voidBefore(offset), Raw: raw,
		Class: ClassDecode, Rule: why.rule, Column: why.path, Message: why.text(),
	})
}

// voidBefore returns how many offsets before that of a row of the message are void.
func (d *Decoder) voidBefore(offset int64) int64 {
	if offset == d.at.First {
		return d.at.Void
	}
	return 0
}

// extendRun adds the row just read to the positions.
func (d *Decoder) extendRun(partition string, offset int64) {
	d.sourceBytes += len(partition)
	r := &d.run
	if void := d.voidBefore(offset); void > 0 && (r.Partition != partition || r.First != offset) {
		d.endRun()
		d.run = batch.Run{Partition: partition, First: offset, Rows: 1, Void: void}
		return
	}
	if r.Rows > 1 && r.Partition == partition {
		if r.PerRow && r.First+int64(r.Rows) == offset || !r.PerRow && r.First == offset {
			r.Rows++
			return
		}
	}
	if r.Rows == 1 && r.Partition == partition && (r.First == offset || r.First+1 == offset) {
		r.PerRow = r.First != offset
		r.Rows = 2
		return
	}
	d.endRun()
	d.run = batch.Run{Partition: partition, First: offset, Rows: 1}
}

func (d *Decoder) endRun() {
	if d.run.Rows > 0 {
		d.runs = batch.AppendRun(d.runs, d.run)
	}
	d.run = batch.Run{}
}
