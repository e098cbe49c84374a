package app

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"
)

// wire stands for the way to Temporal: each signal waits until the test lets it through.
type wire struct {
	n      *notifier
	sent   chan string // tables, as signals begin
	pass   chan error  // one answer per signal
	timers chan func() // that are running
	mu     sync.Mutex  //
	now    time.Time   // guarded by mu
	ctx    context.Context
}

func newWire(t *testing.T) *wire {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	w := &wire{sent: make(chan string, 100), pass: make(chan error), timers: make(chan func(), 100), now: time.Now(), ctx: ctx}
	w.n = newNotifier(func(ctx context.Context, table string) error {
		w.sent <- table
		select {
		case err := <-w.pass:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}, slog.New(slog.DiscardHandler))
	w.n.after = func(_ time.Duration, f func()) { w.timers <- f }
	w.n.now = func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.now
	}
	t.Cleanup(func() {
		w.n.close()
		cancel()
	})
	return w
}

func (w *wire) later(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// overdue lets the only timer go off.
func (w *wire) overdue(t *testing.T) {
	t.Helper()
	if len(w.timers) != 1 {
		t.Fatalf("%d timers are running", len(w.timers))
	}
	(<-w.timers)()
}

// want waits for a signal to begin.
func (w *wire) want(t *testing.T, table string) {
	t.Helper()
	select {
	case got := <-w.sent:
		if got != table {
			t.Fatalf("signal to %s, want %s", got, table)
		}
	case <-w.ctx.Done():
		t.Fatalf("no signal to %s", table)
	}
}

// none checks that no signal is being sent, nor is about to be. What is about
// to be sent has its goroutine counted before landed returns.
func (w *wire) none(t *testing.T) {
	t.Helper()
	w.n.wg.Wait()
	if len(w.sent) > 0 {
		t.Fatalf("a signal to %s too many", <-w.sent)
	}
}

func TestOneSignalOutstanding(t *testing.T) {
	w := newWire(t)
	w.n.landed("a")
	w.want(t, "a")
	for range 100 {
		w.n.landed("a")
	}
	w.n.landed("b") // tables do not wait for each other
	w.want(t, "b")
	w.pass <- nil
	w.pass <- nil
	w.none(t)
	for range 100 {
		w.n.landed("a") // no turn has begun: it will see all of it
	}
	w.none(t)

	w.n.turnStarted("a")
	w.n.landed("a")
	w.want(t, "a")
	w.pass <- nil
	w.none(t)
}

// A turn that begins while the signal is still on its way answers it; what
// lands after that needs one more.
func TestLandedAfterTurnWhileSending(t *testing.T) {
	w := newWire(t)
	w.n.landed("a")
	w.want(t, "a")
	w.n.turnStarted("a")
	w.n.landed("a")
	w.n.landed("a")
	w.pass <- nil
	w.want(t, "a")
	w.pass <- nil
	w.none(t)
}

// A commit that came before the turn looked at the log is seen by it.
func TestLandedBeforeTurnWhileSending(t *testing.T) {
	w := newWire(t)
	w.n.landed("a")
	w.want(t, "a")
	w.n.landed("a")
	w.n.turnStarted("a")
	w.pass <- nil
	w.none(t)
	w.n.landed("a")
	w.want(t, "a")
	w.pass <- nil
}

// Where the pipeline's turns are in another process, nobody answers here: what
// lands after a signal is signalled in its turn, the last commit too.
func TestAnsweredElsewhere(t *testing.T) {
	w := newWire(t)
	w.n.landed("a")
	w.want(t, "a")
	w.n.landed("a") // while it is being sent
	w.pass <- nil
	w.none(t)
	w.later(resignal)
	w.overdue(t)
	w.want(t, "a")
	w.pass <- nil
	w.none(t)
	w.later(resignal / 2)
	w.n.landed("a")
	w.n.landed("a")
	w.none(t)
	w.later(resignal / 2)
	w.overdue(t)
	w.want(t, "a")
	w.pass <- nil
	w.none(t)

	w.later(resignal) // nothing landed any more
	w.n.landed("a")
	w.want(t, "a")
	w.pass <- nil
	w.none(t)
	w.n.landed("a")
	w.n.turnStarted("a") // of this process, after all
	w.overdue(t)
	w.none(t)
	if len(w.timers) > 0 {
		t.Error("a timer more than one")
	}
}

// One that could not be sent does not keep the next one back.
func TestSignalFails(t *testing.T) {
	w := newWire(t)
	w.n.landed("a")
	w.want(t, "a")
	w.pass <- errors.New("no Temporal")
	w.none(t)
	w.n.landed("a")
	w.want(t, "a")
	w.pass <- nil
}

func TestNotifierCloses(t *testing.T) {
	w := newWire(t)
	w.n.landed("a")
	w.want(t, "a")
	w.n.landed("a")
	w.n.turnStarted("a")
	w.n.close() // cuts the signal off
	w.n.landed("a")
	w.n.landed("b")
	w.none(t)
}

// Whatever the order of commits and turns: the last commit is seen by a turn
// that began after it, and there is never more than one signal on its way.
func TestNothingIsLost(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var (
		mu              sync.Mutex
		landed, seen    int
		sending, signal int
	)
	pending := make(chan struct{}, 10_000) // the workflow's inbox
	n := newNotifier(func(context.Context, string) error {
		mu.Lock()
		sending++
		signal++
		if sending > 1 {
			t.Error("two signals at once")
		}
		mu.Unlock()
		pending <- struct{}{}
		mu.Lock()
		sending--
		mu.Unlock()
		return nil
	}, slog.New(slog.DiscardHandler))
	defer n.close()
	// Without the help of time: each signal that is owed must be sent at once.
	n.now = func() time.Time { return time.Unix(1, 0) }
	n.after = func(time.Duration, func()) {}

	const commits = 20_000
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-pending:
			case <-ctx.Done():
				t.Errorf("%d of %d commits seen after %d signals", seen, commits, signal)
				return
			}
			for len(pending) > 0 { // signals that came meanwhile are answered by the same turn
				<-pending
			}
			n.turnStarted("t")
			mu.Lock()
			seen = landed
			mu.Unlock()
			if seen == commits {
				return
			}
		}
	}()
	for range commits {
		mu.Lock()
		landed++
		mu.Unlock()
		n.landed("t")
	}
	<-done
}
