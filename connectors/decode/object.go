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
// A key has a slot: slot 0 stands for the beginning of the object, column c
// has slot c+1, and the names of other fields follow as they are first seen.
// The last slot stands for every name that found no room.
type object struct {
	fields []column
	level  int // nesting: the row is 1

	slots []key
	used  int // slots before this one have a name
	index map[string]int
	gen   uint64 // counts the objects read

	others map[string]struct{} // names in this object that share the last slot
}

// key is a name as it is expected in the text: quoted, with the colon, and
// without escapes. It fills a cache line, which all that happens to an
// expected key stays within.
type key struct {
	w0, m0 uint64 // the first eight bytes of text, and which of them count
	w1, m1 uint64 // the second eight
	seen   uint64 // the object's generation in which the key was last seen
	size   int32  // of text
	next   int32  // the slot that came after this one last time
	text   string // `"name":`
}

func newObject(fields []arrow.Field, level int) *object {
	o := &object{level: level, used: 1, index: map[string]int{}, slots: make([]key, 1+len(fields)+maxInterned+1)}
	for i := range o.slots {
		// The contract's order, until a row says otherwise.
		o.slots[i] = key{w0: 1, next: int32(min(i+1, len(o.slots)-1))} // under an empty mask 1 never matches
	}
	for _, f := range fields {
		o.fields = append(o.fields, newColumn(f, level))
		o.addKey(f.Name)
	}
	return o
}

// rest is the slot of the names that found no room.
func (o *object) rest() int { return len(o.slots) - 1 }

func (o *object) addKey(name string) int {
	slot := o.used
	o.used++
	o.index[name] = slot
	k := &o.slots[slot]
	k.text = `"` + name + `":`
	k.size = int32(len(k.text))
	for i := range len(name) {
		if name[i] < 0x20 || name[i] == '"' || name[i] == '\\' {
			return slot // written with escapes, and so never as expected
		}
	}
	k.w0, k.m0 = word(k.text, 0)
	k.w1, k.m1 = word(k.text, 8)
	return slot
}

// name is the key without its quotes and colon.
func (k *key) name() string { return k.text[1 : len(k.text)-2] }

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
	columns, slot := 0, 0
	if i = space(b, i+1); b[i] == '}' {
		return d.closeObject(o, 0, open, i+1, idx)
	}
	for {
		prev, start := slot, i
		slot = int(o.slots[prev].next)
		k := &o.slots[slot]
		if binary.LittleEndian.Uint64(b[i:])&k.m0 == k.w0 && binary.LittleEndian.Uint64(b[i+8:])&k.m1 == k.w1 && (k.size <= 16 || k.rest(b, i)) {
			i += int(k.size)
		} else {
			if slot, i = d.key(o, b, i); i < 0 {
				return -1
			}
			o.slots[prev].next = int32(slot)
			k = &o.slots[slot]
		}
		if k.seen == gen && slot != o.rest() {
			return d.duplicate(k.name(), start)
		}
		k.seen = gen
		if b[i] <= ' ' {
			i = space(b, i)
		}
		if slot <= len(o.fields) {
			columns++
			c := &o.fields[slot-1]
			if i = d.value(c, b, i, idx); i < 0 {
				d.fail.within(c.name)
				if c.extra {
					d.fail.adviseExtra()
				}
				return -1
			}
		} else {
			from := i
			if i = d.skip(b, i, o.level); i < 0 {
				return -1
			}
			if d.adding && o.level == 1 {
				d.notice(o, slot, b, from, i)
			}
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
	}
	if b[i] != '}' {
		return d.syntax(b, i, `"," or "}"`)
	}
	return d.closeObject(o, columns, open, i+1, idx)
}

// rest reports whether the text beyond its first 16 bytes follows at b[i].
func (k *key) rest(b []byte, i int) bool {
	return len(b)-i > len(k.text) && string(b[i+16:i+len(k.text)]) == k.text[16:]
}

// closeObject fills the columns that the object did not name, and returns end.
func (d *Decoder) closeObject(o *object, columns, open, end, idx int) int {
	if columns == len(o.fields) {
		return end
	}
	for i := range o.fields {
		if o.slots[i+1].seen == o.gen {
			continue
		}
		c := &o.fields[i]
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
// returns the key's slot and the position after the colon, or -1 after a failure.
func (d *Decoder) key(o *object, b []byte, i int) (slot, end int) {
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
	slot, known := o.index[string(name)]
	switch {
	case known:
	case d.plan.opts.OnNewField == Quarantine:
		d.failf(ruleUnknownColumn, "no such column in the contract, at byte %d; add it there, or set on_new_field: ignore", d.pos(i))
		d.fail.within(string(name))
		return 0, -1
	case o.used < o.rest() && len(name) <= maxInternedName:
		slot = o.addKey(string(name))
	default:
		if _, twice := o.others[string(name)]; twice {
			return 0, d.duplicate(string(name), i)
		}
		if o.others == nil {
			o.others = map[string]struct{}{}
		}
		o.others[string(name)] = struct{}{}
		slot = o.rest()
		if d.adding {
			d.restName = string(name)
		}
	}
	return slot, end + 1
}

func (d *Decoder) duplicate(name string, i int) int {
	d.failf(ruleDuplicate, "the key is there twice, the second time at byte %d", d.pos(i))
	d.fail.within(name)
	return -1
}
