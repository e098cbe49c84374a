package parquet

import (
	"sync"

	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// snappy writes the same format as Arrow's own codec with an encoder that takes
// two thirds of the time, and into the buffer that it is given: Arrow's gets one
// of length 0 and so allocates another for every page.
type snappy struct{ compress.Codec }

func (snappy) Encode(dst, src []byte) []byte { return s2.EncodeSnappy(dst, src) }

func (snappy) EncodeLevel(dst, src []byte, _ int) []byte { return s2.EncodeSnappy(dst, src) }

// zstandard is Arrow's codec with one encoder for all pages: Arrow's makes another for
// each of them, which costs more than small pages do.
type zstandard struct{ compress.Codec }

var zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
	// An empty page has to be a frame as well. Nothing is to be seen beyond a page. The next
	// level takes twice the time, and what landed becomes larger with it, not smaller.
	e, err := zstd.NewWriter(nil, zstd.WithZeroFrames(true), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(pageBytes), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are right
	}
	return e
})

func (zstandard) Encode(dst, src []byte) []byte { return zstdEncoder().EncodeAll(src, dst[:0]) }

func (zstandard) EncodeLevel(dst, src []byte, _ int) []byte {
	return zstdEncoder().EncodeAll(src, dst[:0])
}

// lz4Raw is LZ4 in plain blocks, which newer writers have and Arrow's codecs lack. It is
// for reading only: our files are of the other two.
type lz4Raw struct{ compress.Codec }

// lz4RawID is its number in Parquet's format.
const lz4RawID = compress.Compression(7)

func (lz4Raw) Decode(dst, src []byte) []byte {
	n, err := lz4.UncompressBlock(src, dst[:cap(dst)])
	if err != nil {
		panic(err) // as Arrow's own codecs do; the Reader catches it
	}
	return dst[:n]
}

func init() {
	arrows := func(c compress.Compression) compress.Codec {
		codec, err := compress.GetCodec(c)
		if err != nil {
			panic(err) // it is always there
		}
		return codec
	}
	compress.RegisterCodec(compress.Codecs.Snappy, snappy{arrows(compress.Codecs.Snappy)})
	compress.RegisterCodec(lz4RawID, lz4Raw{arrows(compress.Codecs.Uncompressed)})
	compress.RegisterCodec(compress.Codecs.Zstd, zstandard{arrows(compress.Codecs.Zstd)})
}
