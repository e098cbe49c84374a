package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tidemill/tidemill/internal/batch"
)

// follow is where reading stands in a local NDJSON file.
type follow struct {
	partition string
	offset    int64  // bytes
	row       int64  // that begins there, or goes on there when open
	open      bool   // the row before was taken without its end
	before    []byte // some bytes before offset
	lost      bool   // it is not what it was: it has been said
}

// beforeBytes is how much before the place where reading goes on is compared.
const beforeBytes = 1 << 10

// firstLine returns what names an NDJSON file: its first line, or as much of it as the
// head has. whole is false when more of the line may come.
func firstLine(head []byte) (line []byte, whole bool) {
	if nl := bytes.IndexByte(head, '\n'); nl >= 0 {
		return head[:nl], true
	}
	return head, len(head) == headBytes
}

// followFile reads what a local NDJSON file has beyond what was read before.
func (r *Reader) followFile(ctx context.Context, j *job, at Content, head []byte) (state, error) {
	line, whole := firstLine(head)
	if !whole && !r.still(j) {
		return waiting, nil
	}
	f := j.at.follow
	if part := partitionOf(j.o.Name, line); f == nil || f.partition != part {
		if f != nil {
			r.c.Logger.Warn("file begins with another line than before; it is another source", "object", j.o.Name)
		}
		f = &follow{partition: part}
		j.at.follow = f
	}
	if f.lost {
		return left, nil
	}
	if err := r.compare(j, f, at); err != nil || f.lost {
		return left, err
	}
	claimed := r.firstMissing(ctx, f.partition)
	s := newStream(at, f.offset, j.o.Size, diskChunk)
	rows := newLineReader(s, r.c.MaxRowBytes, f.row, max(f.row, claimed), !r.still(j), func() {})
	if f.open {
		if err := r.closeRow(j, f, rows); err != nil {
			return failed, err
		}
	}
	for {
		b, err := rows.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return failed, err
		}
		if err := r.send(ctx, Block{Object: j.o.Name, Partition: f.partition, First: b.first, Rows: b.rows, Data: b.data, Bad: b.bad}); err != nil {
			return failed, err
		}
		if b.bad != nil {
			b.data = nil // it has the line's beginning, not its end
		}
		if err := f.advance(at, rows, b.data); err != nil {
			return failed, err
		}
	}
	if err := f.advance(at, rows, nil); err != nil {
		return failed, err
	}
	if claimed > rows.line && rows.held == 0 {
		r.c.Logger.Error("file has fewer lines than the table has rows of it: it was cut off, or replaced by another one with the same first line, whose rows are then not in; give it another name",
			"object", j.o.Name, "lines", rows.line, "in_the_table", claimed)
	}
	if rows.held > 0 {
		return waiting, nil
	}
	return read, nil
}

// advance moves the place where reading goes on behind what the lines have passed; data
// is what stands before it, as far as it is at hand.
func (f *follow) advance(at io.ReaderAt, rows *lineReader, data []byte) error {
	f.offset += rows.passed
	rows.passed = 0
	f.row = rows.line
	n := min(f.offset, beforeBytes)
	f.before = append(f.before[:0], make([]byte, n)...)
	if int64(len(data)) >= n {
		copy(f.before, data[int64(len(data))-n:])
	} else if _, err := io.ReadFull(io.NewSectionReader(at, f.offset-n, n), f.before); err != nil {
		return readError(err)
	}
	f.open = n > 0 && f.before[n-1] != '\n'
	return nil
}

// compare checks that a file still has what was read of it.
func (r *Reader) compare(j *job, f *follow, at io.ReaderAt) error {
	if f.offset == 0 {
		return nil
	}
	why := ""
	if j.o.Size < f.offset {
		why = fmt.Sprintf("it has %d bytes, and %d were read", j.o.Size, f.offset)
	} else {
		now := make([]byte, len(f.before))
		if _, err := io.ReadFull(io.NewSectionReader(at, f.offset-int64(len(now)), int64(len(now))), now); err != nil {
			return readError(err)
		}
		if !bytes.Equal(now, f.before) {
			why = fmt.Sprintf("the bytes before %d are not those that were read", f.offset)
		}
	}
	if why != "" {
		f.lost = true
		r.c.Logger.Error("file was cut off or changed in the middle and begins as before; nothing more is read of it. "+
			"Rows are told apart by their lines, so files may only grow: give other content another name", "object", j.o.Name, "why", why, "rows", f.row)
	}
	return nil
}

// closeRow passes over the rest of a line that was taken before its end came.
func (r *Reader) closeRow(j *job, f *follow, rows *lineReader) error {
	var rest []byte
	one := make([]byte, 1)
	for n := int64(0); ; n++ {
		_, err := rows.r.Read(one)
		if errors.Is(err, io.EOF) || err == nil && one[0] == '\n' {
			if err == nil {
				n++
			}
			f.offset += n
			break
		}
		if err != nil {
			return err
		}
		if len(rest) < 100 {
			rest = append(rest, one[0])
		}
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		r.c.Logger.Error("a last line went on after it had been taken for complete; its row is in as it stood, and the rest of the line is not. "+
			"Have its writer write whole lines, or say a longer still_for", "object", j.o.Name, "row", f.row-1, "rest", string(rest))
	}
	return nil
}

// ended says whether all of a partition is in, for good.
func (r *Reader) ended(ctx context.Context, partition string) bool {
	in := r.c.Claims(ctx, partition)
	return in.Covers(batch.Interval{First: 0, Last: batch.EndOffset})
}

// firstMissing returns the first row of a partition that is not in.
func (r *Reader) firstMissing(ctx context.Context, partition string) int64 {
	in, ok := r.c.Claims(ctx, partition).Find(0)
	if !ok {
		return 0
	}
	return in.Last + 1
}
