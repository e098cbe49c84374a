package decode

import (
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
)

// Flush returns what came in since the last flush: the good rows as a record
// with the plan's schema, which the caller releases and which may have no
// rows; where those rows came from, in their order; and the bad rows in theirs.
func (d *Decoder) Flush() (rec arrow.Record, runs []batch.Run, bad []BadRow) {
	bad, d.bad = d.bad, nil
	if d.rows == 0 {
		b := array.NewRecordBuilder(d.mem, d.plan.landed)
		defer b.Release()
		return b.NewRecord(), nil, bad
	}
	d.endRun()
	runs, d.runs = d.runs, nil
	n := d.rows
	cols := make([]arrow.Array, 0, d.plan.landed.NumFields())
	add := func(data *array.Data) {
		cols = append(cols, array.MakeFromData(data))
		data.Release()
	}
	known := d.plan.contract.NumFields()
	for i := range known {
		add(d.root.fields[i].take(d.mem, n))
	}
	for _, i := range d.plan.days {
		add(days(d.mem, cols[i].(*array.Timestamp)))
	}
	add(sources(d.mem, runs, n, d.sourceBytes))
	add(offsets(d.mem, runs, n))
	d.raw.hintRows = withSlack(n)
	add(d.raw.take(d.mem, n))
	for i := known; i < len(d.root.fields); i++ {
		add(d.root.fields[i].take(d.mem, n))
	}
	rec = array.NewRecord(d.plan.landed, cols, int64(n))
	for _, c := range cols {
		c.Release()
	}
	d.clear()
	return rec, runs, bad
}

// clear forgets all rows; their buffers have gone elsewhere.
func (d *Decoder) clear() {
	d.rows, d.rowCap, d.sourceBytes = 0, 0, 0
	d.runs, d.run, d.bad = nil, batch.Run{}, nil
	d.learned = nil
	if cap(d.frame) > keepScratch {
		d.frame = nil
	}
	if cap(d.scratch) > keepScratch {
		d.scratch = nil
	}
}

// Reset forgets all rows and gives their memory back. The decoder can go on.
func (d *Decoder) Reset() {
	for i := range d.root.fields {
		d.root.fields[i].reset()
	}
	d.raw.reset()
	d.clear()
}

// days builds the column of the days, in UTC, that timestamps lie in.
func days(mem memory.Allocator, of *array.Timestamp) *array.Data {
	const day = secondsPerDay * micros
	buf := memory.NewResizableBuffer(mem)
	defer buf.Release()
	buf.Resize(of.Len() * 4)
	out := arrow.Int32Traits.CastFromBytes(buf.Bytes())
	for i, v := range of.TimestampValues() {
		out[i] = int32((int64(v)-minMicros)/day + minMicros/day) // no timestamp lies before minMicros
	}
	return array.NewData(arrow.FixedWidthTypes.Date32, of.Len(), []*memory.Buffer{of.Data().Buffers()[0], buf}, nil, of.NullN(), 0)
}

// sources builds the source column: each run's partition, once for each of its rows.
func sources(mem memory.Allocator, runs []batch.Run, n, size int) *array.Data {
	ends, text := memory.NewResizableBuffer(mem), memory.NewResizableBuffer(mem)
	defer ends.Release()
	defer text.Release()
	ends.Resize((n + 1) * 4)
	text.Resize(size)
	o, buf := arrow.Int32Traits.CastFromBytes(ends.Bytes()), text.Bytes()
	o[0] = 0
	row, at := 0, 0
	for _, r := range runs {
		part := buf[at : at+r.Rows*len(r.Partition)]
		for done := copy(part, r.Partition); done < len(part); {
			done += copy(part[done:], part[:done])
		}
		for range r.Rows {
			at += len(r.Partition)
			row++
			o[row] = int32(at)
		}
	}
	return array.NewData(arrow.BinaryTypes.String, n, []*memory.Buffer{nil, ends, text}, nil, 0, 0)
}

// offsets builds the offset column.
func offsets(mem memory.Allocator, runs []batch.Run, n int) *array.Data {
	buf := memory.NewResizableBuffer(mem)
	defer buf.Release()
	buf.Resize(n * 8)
	o := arrow.Int64Traits.CastFromBytes(buf.Bytes())
	row := 0
	for _, r := range runs {
		for k := range r.Rows {
			o[row] = r.Offset(k)
			row++
		}
	}
	return array.NewData(arrow.PrimitiveTypes.Int64, n, []*memory.Buffer{nil, buf}, nil, 0, 0)
}
