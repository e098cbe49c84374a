package sinks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// Message is one row on its way.
type Message struct {
	JSON []byte // an object
	Key  string // table/version/row: the same whenever the row is sent
	// Where the row is in the scored table.
	Version, Row int64
}

// Output is the system that rows go to. It is safe for concurrent use.
type Output interface {
	// Send returns nil when all messages were taken, a *PartialError when some were,
	// and any other error when it is not known of which.
	Send(ctx context.Context, messages []Message) error
	Close(ctx context.Context) error
}

// PartialError says which messages of a batch were not taken; the others were.
type PartialError struct {
	Failed []int
	Err    error
}

func (e *PartialError) Error() string { return e.Err.Error() }
func (e *PartialError) Unwrap() error { return e.Err }

// Filter is a sink's condition.
type Filter interface {
	// Check returns an error when the condition makes no sense for such rows.
	Check(ctx context.Context, schema *arrow.Schema) error
	// Rows returns the rows of a record that meet the condition, in order. An error
	// that wraps ErrRow is one row's fault, or several'.
	Rows(ctx context.Context, rec arrow.Record) ([]int, error)
}

// ErrRow: the condition cannot be computed for some row.
var ErrRow = errors.New("the condition fails for a row")

// Observer is told what a sink does. Its functions must not block.
type Observer struct {
	Sent    func(rows int)
	Refused func(rows int)
	Missed  func(rows int64) // rows whose files were deleted before they were sent; 0 for commits whose rows are not known
	// Lag is told about every second how many versions are not done with, and how long
	// ago the first of them was committed.
	Lag  func(versions int64, age time.Duration)
	Down func(down bool)
}

func (o Observer) withDefaults() Observer {
	if o.Sent == nil {
		o.Sent = func(int) {}
	}
	if o.Refused == nil {
		o.Refused = func(int) {}
	}
	if o.Missed == nil {
		o.Missed = func(int64) {}
	}
	if o.Lag == nil {
		o.Lag = func(int64, time.Duration) {}
	}
	if o.Down == nil {
		o.Down = func(bool) {}
	}
	return o
}

// Options of [New]. The fields down to Open are needed.
type Options struct {
	Contract   *contract.Table
	Sink       contract.Sink
	Store      objstore.Store                                  // of the cursor
	Scored     func(context.Context) (*lakehouse.Table, error) // fs.ErrNotExist while it is not there
	Quarantine func(context.Context) (*lakehouse.Table, error)
	Open       func() (Output, error)

	Filter  Filter // nil: all rows
	Observe Observer
	Logger  *slog.Logger
	// For people, see [Told]: the process, the generation of its project, and the last
	// thing that was complained of, which may be nil.
	Process    string
	Generation int64
	LastError  func() (text string, at time.Time)
	Fault      func(point string) // "sink-sent" after a batch was taken; tests crash there
	Now        func() time.Time
}

// Runner sends one sink's rows.
type Runner struct {
	o     Options
	name  string // of the scored table
	wake  chan struct{}
	owner string
	book  book
	began atomic.Int64        // when Run was called, Unix nanoseconds
	now   atomic.Pointer[run] // while this process has the sink
}

// ScoredSuffix is what a scored table's name adds to its contract's.
const scoredSuffix = "_scored"

// New prepares a sink.
func New(o Options) *Runner {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fault == nil {
		o.Fault = func(string) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Observe = o.Observe.withDefaults()
	o.Logger = o.Logger.With("table", o.Contract.Name(), "sink", o.Sink.Name)
	return &Runner{o: o, name: o.Contract.Name() + scoredSuffix, wake: make(chan struct{}, 1), owner: uuid.NewString(), book: book{lastError: o.LastError}}
}

func (r *Runner) sent(rows int) {
	r.o.Observe.Sent(rows)
	r.book.note(func(t *Told) { t.Sent += int64(rows) })
}

func (r *Runner) refused(rows int) {
	r.o.Observe.Refused(rows)
	r.book.note(func(t *Told) { t.Refused += int64(rows) })
}

func (r *Runner) down(is bool) {
	r.o.Observe.Down(is)
	r.book.note(func(t *Told) { t.Down = is })
}

// Wake tells the runner that rows were scored; it looks by itself about every second.
func (r *Runner) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Prepare decides where a sink begins that has no cursor yet. It is called before rows
// are scored in this process, so that a sink which is new with its table gets all of them.
func (r *Runner) Prepare(ctx context.Context) error {
	l := newLease(r.o.Store, r.o.Contract.Name(), r.o.Sink.Name, r.owner, r.o.Now)
	have, err := head(ctx, l.store, l.prefix, 0)
	if err != nil || have.N > 0 {
		return r.unprepared(err)
	}
	t, err := r.o.Scored(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		t, err = nil, nil
	}
	if err != nil {
		return r.unprepared(err)
	}
	p, id := Position{}, ""
	if t != nil {
		snap, err := t.Refresh(ctx)
		if err != nil {
			return r.unprepared(err)
		}
		id, p = snap.TableID(), r.first(snap)
	}
	if err := l.release(ctx, p, id); err != nil && !errors.Is(err, errLost) {
		return r.unprepared(err)
	}
	return nil
}

func (r *Runner) unprepared(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("prepare sink %s of %s: %w", r.o.Sink.Name, r.o.Contract.Name(), err)
}

// first is where a sink without a cursor begins in a table: where the table's log says
// that it was, or where the contract has a new one begin.
func (r *Runner) first(snap *lakehouse.Snapshot) Position {
	if v, ok := snap.Txn(TxnID(r.o.Sink.Name)); ok {
		r.o.Logger.Warn("the sink's cursor is lost; what was sent since the version that the table's log has is sent again", "version", v)
		return Position{Version: v + 1}
	}
	if r.o.Sink.Start == contract.StartNewest {
		return Position{Version: snap.Version() + 1}
	}
	return Position{}
}

// Idle says whether there is nothing that this process could send now: all of the scored
// table, as it was last seen, is done with, or the sink takes no rows, or another process
// has it.
func (r *Runner) Idle() bool {
	u := r.now.Load()
	if u == nil {
		return time.Since(time.Unix(0, r.began.Load())) > leaseFor+2*time.Second
	}
	if u.state.isDown() {
		return true
	}
	at, _ := u.done.position()
	return at.Version > u.scored.Snapshot().Version()
}

// Run sends rows until ctx ends. What goes wrong is logged and tried again.
func (r *Runner) Run(ctx context.Context) {
	r.began.Store(time.Now().UnixNano())
	for attempt := 0; ctx.Err() == nil; attempt++ {
		start := r.o.Now()
		err := r.hold(ctx)
		if ctx.Err() != nil {
			return
		}
		if r.o.Now().Sub(start) > time.Minute {
			attempt = 0
		}
		if errors.Is(err, errLost) {
			r.o.Logger.Info("another process sends for the sink now")
			r.o.Observe.Lag(0, 0) // that one tells
			r.o.Observe.Down(false)
			continue
		}
		if sleep(ctx, min(time.Second<<min(attempt, 5), maxPause)) != nil {
			return
		}
	}
}

// maxPause bounds the wait before something is tried again.
const maxPause = 10 * time.Second

// hold takes the sink and sends, until it is lost, fails or ctx ends.
func (r *Runner) hold(ctx context.Context) error {
	l := newLease(r.o.Store, r.o.Contract.Name(), r.o.Sink.Name, r.owner, r.o.Now)
	l.book = &r.book
	err := l.acquire(ctx, func(last Told) { r.book.take(last, r.o.Process, r.o.Generation) })
	if err != nil {
		return r.stopped(ctx, err)
	}
	run := &run{Runner: r, lease: l, batches: make(chan *pack, r.o.Sink.MaxInFlight), table: l.cur.Table}
	run.done.at = l.cur.Position
	err = r.stopped(ctx, run.run(ctx))
	if errors.Is(err, errLost) {
		return err
	}
	// Whoever comes next need not wait.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	at, _ := run.done.position()
	if e := l.release(end, at, run.tableID()); e != nil && !errors.Is(e, errLost) {
		r.o.Logger.Warn("the sink's position was not saved; some rows may be sent again", "error", e)
	}
	return err
}

// stopped tells of what ended a sink that should go on.
func (r *Runner) stopped(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil && !errors.Is(err, errLost) {
		r.down(true)
		r.o.Logger.Error("sink stopped; it is started again", "error", err)
	}
	return err
}

// await opens the scored table once it is there, and gives signs of life meanwhile.
func (u *run) await(ctx context.Context) error {
	for {
		t, err := u.o.Scored(ctx)
		if err == nil {
			u.scored = t
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := u.pause(ctx, time.Second); err != nil {
			return err
		}
		if err := u.keep(ctx, Position{}, ""); err != nil {
			return err
		}
	}
	snap, err := u.scored.Refresh(ctx)
	if err != nil {
		return err
	}
	switch id := snap.TableID(); u.table {
	case id:
	case "":
		u.table = id
	default:
		u.o.Logger.Warn("the scored table is another one than before; the sink begins anew")
		u.table, u.done.at = id, u.first(snap)
	}
	return u.mark(ctx)
}

// run is a sink that this process has.
type run struct {
	*Runner
	lease   *lease
	scored  *lakehouse.Table
	out     Output
	table   string // id of the scored table
	batches chan *pack
	done    tracker
	state   sendState
	marked  time.Time // when the table's log was last told of the position
}

func (u *run) tableID() string { return u.table }

// run sends until ctx ends or something fails. When ctx ends, batches that are being
// sent have graceFor.
func (u *run) run(ctx context.Context) error {
	if err := u.await(ctx); err != nil {
		return err
	}
	u.now.Store(u)
	defer u.now.Store(nil)
	out, err := u.o.Open()
	if err != nil {
		return err
	}
	u.out = out
	u.down(false)
	slow, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(graceFor, stop) })()
	// The sender's context goes on for a while after that of the reader.
	sending, sctx := errgroup.WithContext(slow)
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(sctx, cancel)()
	for range u.o.Sink.MaxInFlight {
		sending.Go(func() error { return u.work(reading, sctx) })
	}
	sending.Go(func() error {
		defer close(u.batches)
		return u.read(reading)
	})
	sending.Go(func() error { return u.tick(reading) })
	err = sending.Wait()
	end, stopClose := context.WithTimeout(context.WithoutCancel(ctx), graceFor)
	defer stopClose()
	if e := out.Close(end); e != nil {
		u.o.Logger.Warn("close the output", "error", e)
	}
	return err
}

// graceFor is how long batches that are being sent have when the process stops.
const graceFor = 5 * time.Second

// pause waits for a wake-up, at most for some time.
func (r *Runner) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.wake:
	case <-t.C:
	}
	return nil
}

// tick saves the position every second, and tells how far the sink is behind.
func (u *run) tick(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		at, oldest := u.done.position()
		if err := u.keep(ctx, at, u.table); err != nil && ctx.Err() == nil {
			return err
		}
		u.tell(at, oldest)
		if u.o.Now().Sub(u.marked) >= markEvery {
			if err := u.mark(ctx); err != nil && ctx.Err() == nil {
				u.o.Logger.Warn("the table's log was not told of the sink's position", "error", err)
			}
		}
	}
}

func (u *run) tell(at Position, oldest time.Time) {
	age := time.Duration(0)
	if !oldest.IsZero() {
		age = u.o.Now().Sub(oldest)
	}
	u.o.Observe.Lag(max(0, u.scored.Snapshot().Version()-at.Version+1), age)
}

// keep saves a position that has changed, and gives a sign of life when it is time. The
// store may be away for a while: others cannot take the sink over then either.
func (u *run) keep(ctx context.Context, at Position, table string) error {
	if at == u.lease.cur.Position && table == u.lease.cur.Table && u.o.Now().Sub(u.lease.saved) < leaseFor/3 {
		return nil
	}
	err := u.lease.save(ctx, at, table)
	if err == nil || errors.Is(err, errLost) || ctx.Err() != nil {
		return err
	}
	u.o.Logger.Warn("the sink's position is not saved yet", "error", err)
	return nil
}

// markEvery is how often the table's own log is told where the sink is: what is sent
// again at most when the cursor is lost.
const markEvery = time.Hour

// mark tells the table's log.
func (u *run) mark(ctx context.Context) error {
	at, _ := u.done.position()
	u.marked = u.o.Now()
	have, ok := u.scored.Snapshot().Txn(TxnID(u.o.Sink.Name))
	if ok && have >= max(0, at.Version-1) {
		return nil
	}
	expect := have
	if !ok {
		expect = -1
	}
	_, err := u.scored.Commit(ctx, lakehouse.Commit{
		Operation: "SINK", ExpectTxn: map[string]int64{TxnID(u.o.Sink.Name): expect},
		Txns: []delta.Txn{{AppID: TxnID(u.o.Sink.Name), Version: max(0, at.Version-1), LastUpdated: u.marked.UnixMilli()}},
	})
	if _, moved := errors.AsType[*lakehouse.TxnMovedError](err); moved {
		return nil // another process has the sink; the cursor will say so
	}
	return err
}
