package lakehouse

import (
	"context"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/compute"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/lakehouse/delta"
)

// part is the rows of one partition, without the partition columns.
type part struct {
	dir    string // ends with a slash, or empty
	values map[string]*string
	rec    arrow.Record
}

// split parts a record by its partition columns' values, in the order in which they occur.
func split(ctx context.Context, rec arrow.Record, by []string) ([]part, error) {
	data, keys := dropColumns(rec, by)
	defer data.Release()
	if len(by) == 0 {
		data.Retain()
		return []part{{values: map[string]*string{}, rec: data}}, nil
	}
	groups := make([]int32, rec.NumRows())
	var first []int // row of each group
	for _, col := range keys {
		groups, first = regroup(groups, col)
	}
	rows := make([][]int32, len(first))
	for row, g := range groups {
		rows[g] = append(rows[g], int32(row))
	}
	parts := make([]part, 0, len(first))
	for g, row := range first {
		p, err := partition(by, keys, row)
		if err == nil {
			p.rec, err = take(ctx, data, rows[g])
		}
		if err != nil {
			for _, p := range parts {
				p.rec.Release()
			}
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func dropColumns(rec arrow.Record, by []string) (data arrow.Record, keys []arrow.Array) {
	keys = make([]arrow.Array, len(by))
	var fields []arrow.Field
	var cols []arrow.Array
	for i, f := range rec.Schema().Fields() {
		if k := slices.Index(by, f.Name); k >= 0 {
			keys[k] = rec.Column(i)
			continue
		}
		fields, cols = append(fields, f), append(cols, rec.Column(i))
	}
	return array.NewRecord(arrow.NewSchema(fields, nil), cols, rec.NumRows()), keys
}

func partition(by []string, keys []arrow.Array, row int) (part, error) {
	p := part{values: make(map[string]*string, len(by))}
	for i, name := range by {
		v, err := delta.PartitionValue(keys[i], row)
		if err != nil {
			return part{}, fmt.Errorf("column %s: %w", name, err)
		}
		p.values[name] = v
		p.dir += delta.PartitionDir(name, v) + "/"
	}
	return p, nil
}

// regroup splits groups of rows further, by the values of a column.
func regroup(groups []int32, col arrow.Array) ([]int32, []int) {
	switch a := col.(type) {
	case *array.String: // an empty string is null in Delta
		return regroupBy(groups, func(i int) bool { return a.IsNull(i) || a.Value(i) == "" }, a.Value)
	case *array.Int64:
		return regroupBy(groups, a.IsNull, a.Value)
	case *array.Int32:
		return regroupBy(groups, a.IsNull, a.Value)
	case *array.Int16:
		return regroupBy(groups, a.IsNull, a.Value)
	case *array.Int8:
		return regroupBy(groups, a.IsNull, a.Value)
	case *array.Boolean:
		return regroupBy(groups, a.IsNull, a.Value)
	case *array.Date32:
		return regroupBy(groups, a.IsNull, a.Value)
	case *array.Timestamp:
		return regroupBy(groups, a.IsNull, a.Value)
	case *array.Decimal128:
		return regroupBy(groups, a.IsNull, func(i int) decimal128.Num { return a.Value(i) })
	}
	return groups, []int{0} // its type is refused when its value is written
}

func regroupBy[T comparable](groups []int32, null func(int) bool, value func(int) T) ([]int32, []int) {
	type key struct {
		group int32
		null  bool
		value T
	}
	ids := map[key]int32{}
	var first []int
	var last key
	lastID := int32(-1)
	for row, g := range groups {
		k := key{group: g, null: null(row)}
		if !k.null {
			k.value = value(row)
		}
		if lastID < 0 || k != last { // neighbours are often of one partition
			id, ok := ids[k]
			if !ok {
				id = int32(len(first))
				ids[k] = id
				first = append(first, row)
			}
			last, lastID = k, id
		}
		groups[row] = lastID
	}
	return groups, first
}

// take returns some rows of a record, in their order. The caller releases it.
func take(ctx context.Context, rec arrow.Record, rows []int32) (arrow.Record, error) {
	if int64(len(rows)) == rec.NumRows() {
		rec.Retain()
		return rec, nil
	}
	b := array.NewInt32Builder(memory.DefaultAllocator)
	defer b.Release()
	b.AppendValues(rows, nil)
	indices := b.NewArray()
	defer indices.Release()
	cols := make([]arrow.Array, rec.NumCols())
	defer releaseAll(cols)
	for i, c := range rec.Columns() {
		taken, err := compute.TakeArrayOpts(ctx, c, indices, compute.TakeOptions{BoundsCheck: false})
		if err != nil {
			return nil, fmt.Errorf("take rows of column %s: %w", rec.ColumnName(i), err)
		}
		cols[i] = taken
	}
	return array.NewRecord(rec.Schema(), cols, int64(len(rows))), nil
}
