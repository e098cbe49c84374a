package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// What one read asks for: of a disk, and of S3, where each is a request.
const (
	diskChunk = 256 << 10
	s3Chunk   = 4 << 20
)

// headBytes is how much of an object is looked at to know what it is.
const headBytes = 64 << 10

// stream reads a content from an offset to its end and remembers what went wrong
// with that, so that a decoder's complaint can be told from the disk's.
type stream struct {
	at     io.ReaderAt
	off    int64
	size   int64 // end of what is read; what is appended meanwhile waits
	chunk  []byte
	rest   []byte // of chunk, not handed out yet
	failed error  // what at said, but for io.EOF
}

func newStream(at io.ReaderAt, off, size int64, chunk int) *stream {
	return &stream{at: at, off: off, size: size, chunk: make([]byte, min(int64(chunk), max(size-off, 1)))}
}

func (s *stream) Read(p []byte) (int, error) {
	if s.failed != nil {
		return 0, s.failed
	}
	if len(s.rest) == 0 {
		want := min(int64(len(s.chunk)), s.size-s.off)
		if want <= 0 {
			return 0, io.EOF
		}
		n, err := s.at.ReadAt(s.chunk[:want], s.off)
		s.rest = s.chunk[:n]
		s.off += int64(n)
		if n == 0 || err != nil && !errors.Is(err, io.EOF) {
			if err == nil || errors.Is(err, io.EOF) {
				err = fmt.Errorf("%w: it has become shorter", ErrReplaced)
			}
			s.failed = err
			if n == 0 {
				return 0, err
			}
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// Compression is how the bytes of an object are packed as a whole.
type Compression uint8

// Compressions.
const (
	Plain Compression = iota
	Gzip
	Zstd
)

func compressionOf(head []byte) Compression {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}):
		return Gzip
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), skippable(head):
		return Zstd
	}
	return Plain
}

// skippable: a zstd file may begin with a frame that holds no data.
func skippable(head []byte) bool {
	return len(head) > 4 && head[0]&0xf0 == 0x50 && head[1] == 0x2a && head[2] == 0x4d && head[3] == 0x18
}

// zstdWindow bounds what a zstd file can make its reader keep. The zstd tool needs
// --ultra or --long for more than 8 MiB, and refuses to unpack more than 128.
const zstdWindow = 128 << 20

// unpack returns what is packed. Its errors are damage, unless the stream failed.
func (c Compression) unpack(s *stream) (io.Reader, func(), error) {
	switch c {
	case Gzip:
		r, err := gzip.NewReader(s)
		if err != nil {
			return nil, nil, s.blame(err, "gzip")
		}
		return &unpacked{r, s, "gzip"}, func() { _ = r.Close() }, nil
	case Zstd:
		r, err := zstd.NewReader(s, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, nil, s.blame(err, "zstd")
		}
		return &unpacked{r, s, "zstd"}, r.Close, nil
	}
	return s, func() {}, nil
}

// blame says whose fault an error of a decoder is: the stream's, or the content's.
func (s *stream) blame(err error, what string) error {
	if s.failed != nil {
		return s.failed
	}
	return damaged("%s: %w", what, err)
}

type unpacked struct {
	r    io.Reader
	s    *stream
	what string
}

func (u *unpacked) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = u.s.blame(err, u.what)
	}
	return n, err
}
