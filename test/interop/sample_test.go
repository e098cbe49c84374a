package interop

import (
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// sampleSchema has every type of Delta that we write.
var sampleSchema = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.PrimitiveTypes.Int64},
	{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "big", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "mid", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
	{Name: "small", Type: arrow.PrimitiveTypes.Int16, Nullable: true},
	{Name: "tiny", Type: arrow.PrimitiveTypes.Int8, Nullable: true},
	{Name: "d", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "f", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
	{Name: "flag", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "ts", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true},
	{Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
	{Name: "price", Type: &arrow.Decimal128Type{Precision: 38, Scale: 10}, Nullable: true},
	{Name: "fee", Type: &arrow.Decimal128Type{Precision: 5, Scale: 2}, Nullable: true},
	{Name: "raw", Type: arrow.BinaryTypes.Binary, Nullable: true},
	{Name: "longs", Type: list(arrow.PrimitiveTypes.Int64), Nullable: true},
	{Name: "place", Type: arrow.StructOf(
		arrow.Field{Name: "city", Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: "zip", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		arrow.Field{Name: "since", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true},
	), Nullable: true},
	{Name: "more", Type: arrow.StructOf(
		arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		arrow.Field{Name: "tags", Type: list(arrow.BinaryTypes.String), Nullable: true},
	), Nullable: true},
}, nil)

func list(of arrow.DataType) arrow.DataType {
	return arrow.ListOfField(arrow.Field{Name: "element", Type: of, Nullable: true})
}

// sample is a row of it, nil for null.
type sample struct {
	id    int64
	text  *string
	big   *int64
	mid   *int32
	small *int16
	tiny  *int8
	d     *float64
	f     *float32
	flag  *bool
	ts    *time.Time
	day   *time.Time
	price *string
	fee   *string
	raw   []byte
	longs []*int64 // nil: null
	place *samplePlace
	tags  []*string // nil: more is null
}

type samplePlace struct {
	city  *string
	zip   *int64
	since *time.Time
}

// kinds of files, by their rows: what is at the edge of a type is apart from what is
// common, so that bounds tell the files from each other.
const (
	common      = iota
	past        // before 1970, negative
	nothing     // all null
	unordered   // NaN and infinities among common values
	mixed       // some null
	extreme     // first and last values of the types
	long        // strings that bounds cut
	sampleKinds // number of kinds
)

const perFile = 24 // rows

// nan has the bits that databases and JSON give it: DataFusion tells it from Go's.
var nan = math.Float64frombits(0x7ff8000000000000)

// samples are the rows of one file of a kind, with ids from first on.
func samples(kind int, first int64) []sample {
	rows := make([]sample, perFile)
	for i := range rows {
		rows[i] = ordinary(first+int64(i), kind)
		switch r := &rows[i]; {
		case kind == nothing || kind == mixed && i%3 == 0:
			*r = sample{id: r.id}
		case kind == unordered:
			odd := []float64{nan, math.Inf(1), math.Inf(-1), float64(i)}[i%4]
			r.d, r.f = ref(odd), ref(float32(odd))
		case kind == extreme:
			r.edge(i%2 == 0)
		case kind == long:
			r.text = ref(strings.Repeat([]string{"long ", "漢字", "🦆"}[i%3], 7+i) + fmt.Sprint(i))
			r.place.city = ref(strings.Repeat("\U0010ffff", 31+i%4) + "z")
		}
	}
	return rows
}

func ref[T any](v T) *T { return &v }

func ordinary(id int64, kind int) sample {
	sign := int64(1)
	base := time.Date(2001, 9, 9, 1, 46, 40, 123_456_000, time.UTC)
	if kind == past {
		sign = -1
		base = time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	}
	n := id*sign - 1
	ts := base.Add(time.Duration(n) * 86_399_999_777 * time.Microsecond)
	s := sample{
		id: id, text: ref(fmt.Sprintf("%s %d", scripts[int(id)%(len(scripts)-1)], id)), big: ref(n * 1_000_000_007), mid: ref(int32(n * 1000)),
		small: ref(int16(n * 7)), tiny: ref(int8(n % 100)), d: ref(float64(n) / 7), f: ref(float32(n) / 3), flag: ref(id%2 == 0),
		ts: ref(ts), day: ref(ts.Truncate(24 * time.Hour)), price: ref(fmt.Sprintf("%d.%010d", n*12_345_678_901, id)),
		fee: ref(fmt.Sprintf("%d.%02d", n%1000, id%100)), raw: []byte{byte(id), 0, 0xff}, longs: []*int64{},
		place: &samplePlace{city: ref(scripts[int(id)%5]), zip: ref(n), since: ref(ts.Add(time.Microsecond))},
	}
	if kind == common {
		s.flag = ref(true) // bounds that prune
	}
	for k := range id % 4 {
		s.longs = append(s.longs, ref(k-1), nil)
		s.tags = append(s.tags, s.text, nil)
	}
	return s
}

// edge gives a row the first or last values of the types. Of times it is the years that
// ISO texts have: 1 and 9999.
func (s *sample) edge(first bool) {
	nines := strings.Repeat("9", 28) + "." + strings.Repeat("9", 10)
	if first {
		s.text, s.big, s.mid, s.small, s.tiny = ref(""), ref(int64(math.MinInt64)), ref(int32(math.MinInt32)), ref(int16(math.MinInt16)), ref(int8(math.MinInt8))
		s.d, s.f, s.price, s.fee, s.raw = ref(-math.MaxFloat64), ref(float32(-math.MaxFloat32)), ref("-"+nines), ref("-999.99"), []byte{}
		s.ts, s.day = ref(time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)), ref(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC))
		return
	}
	s.text, s.big, s.mid, s.small, s.tiny = ref("\U0010ffff"), ref(int64(math.MaxInt64)), ref(int32(math.MaxInt32)), ref(int16(math.MaxInt16)), ref(int8(math.MaxInt8))
	s.d, s.f, s.price, s.fee = ref(math.SmallestNonzeroFloat64), ref(float32(math.MaxFloat32)), ref(nines), ref("999.99")
	s.ts, s.day = ref(time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)), ref(time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC))
}

// record makes one of rows. Columns that the schema has beyond the sample's are null.
func record(rows []sample) arrow.Record {
	b := array.NewRecordBuilder(memory.DefaultAllocator, sampleSchema)
	defer b.Release()
	for i := range rows {
		r := &rows[i]
		b.Field(0).(*array.Int64Builder).Append(r.id)
		put(b.Field(1).(*array.StringBuilder), r.text)
		put(b.Field(2).(*array.Int64Builder), r.big)
		put(b.Field(3).(*array.Int32Builder), r.mid)
		put(b.Field(4).(*array.Int16Builder), r.small)
		put(b.Field(5).(*array.Int8Builder), r.tiny)
		put(b.Field(6).(*array.Float64Builder), r.d)
		put(b.Field(7).(*array.Float32Builder), r.f)
		put(b.Field(8).(*array.BooleanBuilder), r.flag)
		put(b.Field(9).(*array.TimestampBuilder), micros(r.ts))
		put(b.Field(10).(*array.Date32Builder), days(r.day))
		put(b.Field(11).(*array.Decimal128Builder), number(r.price))
		put(b.Field(12).(*array.Decimal128Builder), number(r.fee))
		if raw := b.Field(13).(*array.BinaryBuilder); r.raw == nil {
			raw.AppendNull()
		} else {
			raw.Append(r.raw)
		}
		putList(b.Field(14).(*array.ListBuilder), r.longs, func(e array.Builder, v *int64) { put(e.(*array.Int64Builder), v) })
		r.place.put(b.Field(15).(*array.StructBuilder))
		more := b.Field(16).(*array.StructBuilder)
		if r.tags == nil {
			more.AppendNull()
			continue
		}
		more.Append(true)
		put(more.FieldBuilder(0).(*array.Int64Builder), ref(r.id))
		putList(more.FieldBuilder(1).(*array.ListBuilder), r.tags, func(e array.Builder, v *string) { put(e.(*array.StringBuilder), v) })
	}
	return b.NewRecord()
}

func (p *samplePlace) put(b *array.StructBuilder) {
	if p == nil {
		b.AppendNull()
		return
	}
	b.Append(true)
	put(b.FieldBuilder(0).(*array.StringBuilder), p.city)
	put(b.FieldBuilder(1).(*array.Int64Builder), p.zip)
	put(b.FieldBuilder(2).(*array.TimestampBuilder), micros(p.since))
}

func put[T any, B interface {
	Append(v T)
	AppendNull()
}](b B, v *T) {
	if v == nil {
		b.AppendNull()
	} else {
		b.Append(*v)
	}
}

func putList[T any](b *array.ListBuilder, values []*T, one func(array.Builder, *T)) {
	if values == nil {
		b.AppendNull()
		return
	}
	b.Append(true)
	for _, v := range values {
		one(b.ValueBuilder(), v)
	}
}

func micros(t *time.Time) *arrow.Timestamp {
	if t == nil {
		return nil
	}
	return ref(arrow.Timestamp(t.UnixMicro()))
}

func days(t *time.Time) *arrow.Date32 {
	if t == nil {
		return nil
	}
	sec := t.Unix()
	if sec%86400 < 0 {
		sec -= 86400
	}
	return ref(arrow.Date32(sec / 86400))
}

// number is the decimal of a text that has all of its scale's digits.
func number(s *string) *decimal128.Num {
	if s == nil {
		return nil
	}
	n, ok := new(big.Int).SetString(strings.Replace(*s, ".", "", 1), 10)
	if !ok {
		panic(*s)
	}
	return ref(decimal128.FromBigInt(n))
}
