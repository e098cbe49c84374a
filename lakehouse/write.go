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
