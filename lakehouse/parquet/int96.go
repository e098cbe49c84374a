package parquet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	pq "github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/metadata"
)

// INT96 timestamps are 12 bytes: nanoseconds of the day and the Julian day, both little
// endian. Spark and Hive write them by default. The decoder turns them into nanoseconds
// since 1970, which end in 1677 and 2262, so it is told that they are 12 plain bytes, for
// which pages look the same; what they mean is worked out here.
const (
	int96Bytes  = 12
	julianEpoch = 2440588 // Julian day of 1970-01-01
	dayMicros   = 24 * 60 * 60 * 1_000_000
)

var int96Timestamp = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}

// openFile reads a file's footer. leaves says which leaf columns are INT96 timestamps in
// truth; nil when none is.
func openFile(src io.ReaderAt, size int64, props *pq.ReaderProperties) (r *file.Reader, leaves []bool, err error) {
	r, err = file.NewParquetReader(io.NewSectionReader(src, 0, size), file.WithReadProps(props))
	if err != nil {
		return nil, nil, err
	}
	meta := r.MetaData()
	// What Arrow's writers note of their own types says nothing about the values, and
	// would give a column other types than the same column of another writer.
	meta.FileMetaData.KeyValueMetadata = nil
	leaves = make([]bool, meta.Schema.NumColumns())
	found := false
	for i := range leaves {
		leaves[i] = meta.Schema.Column(i).PhysicalType() == pq.Types.Int96
		found = found || leaves[i]
	}
	if !found {
		return r, nil, nil
	}
	if err := asBytes(meta, leaves); err != nil {
		return nil, nil, err
	}
	var buf bytes.Buffer
	if _, err := meta.WriteTo(&buf, nil); err != nil {
		return nil, nil, err
	}
	if meta, err = metadata.NewFileMetaData(buf.Bytes(), nil); err != nil {
		return nil, nil, err
	}
	r, err = file.NewParquetReader(io.NewSectionReader(src, 0, size), file.WithReadProps(props), file.WithMetadata(meta))
	return r, leaves, err
}

// asBytes declares INT96 columns to be columns of 12 bytes.
func asBytes(meta *metadata.FileMetaData, leaves []bool) error {
	width := int32(int96Bytes)
	for _, e := range meta.FileMetaData.Schema {
		if e.Type != nil && pq.Type(*e.Type) == pq.Types.Int96 {
			*e.Type, e.TypeLength, e.ConvertedType, e.LogicalType = 7, &width, nil, nil // FIXED_LEN_BYTE_ARRAY
		}
	}
	for i, g := range meta.RowGroups {
		if len(g.Columns) != len(leaves) {
			return fmt.Errorf("damaged file: row group %d has %d columns, the file %d", i, len(g.Columns), len(leaves))
		}
		for j, c := range g.Columns {
			if leaves[j] {
				if c.MetaData == nil {
					return fmt.Errorf("damaged file: row group %d says nothing of column %d", i, j)
				}
				c.MetaData.Type = 7
				c.MetaData.Statistics = nil
			}
		}
	}
	return nil
}

// numLeaves returns the number of leaf columns of a type.
func numLeaves(t arrow.DataType) int {
	nested, ok := t.(arrow.NestedType)
	if !ok {
		return 1
	}
	n := 0
	for _, f := range nested.Fields() {
		n += numLeaves(f.Type)
	}
	return n
}

// int96Schema is the schema of a file with its timestamps.
func int96Schema(s *arrow.Schema, leaves []bool) *arrow.Schema {
	fields := s.Fields()
	for i := range fields {
		n := numLeaves(fields[i].Type)
		fields[i].Type = int96Type(fields[i].Type, leaves)
		leaves = leaves[n:]
	}
	return arrow.NewSchema(fields, nil)
}

// int96Type is the type of a column after timestamps; leaves begins with the column's.
func int96Type(t arrow.DataType, leaves []bool) arrow.DataType {
	switch t := t.(type) {
	case *arrow.StructType:
		fields := t.Fields()
		for i := range fields {
			n := numLeaves(fields[i].Type)
			fields[i].Type = int96Type(fields[i].Type, leaves)
			leaves = leaves[n:]
		}
		return arrow.StructOf(fields...)
	case *arrow.MapType:
		m := arrow.MapOf(int96Type(t.KeyType(), leaves), int96Type(t.ItemType(), leaves[numLeaves(t.KeyType()):]))
		m.KeysSorted = t.KeysSorted
		m.SetItemNullable(t.ItemField().Nullable)
		return m
	case *arrow.ListType:
		e := t.ElemField()
		e.Type = int96Type(e.Type, leaves)
		return arrow.ListOfField(e)
	}
	if leaves[0] {
		return int96Timestamp
	}
	return t
}

// int96Data gives a column the type that int96Type said, and its leaves the values.
func int96Data(d arrow.ArrayData, t arrow.DataType, leaves []bool) (arrow.ArrayData, error) {
	if nested, ok := t.(arrow.NestedType); ok {
		fields, children := nested.Fields(), make([]arrow.ArrayData, len(d.Children()))
		defer func() {
			for _, c := range children {
				if c != nil {
					c.Release()
				}
			}
		}()
		for i, c := range d.Children() {
			var err error
			if children[i], err = int96Data(c, fields[i].Type, leaves); err != nil {
				return nil, err
			}
			leaves = leaves[numLeaves(fields[i].Type):]
		}
		return array.NewData(t, d.Len(), d.Buffers(), children, d.NullN(), d.Offset()), nil
	}
	if !leaves[0] {
		d.Retain()
		return d, nil
	}
	bytes, ok := array.MakeFromData(d).(*array.FixedSizeBinary)
	if !ok {
		return nil, fmt.Errorf("INT96 column came as %s", d.DataType())
	}
	defer bytes.Release()
	b := array.NewTimestampBuilder(memory.DefaultAllocator, int96Timestamp)
	defer b.Release()
	b.Reserve(bytes.Len())
	for i := range bytes.Len() {
		if bytes.IsNull(i) {
			b.AppendNull()
			continue
		}
		v := bytes.Value(i)
		nanos, day := int64(binary.LittleEndian.Uint64(v)), int64(int32(binary.LittleEndian.Uint32(v[8:])))
		b.Append(arrow.Timestamp((day-julianEpoch)*dayMicros + floorDiv(nanos, 1000)))
	}
	a := b.NewTimestampArray()
	defer a.Release()
	a.Data().Retain()
	return a.Data(), nil
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}
