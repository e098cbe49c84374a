package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/parquet"
)

// model is a table as it must be: what each version holds, and which claims are open.
//
// It does not foretell a version, for what a failed request did is the store's secret.
// It demands a reason for each: a version must be, exactly, what one of the steps that
// were begun would do to the version before it. And of each step that ended it demands
// that the table agrees with what the step's caller was told.
type model struct {
	mu     sync.Mutex
	claims []*claim            // guarded by mu: steps that may still show in the log
	nextID int                 // guarded by mu
	states []*state            // by version
	rows   map[string][]string // ids by file path
	landed map[string]int64    // by id: the version that brought it
	worded bool                // an append had its source's word

	clock   func() time.Time     // the store's
	objects map[string]time.Time // data files in the store
}

// state is what a version holds.
type state struct {
	files   map[string]delta.Add
	where   map[string]string // path by id
	txns    map[string]int64
	columns map[string]string // type by name
	brought []string          // paths with new rows

	at        time.Time // by the store's clock
	operation string
}

// claim is what a step says it will do, and what its caller was told.
type claim struct {
	id     int
	step   step
	ids    []string // append
	rows   int64    // append: in the record, repetitions included
	expect int64    // commit: of the txn
	target int64    // at, restore: the version
	began  int64    // the version that the table was at
	hold   int64    // maintenance: see MaintainOptions

	over    bool
	out     Appended
	version int64
	err     error
	dead    bool // the process died: nobody was told anything

	at    int64 // version that it became, or -1
	piece []string
}

func newModel() model {
	return model{rows: map[string][]string{}, landed: map[string]int64{}}
}

func (m *model) last() *state { return m.states[len(m.states)-1] }

func (m *model) propose(s step) *claim {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nextID++
	c := &claim{id: m.nextID, step: s, at: -1, began: int64(len(m.states)) - 1}
	switch s.Do {
	case "append":
		runs := s.runs()
		c.ids, c.rows = runIDs(runs), int64(batch.Rows(runs))
	case "at", "restore":
		c.target = int64(len(m.states)) - 1 - s.Behind
	case "commit":
		c.expect = -1
		if v, ok := m.last().txns[s.App]; ok {
			c.expect = v
		}
		c.expect -= s.Behind
		c.ids = runIDs([]batch.Run{{Partition: "commit/" + strconv.Itoa(c.id), Rows: int(s.Rows), PerRow: true}})
	}
	m.claims = append(m.claims, c)
	return c
}

// settle notes what a step's caller was told.
func (m *model) settle(c *claim, out Appended, err error, dead bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.over, c.out, c.err, c.dead = true, out, err, dead
}

// word is what the source side knows to be in of a partition: all up to a gap.
func (m *model) word(part string) batch.Claims {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := int64(-1)
	for {
		off := last + 1
		if _, ok := m.landed[fmt.Sprintf("%s/%d/0", part, off)]; !ok && !dropped(part, off) {
			break
		}
		last = off
	}
	if last < 0 {
		return nil
	}
	m.worded = true
	return batch.Claims{part: {{First: 0, Last: last}}}
}

// observe reads what is new in the log, past all faults, and wants a reason for it.
func (m *model) observe(ctx context.Context, store objstore.Store) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		v := int64(len(m.states))
		data, err := store.Get(ctx, commitKey(v))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		c, err := delta.Decode(data)
		if err == nil {
			err = m.take(ctx, store, v, c)
		}
		if err != nil {
			return fmt.Errorf("version %d (%s): %w", v, c.Info.Operation, err)
		}
	}
	err := m.dense(ctx, store)
	if err == nil {
		err = m.present(ctx, store)
	}
	if err != nil {
		return err
	}
	return m.judge()
}

// dense wants a log without a hole, that ends where it was read to, and begins with its
// first version or behind a checkpoint. What was left over in front of that is no part of it.
func (m *model) dense(ctx context.Context, store objstore.Store) error {
	first, last, checkpoint := int64(-1), int64(-1), int64(-1)
	for o, err := range store.List(ctx, logDir, "") {
		if err != nil {
			return err
		}
		n, ok := parseLogName(strings.TrimPrefix(o.Key, logDir))
		switch {
		case !ok:
		case !n.commit:
			checkpoint = max(checkpoint, n.version)
		case last < 0 || n.version != last+1:
			first, last = n.version, n.version
		default:
			last = n.version
		}
	}
	if last != int64(len(m.states))-1 || first > checkpoint+1 {
		return fmt.Errorf("the log goes from version %d to %d, its newest checkpoint is of %d; it must end at %d", first, last, checkpoint, len(m.states)-1)
	}
	return nil
}

// take puts a commit onto the version before it, and finds its reason.
func (m *model) take(ctx context.Context, store objstore.Store, v int64, c *delta.Commit) error {
	next := &state{files: map[string]delta.Add{}, where: map[string]string{}, txns: map[string]int64{}, columns: map[string]string{}}
	if v > 0 {
		old := m.last()
		next = &state{files: maps.Clone(old.files), where: maps.Clone(old.where), txns: maps.Clone(old.txns), columns: old.columns}
	}
	var added, removed []string
	for _, r := range c.Removes {
		if _, ok := next.files[r.Path]; !ok {
			return fmt.Errorf("it removes %s, which is not in the table", r.Path)
		}
		delete(next.files, r.Path)
		for _, id := range m.rows[r.Path] {
			removed = append(removed, id)
			delete(next.where, id)
		}
	}
	for _, a := range c.Adds {
		ids, err := m.content(ctx, store, a)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if other, ok := next.where[id]; ok {
				return fmt.Errorf("row %s is in %s and in %s", id, other, a.Path)
			}
			next.where[id] = a.Path
			added = append(added, id)
		}
		next.files[a.Path] = a
		if a.DataChange {
			next.brought = append(next.brought, a.Path)
		}
	}
	if c.Metadata != nil {
		schema, err := delta.ParseSchema(c.Metadata.SchemaString)
		if err != nil {
			return err
		}
		next.columns = map[string]string{}
		for _, f := range schema.Fields() {
			next.columns[f.Name] = strings.NewReplacer("utf8", "string", "int64", "long", "timestamp[us, tz=UTC]", "timestamp").Replace(f.Type.String())
		}
	}
	slices.Sort(added)
	slices.Sort(removed)
	if err := m.reason(v, c, next, added, removed); err != nil {
		return err
	}
	for _, x := range c.Txns {
		if err := m.truthful(x, next); err != nil {
			return err
		}
		next.txns[x.AppID] = x.Version
	}
	o, err := store.Stat(ctx, commitKey(v))
	if err != nil {
		return err
	}
	next.at, next.operation = o.ModTime, c.Info.Operation
	m.states = append(m.states, next)
	return nil
}

// content reads which rows a file has.
func (m *model) content(ctx context.Context, store objstore.Store, a delta.Add) ([]string, error) {
	if ids, ok := m.rows[a.Path]; ok {
		return ids, nil
	}
	data, err := store.Get(ctx, a.Path)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != a.Size {
		return nil, fmt.Errorf("file %s has %d bytes, the log says %d", a.Path, len(data), a.Size)
	}
	rec, err := parquet.Decode(ctx, data)
	if err != nil {
		return nil, err
	}
	defer rec.Release()
	if n := numRecords(a.Stats); n != rec.NumRows() {
		return nil, fmt.Errorf("file %s has %d rows, the log says %d", a.Path, rec.NumRows(), n)
	}
	var ids []string
	column := rec.Column(rec.Schema().FieldIndices("id")[0]).(*array.String)
	for i := range column.Len() {
		ids = append(ids, column.Value(i))
	}
	m.rows[a.Path] = ids
	return ids, nil
}

// judge compares what the callers of the steps that are over were told with the table.
func (m *model) judge() error {
	var open []*claim
	for _, c := range m.claims {
		if !c.over {
			open = append(open, c)
			continue
		}
		known := !c.dead && !errors.Is(c.err, ErrOutcomeUnknown)
		switch {
		case !known && c.at < 0:
			open = append(open, c) // it may come in yet
		case known && c.err != nil && c.at >= 0:
			return fmt.Errorf("%s by %d failed, and is in as version %d: %w", c.step.Do, c.step.By, c.at, c.err)
		case known && c.err != nil && c.step.Fault == nil && !m.expected(c, c.err):
			return fmt.Errorf("%s by %d failed although nothing was wrong: %w", c.step.Do, c.step.By, c.err)
		case known && c.err == nil:
			if err := m.kept(c); err != nil {
				return fmt.Errorf("%s by %d: %w", c.step.Do, c.step.By, err)
			}
		}
	}
	m.claims = open
	return nil
}

// kept wants of a step that succeeded what it promised.
func (m *model) kept(c *claim) error {
	switch c.step.Do {
	default:
		return m.maintained(c)
	case "commit":
		if c.version != c.at {
			return fmt.Errorf("the caller was told version %d, it is version %d", c.version, c.at)
		}
	case "columns":
		if typ := m.last().columns[c.step.Column]; typ != typeName(c.step) {
			return fmt.Errorf("column %s has type %q", c.step.Column, typ)
		}
	case "append":
		for _, id := range c.ids {
			// What a source's word says to be in is left out before the log was looked at.
			if v, ok := m.landed[id]; !ok || v > c.out.Version && !m.worded {
				return fmt.Errorf("row %s was acked and is not in at version %d", id, c.out.Version)
			}
		}
		if c.at >= 0 && c.at != c.out.Version || c.at >= 0 && c.out.Rows != int64(len(c.piece)) || c.at < 0 && c.out.Rows > 0 || c.out.Duplicates != c.rows-c.out.Rows {
			return fmt.Errorf("the caller was told version %d, %d rows, %d duplicates; it is version %d, %d rows of %d",
				c.out.Version, c.out.Rows, c.out.Duplicates, c.at, len(c.piece), c.rows)
		}
	}
	return nil
}

// same wants a snapshot to be what its version must be.
func (m *model) same(s *Snapshot) error {
	if s.version >= int64(len(m.states)) {
		return fmt.Errorf("a snapshot has version %d, the log ends at %d", s.version, len(m.states)-1)
	}
	want := m.states[s.version]
	n, bytes := 0, int64(0)
	for f := range s.Files() {
		a, ok := want.files[f.pathInLog()]
		if !ok || a.Size != f.Size || f.Rows != int64(len(m.rows[a.Path])) {
			return fmt.Errorf("snapshot %d has file %s: %+v; it must be %+v", s.version, f.Path, f, a)
		}
		n, bytes = n+1, bytes+f.Size
	}
	if n != len(want.files) || s.NumFiles() != n || s.NumRows() != int64(len(want.where)) || s.Bytes() != bytes {
		return fmt.Errorf("snapshot %d has %d files (it says %d), %d rows, %d bytes (it says %d); it must have %d files, %d rows",
			s.version, n, s.NumFiles(), s.NumRows(), bytes, s.Bytes(), len(want.files), len(want.where))
	}
	if got := txns(s); !maps.Equal(got, want.txns) {
		return fmt.Errorf("snapshot %d has transactions %v, it must have %v", s.version, got, want.txns)
	}
	for _, f := range s.Schema().Fields() {
		if _, ok := want.columns[f.Name]; !ok {
			return fmt.Errorf("snapshot %d has column %s", s.version, f.Name)
		}
	}
	if s.Schema().NumFields() != len(want.columns) {
		return fmt.Errorf("snapshot %d has %d columns, it must have %d", s.version, s.Schema().NumFields(), len(want.columns))
	}
	return nil
}
