package kinesis

import (
	"context"
	"sync"
)

// ledger is what was handed over of one shard, in order, and up to where all of it has been acked.
type ledger struct {
	// Something was acked. Each has room for one, and one who waits.
	forKeeper, forReader chan struct{}

	mu      sync.Mutex
	pending []*flight // guarded by mu: the front is the first that is not acked
	records int       // guarded by mu: of those in pending
	upTo    string    // guarded by mu: sequence number up to which all is acked; "" before the first
}

// flight is records that were handed over at once.
type flight struct {
	last    string // sequence number
	records int
	bytes   int64
	acked   bool // guarded by the ledger's mu
}

func (l *ledger) init() { l.forKeeper, l.forReader = make(chan struct{}, 1), make(chan struct{}, 1) }

func (l *ledger) add(b *flight) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = append(l.pending, b)
	l.records += b.records
}

// takeBack forgets the last batch, which nobody took.
func (l *ledger) takeBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.pending) - 1
	l.records -= l.pending[last].records
	l.pending = l.pending[:last]
}

// ack reports false for a batch that was acked before.
func (l *ledger) ack(b *flight) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.acked {
		return false
	}
	b.acked = true
	for len(l.pending) > 0 && l.pending[0].acked {
		l.upTo = l.pending[0].last
		l.records -= l.pending[0].records
		l.pending[0] = nil
		l.pending = l.pending[1:]
	}
	for _, c := range []chan struct{}{l.forKeeper, l.forReader} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	return true
}

func (l *ledger) acked() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.upTo
}

func (l *ledger) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pending)
}

// room waits until fewer than so many records are on their way, and returns how many more may be.
func (l *ledger) room(ctx context.Context, limit int) (int, error) {
	for {
		l.mu.Lock()
		n := limit - l.records
		l.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		select {
		case <-l.forReader:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}
