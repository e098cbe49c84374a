package lakehouse

import (
	"context"
	"math/rand/v2"
	"time"
)

// turns lets other writers of a table have theirs.
//
// Who has won a version knows the log's end and can try the next one at once. Who lost
// it has to read first, and comes too late again, for as long as the winner has work:
// with a few busy writers, some would wait for seconds. So a winner that has met a rival
// lately lets the time of a request or two pass before it goes on. What comes in
// meanwhile goes into the same commit. A writer that is alone never waits.
type turns struct {
	won   int64         // the last version that was ours
	took  time.Duration // to win it
	rival time.Time     // when a version was last lost
}

const (
	// rivalFor is how long after a lost version another writer is taken to be busy.
	rivalFor = time.Second
	// maxYield bounds the wait, on a store that is slow.
	maxYield = 100 * time.Millisecond
)

// note takes in how an attempt ended.
func (u *turns) note(version int64, won bool, took time.Duration) {
	if won {
		u.won, u.took = version, took
	} else {
		u.rival = time.Now()
	}
}

// pause returns how long to wait before the next version after a snapshot's.
func (u *turns) pause(s *Snapshot) time.Duration {
	if s.version != u.won || u.took <= 0 || time.Since(u.rival) > rivalFor {
		return 0
	}
	return min(u.took+rand.N(u.took), maxYield)
}

func (u *turns) yield(ctx context.Context, s *Snapshot) error {
	d := u.pause(s)
	if d == 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
