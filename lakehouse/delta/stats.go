package delta

import (
	"encoding/json"
	"strconv"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
)

// statsColumns is how many leaf columns have statistics, in the schema's order; the same
// as other writers'.
const statsColumns = 32

// Stats returns the statistics of a file's rows as they stand in an add action: those
// of a Collector that was given rec.
func Stats(rec arrow.Record) string {
	c := NewCollector(rec.Schema())
	c.Add(rec)
	return c.Stats()
}

// Collector gathers the statistics of a file's rows, record by record: numRecords, and
// for the first 32 leaf columns minValues, maxValues and nullCount.
//
// Bounds are such that a reader who skips a file by them never skips a row: a float
// column with NaN or an infinity has none, because readers disagree on NaN's order;
// timestamps are floored and ceiled to the milliseconds that the format has; a string
// bound is cut at 32 runes and the upper one then raised. Binary, lists and maps have
// none. Booleans have them because delta-rs takes their absence, next to its own
// expectation of them, to mean that no value can match.
type Collector struct {
	rows   int64
	fields []*column
}

// column is a column of which there are statistics.
type column struct {
	name     string
	children []*column // of a struct
	nested   bool      // a struct
	counted  bool      // not a list or map
	nulls    int64
	values   bool   // there is one that is not null
	bounds   bounds // nil: a type that has none
}

// NewCollector returns a Collector for records of a schema, which must not have the
// partition columns.
func NewCollector(schema *arrow.Schema) *Collector {
	leaves := 0
	return &Collector{fields: columnsOf(schema.Fields(), &leaves)}
}

func columnsOf(fields []arrow.Field, leaves *int) []*column {
	var out []*column
	for _, f := range fields {
		if *leaves >= statsColumns {
			break
		}
		c := &column{name: f.Name}
		if st, ok := f.Type.(*arrow.StructType); ok {
			c.nested, c.children = true, columnsOf(st.Fields(), leaves)
		} else {
			*leaves++
			switch f.Type.ID() {
			case arrow.LIST, arrow.LARGE_LIST, arrow.FIXED_SIZE_LIST, arrow.MAP, arrow.NULL:
			default:
				c.counted, c.bounds = true, boundsOf(f.Type)
			}
		}
		out = append(out, c)
	}
	return out
}

// Add takes in a record with the columns of the Collector's schema.
func (c *Collector) Add(rec arrow.Record) {
	c.rows += rec.NumRows()
	for i, f := range c.fields {
		f.add(rec.Column(i), nil)
	}
}

// add takes in a column's values; valid, when not nil, says which rows have a parent.
func (c *column) add(col arrow.Array, valid []bool) {
	switch {
	case c.nested:
		st := col.(*array.Struct)
		valid = mask(st, valid)
		for i, child := range c.children {
			child.add(st.Field(i), valid)
		}
		return
	case !c.counted:
		return
	case col.NullN() > 0:
		valid = mask(col, valid)
	}
	nulls := 0
	for _, v := range valid {
		if !v {
			nulls++
		}
	}
	c.nulls += int64(nulls)
	if nulls == col.Len() {
		return
	}
	c.values = true
	if c.bounds != nil {
		c.bounds.add(col, valid)
	}
}

// mask combines an array's validity with its parents'.
func mask(a arrow.Array, valid []bool) []bool {
	if a.NullN() == 0 {
		return valid
	}
	m := make([]bool, a.Len())
	for i := range m {
		m[i] = a.IsValid(i) && (valid == nil || valid[i])
	}
	return m
}

// Stats returns the statistics of all that was added.
func (c *Collector) Stats() string {
	var o objects
	o.fields(c.fields)
	out := append([]byte(nil), `{"numRecords":`...)
	out = strconv.AppendInt(out, c.rows, 10)
	out = append(out, `,"minValues":{`...)
	out = append(out, o.min...)
	out = append(out, `},"maxValues":{`...)
	out = append(out, o.max...)
	out = append(out, `},"nullCount":{`...)
	out = append(out, o.nulls...)
	return string(append(out, `}}`...))
}

// objects are the members of three JSON objects, without their braces.
type objects struct{ min, max, nulls []byte }

func (o *objects) fields(columns []*column) {
	for _, c := range columns {
		if c.nested {
			var in objects
			in.fields(c.children)
			o.min = appendObject(o.min, c.name, in.min)
			o.max = appendObject(o.max, c.name, in.max)
			o.nulls = appendObject(o.nulls, c.name, in.nulls)
			continue
		}
		if !c.counted {
			continue
		}
		o.nulls = strconv.AppendInt(appendKey(o.nulls, c.name), c.nulls, 10)
		if !c.values || c.bounds == nil {
			continue
		}
		if lo, hi, ok := c.bounds.text(); ok {
			o.min = append(appendKey(o.min, c.name), lo...)
			o.max = append(appendKey(o.max, c.name), hi...)
		}
	}
}

func quote(s string) []byte {
	b, _ := json.Marshal(s) //nolint:errchkjson // a string cannot fail
	return b
}

func appendKey(dst []byte, name string) []byte {
	if len(dst) > 0 {
		dst = append(dst, ',')
	}
	return append(append(dst, quote(name)...), ':')
}

func appendObject(dst []byte, name string, members []byte) []byte {
	if len(members) == 0 {
		return dst
	}
	dst = append(appendKey(dst, name), '{')
	return append(append(dst, members...), '}')
}
