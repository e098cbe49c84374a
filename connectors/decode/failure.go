package decode

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

// ClassDecode is the class of every [BadRow].
const ClassDecode = "decode"

// Rules that a bad row broke. The first one in the row's text counts.
const (
	ruleNotJSON       = "not_json"         // malformed, or cut off
	ruleNotObject     = "not_object"       // JSON, but not an object
	ruleInvalidUTF8   = "invalid_utf8"     // also half a surrogate pair
	ruleTooLarge      = "too_large"        // longer than Options.MaxRowBytes
	ruleTooDeep       = "too_deep"         // nested deeper than Options.MaxDepth
	ruleDuplicate     = "duplicate_key"    //
	ruleUnknownColumn = "unknown_column"   // only with Quarantine
	ruleMissing       = "missing_required" // no such field, or null
	ruleWrongType     = "wrong_type"       // of another JSON type, or a string or fraction that the column cannot hold
	ruleOutOfRange    = "out_of_range"     // of the right form, but more than the column can hold
)

// BadRow is a row that did not decode.
type BadRow struct {
	Partition string
	Offset    int64
	Void      int64  // offsets right before it that no row has
	Raw       []byte // the row's bytes, whole, without the end of the line; the caller's
	Class     string // ClassDecode
	Rule      string // see the rules above
	Column    string // path such as "address.zip" or "tags[2]"; "" when no column is concerned
	Message   string // for a person; bytes are counted in Raw from 1
}

// failure is why a row is bad; it fills up on the way out of nested values.
type failure struct {
	rule    string
	path    string
	message string
	advice  string // what to do, after the message; begins with "; "
}

// within puts the name of what is around the place of the failure before it.
func (f *failure) within(name string) {
	if f.path != "" && f.path[0] != '[' {
		name += "."
	}
	f.path = name + f.path
}

func (f *failure) text() string {
	if f.path == "" {
		return f.message + f.advice
	}
	return "column " + strconv.Quote(clip(f.path)) + ": " + f.message + f.advice
}

// failf notes the failure and returns -1, the position after nothing.
//
//go:noinline
func (d *Decoder) failf(rule string, format string, args ...any) int {
	d.fail = failure{rule: rule, message: fmt.Sprintf(format, args...)}
	return -1
}

// pos is a position of the row's bytes as people count.
func (d *Decoder) pos(i int) int { return i - d.start + 1 }

// syntax notes that b[i] is not what JSON wants there.
func (d *Decoder) syntax(b []byte, i int, want string) int {
	if i >= d.end {
		return d.failf(ruleNotJSON, "not JSON: the row ends at byte %d, expected %s", d.end-d.start, want)
	}
	return d.failf(ruleNotJSON, "not JSON: expected %s, got %s at byte %d", want, found(b[i:d.end]), d.pos(i))
}

// mismatch judges a value at b[i] that c's type cannot take: null, or bad.
func (d *Decoder) mismatch(c *column, b []byte, i, idx int) int {
	if isNull(b, i) {
		if c.required {
			return d.failf(ruleMissing, "required, but null at byte %d", d.pos(i))
		}
		c.setNull(idx)
		return i + 4
	}
	if c.extra && c.kind == kindString {
		return d.jsonText(c, b, i, idx)
	}
	end := d.skip(b, i, 0)
	if end < 0 {
		return -1
	}
	d.failf(ruleWrongType, "expected %s, got %s at byte %d", c.kind.want(), describe(b[i:end]), d.pos(i))
	d.fail.advice = advice(c.kind, b[i])
	return -1
}

// adviseExtra is the advice for a column that no contract can give another type.
func (f *failure) adviseExtra() {
	if f.rule == ruleWrongType || f.rule == ruleOutOfRange {
		f.advice = "; on_new_field: add gave the table's column its type by the field's first values, and it keeps it: send such values, or leave the old rows and begin a new table"
	}
}

// advice says what to do about a value of a common wrong type.
func advice(k kind, first byte) string {
	number := first == '-' || first >= '0' && first <= '9'
	switch {
	case k == kindString && number:
		return "; put it in quotes at the source, or declare the column long, double or decimal"
	case k == kindString && (first == 't' || first == 'f'):
		return "; put it in quotes at the source, or declare the column boolean"
	case (k == kindInt64 || k == kindInt32 || k == kindFloat64 || k == kindFloat32) && first == '"':
		return "; send it without quotes, or declare the column string"
	case k == kindBool && (first == '"' || number):
		return "; send true or false without quotes, or declare the column by what it holds"
	}
	return ""
}

// describe names a valid JSON value.
func describe(v []byte) string {
	switch v[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "the string " + clip(string(v))
	case 't', 'f', 'n':
		return string(v)
	default:
		return "the number " + clip(string(v))
	}
}

// found names what stands where JSON wants something else.
func found(b []byte) string {
	n := 0
	for n < len(b) && n < 20 && (b[n]|0x20 >= 'a' && b[n]|0x20 <= 'z') {
		n++
	}
	if n > 1 {
		return string(b[:n])
	}
	r, size := utf8.DecodeRune(b)
	if r == utf8.RuneError && size <= 1 {
		return fmt.Sprintf("byte 0x%02x", b[0])
	}
	return strconv.Quote(string(r))
}

// clip shortens what a message quotes.
func clip(s string) string {
	const limit = 64
	if len(s) <= limit {
		return s
	}
	n := limit
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
