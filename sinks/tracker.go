package sinks

import (
	"sync"
	"time"
)

// tracker knows up to where everything is done with, though batches end in any order.
type tracker struct {
	mu   sync.Mutex
	at   Position // guarded by mu
	open []*span  // in order; guarded by mu
}

// span is a stretch of the table between two positions.
type span struct {
	upTo Position
	time time.Time // of the commit that it begins in
	done bool
}

// begin notes that a stretch up to a position is under way.
func (t *tracker) begin(upTo Position, at time.Time) *span {
	s := &span{upTo: upTo, time: at}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = append(t.open, s)
	return s
}

// set says where a stretch that has begun ends.
func (t *tracker) set(s *span, upTo Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.upTo = upTo
}

// end notes that a stretch is done with.
func (t *tracker) end(s *span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.done = true
	for len(t.open) > 0 && t.open[0].done {
		if t.at.before(t.open[0].upTo) {
			t.at = t.open[0].upTo
		}
		t.open = t.open[1:]
	}
}

// position is up to where everything is done with; oldest is when the commit was made
// that the first open stretch begins in, zero when there is none.
func (t *tracker) position() (at Position, oldest time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.open) > 0 {
		oldest = t.open[0].time
	}
	return t.at, oldest
}
