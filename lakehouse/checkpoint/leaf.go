package checkpoint

import (
	"fmt"
	"unicode/utf8"
	"unsafe"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/schema"
)

// leaf holds one leaf column's part of the rows that are not written yet: the levels and
// values of those rows only that have the column's own action. In all others it is null.
type leaf struct {
	column   *schema.Column
	kind     kind
	max      int16 // definition level of a value
	repeated bool

	defs, reps []int16
	texts      []parquet.ByteArray
	longs      []int64
	ints       []int32
	bools      []bool
}

// level appends a definition level; again says that it continues the row.
func (l *leaf) level(def int16, again bool) {
	l.defs = append(l.defs, def)
	if l.repeated {
		rep := int16(0)
		if again {
			rep = 1
		}
		l.reps = append(l.reps, rep)
	}
}

func (l *leaf) null() { l.level(l.max-1, false) }

func (l *leaf) text(s string) { l.entry(s, false) }

// textOrNull takes "" to be null.
func (l *leaf) textOrNull(s string) {
	if s == "" {
		l.null()
		return
	}
	l.text(s)
}

func (l *leaf) entry(s string, again bool) {
	if !utf8.ValidString(s) {
		s = string([]rune(s)) // as the log's JSON has it
	}
	l.level(l.max, again)
	l.texts = append(l.texts, unsafe.Slice(unsafe.StringData(s), len(s)))
}

func (l *leaf) long(n int64) {
	l.level(l.max, false)
	l.longs = append(l.longs, n)
}

// longOrNull takes 0 to be null.
func (l *leaf) longOrNull(n int64) {
	if n == 0 {
		l.null()
		return
	}
	l.long(n)
}

func (l *leaf) integer(n int32) {
	l.level(l.max, false)
	l.ints = append(l.ints, n)
}

func (l *leaf) boolean(b bool) {
	l.level(l.max, false)
	l.bools = append(l.bools, b)
}

func (l *leaf) reset() {
	clear(l.texts) // let go of the strings
	l.defs, l.reps, l.texts, l.longs, l.ints, l.bools = l.defs[:0], l.reps[:0], l.texts[:0], l.longs[:0], l.ints[:0], l.bools[:0]
}

// write writes the column of a row group, which has before rows ahead of the action's and after rows behind them.
func (l *leaf) write(cw file.ColumnChunkWriter, before, after int) error {
	switch w := cw.(type) {
	case *file.ByteArrayColumnChunkWriter:
		return writeColumn(w.WriteBatch, l, l.texts, before, after)
	case *file.Int64ColumnChunkWriter:
		return writeColumn(w.WriteBatch, l, l.longs, before, after)
	case *file.Int32ColumnChunkWriter:
		return writeColumn(w.WriteBatch, l, l.ints, before, after)
	case *file.BooleanColumnChunkWriter:
		return writeColumn(w.WriteBatch, l, l.bools, before, after)
	}
	return fmt.Errorf("column %s: no writer for %s", l.column.Path(), cw.Type())
}

// levelsPerWrite bounds what is written between two looks at the page's size.
const levelsPerWrite = 1024

var nulls [16 * levelsPerWrite]int16

func writeColumn[T any](write func([]T, []int16, []int16) (int64, error), l *leaf, values []T, before, after int) error {
	if err := writeNulls(write, before); err != nil {
		return err
	}
	for from := 0; from < len(l.defs); {
		to := l.rowEnd(from + levelsPerWrite)
		n := 0
		for _, def := range l.defs[from:to] {
			if def == l.max {
				n++
			}
		}
		var reps []int16
		if l.repeated {
			reps = l.reps[from:to]
		}
		if _, err := write(values[:n], l.defs[from:to], reps); err != nil {
			return err
		}
		values, from = values[n:], to
	}
	return writeNulls(write, after)
}

// rowEnd returns the first position at or after at where a row ends, so that no page ends within one.
func (l *leaf) rowEnd(at int) int {
	if at >= len(l.defs) {
		return len(l.defs)
	}
	for l.repeated && at < len(l.reps) && l.reps[at] != 0 {
		at++
	}
	return at
}

func writeNulls[T any](write func([]T, []int16, []int16) (int64, error), rows int) error {
	for rows > 0 {
		n := min(rows, len(nulls))
		if _, err := write(nil, nulls[:n], nulls[:n]); err != nil {
			return err
		}
		rows -= n
	}
	return nil
}
