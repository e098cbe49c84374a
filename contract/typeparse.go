package contract

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/internal/strictyaml"
)

// maxTypeDepth bounds how deep list and struct nest: the parser recurses, and
// so does everything that walks a type.
const maxTypeDepth = 16

// TypeError says where a type's text is wrong.
type TypeError struct {
	Text    string
	Offset  int // bytes from the beginning of Text
	Message string
}

// Error returns the message with the position, counted from 1.
func (e *TypeError) Error() string {
	if e.Offset == 0 {
		return fmt.Sprintf("%s: %s", strictyaml.Quote(e.Text), e.Message)
	}
	return fmt.Sprintf("%s, character %d: %s", strictyaml.Quote(e.Text), 1+len([]rune(e.Text[:e.Offset])), e.Message)
}

// ParseType reads a type as contracts write it. Space between its parts does
// not matter. The error is a [*TypeError].
func ParseType(text string) (Type, error) {
	p := typeParser{text: text}
	t, err := p.parse(0)
	if err != nil {
		return Type{}, err
	}
	if p.skip(); p.at < len(text) {
		return Type{}, p.errorf(p.at, "nothing may follow the type here; remove %s", strictyaml.Quote(text[p.at:]))
	}
	return t, nil
}

type typeParser struct {
	text string
	at   int
}

func (p *typeParser) errorf(at int, format string, args ...any) error {
	return &TypeError{Text: p.text, Offset: at, Message: fmt.Sprintf(format, args...)}
}

func (p *typeParser) skip() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// word takes a run of letters, digits and underscores and returns where it began.
func (p *typeParser) word() (string, int) {
	p.skip()
	from := p.at
	for p.at < len(p.text) && isWord(p.text[p.at]) {
		p.at++
	}
	return p.text[from:p.at], from
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// take takes one character if it comes next.
func (p *typeParser) take(c byte) bool {
	p.skip()
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *typeParser) parse(depth int) (Type, error) {
	name, from := p.word()
	if depth > maxTypeDepth {
		return Type{}, p.errorf(from, "list and struct nest more than %d deep; make it flatter", maxTypeDepth)
	}
	switch name {
	case "decimal":
		return p.decimal()
	case "list":
		return p.list(depth)
	case "struct":
		return p.structure(depth)
	}
	for kind := String; kind <= Date; kind++ {
		if kindNames[kind] == name {
			return Type{Kind: kind}, nil
		}
	}
	if name == "" {
		return Type{}, p.errorf(p.at, "a type is missing here; the types are %s", typeList)
	}
	return Type{}, p.errorf(from, "unknown type %s; %s", name, typeHint(name))
}

const typeList = "string, long, int, double, float, boolean, timestamp, date, decimal(p,s), list<T> and struct<a: T, b: T>"

// otherNames are types as other systems call them.
var otherNames = map[string]string{
	"bigint": "long", "int64": "long", "integer": "int", "int32": "int", "smallint": "int", "int16": "int", "uint32": "long",
	"float64": "double", "number": "double", "real": "float", "float32": "float", "bool": "boolean",
	"text": "string", "varchar": "string", "char": "string", "uuid": "string", "str": "string", "json": "string",
	"datetime": "timestamp", "timestamptz": "timestamp", "time": "timestamp",
	"numeric": "decimal(p,s)", "array": "list<T>", "object": "struct<a: T>", "record": "struct<a: T>", "row": "struct<a: T>",
	"map": "list<struct<key: string, value: T>>",
}

func typeHint(name string) string {
	hint := otherNames[strings.ToLower(name)]
	if hint == "" {
		hint = strictyaml.Suggest(name, kindNames[1:])
	}
	if hint == "" {
		return "the types are " + typeList
	}
	return "did you mean " + hint + "?"
}

func (p *typeParser) decimal() (Type, error) {
	const form = "write decimal(p,s): p digits in all, s of them after the point, such as decimal(18,2)"
	if !p.take('(') {
		return Type{}, p.errorf(p.at, "precision and scale are missing; %s", form)
	}
	precision, at, err := p.number(form)
	if err != nil {
		return Type{}, err
	}
	if precision < 1 || precision > MaxPrecision {
		return Type{}, p.errorf(at, "precision %d must be between 1 and %d", precision, MaxPrecision)
	}
	if !p.take(',') {
		return Type{}, p.errorf(p.at, "the scale is missing; %s", form)
	}
	scale, at, err := p.number(form)
	if err != nil {
		return Type{}, err
	}
	if scale > precision {
		return Type{}, p.errorf(at, "scale %d must be at most the precision %d", scale, precision)
	}
	if !p.take(')') {
		return Type{}, p.errorf(p.at, "the closing ) is missing; %s", form)
	}
	return Type{Kind: Decimal, Precision: precision, Scale: scale}, nil
}

func (p *typeParser) number(form string) (int32, int, error) {
	digits, at := p.word()
	v, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return 0, at, p.errorf(at, "a number must stand here; %s", form)
	}
	return int32(v), at, nil
}

func (p *typeParser) list(depth int) (Type, error) {
	if !p.take('<') {
		return Type{}, p.errorf(p.at, "the element's type is missing; write list<T>, such as list<string>")
	}
	elem, err := p.parse(depth + 1)
	if err != nil {
		return Type{}, err
	}
	if !p.take('>') {
		return Type{}, p.errorf(p.at, "the closing > of list<…> is missing")
	}
	return Type{Kind: List, Elem: &elem}, nil
}

func (p *typeParser) structure(depth int) (Type, error) {
	if !p.take('<') {
		return Type{}, p.errorf(p.at, "the fields are missing; write struct<a: T, b: T>, such as struct<lat: double, lon: double>")
	}
	t := Type{Kind: Struct}
	seen := map[string]bool{}
	for {
		name, at := p.word()
		lower := strings.ToLower(name)
		switch {
		case name == "":
			return Type{}, p.errorf(p.at, "a field's name must stand here: letters, digits and _")
		case name[0] >= '0' && name[0] <= '9':
			return Type{}, p.errorf(at, "the field's name %s begins with a digit; begin it with a letter or _", name)
		case len(name) > 128:
			return Type{}, p.errorf(at, "the field's name is longer than 128 characters")
		case seen[lower]:
			return Type{}, p.errorf(at, "the struct has the field %s twice (upper and lower case count as the same)", name)
		}
		seen[lower] = true
		if !p.take(':') {
			return Type{}, p.errorf(p.at, "a colon and the type of %s are missing; write %s: T", name, name)
		}
		typ, err := p.parse(depth + 1)
		if err != nil {
			return Type{}, err
		}
		t.Fields = append(t.Fields, Column{Name: name, Type: typ})
		if p.take(',') {
			continue
		}
		if p.take('>') {
			return t, nil
		}
		return Type{}, p.errorf(p.at, "a comma or the closing > of struct<…> is missing")
	}
}
