package checkpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"

	"github.com/tidemill/tidemill/lakehouse/delta"
)

// Visitor says what of a checkpoint to read. The columns of actions whose function is nil
// are not looked at. An error that one returns ends the reading and comes out as it is.
type Visitor struct {
	Protocol func(delta.Protocol) error
	Metadata func(delta.Metadata) error
	Txn      func(delta.Txn) error
	Add      func(delta.Add) error
	Remove   func(delta.Remove) error
}

// Decode reads a checkpoint, or one part of a checkpoint in several parts, of any
// writer: first the protocol, then metaData, txn, add and remove actions, each kind in
// the file's order. Maps without entries are nil. An add's Stats are in JSON also if
// the file has them only as columns (stats_parsed).
//
// The state is nil if the file has none: another's wrote it. If it has one, the file is
// checked against it, as far as it was read. A damaged file is an error, never a panic,
// but then some of it may have been visited before. A [delta.UnsupportedError] says that
// the file is of the v2 kind, or that a live file has a deletion vector.
func Decode(ctx context.Context, data []byte, v Visitor) (state *State, err error) {
	d := &decoder{ctx: ctx, data: data, v: v}
	defer func() {
		// The library trusts lengths that it reads.
		if r := recover(); r != nil {
			if d.visiting {
				panic(r) // not ours to judge
			}
			state, err = nil, fmt.Errorf("decode checkpoint: damaged file: %v", r)
		}
	}()
	state, err = d.decode()
	switch {
	case d.visitErr != nil:
		return nil, d.visitErr
	case err != nil:
		return nil, fmt.Errorf("decode checkpoint: %w", err)
	}
	return state, nil
}

type decoder struct {
	ctx      context.Context //nolint:containedctx // lives as long as one call
	data     []byte
	v        Visitor
	mem      *bounded
	r        *file.Reader
	state    *State
	tally    tally
	readers  []reader // of the kind that is being read
	err      error    // of any column
	visitErr error
	visiting bool
}

func (d *decoder) decode() (*State, error) {
	d.mem = &bounded{limit: 64<<20 + 1024*len(d.data)}
	props := parquet.NewReaderProperties(d.mem)
	r, err := file.NewParquetReader(bytes.NewReader(d.data), file.WithReadProps(props))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	d.r = r
	if err := d.readState(); err != nil {
		return nil, err
	}
	if err := d.countRows(); err != nil {
		return nil, err
	}
	for _, step := range []func() error{d.protocols, d.refuseV2, d.metadata, d.txns, d.adds, d.removes} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if d.state != nil {
		if err := d.tally.check(*d.state, d.v.Add != nil, d.v.Txn != nil); err != nil {
			return nil, err
		}
	}
	return d.state, nil
}

// readState reads what we say of our own files, and checks the file's bytes against it.
func (d *decoder) readState() error {
	kv := d.r.MetaData().KeyValueMetadata()
	text, sum := kv.FindValue(stateKey), kv.FindValue(sumKey)
	switch by := d.r.MetaData().GetCreatedBy(); {
	case text == nil && sum == nil && by != createdBy:
		return nil
	case text == nil || sum == nil || by != createdBy:
		return errors.New("damaged file: it has only a part of its own description")
	}
	at, err := sumPosition(d.data)
	if err != nil {
		return fmt.Errorf("damaged file: %w", err)
	}
	if got := checksum(d.data, at); got != *sum {
		return fmt.Errorf("damaged file: its checksum is %s, it says %s", got, *sum)
	}
	d.state = &State{}
	if err := json.Unmarshal([]byte(*text), d.state); err != nil {
		return fmt.Errorf("its state: %w", err)
	}
	return nil
}

// countRows refuses more rows than a file of its size can have: every action has a name
// of its own, so it takes some bits even if it is well compressed.
func (d *decoder) countRows() error {
	left := 1<<20 + 64*int64(len(d.data))
	for g := range d.r.NumRowGroups() {
		n := d.r.RowGroup(g).NumRows()
		if n < 0 || n > left {
			return fmt.Errorf("damaged file: %d rows in row group %d", n, g)
		}
		left -= n
	}
	return nil
}

// under returns the leaf columns below a path.
func (d *decoder) under(path ...string) (found []int) {
	s := d.r.MetaData().Schema
columns:
	for i := range s.NumColumns() {
		p := s.Column(i).ColumnPath()
		if len(p) < len(path) {
			continue
		}
		for j, name := range path {
			if p[j] != name {
				continue columns
			}
		}
		found = append(found, i)
	}
	return found
}

// scalar returns the column at a path, nil if there is none.
func scalar[T any](d *decoder, path ...string) *column[T] {
	for _, i := range d.under(path...) {
		c := d.r.MetaData().Schema.Column(i)
		if len(c.ColumnPath()) != len(path) {
			continue
		}
		if c.MaxRepetitionLevel() > 0 {
			d.err = fmt.Errorf("column %s is a list", c.Path())
			return nil
		}
		x := &column[T]{}
		x.bind(d, i)
		return x
	}
	return nil
}

// entries returns the columns of a list or a map, of which the names of the levels between differ from writer to writer.
func (d *decoder) entries(path ...string) (key, value *texts) {
	found := d.under(path...)
	for n, i := range found {
		if c := d.r.MetaData().Schema.Column(i); c.MaxRepetitionLevel() != 1 || len(found) > 2 {
			d.err = fmt.Errorf("column %s: not a list or map of texts", c.Path())
			return nil, nil
		}
		x := &texts{}
		x.bind(d, i)
		if n == 0 {
			key = x
		} else {
			value = x
		}
	}
	return key, value
}

func (d *decoder) pairs(path ...string) mapReader {
	key, value := d.entries(path...)
	return mapReader{keys: key, values: value}
}

// chunk opens a leaf column of a row group.
func (d *decoder) chunk(group, index int) (file.ColumnChunkReader, error) {
	p, err := d.pages(group, index)
	if err != nil {
		return nil, err
	}
	return file.NewColumnReader(p.column, p, d.mem, d.r.BufferPool()), nil
}

func (d *decoder) pages(group, index int) (*pages, error) {
	g := d.r.RowGroup(group)
	m, err := g.MetaData().ColumnChunk(index)
	if err != nil {
		return nil, err
	}
	start, size := m.DataPageOffset(), m.TotalCompressedSize()
	if m.HasDictionaryPage() && m.DictionaryPageOffset() > 0 {
		start = min(start, m.DictionaryPageOffset())
	}
	if start < 4 || size < 0 || start > int64(len(d.data)) || size > int64(len(d.data))-start {
		return nil, fmt.Errorf("damaged file: column %s lies at byte %d, %d long", m.PathInSchema(), start, size)
	}
	if m.CryptoMetadata() != nil {
		return nil, fmt.Errorf("column %s is encrypted", m.PathInSchema())
	}
	column := d.r.MetaData().Schema.Column(index)
	return &pages{column: column, data: d.data[start : start+size], left: m.NumValues(), codec: m.Compression(), limit: d.mem.limit}, nil
}

// absent says whether the file knows that a row group has no value of a column.
func (d *decoder) absent(group, index int) bool {
	g := d.r.RowGroup(group)
	m, err := g.MetaData().ColumnChunk(index)
	if err != nil {
		return false
	}
	if set, err := m.StatsSet(); err != nil || !set {
		return false
	}
	s, err := m.Statistics()
	return err == nil && s != nil && s.HasNullCount() && s.NullCount() == g.NumRows() && m.NumValues() == g.NumRows()
}

// rows calls row for every row of the row groups in which key, the column that every
// action of the kind has, may have values. row takes one row of all columns that were
// bound since the last call.
func rows[T any](d *decoder, key *column[T], row func() error) error {
	readers := d.readers
	d.readers = nil
	if d.err != nil || key == nil {
		return d.err
	}
	for g := range d.r.NumRowGroups() {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		if d.absent(g, key.index) {
			continue
		}
		for _, c := range readers {
			if err := c.open(d, g); err != nil {
				return err
			}
		}
		for n := range d.r.RowGroup(g).NumRows() {
			if n%levelsPerRead == levelsPerRead-1 {
				if err := d.ctx.Err(); err != nil {
					return err
				}
			}
			if err := row(); err != nil {
				return err
			}
			if d.err != nil {
				return d.err
			}
		}
		for _, c := range readers {
			if err := c.end(); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuseV2 returns an error if the file refers to others, or says that it may.
func (d *decoder) refuseV2() error {
	for _, action := range []string{"checkpointMetadata", "sidecar"} {
		if len(d.under(action)) == 0 {
			continue
		}
		var key *column[int64]
		if action == "sidecar" {
			key = scalar[int64](d, action, "sizeInBytes")
		} else {
			key = scalar[int64](d, action, "version")
		}
		err := rows(d, key, func() error {
			if _, def := key.next(); def >= key.present {
				return &delta.UnsupportedError{Feature: "v2Checkpoint", Detail: "the checkpoint has a " + action + " action"}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// visit hands an action over.
func visit[T any](d *decoder, f func(T) error, action T) error {
	d.visiting = true
	d.visitErr = f(action)
	d.visiting = false
	return d.visitErr
}
