package interop

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/lakehouse/delta"
)

// condition is a filter in every engine's language: they render it, we judge rows by it.
type condition struct {
	Column string `json:"column"` // a path, for fields of structs
	Op     string `json:"op"`     // SQL's: = <> < <= > >=, IS NULL, IS NOT NULL
	Type   string `json:"type"`   // Delta's
	Value  string `json:"value"`

	literal any // Value as values are compared: see comparable
}

func (c condition) String() string { return fmt.Sprintf("%s %s %.40q", c.Column, c.Op, c.Value) }

// matches says whether a row passes: null never does, except IS NULL. Engines order NaN
// above all else and equal to itself; nanLast false is IEEE's order, as Arrow has it.
func (c condition) matches(v any, nanLast bool) bool {
	switch {
	case c.Op == "IS NULL":
		return v == nil
	case c.Op == "IS NOT NULL":
		return v != nil
	case v == nil:
		return false
	}
	if f, ok := v.(float64); ok && !nanLast && (math.IsNaN(f) || math.IsNaN(c.literal.(float64))) {
		return c.Op == "<>"
	}
	o := compare(v, c.literal)
	switch c.Op {
	case "=":
		return o == 0
	case "<>":
		return o != 0
	case "<":
		return o < 0
	case "<=":
		return o <= 0
	case ">":
		return o > 0
	case ">=":
		return o >= 0
	}
	panic("operator " + c.Op)
}

func compare(a, b any) int {
	switch a := a.(type) {
	case int64:
		return cmp.Compare(a, b.(int64))
	case float64:
		switch x, y := math.IsNaN(a), math.IsNaN(b.(float64)); {
		case x && y:
			return 0
		case x:
			return 1
		case y:
			return -1
		}
		return cmp.Compare(a, b.(float64))
	case string:
		return strings.Compare(a, b.(string))
	case *big.Int:
		return a.Cmp(b.(*big.Int))
	case []byte:
		return bytes.Compare(a, b.([]byte))
	}
	panic(fmt.Sprintf("%T", a))
}

// value is what compare takes: int64 for integers, booleans and times, float64, string,
// *big.Int for decimals (all of one scale), nil for null.
func value(col arrow.Array, i int) any {
	if col.IsNull(i) {
		return nil
	}
	switch a := col.(type) {
	case *array.Int64:
		return a.Value(i)
	case *array.Int32:
		return int64(a.Value(i))
	case *array.Int16:
		return int64(a.Value(i))
	case *array.Int8:
		return int64(a.Value(i))
	case *array.Timestamp:
		return int64(a.Value(i))
	case *array.Date32:
		return int64(a.Value(i))
	case *array.Boolean:
		if a.Value(i) {
			return int64(1)
		}
		return int64(0)
	case *array.Float64:
		return a.Value(i)
	case *array.Float32:
		return float64(a.Value(i))
	case *array.String:
		return a.Value(i)
	case *array.Decimal128:
		return a.Value(i).BigInt()
	}
	panic(col.DataType().String())
}

// literal is a value as text that every engine can cast to the type.
func literal(t arrow.DataType, v any) string {
	switch t := t.(type) {
	case *arrow.TimestampType:
		return time.UnixMicro(v.(int64)).UTC().Format("2006-01-02T15:04:05.000000Z")
	case *arrow.Date32Type:
		return time.Unix(v.(int64)*86400, 0).UTC().Format(time.DateOnly)
	case *arrow.BooleanType:
		return fmt.Sprint(v == int64(1))
	case *arrow.Float32Type:
		return float(v.(float64), 32)
	case *arrow.Float64Type:
		return float(v.(float64), 64)
	case *arrow.Decimal128Type:
		digits := new(big.Int).Abs(v.(*big.Int)).String()
		digits = strings.Repeat("0", max(0, int(t.Scale)+1-len(digits))) + digits
		text := digits[:len(digits)-int(t.Scale)] + "." + digits[len(digits)-int(t.Scale):]
		if v.(*big.Int).Sign() < 0 {
			return "-" + text
		}
		return text
	}
	return fmt.Sprint(v)
}

// deltaType is the type's name in Delta.
func deltaType(t arrow.DataType) string {
	s, err := delta.SchemaString(arrow.NewSchema([]arrow.Field{{Name: "x", Type: t}}, nil))
	if err != nil {
		panic(err)
	}
	_, rest, _ := strings.Cut(s, `"type":"`)   // the struct's
	_, rest, _ = strings.Cut(rest, `"type":"`) // the field's
	name, _, _ := strings.Cut(rest, `"`)
	return name
}

// column returns a column of a record by its path, with the nulls of its parents.
func column(rec arrow.Record, path string) (arrow.Array, func(i int) any) {
	first, field, nested := strings.Cut(path, ".")
	col := rec.Column(rec.Schema().FieldIndices(first)[0])
	if !nested {
		return col, func(i int) any { return value(col, i) }
	}
	parent := col.(*array.Struct)
	at, _ := parent.DataType().(*arrow.StructType).FieldIdx(field)
	child := parent.Field(at)
	return child, func(i int) any {
		if parent.IsNull(i) {
			return nil
		}
		return value(child, i)
	}
}

// conditions are filters on each column: every operator with values that are there, from
// the least to the greatest, so that some files match and others do not.
func conditions(records []arrow.Record, columns []string, pivots int, ops ...string) []condition {
	var out []condition
	for _, path := range columns {
		var all []any
		var typ arrow.DataType
		for _, rec := range records {
			col, at := column(rec, path)
			typ = col.DataType()
			for i := range int(rec.NumRows()) {
				if v := at(i); v != nil {
					all = append(all, v)
				}
			}
		}
		slices.SortFunc(all, compare)
		all = slices.CompactFunc(all, func(a, b any) bool { return compare(a, b) == 0 })
		name := deltaType(typ)
		out = append(out, condition{Column: path, Op: "IS NULL", Type: name}, condition{Column: path, Op: "IS NOT NULL", Type: name})
		seen := -1
		for p := range pivots {
			at := p * (len(all) - 1) / max(1, pivots-1)
			if at == seen {
				continue
			}
			seen = at
			for _, op := range ops {
				out = append(out, condition{Column: path, Op: op, Type: name, Value: literal(typ, all[at]), literal: all[at]})
			}
		}
	}
	return out
}

// matching returns the ids of the rows that pass, sorted.
func (c condition) matching(records []arrow.Record, nanLast bool) []int64 {
	ids := []int64{}
	for _, rec := range records {
		id := rec.Column(rec.Schema().FieldIndices("id")[0]).(*array.Int64)
		_, at := column(rec, c.Column)
		for i := range int(rec.NumRows()) {
			if c.matches(at(i), nanLast) {
				ids = append(ids, id.Value(i))
			}
		}
	}
	slices.Sort(ids)
	return ids
}
