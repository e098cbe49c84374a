package sinks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse"
)

// row is one row of a batch.
type row struct {
	Message
	rec *counted
	i   int // in rec

	failures int    // by itself, while the sink took others
	since    uint64 // what the sink had taken when it last failed by itself
	failed   bool   // by itself, in this round
	err      error
	pack     *pack
}

// counted is a record that rows of several batches may need.
type counted struct {
	arrow.Record
	file string
}

// pack is a batch on its way, and the stretch of the table that it covers.
type pack struct {
	rows  []*row
	recs  []*counted
	bytes []byte // of the rows' JSON
	left  int    // rows not done with; of the worker that has the pack
	span  *span
}

// commitsAhead is how many commits are looked up at once.
const commitsAhead = 64

// reader makes batches of what the table's commits bring.
type reader struct {
	*run
	at       Position // next row to read
	time     time.Time
	open     *pack
	deadline time.Time // of open
	ends     []int     // in open.bytes, of its rows
	checked  *arrow.Schema
}

// read makes batches until ctx ends.
func (u *run) read(ctx context.Context) error {
	r := &reader{run: u}
	r.at, _ = u.done.position()
	defer func() { r.drop() }()
	for failures := 0; ; {
		more, err := r.turn(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			failures++
			u.o.Logger.Warn("the scored table cannot be read yet", "error", err)
			err = sleep(ctx, min(100*time.Millisecond<<min(failures, 8), maxPause))
		case more:
			failures = 0
		default:
			failures = 0
			err = r.idle(ctx)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// idle waits for more rows, and sends those that have waited long enough.
func (r *reader) idle(ctx context.Context) error {
	wait := time.Second
	if r.open != nil {
		if wait = r.deadline.Sub(r.o.Now()); wait <= 0 {
			return r.flush(ctx)
		}
	}
	return r.pause(ctx, min(wait, time.Second))
}

// turn reads some commits; false when there were none.
func (r *reader) turn(ctx context.Context) (more bool, err error) {
	snap, err := r.scored.Refresh(ctx)
	if err != nil {
		return false, err
	}
	if r.at.Version > snap.Version() {
		return false, nil
	}
	if err := r.check(ctx, snap); err != nil {
		return false, err
	}
	changes, err := r.scored.Changes(ctx, r.at.Version-1, min(snap.Version(), r.at.Version-1+commitsAhead))
	if errors.Is(err, fs.ErrNotExist) {
		return true, r.skipCleaned(ctx)
	}
	if err != nil {
		return false, err
	}
	for i := range changes {
		if err := r.change(ctx, snap, &changes[i]); err != nil {
			return false, err
		}
	}
	return true, nil
}

// check has the sink's condition and columns looked at when the table's columns are new.
func (r *reader) check(ctx context.Context, snap *lakehouse.Snapshot) error {
	if r.checked == snap.Schema() {
		return nil
	}
	for i, name := range r.o.Sink.Columns {
		if !snap.Schema().HasField(name) {
			return r.o.Contract.Problem(r.field(fmt.Sprintf("columns[%d]", i)), "the scored table has no column %s", name)
		}
	}
	if r.o.Filter != nil {
		if err := r.o.Filter.Check(ctx, snap.Schema()); err != nil {
			return r.o.Contract.Problem(r.field("where"), "%v", err)
		}
	}
	r.checked = snap.Schema()
	return nil
}

// field is the path of one of the sink's fields in the contract.
func (r *reader) field(name string) string {
	for i, s := range r.o.Contract.Sinks() {
		if s.Name == r.o.Sink.Name {
			return fmt.Sprintf("sinks[%d].%s", i, name)
		}
	}
	return "sinks"
}

// skipCleaned goes on behind commits that the log does not have any more.
func (r *reader) skipCleaned(ctx context.Context) error {
	first, _, err := r.scored.Commits(ctx)
	if err != nil {
		return err
	}
	if first <= r.at.Version {
		return fmt.Errorf("version %d of the scored table's log: %w", r.at.Version, fs.ErrNotExist)
	}
	switch {
	case r.at.Version == 0 && r.at.Row == 0: // start: oldest
		r.o.Logger.Info("the sink begins with the oldest version that the scored table's log has", "version", first)
	default:
		r.o.Logger.Error("the sink was away for longer than the table's log is kept; rows of these versions were not sent", "from", r.at.Version, "to", first-1)
		r.o.Observe.Missed(0)
	}
	r.at = Position{Version: first}
	return r.cover(ctx)
}

// change reads what one commit brought.
func (r *reader) change(ctx context.Context, snap *lakehouse.Snapshot, c *lakehouse.Change) error {
	r.time = c.Time
	first := int64(0)
	for _, f := range brought(c) {
		n, err := r.file(ctx, snap, f, first)
		if err != nil {
			return err
		}
		first += n
	}
	r.at = Position{Version: c.Version + 1}
	return r.cover(ctx)
}

// cover notes that everything up to the position is read. If no batch is being made
// that would say so in the end, a stretch without rows does.
func (r *reader) cover(ctx context.Context) error {
	if r.open == nil {
		r.done.end(r.done.begin(r.at, r.time))
		return nil
	}
	if r.o.Sink.Period == 0 && r.at.Version > r.scored.Snapshot().Version() {
		return r.flush(ctx)
	}
	return nil
}

// file reads one of a commit's files, whose first row is the commit's first-th, and
// returns how many rows it has.
func (r *reader) file(ctx context.Context, snap *lakehouse.Snapshot, f lakehouse.File, first int64) (int64, error) {
	if f.Rows >= 0 && first+f.Rows <= r.at.Row {
		return f.Rows, nil // sent before
	}
	n := int64(0)
	for rec, err := range r.scored.Scan(ctx, snap, []lakehouse.File{f}, r.columns(snap)...) {
		if errors.Is(err, fs.ErrNotExist) {
			r.o.Logger.Error("the sink was away for longer than deleted files are kept; a file's rows were not sent",
				"version", f.Version, "file", f.Path, "rows", f.Rows)
			r.o.Observe.Missed(max(f.Rows, 0))
			r.at.Row = first + max(f.Rows, 0)
			return max(f.Rows, 0), nil
		}
		if err != nil {
			return n, err
		}
		err = r.record(ctx, &counted{rec, f.Path}, f.Version, first+n)
		n += rec.NumRows()
		rec.Release()
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// columns are those to read: what is sent and what a refused row is explained by; with
// a condition, whose columns only SQL knows, all.
func (r *reader) columns(snap *lakehouse.Snapshot) []string {
	if r.o.Filter != nil || r.o.Sink.Columns == nil {
		return nil
	}
	names := slices.Clone(r.o.Sink.Columns)
	for _, name := range []string{batch.ColSource, batch.ColOffset, batch.ColLandedVersion, batch.ColContract, batch.ColModel, batch.ColModelVersion} {
		if snap.Schema().HasField(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// record puts a record's rows into batches; its first row is the commit's first-th.
func (r *reader) record(ctx context.Context, rec *counted, version, first int64) error {
	from := int(min(max(r.at.Row-first, 0), rec.NumRows()))
	rows, bad, err := r.chosen(ctx, rec.Record, from)
	if err != nil {
		return err
	}
	enc, err := newEncoder(rec.Record, r.sent(rec.Record))
	if err != nil {
		return r.o.Contract.Problem(r.field("columns"), "%v", err)
	}
	for _, b := range bad {
		b.rec, b.Version, b.Row = rec, version, first+int64(b.i)
		b.JSON, b.Key = enc.row(nil, b.i), r.key(version, b.Row)
	}
	if err := r.refuse(ctx, bad); err != nil {
		return err
	}
	for _, i := range rows {
		if r.open == nil {
			r.open, r.ends, r.deadline = &pack{}, r.ends[:0], r.o.Now().Add(r.o.Sink.Period)
			r.open.span = r.done.begin(Position{}, r.time) // its end is known when it is full
		}
		p := r.open
		if len(p.recs) == 0 || p.recs[len(p.recs)-1] != rec {
			rec.Retain()
			p.recs = append(p.recs, rec)
		}
		at := first + int64(i)
		p.bytes = enc.row(p.bytes, i)
		r.ends = append(r.ends, len(p.bytes))
		p.rows = append(p.rows, &row{rec: rec, i: i, pack: p, Message: Message{Key: r.key(version, at), Version: version, Row: at}})
		r.at = Position{Version: version, Row: at + 1}
		if len(p.rows) >= r.o.Sink.Count || int64(len(p.bytes)) >= r.o.Sink.Bytes {
			if err := r.flush(ctx); err != nil {
				return err
			}
		}
	}
	r.at = Position{Version: version, Row: first + rec.NumRows()}
	if r.open == nil {
		r.done.end(r.done.begin(r.at, r.time))
	}
	return nil
}

func (r *reader) key(version, at int64) string {
	return r.name + "/" + strconv.FormatInt(version, 10) + "/" + strconv.FormatInt(at, 10)
}

// sent are the places of a record's columns that are sent.
func (r *reader) sent(rec arrow.Record) []int {
	var out []int
	if r.o.Sink.Columns != nil {
		for _, name := range r.o.Sink.Columns {
			out = append(out, rec.Schema().FieldIndices(name)...)
		}
		return out
	}
	for i, f := range rec.Schema().Fields() {
		if !strings.HasPrefix(f.Name, "_") {
			out = append(out, i)
		}
	}
	return out
}

// chosen are the rows of a record, from one on, that meet the sink's condition, and
// those for which it cannot be computed.
func (r *reader) chosen(ctx context.Context, rec arrow.Record, from int) (rows []int, bad []*row, err error) {
	n := int(rec.NumRows())
	if r.o.Filter == nil {
		for i := from; i < n; i++ {
			rows = append(rows, i)
		}
		return rows, nil, nil
	}
	if from >= n {
		return nil, nil, nil
	}
	part := rec.NewSlice(int64(from), int64(n))
	defer part.Release()
	got, err := r.o.Filter.Rows(ctx, part)
	switch {
	case err == nil:
		for _, i := range got {
			rows = append(rows, from+i)
		}
		return rows, nil, nil
	case !errors.Is(err, ErrRow):
		return nil, nil, fmt.Errorf("where: %w", err)
	case n-from == 1:
		return nil, []*row{{i: from, err: err}}, nil
	}
	// Halves, until the rows are known that it fails for.
	middle := from + (n-from)/2
	head := rec.NewSlice(0, int64(middle))
	defer head.Release()
	rows, bad, err = r.chosen(ctx, head, from)
	if err != nil {
		return nil, nil, err
	}
	more, worse, err := r.chosen(ctx, rec, middle)
	return append(rows, more...), append(bad, worse...), err
}

// flush hands the batch over; it waits while enough are on their way.
func (r *reader) flush(ctx context.Context) error {
	p := r.open
	from := 0
	for i, end := range r.ends {
		p.rows[i].JSON = p.bytes[from:end:end]
		from = end
	}
	p.left = len(p.rows)
	r.done.set(p.span, r.at)
	select {
	case r.batches <- p:
		r.open = nil
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drop gives up a batch that was not handed over.
func (r *reader) drop() {
	if r.open != nil {
		r.open.release()
	}
}

func (p *pack) release() {
	for _, rec := range p.recs {
		rec.Release()
	}
	p.recs = nil
}
