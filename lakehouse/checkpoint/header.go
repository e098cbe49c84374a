package checkpoint

import (
	"encoding/binary"
	"errors"
)

// pageHeader is what of a Parquet page's header is needed to read the page.
type pageHeader struct {
	kind                     int64 // pageData and so on
	uncompressed, compressed int64 // bytes
	crc                      int64
	hasCRC                   bool
	values, encoding         int64
	defEncoding, repEncoding int64 // of a data page
	nulls, rows              int64 // of a data page of version 2
	defBytes, repBytes       int64
	plain                    bool // not compressed, though the column is
}

// Kinds of pages.
const (
	pageData       = 0
	pageIndex      = 1
	pageDictionary = 2
	pageDataV2     = 3
)

// readHeader reads a header and returns its length. The library's own reader is not
// used, since on damaged files it does not stop, and allocates as it goes.
func readHeader(data []byte) (h pageHeader, size int, err error) {
	t := thrift{data: data}
	t.fields(func(id int16, typ byte) {
		switch id {
		case 1:
			h.kind = t.number(typ)
		case 2:
			h.uncompressed = t.number(typ)
		case 3:
			h.compressed = t.number(typ)
		case 4:
			h.crc, h.hasCRC = t.number(typ), true
		case 5:
			t.numbers(typ, &h.values, &h.encoding, &h.defEncoding, &h.repEncoding)
		case 7:
			t.numbers(typ, &h.values, &h.encoding)
		case 8:
			compressed := int64(1)
			t.numbers(typ, &h.values, &h.nulls, &h.rows, &h.encoding, &h.defBytes, &h.repBytes, &compressed)
			h.plain = compressed == 0
		default:
			t.skip(typ)
		}
	})
	if t.bad {
		return h, 0, errors.New("damaged page header")
	}
	return h, t.at, nil
}

// thrift reads Thrift's compact protocol. After an error bad is set, and nothing more is read.
type thrift struct {
	data  []byte
	at    int
	depth int
	bad   bool
}

// Types of the compact protocol.
const (
	thriftStop   = 0
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftI16    = 4
	thriftI32    = 5
	thriftI64    = 6
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftMap    = 11
	thriftStruct = 12

	thriftDepth = 16
)

// fields calls field for every field of a struct, which reads its value.
func (t *thrift) fields(field func(id int16, typ byte)) {
	if t.depth++; t.depth > thriftDepth {
		t.bad = true
	}
	id := int16(0)
	for !t.bad {
		head := t.byte()
		if head == thriftStop {
			break
		}
		if delta := head >> 4; delta != 0 {
			id += int16(delta)
		} else {
			id = int16(t.varint())
		}
		field(id, head&15)
	}
	t.depth--
}

// numbers reads the struct's fields 1, 2 and so on, which are integers or booleans, and skips the others.
func (t *thrift) numbers(typ byte, to ...*int64) {
	if typ != thriftStruct {
		t.bad = true
		return
	}
	t.fields(func(id int16, typ byte) {
		if id >= 1 && int(id) <= len(to) {
			*to[id-1] = t.number(typ)
			return
		}
		t.skip(typ)
	})
}

// number reads an integer or a boolean.
func (t *thrift) number(typ byte) int64 {
	switch typ {
	case thriftTrue:
		return 1
	case thriftFalse:
		return 0
	case thriftI16, thriftI32, thriftI64:
		return t.varint()
	}
	t.bad = true
	return 0
}

func (t *thrift) skip(typ byte) {
	switch typ {
	case thriftTrue, thriftFalse:
	case thriftByte:
		t.skipBytes(1)
	case thriftI16, thriftI32, thriftI64:
		t.varint()
	case thriftDouble:
		t.skipBytes(8)
	case thriftBinary:
		t.skipBytes(t.uvarint())
	case thriftStruct:
		t.fields(func(_ int16, typ byte) { t.skip(typ) })
	default: // lists, sets and maps are in no page header
		t.bad = true
	}
}

func (t *thrift) skipBytes(n uint64) {
	if n > uint64(len(t.data)-t.at) {
		t.bad = true
		return
	}
	t.at += int(n)
}

func (t *thrift) byte() byte {
	if t.at >= len(t.data) {
		t.bad = true
		return thriftStop
	}
	t.at++
	return t.data[t.at-1]
}

func (t *thrift) uvarint() uint64 {
	v, n := binary.Uvarint(t.data[t.at:])
	if n <= 0 {
		t.bad = true
		return 0
	}
	t.at += n
	return v
}

// varint reads a zigzag integer.
func (t *thrift) varint() int64 {
	v := t.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}
