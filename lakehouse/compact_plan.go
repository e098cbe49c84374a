package lakehouse

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
)

// bin is a group of files of one partition that become one.
type bin struct {
	files []File // in the order in which they came
	level int    // of the file that they become
}

func (b *bin) bytes() int64 {
	size := int64(0)
	for _, f := range b.files {
		size += f.Size
	}
	return size
}

const (
	// maxInputs bounds a commit's length, which others' commits wait for.
	maxInputs = 1000
	// maxRuns bounds how many sorted files are merged at a time, each of which has a few
	// row groups in memory.
	maxRuns = 16
	// expansion is about how much larger an appender's file is in memory. It only plans: what
	// is read is measured.
	expansion = 4
)

// small says whether a file should be put together with others.
func (c *compaction) small(f File) bool { return f.Size < c.o.TargetBytes/2 }

// level returns a file's level; 0 for one that has to be sorted first.
func (c *compaction) level(f File) int {
	level, err := strconv.Atoi(f.Tags[TagLevel])
	if err != nil || level < 1 || c.keyed && f.Tags[TagSorted] != c.sortedBy() {
		return 0
	}
	return level
}

// loose says whether a file has to be sorted in memory.
func (c *compaction) loose(f File) bool { return c.keyed && c.level(f) == 0 }

// sortable is how large the files are, together, that can be sorted in memory.
func (c *compaction) sortable() int64 { return min(c.o.MemoryBytes/2/expansion, c.o.TargetBytes) }

// smallFiles are the small files of one table partition.
type smallFiles struct {
	files  []File // in the order in which they came
	levels map[int][]File
	newest int64 // ms: of all small files, also of those that are left alone
}

// plan says what to put together in the newest snapshot. It costs a look at each file.
func (c *compaction) plan(ctx context.Context) ([]*bin, error) {
	if err := c.look(ctx); err != nil {
		return nil, err
	}
	now := c.t.opt.now()
	young := now.Add(-c.o.MinAge).UnixMilli()
	parts, order := map[string]*smallFiles{}, []*smallFiles(nil)
	for f := range c.snap.Files() {
		if !c.small(f) {
			continue
		}
		key := partitionKey(c.snap.PartitionBy(), f.PartitionValues)
		p, ok := parts[key]
		if !ok {
			p = &smallFiles{levels: map[int][]File{}}
			parts[key], order = p, append(order, p)
		}
		at := f.ModTime.UnixMilli()
		p.newest = max(p.newest, at)
		if at > young || c.skip[f.Path] || c.loose(f) && f.Size > c.sortable() || !c.o.mayTouch(f) {
			continue
		}
		level := c.level(f)
		p.files, p.levels[level] = append(p.files, f), append(p.levels[level], f)
	}
	cold := now.Add(-c.o.ColdAfter).UnixMilli()
	var out []*bin
	for _, p := range order {
		bins := c.pack(p)
		if len(bins) == 0 && p.newest <= cold {
			bins = c.settle(p)
		}
		out = append(out, bins...)
	}
	return out, nil
}

// partitionKey tells partitions apart by the texts of their values.
func partitionKey(by []string, values map[string]*string) string {
	var b strings.Builder
	for _, name := range by {
		if v := values[name]; v != nil {
			b.WriteString(strconv.Itoa(len(*v)))
			b.WriteByte(':')
			b.WriteString(*v)
		}
		b.WriteByte(';')
	}
	return b.String()
}

// pack fills bins with each level's files, in their order.
func (c *compaction) pack(p *smallFiles) []*bin {
	var out []*bin
	levels := make([]int, 0, len(p.levels))
	for level := range p.levels {
		levels = append(levels, level)
	}
	slices.Sort(levels)
	for _, level := range levels {
		loose := c.keyed && level == 0
		room, count := c.o.TargetBytes, maxInputs
		switch {
		case loose:
			room = c.sortable()
		case c.keyed:
			count = max(maxRuns, c.o.MinFiles)
		}
		b, size := &bin{level: level + 1}, int64(0)
		put := func() {
			full := size > room/2 && (loose || len(b.files) > 1)
			if full || len(b.files) >= c.o.MinFiles {
				out = append(out, b)
			}
			b, size = &bin{level: level + 1}, 0
		}
		for _, f := range p.levels[level] {
			if len(b.files) == count || size+f.Size > room {
				put()
			}
			b.files, size = append(b.files, f), size+f.Size
			b.level = max(b.level, levelTag(f)) // one that was sorted otherwise keeps its level
		}
		put()
	}
	return out
}

// levelTag returns a file's level, whatever it is sorted by.
func levelTag(f File) int {
	level, err := strconv.Atoi(f.Tags[TagLevel])
	if err != nil {
		return 0
	}
	return level
}

// settle puts the small files of a partition together that gets no others any more:
// the smallest, as long as none is larger than all others with it. So a file that comes
// late does not make large ones be written again.
func (c *compaction) settle(p *smallFiles) []*bin {
	files := slices.Clone(p.files)
	slices.SortStableFunc(files, func(a, b File) int { return cmp.Compare(a.Size, b.Size) })
	total, unsorted, runs, n := int64(0), int64(0), 0, 0
	for _, f := range files {
		size := total + f.Size
		if c.loose(f) {
			unsorted += f.Size
		} else {
			runs++
		}
		if size > c.o.TargetBytes || unsorted > c.sortable() || c.keyed && runs > maxRuns || n == maxInputs {
			break
		}
		total, n = size, n+1
	}
	files = files[:n]
	for len(files) > 1 && files[len(files)-1].Size > total-files[len(files)-1].Size {
		total -= files[len(files)-1].Size
		files = files[:len(files)-1]
	}
	if len(files) < 2 {
		return nil
	}
	b := &bin{}
	for _, f := range p.files {
		if slices.ContainsFunc(files, func(x File) bool { return x.Path == f.Path }) {
			b.files, b.level = append(b.files, f), max(b.level, levelTag(f)+1)
		}
	}
	return []*bin{b}
}
