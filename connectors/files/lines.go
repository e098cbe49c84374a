package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// blockBytes is about how much is put into one block.
const blockBytes = 256 << 10

// longestLine is how many times the longest row that lands a line may be long and
// still be read whole, so that it goes to quarantine whole.
const longestLine = 4

// keepOfLong is how much of a line is kept that is longer than that.
const keepOfLong = 64 << 10

// lineReader cuts NDJSON into blocks of whole lines.
type lineReader struct {
	r     io.Reader
	limit int
	room  int   // that the first block is given
	from  int64 // the first line wanted
	line  int64 // of rest
	rest  []byte
	ended bool
	// hold: a last line without its end is not a row yet.
	hold    bool
	torn    []byte // of a line that reading failed in
	held    int    // bytes of such a line, once next has returned io.EOF
	passed  int64  // bytes of the lines that were returned or skipped
	closeFn func()
}

func newLineReader(r io.Reader, maxRow int, line, from int64, hold bool, closeFn func()) *lineReader {
	return &lineReader{r: r, limit: max(maxRow*longestLine, maxRow), room: blockBytes, line: line, from: from, hold: hold, closeFn: closeFn}
}

func (l *lineReader) close() { l.closeFn() }

// next implements rowReader.
func (l *lineReader) next() (block, error) {
	for {
		b, err := l.lines()
		if err != nil || b.bad != nil {
			return b, err
		}
		if skip := l.from - b.first; skip > 0 {
			if b.rows <= skip {
				continue
			}
			for range skip {
				b.data = b.data[bytes.IndexByte(b.data, '\n')+1:]
			}
			b.first, b.rows = b.first+skip, b.rows-skip
		}
		return b, nil
	}
}

// lines returns the next lines, from and with those that are not wanted.
func (l *lineReader) lines() (block, error) {
	buf := make([]byte, len(l.rest), max(min(blockBytes, l.room), 2*len(l.rest)))
	l.room = blockBytes
	copy(buf, l.rest)
	l.rest = nil
	searched := 0
	for !l.ended {
		if len(buf) == cap(buf) {
			if end := bytes.LastIndexByte(buf[searched:], '\n'); end >= 0 {
				return l.cut(buf, searched+end+1), nil
			}
			searched = len(buf)
			if len(buf) >= l.limit {
				return l.tooLong(buf)
			}
			buf = append(make([]byte, 0, min(2*cap(buf), l.limit)), buf...)
		}
		n, err := l.r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			l.ended = true
		} else if err != nil {
			// What came before it is whole; the rest is not.
			if end := bytes.LastIndexByte(buf, '\n'); end >= 0 {
				l.r = failing{err}
				return l.cut(buf, end+1), nil
			}
			l.torn = buf[:min(len(buf), keepOfLong)]
			return block{}, err
		}
	}
	switch end := bytes.LastIndexByte(buf, '\n'); {
	case len(buf) == 0:
		return block{}, io.EOF
	case !l.hold:
		return l.cut(buf, len(buf)), nil
	case end >= 0:
		return l.cut(buf, end+1), nil
	}
	l.held = len(buf)
	l.rest = buf
	return block{}, io.EOF
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// cut hands out buf up to end and keeps what follows.
func (l *lineReader) cut(buf []byte, end int) block {
	l.rest = buf[end:]
	b := block{first: l.line, data: buf[:end:end]}
	b.rows = int64(bytes.Count(b.data, []byte{'\n'}))
	if b.data[end-1] != '\n' {
		b.rows++
	}
	l.line += b.rows
	l.passed += int64(end)
	return b
}

// tooLong passes over a line that is too long even for quarantine.
func (l *lineReader) tooLong(buf []byte) (block, error) {
	keep := bytes.Clone(buf[:min(keepOfLong, len(buf))])
	length := int64(len(buf))
	for {
		n, err := l.r.Read(buf[:cap(buf)])
		if end := bytes.IndexByte(buf[:n], '\n'); end >= 0 {
			l.rest = bytes.Clone(buf[end+1 : n])
			length += int64(end) + 1
			break
		}
		length += int64(n)
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			l.ended = true
			break
		}
		if err != nil {
			return block{}, err
		}
	}
	b := block{first: l.line, rows: 1, data: keep, bad: &Bad{RuleTooLong,
		fmt.Sprintf("the line has %d bytes, more than the %d that are read of one; its first %d are kept", length, l.limit, len(keep))}}
	l.line++
	l.passed += length
	if b.first < l.from {
		return l.next()
	}
	return b, nil
}
