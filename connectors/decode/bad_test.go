package decode

import (
	"reflect"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/batch"
)

// badRows is what people get to read: each row with the rule it breaks, the
// column and the whole message. MaxRowBytes is 400 and MaxDepth 4.
var badRows = []struct{ row, rule, column, message string }{
	{`{"id":"x"`, "not_json", "", `not JSON: the row ends at byte 9, expected "," or "}"`},
	{`{"id":"x",}`, "not_json", "", `not JSON: expected a key in double quotes, got "}" at byte 11`},
	{`{"id":"x"} x`, "not_json", "", `not JSON: expected nothing after the object, got "x" at byte 12`},
	{`{"id":"x"}}`, "not_json", "", `not JSON: expected nothing after the object, got "}" at byte 11`},
	{`{id:"x"}`, "not_json", "", "not JSON: expected a key in double quotes, got id at byte 2"},
	{`{'id':"x"}`, "not_json", "", `not JSON: expected a key in double quotes, got "'" at byte 2`},
	{`{"id" "x"}`, "not_json", "", `not JSON: expected ":" after the key, got "\"" at byte 7`},
	{`{"id":`, "not_json", "id", `column "id": not JSON: the row ends at byte 6, expected a value`},
	{`{"id":"x`, "not_json", "id", `column "id": not JSON: the row ends at byte 8, expected the closing quote of a string`},
	{`{"id":"x\`, "not_json", "id", `column "id": not JSON: the row ends at byte 9, expected the rest of an escape`},
	{`{"id":"x\u12`, "not_json", "id", `column "id": not JSON: the backslash at byte 9 begins no escape that JSON has`},
	{`{"id":"x\q"}`, "not_json", "id", `column "id": not JSON: the backslash at byte 9 begins no escape that JSON has`},
	{`{"id":"x\u12g4"}`, "not_json", "id", `column "id": not JSON: the backslash at byte 9 begins no escape that JSON has`},
	{"{\"id\":\"x\ty\"}", "not_json", "id", `column "id": not JSON: control character 0x09 in a string at byte 9; JSON writes it as an escape`},
	{"{\"id\":\"x\x00y\"}", "not_json", "id", `column "id": not JSON: control character 0x00 in a string at byte 9; JSON writes it as an escape`},
	{`{"id":NaN}`, "not_json", "id", `column "id": not JSON: expected a value, got NaN at byte 7`},
	{`{"id":"x","d":NaN}`, "not_json", "d", `column "d": not JSON: expected a value, got NaN at byte 15`},
	{`{"id":"x","d":-Infinity}`, "not_json", "d", `column "d": not JSON: expected a digit, got Infinity at byte 16`},
	{`{"id":"x","d":01}`, "not_json", "d", `column "d": not JSON: a number with a leading zero at byte 15`},
	{`{"id":"x","d":1.}`, "not_json", "d", `column "d": not JSON: expected a digit after the point, got "}" at byte 17`},
	{`{"id":"x","d":.5}`, "not_json", "d", `column "d": not JSON: expected a value, got "." at byte 15`},
	{`{"id":"x","d":+1}`, "not_json", "d", `column "d": not JSON: expected a value, got "+" at byte 15`},
	{`{"id":"x","d":1e}`, "not_json", "d", `column "d": not JSON: expected a digit of the exponent, got "}" at byte 17`},
	{`{"id":"x","d":-}`, "not_json", "d", `column "d": not JSON: expected a digit, got "}" at byte 16`},
	{`{"id":"x","d":12abc}`, "not_json", "", `not JSON: expected "," or "}", got abc at byte 17`},
	{`{"id":"x","l":12abc}`, "not_json", "", `not JSON: expected "," or "}", got abc at byte 17`},
	{`{"id":"x","b":tru}`, "not_json", "b", `column "b": not JSON: expected a value, got tru at byte 15`},
	{`{"id":"x","b":nul}`, "not_json", "b", `column "b": not JSON: expected a value, got nul at byte 15`},
	{`{"id":"x","tags":["a",]}`, "not_json", "tags[1]", `column "tags[1]": not JSON: expected a value, got "]" at byte 23`},
	{`{"id":"x","tags":["a" "b"]}`, "not_json", "tags", `column "tags": not JSON: expected "," or "]", got "\"" at byte 23`},
	{`{"id":"x","u":[1,]}`, "not_json", "", `not JSON: expected a value, got "]" at byte 18`},
	{`{"id":"x","u":{"a":1,}}`, "not_json", "", `not JSON: expected a key in double quotes, got "}" at byte 22`},
	{`{"id":"x","u":{"a" 1}}`, "not_json", "", `not JSON: expected ":" after the key, got "1" at byte 20`},
	{`{"id":"x","u":{1:1}}`, "not_json", "", `not JSON: expected a key in double quotes, got "1" at byte 16`},
	{`{"id":"x","u":tru}`, "not_json", "", "not JSON: expected a value, got tru at byte 15"},
	{`{"id":"x","u":"`, "not_json", "", "not JSON: the row ends at byte 15, expected the closing quote of a string"},
	{"\xff", "not_json", "", "not JSON: expected a value, got byte 0xff at byte 1"},
	{"{\"id\":\"x\xffy\"}", "invalid_utf8", "id", `column "id": not UTF-8: byte 0xff at byte 9; convert the source's text to UTF-8`},
	{"{\"id\":\"x\",\"u\":\"\xc0\x80\"}", "invalid_utf8", "", "not UTF-8: byte 0xc0 at byte 16; convert the source's text to UTF-8"},
	{"{\"id\":\"x\",\"\xc0\":1}", "invalid_utf8", "", "not UTF-8: byte 0xc0 at byte 12; convert the source's text to UTF-8"},
	{"{\"id\":\"x\x80y\"}", "invalid_utf8", "id", `column "id": not UTF-8: byte 0x80 at byte 9; convert the source's text to UTF-8`},
	{`{"id":"x","tags":["\ud8"]}`, "not_json", "tags[0]", `column "tags[0]": not JSON: the backslash at byte 20 begins no escape that JSON has`},
	{`{"id":"\ud800"}`, "invalid_utf8", "id", `column "id": \ud800 at byte 8 is half a surrogate pair`},
	{`{"id":"\ud800\u0041"}`, "invalid_utf8", "id", `column "id": \ud800 at byte 8 is half a surrogate pair`},
	{`{"id":"\udc00"}`, "invalid_utf8", "id", `column "id": \udc00 at byte 8 is half a surrogate pair`},
	{"12", "not_object", "", "expected an object, got the number 12"},
	{`"abc"`, "not_object", "", `expected an object, got the string "abc"`},
	{"null", "not_object", "", "expected an object, got null"},
	{"[[1]]", "not_object", "", "expected an object, got an array"},
	{"tru", "not_json", "", "not JSON: expected a value, got tru at byte 1"},
	{"12 13", "not_json", "", `not JSON: expected nothing after the value, got "1" at byte 4`},
	{`{"id":"x","u":[[[[1]]]]}`, "too_deep", "", "nested more than 4 levels deep at byte 18"},
	{`{"id":"x","id":"y"}`, "duplicate_key", "id", `column "id": the key is there twice, the second time at byte 11`},
	{`{"id":"x","\u0069d":"y"}`, "duplicate_key", "id", `column "id": the key is there twice, the second time at byte 11`},
	{`{"id":"x","u":1,"u":2}`, "duplicate_key", "u", `column "u": the key is there twice, the second time at byte 17`},
	{`{"id":"x","pos":{"lat":1,"lat":2}}`, "duplicate_key", "pos.lat", `column "pos.lat": the key is there twice, the second time at byte 26`},
	{"{}", "missing_required", "id", `column "id": required, but missing from the object at byte 1`},
	{`{"l":1}`, "missing_required", "id", `column "id": required, but missing from the object at byte 1`},
	{`{"id":null}`, "missing_required", "id", `column "id": required, but null at byte 7`},
	{`{"id":"x","items":[{"n":1},{}]}`, "missing_required", "items[1].n", `column "items[1].n": required, but missing from the object at byte 28`},
	{`{"id":"x","items":[{"n":null}]}`, "missing_required", "items[0].n", `column "items[0].n": required, but null at byte 25`},
	{`{"id":5}`, "wrong_type", "id", `column "id": expected a string, got the number 5 at byte 7; put it in quotes at the source, or declare the column long, double or decimal`},
	{`{"id":true}`, "wrong_type", "id", `column "id": expected a string, got true at byte 7; put it in quotes at the source, or declare the column boolean`},
	{`{"id":{"a":1}}`, "wrong_type", "id", `column "id": expected a string, got an object at byte 7`},
	{`{"id":[1]}`, "wrong_type", "id", `column "id": expected a string, got an array at byte 7`},
	{`{"id":"x","d":"abc"}`, "wrong_type", "d", `column "d": expected a number, got the string "abc" at byte 15; send it without quotes, or declare the column string`},
	{`{"id":"x","d":"1.5"}`, "wrong_type", "d", `column "d": expected a number, got the string "1.5" at byte 15; send it without quotes, or declare the column string`},
	{`{"id":"x","l":1.5}`, "wrong_type", "l", `column "l": expected an integer, got the number 1.5 at byte 15; declare the column double or decimal`},
	{`{"id":"x","l":true}`, "wrong_type", "l", `column "l": expected an integer, got true at byte 15`},
	{`{"id":"x","b":"true"}`, "wrong_type", "b", `column "b": expected true or false, got the string "true" at byte 15; send true or false without quotes, or declare the column by what it holds`},
	{`{"id":"x","b":1}`, "wrong_type", "b", `column "b": expected true or false, got the number 1 at byte 15; send true or false without quotes, or declare the column by what it holds`},
	{`{"id":"x","ts":"yesterday"}`, "wrong_type", "ts", `column "ts": expected a timestamp like "2026-01-31T08:30:00Z" or a Unix time, got the string "yesterday" at byte 16`},
	{`{"id":"x","ts":true}`, "wrong_type", "ts", `column "ts": expected a timestamp like "2026-01-31T08:30:00Z" or a Unix time, got true at byte 16`},
	{`{"id":"x","day":"31.01.2026"}`, "wrong_type", "day", `column "day": expected a date like "2026-01-31", got the string "31.01.2026" at byte 17`},
	{`{"id":"x","day":20260131}`, "wrong_type", "day", `column "day": expected a date like "2026-01-31", got the number 20260131 at byte 17`},
	{`{"id":"x","dec":"12,5"}`, "wrong_type", "dec", `column "dec": expected a decimal number, got the string "12,5" at byte 17`},
	{`{"id":"x","dec":true}`, "wrong_type", "dec", `column "dec": expected a decimal number, got true at byte 17`},
	{`{"id":"x","tags":"a"}`, "wrong_type", "tags", `column "tags": expected an array, got the string "a" at byte 18`},
	{`{"id":"x","tags":["a",5]}`, "wrong_type", "tags[1]", `column "tags[1]": expected a string, got the number 5 at byte 23; put it in quotes at the source, or declare the column long, double or decimal`},
	{`{"id":"x","pos":[1]}`, "wrong_type", "pos", `column "pos": expected an object, got an array at byte 17`},
	{`{"id":"x","pos":{"lat":"n"}}`, "wrong_type", "pos.lat", `column "pos.lat": expected a number, got the string "n" at byte 24; send it without quotes, or declare the column string`},
	{`{"id":"x","items":[{"n":1,"sizes":[1,"2"]}]}`, "wrong_type", "items[0].sizes[1]", `column "items[0].sizes[1]": expected an integer, got the string "2" at byte 38; send it without quotes, or declare the column string`},
	{`{"id":"x","l":9223372036854775808}`, "out_of_range", "l", `column "l": 9223372036854775808 at byte 15 does not fit a 64-bit integer`},
	{`{"id":"x","i":2147483648}`, "out_of_range", "i", `column "i": 2147483648 at byte 15 does not fit a 32-bit integer`},
	{`{"id":"x","i":1e99999999999}`, "out_of_range", "i", `column "i": 1e99999999999 at byte 15 does not fit a 32-bit integer`},
	{`{"id":"x","d":1e400}`, "out_of_range", "d", `column "d": 1e400 at byte 15 is beyond the largest 64-bit float`},
	{`{"id":"x","f":1e39}`, "out_of_range", "f", `column "f": 1e39 at byte 15 is beyond the largest 32-bit float`},
	{`{"id":"x","ts":"2026-02-30T00:00:00Z"}`, "out_of_range", "ts", `column "ts": there is no such time as "2026-02-30T00:00:00Z" at byte 16`},
	{`{"id":"x","ts":"2026-01-01T24:00:00Z"}`, "out_of_range", "ts", `column "ts": there is no such time as "2026-01-01T24:00:00Z" at byte 16`},
	{`{"id":"x","ts":"0001-01-01T00:00:00+01:00"}`, "out_of_range", "ts", `column "ts": there is no such time as "0001-01-01T00:00:00+01:00" at byte 16`},
	{`{"id":"x","ts":9999999999999999999999}`, "out_of_range", "ts", `column "ts": 9999999999999999999999 at byte 16 is no Unix time of the years 1 to 9999`},
	{`{"id":"x","ts":-99999999999}`, "out_of_range", "ts", `column "ts": -99999999999 at byte 16 is no Unix time of the years 1 to 9999`},
	{`{"id":"x","day":"2025-02-29"}`, "out_of_range", "day", `column "day": there is no such day as "2025-02-29" at byte 17`},
	{`{"id":"x","day":"0000-01-01"}`, "out_of_range", "day", `column "day": there is no such day as "0000-01-01" at byte 17`},
	{`{"id":"x","dec":1.234}`, "out_of_range", "dec", `column "dec": 1.234 at byte 17 has more than 2 digits after the point`},
	{`{"id":"x","dec":123456789}`, "out_of_range", "dec", `column "dec": 123456789 at byte 17 has more than 8 digits before the point`},
	{`{"id":"x","big":1e38}`, "out_of_range", "big", `column "big": 1e38 at byte 17 has more than 38 digits before the point`},
	{`{"id":"` + strings.Repeat("x", 400) + `"}`, "too_large", "", "the row has 409 bytes, more than the 400 allowed"},
	{
		`{"id":"x","d":"` + strings.Repeat("ß", 100) + `"}`, "wrong_type", "d", // cut between two letters
		`column "d": expected a number, got the string "` + strings.Repeat("ß", 31) + `… at byte 15; send it without quotes, or declare the column string`,
	},
	{
		`{"id":` + strings.Repeat("7", 100) + `}`, "wrong_type", "id",
		`column "id": expected a string, got the number ` + strings.Repeat("7", 64) + `… at byte 7; put it in quotes at the source, or declare the column long, double or decimal`,
	},
}

// newFields is the same for rows with fields that are no columns, when those are not ignored.
var newFields = []struct{ row, rule, column, message string }{
	{`{"id":"x","u":1}`, "unknown_column", "u", `column "u": no such column in the contract, at byte 11; add it there, or set on_new_field: ignore`},
	{`{"id":"x","pos":{"u":[]}}`, "unknown_column", "pos.u", `column "pos.u": no such column in the contract, at byte 18; add it there, or set on_new_field: ignore`},
}

func TestBadRows(t *testing.T) {
	ignore := newDecoder(t, allTypes(), Options{MaxRowBytes: 400, MaxDepth: 4})
	quarantine := newDecoder(t, allTypes(), Options{OnNewField: Quarantine})
	for d, rows := range map[*Decoder][]struct{ row, rule, column, message string }{ignore: badRows, quarantine: newFields} {
		for _, c := range rows {
			// In the middle of good rows, which it must leave alone, and where a
			// longer row has left its bytes.
			msg := full + "\n" + full + full + "\n" + c.row + "\n" + full
			if c.row[0] == '[' { // an array's element
				c.row = c.row[1 : len(c.row)-1]
			}
			if err := d.Message([]byte(msg), Position{Partition: "p", First: 3, PerRow: true}); err != nil {
				t.Fatal(err)
			}
			rec, _, bad := d.Flush()
			if len(bad) != 2 {
				t.Fatalf("%s: %d bad rows", c.row, len(bad))
			}
			want := BadRow{Partition: "p", Offset: 5, Raw: []byte(c.row), Class: ClassDecode, Rule: c.rule, Column: c.column, Message: c.message}
			if !reflect.DeepEqual(bad[1], want) {
				t.Errorf("%s:\n got %+v\nwant %+v", c.row, bad[1], want)
			}
			if rec.NumRows() != 2 {
				t.Fatalf("%s: %d good rows", c.row, rec.NumRows())
			}
			for i, col := range rec.Columns() {
				if name := rec.ColumnName(i); name != batch.ColOffset && col.ValueStr(0) != col.ValueStr(1) {
					t.Errorf("%s: column %s: %s before, %s after", c.row, name, col.ValueStr(0), col.ValueStr(1))
				}
			}
			rec.Release()
		}
	}
}

// full has a value in every column of allTypes.
const full = `{"id":"before and after","l":1,"i":2,"d":0.5,"f":1.5,"b":true,"ts":"2026-01-31T08:30:00Z","day":"2026-01-31","dec":1.25,` +
	`"big":7,"tags":["a",null],"pos":{"lat":1,"a_rather_long_name":null},"items":[{"n":1,"sizes":[null,3]}]}`
