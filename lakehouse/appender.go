package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"golang.org/x/sync/semaphore"

	"github.com/tidemill/tidemill/internal/batch"
)

// Appender appends records to one table, every source position once. Make one per table
// and process: it commits together what was written meanwhile. The package's comment
// says how it works. Safe for concurrent use.
type Appender struct {
	t *Table
	o AppenderOptions

	dedupe  *deduper            // nil: rows are not told apart by their keys
	writing *semaphore.Weighted // of records being encoded and stored, see weight
	ctx     context.Context
	cancel  context.CancelFunc

	mu        sync.Mutex
	positions *positions    // guarded by mu
	queue     []*item       // guarded by mu: written, to be committed
	running   bool          // guarded by mu: a goroutine is committing
	closed    bool          // guarded by mu
	idle      chan struct{} // guarded by mu: closed when running ends, if someone waits
}

// AppenderOptions may all be left zero.
type AppenderOptions struct {
	MaxConcurrentWrites int           // records encoded and stored at a time, eight times as many if they are small; default twice the processors, at least 4
	MaxGroup            int           // records in one commit; default 256
	KeyWindow           time.Duration // how long idempotency keys are remembered; default 24 h
	MaxKeys             int           // how many of them, at most; default 200,000
	MaxEphemeral        int           // partitions of sources that cannot replay, at most; default 10,000
	Dedupe              *Dedupe       // nil: rows of sources that cannot replay are not compared with those that are in
	Logger              *slog.Logger
	Metrics             Metrics
	// Fault, if not nil, is called at "after-data-put", "before-commit" and "after-commit"; tests crash there.
	Fault func(point string)
}

const (
	defaultKeyWindow = 24 * time.Hour
	defaultMaxKeys   = 200_000
)

// ErrClosed: the Appender was closed.
var ErrClosed = errors.New("appender is closed")

// Append is one record to be appended.
type Append struct {
	Record arrow.Record // the table's columns by name; not kept
	// Runs say where the rows came from, in their order. Without them nothing is known
	// of the rows, and they are appended as they are.
	Runs []batch.Run
	// Settled, if not nil, is asked at each commit which offsets the source side knows to
	// be entirely in: acked, or dropped by the user's processors. It closes gaps, so that
	// the log can say "all up to here". It must never have an offset whose rows may still
	// come. It is called from another goroutine and must not block.
	Settled func() batch.Claims
	// Cursors are from where the rows' sources could go on behind them, by partition: the
	// cursor to go on from when all its rows up to Cursor.Offset are in. They are in the log
	// with the rows; see [ResumeAt]. Offsets of a partition that has cursors begin at 0.
	Cursors map[string]Cursor
	Tags    map[string]string // for the files
}

// Appended says what became of a record.
type Appended struct {
	Version    int64 // the rows are in the table at this version
	Files      []File
	Rows       int64        // that were appended
	Duplicates int64        // that were in already
	Record     arrow.Record // the rows of Files, when that is one file; the caller releases it. May be nil
}

// NewAppender returns an Appender that begins with what the table's snapshot has.
func NewAppender(t *Table, o AppenderOptions) *Appender {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&o.MaxConcurrentWrites, max(4, 2*runtime.GOMAXPROCS(0)))
	def(&o.MaxGroup, 256)
	def(&o.MaxKeys, defaultMaxKeys)
	def(&o.MaxEphemeral, 10_000)
	if o.KeyWindow <= 0 {
		o.KeyWindow = defaultKeyWindow
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Appender{t: t, o: o, writing: semaphore.NewWeighted(int64(o.MaxConcurrentWrites) * fullWeight), positions: newPositions(o)}
	if o.Dedupe != nil {
		a.dedupe = newDeduper(t, *o.Dedupe, o.Logger)
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.positions.sync(t, t.Snapshot(), t.opt.now())
	return a
}

// Claims returns the offsets of a partition that are known to be in the table.
func (a *Appender) Claims(partition string) batch.Intervals {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.t.opt.now()
	a.positions.sync(a.t, a.t.Snapshot(), now)
	return slices.Clone(a.positions.of(partition, now))
}

// item is a record that was written and waits to be committed.
type item struct {
	runs    []batch.Run
	claims  batch.Claims // of runs, and of rows that were left out by their keys
	keys    []rowKey     // of the rows; nil without Dedupe
	judged  bool         // some of the rows are of partitions that are not durable, and have keys
	added   int64        // what the deduper had added when it judged them
	files   []File
	settled func() batch.Claims
	done    chan outcome // has room for one
	taken   bool         // guarded by the Appender's mu: a commit may have it
	gone    bool         // guarded by the Appender's mu: its caller left
}

type outcome struct {
	version int64
	again   bool // not committed: some of it is in by now, filter once more
	err     error
}

// Append puts a record's rows into the table, but for those whose positions are in
// already, and returns when they are durably in. Its rows become one file per table
// partition, all in one commit.
//
// With an error nothing has landed, unless it is ErrOutcomeUnknown. Either way the
// caller delivers the rows again, then or after a restart: what has landed is left out.
// (What cannot be left out after a restart are rows of "~" partitions.)
func (a *Appender) Append(ctx context.Context, in Append) (Appended, error) {
	if n := batch.Rows(in.Runs); len(in.Runs) > 0 && int64(n) != in.Record.NumRows() {
		return Appended{}, fmt.Errorf("append to table %s: runs of %d rows for a record of %d", a.t.root, n, in.Record.NumRows())
	}
	cursors, err := checkCursors(in.Cursors)
	if err != nil {
		return Appended{}, fmt.Errorf("append to table %s: %w", a.t.root, err)
	}
	in.Tags = withCursors(in.Tags, cursors)
	for {
		out, again, err := a.try(ctx, in)
		if err != nil {
			return Appended{}, fmt.Errorf("append to table %s: %w", a.t.root, err)
		}
		if !again {
			if a.o.Metrics.Duplicate != nil && out.Duplicates > 0 {
				a.o.Metrics.Duplicate(out.Duplicates)
			}
			return out, nil
		}
	}
}

// try filters, writes and commits once; again means that another commit put some of the
// rows into the table in between.
func (a *Appender) try(ctx context.Context, in Append) (out Appended, again bool, err error) {
	p, err := a.filter(ctx, in)
	if err != nil {
		return out, false, err
	}
	out = Appended{Version: p.version, Rows: in.Record.NumRows()}
	if p.keep != nil {
		out.Rows = int64(len(p.keep))
		out.Duplicates = in.Record.NumRows() - out.Rows
	}
	if out.Rows == 0 {
		return out, false, nil
	}
	it, rec, err := a.write(ctx, in, p)
	if err != nil {
		return out, false, err
	}
	defer func() {
		if out.Record == nil {
			rec.Release()
		}
	}()
	r, err := a.enqueue(ctx, it)
	if err == nil {
		err = r.err
	}
	if err != nil || r.again {
		return Appended{}, r.again, err
	}
	out.Version, out.Files = r.version, it.files
	for i := range out.Files {
		out.Files[i].Version = r.version
	}
	if len(out.Files) == 1 {
		out.Record = rec
	}
	return out, false, nil
}

// picked is what is to be appended of a record.
type picked struct {
	keep    []int32 // rows; nil: all
	runs    []batch.Run
	claims  batch.Claims
	version int64 // where the others are in
	keys    []rowKey
	judged  bool
	added   int64
}

func (a *Appender) filter(ctx context.Context, in Append) (picked, error) {
	var keys []rowKey
	if a.dedupe != nil {
		if err := a.dedupe.sync(ctx, a.t.Snapshot()); err != nil {
			return picked{}, err
		}
		keys = a.dedupe.keysOf(in.Record)
	}
	p, err := a.filterPositions(in.Runs)
	if err != nil || a.dedupe == nil {
		return p, err
	}
	if len(in.Runs) == 0 {
		p.keys = keys
		return p, nil
	}
	a.dedupe.pick(&p, keys)
	p.version = max(p.version, a.t.Snapshot().version) // by now it has what the keys were found in
	return p, nil
}

func (a *Appender) filterPositions(runs []batch.Run) (p picked, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return p, ErrClosed
	}
	now := a.t.opt.now()
	a.positions.sync(a.t, a.t.Snapshot(), now)
	p.version = a.positions.version
	p.keep, p.runs = a.positions.filter(runs, now)
	p.claims = batch.ClaimsOf(p.runs)
	return p, nil
}

// write encodes and stores the rows that are kept, in the caller's goroutine.
func (a *Appender) write(ctx context.Context, in Append, p picked) (*item, arrow.Record, error) {
	w := weight(in.Record)
	if err := a.writing.Acquire(ctx, w); err != nil {
		return nil, nil, err
	}
	defer a.writing.Release(w)
	meta := a.t.Snapshot().meta
	rec, err := conform(in.Record, meta.schema)
	if err != nil {
		return nil, nil, err
	}
	if p.keep != nil {
		all := rec
		rec, err = take(ctx, all, p.keep)
		all.Release()
		if err != nil {
			return nil, nil, err
		}
	}
	it := &item{runs: p.runs, claims: p.claims, keys: p.keys, judged: p.judged, added: p.added, settled: in.Settled, done: make(chan outcome, 1)}
	it.files, err = a.t.writeFiles(ctx, meta, rec, tagsWith(in.Tags, it.claims), a.o.Metrics)
	if err != nil {
		rec.Release()
		return nil, nil, err
	}
	a.fault("after-data-put")
	return it, rec, nil
}

// fullWeight is that of a record of half a megabyte and more. A small one weighs less: it
// spends most of its time waiting for a store that may be far away, and takes little
// memory meanwhile.
const fullWeight = 8

func weight(rec arrow.Record) int64 {
	return min(fullWeight, 1+heldBy(rec)/(64<<10))
}

func (a *Appender) fault(point string) {
	if a.o.Fault != nil {
		a.o.Fault(point)
	}
}

// enqueue hands an item to the commits and waits for its outcome.
func (a *Appender) enqueue(ctx context.Context, it *item) (outcome, error) {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return outcome{}, ErrClosed
	}
	a.queue = append(a.queue, it)
	if !a.running {
		a.running = true
		go a.commitQueue()
	}
	a.mu.Unlock()
	select {
	case r := <-it.done:
		return r, nil
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	it.gone = true
	select {
	case r := <-it.done: // it was decided in the meantime
		return r, nil
	default:
	}
	if it.taken {
		return outcome{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	}
	return outcome{}, ctx.Err()
}

// commitQueue commits until nothing is queued. There is at most one at a time.
func (a *Appender) commitQueue() {
	for {
		a.mu.Lock()
		a.queue = slices.DeleteFunc(a.queue, func(it *item) bool { return it.gone })
		n := min(len(a.queue), a.o.MaxGroup)
		if n == 0 {
			a.running = false
			if a.idle != nil {
				close(a.idle)
				a.idle = nil
			}
			a.mu.Unlock()
			return
		}
		g := &group{items: slices.Clone(a.queue[:n])}
		a.queue = slices.Delete(a.queue, 0, n)
		for _, it := range g.items {
			it.taken = true
		}
		a.mu.Unlock()
		a.commitGroup(g)
	}
}

// Close lets the commits that are queued end, and refuses new records. When the context
// ends first, those that are left fail with ErrOutcomeUnknown.
func (a *Appender) Close(ctx context.Context) error {
	a.mu.Lock()
	a.closed = true
	if !a.running {
		a.mu.Unlock()
		a.cancel()
		return nil
	}
	if a.idle == nil {
		a.idle = make(chan struct{})
	}
	idle := a.idle
	a.mu.Unlock()
	defer a.cancel()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		a.cancel()
		<-idle
		return fmt.Errorf("close appender of table %s: %w", a.t.root, ctx.Err())
	}
}
