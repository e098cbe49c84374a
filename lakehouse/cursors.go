package lakehouse

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemill/tidemill/internal/batch"
)

// Cursor says from where a source can go on that has no offsets of its own to go on
// from: a page token, the last key of a page. It is told as text, which only the source
// understands.
type Cursor struct {
	Offset int64  `json:"offset"` // all rows of the partition up to it come before the cursor; those after it count on from it
	Text   string `json:"cursor"`
}

const (
	// TagCursors is the tag of a file that says from where its rows' sources could go on
	// behind them: {"connector/orders":[{"offset":199,"cursor":"…"}]}.
	TagCursors = "tidemill.cursors"
	// MaxCursor is how long a cursor's text may be, in bytes.
	MaxCursor = 4 << 10
	// maxCursors is how many of a partition are remembered, above the one that counts.
	maxCursors = 64
)

// ErrCursorTooLong: a cursor's text has more than MaxCursor bytes.
var ErrCursorTooLong = errors.New("cursor is too long")

// Cursors returns the cursors that came in with a file, from its tags, by partition.
func Cursors(f File) (map[string][]Cursor, error) {
	tag := f.Tags[TagCursors]
	if tag == "" {
		return nil, nil
	}
	var out map[string][]Cursor
	if err := json.Unmarshal([]byte(tag), &out); err != nil {
		return nil, &inputError{f.Path, fmt.Errorf("tag %s: %w", TagCursors, err)}
	}
	return out, nil
}

// cursorsTag returns the tag's value; empty when there is nothing to be said.
func cursorsTag(c map[string][]Cursor) string {
	if len(c) == 0 {
		return ""
	}
	b, _ := json.Marshal(c) //nolint:errchkjson // strings and integers cannot fail
	return string(b)
}

// checkCursors returns the cursors of one append as the tag has them.
func checkCursors(in map[string]Cursor) (map[string][]Cursor, error) {
	out := make(map[string][]Cursor, len(in))
	for part, c := range in {
		switch {
		case !batch.Durable(part):
			return nil, fmt.Errorf("partition %s cannot have a cursor: its offsets are not remembered", part)
		case len(c.Text) > MaxCursor:
			return nil, fmt.Errorf("partition %s: %w: it has %d bytes, %d are allowed", part, ErrCursorTooLong, len(c.Text), MaxCursor)
		}
		out[part] = []Cursor{c}
	}
	return out, nil
}

// addCursor puts a cursor into a list that is sorted by offset.
func addCursor(list []Cursor, c Cursor) []Cursor {
	i, ok := slices.BinarySearchFunc(list, c.Offset, func(x Cursor, offset int64) int { return cmp.Compare(x.Offset, offset) })
	if ok {
		list[i] = c
		return list
	}
	return slices.Insert(list, i, c)
}

// reachOf returns up to which offset all are in, counted from 0; -1 when 0 is not.
func reachOf(in batch.Intervals) int64 {
	if v, ok := in.Find(0); ok {
		return v.Last
	}
	return -1
}

// counting returns the index of the cursor that counts: the highest of a sorted list
// below which all offsets are in. It is -1 if there is none.
func counting(list []Cursor, in batch.Intervals) int {
	reach := reachOf(in)
	i, _ := slices.BinarySearchFunc(list, reach+1, func(x Cursor, offset int64) int { return cmp.Compare(x.Offset, offset) })
	return i - 1
}

// prune leaves out the cursors below the one that counts, for what is in stays in. Of
// those above, which count when their gaps are closed, the highest are kept.
func prune(list []Cursor, in batch.Intervals) []Cursor {
	i := counting(list, in)
	if i > 0 {
		list = slices.Delete(list, 0, i)
	}
	if over := len(list) - 1 - maxCursors; over > 0 {
		from := 0
		if i >= 0 {
			from = 1
		}
		list = slices.Delete(list, from, from+over)
	}
	return list
}

// mergeCursors returns what is to be remembered of the cursors of some files. in are
// offsets that are known to be in beside the files' own. A tag that cannot be read has
// nothing to say: its source goes on from an earlier cursor.
func mergeCursors(files []File, in batch.Claims) map[string][]Cursor {
	out, came := map[string][]Cursor{}, batch.Claims{}
	for _, f := range files {
		c, err := Cursors(f)
		if err != nil {
			continue
		}
		for part, list := range c {
			for _, x := range list {
				out[part] = addCursor(out[part], x)
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	for _, f := range files {
		c, err := Ranges(f)
		if err != nil {
			continue
		}
		for part, set := range c {
			if out[part] != nil {
				came[part] = came[part].AddSet(set)
			}
		}
	}
	for part, list := range out {
		out[part] = prune(list, came[part].AddSet(in[part]))
	}
	return out
}

// Cursor returns the cursor from which a partition's source can go on, going by what this
// table has of its rows; see [ResumeAt].
func (a *Appender) Cursor(partition string) (Cursor, bool) {
	list, in := a.cursorsOf(partition)
	if i := counting(list, in); i >= 0 {
		return list[i], true
	}
	return Cursor{}, false
}

func (a *Appender) cursorsOf(partition string) ([]Cursor, batch.Intervals) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.t.opt.now()
	a.positions.sync(a.t, a.t.Snapshot(), now)
	return slices.Clone(a.positions.cursors[partition]), slices.Clone(a.positions.of(partition, now))
}

// ResumeAt returns the cursor from which a partition's source can go on, and which of its
// offsets are in, when its rows go to several tables, each by an appender: the highest
// cursor in any of them below which every offset, counted from 0, is in one of them. It
// looks at the ends of their logs.
func ResumeAt(ctx context.Context, partition string, tables ...*Appender) (c Cursor, found bool, in batch.Intervals, err error) {
	var all []Cursor
	for _, a := range tables {
		if _, err := a.t.Refresh(ctx); err != nil {
			return Cursor{}, false, nil, fmt.Errorf("look for the cursor of %s: %w", partition, err)
		}
		list, claims := a.cursorsOf(partition)
		for _, x := range list {
			all = addCursor(all, x)
		}
		in = in.AddSet(claims)
	}
	if i := counting(all, in); i >= 0 {
		return all[i], true, in, nil
	}
	return Cursor{}, false, in, nil
}

// carrier returns a file without rows that remembers the cursors of files which are to be
// removed, where no other file of the snapshot remembers one that counts more. Earlier
// carriers that it makes needless are removed with them. txns are the commit's own.
// It returns nothing when there is nothing to remember.
func (t *Table) carrier(ctx context.Context, s *Snapshot, c *Commit) error {
	if !slices.ContainsFunc(c.Removes, hasCursors) {
		return nil
	}
	going := make(map[string]bool, len(c.Removes))
	for _, f := range c.Removes {
		going[f.Path] = true
	}
	all, staying := slices.Clone(c.Removes), slices.Clone(c.Adds)
	for f := range s.Files() {
		switch {
		case going[f.Path]:
		case f.Rows == 0 && hasCursors(f):
			c.Removes = append(slices.Clip(c.Removes), f)
			all = append(all, f)
		default:
			staying = append(staying, f)
		}
	}
	in := spans(s)
	for _, x := range c.Txns {
		p, first := spanOf(x.AppID)
		in[p] = in[p].Add(batch.Interval{First: first, Last: x.Version})
	}
	kept := mergeCursors(slices.Concat(all, staying), in)
	for _, f := range staying {
		has, err := Cursors(f)
		if err != nil {
			continue
		}
		for part, list := range has {
			kept[part] = slices.DeleteFunc(kept[part], func(x Cursor) bool { return slices.Contains(list, x) })
		}
	}
	for part, list := range kept {
		if len(list) == 0 {
			delete(kept, part)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	f, err := t.emptyFile(ctx, s.meta, c.Removes[0], map[string]string{TagCursors: cursorsTag(kept)})
	if err != nil {
		return err
	}
	c.Adds = append(slices.Clip(c.Adds), f)
	return nil
}

func hasCursors(f File) bool { return f.Tags[TagCursors] != "" }

// emptyFile stores a file without rows in the table partition of another.
func (t *Table) emptyFile(ctx context.Context, meta *metadata, like File, tags map[string]string) (File, error) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, meta.schema)
	defer b.Release()
	rec := b.NewRecord()
	defer rec.Release()
	data, _ := dropColumns(rec, meta.PartitionColumns)
	defer data.Release()
	dir := like.Path[:strings.LastIndexByte(like.Path, '/')+1]
	return t.writeFile(ctx, meta, part{dir: dir, values: like.PartitionValues, rec: data}, tags, Metrics{})
}
