package contract

import (
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
)

func TestParseType(t *testing.T) {
	for text, want := range map[string]arrow.DataType{
		"string": arrow.BinaryTypes.String, "long": arrow.PrimitiveTypes.Int64, "int": arrow.PrimitiveTypes.Int32,
		"double": arrow.PrimitiveTypes.Float64, "float": arrow.PrimitiveTypes.Float32, "boolean": arrow.FixedWidthTypes.Boolean,
		"timestamp": &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, "date": arrow.FixedWidthTypes.Date32,
		"decimal(38,38)":     &arrow.Decimal128Type{Precision: 38, Scale: 38},
		"decimal(1,0)":       &arrow.Decimal128Type{Precision: 1},
		"list<list<double>>": arrow.ListOf(arrow.ListOf(arrow.PrimitiveTypes.Float64)),
		"struct<a: int, _b: list<struct<c: date>>>": arrow.StructOf(
			arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
			arrow.Field{Name: "_b", Nullable: true, Type: arrow.ListOf(arrow.StructOf(
				arrow.Field{Name: "c", Type: arrow.FixedWidthTypes.Date32, Nullable: true}))}),
	} {
		typ, err := ParseType(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if typ.String() != text {
			t.Errorf("%s is written as %s", text, typ)
		}
		if TypeName(typ.Arrow()) != text {
			t.Errorf("%s is named %s", text, TypeName(typ.Arrow()))
		}
		if !arrow.TypeEqual(typ.Arrow(), want) {
			t.Errorf("%s is %v, want %v", text, typ.Arrow(), want)
		}
	}
	if typ, err := ParseType(" struct < a:int ,b : decimal( 5,2 ) > "); err != nil || typ.String() != "struct<a: int, b: decimal(5,2)>" {
		t.Errorf("with spaces: %v, %v", typ, err)
	}
}

func TestParseTypeErrors(t *testing.T) {
	const decimal = "; write decimal(p,s): p digits in all, s of them after the point, such as decimal(18,2)"
	for text, want := range map[string]string{
		"":                      `"": a type is missing here; the types are ` + typeList,
		"String":                `"String": unknown type String; did you mean string?`,
		"bigint":                `"bigint": unknown type bigint; did you mean long?`,
		"binary":                `"binary": unknown type binary; the types are ` + typeList,
		"decimal":               `"decimal", character 8: precision and scale are missing` + decimal,
		"decimal(39,2)":         `"decimal(39,2)", character 9: precision 39 must be between 1 and 38`,
		"decimal(0,0)":          `"decimal(0,0)", character 9: precision 0 must be between 1 and 38`,
		"decimal(4,5)":          `"decimal(4,5)", character 11: scale 5 must be at most the precision 4`,
		"decimal(4)":            `"decimal(4)", character 10: the scale is missing` + decimal,
		"decimal(4,-1)":         `"decimal(4,-1)", character 11: a number must stand here` + decimal,
		"decimal(4,1":           `"decimal(4,1", character 12: the closing ) is missing` + decimal,
		"list":                  `"list", character 5: the element's type is missing; write list<T>, such as list<string>`,
		"list<int":              `"list<int", character 9: the closing > of list<…> is missing`,
		"list<>":                `"list<>", character 6: a type is missing here; the types are ` + typeList,
		"list<int>>":            `"list<int>>", character 10: nothing may follow the type here; remove ">"`,
		"struct<>":              `"struct<>", character 8: a field's name must stand here: letters, digits and _`,
		"struct<a>":             `"struct<a>", character 9: a colon and the type of a are missing; write a: T`,
		"struct<a: int b: int>": `"struct<a: int b: int>", character 15: a comma or the closing > of struct<…> is missing`,
		"struct<a: int, A: int>": `"struct<a: int, A: int>", character 16: ` +
			`the struct has the field A twice (upper and lower case count as the same)`,
		"struct<1a: int>": `"struct<1a: int>", character 8: the field's name 1a begins with a digit; begin it with a letter or _`,
	} {
		if _, err := ParseType(text); err == nil || err.Error() != want {
			t.Errorf("%s: got\n%v\nwant\n%s", text, err, want)
		}
	}
}
