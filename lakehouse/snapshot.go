package lakehouse

import (
	"fmt"
	"iter"
	"maps"
	"sync/atomic"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/lakehouse/delta"
)

// Snapshot is a table at one version. It never changes and may be kept; snapshots of
// one table share what they have in common, so one more costs what its commit changed.
type Snapshot struct {
	version int64
	time    time.Time
	meta    *metadata // replaced, never changed
	entries []*entry  // in the order of the commits; shared with later snapshots, which have more
	txns    txnMap
	files   int
	rows    int64
	bytes   int64
}

// entry is a file and the version that removed it, 0 while it is in the table. Snapshots
// before that version still have it.
type entry struct {
	File
	removed atomic.Int64
}

type metadata struct {
	delta.Metadata
	schema     *arrow.Schema
	protocol   delta.Protocol
	unwritable error // why the table can be read and not written; usually nil
}

// Version returns the snapshot's version, the number of its last commit.
func (s *Snapshot) Version() int64 { return s.version }

// Time returns when the version was committed.
func (s *Snapshot) Time() time.Time { return s.time }

// Schema returns the table's columns, partition columns included.
func (s *Snapshot) Schema() *arrow.Schema { return s.meta.schema }

// PartitionBy returns the names of the partition columns. The slice is shared.
func (s *Snapshot) PartitionBy() []string { return s.meta.PartitionColumns }

// Configuration returns the table's properties. The map is shared.
func (s *Snapshot) Configuration() map[string]string { return s.meta.Configuration }

// TableID returns the id that the table got when it was created.
func (s *Snapshot) TableID() string { return s.meta.ID }

// Protocol returns what the table asks of its readers and writers.
func (s *Snapshot) Protocol() delta.Protocol { return s.meta.protocol }

// NumFiles returns the number of files.
func (s *Snapshot) NumFiles() int { return s.files }

// NumRows returns the number of rows in the files that say it.
func (s *Snapshot) NumRows() int64 { return s.rows }

// Bytes returns the size of the files.
func (s *Snapshot) Bytes() int64 { return s.bytes }

// Files yields the files in the order in which they were added.
func (s *Snapshot) Files() iter.Seq[File] {
	return func(yield func(File) bool) {
		for _, e := range s.entries {
			if r := e.removed.Load(); (r == 0 || r > s.version) && !yield(e.File) {
				return
			}
		}
	}
}

// Txn returns an application's version, if the table has one.
func (s *Snapshot) Txn(appID string) (int64, bool) {
	t, ok := s.txns.get(appID)
	return t.Version, ok
}

// Txns yields all applications' versions, in no order.
func (s *Snapshot) Txns() iter.Seq[delta.Txn] { return s.txns.all() }

// txnMap is a persistent map: set returns a new one that shares most with the old. A
// small map of changes lies over a big one; it is copied at each change and folded in
// when it is full.
type txnMap struct{ base, top map[string]delta.Txn }

const txnTop = 64

func (m txnMap) get(appID string) (delta.Txn, bool) {
	if t, ok := m.top[appID]; ok {
		return t, true
	}
	t, ok := m.base[appID]
	return t, ok
}

func (m txnMap) all() iter.Seq[delta.Txn] {
	return func(yield func(delta.Txn) bool) {
		for _, t := range m.top {
			if !yield(t) {
				return
			}
		}
		for id, t := range m.base {
			if _, newer := m.top[id]; !newer && !yield(t) {
				return
			}
		}
	}
}

func (m txnMap) set(txns []delta.Txn) txnMap {
	if len(txns) == 0 {
		return m
	}
	top := make(map[string]delta.Txn, len(m.top)+len(txns))
	maps.Copy(top, m.top)
	for _, t := range txns {
		top[t.AppID] = t
	}
	if len(top) <= txnTop {
		return txnMap{m.base, top}
	}
	base := make(map[string]delta.Txn, len(m.base)+len(top))
	maps.Copy(base, m.base)
	maps.Copy(base, top)
	return txnMap{base: base}
}

// history is what a Table knows of its log: the newest snapshot, and what it takes to
// make the next. Its methods are called with the table's lock held.
type history struct {
	snap *Snapshot         // nil before the first commit
	live map[string]*entry // files of snap by path
	dead int               // entries of snap that it does not have
	tail []Change          // the latest commits up to snap's
}

// tailLen is how many commits stay in memory for those who follow a table.
const tailLen = 1024

// apply makes the snapshot after a commit. The history is changed only if there is no
// error: a commit that asks for something unsupported leaves the table where it was.
func (h *history) apply(version int64, c *delta.Commit) error {
	old := h.snap
	if old == nil {
		old = &Snapshot{version: version - 1}
	}
	meta, err := nextMetadata(old.meta, c)
	if err != nil {
		return fmt.Errorf("version %d: %w", version, err)
	}
	files, err := filesOf(version, c)
	if err != nil {
		return err
	}
	removes := make([]string, len(c.Removes))
	for i, r := range c.Removes {
		if removes[i], err = delta.DecodePath(r.Path); err != nil {
			return fmt.Errorf("version %d: %w", version, err)
		}
	}
	s := *old
	s.version, s.meta, s.time = version, meta, commitTime(c, old.time)
	s.txns = old.txns.set(c.Txns)
	for _, path := range removes {
		h.drop(&s, path)
	}
	for i := range files {
		f := &files[i]
		h.drop(&s, f.Path) // added again: with other statistics, say
		e := &entry{File: *f}
		s.entries = append(s.entries, e)
		h.live[f.Path] = e
		s.files, s.rows, s.bytes = s.files+1, s.rows+max(f.Rows, 0), s.bytes+f.Size
	}
	if h.dead > s.files+1024 {
		h.sweep(&s)
	}
	h.snap = &s
	if len(h.tail) >= 2*tailLen {
		h.tail = append([]Change(nil), h.tail[len(h.tail)-tailLen:]...)
	}
	h.tail = append(h.tail, changeOf(version, c, files, s.time))
	return nil
}

func (h *history) drop(s *Snapshot, path string) {
	e, ok := h.live[path]
	if !ok {
		return
	}
	e.removed.Store(s.version)
	delete(h.live, path)
	h.dead++
	s.files, s.rows, s.bytes = s.files-1, s.rows-max(e.Rows, 0), s.bytes-e.Size
}

// sweep gives a snapshot a list of its own, without the files that are gone.
func (h *history) sweep(s *Snapshot) {
	kept := make([]*entry, 0, s.files+s.files/4)
	for _, e := range s.entries {
		if e.removed.Load() == 0 {
			kept = append(kept, e)
		}
	}
	s.entries, h.dead = kept, 0
}

func nextMetadata(old *metadata, c *delta.Commit) (*metadata, error) {
	m := metadata{protocol: delta.Protocol{MinReaderVersion: delta.ReaderVersion, MinWriterVersion: delta.WriterVersion}}
	switch {
	case c.Metadata == nil && old == nil:
		return nil, &DamagedError{Object: logDir, Reason: "has no metaData in its first commit", Advice: restoreObject}
	case c.Metadata == nil && c.Protocol == nil:
		return old, nil
	case old != nil:
		m = *old
	}
	if c.Protocol != nil {
		m.protocol = *c.Protocol
	}
	if c.Metadata != nil {
		m.Metadata = *c.Metadata
	}
	err := m.protocol.CheckRead()
	if err == nil {
		err = m.Metadata.CheckRead()
	}
	if err == nil {
		m.schema, err = delta.ParseSchema(m.SchemaString)
	}
	if err != nil {
		return nil, err
	}
	m.unwritable = m.protocol.CheckWrite()
	if m.unwritable == nil {
		m.unwritable = m.Metadata.CheckWrite()
	}
	return &m, nil
}

// commitTime returns when a commit says it was made, not before the one it follows.
func commitTime(c *delta.Commit, before time.Time) time.Time {
	var ms int64
	if c.Info != nil {
		ms = c.Info.Timestamp
	}
	for _, a := range c.Adds {
		if c.Info == nil {
			ms = max(ms, a.ModificationTime)
		}
	}
	if t := time.UnixMilli(ms).UTC(); t.After(before) {
		return t
	}
	return before
}
