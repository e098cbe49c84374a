package files

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/big"
	"strconv"
	"time"

	"github.com/hamba/avro/v2"

	"github.com/tidemill/tidemill/internal/jsontext"
)

// avroAppend appends the value at the front of src to dst as JSON, and returns both
// after it; ok is false when src does not begin with such a value.
//
// Values are written plainly, not as Avro's own JSON encoding would: a union is the value
// in it, bytes are base64, decimals are numbers, dates and times are text.
type avroAppend func(dst, src []byte) (out, rest []byte, ok bool)

// maxAvroDepth bounds a schema that holds itself: each level costs a byte of input at least.
const maxAvroDepth = 256

// avroPlan returns what reads the values of a schema. named holds the records on the way
// down: a schema may refer to itself.
func avroPlan(s avro.Schema, named map[string]*avroAppend) avroAppend {
	switch s := s.(type) {
	case *avro.RefSchema:
		name := s.Schema().FullName()
		if p, ok := named[name]; ok {
			depth := 0
			return func(dst, src []byte) ([]byte, []byte, bool) {
				if depth++; depth > maxAvroDepth {
					depth = 0
					return dst, src, false
				}
				dst, src, ok := (*p)(dst, src)
				depth = max(0, depth-1)
				return dst, src, ok
			}
		}
		return avroPlan(s.Schema(), named)
	case *avro.RecordSchema:
		return avroRecord(s, named)
	case *avro.EnumSchema:
		return avroEnum(s)
	case *avro.ArraySchema:
		return avroBlocks('[', ']', nil, avroPlan(s.Items(), named))
	case *avro.MapSchema:
		return avroBlocks('{', '}', avroString, avroPlan(s.Values(), named))
	case *avro.UnionSchema:
		return avroUnion(s, named)
	case *avro.FixedSchema:
		return avroFixed(s)
	case *avro.PrimitiveSchema:
		return avroPrimitive(s)
	}
	return func(dst, src []byte) ([]byte, []byte, bool) { return append(dst, "null"...), src, true }
}

func avroRecord(s *avro.RecordSchema, named map[string]*avroAppend) avroAppend {
	var self avroAppend
	named[s.FullName()] = &self
	type field struct {
		key   []byte
		value avroAppend
	}
	var fields []field
	for i, f := range s.Fields() {
		key := []byte{','}
		if i == 0 {
			key = nil
		}
		fields = append(fields, field{append(jsontext.AppendString(key, f.Name()), ':'), avroPlan(f.Type(), named)})
	}
	self = func(dst, src []byte) ([]byte, []byte, bool) {
		dst = append(dst, '{')
		var ok bool
		for i := range fields {
			dst = append(dst, fields[i].key...)
			if dst, src, ok = fields[i].value(dst, src); !ok {
				return dst, src, false
			}
		}
		return append(dst, '}'), src, true
	}
	return self
}

func avroEnum(s *avro.EnumSchema) avroAppend {
	var symbols [][]byte
	for _, name := range s.Symbols() {
		symbols = append(symbols, jsontext.AppendString(nil, name))
	}
	return func(dst, src []byte) ([]byte, []byte, bool) {
		i, n := binary.Varint(src)
		if n <= 0 || i < 0 || i >= int64(len(symbols)) {
			return dst, src, false
		}
		return append(dst, symbols[i]...), src[n:], true
	}
}

func avroUnion(s *avro.UnionSchema, named map[string]*avroAppend) avroAppend {
	var branches []avroAppend
	for _, t := range s.Types() {
		branches = append(branches, avroPlan(t, named))
	}
	return func(dst, src []byte) ([]byte, []byte, bool) {
		i, n := binary.Varint(src)
		if n <= 0 || i < 0 || i >= int64(len(branches)) {
			return dst, src, false
		}
		return branches[i](dst, src[n:])
	}
}

// avroBlocks reads an array or, with a key, a map.
func avroBlocks(open, end byte, key, value avroAppend) avroAppend {
	return func(dst, src []byte) ([]byte, []byte, bool) {
		dst = append(dst, open)
		for first := true; ; {
			count, n := binary.Varint(src)
			if n <= 0 {
				return dst, src, false
			}
			src = src[n:]
			if count == 0 {
				return append(dst, end), src, true
			}
			if count < 0 { // its length in bytes follows
				if count = -count; count < 0 {
					return dst, src, false
				}
				if _, n = binary.Varint(src); n <= 0 {
					return dst, src, false
				}
				src = src[n:]
			}
			for ; count > 0; count-- {
				if !first {
					dst = append(dst, ',')
				}
				first = false
				var ok bool
				if key != nil {
					if dst, src, ok = key(dst, src); !ok {
						return dst, src, false
					}
					dst = append(dst, ':')
				}
				before := len(src)
				if dst, src, ok = value(dst, src); !ok {
					return dst, src, false
				}
				if len(src) == before && count > 1<<20 { // of values without bytes there could be any number
					return dst, src, false
				}
			}
		}
	}
}

func avroFixed(s *avro.FixedSchema) avroAppend {
	size := s.Size()
	appendValue := appendBytes
	if l := s.Logical(); l != nil {
		switch l.Type() {
		case avro.Decimal:
			scale := l.(*avro.DecimalLogicalSchema).Scale()
			appendValue = func(dst, b []byte) []byte { return appendDecimal(dst, unscaled(b), scale) }
		case avro.UUID:
			appendValue = func(dst, b []byte) []byte {
				if len(b) != 16 {
					return appendBytes(dst, b)
				}
				h := hex.EncodeToString(b)
				return append(dst, `"`+h[:8]+"-"+h[8:12]+"-"+h[12:16]+"-"+h[16:20]+"-"+h[20:]+`"`...)
			}
		}
	}
	return func(dst, src []byte) ([]byte, []byte, bool) {
		if len(src) < size {
			return dst, src, false
		}
		return appendValue(dst, src[:size]), src[size:], true
	}
}

// unscaled returns a big-endian two's complement number in digits.
func unscaled(b []byte) string {
	n := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(len(b))*8))
	}
	return n.String()
}

func avroPrimitive(s *avro.PrimitiveSchema) avroAppend {
	logical := avro.LogicalType("")
	if l := s.Logical(); l != nil {
		logical = l.Type()
	}
	switch s.Type() {
	case avro.Boolean:
		return func(dst, src []byte) ([]byte, []byte, bool) {
			if len(src) == 0 || src[0] > 1 {
				return dst, src, false
			}
			return strconv.AppendBool(dst, src[0] == 1), src[1:], true
		}
	case avro.Int, avro.Long:
		value := avroLong(logical)
		return func(dst, src []byte) ([]byte, []byte, bool) {
			v, n := binary.Varint(src)
			if n <= 0 {
				return dst, src, false
			}
			return value(dst, v), src[n:], true
		}
	case avro.Float:
		return func(dst, src []byte) ([]byte, []byte, bool) {
			if len(src) < 4 {
				return dst, src, false
			}
			return appendFloat(dst, float64(math.Float32frombits(binary.LittleEndian.Uint32(src))), 32), src[4:], true
		}
	case avro.Double:
		return func(dst, src []byte) ([]byte, []byte, bool) {
			if len(src) < 8 {
				return dst, src, false
			}
			return appendFloat(dst, math.Float64frombits(binary.LittleEndian.Uint64(src)), 64), src[8:], true
		}
	case avro.String:
		return avroString
	case avro.Bytes:
		value := appendBytes
		if logical == avro.Decimal {
			scale := s.Logical().(*avro.DecimalLogicalSchema).Scale()
			value = func(dst, b []byte) []byte { return appendDecimal(dst, unscaled(b), scale) }
		}
		return func(dst, src []byte) ([]byte, []byte, bool) {
			b, rest, ok := avroBytes(src)
			if !ok {
				return dst, src, false
			}
			return value(dst, b), rest, true
		}
	}
	return func(dst, src []byte) ([]byte, []byte, bool) { return append(dst, "null"...), src, true }
}

func avroString(dst, src []byte) ([]byte, []byte, bool) {
	b, rest, ok := avroBytes(src)
	if !ok {
		return dst, src, false
	}
	return jsontext.AppendString(dst, b), rest, true
}

func avroBytes(src []byte) (b, rest []byte, ok bool) {
	size, n := binary.Varint(src)
	if n <= 0 || size < 0 || size > int64(len(src)-n) {
		return nil, src, false
	}
	return src[n : n+int(size)], src[n+int(size):], true
}

// avroLong writes an int or a long.
func avroLong(logical avro.LogicalType) func(dst []byte, v int64) []byte {
	switch logical {
	case avro.Date:
		return appendDate
	case avro.TimeMillis:
		return func(dst []byte, v int64) []byte { return appendClock(dst, v*1e6) }
	case avro.TimeMicros:
		return func(dst []byte, v int64) []byte { return appendClock(dst, v*1e3) }
	case avro.TimestampMillis, avro.LocalTimestampMillis:
		utc := logical == avro.TimestampMillis
		return func(dst []byte, v int64) []byte { return appendTime(dst, time.UnixMilli(v), utc) }
	case avro.TimestampMicros, avro.LocalTimestampMicros:
		utc := logical == avro.TimestampMicros
		return func(dst []byte, v int64) []byte { return appendTime(dst, time.UnixMicro(v), utc) }
	}
	return func(dst []byte, v int64) []byte { return strconv.AppendInt(dst, v, 10) }
}
