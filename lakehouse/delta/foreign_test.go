package delta

import (
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// TestForeignPartitionValues: the texts that other writers give values.
func TestForeignPartitionValues(t *testing.T) {
	dec := &arrow.Decimal128Type{Precision: 38, Scale: 10}
	for _, c := range []struct {
		t          arrow.DataType
		text, want string // want is "" for an error
	}{
		{timestampType, "2020-01-02 03:04:05", "2020-01-02T03:04:05Z"}, {timestampType, "2020-01-02 03:04:05.123456", "2020-01-02T03:04:05.123456Z"},
		{timestampType, "2020-01-02T03:04:05.123456Z", "2020-01-02T03:04:05.123456Z"}, {timestampType, "2020-01-02T03:04:05Z", "2020-01-02T03:04:05Z"},
		{timestampType, "2020-01-02T03:04:05+01:00", "2020-01-02T02:04:05Z"}, {timestampType, "0001-01-01 00:00:00", "0001-01-01T00:00:00Z"},
		{timestampType, "1969-12-31 23:59:59.999999", "1969-12-31T23:59:59.999999Z"}, {timestampType, "9999-12-31 23:59:59.999999", "9999-12-31T23:59:59.999999Z"},
		{timestampType, "yesterday", ""},
		{arrow.FixedWidthTypes.Date32, "0001-01-01", "0001-01-01"}, {arrow.FixedWidthTypes.Date32, "9999-12-31", "9999-12-31"}, {arrow.FixedWidthTypes.Date32, "2020-13-01", ""},
		{arrow.PrimitiveTypes.Float64, "-Infinity", "-Inf"}, {arrow.PrimitiveTypes.Float64, "NaN", "NaN"}, {arrow.PrimitiveTypes.Float64, "1.5E10", "1.5e+10"}, {arrow.PrimitiveTypes.Float32, "0.1", "0.1"},
		{arrow.BinaryTypes.Binary, `\u0000\u00FF`, "AP8="}, {arrow.BinaryTypes.Binary, "\x01abc", "AWFiYw=="}, {arrow.BinaryTypes.Binary, `\u0000x`, "XHUwMDAweA=="}, {arrow.BinaryTypes.Binary, `\u0100`, "XHUwMTAw"},
		{arrow.PrimitiveTypes.Int8, "-128", "-128"}, {arrow.PrimitiveTypes.Int8, "128", ""}, {arrow.PrimitiveTypes.Int16, "-32768", "-32768"}, {arrow.PrimitiveTypes.Int64, "x", ""},
		{arrow.BinaryTypes.String, nullPartition, nullPartition}, {arrow.BinaryTypes.String, "%2F", "%2F"}, {arrow.BinaryTypes.String, "", null},
		{dec, "1E+3", "1000.0000000000"}, {dec, "-1234567890123456789012345678.0123456789", "-1234567890123456789012345678.0123456789"}, {dec, "1E-10", "0.0000000001"},
		{dec, "1E-11", ""}, {dec, "1E999999999", ""}, {dec, "1/4", ""}, {dec, "0x10", ""}, {dec, "", null},
	} {
		a, err := PartitionArray(memory.DefaultAllocator, c.t, &c.text, 2)
		if c.want == "" {
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s %q: %v", c.t, c.text, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %q: %v", c.t, c.text, err)
			continue
		}
		got := a.ValueStr(1)
		if d, ok := wholeDecimal(a); ok {
			got = d
		}
		if got = strings.Replace(got, " ", "T", 1); got != strings.Replace(c.want, " ", "T", 1) {
			t.Errorf("%s %q is %s, want %s", c.t, c.text, got, c.want)
		}
		a.Release()
	}
}

const null = "(null)"

// wholeDecimal is a decimal as its whole text, which Arrow's own rounds.
func wholeDecimal(a arrow.Array) (string, bool) {
	if a.DataType().ID() != arrow.DECIMAL128 || a.IsNull(1) {
		return "", false
	}
	v, err := PartitionValue(a, 1)
	return *v, err == nil
}

func TestColonsInPaths(t *testing.T) {
	for in, want := range map[string]string{
		"p=a:b/x": "p=a:b/x", "t=2020-01-01 00%3A00%3A00/x": "t=2020-01-01 00:00:00/x", "p=http%253A%252F%252Fx/y": "p=http%3A%2F%2Fx/y", "a:b": "a:b",
	} {
		if got, err := DecodePath(in); err != nil || got != want {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"file:/x/y", "s3://b/x", "abfss://c@h/x", "/abs/x", "%2Fabs"} {
		var u *UnsupportedError
		if got, err := DecodePath(in); !errors.As(err, &u) || u.Feature != "absolute paths" {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
}
