package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/google/uuid"

	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// Table is a Delta table in an object store. Safe for concurrent use. Any number of
// Tables, in any number of processes, may stand for one table.
type Table struct {
	store objstore.Store // below the table's root
	root  string
	opt   options

	committing chan struct{} // holds a token while a commit is under way
	turns      turns         // guarded by committing

	auto autoCheckpoint

	mu         sync.Mutex
	history    *history       // guarded by mu
	confirmed  time.Time      // guarded by mu: when the log was last seen to end at the snapshot
	checkpoint checkpointMark // guarded by mu
}

type options struct {
	name   string
	now    func() time.Time
	wait   func(ctx context.Context, attempt int) error
	logger *slog.Logger
	fault  func(point string)
	manual bool // no checkpoints by itself
}

// Option changes how a table behaves; the defaults are right outside of tests.
type Option func(*options)

// WithName sets what errors and log lines call the table; by default its root.
func WithName(name string) Option { return func(o *options) { o.name = name } }

// WithClock sets the clock that commits and files are stamped with.
func WithClock(now func() time.Time) Option { return func(o *options) { o.now = now } }

// WithWait sets the pause before the store is asked again after its attempt-th (from 1)
// failure. It returns early with the context's error.
func WithWait(wait func(ctx context.Context, attempt int) error) Option {
	return func(o *options) { o.wait = wait }
}

// WithLogger sets where lost races and doubtful outcomes are told.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// WithoutCheckpoints leaves it to calls of Checkpoint to write checkpoints.
func WithoutCheckpoints() Option { return func(o *options) { o.manual = true } }

// WithFault sets what is called at the named points of what a Table does by itself,
// "checkpoint-encoded", "checkpoint-put" and "hint-put"; tests crash there.
func WithFault(fault func(point string)) Option { return func(o *options) { o.fault = fault } }

// pause is the default wait: 10 ms doubled up to 2 s, half of it at random.
func pause(ctx context.Context, attempt int) error {
	d := min(10*time.Millisecond<<min(attempt-1, 10), 2*time.Second)
	timer := time.NewTimer(d/2 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func newTable(store objstore.Store, root string, opts []Option) *Table {
	root = strings.Trim(root, "/")
	t := &Table{
		store: objstore.WithPrefix(store, root), root: root, committing: make(chan struct{}, 1),
		opt: options{now: time.Now, wait: pause, logger: slog.New(slog.DiscardHandler)},
	}
	for _, o := range opts {
		o(&t.opt)
	}
	if t.opt.name != "" {
		t.root = t.opt.name
	}
	t.auto.off = t.opt.manual
	t.checkpoint = checkpointMark{-1, t.opt.now()}
	return t
}

func (t *Table) fault(point string) {
	if t.opt.fault != nil {
		t.opt.fault(point)
	}
}

// CreateOptions describe a table that may not exist yet.
type CreateOptions struct {
	Schema        *arrow.Schema
	PartitionBy   []string
	Configuration map[string]string // table properties beside the defaults; an empty value takes a default away
}

// defaults are the properties a table is created with: a log that stays short.
var defaults = map[string]string{
	"delta.checkpointInterval":           "100",
	"delta.logRetentionDuration":         "interval 1 days",
	"delta.deletedFileRetentionDuration": "interval 1 days",
}

// Open opens the table at root, a path in the store; fs.ErrNotExist when there is none.
// A table that needs more of Delta than we have is a *delta.UnsupportedError.
func Open(ctx context.Context, store objstore.Store, root string, opts ...Option) (*Table, error) {
	t := newTable(store, root, opts)
	if err := t.load(ctx); err != nil {
		return nil, fmt.Errorf("open table %s: %w", t.root, err)
	}
	return t, nil
}

// Create opens the table at root, or makes it. Of a table that exists the partition
// columns must be the same; columns of the schema that it lacks are added to it, at its
// end, if they are nullable. Everything else that differs is a *SchemaError that names
// the columns. Many processes may create one table at the same time.
func Create(ctx context.Context, store objstore.Store, root string, o CreateOptions, opts ...Option) (*Table, error) {
	t := newTable(store, root, opts)
	fail := func(err error) (*Table, error) { return nil, fmt.Errorf("create table %s: %w", t.root, err) }
	meta, err := t.newMetadata(o)
	if err != nil {
		return fail(err)
	}
	err = t.load(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		first := &delta.Commit{
			Protocol: &delta.Protocol{MinReaderVersion: delta.ReaderVersion, MinWriterVersion: delta.WriterVersion},
			Metadata: meta,
		}
		if _, err = t.attempt(ctx, 0, first, &Commit{Operation: "CREATE TABLE"}); err == nil {
			err = t.load(ctx)
		}
	}
	if err != nil {
		return fail(err)
	}
	if err := t.Evolve(ctx, o.Schema, meta.PartitionColumns); err != nil {
		return fail(err)
	}
	return t, nil
}

func (t *Table) newMetadata(o CreateOptions) (*delta.Metadata, error) {
	schema, err := delta.SchemaString(o.Schema)
	if err != nil {
		return nil, err
	}
	if len(o.PartitionBy) > 0 && len(o.PartitionBy) >= o.Schema.NumFields() {
		return nil, errors.New("a table needs a column that it is not partitioned by")
	}
	for _, name := range o.PartitionBy {
		i := o.Schema.FieldIndices(name)
		if len(i) == 0 {
			return nil, fmt.Errorf("partition column %s is no column of the table", name)
		}
		if err := delta.CheckPartitionType(o.Schema.Field(i[0]).Type); err != nil {
			return nil, fmt.Errorf("partition column %s: %w", name, err)
		}
	}
	conf := maps.Clone(defaults)
	maps.Copy(conf, o.Configuration)
	maps.DeleteFunc(conf, func(_, v string) bool { return v == "" })
	return &delta.Metadata{
		ID: uuid.NewString(), Format: delta.Format{Provider: "parquet", Options: map[string]string{}}, SchemaString: schema,
		PartitionColumns: append([]string{}, o.PartitionBy...), Configuration: conf, CreatedTime: t.opt.now().UnixMilli(),
	}, nil
}

// Root returns the table's path in the store, or the name it was given.
func (t *Table) Root() string { return t.root }

// Snapshot returns the newest version that this Table has seen.
func (t *Table) Snapshot() *Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.history == nil {
		return nil
	}
	return t.history.snap
}

// staleAfter is how long, at most, the next commit's absence may be believed without a
// look at what else there is. It is far below the log's retention: once commits are
// cleaned up, a reader that slept past them would find its next version missing, and a
// writer could write it a second time.
const staleAfter = 10 * time.Minute

// believed is staleAfter, or less for a table that is cleaned up sooner.
func (s *Snapshot) believed() time.Duration { return min(staleAfter, logRetention(s)/4) }

// confirm notes that the log ends at the snapshot. The lock is held.
func (t *Table) confirm() { t.confirmed = t.opt.now().Round(0) } // wall clock: it goes on while a machine sleeps

func (t *Table) stale() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.opt.now().Round(0).Sub(t.confirmed) > t.history.snap.believed()
}

// Refresh reads the commits that came after the snapshot, and returns the new one. It
// costs one missing object when there are none.
func (t *Table) Refresh(ctx context.Context) (*Snapshot, error) {
	if t.stale() {
		if err := t.catchUp(ctx); err != nil {
			return nil, fmt.Errorf("refresh table %s: %w", t.root, err)
		}
	}
	for window := 1; ; window = min(4*window, 64) {
		from := t.Snapshot().version + 1
		commits, err := t.readCommits(ctx, from, window)
		for i := 0; err == nil && i < len(commits); i++ {
			err = t.apply(from+int64(i), commits[i])
		}
		if err != nil {
			return nil, fmt.Errorf("refresh table %s: %w", t.root, err)
		}
		if len(commits) < window {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.confirm()
			return t.history.snap, nil
		}
	}
}

// apply puts a commit onto the snapshot it follows; it was done already if the snapshot is further.
func (t *Table) apply(version int64, c *delta.Commit) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.history.snap.version+1 != version {
		return nil
	}
	return t.history.apply(version, c)
}

// catchUp loads the table anew if the commits that follow the snapshot are gone.
func (t *Table) catchUp(ctx context.Context) error {
	have := t.Snapshot().version
	for o, err := range t.store.List(ctx, logDir, commitKey(have)) {
		if err != nil {
			return fmt.Errorf("list the log: %w", err)
		}
		n, ok := parseLogName(strings.TrimPrefix(o.Key, logDir))
		if !ok || n.version <= have || !n.commit && n.version == have+1 {
			continue
		}
		if n.commit && n.version == have+1 {
			return nil
		}
		return t.load(ctx)
	}
	return nil
}

// Changes returns what the commits after one version did, up to and with another, in
// order; it reads on in the log when that is not known yet, and returns fewer when the
// log is shorter. Commits that were cleaned up are fs.ErrNotExist.
func (t *Table) Changes(ctx context.Context, after, upTo int64) ([]Change, error) {
	if upTo > t.Snapshot().version {
		if _, err := t.Refresh(ctx); err != nil {
			return nil, err
		}
	}
	upTo = min(upTo, t.Snapshot().version)
	if after >= upTo {
		return nil, nil
	}
	known := t.recent(after, upTo)
	missing := upTo - after - int64(len(known))
	var out []Change
	for from := after + 1; int64(len(out)) < missing; {
		commits, err := t.readCommits(ctx, from, int(min(256, missing-int64(len(out)))))
		if err == nil && len(commits) == 0 {
			err = fmt.Errorf("version %d: %w", from, fs.ErrNotExist)
		}
		if err != nil {
			return nil, fmt.Errorf("changes of table %s: %w", t.root, err)
		}
		for _, c := range commits {
			files, err := filesOf(from, c)
			if err != nil {
				return nil, fmt.Errorf("changes of table %s: %w", t.root, err)
			}
			out = append(out, changeOf(from, c, files, commitTime(c, time.UnixMilli(0).UTC())))
			from++
		}
	}
	return append(out, known...), nil
}

// recent returns those of the commits after one version, up to another, that are in
// memory: all, or the last of them.
func (t *Table) recent(after, upTo int64) []Change {
	t.mu.Lock()
	defer t.mu.Unlock()
	tail := t.history.tail
	if len(tail) == 0 {
		return nil
	}
	first := tail[0].Version
	lo, hi := max(after+1, first), min(upTo, tail[len(tail)-1].Version)
	if lo > hi {
		return nil
	}
	return slices.Clone(tail[lo-first : hi-first+1])
}
