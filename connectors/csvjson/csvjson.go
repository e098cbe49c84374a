// Package csvjson turns CSV with a header into JSON rows, one object a line,
// whose values have the types of the columns they are meant for.
//
// CSV has text only, and the decoder of JSON rows takes no text for a number. So
// a field is written as the column of its name wants it: bare where the column
// is a number and the text is one, `true` or `false` for a boolean, as it is for
// a list or a struct that the text is valid JSON of, and as a string otherwise.
// What is no number in the column of a number therefore arrives as a string, and
// the row goes to quarantine with its text. An empty field is null.
//
// The package knows nothing of contracts, HTTP or Benthos: whoever calls it
// says what kind each column is.
package csvjson

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/jsontext"
)

// Kind is how the fields of a column are written.
type Kind uint8

// The kinds. Guess is for columns that nobody has declared: numbers and
// booleans bare, the rest strings.
const (
	Guess Kind = iota
	Text
	Number
	Bool
	Time // a number is Unix time and stays bare
	Nested
)

// KindOf returns the kind of a column of an Arrow type.
func KindOf(t arrow.DataType) Kind {
	switch t.ID() {
	case arrow.INT32, arrow.INT64, arrow.FLOAT32, arrow.FLOAT64, arrow.DECIMAL128:
		return Number
	case arrow.BOOL:
		return Bool
	case arrow.TIMESTAMP:
		return Time
	case arrow.LIST, arrow.STRUCT:
		return Nested
	}
	return Text
}

// Options of [Convert].
type Options struct {
	Delimiter rune                   // 0: a comma
	Kind      func(name string) Kind // of the column with a header's name; nil: all are guessed
}

// Error is what is wrong with CSV; its text names the line.
type Error struct{ text string }

func (e *Error) Error() string { return e.text }

func errorf(format string, args ...any) *Error { return &Error{fmt.Sprintf(format, args...)} }

// flushAt is how many bytes of rows are collected before they are written.
const flushAt = 32 << 10

// Convert reads CSV whose first record is the header, and writes a JSON object
// and a newline for each other record. Malformed CSV is an [Error]; any other error
// is the reader's or the writer's own.
func Convert(w io.Writer, r io.Reader, o Options) error {
	in := csv.NewReader(skipMark(r))
	in.ReuseRecord = true
	in.FieldsPerRecord = -1
	if o.Delimiter != 0 {
		in.Comma = o.Delimiter
	}
	head, err := in.Read()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return malformed(err)
	}
	c, err := newConverter(head, o)
	if err != nil {
		return err
	}
	var out []byte
	for {
		rec, err := in.Read()
		switch {
		case errors.Is(err, io.EOF):
			_, err = w.Write(out)
			return err
		case err != nil:
			return malformed(err)
		case len(rec) != len(c.keys):
			line, _ := in.FieldPos(0)
			return errorf("line %d has %d fields, the header has %d; quote fields that contain the delimiter", line, len(rec), len(c.keys))
		}
		if out = c.row(out, rec); len(out) >= flushAt {
			if _, err := w.Write(out); err != nil {
				return err
			}
			out = out[:0]
		}
	}
}

func malformed(err error) error {
	if p, ok := errors.AsType[*csv.ParseError](err); ok {
		return errorf("line %d: %v", p.Line, p.Err)
	}
	return err
}

// converter writes records of one header.
type converter struct {
	keys  []string // as JSON, with what parts them from the value before: {"a":
	kinds []Kind
}

func newConverter(head []string, o Options) (*converter, error) {
	c := &converter{}
	seen := map[string]bool{}
	for i, name := range head {
		name = strings.TrimSpace(name)
		if name == "" {
			return nil, errorf("line 1: column %d of the header has no name; the first line must name every column", i+1)
		}
		if seen[name] {
			return nil, errorf("line 1: the header names %q twice", name)
		}
		seen[name] = true
		kind := Guess
		if o.Kind != nil {
			kind = o.Kind(name)
		}
		before := byte(',')
		if i == 0 {
			before = '{'
		}
		c.keys = append(c.keys, string(append(jsontext.AppendString([]byte{before}, name), ':')))
		c.kinds = append(c.kinds, kind)
	}
	return c, nil
}

func (c *converter) row(out []byte, rec []string) []byte {
	for i, v := range rec {
		out = append(out, c.keys[i]...)
		out = appendValue(out, c.kinds[i], v)
	}
	return append(out, '}', '\n')
}

func appendValue(out []byte, k Kind, v string) []byte {
	if v == "" {
		return append(out, "null"...)
	}
	t := v
	if k != Text {
		t = strings.TrimSpace(v)
	}
	switch k {
	case Number, Time:
		if isNumber(t) {
			return append(out, t...)
		}
	case Bool, Guess:
		if len(t) <= len("false") {
			if low := strings.ToLower(t); low == "true" || low == "false" {
				return append(out, low...)
			}
		}
		if k == Guess && isNumber(t) {
			return append(out, t...)
		}
	case Nested:
		var b bytes.Buffer
		if json.Compact(&b, []byte(t)) == nil { // on one line, whatever it was on before
			return append(out, b.Bytes()...)
		}
	case Text:
	}
	return jsontext.AppendString(out, v)
}

// isNumber reports whether s is a number as JSON writes them.
func isNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	whole := digits(s)
	if whole == 0 || whole > 1 && s[0] == '0' {
		return false
	}
	if s = s[whole:]; strings.HasPrefix(s, ".") {
		n := digits(s[1:])
		if n == 0 {
			return false
		}
		s = s[1+n:]
	}
	if s != "" && (s[0] == 'e' || s[0] == 'E') {
		if s = s[1:]; s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		return s != "" && digits(s) == len(s)
	}
	return s == ""
}

func digits(s string) (n int) {
	for n < len(s) && s[n]-'0' <= 9 {
		n++
	}
	return n
}

// skipMark leaves out a byte order mark.
func skipMark(r io.Reader) io.Reader {
	head := make([]byte, 3)
	n, err := io.ReadFull(r, head)
	head = bytes.TrimPrefix(head[:n], []byte("\xef\xbb\xbf"))
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return io.MultiReader(bytes.NewReader(head), failing{err})
	}
	return io.MultiReader(bytes.NewReader(head), r)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
