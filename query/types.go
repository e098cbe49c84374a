package query

import (
	"fmt"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// quote makes an SQL identifier of a name.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// literal makes an SQL string of a text.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// sqlType writes a contract type as DuckDB does, the way views over records have it.
func sqlType(dt arrow.DataType) (string, error) { return typeSQL(dt, false) }

// fileType writes a table's type the way DuckDB reads it from Parquet. Tables of other
// writers have types that contracts do not.
func fileType(dt arrow.DataType) (string, error) { return typeSQL(dt, true) }

func typeSQL(dt arrow.DataType, file bool) (string, error) {
	switch t := dt.(type) {
	case *arrow.StringType:
		return "VARCHAR", nil
	case *arrow.BinaryType:
		return "BLOB", nil
	case *arrow.Int64Type:
		return "BIGINT", nil
	case *arrow.Int32Type:
		return "INTEGER", nil
	case *arrow.Float64Type:
		return "DOUBLE", nil
	case *arrow.Float32Type:
		return "FLOAT", nil
	case *arrow.BooleanType:
		return "BOOLEAN", nil
	case *arrow.Date32Type:
		return "DATE", nil
	case *arrow.TimestampType:
		switch {
		case t.Unit == arrow.Microsecond && file:
			return "TIMESTAMPTZ", nil
		case t.Unit == arrow.Microsecond:
			return "TIMESTAMP", nil
		}
	case *arrow.Int16Type:
		if file {
			return "SMALLINT", nil
		}
	case *arrow.Int8Type:
		if file {
			return "TINYINT", nil
		}
	case *arrow.MapType:
		if file {
			return mapSQL(t)
		}
	case *arrow.Decimal128Type:
		return fmt.Sprintf("DECIMAL(%d,%d)", t.Precision, t.Scale), nil
	case *arrow.ListType:
		elem, err := typeSQL(t.Elem(), file)
		return elem + "[]", err
	case *arrow.StructType:
		fields := make([]string, t.NumFields())
		for i, f := range t.Fields() {
			ft, err := typeSQL(f.Type, file)
			if err != nil {
				return "", err
			}
			fields[i] = quote(f.Name) + " " + ft
		}
		return "STRUCT(" + strings.Join(fields, ", ") + ")", nil
	}
	return "", fmt.Errorf("arrow type %s has no place in a query", dt)
}

func mapSQL(t *arrow.MapType) (string, error) {
	key, err := fileType(t.KeyType())
	if err != nil {
		return "", err
	}
	value, err := fileType(t.ItemType())
	return "MAP(" + key + ", " + value + ")", err
}

var plainTypes = map[arrow.Type]duckdb.Type{
	arrow.STRING: duckdb.TypeVarchar, arrow.BINARY: duckdb.TypeBlob, arrow.INT64: duckdb.TypeBigInt,
	arrow.INT32: duckdb.TypeInteger, arrow.FLOAT64: duckdb.TypeDouble, arrow.FLOAT32: duckdb.TypeFloat,
	arrow.BOOL: duckdb.TypeBoolean, arrow.DATE32: duckdb.TypeDate, arrow.TIMESTAMP: duckdb.TypeTimestamp,
}

// logicalType is [sqlType] as a DuckDB value. The caller destroys it; the type
// must be one that sqlType accepts.
func logicalType(dt arrow.DataType) duckdb.LogicalType {
	switch t := dt.(type) {
	case *arrow.Decimal128Type:
		return duckdb.CreateDecimalType(uint8(t.Precision), uint8(t.Scale))
	case *arrow.ListType:
		elem := logicalType(t.Elem())
		defer duckdb.DestroyLogicalType(&elem)
		return duckdb.CreateListType(elem)
	case *arrow.StructType:
		types := make([]duckdb.LogicalType, t.NumFields())
		names := make([]string, t.NumFields())
		for i, f := range t.Fields() {
			types[i], names[i] = logicalType(f.Type), f.Name
			defer duckdb.DestroyLogicalType(&types[i])
		}
		return duckdb.CreateStructType(types, names)
	}
	return duckdb.CreateLogicalType(plainTypes[dt.ID()])
}

// column is one column of a result.
type column struct {
	name string
	typ  arrow.DataType
	cast string // SQL type to cast the column to first, "" when it has a contract type already
}

// resultType maps the type of a result column to a contract type. cast says
// that DuckDB must convert the values first. lenient also accepts types whose
// values a decimal of 38 digits holds, for people reading results.
func resultType(lt duckdb.LogicalType, lenient bool) (dt arrow.DataType, cast bool, err error) {
	switch id := duckdb.GetTypeId(lt); id {
	case duckdb.TypeVarchar:
		return arrow.BinaryTypes.String, duckdb.LogicalTypeGetAlias(lt) != "", nil
	case duckdb.TypeBlob:
		return arrow.BinaryTypes.Binary, false, nil
	case duckdb.TypeBigInt:
		return arrow.PrimitiveTypes.Int64, false, nil
	case duckdb.TypeInteger:
		return arrow.PrimitiveTypes.Int32, false, nil
	case duckdb.TypeDouble:
		return arrow.PrimitiveTypes.Float64, false, nil
	case duckdb.TypeFloat:
		return arrow.PrimitiveTypes.Float32, false, nil
	case duckdb.TypeBoolean:
		return arrow.FixedWidthTypes.Boolean, false, nil
	case duckdb.TypeDate:
		return arrow.FixedWidthTypes.Date32, false, nil
	case duckdb.TypeTimestamp, duckdb.TypeTimestampTZ:
		return arrow.FixedWidthTypes.Timestamp_us, false, nil
	case duckdb.TypeDecimal:
		return &arrow.Decimal128Type{Precision: int32(duckdb.DecimalWidth(lt)), Scale: int32(duckdb.DecimalScale(lt))}, false, nil
	case duckdb.TypeTinyInt, duckdb.TypeSmallInt, duckdb.TypeUTinyInt, duckdb.TypeUSmallInt, duckdb.TypeSQLNull:
		return arrow.PrimitiveTypes.Int32, true, nil
	case duckdb.TypeUInteger:
		return arrow.PrimitiveTypes.Int64, true, nil
	case duckdb.TypeTimestampS, duckdb.TypeTimestampMS, duckdb.TypeTimestampNS:
		return arrow.FixedWidthTypes.Timestamp_us, true, nil
	case duckdb.TypeUUID, duckdb.TypeEnum, duckdb.TypeTime, duckdb.TypeTimeTZ, duckdb.TypeTimeNS, duckdb.TypeInterval:
		return arrow.BinaryTypes.String, true, nil
	case duckdb.TypeUBigInt, duckdb.TypeHugeInt, duckdb.TypeUHugeInt, duckdb.TypeBigNum, duckdb.TypeBit:
		return wideType(id, lenient)
	case duckdb.TypeList, duckdb.TypeArray:
		return listType(lt, id, lenient)
	case duckdb.TypeStruct:
		return structType(lt, lenient)
	default:
		if lenient {
			return arrow.BinaryTypes.String, true, nil
		}
		return nil, false, fmt.Errorf("has a type that no table column can hold; CAST it to VARCHAR or to a type of table contracts")
	}
}

// wideType handles numbers that need more than 64 bits, and bit strings.
func wideType(id duckdb.Type, lenient bool) (arrow.DataType, bool, error) {
	names := map[duckdb.Type]string{duckdb.TypeUBigInt: "UBIGINT", duckdb.TypeHugeInt: "HUGEINT", duckdb.TypeUHugeInt: "UHUGEINT",
		duckdb.TypeBigNum: "BIGNUM", duckdb.TypeBit: "BIT"}
	if !lenient {
		advice := "CAST it to BIGINT, DOUBLE or DECIMAL(38,0)"
		if id == duckdb.TypeBit {
			advice = "CAST it to VARCHAR"
		}
		return nil, false, fmt.Errorf("has type %s, which no table column can hold; %s", names[id], advice)
	}
	switch id {
	case duckdb.TypeUBigInt:
		return &arrow.Decimal128Type{Precision: 20}, true, nil
	case duckdb.TypeHugeInt:
		return &arrow.Decimal128Type{Precision: 38}, true, nil
	}
	return arrow.BinaryTypes.String, true, nil
}

func listType(lt duckdb.LogicalType, id duckdb.Type, lenient bool) (arrow.DataType, bool, error) {
	child := duckdb.ListTypeChildType
	if id == duckdb.TypeArray {
		child = duckdb.ArrayTypeChildType
	}
	elem := child(lt)
	defer duckdb.DestroyLogicalType(&elem)
	dt, cast, err := resultType(elem, lenient)
	if err != nil {
		return nil, false, err
	}
	return arrow.ListOf(dt), cast || id == duckdb.TypeArray, nil
}

func structType(lt duckdb.LogicalType, lenient bool) (arrow.DataType, bool, error) {
	fields := make([]arrow.Field, duckdb.StructTypeChildCount(lt))
	anyCast := false
	for i := range fields {
		child := duckdb.StructTypeChildType(lt, duckdb.IdxT(i))
		dt, cast, err := resultType(child, lenient)
		duckdb.DestroyLogicalType(&child)
		if err != nil {
			return nil, false, err
		}
		fields[i] = arrow.Field{Name: duckdb.StructTypeChildName(lt, duckdb.IdxT(i)), Type: dt, Nullable: true}
		anyCast = anyCast || cast
	}
	return arrow.StructOf(fields...), anyCast, nil
}
