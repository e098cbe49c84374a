package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/batch"
)

// Dedupe has an Appender leave out rows of partitions that are not batch.Durable when
// the table has a row with the same values already, landed within the window by
// whomever. A row with a null in one of the columns is never left out.
type Dedupe struct {
	Columns []string
	Window  time.Duration
	MaxKeys int // kept in memory, at most 32 bytes each; default DefaultMaxKeys
}

// DefaultMaxKeys are at most 160 MB.
const DefaultMaxKeys = 5_000_000

// TagLandedAt is the tag of a file that replaces others: when the newest of them landed,
// in ms since 1970. Other files landed when they were made.
const TagLandedAt = "tidemill.landed_at"

func landedAt(f File) time.Time {
	if ms, err := strconv.ParseInt(f.Tags[TagLandedAt], 10, 64); err == nil {
		return time.UnixMilli(ms)
	}
	return f.ModTime
}

// landedAtTag is the tag's value for a file that replaces others.
func landedAtTag(files []File) string {
	var newest time.Time
	for _, f := range files {
		if at := landedAt(f); at.After(newest) {
			newest = at
		}
	}
	return strconv.FormatInt(newest.UnixMilli(), 10)
}

// deduper knows the keys of the rows that landed in the table within the window.
type deduper struct {
	t    *Table
	o    Dedupe
	log  *slog.Logger
	hash keyHasher

	loading chan struct{} // holds a token while files are read

	mu      sync.Mutex
	set     *keySet          // guarded by mu
	version int64            // guarded by mu: the set has the files up to this one
	mine    map[string]int64 // guarded by mu: files of later versions that it has as well
	added   int64            // guarded by mu: counts what was put into the set
	warned  time.Time        // guarded by mu
}

func newDeduper(t *Table, o Dedupe, log *slog.Logger) *deduper {
	if o.MaxKeys <= 0 {
		o.MaxKeys = DefaultMaxKeys
	}
	return &deduper{
		t: t, o: o, log: log, hash: newKeyHasher(), loading: make(chan struct{}, 1),
		set: newKeySet(o.Window, o.MaxKeys), version: -1, mine: map[string]int64{},
	}
}

func (d *deduper) upTo() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.version
}

// sync takes in the keys of what has landed up to a snapshot: of the window at first,
// then of what others have committed since.
func (d *deduper) sync(ctx context.Context, s *Snapshot) error {
	if d.upTo() >= s.version {
		return nil
	}
	select {
	case d.loading <- struct{}{}:
		defer func() { <-d.loading }()
	case <-ctx.Done():
		return fmt.Errorf("read keys: %w", ctx.Err())
	}
	have := d.upTo()
	if have >= s.version {
		return nil
	}
	s, err := d.catchUp(ctx, have, s)
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.version = s.version
	maps.DeleteFunc(d.mine, func(_ string, v int64) bool { return v <= s.version })
	return nil
}

// catchUp reads what came after one version up to a snapshot, or to a later one, which
// it returns.
func (d *deduper) catchUp(ctx context.Context, have int64, s *Snapshot) (*Snapshot, error) {
	if changes := d.t.recent(have, s.version); have >= 0 && int64(len(changes)) == s.version-have {
		var files []File
		for _, c := range changes {
			files = append(files, c.Adds...)
		}
		if err := d.load(ctx, s, files, false); !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
	}
	// At the start, and for whoever has slept: what is there now.
	since := func(s *Snapshot) []File {
		return slices.DeleteFunc(slices.Collect(s.Files()), func(f File) bool { return f.Version <= have })
	}
	err := d.load(ctx, s, since(s), false)
	if errors.Is(err, fs.ErrNotExist) {
		if s, err = d.t.Refresh(ctx); err == nil {
			err = d.load(ctx, s, since(s), true)
		}
	}
	return s, err
}

// load reads the keys of those files that are recent and not known yet, the oldest first.
func (d *deduper) load(ctx context.Context, s *Snapshot, files []File, lost bool) error {
	schema, err := s.Project(d.o.Columns)
	if err != nil {
		return err
	}
	meta := &metadata{Metadata: s.meta.Metadata, schema: schema}
	files = d.recent(files)
	for len(files) > 0 {
		done := 0
		err := d.t.keepTrying(ctx, func() error {
			for f := range d.t.fetchAll(ctx, files[done:]) {
				switch {
				case f.err == nil:
					if err := d.read(ctx, meta, f); err != nil {
						return err
					}
				case lost && errors.Is(f.err, fs.ErrNotExist):
					d.unread(ctx, f.file, f.err)
				default:
					return f.err
				}
				done++
			}
			return nil
		})
		files = files[done:]
		if err != nil {
			return err
		}
	}
	return nil
}

// recent returns those of some files whose keys count, in the order of their age.
func (d *deduper) recent(files []File) []File {
	now := d.t.opt.now()
	d.mu.Lock()
	files = slices.DeleteFunc(slices.Clone(files), func(f File) bool {
		_, mine := d.mine[f.Path]
		return mine || now.Sub(landedAt(f)) > d.o.Window
	})
	d.mu.Unlock()
	slices.SortStableFunc(files, func(a, b File) int { return landedAt(b).Compare(landedAt(a)) })
	rows := int64(0)
	for i, f := range files {
		if rows > int64(d.o.MaxKeys) {
			files = files[:i]
			d.full(now.Sub(landedAt(f)))
			break
		}
		rows += max(f.Rows, 0)
	}
	slices.Reverse(files)
	return files
}

// read takes in the keys of a file. One that cannot be read as Parquet says nothing of
// its keys; whoever reads the table will say so.
func (d *deduper) read(ctx context.Context, meta *metadata, f fetched) error {
	at := landedAt(f.file)
	_, err := scanFile(ctx, meta, f.file, f.data, func(rec arrow.Record, _ error) bool {
		defer rec.Release()
		d.add(d.hash.keys(rec.Columns(), int(rec.NumRows())), at)
		return true
	})
	if err != nil && ctx.Err() == nil {
		d.unread(ctx, f.file, err)
		return nil
	}
	return err
}

func (d *deduper) unread(ctx context.Context, f File, err error) {
	d.log.WarnContext(ctx, "keys of a file cannot be read; repeats of its rows are not found",
		slog.String("table", d.t.root), slog.String("file", f.Path), slog.Any("error", err))
}

func (d *deduper) add(keys []rowKey, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.added++
	d.set.forget(d.t.opt.now())
	if shrunk, left := d.set.add(keys, at); shrunk {
		d.fullLocked(left)
	}
}

// full says, once a minute at most, that the window is shorter than it should be.
func (d *deduper) full(left time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fullLocked(left)
}

func (d *deduper) fullLocked(left time.Duration) {
	now := d.t.opt.now()
	if now.Sub(d.warned) < time.Minute {
		return
	}
	d.warned = now
	d.log.Warn("more keys than dedupe may remember: repeats are found for less time than the contract says; raise max_keys or shorten the window",
		slog.String("table", d.t.root), slog.Int("max_keys", d.o.MaxKeys), slog.Duration("window", d.o.Window), slog.Duration("remembered", left))
}

// landed takes in the keys of what was just committed as a version.
func (d *deduper) landed(version int64, items []*item) {
	now := d.t.opt.now()
	for _, it := range items {
		d.add(it.keys, now)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.version >= version {
		return
	}
	for _, it := range items {
		for i := range it.files {
			d.mine[it.files[i].Path] = version
		}
	}
}

// keysOf returns the keys of a record's rows.
func (d *deduper) keysOf(rec arrow.Record) []rowKey {
	columns := make([]arrow.Array, len(d.o.Columns))
	for i, name := range d.o.Columns {
		at := rec.Schema().FieldIndices(name)
		if len(at) == 0 {
			return make([]rowKey, rec.NumRows())
		}
		columns[i] = rec.Column(at[0])
	}
	return d.hash.keys(columns, int(rec.NumRows()))
}

// pick narrows down what is kept of a record to the rows whose key is new, and notes the
// keys of those. all are the keys of the record's rows.
func (d *deduper) pick(p *picked, all []rowKey) {
	seen := newFirsts(all)
	runs := p.runs
	p.keys = make([]rowKey, 0, len(all))
	var kept []int32
	var keptRuns []batch.Run
	d.mu.Lock()
	defer d.mu.Unlock()
	d.set.forget(d.t.opt.now())
	p.added = d.added
	i := 0
	for _, r := range runs {
		judged := !batch.Durable(r.Partition)
		for j := range r.Rows {
			row := int32(i) //nolint:gosec // a record's rows
			if p.keep != nil {
				row = p.keep[i]
			}
			i++
			k := all[row]
			if k != (rowKey{}) && (seen.again(row) || d.set.has(k)) && judged {
				if kept == nil {
					kept, keptRuns = before(p, i-1)
				}
				continue
			}
			p.keys = append(p.keys, k)
			if judged {
				p.judged = true
			}
			if kept != nil {
				kept = append(kept, row)
				keptRuns = batch.AppendRun(keptRuns, r.Row(j))
			}
		}
	}
	if kept != nil {
		p.keep, p.runs = kept, keptRuns
	}
}

// before returns the first n of the rows that are kept, and their runs.
func before(p *picked, n int) (rows []int32, runs []batch.Run) {
	rows = make([]int32, n)
	for i := range rows {
		rows[i] = int32(i) //nolint:gosec // a record's rows
		if p.keep != nil {
			rows[i] = p.keep[i]
		}
	}
	for _, r := range p.runs {
		if n == 0 {
			break
		}
		r.Rows = min(r.Rows, n)
		n -= r.Rows
		runs = append(runs, r)
	}
	return rows, runs
}

// has says whether a key of an item's judged rows has landed by now.
func (d *deduper) has(it *item) bool {
	if !it.judged {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.added == it.added {
		return false
	}
	d.set.forget(d.t.opt.now())
	return it.anyJudged(d.set.has)
}

// anyJudged says whether something holds for the key of a row that is judged by it.
func (it *item) anyJudged(is func(rowKey) bool) bool {
	i := 0
	for _, r := range it.runs {
		if !batch.Durable(r.Partition) && slices.ContainsFunc(it.keys[i:i+r.Rows], is) {
			return true
		}
		i += r.Rows
	}
	return false
}

// Seen returns the rows, of columns that have the place of Dedupe.Columns, whose like
// the table has; none without Dedupe.
func (a *Appender) Seen(ctx context.Context, columns ...arrow.Array) ([]int32, error) {
	d := a.dedupe
	if d == nil {
		return nil, nil
	}
	if err := d.sync(ctx, a.t.Snapshot()); err != nil {
		return nil, fmt.Errorf("look into table %s: %w", a.t.root, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.set.forget(d.t.opt.now())
	if d.set.live == 0 {
		return nil, nil
	}
	var out []int32
	for i, k := range d.hash.keys(columns, columns[0].Len()) {
		if d.set.has(k) {
			out = append(out, int32(i)) //nolint:gosec // a record's rows
		}
	}
	return out, nil
}
