package decode

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// DefaultBlockBytes is about how much a [BlockReader] puts into one block.
const DefaultBlockBytes = 256 << 10

// longestLine is how many times the longest row that lands a line may be long
// before a [BlockReader] gives up on it. Up to there it is read whole, so that
// it can go to quarantine whole.
const longestLine = 4

// ErrLineTooLong says that a line is so long that it cannot even be quarantined.
var ErrLineTooLong = errors.New("line too long")

// BlockReader cuts a stream into blocks of whole lines.
type BlockReader struct {
	r     io.Reader
	size  int // of a block, about
	limit int // of a line
	line  int64
	rest  []byte // what was read of the line after the last block
	err   error  // what ended the stream
}

// NewBlockReader reads lines from r. Lines may be up to four times maxRowBytes
// long (0: [DefaultMaxRowBytes]); that many bytes are held in memory at most,
// beyond the block handed out.
func NewBlockReader(r io.Reader, maxRowBytes int) *BlockReader {
	if maxRowBytes <= 0 {
		maxRowBytes = DefaultMaxRowBytes
	}
	return &BlockReader{r: r, size: DefaultBlockBytes, limit: max(maxRowBytes*longestLine, maxRowBytes)}
}

// Next returns the next lines, with their ends, and the ordinal of the first
// one, counted from 0 and with blank lines. The block is the caller's. It is
// about [DefaultBlockBytes] long: more when one line is, less when the source
// had no more just then. The last line may lack its end.
//
// The error is io.EOF after the last block, what reading ended with, or
// [ErrLineTooLong]; lines before it have been returned, and it stays.
func (b *BlockReader) Next() (block []byte, first int64, err error) {
	buf := make([]byte, len(b.rest), max(b.size, 2*len(b.rest)))
	copy(buf, b.rest)
	b.rest = nil
	searched := 0 // no line ends before here
	for b.err == nil {
		if len(buf) == cap(buf) {
			if len(buf) >= b.limit {
				b.err = fmt.Errorf("read line %d: %w: more than %d bytes", b.line, ErrLineTooLong, b.limit)
				return nil, 0, b.err
			}
			grown := make([]byte, len(buf), min(2*cap(buf), b.limit))
			copy(grown, buf)
			buf = grown
		}
		want := cap(buf) - len(buf)
		var n int
		n, b.err = b.r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n < want && b.err == nil && n == 0 {
			continue
		}
		// A short read is a source that has no more for now: hand over what
		// there is. Otherwise fill the block.
		if n < want || len(buf) == cap(buf) {
			if end := bytes.LastIndexByte(buf[searched:], '\n'); end >= 0 {
				return b.cut(buf, searched+end+1)
			}
			searched = len(buf)
		}
	}
	if end := bytes.LastIndexByte(buf[searched:], '\n'); end >= 0 && !errors.Is(b.err, io.EOF) {
		return b.cut(buf, searched+end+1)
	}
	if len(buf) == 0 || !errors.Is(b.err, io.EOF) {
		return nil, 0, b.err // half a line that breaks off is no row
	}
	return b.cut(buf, len(buf))
}

// cut hands out buf up to end and keeps the rest for the next block.
func (b *BlockReader) cut(buf []byte, end int) (block []byte, first int64, err error) {
	b.rest = buf[end:] // the block's capacity ends before it
	block, first = buf[:end:end], b.line
	b.line += int64(bytes.Count(block, []byte{'\n'}))
	return block, first, nil
}
