package files

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/jsontext"
)

// CSVOptions say how CSV files are written. The zero value is RFC 4180 with a header.
type CSVOptions struct {
	NoHeader  bool
	Columns   []string // names, in order; default the header's
	Delimiter byte     // default a comma; a tab for .tsv
	Null      string   // an unquoted field that is this text is null; default the empty one
}

// csvReader reads the records of a CSV file as JSON objects. Fields are text; those of
// columns that the contract has as numbers, booleans, lists or structs become that,
// where they look like it.
type csvReader struct {
	o       CSVOptions
	cut     csvCutter
	kinds   func(column string) csvKind
	columns []csvColumn
	from    int64
	record  int64 // number of the next record
	out     []byte
	pending *block // a bad record that comes after out
	closeFn func()
}

type csvKind uint8

const (
	csvText csvKind = iota
	csvNumber
	csvBool
	csvNested
)

type csvColumn struct {
	key  []byte // `"name":`
	kind csvKind
}

// csvKinds looks a contract's columns up.
func csvKinds(s *arrow.Schema) func(string) csvKind {
	return func(name string) csvKind {
		if s == nil {
			return csvText
		}
		f, ok := s.FieldsByName(name)
		if !ok {
			return csvText
		}
		switch f[0].Type.(type) {
		case *arrow.BooleanType:
			return csvBool
		case *arrow.ListType, *arrow.StructType:
			return csvNested
		case *arrow.Int64Type, *arrow.Int32Type, *arrow.Float64Type, *arrow.Float32Type:
			return csvNumber
		default:
			return csvText // decimals and times are read from strings
		}
	}
}

func newCSVReader(r io.Reader, o CSVOptions, kinds func(string) csvKind, maxRow int, from int64, closeFn func()) (*csvReader, error) {
	if o.Delimiter == 0 {
		o.Delimiter = ','
	}
	c := &csvReader{o: o, cut: csvCutter{r: r, delim: o.Delimiter, limit: maxRow}, kinds: kinds, from: from, closeFn: closeFn}
	names := o.Columns
	if !o.NoHeader {
		_, err := c.cut.next()
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if bad := (*Bad)(nil); errors.As(err, &bad) {
			return nil, damaged("the header: %w", err)
		}
		if err != nil {
			return nil, err
		}
		if len(names) == 0 {
			for i := range c.cut.fields {
				names = append(names, string(c.cut.text(i)))
			}
			names[0] = strings.TrimPrefix(names[0], "\xef\xbb\xbf")
		}
	}
	seen := map[string]bool{}
	for i, n := range names {
		n = strings.TrimSpace(n)
		if n == "" {
			return nil, damaged("column %d of the header has no name", i+1)
		}
		if seen[n] {
			return nil, damaged("the header names column %q twice", n)
		}
		seen[n] = true
		c.columns = append(c.columns, csvColumn{append(jsontext.AppendString(nil, n), ':'), kinds(n)})
	}
	return c, nil
}

func (c *csvReader) close() { c.closeFn() }

// next implements rowReader.
func (c *csvReader) next() (block, error) {
	if b := c.pending; b != nil {
		c.pending = nil
		return *b, nil
	}
	b := block{}
	for len(c.out) < blockBytes {
		raw, err := c.cut.next()
		bad := (*Bad)(nil)
		if err != nil && !errors.As(err, &bad) {
			if b.rows > 0 {
				c.cut.err = err // comes again
				break
			}
			return b, err
		}
		n := c.record
		c.record++
		if n < c.from {
			continue
		}
		if bad == nil && len(c.cut.fields) != len(c.columns) {
			bad = &Bad{RuleCSV, fmt.Sprintf("the record has %d fields, want %d", len(c.cut.fields), len(c.columns))}
		}
		if bad != nil {
			c.pending = &block{first: n, rows: 1, data: bytes.Clone(raw), bad: bad}
			break
		}
		if b.rows == 0 {
			b.first = n
		}
		b.rows++
		c.row()
	}
	if b.rows == 0 {
		b, c.pending = *c.pending, nil
		return b, nil
	}
	b.data, c.out = c.out, make([]byte, 0, len(c.out)+len(c.out)/8)
	return b, nil
}

// row appends the record that was cut as an object on a line.
func (c *csvReader) row() {
	dst := append(c.out, '{')
	for i := range c.columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, c.columns[i].key...)
		f, text := c.cut.fields[i], c.cut.text(i)
		if !f.quoted && string(text) == c.o.Null {
			dst = append(dst, "null"...)
			continue
		}
		dst = appendCSV(dst, text, c.columns[i].kind)
	}
	c.out = append(dst, '}', '\n')
}

func appendCSV(dst, text []byte, kind csvKind) []byte {
	switch kind {
	case csvNumber:
		if n, ok := number(bytes.TrimSpace(text)); ok {
			return append(dst, n...)
		}
	case csvBool:
		if t := bytes.TrimSpace(text); bytes.EqualFold(t, []byte("true")) || bytes.EqualFold(t, []byte("false")) {
			return append(dst, bytes.ToLower(t)...)
		}
	case csvNested:
		if t := bytes.TrimSpace(text); len(t) > 0 && (t[0] == '[' || t[0] == '{') {
			var one bytes.Buffer
			if json.Compact(&one, t) == nil { // a line break in it would end the row
				return append(dst, one.Bytes()...)
			}
		}
	}
	return jsontext.AppendString(dst, text)
}

// number returns a number as JSON has it: 007 is 7, +1 is 1, .5 is 0.5.
func number(t []byte) ([]byte, bool) {
	neg := false
	if len(t) > 0 && (t[0] == '-' || t[0] == '+') {
		neg, t = t[0] == '-', t[1:]
	}
	for len(t) > 1 && t[0] == '0' && t[1] >= '0' && t[1] <= '9' {
		t = t[1:]
	}
	plain := len(t) > 0 && t[0] >= '0' && t[0] <= '9'
	if len(t) > 1 && t[0] == '.' {
		t, plain = append([]byte{'0'}, t...), true
	}
	if !plain {
		return nil, false
	}
	if t[len(t)-1] == '.' {
		t = t[:len(t)-1]
	}
	if neg {
		t = append([]byte{'-'}, t...)
	}
	return t, json.Valid(t)
}
