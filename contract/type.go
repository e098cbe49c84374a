package contract

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
)

// Kind is the outermost part of a [Type].
type Kind uint8

const (
	String    Kind = iota + 1
	Long           // 64-bit signed
	Int            // 32-bit signed
	Double         // 64-bit IEEE 754
	Float          // 32-bit IEEE 754
	Boolean        //
	Timestamp      // an instant, microseconds, UTC
	Date           // a day, no time zone
	Decimal        // exact, Precision digits of which Scale follow the point
	List           // of Elem, elements may be null
	Struct         // of Fields, each of which may be null
)

var kindNames = [...]string{
	String: "string", Long: "long", Int: "int", Double: "double", Float: "float", Boolean: "boolean",
	Timestamp: "timestamp", Date: "date", Decimal: "decimal", List: "list", Struct: "struct",
}

// String returns the kind's name as contracts write it.
func (k Kind) String() string {
	if k == 0 || int(k) >= len(kindNames) {
		return "invalid"
	}
	return kindNames[k]
}

// MaxPrecision is the most digits a decimal can have: what 128 bits hold.
const MaxPrecision = 38

// Type is a column's type. Its zero value is not a type.
type Type struct {
	Kind      Kind
	Precision int32    // Decimal: 1 to MaxPrecision
	Scale     int32    // Decimal: 0 to Precision
	Elem      *Type    // List
	Fields    []Column // Struct; never Required
}

// String returns the type as contracts write it; [ParseType] reads it back.
func (t Type) String() string {
	switch t.Kind {
	case Decimal:
		return fmt.Sprintf("decimal(%d,%d)", t.Precision, t.Scale)
	case List:
		return "list<" + t.Elem.String() + ">"
	case Struct:
		fields := make([]string, len(t.Fields))
		for i, f := range t.Fields {
			fields[i] = f.Name + ": " + f.Type.String()
		}
		return "struct<" + strings.Join(fields, ", ") + ">"
	default:
		return t.Kind.String()
	}
}

// Nested reports whether values of the type hold other values.
func (t Type) Nested() bool { return t.Kind == List || t.Kind == Struct }

// Arrow returns the type of the column in memory.
func (t Type) Arrow() arrow.DataType {
	switch t.Kind {
	case String:
		return arrow.BinaryTypes.String
	case Long:
		return arrow.PrimitiveTypes.Int64
	case Int:
		return arrow.PrimitiveTypes.Int32
	case Double:
		return arrow.PrimitiveTypes.Float64
	case Float:
		return arrow.PrimitiveTypes.Float32
	case Boolean:
		return arrow.FixedWidthTypes.Boolean
	case Timestamp:
		return arrow.FixedWidthTypes.Timestamp_us // UTC
	case Date:
		return arrow.FixedWidthTypes.Date32
	case Decimal:
		return &arrow.Decimal128Type{Precision: t.Precision, Scale: t.Scale}
	case List:
		return arrow.ListOf(t.Elem.Arrow())
	case Struct:
		fields := make([]arrow.Field, len(t.Fields))
		for i, f := range t.Fields {
			fields[i] = f.arrow()
		}
		return arrow.StructOf(fields...)
	default:
		panic("contract: Arrow of " + strconv.Quote(t.Kind.String()) + " type") // only a zero Type gets here
	}
}

// TypeName names a type of a table's column as contracts write it; binary, and
// what contracts have no name for, as Arrow does.
func TypeName(t arrow.DataType) string {
	switch t := t.(type) {
	case *arrow.StringType:
		return "string"
	case *arrow.Int64Type:
		return "long"
	case *arrow.Int32Type:
		return "int"
	case *arrow.Float64Type:
		return "double"
	case *arrow.Float32Type:
		return "float"
	case *arrow.BooleanType:
		return "boolean"
	case *arrow.TimestampType:
		return "timestamp"
	case *arrow.Date32Type:
		return "date"
	case *arrow.Decimal128Type:
		return fmt.Sprintf("decimal(%d,%d)", t.Precision, t.Scale)
	case *arrow.Int16Type:
		return "short"
	case *arrow.Int8Type:
		return "byte"
	case *arrow.ListType:
		return "list<" + TypeName(t.Elem()) + ">"
	case *arrow.MapType:
		return "map<" + TypeName(t.KeyType()) + ", " + TypeName(t.ItemType()) + ">"
	case *arrow.StructType:
		parts := make([]string, t.NumFields())
		for i, f := range t.Fields() {
			parts[i] = f.Name + ": " + TypeName(f.Type)
		}
		return "struct<" + strings.Join(parts, ", ") + ">"
	}
	return t.String()
}

func (c Column) arrow() arrow.Field {
	return arrow.Field{Name: c.Name, Type: c.Type.Arrow(), Nullable: !c.Required}
}

func arrowSchema(columns []Column) *arrow.Schema {
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = c.arrow()
	}
	return arrow.NewSchema(fields, nil)
}
