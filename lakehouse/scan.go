package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/parquet"
)

// Of the files that a scan goes to next, so many are fetched ahead, while they do not
// take more memory together than this.
const (
	scanAhead      = 8
	scanAheadBytes = 64 << 20
)

// ReadFile returns the rows of a file as one record with the table's columns: those of
// its partition are filled in, and those that the file lacks are null. The caller
// releases it.
func (t *Table) ReadFile(ctx context.Context, f File) (arrow.Record, error) {
	return t.Read(ctx, t.Snapshot(), f)
}

// Read is ReadFile with the columns that the table has in a snapshot.
func (t *Table) Read(ctx context.Context, s *Snapshot, f File) (arrow.Record, error) {
	data, err := t.fetch(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("read table %s: %w", t.root, err)
	}
	rec, err := parquet.Decode(ctx, data)
	if err != nil {
		return nil, fmt.Errorf("read table %s: %s: %w", t.root, f.Path, err)
	}
	defer rec.Release()
	out, err := complete(ctx, rec, s.meta, f)
	if err != nil {
		return nil, fmt.Errorf("read table %s: %s: %w", t.root, f.Path, err)
	}
	return out, nil
}

// Scan yields the rows of some of a snapshot's files, in the files' order, a row group at
// a time, each with the columns that the table has in the snapshot, or with some of them
// in the order given. Whoever gets a record releases it. After an error, which names the
// file and comes with a nil record, it ends.
//
// It needs memory for the largest file, one of its row groups, and 64 MiB of files ahead.
func (t *Table) Scan(ctx context.Context, s *Snapshot, files []File, columns ...string) iter.Seq2[arrow.Record, error] {
	return func(yield func(arrow.Record, error) bool) {
		schema, err := s.Project(columns)
		if err != nil {
			yield(nil, fmt.Errorf("scan table %s: %w", t.root, err))
			return
		}
		meta := &metadata{Metadata: s.meta.Metadata, schema: schema}
		for f := range t.fetchAll(ctx, files) {
			if f.err != nil {
				yield(nil, fmt.Errorf("scan table %s: %w", t.root, f.err))
				return
			}
			more, err := scanFile(ctx, meta, f.file, f.data, yield)
			if err != nil {
				yield(nil, fmt.Errorf("scan table %s: %s: %w", t.root, f.file.Path, err))
				return
			}
			if !more {
				return
			}
		}
	}
}

// Project returns the table's columns with the given names, in their order; all of them
// when none are given. Names are found without regard to case.
func (s *Snapshot) Project(columns []string) (*arrow.Schema, error) {
	if len(columns) == 0 {
		return s.Schema(), nil
	}
	fields := make([]arrow.Field, len(columns))
	for i, name := range columns {
		j, err := findField(s.Schema().Fields(), name)
		if err != nil {
			return nil, err
		}
		if j < 0 {
			return nil, fmt.Errorf("the table has no column %s; it has %s", name, names(s.Schema()))
		}
		fields[i] = s.Schema().Field(j)
		if slices.ContainsFunc(fields[:i], func(f arrow.Field) bool { return f.Name == fields[i].Name }) {
			return nil, fmt.Errorf("column %s is asked for twice", fields[i].Name)
		}
	}
	return arrow.NewSchema(fields, nil), nil
}

// findField returns the place of a field, -1 when there is none. Delta's names differ by
// more than case, those in a file may not.
func findField(fields []arrow.Field, name string) (int, error) {
	found := -1
	for i, f := range fields {
		switch {
		case f.Name == name:
			return i, nil
		case !strings.EqualFold(f.Name, name):
		case found >= 0:
			return -1, fmt.Errorf("column %s is there as %s and as %s", name, fields[found].Name, f.Name)
		default:
			found = i
		}
	}
	return found, nil
}

// scanFile yields the row groups of a file; false when the caller wants no more.
func scanFile(ctx context.Context, meta *metadata, f File, data []byte, yield func(arrow.Record, error) bool) (bool, error) {
	r, err := parquet.NewReader(data)
	if err != nil {
		return false, err
	}
	defer r.Close()
	var wanted []int
	for _, field := range meta.schema.Fields() {
		i, err := findField(r.Schema().Fields(), field.Name)
		if err != nil {
			return false, err
		}
		if i >= 0 && !isPartition(meta, field.Name) {
			wanted = append(wanted, i)
		}
	}
	slices.Sort(wanted)
	for i := range r.NumRowGroups() {
		rec, err := r.ReadColumns(ctx, i, slices.Compact(wanted))
		if err != nil {
			return false, err
		}
		out, err := complete(ctx, rec, meta, f)
		rec.Release()
		if err != nil {
			return false, err
		}
		if !yield(out, nil) {
			return false, nil
		}
	}
	return true, nil
}

func isPartition(meta *metadata, name string) bool {
	return slices.ContainsFunc(meta.PartitionColumns, func(p string) bool { return strings.EqualFold(p, name) })
}

// complete gives a file's own record the columns and types of the table. The values of a
// partition are the log's, whatever the file has.
func complete(ctx context.Context, rec arrow.Record, meta *metadata, f File) (arrow.Record, error) {
	n := int(rec.NumRows())
	cols := make([]arrow.Array, meta.schema.NumFields())
	defer releaseAll(cols)
	for i, field := range meta.schema.Fields() {
		var err error
		if isPartition(meta, field.Name) {
			cols[i], err = delta.PartitionArray(memory.DefaultAllocator, field.Type, partitionValue(f, field.Name), n)
		} else {
			cols[i], err = fileColumn(ctx, rec, field)
		}
		if err == nil && !field.Nullable && cols[i].NullN() > 0 {
			err = fmt.Errorf("the table requires it, and %d of %d rows have no value", cols[i].NullN(), n)
		}
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", field.Name, err)
		}
	}
	return array.NewRecord(meta.schema, cols, int64(n)), nil
}

func partitionValue(f File, name string) *string {
	if v, ok := f.PartitionValues[name]; ok {
		return v
	}
	for k, v := range f.PartitionValues {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return nil
}

// fileColumn returns a file's column in the table's type; null when the file lacks it.
func fileColumn(ctx context.Context, rec arrow.Record, field arrow.Field) (arrow.Array, error) {
	i, err := findField(rec.Schema().Fields(), field.Name)
	switch {
	case err != nil:
		return nil, err
	case i < 0:
		return array.MakeArrayOfNull(memory.DefaultAllocator, field.Type, int(rec.NumRows())), nil
	}
	return coerce(ctx, rec.Column(i), field.Type)
}

// fetch reads a file's object.
// Bytes returns a file as it is stored, for readers that are not ours. A file that is
// gone is fs.ErrNotExist.
func (t *Table) Bytes(ctx context.Context, f File) ([]byte, error) {
	data, err := t.fetch(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("read table %s: %s: %w", t.root, f.Path, err)
	}
	return data, nil
}

func (t *Table) fetch(ctx context.Context, f File) ([]byte, error) {
	data, err := t.store.Get(ctx, f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: the table has this file since version %d, and it was vacuumed or deleted; read a newer version, or put it back", err, f.Version)
	}
	return data, err
}

// fetchAll yields files as they are stored, in order, and fetches some ahead.
func (t *Table) fetchAll(ctx context.Context, files []File) iter.Seq[fetched] {
	return func(yield func(fetched) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		queue := make([]chan fetched, 0, scanAhead)
		ahead := int64(0) // bytes of the files in the queue
		for next, at := 0, 0; at < len(files); at++ {
			for next < len(files) && len(queue) < scanAhead && (len(queue) == 0 || ahead+files[next].Size <= scanAheadBytes) {
				c, f := make(chan fetched, 1), files[next]
				wg.Go(func() {
					data, err := t.fetch(ctx, f)
					c <- fetched{f, data, err}
				})
				queue = append(queue, c)
				ahead += f.Size
				next++
			}
			f := <-queue[0]
			queue = slices.Delete(queue, 0, 1)
			ahead -= files[at].Size
			if !yield(f) {
				return
			}
		}
	}
}

func releaseAll(cols []arrow.Array) {
	for _, c := range cols {
		if c != nil {
			c.Release()
		}
	}
}
