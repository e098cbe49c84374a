package decode

import (
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/batch"
)

// DefaultMaxRowBytes is the longest row that lands unless the options say otherwise.
const DefaultMaxRowBytes = 16 << 20

// DefaultMaxDepth is how deep a row's values may nest unless the options say
// otherwise; the row itself is level 1.
const DefaultMaxDepth = 128

// OnNewField says what happens to a row with a field that is not a column.
type OnNewField uint8

const (
	Ignore     OnNewField = iota // the field is checked to be JSON and dropped
	Quarantine                   // the row is bad: rule unknown_column
	Add                          // the row's own fields are told by [Decoder.NewFields]; all are dropped
)

// Options of a [Plan]. The zero value is ready to use.
type Options struct {
	OnNewField  OnNewField
	MaxRowBytes int // longer rows are bad: rule too_large; 0: DefaultMaxRowBytes
	MaxDepth    int // of values that are not columns; rule too_deep; 0: DefaultMaxDepth
	Derived     []Derived
	// Extra are nullable columns of the landed table beside the contract's, which
	// fields of their names fill. Those of type string take values of every kind:
	// what is no JSON string is kept as JSON text.
	Extra []arrow.Field
}

// Derived is a column of the landed table that no field fills: the day, in UTC,
// of a timestamp column; null where that is null.
type Derived struct {
	Name   string
	Source string // a column of the contract
}

// Plan is what a contract's columns compile to. It is immutable and may be
// shared; each [Decoder] made from it belongs to one goroutine at a time.
type Plan struct {
	contract *arrow.Schema
	landed   *arrow.Schema
	opts     Options
	days     []int // the contract's columns that Options.Derived are derived from
}

// NewPlan compiles a plan from the contract's columns; a field that is not
// nullable is required. It returns an error that names the column when a type
// is none that a contract can have.
func NewPlan(contract *arrow.Schema, o Options) (*Plan, error) {
	if o.MaxRowBytes == 0 {
		o.MaxRowBytes = DefaultMaxRowBytes
	}
	if o.MaxDepth == 0 {
		o.MaxDepth = DefaultMaxDepth
	}
	if o.MaxRowBytes < 0 || o.MaxRowBytes > math.MaxInt32/2 {
		return nil, fmt.Errorf("decode plan: MaxRowBytes %d: want 1 to %d", o.MaxRowBytes, math.MaxInt32/2)
	}
	if o.MaxDepth < 1 {
		return nil, fmt.Errorf("decode plan: MaxDepth %d: want at least 1", o.MaxDepth)
	}
	if err := checkFields(contract.Fields(), ""); err != nil {
		return nil, err
	}
	p := &Plan{contract: contract, landed: LandedSchema(contract, o.Derived...), opts: o}
	for _, f := range o.Extra {
		if !f.Nullable || p.landed.HasField(f.Name) {
			return nil, fmt.Errorf("decode plan: extra column %q: not nullable, or there twice", f.Name)
		}
		if err := checkType(f.Type, f.Name); err != nil {
			return nil, err
		}
		p.landed = arrow.NewSchema(append(p.landed.Fields(), f), nil)
	}
	for _, d := range o.Derived {
		at := contract.FieldIndices(d.Source)
		if len(at) != 1 || kindOf(contract.Field(at[0]).Type) != kindTimestamp {
			return nil, fmt.Errorf("decode plan: column %q: derived from %q, which is no timestamp column", d.Name, d.Source)
		}
		p.days = append(p.days, at[0])
	}
	return p, nil
}

// Schema is the schema of the records that the plan's decoders flush.
func (p *Plan) Schema() *arrow.Schema { return p.landed }

// LandedSchema adds to the contract's columns what a landed table has beside
// them: derived columns and system columns.
func LandedSchema(contract *arrow.Schema, derived ...Derived) *arrow.Schema {
	fields := slices.Clone(contract.Fields())
	for _, d := range derived {
		fields = append(fields, arrow.Field{Name: d.Name, Type: arrow.FixedWidthTypes.Date32, Nullable: true})
	}
	fields = append(fields,
		arrow.Field{Name: batch.ColSource, Type: arrow.BinaryTypes.String},
		arrow.Field{Name: batch.ColOffset, Type: arrow.PrimitiveTypes.Int64},
		arrow.Field{Name: batch.ColRaw, Type: arrow.BinaryTypes.Binary},
	)
	return arrow.NewSchema(fields, nil)
}

// Takes says whether JSON has a form for a type: whether it can be that of a column.
func Takes(t arrow.DataType) bool { return checkType(t, "") == nil }

func checkFields(fields []arrow.Field, path string) error {
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.Name] {
			return fmt.Errorf("decode plan: column %q: twice", path+f.Name)
		}
		seen[f.Name] = true
		if err := checkType(f.Type, path+f.Name); err != nil {
			return err
		}
	}
	return nil
}

func checkType(t arrow.DataType, path string) error {
	switch t := t.(type) {
	case *arrow.ListType:
		return checkType(t.Elem(), path+"[]")
	case *arrow.StructType:
		return checkFields(t.Fields(), path+".")
	default:
		if kindOf(t) == kindNone {
			return fmt.Errorf("decode plan: column %q: no JSON form for type %s", path, t)
		}
		return nil
	}
}

// kind is what a column's type means to the decoder.
type kind uint8

const (
	kindNone kind = iota
	kindString
	kindInt64
	kindInt32
	kindFloat64
	kindFloat32
	kindBool
	kindTimestamp
	kindDate
	kindDecimal
	kindList
	kindStruct
)

func kindOf(t arrow.DataType) kind {
	switch t := t.(type) {
	case *arrow.StringType:
		return kindString
	case *arrow.Int64Type:
		return kindInt64
	case *arrow.Int32Type:
		return kindInt32
	case *arrow.Float64Type:
		return kindFloat64
	case *arrow.Float32Type:
		return kindFloat32
	case *arrow.BooleanType:
		return kindBool
	case *arrow.TimestampType:
		if t.Unit == arrow.Microsecond && t.TimeZone == "UTC" {
			return kindTimestamp
		}
	case *arrow.Date32Type:
		return kindDate
	case *arrow.Decimal128Type:
		return kindDecimal
	case *arrow.ListType:
		return kindList
	case *arrow.StructType:
		return kindStruct
	}
	return kindNone
}

// want is how messages call the values that a kind takes.
func (k kind) want() string {
	switch k {
	case kindString:
		return "a string"
	case kindInt64, kindInt32:
		return "an integer"
	case kindFloat64, kindFloat32:
		return "a number"
	case kindBool:
		return "true or false"
	case kindTimestamp:
		return `a timestamp like "2026-01-31T08:30:00Z" or a Unix time`
	case kindDate:
		return `a date like "2026-01-31"`
	case kindDecimal:
		return "a decimal number"
	case kindList:
		return "an array"
	default:
		return "an object"
	}
}
