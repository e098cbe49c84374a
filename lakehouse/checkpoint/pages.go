package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/schema"
)

// pages reads the pages of a column chunk, and hands on only such as the library can
// decode: on levels that a damaged page lacks, it waits for ever.
type pages struct {
	column *schema.Column
	data   []byte // not read yet
	left   int64  // values not read yet
	codec  compress.Compression
	limit  int // bytes of a page
	page   file.Page
	err    error
}

var errPage = errors.New("damaged page")

// Page implements [file.PageReader].
func (p *pages) Page() file.Page { return p.page }

// Err implements [file.PageReader].
func (p *pages) Err() error { return p.err }

// SetMaxPageHeaderSize implements [file.PageReader].
func (p *pages) SetMaxPageHeaderSize(int) {}

// Reset implements [file.PageReader]; nobody calls it.
func (p *pages) Reset(parquet.BufferedReader, int64, compress.Compression, *file.CryptoContext) {
	panic("a page reader is used once")
}

// Next implements [file.PageReader].
func (p *pages) Next() bool {
	p.page = nil
	for p.err == nil && p.left > 0 && p.page == nil {
		p.err = p.read()
	}
	return p.err == nil && p.page != nil
}

// read reads a page, and skips one of another kind.
func (p *pages) read() error {
	h, size, err := readHeader(p.data)
	if err != nil {
		return err
	}
	p.data = p.data[size:]
	if h.compressed < 0 || h.compressed > int64(len(p.data)) || h.uncompressed < 0 || h.uncompressed > int64(p.limit) || h.values < 0 || h.values > math.MaxInt32 {
		return errPage
	}
	body := p.data[:h.compressed]
	p.data = p.data[h.compressed:]
	if h.hasCRC && uint32(h.crc) != crc32.ChecksumIEEE(body) {
		return errors.New("damaged page: its checksum is wrong")
	}
	switch h.kind {
	case pageData:
		return p.dataPage(h, body)
	case pageDataV2:
		return p.dataPageV2(h, body)
	case pageDictionary:
		data, err := p.decompress(body, h.uncompressed)
		if err != nil || h.values > int64(len(data)) {
			return errors.Join(errPage, err)
		}
		p.page = file.NewDictionaryPage(memory.NewBufferBytes(data), int32(h.values), parquet.Encoding(h.encoding))
		return nil
	case pageIndex:
		return nil
	}
	return fmt.Errorf("damaged page: it is of kind %d", h.kind)
}

func (p *pages) dataPage(h pageHeader, body []byte) error {
	data, err := p.decompress(body, h.uncompressed)
	if err != nil {
		return err
	}
	rest := data
	for _, s := range []struct {
		max      int16
		encoding int64
	}{{p.column.MaxRepetitionLevel(), h.repEncoding}, {p.column.MaxDefinitionLevel(), h.defEncoding}} {
		if s.max == 0 {
			continue
		}
		if parquet.Encoding(s.encoding) != parquet.Encodings.RLE {
			return fmt.Errorf("levels in encoding %d", s.encoding)
		}
		if len(rest) < 4 {
			return errPage
		}
		size := int64(binary.LittleEndian.Uint32(rest))
		rest = rest[4:]
		if size > int64(len(rest)) || !holds(rest[:size], s.max, h.values) {
			return errPage
		}
		rest = rest[size:]
	}
	p.left -= h.values
	p.page = file.NewDataPageV1(memory.NewBufferBytes(data), int32(h.values), parquet.Encoding(h.encoding), parquet.Encodings.RLE, parquet.Encodings.RLE, int32(len(data)))
	return nil
}

func (p *pages) dataPageV2(h pageHeader, body []byte) error {
	if h.repBytes < 0 || h.defBytes < 0 || h.repBytes > int64(len(body)) || h.defBytes > int64(len(body))-h.repBytes {
		return errPage
	}
	levels := h.repBytes + h.defBytes
	if m := p.column.MaxRepetitionLevel(); m > 0 && !holds(body[:h.repBytes], m, h.values) {
		return errPage
	}
	if m := p.column.MaxDefinitionLevel(); m > 0 && !holds(body[h.repBytes:levels], m, h.values) {
		return errPage
	}
	data := body
	if !h.plain && levels < int64(len(body)) {
		values, err := p.decompress(body[levels:], h.uncompressed-levels)
		if err != nil {
			return err
		}
		data = append(append(make([]byte, 0, int(levels)+len(values)), body[:levels]...), values...)
	}
	p.left -= h.values
	p.page = file.NewDataPageV2(memory.NewBufferBytes(data), int32(h.values), int32(h.nulls), int32(h.rows), parquet.Encoding(h.encoding),
		int32(h.defBytes), int32(h.repBytes), int32(len(data)), false)
	return nil
}

// decompress returns new memory, or body itself. The codecs panic on what is damaged: see [Decode].
func (p *pages) decompress(body []byte, size int64) ([]byte, error) {
	if size < 0 {
		return nil, errPage
	}
	if p.codec == compress.Codecs.Uncompressed {
		if int64(len(body)) != size {
			return nil, errPage
		}
		return body, nil
	}
	if p.codec == compress.Codecs.Snappy { // it would make room for what stands here
		if n, _ := binary.Uvarint(body); n != uint64(size) {
			return nil, errPage
		}
	}
	codec, err := compress.GetCodec(p.codec)
	if err != nil {
		return nil, err
	}
	data := codec.Decode(make([]byte, size), body)
	if int64(len(data)) != size {
		return nil, errPage
	}
	return data, nil
}

// holds says whether data, in Parquet's hybrid of runs and bit-packed groups of eight, has n levels of at most limit.
func holds(data []byte, limit int16, n int64) bool {
	width := int64(bits.Len16(uint16(limit)))
	for n > 0 {
		header, size := binary.Uvarint(data)
		count := int64(header >> 1)
		if size <= 0 || count <= 0 {
			return false
		}
		data = data[size:]
		if header&1 == 0 {
			size := (width + 7) / 8
			if int64(len(data)) < size {
				return false
			}
			data, n = data[size:], n-count
			continue
		}
		if have := int64(len(data)) * 8 / width; count > have/8 { // the last group may be cut
			return have >= n
		}
		data, n = data[count*width:], n-count*8
	}
	return true
}

// bounded refuses what a damaged length asks for: there is no recovering from want of memory.
type bounded struct {
	memory.GoAllocator
	limit int
}

// Allocate implements [memory.Allocator].
func (b *bounded) Allocate(size int) []byte {
	b.check(size)
	return b.GoAllocator.Allocate(size)
}

// Reallocate implements [memory.Allocator].
func (b *bounded) Reallocate(size int, old []byte) []byte {
	b.check(size)
	return b.GoAllocator.Reallocate(size, old)
}

func (b *bounded) check(size int) {
	if size > b.limit {
		panic(fmt.Sprintf("%d bytes in a page", size))
	}
}
