package merge

import (
	"cmp"
	"context"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
)

// Source yields sorted records.
type Source interface {
	// Next returns the next record, which the caller releases; nil when there is none.
	Next(ctx context.Context) (arrow.Record, error)
	// Close gives back what Next has not handed out. It may be called more than once.
	Close()
}

// Limit says how large records should be.
type Limit struct {
	Rows  int   // at most
	Bytes int64 // of memory, about; 0: any
}

// entry is a row to be sorted.
type entry struct {
	key uint64 // orders rows as far as it differs
	rec uint32
	row uint32
}

// entryBytes is what sorting needs per row beside the row itself, without its key's columns.
const entryBytes = 16

// SortBytes returns how much memory Sort needs for some rows beside their records.
func (k Key) SortBytes(rows int64) int64 { return rows * int64(entryBytes+8*len(k.cols)) }

type sorted struct {
	schema *arrow.Schema
	recs   []arrow.Record
	rows   []entry
	each   int // rows of a record
}

// Sort sorts the rows of records that all have one schema, and yields them as records of
// about a size. It keeps a reference to each record until it is closed, or at its end.
func Sort(schema *arrow.Schema, k Key, recs []arrow.Record, limit Limit) Source {
	total, size := 0, int64(0)
	cols := make([][]column, len(recs))
	for i, r := range recs {
		r.Retain()
		total += int(r.NumRows())
		size += Bytes(r)
		cols[i] = k.columns(r)
	}
	s := &sorted{schema: schema, recs: slices.Clone(recs), rows: make([]entry, 0, total), each: rowsFor(limit, size, int64(total))}
	var nulls []entry // of the key's first column
	for i, r := range recs {
		for row := range int(r.NumRows()) {
			e := entry{rec: uint32(i), row: uint32(row)}
			switch {
			case len(cols[i]) == 0:
			case cols[i][0].null(row):
				nulls = append(nulls, e)
				continue
			case cols[i][0].nums != nil:
				e.key = cols[i][0].nums[row]
			}
			s.rows = append(s.rows, e)
		}
	}
	if len(k.cols) > 0 {
		sortRows(s.rows, cols)
		sortNulls(nulls, cols)
	}
	s.rows = append(s.rows, nulls...)
	return s
}

// rowsFor returns how many rows make a record of a size.
func rowsFor(limit Limit, size, rows int64) int {
	n := int64(limit.Rows)
	if rows > 0 && size > 0 && limit.Bytes > 0 {
		n = min(n, limit.Bytes*rows/size)
	}
	return int(max(n, 1))
}

// sortRows sorts rows whose first key column is not null.
func sortRows(rows []entry, cols [][]column) {
	if len(rows) == 0 {
		return
	}
	from := 1 // the first key column that the entries' keys say nothing of
	if cols[0][0].nums == nil {
		from = 0
		keyStrings(rows, cols)
	}
	slices.SortFunc(rows, func(a, b entry) int {
		if a.key != b.key {
			if a.key < b.key {
				return -1
			}
			return 1
		}
		if d := compareRows(cols[a.rec][from:], int(a.row), cols[b.rec][from:], int(b.row)); d != 0 {
			return d
		}
		return arrival(a, b)
	})
}

func sortNulls(rows []entry, cols [][]column) {
	slices.SortFunc(rows, func(a, b entry) int {
		if d := compareRows(cols[a.rec][1:], int(a.row), cols[b.rec][1:], int(b.row)); d != 0 {
			return d
		}
		return arrival(a, b)
	})
}

func arrival(a, b entry) int {
	if d := cmp.Compare(a.rec, b.rec); d != 0 {
		return d
	}
	return cmp.Compare(a.row, b.row)
}

// keyStrings sets the entries' keys to what follows the bytes that all strings begin with.
func keyStrings(rows []entry, cols [][]column) {
	first := cols[rows[0].rec][0].bytes(int(rows[0].row))
	skip := len(first)
	for _, e := range rows {
		skip = min(skip, common(first[:skip], cols[e.rec][0].bytes(int(e.row))))
		if skip == 0 {
			break
		}
	}
	for i := range rows {
		rows[i].key = prefix(cols[rows[i].rec][0].bytes(int(rows[i].row)), skip)
	}
}

// Next implements Source.
func (s *sorted) Next(ctx context.Context) (arrow.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(s.rows) == 0 {
		s.Close()
		return nil, nil
	}
	n := min(s.each, len(s.rows))
	segs := make([]segment, 0, n)
	for _, e := range s.rows[:n] {
		if last := len(segs) - 1; last >= 0 && segs[last].rec == int(e.rec) && segs[last].end() == int(e.row) {
			segs[last].rows++
			continue
		}
		segs = append(segs, segment{int(e.rec), int(e.row), 1})
	}
	rec, err := gather(s.schema, s.recs, segs)
	if err == nil {
		s.rows = s.rows[n:]
	}
	return rec, err
}

// Close implements Source.
func (s *sorted) Close() {
	for _, r := range s.recs {
		r.Release()
	}
	s.recs, s.rows = nil, nil
}
