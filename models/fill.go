package models

import (
	"math"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
)

// rowErrors collects at most one error a row, in any order of rows.
type rowErrors struct {
	first  int // row of the record that index 0 below stands for
	column string
	byRow  map[int]RowError
}

func (e *rowErrors) add(i int, message string) {
	row := e.first + i
	if _, have := e.byRow[row]; have {
		return
	}
	if e.byRow == nil {
		e.byRow = map[int]RowError{}
	}
	e.byRow[row] = RowError{Row: row, Column: e.column, Message: message}
}

const (
	msgNull  = "is null, and the model needs a value; give it one in features, such as coalesce(…, 0), or check for it"
	msgLarge = "is too large for the model's input type"
	msgWhole = "is not a whole number that the model's input type can hold"
	msgNUL   = "has a NUL byte, which the ONNX Runtime cannot take"
)

// fill writes a column's rows into a tensor: element i goes to at + i*stride.
// What does not fit is reported, and its element is then of no use.
func fill(t Tensor, at, stride int, column arrow.Array, bad *rowErrors) {
	if column.NullN() > 0 {
		for i := range column.Len() {
			if column.IsNull(i) {
				bad.add(i, msgNull)
			}
		}
	}
	switch t.Type {
	case Float32:
		fillFloat(Values[float32](t)[at:], stride, column, bad)
	case Float64:
		fillFloat(Values[float64](t)[at:], stride, column, bad)
	case Int32:
		fillInt(Values[int32](t)[at:], stride, column, bad)
	case Int64:
		fillInt(Values[int64](t)[at:], stride, column, bad)
	case Bool:
		fillBool(t.Data[at:], stride, column.(*array.Boolean))
	case String:
		fillString(t.Strings[at:], stride, column, bad)
	}
}

func fillFloat[D float32 | float64](dst []D, stride int, column arrow.Array, bad *rowErrors) {
	switch a := column.(type) {
	case *array.Float64:
		narrow(dst, stride, a.Float64Values(), a, bad)
	case *array.Float32:
		convert(dst, stride, a.Float32Values())
	case *array.Int64:
		convert(dst, stride, a.Int64Values())
	case *array.Int32:
		convert(dst, stride, a.Int32Values())
	case *array.Int16:
		convert(dst, stride, a.Int16Values())
	case *array.Int8:
		convert(dst, stride, a.Int8Values())
	case *array.Uint64:
		convert(dst, stride, a.Uint64Values())
	case *array.Uint32:
		convert(dst, stride, a.Uint32Values())
	case *array.Uint16:
		convert(dst, stride, a.Uint16Values())
	case *array.Uint8:
		convert(dst, stride, a.Uint8Values())
	case *array.Boolean:
		fillBool(dst, stride, a)
	case *array.Decimal128:
		scale := a.DataType().(*arrow.Decimal128Type).Scale
		for i := range a.Len() {
			dst[i*stride] = D(a.Value(i).ToFloat64(scale))
		}
	}
}

func fillInt[D int32 | int64](dst []D, stride int, column arrow.Array, bad *rowErrors) {
	switch a := column.(type) {
	case *array.Int64:
		whole(dst, stride, a.Int64Values(), a, bad)
	case *array.Int32:
		convert(dst, stride, a.Int32Values())
	case *array.Int16:
		convert(dst, stride, a.Int16Values())
	case *array.Int8:
		convert(dst, stride, a.Int8Values())
	case *array.Uint64:
		whole(dst, stride, a.Uint64Values(), a, bad)
	case *array.Uint32:
		whole(dst, stride, a.Uint32Values(), a, bad)
	case *array.Uint16:
		convert(dst, stride, a.Uint16Values())
	case *array.Uint8:
		convert(dst, stride, a.Uint8Values())
	case *array.Float64:
		whole(dst, stride, a.Float64Values(), a, bad)
	case *array.Float32:
		whole(dst, stride, a.Float32Values(), a, bad)
	case *array.Boolean:
		fillBool(dst, stride, a)
	case *array.Decimal128:
		fillDecimal(dst, stride, a, bad)
	}
}

type number64 interface {
	int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | float32 | float64
}

// convert is for pairs of types that always fit. Integers beyond 2^24 (float32)
// or 2^53 (float64) round to the nearest.
func convert[D, S number64](dst []D, stride int, src []S) {
	if stride == 1 {
		dst = dst[:len(src)]
		for i, v := range src {
			dst[i] = D(v)
		}
		return
	}
	at := 0
	for _, v := range src {
		dst[at] = D(v)
		at += stride
	}
}

// narrow is for float64 into floats: a finite value must stay finite.
func narrow[D float32 | float64](dst []D, stride int, src []float64, a arrow.Array, bad *rowErrors) {
	at := 0
	for i, v := range src {
		d := D(v)
		dst[at] = d
		at += stride
		if d-d != 0 && v-v == 0 && a.IsValid(i) { // x-x is 0 for finite x and NaN for others
			bad.add(i, msgLarge)
		}
	}
}

// whole is for numbers into integers: nothing may be lost.
func whole[D int32 | int64, S number64](dst []D, stride int, src []S, a arrow.Array, bad *rowErrors) {
	at := 0
	for i, v := range src {
		d := D(v)
		dst[at] = d
		at += stride
		// The last term catches 2^63, which some processors turn into MaxInt64 and back into itself.
		if (S(d) != v || (d < 0) != (v < 0) || float64(v) >= math.MaxInt64 && float64(d) == float64(v) && isFloat(v)) && a.IsValid(i) {
			bad.add(i, msgWhole)
		}
	}
}

func isFloat[S number64](v S) bool {
	switch any(v).(type) {
	case float32, float64:
		return true
	}
	return false
}

func fillBool[D Element](dst []D, stride int, a *array.Boolean) {
	for i := range a.Len() {
		dst[i*stride] = 0
		if a.Value(i) {
			dst[i*stride] = 1
		}
	}
}

func fillDecimal[D int32 | int64](dst []D, stride int, a *array.Decimal128, bad *rowErrors) {
	scale := a.DataType().(*arrow.Decimal128Type).Scale
	for i := range a.Len() {
		v := a.Value(i)
		ok := true
		if scale > 0 {
			scaled := v.ReduceScaleBy(scale, false)
			ok = scaled.IncreaseScaleBy(scale) == v
			v = scaled
		}
		n := int64(v.LowBits())
		d := D(n)
		dst[i*stride] = d
		if (!ok || v.HighBits() != n>>63 || int64(d) != n) && a.IsValid(i) {
			bad.add(i, msgWhole)
		}
	}
}

func fillString(dst []string, stride int, column arrow.Array, bad *rowErrors) {
	value := func(int) string { return "" }
	switch a := column.(type) {
	case *array.String:
		value = a.Value
	case *array.LargeString:
		value = a.Value
	}
	for i := range column.Len() {
		if column.IsNull(i) {
			continue
		}
		s := value(i)
		if strings.IndexByte(s, 0) >= 0 {
			bad.add(i, msgNUL)
		}
		dst[i*stride] = s
	}
}
