package lakehouse

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Statistics are JSON that other writers make, too, and a table may have many files with
// many columns each, of which a condition needs one or two. So they are read in one pass
// over the text, without memory of its own, and only what is asked for is looked at.

// statsPath is a tree of the columns that are asked for.
type statsPath struct {
	name     string
	at       int // of the column among those asked for; -1 for a struct that is none itself
	children []*statsPath
}

// add returns the tree with one more column. A nil tree is empty.
func (p *statsPath) add(path []string, at int) *statsPath {
	if p == nil {
		p = &statsPath{at: -1}
	}
	node := p
	for _, name := range path {
		next := node.child(name)
		if next == nil {
			next = &statsPath{name: name, at: -1}
			node.children = append(node.children, next)
		}
		node = next
	}
	node.at = at
	return p
}

func (p *statsPath) child(name string) *statsPath {
	for _, c := range p.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// columnStats is what statistics say of a column.
type columnStats struct {
	min, max string // JSON; "" when there is none
	nulls    int64  // -1: not known
}

// fileStats is what was asked for of a file's statistics.
type fileStats struct {
	rows    int64 // -1: not known
	columns []columnStats
}

// read fills in what statistics say of columns. It says false of what is no JSON of the
// form that statistics have; nothing in the result is to be relied on then.
func (s *fileStats) read(text string, paths *statsPath, columns int) bool {
	s.rows = -1
	s.columns = append(s.columns[:0], make([]columnStats, columns)...)
	for i := range s.columns {
		s.columns[i].nulls = -1
	}
	r := statsReader{text: text}
	r.object(func(key string) {
		switch key {
		case "numRecords":
			s.rows = count(r.value())
		case "minValues":
			r.columns(paths, func(at int, raw string) { s.columns[at].min = raw })
		case "maxValues":
			r.columns(paths, func(at int, raw string) { s.columns[at].max = raw })
		case "nullCount":
			r.columns(paths, func(at int, raw string) { s.columns[at].nulls = count(raw) })
		default:
			r.value()
		}
	})
	r.blanks()
	return !r.bad && r.at == len(r.text)
}

func count(raw string) int64 {
	if n, err := strconv.ParseInt(raw, 10, 64); err == nil && n >= 0 {
		return n
	}
	return -1
}

// statsReader walks over a JSON text. Once something is not as it must be, it stands at
// the end and is bad.
type statsReader struct {
	text  string
	at    int
	depth int
	bad   bool
}

func (r *statsReader) fail() { r.bad, r.at = true, len(r.text) }

var (
	blank = [256]bool{' ': true, '\t': true, '\r': true, '\n': true}
	// ends are the bytes that end a number, true, false or null.
	ends = [256]bool{' ': true, '\t': true, '\r': true, '\n': true, ',': true, '}': true, ']': true}
)

func (r *statsReader) blanks() {
	for r.at < len(r.text) && blank[r.text[r.at]] {
		r.at++
	}
}

// next skips blanks and returns the byte that follows, 0 at the end.
func (r *statsReader) next() byte {
	r.blanks()
	if r.at == len(r.text) {
		return 0
	}
	return r.text[r.at]
}

func (r *statsReader) take(b byte) bool {
	if r.next() != b {
		return false
	}
	r.at++
	return true
}

// maxDepth is far more than any schema has.
const maxDepth = 200

// object calls member for each key; it has to read the value.
func (r *statsReader) object(member func(key string)) {
	r.list('{', '}', func() {
		key := r.key()
		if !r.take(':') {
			r.fail()
			return
		}
		member(key)
	})
}

// list reads what stands between brackets, parted by commas.
func (r *statsReader) list(open, end byte, element func()) {
	if r.depth++; r.depth > maxDepth || !r.take(open) {
		r.fail()
		return
	}
	defer func() { r.depth-- }()
	if r.take(end) {
		return
	}
	for !r.bad {
		element()
		if r.take(end) {
			return
		}
		if !r.take(',') {
			r.fail()
		}
	}
}

func (r *statsReader) key() string {
	raw := r.string()
	if len(raw) < 2 {
		return ""
	}
	if strings.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	var key string
	if json.Unmarshal([]byte(raw), &key) != nil {
		r.fail()
	}
	return key
}

// string returns a string with its quotes, as it stands there.
func (r *statsReader) string() string {
	if !r.take('"') {
		r.fail()
		return ""
	}
	start := r.at - 1
	if n := strings.IndexByte(r.text[r.at:], '"'); n >= 0 && strings.IndexByte(r.text[r.at:r.at+n], '\\') < 0 {
		r.at += n + 1
		return r.text[start:r.at]
	}
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case '"':
			r.at++
			return r.text[start:r.at]
		case '\\':
			r.at++
		}
		r.at++
	}
	r.fail()
	return ""
}

// value returns a value as it stands there.
func (r *statsReader) value() string {
	b := r.next()
	start := r.at
	switch b {
	case '"':
		return r.string()
	case '{':
		r.object(func(string) { r.value() })
	case '[':
		r.list('[', ']', func() { r.value() })
	default:
		for r.at < len(r.text) && !ends[r.text[r.at]] {
			r.at++
		}
		if r.at == start {
			r.fail()
		}
	}
	return r.text[start:r.at]
}

// columns calls found for the columns of a tree that an object has values of.
func (r *statsReader) columns(p *statsPath, found func(at int, raw string)) {
	if r.next() != '{' {
		r.value()
		return
	}
	r.object(func(key string) {
		switch c := p.child(key); {
		case c == nil:
			r.value()
		case len(c.children) > 0 && r.next() == '{':
			r.columns(c, found)
		default:
			if raw := r.value(); c.at >= 0 {
				found(c.at, raw)
			}
		}
	})
}
