package app

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// resignal is after how long a signal that no turn has answered is sent again.
const resignal = time.Second

// notifier tells pipelines that a table has landed something, with at most one
// signal outstanding per table: it is answered when a turn of this process
// begins, or taken for lost after resignal. The log on disk is what counts, so
// a signal too few costs the pipeline's slow timer and no more.
type notifier struct {
	send func(ctx context.Context, table string) error
	log  *slog.Logger
	now  func() time.Time

	mu     sync.Mutex
	tables map[string]*outstanding
	wg     sync.WaitGroup
	ctx    context.Context //nolint:containedctx // the process's own, for signals in the background
	cancel context.CancelFunc
}

type outstanding struct {
	sent    time.Time // zero: answered
	sending bool
	again   bool // something landed while a signal was being sent
}

func newNotifier(send func(context.Context, string) error, log *slog.Logger) *notifier {
	ctx, cancel := context.WithCancel(context.Background())
	return &notifier{send: send, log: log, now: time.Now, tables: map[string]*outstanding{}, ctx: ctx, cancel: cancel}
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
	case t.sent.IsZero() || n.now().Sub(t.sent) > resignal:
		t.sending = true
		n.wg.Add(1)
		go n.signal(table, t)
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
		// A turn that began after the signal was sent has answered it; what
		// landed since then needs another one.
		if err == nil && t.again && t.sent.IsZero() && n.ctx.Err() == nil {
			n.mu.Unlock()
			continue
		}
		if err != nil {
			t.sent = time.Time{}
		}
		t.sending = false
		n.mu.Unlock()
		return
	}
}

// turnStarted notes that a turn is about to read the log.
func (n *notifier) turnStarted(table string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.table(table).sent = time.Time{}
}

// close waits for signals under way.
func (n *notifier) close() {
	n.cancel()
	n.wg.Wait()
}
