package quality

import (
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
)

// rows are the rows of one call that still stand: the records that came in,
// without what was dropped, and their ordinals over the call as they came.
type rows struct {
	plan     *Plan
	recs     []arrow.Record // as they came in, less what was dropped; none is empty
	view     []arrow.Record // what SQL sees of recs
	ordinals []int64        // SQL's _row; ascending
	given    []int64        // _row as it came in, by ordinal; nil when it did not
	n        int
}

func newRows(recs []arrow.Record, p *Plan) (*rows, error) {
	r := &rows{plan: p}
	for _, rec := range recs {
		for _, f := range p.table.ArrowSchema().Fields() {
			if err := hasColumn(rec.Schema(), f); err != nil {
				return nil, err
			}
		}
		if err := r.take(rec); err != nil {
			return nil, err
		}
	}
	for _, rec := range recs {
		if rec.NumRows() > 0 {
			rec.Retain()
			r.recs = append(r.recs, rec)
		}
	}
	r.ordinals = make([]int64, r.n)
	for i := range r.ordinals {
		r.ordinals[i] = int64(i)
	}
	r.look()
	return r, nil
}

// take counts a record and notes its own row numbers.
func (r *rows) take(rec arrow.Record) error {
	at := rec.Schema().FieldIndices(batch.ColRow)
	if (len(at) > 0) != (r.given != nil) && r.n > 0 {
		return fmt.Errorf("column %s is in some records and not in others", batch.ColRow)
	}
	if len(at) > 0 {
		col, ok := rec.Column(at[0]).(*array.Int64)
		if !ok || col.NullN() > 0 {
			return fmt.Errorf("column %s must be long without nulls", batch.ColRow)
		}
		r.given = append(r.given, col.Int64Values()...)
	}
	r.n += int(rec.NumRows())
	return nil
}

// look makes what SQL sees of the records.
func (r *rows) look() {
	releaseAll(r.view)
	r.view = r.view[:0]
	at := 0
	for _, rec := range r.recs {
		n := int(rec.NumRows())
		r.view = append(r.view, r.viewOf(rec, r.ordinals[at:at+n]))
		at += n
	}
}

func (r *rows) viewOf(rec arrow.Record, ordinals []int64) arrow.Record {
	buf := memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(ordinals))
	data := array.NewData(arrow.PrimitiveTypes.Int64, len(ordinals), []*memory.Buffer{nil, buf}, nil, 0, 0)
	defer data.Release()
	ids := array.NewInt64Data(data)
	defer ids.Release()
	cols := make([]arrow.Array, 0, r.plan.input.NumFields())
	for _, f := range r.plan.table.ArrowSchema().Fields() {
		cols = append(cols, rec.Column(rec.Schema().FieldIndices(f.Name)[0]))
	}
	return array.NewRecord(r.plan.input, append(cols, ids), int64(len(ordinals)))
}

func (r *rows) views() []arrow.Record { return r.view }

// slice returns rows from..to of what SQL sees; the caller releases the records.
func (r *rows) slice(from, to int) []arrow.Record {
	var out []arrow.Record
	for _, v := range r.view {
		n := int(v.NumRows())
		if from < n && to > 0 {
			out = append(out, v.NewSlice(int64(max(from, 0)), int64(min(to, n))))
		}
		from, to = from-n, to-n
	}
	return out
}

// row is the number by which the caller knows the row at a position.
func (r *rows) row(at int) int64 {
	ordinal := r.ordinals[at]
	if r.given != nil {
		return r.given[ordinal]
	}
	return ordinal
}

// value shows a contract column of the row at a position.
func (r *rows) value(at int, column string) string {
	for _, v := range r.view {
		if n := int(v.NumRows()); at >= n {
			at -= n
			continue
		}
		return showValue(v.Column(v.Schema().FieldIndices(column)[0]), at)
	}
	return ""
}

// drop takes rows out, by position, and returns the other rows of columns that
// stand beside them. Without rows to drop nothing is copied. The caller
// releases what comes back.
func (r *rows) drop(gone marks, columns []arrow.Array) ([]arrow.Array, error) {
	out := slices.Clone(columns)
	if gone.n == 0 {
		for _, c := range out {
			c.Retain()
		}
		return out, nil
	}
	left := gone.left(0, r.n)
	for i, c := range columns {
		kept, err := keep(c, left)
		if err != nil {
			releaseAll(out[:i])
			return nil, err
		}
		out[i] = kept
	}
	if err := r.dropRecords(gone); err != nil {
		releaseAll(out)
		return nil, err
	}
	ordinals := make([]int64, 0, r.n-gone.n)
	for _, s := range left {
		ordinals = append(ordinals, r.ordinals[s.from:s.to]...)
	}
	r.ordinals, r.n = ordinals, len(ordinals)
	r.look()
	return out, nil
}

func (r *rows) dropRecords(gone marks) error {
	var recs []arrow.Record
	at := 0
	for _, rec := range r.recs {
		n := int(rec.NumRows())
		cols := make([]arrow.Array, rec.NumCols())
		left := gone.left(at, n)
		for i, c := range rec.Columns() {
			kept, err := keep(c, left)
			if err != nil {
				releaseAll(cols[:i])
				releaseAll(recs)
				return err
			}
			cols[i] = kept
		}
		if len(left) > 0 {
			recs = append(recs, array.NewRecord(rec.Schema(), cols, int64(cols[0].Len())))
		}
		releaseAll(cols)
		at += n
	}
	releaseAll(r.recs)
	r.recs = recs
	return nil
}

// marks are positions among the rows.
type marks struct {
	at []bool // by position; may be nil when n is 0
	n  int
}

func (m *marks) set(at int) {
	m.at[at] = true
	m.n++
}

type span struct{ from, to int }

// left returns the stretches without marks of the n positions from first, as
// positions relative to first.
func (m marks) left(first, n int) []span {
	var out []span
	start := 0
	for i := range n + 1 {
		if i < n && !m.at[first+i] {
			continue
		}
		if i > start {
			out = append(out, span{start, i})
		}
		start = i + 1
	}
	return out
}

// keep returns the given stretches of an array, copied when there are several.
func keep(a arrow.Array, stretches []span) (arrow.Array, error) {
	switch len(stretches) {
	case 0:
		return array.NewSlice(a, 0, 0), nil
	case 1:
		return array.NewSlice(a, int64(stretches[0].from), int64(stretches[0].to)), nil
	}
	parts := make([]arrow.Array, len(stretches))
	for i, s := range stretches {
		parts[i] = array.NewSlice(a, int64(s.from), int64(s.to))
	}
	defer releaseAll(parts)
	return array.Concatenate(parts, memory.DefaultAllocator)
}

// passed puts the columns that features computed, one value per row that
// stands, beside the records' own.
func (r *rows) passed(p *Plan, columns []arrow.Array) ([]arrow.Record, error) {
	var out []arrow.Record
	at := int64(0)
	for _, rec := range r.recs {
		n := rec.NumRows()
		fresh := map[string]arrow.Array{}
		for i, c := range columns {
			s := array.NewSlice(c, at, at+n)
			defer s.Release()
			fresh[p.features.fields[i].Name] = s
		}
		at += n
		fields := p.columns.Fields()
		cols := make([]arrow.Array, 0, len(fields)+4)
		for _, f := range fields {
			if c := fresh[f.Name]; c != nil {
				cols = append(cols, c)
			} else {
				cols = append(cols, rec.Column(rec.Schema().FieldIndices(f.Name)[0]))
			}
		}
		for i, f := range rec.Schema().Fields() {
			if !p.columns.HasField(f.Name) {
				fields, cols = append(fields, f), append(cols, rec.Column(i))
			}
		}
		out = append(out, array.NewRecord(arrow.NewSchema(fields, nil), cols, n))
	}
	return out, nil
}

func (r *rows) release() {
	releaseAll(r.recs)
	releaseAll(r.view)
}

func releaseAll[T interface{ Release() }](xs []T) {
	for _, x := range xs {
		x.Release()
	}
}

func emptyArray(dt arrow.DataType) arrow.Array {
	b := array.NewBuilder(memory.DefaultAllocator, dt)
	defer b.Release()
	return b.NewArray()
}

func emptyRecord(s *arrow.Schema) arrow.Record {
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	defer b.Release()
	return b.NewRecord()
}
