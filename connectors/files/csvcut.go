package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// csvCutter cuts CSV into records and fields. A record that cannot be cut is its first
// line; the next line begins another one.
type csvCutter struct {
	r      io.Reader
	delim  byte
	limit  int // bytes of a record
	buf    []byte
	pos    int // of the next record in buf
	ended  bool
	err    error
	raw    []byte // the record; valid until the next call
	fields []csvField
	plain  []byte // a field without its doubled quotes
}

type csvField struct {
	from, to int // in raw
	quoted   bool
	doubled  bool // has quotes that stand for one
}

// text returns a field of the record that next has cut, until the next call of either.
func (c *csvCutter) text(i int) []byte {
	f := c.fields[i]
	if !f.doubled {
		return c.raw[f.from:f.to]
	}
	c.plain = append(c.plain[:0], bytes.ReplaceAll(c.raw[f.from:f.to], []byte(`""`), []byte(`"`))...)
	return c.plain
}

// next cuts a record and returns its bytes, without the end of the line. Blank lines
// are passed over. A record that cannot be cut comes with a *Bad, and reading goes on
// after it.
func (c *csvCutter) next() ([]byte, error) {
	for {
		end, err := c.line(0)
		if errors.Is(err, errTooLong) {
			return c.long()
		}
		if err != nil {
			return nil, err
		}
		if line := bytes.TrimSuffix(c.buf[c.pos:c.pos+end], []byte{'\r'}); len(line) > 0 {
			return c.record(end)
		}
		c.skip(end)
	}
}

// line returns how far it is to the end of a line that ends at or after off, both from
// pos; it reads on as needed. A last line may lack its end.
func (c *csvCutter) line(off int) (int, error) {
	for {
		if nl := bytes.IndexByte(c.buf[c.pos+off:], '\n'); nl >= 0 {
			return off + nl, nil
		}
		have := len(c.buf) - c.pos
		if c.ended {
			if have == 0 {
				return 0, io.EOF
			}
			return have, nil
		}
		if have > c.limit {
			return 0, errTooLong
		}
		off = have
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
}

var errTooLong = errors.New("too long")

// long passes over a line that is longer than a record may be.
func (c *csvCutter) long() ([]byte, error) {
	c.raw = bytes.Clone(c.buf[c.pos : c.pos+min(keepOfLong, len(c.buf)-c.pos)])
	c.fields = c.fields[:0]
	for {
		nl := bytes.IndexByte(c.buf[c.pos:], '\n')
		if nl >= 0 {
			c.skip(nl)
			break
		}
		c.pos = len(c.buf)
		if c.ended {
			break
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
	return c.raw, &Bad{RuleTooLong, fmt.Sprintf("the record is longer than %d bytes; its first %d are kept", c.limit, len(c.raw))}
}

// fill reads more, behind what is not cut yet.
func (c *csvCutter) fill() error {
	if c.err != nil {
		return c.err
	}
	if c.pos > 0 {
		c.buf = c.buf[:copy(c.buf, c.buf[c.pos:])]
		c.pos = 0
	}
	if len(c.buf) == cap(c.buf) {
		c.buf = append(make([]byte, 0, max(diskChunk, 2*cap(c.buf))), c.buf...)
	}
	n, err := c.r.Read(c.buf[len(c.buf):cap(c.buf)])
	c.buf = c.buf[:len(c.buf)+n]
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		c.ended = true
		return nil
	}
	if n > 0 {
		c.err = err // for the next call: what came is good
		return nil
	}
	return err
}

// skip passes over what ends after n bytes, and the end of the line.
func (c *csvCutter) skip(n int) { c.pos = min(c.pos+n+1, len(c.buf)) }

// record cuts the record that begins at pos; its first line ends after end bytes.
func (c *csvCutter) record(end int) ([]byte, error) {
	c.fields = c.fields[:0]
	line := bytes.TrimSuffix(c.buf[c.pos:c.pos+end], []byte{'\r'})
	if bytes.IndexByte(line, '"') < 0 {
		c.raw = line
		for at := 0; ; {
			n := bytes.IndexByte(line[at:], c.delim)
			if n < 0 {
				c.fields = append(c.fields, csvField{from: at, to: len(line)})
				break
			}
			c.fields = append(c.fields, csvField{from: at, to: at + n})
			at += n + 1
		}
		c.skip(end)
		return c.raw, nil
	}
	first, last, why := end, end, ""
	for at, more := 0, true; more && why == ""; {
		var err error
		if at, last, more, why, err = c.field(at, last); err != nil {
			return nil, err
		}
	}
	if why != "" {
		c.raw = bytes.TrimSuffix(c.buf[c.pos:c.pos+first], []byte{'\r'})
		c.skip(first)
		return c.raw, &Bad{RuleCSV, why}
	}
	c.raw = bytes.TrimSuffix(c.buf[c.pos:c.pos+last], []byte{'\r'})
	c.skip(last)
	return c.raw, nil
}

// field cuts the field at a place of a record, whose line ends at last; more says that
// another one follows, at next. A quoted field may reach over ends of lines.
func (c *csvCutter) field(at, last int) (next, end int, more bool, why string, err error) {
	rec := c.buf[c.pos : c.pos+last]
	if at >= last || rec[at] != '"' {
		var to int
		if n := bytes.IndexByte(rec[at:], c.delim); n >= 0 {
			to = at + n
		} else {
			rec = bytes.TrimSuffix(rec, []byte{'\r'})
			to = max(at, len(rec))
		}
		c.fields = append(c.fields, csvField{from: at, to: to})
		return to + 1, last, to < last && c.buf[c.pos+to] == c.delim, "", nil
	}
	f := csvField{from: at + 1, quoted: true}
	for i := f.from; ; {
		n := bytes.IndexByte(c.buf[c.pos+i:c.pos+last], '"')
		if n < 0 {
			i = last
			if c.pos+last >= len(c.buf) && c.ended {
				return 0, last, false, fmt.Sprintf("field %d begins with a quote that is never closed", len(c.fields)+1), nil
			}
			switch last, err = c.line(last + 1); {
			case errors.Is(err, errTooLong):
				return 0, i, false, fmt.Sprintf("field %d begins with a quote that is not closed within %d bytes", len(c.fields)+1, c.limit), nil
			case errors.Is(err, io.EOF):
				return 0, i, false, fmt.Sprintf("field %d begins with a quote that is never closed", len(c.fields)+1), nil
			case err != nil:
				return 0, i, false, "", err
			}
			continue
		}
		i += n + 1
		if i < last && c.buf[c.pos+i] == '"' {
			f.doubled = true
			i++
			continue
		}
		f.to = i - 1
		c.fields = append(c.fields, f)
		rest := bytes.TrimSuffix(c.buf[c.pos+i:c.pos+last], []byte{'\r'})
		if len(rest) > 0 && rest[0] != c.delim {
			return 0, last, false, fmt.Sprintf("field %d goes on after its closing quote", len(c.fields)), nil
		}
		return i + 1, last, len(rest) > 0, "", nil
	}
}
