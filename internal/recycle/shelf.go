package recycle

import (
	"sync"
	"sync/atomic"
	"time"
)

// Room is how much several shelves keep together. It must not be copied after first use.
type Room struct {
	Bytes int64 // at most
	used  atomic.Int64
}

// Shelf keeps things that are not in use, within the room that it shares with others. A
// sync.Pool forgets them at every second garbage collection, of which there are ten a second in
// a process with little memory to spare: just when making them anew costs most. A shelf
// forgets what nobody took for some seconds. Its zero value is ready. Safe for concurrent use.
type Shelf[T any] struct {
	mu    sync.Mutex
	items []shelved[T] // guarded by mu: the last is taken first
	idle  int          // guarded by mu: so many were never taken since the last sweep
	known bool         // guarded by mu: it is swept
}

type shelved[T any] struct {
	item T
	size int
}

// sweepEvery is how long something lies unused before it is forgotten, or twice as long.
const sweepEvery = 5 * time.Second

// Take returns what was given last.
func (s *Shelf[T]) Take(room *Room) (item T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.items) - 1
	if n < 0 {
		return item, false
	}
	last := s.items[n]
	s.items[n] = shelved[T]{}
	s.items = s.items[:n]
	s.idle = min(s.idle, n)
	room.used.Add(-int64(last.size))
	return last.item, true
}

// Give keeps something of a size, or not if there is no room.
func (s *Shelf[T]) Give(room *Room, item T, size int) {
	if room.used.Add(int64(size)) > room.Bytes {
		room.used.Add(-int64(size))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items = append(s.items, shelved[T]{item, size})
	if !s.known {
		s.known = true
		time.AfterFunc(sweepEvery, func() { s.sweep(room) })
	}
}

// sweep forgets what was not taken since the last one, and comes again while there is more.
func (s *Shelf[T]) sweep(room *Room) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.items[:s.idle] {
		room.used.Add(-int64(i.size))
	}
	n := copy(s.items, s.items[s.idle:])
	clear(s.items[n:])
	s.items = s.items[:n]
	s.idle, s.known = n, n > 0
	if s.known {
		time.AfterFunc(sweepEvery, func() { s.sweep(room) })
	}
}
