package checkpoint

import (
	"fmt"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/schema"
)

// levelsPerRead bounds what a column holds of a row group, beside a page.
const levelsPerRead = 1024

// column reads one leaf column, level by level. A nil column, which a file does not have, is null everywhere.
type column[T any] struct {
	index    int
	name     string
	max      int16 // definition level of a value
	entry    int16 // least definition level with which a repeated column has an entry
	present  int16 // least definition level with which the action is there
	repeated bool

	chunk      file.ColumnChunkReader
	read       func(n int64, values []T, defs, reps []int16) (int64, int, error)
	defs, reps []int16
	values     []T
	at, n      int // position and number of the levels
	value      int // position of the next value
	err        *error
}

// reader is a column of any type.
type reader interface {
	open(d *decoder, group int) error
	end() error
}

func (c *column[T]) bind(d *decoder, index int) {
	s := d.r.MetaData().Schema.Column(index)
	c.index, c.name, c.max, c.repeated, c.err = index, s.Path(), s.MaxDefinitionLevel(), s.MaxRepetitionLevel() > 0, &d.err
	var nodes []schema.Node // from the leaf up, without the root
	for n := s.SchemaNode(); n != nil && n.Parent() != nil; n = n.Parent() {
		nodes = append(nodes, n)
	}
	def := int16(0)
	for i := len(nodes) - 1; i >= 0; i-- {
		if nodes[i].RepetitionType() != required {
			def++
		}
		if nodes[i].RepetitionType() == repeated {
			c.entry = def
		}
		if i == len(nodes)-1 {
			c.present = def
		}
	}
	d.readers = append(d.readers, c)
}

func (c *column[T]) open(d *decoder, group int) error {
	chunk, err := d.chunk(group, c.index)
	if err != nil {
		return err
	}
	c.chunk, c.at, c.n, c.value = chunk, 0, 0, 0
	if c.max == 0 {
		return fmt.Errorf("column %s: every row has one, so rows are no actions", c.name)
	}
	if c.read = readFunc[T](chunk); c.read == nil {
		return fmt.Errorf("column %s: %s is not the type that it has in a checkpoint", c.name, chunk.Type())
	}
	if c.defs == nil {
		c.defs, c.reps, c.values = make([]int16, levelsPerRead), make([]int16, levelsPerRead), make([]T, levelsPerRead)
	}
	return nil
}

// readFunc returns how to read values of type T from a chunk, nil if it has other ones.
func readFunc[T any](chunk file.ColumnChunkReader) func(int64, []T, []int16, []int16) (int64, int, error) {
	var f any
	switch r := chunk.(type) {
	case *file.ByteArrayColumnChunkReader:
		f = r.ReadBatch
	case *file.FixedLenByteArrayColumnChunkReader:
		f = r.ReadBatch
	case *file.Int64ColumnChunkReader:
		f = r.ReadBatch
	case *file.Int32ColumnChunkReader:
		f = r.ReadBatch
		var wanted T
		if _, ok := any(wanted).(int64); ok {
			f = widen(r)
		}
	case *file.Int96ColumnChunkReader:
		f = r.ReadBatch
	case *file.BooleanColumnChunkReader:
		f = r.ReadBatch
	case *file.Float32ColumnChunkReader:
		f = r.ReadBatch
	case *file.Float64ColumnChunkReader:
		f = r.ReadBatch
	}
	read, _ := f.(func(int64, []T, []int16, []int16) (int64, int, error))
	return read
}

func widen(r *file.Int32ColumnChunkReader) func(int64, []int64, []int16, []int16) (int64, int, error) {
	narrow := make([]int32, levelsPerRead)
	return func(n int64, values []int64, defs, reps []int16) (int64, int, error) {
		levels, read, err := r.ReadBatch(n, narrow, defs, reps)
		for i, v := range narrow[:read] {
			values[i] = int64(v)
		}
		return levels, read, err
	}
}

// fill reads on; false is the end of the row group, or an error.
func (c *column[T]) fill() bool {
	if *c.err != nil {
		return false
	}
	levels, read, err := c.read(levelsPerRead, c.values, c.defs, c.reps)
	if err == nil {
		err = c.chunk.Err()
	}
	c.at, c.n, c.value = 0, int(levels), 0
	if err == nil {
		err = c.check(read)
	}
	if err != nil {
		*c.err = fmt.Errorf("column %s: %w", c.name, err)
		c.n = 0
	}
	return c.n > 0
}

// check compares what was read with itself.
func (c *column[T]) check(read int) error {
	values := 0
	for i, def := range c.defs[:c.n] {
		if def == c.max {
			values++
		}
		if def > c.max || c.repeated && c.reps[i] > 1 {
			return fmt.Errorf("level %d,%d", def, c.reps[i])
		}
	}
	if values != read {
		return fmt.Errorf("%d values where its levels have %d", read, values)
	}
	return nil
}

// next returns the next level of the column, and its value if the level is max.
func (c *column[T]) next() (v T, def int16) {
	if c == nil {
		return v, -1
	}
	if c.at == c.n && !c.fill() {
		if *c.err == nil {
			*c.err = fmt.Errorf("column %s ends before its row group", c.name)
		}
		return v, -1
	}
	def = c.defs[c.at]
	c.at++
	if def == c.max {
		v = c.values[c.value]
		c.value++
	}
	return v, def
}

// more says whether the next level is of the same row.
func (c *column[T]) more() bool {
	return c != nil && c.repeated && (c.at < c.n || c.fill()) && c.reps[c.at] > 0
}

// get returns the next row's value; ok is false where it is null.
func (c *column[T]) get() (v T, ok bool) {
	v, def := c.next()
	return v, c != nil && def == c.max
}

// end is an error if the column goes on behind its row group.
func (c *column[T]) end() error {
	if *c.err == nil && (c.at < c.n || c.fill()) {
		*c.err = fmt.Errorf("column %s goes on behind its row group", c.name)
	}
	return *c.err
}

// texts are columns whose strings are copied.
type texts = column[parquet.ByteArray]

func getText(c *texts) string {
	v, _ := c.get()
	return string(v)
}

// mapReader reads a map of texts from its columns.
type mapReader struct {
	keys, values *texts
	known        map[string]string // short texts that repeat, kept once
}

// row calls put for every entry of the next row's map; value is nil for null.
func (m *mapReader) row(put func(key string, value *string)) {
	if m.keys == nil {
		return
	}
	for {
		k, def := m.keys.next()
		v, ok := m.values.get()
		if def >= m.keys.entry {
			var value *string
			if ok {
				s := m.intern(v)
				value = &s
			}
			put(m.intern(k), value)
		}
		again := m.keys.more()
		if m.values != nil && m.values.more() != again && *m.keys.err == nil {
			*m.keys.err = fmt.Errorf("column %s: not as many keys as values", m.keys.name)
		}
		if !again || *m.keys.err != nil {
			return
		}
	}
}

const (
	maxKnown     = 4096
	maxKnownText = 64
)

func (m *mapReader) intern(b []byte) string {
	if len(b) > maxKnownText {
		return string(b)
	}
	if s, ok := m.known[string(b)]; ok {
		return s
	}
	s := string(b)
	if m.known == nil {
		m.known = map[string]string{}
	}
	if len(m.known) < maxKnown {
		m.known[s] = s
	}
	return s
}
