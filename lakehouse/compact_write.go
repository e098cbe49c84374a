package lakehouse

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/google/uuid"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/merge"
	"github.com/tidemill/tidemill/lakehouse/parquet"
)

// Row groups: those of a file that is large enough for good are as large as readers like
// them, those of others small, since many are in memory together when they are merged.
const (
	groupRows    = 1 << 17
	finalShare   = 16 // of MemoryBytes
	interimShare = 8 * maxRuns
)

// compact writes a bin's files as one and commits it. again says that some of the files
// were too much for the memory, and left out.
func (c *compaction) compact(ctx context.Context, b *bin) (again bool, err error) {
	c.rows = 0
	source, again, err := c.source(ctx, b)
	if err != nil {
		return false, err
	}
	defer source.Close()
	f, err := c.write(ctx, b, source)
	if err != nil {
		return false, err
	}
	c.o.fault("compact-written")
	return again, c.commit(ctx, b, f)
}

// source returns the bin's rows in their order. Files that are too much for the memory
// are taken out of the bin.
func (c *compaction) source(ctx context.Context, b *bin) (s merge.Source, again bool, err error) {
	limit := c.groups(b)
	if !c.keyed {
		return merge.Merge(c.data.schema, c.key, []merge.Source{&several{c: c, files: b.files}}, limit), false, nil
	}
	var loose, sorted []File
	for _, f := range b.files {
		if c.loose(f) {
			loose = append(loose, f)
		} else {
			sorted = append(sorted, f)
		}
	}
	sources, again, err := c.runs(ctx, &sorted)
	if err == nil && len(loose) > 0 {
		var recs []arrow.Record
		var n int
		if recs, n, err = c.load(ctx, loose); err == nil {
			again = again || n < len(loose)
			loose = loose[:n]
			sources = append(sources, merge.Sort(c.data.schema, c.key, recs, limit))
			releaseRecords(recs)
		}
	}
	s = merge.Merge(c.data.schema, c.key, sources, limit)
	if err == nil {
		err = c.pause(ctx)
	}
	if err != nil {
		s.Close()
		return nil, false, err
	}
	b.files = slices.Concat(sorted, loose)
	return s, again, nil
}

// runs begins to read sorted files. Two row groups of each will be in memory; files that
// are too many for that are taken out.
func (c *compaction) runs(ctx context.Context, files *[]File) (sources []merge.Source, again bool, err error) {
	budget := c.o.MemoryBytes / 2
	for i, f := range *files {
		r := &runReader{c: c, file: f}
		sources = append(sources, r)
		if err := r.peek(ctx); err != nil {
			return sources, false, err
		}
		if r.first != nil {
			budget -= 2 * heldBy(r.first)
		}
		if budget < 0 && i >= 2 {
			if r.r != nil {
				c.rows -= r.r.NumRows()
			}
			r.Close()
			*files = (*files)[:i]
			return sources[:i], true, nil
		}
	}
	return sources, false, nil
}

// groups says how large the output's row groups are.
func (c *compaction) groups(b *bin) merge.Limit {
	size := int64(0)
	for _, f := range b.files {
		if levelTag(f) == 0 {
			size += f.Size / 2 // about what is left of it
		} else {
			size += f.Size
		}
	}
	if c.keyed && size < c.o.TargetBytes/2 {
		return merge.Limit{Rows: groupRows, Bytes: max(c.o.MemoryBytes/interimShare, 1)}
	}
	return merge.Limit{Rows: groupRows, Bytes: max(c.o.MemoryBytes/finalShare, 1)}
}

// write stores the rows of a source as a file that takes the place of the bin's.
func (c *compaction) write(ctx context.Context, b *bin, s merge.Source) (File, error) {
	tags, err := mergeTags(b.files, c.spansOf(), keysKept{c.o.KeyWindow, c.o.MaxKeys}, c.t.opt.now())
	if err != nil {
		return File{}, err
	}
	tags[TagLevel], tags[TagLandedAt] = strconv.Itoa(b.level), landedAtTag(b.files)
	if c.keyed {
		tags[TagSorted] = c.sortedBy()
	}
	w, err := parquet.NewWriter(c.data.schema, parquet.Options{Deltas: []string{batch.ColOffset}, Zstd: true, Bounds: true, SizeHint: int(min(b.bytes(), c.o.TargetBytes))})
	if err != nil {
		return File{}, err
	}
	defer w.Abort()
	stats := delta.NewCollector(c.data.schema)
	f := File{PartitionValues: b.files[0].PartitionValues, Tags: tags, meta: c.snap.meta}
	for {
		rec, err := s.Next(ctx)
		if err != nil {
			return File{}, err
		}
		if rec == nil {
			break
		}
		f.Rows += rec.NumRows()
		stats.Add(rec)
		err = w.WriteGroup(rec)
		rec.Release()
		if err == nil {
			err = c.pause(ctx)
		}
		if err != nil {
			return File{}, err
		}
	}
	if f.Rows != c.rows {
		return File{}, &mismatchError{b.files, c.rows, f.Rows}
	}
	buf, err := w.Finish()
	if err != nil {
		return File{}, err
	}
	f.Path = c.dir(f.PartitionValues) + "part-00000-" + uuid.NewString() + ".c000.zstd.parquet"
	f.Size, f.Stats = int64(buf.Len()), stats.Stats()
	now := c.t.opt.now()
	f.ModTime, f.written = now.Truncate(time.Millisecond).UTC(), now
	c.meter.wait(func() { err = c.t.store.Put(ctx, f.Path, buf.Bytes()) })
	if err != nil {
		return File{}, fmt.Errorf("store %s: %w", f.Path, err) // and leave the buffer to the collector
	}
	buf.Release()
	return f, nil
}

// mismatchError: a bin's rows are not what came out of it.
type mismatchError struct {
	files   []File
	in, out int64
}

func (e *mismatchError) Error() string {
	paths := make([]string, len(e.files))
	for i, f := range e.files {
		paths[i] = f.Path
	}
	return fmt.Sprintf("%d rows became %d and were not committed, of files %s", e.in, e.out, strings.Join(paths, ", "))
}

// spansOf returns the offsets that the snapshot's transactions have.
func (c *compaction) spansOf() batch.Claims {
	if c.covered == nil {
		c.covered = spans(c.snap)
	}
	return c.covered
}

// dir returns the directory of a partition's files.
func (c *compaction) dir(values map[string]*string) string {
	dir := ""
	for _, name := range c.snap.PartitionBy() {
		dir += delta.PartitionDir(name, values[name]) + "/"
	}
	return dir
}

// commit puts a file in the place of a bin's.
func (c *compaction) commit(ctx context.Context, b *bin, f File) error {
	var version int64
	var err error
	c.meter.wait(func() {
		version, err = c.t.Commit(ctx, Commit{
			Adds: []File{f}, Removes: b.files, Rearranged: true, Operation: opOptimize,
			Parameters: map[string]string{"predicate": "[]", "clusterBy": c.sortedBy(), "files": strconv.Itoa(len(b.files)), "rows": strconv.FormatInt(f.Rows, 10)},
			Fault:      func(point string) { c.o.fault("compact-" + point) },
		})
	})
	if err != nil {
		return err
	}
	o := &c.out
	o.Groups, o.FilesIn, o.FilesOut, o.Version = o.Groups+1, o.FilesIn+len(b.files), o.FilesOut+1, version
	o.RowsIn, o.BytesIn, o.BytesOut = o.RowsIn+f.Rows, o.BytesIn+b.bytes(), o.BytesOut+f.Size
	return nil
}
