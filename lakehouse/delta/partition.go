package delta

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/big"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// nullPartition is the directory of null by Hive's convention, which readers of
// directory names expect.
const nullPartition = "__HIVE_DEFAULT_PARTITION__"

const (
	dateLayout           = "2006-01-02"
	partitionTimeLayout  = "2006-01-02T15:04:05.000000Z"
	partitionTimeLayout2 = "2006-01-02 15:04:05.999999" // as the protocol's older form has it; the fraction is optional
)

// CheckPartitionType returns an error if a table cannot be partitioned by a type.
func CheckPartitionType(t arrow.DataType) error {
	switch t.ID() {
	case arrow.STRING, arrow.INT64, arrow.INT32, arrow.INT16, arrow.INT8, arrow.BOOL, arrow.DATE32, arrow.TIMESTAMP, arrow.DECIMAL128:
		return nil
	}
	return fmt.Errorf("a table cannot be partitioned by a column of type %s", t)
}

// PartitionValue returns the text of value i of a column as it stands in
// partitionValues; nil is null. Delta does not tell an empty string from null.
func PartitionValue(col arrow.Array, i int) (*string, error) {
	if col.IsNull(i) {
		return nil, nil
	}
	var s string
	switch a := col.(type) {
	case *array.String:
		if s = a.Value(i); s == "" {
			return nil, nil
		}
		s = strings.Clone(s) // the array's memory may be freed
	case *array.Int64:
		s = strconv.FormatInt(a.Value(i), 10)
	case *array.Int32:
		s = strconv.FormatInt(int64(a.Value(i)), 10)
	case *array.Int16:
		s = strconv.FormatInt(int64(a.Value(i)), 10)
	case *array.Int8:
		s = strconv.FormatInt(int64(a.Value(i)), 10)
	case *array.Boolean:
		s = strconv.FormatBool(a.Value(i))
	case *array.Date32:
		s = time.Unix(int64(a.Value(i))*86400, 0).UTC().Format(dateLayout)
	case *array.Timestamp:
		s = time.UnixMicro(int64(a.Value(i))).UTC().Format(partitionTimeLayout)
	case *array.Decimal128:
		s = string(AppendDecimal(nil, a.Value(i), a.DataType().(*arrow.Decimal128Type).Scale))
	default:
		return nil, CheckPartitionType(col.DataType())
	}
	return &s, nil
}

// PartitionArray returns an array of n times one partition value. The caller releases it.
func PartitionArray(mem memory.Allocator, t arrow.DataType, value *string, n int) (arrow.Array, error) {
	b := array.NewBuilder(mem, t)
	defer b.Release()
	b.Reserve(n)
	if value == nil || *value == "" {
		b.AppendNulls(n)
		return b.NewArray(), nil
	}
	appendOne, err := partitionAppender(b, *value)
	if err != nil {
		return nil, fmt.Errorf("partition value %q is no %s: %w", *value, t, err)
	}
	for range n {
		appendOne()
	}
	return b.NewArray(), nil
}

func partitionAppender(b array.Builder, s string) (func(), error) {
	switch b := b.(type) {
	case *array.StringBuilder:
		return func() { b.Append(s) }, nil
	case *array.Int64Builder:
		v, err := strconv.ParseInt(s, 10, 64)
		return func() { b.Append(v) }, err
	case *array.Int32Builder:
		v, err := strconv.ParseInt(s, 10, 32)
		return func() { b.Append(int32(v)) }, err
	case *array.Int16Builder:
		v, err := strconv.ParseInt(s, 10, 16)
		return func() { b.Append(int16(v)) }, err
	case *array.Int8Builder:
		v, err := strconv.ParseInt(s, 10, 8)
		return func() { b.Append(int8(v)) }, err
	case *array.BooleanBuilder:
		v, err := strconv.ParseBool(s)
		return func() { b.Append(v) }, err
	case *array.Date32Builder:
		v, err := time.ParseInLocation(dateLayout, s, time.UTC)
		return func() { b.Append(arrow.Date32(floorDiv(v.Unix(), 86400))) }, err
	case *array.TimestampBuilder:
		v, err := parsePartitionTime(s)
		return func() { b.Append(arrow.Timestamp(v.UnixMicro())) }, err
	case *array.Float64Builder:
		v, err := strconv.ParseFloat(s, 64)
		return func() { b.Append(v) }, err
	case *array.Float32Builder:
		v, err := strconv.ParseFloat(s, 32)
		return func() { b.Append(float32(v)) }, err
	case *array.BinaryBuilder:
		v := partitionBytes(s)
		return func() { b.Append(v) }, nil
	case *array.Decimal128Builder:
		v, err := parseDecimal(s, b.Type().(*arrow.Decimal128Type).Scale)
		return func() { b.Append(v) }, err
	}
	return nil, CheckPartitionType(b.Type())
}

// parsePartitionTime reads the protocol's forms of a timestamp: ISO 8601 with its zone,
// or date and time with a blank between, in UTC. Fractions of a second are optional.
func parsePartitionTime(s string) (time.Time, error) {
	v, err := time.Parse(time.RFC3339Nano, s)
	for _, layout := range []string{partitionTimeLayout2, "2006-01-02T15:04:05.999999", dateLayout} {
		if err == nil {
			break
		}
		v, err = time.ParseInLocation(layout, s, time.UTC)
	}
	return v, err
}

// partitionBytes reads the protocol's form of a binary value, a sequence of \u0000 to
// \u00FF. Spark writes the bytes themselves, as far as they are UTF-8.
func partitionBytes(s string) []byte {
	const width = len(`\u0000`)
	out := make([]byte, 0, len(s)/width)
	for rest := s; rest != ""; rest = rest[width:] {
		if len(rest) < width || rest[:2] != `\u` {
			return []byte(s)
		}
		v, err := strconv.ParseUint(rest[2:width], 16, 8)
		if err != nil {
			return []byte(s)
		}
		out = append(out, byte(v))
	}
	return out
}

// PartitionDir returns the directory of a partition value, such as "d=2026-01-01". The
// value that counts is in partitionValues, but Polars and readers of directories take it
// from here, so it is written as Hive does: what is not a letter, a digit or one of "._-"
// has the form %XX. A value that makes too long a name is cut and given a hash.
func PartitionDir(column string, value *string) string {
	if value == nil {
		return escape(column) + "=" + nullPartition
	}
	return escape(column) + "=" + escape(*value)
}

// Names of directories: file systems have at most 255 bytes for one, S3 1,024 for a key.
const (
	maxDirValue = 150
	cutDirValue = 64
)

func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; plain(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	if b.Len() <= maxDirValue {
		return b.String()
	}
	cut := []byte(s[:min(len(s), cutDirValue)])
	for i, c := range cut {
		if !plain(c) {
			cut[i] = '_'
		}
	}
	h := fnv.New64a()
	h.Write([]byte(s))
	return fmt.Sprintf("%s-%016x", cut, h.Sum64())
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}

// EncodePath returns a path below the table's root as it stands in the log, which
// DecodePath takes back. Our own paths need it for the "%" of partitions.
func EncodePath(path string) string { return (&url.URL{Path: path}).EscapedPath() }

// absolute matches paths of the log that have a scheme. A colon by itself does not make
// one: it may be part of a partition's value.
var absolute = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:/`)

// DecodePath returns the object path below the table's root that a path of the log
// stands for. Absolute paths (of shallow clones) are refused.
func DecodePath(path string) (string, error) {
	p, err := url.PathUnescape(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("path %q: %w", path, err)
	case absolute.MatchString(path) || strings.Contains(p, "://") || strings.HasPrefix(p, "/"):
		return "", &UnsupportedError{Feature: "absolute paths", Detail: "file " + path + " is of another table, as in a shallow clone; copy the table"}
	case p == "":
		return "", errors.New("empty path")
	}
	return p, nil
}

// AppendDecimal appends the exact decimal text of a value, which is v / 10^scale.
func AppendDecimal(dst []byte, v decimal128.Num, scale int32) []byte {
	n := v.BigInt()
	if n.Sign() < 0 {
		dst = append(dst, '-')
	}
	digits := n.Abs(n).String()
	if scale <= 0 {
		return append(dst, digits...)
	}
	if pad := int(scale) + 1 - len(digits); pad > 0 {
		digits = strings.Repeat("0", pad) + digits
	}
	point := len(digits) - int(scale)
	dst = append(dst, digits[:point]...)
	dst = append(dst, '.')
	return append(dst, digits[point:]...)
}

// decimalText keeps the many other things out that big.Rat takes for a number, and
// exponents that would make it compute for a long time.
var decimalText = regexp.MustCompile(`^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?$`)

func parseDecimal(s string, scale int32) (decimal128.Num, error) {
	if !decimalText.MatchString(s) {
		return decimal128.Num{}, errors.New("no number")
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return decimal128.Num{}, errors.New("no number")
	}
	r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)))
	if !r.IsInt() || r.Num().BitLen() > 127 {
		return decimal128.Num{}, fmt.Errorf("not exact with %d decimals", scale)
	}
	return decimal128.FromBigInt(r.Num()), nil
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}
