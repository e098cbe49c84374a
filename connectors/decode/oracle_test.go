package decode

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
)

// The oracle decodes a row the slow way: encoding/json for the text, math/big
// and package time for the values. It shares no code with the decoder.

var errOracle = errors.New("bad row")

// node is a JSON value: nil, bool, string, json.Number, []node or fields.
type node any

type fields []struct {
	name  string
	value node
}

// parseRow reads JSON text as strictly as the package comment says.
func parseRow(row []byte) (node, error) {
	if !utf8.Valid(row) || !json.Valid(row) || loneSurrogate(row) {
		return nil, errOracle
	}
	dec := json.NewDecoder(bytes.NewReader(row))
	dec.UseNumber()
	n, err := parseNode(dec)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errOracle
	}
	return n, nil
}

func parseNode(dec *json.Decoder) (node, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch tok {
	case json.Delim('{'):
		o := fields{}
		for dec.More() {
			name, err := dec.Token()
			if err != nil {
				return nil, err
			}
			v, err := parseNode(dec)
			if err != nil {
				return nil, err
			}
			o = append(o, struct {
				name  string
				value node
			}{name.(string), v})
		}
		_, err = dec.Token()
		return o, err
	case json.Delim('['):
		a := []node{}
		for dec.More() {
			v, err := parseNode(dec)
			if err != nil {
				return nil, err
			}
			a = append(a, v)
		}
		_, err = dec.Token()
		return a, err
	}
	return tok, nil
}

// loneSurrogate looks through valid JSON for half a surrogate pair.
func loneSurrogate(row []byte) bool {
	unit := func(i int) (uint64, bool) {
		if i+6 > len(row) || row[i] != '\\' || row[i+1] != 'u' {
			return 0, false
		}
		v, err := strconv.ParseUint(string(row[i+2:i+6]), 16, 16)
		return v, err == nil
	}
	for i := 0; i < len(row); i++ {
		if row[i] != '\\' {
			continue
		}
		u, ok := unit(i)
		switch {
		case !ok:
			i++
		case u >= 0xd800 && u < 0xdc00:
			low, ok := unit(i + 6)
			if !ok || low < 0xdc00 || low > 0xdfff {
				return true
			}
			i += 11
		case u >= 0xdc00 && u <= 0xdfff:
			return true
		}
	}
	return false
}

func depth(n node) int {
	deepest := 0
	switch n := n.(type) {
	case fields:
		for _, f := range n {
			deepest = max(deepest, depth(f.value))
		}
	case []node:
		for _, v := range n {
			deepest = max(deepest, depth(v))
		}
	default:
		return 0
	}
	return deepest + 1
}

// want returns what columns a row gives, by name, or an error when it is bad.
func want(n node, cols []arrow.Field, o Options, level int) (map[string]any, error) {
	obj, ok := n.(fields)
	if !ok {
		return nil, errOracle
	}
	out, seen := map[string]any{}, map[string]bool{}
	for _, f := range obj {
		if seen[f.name] {
			return nil, errOracle
		}
		seen[f.name] = true
		known := false
		for _, c := range cols {
			if c.Name != f.name {
				continue
			}
			known = true
			v, err := wantValue(f.value, c.Type, o, level)
			if err != nil || v == nil && !c.Nullable {
				return nil, errOracle
			}
			out[c.Name] = v
		}
		if !known && (o.OnNewField == Quarantine || level+depth(f.value) > o.MaxDepth) {
			return nil, errOracle
		}
	}
	for _, c := range cols {
		if !seen[c.Name] {
			if !c.Nullable {
				return nil, errOracle
			}
			out[c.Name] = nil
		}
	}
	return out, nil
}

func wantValue(n node, t arrow.DataType, o Options, level int) (any, error) {
	if n == nil {
		return nil, nil
	}
	num, isNum := n.(json.Number)
	str, isStr := n.(string)
	switch t := t.(type) {
	case *arrow.StringType:
		if isStr {
			return str, nil
		}
	case *arrow.BooleanType:
		if b, ok := n.(bool); ok {
			return b, nil
		}
	case *arrow.Int64Type:
		if isNum {
			return wantInt(num, math.MinInt64, math.MaxInt64)
		}
	case *arrow.Int32Type:
		if isNum {
			v, err := wantInt(num, math.MinInt32, math.MaxInt32)
			return int32(v), err
		}
	case *arrow.Float64Type:
		if isNum {
			f, err := strconv.ParseFloat(string(num), 64)
			return math.Float64bits(f), err // bits: -0 is not 0
		}
	case *arrow.Float32Type:
		if isNum {
			f, err := strconv.ParseFloat(string(num), 32)
			return math.Float32bits(float32(f)), err
		}
	case *arrow.Decimal128Type:
		if isStr && json.Valid([]byte(str)) && strings.Trim(str, "0123456789.eE+-") == "" {
			num, isNum = json.Number(str), true
		}
		if isNum {
			return wantDecimal(num, t)
		}
	case *arrow.Date32Type:
		if at, err := time.Parse("2006-01-02", str); isStr && err == nil && at.Year() > 0 {
			return at.Unix() / 86400, nil
		}
	case *arrow.TimestampType:
		if isNum {
			return wantUnix(num)
		}
		if isStr {
			return wantTime(str)
		}
	case *arrow.ListType:
		return wantList(n, t, o, level)
	case *arrow.StructType:
		m, err := want(n, t.Fields(), o, level+1)
		return m, err
	}
	return nil, errOracle
}

func wantList(n node, t *arrow.ListType, o Options, level int) (any, error) {
	a, ok := n.([]node)
	if !ok {
		return nil, errOracle
	}
	out := []any{}
	for _, e := range a {
		v, err := wantValue(e, t.Elem(), o, level+1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// rat is a number exactly; ok is false for exponents that would fill memory.
func rat(num json.Number) (r *big.Rat, ok bool) {
	mantissa, exp, _ := strings.Cut(strings.ToLower(string(num)), "e")
	if e, err := strconv.Atoi(strings.TrimPrefix(exp, "+")); exp != "" && (err != nil || e > 1000 || e < -1000) {
		if r, _ := new(big.Rat).SetString(mantissa); r.Sign() == 0 {
			return r, true
		}
		return nil, false
	}
	return new(big.Rat).SetString(string(num))
}

func wantInt(num json.Number, lo, hi int64) (int64, error) {
	r, ok := rat(num)
	if !ok || !r.IsInt() || !r.Num().IsInt64() || r.Num().Int64() < lo || r.Num().Int64() > hi {
		return 0, errOracle
	}
	return r.Num().Int64(), nil
}

func pow10(n int64) *big.Rat {
	p := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(max(n, -n)), nil))
	if n < 0 {
		p.Inv(p)
	}
	return p
}

func wantDecimal(num json.Number, t *arrow.Decimal128Type) (any, error) {
	r, ok := rat(num)
	if !ok {
		return nil, errOracle
	}
	r.Mul(r, pow10(int64(t.Scale)))
	limit := pow10(int64(t.Precision))
	if !r.IsInt() || r.Cmp(limit) >= 0 || r.Cmp(limit.Neg(limit)) <= 0 {
		return nil, errOracle
	}
	return r.Num().String(), nil
}

func wantUnix(num json.Number) (any, error) {
	r, ok := rat(num)
	if !ok {
		return nil, errOracle
	}
	a := new(big.Rat).Abs(r)
	switch {
	case a.Cmp(pow10(11)) < 0:
		r.Mul(r, pow10(6))
	case a.Cmp(pow10(14)) < 0:
		r.Mul(r, pow10(3))
	case a.Cmp(pow10(17)) < 0:
	default:
		r.Mul(r, pow10(-3))
	}
	us := new(big.Int).Div(r.Num(), r.Denom()) // Euclidean: down, as the denominator is positive
	if !us.IsInt64() {
		return nil, errOracle
	}
	return inYears(time.UnixMicro(us.Int64()).UTC())
}

func wantTime(s string) (any, error) {
	s = strings.ToUpper(s)
	if strings.Contains(s, ",") {
		return nil, errOracle // package time takes a comma for the point
	}
	if len(s) > 13 && s[13] != ':' {
		return nil, errOracle // package time takes hours of one digit
	}
	if len(s) > 10 && s[10] == ' ' {
		s = s[:10] + "T" + s[11:]
	}
	if _, frac, ok := strings.Cut(s, "."); ok && len(strings.TrimRight(frac, "Z")) > 9 && strings.Trim(frac[:10], "0123456789") == "" {
		return nil, errOracle
	}
	if at, err := time.Parse("2006-01-02T15:04:05Z07:00", s); err == nil {
		if n := len(s); s[n-1] != 'Z' && (s[n-5:n-3] > "23" || s[n-2:] > "59") {
			return nil, errOracle // package time takes offsets of 24 hours and 60 minutes
		}
		if at, err := time.Parse("2006", s[:4]); err != nil || at.Year() == 0 {
			return nil, errOracle
		}
		return inYears(at.UTC())
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02"} {
		if at, err := time.Parse(layout, s); err == nil {
			return inYears(at)
		}
	}
	return nil, errOracle
}

func inYears(at time.Time) (any, error) {
	if at.Year() < 1 || at.Year() > 9999 {
		return nil, errOracle
	}
	return at.Truncate(time.Microsecond).UnixMicro(), nil
}

// got reads a value back out of an array, in the oracle's terms.
func got(a arrow.Array, i int) any {
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.String:
		return a.Value(i)
	case *array.Boolean:
		return a.Value(i)
	case *array.Int64:
		return a.Value(i)
	case *array.Int32:
		return a.Value(i)
	case *array.Float64:
		return math.Float64bits(a.Value(i))
	case *array.Float32:
		return math.Float32bits(a.Value(i))
	case *array.Decimal128:
		return a.Value(i).BigInt().String()
	case *array.Date32:
		return int64(a.Value(i))
	case *array.Timestamp:
		return int64(a.Value(i))
	case *array.List:
		out := []any{}
		from, to := a.ValueOffsets(i)
		for k := from; k < to; k++ {
			out = append(out, got(a.ListValues(), int(k)))
		}
		return out
	case *array.Struct:
		out := map[string]any{}
		for k, f := range a.DataType().(*arrow.StructType).Fields() {
			out[f.Name] = got(a.Field(k), i)
		}
		return out
	}
	panic(reflect.TypeOf(a))
}
