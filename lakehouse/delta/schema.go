package delta

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
)

// timestampType is the one timestamp of Delta: microseconds, adjusted to UTC.
var timestampType = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}

type structJSON struct {
	Type   string      `json:"type"`
	Fields []fieldJSON `json:"fields"`
}

type fieldJSON struct {
	Name     string                     `json:"name"`
	Type     json.RawMessage            `json:"type"`
	Nullable bool                       `json:"nullable"`
	Metadata map[string]json.RawMessage `json:"metadata"`
}

type arrayJSON struct {
	Type         string          `json:"type"`
	ElementType  json.RawMessage `json:"elementType"`
	ContainsNull bool            `json:"containsNull"`
}

type mapJSON struct {
	Type              string          `json:"type"`
	KeyType           json.RawMessage `json:"keyType"`
	ValueType         json.RawMessage `json:"valueType"`
	ValueContainsNull bool            `json:"valueContainsNull"`
}

// SchemaString returns a schema in Delta's JSON. The error names the column that has
// no type in Delta, and the type to use.
func SchemaString(s *arrow.Schema) (string, error) {
	if err := uniqueNames("", s.Fields()); err != nil {
		return "", err
	}
	fields, err := encodeFields("", s.Fields())
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(structJSON{"struct", fields})
	return string(b), err
}

// uniqueNames holds names unique without regard to case, as Delta asks.
func uniqueNames(path string, fields []arrow.Field) error {
	seen := map[string]string{}
	for _, f := range fields {
		k := strings.ToLower(f.Name)
		if other, ok := seen[k]; ok {
			return fmt.Errorf("columns %s%s and %s%s: names must differ by more than case", path, other, path, f.Name)
		}
		seen[k] = f.Name
	}
	return nil
}

func encodeFields(path string, fields []arrow.Field) ([]fieldJSON, error) {
	if err := uniqueNames(path, fields); err != nil {
		return nil, err
	}
	out := make([]fieldJSON, len(fields))
	for i, f := range fields {
		t, err := encodeType(path+f.Name, f.Type)
		if err != nil {
			return nil, err
		}
		out[i] = fieldJSON{f.Name, t, f.Nullable, map[string]json.RawMessage{}}
	}
	return out, nil
}

func encodeType(path string, t arrow.DataType) (json.RawMessage, error) {
	switch t := t.(type) {
	case *arrow.StructType:
		fields, err := encodeFields(path+".", t.Fields())
		if err != nil {
			return nil, err
		}
		return json.Marshal(structJSON{"struct", fields})
	case *arrow.MapType:
		k, err := encodeType(path+".key", t.KeyType())
		if err != nil {
			return nil, err
		}
		v, err := encodeType(path+".value", t.ItemType())
		if err != nil {
			return nil, err
		}
		return json.Marshal(mapJSON{"map", k, v, t.ItemField().Nullable})
	case *arrow.ListType:
		e, err := encodeType(path+".element", t.Elem())
		if err != nil {
			return nil, err
		}
		return json.Marshal(arrayJSON{"array", e, t.ElemField().Nullable})
	}
	name, err := primitiveName(t)
	if err != nil {
		return nil, fmt.Errorf("column %s: %w", path, err)
	}
	return json.Marshal(name)
}

func primitiveName(t arrow.DataType) (string, error) {
	switch t.ID() {
	case arrow.STRING:
		return "string", nil
	case arrow.INT64:
		return "long", nil
	case arrow.INT32:
		return "integer", nil
	case arrow.INT16:
		return "short", nil
	case arrow.INT8:
		return "byte", nil
	case arrow.FLOAT64:
		return "double", nil
	case arrow.FLOAT32:
		return "float", nil
	case arrow.BOOL:
		return "boolean", nil
	case arrow.DATE32:
		return "date", nil
	case arrow.BINARY:
		return "binary", nil
	case arrow.DECIMAL128:
		d := t.(*arrow.Decimal128Type)
		if d.Precision < 1 || d.Precision > 38 || d.Scale < 0 || d.Scale > d.Precision {
			return "", fmt.Errorf("decimal(%d,%d): precision is 1 to 38 and scale 0 to the precision", d.Precision, d.Scale)
		}
		return fmt.Sprintf("decimal(%d,%d)", d.Precision, d.Scale), nil
	case arrow.TIMESTAMP:
		ts := t.(*arrow.TimestampType)
		if ts.Unit == arrow.Microsecond && isUTC(ts.TimeZone) {
			return "timestamp", nil
		}
		return "", fmt.Errorf("%s: timestamps are microseconds in UTC; convert it", t)
	}
	return "", fmt.Errorf("%s has no type in Delta; convert it", t)
}

func isUTC(zone string) bool {
	switch zone {
	case "UTC", "Etc/UTC", "Z", "+00:00":
		return true
	}
	return false
}

// ParseSchema reads Delta's JSON. List elements are named "element". What a column's
// metadata asks of writers is for [Metadata.CheckWrite].
func ParseSchema(s string) (*arrow.Schema, error) {
	var root structJSON
	if err := json.Unmarshal([]byte(s), &root); err != nil {
		return nil, fmt.Errorf("parse schema: %w", err)
	}
	fields, err := decodeFields("", root.Fields)
	if err != nil {
		return nil, fmt.Errorf("parse schema: %w", err)
	}
	return arrow.NewSchema(fields, nil), nil
}

func decodeFields(path string, in []fieldJSON) ([]arrow.Field, error) {
	out := make([]arrow.Field, len(in))
	for i, f := range in {
		for key := range f.Metadata {
			if strings.HasPrefix(key, "delta.columnMapping.") {
				return nil, &UnsupportedError{Feature: "columnMapping", Detail: "column " + path + f.Name}
			}
		}
		t, err := decodeType(path+f.Name, f.Type)
		if err != nil {
			return nil, err
		}
		out[i] = arrow.Field{Name: f.Name, Type: t, Nullable: f.Nullable}
	}
	return out, uniqueNames(path, out)
}

func decodeType(path string, raw json.RawMessage) (arrow.DataType, error) {
	var name string
	if json.Unmarshal(raw, &name) == nil {
		return decodePrimitive(path, name)
	}
	var kind struct{ Type string }
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, fmt.Errorf("column %s: %w", path, err)
	}
	switch kind.Type {
	case "struct":
		var s structJSON
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, fmt.Errorf("column %s: %w", path, err)
		}
		fields, err := decodeFields(path+".", s.Fields)
		if err != nil {
			return nil, err
		}
		return arrow.StructOf(fields...), nil
	case "array":
		var a arrayJSON
		if err := json.Unmarshal(raw, &a); err != nil {
			return nil, fmt.Errorf("column %s: %w", path, err)
		}
		e, err := decodeType(path+".element", a.ElementType)
		if err != nil {
			return nil, err
		}
		return arrow.ListOfField(arrow.Field{Name: "element", Type: e, Nullable: a.ContainsNull}), nil
	case "map":
		var m mapJSON
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, fmt.Errorf("column %s: %w", path, err)
		}
		k, err := decodeType(path+".key", m.KeyType)
		if err != nil {
			return nil, err
		}
		v, err := decodeType(path+".value", m.ValueType)
		if err != nil {
			return nil, err
		}
		t := arrow.MapOf(k, v)
		t.SetItemNullable(m.ValueContainsNull)
		return t, nil
	}
	return nil, &UnsupportedError{Feature: "type " + kind.Type, Detail: "column " + path}
}

var decimalName = regexp.MustCompile(`^decimal\((\d+),\s*(-?\d+)\)$`)

var primitives = map[string]arrow.DataType{
	"string":    arrow.BinaryTypes.String,
	"long":      arrow.PrimitiveTypes.Int64,
	"integer":   arrow.PrimitiveTypes.Int32,
	"short":     arrow.PrimitiveTypes.Int16,
	"byte":      arrow.PrimitiveTypes.Int8,
	"double":    arrow.PrimitiveTypes.Float64,
	"float":     arrow.PrimitiveTypes.Float32,
	"boolean":   arrow.FixedWidthTypes.Boolean,
	"date":      arrow.FixedWidthTypes.Date32,
	"binary":    arrow.BinaryTypes.Binary,
	"timestamp": timestampType,
	"decimal":   &arrow.Decimal128Type{Precision: 10, Scale: 0},
}

func decodePrimitive(path, name string) (arrow.DataType, error) {
	if t, ok := primitives[name]; ok {
		return t, nil
	}
	if m := decimalName.FindStringSubmatch(name); m != nil {
		p, _ := strconv.Atoi(m[1])
		s, _ := strconv.Atoi(m[2])
		t := &arrow.Decimal128Type{Precision: int32(p), Scale: int32(s)}
		if _, err := primitiveName(t); err != nil {
			return nil, fmt.Errorf("column %s: %w", path, err)
		}
		return t, nil
	}
	feature := "type " + name
	if name == "timestamp_ntz" {
		feature = "timestampNtz"
	}
	return nil, &UnsupportedError{Feature: feature, Detail: "column " + path}
}
