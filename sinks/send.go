package sinks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// sendState is what the workers of a sink know of it together.
type sendState struct {
	mu      sync.Mutex
	taken   uint64   // sends that the sink has taken; guarded by mu
	witness *Message // a row that it has taken, of the last such send; guarded by mu
	down    bool     // guarded by mu

}

func (s *sendState) accepted() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

func (s *sendState) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

const (
	// probes is how many rows are tried by themselves before a sink counts as down, and
	// silent how many of them when it does not answer at all, which takes long to see.
	probes = 8
	silent = 2
	// inVain is how many sends in a row may fail before halving is given up for a while.
	inVain = 24
)

// errNoAnswer: the sink has not answered in time.
var errNoAnswer = errors.New("no answer")

// work sends batches until there are no more, or the process stops.
func (u *run) work(reading, ctx context.Context) error {
	w := &worker{run: u, reading: reading}
	for p := range u.batches {
		if reading.Err() != nil {
			p.release()
			continue
		}
		if err := w.deliver(ctx, p); err != nil {
			if reading.Err() != nil {
				continue // it is sent again by whoever comes next
			}
			return err
		}
	}
	return nil
}

// worker sends one batch at a time, and more when it is stuck with rows that may be to blame.
type worker struct {
	*run
	reading context.Context // until the process stops
	pending []*row
	vain    int // sends that failed since the last that was taken
	probe   int // place of the next row to try by itself
}

// deliver returns when the rows of a batch, and of others that it took in, are sent or refused.
func (w *worker) deliver(ctx context.Context, p *pack) error {
	w.pending = slices.Clone(p.rows)
	for failures := 0; len(w.pending) > 0; {
		before := w.state.accepted()
		left := len(w.pending)
		if err := w.round(ctx); err != nil {
			return err
		}
		if len(w.pending) == 0 {
			break
		}
		failures++
		if len(w.pending) < left {
			failures = 1
		}
		w.unsent(w.state.accepted() == before, failures)
		w.takeIn()
		if err := sleep(w.reading, min(50*time.Millisecond<<min(failures, 10), maxPause)); err != nil {
			return err
		}
	}
	w.sentAgain()
	return nil
}

// takeIn takes one more batch in, so that rows behind those that are stuck say whether
// the sink takes any.
func (w *worker) takeIn() {
	if len(w.pending) > w.o.Sink.Count {
		return
	}
	select {
	case p, ok := <-w.batches:
		if ok {
			w.pending = append(w.pending, p.rows...)
		}
	default:
	}
}

// round tries to send what is pending, finds the rows to blame for a failure, and refuses
// those that have failed often enough.
func (w *worker) round(ctx context.Context) error {
	w.vain = 0
	failed := w.send(ctx, w.pending)
	if len(failed) > 1 {
		failed = w.search(ctx, failed)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	w.pending = failed
	refused, err := w.judge(ctx)
	if err != nil || len(refused) == 0 {
		return err
	}
	if err := w.refuse(ctx, refused); err != nil {
		return err
	}
	w.pending = slices.DeleteFunc(w.pending, func(r *row) bool { return slices.Contains(refused, r) })
	for _, r := range refused {
		w.finish(r)
	}
	return nil
}

// search sends rows of a batch that failed in smaller batches. It returns those that were
// not sent.
func (w *worker) search(ctx context.Context, rows []*row) []*row {
	before := w.state.accepted()
	// A few by themselves, others each time: when the sink takes none of them, it is down.
	var failed []*row
	rest := slices.Clone(rows)
	for unanswered := 0; len(failed) < min(probes, len(rows)) && unanswered < silent; {
		at := w.probe % len(rest)
		w.probe += 7
		one := rest[at]
		rest = slices.Delete(slices.Clone(rest), at, at+1)
		failed = append(failed, w.send(ctx, []*row{one})...)
		if w.state.accepted() != before || ctx.Err() != nil {
			break
		}
		if errors.Is(one.err, errNoAnswer) {
			unanswered++
		}
	}
	if w.state.accepted() == before {
		return rows
	}
	w.vain = 0
	failed = append(failed, w.halve(ctx, rest)...)
	slices.SortFunc(failed, func(a, b *row) int {
		if (Position{a.Version, a.Row}).before(Position{b.Version, b.Row}) {
			return -1
		}
		return 1
	})
	return failed
}

// halve sends rows in ever smaller batches, and returns those that the sink does not take.
func (w *worker) halve(ctx context.Context, rows []*row) []*row {
	if len(rows) == 0 || ctx.Err() != nil || w.vain > inVain {
		return rows
	}
	failed := w.send(ctx, rows)
	if len(failed) < 2 {
		return failed
	}
	if len(failed) < len(rows) {
		return w.halve(ctx, failed)
	}
	middle := len(failed) / 2
	left := w.halve(ctx, slices.Clone(failed[:middle]))
	return append(left, w.halve(ctx, slices.Clone(failed[middle:]))...)
}

// send sends rows as one batch, and returns those that were not taken.
func (w *worker) send(ctx context.Context, rows []*row) []*row {
	if len(rows) == 0 || ctx.Err() != nil {
		return rows
	}
	messages := make([]Message, len(rows))
	for i, r := range rows {
		messages[i] = r.Message
	}
	sctx, cancel := context.WithTimeout(ctx, w.o.Sink.Timeout)
	defer cancel()
	err := w.out.Send(sctx, messages)
	if err != nil && ctx.Err() == nil && sctx.Err() != nil {
		err = fmt.Errorf("%w within %s", errNoAnswer, w.o.Sink.Timeout)
	}
	failed := rows
	switch partial, ok := errors.AsType[*PartialError](err); {
	case err == nil:
		failed = nil
	case ok && len(partial.Failed) > 0:
		failed = make([]*row, 0, len(partial.Failed))
		for _, i := range partial.Failed {
			failed = append(failed, rows[i])
		}
	}
	w.account(rows, failed, err)
	return failed
}

// account notes what became of rows that were sent as one batch.
func (w *worker) account(rows, failed []*row, err error) {
	w.vain++
	for _, r := range failed {
		r.err = err
	}
	if len(failed) == 1 && len(rows) == 1 {
		failed[0].failed, failed[0].since = true, w.state.accepted()
	}
	if len(failed) == len(rows) {
		return
	}
	w.vain = 0
	bad := map[*row]bool{}
	for _, r := range failed {
		bad[r] = true
	}
	var witness *Message
	n := 0
	for _, r := range rows {
		if !bad[r] {
			n++
			witness = &Message{JSON: slices.Clone(r.JSON), Key: r.Key, Version: r.Version, Row: r.Row}
			w.finish(r)
		}
	}
	w.state.mu.Lock()
	w.state.taken++
	w.state.witness = witness
	w.state.mu.Unlock()
	w.sent(n)
	w.o.Fault("sink-sent")
}

// finish notes that a row is sent or refused.
func (w *worker) finish(r *row) {
	p := r.pack
	if p.left--; p.left == 0 {
		w.done.end(p.span)
		p.release()
	}
}

// judge counts the rows that failed by themselves while the sink took others, and
// returns those that have failed often enough.
func (w *worker) judge(ctx context.Context) ([]*row, error) {
	var out []*row
	asked := false
	for _, r := range w.pending {
		if !r.failed {
			continue
		}
		r.failed = false
		if w.state.accepted() == r.since && !asked {
			asked = true
			w.ask(ctx)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if w.state.accepted() == r.since {
			continue // nothing was taken since: it may be the sink
		}
		if r.failures++; r.failures >= w.o.Sink.Attempts {
			out = append(out, r)
		}
	}
	return out, nil
}

// ask sends a row once more that the sink has taken before, to see whether it is up.
func (w *worker) ask(ctx context.Context) {
	w.state.mu.Lock()
	witness := w.state.witness
	w.state.mu.Unlock()
	if witness == nil {
		return
	}
	sctx, cancel := context.WithTimeout(ctx, w.o.Sink.Timeout)
	defer cancel()
	if w.out.Send(sctx, []Message{*witness}) == nil {
		w.state.mu.Lock()
		w.state.taken++
		w.state.mu.Unlock()
	}
}

// unsent tells of rows that are stuck: once when it begins, and then now and then.
func (w *worker) unsent(nothing bool, failures int) {
	err := w.pending[0].err
	if nothing {
		w.state.mu.Lock()
		w.state.down = true
		w.state.mu.Unlock()
		w.down(true)
	}
	if failures == 2 || failures%16 == 0 {
		w.o.Logger.Warn("the sink does not take rows; they are tried again", "rows", len(w.pending), "error", err)
	}
}

// sentAgain notes that the sink takes rows.
func (w *worker) sentAgain() {
	w.state.mu.Lock()
	was := w.state.down
	w.state.down = false
	w.state.mu.Unlock()
	w.down(false)
	if was {
		w.o.Logger.Info("the sink takes rows again")
	}
}
