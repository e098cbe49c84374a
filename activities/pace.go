package activities

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"
)

// pacer makes maintenance give way to rows that are on their way.
type pacer struct {
	busy func() bool // whether rows are coming in
	wait func(ctx context.Context, d time.Duration) error
	rest int // times the work, while busy
}

// quietAfter is how long after the last rows a process counts as idle.
const quietAfter = 2 * time.Second

const (
	// While rows come in maintenance works at most half of the time, on one core, and a
	// quarter of it where there is only one.
	restOnMany, restOnOne = 1, 3
	// restStep is how often a rest looks whether it is still called for.
	restStep = 50 * time.Millisecond
)

func newPacer(busy func() bool) *pacer {
	p := &pacer{busy: busy, wait: sleep, rest: restOnMany}
	if runtime.GOMAXPROCS(0) == 1 {
		p.rest = restOnOne
	}
	return p
}

// pace returns when the next piece of work may begin after one that took a time: at once
// while nothing else is going on.
func (p *pacer) pace(ctx context.Context, worked time.Duration) error {
	for left := worked * time.Duration(p.rest); left > 0 && p.busy(); left -= restStep {
		if err := p.wait(ctx, min(left, restStep)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// load knows whether this process has rows in hand.
type load struct {
	now  func() time.Time
	work atomic.Int64 // ranges that are being processed
	last atomic.Int64 // ns: when the last one was done
}

// begin notes that rows are being processed until end is called.
func (l *load) begin() (end func()) {
	l.work.Add(1)
	return func() {
		l.last.Store(l.now().UnixNano())
		l.work.Add(-1)
	}
}

func (l *load) busy() bool {
	return l.work.Load() > 0 || l.now().Sub(time.Unix(0, l.last.Load())) < quietAfter
}

// beats are the heartbeats of one step of maintenance.
type beats struct {
	send   func(StepProgress) // does nothing outside of a worker
	done   chan struct{}
	cancel context.CancelCauseFunc

	mu sync.Mutex
	at StepProgress // guarded by mu
}

// beatEvery is how often a step says how far it is, and hears that it was cancelled.
const beatEvery = time.Second

var errStopping = errors.New("the worker is stopping; another one goes on")

// startBeats begins to tell of a step's progress. The context it returns ends when the
// activity is cancelled, or its worker stops: what is left is done by the next attempt.
func startBeats(ctx context.Context) (*beats, context.Context) {
	b := &beats{send: func(StepProgress) {}, done: make(chan struct{})}
	own, cancel := context.WithCancelCause(ctx)
	b.cancel = cancel
	if !activity.IsActivity(ctx) {
		return b, own
	}
	b.send = func(at StepProgress) { activity.RecordHeartbeat(ctx, at) }
	if activity.HasHeartbeatDetails(ctx) {
		var before StepProgress
		if err := activity.GetHeartbeatDetails(ctx, &before); err == nil {
			b.at.Earlier = before.Earlier
		}
	}
	go b.run(activity.GetWorkerStopChannel(ctx))
	return b, own
}

func (b *beats) run(stopping <-chan struct{}) {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			b.record()
		case <-stopping:
			b.cancel(errStopping)
			stopping = nil
		case <-b.done:
			return
		}
	}
}

func (b *beats) record() {
	b.mu.Lock()
	at := b.at
	b.mu.Unlock()
	b.send(at)
}

func (b *beats) stop() {
	close(b.done)
	b.cancel(nil)
}

func (b *beats) doing(what string) {
	b.mu.Lock()
	b.at.Doing, b.at.Done, b.at.Total = what, 0, 0
	b.mu.Unlock()
	b.record()
}

func (b *beats) progress(done, total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at.Done, b.at.Total = done, total
}

func (b *beats) earlier() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.at.Earlier
}

// failed leaves for the next attempt what was done until now.
func (b *beats) failed(sum Counts) {
	b.mu.Lock()
	b.at.Earlier = sum
	b.mu.Unlock()
	b.record()
}

// cause says why a step ended early, if its worker's end is the reason.
func (b *beats) cause(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStopping) && errors.Is(err, context.Canceled) {
		return errStopping
	}
	return err
}
