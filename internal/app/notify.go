package app

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// resignal is after how long a signal that no turn of this process has answered
// is sent again, if more has landed since. A turn of another process answers
// unseen; where connectors and workers are apart, this is the usual delay.
const resignal = 250 * time.Millisecond

// notifier tells pipelines that a table has landed something, with at most one
// signal outstanding per table: it is answered when a turn of this process
// begins, or taken for answered elsewhere, or lost, after resignal. What lands
// meanwhile is signalled then. The log on disk is what counts, so a signal too
// few costs the pipeline's slow timer and no more.
type notifier struct {
	send  func(ctx context.Context, table string) error
	log   *slog.Logger
	now   func() time.Time
	after func(time.Duration, func()) // time.AfterFunc

	mu     sync.Mutex
	tables map[string]*outstanding
	wg     sync.WaitGroup
	ctx    context.Context // the process's own, for signals in the background
	cancel context.CancelFunc
}

// outstanding is what is known of a table's last signal.
type outstanding struct {
	sent    time.Time // zero: answered
	sending bool
	again   bool // something landed since the signal that no turn here has seen
	timed   bool // overdue will be called
}

func newNotifier(send func(context.Context, string) error, log *slog.Logger) *notifier {
	ctx, cancel := context.WithCancel(context.Background())
	return &notifier{
		send: send, log: log, now: time.Now, after: func(d time.Duration, f func()) { time.AfterFunc(d, f) },
		tables: map[string]*outstanding{}, ctx: ctx, cancel: cancel,
	}
}

func (n *notifier) table(name string) *outstanding {
	t, ok := n.tables[name]
	if !ok {
		t = &outstanding{}
		n.tables[name] = t
	}
	return t
}

// landed is called after a commit; it returns at once.
func (n *notifier) landed(table string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.table(table)
	switch {
	case n.ctx.Err() != nil:
	case t.sending:
		t.again = true
	case t.sent.IsZero() || n.now().Sub(t.sent) >= resignal:
		n.start(table, t)
	default:
		t.again = true
		n.arm(table, t)
	}
}

// start sends a signal in the background. The caller holds n.mu.
func (n *notifier) start(table string, t *outstanding) {
	t.sending = true
	n.wg.Add(1)
	go n.signal(table, t)
}

// arm has overdue called when the last signal may be repeated. The caller holds n.mu.
func (n *notifier) arm(table string, t *outstanding) {
	if t.timed {
		return
	}
	t.timed = true
	n.after(resignal-n.now().Sub(t.sent), func() { n.overdue(table) })
}

// overdue sends what landed after a signal that no turn here has answered.
func (n *notifier) overdue(table string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.table(table)
	t.timed = false
	if t.again && !t.sending && n.ctx.Err() == nil {
		n.start(table, t)
	}
}

func (n *notifier) signal(table string, t *outstanding) {
	defer n.wg.Done()
	for {
		n.mu.Lock()
		t.sent, t.again = n.now(), false
		n.mu.Unlock()
		err := n.send(n.ctx, table)
		if err != nil && n.ctx.Err() == nil {
			n.log.Warn("pipeline not signalled; its timer will find the commit", "table", table, "error", err)
		}
		n.mu.Lock()
		switch {
		case n.ctx.Err() != nil:
		case err != nil:
			t.sent = time.Time{}
		case t.again && t.sent.IsZero():
			// A turn began after the signal was sent, and more landed since.
			n.mu.Unlock()
			continue
		case t.again:
			n.arm(table, t)
		}
		t.sending = false
		n.mu.Unlock()
		return
	}
}

// turnStarted notes that a turn is about to read the log: it sees what has landed.
func (n *notifier) turnStarted(table string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.table(table)
	t.sent, t.again = time.Time{}, false
}

// close waits for signals under way.
func (n *notifier) close() {
	n.mu.Lock()
	n.cancel() // under the lock, so that no signal begins once it is being waited for
	n.mu.Unlock()
	n.wg.Wait()
}
