package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/compute"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/google/uuid"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/parquet"
)

// Metrics are told what writing costs. Any may be nil; they are called from many
// goroutines and must not block.
type Metrics struct {
	Encoded   func(d time.Duration, rows, bytes int64) // a file was encoded
	Put       func(d time.Duration, bytes int64)       // a file was stored
	Committed func(d time.Duration, files int, rows, bytes int64)
	Conflict  func()           // a commit has to be planned again
	Duplicate func(rows int64) // rows that the table has already were left out
}

// WriteFiles stores the rows of a record as files of the table, one per partition, each
// with the same tags. They are not in the table before a Commit adds them. The record
// has the table's columns by name, in any order; nullable ones may be missing.
func (t *Table) WriteFiles(ctx context.Context, rec arrow.Record, tags map[string]string) ([]File, error) {
	meta := t.Snapshot().meta
	rec, err := conform(rec, meta.schema)
	if err != nil {
		return nil, fmt.Errorf("write to table %s: %w", t.root, err)
	}
	defer rec.Release()
	return t.writeFiles(ctx, meta, rec, tags, Metrics{})
}

// writeFiles stores a record that has exactly the table's columns.
func (t *Table) writeFiles(ctx context.Context, meta *metadata, rec arrow.Record, tags map[string]string, m Metrics) ([]File, error) {
	if rec.NumRows() == 0 {
		return nil, nil
	}
	if err := meta.unwritable; err != nil {
		return nil, fmt.Errorf("write to table %s: %w", t.root, err)
	}
	parts, err := split(ctx, rec, meta.PartitionColumns)
	if err != nil {
		return nil, fmt.Errorf("write to table %s: %w", t.root, err)
	}
	defer func() {
		for _, p := range parts {
			p.rec.Release()
		}
	}()
	const parallel = 4 // of a batch that has many partitions
	files, errs := make([]File, len(parts)), make([]error, len(parts))
	var wg sync.WaitGroup
	for w := range min(parallel, len(parts)) {
		wg.Go(func() {
			for i := w; i < len(parts); i += parallel {
				files[i], errs[i] = t.writeFile(ctx, meta, parts[i], tags, m)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("write to table %s: %w", t.root, err)
	}
	return files, nil
}

func (t *Table) writeFile(ctx context.Context, meta *metadata, p part, tags map[string]string, m Metrics) (File, error) {
	start := t.opt.now()
	buf, err := parquet.Encode(p.rec, parquet.Options{Deltas: []string{batch.ColOffset}})
	if err != nil {
		return File{}, err
	}
	f := File{
		Path: p.dir + "part-00000-" + uuid.NewString() + ".c000.snappy.parquet", PartitionValues: p.values,
		Size: int64(buf.Len()), Rows: p.rec.NumRows(), Stats: delta.Stats(p.rec), Tags: withWriter(tags),
		ModTime: t.opt.now().Truncate(time.Millisecond).UTC(), meta: meta, written: t.opt.now(),
	}
	encoded := t.opt.now()
	if m.Encoded != nil {
		m.Encoded(encoded.Sub(start), f.Rows, f.Size)
	}
	if err := t.store.Put(ctx, f.Path, buf.Bytes()); err != nil {
		return File{}, fmt.Errorf("store %s: %w", f.Path, err) // and leave the buffer to the collector
	}
	buf.Release()
	if m.Put != nil {
		m.Put(t.opt.now().Sub(encoded), f.Size)
	}
	return f, nil
}

// ReadFile returns the rows of a file as one record with the table's columns: those of
// its partition are filled in, and those that the file lacks are null. The caller
// releases it.
func (t *Table) ReadFile(ctx context.Context, f File) (arrow.Record, error) {
	meta := t.Snapshot().meta
	data, err := t.store.Get(ctx, f.Path)
	if err != nil {
		return nil, fmt.Errorf("read table %s: %w", t.root, err)
	}
	rec, err := parquet.Decode(ctx, data)
	if err != nil {
		return nil, fmt.Errorf("read table %s: %s: %w", t.root, f.Path, err)
	}
	defer rec.Release()
	out, err := complete(ctx, rec, meta, f)
	if err != nil {
		return nil, fmt.Errorf("read table %s: %s: %w", t.root, f.Path, err)
	}
	return out, nil
}

// complete gives a file's own record the table's columns and types.
func complete(ctx context.Context, rec arrow.Record, meta *metadata, f File) (arrow.Record, error) {
	mem := memory.DefaultAllocator
	n := int(rec.NumRows())
	cols := make([]arrow.Array, meta.schema.NumFields())
	defer releaseAll(cols)
	for i, field := range meta.schema.Fields() {
		var err error
		value, partitioned := f.PartitionValues[field.Name]
		found := rec.Schema().FieldIndices(field.Name)
		switch {
		case partitioned:
			cols[i], err = delta.PartitionArray(mem, field.Type, value, n)
		case len(found) > 0:
			cols[i], err = coerce(ctx, rec.Column(found[0]), field.Type)
		default:
			cols[i] = array.MakeArrayOfNull(mem, field.Type, n)
		}
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", field.Name, err)
		}
	}
	return array.NewRecord(meta.schema, cols, int64(n)), nil
}

func releaseAll(cols []arrow.Array) {
	for _, c := range cols {
		if c != nil {
			c.Release()
		}
	}
}

// coerce gives a column that was read the type that the table has for it: other writers
// store timestamps in other units, strings as dictionaries, and say otherwise than the
// table what can be null.
func coerce(ctx context.Context, a arrow.Array, want arrow.DataType) (arrow.Array, error) {
	if arrow.TypeEqual(a.DataType(), want) {
		a.Retain()
		return a, nil
	}
	switch x := a.(type) {
	case *array.Struct:
		if t, ok := want.(*arrow.StructType); ok && a.Data().Offset() == 0 {
			return coerceStruct(ctx, x, t)
		}
	case *array.List:
		if t, ok := want.(*arrow.ListType); ok {
			values, err := coerce(ctx, x.ListValues(), t.Elem())
			if err != nil {
				return nil, err
			}
			defer values.Release()
			d := array.NewData(t, a.Len(), a.Data().Buffers(), []arrow.ArrayData{values.Data()}, a.NullN(), a.Data().Offset())
			defer d.Release()
			return array.NewListData(d), nil
		}
	}
	return compute.CastArray(ctx, a, &compute.CastOptions{ToType: want, AllowTimeTruncate: true})
}

func coerceStruct(ctx context.Context, a *array.Struct, t *arrow.StructType) (arrow.Array, error) {
	have := a.DataType().(*arrow.StructType)
	cols := make([]arrow.Array, t.NumFields())
	defer releaseAll(cols)
	children := make([]arrow.ArrayData, len(cols))
	for i, f := range t.Fields() {
		if j, ok := have.FieldIdx(f.Name); ok {
			c, err := coerce(ctx, a.Field(j), f.Type)
			if err != nil {
				return nil, err
			}
			cols[i] = c
		} else {
			cols[i] = array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, a.Len())
		}
		children[i] = cols[i].Data()
	}
	d := array.NewData(t, a.Len(), a.Data().Buffers()[:1], children, a.NullN(), 0)
	defer d.Release()
	return array.NewStructData(d), nil
}

// conform returns a record with exactly the columns of a schema. The caller releases it.
func conform(rec arrow.Record, schema *arrow.Schema) (arrow.Record, error) {
	cols := make([]arrow.Array, schema.NumFields())
	var made []arrow.Array
	defer func() { releaseAll(made) }()
	var errs []error
	used := 0
	for i, f := range schema.Fields() {
		found := rec.Schema().FieldIndices(f.Name)
		if len(found) == 0 {
			if !f.Nullable {
				errs = append(errs, fmt.Errorf("column %s is required and missing", f.Name))
			}
			cols[i] = array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, int(rec.NumRows()))
			made = append(made, cols[i])
			continue
		}
		used++
		cols[i] = rec.Column(found[0])
		switch have := cols[i].DataType(); {
		case !sameType(have, f.Type):
			errs = append(errs, fmt.Errorf("column %s has type %s, the table has %s", f.Name, have, f.Type))
		case !f.Nullable && cols[i].NullN() > 0:
			errs = append(errs, fmt.Errorf("column %s is required and has %d nulls", f.Name, cols[i].NullN()))
		case !arrow.TypeEqual(have, f.Type):
			d := cols[i].Data()
			same := array.NewData(f.Type, d.Len(), d.Buffers(), nil, d.NullN(), d.Offset())
			cols[i] = array.MakeFromData(same)
			same.Release()
			made = append(made, cols[i])
		}
	}
	if used < int(rec.NumCols()) {
		for _, f := range rec.Schema().Fields() {
			if len(schema.FieldIndices(f.Name)) == 0 {
				errs = append(errs, fmt.Errorf("the table has no column %s; it has %s", f.Name, names(schema)))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return array.NewRecord(schema, cols, rec.NumRows()), nil
}

func names(s *arrow.Schema) string {
	n := make([]string, s.NumFields())
	for i, f := range s.Fields() {
		n[i] = f.Name
	}
	return strings.Join(n, ", ")
}
