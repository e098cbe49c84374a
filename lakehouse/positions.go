package lakehouse

import (
	"container/list"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/delta"
)

// positions is what an Appender knows to be in its table, by source position. It is as
// old as version; what it has is in, what it lacks may be.
type positions struct {
	version   int64
	durable   batch.Claims
	anchors   map[string][]int64  // beginnings of the spans that the log has a txn for, sorted, by partition
	cursors   map[string][]Cursor // by partition, sorted: the one that counts, and those above it
	ephemeral memo                // "~": only here
	keyed     memo                // "#": in the tags of recent files too
}

func newPositions(o AppenderOptions) *positions {
	return &positions{
		version: -1, durable: batch.Claims{}, anchors: map[string][]int64{}, cursors: map[string][]Cursor{},
		ephemeral: newMemo(o.MaxEphemeral, 0), keyed: newMemo(o.MaxKeys, o.KeyWindow),
	}
}

// sync takes in what the log has up to a snapshot.
func (p *positions) sync(t *Table, s *Snapshot, now time.Time) {
	if p.version >= s.version {
		return
	}
	// Of the keys the latest stay, and a file that replaced others comes after files with
	// newer ones: they are taken in by their age.
	var keyed []File
	add := func(f File) {
		if strings.Contains(f.Tags[TagRanges], `"#`) {
			keyed = append(keyed, f)
		} else {
			p.addFile(f, now)
		}
	}
	changes := t.recent(p.version, s.version)
	if int64(len(changes)) < s.version-p.version {
		for x := range s.Txns() {
			p.addTxn(x)
		}
		for f := range s.Files() {
			add(f)
		}
	}
	for _, c := range changes {
		for _, x := range c.Txns {
			p.addTxn(x)
		}
		for _, f := range c.Adds {
			add(f)
		}
	}
	slices.SortStableFunc(keyed, func(a, b File) int { return keysAt(a).Compare(keysAt(b)) })
	for _, f := range keyed {
		p.addFile(f, now)
	}
	p.version = s.version
}

func (p *positions) addTxn(x delta.Txn) {
	partition, first := spanOf(x.AppID)
	if !batch.Durable(partition) || x.Version < first {
		return
	}
	p.durable[partition] = p.durable[partition].Add(batch.Interval{First: first, Last: x.Version})
	at := p.anchors[partition]
	if i, ok := slices.BinarySearch(at, first); !ok {
		p.anchors[partition] = slices.Insert(at, i, first)
	}
}

// addFile takes in a file's tag. One that cannot be read is not ours to judge: the
// file's rows are in the table whatever it says.
func (p *positions) addFile(f File, now time.Time) {
	c, err := Ranges(f)
	if err != nil {
		return
	}
	at := keysAt(f)
	for part, set := range c {
		if !batch.Keyed(part) || now.Sub(at) <= p.keyed.window {
			p.addSet(part, set, at)
		}
	}
	p.addCursors(f)
}

// addCursors takes in a file's cursors. A tag that cannot be read has none.
func (p *positions) addCursors(f File) {
	if !hasCursors(f) {
		return
	}
	c, err := Cursors(f)
	if err != nil {
		return
	}
	for part, list := range c {
		have := p.cursors[part]
		for _, x := range list {
			have = addCursor(have, x)
		}
		p.cursors[part] = prune(have, p.durable[part])
	}
}

// add takes in what is known to be in the table, or never to come.
func (p *positions) add(c batch.Claims, now time.Time) {
	for part, set := range c {
		p.addSet(part, set, now)
	}
}

func (p *positions) addSet(part string, set batch.Intervals, at time.Time) {
	switch {
	case batch.Durable(part):
		p.durable[part] = p.durable[part].AddSet(set)
	case batch.Keyed(part):
		p.keyed.add(part, set, at)
	case batch.Identified(part): // found by its rows, see Dedupe
	default:
		p.ephemeral.add(part, set, at)
	}
}

// of returns what is in of one partition. The set changes with the next add.
func (p *positions) of(part string, now time.Time) batch.Intervals {
	switch {
	case batch.Durable(part):
		return p.durable[part]
	case batch.Keyed(part):
		return p.keyed.get(part, now)
	}
	return p.ephemeral.get(part, now)
}

// has says whether an offset of the runs is in.
func (p *positions) has(runs []batch.Run, now time.Time) bool {
	var part string
	var in batch.Intervals // of part
	for i, r := range runs {
		if i == 0 || r.Partition != part {
			part, in = r.Partition, p.of(r.Partition, now)
		}
		if in.Overlaps(r.Interval()) {
			return true
		}
	}
	return false
}

// filter returns which rows of the runs are not in, and their runs; keep is nil when
// all are to be kept. An offset that comes a second time further on in the same runs is
// left out too: a batch can hold a message and its redelivery. Rows that follow each
// other in their partition with one offset are one message's.
func (p *positions) filter(runs []batch.Run, now time.Time) (keep []int32, kept []batch.Run) {
	if !p.has(runs, now) && !repeats(runs) {
		return nil, runs
	}
	keep = []int32{}
	type before struct {
		offset int64
		again  bool
	}
	seen, last := batch.Claims{}, map[string]before{}
	row := int32(0)
	for _, r := range runs {
		in := p.of(r.Partition, now)
		prev, begun := last[r.Partition]
		for i := range r.Rows {
			off := r.Offset(i)
			goesOn := begun && prev.offset == off && !prev.again
			again := !goesOn && seen[r.Partition].Contains(off)
			if !again && !in.Contains(off) {
				keep = append(keep, row)
				kept = batch.AppendRun(kept, r.Row(i))
			}
			prev, begun = before{off, again}, true
			row++
		}
		seen[r.Partition] = seen[r.Partition].Add(r.Interval())
		last[r.Partition] = prev
	}
	if len(keep) == int(row) {
		return nil, runs
	}
	return keep, kept
}

// repeats says whether an offset may come twice in the runs.
func repeats(runs []batch.Run) bool {
	if ascend(runs) {
		return false
	}
	seen := batch.Claims{}
	for _, r := range runs {
		if seen[r.Partition].Overlaps(r.Interval()) {
			return true
		}
		seen[r.Partition] = seen[r.Partition].Add(r.Interval())
	}
	return false
}

// ascend says that each partition's offsets only grow, as they mostly do.
func ascend(runs []batch.Run) bool {
	top := map[string]int64{}
	for i, r := range runs {
		v := r.Interval()
		var last int64
		begun := true
		if i > 0 && runs[i-1].Partition == r.Partition {
			last = runs[i-1].Interval().Last
		} else {
			last, begun = top[r.Partition]
		}
		if begun && v.First <= last {
			return false
		}
		if i+1 == len(runs) || runs[i+1].Partition != r.Partition {
			top[r.Partition] = v.Last
		}
	}
	return true
}

// txns returns the transactions that a commit of a group has to write: for each
// partition that the group or the source's word touches, the spans without a gap that
// its offsets make together with what was in. What floats above a gap has no span yet;
// its offsets are in the files' tags.
func (p *positions) txns(group, settled batch.Claims, s *Snapshot) []delta.Txn {
	touched := map[string]bool{}
	for _, c := range []batch.Claims{group, settled} {
		for part := range c {
			if batch.Durable(part) {
				touched[part] = true
			}
		}
	}
	var out []delta.Txn
	for _, part := range slices.Sorted(maps.Keys(touched)) {
		all := slices.Clone(p.durable[part]).AddSet(group[part]).AddSet(settled[part])
		for i, v := range all {
			first, ok := p.anchor(part, v, i == 0, settled[part])
			if !ok {
				continue
			}
			x := spanTxn(part, first, v.Last)
			if have, ok := s.Txn(x.AppID); !ok || have < x.Version {
				out = append(out, x)
			}
		}
	}
	return out
}

// anchor returns where the span that stands for an interval begins. A span is begun at
// offset 0, where the source vouches for an interval, and for the first interval of a
// partition that has no span; else every gap that closes later would leave a txn in the
// log for ever. A span that was begun goes on.
func (p *positions) anchor(part string, v batch.Interval, lowest bool, settled batch.Intervals) (int64, bool) {
	if v.First == 0 {
		return 0, true
	}
	at := p.anchors[part]
	i, _ := slices.BinarySearch(at, v.First)
	begun := i < len(at) && at[i] <= v.Last
	if settled.Overlaps(v) && !(begun && !settled.Overlaps(batch.Interval{First: v.First, Last: at[i] - 1})) {
		return v.First, true
	}
	if begun {
		return at[i], true
	}
	return v.First, lowest && len(at) == 0
}

// memo remembers offsets of a bounded number of partitions, those last added to, each
// for a while.
type memo struct {
	max    int
	window time.Duration // 0: for ever
	order  *list.List    // of *memoEntry, the latest first
	parts  map[string]*list.Element
}

type memoEntry struct {
	part string
	set  batch.Intervals
	at   time.Time
}

func newMemo(limit int, window time.Duration) memo {
	return memo{limit, window, list.New(), map[string]*list.Element{}}
}

func (m *memo) get(part string, now time.Time) batch.Intervals {
	e, ok := m.parts[part]
	if !ok {
		return nil
	}
	x := e.Value.(*memoEntry)
	if m.window > 0 && now.Sub(x.at) > m.window {
		return nil
	}
	return x.set
}

func (m *memo) add(part string, set batch.Intervals, at time.Time) {
	e, ok := m.parts[part]
	if !ok {
		e = m.order.PushFront(&memoEntry{part: part})
		m.parts[part] = e
	}
	x := e.Value.(*memoEntry)
	x.set = x.set.AddSet(set)
	if at.After(x.at) {
		x.at = at
	}
	m.order.MoveToFront(e)
	for last := m.order.Back(); m.order.Len() > 1; last = m.order.Back() {
		old := last.Value.(*memoEntry)
		if m.order.Len() <= m.max && (m.window == 0 || at.Sub(old.at) <= m.window) {
			break
		}
		m.order.Remove(last)
		delete(m.parts, old.part)
	}
}
