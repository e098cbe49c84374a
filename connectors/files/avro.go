package files

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/hamba/avro/v2"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

// maxAvroBlock bounds a block of an Avro file, packed and unpacked. Writers make them
// of some 16 KB to 16 MB.
const maxAvroBlock = 128 << 20

// avroReader reads an Avro object container file. Its blocks say how many rows they
// have, so those that are not wanted are passed over, and one that is broken costs its
// own rows only.
type avroReader struct {
	s     *stream // whose fault an error is
	r     *bufio.Reader
	codec string
	sync  [16]byte
	value avroAppend
	zstd  *zstd.Decoder

	row, from int64
	rows      []byte // of the block being read: what is left of it
	left      int64  // rows in it
	closeFn   func()
}

// newAvroReader reads the header. s is where r gets its bytes from.
func newAvroReader(s *stream, r io.Reader, from int64, closeFn func()) (*avroReader, error) {
	a := &avroReader{s: s, r: bufio.NewReaderSize(r, 64<<10), from: from, closeFn: closeFn}
	var magic [4]byte
	if _, err := io.ReadFull(a.r, magic[:]); err != nil {
		return nil, a.broken("the header", err)
	}
	if string(magic[:]) != "Obj\x01" {
		return nil, damaged("not an Avro file: it does not begin with Obj and 1")
	}
	meta, err := a.metadata()
	if err != nil {
		return nil, a.broken("the header", err)
	}
	if _, err := io.ReadFull(a.r, a.sync[:]); err != nil {
		return nil, a.broken("the header", err)
	}
	schema, err := avro.ParseBytesWithCache(meta["avro.schema"], "", &avro.SchemaCache{})
	if err != nil {
		return nil, damaged("the schema: %w", err)
	}
	if schema.Type() != avro.Record {
		return nil, damaged("the schema is a %s; rows are made of records", schema.Type())
	}
	a.value = avroPlan(schema, map[string]*avroAppend{})
	switch a.codec = string(meta["avro.codec"]); a.codec {
	case "", "null", "deflate", "snappy", "bzip2":
	case "zstandard":
		if a.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxAvroBlock)); err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
	default:
		return nil, damaged("codec %s is not supported; have its writer use zstandard, snappy, deflate or bzip2", a.codec)
	}
	return a, nil
}

func (a *avroReader) close() {
	if a.zstd != nil {
		a.zstd.Close()
	}
	a.closeFn()
}

// broken makes an error of the framing one of the content, unless reading failed.
func (a *avroReader) broken(what string, err error) error {
	var d damage
	switch {
	case a.s.failed != nil:
		return a.s.failed
	case errors.As(err, &d):
		return err
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return damaged("%s: %w", what, err)
}

// metadata reads the header's map.
func (a *avroReader) metadata() (map[string][]byte, error) {
	out := map[string][]byte{}
	total := int64(0)
	for {
		n, err := binary.ReadVarint(a.r)
		if err != nil || n == 0 {
			return out, err
		}
		if n < 0 {
			n = -n
			if _, err := binary.ReadVarint(a.r); err != nil {
				return nil, err
			}
		}
		for range n {
			key, err := a.bytes(&total)
			if err != nil {
				return nil, err
			}
			if out[string(key)], err = a.bytes(&total); err != nil {
				return nil, err
			}
		}
	}
}

// bytes reads a length and so many bytes.
func (a *avroReader) bytes(total *int64) ([]byte, error) {
	n, err := binary.ReadVarint(a.r)
	if err != nil {
		return nil, err
	}
	if *total += n; n < 0 || *total > 16<<20 {
		return nil, errors.New("its metadata is longer than 16 MiB")
	}
	b := make([]byte, n)
	_, err = io.ReadFull(a.r, b)
	return b, err
}

// next implements rowReader.
func (a *avroReader) next() (block, error) {
	for a.left == 0 {
		bad, err := a.load()
		if err != nil || bad != nil {
			if bad != nil {
				return *bad, nil
			}
			return block{}, err
		}
	}
	b := block{first: a.row, data: make([]byte, 0, blockBytes+blockBytes/4)}
	for a.left > 0 && len(b.data) < blockBytes {
		line, rest, ok := a.value(b.data, a.rows)
		if !ok || a.left == 1 && len(rest) > 0 {
			if b.rows > 0 {
				return b, nil // and this comes first in the next one
			}
			bad := block{first: a.row, rows: a.left, data: bytes.Clone(a.rows[:min(keepOfLong, len(a.rows))]), bad: &Bad{RuleUnreadable,
				fmt.Sprintf("rows %d to %d: what the block holds does not fit the file's schema", a.row, a.row+a.left-1)}}
			a.row += a.left
			a.left, a.rows = 0, nil
			return bad, nil
		}
		a.rows, a.left, a.row = rest, a.left-1, a.row+1
		if a.row <= a.from {
			b.first = a.row
			continue // its text is written over
		}
		b.data, b.rows = append(line, '\n'), b.rows+1
	}
	if b.rows == 0 {
		return a.next()
	}
	return b, nil
}

// load reads the next block that has rows which are wanted. One that cannot be
// unpacked comes back as a bad one.
func (a *avroReader) load() (*block, error) {
	for {
		n, err := binary.ReadVarint(a.r)
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && a.s.failed == nil {
			return nil, io.EOF
		}
		if err != nil {
			return nil, a.broken(a.where(), err)
		}
		size, err := binary.ReadVarint(a.r)
		if err != nil {
			return nil, a.broken(a.where(), err)
		}
		if n < 0 || size < 0 || size > maxAvroBlock {
			return nil, damaged("%s: a block of %d rows in %d bytes", a.where(), n, size)
		}
		packed, err := a.body(size, a.row+n <= a.from)
		if err != nil {
			return nil, a.broken(a.where(), err)
		}
		if n == 0 {
			continue
		}
		if packed == nil && size > 0 {
			a.row += n
			continue
		}
		if a.rows, err = a.unpack(packed); err != nil {
			bad := &block{first: a.row, rows: n, data: packed[:min(keepOfLong, len(packed))], bad: &Bad{RuleUnreadable,
				fmt.Sprintf("rows %d to %d: the block cannot be unpacked (%s): %v", a.row, a.row+n-1, a.codec, err)}}
			a.row += n
			return bad, nil
		}
		a.left = n
		return nil, nil
	}
}

func (a *avroReader) where() string { return fmt.Sprintf("the block after row %d", a.row-1) }

// body reads what a block has after its lengths; nil when it is only passed over.
func (a *avroReader) body(size int64, skip bool) (packed []byte, err error) {
	if skip {
		_, err = io.CopyN(io.Discard, a.r, size)
	} else {
		packed = make([]byte, size)
		_, err = io.ReadFull(a.r, packed)
	}
	if err != nil {
		return nil, err
	}
	var sync [16]byte
	if _, err := io.ReadFull(a.r, sync[:]); err != nil {
		return nil, err
	}
	if sync != a.sync {
		return nil, errors.New("it does not end in the file's sync marker")
	}
	return packed, nil
}

func (a *avroReader) unpack(b []byte) ([]byte, error) {
	switch a.codec {
	case "deflate":
		return limited(flate.NewReader(bytes.NewReader(b)))
	case "bzip2":
		return limited(bzip2.NewReader(bytes.NewReader(b)))
	case "zstandard":
		return a.zstd.DecodeAll(b, nil)
	case "snappy":
		if len(b) < 4 {
			return nil, io.ErrUnexpectedEOF
		}
		sum := binary.BigEndian.Uint32(b[len(b)-4:])
		b = b[:len(b)-4]
		if n, err := snappy.DecodedLen(b); err != nil || n > maxAvroBlock {
			return nil, fmt.Errorf("of %d bytes: %w", n, errors.Join(err, errTooLong))
		}
		out, err := snappy.Decode(nil, b)
		if err == nil && crc32.ChecksumIEEE(out) != sum {
			err = errors.New("wrong checksum")
		}
		return out, err
	}
	return b, nil
}

// limited reads at most what a block may have.
func limited(r io.Reader) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(r, maxAvroBlock+1))
	if err == nil && len(out) > maxAvroBlock {
		err = fmt.Errorf("it has more than %d bytes: %w", maxAvroBlock, errTooLong)
	}
	return out, err
}
