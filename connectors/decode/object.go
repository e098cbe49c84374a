package decode

import (
	"encoding/binary"

	"github.com/apache/arrow/go/v17/arrow"
)

// maxInterned bounds how many names of fields that are no columns an object
// remembers, and maxInternedName how long those may be.
const (
	maxInterned     = 64
	maxInternedName = 256
)

// object is a row or a struct: its columns, and what is known of its keys.
//
// Keys are numbered: first the columns, then the names of other fields in the
// order in which they were first seen. The last number, len(seen), stands for
// every name that found no room.
type object struct {
	fields []column
	level  int // nesting: the row is 1

	keys  []key
	index map[string]int
	next  []int    // next[k+1] is the key that came after key k last time, next[0] the first one
	seen  []uint64 // generation in which the key was last seen
	gen   uint64   // counts the objects read

	others map[string]struct{} // names in this object that have no number of their own
}

// key is a name as it is expected in the text: quoted, with the colon, and
// without escapes.
type key struct {
	name   string
	text   string // `"name":`
	w0, m0 uint64 // the first eight bytes of text, and which of them count
	w1, m1 uint64 // the second eight
}

func newObject(fields []arrow.Field, level int) *object {
	room := len(fields) + maxInterned
	o := &object{level: level, index: map[string]int{}, seen: make([]uint64, room), next: make([]int, room+2)}
	for i := range o.next {
		o.next[i] = i // the contract's order, until a row says otherwise
	}
	for _, f := range fields {
		o.fields = append(o.fields, newColumn(f, level))
		o.addKey(f.Name)
	}
	return o
}

func (o *object) addKey(name string) int {
	k := len(o.keys)
	o.index[name] = k
	o.keys = append(o.keys, newKey(name))
	return k
}

func newKey(name string) key {
	k := key{name: name, text: `"` + name + `":`, w0: 1} // w0 under an empty mask: never matches
	for i := range len(name) {
		if name[i] < 0x20 || name[i] == '"' || name[i] == '\\' {
			return k // its text has escapes
		}
	}
	k.w0, k.m0 = word(k.text, 0)
	k.w1, k.m1 = word(k.text, 8)
	return k
}

// word returns bytes [from, from+8) of s as a little-endian word, and a mask of those that exist.
func word(s string, from int) (w, mask uint64) {
	for i := from; i < min(from+8, len(s)); i++ {
		w |= uint64(s[i]) << (8 * (i - from))
		mask |= 0xff << (8 * (i - from))
	}
	return w, mask
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// space returns the position of the first byte at or after i that is no space.
func space(b []byte, i int) int {
	for isSpace(b[i]) {
		i++
	}
	return i
}

// object reads the object that begins at b[i] into index idx of o's columns
// and returns the position after it, or -1 after a failure.
func (d *Decoder) object(o *object, b []byte, i, idx int) int {
	o.gen++
	gen := o.gen
	if len(o.others) > 0 {
		o.others = nil // rare, and clearing a map that was large once stays slow
	}
	open := i
	columns, prev := 0, 0
	if i = space(b, i+1); b[i] == '}' {
		return d.closeObject(o, 0, open, i+1, idx)
	}
	for {
		k, start := o.next[prev], i
		if k < len(o.keys) && o.keys[k].at(b, i) {
			i += len(o.keys[k].text)
		} else if k, i = d.key(o, b, i, prev); i < 0 {
			return -1
		}
		if k < len(o.seen) {
			if o.seen[k] == gen {
				return d.duplicate(o.keys[k].name, start)
			}
			o.seen[k] = gen
		}
		if b[i] <= ' ' {
			i = space(b, i)
		}
		if k < len(o.fields) {
			columns++
			c := &o.fields[k]
			if i = d.value(c, b, i, idx); i < 0 {
				d.fail.within(c.name)
				return -1
			}
		} else if i = d.skip(b, i, o.level); i < 0 {
			return -1
		}
		if b[i] <= ' ' {
			i = space(b, i)
		}
		if b[i] != ',' {
			break
		}
		if i++; b[i] <= ' ' {
			i = space(b, i)
		}
		prev = k + 1
	}
	if b[i] != '}' {
		return d.syntax(b, i, `"," or "}"`)
	}
	return d.closeObject(o, columns, open, i+1, idx)
}

// at reports whether the key's text begins at b[i].
func (k *key) at(b []byte, i int) bool {
	if binary.LittleEndian.Uint64(b[i:])&k.m0 != k.w0 || binary.LittleEndian.Uint64(b[i+8:])&k.m1 != k.w1 {
		return false
	}
	return len(k.text) <= 16 || len(b)-i > len(k.text) && string(b[i+16:i+len(k.text)]) == k.text[16:]
}

// closeObject fills the columns that the object did not name, and returns end.
func (d *Decoder) closeObject(o *object, columns, open, end, idx int) int {
	if columns == len(o.fields) {
		return end
	}
	for k := range o.fields {
		if o.seen[k] == o.gen {
			continue
		}
		c := &o.fields[k]
		if c.required {
			d.failf(ruleMissing, "required, but missing from the object at byte %d", d.pos(open))
			d.fail.within(c.name)
			return -1
		}
		c.setNull(idx)
	}
	return end
}

// key reads a key that is not the expected one, and the colon after it. It
// returns the key's number and the position after the colon, or -1 after a failure.
func (d *Decoder) key(o *object, b []byte, i, prev int) (k, end int) {
	if b[i] != '"' {
		return 0, d.syntax(b, i, "a key in double quotes")
	}
	name, end := d.text(b, i)
	if end < 0 {
		return 0, -1
	}
	if b[end] <= ' ' {
		end = space(b, end)
	}
	if b[end] != ':' {
		return 0, d.syntax(b, end, `":" after the key`)
	}
	k, known := o.index[string(name)]
	switch {
	case known:
	case d.plan.opts.OnNewField == Quarantine:
		d.failf(ruleUnknownColumn, "no such column in the contract, at byte %d; add it there, or set on_new_field: ignore", d.pos(i))
		d.fail.within(string(name))
		return 0, -1
	case len(o.keys) < len(o.seen) && len(name) <= maxInternedName:
		k = o.addKey(string(name))
	default:
		if _, twice := o.others[string(name)]; twice {
			return 0, d.duplicate(string(name), i)
		}
		if o.others == nil {
			o.others = map[string]struct{}{}
		}
		o.others[string(name)] = struct{}{}
		return len(o.seen), end + 1
	}
	o.next[prev] = k
	return k, end + 1
}

func (d *Decoder) duplicate(name string, i int) int {
	d.failf(ruleDuplicate, "the key is there twice, the second time at byte %d", d.pos(i))
	d.fail.within(name)
	return -1
}
