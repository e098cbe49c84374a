package position

import (
	"sync"

	"github.com/tidemill/tidemill/internal/batch"
)

// Floor is the Settler of a source that keeps account of acks itself, for all who
// share it: everything up to an offset has been delivered and acked. Its zero value
// says nothing.
type Floor struct {
	mu       sync.Mutex
	begun    bool
	from, to int64
}

// Begin says up to where the source's account stood before anything was read. What
// lies below is not spoken of: it may never have been delivered to anyone.
func (f *Floor) Begin(at int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.begun {
		f.begun, f.from, f.to = true, at+1, at
	}
}

// Raise says that the source's account stands at an offset now. It never falls: one
// that does is of a source that has forgotten.
func (f *Floor) Raise(to int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.begun {
		f.to = max(f.to, to)
	}
}

// At returns up to where the account stood last, false before Begin.
func (f *Floor) At() (int64, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.to, f.begun
}

// Settled implements Settler.
func (f *Floor) Settled() batch.Intervals {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.to < f.from {
		return nil
	}
	return batch.Intervals{{First: f.from, Last: f.to}}
}
