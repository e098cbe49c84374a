package checkpoint

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/schema"

	"github.com/tidemill/tidemill/lakehouse/delta"
)

// parsedStats reads add.stats_parsed: statistics as columns of their own types, which
// Spark writes if it is told to. They become the JSON that add.stats has. What has no
// place there is left out: NaN and the infinities, years that ISO 8601 has no four
// digits for, lists and maps, types that are not Delta's.
type parsedStats struct {
	root   statsNode
	leaves []statsLeaf
}

// statsNode is a struct of the statistics, or a value.
type statsNode struct {
	name     string
	key      string // the name in JSON, with its colon
	children []*statsNode
	leaf     statsLeaf // nil for a struct
}

type statsLeaf interface {
	next()
	// append appends the row's value as JSON, nothing if it is null or has no JSON.
	append(dst []byte) []byte
}

// statsMembers are those that a reader needs, in the order that we write them.
var statsMembers = []string{"numRecords", "minValues", "maxValues", "nullCount"}

// newParsedStats returns nil if the file has none.
func newParsedStats(d *decoder) *parsedStats {
	p := &parsedStats{}
	for _, member := range statsMembers {
		for _, i := range d.under("add", "stats_parsed", member) {
			c := d.r.MetaData().Schema.Column(i)
			leaf := newStatsLeaf(d, i, c)
			if leaf == nil {
				continue
			}
			p.leaves = append(p.leaves, leaf)
			n := &p.root
			for _, name := range c.ColumnPath()[2:] {
				n = n.child(name)
			}
			n.leaf = leaf
		}
	}
	if len(p.leaves) == 0 {
		return nil
	}
	return p
}

func (n *statsNode) child(name string) *statsNode {
	i := slices.IndexFunc(n.children, func(c *statsNode) bool { return c.name == name })
	if i < 0 {
		i = len(n.children)
		key, _ := json.Marshal(name) //nolint:errchkjson // a string cannot fail
		n.children = append(n.children, &statsNode{name: name, key: string(key) + ":"})
	}
	return n.children[i]
}

// next goes to the next row.
func (p *parsedStats) next() {
	if p == nil {
		return
	}
	for _, l := range p.leaves {
		l.next()
	}
}

// json returns the row's statistics, "" if they are null.
func (p *parsedStats) json() string {
	if p == nil {
		return ""
	}
	return string(p.root.append(nil))
}

// append appends nothing for a struct without values.
func (n *statsNode) append(dst []byte) []byte {
	if n.leaf != nil {
		return n.leaf.append(dst)
	}
	start := len(dst)
	dst = append(dst, '{')
	for _, c := range n.children {
		back := len(dst)
		if back > start+1 {
			dst = append(dst, ',')
		}
		dst = append(dst, c.key...)
		value := len(dst)
		if dst = c.append(dst); len(dst) == value {
			dst = dst[:back]
		}
	}
	if len(dst) == start+1 {
		return dst[:start]
	}
	return append(dst, '}')
}

// parsedLeaf is a value of the statistics.
type parsedLeaf[T any] struct {
	column[T]
	now    T
	ok     bool
	format func(dst []byte, v T) []byte
}

func (l *parsedLeaf[T]) next() { l.now, l.ok = l.get() }

func (l *parsedLeaf[T]) append(dst []byte) []byte {
	if !l.ok {
		return dst
	}
	return l.format(dst, l.now)
}

func newLeaf[T any](d *decoder, index int, format func([]byte, T) []byte) statsLeaf {
	l := &parsedLeaf[T]{format: format}
	l.bind(d, index)
	return l
}

// newStatsLeaf returns nil for a column whose values have no place in statistics.
func newStatsLeaf(d *decoder, index int, c *schema.Column) statsLeaf {
	if c.MaxRepetitionLevel() > 0 {
		return nil
	}
	if t, ok := c.LogicalType().(*schema.DecimalLogicalType); ok {
		return newDecimalLeaf(d, index, c.PhysicalType(), t.Scale())
	}
	switch c.PhysicalType() {
	case parquet.Types.Boolean:
		return newLeaf(d, index, strconv.AppendBool)
	case parquet.Types.Float:
		return newLeaf(d, index, func(dst []byte, v float32) []byte { return appendFloat(dst, float64(v), 32) })
	case parquet.Types.Double:
		return newLeaf(d, index, func(dst []byte, v float64) []byte { return appendFloat(dst, v, 64) })
	case parquet.Types.Int96:
		return newLeaf(d, index, appendInt96)
	case parquet.Types.Int32:
		switch t := c.LogicalType().(type) {
		case schema.DateLogicalType:
			return newLeaf(d, index, func(dst []byte, v int32) []byte {
				return appendTime(dst, time.Unix(int64(v)*86400, 0), "2006-01-02")
			})
		case *schema.IntLogicalType:
			if !t.IsSigned() {
				return nil
			}
		case *schema.TimeLogicalType:
			return nil
		}
		return newLeaf(d, index, func(dst []byte, v int32) []byte { return strconv.AppendInt(dst, int64(v), 10) })
	case parquet.Types.Int64:
		return newLongLeaf(d, index, c.LogicalType())
	case parquet.Types.ByteArray:
		if _, ok := c.LogicalType().(schema.StringLogicalType); ok {
			return newLeaf(d, index, func(dst []byte, v parquet.ByteArray) []byte { return appendString(dst, string(v)) })
		}
	}
	return nil
}

func newLongLeaf(d *decoder, index int, logical schema.LogicalType) statsLeaf {
	switch t := logical.(type) {
	case *schema.TimestampLogicalType:
		if !t.IsAdjustedToUTC() {
			return nil
		}
		switch t.TimeUnit() {
		case schema.TimeUnitMillis:
			return newLeaf(d, index, func(dst []byte, v int64) []byte { return appendTimestamp(dst, time.UnixMilli(v)) })
		case schema.TimeUnitMicros:
			return newLeaf(d, index, func(dst []byte, v int64) []byte { return appendTimestamp(dst, time.UnixMicro(v)) })
		case schema.TimeUnitNanos:
			return newLeaf(d, index, func(dst []byte, v int64) []byte { return appendTimestamp(dst, time.Unix(0, v)) })
		}
		return nil
	case *schema.IntLogicalType:
		if !t.IsSigned() {
			return nil
		}
	case *schema.TimeLogicalType:
		return nil
	}
	return newLeaf(d, index, func(dst []byte, v int64) []byte { return strconv.AppendInt(dst, v, 10) })
}

func newDecimalLeaf(d *decoder, index int, physical parquet.Type, scale int32) statsLeaf {
	switch physical {
	case parquet.Types.Int32:
		return newLeaf(d, index, func(dst []byte, v int32) []byte {
			return delta.AppendDecimal(dst, decimal128.FromI64(int64(v)), scale)
		})
	case parquet.Types.Int64:
		return newLeaf(d, index, func(dst []byte, v int64) []byte { return delta.AppendDecimal(dst, decimal128.FromI64(v), scale) })
	case parquet.Types.FixedLenByteArray:
		return newLeaf(d, index, func(dst []byte, v parquet.FixedLenByteArray) []byte { return appendDecimalBytes(dst, v, scale) })
	case parquet.Types.ByteArray:
		return newLeaf(d, index, func(dst []byte, v parquet.ByteArray) []byte { return appendDecimalBytes(dst, v, scale) })
	}
	return nil
}

// appendDecimalBytes takes a big-endian two's complement.
func appendDecimalBytes(dst, v []byte, scale int32) []byte {
	if len(v) == 0 || len(v) > 16 {
		return dst
	}
	var b [16]byte
	for i := range b[:16-len(v)] {
		b[i] = byte(int8(v[0]) >> 7) // the sign
	}
	copy(b[16-len(v):], v)
	n := decimal128.New(int64(binary.BigEndian.Uint64(b[:8])), binary.BigEndian.Uint64(b[8:]))
	return delta.AppendDecimal(dst, n, scale)
}

func appendFloat(dst []byte, v float64, size int) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return dst
	}
	return strconv.AppendFloat(dst, v, 'g', -1, size)
}

// appendInt96 takes a time of day in nanoseconds and a Julian day, as old Spark writes timestamps.
func appendInt96(dst []byte, v parquet.Int96) []byte {
	const unixEpoch = 2_440_588 // Julian day
	nanos := int64(binary.LittleEndian.Uint64(v[:8]))
	days := int64(int32(binary.LittleEndian.Uint32(v[8:]))) - unixEpoch
	return appendTimestamp(dst, time.Unix(days*86400, nanos))
}

// appendTimestamp appends milliseconds, which is what other writers have in their JSON, or all that there is.
func appendTimestamp(dst []byte, t time.Time) []byte {
	layout := "2006-01-02T15:04:05.000Z"
	if ns := t.Nanosecond(); ns%1000 != 0 {
		layout = "2006-01-02T15:04:05.000000000Z"
	} else if ns%1_000_000 != 0 {
		layout = "2006-01-02T15:04:05.000000Z"
	}
	return appendTime(dst, t, layout)
}

func appendTime(dst []byte, t time.Time, layout string) []byte {
	if t = t.UTC(); t.Year() < 1 || t.Year() > 9999 {
		return dst
	}
	return append(t.AppendFormat(append(dst, '"'), layout), '"')
}

func appendString(dst []byte, s string) []byte {
	if !utf8.ValidString(s) {
		return dst // JSON would change it, and a bound with it
	}
	b, _ := json.Marshal(s) //nolint:errchkjson // a string cannot fail
	return append(dst, b...)
}
