package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse/merge"
)

// CompactOptions say how files are put together. All but Hold may be left zero.
type CompactOptions struct {
	MaintainOptions
	// ClusterBy names the columns that rows are sorted by within a file, ascending: nulls
	// last, NaN after all other numbers, strings by their bytes. Without it rows stay in the
	// order in which they came.
	ClusterBy   []string
	TargetBytes int64         // how large files should become; default 128 MiB. Files of half of it are large enough
	MinAge      time.Duration // files younger than this are left alone; default 5 s, negative: none
	MinFiles    int           // fewer files of one level are left alone; default 8
	MemoryBytes int64         // Arrow data in memory at a time; default 256 MiB
	ColdAfter   time.Duration // when files of a partition count as the last for a while; default 1 h
	KeyWindow   time.Duration // for how long idempotency keys are remembered, at least the appenders' own; default 24 h
	MaxKeys     int           // how many of them, at most, per file; default 200,000
}

// Tags of the files that a compaction writes.
const (
	TagSorted = "tidemill.sorted" // columns by which the file's rows are sorted, with commas
	TagLevel  = "tidemill.level"  // how often, at most, its rows have been put together
)

// Compacted says what Compact did.
type Compacted struct {
	Groups            int // commits, each of which replaced some files by one
	FilesIn, FilesOut int
	RowsIn            int64 // and out
	BytesIn, BytesOut int64
	Conflicts         int           // groups that were given up because others changed their files
	Worked            time.Duration // time spent besides waiting for the store
	Version           int64         // of the last commit; 0 when there was nothing to do
}

// Compact puts small files together to larger ones, while others go on appending: rows
// stay the same, and those who follow the table see nothing of it. What is replaced is
// left to vacuuming, and so is what a failed attempt has written.
//
// # What is put together
//
// Files of one table partition that are smaller than half the target. Files as appenders
// write them have level 0, and MinFiles or more of one level become one of the next, in
// groups of at most TargetBytes. So a row is written again at most once per level, and
// there are log(files)/log(MinFiles) levels at most: three or four of them for four files
// a second. Of each level fewer than MinFiles files stay behind. Groups that fill an
// output by themselves do not wait for MinFiles. In a partition that has been cold for
// ColdAfter, files of different levels are put together too, but none that is larger than
// all others with it: the file that a row is in at least doubles each time.
//
// # Order and memory
//
// With ClusterBy, files that are not sorted by it are read whole, sorted in memory, and
// written as one sorted file; sorted files are merged row group by row group. One group
// is worked on at a time. It holds at most
//
//   - MemoryBytes of Arrow data, half of it for what is sorted, half for what is merged,
//   - the group's sorted files as they are stored, TargetBytes at most,
//   - the output, about TargetBytes at most,
//
// so 512 MiB with the defaults, whatever the table holds, and some MiB for encoders. (A
// file of others is read by its own row groups; one that is larger than the memory is
// noticed when it has been read.) Files that are too large to be sorted in half of
// MemoryBytes stay as they are.
//
// # Errors
//
// An input that is missing or damaged is left out, named in the error, and the others go
// on; so is a group whose rows out are not its rows in: it is not committed. When others
// take away a group's files, it is given up and planned again; after several attempts
// without success that is a *ConflictError. Other errors end it at once. What was
// committed before an error is good, and in the Compacted.
//
// Progress is told in bytes of input. Fault points: "compact-written",
// "compact-before-commit", "compact-after-commit".
func (t *Table) Compact(ctx context.Context, o CompactOptions) (Compacted, error) {
	c := &compaction{t: t, o: o.withDefaults(), skip: map[string]bool{}, meter: meter{since: time.Now()}}
	err := c.run(ctx)
	c.out.Worked = c.meter.total
	if err != nil {
		return c.out, fmt.Errorf("compact table %s: %w", t.root, err)
	}
	return c.out, nil
}

func (o CompactOptions) withDefaults() CompactOptions {
	if o.TargetBytes <= 0 {
		o.TargetBytes = 128 << 20
	}
	if o.MinAge == 0 {
		o.MinAge = 5 * time.Second
	}
	if o.MinFiles < 2 {
		o.MinFiles = 8
	}
	if o.MemoryBytes <= 0 {
		o.MemoryBytes = 256 << 20
	}
	if o.ColdAfter <= 0 {
		o.ColdAfter = time.Hour
	}
	if o.KeyWindow <= 0 {
		o.KeyWindow = defaultKeyWindow
	}
	if o.MaxKeys <= 0 {
		o.MaxKeys = defaultMaxKeys
	}
	return o
}

// compaction is one call of Compact.
type compaction struct {
	t     *Table
	o     CompactOptions
	out   Compacted
	errs  []error         // of inputs and groups that were left out
	skip  map[string]bool // files that are left alone from now on, by path
	meter meter

	// Of the snapshot that was planned on.
	snap    *Snapshot
	data    *metadata // the table without its partition columns, as its files have it
	key     merge.Key
	keyed   bool // there is something to sort by
	covered batch.Claims

	rows int64 // that were read of the bin
}

// meter tells the time that was spent working from that spent waiting for the store.
type meter struct {
	since   time.Time // last asked
	waiting time.Duration
	total   time.Duration // worked up to then
}

// wait measures a call of the store.
func (m *meter) wait(f func()) {
	start := time.Now()
	f()
	m.waiting += time.Since(start)
}

// worked returns how long work took since it was last asked.
func (m *meter) worked() time.Duration {
	now := time.Now()
	d := max(now.Sub(m.since)-m.waiting, 0)
	m.since, m.waiting, m.total = now, 0, m.total+d
	return d
}

// pause lets others go first between two pieces of work.
func (c *compaction) pause(ctx context.Context) error {
	err := c.o.pace(ctx, c.meter.worked())
	c.meter.since = time.Now()
	return err
}

const (
	maxRounds = 8 // of planning, in one call
	fruitless = 3 // rounds in a row without a commit, after which it gives up
)

func (c *compaction) run(ctx context.Context) error {
	for round, failed := 0, 0; round < maxRounds; round++ {
		before, conflict, again := c.out.Groups, error(nil), false
		groups, err := c.plan(ctx)
		if err != nil {
			return err
		}
		done, total := c.out.BytesIn, c.out.BytesIn
		for _, g := range groups {
			total += g.bytes()
		}
		for _, g := range groups {
			size := g.bytes()
			more, err := c.attempt(ctx, g)
			if err == nil {
				err = c.pause(ctx)
			}
			var lost *ConflictError
			if errors.As(err, &lost) {
				c.out.Conflicts++
				conflict, more, err = err, true, nil
			}
			if err != nil {
				return errors.Join(append(c.errs, err)...)
			}
			again = again || more
			done += size
			c.o.progress(done, total)
		}
		if !again {
			break
		}
		if failed++; c.out.Groups > before {
			failed = 0
		}
		if failed == fruitless && conflict != nil {
			c.errs = append(c.errs, conflict)
			break
		}
	}
	return errors.Join(c.errs...)
}

// attempt compacts a group; again says that what is left of it should be planned once
// more. An error ends the whole, unless it is a *ConflictError.
func (c *compaction) attempt(ctx context.Context, g *bin) (again bool, err error) {
	again, err = c.compact(ctx, g)
	if errors.Is(err, ErrSchemaChanged) || errors.Is(err, ErrFilesTooOld) {
		return true, &ConflictError{err.Error()}
	}
	var differs *mismatchError
	if errors.As(err, &differs) {
		for _, f := range differs.files {
			c.skip[f.Path] = true
		}
		c.errs = append(c.errs, err)
		return again, nil
	}
	var in *inputError
	if !errors.As(err, &in) || ctx.Err() != nil {
		return again, err
	}
	// Perhaps another has replaced the file and its object is vacuumed: then it is no fault.
	if _, rerr := c.t.Refresh(ctx); rerr != nil {
		return false, errors.Join(err, rerr)
	}
	if !c.t.isLive(in.path) {
		return true, &ConflictError{"file " + in.path + " was removed"}
	}
	c.skip[in.path] = true
	if !errors.Is(err, errTooLarge) {
		c.t.opt.logger.WarnContext(ctx, "a file cannot be compacted", slog.String("table", c.t.root), slog.Any("error", err))
		c.errs = append(c.errs, err)
	}
	return true, nil
}

func (t *Table) isLive(path string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.history.live[path]
	return ok
}

// inputError is one file's fault.
type inputError struct {
	path string
	err  error
}

func (e *inputError) Error() string { return fmt.Sprintf("file %s: %v", e.path, e.err) }

func (e *inputError) Unwrap() error { return e.err }

// errTooLarge: a file cannot be sorted in the memory there is.
var errTooLarge = errors.New("too large to be sorted in memory")

// look takes in the newest snapshot.
func (c *compaction) look(ctx context.Context) error {
	s, err := c.t.Refresh(ctx)
	if err != nil {
		return err
	}
	if err := s.meta.unwritable; err != nil {
		return err
	}
	if c.snap == nil || c.snap.meta != s.meta {
		var fields []arrow.Field
		for _, f := range s.Schema().Fields() {
			if !slices.Contains(s.PartitionBy(), f.Name) {
				fields = append(fields, f)
			}
		}
		c.data = &metadata{schema: arrow.NewSchema(fields, nil)}
		var by []string
		for _, name := range c.o.ClusterBy {
			if !slices.Contains(s.PartitionBy(), name) { // which is the same all through a file
				by = append(by, name)
			}
		}
		if c.key, err = merge.NewKey(c.data.schema, by); err != nil {
			return err
		}
		c.keyed = len(by) > 0
	}
	c.snap, c.covered = s, nil
	return nil
}

// sortedBy is the value of TagSorted for files as they should be.
func (c *compaction) sortedBy() string { return strings.Join(c.o.ClusterBy, ",") }
